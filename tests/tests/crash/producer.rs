//! Producers, which go on whatever happens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::json;
use tests::Wire;
use tests::wait::now_ms;

use crate::fate;
use crate::link::Link;
use crate::world::World;

/// Jobs on their way at which producers wait for the workers.
const MOST_OPEN: usize = 1_000;
/// Between requests of a producer, so that the jobs of a run do not grow beyond what a debug build reads in no time at
/// every start.
const PACE: Duration = Duration::from_millis(20);

/// How many there are.
pub(crate) const PRODUCERS: u64 = 4;

/// How a producer works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) wire: Wire,
    /// The most jobs of a request; 1 uses `POST /jobs`.
    pub(crate) bulk: usize,
}

/// Enqueues until it is told to stop.
pub(crate) async fn run(world: Arc<World>, plan: Plan, seed: u64) {
    let mut link = Link::new(&world, plan.wire);
    let mut random = fastrand::Rng::with_seed(seed);
    while world.producing() {
        if world.ledger.open() > MOST_OPEN {
            tokio::time::sleep(PACE).await;
            continue;
        }
        let len = random.usize(1..=plan.bulk);
        let pause = world.pace().map_or(PACE, |pace| pace * u32::try_from(len).unwrap());
        let next = Instant::now() + pause;
        if plan.bulk == 1 {
            single(&world, &link).await;
        } else {
            bulk(&world, &link, len).await;
        }
        tokio::time::sleep_until(next.into()).await;
        if world.breaks_off() {
            link = Link::new(&world, plan.wire);
        }
    }
}

async fn single(world: &World, link: &Link) {
    let n = world.ledger.number();
    let call = link.client().post("/jobs", &fate::request(n, now_ms()));
    if let Ok(answer) = link.send(world, call).await {
        world.ledger.law(answer.status == StatusCode::CREATED, || format!("enqueue of {n}: {answer:?}"));
        world.ledger.confirmed(n, tests::id(&answer.body));
    }
}

async fn bulk(world: &World, link: &Link, len: usize) {
    let numbers: Vec<u64> = (0..len).map(|_| world.ledger.number()).collect();
    let jobs: Vec<_> = numbers.iter().map(|n| fate::request(*n, now_ms())).collect();
    let call = link.client().post("/jobs/bulk", &json!({"jobs": jobs}));
    if let Ok(answer) = link.send(world, call).await {
        let accepted = answer.body["jobs"].as_array();
        let complete = answer.status == StatusCode::CREATED && accepted.map(Vec::len) == Some(len);
        world.ledger.law(complete, || format!("bulk of {len}: {answer:?}"));
        for (n, job) in numbers.into_iter().zip(accepted.into_iter().flatten()) {
            world.ledger.confirmed(n, tests::id(job));
        }
    }
}
