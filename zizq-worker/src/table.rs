//! The jobs that this worker holds, and what follows from what happens to them.
//!
//! ```text
//!            ┌─────────┐  a slot is free  ┌─────────┐  it ended   ┌───────────┐  the server answered
//! delivered ►│ Waiting │ ───────────────► │ Running │ ──────────► │ Reporting │ ─────────────────────► forgotten
//!            └─────────┘                  └────┬────┘             └─────▲─────┘
//!                 │ drain              lost, cancelled, stop            │ to be released
//!                 │                       ┌────▼─────┐                  │
//!                 │                       │ Stopping │ ─────────────────┤ ────► forgotten, or waiting again
//!                 │                       └──────────┘                  │
//!                 └─────────────────────────────────────────────────────┘
//! ```
//!
//! A job is in the table at most once, so it runs at most once at a time, however often it is delivered.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

use protocol::id::JobId;
use protocol::job::DeliveredJob;
use protocol::lease::LeaseToken;
use protocol::name::QueueName;

use crate::outcome::Outcome;
use crate::report::{Lease, Report, Verdict};

/// What the owner of the table is to do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Run the job; say [`Table::finished`] afterwards.
    Start(Box<DeliveredJob>),
    /// End the run of the job, and say [`Table::finished`] as for any other.
    Stop(JobId),
    /// Tell the server; say [`Table::settled`] afterwards.
    Report(Report),
}

/// The jobs that this worker holds.
#[derive(Debug)]
pub(crate) struct Table {
    lanes: HashMap<QueueName, Lane>,
    jobs: HashMap<JobId, Held>,
    draining: bool,
    effects: Vec<Effect>,
}

/// The jobs of one queue.
#[derive(Debug)]
struct Lane {
    limit: usize,
    running: usize,
    /// All in state [`State::Waiting`].
    waiting: VecDeque<JobId>,
}

#[derive(Debug)]
struct Held {
    queue: QueueName,
    /// The token to act under. It changes when a job is delivered again while it runs.
    token: LeaseToken,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No slot is free.
    Waiting(Box<DeliveredJob>),
    /// It takes a slot.
    Running,
    /// It still takes a slot.
    Stopping(Then),
    /// The outbox has it.
    Reporting {
        verdict: Arc<Verdict>,
        /// It was delivered once more before the server answered: the report may or may not have come first.
        next: Option<Box<DeliveredJob>>,
    },
}

/// What to do when a stopping job has ended.
#[derive(Debug)]
enum Then {
    /// It is no longer this worker's.
    Forget,
    /// Give it back.
    Release,
    /// It came again in the meantime.
    Restart(Box<DeliveredJob>),
}

impl Table {
    pub(crate) fn new(limits: impl IntoIterator<Item = (QueueName, usize)>) -> Self {
        let lane = |limit| Lane { limit, running: 0, waiting: VecDeque::new() };
        let lanes = limits.into_iter().map(|(queue, limit)| (queue, lane(limit))).collect();
        Self { lanes, jobs: HashMap::new(), draining: false, effects: Vec::new() }
    }

    /// What is to be done since the last call.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        mem::take(&mut self.effects)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The jobs, for a last message about them.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &JobId> {
        self.jobs.keys()
    }

    /// The leases to keep alive: all but those that are gone, or are being given back.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        let wanted = |held: &Held| match &held.state {
            State::Waiting(_) | State::Running | State::Stopping(Then::Release | Then::Restart(_)) => true,
            State::Stopping(Then::Forget) => false,
            State::Reporting { verdict, .. } => !matches!(**verdict, Verdict::Release { .. }),
        };
        let jobs = self.jobs.iter().filter(|(_, held)| wanted(held));
        jobs.map(|(&id, held)| Lease { id, token: held.newest_token() }).collect()
    }

    /// The server handed out a job.
    pub(crate) fn delivered(&mut self, job: Box<DeliveredJob>) {
        let Some(held) = self.jobs.get_mut(&job.id) else { return self.admit(job) };
        if held.newest_token() == job.lease {
            tracing::debug!(job = %job.id, "the delivery is known already");
            return;
        }
        tracing::info!(job = %job.id, "delivered again; the lease is taken over");
        match &mut held.state {
            State::Waiting(_) => {
                self.forget(job.id);
                self.admit(job);
            }
            State::Running | State::Stopping(Then::Release) => held.token = job.lease,
            State::Stopping(then) => {
                held.token = job.lease;
                *then = if self.draining { Then::Release } else { Then::Restart(job) };
            }
            State::Reporting { next, .. } => *next = Some(job),
        }
    }

    fn admit(&mut self, job: Box<DeliveredJob>) {
        let (id, queue, token) = (job.id, job.queue.clone(), job.lease);
        let room = self.lanes.get_mut(&queue).filter(|lane| lane.waiting.len() < lane.limit);
        let held = Held { queue: queue.clone(), token, state: State::Waiting(job) };
        self.jobs.insert(id, held);
        match room {
            Some(lane) if !self.draining => {
                lane.waiting.push_back(id);
                self.fill(&queue);
            }
            room => {
                if room.is_none() {
                    tracing::warn!(job = %id, %queue, "more jobs came than were asked for; this one is given back");
                }
                self.report(id, Verdict::Release { ready_at: None });
            }
        }
    }

    /// Starts what waits while there are slots.
    fn fill(&mut self, queue: &QueueName) {
        let Some(lane) = self.lanes.get_mut(queue) else { return };
        while lane.running < lane.limit
            && let Some(id) = lane.waiting.pop_front()
        {
            let Some(held) = self.jobs.get_mut(&id) else { continue };
            if let State::Waiting(job) = mem::replace(&mut held.state, State::Running) {
                lane.running += 1;
                self.effects.push(Effect::Start(job));
            }
        }
    }

    /// The run of a job has ended.
    pub(crate) fn finished(&mut self, id: JobId, outcome: Outcome) {
        let Some(held) = self.jobs.get_mut(&id) else { return };
        let queue = held.queue.clone();
        if let Some(lane) = self.lanes.get_mut(&queue) {
            lane.running = lane.running.saturating_sub(1);
        }
        match mem::replace(&mut held.state, State::Running) {
            State::Stopping(Then::Forget) => self.forget(id),
            State::Stopping(Then::Restart(job)) if outcome == Outcome::Stopped => {
                self.forget(id);
                self.admit(job);
            }
            _ => self.report(id, verdict(outcome)),
        }
        self.fill(&queue);
    }

    fn report(&mut self, id: JobId, verdict: Verdict) {
        let Some(held) = self.jobs.get_mut(&id) else { return };
        let verdict = Arc::new(verdict);
        held.state = State::Reporting { verdict: verdict.clone(), next: None };
        self.effects.push(Effect::Report(Report { lease: Lease { id, token: held.token }, verdict }));
    }

    /// The server answered a report for good.
    pub(crate) fn settled(&mut self, lease: Lease, accepted: bool) {
        let Some(held) = self.jobs.get_mut(&lease.id) else { return };
        let State::Reporting { verdict, next } = &mut held.state else { return };
        if held.token != lease.token {
            return;
        }
        match next.take() {
            Some(job) if accepted => {
                self.forget(lease.id);
                self.admit(job);
            }
            // The job was handed out again before the report came: the work is done all the same.
            Some(job) => {
                held.token = job.lease;
                let lease = Lease { token: job.lease, ..lease };
                self.effects.push(Effect::Report(Report { lease, verdict: verdict.clone() }));
            }
            None => self.forget(lease.id),
        }
    }

    /// The server says that this lease is gone. Says whether there was something to end.
    pub(crate) fn lost(&mut self, lease: Lease) -> bool {
        let held = self.jobs.get(&lease.id);
        held.is_some_and(|held| held.newest_token() == lease.token) && self.cancelled(lease.id)
    }

    /// The server says that the job shall not run. Says whether there was something to end.
    pub(crate) fn cancelled(&mut self, id: JobId) -> bool {
        let Some(held) = self.jobs.get_mut(&id) else { return false };
        match &mut held.state {
            State::Waiting(_) => self.forget(id),
            State::Running => {
                held.state = State::Stopping(Then::Forget);
                self.effects.push(Effect::Stop(id));
            }
            State::Stopping(then) => *then = Then::Forget,
            State::Reporting { next, .. } => {
                *next = None;
                return false;
            }
        }
        true
    }

    /// Starts nothing any more, and gives back what waits.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        for id in self.lanes.values_mut().flat_map(|lane| mem::take(&mut lane.waiting)).collect::<Vec<_>>() {
            self.report(id, Verdict::Release { ready_at: None });
        }
        for held in self.jobs.values_mut() {
            if let State::Stopping(then @ Then::Restart(_)) = &mut held.state {
                *then = Then::Release;
            }
        }
    }

    /// Ends what runs, to be given back. Says how many jobs that are.
    pub(crate) fn stop_all(&mut self) -> usize {
        let mut stopped = 0;
        for (&id, held) in &mut self.jobs {
            if matches!(held.state, State::Running) {
                held.state = State::Stopping(Then::Release);
                self.effects.push(Effect::Stop(id));
                stopped += 1;
            }
        }
        stopped
    }

    fn forget(&mut self, id: JobId) {
        let Some(held) = self.jobs.remove(&id) else { return };
        if let (State::Waiting(_), Some(lane)) = (&held.state, self.lanes.get_mut(&held.queue)) {
            lane.waiting.retain(|&waiting| waiting != id);
        }
    }
}

impl Held {
    fn newest_token(&self) -> LeaseToken {
        match &self.state {
            State::Reporting { next: Some(job), .. } => job.lease,
            _ => self.token,
        }
    }
}

fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Success => Verdict::Success,
        Outcome::Failure(failure) => Verdict::Failure(failure),
        Outcome::NotRun { ready_at, .. } => Verdict::Release { ready_at: Some(ready_at) },
        Outcome::Stopped => Verdict::Release { ready_at: None },
    }
}

#[cfg(test)]
mod tests;
