//! Takes what became of jobs to the server, for as long as it takes.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use protocol::id::JobId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::client::{CallError, Client};
use crate::event::Event;
use crate::report::{Lease, Report, Verdict};

/// The most jobs in one bulk call.
const MAX_BATCH: usize = 256;
/// The longest that a report waits for others to go with.
const MAX_WAIT: Duration = Duration::from_millis(5);
/// The most calls at a time.
const MAX_CALLS: usize = 16;

/// One call to the server.
#[derive(Debug)]
enum Call {
    Succeed(Vec<Lease>),
    Release(Vec<(Lease, Option<u64>)>),
    Fail(Lease, Arc<Verdict>),
}

/// What the next bulk calls will carry.
#[derive(Debug, Default)]
struct Batch {
    successes: Vec<Lease>,
    releases: Vec<(Lease, Option<u64>)>,
    since: Option<Instant>,
}

/// Delivers reports until there are no more.
pub(crate) async fn run(client: Client, mut reports: mpsc::Receiver<Report>, events: mpsc::Sender<Event>) {
    let mut calls = JoinSet::new();
    let mut batch = Batch::default();
    let mut arrived = Vec::new();
    loop {
        let due = batch.since.map(|since| since + MAX_WAIT);
        tokio::select! {
            n = reports.recv_many(&mut arrived, MAX_BATCH), if calls.len() < MAX_CALLS => if n == 0 { break },
            Some(_) = calls.join_next() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
        let mut next: Vec<Call> = arrived.drain(..).filter_map(|report| batch.add(report)).collect();
        // With nothing on the way there is nothing to wait for.
        if batch.is_full() || calls.is_empty() || due.is_some_and(|due| due <= Instant::now()) {
            next.extend(batch.take());
        }
        for call in next {
            calls.spawn(deliver(client.clone(), call, events.clone()));
        }
    }
    for call in batch.take() {
        calls.spawn(deliver(client.clone(), call, events.clone()));
    }
    while calls.join_next().await.is_some() {}
}

impl Batch {
    /// Takes in what can go in bulk; a failure goes by itself.
    fn add(&mut self, Report { lease, verdict }: Report) -> Option<Call> {
        match &*verdict {
            Verdict::Success => self.successes.push(lease),
            Verdict::Release { ready_at } => self.releases.push((lease, *ready_at)),
            Verdict::Failure(_) => return Some(Call::Fail(lease, verdict)),
        }
        self.since.get_or_insert_with(Instant::now);
        None
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
async fn deliver(client: Client, call: Call, events: mpsc::Sender<Event>) {
    let refused = match persist(&client, &call).await {
        Ok(refused) => refused,
        Err(e) => {
            for lease in call.leases() {
                tracing::warn!(job = %lease.id, "{} was not accepted: {e}", call.what());
            }
            call.leases().map(|lease| lease.id).collect()
        }
    };
    for lease in call.leases() {
        let accepted = !refused.contains(&lease.id);
        if events.send(Event::Settled { lease, accepted }).await.is_err() {
            break;
        }
    }
}

/// The jobs that were not this worker's any more, or the server's last word.
async fn persist(client: &Client, call: &Call) -> Result<Vec<JobId>, CallError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let mut said = false;
    loop {
        let answer = match call {
            Call::Succeed(leases) => client.succeed(leases).await,
            Call::Release(leases) => client.release(leases).await,
            Call::Fail(lease, verdict) => match &**verdict {
                Verdict::Failure(failure) => client.fail(*lease, failure).await.map(|()| Vec::new()),
                Verdict::Success | Verdict::Release { .. } => Ok(Vec::new()),
            },
        };
        let mut pause = backoff.next();
        match answer {
            Err(CallError::Busy { retry_after, .. }) => pause = pause.max(retry_after.unwrap_or_default()),
            Err(CallError::NoAnswer(_)) => {}
            Err(last @ CallError::Refused { .. }) => return Err(last),
            Ok(refused) => {
                for id in &refused {
                    tracing::warn!(job = %id, "{} came too late: the job is not this worker's any more", call.what());
                }
                return Ok(refused);
            }
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

impl Call {
    fn leases(&self) -> impl Iterator<Item = Lease> {
        let (one, successes, releases): (Option<Lease>, &[Lease], &[_]) = match self {
            Self::Succeed(leases) => (None, leases, &[]),
            Self::Release(leases) => (None, &[], leases),
            Self::Fail(lease, _) => (Some(*lease), &[], &[]),
        };
        one.into_iter().chain(successes.iter().copied()).chain(releases.iter().map(|&(lease, _)| lease))
    }

    const fn what(&self) -> &'static str {
        match self {
            Self::Succeed(_) => "the success",
            Self::Release(_) => "the release",
            Self::Fail(..) => "the failure",
        }
    }
}
