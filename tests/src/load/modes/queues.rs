//! Many queues with a job each.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use super::args::Queues;
use super::enqueue::fill;
use super::flow::share;
use super::probe::Probe;
use super::restart;
use crate::load::producer::Jobs;
use crate::load::report::{DRAIN_RATE, JOBS_PER_SECOND, Round};
use crate::load::take;
use crate::load::target::Target;
use crate::load::template::MARK;
use crate::load::worker::{Plan, Shared};

const PROBES: u32 = 1_000;
const PROBE_EVERY: Duration = Duration::from_millis(2);
const WORKERS: u32 = 4;

/// One round of the mode.
pub(super) async fn measure(target: &Target, flags: &Queues) -> Result<Round> {
    // Its workers take from all queues.
    ensure!(target.is_ours(), "this needs a server that is started for it alone, without --url");
    let payload_bytes = flags.how.payload_bytes();
    let mut jobs = Jobs::new(&format!("{}-{MARK}", target.queue), payload_bytes, 1_000);
    if let Some(tokens) = flags.at_a_time {
        share(target, tokens, &mut jobs).await?;
    }
    let mut round = Round::default();
    let before = target.usage();
    let filled = fill(target, None, &jobs, flags.queues).await?;
    let (n, mut faults) = (filled.jobs, filled.faults);
    round.figures.rate(&JOBS_PER_SECOND, n, filled.elapsed);
    round.figures.usage(before, target, n);
    round.figures.footprint(target);

    let mut probe = Probe::connect(target, &target.queue, payload_bytes, (1, Plan::default())).await?;
    round.figures.latency(&probe.run(PROBES, PROBE_EVERY).await?);
    faults.add_all(probe.faults());
    drop(probe);

    let shared = Shared::new(n);
    restart::measure(target, take::ALL, &shared, &mut round.figures).await?;
    let (taken, start) = (shared.acked(), Instant::now());
    let mut workers = JoinSet::new();
    let work = async {
        take::start(target, take::ALL, (WORKERS, Plan::default()), &shared, &mut workers).await?;
        shared.finished(&mut workers).await
    };
    shared.acked.watch("the drain of all queues", work).await?;
    round.figures.rate(&DRAIN_RATE, n - taken, start.elapsed());
    drop(workers);
    faults.expect("jobs left", target.count("status=scheduled,ready,in_flight").await?, 0);
    faults.add_all(shared.faults(n, 0));
    round.faults = faults.into_sentences();
    Ok(round)
}
