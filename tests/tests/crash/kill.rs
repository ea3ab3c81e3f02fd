//! `kill -9` of the server again and again, with producers and workers of every kind going on all the time.
//!
//! What each of them was told goes into a [ledger](crate::ledger), which is held against the contract with every
//! delivery and every answer:
//!
//! - a job that was answered with 201 runs to its end, with the payload it was enqueued with;
//! - a job whose outcome was accepted is not delivered any more, and no other outcome of it is accepted;
//! - `attempts` counts every failure that was accepted and none that was not sent;
//! - an outcome is refused only where a crash took the lease, and not even then if the lease was old enough;
//! - no delivery comes twice, and tokens of a later server are larger;
//! - afterwards nothing is left, and as many jobs are dead as were killed.
//!
//! `ZIZQ_CRASH_CYCLES` is how often (20), `ZIZQ_CRASH_SEED` repeats the choices of an earlier run, though not its timing.
//! `ZIZQ_SOAK_MINUTES` makes it a [soak](crate::soak) instead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::frame::StreamFormat::{EventStream, MessagePack, NdJson};
use protocol::lease::DEFAULT_LEASE_MS;
use protocol::media::Format;
use tests::{Http, Server, Wire};
use tokio::task::JoinSet;

use crate::producer::{self, Plan};
use crate::soak;
use crate::worker::{self, Kind};
use crate::world::World;

const JSON: Wire = Wire { format: Format::Json, http: Http::One };
const MSGPACK: Wire = Wire { format: Format::MessagePack, http: Http::One };
const MSGPACK_H2: Wire = Wire { format: Format::MessagePack, http: Http::Two };
const JSON_H2: Wire = Wire { format: Format::Json, http: Http::Two };

pub(crate) const UNFINISHED: &str = "status=scheduled,ready,in_flight";

/// Without any progress for this long, the rest is given up. A job that was with a stream when the server died is kept for
/// that worker as long as a lease is where none is named.
const STALLED: Duration = Duration::from_millis(DEFAULT_LEASE_MS + 15_000);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load() {
    let cycles = from_env("ZIZQ_CRASH_CYCLES").unwrap_or(20);
    let seed = from_env("ZIZQ_CRASH_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    eprintln!("ZIZQ_CRASH_CYCLES={cycles} ZIZQ_CRASH_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut server = Server::start().await;
    let begun = Instant::now();
    let world = World::new(server.url());
    let (producers, mut workers) = spawn_all(&world, &mut random);
    match from_env("ZIZQ_SOAK_MINUTES") {
        Some(minutes) => soak::run(&world, &mut server, &mut random, Duration::from_secs(60 * minutes)).await,
        None => {
            for cycle in 0..cycles {
                // Now and then a server lives long enough for leases to be written down.
                let ms = if cycle % 5 == 4 { 3_500 } else { random.u64(100..700) };
                tokio::time::sleep(Duration::from_millis(ms)).await;
                world.about_to_kill();
                server.kill9().await;
                tokio::time::sleep(Duration::from_millis(random.u64(..100))).await;
                server.restart().await;
                world.restarted();
                check(&world, &format!("cycle {cycle} of seed {seed}"));
            }
        }
    }
    world.stop_producing();
    producers.join_all().await;
    drain(&world, &server).await;
    check(&world, &format!("the end of seed {seed}"));
    world.stop_working();
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    check_the_rest(&world, &server).await;
    check(&world, &format!("after the end of seed {seed}"));
    eprintln!("{} ends in {:?}: {:?}", world.generation(), begun.elapsed(), world.ledger.counts());
}

pub(crate) fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|e| panic!("{name}={value}: {e}")))
}

fn spawn_all(world: &Arc<World>, random: &mut fastrand::Rng) -> (JoinSet<()>, JoinSet<()>) {
    let (mut producers, mut workers) = (JoinSet::new(), JoinSet::new());
    for (wire, bulk) in [(JSON, 1), (MSGPACK_H2, 1), (JSON_H2, 40), (MSGPACK, 40)] {
        producers.spawn(producer::run(Arc::clone(world), Plan { wire, bulk }, random.u64(..)));
    }
    for (kind, wire) in [
        (Kind::Stream(NdJson), JSON),
        (Kind::Stream(NdJson), JSON_H2),
        (Kind::Stream(MessagePack), MSGPACK),
        (Kind::Stream(EventStream), JSON),
        (Kind::Stream(EventStream), MSGPACK_H2),
        (Kind::Poll, JSON),
        (Kind::Poll, MSGPACK),
    ] {
        workers.spawn(worker::run(Arc::clone(world), kind, wire));
    }
    (producers, workers)
}

/// Waits until the server has nothing left to do, as long as something goes on.
async fn drain(world: &World, server: &Server) {
    let client = server.client();
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < STALLED && client.count(UNFINISHED).await > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let counts = world.ledger.counts();
        let progress = counts.deliveries + counts.successes + counts.failures + counts.kills;
        if progress != last {
            (last, since) = (progress, Instant::now());
        }
    }
}

pub(crate) fn check(world: &World, when: &str) {
    let violations = world.ledger.violations();
    assert!(violations.is_empty(), "{when}:\n{}", violations.join("\n"));
}

/// Nothing is lost, and the server agrees that nothing is left.
async fn check_the_rest(world: &World, server: &Server) {
    let client = server.client();
    let lost = world.ledger.lost();
    let mut told = String::new();
    for (id, history) in lost.iter().take(5) {
        let job = client.get(&format!("/jobs/{id}")).await;
        told.push_str(&format!("{history}\n  now {} {}\n", job.status, job.value()));
    }
    assert!(
        lost.is_empty(),
        "{} jobs were answered with 201 and never ran to their end:\n{told}",
        lost.len()
    );
    let left = client.count(UNFINISHED).await;
    assert_eq!(left, 0, "jobs are left");
    let (dead, maybe) = world.ledger.dead();
    let counted = client.count("status=dead").await;
    assert!(
        (dead..=dead + maybe).contains(&counted),
        "{counted} jobs are dead instead of {dead} (and up to {maybe} more)"
    );
}
