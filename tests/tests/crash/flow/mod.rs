//! `kill -9` under jobs with unique keys, batches, budgets and timeouts, and a cron entry, with laws for each:
//!
//! - while a job with a key is active, no other with the key is created, and one that has ended keeps nobody out;
//! - whatever was answered to be a part of a batch is a part of it when it runs, of that alone, and nothing is added to a
//!   batch that was taken;
//! - no server has more jobs in flight than the budget allows;
//! - an attempt that takes too long is followed by another, and counted;
//! - the entry goes on to come about once a second, and is made up for once after each crash.

mod ledger;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tests::wait::until;
use tests::{Server, Wire};
use tokio::task::JoinSet;

use crate::kill::{UNFINISHED, check, from_env};
use crate::link::{Gone, Link};
use crate::world::World;
use ledger::{ALLOCATION, About, Ledger, TIMEOUT};

/// Between two requests of a producer.
const PACE: Duration = Duration::from_millis(8);
/// Longer than any server is down.
const LEASE_MS: u64 = 10_000;

#[derive(Debug)]
struct Flow {
    world: Arc<World>,
    ledger: Ledger,
    /// The jobs of the cron entry that were seen.
    fired: Mutex<HashSet<String>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flow_control_killed_under_load() {
    let cycles = from_env("ZIZQ_CRASH_CYCLES").unwrap_or(12);
    let mut random =
        fastrand::Rng::with_seed(from_env("ZIZQ_CRASH_SEED").unwrap_or_else(|| fastrand::u64(..)));
    let mut server = Server::start().await;
    let flow = Arc::new(Flow {
        world: World::new(server.url()),
        ledger: Ledger::default(),
        fired: Mutex::default(),
    });
    let world = &flow.world;
    set_up(&server).await;
    let began = Instant::now();
    let (mut producers, mut workers) = (JoinSet::new(), JoinSet::new());
    let makers = [
        About::Unique,
        About::Unique,
        About::Batch,
        About::Batch,
        About::Batch,
        About::Budget,
        About::Timeout,
    ];
    for (n, (about, wire)) in makers.into_iter().zip(Wire::ALL.into_iter().cycle()).enumerate() {
        producers.spawn(produce(flow.clone(), about, wire, n as u64));
    }
    for wire in Wire::ALL {
        workers.spawn(work(flow.clone(), wire));
    }
    for cycle in 0..cycles {
        tokio::time::sleep(Duration::from_millis(random.u64(100..1_500))).await;
        world.about_to_kill();
        server.kill9().await;
        server.restart().await;
        world.restarted();
        check(world, &format!("cycle {cycle}"));
    }
    let fired = flow.fired.lock().unwrap().len();
    until("the cron entry to go on", async || (flow.fired.lock().unwrap().len() > fired + 1).then_some(()))
        .await;
    world.stop_producing();
    producers.join_all().await;
    let client = server.client();
    client.delete("/crons").await.expect(200);
    let (fired, most) = (flow.fired.lock().unwrap().len() as u64, began.elapsed().as_secs() + cycles + 2);
    assert!(fired <= most, "the cron entry came {fired} times instead of {most} at most");
    until("everything to be done", async || (client.count(UNFINISHED).await == 0).then_some(())).await;
    world.stop_working();
    workers.join_all().await;
    check(world, "the end");
    let lost = flow.ledger.lost();
    assert!(lost.is_empty(), "{}", lost.join("\n"));
    let counts @ [duplicates, folds, timeouts] = flow.ledger.counts();
    assert!(duplicates > 0 && folds > 0 && timeouts > 0, "duplicates, folds, timeouts: {counts:?}");
    eprintln!(
        "{cycles} ends in {:?}; duplicates, folds, timeouts: {counts:?}, {fired} firings",
        began.elapsed()
    );
}

async fn set_up(server: &Server) {
    let client = server.client();
    let policy = json!({"allocation": ALLOCATION, "strategy": {"type": "while_in_flight"}});
    client.post("/budgets/few", &policy).await.expect(201);
    let job = json!({"queue": "cron", "type": "t", "payload": "tick"});
    let entries = json!({"entries": [{"name": "e", "expression": "* * * * * *", "job": job}]});
    client.call(Method::PUT, "/crons/g").value(&entries).await.expect(200);
}

fn request(about: About, n: u64) -> Value {
    let mut job = json!({"queue": about.queue(), "type": "t", "payload": {"ns": [n]}});
    match about {
        About::Unique => {
            (job["unique_key"], job["unique_while"]) = (json!(format!("k{}", n % 5)), json!("active"));
        }
        About::Batch => {
            let when = "$existing.ns + $new.ns | length <= 20";
            let fold = "$existing | .ns += $new.ns";
            job["batch"] = json!({"key": format!("k{}", n % 3), "when": when, "fold": fold});
        }
        About::Budget => job["budgets"] = json!([{"key": "few"}]),
        About::Timeout => {
            job["timeout_ms"] = json!(TIMEOUT.as_millis());
            job["backoff"] = json!({"base_ms": 0, "exponent": 0, "jitter_ms": 0});
        }
        About::Cron => {}
    }
    job
}

/// Enqueues until it is told to stop. Its numbers are of a range of its own.
async fn produce(flow: Arc<Flow>, about: About, wire: Wire, range: u64) {
    let link = Link::new(&flow.world, wire);
    let mut n = range << 32;
    while flow.world.producing() {
        n += 1;
        let asked = Instant::now();
        let call = link.client().post("/jobs", &request(about, n));
        if let Ok(answer) = link.send(&flow.world, call).await {
            let fine = matches!(answer.status.as_u16(), 200 | 201);
            flow.world.ledger.law(fine, || format!("enqueue for {about:?}: {answer:?}"));
            if fine {
                flow.ledger.answered(&flow.world, about, n, &answer.body, asked);
            }
        }
        // Jobs that wait for their timeouts hold up no others.
        tokio::time::sleep(if about == About::Timeout { PACE * 20 } else { PACE }).await;
    }
}

async fn work(flow: Arc<Flow>, wire: Wire) {
    let link = Link::new(&flow.world, wire);
    while flow.world.working() {
        let generation = flow.world.generation();
        // Batches wait for a while, so that something is folded into them.
        let asked = About::ALL.into_iter().filter(|about| *about != About::Batch || fastrand::u32(..10) == 0);
        let queues: Vec<&str> = asked.map(About::queue).collect();
        let poll = json!({"queues": queues, "limit": 4, "wait_ms": 200, "lease_ms": LEASE_MS});
        let Ok(answer) = link.send(&flow.world, link.client().post("/jobs/take", &poll)).await else {
            continue;
        };
        let jobs = answer.body["jobs"].as_array().filter(|_| answer.same_server);
        for job in jobs.into_iter().flatten() {
            let about = About::ALL.into_iter().find(|about| job["queue"] == about.queue()).unwrap();
            flow.ledger.delivered(&flow.world, about, job, generation);
            let (flow, link, job) = (flow.clone(), link.clone(), job.clone());
            tokio::spawn(async move {
                if about == About::Cron {
                    flow.fired.lock().unwrap().insert(tests::id(&job).to_owned());
                }
                // The first attempt takes too long.
                if about != About::Timeout || job["attempts"] != 0 {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(..40))).await;
                    succeed(&flow, &link, &job).await;
                }
            });
        }
    }
}

/// Reports until there is an answer.
async fn succeed(flow: &Flow, link: &Link, job: &Value) {
    let id = tests::id(job);
    while flow.world.working() {
        flow.ledger.succeeding(id);
        let call = link.client().poke(&format!("/jobs/{id}/success"));
        match link.send(&flow.world, call.header("zizq-lease", tests::lease(job))).await {
            Ok(answer) if answer.status == 204 => return flow.ledger.succeeded(id),
            Ok(_) => return,
            Err(Gone::NotSent | Gone::Unanswered) => {}
        }
    }
}
