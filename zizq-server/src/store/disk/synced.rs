//! Records what the disk is known to have: the file `synced` says how many commits were synced. So a shorter journal
//! has lost something, and a journal that breaks off later was torn by a power failure, which is harmless.
//!
//! The file has two slots. One is written and synced when the store is opened. The other is written from time to time
//! after a sync of the journal, and is never synced itself: it is always true, if perhaps not the latest, and a power
//! failure that tears it leaves the first. If neither can be read, nothing is known.
//!
//! After a failed sync, the operating system may take for written what the disk does not have. That is also recorded
//! here: the journals are then rewritten at the next start.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

use super::torn;

/// What the disk is known to have.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// At least this many commits are on the disk.
    pub commits: u64,
    /// Whether a sync has failed since.
    pub is_doubtful: bool,
    /// Grows with every write of this file.
    generation: u64,
}

/// The file, as open for writing.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    /// The slot that is written from now on.
    place: u64,
    known: Known,
    /// When it was last written, and whether more is known since.
    noted_at: Option<Instant>,
    is_behind: bool,
}

/// How often it is written, because each write delays a sync.
const EVERY: Duration = Duration::from_millis(20);

impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_behind {
            self.write(self.known.commits, self.known.is_doubtful).ok();
        }
    }
}

impl Writer {
    /// Starts with what the disk has now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn begin(folder: &Path, commits: u64) -> io::Result<Self> {
        let before = fs::read(path(folder)).ok().and_then(|bytes| newest(&bytes));
        let (generation, newest) = before.map_or((0, 1), |(known, place)| (known.generation, place));
        let file = File::options().create(true).truncate(false).write(true).open(path(folder))?;
        let known = Known { generation, ..Known::default() };
        let mut writer = Self { file, place: 1 - newest, known, noted_at: None, is_behind: false };
        writer.write(commits, false)?;
        writer.file.sync_all()?;
        File::open(folder)?.sync_all()?;
        writer.place = newest;
        writer.noted_at = None;
        Ok(writer)
    }

    /// Records that the disk has this many commits, now or with a later call. If that fails, the file is still true.
    pub(super) fn note(&mut self, commits: u64) {
        self.known.commits = self.known.commits.max(commits);
        self.is_behind = true;
        if self.noted_at.is_none_or(|at| at.elapsed() >= EVERY) {
            self.write(self.known.commits, false).ok();
        }
    }

    /// Records that a sync has failed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn doubt(mut self) -> io::Result<()> {
        self.write(self.known.commits, true)
    }

    fn write(&mut self, commits: u64, is_doubtful: bool) -> io::Result<()> {
        (self.noted_at, self.is_behind) = (Some(Instant::now()), false);
        self.known = Known { commits, is_doubtful, generation: self.known.generation + 1 };
        self.file.write_all_at(&self.known.encode(), self.place * LEN as u64)
    }
}

/// What the disk has; `None` if unknown.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn read(folder: &Path) -> io::Result<Option<Known>> {
    match fs::read(path(folder)) {
        Ok(bytes) => Ok(newest(&bytes).map(|(known, _)| known)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the file: nothing is known any longer.
///
/// # Errors
/// When the file cannot be removed.
pub(super) fn forget(folder: &Path) -> io::Result<()> {
    torn::remove(&path(folder))
}

/// The latest record, and its slot.
fn newest(bytes: &[u8]) -> Option<(Known, u64)> {
    let known = bytes.chunks(LEN).map(Known::decode).zip(0..);
    known.filter_map(|(known, place)| Some((known?, place))).max_by_key(|(known, _)| known.generation)
}

/// Three little-endian numbers of eight bytes, and their checksum.
const LEN: usize = 32;

impl Known {
    fn encode(self) -> [u8; LEN] {
        let numbers = [self.generation, self.commits, u64::from(self.is_doubtful)].map(u64::to_le_bytes);
        let checksum = xxh3_64(numbers.as_flattened()).to_le_bytes();
        let mut bytes = [0; LEN];
        for (to, from) in bytes.chunks_exact_mut(8).zip(numbers.iter().chain([&checksum])) {
            to.copy_from_slice(from);
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |i: usize| Some(u64::from_le_bytes(*bytes.get(i * 8..)?.first_chunk()?));
        let known = Self { generation: number(0)?, commits: number(1)?, is_doubtful: number(2)? != 0 };
        (known.encode() == bytes).then_some(known)
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("synced")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(folder: &Path) -> Option<(u64, bool)> {
        read(folder).unwrap().map(|known| (known.commits, known.is_doubtful))
    }

    #[test]
    fn what_was_not_synced_may_be_torn() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(said(root), None);
        let mut forced = Some((7, false));
        drop(Writer::begin(root, 7).unwrap());
        for start in 1..4 {
            assert_eq!(said(root), forced, "start {start}");
            let whole = fs::read(path(root)).unwrap();
            let mut writer = Writer::begin(root, start * 10).unwrap();
            let begun = fs::read(path(root)).unwrap();
            forced = Some((start * 10, false));
            assert_eq!(said(root), forced);
            writer.note(start * 10 + 5);
            assert_eq!(said(root), Some((start * 10 + 5, false)));
            writer.note(start * 10 + 3);
            assert_eq!(said(root), Some((start * 10 + 5, false)), "it is still true");
            writer.note(start * 10 + 6);
            drop(writer);
            assert_eq!(said(root), Some((start * 10 + 6, false)));
            let noted = fs::read(path(root)).unwrap();
            // Any part of what is written at the start, and of what is written later, may reach the disk.
            for (before, after) in [(&whole, &begun), (&begun, &noted)] {
                for len in 0..=after.len() {
                    let mut torn = after.clone();
                    torn.truncate(after.len().max(before.len()));
                    for (i, byte) in torn.iter_mut().enumerate().skip(len) {
                        *byte = before.get(i).copied().unwrap_or(0);
                    }
                    fs::write(path(root), torn).unwrap();
                    let known = [newest(before), newest(after)].map(|known| known.map(|(known, _)| known));
                    assert!(known.contains(&read(root).unwrap()), "start {start}, torn at {len}");
                }
            }
            fs::write(path(root), begun).unwrap();
        }
        let mut writer = Writer::begin(root, 40).unwrap();
        writer.note(41);
        writer.doubt().unwrap();
        assert_eq!(said(root), Some((41, true)));
        drop(Writer::begin(root, 41).unwrap());
        assert_eq!(said(root), Some((41, false)), "it was opened anew");
        forget(root).unwrap();
        assert_eq!(said(root), None);
    }
}
