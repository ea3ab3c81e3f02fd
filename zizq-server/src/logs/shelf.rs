//! The store of output and of the history of statistics, separate from that of the jobs, so that neither waits for the
//! other, and damage to this one does not affect jobs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use protocol::id::JobId;

use super::Attempt;
use super::audit::{Extent, Page};
use super::tail::{CHUNK, CHUNKS, Tail};
use crate::store::batch::Batch;
use crate::store::disk::{CacheSizes, DiskSnapshot, DiskStore};
use crate::store::keys::{self, Area};
use crate::store::record::HistoryStep;
use crate::store::{Snapshot, Store, StoreError, record, view};

const SIZES: CacheSizes = CacheSizes { cache: 4 * 1024 * 1024, memtable: 8 * 1024 * 1024 };
/// How long to leave the store alone after a failure.
const REST: Duration = Duration::from_secs(5);

pub(super) struct Shelf {
    store: DiskStore,
    folder: PathBuf,
    is_open: bool,
    /// When it last failed.
    failed_at: Option<Instant>,
    was_moved: bool,
}

impl Shelf {
    pub(super) fn new(folder: &Path, jobs: &DiskStore) -> Self {
        let store = jobs.beside(folder, SIZES);
        Self { store, folder: folder.to_owned(), is_open: false, failed_at: None, was_moved: false }
    }

    /// Whether the store may contain anything.
    pub(super) fn is_used(&self) -> bool {
        self.is_open || self.folder.exists()
    }

    /// Reads the output of an attempt.
    pub(super) fn tail(&mut self, of: Attempt) -> Result<Tail, StoreError> {
        let Some(snapshot) = self.snapshot()? else { return Ok(Tail::default()) };
        let mut chunks = BTreeMap::new();
        let (from, to) = (keys::log(of.id, of.number, 0), keys::log(of.id, of.number, u8::MAX));
        for entry in snapshot.scan(&from, &to, false) {
            let (key, value) = entry?;
            match chunk(&key, &value) {
                Some((number, text)) => drop(chunks.insert(number, text.to_vec())),
                None => tracing::error!(key = keys::shown(&key), "cannot read some output; it is skipped"),
            }
        }
        Ok(Tail::of_chunks(chunks))
    }

    /// The last attempt of a job that has printed something.
    pub(super) fn newest(&mut self, id: JobId) -> Result<Option<u32>, StoreError> {
        let Some(snapshot) = self.snapshot()? else { return Ok(None) };
        let last = snapshot.scan(&keys::log(id, 0, 0), &keys::log(id, u32::MAX, u8::MAX), true).next();
        Ok(last.transpose()?.and_then(|(key, _)| keys::log_parts(&key)).map(|(_, attempt, _)| attempt))
    }

    /// The first job from `from` on that has output, in the order of ids.
    pub(super) fn next_job(&mut self, from: JobId) -> Result<Option<JobId>, StoreError> {
        let Some(snapshot) = self.snapshot()? else { return Ok(None) };
        let end = keys::start(Area::Log as u8 + 1);
        for entry in snapshot.scan(&keys::log(from, 0, 0), &end, false) {
            match keys::log_parts(&entry?.0) {
                Some((id, ..)) => return Ok(Some(id)),
                None => continue,
            }
        }
        Ok(None)
    }

    /// Writes chunks.
    pub(super) fn store(&mut self, chunks: &[(Attempt, u64, &[u8])]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (of, number, text) in chunks {
            batch.put_log(keys::log(of.id, of.number, slot(*number)), *number, text);
        }
        self.commit(batch)
    }

    /// Removes the output of these jobs.
    pub(super) fn remove(&mut self, ids: &[JobId]) -> Result<(), StoreError> {
        let Some(snapshot) = self.snapshot()? else { return Ok(()) };
        let mut batch = Batch::default();
        for &id in ids {
            let to = id
                .to_u128()
                .checked_add(1)
                .map_or(keys::start(Area::Log as u8 + 1), |next| keys::log(JobId::from_u128(next), 0, 0));
            for entry in snapshot.scan(&keys::log(id, 0, 0), &to, false) {
                batch.remove_log(entry?.0);
            }
        }
        if batch.is_empty() { Ok(()) } else { self.commit(batch) }
    }

    /// Stores steps of the history of statistics, and removes those that are too old.
    pub(super) fn store_history(&mut self, steps: &[HistoryStep]) -> Result<(), StoreError> {
        self.open()?;
        let snapshot = self.store.snapshot();
        let mut batch = Batch::default();
        for step in steps {
            batch.put_history(step);
            let (from, to) = (keys::history(step.ring, 0), keys::history(step.ring, step.oldest));
            for entry in snapshot.scan(&from, &to, false) {
                batch.remove_history(entry?.0);
            }
        }
        self.commit(batch)
    }

    /// All stored steps of the history.
    pub(super) fn history(&mut self) -> Result<Vec<HistoryStep>, StoreError> {
        let Some(snapshot) = self.snapshot()? else { return Ok(Vec::new()) };
        let mut steps = Vec::new();
        for entry in view::entries(&snapshot, Area::History) {
            let (key, value) = entry?;
            let step = keys::history_parts(&key).zip(record::decode_history(&value).ok());
            match step {
                Some(((ring, number), points)) => steps.push(HistoryStep { ring, number, oldest: 0, points }),
                None => tracing::error!(
                    key = keys::shown(&key),
                    "cannot read a part of the history; it is skipped"
                ),
            }
        }
        Ok(steps)
    }

    /// The number of the last entry of the audit trail, and how many there are. They are counted only if the store is of
    /// before it kept their number.
    pub(super) fn audit_extent(&mut self) -> Result<Extent, StoreError> {
        let Some(snapshot) = self.snapshot()? else { return Ok(Extent::default()) };
        let (from, to) = (keys::start(Area::Audit as u8), keys::start(Area::Audit as u8 + 1));
        let last = snapshot.scan(&from, &to, true).next().transpose()?;
        let last = last.and_then(|(key, _)| keys::audit_number(&key)).unwrap_or_default();
        let stored = snapshot.get(&keys::audit_count())?;
        let stored = stored.and_then(|count| Some(u64::from_be_bytes(count.as_ref().try_into().ok()?)));
        let count = match stored {
            Some(count) => count,
            None => {
                view::entries(&snapshot, Area::Audit).map(|entry| entry.map(|_| 1)).sum::<Result<u64, _>>()?
            }
        };
        Ok(Extent { last, count })
    }

    /// Stores entries of the audit trail, and how many there are with them.
    pub(super) fn put_audit(&mut self, entries: &[(u64, &[u8])], count: u64) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        entries.iter().for_each(|(number, entry)| batch.put_audit(*number, entry));
        batch.put_audit_count(count);
        self.commit(batch)
    }

    /// Removes the entries before a number, and the first `surplus`, of `count` in all. Returns how many are left.
    pub(super) fn trim_audit(&mut self, before: u64, surplus: u64, count: u64) -> Result<u64, StoreError> {
        let Some(snapshot) = self.snapshot()? else { return Ok(count) };
        let (mut batch, mut removed) = (Batch::default(), 0);
        for entry in view::entries(&snapshot, Area::Audit) {
            let Some(number) = keys::audit_number(&entry?.0) else { continue };
            if number >= before && removed >= surplus {
                break;
            }
            batch.remove_audit(number);
            removed += 1;
        }
        let left = count.saturating_sub(removed);
        if removed > 0 {
            batch.put_audit_count(left);
            self.commit(batch)?;
        }
        Ok(left)
    }

    /// The newest entries of the audit trail before a number.
    pub(super) fn audit(&mut self, before: Option<u64>, limit: usize) -> Result<Page, StoreError> {
        let mut page = Page::default();
        let Some(snapshot) = self.snapshot()? else { return Ok(page) };
        let end = before.map_or(keys::start(Area::Audit as u8 + 1), keys::audit);
        for entry in snapshot.scan(&keys::start(Area::Audit as u8), &end, true) {
            let (key, value) = entry?;
            let read = keys::audit_number(&key).zip(serde_json::from_slice(&value).ok());
            page.more = page.entries.len() == limit;
            if page.more {
                break;
            }
            page.entries.extend(read);
        }
        Ok(page)
    }

    /// The bytes that are not on the disk yet.
    pub(super) fn unwritten(&self) -> u64 {
        self.store.unwritten()
    }

    /// Frees the space of what was removed, as far as that is quick.
    pub(super) fn make_space(&mut self) {
        if self.store.is_cramped() {
            self.is_open = false;
        }
        if self.is_used() && self.open().is_ok() {
            self.store.make_space();
        }
    }

    /// Syncs everything to the disk as far as possible, because the server stops.
    pub(super) fn close(&self) {
        if self.is_open
            && let Err(error) = self.store.syncer()()
        {
            tracing::error!(%error, "the last output of jobs may not be on the disk");
        }
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.open()?;
        self.store.commit(batch).inspect_err(|_| {
            self.is_open = false;
            self.failed_at = Some(Instant::now());
        })
    }

    /// Returns `None` if nothing was ever stored.
    fn snapshot(&mut self) -> Result<Option<DiskSnapshot>, StoreError> {
        if !self.is_used() {
            return Ok(None);
        }
        self.open()?;
        Ok(Some(self.store.snapshot()))
    }

    fn open(&mut self) -> Result<(), StoreError> {
        if self.is_open {
            return Ok(());
        }
        if self.failed_at.is_some_and(|at| at.elapsed() < REST) {
            return Err(StoreError::Closed);
        }
        let opened = match self.store.reopen() {
            Err(error) if !error.may_pass() && !self.was_moved && self.folder.exists() => {
                self.was_moved = true;
                self.move_aside(&error).and_then(|()| self.store.reopen())
            }
            opened => opened,
        };
        self.is_open = opened.is_ok();
        self.failed_at = opened.is_err().then(Instant::now);
        opened
    }

    /// Moves a store that cannot be opened aside: output must not keep the server from starting.
    fn move_aside(&self, error: &StoreError) -> Result<(), StoreError> {
        let aside = self.folder.with_extension("damaged");
        tracing::error!(
            %error, moved_to = %aside.display(),
            "cannot open the store of job output; it is moved aside, and a new one is created"
        );
        if aside.exists() {
            std::fs::remove_dir_all(&aside)?;
        }
        Ok(std::fs::rename(&self.folder, &aside)?)
    }
}

fn slot(number: u64) -> u8 {
    u8::try_from(number % CHUNKS).unwrap_or_default()
}

/// The number and the text of a chunk, if its key is valid.
fn chunk<'a>(key: &[u8], value: &'a [u8]) -> Option<(u64, &'a [u8])> {
    let (.., place) = keys::log_parts(key)?;
    let (number, text) = record::decode_log(value).ok()?;
    let fits = slot(number) == place && (1..=CHUNK).contains(&text.len()) && number < u64::MAX / CHUNK as u64;
    fits.then_some((number, text))
}
