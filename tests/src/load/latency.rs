//! One job now and then, on a server that has nothing else to do.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::args::{Ack, Latency};
use super::enqueue;
use super::report::{Round, histogram};
use super::requests::Template;
use super::target::Target;
use super::worker::{self, Arrived, Plan, Shared};

/// When each job was sent, and how long they took.
#[derive(Debug)]
struct Clock {
    sent: Vec<Option<Instant>>,
    latency: Histogram<u64>,
}

/// One round of the mode.
pub(super) async fn measure(target: &Target, flags: &Latency, payload_bytes: usize) -> Result<Round> {
    // The first job opens connections and warms caches; it does not count.
    let jobs = flags.jobs + 1;
    let clock = Rc::new(RefCell::new(Clock { sent: vec![None; jobs as usize], latency: histogram()? }));
    let shared = Shared::new(jobs, Some(arrived(&clock)));
    let plan = Plan { format: flags.format, prefetch: 256, ack: Ack::Bulk, ack_connections: 1 };
    let mut tasks = JoinSet::new();
    worker::start(target, plan, &shared, &mut tasks).await?;
    let before = target.usage();
    let start = Instant::now();
    let work = async {
        produce(target, flags, payload_bytes, &clock).await?;
        tokio::select! {
            () = shared.finished.notified() => Ok(()),
            ended = enqueue::join(&mut tasks) => ended,
        }
    };
    shared.acked.watch("latency", work).await?;
    let (elapsed, usage) = (start.elapsed(), before.to(target.usage()));
    drop(tasks);
    let latency = Some(clock.borrow().latency.clone());
    Ok(Round { jobs: flags.jobs, elapsed, usage, latency, faults: shared.faults() })
}

fn arrived(clock: &Rc<RefCell<Clock>>) -> Arrived {
    let clock = Rc::clone(clock);
    Arrived(Box::new(move |n, at| {
        let mut clock = clock.borrow_mut();
        let sent = clock.sent.get(n as usize).copied().flatten();
        if let Some(sent) = sent.filter(|_| n > 0) {
            let micros = u64::try_from((at - sent).as_micros()).unwrap_or(u64::MAX);
            clock.latency.saturating_record(micros);
        }
    }))
}

async fn produce(
    target: &Target,
    flags: &Latency,
    payload_bytes: usize,
    clock: &RefCell<Clock>,
) -> Result<()> {
    let mut connection = target.connect().await?;
    let mut template = Template::enqueue(&target.address, &target.queue, payload_bytes, 1, false);
    let mut pace = interval(Duration::from_millis(flags.every_ms));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0..=flags.jobs {
        pace.tick().await;
        let request = template.stamp(n);
        clock.borrow_mut().sent[n as usize] = Some(Instant::now());
        let answer = connection.exchange(request).await?;
        ensure!(answer.status == 201, "POST /jobs was answered with {}", answer.describe());
    }
    Ok(())
}
