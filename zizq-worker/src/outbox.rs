//! Takes what became of jobs to the server, for as long as it takes.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use protocol::id::JobId;
use reqwest::StatusCode;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::client::{CallError, Client};
use crate::event::Event;
use crate::exec::Usage;
use crate::report::{Lease, Report, Verdict};
use crate::spool::Spool;
use crate::stats::Stats;

/// The most jobs in one bulk call.
const MAX_BATCH: usize = 256;
/// The longest that a report waits for others to go with.
const MAX_WAIT: Duration = Duration::from_millis(5);
/// The most calls at a time.
const MAX_CALLS: usize = 16;

/// It was said that the server keeps no results.
static NO_RESULTS: AtomicBool = AtomicBool::new(false);

/// One call to the server.
#[derive(Debug)]
enum Call {
    Succeed(Vec<(Lease, Option<Usage>)>),
    Release(Vec<(Lease, Option<u64>)>),
    /// What cannot go in bulk: a failure, or a success with a result.
    One(Report),
}

/// What the next bulk calls will carry.
#[derive(Debug, Default)]
struct Batch {
    successes: Vec<(Lease, Option<Usage>)>,
    releases: Vec<(Lease, Option<u64>)>,
    since: Option<Instant>,
}

/// The outbox of a worker.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) client: Client,
    /// None where it cannot be used.
    pub(crate) spool: Option<Spool>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) stats: Arc<Stats>,
}

/// What became of a call: for each job why the report was refused, if it was.
type Answered = Vec<(Lease, Option<String>)>;

impl Outbox {
    /// Delivers what earlier workers left behind.
    pub(crate) async fn deliver_old(&mut self, reports: Vec<Report>) {
        let mut batch = Batch::default();
        let mut calls: VecDeque<Call> = reports.into_iter().filter_map(|report| batch.add(report)).collect();
        calls.extend(batch.take());
        let mut running = JoinSet::new();
        while !calls.is_empty() || !running.is_empty() {
            while running.len() < MAX_CALLS
                && let Some(call) = calls.pop_front()
            {
                running.spawn(deliver(self.client.clone(), call));
            }
            if let Some(Ok(answered)) = running.join_next().await {
                self.settle(&answered);
                for (lease, refused) in answered {
                    if let Some(why) = refused {
                        tracing::warn!(job = %lease.id, "{why}; an earlier worker left it behind, and the server may have it already");
                    }
                }
            }
        }
    }

    /// Delivers reports until there are no more.
    pub(crate) async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
        let mut running = JoinSet::new();
        let (mut batch, mut calls, mut arrived) = (Batch::default(), VecDeque::new(), Vec::new());
        let mut open = true;
        while open || !running.is_empty() || !calls.is_empty() || !batch.is_empty() {
            let due = batch.since.map(|since| since + MAX_WAIT);
            let sync_due = self.spool.as_ref().and_then(Spool::sync_due);
            tokio::select! {
                n = reports.recv_many(&mut arrived, MAX_BATCH), if open => open = n > 0,
                Some(answered) = running.join_next() => if let Ok(answered) = answered {
                    self.settle(&answered);
                    self.tell(answered).await;
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                () = sleep_until(sync_due.unwrap_or_else(Instant::now)), if sync_due.is_some() => {
                    self.spool.iter_mut().for_each(Spool::sync);
                }
            }
            // They are on disk before anything else is done with them, however long the server may be away.
            if let Some(spool) = &mut self.spool {
                spool.keep(&arrived);
            }
            calls.extend(arrived.drain(..).filter_map(|report| batch.add(report)));
            // With nothing on the way there is nothing to wait for.
            let is_due = batch.since.is_none_or(|since| since + MAX_WAIT <= Instant::now());
            if running.len() < MAX_CALLS && (batch.is_full() || running.is_empty() || is_due || !open) {
                calls.extend(batch.take());
            } else if is_due {
                // As soon as a call may be made, not at some time.
                batch.since = None;
            }
            while running.len() < MAX_CALLS
                && let Some(call) = calls.pop_front()
            {
                running.spawn(deliver(self.client.clone(), call));
            }
            self.count();
        }
    }

    fn settle(&mut self, answered: &Answered) {
        if let Some(spool) = &mut self.spool {
            spool.settled(answered.iter().map(|(lease, _)| *lease));
        }
    }

    async fn tell(&self, answered: Answered) {
        for (lease, refused) in answered {
            if self.events.send(Event::Settled { lease, refused }).await.is_err() {
                break;
            }
        }
    }

    fn count(&self) {
        let undelivered = self.spool.as_ref().map_or(0, Spool::pending);
        self.stats.undelivered.store(u64::try_from(undelivered).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Batch {
    /// Takes in what can go in bulk.
    fn add(&mut self, report: Report) -> Option<Call> {
        match &*report.verdict {
            Verdict::Success { result: None, usage } => self.successes.push((report.lease, *usage)),
            Verdict::Release { ready_at } => self.releases.push((report.lease, *ready_at)),
            Verdict::Success { .. } | Verdict::Failure { .. } => return Some(Call::One(report)),
        }
        self.since.get_or_insert_with(Instant::now);
        None
    }

    const fn is_empty(&self) -> bool {
        self.successes.is_empty() && self.releases.is_empty()
    }

    fn is_full(&self) -> bool {
        self.successes.len().max(self.releases.len()) >= MAX_BATCH
    }

    fn take(&mut self) -> Vec<Call> {
        let Self { successes, releases, .. } = mem::take(self);
        let successes = successes.chunks(MAX_BATCH).map(|some| Call::Succeed(some.to_vec()));
        let releases = releases.chunks(MAX_BATCH).map(|some| Call::Release(some.to_vec()));
        successes.chain(releases).collect()
    }
}

/// Makes one call again and again until the server has answered for good, and says what it answered.
async fn deliver(client: Client, call: Call) -> Answered {
    let what = call.what();
    match persist(&client, &call).await {
        Ok(refused) => {
            let too_late = || format!("{what} came too late: the job is not this worker's any more");
            let leases = call.leases();
            leases.map(|lease| (lease, refused.contains(&lease.id).then(too_late))).collect()
        }
        Err(e) => call.leases().map(|lease| (lease, Some(format!("{what} was not accepted: {e}")))).collect(),
    }
}

/// The jobs that were not this worker's any more, or the server's last word.
async fn persist(client: &Client, call: &Call) -> Result<Vec<JobId>, CallError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let mut said = false;
    loop {
        let answer = attempt(client, call).await;
        let mut pause = backoff.next();
        match answer {
            Err(CallError::Busy { retry_after, .. }) => pause = pause.max(retry_after.unwrap_or_default()),
            Err(CallError::NoAnswer(_)) => {}
            Err(last @ CallError::Refused { .. }) => return Err(last),
            Ok(refused) => return Ok(refused),
        }
        if let Err(e) = answer {
            let jobs = call.leases().count();
            if mem::replace(&mut said, true) {
                tracing::debug!(jobs, "{} still waits for the server: {e}", call.what());
            } else {
                tracing::warn!(jobs, "{} waits for the server: {e}", call.what());
            }
        }
        tokio::time::sleep(pause).await;
    }
}

async fn attempt(client: &Client, call: &Call) -> Result<Vec<JobId>, CallError> {
    let report = match call {
        Call::Succeed(done) => return client.succeed(done).await,
        Call::Release(leases) => return client.release(leases).await,
        Call::One(report) => report,
    };
    let lease = report.lease;
    match &*report.verdict {
        Verdict::Failure { failure, usage } => client.fail(lease, failure, *usage).await.map(|()| Vec::new()),
        Verdict::Success { result: Some(result), usage } => {
            match client.succeed_with(lease, result, *usage).await {
                // The work is done all the same.
                Err(CallError::Refused {
                    status: status @ (StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE),
                    message,
                }) => {
                    // Once is enough where it is always the same.
                    if status == StatusCode::PAYLOAD_TOO_LARGE || !NO_RESULTS.swap(true, Ordering::Relaxed) {
                        tracing::warn!(job = %lease.id, "the server did not take the result, only the success: {message}");
                    }
                    client.succeed(&[(lease, *usage)]).await
                }
                other => other.map(|()| Vec::new()),
            }
        }
        // These go in bulk.
        Verdict::Success { result: None, usage } => client.succeed(&[(lease, *usage)]).await,
        Verdict::Release { ready_at } => client.release(&[(lease, *ready_at)]).await,
    }
}

impl Call {
    fn leases(&self) -> impl Iterator<Item = Lease> {
        let (one, successes, releases): (Option<Lease>, &[_], &[_]) = match self {
            Self::Succeed(done) => (None, done, &[]),
            Self::Release(leases) => (None, &[], leases),
            Self::One(report) => (Some(report.lease), &[], &[]),
        };
        let successes = successes.iter().map(|&(lease, _)| lease);
        one.into_iter().chain(successes).chain(releases.iter().map(|&(lease, _)| lease))
    }

    fn what(&self) -> &'static str {
        match self {
            Self::Succeed(_) => "the success",
            Self::Release(_) => "the release",
            Self::One(report) if matches!(*report.verdict, Verdict::Success { .. }) => "the success",
            Self::One(_) => "the failure",
        }
    }
}
