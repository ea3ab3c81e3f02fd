//! Producers and workers at full speed for long.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::task::JoinSet;

use super::args::Churn;
use super::drain::AFTERWARDS;
use crate::load::producer::{Ahead, Feed, Jobs, Producer};
use crate::load::report::{FIRST_RATE, Figures, JOBS_PER_SECOND, LAST_RATE, Round, SECONDS};
use crate::load::target::Target;
use crate::load::worker::{self, Plan, Shared, join};

const PRODUCERS: u32 = 2;
const WORKERS: u32 = 4;
/// The most jobs that wait: this is about what passes through, not about a backlog.
const MOST_WAITING: u32 = 50_000;
const SAMPLES: u32 = 10;
const DAY_MS: u64 = 86_400_000;

/// One round of the mode.
pub(super) async fn measure(target: &Target, flags: &Churn) -> Result<Round> {
    let queue = target.queue.as_str();
    let mut jobs = Jobs::new(queue, flags.how.payload_bytes(), 1_000);
    if flags.keep {
        jobs.members.insert("retention".to_owned(), json!({"completed_ms": DAY_MS}));
    }
    let (shared, feed) = (Shared::open_ended(), Feed::new(flags.jobs, jobs.bulk, None)?);
    let mut workers = JoinSet::new();
    worker::start(target, queue, (WORKERS, Plan::default()), &shared, &mut workers).await?;
    let producers = Producer::open(target, &jobs, PRODUCERS, 1).await?;
    let ahead = Ahead { most: MOST_WAITING, workers: Rc::clone(&shared) };
    let (before, start) = (target.usage(), Instant::now());
    let mut round = Round::default();
    let work = async {
        let mut producers = feed.run(producers, Some(ahead));
        sample(target, flags, &shared, &mut round).await?;
        feed.stop();
        join(&mut producers).await?;
        shared.set_goal(feed.begun());
        shared.finished(&mut workers).await
    };
    shared.acked.watch("churn", work).await?;
    let (_, last) = shared.timing().context("no job arrived")?;
    round.figures.rate(&JOBS_PER_SECOND, feed.begun(), last - start);
    let rate =
        |sample: Option<&(String, Figures)>| sample.and_then(|(_, figures)| figures.get(&JOBS_PER_SECOND));
    // The first sample also has the start of everything.
    round.figures.add(&FIRST_RATE, rate(round.samples.get(1)).context("too short for a sample")?);
    round.figures.add(&LAST_RATE, rate(round.samples.last()).context("too short for a sample")?);
    round.figures.add(&SECONDS, (last - start).as_secs_f64());
    round.figures.usage(before, target, feed.begun());
    round.figures.footprint(target);
    tokio::time::sleep(AFTERWARDS).await;
    drop(workers);
    let mut faults = feed.faults();
    faults.expect("jobs left", target.unfinished(queue).await?, 0);
    if flags.keep {
        let kept = target.count(&format!("queue={queue}&status=completed")).await?;
        faults.expect("jobs kept", kept, feed.begun());
    }
    faults.add_all(shared.faults(feed.begun(), 0));
    round.faults = faults.into_sentences();
    Ok(round)
}

/// Looks at it so many times, evenly over the time or the jobs, whichever are over first.
async fn sample(target: &Target, flags: &Churn, shared: &Shared, round: &mut Round) -> Result<()> {
    let whole = Duration::from_secs(flags.seconds.into());
    let start = Instant::now();
    let mut last = (start, 0_u32);
    for part in 1..=SAMPLES {
        let jobs = flags.jobs / SAMPLES * part;
        while start.elapsed() < whole * part / SAMPLES && shared.acked() < jobs {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (now, acked) = (Instant::now(), shared.acked());
        let mut figures = Figures::default();
        figures.rate(&JOBS_PER_SECOND, acked - last.1, now - last.0);
        figures.footprint(target);
        round.samples.push((format!("{:.1} s", start.elapsed().as_secs_f64()), figures));
        last = (now, acked);
    }
    Ok(())
}
