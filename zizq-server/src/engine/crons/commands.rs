//! Requests about recurring jobs.

use protocol::cron::{EntryView, GroupView};
use protocol::enqueue::NewJob;
use protocol::name::CronName;

use super::Entry;
use crate::engine::Engine;
use crate::engine::command::crons::{AddEntry, NewEntry, PatchCron, PauseEntry, PutCron};
use crate::engine::command::{Edited, Reject};

pub(in crate::engine) fn no_group(name: &CronName) -> Reject {
    Reject::Missing(format!("no cron group has the name `{name}`"))
}

pub(in crate::engine) fn no_entry(group: &CronName, name: &CronName) -> Reject {
    Reject::Missing(format!("cron group `{group}` has no entry `{name}`"))
}

impl Engine {
    /// Returns the group with this name.
    pub(in crate::engine) fn cron(&self, name: &CronName) -> Result<GroupView, Reject> {
        self.crons.view(name).ok_or_else(|| no_group(name))
    }

    /// Returns the entry with this name.
    pub(in crate::engine) fn entry(&self, group: &CronName, name: &CronName) -> Result<EntryView, Reject> {
        let found = self.crons.get(group).ok_or_else(|| no_group(group))?;
        Ok(found.entry(name).ok_or_else(|| no_entry(group, name))?.view())
    }

    /// Checks that the budgets exist that entries draw on, as for jobs.
    fn prepare_entries(&mut self, entries: &[NewEntry]) -> Result<(), Reject> {
        let jobs: Vec<NewJob> = entries.iter().map(|entry| entry.template.job.clone()).collect();
        self.prepare_budgets(jobs.iter().enumerate()).map_err(|reject| match reject {
            Reject::Job { index, error } => {
                let name = entries.get(index).map(|entry| entry.name.to_string()).unwrap_or_default();
                Reject::NotAllowed(format!("entry `{name}`: job.{error}"))
            }
            reject => reject,
        })
    }

    pub(in crate::engine) fn put_cron(&mut self, put: PutCron) -> Result<Edited<GroupView>, Reject> {
        let PutCron { group, paused, timezone, entries } = put;
        self.prepare_entries(&entries)?;
        let group = &group;
        let before = self.crons.view(group);
        let now = self.clock.now();
        let found = self.crons.make(group);
        found.rest.set(paused.unwrap_or(found.rest.paused), now);
        let moved = found.timezone != timezone;
        found.timezone = timezone;
        let order: Vec<CronName> = entries.iter().map(|entry| entry.name.clone()).collect();
        let gone = found.entries.iter().map(|entry| entry.name.clone()).filter(|name| !order.contains(name));
        for name in gone.collect::<Vec<_>>() {
            self.drop_entry(group, &name);
        }
        for entry in entries {
            self.set_entry(group, entry, moved);
        }
        let place = |entry: &Entry| order.iter().position(|name| *name == entry.name);
        self.crons.make(group).entries.sort_by_key(place);
        self.crons.save_group(group, &mut self.batch);
        Ok(Edited::of(before, self.cron(group)?))
    }

    pub(in crate::engine) fn add_entry(
        &mut self,
        AddEntry(group, new): AddEntry,
    ) -> Result<EntryView, Reject> {
        if self.crons.get(&group).is_some_and(|found| found.entry(&new.name).is_some()) {
            let name = &new.name;
            return Err(Reject::Exists(format!("cron group `{group}` has an entry `{name}` already")));
        }
        Ok(self.put_entry(&group, *new)?.now)
    }

    pub(in crate::engine) fn put_entry(
        &mut self,
        group: &CronName,
        new: NewEntry,
    ) -> Result<Edited<EntryView>, Reject> {
        self.prepare_entries(std::slice::from_ref(&new))?;
        let name = new.name.clone();
        let before = self.entry(group, &name).ok();
        self.crons.make(group);
        self.set_entry(group, new, false);
        self.crons.save_group(group, &mut self.batch);
        Ok(Edited::of(before, self.entry(group, &name)?))
    }

    pub(in crate::engine) fn pause_entry(&mut self, pause: &PauseEntry) -> Result<Edited<EntryView>, Reject> {
        let PauseEntry { group, name, paused } = pause;
        let before = self.entry(group, name)?;
        let now = self.clock.now();
        let found = self.crons.get_mut(group).ok_or_else(|| no_group(group))?;
        found.entry_mut(name).ok_or_else(|| no_entry(group, name))?.rest.set(*paused, now);
        self.crons.save_group(group, &mut self.batch);
        Ok(Edited::of(Some(before), self.entry(group, name)?))
    }

    pub(in crate::engine) fn delete_entry(
        &mut self,
        group: &CronName,
        name: &CronName,
    ) -> Result<EntryView, Reject> {
        let before = self.entry(group, name)?;
        self.drop_entry(group, name);
        self.crons.save_group(group, &mut self.batch);
        Ok(before)
    }

    /// Creates or replaces an entry. One with the same times as before keeps its schedule.
    fn set_entry(&mut self, group: &CronName, new: NewEntry, group_moved: bool) {
        let now = self.clock.now();
        let name = new.name.clone();
        self.budgets.expect(bindings(&new.template.job), true);
        let existing = self.crons.make(group).entry_mut(&name);
        let again = match existing {
            None => {
                let entry = Entry::new(new, now);
                self.crons.make(group).entries.push(entry);
                true
            }
            Some(entry) => {
                let moved = entry.timezone != new.timezone || group_moved && new.timezone.is_none();
                let again = moved || entry.expression != new.expression;
                entry.rest.set(new.paused.unwrap_or(entry.rest.paused), now);
                (entry.expression, entry.recurrence) = (new.expression, new.recurrence);
                entry.timezone = new.timezone;
                let before = std::mem::replace(&mut entry.template, new.template);
                self.budgets.expect(bindings(&before.job), false);
                again
            }
        };
        if again {
            self.crons.reschedule(group, &name, now);
            self.crons.save_entry(group, &name, &mut self.batch);
        } else {
            self.crons.recall(group, &name);
        }
    }

    pub(in crate::engine) fn patch_cron(&mut self, patch: PatchCron) -> Result<Edited<GroupView>, Reject> {
        let PatchCron { group, paused, timezone } = patch;
        let group = &group;
        let before = self.cron(group)?;
        let now = self.clock.now();
        let found = self.crons.get_mut(group).ok_or_else(|| no_group(group))?;
        found.rest.set(paused.unwrap_or(found.rest.paused), now);
        if let Some(timezone) = timezone.filter(|timezone| *timezone != found.timezone) {
            found.timezone = timezone;
            let with_it = found.entries.iter().filter(|entry| entry.timezone.is_none());
            for name in with_it.map(|entry| entry.name.clone()).collect::<Vec<_>>() {
                self.crons.reschedule(group, &name, now);
                self.crons.save_entry(group, &name, &mut self.batch);
            }
        }
        self.crons.save_group(group, &mut self.batch);
        Ok(Edited::of(Some(before), self.cron(group)?))
    }

    pub(in crate::engine) fn delete_cron(&mut self, group: &CronName) -> Result<GroupView, Reject> {
        let before = self.cron(group)?;
        self.drop_cron(group);
        Ok(before)
    }

    /// Deletes all groups. Returns how many there were.
    pub(in crate::engine) fn delete_crons(&mut self) -> usize {
        let names = self.crons.names();
        names.iter().for_each(|name| self.drop_cron(name));
        names.len()
    }

    fn drop_cron(&mut self, group: &CronName) {
        let entries = self.crons.get(group).map(|found| &found.entries[..]).unwrap_or_default();
        let names: Vec<CronName> = entries.iter().map(|entry| entry.name.clone()).collect();
        for name in names {
            self.drop_entry(group, &name);
        }
        self.crons.remove_group(group);
        self.crons.save_group(group, &mut self.batch);
    }

    fn drop_entry(&mut self, group: &CronName, name: &CronName) {
        let Some(entry) = self.crons.remove_entry(group, name) else { return };
        self.budgets.expect(bindings(&entry.template.job), false);
        self.crons.save_entry(group, name, &mut self.batch);
    }
}

fn bindings(job: &NewJob) -> &[protocol::budget::Binding] {
    job.flow.as_ref().map_or(&[], |flow| &flow.budgets)
}
