//! Cleans up a folder in which fjall was interrupted while creating a store: its last step is to write the file
//! `version`. Nothing can have been stored before, and fjall can neither open such a folder nor create a store in it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use super::synced;
use super::torn;

/// The bytes of the file `version`.
const VERSION_BYTES: u64 = 4;

/// Removes an unfinished store from a folder. Anything that could be more than that stays. The caller must hold the
/// lock of the folder.
///
/// # Errors
/// When the folder cannot be read or written.
pub(super) fn take_away(folder: &Path) -> io::Result<()> {
    let (version, journal) = (folder.join("version"), folder.join("0.jnl"));
    let is_whole = fs::metadata(&version).is_ok_and(|file| file.len() >= VERSION_BYTES);
    if is_whole || !(version.exists() || journal.exists()) || synced::read(folder)?.is_some() {
        return Ok(());
    }
    if has_keyspaces(folder)? || has_bytes(&journal)? {
        return Ok(());
    }
    tracing::info!(folder = %folder.display(), "found an unfinished, empty store; recreating it");
    [journal, version].iter().try_for_each(|file| torn::remove(file))
}

fn has_keyspaces(folder: &Path) -> io::Result<bool> {
    match fs::read_dir(folder.join("keyspaces")) {
        Ok(mut keyspaces) => Ok(keyspaces.next().is_some()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether a journal, which fjall creates filled with zeros, has other bytes.
fn has_bytes(journal: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    match File::open(journal) {
        Ok(file) => file.take(4096).read_to_end(&mut start)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
        Err(e) => return Err(e),
    };
    Ok(start.iter().any(|byte| *byte != 0))
}

#[cfg(test)]
mod tests {
    use super::super::DiskStore;
    use super::*;

    #[test]
    fn a_store_whose_creation_was_interrupted_is_recreated() {
        // In the order in which fjall creates them.
        let made: [&[(&str, &[u8])]; 5] = [
            &[],
            &[("lock", b"")],
            &[("lock", b""), ("0.jnl", b"")],
            &[("lock", b""), ("0.jnl", &[0; 10_000])],
            &[("lock", b""), ("0.jnl", &[0; 10_000]), ("version", b"")],
        ];
        for files in made {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("keyspaces")).unwrap();
            for (name, bytes) in files {
                fs::write(folder.path().join(name), bytes).unwrap();
            }
            for _ in 0..2 {
                DiskStore::open(folder.path(), 1 << 20).unwrap_or_else(|e| panic!("{files:?}: {e}"));
            }
        }
    }

    #[test]
    fn what_may_be_more_than_an_unfinished_store_stays() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("0.jnl");
        fs::write(&journal, b"\x01something").unwrap();
        take_away(folder.path()).unwrap();
        assert!(journal.exists(), "a journal with something in it");
        fs::write(&journal, b"").unwrap();
        fs::create_dir_all(folder.path().join("keyspaces/0")).unwrap();
        take_away(folder.path()).unwrap();
        assert!(journal.exists(), "there is a keyspace");
        fs::remove_dir(folder.path().join("keyspaces/0")).unwrap();
        drop(synced::Writer::begin(folder.path(), 0).unwrap());
        take_away(folder.path()).unwrap();
        assert!(journal.exists(), "a store was there");
        synced::forget(folder.path()).unwrap();
        take_away(folder.path()).unwrap();
        assert!(!journal.exists());
    }
}
