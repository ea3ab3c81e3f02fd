//! The space of jobs that are gone. fjall gives it back as it writes; where nothing new is written for want of space, it
//! has to be asked to.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::{DiskStore, Open};
use crate::clock;
use crate::store::{StoreError, keys};

/// From one time to the next, in milliseconds.
const PAUSE_MS: u64 = 5_000;
/// It is worth the work when one in so many entries is dead.
const WORTH: u64 = 8;
/// What comes to the disk makes fjall compact some tables by itself, which takes about so much space for a time, in bytes;
/// less where all tables together have less. Without it fjall gives up, and so does the store.
const ROOM: u64 = 512 * 1024 * 1024;
/// How long the memtable may take to get to the disk.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Reclaim {
    /// Keys that were removed since the last time.
    removed: AtomicU64,
    /// Whether there was a last time: what an earlier process has removed is not known.
    done: AtomicBool,
    running: AtomicBool,
    next_at: AtomicU64,
}

impl Reclaim {
    pub(super) fn note_removed(&self, keys: u64) {
        self.removed.fetch_add(keys, Ordering::Relaxed);
    }
}

impl DiskStore {
    /// Gives space back on a thread of its own, if it is worth it and not done already.
    pub(super) fn reclaim(&self) {
        let reclaim = &self.at.reclaim;
        if clock::now().up < reclaim.next_at.load(Ordering::Relaxed)
            || reclaim.running.swap(true, Ordering::SeqCst)
        {
            return;
        }
        let store = self.clone();
        let run = move || {
            store.reclaim_now();
            let reclaim = &store.at.reclaim;
            reclaim.next_at.store(clock::now().up + PAUSE_MS, Ordering::Relaxed);
            reclaim.running.store(false, Ordering::SeqCst);
        };
        if let Err(error) = thread::Builder::new().name("reclaim".to_owned()).spawn(run) {
            tracing::warn!(%error, "cannot start a thread that gives back the space of finished jobs");
            reclaim.running.store(false, Ordering::SeqCst);
        }
    }

    fn reclaim_now(&self) {
        let reclaim = &self.at.reclaim;
        let Ok(open) = self.opened() else { return };
        let entries = open.jobs.approximate_len() as u64;
        let removed = reclaim.removed.load(Ordering::Relaxed);
        if reclaim.done.load(Ordering::Relaxed) && removed.saturating_mul(WORTH) < entries {
            return;
        }
        let before = open.jobs.disk_space();
        match self.compact(&open, entries, removed) {
            Ok(true) => {
                reclaim.done.store(true, Ordering::Relaxed);
                reclaim.removed.fetch_sub(removed, Ordering::Relaxed);
                let bytes = before.saturating_sub(open.jobs.disk_space());
                tracing::info!(bytes, "gave back the space of finished jobs");
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "cannot give back the space of finished jobs"),
        }
    }

    /// Writes what lives anew, as far as there is room for that; false where there is none.
    fn compact(&self, open: &Open, entries: u64, removed: u64) -> Result<bool, StoreError> {
        if !self.flush(open)? {
            return Ok(false);
        }
        // Of two entries for a key that was removed none lives.
        let written = entries.saturating_sub(removed).max(1);
        let living = written.saturating_sub(removed);
        let tables = open.jobs.disk_space();
        let bytes = u128::from(tables) * u128::from(living) / u128::from(written);
        if u128::from(self.at.space.free()) < bytes + u128::from(tables.min(ROOM)) {
            return Ok(false);
        }
        open.jobs.major_compact()?;
        // So that there is something to flush. Nothing lies there.
        open.jobs.remove(keys::meta("reclaimed").as_slice())?;
        self.flush(open)
    }

    /// Brings to the disk what is gathered; false where there is no room for it, or it takes too long. Only with this
    /// fjall lets go of the tables that were written anew before.
    fn flush(&self, open: &Open) -> Result<bool, StoreError> {
        if self.at.space.free() < 2 * open.database.write_buffer_size() {
            return Ok(false);
        }
        open.jobs.rotate_memtable()?;
        let until = clock::now().up + crate::config::millis(PATIENCE);
        while open.jobs.sealed_memtable_count() > 0 {
            if clock::now().up > until {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(true)
    }
}
