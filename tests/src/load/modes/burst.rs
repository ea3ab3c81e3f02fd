//! Many jobs that are due at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::task::JoinSet;

use super::args::Burst;
use super::enqueue::fill;
use super::probe::Probe;
use crate::load::check::Faults;
use crate::load::producer::Jobs;
use crate::load::report::{DRAIN_RATE, IDLE_P99, Round};
use crate::load::target::Target;
use crate::load::watchdog::Progress;
use crate::load::worker::{self, Plan, Shared};
use crate::wait::now_ms;

/// Workers of a burst that none waited for.
const LATE_WORKERS: u32 = 4;
/// Connections of the probe.
const PROBES: u32 = 50;
const PROBE_EVERY: Duration = Duration::from_millis(2);
/// Before they are due, the probe is measured for comparison.
const CALM: Duration = Duration::from_secs(1);

/// One round of the mode.
pub(super) async fn measure(target: &Target, flags: &Burst) -> Result<Round> {
    let (queue, payload_bytes) = (target.queue.as_str(), flags.how.payload_bytes());
    let due_in = Duration::from_secs(flags.due_in.unwrap_or(5 + flags.jobs / 100_000).into());
    let (due, due_ms) = (Instant::now() + due_in, now_ms() + u64::try_from(due_in.as_millis())?);
    let mut jobs = Jobs::new(queue, payload_bytes, 1_000);
    jobs.members.insert("ready_at".to_owned(), json!(due_ms));
    let before = target.usage();
    let filled = fill(target, None, &jobs, flags.jobs).await?;
    let (n, mut faults) = (filled.jobs, filled.faults);

    let shared = Shared::new(n);
    let mut workers = JoinSet::new();
    worker::start(target, queue, (flags.workers, Plan::default()), &shared, &mut workers).await?;
    let mut probe =
        Probe::connect(target, &format!("{queue}-probe"), payload_bytes, (PROBES, Plan::default())).await?;
    let calm = due.checked_duration_since(Instant::now() + CALM);
    let calm = calm.context("enqueuing took longer than until they were due: give a larger --due-in")?;
    tokio::time::sleep(calm).await;
    let until_due = async {
        tokio::time::sleep_until(due.into()).await;
        Ok(())
    };
    let ((), before_them) = probe.run_until(until_due, PROBE_EVERY).await?;
    let progress = Progress::default();
    let arrivals = async {
        if flags.workers == 0 {
            all_ready(target, &progress).await?;
        } else {
            shared.finished(&mut workers).await?;
        }
        // A small burst is over before a probe is sent.
        tokio::time::sleep(2 * PROBE_EVERY).await;
        Ok(())
    };
    let ((), during) =
        probe.run_until(shared.acked.watch_both(&progress, "the burst", arrivals), PROBE_EVERY).await?;
    let over = Instant::now();
    if flags.workers == 0 {
        worker::start(target, queue, (LATE_WORKERS, Plan::default()), &shared, &mut workers).await?;
        shared.acked.watch("the drain of the burst", shared.finished(&mut workers)).await?;
    }

    let mut round = Round::default();
    round.figures.latency(&during);
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    round.figures.add(&IDLE_P99, before_them.value_at_quantile(0.99) as f64);
    let (first, last) = shared.timing().context("no job arrived")?;
    let start = if flags.workers == 0 { over } else { due };
    round.figures.rate(&DRAIN_RATE, n, last.saturating_duration_since(start));
    round.figures.usage(before, target, n);
    check_time(first, due, &mut faults);
    faults.add_all(probe.faults());
    faults.expect("jobs left", target.unfinished(queue).await?, 0);
    faults.add_all(shared.faults(n, 0));
    round.faults = faults.into_sentences();
    Ok(round)
}

/// Waits until no job is scheduled any more.
async fn all_ready(target: &Target, progress: &Progress) -> Result<()> {
    let mut scheduled = u64::MAX;
    while scheduled > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = target.count(&format!("queue={}&status=scheduled", target.queue)).await?;
        progress.add(usize::from(now < scheduled));
        scheduled = now;
    }
    Ok(())
}

/// A job must not come before its time. The server's clock is ours, in whole milliseconds.
fn check_time(first: Instant, due: Instant, faults: &mut Faults) {
    if let Some(early) = due.checked_duration_since(first + Duration::from_millis(1)) {
        faults.add(format!("a job came {} ms before it was due", early.as_millis() + 1));
    }
}
