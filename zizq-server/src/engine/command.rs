//! What can be asked of the engine, and what it answers.

use std::net::SocketAddr;
use std::sync::Arc;

use protocol::budget::BudgetView;
use protocol::cron::{EntryView, GroupView};
use protocol::enqueue::NewJob;
use protocol::flow::Key;
use protocol::id::JobId;
use protocol::job::{JobView, Status};
use protocol::lease::{HeartbeatsReply, JobHeartbeat, JobRelease, LeaseToken};
use protocol::name::{CronName, QueueName};
use protocol::outcome::{Failure, LeasedJob, NotDone};
use protocol::patch::Patch;
use protocol::payload::Payload;

use super::answers::{Once, Repeated};
use super::batches::Fold;
use super::budget::{BindingChange, BudgetCommand};
use super::bulk::NewBulk;
use super::cron::CronCommand;
use super::firing::Firing;
use super::id::{QueueId, Stamp};
use super::job::Job;
use super::notice::Waiter;
use super::outbox::Outbox;
use crate::filter::Filter;
use crate::store::record::Counts;

/// One request to the engine.
#[derive(Debug)]
pub enum Command {
    /// All of them or none.
    Enqueue(Vec<NewJob>),
    /// As [`Command::Enqueue`], of jobs some of which belong to batches.
    Fold(Box<Fold>),
    /// Which batches of these keys are open.
    OpenBatches(Vec<Key>),
    /// The same for many jobs, over several turns. It is answered [later](Reply::Later).
    EnqueueBulk(NewBulk),
    Open(OpenStream),
    /// The connection of a stream has ended.
    Close(Link),
    /// A poll wants no more jobs.
    Rest(Link),
    /// A poll has been answered: its leases run by themselves from now on.
    Finish(Link),
    /// A reader that did not keep up has caught up.
    Drained(Link),
    /// The peer of a stream took a heartbeat: its leases begin anew.
    Beat(Link),
    Succeed(Vec<LeasedJob>),
    /// With what came of it.
    SucceedWith {
        job: LeasedJob,
        result: Payload,
    },
    Fail {
        job: LeasedJob,
        failure: Failure,
    },
    Heartbeat(Vec<JobHeartbeat>),
    Release(Vec<JobRelease>),
    /// Which attempt of the job the caller may report on.
    Attempt(LeasedJob),
    Budget(BudgetCommand),
    Cron(Box<CronCommand>),
    /// Enqueue the job of a cron entry now.
    RunEntry {
        group: CronName,
        name: CronName,
    },
    /// Changes jobs, each by itself: those that exist and, with a filter, are what it asks for at that moment.
    Change {
        ids: Vec<JobId>,
        only: Option<Arc<Filter>>,
        change: Change,
    },
    /// Forget everything.
    Reset,
    /// Which of these jobs are in flight.
    Inspect(Vec<JobId>),
    /// Jobs in flight, those behind an id.
    ListInFlight {
        queues: Option<Vec<QueueName>>,
        from: Option<JobId>,
        descending: bool,
        limit: usize,
    },
    /// The numbers of the queues of these names, those that there are.
    QueueIds(Vec<QueueName>),
    /// How many jobs there are, in these queues or in all.
    Count {
        queues: Option<Vec<QueueName>>,
    },
    /// As [`Command::Enqueue`] of one job, and then wait for its end.
    EnqueueAndWait {
        jobs: Vec<NewJob>,
        waiter: Waiter,
    },
    /// Wait for the end of a job.
    Wait {
        id: JobId,
        waiter: Waiter,
    },
    /// Do not wait for it any more.
    Unwait {
        id: JobId,
        key: u64,
    },
    /// Stop to hand out jobs of a queue, or go on with it.
    Pause {
        queue: QueueName,
        paused: bool,
    },
    /// Forget that a queue without jobs is paused.
    ForgetQueue(QueueName),
    /// How these queues are, or all that have a job or are paused.
    Queues {
        names: Option<Vec<QueueName>>,
    },
    /// Who is connected.
    Workers,
    /// A command that brings jobs, or is the beginning of that; a second one with the same key is answered as the first
    /// was, and not carried out.
    Once {
        once: Once,
        command: Box<Self>,
    },
    /// Hand out no more jobs, and tell the workers.
    Drain,
    /// Write down every lease: the server stops.
    Stop,
}

impl Command {
    /// What it is apart from its key.
    pub(super) const fn inner(&self) -> &Self {
        if let Self::Once { command, .. } = self { command } else { self }
    }

    /// The jobs that it brings.
    pub fn new_jobs(&self) -> &[NewJob] {
        match self.inner() {
            Self::Enqueue(jobs) | Self::EnqueueAndWait { jobs, .. } => jobs,
            Self::Fold(fold) => &fold.jobs,
            _ => &[],
        }
    }

    /// How much there is to do, about: a job that is named is one.
    pub fn size(&self) -> usize {
        let jobs = match self {
            Self::Succeed(jobs) => jobs.len(),
            Self::Heartbeat(jobs) => jobs.len(),
            Self::Release(jobs) => jobs.len(),
            Self::Change { ids, .. } => ids.len(),
            Self::Inspect(ids) => ids.len(),
            Self::OpenBatches(keys) => keys.len(),
            Self::ListInFlight { limit, .. } => *limit,
            enqueue => enqueue.new_jobs().len(),
        };
        jobs.max(1)
    }

    /// Takes away the jobs from this one on, where each is by itself.
    pub fn split_off(&mut self, at: usize) -> Option<Self> {
        let rest = match self {
            Self::Succeed(jobs) if at < jobs.len() => Self::Succeed(jobs.split_off(at)),
            Self::Release(jobs) if at < jobs.len() => Self::Release(jobs.split_off(at)),
            Self::Change { ids, only, change } if at < ids.len() => {
                Self::Change { ids: ids.split_off(at), only: only.clone(), change: change.clone() }
            }
            _ => return None,
        };
        Some(rest)
    }

    /// The keys of the batches that it is about.
    pub(super) fn batch_keys(&self) -> impl Iterator<Item = &Key> {
        let (asked, planned) = match self.inner() {
            Self::OpenBatches(keys) => (&keys[..], &[][..]),
            Self::Fold(fold) => (&[][..], &fold.plan.batches[..]),
            _ => (&[][..], &[][..]),
        };
        asked.iter().chain(planned.iter().map(|planned| &planned.key))
    }
}

/// What the engine answers to a [`Command`].
#[derive(Debug)]
pub enum Reply {
    Done,
    /// In the order of the request.
    Enqueued(Vec<Enqueued>),
    /// It was carried out before, and this was the answer.
    Repeated(Repeated),
    /// The answer comes when the bulk of this number has been taken in.
    Later(Stamp),
    Opened(Opened),
    NotDone(NotDone),
    Failed {
        job: Arc<Job>,
        queue: QueueName,
    },
    Heartbeats(HeartbeatsReply),
    /// The number of the attempt; the first is 1.
    Attempt(u32),
    InFlight(Vec<Seen>),
    /// In the order of the ids.
    Changed(Vec<Changed>),
    QueueIds(Vec<QueueId>),
    Counts(JobCounts),
    /// There is nothing to wait for: the job has ended.
    Ended,
    Budgets(Vec<BudgetView>),
    Queues(Vec<QueueState>),
    Workers(Vec<WorkerState>),
    Crons(Vec<CronName>),
    /// In the order of the keys.
    Batches(Vec<Option<Arc<Job>>>),
    /// The job of the entry belongs to a batch, and is to be folded first.
    Firing(Firing),
    Cron(GroupView),
    CronEntry(EntryView),
    Deleted(usize),
}

impl Reply {
    /// The reply to a command whose rest was [split off](Command::split_off), from those to both.
    #[must_use]
    pub fn and(mut self, rest: Self) -> Self {
        match (&mut self, rest) {
            (Self::NotDone(first), Self::NotDone(rest)) => {
                first.not_found.extend(rest.not_found);
                first.lost.extend(rest.lost);
            }
            (Self::Changed(first), Self::Changed(rest)) => first.extend(rest),
            _ => {}
        }
        self
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
    /// It can not be changed like that in its status.
    Refused(Status),
    /// It is not what the filter asks for any more.
    Passed,
    /// It is at odds with what it is to be changed to.
    Unfit(Reject),
}

/// Why the engine refused a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    #[error("no such job, or it is not in flight")]
    NotFound,
    #[error("the lease is not valid any more: the job was handed out again")]
    LeaseLost,
    #[error("the server is shutting down")]
    Draining,
    /// The batches are not what they were when it was found out what to do.
    #[error("the batch has changed meanwhile; try again")]
    Changed,
    /// Something that a request names is not there.
    #[error("{0}")]
    Missing(String),
    /// The request is at odds with what is.
    #[error("{0}")]
    Conflict(String),
    /// The request asks for what cannot be.
    #[error("{0}")]
    NotAllowed(String),
    /// One of the jobs that a request brings cannot be.
    #[error("{error}")]
    Job { index: usize, error: String },
}

/// A connection of a stream. A stream that is resumed changes its link, and what the old one says no longer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link {
    pub stream: u64,
    pub number: u64,
}

/// What kind of connection takes jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// NDJSON and MessagePack: its jobs come back when it closes.
    Bound,
    /// Server-sent events: it can be resumed.
    Events,
    /// A long-poll: its jobs stay leased when it ends.
    Poll,
}

/// A worker that wants jobs.
#[derive(Debug)]
pub struct OpenStream {
    pub kind: StreamKind,
    /// None: every queue.
    pub queues: Option<Vec<QueueName>>,
    /// The most jobs it holds at a time; 0: no limit.
    pub prefetch: u32,
    /// How long its leases last, in milliseconds; none: as long as it is open.
    pub lease_ms: Option<u64>,
    /// How long its leases wait for it to come back, in milliseconds.
    pub resume_ms: u64,
    /// The stream to take over, and its last event that arrived.
    pub resume: Option<(u128, u64)>,
    /// The id of a new stream.
    pub id: u128,
    pub outbox: Arc<Outbox>,
    pub about: About,
}

/// What is told of the worker behind a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The name it gave itself.
    pub worker: Option<String>,
    /// The format of its stream.
    pub format: &'static str,
    /// Where it is connected from.
    pub remote: Option<SocketAddr>,
}

/// A queue and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueState {
    pub name: QueueName,
    pub paused: bool,
    pub counts: JobCounts,
    /// How many connected streams take from it.
    pub workers: u64,
    pub last_release: Option<Arc<LastRelease>>,
}

/// Why a job was given back, the last time that a worker said so. Only memory knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRelease {
    pub reason: String,
    /// In milliseconds since the Unix epoch.
    pub at: u64,
    pub queue: QueueName,
    /// The name that its worker gave itself.
    pub worker: Option<String>,
}

impl QueueState {
    /// A queue that nobody has heard of.
    pub fn empty(name: QueueName) -> Self {
        Self { name, paused: false, counts: JobCounts::default(), workers: 0, last_release: None }
    }
}

/// A connected stream.
#[derive(Debug, Clone)]
pub struct WorkerState {
    pub stream: u128,
    pub about: About,
    /// None: every queue.
    pub queues: Option<Vec<QueueName>>,
    pub prefetch: u32,
    /// How many jobs it holds.
    pub in_flight: usize,
    /// In milliseconds since the Unix epoch.
    pub connected_at: u64,
    pub last_release: Option<Arc<LastRelease>>,
}

/// A stream that was opened.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    pub link: Link,
    pub id: u128,
    pub resumed: bool,
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

/// A token given with a call, and the job it is for.
pub(super) const fn leased(id: JobId, lease: Option<LeaseToken>) -> LeasedJob {
    LeasedJob { id, lease }
}
