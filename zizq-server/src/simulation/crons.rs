//! Recurring jobs as the model sees them: every few seconds, in UTC.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use protocol::cron::{EntryView, GroupView, Template};
use protocol::job::Status;
use protocol::name::CronName;
use serde_json::json;

use super::act::Act;
use super::act::CronAct;
use super::ledger::Ledger;
use super::model::Model;
use super::model::enqueued;
use super::profile::{chance, one};
use super::world::World;
use crate::engine::command::crons::Firing;
use crate::engine::command::crons::NewEntry;
use crate::engine::command::crons::Ran;
use crate::engine::command::{Edited, Reject, Reply};
use crate::job::Job;
use crate::run::turn::Answer;
use crate::store::Snapshot;

pub(super) type Crons = BTreeMap<CronName, Group>;

#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    paused: bool,
    entries: BTreeMap<CronName, Entry>,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    every: u64,
    paused: bool,
    template: Arc<Template>,
    pub next: u64,
    /// Whether its job is out to be folded.
    out: bool,
    last: Option<u64>,
}

/// The least number of entries that fire in one turn, if that many are due.
const SLICE: usize = 4;

fn every(new: &NewEntry) -> Result<u64> {
    let step = new.expression.strip_prefix("*/").and_then(|rest| rest.split(' ').next());
    step.and_then(|n| n.parse().ok()).context("an expression like */5 * * * * *")
}

fn next(every: u64, now: u64) -> u64 {
    let ms = every * 1_000;
    (now / ms + 1) * ms
}

impl Entry {
    fn is_seen_as(&self, view: &EntryView) -> bool {
        view.paused == self.paused
            && view.job == self.template.shown
            && view.next_enqueue_at == Some(self.next)
    }

    fn folds(&self) -> bool {
        self.template.job.flow.as_ref().is_some_and(|flow| flow.batch.is_some())
    }
}

impl Group {
    fn is_seen_as(&self, view: &GroupView) -> Result<()> {
        ensure!(view.paused == self.paused, "{view:?} should be {self:?}");
        let seen = view.entries.iter().map(|e| (&e.name, e.paused, e.next_enqueue_at, e.last_enqueue_at));
        let mut seen: Vec<_> = seen.collect();
        seen.sort();
        let expected = self.entries.iter().map(|(name, e)| (name, e.paused, Some(e.next), e.last));
        let expected: Vec<_> = expected.collect();
        ensure!(seen == expected, "entries should be {expected:?}, not {seen:?}");
        Ok(())
    }
}

/// Whether the answer to an edit of an entry says what it was before.
fn is_edit_of(answer: &Answer, before: Option<&Entry>) -> bool {
    let Ok(Reply::PutEntry(edited) | Reply::PauseEntry(edited)) = answer else { return false };
    match (before, &edited.before) {
        (Some(entry), Some(view)) => entry.is_seen_as(view),
        (entry, view) => entry.is_none() && view.is_none(),
    }
}

impl Model {
    fn set_entry(&mut self, group: &CronName, new: &NewEntry) -> Result<()> {
        let (every, now) = (every(new)?, self.now);
        let entries = &mut self.crons.entry(group.clone()).or_default().entries;
        let before = entries.get(&new.name);
        let (at, last) = match before {
            Some(entry) if entry.every == every => (entry.next, entry.last),
            Some(entry) => (next(every, now), entry.last),
            None => (next(every, now), None),
        };
        let paused = new.paused.unwrap_or(before.is_some_and(|entry| entry.paused));
        let entry = Entry { every, paused, template: new.template.clone(), next: at, out: false, last };
        entries.insert(new.name.clone(), entry);
        Ok(())
    }

    pub(super) fn cron(&mut self, command: &CronAct, answer: &Answer) -> Result<()> {
        let missing = matches!(answer, Err(Reject::Missing(_)));
        match command {
            CronAct::Put { group, paused, entries } => {
                let Ok(Reply::PutCron(edited)) = answer else { bail!("answered {answer:?}") };
                match (&edited.before, self.crons.get(group)) {
                    (Some(view), Some(group)) => group.is_seen_as(view).context("before")?,
                    (before, group) => ensure!(before.is_none() && group.is_none(), "not {before:?}"),
                }
                let found = self.crons.entry(group.clone()).or_default();
                found.paused = paused.unwrap_or(found.paused);
                found.entries.retain(|name, _| entries.iter().any(|entry| entry.name == *name));
                entries.iter().try_for_each(|entry| self.set_entry(group, entry))?;
                return self.same_group(group, answer);
            }
            CronAct::PutEntry(group, entry) => {
                let before = self.crons.get(group).and_then(|found| found.entries.get(&entry.name));
                ensure!(is_edit_of(answer, before), "{before:?} is not in {answer:?}");
                self.set_entry(group, entry)?;
            }
            CronAct::PauseEntry(group, name, paused) => {
                match self.crons.get_mut(group).and_then(|found| found.entries.get_mut(name)) {
                    Some(entry) => {
                        ensure!(is_edit_of(answer, Some(entry)), "{entry:?} is not in {answer:?}");
                        entry.paused = *paused;
                    }
                    None => ensure!(missing, "{group} {name} does not exist, but the answer is {answer:?}"),
                }
            }
            CronAct::DeleteEntry(group, name) => {
                let gone = self.crons.get_mut(group).and_then(|found| found.entries.remove(name));
                match (&gone, answer) {
                    (Some(entry), Ok(Reply::DeleteEntry(view))) => ensure!(entry.is_seen_as(view)),
                    _ => ensure!(gone.is_none() && missing, "answered {answer:?}"),
                }
            }
            CronAct::Delete(group) => match (self.crons.remove(group), answer) {
                (Some(group), Ok(Reply::DeleteCron(view))) => group.is_seen_as(view)?,
                (gone, _) => ensure!(gone.is_none() && missing, "answered {answer:?}"),
            },
            CronAct::Get(group) if self.crons.contains_key(group) => {
                return self.same_group(group, answer);
            }
            CronAct::Get(_) => ensure!(missing, "answered {answer:?}"),
        }
        Ok(())
    }

    fn same_group(&self, name: &CronName, answer: &Answer) -> Result<()> {
        let Ok(Reply::GetCron(view) | Reply::PutCron(Edited { now: view, .. })) = answer else {
            bail!("answered {answer:?}")
        };
        self.crons.get(name).context("it is there")?.is_seen_as(view)
    }

    pub(super) fn run_entry(&mut self, group: &CronName, name: &CronName, answer: &Answer) -> Result<()> {
        let now = self.now;
        let Some(entry) = self.crons.get_mut(group).and_then(|found| found.entries.get_mut(name)) else {
            ensure!(matches!(answer, Err(Reject::Missing(_))), "answered {answer:?}");
            return Ok(());
        };
        let job = entry.template.job.clone();
        if entry.folds() {
            let Ok(Reply::RunEntry(Ran::Folds(firing))) = answer else { bail!("answered {answer:?}") };
            ensure!(!firing.is_due && firing.template.shown == entry.template.shown, "not {firing:?}");
            entry.template = firing.template.clone();
            return Ok(());
        }
        if !self.draining {
            entry.last = Some(now);
        }
        self.enqueue(&[job], answer)
    }

    /// Returns when the next entry fires.
    pub(super) fn next_cron(&self) -> Option<u64> {
        let entries = self.crons.values().flat_map(|group| group.entries.values());
        entries.filter(|entry| !entry.out).map(|entry| entry.next).min().filter(|_| !self.draining)
    }

    /// Fires the entries whose time has come, each once however much time has passed. The ids of their jobs are read
    /// off the store.
    pub(super) fn fire(&mut self, snapshot: &impl Snapshot) -> Result<()> {
        let now = self.now;
        if self.next_cron().is_none_or(|at| at > now) {
            return Ok(());
        }
        let ledger = Ledger::read(snapshot)?;
        let new = ledger.jobs.values().filter(|job| !self.jobs.contains_key(&job.id));
        let mut new: Vec<&Job> = new.filter(|job| is_of_cron(job)).collect();
        let all = self.crons.iter().flat_map(|(name, group)| {
            let entries = group.entries.iter().filter(|(_, e)| !e.out);
            entries.map(move |(entry, e)| (e.next, name.clone(), entry.clone()))
        });
        let mut due: Vec<_> = all.filter(|(at, ..)| *at <= now).collect();
        due.sort();
        due.truncate(SLICE);
        new.reverse();
        for (_, group, name) in due {
            let found = self.crons.get_mut(&group).context("it is there")?;
            let rests = found.paused;
            let entry = found.entries.get_mut(&name).context("it is there")?;
            if entry.folds() && !rests && !entry.paused {
                entry.out = true;
                self.fired.push((group, name));
                continue;
            }
            entry.next = next(entry.every, now);
            if rests || entry.paused {
                continue;
            }
            entry.last = Some(now);
            let asked = entry.template.job.clone();
            if !self.keepers(&asked).is_empty() {
                continue;
            }
            let mut job = new.pop().with_context(|| format!("{group} {name} has not come"))?.clone();
            let as_asked = job.payload == asked.payload && job.ready_at == now && job.status == Status::Ready;
            ensure!(as_asked, "{group} {name} has made {job:?}");
            job.draw = crate::job::draw::DrawId::NONE;
            self.admit(job, asked.queue)?;
        }
        ensure!(new.is_empty(), "no act asked for {new:?}");
        Ok(())
    }

    /// Takes in which entries the engine has sent out to be folded.
    pub(super) fn check_fired(&mut self, firings: &[Firing]) -> Result<()> {
        let fired = std::mem::take(&mut self.fired);
        let seen: Vec<_> = firings.iter().map(|f| (f.group.clone(), f.name.clone())).collect();
        ensure!(seen == fired, "{fired:?} should be folded, not {seen:?}");
        for firing in firings {
            let entry =
                self.crons.get_mut(&firing.group).and_then(|found| found.entries.get_mut(&firing.name));
            let entry = entry.context("it is there")?;
            ensure!(firing.is_due && firing.template.shown == entry.template.shown, "not {firing:?}");
            // After a restart it is a different template with the same content.
            entry.template = firing.template.clone();
        }
        Ok(())
    }

    /// Whether an entry that was folded counts. If not, it no longer exists, has been replaced, or is paused.
    pub(super) fn accepts(&mut self, firing: &Firing, answer: &Answer) -> Result<bool> {
        let Firing { group, name, template, is_due } = firing;
        let now = self.now;
        let found = self.crons.get_mut(group);
        let rests = found.as_ref().is_some_and(|found| found.paused);
        let Some(entry) = found.and_then(|found| found.entries.get_mut(name)) else {
            ensure!(matches!(answer, Err(Reject::Missing(_))), "it is gone, but: {answer:?}");
            return Ok(false);
        };
        if !Arc::ptr_eq(&entry.template, template) || *is_due && !entry.out {
            ensure!(matches!(answer, Err(Reject::Conflict(_))), "it is another one, but: {answer:?}");
            return Ok(false);
        }
        if *is_due && (rests || entry.paused) {
            ensure!(enqueued(answer).is_some_and(<[_]>::is_empty), "it rests: {answer:?}");
            (entry.out, entry.next) = (false, next(entry.every, now));
            return Ok(false);
        }
        Ok(true)
    }

    /// Notes that an entry that was folded has fired.
    pub(super) fn has_fired(&mut self, Firing { group, name, is_due, .. }: &Firing, is_new: bool) {
        let now = self.now;
        if let Some(entry) = self.crons.get_mut(group).and_then(|found| found.entries.get_mut(name)) {
            if *is_due {
                (entry.out, entry.next) = (false, next(entry.every, now));
            }
            entry.last = if is_new { Some(now) } else { entry.last };
        }
    }

    /// Follows a clock that was set back.
    pub(super) fn follow_crons_back(&mut self, before: u64) {
        let now = self.now;
        for entry in self.crons.values_mut().flat_map(|group| group.entries.values_mut()) {
            let mut at = if entry.out { now } else { next(entry.every, now) };
            let is_short = before - now <= 60_000 && !entry.out;
            // After a short step back, a time that has just come does not come again, if it is the only one.
            if let Some(last) = entry.last.filter(|last| is_short && *last >= at) {
                let second = next(entry.every, at);
                at = if second > last { second } else { at };
            }
            entry.next = entry.next.min(at);
        }
    }

    /// Recalls the entries that were out: they fire again in the next process.
    pub(super) fn recall_crons(&mut self) {
        self.crons
            .values_mut()
            .flat_map(|group| group.entries.values_mut())
            .for_each(|entry| entry.out = false);
    }

    /// Reads off the store, after a crash within a turn, which entries have fired, and what they are.
    pub(super) fn adopt_crons(&mut self, acts: &[Act], ledger: &Ledger) -> Result<()> {
        let changes = acts.iter().any(|act| matches!(act, Act::Cron(_)));
        let mut crons = Crons::new();
        for (name, record) in &ledger.crons {
            let mut group = Group { paused: record.paused, entries: BTreeMap::new() };
            for entry in &record.entries {
                let template = Template::parse(&serde_json::from_str(&entry.job)?).context("a template")?;
                let state = ledger.cron_states.get(&(name.clone(), entry.name.clone()));
                let state = state.context("an entry without a time")?;
                let every = entry.expression.strip_prefix("*/").and_then(|rest| rest.split(' ').next());
                let entry_now = Entry {
                    every: every.context("a step")?.parse()?,
                    paused: entry.paused,
                    template: Arc::new(template),
                    next: state.next_at.context("it comes again")?,
                    out: false,
                    last: state.last_at,
                };
                group.entries.insert(entry.name.clone(), entry_now);
            }
            crons.insert(name.clone(), group);
        }
        let shape = |crons: &Crons| {
            let entries = |group: &Group| group.entries.keys().cloned().collect::<Vec<_>>();
            crons.iter().map(|(name, group)| (name.clone(), entries(group))).collect::<Vec<_>>()
        };
        ensure!(changes || shape(&crons) == shape(&self.crons), "the cron groups are others: {crons:?}");
        self.crons = crons;
        Ok(())
    }
}

/// Whether a job was made by an entry.
pub(super) fn is_of_cron(job: &Job) -> bool {
    job.payload.bytes().starts_with(b"\"cron ")
}

impl World {
    pub(super) fn cron_act(&mut self, rng: &mut Rng) -> Act {
        let name = |rng: &mut Rng, names: &[&str]| CronName::new(one(rng, names)).unwrap();
        let group = name(rng, &["g", "h"]);
        let entry = name(rng, &["a", "b", "c"]);
        let command = match rng.u32(..10) {
            0 => {
                let entries = ["a", "b", "c"].into_iter().filter(|_| rng.bool()).collect::<Vec<_>>();
                let entries = entries.into_iter().map(|name| self.entry(CronName::new(name).unwrap(), rng));
                let entries = entries.collect();
                let paused = one(rng, &[None, None, Some(true), Some(false)]);
                CronAct::Put { group, paused, entries }
            }
            1..4 => CronAct::PutEntry(group, self.entry(entry, rng).into()),
            4 => CronAct::PauseEntry(group, entry, rng.bool()),
            5 => CronAct::DeleteEntry(group, entry),
            6 if chance(rng, 40) => CronAct::Delete(group),
            6..9 => return Act::RunEntry(group, entry),
            _ => CronAct::Get(group),
        };
        Act::Cron(command)
    }

    fn entry(&mut self, name: CronName, rng: &mut Rng) -> NewEntry {
        let expression = format!("*/{} * * * * *", one(rng, &[1, 2, 10, 30]));
        // No two entries make the same payload, and no other job has one like it.
        let payload = format!("cron {name} {}", {
            self.serial += 1;
            self.serial
        });
        let mut job = json!({"queue": self.profile.queues[0].as_str(), "type": "t", "payload": payload});
        if chance(rng, 30) {
            job["unique_key"] = json!("key 0");
        } else if self.profile.batches > 0 && chance(rng, 70) {
            job["batch"] = json!(self.batch(rng));
        }
        NewEntry {
            recurrence: expression.parse().unwrap(),
            template: Arc::new(Template::parse(&job).unwrap()),
            paused: one(rng, &[None, Some(false), Some(true)]),
            timezone: None,
            name,
            expression,
        }
    }
}
