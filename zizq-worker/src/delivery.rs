//! The calls that deliver reports, at least once: each is repeated until the server has answered for good.
//!
//! ```text
//!  accepted, or the lease is lost ──► settled
//!  no server ───────────────────────► retried, after a pause for all calls
//!  something else answered ─────────► retried, after the others; a bulk call is split into single jobs
//!  refused ─────────────────────────► a bulk call is split into single jobs; a single report is reduced step by step
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
use crate::outcome::{millis, start_of};
use crate::report::{AfterFailure, GivenBack, Lease, Report, Settled, Usage, Verdict};

/// The maximum number of calls in flight.
const MAX_CALLS: usize = 16;
/// The longest pause while no server answers.
const NO_SERVER: Duration = Duration::from_secs(2);
/// The longest pause before a call that something else answered is retried.
const FOREIGN: Duration = Duration::from_secs(10);
/// A bulk call that something else answers is split after this many attempts.
const TRIES_TOGETHER: u32 = 3;
/// How many bytes of a refused message are kept when it is sent again.
const PLAIN_MESSAGE: usize = 200;
/// The delay of a job whose every report was refused.
const UNHEARD: Duration = Duration::from_secs(60);

/// One call to the server.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Succeed(Vec<(Lease, Option<Usage>)>),
    Release(Vec<GivenBack>),
    /// A report that cannot go in bulk: a failure, or a success with a result.
    One(Report),
}

/// The final answer to a call, per job.
pub(crate) type Answered = Vec<Settled>;

/// A call that was answered.
#[derive(Debug, Default)]
struct Made {
    /// Jobs whose lease was lost.
    refused: Vec<JobId>,
    after: Option<AfterFailure>,
}

/// A call that is not settled, and its attempts so far.
#[derive(Debug)]
struct Pending {
    call: Call,
    due: Instant,
    tries: u32,
    backoff: Backoff,
}

/// All calls that are not settled.
#[derive(Debug)]
pub(crate) struct Deliveries {
    client: Client,
    waiting: VecDeque<Pending>,
    running: JoinSet<(Pending, Result<Made, CallError>)>,
    /// No call is made before this, because the server did not answer.
    rests_until: Option<Instant>,
    backoff: Backoff,
    /// The log already says that the server keeps no results.
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

    /// Whether no call is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether one more call may be made now.
    pub(crate) fn has_room(&self) -> bool {
        self.running.len() < MAX_CALLS
    }

    /// Waits for the next answer or due call. Must not be called when this is empty.
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
                    tracing::error!("a delivery panicked, which is a bug: {e}");
                    Answered::new()
                }
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                self.start();
                Answered::new()
            }
        }
    }

    /// When the next call is due, if there is room for one.
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
                let too_late = || format!("{what} came too late: the job's lease was lost");
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
            CallError::NoAnswer(_) | CallError::Busy { .. } | CallError::NotAllowed { .. } => {
                let asked =
                    if let CallError::Busy { retry_after, .. } = &error { *retry_after } else { None };
                let pause = self.backoff.next().max(asked.unwrap_or_default());
                self.rests_until = Some(Instant::now() + pause);
                pending.say(&error);
                self.waiting.push_front(pending);
            }
            // Usually all calls fail then. If others succeed, the cause is in this call.
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

    /// Something else answered. A bulk call is split in the end, because the cause may be one of its jobs.
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
            tracing::warn!("{why}; sending each job by itself");
            self.waiting.extend(call.apart().into_iter().map(Pending::new));
            return Answered::new();
        }
        let is_over = [StatusCode::NOT_FOUND, StatusCode::CONFLICT].contains(&status);
        let plainer = if is_over { None } else { call.plainer(&message) };
        match plainer {
            Some((lease, plainer)) => {
                let keeps_no_results = status == StatusCode::UNPROCESSABLE_ENTITY && call.has_result();
                // Logged once, because it is the same for all results.
                if !keeps_no_results || !mem::replace(&mut self.no_results, true) {
                    tracing::warn!(job = %lease.id, "{why}; sending a reduced report: {}", plainer.what());
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
    /// Makes the call once.
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

    /// Splits it into one call per job.
    fn apart(self) -> Vec<Self> {
        match self {
            Self::Succeed(done) => done.into_iter().map(|one| Self::Succeed(vec![one])).collect(),
            Self::Release(back) => back.into_iter().map(|one| Self::Release(vec![one])).collect(),
            Self::One(report) => vec![Self::One(report)],
        }
    }

    /// A reduced call for the one job of a refused call, and its lease. `None`: nothing is left to leave out.
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

/// A reduced form of a verdict that the server refused, from the most to the least.
fn plainer(verdict: &Verdict, why: &str) -> Option<Verdict> {
    match verdict {
        // The work is done nonetheless.
        Verdict::Success { result: None, usage: None } => {
            let message = format!("the job succeeded, but the server refused the report: {why}");
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
            let reason = format!("the job failed, but the server refused the report: {why}");
            Some(Verdict::Release { delay_ms: Some(millis(UNHEARD)), reason: Some(reason) })
        }
        Verdict::Release { delay_ms: None, reason: None } => None,
        Verdict::Release { .. } => Some(Verdict::Release { delay_ms: None, reason: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::JobResult;

    #[test]
    fn a_refused_report_is_reduced_until_nothing_is_left_to_leave_out() {
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
