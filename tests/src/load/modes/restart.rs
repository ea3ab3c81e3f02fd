//! How long a server takes to stop, to start, and to hand out its first job.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::load::report::{CRASH_FIRST_JOB, FIRST_JOB, Figures, START, STOP};
use crate::load::take;
use crate::load::target::Target;
use crate::load::worker::{Plan, Shared, join};

/// Stops and starts the server, cleanly and by `kill -9`, with a worker each time that acks a job or a few.
pub(super) async fn measure(
    target: &Target,
    queues: &str,
    shared: &Rc<Shared>,
    figures: &mut Figures,
) -> Result<()> {
    let start = Instant::now();
    target.stop(Signal::TERM).await?;
    figures.millis(&STOP, start.elapsed());
    let start = Instant::now();
    target.start_again().await?;
    figures.millis(&START, start.elapsed());
    figures.millis(&FIRST_JOB, first_job(target, queues, shared, start).await?);
    target.stop(Signal::KILL).await?;
    let start = Instant::now();
    target.start_again().await?;
    figures.millis(&CRASH_FIRST_JOB, first_job(target, queues, shared, start).await?);
    Ok(())
}

/// Time to the ack of the first job.
async fn first_job(target: &Target, queues: &str, shared: &Rc<Shared>, start: Instant) -> Result<Duration> {
    let acked = shared.acked();
    let mut tasks = JoinSet::new();
    let plan = Plan { prefetch: 1, ..Plan::default() };
    take::start(target, queues, (1, plan), shared, &mut tasks).await?;
    let arrival = async {
        while shared.acked() == acked {
            if let Some(ended) = tasks.try_join_next() {
                ended??;
            }
            tokio::task::yield_now().await;
        }
        Ok(start.elapsed())
    };
    let time = shared.acked.watch("the first job after a start", arrival).await?;
    close(shared, &mut tasks).await?;
    Ok(time)
}

/// Lets workers end in peace.
pub(super) async fn close(shared: &Shared, workers: &mut JoinSet<Result<()>>) -> Result<()> {
    shared.close(true);
    join(workers).await?;
    shared.close(false);
    ensure!(shared.arrived() == shared.acked(), "a worker ended with jobs that were not acked");
    Ok(())
}
