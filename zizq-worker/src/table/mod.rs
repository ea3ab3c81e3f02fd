//! The table of jobs that this worker holds. It decides what each event leads to, and does no I/O.
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

use crate::outcome::{Outcome, millis};
use crate::report::Usage;
use crate::report::{Lease, Report, Verdict};
use crate::route::{RouteMap, RouteName};

/// The verdict on a job that was not run: it goes back to its place.
const UNTOUCHED: Verdict = Verdict::Release { delay_ms: None, reason: None };

/// What the owner of the table must do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Run the job by this route, then call [`Table::finished`].
    Start(Box<DeliveredJob>, RouteName),
    /// This job has no route; call [`Table::give_back`].
    NoRoute(Box<DeliveredJob>),
    /// Stop the run of the job, then call [`Table::finished`] as for any other.
    Stop(JobId),
    /// Report to the server, then call [`Table::settled`].
    Report(Report),
}

/// The jobs that this worker holds.
#[derive(Debug)]
pub(crate) struct Table {
    routes: RouteMap,
    lanes: HashMap<RouteName, Lane>,
    jobs: HashMap<JobId, Held>,
    /// How many jobs may run at a time in total.
    total: usize,
    running: usize,
    /// How many jobs may be started before the end.
    starts_left: u64,
    draining: bool,
    effects: Vec<Effect>,
}

/// The jobs of one route.
#[derive(Debug, Default)]
struct Lane {
    limit: usize,
    /// How many may wait: as many as the route's stream may hold.
    room: usize,
    running: usize,
    /// All in state [`State::Waiting`].
    waiting: VecDeque<JobId>,
}

/// What a route may hold.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    pub(crate) route: RouteName,
    pub(crate) limit: usize,
    pub(crate) room: usize,
}

#[derive(Debug)]
struct Held {
    /// Where it waits or runs; `None`: no route.
    lane: Option<RouteName>,
    /// The current lease token. It changes when a running job is delivered again.
    token: LeaseToken,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Waits for a free slot.
    Waiting(Box<DeliveredJob>),
    /// Occupies a slot.
    Running,
    /// Still occupies a slot.
    Stopping(Then),
    /// Its report is in the outbox.
    Reporting {
        verdict: Arc<Verdict>,
        /// It was delivered again before the server answered: the report may or may not have arrived first.
        next: Option<Box<DeliveredJob>>,
    },
}

/// What to do once a stopping job has ended.
#[derive(Debug)]
enum Then {
    /// It no longer belongs to this worker.
    Forget,
    /// Give it back.
    Release,
    /// It was delivered again in the meantime.
    Restart(Box<DeliveredJob>),
}

impl Table {
    pub(crate) fn new(total: usize, starts_left: u64) -> Self {
        Self {
            routes: RouteMap::default(),
            lanes: HashMap::new(),
            jobs: HashMap::new(),
            total,
            running: 0,
            starts_left,
            draining: false,
            effects: Vec::new(),
        }
    }

    /// Replaces the routes. Running jobs continue; waiting jobs are assigned anew.
    pub(crate) fn set_routes(
        &mut self,
        routes: RouteMap,
        slots: impl IntoIterator<Item = Slots>,
        total: usize,
    ) {
        let waiting: Vec<JobId> =
            self.lanes.values_mut().flat_map(|lane| mem::take(&mut lane.waiting)).collect();
        (self.routes, self.total) = (routes, total);
        // A removed route has no slots, but its running jobs still count.
        self.lanes.values_mut().for_each(|lane| (lane.limit, lane.room) = (0, 0));
        for Slots { route, limit, room } in slots {
            let lane = self.lanes.entry(route).or_default();
            (lane.limit, lane.room) = (limit, room);
        }
        self.lanes.retain(|_, lane| lane.room > 0 || lane.running > 0);
        let mut waiting: Vec<Box<DeliveredJob>> =
            waiting.into_iter().filter_map(|id| self.take_waiting(id)).collect();
        waiting.sort_by_key(|job| (job.priority, job.id));
        waiting.into_iter().for_each(|job| self.admit(job));
        self.fill();
    }

    fn take_waiting(&mut self, id: JobId) -> Option<Box<DeliveredJob>> {
        match self.jobs.remove(&id)?.state {
            State::Waiting(job) => Some(job),
            _ => None,
        }
    }

    /// Whether all slots are occupied.
    pub(crate) const fn is_full(&self) -> bool {
        self.running >= self.total
    }

    /// Whether no more jobs may be started.
    pub(crate) const fn is_spent(&self) -> bool {
        self.starts_left == 0
    }

    /// How many jobs of these routes run, and how many wait.
    pub(crate) fn load(&self, routes: &[RouteName]) -> (usize, usize) {
        let lanes = routes.iter().filter_map(|route| self.lanes.get(route));
        lanes.fold((0, 0), |(running, waiting), lane| (running + lane.running, waiting + lane.waiting.len()))
    }

    /// Gives back the waiting jobs of this route, except for the first `keep`.
    pub(crate) fn give_back_waiting(&mut self, route: &RouteName, keep: usize) {
        let Some(lane) = self.lanes.get_mut(route) else { return };
        let surplus = lane.waiting.split_off(keep.min(lane.waiting.len()));
        for id in surplus {
            self.report(id, UNTOUCHED);
        }
    }

    /// Gives back a job that this worker has no use for.
    pub(crate) fn give_back(&mut self, id: JobId, delay_ms: u64, reason: String) {
        self.report(id, Verdict::Release { delay_ms: Some(delay_ms), reason: Some(reason) });
    }

    /// Records the delivery of a job that this worker cannot read.
    pub(crate) fn unreadable(&mut self, lease: Lease, delay_ms: u64, reason: String) {
        match self.jobs.get_mut(&lease.id) {
            // An earlier delivery is running, and ends normally.
            Some(held) if matches!(held.state, State::Running) => held.token = lease.token,
            Some(held) if matches!(held.state, State::Stopping(_)) => {
                held.token = lease.token;
                held.state = State::Stopping(Then::Release);
            }
            _ => {
                self.forget(lease.id);
                let state = State::Stopping(Then::Release);
                self.jobs.insert(lease.id, Held { lane: None, token: lease.token, state });
                self.give_back(lease.id, delay_ms, reason);
            }
        }
    }

    /// The effects since the last call.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        mem::take(&mut self.effects)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The ids of all jobs, for the last messages.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &JobId> {
        self.jobs.keys()
    }

    /// The leases to renew: all but those that are lost or being given back.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        let wanted = |held: &Held| match &held.state {
            State::Waiting(_) | State::Running | State::Stopping(Then::Release | Then::Restart(_)) => true,
            State::Stopping(Then::Forget) => false,
            State::Reporting { verdict, .. } => !matches!(**verdict, Verdict::Release { .. }),
        };
        let jobs = self.jobs.iter().filter(|(_, held)| wanted(held));
        jobs.map(|(&id, held)| Lease { id, token: held.newest_token() }).collect()
    }

    /// Records the delivery of a job.
    pub(crate) fn delivered(&mut self, job: Box<DeliveredJob>) {
        let Some(held) = self.jobs.get_mut(&job.id) else { return self.admit(job) };
        if held.newest_token() == job.lease {
            tracing::debug!(job = %job.id, "ignoring a delivery that is already known");
            return;
        }
        tracing::info!(job = %job.id, "delivered again; continuing under the new lease");
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
        let (id, token) = (job.id, job.lease);
        let lane = self.routes.find(&job.queue, &job.job_type).cloned();
        let held = |state| Held { lane: lane.clone(), token, state };
        let Some(name) = &lane else {
            // The owner of the table gets the job; only its lease is kept here.
            self.jobs.insert(id, held(State::Stopping(Then::Release)));
            self.effects.push(Effect::NoRoute(job));
            return;
        };
        let queue = job.queue.clone();
        self.jobs.insert(id, held(State::Waiting(job)));
        match self.lanes.get_mut(name).filter(|lane| lane.waiting.len() < lane.room) {
            Some(lane) if !self.draining => {
                lane.waiting.push_back(id);
                self.fill();
            }
            room => {
                if room.is_none() {
                    tracing::warn!(job = %id, %queue, "the server delivered more jobs than requested; giving this one back");
                }
                self.report(id, UNTOUCHED);
            }
        }
    }

    /// Starts waiting jobs while there are free slots; the route with the fewest running jobs goes first.
    fn fill(&mut self) {
        while !self.is_full() && self.starts_left > 0 && !self.draining {
            let ready = self
                .lanes
                .iter_mut()
                .filter(|(_, lane)| lane.running < lane.limit && !lane.waiting.is_empty());
            let Some((name, lane)) = ready.min_by_key(|(_, lane)| lane.running) else { break };
            let Some(id) = lane.waiting.pop_front() else { break };
            let Some(held) = self.jobs.get_mut(&id) else { continue };
            if let State::Waiting(job) = mem::replace(&mut held.state, State::Running) {
                lane.running += 1;
                self.running += 1;
                self.starts_left -= 1;
                self.effects.push(Effect::Start(job, name.clone()));
            }
        }
    }

    /// Records the end of a run.
    pub(crate) fn finished(&mut self, id: JobId, outcome: Outcome, usage: Option<Usage>) {
        let Some(held) = self.jobs.get_mut(&id) else { return };
        self.running = self.running.saturating_sub(1);
        if let Some(lane) = held.lane.as_ref().and_then(|name| self.lanes.get_mut(name)) {
            lane.running = lane.running.saturating_sub(1);
        }
        match mem::replace(&mut held.state, State::Running) {
            State::Stopping(Then::Forget) => self.forget(id),
            State::Stopping(Then::Restart(job)) if outcome == Outcome::Stopped => {
                self.forget(id);
                self.admit(job);
            }
            _ => self.report(id, verdict(outcome, usage)),
        }
        self.fill();
    }

    fn report(&mut self, id: JobId, verdict: Verdict) {
        let Some(held) = self.jobs.get_mut(&id) else { return };
        let verdict = Arc::new(verdict);
        held.state = State::Reporting { verdict: verdict.clone(), next: None };
        self.effects.push(Effect::Report(Report { lease: Lease { id, token: held.token }, verdict }));
    }

    /// Records the final answer to a report. Returns whether this worker still holds the job, under a later lease.
    pub(crate) fn settled(&mut self, lease: Lease, accepted: bool) -> bool {
        let Some(held) = self.jobs.get_mut(&lease.id) else { return false };
        let is_renewed = held.newest_token() != lease.token;
        let State::Reporting { verdict, next } = &mut held.state else { return is_renewed };
        if held.token != lease.token {
            return is_renewed;
        }
        match next.take() {
            Some(job) if accepted => {
                self.forget(lease.id);
                self.admit(job);
            }
            // Delivered again before the report arrived: the work is done, so report it under the new lease.
            Some(job) => {
                held.token = job.lease;
                let lease = Lease { token: job.lease, ..lease };
                self.effects.push(Effect::Report(Report { lease, verdict: verdict.clone() }));
            }
            None => self.forget(lease.id),
        }
        is_renewed
    }

    /// Records that a lease was lost. Returns whether a job was dropped or stopped.
    pub(crate) fn lost(&mut self, lease: Lease) -> bool {
        let held = self.jobs.get(&lease.id);
        held.is_some_and(|held| held.newest_token() == lease.token) && self.cancelled(lease.id)
    }

    /// Records that the server cancelled a job. Returns whether it was dropped or stopped.
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

    /// Starts no more jobs, and gives back the waiting ones.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        for id in self.lanes.values_mut().flat_map(|lane| mem::take(&mut lane.waiting)).collect::<Vec<_>>() {
            self.report(id, UNTOUCHED);
        }
        for held in self.jobs.values_mut() {
            if let State::Stopping(then @ Then::Restart(_)) = &mut held.state {
                *then = Then::Release;
            }
        }
    }

    /// Stops all running jobs, to be given back. Returns how many.
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
        let lane = held.lane.and_then(|name| self.lanes.get_mut(&name));
        if let (State::Waiting(_), Some(lane)) = (&held.state, lane) {
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

fn verdict(outcome: Outcome, usage: Option<Usage>) -> Verdict {
    match outcome {
        Outcome::Success(result) => Verdict::Success { result, usage },
        Outcome::Failure(failure) | Outcome::Suspect(failure) => Verdict::Failure { failure, usage },
        Outcome::Release { pause, reason } => {
            Verdict::Release { delay_ms: pause.map(millis), reason: Some(reason) }
        }
        Outcome::BackOff { reason } => Verdict::Release { delay_ms: None, reason: Some(reason) },
        Outcome::Stopped => UNTOUCHED,
    }
}

#[cfg(test)]
mod law;
#[cfg(test)]
mod tests;
