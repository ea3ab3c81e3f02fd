//! Tags, by which jobs are found beside their ids: unique keys, and the keys of open batches.
//!
//! The store has a record for every tag that some job has. Memory holds those that were looked up or changed lately. A
//! change to a tag that memory does not hold is noted, and added to its record once that has been read: before the next
//! commit at the latest ([`Engine::wants_tags`]).

use crate::job::tag::Tag;
use std::mem;
use std::sync::Arc;

use protocol::enqueue::NewJob;
use protocol::flow::Batch as Foldable;
use protocol::id::JobId;

use crate::engine::Engine;
use crate::engine::command::{About, Command};
use crate::hash::HashMap;
use crate::job::Job;
use crate::store::batch::Batch;
use crate::store::record::Holder;

/// The number of tags that memory keeps from one turn to the next.
const MAX_KNOWN: usize = if cfg!(test) { 3 } else { 65_536 };
/// The number of ended jobs remembered for a tag: those that are kept longest.
const MAX_ENDED: usize = 8;

/// The jobs that have a tag, in the order of their ids.
pub(crate) type Holders = Vec<Holder>;

/// A job whose tag has changed, with its holder; none if it no longer has the tag.
type Change = (JobId, Option<Holder>);

/// The tags that are known, and the changes to the others.
///
/// - A tag is in `known` or in `noted`, never in both; before a commit `noted` is empty.
/// - What is in `changed` is known.
#[derive(Debug, Default)]
pub(in crate::engine) struct Tags {
    /// The current holders.
    known: HashMap<Tag, Holders>,
    /// The changes to tags that are not known.
    noted: HashMap<Tag, Vec<Change>>,
    /// Known tags that have changed, with what the store says of them.
    changed: HashMap<Tag, Holders>,
    /// Jobs that can be asked for by a tag and were put somewhere in this turn.
    fresh: HashMap<JobId, Arc<Job>>,
}

impl Tags {
    /// Notes that a job has been put somewhere.
    pub(in crate::engine) fn enter(&mut self, job: &Arc<Job>) {
        if let Some(unique) = job.unique() {
            let purge_at = job.status.is_terminal().then_some(job.purge_at).flatten();
            let holder = Holder { id: job.id, purge_at };
            self.note(&Tag::Unique(unique.key.clone()), (job.id, Some(holder)));
        }
        self.refresh(job);
    }

    /// Notes that a job has left its place.
    pub(in crate::engine) fn leave(&mut self, job: &Job) {
        if let Some(unique) = job.unique() {
            self.note(&Tag::Unique(unique.key.clone()), (job.id, None));
        }
        self.fresh.remove(&job.id);
    }

    /// Notes that the store will get another state of a job.
    pub(in crate::engine) fn refresh(&mut self, job: &Arc<Job>) {
        if job.unique().is_some() || job.batch().is_some() {
            self.fresh.insert(job.id, job.clone());
        }
    }

    /// Opens a batch: from now on other jobs are folded into this job, and into no other with its key.
    pub(in crate::engine) fn open_batch(&mut self, job: &Job) {
        let Some(Foldable { key, .. }) = job.batch() else { return };
        let tag = Tag::Batch(key.clone());
        for Holder { id, .. } in self.known.get(&tag).cloned().unwrap_or_default() {
            self.note(&tag, (id, None));
        }
        self.note(&tag, (job.id, Some(Holder { id: job.id, purge_at: None })));
    }

    /// Closes a batch: from now on nothing is folded into this job.
    pub(in crate::engine) fn close_batch(&mut self, job: &Job) {
        if let Some(Foldable { key, .. }) = job.batch() {
            self.note(&Tag::Batch(key.clone()), (job.id, None));
        }
    }

    pub(in crate::engine) fn holders(&self, tag: &Tag) -> &[Holder] {
        self.known.get(tag).map_or(&[], |holders| holders)
    }

    pub(in crate::engine) fn is_known(&self, tag: &Tag) -> bool {
        self.known.contains_key(tag)
    }

    /// Returns a job that can be asked for by a tag and was put somewhere in this turn.
    pub(in crate::engine) fn fresh(&self, id: JobId) -> Option<&Arc<Job>> {
        self.fresh.get(&id)
    }

    fn note(&mut self, tag: &Tag, change: Change) {
        match self.known.get_mut(tag) {
            Some(holders) => {
                if !self.changed.contains_key(tag) {
                    self.changed.insert(tag.clone(), holders.clone());
                }
                apply(holders, change);
            }
            None => self.noted.entry(tag.clone()).or_default().push(change),
        }
    }

    /// Takes in what the store says of a tag.
    fn provide(&mut self, tag: Tag, holders: Holders) {
        let mut now = holders.clone();
        if let Some(changes) = self.noted.remove(&tag) {
            changes.into_iter().for_each(|change| apply(&mut now, change));
            self.changed.insert(tag.clone(), holders);
        }
        self.known.insert(tag, now);
    }

    /// Writes what has changed.
    pub(in crate::engine) fn save(&mut self, batch: &mut Batch) {
        debug_assert!(self.noted.is_empty(), "what the store says of a tag is known before it is changed");
        for (tag, before) in mem::take(&mut self.changed) {
            match self.known.get(&tag) {
                Some(now) if *now == before => {}
                Some(now) if now.is_empty() => batch.remove_holders(&tag),
                Some(now) => batch.put_holders(&tag, now),
                None => {}
            }
        }
    }

    /// Drops what need not stay in memory, at the end of a turn: until then, what was looked up must stay.
    pub(in crate::engine) fn trim(&mut self) {
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

/// Returns the tags that new jobs are unique by.
pub(in crate::engine) fn unique_tags<'a>(
    jobs: impl Iterator<Item = &'a NewJob>,
) -> impl Iterator<Item = Tag> {
    let keys = jobs.filter_map(|job| Some(&job.flow.as_ref()?.unique.as_ref()?.key));
    keys.cloned().map(Tag::Unique)
}

impl Engine {
    /// Returns the tags that have to be looked up before a command is applied.
    pub fn needs_tags(&self, command: &Command) -> Vec<Tag> {
        let unknown = |tag: &Tag| !self.tags.is_known(tag);
        match command.about() {
            About::NewJobs(jobs, planned) => {
                let batches = planned.iter().map(|planned| Tag::Batch(planned.key.clone()));
                unique_tags(jobs.iter()).chain(batches).filter(unknown).collect()
            }
            About::Entry(group, name) => {
                unique_tags(self.crons.job(group, name).into_iter()).filter(unknown).collect()
            }
            About::Batches(keys) => keys.iter().cloned().map(Tag::Batch).filter(unknown).collect(),
            About::Nothing | About::Deliveries(..) | About::Jobs(..) | About::InFlight(_) => Vec::new(),
        }
    }

    /// Returns the tags that have to be looked up before the next commit.
    pub fn wants_tags(&self) -> Vec<Tag> {
        self.tags.noted.keys().cloned().collect()
    }

    /// Takes in what the store says of a tag.
    pub fn provide_tag(&mut self, tag: Tag, holders: Holders) {
        if !self.tags.is_known(&tag) {
            self.tags.provide(tag, holders);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::flow::Key;

    fn holder(n: u128, purge_at: Option<u64>) -> Holder {
        Holder { id: JobId::from_u128(n), purge_at }
    }

    #[test]
    fn the_ended_jobs_kept_longest_are_remembered() {
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
    fn noted_changes_are_added_to_what_the_store_says() {
        let mut tags = Tags::default();
        let tag = Tag::Unique(Key::new("k").unwrap());
        tags.note(&tag, (JobId::from_u128(1), None));
        tags.note(&tag, (JobId::from_u128(2), Some(holder(2, None))));
        tags.provide(tag.clone(), vec![holder(1, None), holder(3, Some(9))]);
        assert_eq!(tags.known[&tag], [holder(2, None), holder(3, Some(9))]);
        let mut batch = Batch::default();
        tags.save(&mut batch);
        assert_eq!(batch.writes().len(), 1);
        // A change and its reverse are no change.
        tags.note(&tag, (JobId::from_u128(2), None));
        tags.note(&tag, (JobId::from_u128(2), Some(holder(2, None))));
        let mut batch = Batch::default();
        tags.save(&mut batch);
        assert!(batch.is_empty());
    }
}
