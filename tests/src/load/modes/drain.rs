//! Workers that empty a queue.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::args::Drain;
use super::enqueue::fill;
use crate::load::producer::Jobs;
use crate::load::report::{JOBS_PER_SECOND, Round, SECONDS};
use crate::load::target::Target;
use crate::load::worker::{self, Shared};

/// How long to look for a job that is delivered once more.
pub(super) const AFTERWARDS: Duration = Duration::from_millis(100);

/// One round of the mode.
pub(super) async fn measure(target: &Target, flags: &Drain) -> Result<Round> {
    let queue = target.queue.as_str();
    let mut jobs = Jobs::new(queue, flags.how.payload_bytes(), 1_000.min(flags.jobs()));
    flags.parked.prepare(target, &flags.how).await?;
    flags.flow.prepare(target, &mut jobs).await?;
    let filled = fill(target, flags.how.most(), &jobs, flags.jobs()).await?;
    let (n, mut faults) = (filled.jobs, filled.faults);
    let shared = Shared::new(n);
    let before = target.usage();
    let mut tasks = JoinSet::new();
    let work = async {
        worker::start(target, queue, (flags.workers, flags.work.plan()), &shared, &mut tasks).await?;
        shared.finished(&mut tasks).await
    };
    shared.acked.watch("drain", work).await?;
    let mut round = Round::default();
    let (first, last) = shared.timing().context("no job arrived")?;
    round.figures.rate(&JOBS_PER_SECOND, n, last - first);
    round.figures.add(&SECONDS, (last - first).as_secs_f64());
    round.figures.usage(before, target, n);
    tokio::time::sleep(AFTERWARDS).await;
    drop(tasks);
    faults.expect("jobs left", target.unfinished(queue).await?, flags.parked.jobs());
    faults.add_all(shared.faults(n, 0));
    round.faults = faults.into_sentences();
    Ok(round)
}
