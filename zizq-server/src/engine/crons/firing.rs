//! What happens when the time of a recurring job comes, or a caller asks for it.

use std::sync::Arc;

use protocol::enqueue::NewJob;
use protocol::name::CronName;

use super::commands::{no_entry, no_group};
use crate::engine::command::Reject;
use crate::engine::command::batches::Plan;
use crate::engine::command::crons::{Firing, Ran, RunEntry};
use crate::engine::command::jobs::Enqueued;
use crate::engine::jobs::tags::unique_tags;
use crate::engine::{Engine, Found};
use crate::job::tag::Tag;

/// The most entries that fire in one turn.
const SLICE: usize = if cfg!(test) { 4 } else { 256 };

impl Engine {
    pub(in crate::engine) fn run_entry(
        &mut self,
        RunEntry { group, name }: &RunEntry,
        found: &Found,
    ) -> Result<Ran, Reject> {
        let of_group = self.crons.get(group).ok_or_else(|| no_group(group))?;
        let entry = of_group.entry(name).ok_or_else(|| no_entry(group, name))?;
        if entry.folds() {
            let template = entry.template.clone();
            let (group, name) = (group.clone(), name.clone());
            return Ok(Ran::Folds(Firing { group, name, template, is_due: false }));
        }
        let job = entry.template.job.clone();
        let enqueued = self.enqueue(vec![job], Plan::default(), found)?;
        self.note_fired(group, name);
        Ok(Ran::Enqueued(enqueued))
    }

    /// Records that an entry fires now.
    fn note_fired(&mut self, group: &CronName, name: &CronName) {
        if let Some(entry) = self.crons.get_mut(group).and_then(|found| found.entry_mut(name)) {
            entry.state.last_at = Some(self.clock.now());
        }
        self.crons.save_entry(group, name, &mut self.batch);
    }

    /// Fires an entry whose job has been folded. It counts only if the entry is still the same.
    pub(in crate::engine) fn fire_folded(
        &mut self,
        Firing { group, name, template, is_due }: &Firing,
        jobs: Vec<NewJob>,
        plan: Plan,
        found: &Found,
    ) -> Result<Vec<Enqueued>, Reject> {
        let of_group = self.crons.get(group).ok_or_else(|| no_group(group))?;
        let entry = of_group.entry(name).ok_or_else(|| no_entry(group, name))?;
        if !Arc::ptr_eq(&entry.template, template) || *is_due && !entry.is_out {
            return Err(Reject::Conflict(format!("cron entry `{name}` was changed in the meantime")));
        }
        let rests = *is_due && (of_group.rest.paused || entry.rest.paused);
        let enqueued = if rests { Ok(Vec::new()) } else { self.enqueue(jobs, plan, found) };
        if *is_due && !matches!(enqueued, Err(Reject::Changed | Reject::Draining)) {
            self.crons.pass(group, name, self.clock.now());
            self.crons.save_entry(group, name, &mut self.batch);
        }
        if enqueued.as_ref().is_ok_and(|enqueued| !enqueued.is_empty()) {
            self.note_fired(group, name);
        }
        enqueued
    }

    /// Whether [`Engine::take_firing`] has an entry to return.
    pub fn has_firing(&self) -> bool {
        !self.crons.firings.is_empty()
    }

    /// Returns an entry whose job has to be folded before it is enqueued.
    pub fn take_firing(&mut self) -> Option<Firing> {
        self.crons.firings.pop_front()
    }

    /// Returns the tags that have to be looked up before [`Engine::fire`].
    pub fn fires(&self) -> Vec<Tag> {
        if self.draining {
            return Vec::new();
        }
        let due = self.crons.due(self.clock.now(), SLICE).into_iter();
        let jobs = due.filter_map(|(group, name)| self.crons.job(&group, &name));
        unique_tags(jobs).filter(|tag| !self.tags.is_known(tag)).collect()
    }

    /// Enqueues the jobs of the entries whose time has come. If several times were missed, only one counts.
    pub fn fire(&mut self) {
        if self.draining {
            return;
        }
        for (group, name) in self.crons.due(self.clock.now(), SLICE) {
            if let Some(firing) = self.crons.hand_out(&group, &name) {
                self.crons.firings.push_back(firing);
                continue;
            }
            self.crons.pass(&group, &name, self.clock.now());
            self.fire_one(&group, &name);
            self.crons.save_entry(&group, &name, &mut self.batch);
        }
    }

    fn fire_one(&mut self, group: &CronName, name: &CronName) {
        let now = self.clock.now();
        let Some(of_group) = self.crons.get_mut(group) else { return };
        let rests = of_group.rest.paused;
        let Some(entry) = of_group.entry_mut(name).filter(|entry| !rests && !entry.rest.paused) else {
            return;
        };
        entry.state.last_at = Some(now);
        let job = entry.template.job.clone();
        let unique = job.flow.as_ref().and_then(|flow| flow.unique.as_ref());
        if unique.is_some_and(|unique| self.keeper(unique).is_some()) {
            return;
        }
        self.create(job);
    }
}
