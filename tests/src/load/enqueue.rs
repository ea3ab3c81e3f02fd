//! Producers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;
use hdrhistogram::Histogram;
use memchr::memmem;
use tokio::task::JoinSet;

use super::args::Enqueue;
use super::check::Faults;
use super::http::Connection;
use super::report::{Round, histogram};
use super::requests::Template;
use super::target::Target;
use super::watchdog::Progress;

/// What the producers of a round share.
#[derive(Debug)]
struct Shared {
    /// The number of the next job.
    next: Cell<u32>,
    jobs: u32,
    /// Jobs per request; 0 for `POST /jobs`.
    bulk: u32,
    latency: RefCell<Histogram<u64>>,
    faults: RefCell<Faults>,
    progress: Progress,
}

/// How jobs go in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) jobs: u32,
    /// Jobs per request.
    pub(super) bulk: u32,
    pub(super) connections: u32,
    pub(super) payload_bytes: usize,
}

/// One round of the mode.
pub(super) async fn measure(target: &Target, flags: &Enqueue, payload_bytes: usize) -> Result<Round> {
    let (jobs, connections) = (flags.jobs(), flags.connections());
    fill(target, Load { jobs, bulk: flags.bulk, connections, payload_bytes }).await
}

/// Enqueues every job and checks that the server has them all.
pub(super) async fn fill(target: &Target, load: Load) -> Result<Round> {
    let shared = Rc::new(Shared {
        next: Cell::new(0),
        jobs: load.jobs,
        bulk: load.bulk,
        latency: RefCell::new(histogram()?),
        faults: RefCell::default(),
        progress: Progress::default(),
    });
    let bulk = load.bulk > 1;
    let template = Template::enqueue(&target.address, &target.queue, load.payload_bytes, load.bulk, bulk);
    // The last request may be shorter.
    let rest = load.jobs % load.bulk;
    let rest = Template::enqueue(&target.address, &target.queue, load.payload_bytes, rest, bulk);
    let mut connections = Vec::new();
    for _ in 0..load.connections {
        connections.push(target.connect().await?);
    }
    let before = target.usage();
    let start = Instant::now();
    let mut producers = JoinSet::new();
    for connection in connections {
        producers.spawn_local(produce(connection, template.clone(), rest.clone(), Rc::clone(&shared)));
    }
    shared.progress.watch("enqueue", join(&mut producers)).await?;
    let elapsed = start.elapsed();
    let usage = before.to(target.usage());
    let counted = target.count("").await?;
    if counted != u64::from(load.jobs) {
        let fault = format!("the server counts {counted} jobs instead of {}", load.jobs);
        shared.faults.borrow_mut().add(fault);
    }
    let faults = shared.faults.take().into_sentences();
    Ok(Round { jobs: load.jobs, elapsed, usage, latency: Some(shared.latency.borrow().clone()), faults })
}

/// Waits for all of them, or for the first that fails.
pub(super) async fn join(tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn produce(
    mut connection: Connection,
    mut full: Template,
    mut rest: Template,
    shared: Rc<Shared>,
) -> Result<()> {
    loop {
        let first = shared.next.get();
        let jobs = shared.bulk.min(shared.jobs - first);
        if jobs == 0 {
            return Ok(());
        }
        shared.next.set(first + jobs);
        let request = if jobs == shared.bulk { full.stamp(first) } else { rest.stamp(first) };
        let start = Instant::now();
        let answer = connection.exchange(request).await?;
        shared.latency.borrow_mut().saturating_record(micros(start));
        let accepted = memmem::find_iter(answer.body, b"\"id\":\"").count();
        if answer.status != 201 || accepted != jobs as usize {
            let fault = format!("a request with {jobs} jobs was answered with {}", answer.describe());
            shared.faults.borrow_mut().add(fault);
        }
        shared.progress.add(u64::from(jobs));
    }
}

/// Microseconds since then.
pub(super) fn micros(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}
