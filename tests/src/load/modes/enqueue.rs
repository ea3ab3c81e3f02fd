//! Producers alone.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use super::args::Enqueue;
use crate::load::check::Faults;
use crate::load::producer::{Feed, Jobs, Producer};
use crate::load::report::{JOBS_PER_SECOND, Round, SECONDS};
use crate::load::target::{Protocol, Target, Used};
use crate::load::template::MARK;
use crate::load::worker::join;

/// One round of the mode.
pub(super) async fn measure(target: &Target, flags: &Enqueue) -> Result<Round> {
    let mut jobs = Jobs::new(&target.queue, flags.how.payload_bytes(), flags.bulk);
    jobs.body = flags.format;
    flags.flow.prepare(target, &mut jobs).await?;
    let producers = Producer::open(target, &jobs, flags.connections(), flags.requests()).await?;
    let filled = fill_with(target, flags.how.most(), &jobs, flags.jobs(), producers).await?;
    let mut round = Round::default();
    round.figures.rate(&JOBS_PER_SECOND, filled.jobs, filled.elapsed);
    round.figures.add(&SECONDS, filled.elapsed.as_secs_f64());
    round.figures.latency(&filled.latency);
    round.figures.usage(filled.before, target, filled.jobs);
    round.faults = filled.faults.into_sentences();
    Ok(round)
}

/// How the enqueue of many jobs went.
pub(super) struct Filled {
    /// How many there are.
    pub(super) jobs: u32,
    pub(super) elapsed: Duration,
    pub(super) faults: Faults,
    before: Used,
    latency: Histogram<u64>,
}

/// Enqueues the jobs `0..n` over two connections, or as many as are begun before a time is over, and checks that the
/// server has them all.
pub(super) async fn fill(target: &Target, most: Option<Duration>, jobs: &Jobs, n: u32) -> Result<Filled> {
    let producers = Producer::open(target, jobs, 2, 1).await?;
    fill_with(target, most, jobs, n, producers).await
}

async fn fill_with(
    target: &Target,
    most: Option<Duration>,
    jobs: &Jobs,
    n: u32,
    producers: Vec<Producer>,
) -> Result<Filled> {
    let feed = Feed::new(n, jobs.bulk, most)?;
    let can_tell =
        matches!(target.protocol, Protocol::Zizq | Protocol::Peer(_)) && !jobs.queue.contains(MARK);
    let there = if can_tell { target.unfinished(&jobs.queue).await? } else { 0 };
    let before = target.usage();
    let start = Instant::now();
    let mut tasks = feed.run(producers, None);
    feed.answered.watch("enqueue", join(&mut tasks)).await?;
    let elapsed = start.elapsed();
    let mut faults = feed.faults();
    if can_tell {
        let counted = target.unfinished(&jobs.queue).await?.saturating_sub(there);
        faults.expect("jobs that the server counts", counted, feed.begun());
    }
    Ok(Filled { jobs: feed.begun(), elapsed, faults, before, latency: feed.latency() })
}
