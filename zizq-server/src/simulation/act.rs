//! The elements of a history: commands that can be printed, repeated, and checked against their answers.

use std::fmt;
use std::sync::Arc;

use protocol::budget::Policy;
use protocol::enqueue::NewJob;
use protocol::flow::Key;
use protocol::id::JobId;
use protocol::lease::{JobHeartbeat, JobRelease};
use protocol::name::{BudgetKey, CronName, QueueName};
use protocol::outcome::{Failure, LeasedJob};
use protocol::payload::Payload;

use super::access::TokenAct;
use super::batches::Folding;
use super::watchers::Told;
use crate::access::Scope;
use crate::engine::command::batches::OpenBatches;
use crate::engine::command::budgets::{CreateBudget, DeleteBudget, PutBudget};
use crate::engine::command::crons::{
    DeleteCron, DeleteEntry, GetCron, NewEntry, PauseEntry, PutCron, PutEntry, RunEntry,
};
use crate::engine::command::jobs::{
    Change, ChangeJobs, CountJobs, Enqueue, EnqueueAndWait, Fail, FindInFlight, GetAttempt, Heartbeat,
    ListInFlight, Release, Succeed, SucceedWith, Unwait, Wait,
};
use crate::engine::command::once::{Envelope, Once};
use crate::engine::command::queues::{ForgetQueue, ListQueues, PauseQueue};
use crate::engine::command::report::GetReport;
use crate::engine::command::streams::{
    CaughtUp, CloseStream, CutOff, DrainWorkers, FinishPoll, Link, ListWorkers, OpenStream, RenewStream,
    StopTaking, StreamKind,
};
use crate::engine::command::{Command, Drain, Reset, Stop};
use crate::engine::outbox::Outbox;
use crate::job::bulk::NewBulk;
use crate::job::filter::Filter;
use crate::job::id::Stamp;

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
    Budget(BudgetAct),
    Cron(CronAct),
    Token(TokenAct),
    RunEntry(CronName, CronName),
    Reset,
    Inspect(Vec<JobId>),
    List(Listing),
    Count(Option<Vec<QueueName>>),
    Attempt(LeasedJob),
    Queues(Option<Vec<QueueName>>),
    Workers,
    Report,
    DrainWorkers(String),
    CutOff(String),
    Wait { id: JobId, key: u64, told: Told },
    Unwait { id: JobId, key: u64 },
    EnqueueAndWait { job: NewJob, key: u64, told: Told },
    Pause(QueueName, bool),
    ForgetQueue(QueueName),
    Drain,
    Stop,
}

/// A change to budgets.
#[derive(Debug, Clone)]
pub(super) enum BudgetAct {
    Create(BudgetKey, Policy),
    Put(BudgetKey, Policy),
    Delete(BudgetKey),
}

impl BudgetAct {
    fn command(self) -> Command {
        match self {
            Self::Create(key, policy) => CreateBudget(key, policy).into(),
            Self::Put(key, policy) => PutBudget(key, policy).into(),
            Self::Delete(key) => DeleteBudget(key).into(),
        }
    }
}

/// A change to cron entries and their groups.
#[derive(Debug, Clone)]
pub(super) enum CronAct {
    Get(CronName),
    Put { group: CronName, paused: Option<bool>, entries: Vec<NewEntry> },
    Delete(CronName),
    PutEntry(CronName, Box<NewEntry>),
    PauseEntry(CronName, CronName, bool),
    DeleteEntry(CronName, CronName),
}

impl CronAct {
    fn command(self) -> Command {
        match self {
            Self::Get(group) => GetCron(group).into(),
            Self::Put { group, paused, entries } => PutCron { group, paused, timezone: None, entries }.into(),
            Self::Delete(group) => DeleteCron(group).into(),
            Self::PutEntry(group, entry) => PutEntry(group, entry).into(),
            Self::PauseEntry(group, name, paused) => PauseEntry { group, name, paused }.into(),
            Self::DeleteEntry(group, name) => DeleteEntry(group, name).into(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Listing {
    pub queues: Option<Vec<QueueName>>,
    /// The name of a stream.
    pub worker: Option<String>,
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
    /// Makes a plain stream that takes from every queue, as much as it can get.
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

    fn command(self) -> Command {
        let Self { kind, queues, prefetch, lease_ms, resume_ms, resume, id, outbox } = self;
        let about = Box::default();
        let within = Scope::All;
        OpenStream { within, kind, queues, prefetch, lease_ms, resume_ms, resume, id, outbox, about }.into()
    }
}

impl Act {
    pub(super) fn call(&self) -> Envelope {
        let once = if let Self::Once(once, _) = self { Some(once.clone()) } else { None };
        Envelope { command: self.command(), once }
    }

    fn command(&self) -> Command {
        match self.clone() {
            Self::Enqueue(jobs) | Self::Once(_, jobs) => Enqueue(jobs).into(),
            Self::EnqueueBulk(bulk) => bulk.into(),
            Self::Open(open) => open.command(),
            Self::Close(link) => CloseStream(link).into(),
            Self::Rest(link) => StopTaking(link).into(),
            Self::Finish(link) => FinishPoll(link).into(),
            Self::Drained(link) => CaughtUp(link).into(),
            Self::Beat(link) => RenewStream(link).into(),
            Self::Succeed(jobs) => Succeed(jobs).into(),
            Self::SucceedWith(job, result) => SucceedWith { job, result }.into(),
            Self::Fail { job, failure } => Fail { job, failure }.into(),
            Self::Heartbeat(jobs) => Heartbeat(jobs).into(),
            Self::Release(jobs) => Release(jobs).into(),
            Self::Change { ids, only, change } => ChangeJobs { ids, only, change }.into(),
            Self::Fold(folding) => folding.command(),
            Self::OpenBatches(keys) => OpenBatches(keys, Scope::All).into(),
            Self::Budget(act) => act.command(),
            Self::Cron(act) => act.command(),
            Self::Token(act) => act.command(),
            Self::RunEntry(group, name) => RunEntry { group, name }.into(),
            Self::Reset => Reset.into(),
            Self::Inspect(ids) => FindInFlight { ids, worker: None }.into(),
            Self::List(Listing { queues, worker, from, descending, limit }) => {
                ListInFlight { queues, worker, from, descending, limit }.into()
            }
            Self::Count(queues) => CountJobs { queues }.into(),
            Self::Attempt(job) => GetAttempt(job).into(),
            Self::Queues(names) => ListQueues { names }.into(),
            Self::Workers => ListWorkers.into(),
            Self::Report => GetReport.into(),
            Self::DrainWorkers(start) => DrainWorkers::Stream(start).into(),
            Self::CutOff(start) => CutOff(start).into(),
            Self::Wait { id, key, told } => Wait { id, waiter: told.waiter(key) }.into(),
            Self::Unwait { id, key } => Unwait { id, key }.into(),
            Self::EnqueueAndWait { job, key, told } => {
                EnqueueAndWait { jobs: vec![job], waiter: told.waiter(key) }.into()
            }
            Self::Pause(queue, paused) => PauseQueue { queue, paused }.into(),
            Self::ForgetQueue(queue) => ForgetQueue(queue).into(),
            Self::Drain => Drain.into(),
            Self::Stop => Stop.into(),
        }
    }

    /// Returns the jobs that the act brings.
    pub(super) fn new_jobs(&self) -> Vec<NewJob> {
        match self {
            Self::Enqueue(jobs) | Self::Once(_, jobs) => jobs.clone(),
            Self::EnqueueAndWait { job, .. } => vec![job.clone()],
            Self::Fold(folding) if folding.firing.is_none() => folding.new_jobs(),
            _ => Vec::new(),
        }
    }

    /// Returns the jobs that the act names.
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
