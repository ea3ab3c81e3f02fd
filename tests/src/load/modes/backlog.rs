//! Many jobs that wait.

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::args::Backlog;
use super::restart::{self, close};
use crate::load::producer::{Feed, Jobs, Producer};
use crate::load::report::{
    DRAIN_RATE, FIRST_RATE, Figures, JOBS_PER_SECOND, LAST_RATE, Round, SECONDS, thousands,
};
use crate::load::target::Target;
use crate::load::worker::{self, Plan, Shared, join};

/// Bytes of each payload, unless told.
const PAYLOAD_BYTES: usize = 200;
const WORKERS: u32 = 8;

/// One round of the mode.
pub(super) async fn measure(target: &Target, flags: &Backlog) -> Result<Round> {
    let payload_bytes = flags.how.payload_bytes.unwrap_or(PAYLOAD_BYTES);
    let jobs = Jobs::new(&target.queue, payload_bytes, 1_000);
    let feed = Feed::new(0, jobs.bulk, None)?;
    let mut round = Round::default();
    let (before, start) = (target.usage(), Instant::now());
    while feed.begun() < flags.jobs {
        let figures = step(target, flags, &jobs, &feed).await?;
        round.samples.push((format!("{} jobs", thousands(f64::from(feed.end()), 0)), figures));
    }
    let rate =
        |sample: Option<&(String, Figures)>| sample.and_then(|(_, figures)| figures.get(&JOBS_PER_SECOND));
    round.figures.add(&FIRST_RATE, rate(round.samples.first()).context("no step")?);
    round.figures.add(&LAST_RATE, rate(round.samples.last()).context("no step")?);
    round.figures.add(&SECONDS, start.elapsed().as_secs_f64());
    round.figures.usage(before, target, flags.jobs);
    round.figures.footprint(target);
    let mut faults = feed.faults();
    faults.expect("jobs that wait", target.unfinished(&target.queue).await?, flags.jobs);

    let shared = Shared::closing_after(flags.drain);
    drain(target, flags, &shared, &mut round.figures).await?;
    if target.is_ours() {
        restart::measure(target, &target.queue, &shared, &mut round.figures).await?;
    }
    let left = flags.jobs.saturating_sub(shared.acked());
    faults.expect("jobs left", target.unfinished(&target.queue).await?, left);
    faults.add_all(shared.faults(flags.jobs, left));
    round.faults = faults.into_sentences();
    Ok(round)
}

/// Some more jobs.
async fn step(target: &Target, flags: &Backlog, jobs: &Jobs, feed: &Rc<Feed>) -> Result<Figures> {
    let first = feed.end();
    feed.extend((first + flags.step).min(flags.jobs));
    let producers = Producer::open(target, jobs, 2, 1).await?;
    let start = Instant::now();
    feed.answered.watch("backlog", join(&mut feed.run(producers, None))).await?;
    let mut figures = Figures::default();
    figures.rate(&JOBS_PER_SECOND, feed.end() - first, start.elapsed());
    figures.footprint(target);
    Ok(figures)
}

/// Workers that take some jobs, and no more than they ack.
async fn drain(target: &Target, flags: &Backlog, shared: &Rc<Shared>, figures: &mut Figures) -> Result<()> {
    let mut workers = JoinSet::new();
    let work = async {
        worker::start(target, &target.queue, (WORKERS, Plan::default()), shared, &mut workers).await?;
        shared.finished(&mut workers).await
    };
    shared.acked.watch("the drain of the backlog", work).await?;
    close(shared, &mut workers).await?;
    let (first, last) = shared.timing().context("no job arrived")?;
    figures.rate(&DRAIN_RATE, flags.drain, last - first);
    Ok(())
}
