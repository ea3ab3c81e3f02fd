//! What the disk is known to have, in a file of its own: `synced` says how many commits were forced onto the disk. So a
//! journal that is shorter than that has lost something, and one that breaks off behind it was torn by a loss of power,
//! which is nothing to worry about.
//!
//! The file is written after the disk has said that it has the journal, and never forced onto the disk: what it says is
//! true at any time, if perhaps not the latest. Where it is missing, nothing is known; it is removed when a sync has
//! failed. Then the journals are written anew at the next start, for the operating system may hold as written what the
//! disk does not have.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

/// How it is open for those who write it.
#[derive(Debug)]
pub(super) struct Writer(File);

impl Writer {
    /// Begins it with what the disk has now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn begin(folder: &Path, commits: u64) -> io::Result<Self> {
        let file = File::options().create(true).truncate(false).write(true).open(path(folder))?;
        file.write_all_at(&encode(commits), 0)?;
        file.set_len(LEN as u64)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(Self(file))
    }

    /// The disk has so many commits. Where this cannot be written, what is there stays true.
    pub(super) fn note(&mut self, commits: u64) {
        self.0.write_all_at(&encode(commits), 0).ok();
    }
}

/// How many commits the disk has at least; none where that is not known.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn read(folder: &Path) -> io::Result<Option<u64>> {
    match fs::read(path(folder)) {
        Ok(bytes) => {
            let commits = bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
            Ok(commits.filter(|commits| encode(*commits)[..] == bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// From now on nothing is known.
///
/// # Errors
/// When the file cannot be removed.
pub(super) fn forget(folder: &Path) -> io::Result<()> {
    match fs::remove_file(path(folder)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

const LEN: usize = 16;

fn encode(commits: u64) -> [u8; LEN] {
    let number = commits.to_le_bytes();
    let mut bytes = [0; LEN];
    let (head, tail) = bytes.split_at_mut(number.len());
    head.copy_from_slice(&number);
    tail.copy_from_slice(&xxh3_64(&number).to_le_bytes());
    bytes
}

fn path(folder: &Path) -> PathBuf {
    folder.join("synced")
}
