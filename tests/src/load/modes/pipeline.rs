//! Producers and workers at once.

use std::time::Instant;

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::args::Pipeline;
use super::drain::AFTERWARDS;
use super::idle::IdleStreams;
use crate::load::producer::{Feed, Jobs, Producer};
use crate::load::report::{JOBS_PER_SECOND, Round, SECONDS};
use crate::load::target::Target;
use crate::load::worker::{self, Shared, join};

/// One round of the mode.
pub(super) async fn measure(target: &Target, flags: &Pipeline) -> Result<Round> {
    let (queue, plan) = (target.queue.as_str(), flags.work.plan());
    let jobs = Jobs::new(queue, flags.how.payload_bytes(), flags.bulk);
    let (shared, feed) = (Shared::open_ended(), Feed::new(flags.jobs, flags.bulk, flags.how.most())?);
    let mut workers = JoinSet::new();
    let mut idle = IdleStreams::open(target, flags.idle, plan, &shared, &mut workers).await?;
    worker::start(target, queue, (flags.workers, plan), &shared, &mut workers).await?;
    let producers = Producer::open(target, &jobs, flags.producers, 1).await?;
    let (before, start) = (target.usage(), Instant::now());
    let work = async {
        join(&mut feed.run(producers, None)).await?;
        shared.set_goal(feed.begun());
        shared.finished(&mut workers).await
    };
    feed.answered.watch_both(&shared.acked, "pipeline", work).await?;
    let (n, mut round) = (feed.begun(), Round::default());
    let (_, last) = shared.timing().context("no job arrived")?;
    round.figures.rate(&JOBS_PER_SECOND, n, last - start);
    round.figures.add(&SECONDS, (last - start).as_secs_f64());
    round.figures.usage(before, target, n);
    tokio::time::sleep(AFTERWARDS).await;
    drop(workers);
    let mut faults = feed.faults();
    faults.expect("jobs left", target.unfinished(queue).await?, 0);
    faults.add_all(shared.faults(n, 0));
    idle.check(&mut faults)?;
    round.faults = faults.into_sentences();
    Ok(round)
}
