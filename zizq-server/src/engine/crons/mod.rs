//! Recurring jobs: the groups and entries, and when each entry fires next.

mod commands;
mod firing;
pub(crate) mod recurrence;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::tz::TimeZone;
use protocol::cron::{EntryView, GroupView, Template};
use protocol::enqueue::NewJob;
use protocol::name::CronName;

use crate::engine::command::crons::{Firing, NewEntry};
use crate::engine::command::report::EntryLevel;
use crate::store::batch::Batch;
use crate::store::record::{CronRecord, EntryRecord, EntryState};
use recurrence::Recurrence;

/// A clock that is set back by this much or less was adjusted rather than wrong, in milliseconds.
const SHORT_STEP_MS: u64 = 60_000;
/// The most missed times that are counted at once: after a month, an entry for each second has missed millions.
const MAX_MISSED: u64 = 1_000;

#[derive(Debug)]
pub(in crate::engine) struct Entry {
    pub name: CronName,
    pub expression: String,
    pub recurrence: Recurrence,
    pub timezone: Option<String>,
    pub rest: Rest,
    pub template: Arc<Template>,
    pub state: EntryState,
    /// Whether its time has come and its job is out to be folded.
    pub is_out: bool,
    /// How many of its times went by without a job, since the engine started.
    missed: u64,
}

/// Whether a group or an entry is paused, and since when.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::engine) struct Rest {
    pub paused: bool,
    pub paused_at: Option<u64>,
    pub resumed_at: Option<u64>,
}

impl Rest {
    /// Pauses or resumes. Has no effect if that is the state already.
    pub(in crate::engine) const fn set(&mut self, paused: bool, now: u64) {
        if paused == self.paused {
            return;
        }
        self.paused = paused;
        if paused {
            self.paused_at = Some(now);
        } else {
            self.resumed_at = Some(now);
        }
    }
}

#[derive(Debug, Default)]
pub(in crate::engine) struct Group {
    pub timezone: Option<String>,
    pub rest: Rest,
    /// In the order they were given.
    pub entries: Vec<Entry>,
}

impl Group {
    pub(in crate::engine) fn entry(&self, name: &CronName) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == *name)
    }

    pub(in crate::engine) fn entry_mut(&mut self, name: &CronName) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.name == *name)
    }

    /// Returns the time zone of an entry; none if that is the server's.
    fn zone_of(&self, entry: &Entry) -> Option<TimeZone> {
        let name = entry.timezone.as_ref().or(self.timezone.as_ref())?;
        recurrence::zone(name).ok()
    }
}

/// All groups, and when their entries fire next.
///
/// - An entry that fires again is in `due` under its next time, unless it is out to be folded.
#[derive(Debug)]
pub(in crate::engine) struct Crons {
    groups: BTreeMap<CronName, Group>,
    due: BTreeSet<(u64, CronName, CronName)>,
    /// Entries whose jobs have to be folded, on their way out.
    pub firings: VecDeque<Firing>,
    /// The zone of entries if neither they nor their groups name one.
    pub zone: TimeZone,
}

impl Default for Crons {
    fn default() -> Self {
        Self::in_zone(TimeZone::UTC)
    }
}

impl Crons {
    /// Loads what is stored.
    pub(in crate::engine) fn load(
        &mut self,
        groups: Vec<(CronName, CronRecord)>,
        states: Vec<((CronName, CronName), EntryState)>,
        now: u64,
        batch: &mut Batch,
    ) {
        let mut states: BTreeMap<_, _> = states.into_iter().collect();
        for (name, record) in groups {
            let CronRecord { timezone, paused, paused_at, resumed_at, entries } = record;
            let rest = Rest { paused, paused_at, resumed_at };
            let entries = entries.into_iter().filter_map(entry_of).collect();
            let mut group = Group { timezone, rest, entries };
            for entry in &mut group.entries {
                entry.state = states.remove(&(name.clone(), entry.name.clone())).unwrap_or_default();
            }
            let lost: Vec<CronName> =
                group.entries.iter().filter(|e| e.state.next_at.is_none()).map(|e| e.name.clone()).collect();
            self.insert(name.clone(), group);
            for entry in lost {
                self.reschedule(&name, &entry, now);
                self.save_entry(&name, &entry, batch);
            }
        }
        // Their groups were damaged and lost.
        states.keys().for_each(|(group, entry)| batch.remove_cron_entry(group, entry));
    }

    fn insert(&mut self, name: CronName, group: Group) {
        for entry in &group.entries {
            self.due.extend(entry.state.next_at.map(|at| (at, name.clone(), entry.name.clone())));
        }
        self.groups.insert(name, group);
    }

    /// Makes an empty set of groups.
    pub(in crate::engine) const fn in_zone(zone: TimeZone) -> Self {
        Self { groups: BTreeMap::new(), due: BTreeSet::new(), firings: VecDeque::new(), zone }
    }

    /// Returns the jobs of all entries.
    pub(in crate::engine) fn jobs(&self) -> impl Iterator<Item = &NewJob> {
        self.groups.values().flat_map(|group| &group.entries).map(|entry| &entry.template.job)
    }

    pub(in crate::engine) fn names(&self) -> Vec<CronName> {
        self.groups.keys().cloned().collect()
    }

    pub(in crate::engine) fn get(&self, name: &CronName) -> Option<&Group> {
        self.groups.get(name)
    }

    pub(in crate::engine) fn get_mut(&mut self, name: &CronName) -> Option<&mut Group> {
        self.groups.get_mut(name)
    }

    /// Returns the group with this name, and creates it if needed.
    pub(in crate::engine) fn make(&mut self, name: &CronName) -> &mut Group {
        self.groups.entry(name.clone()).or_default()
    }

    /// Returns the job that an entry enqueues.
    pub(in crate::engine) fn job(&self, group: &CronName, name: &CronName) -> Option<&NewJob> {
        Some(&self.groups.get(group)?.entry(name)?.template.job)
    }

    /// Returns when the next entry fires.
    pub(in crate::engine) fn next(&self) -> Option<u64> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// Returns the entries whose time has come, at most `most` of them.
    pub(in crate::engine) fn due(&self, now: u64, most: usize) -> Vec<(CronName, CronName)> {
        let due = self.due.iter().take_while(|(at, ..)| *at <= now).take(most);
        due.map(|(_, group, entry)| (group.clone(), entry.clone())).collect()
    }

    /// Returns the entry as a firing if its job has to be folded first. It is then no longer due until it is
    /// rescheduled or [recalled](Self::recall).
    pub(in crate::engine) fn hand_out(&mut self, group: &CronName, name: &CronName) -> Option<Firing> {
        let found = self.groups.get_mut(group)?;
        let rests = found.rest.paused;
        let entry = found.entry_mut(name).filter(|entry| !rests && !entry.rest.paused && entry.folds())?;
        entry.is_out = true;
        if let Some(at) = entry.state.next_at {
            self.due.remove(&(at, group.clone(), name.clone()));
        }
        let template = entry.template.clone();
        Some(Firing { group: group.clone(), name: name.clone(), template, is_due: true })
    }

    /// Makes an entry due again that has changed since it was handed out.
    pub(in crate::engine) fn recall(&mut self, group: &CronName, name: &CronName) {
        let entry = self.groups.get_mut(group).and_then(|found| found.entry_mut(name));
        if let Some(entry) = entry.filter(|entry| entry.is_out) {
            entry.is_out = false;
            self.due.extend(entry.state.next_at.map(|at| (at, group.clone(), name.clone())));
        }
    }

    /// Calculates when an entry whose time has come fires next after `now`, and counts the times between: several that
    /// were missed are one job.
    pub(in crate::engine) fn pass(&mut self, group: &CronName, name: &CronName, now: u64) {
        let missed = self.groups.get(group).and_then(|found| {
            let entry = found.entry(name).filter(|entry| !found.rest.paused && !entry.rest.paused)?;
            // No expression names two times within a second.
            let first = entry.state.next_at.filter(|at| at + 1_000 <= now)?;
            let zone = found.zone_of(entry).unwrap_or_else(|| self.zone.clone());
            let times = std::iter::successors(Some(first), |at| entry.recurrence.next(&zone, *at));
            Some((0..MAX_MISSED).zip(times.skip(1).take_while(|at| *at <= now)).count() as u64)
        });
        if let (Some(missed), Some(entry)) =
            (missed, self.groups.get_mut(group).and_then(|found| found.entry_mut(name)))
        {
            entry.missed += missed;
        }
        self.reschedule(group, name, now);
    }

    /// How the first entries are, at most so many.
    pub(in crate::engine) fn levels(&self, most: usize) -> Vec<EntryLevel> {
        let entries =
            self.groups.iter().flat_map(|(group, found)| found.entries.iter().map(move |e| (group, e)));
        let level = |(group, entry): (&CronName, &Entry)| EntryLevel {
            group: group.clone(),
            name: entry.name.clone(),
            last_at: entry.state.last_at,
            next_at: entry.state.next_at,
            missed: entry.missed,
        };
        entries.take(most).map(level).collect()
    }

    /// Calculates when an entry fires next after `now`.
    pub(in crate::engine) fn reschedule(&mut self, group: &CronName, name: &CronName, now: u64) {
        let zone = self.groups.get(group).and_then(|found| found.zone_of(found.entry(name)?));
        let zone = zone.unwrap_or_else(|| self.zone.clone());
        let Some(entry) = self.groups.get_mut(group).and_then(|found| found.entry_mut(name)) else { return };
        let next_at = entry.recurrence.next(&zone, now);
        entry.is_out = false;
        if let Some(at) = std::mem::replace(&mut entry.state.next_at, next_at) {
            self.due.remove(&(at, group.clone(), name.clone()));
        }
        self.due.extend(next_at.map(|at| (at, group.clone(), name.clone())));
    }

    /// Reacts to a clock that was set back from `before` to `now`: entries fire at their next time from now on, not
    /// when the clock reaches its former time again. After a short step back, a time that has just come does not come
    /// again.
    pub(in crate::engine) fn follow_back(&mut self, before: u64, now: u64, batch: &mut Batch) {
        let names = self
            .groups
            .iter()
            .flat_map(|(group, found)| found.entries.iter().map(|entry| (group.clone(), entry.name.clone())));
        for (group, name) in names.collect::<Vec<_>>() {
            let Some(next_at) = self.next_after_back(&group, &name, before, now) else { continue };
            let Some(entry) = self.groups.get_mut(&group).and_then(|found| found.entry_mut(&name)) else {
                continue;
            };
            let Some(at) = entry.state.next_at.filter(|at| *at > next_at) else { continue };
            entry.state.next_at = Some(next_at);
            if !entry.is_out {
                self.due.remove(&(at, group.clone(), name.clone()));
                self.due.insert((next_at, group.clone(), name.clone()));
            }
            self.save_entry(&group, &name, batch);
        }
    }

    fn next_after_back(&self, group: &CronName, name: &CronName, before: u64, now: u64) -> Option<u64> {
        let found = self.groups.get(group)?;
        let entry = found.entry(name)?;
        if entry.is_out {
            return Some(now);
        }
        let zone = found.zone_of(entry).unwrap_or_else(|| self.zone.clone());
        let next_at = entry.recurrence.next(&zone, now)?;
        let has_come = before - now <= SHORT_STEP_MS && entry.state.last_at.is_some_and(|at| at >= next_at);
        let second = has_come.then(|| entry.recurrence.next(&zone, next_at)).flatten();
        // If more than one time would come again, it is better to go on at once.
        Some(second.filter(|at| Some(*at) > entry.state.last_at).unwrap_or(next_at))
    }

    /// Removes an entry.
    pub(in crate::engine) fn remove_entry(&mut self, group: &CronName, name: &CronName) -> Option<Entry> {
        let entries = &mut self.groups.get_mut(group)?.entries;
        let entry = entries.remove(entries.iter().position(|entry| entry.name == *name)?);
        if let Some(at) = entry.state.next_at {
            self.due.remove(&(at, group.clone(), name.clone()));
        }
        Some(entry)
    }

    /// Forgets a group without entries.
    pub(in crate::engine) fn remove_group(&mut self, name: &CronName) {
        self.groups.remove(name);
    }

    /// Writes the record of a group.
    pub(in crate::engine) fn save_group(&self, name: &CronName, batch: &mut Batch) {
        let Some(Group { timezone, rest, entries }) = self.groups.get(name) else {
            return batch.remove_cron(name);
        };
        let Rest { paused, paused_at, resumed_at } = *rest;
        let entries = entries.iter().map(|entry| EntryRecord {
            name: entry.name.clone(),
            expression: entry.expression.clone(),
            timezone: entry.timezone.clone(),
            paused: entry.rest.paused,
            paused_at: entry.rest.paused_at,
            resumed_at: entry.rest.resumed_at,
            job: entry.template.shown.to_string(),
        });
        let (timezone, entries) = (timezone.clone(), entries.collect());
        batch.put_cron(name, &CronRecord { timezone, paused, paused_at, resumed_at, entries });
    }

    /// Writes when an entry fired last and fires next.
    pub(in crate::engine) fn save_entry(&self, group: &CronName, name: &CronName, batch: &mut Batch) {
        match self.groups.get(group).and_then(|found| found.entry(name)) {
            Some(entry) => batch.put_cron_entry(group, name, &entry.state),
            None => batch.remove_cron_entry(group, name),
        }
    }

    pub(in crate::engine) fn view(&self, name: &CronName) -> Option<GroupView> {
        let Group { timezone, rest, entries } = self.groups.get(name)?;
        Some(GroupView {
            name: name.clone(),
            paused: rest.paused,
            timezone: timezone.clone(),
            paused_at: rest.paused_at,
            resumed_at: rest.resumed_at,
            entries: entries.iter().map(Entry::view).collect(),
        })
    }
}

impl Entry {
    pub(in crate::engine) fn new(new: NewEntry, now: u64) -> Self {
        let NewEntry { name, expression, recurrence, timezone, paused, template } = new;
        let mut rest = Rest::default();
        rest.set(paused.unwrap_or(false), now);
        let state = EntryState::default();
        Self { name, expression, recurrence, timezone, rest, template, state, is_out: false, missed: 0 }
    }

    /// Whether the job of the entry belongs to a batch.
    pub(in crate::engine) fn folds(&self) -> bool {
        self.template.job.flow.as_ref().is_some_and(|flow| flow.batch.is_some())
    }

    pub(in crate::engine) fn view(&self) -> EntryView {
        EntryView {
            name: self.name.clone(),
            expression: self.expression.clone(),
            timezone: self.timezone.clone(),
            paused: self.rest.paused,
            paused_at: self.rest.paused_at,
            resumed_at: self.rest.resumed_at,
            job: self.template.shown.clone(),
            next_enqueue_at: self.state.next_at,
            last_enqueue_at: self.state.last_at,
            next: Vec::new(),
        }
    }
}

fn entry_of(record: EntryRecord) -> Option<Entry> {
    let EntryRecord { name, expression, timezone, paused, paused_at, resumed_at, job } = record;
    let shown = serde_json::from_str(&job).ok();
    let template = shown.and_then(|shown| Template::parse(&shown).ok());
    // An expression that was accepted once is read by every later version.
    let (Some(template), Ok(recurrence)) = (template, Recurrence::stored(&expression)) else {
        tracing::error!(%name, expression, "skipping a stored cron entry that cannot be read");
        return None;
    };
    let rest = Rest { paused, paused_at, resumed_at };
    let state = EntryState::default();
    let (template, is_out, missed) = (Arc::new(template), false, 0);
    Some(Entry { name, expression, recurrence, timezone, rest, template, state, is_out, missed })
}
