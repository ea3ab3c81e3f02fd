//! Unique keys: which jobs have which, and whether they keep a new job out.
//!
//! The store has a record for every key that some job has. Memory holds those that were asked for or changed lately.
//! What happens to a key that memory does not hold is noted, and put into its record once that has been read: before
//! the next commit at the latest ([`Engine::wants_keys`]).

use std::mem;
use std::sync::Arc;

use protocol::flow::{Key, Unique, UniqueWhile};
use protocol::id::JobId;
use rustc_hash::FxHashMap;

use super::command::Command;
use super::job::Job;
use super::{Engine, Found};
use crate::store::batch::Batch;
use crate::store::record::Holder;

/// How many keys memory holds from one turn to the next.
const MAX_KNOWN: usize = if cfg!(test) { 3 } else { 65_536 };
/// Of the ended jobs with a key so many are remembered: those that are kept longest.
const MAX_ENDED: usize = 8;

/// The jobs that have a key, in the order of their ids.
pub type Holders = Vec<Holder>;

/// Of a job with a key, what has become of it; none: it is gone.
type Change = (JobId, Option<Holder>);

#[derive(Debug, Default)]
pub(super) struct Uniques {
    /// As of now.
    known: FxHashMap<Key, Holders>,
    /// What has happened to keys that are not known.
    noted: FxHashMap<Key, Vec<Change>>,
    /// Known keys that have changed, with what the store says of them.
    changed: FxHashMap<Key, Holders>,
    /// Jobs with keys that were put somewhere in this turn.
    fresh: FxHashMap<JobId, Arc<Job>>,
}

impl Uniques {
    /// A job has been put somewhere.
    pub(super) fn enter(&mut self, job: &Arc<Job>) {
        if let Some(unique) = job.unique() {
            let purge_at = job.status.is_terminal().then_some(job.purge_at).flatten();
            self.note(&unique.key, (job.id, Some(Holder { id: job.id, purge_at })));
            self.fresh.insert(job.id, job.clone());
        }
    }

    /// A job has left its place.
    pub(super) fn leave(&mut self, job: &Job) {
        if let Some(unique) = job.unique() {
            self.note(&unique.key, (job.id, None));
            self.fresh.remove(&job.id);
        }
    }

    /// The store is going to hear of another state of a job.
    pub(super) fn refresh(&mut self, job: &Arc<Job>) {
        if job.unique().is_some() {
            self.fresh.insert(job.id, job.clone());
        }
    }

    fn note(&mut self, key: &Key, change: Change) {
        match self.known.get_mut(key) {
            Some(holders) => {
                if !self.changed.contains_key(key) {
                    self.changed.insert(key.clone(), holders.clone());
                }
                apply(holders, change);
            }
            None => self.noted.entry(key.clone()).or_default().push(change),
        }
    }

    /// Takes in what the store says of a key.
    fn provide(&mut self, key: Key, holders: Holders) {
        let mut now = holders.clone();
        if let Some(changes) = self.noted.remove(&key) {
            changes.into_iter().for_each(|change| apply(&mut now, change));
            self.changed.insert(key.clone(), holders);
        }
        self.known.insert(key, now);
    }

    /// Writes what has changed.
    pub(super) fn save(&mut self, batch: &mut Batch) {
        debug_assert!(self.noted.is_empty(), "what the store says of a key is known before it is changed");
        for (key, before) in mem::take(&mut self.changed) {
            match self.known.get(&key) {
                Some(now) if *now == before => {}
                Some(now) if now.is_empty() => batch.remove_unique(&key),
                Some(now) => batch.put_unique(&key, now),
                None => {}
            }
        }
    }

    /// Lets go of what need not be kept in memory, at the end of a turn: within it, what was looked up must stay.
    pub(super) fn trim(&mut self) {
        self.fresh.clear();
        if self.known.len() > MAX_KNOWN && self.changed.is_empty() {
            self.known.clear();
        }
    }
}

fn apply(holders: &mut Holders, (id, state): Change) {
    holders.retain(|holder| holder.id != id);
    let Some(holder) = state else { return };
    let at = holders.partition_point(|other| other.id < id);
    holders.insert(at, holder);
    let ended = |holder: &&Holder| holder.purge_at.is_some();
    if holders.iter().filter(ended).count() > MAX_ENDED {
        let first = holders.iter().filter_map(|holder| Some((holder.purge_at?, holder.id))).min();
        holders.retain(|holder| Some(holder.id) != first.map(|(_, id)| id));
    }
}

impl Engine {
    /// The keys that have to be looked up before a command is applied.
    pub fn needs_keys(&self, command: &Command) -> Vec<Key> {
        let jobs = match command {
            Command::Enqueue(jobs) | Command::EnqueueAndWait { jobs, .. } => jobs.as_slice(),
            Command::Cron(command) => self.job_to_run(command).map(std::slice::from_ref).unwrap_or_default(),
            _ => return Vec::new(),
        };
        let keys = jobs.iter().filter_map(|job| Some(&job.flow.as_ref()?.unique.as_ref()?.key));
        keys.filter(|key| self.lacks_key(key)).cloned().collect()
    }

    /// Whether it has to be looked up who has a key.
    pub(super) fn lacks_key(&self, key: &Key) -> bool {
        !self.uniques.known.contains_key(key)
    }

    /// The keys that have to be looked up before the next commit.
    pub fn wants_keys(&self) -> Vec<Key> {
        self.uniques.noted.keys().cloned().collect()
    }

    /// Takes in what the store says of a key.
    pub fn provide_key(&mut self, key: Key, holders: Holders) {
        if !self.uniques.known.contains_key(&key) {
            self.uniques.provide(key, holders);
        }
    }

    /// The youngest job that keeps a new one out.
    pub(super) fn keeper(&self, unique: &Unique) -> Option<JobId> {
        let keeps_out = |holder: &&Holder| match (holder.purge_at, unique.scope) {
            (Some(at), scope) => scope == UniqueWhile::Exists && at > self.now,
            (None, UniqueWhile::Queued) => self.leases.get(holder.id).is_none(),
            (None, UniqueWhile::Active | UniqueWhile::Exists) => true,
        };
        self.uniques.known.get(&unique.key)?.iter().rev().find(keeps_out).map(|holder| holder.id)
    }

    /// Jobs that keep new ones out and are neither in flight nor new themselves.
    pub(super) fn keepers_in_store<'a>(&self, uniques: impl Iterator<Item = &'a Unique>) -> Vec<JobId> {
        let keepers = uniques.filter_map(|unique| self.keeper(unique));
        keepers.filter(|id| self.leases.get(*id).is_none() && !self.uniques.fresh.contains_key(id)).collect()
    }

    /// The job that keeps a new one out, and whether it is in flight.
    pub(super) fn duplicate_of(&self, unique: &Unique, found: &Found) -> Option<(Arc<Job>, bool)> {
        let id = self.keeper(unique)?;
        if let Some(lease) = self.leases.get(id) {
            return Some((lease.job.clone(), true));
        }
        let fresh = self.uniques.fresh.get(&id).cloned();
        fresh.or_else(|| found.get(&id).cloned().map(Arc::new)).map(|job| (job, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(n: u128, purge_at: Option<u64>) -> Holder {
        Holder { id: JobId::from_u128(n), purge_at }
    }

    #[test]
    fn of_the_ended_jobs_those_kept_longest_are_remembered() {
        let mut holders = Holders::new();
        apply(&mut holders, (JobId::from_u128(0), Some(holder(0, None))));
        for n in 1..=20_u64 {
            // The tenth is kept for the shortest time.
            let at = if n == 10 { 1 } else { 100 + n };
            apply(&mut holders, (JobId::from_u128(n.into()), Some(holder(n.into(), Some(at)))));
        }
        let ids: Vec<u128> = holders.iter().map(|holder| holder.id.to_u128()).collect();
        assert_eq!(ids, [0, 13, 14, 15, 16, 17, 18, 19, 20]);
        apply(&mut holders, (JobId::from_u128(15), None));
        assert_eq!(holders.len(), 8);
    }

    #[test]
    fn what_was_noted_is_put_onto_what_the_store_says() {
        let mut uniques = Uniques::default();
        let key = Key::new("k").unwrap();
        uniques.note(&key, (JobId::from_u128(1), None));
        uniques.note(&key, (JobId::from_u128(2), Some(holder(2, None))));
        uniques.provide(key.clone(), vec![holder(1, None), holder(3, Some(9))]);
        assert_eq!(uniques.known[&key], [holder(2, None), holder(3, Some(9))]);
        let mut batch = Batch::default();
        uniques.save(&mut batch);
        assert_eq!(batch.writes().len(), 1);
        // There and back again is no change.
        uniques.note(&key, (JobId::from_u128(2), None));
        uniques.note(&key, (JobId::from_u128(2), Some(holder(2, None))));
        let mut batch = Batch::default();
        uniques.save(&mut batch);
        assert!(batch.is_empty());
    }
}
