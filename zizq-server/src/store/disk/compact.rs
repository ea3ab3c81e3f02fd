//! Compaction, and freeing the space of removed entries: on threads of our own, for three reasons.
//!
//! fjall compacts when a level is too large. A queue has few live entries, and tombstones have no weight: the values of
//! finished jobs would stay at the bottom forever. So tables with no live entry in their range are dropped as a whole,
//! without reading or writing anything else; and where removed entries are scattered among live ones, everything is
//! rewritten once more is dead than alive.
//!
//! fjall gives up when a compaction runs out of disk space or meets an unreadable table. Here it is retried later, or
//! the store is reopened.
//!
//! And no table may be dropped while a compaction or a flush could move something into its range.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use fjall::compaction::Leveled;
use fjall::{AbstractTree, Database, Keyspace, SeqNo};

use super::passed::Passed;
use super::torn;
use super::{TABLE_BYTES, manifest};
use crate::store::space::Space;
use crate::store::{StoreError, keys};

/// How long commits gather before anything is checked.
const GATHER: Duration = Duration::from_millis(100);
/// The interval between checks for tables to drop.
const DROP_EVERY: Duration = Duration::from_secs(1);
/// How long after the last commit the store counts as idle.
const REST: Duration = Duration::from_secs(2);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(2);
/// How many dead bytes may remain, however few are alive: while there are commits, and when idle.
const SPARE_BUSY: u64 = 96 * 1024 * 1024;
const SPARE_AT_REST: u64 = 24 * 1024 * 1024;
/// The temporary space of a merge, in bytes; less if all tables together are smaller.
const ROOM: u64 = 256 * 1024 * 1024;
/// When space is low, a rewrite is worth it if one in this many bytes is dead.
const WORTH: u64 = 8;
/// How large the memtable may get before it is flushed, in bytes, because it may have removed anything: when idle, and
/// when space is low.
const GATHERED_AT_REST: u64 = 3 * 1024 * 1024;
const GATHERED_IF_SHORT: u64 = 4 * 1024;
/// How long a flush of the memtable may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// When space is low, journals longer than this are worth the work, in bytes.
const LONG: u64 = 4 * 1024 * 1024;
/// How often to retry when something moves during the search for tables to drop.
const TRIES: u32 = 3;

/// The threads that compact a store. They end with it.
pub(super) struct Compactor {
    wake: Option<Sender<()>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Compactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compactor")
    }
}

struct Shared {
    database: Database,
    jobs: Keyspace,
    space: Space,
    /// Set if a table cannot be read.
    suspect: Arc<AtomicBool>,
    /// Set if the journals take space that is needed.
    cramped: Arc<AtomicBool>,
    stopped: AtomicBool,
    /// Space is needed, however little can be gained.
    urgent: AtomicBool,
    /// Cleared data still has its journal and its memory.
    cleared: AtomicBool,
    /// Merges hold it for reading, drops for writing.
    moving: RwLock<()>,
}

impl Compactor {
    pub(super) fn start(
        database: &Database,
        jobs: &Keyspace,
        space: Space,
        [suspect, cramped]: [&Arc<AtomicBool>; 2],
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            database: database.clone(),
            jobs: jobs.clone(),
            space,
            suspect: suspect.clone(),
            cramped: cramped.clone(),
            stopped: AtomicBool::new(false),
            urgent: AtomicBool::new(false),
            cleared: AtomicBool::new(false),
            moving: RwLock::new(()),
        });
        let (wake, woken) = crossbeam_channel::bounded(1);
        let (second, second_woken) = crossbeam_channel::bounded::<()>(1);
        let mut tending = Tending {
            shared: shared.clone(),
            second,
            passed: Passed::default(),
            dropped_at: None,
            rest_until: None,
        };
        let merging = shared.clone();
        let threads = vec![
            thread::Builder::new().name("compact".to_owned()).spawn(move || tending.run(&woken))?,
            thread::Builder::new().name("compact-2".to_owned()).spawn(move || {
                // The first thread has the same errors, and logs them.
                second_woken.iter().for_each(|()| drop(merging.merge(&usual())));
            })?,
        ];
        Ok(Self { wake: Some(wake), shared, threads })
    }

    /// Wakes the threads after a commit.
    pub(super) fn note(&self) {
        if let Some(wake) = &self.wake {
            // A thread that is already awake continues.
            wake.try_send(()).ok();
        }
    }

    /// Everything was cleared, and something was committed since.
    pub(super) fn note_cleared(&self) {
        self.shared.cleared.store(true, Ordering::Relaxed);
        self.note();
    }

    /// While this is held, nothing is merged or dropped.
    pub(super) fn still(&self) -> RwLockWriteGuard<'_, ()> {
        self.shared.moving.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests space.
    pub(super) fn urge(&self) {
        self.shared.urgent.store(true, Ordering::Relaxed);
        self.note();
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.wake = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a compaction thread has panicked");
            }
        }
    }
}

/// fjall's default strategy.
fn usual() -> Leveled {
    Leveled::default().with_table_target_size(TABLE_BYTES)
}

/// Leaves one level without removed entries.
fn tight() -> Leveled {
    usual().with_l0_threshold(0)
}

/// Estimated from the tables, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    living: u64,
    dead: u64,
}

/// Why removed entries are freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The store is idle: there is time, and some may remain.
    AtRest,
    /// Space is low: everything that is worth the work is freed.
    Short,
}

impl Why {
    /// Whether enough was removed to rewrite the tables.
    const fn is_heavy(self, Weight { living, dead }: Weight) -> bool {
        match self {
            Self::AtRest => dead > living + SPARE_AT_REST,
            Self::Short => dead > living / WORTH,
        }
    }

    /// How large the memtable may be, in bytes.
    const fn gathered(self) -> u64 {
        match self {
            Self::AtRest => GATHERED_AT_REST,
            Self::Short => GATHERED_IF_SHORT,
        }
    }
}

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// No snapshot needs anything before it.
    fn watermark(&self) -> SeqNo {
        self.database.supervisor.snapshot_tracker.get_seqno_safe_to_gc()
    }

    fn weight(&self) -> Weight {
        let version = self.jobs.tree.current_version();
        let (mut entries, mut removed, mut bytes) = (0_u64, 0_u64, 0_u64);
        for table in version.iter_tables() {
            entries += table.metadata.item_count;
            removed += table.metadata.tombstone_count;
            bytes += table.metadata.file_size;
        }
        // Both entries of a removed key are dead.
        let written = entries.saturating_sub(removed);
        let living =
            u128::from(bytes) * u128::from(written.saturating_sub(removed)) / u128::from(written.max(1));
        let living = u64::try_from(living).unwrap_or(bytes);
        Weight { living, dead: bytes - living }
    }

    /// Merges while there is something to merge and room for it.
    fn merge(&self, strategy: &Leveled) -> Result<(), StoreError> {
        loop {
            let before = self.jobs.tree.current_version().id();
            let is_roomy = self.space.free() >= self.weight().living.min(ROOM);
            if self.is_stopped() || self.suspect.load(Ordering::Relaxed) || !is_roomy {
                return Ok(());
            }
            let first = self.jobs.tree.next_table_id();
            let merged = {
                let _moving = self.moving.read().unwrap_or_else(PoisonError::into_inner);
                self.jobs.tree.compact(Arc::new(strategy.clone()), self.watermark())
            };
            if let Err(error) = merged {
                self.clean_up(first);
                return Err(told(error));
            }
            if self.jobs.tree.current_version().id() == before {
                return Ok(());
            }
        }
    }

    /// Removes what a failed merge left behind: newer tables that belong to no version, not even one that a snapshot
    /// may still read.
    fn clean_up(&self, first: u64) {
        let _moving = self.moving.write().unwrap_or_else(PoisonError::into_inner);
        let _flush = self.jobs.tree.get_flush_lock();
        let newest = self.jobs.tree.current_version().id();
        let Ok(kept) = manifest::all_tables(self.jobs.path(), newest) else { return };
        let Ok(files) = std::fs::read_dir(self.jobs.path().join("tables")) else { return };
        for file in files.flatten() {
            let id = file.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            if id.is_some_and(|id| id >= first && !kept.contains(&id)) {
                std::fs::remove_file(file.path()).ok();
            }
        }
    }

    /// Flushes the memtable; returns false if there is no room, or it takes too long.
    fn flush(&self) -> Result<bool, StoreError> {
        let unwritten = self.database.write_buffer_size();
        if self.space.free() < unwritten + unwritten / 4 {
            return Ok(false);
        }
        self.jobs.rotate_memtable()?;
        let until = Instant::now() + PATIENCE;
        while self.jobs.sealed_memtable_count() > 0 {
            if self.is_stopped() || Instant::now() > until {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(true)
    }

    /// Releases replaced tables, except those that snapshots still read.
    fn let_go(&self) -> Result<(), StoreError> {
        let watermark = self.watermark();
        let mut versions = self.jobs.tree.get_version_history_lock();
        versions.maintenance(self.jobs.path(), watermark).map_err(told)
    }
}

impl Shared {
    /// fjall starts a new journal after 64 MB. On a small disk that may be all there is: the store is then reopened
    /// with shorter journals.
    fn look_at_journals(&self) {
        // A keyspace is two folders below.
        let journals = self.jobs.path().ancestors().nth(2).and_then(|folder| torn::journals(folder).ok());
        let journals = journals.unwrap_or_default();
        let bytes = journals.iter().filter_map(|(_, journal)| Some(journal.metadata().ok()?.blocks() * 512));
        let bytes: u64 = bytes.sum();
        let unwritten = self.database.write_buffer_size();
        // With large tables there is more to gain elsewhere, and reopening the store ends all streams.
        let Weight { living, dead } = self.weight();
        let is_much = bytes > LONG.max(2 * unwritten).max((living + dead) / WORTH);
        let helps = is_much && self.space.is_low(unwritten);
        self.cramped.store(helps, Ordering::Relaxed);
    }
}

pub(super) fn told(error: fjall::LsmError) -> StoreError {
    fjall::Error::from(error).into()
}

/// The first of the two threads, which decides what is done when.
struct Tending {
    shared: Arc<Shared>,
    second: Sender<()>,
    passed: Passed,
    dropped_at: Option<Instant>,
    rest_until: Option<Instant>,
}

impl Tending {
    fn run(&mut self, woken: &Receiver<()>) {
        // An earlier process may have left work.
        let mut is_busy = true;
        loop {
            let wait = if is_busy { REST } else { Duration::from_secs(3_600) };
            let is_rest = match woken.recv_timeout(wait) {
                Ok(()) => false,
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            is_busy = !is_rest;
            let done = if is_rest { self.settle(Why::AtRest) } else { self.tend() };
            match done {
                Err(_) if self.shared.is_stopped() => return,
                Err(error) => self.fail(&error),
                Ok(()) => {}
            }
            if !is_rest {
                thread::sleep(GATHER);
            }
        }
    }

    fn fail(&mut self, error: &StoreError) {
        tracing::warn!(%error, "cannot compact the store; retrying later");
        self.rest_until = Some(Instant::now() + PAUSE);
        if matches!(error, StoreError::Unreadable(_)) {
            // The next commit makes the writer reopen the store.
            self.shared.suspect.store(true, Ordering::Relaxed);
        }
    }

    fn tend(&mut self) -> Result<(), StoreError> {
        if self.shared.cleared.swap(false, Ordering::Relaxed) {
            // The tombstones go with the next flushed memtable. If everything is cleared repeatedly before one is full,
            // that would be never.
            self.shared.jobs.rotate_memtable()?;
        }
        if self.rest_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        // Leveling needs space first, and may take all there is; dropping dead tables frees some.
        let merged = if self.shared.space.is_low(0) {
            Ok(())
        } else {
            self.second.try_send(()).ok();
            self.shared.merge(&usual())
        };
        if self.dropped_at.is_some_and(|at| at.elapsed() < DROP_EVERY) {
            return merged;
        }
        self.drop_passed()?;
        self.shared.space.hold_back();
        if self.shared.urgent.swap(false, Ordering::Relaxed) {
            let settled = self.settle(Why::Short);
            self.shared.look_at_journals();
            return merged.and(settled);
        }
        merged?;
        let Weight { living, dead } = self.shared.weight();
        if dead > living + SPARE_BUSY { self.shared.merge(&tight()) } else { Ok(()) }
    }

    /// Frees removed entries if there are enough.
    fn settle(&mut self, why: Why) -> Result<(), StoreError> {
        self.drop_passed()?;
        let gathered = self.shared.jobs.tree.active_memtable().size();
        if !why.is_heavy(self.shared.weight()) && gathered <= why.gathered() {
            return Ok(());
        }
        // Without room for a flush, the tables may free some.
        let is_flushed = self.shared.flush()?;
        if why.is_heavy(self.shared.weight()) || is_flushed && why == Why::Short {
            self.shared.merge(&tight())?;
        }
        self.drop_passed()?;
        // Makes sure that there is something to flush, which releases what was replaced. The key does not exist.
        self.shared.jobs.remove(keys::meta("reclaimed").as_slice())?;
        self.shared.flush()?;
        self.shared.let_go()
    }

    fn drop_passed(&mut self) -> Result<(), StoreError> {
        self.dropped_at = Some(Instant::now());
        let Shared { jobs, moving, .. } = &*self.shared;
        if self.shared.suspect.load(Ordering::Relaxed) {
            return Ok(());
        }
        for _ in 0..TRIES {
            let Some(ranges) = self.passed.ranges(jobs)? else { return Ok(()) };
            let _moving = moving.write().unwrap_or_else(PoisonError::into_inner);
            if ranges.drop(jobs)? {
                return self.shared.let_go();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::batch::Batch;
    use crate::store::disk::DiskStore;
    use crate::store::keys::{Area, Key};
    use crate::store::{Snapshot, Store};

    /// As when one of two merges fails, and the other has replaced tables that a snapshot still reads.
    #[test]
    fn leftovers_of_a_failed_merge_are_removed_and_tables_of_snapshots_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = DiskStore::open(&folder.path().join("root"), 1_000_000).unwrap();
        let open = store.opened().unwrap();
        let key = |n: u32| [&[Area::Dead as u8][..], &n.to_be_bytes()].concat();
        for part in [0..50, 50..100] {
            for n in part {
                let mut batch = Batch::default();
                batch.put_raw(&key(n), b"value");
                store.commit(batch).unwrap();
            }
            open.jobs.rotate_memtable_and_wait().unwrap();
        }
        let tree = open.jobs.path();
        let tables = || -> BTreeSet<u64> {
            let files = std::fs::read_dir(tree.join("tables")).unwrap();
            files.map(|file| file.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
        };
        let snapshot = store.snapshot();
        let read = tables();
        open.jobs.major_compact().unwrap();
        let newest = open.jobs.tree.current_version();
        assert!(!newest.iter_tables().any(|table| read.contains(&table.id())), "they were replaced");
        let all = tables();
        assert!(all.is_superset(&read));

        let left = manifest::table(tree, 1_000_000);
        std::fs::write(&left, "half of a table").unwrap();
        std::fs::write(tree.join(format!("v{}", newest.id() + 1)), "half of a list").unwrap();
        open.compactor.shared.clean_up(0);
        assert_eq!(tables(), all);
        let found = snapshot.scan(&Key::from_slice(&key(0)), &Key::from_slice(&key(100)), false);
        assert_eq!(found.map(Result::unwrap).count(), 100);
    }
}
