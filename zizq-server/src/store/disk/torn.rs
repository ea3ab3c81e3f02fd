//! Handles what a power failure can leave at the end of a journal.
//!
//! Pages that were written but not synced reach the disk in any order, so after the last synced batch there may be one
//! with its end but without its middle. fjall 3.1 takes a truncated batch for the end of the journal, but refuses to
//! open a journal with such a hole, or panics. Nothing in it was confirmed as durable: it is cut off here before fjall
//! sees it, and kept next to it if there is space.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::keys;

/// Truncates a torn journal. The rest is kept as `N.jnl.torn` if there is space for it.
///
/// # Errors
/// When the files cannot be read or written.
pub(crate) fn cut_off(journal: &Path, at: usize) -> io::Result<()> {
    let kept = (1..).map(|n| match n {
        1 => journal.with_extension("jnl.torn"),
        n => journal.with_extension(format!("jnl.torn-{n}")),
    });
    let kept = kept.into_iter().find(|kept| !kept.exists()).unwrap_or_default();
    let bytes = fs::read(journal)?;
    let torn = bytes.get(at..used(&bytes)).unwrap_or_default();
    let keep = || {
        fs::write(&kept, torn)?;
        File::open(&kept)?.sync_all()
    };
    let is_kept = match keep() {
        // It was never confirmed, and confirmed data needs the space.
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            fs::remove_file(&kept).is_err()
        }
        result => result.map(|()| true)?,
    };
    let file = File::options().write(true).open(journal)?;
    file.set_len(at as u64)?;
    file.sync_all()?;
    journal.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
    tracing::error!(
        journal = %journal.display(), kept = is_kept.then(|| kept.display().to_string()), at, bytes = torn.len(),
        "the journal ends in an incomplete batch, as after a power failure; it was truncated there"
    );
    Ok(())
}

/// Rewrites the journals of a fjall folder: after a failed sync the operating system may take for written what the disk
/// does not have, and no later sync would report it.
///
/// # Errors
/// When the files cannot be read or written.
pub(crate) fn write_anew(folder: &Path) -> io::Result<()> {
    for (_, journal) in journals(folder)? {
        // In place, as there may be no room for a copy.
        let bytes = fs::read(&journal)?;
        let file = File::options().write(true).open(&journal)?;
        file.write_all_at(bytes.get(..used(&bytes)).unwrap_or_default(), 0)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Removes the batches at the start of the newest journal up to the last one with at most this number, if there is room
/// for the rest, in bytes. Returns how many bytes were removed.
///
/// # Errors
/// When the file cannot be read or written.
pub(crate) fn shorten(folder: &Path, persisted: u64, room: u64) -> io::Result<usize> {
    let Some(journal) = newest_journal(folder)? else { return Ok(0) };
    let bytes = fs::read(&journal)?;
    let start = batches(&bytes).take_while(|batch| batch.seqno <= persisted).last();
    let start = start.map_or(0, |batch| batch.range.end);
    let rest = bytes.get(start..).unwrap_or_default();
    let rest = rest.get(..used(rest)).unwrap_or_default();
    if start == 0 || rest.len() as u64 > room {
        return Ok(0);
    }
    replace(&journal, rest)?;
    Ok(start)
}

/// Where the zeros at the end of a journal begin.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Replaces the contents of a journal atomically. Zeros at the end take no space.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn replace(journal: &Path, bytes: &[u8]) -> io::Result<()> {
    let copy = journal.with_extension(COPY);
    let made = || {
        fs::write(&copy, bytes.get(..used(bytes)).unwrap_or_default())?;
        let file = File::options().write(true).open(&copy)?;
        file.set_len(bytes.len() as u64)?;
        file.sync_all()?;
        fs::rename(&copy, journal)
    };
    made().inspect_err(|_| drop(fs::remove_file(&copy)))?;
    journal.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// The suffix of a copy that is to replace a journal.
const COPY: &str = "jnl.copy";

/// Removes copies that never replaced a journal, because their process was killed.
///
/// # Errors
/// When the folder cannot be read or written.
pub(crate) fn remove_copies(folder: &Path) -> io::Result<()> {
    journals(folder)?.iter().try_for_each(|(_, journal)| remove(&journal.with_extension(COPY)))
}

/// Removes a file, if it exists.
///
/// # Errors
/// When it cannot be removed.
pub(crate) fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The file `N.jnl` with the greatest number.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn newest_journal(folder: &Path) -> io::Result<Option<PathBuf>> {
    Ok(journals(folder)?.pop().map(|(_, path)| path))
}

/// The files `N.jnl`, ordered by number.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn journals(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse().ok());
        journals.extend(number.map(|number: u64| (number, path)));
    }
    journals.sort_unstable();
    Ok(journals)
}

/// Where the intact batches at the start of a journal end.
pub(crate) fn whole_batches(bytes: &[u8]) -> usize {
    batches(bytes).last().map_or(0, |batch| batch.range.end)
}

/// The intact batches at the start of a journal.
pub(crate) fn batches(bytes: &[u8]) -> impl Iterator<Item = JournalBatch> {
    let mut entries = Entries { bytes, at: 0 };
    std::iter::from_fn(move || entries.batch())
}

/// The next intact batch at or after a position, whatever comes before it.
pub(crate) fn next_batch(bytes: &[u8], from: usize) -> Option<JournalBatch> {
    let starts = memchr::memchr_iter(Entries::START, bytes.get(from..)?);
    starts.map(|at| Entries { bytes, at: from + at }).find_map(|mut entries| entries.batch())
}

/// An intact batch of a journal.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct JournalBatch {
    /// Its position.
    pub range: Range<usize>,
    /// Its sequence number in fjall. No checksum covers it.
    pub seqno: u64,
    /// The number of its commit, if it has one: see [`keys::commits`].
    pub commit: Option<u64>,
}

/// The entries of a journal of fjall 3, little-endian: start (tag, count, seqno), items and clears, end (tag, xxh3 of
/// everything in between, magic).
struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Entries<'a> {
    const START: u8 = 1;
    const ITEM: u8 = 2;
    const END: u8 = 3;
    const CLEAR: u8 = 4;

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    fn number(&mut self, width: usize) -> Option<u64> {
        Some(self.take(width)?.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    fn length(&mut self, width: usize) -> Option<usize> {
        self.number(width)?.try_into().ok()
    }

    /// Skips a batch; `None` if it is incomplete.
    fn batch(&mut self) -> Option<JournalBatch> {
        let mut batch = JournalBatch { range: self.at..self.at, ..JournalBatch::default() };
        if self.take(1)? != [Self::START] {
            return None;
        }
        let count = self.number(4)?;
        batch.seqno = self.number(8)?;
        let mut checksum = Xxh3::new();
        for _ in 0..count {
            let start = self.at;
            self.entry(&mut batch)?;
            checksum.update(self.bytes.get(start..self.at)?);
        }
        if self.take(1)? != [Self::END] {
            return None;
        }
        let expected = self.number(8)?;
        let is_whole = self.take(MAGIC.len())? == MAGIC && checksum.digest() == expected;
        batch.range.end = self.at;
        is_whole.then_some(batch)
    }

    fn entry(&mut self, batch: &mut JournalBatch) -> Option<()> {
        match *self.take(1)? {
            [Self::ITEM] => {
                // Kind of value, compression, keyspace.
                self.take(1 + 1 + 8)?;
                let key = self.length(2)?;
                self.take(4)?;
                let value = self.length(4)?;
                let (key, value) = (self.take(key)?, self.take(value)?);
                if key == keys::commits().as_slice() {
                    batch.commit = value.try_into().ok().map(u64::from_be_bytes);
                }
                Some(())
            }
            [Self::CLEAR] => self.take(8).map(drop),
            _ => None,
        }
    }
}

/// The magic at the end of a batch.
const MAGIC: [u8; 4] = *b"FJL\x03";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::DiskStore;
    use crate::store::record::{ClockRecord, ErrorRecord};
    use crate::store::{Store, batch::Batch};

    /// Long enough for several pages; random letters, which do not compress.
    fn batch(now: u64) -> Batch {
        let mut batch = Batch::default();
        batch.put_clock(ClockRecord { latest: now, wall: now, back_from: None });
        let mut random = fastrand::Rng::with_seed(now);
        let message: String = std::iter::repeat_with(|| random.char(' '..='~')).take(12_000).collect();
        let error = ErrorRecord { message, error_type: None, backtrace: None, dequeued_at: 0, failed_at: 0 };
        batch.put_error(protocol::id::JobId::from_u128(1), 1, &error);
        batch
    }

    fn clock(store: &DiskStore) -> u64 {
        crate::store::view::clock(&store.snapshot()).unwrap().latest
    }

    /// Every batch is intact; with a hole anywhere in the last one, the store opens as it was before that batch.
    #[test]
    fn a_hole_in_the_last_batch_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let mut store = DiskStore::open(&root, 1_000_000).unwrap();
        let journal = newest_journal(&root).unwrap().unwrap();
        let end_after = |store: &mut DiskStore, now| {
            store.commit(batch(now)).unwrap();
            whole_batches(&fs::read(&journal).unwrap())
        };
        let (first, second) = (end_after(&mut store, 1), end_after(&mut store, 2));
        assert!(0 < first && first + 4_096 < second);
        drop(store);
        let mut bytes = fs::read(&journal).unwrap();
        bytes[first + 4_096..first + 8_192].fill(0);
        fs::write(&journal, &bytes).unwrap();

        let store = DiskStore::open(&root, 1_000_000).unwrap();
        assert_eq!(clock(&store), 1);
        assert_eq!(fs::read(journal.with_extension("jnl.torn")).unwrap(), bytes[first..used(&bytes)]);
        drop(store);
        assert_eq!(clock(&DiskStore::open(&root, 1_000_000).unwrap()), 1);
    }
}
