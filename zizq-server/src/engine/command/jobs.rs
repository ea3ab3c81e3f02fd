//! Requests about jobs.

use std::sync::Arc;

use protocol::enqueue::NewJob;
use protocol::id::JobId;
use protocol::job::{JobView, Status};
use protocol::lease::{JobHeartbeat, JobRelease};
use protocol::name::QueueName;
use protocol::outcome::{Failure, LeasedJob};
use protocol::patch::Patch;
use protocol::payload::Payload;

use super::Reject;
use super::budgets::BindingChange;
use crate::job::Job;
use crate::job::counts::Counts;
use crate::job::filter::Filter;

/// Enqueue jobs: all of them or none.
#[derive(Debug)]
pub struct Enqueue(pub Vec<NewJob>);

/// As [`Enqueue`] of one job, and then wait for its end.
#[derive(Debug)]
pub struct EnqueueAndWait {
    pub jobs: Vec<NewJob>,
    pub waiter: Waiter,
}

/// Jobs have succeeded. Each is by itself.
#[derive(Debug)]
pub struct Succeed(pub Vec<LeasedJob>);

/// A job has succeeded, with a result.
#[derive(Debug)]
pub struct SucceedWith {
    pub job: LeasedJob,
    pub result: Payload,
}

/// A job has failed.
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

/// Deliveries go on: their leases begin anew.
#[derive(Debug)]
pub struct Heartbeat(pub Vec<JobHeartbeat>);

/// Jobs are given back.
#[derive(Debug)]
pub struct Release(pub Vec<JobRelease>);

/// Which attempt of the job the caller may report on; the first is 1.
#[derive(Debug)]
pub struct GetAttempt(pub LeasedJob);

/// Change jobs, each by itself: those that exist and, with a filter, are what it asks for at that moment.
#[derive(Debug)]
pub struct ChangeJobs {
    pub ids: Vec<JobId>,
    pub only: Option<Arc<Filter>>,
    pub change: Change,
}

/// Which of these jobs are in flight.
#[derive(Debug)]
pub struct FindInFlight(pub Vec<JobId>);

/// The first jobs in flight behind an id.
#[derive(Debug)]
pub struct ListInFlight {
    /// None: of all queues.
    pub queues: Option<Vec<QueueName>>,
    pub from: Option<JobId>,
    pub descending: bool,
    pub limit: usize,
}

/// How many jobs there are.
#[derive(Debug)]
pub struct CountJobs {
    /// None: in all queues.
    pub queues: Option<Vec<QueueName>>,
}

/// Wait for the end of a job.
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

/// Do not wait for the end of a job any more.
#[derive(Debug)]
pub struct Unwait {
    pub id: JobId,
    /// Of the [`Waiter`].
    pub key: u64,
}

/// Somebody who waits for the end of a job.
pub struct Waiter {
    /// To be told from others who wait for the same job.
    pub key: u64,
    /// What to do with the job as it ended, or with none where it was deleted.
    pub wake: Box<dyn FnOnce(Option<Seen>) + Send>,
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiter").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What became of one job that was to be enqueued.
#[derive(Debug, Clone)]
pub struct Enqueued {
    /// The new job, or the one that was there.
    pub job: Arc<Job>,
    pub queue: QueueName,
    pub status: Status,
    pub outcome: Outcome,
}

impl Enqueued {
    /// As the answer to its enqueue shows it.
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
    /// It is in the open batch of its key.
    Folded,
}

/// What is done to a job from outside.
#[derive(Debug, Clone)]
pub enum Change {
    Patch(Arc<Patch>),
    /// Makes a job ready that is not: one that ended, too.
    Retry {
        reset_attempts: bool,
    },
    Delete,
    /// Changes what it draws on budgets.
    Bind(Arc<BindingChange>),
}

impl Change {
    /// Whether a job of this status can be changed like that.
    pub const fn applies_to(&self, status: Status) -> bool {
        match self {
            Self::Patch(_) | Self::Bind(_) => !status.is_terminal(),
            Self::Retry { .. } => !matches!(status, Status::Ready | Status::InFlight),
            Self::Delete => true,
        }
    }

    /// Whether a job of this status is meant where somebody says which jobs to change, but not of which status: all to
    /// which it applies, and of those that can be retried the dead ones.
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
    /// In flight where somebody holds it, else as it is stored.
    pub status: Status,
}

/// What came of a [`Change`] of one job.
#[derive(Debug, Clone)]
pub enum Changed {
    /// As it is now; as it was, if it was deleted.
    Done(Seen),
    /// It is like that already: there is nothing to change.
    Same(Seen),
    /// There is no such job.
    Missing,
    /// It cannot be changed like that in its status.
    Refused(Status),
    /// It is not what the filter asks for any more.
    Passed,
    /// It is at odds with what it is to be changed to.
    Unfit(Reject),
}

/// How many jobs have each status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// As stored: `ready` includes the jobs in flight.
    pub stored: Counts,
    pub in_flight: u64,
}

impl JobCounts {
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
