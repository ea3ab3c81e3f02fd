//! The outbox: persists reports, groups them into bulk calls, and delivers each until the server has answered for good.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::client::Client;
use crate::delivery::{Answered, Call, Deliveries};
use crate::event::Event;
use crate::report::{GivenBack, Lease, Report, Verdict};
use crate::report::{Settled, Usage};
use crate::spool::Spool;
use crate::stats::Stats;

/// The maximum number of jobs per bulk call.
const MAX_BATCH: usize = 256;
/// How long a report waits for others to share a call.
const MAX_WAIT: Duration = Duration::from_millis(5);

/// The contents of the next bulk calls.
#[derive(Debug, Default)]
struct Batch {
    successes: Vec<(Lease, Option<Usage>)>,
    releases: Vec<GivenBack>,
    since: Option<Instant>,
}

/// The outbox of a worker.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) client: Client,
    /// `None` if it cannot be used.
    pub(crate) spool: Option<Spool>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) stats: Arc<Stats>,
}

impl Outbox {
    /// Delivers the reports that earlier workers left behind.
    pub(crate) async fn deliver_old(&mut self, reports: Vec<Report>) {
        let mut batch = Batch::default();
        let mut deliveries = Deliveries::new(self.client.clone());
        deliveries.add(reports.into_iter().filter_map(|report| batch.add(report)));
        deliveries.add(batch.take());
        while !deliveries.is_empty() {
            let answered = deliveries.next().await;
            self.settle(&answered);
            for Settled { lease, refused, .. } in answered {
                if let Some(why) = refused {
                    tracing::warn!(job = %lease.id, "{why}; an earlier worker left this report behind, and the server may already have it");
                }
            }
        }
    }

    /// Delivers reports until there are no more.
    pub(crate) async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
        let mut deliveries = Deliveries::new(self.client.clone());
        let (mut batch, mut arrived) = (Batch::default(), Vec::new());
        let mut open = true;
        while open || !deliveries.is_empty() || !batch.is_empty() {
            let due = batch.since.map(|since| since + MAX_WAIT);
            let sync_due = self.spool.as_ref().and_then(Spool::sync_due);
            tokio::select! {
                n = reports.recv_many(&mut arrived, MAX_BATCH), if open => open = n > 0,
                answered = deliveries.next(), if !deliveries.is_empty() => {
                    self.settle(&answered);
                    self.tell(answered).await;
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                () = sleep_until(sync_due.unwrap_or_else(Instant::now)), if sync_due.is_some() => {
                    self.spool.iter_mut().for_each(Spool::sync);
                }
            }
            // IMPORTANT: persist, then send. No report reaches the server before the spool has it.
            if let Some(spool) = &mut self.spool {
                spool.keep(&arrived);
            }
            deliveries.add(arrived.drain(..).filter_map(|report| batch.add(report)));
            // With no call in flight there is nothing to wait for.
            let is_due = batch.since.is_none_or(|since| since + MAX_WAIT <= Instant::now());
            if deliveries.has_room() && (batch.is_full() || deliveries.is_idle() || is_due || !open) {
                deliveries.add(batch.take());
            } else if is_due {
                // Due as soon as a call may be made, not at a certain time.
                batch.since = None;
            }
            self.count();
        }
    }

    fn settle(&mut self, answered: &Answered) {
        if let Some(spool) = &mut self.spool {
            spool.settled(answered.iter().map(|settled| settled.lease));
        }
    }

    async fn tell(&self, answered: Answered) {
        for settled in answered {
            if self.events.send(Event::Settled(settled)).await.is_err() {
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
    /// Adds a report that can go in bulk. Returns the call for any other.
    fn add(&mut self, report: Report) -> Option<Call> {
        let Report { lease, verdict } = &report;
        match &**verdict {
            Verdict::Success { result: None, usage } => self.successes.push((*lease, *usage)),
            Verdict::Release { delay_ms, reason } => {
                let (delay_ms, reason) = (*delay_ms, reason.clone());
                self.releases.push(GivenBack { lease: *lease, delay_ms, reason });
            }
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
