//! Workers that empty a queue.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::args::Drain;
use super::enqueue::{self, Load};
use super::report::{Round, Span};
use super::target::Target;
use super::worker::{self, Plan, Shared};

/// How long to look for a job that is delivered once more.
const AFTERWARDS: Duration = Duration::from_millis(100);

/// One round of the mode.
pub(super) async fn measure(target: &Target, flags: &Drain, payload_bytes: usize) -> Result<Round> {
    let jobs = flags.jobs();
    let filled = enqueue::fill(target, Load { jobs, bulk: 1_000, connections: 2, payload_bytes }).await?;
    let plan = Plan {
        format: flags.format,
        prefetch: flags.prefetch,
        ack: flags.ack,
        ack_connections: flags.ack_connections(),
    };
    let shared = Shared::new(jobs, None);
    let before = target.usage();
    let mut tasks = JoinSet::new();
    let work = async {
        for _ in 0..flags.workers {
            worker::start(target, plan, &shared, &mut tasks).await?;
        }
        tokio::select! {
            () = shared.finished.notified() => Ok(()),
            ended = enqueue::join(&mut tasks) => ended,
        }
    };
    shared.acked.watch("drain", work).await?;
    let usage = before.to(target.usage());
    tokio::time::sleep(AFTERWARDS).await;
    drop(tasks);
    finish(target, &shared, filled.faults, usage).await
}

async fn finish(target: &Target, shared: &Rc<Shared>, mut faults: Vec<String>, usage: Span) -> Result<Round> {
    let left = target.count("&status=scheduled,ready,in_flight").await?;
    if left > 0 {
        faults.push(format!("{left} jobs are left"));
    }
    faults.extend(shared.faults());
    let timing = shared.timing.borrow();
    let (first, last) = timing.first.zip(timing.last).context("no job arrived")?;
    Ok(Round { jobs: shared.jobs, elapsed: last - first, usage, latency: None, faults })
}
