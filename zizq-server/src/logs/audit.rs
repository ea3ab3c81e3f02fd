//! The audit trail: who did what, kept beside the output of jobs.

use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::shelf::Shelf;
use crate::store::StoreError;

/// The bits of a number behind the time.
const COUNTER_BITS: u32 = 12;
/// How many entries may be in memory before they are written at once.
const GATHERED: usize = 256;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// In milliseconds.
    pub age: u64,
    pub count: u64,
    /// How many more are written before the oldest are removed.
    pub slack: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { age: 90 * 86_400_000, count: 100_000, slack: 1_000 }
    }
}

/// The entries that are stored, and those that are about to be. Their numbers are ordered as the entries are, and begin with
/// the time in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Trail {
    bounds: Bounds,
    /// None if the store was not asked yet.
    extent: Option<Extent>,
    pending: Vec<Pending>,
}

/// The number of the last entry, and how many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub last: u64,
    pub count: u64,
}

#[derive(Debug)]
struct Pending {
    /// In milliseconds since the Unix epoch.
    at: u64,
    entry: Vec<u8>,
    /// Returned when the entry is stored.
    _room: OwnedSemaphorePermit,
}

/// A part of the trail.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// With their numbers, the newest first.
    pub entries: Vec<(u64, Value)>,
    /// Whether there are older ones.
    pub more: bool,
}

impl Trail {
    #[cfg(test)]
    pub(super) fn bounded(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Takes in an entry of this time. Returns whether it is time to write.
    pub(super) fn push(&mut self, at: u64, entry: Vec<u8>, room: OwnedSemaphorePermit) -> bool {
        self.pending.push(Pending { at, entry, _room: room });
        self.pending.len() >= GATHERED
    }

    /// Stores what has been taken in, by one commit, and removes what is too old or too much. What cannot be stored is lost
    /// here: the log has it.
    pub(super) fn write(&mut self, shelf: &mut Shelf) -> Result<(), StoreError> {
        let pending = std::mem::take(&mut self.pending);
        let Some(newest) = pending.iter().map(|pending| pending.at).max() else { return Ok(()) };
        let before = match self.extent {
            Some(extent) => extent,
            None => shelf.audit_extent()?,
        };
        let mut extent = before;
        let mut entries = Vec::with_capacity(pending.len());
        for Pending { at, entry, .. } in &pending {
            extent.last = (extent.last + 1).max(at << COUNTER_BITS);
            extent.count += 1;
            entries.push((extent.last, entry.as_slice()));
        }
        shelf.put_audit(&entries, extent.count)?;
        let Bounds { age, count, slack } = self.bounds;
        if before.count / slack != extent.count / slack {
            let surplus = extent.count.saturating_sub(count);
            extent.count =
                shelf.trim_audit(newest.saturating_sub(age) << COUNTER_BITS, surplus, extent.count)?;
        }
        self.extent = Some(extent);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::json;
    use tempfile::TempDir;
    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::*;
    use crate::logs::{Logs, MAX_ENTRIES};
    use crate::store::Store;
    use crate::store::batch::Batch;
    use crate::store::disk::DiskStore;
    use crate::store::keys;

    fn jobs(folder: &TempDir) -> DiskStore {
        DiskStore::open(&folder.path().join("jobs"), 1_000_000).unwrap()
    }

    /// Stores an entry for each of these times, which are its content, too.
    fn write(trail: &mut Trail, shelf: &mut Shelf, times: impl IntoIterator<Item = u64>) {
        let room = Arc::new(Semaphore::new(1_000));
        for at in times {
            trail.push(at, json!(at).to_string().into_bytes(), room.clone().try_acquire_owned().unwrap());
        }
        trail.write(shelf).unwrap();
        assert_eq!(room.available_permits(), 1_000, "whoever waits may go on");
    }

    fn kept(shelf: &mut Shelf) -> Vec<u64> {
        let page = shelf.audit(None, 1_000).unwrap();
        assert!(!page.more);
        page.entries.into_iter().map(|(_, entry)| entry.as_u64().unwrap()).collect()
    }

    #[test]
    fn the_oldest_entries_are_removed_when_there_are_too_many_or_they_are_too_old() {
        let folder = TempDir::new().unwrap();
        let mut shelf = Shelf::new(&folder.path().join("logs"), &jobs(&folder));
        let bounds = Bounds { age: 1_000, count: 50, slack: 10 };
        let newest = |times: std::ops::Range<u64>| times.rev().collect::<Vec<_>>();
        let mut trail = Trail::bounded(bounds);
        write(&mut trail, &mut shelf, 0..59);
        assert_eq!(kept(&mut shelf), newest(9..59), "too many by nine, when fifty were passed");
        write(&mut trail, &mut shelf, 59..68);
        assert_eq!(kept(&mut shelf), newest(9..68), "nine more are not enough for a look");
        // Whoever comes next knows how many there are without counting.
        let mut trail = Trail::bounded(bounds);
        write(&mut trail, &mut shelf, [68]);
        assert_eq!(kept(&mut shelf), newest(19..69));
        assert_eq!(shelf.audit_extent().unwrap(), Extent { last: 68 << COUNTER_BITS, count: 50 });
        // In one commit of ten, all but one of fifty are too old.
        write(&mut trail, &mut shelf, (0..10).map(|n| 1_068 + n));
        assert_eq!(kept(&mut shelf), newest(1_068..1_078));
        // The clock was set back: the order stays.
        write(&mut trail, &mut shelf, [5, 4]);
        assert_eq!(kept(&mut shelf)[..3], [4, 5, 1_077]);
    }

    #[test]
    fn entries_are_counted_where_nobody_has_kept_their_number() {
        let folder = TempDir::new().unwrap();
        let logs = folder.path().join("logs");
        {
            let mut store = DiskStore::open(&logs, 1_000_000).unwrap();
            let mut batch = Batch::default();
            (1..=7).for_each(|n| batch.put_raw(&keys::audit(n), b"1"));
            store.commit(batch).unwrap();
        }
        let mut shelf = Shelf::new(&logs, &jobs(&folder));
        assert_eq!(shelf.audit_extent().unwrap(), Extent { last: 7, count: 7 });
    }

    #[tokio::test]
    async fn whoever_makes_an_entry_waits_for_room_and_none_is_lost() {
        let folder = TempDir::new().unwrap();
        let logs = Logs::start(&folder.path().join("logs"), jobs(&folder)).unwrap();
        let all = u32::try_from(MAX_ENTRIES).unwrap();
        let taken = logs.entries.clone().acquire_many_owned(all).await.unwrap();
        assert!(logs.audit_room_now().is_none());
        assert!(timeout(Duration::ZERO, logs.audit_room()).await.is_err(), "there is no room");
        drop(taken);
        let mut makers = JoinSet::new();
        for n in 0..3 * MAX_ENTRIES as u64 {
            let logs = logs.clone();
            makers.spawn(async move {
                let room = logs.audit_room().await.unwrap();
                logs.audit(n, json!(n).to_string().into_bytes(), room);
            });
        }
        makers.join_all().await;
        let page = logs.read_audit(None, 4 * MAX_ENTRIES).await.unwrap();
        let seen: BTreeSet<u64> = page.entries.iter().map(|(_, entry)| entry.as_u64().unwrap()).collect();
        assert_eq!(seen, (0..3 * MAX_ENTRIES as u64).collect());
        assert!(page.entries.is_sorted_by_key(|(number, _)| std::cmp::Reverse(*number)));
        logs.stop().await;
    }
}
