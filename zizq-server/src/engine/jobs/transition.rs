//! The edges of a job's life. Only this module changes records, counts and the memory of ready jobs, always together.
//!
//! ```text
//!  enqueue ──► scheduled ──► ready ──► in flight ──► completed ──► gone
//!                  ▲           ▲          │  │
//!                  │           └──────────┘  └─────► dead ───────► gone
//!                  └── retry, release later ─┘
//! ```

use std::sync::Arc;

use protocol::enqueue::NewJob;
use protocol::id::JobId;
use protocol::job::Status;
use protocol::outcome::LeasedJob;

use crate::engine::clock::time_of;
use crate::engine::command::Reject;
use crate::engine::streams::lease::Lease;
use crate::engine::{Engine, Found};
use crate::job::Job;
use crate::job::draw::DrawId;
use crate::job::id::{QueueId, Stamp};

/// The cursor of a lane moves up after this many jobs have left it.
const CURSOR_EVERY: usize = if cfg!(test) { 8 } else { 4_096 };

/// Whether a job that has changed stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Then {
    Stays,
    /// It has just ended, and it is not kept.
    Goes,
}

/// A job that a caller may report on.
pub(in crate::engine) enum Claim {
    /// In flight, and held by the caller.
    Held,
    /// The caller's lease is over, but nobody else has the job: the caller's report counts.
    Late(Arc<Job>),
}

impl Engine {
    /// Returns whether a caller may report on a job.
    pub(in crate::engine) fn claim(&self, job: LeasedJob, found: &mut Found) -> Result<Claim, Reject> {
        if let Some(lease) = self.leases.get(job.id) {
            return match job.lease {
                Some(token) if token != lease.token => Err(Reject::LeaseLost),
                _ => Ok(Claim::Held),
            };
        }
        let token = job.lease.ok_or(Reject::NotFound)?;
        let id = job.id;
        let job = found.get(&id).ok_or(Reject::NotFound)?;
        let ready = job.status == Status::Ready;
        match job.last_lease {
            Some(last) if token < last => Err(Reject::LeaseLost),
            Some(last) if token == last && ready && job.lapsed => {
                found.remove(&id).map(|job| Claim::Late(Arc::new(job))).ok_or(Reject::NotFound)
            }
            // The outcome of this delivery has been reported.
            Some(last) if token == last => Err(Reject::NotFound),
            _ if ready && self.clock.may_have_forgotten(job, token) => {
                let mut job = found.remove(&id).ok_or(Reject::NotFound)?;
                // It was a delivery, though the store has not heard of it. Nobody can hold a later one.
                job.deliveries = job.deliveries.saturating_add(1);
                job.dequeued_at = Some(time_of(token));
                job.last_lease = Some(token);
                Ok(Claim::Late(Arc::new(job)))
            }
            _ => Err(Reject::NotFound),
        }
    }

    /// Puts a new job in its place.
    pub(in crate::engine) fn create(&mut self, new: NewJob) -> Arc<Job> {
        let job = Arc::new(self.admit(new));
        let job = self.settle(job);
        self.queues.tally(job.queue, |tally| tally.enqueued += 1);
        self.passes(&job, None, Some(job.status));
        job
    }

    /// Moves a job from one status to another, or to another place in the same status; there is no other way. The job
    /// is taken out of its place, changed, and put in its new place if it stays. `from` is the status as seen from
    /// outside: a job in flight is stored as a ready one. A job in flight must have [lost its lease](Self::end_lease)
    /// before.
    pub(in crate::engine) fn transition(
        &mut self,
        mut job: Arc<Job>,
        from: Status,
        edit: impl FnOnce(&mut Job) -> Then,
    ) -> Arc<Job> {
        self.leave(&job, from);
        let (home, was_moved) = ((job.queue, job.priority), job.is_moved());
        let then = edit(Arc::make_mut(&mut job));
        if job.status != from {
            self.passes(&job, Some(from), Some(job.status));
        }
        match then {
            Then::Goes => self.forget_traces(&job),
            Then::Stays => {
                if (job.queue, job.priority) != home {
                    self.follow_move(&job, was_moved);
                }
                job = self.settle(job);
            }
        }
        job
    }

    /// Ends a job and leaves nothing of it. `to` is the status it ended with; none: it was deleted.
    pub(in crate::engine) fn remove(&mut self, job: &Job, from: Status, to: Option<Status>) {
        self.leave(job, from);
        self.passes(job, Some(from), to);
        self.forget_traces(job);
    }

    /// Rewrites the record of a ready job, which stays where it is. `from` is as for [`Self::transition`].
    pub(in crate::engine) fn rewrite(&mut self, job: Arc<Job>, from: Status) {
        if from != Status::Ready {
            self.passes(&job, Some(from), Some(Status::Ready));
        }
        self.batch.put_job(&job);
        self.tags.refresh(&job);
        self.make_ready(job);
    }

    /// Notes that a ready job now belongs to a worker. Its record stays where it is.
    pub(in crate::engine) fn leaves_ready(&mut self, job: &Job) {
        self.passes(job, Some(Status::Ready), Some(Status::InFlight));
    }

    /// Passes a job from one status to another: delivering it, putting it off or deleting it closes its batch, and
    /// listeners are told.
    fn passes(&mut self, job: &Job, from: Option<Status>, to: Option<Status>) {
        if from == Some(Status::Ready) {
            self.tags.close_batch(job);
        }
        self.announce(job, from, to);
    }

    /// Takes the job of a claim out of flight, or out of the ready jobs.
    pub(in crate::engine) fn take_back(&mut self, id: JobId, claim: Claim) -> Option<Arc<Job>> {
        match claim {
            Claim::Held => self.end_lease(id).map(|lease| lease.job),
            Claim::Late(job) => {
                self.leaves_ready(&job);
                self.unready(&job);
                Some(job)
            }
        }
    }

    /// Ends the lease of a job, which is then neither in flight nor ready.
    pub(in crate::engine) fn end_lease(&mut self, id: JobId) -> Option<Lease> {
        let lease = self.leases.remove(id)?;
        if lease.saved.is_some() {
            self.batch.remove_lease(id);
        }
        self.queues.let_go(lease.job.queue);
        if !lease.job.draw.is_none() {
            self.budgets.let_go(lease.job.draw);
        }
        if let Some(stream) = self.streams.get_mut(lease.stream) {
            stream.held.remove(&lease.token);
        }
        self.dispatcher.feed(&mut self.streams, lease.stream);
        self.drop_if_over(lease.stream);
        Some(lease)
    }

    /// Stores a new or returning job where its status says. Its former place has been cleared.
    fn settle(&mut self, mut job: Arc<Job>) -> Arc<Job> {
        self.enter_draw(&mut job);
        self.batch.put_job(&job);
        self.queues.count_up(job.queue, job.status, Stamp::of(job.id));
        self.tags.enter(&job);
        match job.due() {
            Some(due) => self.timers.insert(due, &job),
            None => self.make_ready(job.clone()),
        }
        job
    }

    /// Counts an unfinished job among those that draw the same, which have their own order.
    fn enter_draw(&mut self, job: &mut Arc<Job>) {
        let budgets = job.flow.as_ref().map_or(&[][..], |flow| &flow.budgets);
        let draws = !budgets.is_empty() && !job.status.is_terminal();
        let draw = if draws { self.budgets.enter(budgets) } else { DrawId::NONE };
        if job.draw != draw {
            Arc::make_mut(job).draw = draw;
        }
    }

    fn make_ready(&mut self, job: Arc<Job>) {
        let (id, draw) = (job.queue, job.draw);
        self.cursors.keep_before(&job, &mut self.batch);
        let known = self.queues.get(id).is_some_and(|queue| queue.lanes.is_known());
        if known && !draw.is_none() {
            self.add_draw(id, draw);
        }
        if let Some(lanes) = self.queues.get_mut(id).and_then(|queue| queue.lanes_of_mut(draw)) {
            lanes.insert(job, &mut self.ready_bytes);
        }
        if !draw.is_none() {
            self.relist(id, draw);
        }
        self.dispatcher.dispatch_later(&mut self.queues, id);
    }

    /// Puts a job that was in flight back among the ready ones, or among the scheduled ones if a change asked for that
    /// meanwhile.
    pub(in crate::engine) fn requeue(&mut self, job: Arc<Job>) {
        if job.ready_at > self.clock.now() && Some(job.ready_at) > job.dequeued_at {
            let at = job.ready_at;
            self.put_off(job, at);
        } else {
            self.rewrite(job, Status::InFlight);
        }
    }

    /// Makes a job that was in flight wait until `until`.
    pub(in crate::engine) fn put_off(&mut self, job: Arc<Job>, until: u64) {
        let now = self.clock.now();
        self.transition(job, Status::InFlight, |job| {
            job.status = Status::Scheduled;
            job.wait_until(until, now);
            Then::Stays
        });
    }

    /// Removes a job from the ready ones in memory.
    pub(in crate::engine) fn unready(&mut self, job: &Job) {
        if let Some(lanes) = self.queues.get_mut(job.queue).and_then(|queue| queue.lanes_of_mut(job.draw)) {
            lanes.remove(job.priority, Stamp::of(job.id), &mut self.ready_bytes);
        }
        if !job.draw.is_none() {
            self.relist(job.queue, job.draw);
        }
        self.dispatcher.follow_head(&self.queues, job.queue);
    }

    /// Takes a job out of its place in the store, the counts and memory. Its errors stay.
    fn leave(&mut self, job: &Job, from: Status) {
        if from == Status::Ready {
            self.unready(job);
        }
        self.clear_place(job);
    }

    fn clear_place(&mut self, job: &Job) {
        let place = job.place();
        self.batch.remove_job(place, job.due());
        self.queues.count_down(job.queue, place.status);
        self.tags.leave(job);
        self.budgets.leave(job.draw);
        match job.due() {
            Some(due) => self.timers.remove(due, place.stamp),
            None => self.note_removed(job.queue, job.draw, job.priority),
        }
    }

    /// Ensures that a job is found by its id wherever it has been put.
    pub(in crate::engine) fn follow_move(&mut self, job: &Job, was_moved: bool) {
        if job.is_moved() {
            self.batch.put_moved(job);
        } else if was_moved {
            self.batch.remove_moved(job.id);
        }
    }

    /// Removes what is stored of a job beside its record.
    fn forget_traces(&mut self, job: &Job) {
        self.forget_errors(job);
        if job.is_moved() {
            self.batch.remove_moved(job.id);
        }
    }

    pub(in crate::engine) fn forget_errors(&mut self, job: &Job) {
        for attempt in 1..=job.attempts {
            self.batch.remove_error(job.id, attempt);
        }
    }

    /// Moves the cursor of a lane up past the jobs that have left it, so that a restart need not walk past them.
    pub(in crate::engine) fn note_removed(&mut self, id: QueueId, draw: DrawId, priority: u16) {
        let enough = CURSOR_EVERY.max(self.leases.len());
        let Some(lanes) = self.queues.get_mut(id).and_then(|queue| queue.lanes_of_mut(draw)) else { return };
        if !lanes.note_removed(priority, enough) {
            return;
        }
        // A lease that is written down finds its job by itself.
        let of_lane = |job: &Job| (job.queue, job.draw, job.priority) == (id, draw, priority);
        let unsaved = self.leases.iter().filter(|lease| lease.saved.is_none() && of_lane(&lease.job));
        let in_flight = unsaved.map(|l| Stamp::of(l.job.id)).min();
        let first = [in_flight, lanes.first(priority)].into_iter().flatten().min();
        let first = first.unwrap_or(self.clock.last_stamp().next());
        self.cursors.set((id, draw, priority), first, &mut self.batch);
    }
}
