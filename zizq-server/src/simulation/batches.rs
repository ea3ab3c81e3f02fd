//! Batches as the model sees them, and random folds. Nothing is evaluated outside the engine here: a fold appends one
//! payload to the other.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use fastrand::Rng;
use protocol::enqueue::NewJob;
use protocol::flow::{Batch, Expression, Key};
use protocol::id::JobId;
use protocol::job::Status;
use protocol::lease::LeaseToken;
use protocol::media::Format;
use protocol::payload::Payload;

use super::act::Act;
use super::ledger::Ledger;
use super::model::Model;
use super::profile::chance;
use super::world::World;
use crate::engine::command::batches::{Fold, Plan, Planned, Step, Version};
use crate::engine::command::crons::Firing;
use crate::engine::command::jobs::{Enqueued, Outcome};
use crate::engine::command::{Command, Reject, Reply};
use crate::run::turn::Answer;

/// The open batches, with the token of the last fold.
pub(super) type Batches = BTreeMap<Key, (JobId, Option<LeaseToken>)>;

/// The largest size that a payload grows to, in bytes.
const MAX_PAYLOAD: usize = 150_000;

/// A [`Fold`] that can be kept.
#[derive(Debug, Clone)]
pub(super) struct Folding {
    pub jobs: Vec<NewJob>,
    pub plan: Plan,
    pub firing: Option<Firing>,
}

impl Folding {
    pub(super) fn command(self) -> Command {
        let Self { jobs, plan, firing } = self;
        Fold { jobs, plan, waiter: None, firing }.into()
    }

    /// Returns the batches that it is about, and may change.
    pub(super) fn ids(&self) -> impl Iterator<Item = JobId> {
        self.plan.batches.iter().filter_map(|planned| Some(planned.open?.id))
    }

    /// Returns the jobs that are created if it is carried out.
    pub(super) fn new_jobs(&self) -> Vec<NewJob> {
        let steps = self.jobs.iter().zip(&self.plan.steps);
        steps.filter(|(_, step)| **step != Step::Folds).map(|(job, _)| job.clone()).collect()
    }
}

fn key_of(job: &NewJob) -> Option<&Key> {
    Some(&job.flow.as_ref()?.batch.as_ref()?.key)
}

impl Model {
    fn version(&self, key: &Key) -> Option<Version> {
        self.batches.get(key).map(|(id, token)| Version { id: *id, token: *token })
    }

    pub(super) fn open_batches(&self, keys: &[Key], answer: &Answer) -> Result<()> {
        let Ok(Reply::OpenBatches(open)) = answer else { bail!("answered {answer:?}") };
        ensure!(open.len() == keys.len(), "{} of {}", open.len(), keys.len());
        for (key, open) in keys.iter().zip(open) {
            let version = open.as_ref().map(|job| job.version());
            ensure!(version == self.version(key), "{key:?} is {:?}, not {version:?}", self.version(key));
            let expected = version.and_then(|version| self.jobs.get(&version.id)).map(|entry| &entry.job);
            let (seen, expected) = (open.as_ref().map(|job| &job.payload), expected.map(|job| &job.payload));
            ensure!(seen == expected, "its payload is {expected:?}, not {seen:?}");
        }
        Ok(())
    }

    /// Whether a plan fits what is open.
    fn fits(&self, Folding { jobs, plan, .. }: &Folding) -> bool {
        let early = |(job, step): (&NewJob, &Step)| *step == Step::Opens && job.ready_at > Some(self.now);
        plan.batches.iter().all(|planned| planned.open == self.version(&planned.key))
            && !jobs.iter().zip(&plan.steps).any(early)
    }

    pub(super) fn fold(&mut self, folding: &Folding, answer: &Answer) -> Result<()> {
        if let Some(firing) = &folding.firing
            && !self.accepts(firing, answer)?
        {
            return Ok(());
        }
        if !self.draining && !self.fits(folding) {
            ensure!(matches!(answer, Err(Reject::Changed)), "it does not fit, but: {answer:?}");
            return Ok(());
        }
        let was_draining = self.draining;
        self.enqueue_planned(&folding.jobs, &folding.plan, answer)?;
        if !was_draining && let Some(firing) = &folding.firing {
            self.has_fired(firing, answer.is_ok());
        }
        Ok(())
    }

    /// Gives the open batches their new payloads.
    pub(super) fn fold_payloads(&mut self, plan: &Plan) -> Result<()> {
        for Planned { key, payload, .. } in &plan.batches {
            if let Some(payload) = payload {
                let (id, _) = self.batches.get(key).context("it is open")?;
                self.jobs.get_mut(id).context("a batch is a job")?.job.payload = payload.clone();
            }
        }
        Ok(())
    }

    /// Checks the answer to a job that was folded, which is the batch. A worker that got the batch before, if any, is
    /// too late.
    pub(super) fn folded(&mut self, new: &NewJob, plan: &Plan, enqueued: &Enqueued) -> Result<()> {
        let key = key_of(new).context("it has a key")?;
        let (id, token) = self.batches.get_mut(key).context("it is open")?;
        let entry = self.jobs.get_mut(id).context("a batch is a job")?;
        let Enqueued { job, queue, status, outcome } = enqueued;
        let as_it_is = (job.id, *status, *outcome) == (*id, Status::Ready, Outcome::Folded)
            && *queue == entry.queue
            && job.payload == entry.job.payload
            && job.flow == entry.job.flow;
        ensure!(as_it_is, "{new:?} is a part of {:?}, but: {enqueued:?}", entry.job);
        let was_open = |planned: &&Planned| planned.open.is_some_and(|open| open.id == *id);
        if let Some(Planned { open: Some(open), .. }) = plan.batches.iter().find(was_open) {
            ensure!(job.last_lease > open.token, "{job:?} is of another version than {open:?}");
            *token = job.last_lease;
            (entry.known, entry.over, entry.uncertain) = (job.last_lease, true, false);
        }
        Ok(())
    }

    pub(super) fn opened(&mut self, new: &NewJob, id: JobId) -> Result<()> {
        let key = key_of(new).context("it has a key")?;
        self.batches.insert(key.clone(), (id, None));
        Ok(())
    }

    /// Closes batches that are in flight or no longer ready.
    pub(super) fn close_batches(&mut self) {
        let (jobs, leases) = (&self.jobs, &self.leases);
        let is_ready = |id: &JobId| jobs.get(id).is_some_and(|entry| entry.job.status == Status::Ready);
        self.batches.retain(|_, (id, _)| is_ready(id) && !leases.contains_key(id));
    }

    /// Reads off the store, after a crash within a turn, which batches were opened, folded or closed.
    pub(super) fn adopt_batches(&mut self, acts: &[Act], ledger: &Ledger) -> Result<()> {
        let mut batches = Batches::new();
        for (key, id) in &ledger.batches {
            let key = Key::new(key).map_err(anyhow::Error::msg)?;
            let known = self.batches.get(&key).filter(|(known, _)| known == id);
            let is_asked = |act: &Act| match act {
                Act::Fold(folding) => folding.new_jobs().iter().any(|job| key_of(job) == Some(&key)),
                _ => false,
            };
            ensure!(known.is_some() || acts.iter().any(is_asked), "no act opened {key:?}: {id:?}");
            batches.insert(key, (*id, ledger.jobs.get(id).context("a batch is a job")?.last_lease));
        }
        self.batches = batches;
        Ok(())
    }
}

impl Ledger {
    /// Checks that an open batch is a ready job with its key.
    pub(super) fn check_batches(&self) -> Result<()> {
        for (key, id) in &self.batches {
            let job = self.jobs.get(id).with_context(|| format!("batch {key} has no job"))?;
            let fits =
                job.status == Status::Ready && job.batch().is_some_and(|batch| batch.key.as_str() == key);
            ensure!(fits, "{job:?} cannot be the open batch {key}");
        }
        Ok(())
    }

    pub(super) fn compare_batches(&self, model: &Model) -> Result<()> {
        let open: BTreeMap<_, _> =
            model.batches.iter().map(|(key, (id, _))| (key.as_str().to_owned(), *id)).collect();
        ensure!(open == self.batches, "open should be {open:?}, not {:?}", self.batches);
        Ok(())
    }
}

fn concatenated(a: &Payload, b: &Payload) -> Payload {
    Payload::from_checked(Format::Json, Bytes::from([a.bytes(), &b"+"[..], b.bytes()].concat()))
}

impl World {
    pub(super) fn batch_key(&self, rng: &mut Rng) -> Key {
        Key::new(&format!("batch {}", rng.u32(..self.profile.batches.max(1)))).unwrap()
    }

    /// Makes the part of a job that puts it in a batch.
    pub(super) fn batch(&self, rng: &mut Rng) -> Batch {
        let expression = |text| Expression::new(text).unwrap();
        Batch { key: self.batch_key(rng), when: expression("true"), fold: expression("$existing + $new") }
    }

    pub(super) fn batch_act(&mut self, rng: &mut Rng) -> Act {
        if chance(rng, 20) {
            return Act::OpenBatches((0..rng.usize(..3)).map(|_| self.batch_key(rng)).collect());
        }
        if let Some(folding) = rng.choice(&self.foldings).filter(|_| chance(rng, 10)) {
            // Sends an old plan again, as from a very slow caller.
            return Act::Fold(folding.clone());
        }
        let number = if chance(rng, 70) { 1 } else { rng.usize(1..6) };
        let mut jobs: Vec<NewJob> = (0..number).map(|_| self.new_job(rng)).collect();
        for job in &mut jobs {
            let mut flow = job.flow.take().unwrap_or_default();
            if flow.unique.is_none() && chance(rng, 80) {
                flow.batch = Some(self.batch(rng));
            }
            job.flow = flow.boxed();
        }
        self.plan(jobs, None, 70, rng)
    }

    /// Folds the cron entry that has waited longest for it.
    pub(super) fn firing_act(&mut self, rng: &mut Rng) -> Option<Act> {
        let firing = self.firings.pop_front()?;
        Some(self.plan(vec![firing.template.job.clone()], Some(firing), 70, rng))
    }

    /// Plans what to do with jobs, as if between two turns. Of 100 that could be folded, `willing` are.
    pub(super) fn plan(
        &mut self,
        mut jobs: Vec<NewJob>,
        firing: Option<Firing>,
        willing: u32,
        rng: &mut Rng,
    ) -> Act {
        let mut plan = Plan::default();
        // Where the payload of the open batch of each key is: among the planned or among the new ones.
        let mut open: BTreeMap<Key, Option<usize>> = BTreeMap::new();
        for n in 0..jobs.len() {
            let key = key_of(&jobs[n]).filter(|_| jobs[n].ready_at <= Some(self.model.now)).cloned();
            let Some(key) = key else {
                plan.steps.push(Step::Plain);
                continue;
            };
            let at = plan.batches.iter().position(|planned| planned.key == key).unwrap_or_else(|| {
                let version = self.model.version(&key);
                plan.batches.push(Planned { key: key.clone(), open: version, payload: None });
                plan.batches.len() - 1
            });
            let existing = match (open.get(&key), &plan.batches[at]) {
                (Some(Some(new)), _) => Some(jobs[*new].payload.clone()),
                (Some(None), Planned { payload, .. }) => payload.clone(),
                (None, Planned { open, .. }) => {
                    open.and_then(|open| self.model.jobs.get(&open.id)).map(|entry| entry.job.payload.clone())
                }
            };
            let folded = existing.map(|existing| concatenated(&existing, &jobs[n].payload));
            let folded = folded.filter(|folded| folded.bytes().len() < MAX_PAYLOAD && chance(rng, willing));
            let Some(folded) = folded else {
                plan.steps.push(Step::Opens);
                open.insert(key, Some(n));
                continue;
            };
            plan.steps.push(Step::Folds);
            match open.entry(key).or_insert(None) {
                Some(new) => jobs[*new].payload = folded,
                None => plan.batches[at].payload = Some(folded),
            }
        }
        let folding = Folding { jobs, plan, firing };
        if folding.firing.is_none() {
            self.foldings.push(folding.clone());
            if self.foldings.len() > 8 {
                self.foldings.remove(0);
            }
        }
        Act::Fold(folding)
    }
}
