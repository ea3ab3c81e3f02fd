//! What a loss of power can leave at the end of a journal.
//!
//! Pages that were written but not synced reach the disk in any order, so behind the last synced batch there may be one
//! whose end is there and whose middle is not. fjall 3.1 takes a batch that breaks off for the end of the journal, but
//! refuses to open one with such a hole. Nothing in it was answered as durable: it is cut off here, and kept beside.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

/// Cuts the newest journal of a fjall folder behind its last whole batch. What was there is kept as `N.jnl.torn`.
/// False when there is nothing to cut.
///
/// # Errors
/// When the files cannot be read or written.
pub(crate) fn cut_end(folder: &Path) -> io::Result<bool> {
    let Some(journal) = newest_journal(folder)? else { return Ok(false) };
    let bytes = fs::read(&journal)?;
    let whole = whole_batches(&bytes);
    if whole == bytes.len() {
        return Ok(false);
    }
    let kept = journal.with_extension("jnl.torn");
    fs::copy(&journal, &kept)?;
    File::open(&kept)?.sync_all()?;
    let file = File::options().write(true).open(&journal)?;
    file.set_len(whole as u64)?;
    file.sync_all()?;
    File::open(folder)?.sync_all()?;
    tracing::error!(
        journal = %journal.display(), kept = %kept.display(), at = whole, of = bytes.len(),
        "the journal ends in a batch that is not whole, as after a loss of power; it was cut off there and kept beside"
    );
    Ok(true)
}

/// Writes the newest journal of a fjall folder once more: after a failed sync the operating system may hold as written
/// what the disk does not have, and no later sync would tell.
///
/// # Errors
/// When the files cannot be read or written.
pub(crate) fn write_anew(folder: &Path) -> io::Result<()> {
    let Some(journal) = newest_journal(folder)? else { return Ok(()) };
    let copy = journal.with_extension("jnl.copy");
    fs::write(&copy, fs::read(&journal)?)?;
    File::open(&copy)?.sync_all()?;
    fs::rename(&copy, &journal)?;
    File::open(folder)?.sync_all()
}

/// The file `N.jnl` with the greatest number.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn newest_journal(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse().ok());
        newest = newest.max(name.map(|number| (number, path)));
    }
    Ok(newest.map(|(_, path)| path))
}

/// Where the last of the whole batches at the start of a journal ends.
pub(crate) fn whole_batches(bytes: &[u8]) -> usize {
    let mut entries = Entries { bytes, at: 0 };
    let mut whole = 0;
    while entries.batch().is_some() {
        whole = entries.at;
    }
    whole
}

/// The entries of a journal of fjall 3, little-endian: start (tag, count, seqno), items and clears, end (tag, xxh3 of
/// what lies between, magic).
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

    /// Steps over a batch; none where it is not whole.
    fn batch(&mut self) -> Option<()> {
        if self.take(1)? != [Self::START] {
            return None;
        }
        let count = self.number(4)?;
        self.take(8)?;
        let mut checksum = Xxh3::new();
        for _ in 0..count {
            let start = self.at;
            self.entry()?;
            checksum.update(self.bytes.get(start..self.at)?);
        }
        if self.take(1)? != [Self::END] {
            return None;
        }
        let expected = self.number(8)?;
        self.take(MAGIC_LEN)?;
        (checksum.digest() == expected).then_some(())
    }

    fn entry(&mut self) -> Option<()> {
        match *self.take(1)? {
            [Self::ITEM] => {
                // Kind of value, compression, keyspace.
                self.take(1 + 1 + 8)?;
                let key = self.length(2)?;
                self.take(4)?;
                let value = self.length(4)?;
                self.take(key.checked_add(value)?).map(drop)
            }
            [Self::CLEAR] => self.take(8).map(drop),
            _ => None,
        }
    }
}

/// The length of the magic at the end of a batch.
const MAGIC_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::DiskStore;
    use crate::store::record::{ClockRecord, ErrorRecord};
    use crate::store::{Store, batch::Batch};

    /// Long enough for several pages; letters at random, so that they are not compressed.
    fn batch(now: u64) -> Batch {
        let mut batch = Batch::default();
        batch.put_clock(ClockRecord { latest: now, wall: now, is_back: false });
        let mut random = fastrand::Rng::with_seed(now);
        let message: String = std::iter::repeat_with(|| random.char(' '..='~')).take(12_000).collect();
        let error = ErrorRecord { message, error_type: None, backtrace: None, dequeued_at: 0, failed_at: 0 };
        batch.put_error(protocol::id::JobId::from_u128(1), 1, &error);
        batch
    }

    fn clock(store: &DiskStore) -> u64 {
        crate::store::view::clock(&store.snapshot()).unwrap().latest
    }

    /// Every batch is whole; with a hole anywhere in the last one, the store opens as it was before it.
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
        assert_eq!(fs::read(journal.with_extension("jnl.torn")).unwrap(), bytes);
        drop(store);
        assert_eq!(clock(&DiskStore::open(&root, 1_000_000).unwrap()), 1);
    }
}
