//! Reads which tables a fjall tree consists of. The file `current` names the newest version and its checksum; the file
//! `vN` lists the tables from the newest to the oldest. fjall does not check one against the other.

use std::fs;
use std::io::{self, BufRead as _, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

use super::intact::{Broken, Part};
use crate::hash::HashSet;

/// The numbers of the tables: levels of runs of tables, in the order in which a key is looked up.
pub(super) type Runs = Vec<Vec<u64>>;

/// The tables of a tree; `None` if there is no tree.
///
/// # Errors
/// What is broken.
pub(super) fn read(tree: &Path) -> Result<Option<Runs>, Broken> {
    let broken = |file: &Path, what: &str| Broken::new(Part::Tree, file, what);
    let current = tree.join("current");
    let bytes = match fs::read(&current) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(&current, &format!("cannot be read: {error}"))),
    };
    let Some((number, checksum)) = split(&bytes) else { return Err(broken(&current, DAMAGED)) };
    let version = tree.join(format!("v{number}"));
    match fs::read(&version) {
        Ok(bytes) if xxh3_128(&bytes) == checksum => {}
        Ok(_) => return Err(broken(&version, DAMAGED)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(broken(&version, "is missing")),
        Err(error) => return Err(broken(&version, &format!("cannot be read: {error}"))),
    }
    runs(&version).map(Some).map_err(|error| broken(&version, &format!("cannot be read: {error}")))
}

/// The numbers of all tables of an open tree: those of its newest version, which has this number, and those of older
/// versions that may still be read. fjall keeps the file of a version as long as the version.
///
/// # Errors
/// When a list of tables cannot be read.
pub(super) fn all_tables(tree: &Path, newest: u64) -> io::Result<HashSet<u64>> {
    let mut tables = HashSet::default();
    for entry in fs::read_dir(tree)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_prefix('v')?.parse::<u64>().ok());
        // Incomplete versions have greater numbers.
        if number.is_some_and(|number| number <= newest) {
            tables.extend(runs(&path)?.into_iter().flatten());
        }
    }
    Ok(tables)
}

/// The path of a table.
pub(super) fn table(tree: &Path, id: u64) -> PathBuf {
    tree.join("tables").join(id.to_string())
}

const DAMAGED: &str = "is damaged";

/// Parses `current`: a number, a checksum, and the kind of checksum.
fn split(bytes: &[u8]) -> Option<(u64, u128)> {
    let (number, rest) = bytes.split_first_chunk()?;
    let (checksum, kind) = rest.split_first_chunk()?;
    (kind == [0]).then_some((u64::from_le_bytes(*number), u128::from_le_bytes(*checksum)))
}

fn runs(version: &Path) -> io::Result<Runs> {
    let other = |error: sfa::Error| io::Error::other(error.to_string());
    let reader = sfa::Reader::new(version).map_err(other)?;
    let section = reader.toc().section(b"tables").ok_or_else(|| io::Error::other("it lists no tables"))?;
    let mut section = section.buf_reader(version)?;
    let mut runs = Runs::new();
    for _level in 0..u8::from_le_bytes(number(&mut section)?) {
        for _run in 0..u8::from_le_bytes(number(&mut section)?) {
            let mut run = Vec::new();
            for _table in 0..u32::from_le_bytes(number(&mut section)?) {
                run.push(u64::from_le_bytes(number(&mut section)?));
                // Kind of checksum, checksum, first sequence number.
                let _: [u8; 1 + 16 + 8] = number(&mut section)?;
            }
            runs.push(run);
        }
    }
    if section.fill_buf()?.is_empty() {
        Ok(runs)
    } else {
        Err(io::Error::other("it has unknown data after the tables"))
    }
}

fn number<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}
