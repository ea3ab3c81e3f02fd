//! What can be asked of the engine, and what it answers: only the types that both sides share.
//!
//! The table below has one row for each request, with everything that code outside its execution must know: its
//! [`Kind`], its answer, and what it is [`About`]. To add a request, add a row; a row with a gap does not compile.
//! [`super::Engine::apply`] executes it.

pub(crate) mod access;
pub(crate) mod batches;
pub(crate) mod budgets;
pub(crate) mod crons;
pub(crate) mod jobs;
pub(crate) mod once;
pub(crate) mod queues;
pub(crate) mod report;
pub(crate) mod streams;

use std::borrow::Cow;
use std::sync::Arc;

use protocol::budget::BudgetView;
use protocol::cron::{EntryView, GroupView};
use protocol::enqueue::NewJob;
use protocol::error::Code;
use protocol::flow::Key;
use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::name::CronName;
use protocol::outcome::{LeasedJob, NotDone};

use crate::access::TokenRecord;
use crate::job::Job;
use crate::job::bulk::NewBulk;
use crate::job::id::{QueueId, Stamp};
use access::{AllTokens, CreateToken, ListTokens, RevokeToken, RotateToken, UseTokens};
use batches::{Fold, OpenBatches, Planned};
use budgets::{CheckBinding, CreateBudget, DeleteBudget, GetBudget, ListBudgets, PatchBudget, PutBudget};
use crons::{
    AddEntry, DeleteCron, DeleteCrons, DeleteEntry, GetCron, GetEntry, ListCrons, PatchCron, PauseEntry,
    PutCron, PutEntry, Ran, RunEntry,
};
use jobs::{
    Change, ChangeJobs, Changed, CountJobs, Counted, Enqueue, EnqueueAndWait, Enqueued, Fail, Failed,
    FindHolders, FindInFlight, GetAttempt, Heartbeat, Holder, ListInFlight, Release, Renewed, Seen, Succeed,
    SucceedWith, Unwait, Wait, Waits,
};
use once::Repeated;
use queues::{ForgetQueue, ListQueues, OldestReady, OldestReadyAt, PauseQueue, QueueIds, QueueState};
use report::{GetLevels, GetReport, Levels, Report};
use streams::{
    CaughtUp, CloseStream, CutOff, DrainWorkers, FinishPoll, ListWorkers, OpenStream, Opened, RenewStream,
    StopTaking, WorkerState,
};

/// What an answer waits for, and whether a full disk refuses the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Brings new jobs: its answer waits for the commit mode of enqueues, and a full disk refuses it.
    Enqueue,
    /// Changes what is stored: its answer waits for the commit mode of everything else.
    Change,
    /// Changes who may do what: its answer waits for the disk, whatever the commit modes.
    Access,
    /// Concerns current connections and what they hold, all of which a loss of power ends anyway.
    Link,
    /// Changes nothing.
    Ask,
}

/// What a request is about: what must be read first, and how much work it is.
#[derive(Debug)]
pub enum About<'a> {
    /// Nothing stored.
    Nothing,
    /// New jobs, and the batches they are planned for: who holds their unique keys, and which batches are open.
    NewJobs(&'a [NewJob], &'a [Planned]),
    /// The job of a cron entry, by the names of its group and the entry.
    Entry(&'a CronName, &'a CronName),
    /// The open batches of these keys.
    Batches(&'a [Key]),
    /// Deliveries, as claimed by their workers: a job that is not in flight must be read.
    Deliveries(Cow<'a, [LeasedJob]>, Payloads),
    /// Jobs: those that are not in flight must be read.
    Jobs(&'a [JobId], Payloads),
    /// This many jobs in flight, which are in memory.
    InFlight(usize),
}

/// Which payloads are needed, of jobs in flight that have left theirs to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payloads {
    /// None: their records stay as they are.
    No,
    /// Those of jobs that can still be seen after their success.
    OfKept,
    /// All: their records are rewritten.
    All,
}

impl About<'_> {
    /// The approximate amount of work: each job named counts as one.
    pub fn size(&self) -> usize {
        let jobs = match self {
            Self::Nothing | Self::Entry(..) => 1,
            Self::NewJobs(jobs, _) => jobs.len(),
            Self::Batches(keys) => keys.len(),
            Self::Deliveries(jobs, _) => jobs.len(),
            Self::Jobs(ids, _) => ids.len(),
            Self::InFlight(jobs) => *jobs,
        };
        jobs.max(1)
    }
}

/// A request to the engine.
pub(crate) trait Request: Sized + Send {
    /// The type of its answer.
    type Answer: Send;
    /// Wraps the request in a command.
    fn into_command(self) -> Command;
    /// Extracts the answer from a reply; none if that replies to another request.
    fn answer(reply: Reply) -> Option<Self::Answer>;
}

/// A request about many jobs, each independent of the others.
trait Parts {
    /// Splits off the jobs from this one on.
    fn split_off(&mut self, at: usize) -> Self;
}

macro_rules! requests {
    (@split $request:ident $at:ident parts) => {
        ($at < $request.about().size()).then(|| Self::from(Parts::split_off($request, $at)))
    };
    (@split $request:ident $at:ident whole) => {{
        let _: &_ = $request;
        None
    }};
    ($($name:ident: $kind:ident, $parts:ident, $answer:ty, |$this:ident| $about:expr;)*) => {
        /// One request to the engine.
        #[derive(Debug)]
        pub enum Command {
            $(#[doc = concat!("[`", stringify!($name), "`].")] $name($name),)*
        }

        /// What the engine answers.
        #[derive(Debug)]
        pub enum Reply {
            $(#[doc = concat!("To [`", stringify!($name), "`].")] $name($answer),)*
            /// The request was carried out before, and this was the answer.
            Again(Repeated),
            /// The answer comes when the bulk with this number has been taken in.
            Later(Stamp),
        }

        impl Command {
            /// The number of commands, and their sizes.
            #[cfg(test)]
            pub const SIZES: &[(&str, usize)] = &[$((stringify!($name), size_of::<$name>())),*];

            /// What its answer waits for, and whether a full disk refuses it.
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$name(_) => Kind::$kind,)*
                }
            }

            /// What it is about.
            pub fn about(&self) -> About<'_> {
                match self {
                    $(Self::$name(request) => request.about(),)*
                }
            }

            /// Splits off the jobs from this one on, if each is independent.
            pub fn split_off(&mut self, at: usize) -> Option<Self> {
                match self {
                    $(Self::$name(request) => requests!(@split request at $parts),)*
                }
            }
        }

        $(
            impl $name {
                fn about(&self) -> About<'_> {
                    let $this = self;
                    $about
                }
            }

            impl From<$name> for Command {
                fn from(request: $name) -> Self {
                    Self::$name(request)
                }
            }

            impl Request for $name {
                type Answer = $answer;

                fn into_command(self) -> Command {
                    Command::$name(self)
                }

                fn answer(reply: Reply) -> Option<Self::Answer> {
                    if let Reply::$name(answer) = reply { Some(answer) } else { None }
                }
            }
        )*
    };
}

requests! {
    Enqueue:        Enqueue, whole, Vec<Enqueued>,         |new| About::NewJobs(&new.0, &[]);
    EnqueueAndWait: Enqueue, whole, Vec<Enqueued>,         |new| About::NewJobs(&new.jobs, &[]);
    NewBulk:        Enqueue, whole, Vec<Enqueued>,         |_bulk| About::Nothing;
    Fold:           Enqueue, whole, Vec<Enqueued>,         |fold| About::NewJobs(&fold.jobs, &fold.plan.batches);
    RunEntry:       Enqueue, whole, Ran,                   |run| About::Entry(&run.group, &run.name);
    OpenBatches:    Ask,     whole, Vec<Option<Arc<Job>>>, |open| About::Batches(&open.0);

    Succeed:        Change,  parts, NotDone,               |ack| About::Deliveries((&ack.0).into(), Payloads::OfKept);
    SucceedWith:    Change,  whole, NotDone,               |ack| About::Deliveries(one(&ack.job), Payloads::OfKept);
    Fail:           Change,  whole, Failed,                |fail| About::Deliveries(one(&fail.job), Payloads::All);
    Release:        Change,  parts, NotDone,               |given| About::Deliveries(released(given), Payloads::All);
    Heartbeat:      Link,    whole, Renewed,               |beat| About::Deliveries(beating(beat), Payloads::No);
    GetAttempt:     Ask,     whole, u32,                   |get| About::Deliveries(one(&get.0), Payloads::No);
    ChangeJobs:     Change,  parts, Vec<Changed>,          |change| About::Jobs(&change.ids, rewritten(&change.change));
    Wait:           Ask,     whole, Waits,                 |wait| About::Jobs(std::slice::from_ref(&wait.id), Payloads::No);
    Unwait:         Ask,     whole, (),                    |_unwait| About::Nothing;
    FindInFlight:   Ask,     whole, Vec<Seen>,             |find| About::InFlight(find.ids.len());
    FindHolders:    Ask,     whole, Vec<Holder>,           |find| About::InFlight(find.0.len());
    ListInFlight:   Ask,     whole, Vec<Seen>,             |list| About::InFlight(list.limit);
    CountJobs:      Ask,     whole, Counted,               |_count| About::Nothing;

    OpenStream:     Link,    whole, Opened,                |_open| About::Nothing;
    CloseStream:    Link,    whole, (),                    |_close| About::Nothing;
    StopTaking:     Link,    whole, (),                    |_stop| About::Nothing;
    FinishPoll:     Link,    whole, (),                    |_finish| About::Nothing;
    CaughtUp:       Link,    whole, (),                    |_caught| About::Nothing;
    RenewStream:    Link,    whole, (),                    |_renew| About::Nothing;
    DrainWorkers:   Link,    whole, usize,                 |_drain| About::Nothing;
    CutOff:         Link,    whole, usize,                 |_cut| About::Nothing;
    ListWorkers:    Ask,     whole, Vec<WorkerState>,      |_list| About::Nothing;

    QueueIds:       Ask,     whole, Vec<QueueId>,          |_ids| About::Nothing;
    ListQueues:     Ask,     whole, Vec<QueueState>,       |_list| About::Nothing;
    PauseQueue:     Change,  whole, Edited<QueueState>,           |_pause| About::Nothing;
    ForgetQueue:    Change,  whole, (),                    |_forget| About::Nothing;
    GetReport:      Ask,     whole, Box<Report>,           |_get| About::Nothing;
    GetLevels:      Ask,     whole, Box<Levels>,           |_get| About::Nothing;
    OldestReady:    Ask,     whole, Vec<OldestReadyAt>,    |oldest| About::InFlight(oldest.0.len());

    ListBudgets:    Ask,     whole, Vec<BudgetView>,       |_list| About::Nothing;
    GetBudget:      Ask,     whole, BudgetView,            |_get| About::Nothing;
    CheckBinding:   Ask,     whole, (),                    |_check| About::Nothing;
    CreateBudget:   Change,  whole, BudgetView,            |_create| About::Nothing;
    PutBudget:      Change,  whole, Edited<BudgetView>,           |_put| About::Nothing;
    PatchBudget:    Change,  whole, Edited<BudgetView>,           |_patch| About::Nothing;
    DeleteBudget:   Change,  whole, BudgetView,            |_delete| About::Nothing;

    ListCrons:      Ask,     whole, Vec<CronName>,         |_list| About::Nothing;
    GetCron:        Ask,     whole, GroupView,             |_get| About::Nothing;
    PutCron:        Change,  whole, Edited<GroupView>,            |_put| About::Nothing;
    PatchCron:      Change,  whole, Edited<GroupView>,            |_patch| About::Nothing;
    DeleteCron:     Change,  whole, GroupView,             |_delete| About::Nothing;
    DeleteCrons:    Change,  whole, usize,                 |_delete| About::Nothing;
    AddEntry:       Change,  whole, EntryView,             |_add| About::Nothing;
    GetEntry:       Ask,     whole, EntryView,             |_get| About::Nothing;
    PutEntry:       Change,  whole, Edited<EntryView>,            |_put| About::Nothing;
    PauseEntry:     Change,  whole, Edited<EntryView>,            |_pause| About::Nothing;
    DeleteEntry:    Change,  whole, EntryView,             |_delete| About::Nothing;

    ListTokens:     Ask,     whole, AllTokens,             |_list| About::Nothing;
    CreateToken:    Access,  whole, Arc<TokenRecord>,      |_create| About::Nothing;
    RotateToken:    Access,  whole, Arc<TokenRecord>,      |_rotate| About::Nothing;
    RevokeToken:    Access,  whole, Arc<TokenRecord>,      |_revoke| About::Nothing;
    UseTokens:      Change,  whole, (),                    |_use| About::Nothing;

    Reset:          Change,  whole, (),                    |_reset| About::Nothing;
    Drain:          Link,    whole, (),                    |_drain| About::Nothing;
    Stop:           Change,  whole, (),                    |_stop| About::Nothing;
}

/// What a request has made of one thing. A request that deletes it answers with the thing as it was.
#[derive(Debug)]
pub struct Edited<T> {
    pub now: T,
    /// As it was; none if it did not exist. Boxed: answers to other requests are as large as the largest.
    pub before: Option<Box<T>>,
}

impl<T> Edited<T> {
    pub(in crate::engine) fn of(before: Option<T>, now: T) -> Self {
        Self { now, before: before.map(Box::new) }
    }
}

/// Deletes everything.
#[derive(Debug)]
pub struct Reset;

/// Stops delivering jobs, and tells the workers.
#[derive(Debug)]
pub struct Drain;

/// Writes down every lease, because the server stops.
#[derive(Debug)]
pub struct Stop;

fn one(job: &LeasedJob) -> Cow<'_, [LeasedJob]> {
    std::slice::from_ref(job).into()
}

fn released(release: &Release) -> Cow<'_, [LeasedJob]> {
    release.0.iter().map(|job| leased(job.id, job.lease)).collect()
}

fn beating(heartbeat: &Heartbeat) -> Cow<'_, [LeasedJob]> {
    heartbeat.0.iter().map(|job| leased(job.id, job.lease)).collect()
}

/// A token given with a call, and the job it is for.
pub(super) const fn leased(id: JobId, lease: Option<LeaseToken>) -> LeasedJob {
    LeasedJob { id, lease }
}

/// Which jobs in flight have their records rewritten.
const fn rewritten(change: &Change) -> Payloads {
    match change {
        Change::Patch(_) => Payloads::All,
        // These do not apply to jobs in flight, or end them.
        Change::Retry { .. } | Change::Delete | Change::Bind(_) => Payloads::No,
    }
}

impl Parts for Succeed {
    fn split_off(&mut self, at: usize) -> Self {
        Self(self.0.split_off(at))
    }
}

impl Parts for Release {
    fn split_off(&mut self, at: usize) -> Self {
        Self(self.0.split_off(at))
    }
}

impl Parts for ChangeJobs {
    fn split_off(&mut self, at: usize) -> Self {
        Self { ids: self.ids.split_off(at), only: self.only.clone(), change: self.change.clone() }
    }
}

impl Reply {
    /// Joins the reply to a command and the reply to the rest that was [split off](Command::split_off).
    #[must_use]
    pub fn and(mut self, rest: Self) -> Self {
        match (&mut self, rest) {
            (Self::Succeed(first), Self::Succeed(rest)) | (Self::Release(first), Self::Release(rest)) => {
                first.not_found.extend(rest.not_found);
                first.lost.extend(rest.lost);
            }
            (Self::ChangeJobs(first), Self::ChangeJobs(rest)) => first.extend(rest),
            _ => {}
        }
        self
    }

    /// The jobs that were enqueued.
    pub fn enqueued(&self) -> Option<&[Enqueued]> {
        match self {
            Self::Enqueue(jobs)
            | Self::EnqueueAndWait(jobs)
            | Self::NewBulk(jobs)
            | Self::Fold(jobs)
            | Self::RunEntry(Ran::Enqueued(jobs)) => Some(jobs),
            _ => None,
        }
    }
}

/// Why the engine refused a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    #[error("no such job, or it is not in flight")]
    NotFound,
    #[error("the lease has expired, and the job was delivered again")]
    LeaseLost,
    #[error("the server is shutting down")]
    Draining,
    /// The batches have changed since the plan was made.
    #[error("the batch changed in the meantime; try again")]
    Changed,
    /// Something that the request names does not exist.
    #[error("{0}")]
    Missing(String),
    /// What the request creates exists already.
    #[error("{0}")]
    Exists(String),
    /// What the request deletes is still in use.
    #[error("{0}")]
    InUse(String),
    /// Another request came in between.
    #[error("{0}")]
    Conflict(String),
    /// The first request with this key is still being carried out.
    #[error("the first request with the Idempotency-Key `{0}` is still being carried out")]
    KeyInUse(Arc<str>),
    /// Another request has this key.
    #[error("Idempotency-Key: `{0}` was used for another request; use a new key for each")]
    KeyReused(Arc<str>),
    /// The request with this key was carried out, but its answer is lost.
    #[error("the request `{0}` was carried out, but its answer is lost")]
    AnswerLost(Arc<str>),
    /// The request asks for something impossible.
    #[error("{0}")]
    NotAllowed(String),
    /// One of the jobs that the request brings is invalid.
    #[error("{error}")]
    Job { index: usize, error: String },
}

impl Reject {
    /// The error code for programs.
    pub const fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::NotInFlight,
            Self::LeaseLost => Code::LeaseLost,
            Self::Draining => Code::Draining,
            Self::Changed => Code::BatchChanged,
            Self::Missing(_) => Code::NotFound,
            Self::Exists(_) => Code::Exists,
            Self::InUse(_) => Code::InUse,
            Self::Conflict(_) => Code::Conflict,
            Self::KeyInUse(_) => Code::IdempotencyKeyInUse,
            Self::KeyReused(_) => Code::IdempotencyKeyReused,
            Self::AnswerLost(_) => Code::AnswerLost,
            Self::NotAllowed(_) | Self::Job { .. } => Code::NotAllowed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands are moved several times on their way.
    #[test]
    fn commands_are_small() {
        let large = Command::SIZES.iter().filter(|(_, bytes)| *bytes > 208).collect::<Vec<_>>();
        assert!(large.is_empty(), "{large:?}");
    }
}
