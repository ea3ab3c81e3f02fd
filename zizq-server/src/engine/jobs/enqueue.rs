//! New jobs.

use std::sync::Arc;

use protocol::enqueue::NewJob;
use protocol::job::Status;

use super::batches::Open;
use crate::engine::command::Reject;
use crate::engine::command::batches::{Plan, Step};
use crate::engine::command::jobs::{EnqueueAndWait, Enqueued, Outcome};
use crate::engine::{Engine, Found};
use crate::job::Job;
use crate::job::id::Home;

impl Engine {
    pub(in crate::engine) fn enqueue(
        &mut self,
        jobs: Vec<NewJob>,
        plan: Plan,
        found: &Found,
    ) -> Result<Vec<Enqueued>, Reject> {
        if self.draining {
            return Err(Reject::Draining);
        }
        let mut open = self.check_plan(&jobs, &plan, found)?;
        self.prepare_budgets(jobs.iter().enumerate())?;
        self.fold(plan.batches, &mut open);
        let shares_body = jobs.len() > 1;
        Ok(self.enqueue_all(jobs, shares_body, (plan.steps, open), found))
    }

    pub(in crate::engine) fn enqueue_and_wait(
        &mut self,
        EnqueueAndWait { jobs, waiter }: EnqueueAndWait,
        found: &Found,
    ) -> Result<Vec<Enqueued>, Reject> {
        let enqueued = self.enqueue(jobs, Plan::default(), found)?;
        self.listeners.wait_for_first(&enqueued, waiter);
        Ok(enqueued)
    }

    /// Enqueues jobs whose budgets exist. A payload must not keep alive the whole body whose memory it shares.
    fn enqueue_all(
        &mut self,
        jobs: Vec<NewJob>,
        shares_body: bool,
        (steps, mut open): (Vec<Step>, Open),
        found: &Found,
    ) -> Vec<Enqueued> {
        let mut steps = steps.into_iter();
        let mut enqueued = Vec::with_capacity(jobs.len());
        for mut new in jobs {
            let step = steps.next().unwrap_or(Step::Plain);
            let batch = new.flow.as_ref().and_then(|flow| flow.batch.as_ref());
            if step == Step::Folds
                && let Some(job) = batch.and_then(|batch| open.get(&batch.key))
            {
                self.queues.tally(job.queue, |tally| tally.folded += 1);
                enqueued.extend(self.enqueued(job.clone(), Status::Ready, Outcome::Folded));
                continue;
            }
            let unique = new.flow.as_ref().and_then(|flow| flow.unique.as_ref());
            if let Some((job, in_flight)) = unique.and_then(|unique| self.duplicate_of(unique, found)) {
                self.queues.tally(job.queue, |tally| tally.duplicates += 1);
                let status = if in_flight { Status::InFlight } else { job.status };
                enqueued.extend(self.enqueued(job, status, Outcome::Duplicate));
                continue;
            }
            if shares_body {
                new.payload.detach();
            }
            let job = self.create(new);
            if step == Step::Opens
                && let Some(batch) = job.batch()
            {
                self.tags.open_batch(&job);
                open.insert(batch.key.clone(), job.clone());
            }
            let status = job.status;
            enqueued.extend(self.enqueued(job, status, Outcome::Created));
        }
        enqueued
    }

    /// Returns the result of an enqueue. Every job has a queue with a name.
    fn enqueued(&self, job: Arc<Job>, status: Status, outcome: Outcome) -> Option<Enqueued> {
        let queue = self.queues.name(job.queue)?.clone();
        Some(Enqueued { job, queue, status, outcome })
    }

    /// Enqueues jobs of an accepted bulk: their budgets exist, and none has to be folded.
    pub(in crate::engine) fn enqueue_accepted(&mut self, jobs: Vec<NewJob>, found: &Found) -> Vec<Enqueued> {
        self.enqueue_all(jobs, true, Default::default(), found)
    }

    pub(in crate::engine) fn admit(&mut self, new: NewJob) -> Job {
        let now = self.clock.now();
        let home = Home { queue: self.queues.id(&new.queue), priority: new.priority };
        let ready_at = new.ready_at.unwrap_or(now);
        Job {
            status: if ready_at > now { Status::Scheduled } else { Status::Ready },
            ready_at,
            retry_limit: new.retry_limit,
            backoff: new.backoff,
            retention: new.retention,
            flow: new.flow,
            ..Job::new(self.clock.next_stamp(), home, new.job_type, new.payload)
        }
    }
}
