//! Requests about jobs.

use std::sync::Arc;

use protocol::enqueue::NewJob;
use protocol::id::JobId;
use protocol::job::{JobView, Status};
use protocol::lease::{JobHeartbeat, JobRelease, RenewedLease};
use protocol::name::QueueName;
use protocol::outcome::{Failure, LeasedJob, NotDone};
use protocol::patch::Patch;
use protocol::payload::Payload;

use super::Reject;
use super::budgets::BindingChange;
use super::streams::WorkerInfo;
use crate::job::Job;
use crate::job::counts::Counts;
use crate::job::event::Progress;
use crate::job::filter::Filter;
use crate::job::id::Stamp;

/// Enqueues jobs: all of them or none.
#[derive(Debug)]
pub struct Enqueue(pub Vec<NewJob>);

/// Enqueues one job, as [`Enqueue`] does, and waits for its end.
#[derive(Debug)]
pub struct EnqueueAndWait {
    pub jobs: Vec<NewJob>,
    pub waiter: Waiter,
}

/// Reports success of jobs, each independently.
#[derive(Debug)]
pub struct Succeed(pub Vec<LeasedJob>);

/// Reports success of one job, with a result.
#[derive(Debug)]
pub struct SucceedWith {
    pub job: LeasedJob,
    pub result: Payload,
}

/// Reports failure of one job.
#[derive(Debug)]
pub struct Fail {
    pub job: LeasedJob,
    pub failure: Failure,
}

/// A job after a failure.
#[derive(Debug)]
pub struct Failed {
    pub job: Arc<Job>,
    pub queue: QueueName,
}

/// Renews the leases of deliveries, each independently.
#[derive(Debug)]
pub struct Heartbeat(pub Vec<JobHeartbeat>);

/// What became of the leases that a [`Heartbeat`] was for.
#[derive(Debug, Default)]
pub struct Renewed {
    pub jobs: Vec<RenewedLease>,
    /// The jobs that the caller does not hold.
    pub not_done: NotDone,
}

/// Gives jobs back.
#[derive(Debug)]
pub struct Release(pub Vec<JobRelease>);

/// Asks which attempt of the job the caller may report on; the first is 1.
#[derive(Debug)]
pub struct GetAttempt(pub LeasedJob);

/// Changes jobs, each independently. A job is changed only if it exists and, if there is a filter, matches it at that
/// moment.
#[derive(Debug)]
pub struct ChangeJobs {
    pub ids: Vec<JobId>,
    pub only: Option<Arc<Filter>>,
    pub change: Change,
}

/// Asks which of these jobs are in flight.
#[derive(Debug)]
pub struct FindInFlight {
    pub ids: Vec<JobId>,
    /// Only those of this worker, as in [`ListInFlight`].
    pub worker: Option<String>,
}

/// Asks who holds these jobs, as far as they are in flight.
#[derive(Debug)]
pub struct FindHolders(pub Vec<JobId>);

/// Who holds a job in flight, and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    pub id: JobId,
    pub stream: u128,
    pub about: WorkerInfo,
    /// In milliseconds since the Unix epoch; none: as long as its stream is open.
    pub lease_expires_at: Option<u64>,
    /// How often the job was delivered, this time included.
    pub deliveries: u32,
    pub progress: Option<Arc<Progress>>,
}

/// Lists the first jobs in flight after an id.
#[derive(Debug, Clone)]
pub struct ListInFlight {
    /// None for all queues.
    pub queues: Option<Vec<QueueName>>,
    /// Whose jobs: the name of a worker, or of a stream ([`stream_name`](super::streams::stream_name)). None for all.
    pub worker: Option<String>,
    pub from: Option<JobId>,
    pub descending: bool,
    pub limit: usize,
}

/// Counts jobs.
#[derive(Debug)]
pub struct CountJobs {
    /// None for all queues.
    pub queues: Option<Vec<QueueName>>,
}

/// Waits for the end of a job.
#[derive(Debug)]
pub struct Wait {
    pub id: JobId,
    pub waiter: Waiter,
}

/// Whether there is something to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// The waiter will be woken.
    Yes,
    /// The job has ended.
    Ended,
}

/// Stops waiting for the end of a job.
#[derive(Debug)]
pub struct Unwait {
    pub id: JobId,
    /// The key of the [`Waiter`].
    pub key: u64,
}

/// A caller that waits for the end of a job.
pub struct Waiter {
    /// Distinguishes it from others that wait for the same job.
    pub key: u64,
    /// Called with the job as it ended, or with none if it was deleted.
    pub wake: Box<dyn FnOnce(Option<Seen>) + Send>,
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiter").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The result of enqueuing one job.
#[derive(Debug, Clone)]
pub struct Enqueued {
    /// The new job, or the existing one.
    pub job: Arc<Job>,
    pub queue: QueueName,
    pub status: Status,
    pub outcome: Outcome,
}

impl Enqueued {
    /// The view that the answer to its enqueue shows.
    pub fn view(&self) -> JobView<'_> {
        let mut view = self.job.view(&self.queue, self.status);
        view.duplicate = Some(self.outcome == Outcome::Duplicate);
        view.folded = Some(self.outcome == Outcome::Folded);
        view
    }
}

/// How an enqueue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Created,
    /// Its unique key was taken.
    Duplicate,
    /// It was folded into the open batch of its key.
    Folded,
}

/// A change made to a job from outside.
#[derive(Debug, Clone)]
pub enum Change {
    Patch(Arc<Patch>),
    /// Makes a job ready that is not, even one that has ended.
    Retry {
        reset_attempts: bool,
    },
    Delete,
    /// Changes what the job draws on budgets.
    Bind(Arc<BindingChange>),
}

impl Change {
    /// Whether a job of this status can be changed this way.
    pub const fn applies_to(&self, status: Status) -> bool {
        match self {
            Self::Patch(_) | Self::Bind(_) => !status.is_terminal(),
            Self::Retry { .. } => !matches!(status, Status::Ready | Status::InFlight),
            Self::Delete => true,
        }
    }

    /// Whether a filter without statuses means jobs of this status: all that the change applies to, except that only
    /// the dead ones are retried.
    pub fn is_meant_for(&self, status: Status) -> bool {
        match self {
            Self::Retry { .. } => status == Status::Dead,
            _ => self.applies_to(status),
        }
    }
}

/// A job at a moment.
#[derive(Debug, Clone)]
pub struct Seen {
    pub job: Arc<Job>,
    pub queue: QueueName,
    /// In flight while a worker holds it, otherwise as stored.
    pub status: Status,
}

/// The result of a [`Change`] of one job.
#[derive(Debug, Clone)]
pub enum Changed {
    Done {
        before: Seen,
        /// None if it was deleted.
        now: Option<Seen>,
    },
    /// The job is like that already: there is nothing to change.
    Same(Seen),
    /// The job does not exist.
    Missing,
    /// The job cannot be changed this way in its status.
    Refused(Status),
    /// The job no longer matches the filter.
    Passed,
    /// The job conflicts with the change.
    Unfit(Reject),
}

/// The number of jobs of each status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// As stored: `ready` includes the jobs in flight.
    pub stored: Counts,
    pub in_flight: u64,
}

/// How many jobs there are, and which those are.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    pub counts: JobCounts,
    /// The jobs enqueued so far, in any queue, have earlier stamps; those that come have none before it.
    pub until: Stamp,
}

impl JobCounts {
    /// The jobs in those statuses for which this holds.
    pub fn of_all(&self, is_wanted: impl Fn(Status) -> bool) -> u64 {
        Status::ALL.into_iter().filter(|status| is_wanted(*status)).map(|status| self.of(status)).sum()
    }

    pub const fn of(&self, status: Status) -> u64 {
        match status {
            Status::Scheduled => self.stored.scheduled,
            Status::Ready => self.stored.ready - self.in_flight,
            Status::InFlight => self.in_flight,
            Status::Completed => self.stored.completed,
            Status::Dead => self.stored.dead,
        }
    }
}
