//! Reports on their way to the server: each goes again and again until the server has answered for good.
//!
//! ```text
//!  done, or not this worker's any more ──► settled
//!  no server ───────────────────────────► again, after a pause for all
//!  something else has answered ─────────► again, behind the others; many jobs each by itself
//!  refused ─────────────────────────────► many jobs each by itself; one in plainer words, to the plainest
//! ```

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use protocol::id::JobId;
use protocol::outcome::Failure;
use reqwest::StatusCode;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::client::{CallError, Client};
use crate::event::AfterFailure;
use crate::exec::Usage;
use crate::outcome::{millis, start_of};
use crate::report::{GivenBack, Lease, Report, Verdict};

/// The most calls at a time.
const MAX_CALLS: usize = 16;
/// The longest pause while there is no server.
const NO_SERVER: Duration = Duration::from_secs(2);
/// The longest pause between two tries of a call that something else answers.
const FOREIGN: Duration = Duration::from_secs(10);
/// A call of many jobs is tried so often as it is while something else answers.
const TRIES_TOGETHER: u32 = 3;
/// How much of a message that was refused is sent once more, in bytes.
const PLAIN_MESSAGE: usize = 200;
/// How long a job is left alone about which the server wants to hear nothing.
const UNHEARD: Duration = Duration::from_secs(60);

/// One call to the server.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Succeed(Vec<(Lease, Option<Usage>)>),
    Release(Vec<GivenBack>),
    /// What cannot go in bulk: a failure, or a success with a result.
    One(Report),
}

/// What became of a call, for each job.
pub(crate) type Answered = Vec<Settled>;

/// What became of a report.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) lease: Lease,
    /// Why it was refused, if it was.
    pub(crate) refused: Option<String>,
    /// Whether it said that the job has succeeded.
    pub(crate) is_success: bool,
    /// What follows from a failure.
    pub(crate) after: Option<AfterFailure>,
}

/// A call that was answered.
#[derive(Debug, Default)]
struct Made {
    /// Jobs that were not this worker's any more.
    refused: Vec<JobId>,
    after: Option<AfterFailure>,
}

/// A call, and how it went so far.
#[derive(Debug)]
struct Pending {
    call: Call,
    due: Instant,
    tries: u32,
    backoff: Backoff,
}

/// Every call that the server has not answered for good.
#[derive(Debug)]
pub(crate) struct Deliveries {
    client: Client,
    waiting: VecDeque<Pending>,
    running: JoinSet<(Pending, Result<Made, CallError>)>,
    /// While there is no server.
    rests_until: Option<Instant>,
    backoff: Backoff,
    /// It was said that the server keeps no results.
    no_results: bool,
}

impl Deliveries {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            waiting: VecDeque::new(),
            running: JoinSet::new(),
            rests_until: None,
            backoff: Backoff::new(Duration::from_millis(100), NO_SERVER),
            no_results: false,
        }
    }

    pub(crate) fn add(&mut self, calls: impl IntoIterator<Item = Call>) {
        self.waiting.extend(calls.into_iter().map(Pending::new));
        self.start();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether one more call could be made at once.
    pub(crate) fn has_room(&self) -> bool {
        self.running.len() < MAX_CALLS
    }

    /// Goes on until something is answered for good, or not; must not be called when there is nothing.
    pub(crate) async fn next(&mut self) -> Answered {
        let due = self.next_due();
        tokio::select! {
            Some(ended) = self.running.join_next() => match ended {
                Ok((pending, answer)) => {
                    let answered = self.judge(pending, answer);
                    self.start();
                    answered
                }
                Err(e) => {
                    tracing::error!("a delivery has a bug: {e}");
                    Answered::new()
                }
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                self.start();
                Answered::new()
            }
        }
    }

    /// When another call is due, if one may be made then.
    fn next_due(&self) -> Option<Instant> {
        let first = self.waiting.iter().map(|pending| pending.due).min().filter(|_| self.has_room())?;
        Some(self.rests_until.map_or(first, |until| until.max(first)))
    }

    fn start(&mut self) {
        let now = Instant::now();
        if self.rests_until.is_some_and(|until| until > now) {
            return;
        }
        while self.has_room() {
            let Some(at) = self.waiting.iter().position(|pending| pending.due <= now) else { break };
            let Some(pending) = self.waiting.remove(at) else { break };
            let client = self.client.clone();
            self.running.spawn(async move {
                let answer = pending.call.make(&client).await;
                (pending, answer)
            });
        }
    }

    fn judge(&mut self, mut pending: Pending, answer: Result<Made, CallError>) -> Answered {
        pending.tries += 1;
        let error = match answer {
            Ok(Made { refused, after }) => {
                self.hears_the_server();
                let (what, is_success) = (pending.call.what(), pending.call.is_success());
                let too_late = || format!("{what} came too late: the job is not this worker's any more");
                let of = |lease: Lease| {
                    let refused = refused.contains(&lease.id).then(too_late);
                    Settled { lease, refused, is_success, after }
                };
                return pending.call.leases().map(of).collect();
            }
            Err(error) => error,
        };
        match error {
            CallError::Refused { status, message, .. } => {
                self.hears_the_server();
                return self.refused(pending.call, status, message);
            }
            CallError::NoAnswer(_) | CallError::Busy { .. } => {
                let asked =
                    if let CallError::Busy { retry_after, .. } = &error { *retry_after } else { None };
                let pause = self.backoff.next().max(asked.unwrap_or_default());
                self.rests_until = Some(Instant::now() + pause);
                pending.say(&error);
                self.waiting.push_front(pending);
            }
            // Mostly nothing comes through then. If others do, there is something about this call.
            CallError::Foreign { .. } => {
                self.rests_until = Some(Instant::now() + self.backoff.next());
                pending.say(&error);
                self.foreign(pending);
            }
        }
        Answered::new()
    }

    fn hears_the_server(&mut self) {
        self.backoff.reset();
        self.rests_until = None;
    }

    /// Something else has answered. A call of many is taken apart in the end: it may be about one of them.
    fn foreign(&mut self, mut pending: Pending) {
        if pending.tries >= TRIES_TOGETHER && pending.call.leases().count() > 1 {
            return self.waiting.extend(pending.call.apart().into_iter().map(Pending::new));
        }
        pending.due = Instant::now() + pending.backoff.next();
        self.waiting.push_back(pending);
    }

    /// The server has refused a call.
    fn refused(&mut self, call: Call, status: StatusCode, message: String) -> Answered {
        let what = call.what();
        let why = format!("{what} was not accepted: the server answered {status}: {message}");
        if call.leases().count() > 1 {
            tracing::warn!("{why}; each job goes by itself");
            self.waiting.extend(call.apart().into_iter().map(Pending::new));
            return Answered::new();
        }
        let is_over = [StatusCode::NOT_FOUND, StatusCode::CONFLICT].contains(&status);
        let plainer = if is_over { None } else { call.plainer(&message) };
        match plainer {
            Some((lease, plainer)) => {
                let keeps_no_results = status == StatusCode::UNPROCESSABLE_ENTITY && call.has_result();
                // Once is enough where it is always the same.
                if !keeps_no_results || !mem::replace(&mut self.no_results, true) {
                    tracing::warn!(job = %lease.id, "{why}; said more plainly: {}", plainer.what());
                }
                self.waiting.push_back(Pending::new(plainer));
                Answered::new()
            }
            None => {
                let is_success = call.is_success();
                let of = |lease| Settled { lease, refused: Some(why.clone()), is_success, after: None };
                call.leases().map(of).collect()
            }
        }
    }
}

impl Pending {
    fn new(call: Call) -> Self {
        let backoff = Backoff::new(Duration::from_millis(100), FOREIGN);
        Self { call, due: Instant::now(), tries: 0, backoff }
    }

    fn say(&self, error: &CallError) {
        let (jobs, what) = (self.call.leases().count(), self.call.what());
        if self.tries == 1 {
            tracing::warn!(jobs, "{what} waits for the server: {error}");
        } else {
            tracing::debug!(jobs, "{what} still waits for the server: {error}");
        }
    }
}

impl Made {
    fn of(refused: Vec<JobId>) -> Self {
        Self { refused, ..Self::default() }
    }
}

impl Call {
    /// Makes it once.
    async fn make(&self, client: &Client) -> Result<Made, CallError> {
        let Report { lease, verdict } = match self {
            Self::Succeed(done) => return client.succeed(done).await.map(Made::of),
            Self::Release(back) => return client.release(back).await.map(Made::of),
            Self::One(report) => report,
        };
        match &**verdict {
            Verdict::Failure { failure, usage } => {
                let after = client.fail(*lease, failure, *usage).await?;
                Ok(Made { after, ..Made::default() })
            }
            Verdict::Success { result: Some(result), usage } => {
                client.succeed_with(*lease, result, *usage).await.map(|()| Made::default())
            }
            // These go in bulk.
            Verdict::Success { result: None, usage } => {
                client.succeed(&[(*lease, *usage)]).await.map(Made::of)
            }
            Verdict::Release { delay_ms, reason } => {
                let back = GivenBack { lease: *lease, delay_ms: *delay_ms, reason: reason.clone() };
                client.release(&[back]).await.map(Made::of)
            }
        }
    }

    fn leases(&self) -> impl Iterator<Item = Lease> {
        let (one, successes, releases): (Option<Lease>, &[_], &[_]) = match self {
            Self::Succeed(done) => (None, done, &[]),
            Self::Release(back) => (None, &[], back),
            Self::One(report) => (Some(report.lease), &[], &[]),
        };
        let successes = successes.iter().map(|&(lease, _)| lease);
        one.into_iter().chain(successes).chain(releases.iter().map(|back| back.lease))
    }

    fn what(&self) -> &'static str {
        match self {
            Self::Succeed(_) => "the success",
            Self::Release(_) => "the release",
            Self::One(report) => match &*report.verdict {
                Verdict::Success { .. } => "the success",
                Verdict::Failure { .. } => "the failure",
                Verdict::Release { .. } => "the release",
            },
        }
    }

    fn is_success(&self) -> bool {
        match self {
            Self::Succeed(_) => true,
            Self::Release(_) => false,
            Self::One(report) => matches!(*report.verdict, Verdict::Success { .. }),
        }
    }

    fn has_result(&self) -> bool {
        matches!(self, Self::One(Report { verdict, .. }) if matches!(**verdict, Verdict::Success { result: Some(_), .. }))
    }

    /// The same, each job by itself.
    fn apart(self) -> Vec<Self> {
        match self {
            Self::Succeed(done) => done.into_iter().map(|one| Self::Succeed(vec![one])).collect(),
            Self::Release(back) => back.into_iter().map(|one| Self::Release(vec![one])).collect(),
            Self::One(report) => vec![Self::One(report)],
        }
    }

    /// What to say instead about the one job of a call that was refused, and whose; none: there is nothing plainer.
    fn plainer(&self, why: &str) -> Option<(Lease, Self)> {
        let (lease, verdict) = match self {
            Self::Succeed(done) => {
                let (lease, usage) = *done.first()?;
                (lease, Verdict::Success { result: None, usage })
            }
            Self::Release(back) => {
                let GivenBack { lease, delay_ms, reason } = back.first()?.clone();
                (lease, Verdict::Release { delay_ms, reason })
            }
            Self::One(Report { lease, verdict }) => (*lease, Verdict::clone(verdict)),
        };
        let plainer = match plainer(&verdict, why)? {
            Verdict::Success { result: None, usage } => Self::Succeed(vec![(lease, usage)]),
            Verdict::Release { delay_ms, reason } => {
                Self::Release(vec![GivenBack { lease, delay_ms, reason }])
            }
            other => Self::One(Report { lease, verdict: Arc::new(other) }),
        };
        Some((lease, plainer))
    }
}

/// What is left to say when the server has refused a verdict, from the most to the least.
fn plainer(verdict: &Verdict, why: &str) -> Option<Verdict> {
    match verdict {
        // The work is done all the same.
        Verdict::Success { result: None, usage: None } => {
            let message = format!("it was done, but the server refused to hear so: {why}");
            let message = start_of(&message, PLAIN_MESSAGE).to_owned();
            Some(Verdict::Failure { failure: Failure { message, ..Failure::default() }, usage: None })
        }
        Verdict::Success { .. } => Some(Verdict::Success { result: None, usage: None }),
        Verdict::Failure { failure, usage } => {
            let message = start_of(&failure.message, PLAIN_MESSAGE).to_owned();
            let plain = Failure { message, kill: failure.kill, ..Failure::default() };
            if plain != *failure || usage.is_some() {
                return Some(Verdict::Failure { failure: plain, usage: None });
            }
            let reason = format!("the server refused to hear how it failed: {why}");
            Some(Verdict::Release { delay_ms: Some(millis(UNHEARD)), reason: Some(reason) })
        }
        Verdict::Release { delay_ms: None, reason: None } => None,
        Verdict::Release { .. } => Some(Verdict::Release { delay_ms: None, reason: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::JobResult;

    #[test]
    fn a_refused_report_becomes_plainer_until_there_is_nothing_left_to_leave_out() {
        let usage = Some(Usage { wall_ms: 1, cpu_ms: 1, peak_bytes: None });
        let result = serde_json::from_str::<JobResult>("[1]").ok();
        let failure = Failure {
            message: "x".repeat(1_000),
            error_type: Some("t".to_owned()),
            backtrace: Some("b".to_owned()),
            delay_ms: Some(5),
            retry_at: None,
            kill: Some(true),
        };
        let steps = |first: Verdict| {
            let mut said = vec![first];
            while let Some(next) = said.last().and_then(|last| plainer(last, "why")) {
                said.push(next);
            }
            said
        };
        let word = |verdict: &Verdict| match verdict {
            Verdict::Success { result: Some(_), .. } => "result",
            Verdict::Success { usage: Some(_), .. } => "success with usage",
            Verdict::Success { .. } => "success",
            Verdict::Failure { failure, .. } if failure.error_type.is_some() => "failure",
            Verdict::Failure { .. } => "plain failure",
            Verdict::Release { delay_ms: Some(_), .. } => "later",
            Verdict::Release { .. } => "release",
        };
        for (first, expected) in [
            (
                Verdict::Success { result, usage },
                vec!["result", "success", "plain failure", "later", "release"],
            ),
            (
                Verdict::Success { result: None, usage },
                vec!["success with usage", "success", "plain failure", "later", "release"],
            ),
            (Verdict::Failure { failure, usage }, vec!["failure", "plain failure", "later", "release"]),
            (Verdict::Release { delay_ms: Some(1), reason: None }, vec!["later", "release"]),
        ] {
            let steps = steps(first);
            assert_eq!(steps.iter().map(word).collect::<Vec<_>>(), expected);
            if let [.., Verdict::Failure { failure, .. }, _, _] = &steps[..] {
                assert!(failure.message.len() <= PLAIN_MESSAGE, "{}", failure.message);
            }
        }
    }
}
