//! The whole store: whether it is consistent in itself, and whether it agrees with the model.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use protocol::id::JobId;
use protocol::job::Status;
use protocol::name::{BudgetKey, CronName};

use super::answers::{self, Kept};
use super::model::{Entry, MAX_ENDED, Model, Saved};
use crate::access::Tokens;
use crate::job::Job;
use crate::job::counts::Counts;
use crate::job::draw::{BudgetId, DrawId};
use crate::job::id::{QueueId, Stamp};
use crate::job::place::Place;
use crate::store::bulk::{self, BulkRecord};
use crate::store::keys::{self, Area, Parts};
use crate::store::record::{
    self, BudgetRecord, CronRecord, DrawRecord, EntryState, LeaseRecord, QueueRecord,
};
use crate::store::view::{self, LaneKey};
use crate::store::{Entry as Stored, Snapshot};

/// Everything that a store holds.
#[derive(Debug)]
pub(super) struct Ledger {
    pub jobs: BTreeMap<JobId, Job>,
    pub queues: BTreeMap<QueueId, QueueRecord>,
    pub leases: BTreeMap<Stamp, LeaseRecord>,
    pub cursors: BTreeMap<LaneKey, Stamp>,
    /// The message of each failure, by the number of the attempt.
    errors: BTreeMap<(Stamp, u32), String>,
    timers: BTreeSet<(u64, Stamp)>,
    /// The jobs that have each unique key, and when those that have ended are forgotten.
    keys: BTreeMap<String, BTreeMap<JobId, Option<u64>>>,
    /// The open job of each batch key.
    pub batches: BTreeMap<String, JobId>,
    /// The places of jobs that are not where their ids say.
    moved: BTreeMap<Stamp, (QueueId, u16)>,
    pub budgets: BTreeMap<BudgetId, BudgetRecord>,
    draws: BTreeMap<DrawId, DrawRecord>,
    pub crons: BTreeMap<CronName, CronRecord>,
    pub cron_states: BTreeMap<(CronName, CronName), EntryState>,
    pub tokens: Tokens,
    pub bulks: BTreeMap<Stamp, BulkRecord>,
    pub answers: Vec<Kept>,
    /// The order of the ready jobs that draw on budgets.
    lanes: BTreeSet<(QueueId, DrawId, u16, Stamp)>,
}

impl Ledger {
    pub(super) fn read(snapshot: &impl Snapshot) -> Result<Self> {
        let mut jobs = BTreeMap::new();
        let plain =
            [Status::Ready, Status::Scheduled, Status::Completed, Status::Dead].map(|s| (s, Area::of(s)));
        for (status, at) in plain.into_iter().chain([(Status::Ready, Area::Drawing)]) {
            for (key, value) in area(snapshot, at)? {
                let job = job(status, at, &key, &value).context("a job")?;
                let there = jobs.insert(job.id, job);
                ensure!(there.is_none(), "{there:?} is stored twice");
            }
        }
        let mut errors = BTreeMap::new();
        for (key, value) in area(snapshot, Area::Error)? {
            let mut parts = Parts(&key[1..]);
            let stamp = parts.stamp().context("an error")?;
            let attempt = (u32::from(parts.u16().context("high")?) << 16)
                + u32::from(parts.u16().context("an attempt")?);
            let error = record::decode_error(&value)?;
            errors.insert((stamp, attempt), error.error_type.unwrap_or(error.message));
        }
        let mut keys = BTreeMap::new();
        for (key, value) in area(snapshot, Area::Unique)? {
            let holders =
                record::decode_holders(&value)?.into_iter().map(|holder| (holder.id, holder.purge_at));
            keys.insert(String::from_utf8(key[1..].to_vec())?, holders.collect());
        }
        let mut batches = BTreeMap::new();
        for (key, value) in area(snapshot, Area::Batch)? {
            let [holder] = record::decode_holders(&value)?[..] else { anyhow::bail!("not one open batch") };
            batches.insert(String::from_utf8(key[1..].to_vec())?, holder.id);
        }
        let mut moved = BTreeMap::new();
        for (key, value) in area(snapshot, Area::Moved)? {
            let mut place = Parts(&value);
            let place = (place.queue().context("a queue")?, place.u16().context("a priority")?);
            moved.insert(Parts(&key[1..]).stamp().context("a stamp")?, place);
        }
        let timers = view::timers(snapshot, (0, Stamp::MIN), usize::MAX)?;
        Ok(Self {
            jobs,
            queues: view::queues(snapshot)?.into_iter().collect(),
            leases: view::leases(snapshot)?.into_iter().collect(),
            cursors: view::all_cursors(snapshot)?.into_iter().collect(),
            errors,
            timers: timers.items.into_iter().map(|(key, _)| key).collect(),
            keys,
            batches,
            moved,
            budgets: view::budgets(snapshot)?.into_iter().collect(),
            draws: view::draws(snapshot)?.into_iter().collect(),
            crons: view::crons(snapshot)?.into_iter().collect(),
            cron_states: view::cron_states(snapshot)?.into_iter().collect(),
            tokens: view::tokens(snapshot)?,
            bulks: bulk::records(snapshot)?,
            answers: answers::stored(snapshot)?,
            lanes: area(snapshot, Area::Lane)?.iter().map(|(key, _)| lane(key)).collect::<Result<_>>()?,
        })
    }

    /// Checks what must hold after every commit.
    pub(super) fn check(&self) -> Result<()> {
        let mut counts: BTreeMap<QueueId, Counts> = BTreeMap::new();
        let mut timers = BTreeSet::new();
        let mut errors = BTreeSet::new();
        for job in self.jobs.values() {
            *counts.entry(job.queue).or_default().of_mut(job.status) += 1;
            let stamp = Stamp::of(job.id);
            timers.extend(job.due().map(|due| (due, stamp)));
            errors.extend((1..=job.attempts).map(|attempt| (stamp, attempt)));
            let behind_cursor =
                self.cursors.get(&(job.queue, job.draw, job.priority)).is_some_and(|cursor| stamp < *cursor);
            let found = job.status != Status::Ready || !behind_cursor || self.leases.contains_key(&stamp);
            ensure!(found, "{:?} lies ready behind the cursor of its lane", job.id);
        }
        for (id, queue) in &self.queues {
            let counted = counts.remove(id).unwrap_or_default();
            ensure!(counted == queue.counts, "{queue:?} has {counted:?}");
        }
        ensure!(counts.is_empty(), "queues without records: {counts:?}");
        self.check_keys()?;
        self.check_batches()?;
        let moved = self.jobs.values().filter(|job| job.is_moved());
        let moved: BTreeMap<_, _> = moved.map(|job| (Stamp::of(job.id), (job.queue, job.priority))).collect();
        ensure!(moved == self.moved, "moved should be {moved:?}, not {:?}", self.moved);
        self.check_draws()?;
        ensure!(timers == self.timers, "timers should be {timers:?}, not {:?}", self.timers);
        let stored_errors: BTreeSet<_> = self.errors.keys().copied().collect();
        ensure!(errors == stored_errors, "errors should be {errors:?}, not {stored_errors:?}");
        let ready: BTreeSet<Stamp> = self.ready().map(|job| Stamp::of(job.id)).collect();
        let stray = self.leases.keys().find(|stamp| !ready.contains(stamp));
        ensure!(stray.is_none(), "a lease for {stray:?}, which is not stored as ready");
        Ok(())
    }

    fn ready(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(|job| job.status == Status::Ready)
    }

    /// Checks that the store agrees with the model.
    pub(super) fn compare(&self, model: &Model) -> Result<()> {
        model.compare_answers(self)?;
        ensure!(self.tokens == model.tokens, "stored are {:?}, not {:?}", self.tokens, model.tokens);
        for (id, entry) in &model.jobs {
            self.compare_job(*id, entry)?;
            let name = self.queues.get(&entry.job.queue).map(|queue| &queue.name);
            ensure!(name == Some(&entry.queue), "{id:?} is in {name:?}, not in {}", entry.queue);
        }
        let paused: BTreeSet<_> =
            self.queues.values().filter(|queue| queue.paused).map(|queue| queue.name.clone()).collect();
        ensure!(paused == model.paused, "paused should be {:?}, not {paused:?}", model.paused);
        let stray = self.jobs.keys().find(|id| !model.jobs.contains_key(id));
        ensure!(stray.is_none(), "{stray:?} should be gone, but is {:?}", stray.map(|id| &self.jobs[id]));
        let saved = model.leases.values().filter_map(|lease| {
            let Saved { lease_ms, stream, end } = lease.saved?;
            let record = LeaseRecord {
                queue: lease.job.queue.0,
                priority: lease.job.priority,
                token: lease.token.to_u64(),
                deliveries: lease.job.deliveries,
                dequeued_at: lease.job.dequeued_at.unwrap_or_default(),
                lease_ms,
                stream,
                end,
            };
            Some((Stamp::of(lease.job.id), record))
        });
        let saved: BTreeMap<_, _> = saved.collect();
        ensure!(saved == self.leases, "saved leases should be {saved:?}, not {:?}", self.leases);
        self.compare_batches(model)
    }

    /// Checks that every unfinished job that draws on budgets is counted by its draw, and a ready one has its place in
    /// the order.
    fn check_draws(&self) -> Result<()> {
        let numbers: BTreeMap<&str, u32> =
            self.budgets.iter().map(|(id, budget)| (budget.key.as_str(), id.0)).collect();
        ensure!(numbers.len() == self.budgets.len(), "two budgets with one key: {:?}", self.budgets);
        let (mut draws, mut lanes) = (self.draws.clone(), BTreeSet::new());
        for job in self.jobs.values() {
            let bindings = job.flow.as_ref().map_or(&[][..], |flow| &flow.budgets);
            let number = |key: &BudgetKey| numbers.get(key.as_str()).copied();
            let costs = bindings.iter().filter_map(|binding| Some((number(&binding.key)?, binding.cost)));
            let mut costs: Vec<(u32, u32)> = costs.collect();
            costs.sort_unstable();
            if job.status.is_terminal() || costs.is_empty() {
                ensure!(job.draw.is_none(), "{job:?} draws on nothing");
                continue;
            }
            let draw = draws.get_mut(&job.draw).with_context(|| format!("{job:?} has a draw"))?;
            ensure!(draw.costs == costs, "{job:?} draws {costs:?}, not {draw:?}");
            draw.unfinished =
                draw.unfinished.checked_sub(1).with_context(|| format!("{job:?} is counted"))?;
            if job.status == Status::Ready {
                lanes.insert((job.queue, job.draw, job.priority, Stamp::of(job.id)));
            }
        }
        let left = draws.values().find(|draw| draw.unfinished > 0);
        ensure!(left.is_none(), "jobs that are not there are counted: {left:?}");
        ensure!(lanes == self.lanes, "the order should be {lanes:?}, not {:?}", self.lanes);
        Ok(())
    }

    fn check_keys(&self) -> Result<()> {
        let mut keys: BTreeMap<String, BTreeMap<JobId, Option<u64>>> = BTreeMap::new();
        for job in self.jobs.values() {
            if let Some(unique) = job.unique() {
                let purge_at = job.purge_at.filter(|_| job.status.is_terminal());
                keys.entry(unique.key.as_str().to_owned()).or_default().insert(job.id, purge_at);
            }
        }
        // Of many ended jobs with one key, some are not remembered.
        keys.retain(|_, jobs| jobs.values().flatten().count() <= MAX_ENDED);
        let kept = |(key, jobs): (&String, &BTreeMap<_, _>)| {
            (jobs.values().flatten().count() < MAX_ENDED || keys.contains_key(key))
                .then(|| (key.clone(), jobs.clone()))
        };
        let stored: BTreeMap<_, _> = self.keys.iter().filter_map(kept).collect();
        ensure!(keys == stored, "keys should be {keys:?}, not {stored:?}");
        Ok(())
    }

    pub(super) fn compare_job(&self, id: JobId, entry: &Entry) -> Result<()> {
        let stored = self.jobs.get(&id).with_context(|| format!("{:?} is lost", entry.job))?;
        let mut expected = entry.job.clone();
        // How the engine remembers what became of a delivery is its own business.
        (expected.last_lease, expected.lapsed, expected.draw) =
            (stored.last_lease, stored.lapsed, stored.draw);
        ensure!(expected == *stored, "the store should have {expected:?}, not {stored:?}");
        let errors = self.errors_of(id);
        ensure!(errors == entry.errors, "{id:?} failed by {:?}, not by {errors:?}", entry.errors);
        Ok(())
    }

    pub(super) fn errors_of(&self, id: JobId) -> Vec<String> {
        let stamp = Stamp::of(id);
        self.errors.range((stamp, 0)..=(stamp, u32::MAX)).map(|(_, error)| error.clone()).collect()
    }
}

fn lane(key: &[u8]) -> Result<(QueueId, DrawId, u16, Stamp)> {
    let mut parts = Parts(&key[1..]);
    let (queue, draw) = (parts.queue().context("a queue")?, parts.u32().context("a draw")?);
    Ok((queue, DrawId(draw), parts.u16().context("a priority")?, parts.stamp().context("a stamp")?))
}

/// Returns the keys of a store, except those that are always there.
pub(super) fn leftovers(snapshot: &impl Snapshot) -> Result<Vec<Vec<u8>>> {
    let entries = snapshot.scan(&keys::start(Area::Queue as u8), &keys::start(u8::MAX), false);
    let keys = entries.map(|entry| Ok(entry?.0.to_vec())).collect::<Result<Vec<_>>>()?;
    // Answers are kept for a day, whatever becomes of their jobs, and access tokens have nothing to do with jobs.
    let kept = [Area::Answer, Area::AnswerPart, Area::AccessToken].map(|area| area as u8);
    Ok(keys.into_iter().filter(|key| !kept.contains(&key[0])).collect())
}

fn area(snapshot: &impl Snapshot, area: Area) -> Result<Vec<Stored>> {
    Ok(view::entries(snapshot, area).collect::<Result<_, _>>()?)
}

fn job(status: Status, at: Area, key: &[u8], value: &bytes::Bytes) -> Result<Job> {
    let mut parts = Parts(&key[1..]);
    let queue = parts.queue().context("a queue")?;
    let priority = if at == Area::Ready { parts.u16().context("a priority")? } else { 0 };
    let stamp = parts.stamp().context("a stamp")?;
    let draw = if at == Area::Drawing { DrawId::SOME } else { DrawId::NONE };
    let job = record::decode_job(Place { status, queue, draw, priority, stamp }, value)?;
    ensure!(job.place().area() == at, "{job:?} lies in another area: {at:?}");
    Ok(job)
}
