//! What a history consists of: commands that can be told, repeated, and held against their answers.

use std::fmt;
use std::sync::Arc;

use protocol::enqueue::NewJob;
use protocol::flow::Key;
use protocol::id::JobId;
use protocol::lease::{JobHeartbeat, JobRelease};
use protocol::name::{CronName, QueueName};
use protocol::outcome::{Failure, LeasedJob};
use protocol::payload::Payload;

use super::batches::Folding;
use super::watchers::Told;
use crate::engine::answers::Once;
use crate::engine::budget::BudgetCommand;
use crate::engine::bulk::NewBulk;
use crate::engine::command::{About, Change, Command, Link, OpenStream, StreamKind};
use crate::engine::cron::CronCommand;
use crate::engine::id::Stamp;
use crate::engine::outbox::Outbox;
use crate::filter::Filter;

/// A [`Command`] that can be kept.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Enqueue(Vec<NewJob>),
    Once(Once, Vec<NewJob>),
    EnqueueBulk(NewBulk),
    Open(Opening),
    Close(Link),
    Rest(Link),
    Finish(Link),
    Drained(Link),
    Beat(Link),
    Succeed(Vec<LeasedJob>),
    SucceedWith(LeasedJob, Payload),
    Fail { job: LeasedJob, failure: Failure },
    Heartbeat(Vec<JobHeartbeat>),
    Release(Vec<JobRelease>),
    Change { ids: Vec<JobId>, only: Option<Arc<Filter>>, change: Change },
    Fold(Folding),
    OpenBatches(Vec<Key>),
    Budget(BudgetCommand),
    Cron(Box<CronCommand>),
    RunEntry(CronName, CronName),
    Reset,
    Inspect(Vec<JobId>),
    List(Listing),
    Count(Option<Vec<QueueName>>),
    Attempt(LeasedJob),
    Queues(Option<Vec<QueueName>>),
    Workers,
    Wait { id: JobId, key: u64, told: Told },
    Unwait { id: JobId, key: u64 },
    EnqueueAndWait { job: NewJob, key: u64, told: Told },
    Pause(QueueName, bool),
    ForgetQueue(QueueName),
    Drain,
    Stop,
}

#[derive(Debug, Clone)]
pub(super) struct Listing {
    pub queues: Option<Vec<QueueName>>,
    pub from: Option<JobId>,
    pub descending: bool,
    pub limit: usize,
}

/// An [`OpenStream`] that can be kept.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub kind: StreamKind,
    pub queues: Option<Vec<QueueName>>,
    pub prefetch: u32,
    pub lease_ms: Option<u64>,
    pub resume_ms: u64,
    pub resume: Option<(u128, u64)>,
    pub id: u128,
    pub outbox: Arc<Outbox>,
}

impl Opening {
    /// A plain stream that takes from every queue, as much as it can get.
    pub(super) fn everything(id: u128) -> Self {
        Self {
            kind: StreamKind::Bound,
            queues: None,
            prefetch: 0,
            lease_ms: None,
            resume_ms: 0,
            resume: None,
            id,
            outbox: Arc::default(),
        }
    }
}

impl Act {
    pub(super) fn command(&self) -> Command {
        match self.clone() {
            Self::Enqueue(jobs) => Command::Enqueue(jobs),
            Self::Once(once, jobs) => Command::Enqueue(jobs).once(Some(&once)),
            Self::EnqueueBulk(bulk) => Command::EnqueueBulk(bulk),
            Self::Open(open) => Command::Open(OpenStream {
                kind: open.kind,
                queues: open.queues,
                prefetch: open.prefetch,
                lease_ms: open.lease_ms,
                resume_ms: open.resume_ms,
                resume: open.resume,
                id: open.id,
                outbox: open.outbox,
                about: About::default(),
            }),
            Self::Close(link) => Command::Close(link),
            Self::Rest(link) => Command::Rest(link),
            Self::Finish(link) => Command::Finish(link),
            Self::Drained(link) => Command::Drained(link),
            Self::Beat(link) => Command::Beat(link),
            Self::Succeed(jobs) => Command::Succeed(jobs),
            Self::SucceedWith(job, result) => Command::SucceedWith { job, result },
            Self::Fail { job, failure } => Command::Fail { job, failure },
            Self::Heartbeat(jobs) => Command::Heartbeat(jobs),
            Self::Release(jobs) => Command::Release(jobs),
            Self::Change { ids, only, change } => Command::Change { ids, only, change },
            Self::Fold(folding) => folding.command(),
            Self::OpenBatches(keys) => Command::OpenBatches(keys),
            Self::Budget(command) => Command::Budget(command),
            Self::Cron(command) => Command::Cron(command),
            Self::RunEntry(group, name) => Command::RunEntry { group, name },
            Self::Reset => Command::Reset,
            Self::Inspect(ids) => Command::Inspect(ids),
            Self::List(Listing { queues, from, descending, limit }) => {
                Command::ListInFlight { queues, from, descending, limit }
            }
            Self::Count(queues) => Command::Count { queues },
            Self::Attempt(job) => Command::Attempt(job),
            Self::Queues(names) => Command::Queues { names },
            Self::Workers => Command::Workers,
            Self::Wait { id, key, told } => Command::Wait { id, waiter: told.waiter(key) },
            Self::Unwait { id, key } => Command::Unwait { id, key },
            Self::EnqueueAndWait { job, key, told } => {
                Command::EnqueueAndWait { jobs: vec![job], waiter: told.waiter(key) }
            }
            Self::Pause(queue, paused) => Command::Pause { queue, paused },
            Self::ForgetQueue(queue) => Command::ForgetQueue(queue),
            Self::Drain => Command::Drain,
            Self::Stop => Command::Stop,
        }
    }

    /// The jobs it brings.
    pub(super) fn new_jobs(&self) -> Vec<NewJob> {
        match self {
            Self::Enqueue(jobs) | Self::Once(_, jobs) => jobs.clone(),
            Self::EnqueueAndWait { job, .. } => vec![job.clone()],
            Self::Fold(folding) if folding.firing.is_none() => folding.new_jobs(),
            _ => Vec::new(),
        }
    }

    /// The jobs it names.
    pub(super) fn ids(&self) -> Vec<JobId> {
        match self {
            Self::Succeed(jobs) => jobs.iter().map(|job| job.id).collect(),
            Self::SucceedWith(job, _) => vec![job.id],
            Self::Fail { job, .. } => vec![job.id],
            Self::Heartbeat(jobs) => jobs.iter().map(|job| job.id).collect(),
            Self::Release(jobs) => jobs.iter().map(|job| job.id).collect(),
            Self::Change { ids, .. } => ids.clone(),
            Self::Fold(folding) => folding.ids().collect(),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enqueue(jobs) => {
                write!(f, "enqueue")?;
                jobs.iter().take(4).try_for_each(|job| write!(f, " {}", told(job)))?;
                if jobs.len() > 4 { write!(f, " … {} in all", jobs.len()) } else { Ok(()) }
            }
            Self::Fold(Folding { jobs, plan, firing }) => {
                write!(f, "fold")?;
                jobs.iter()
                    .zip(&plan.steps)
                    .try_for_each(|(job, step)| write!(f, " {step:?} {}", told(job)))?;
                let open = plan.batches.iter().map(|planned| (&planned.key, planned.open));
                write!(f, " of {:?}", open.collect::<Vec<_>>())?;
                firing.iter().try_for_each(|f2| write!(f, " for {} {} due {}", f2.group, f2.name, f2.is_due))
            }
            Self::Once(once, jobs) => {
                write!(f, "once {} {:x}", once.key, once.fingerprint)?;
                jobs.iter().try_for_each(|job| write!(f, " {}", told(job)))
            }
            Self::EnqueueBulk(bulk) => {
                write!(f, "enqueue in bulk")?;
                bulk.jobs().iter().try_for_each(|job| write!(f, " {}", told(job)))
            }
            Self::Open(open) => {
                let Opening { kind, queues, prefetch, lease_ms, resume_ms, resume, id, .. } = open;
                let queues = queues.as_ref().map_or("*".to_owned(), |names| format!("{names:?}"));
                let resume = resume.map(|(id, n)| format!("{:04x}:{n}", id & 0xffff));
                let id = id & 0xffff;
                write!(f, "open {kind:?} {id:04x} {queues} prefetch {prefetch} lease {lease_ms:?} ")?;
                write!(f, "resume_ms {resume_ms} resume {resume:?}")
            }
            Self::Fail { job, failure: Failure { message, retry_at, kill, .. } } => {
                write!(f, "fail {} `{message}` retry_at {retry_at:?} kill {kill:?}", held(*job))
            }
            Self::Succeed(jobs) => {
                write!(f, "succeed")?;
                jobs.iter().try_for_each(|job| write!(f, " {}", held(*job)))
            }
            Self::Heartbeat(jobs) => {
                write!(f, "heartbeat")?;
                jobs.iter().try_for_each(|JobHeartbeat { id, lease, lease_ms, .. }| {
                    write!(f, " {} {lease_ms:?}", held(LeasedJob { id: *id, lease: *lease }))
                })
            }
            Self::Release(jobs) => {
                write!(f, "release")?;
                jobs.iter().try_for_each(|JobRelease { id, lease, ready_at, .. }| {
                    write!(f, " {} {ready_at:?}", held(LeasedJob { id: *id, lease: *lease }))
                })
            }
            Self::Change { ids, only, change } => {
                write!(f, "change")?;
                ids.iter().try_for_each(|id| write!(f, " {:?}", Stamp::of(*id)))?;
                write!(f, " if {:?} by {change:?}", only.as_ref().map(|filter| &filter.statuses))
            }
            Self::EnqueueAndWait { job, key, .. } => write!(f, "enqueue {}, {key} waits", told(job)),
            Self::Wait { id, key, .. } => write!(f, "{key} waits for {:?}", Stamp::of(*id)),
            other => write!(f, "{other:?}"),
        }
    }
}

fn told(job: &NewJob) -> String {
    let NewJob { queue, priority, ready_at, retry_limit, retention, payload, flow, .. } = job;
    let bytes = payload.bytes().len();
    format!("({queue} p{priority} at {ready_at:?} limit {retry_limit:?} {retention:?} {bytes} B {flow:?})")
}

fn held(job: LeasedJob) -> String {
    format!("{:?}/{:?}", Stamp::of(job.id), job.lease)
}
