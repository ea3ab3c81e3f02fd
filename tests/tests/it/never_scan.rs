//! Looking never scans: what a page shows costs a bounded number of entries of the store, however many jobs there are.
//!
//! `ZIZQ_TEST_JOBS`, `ZIZQ_TEST_QUEUES` and `ZIZQ_TEST_STREAMS` make it larger, such as 10000000, 10000 and 5000 with
//! release builds; each call and its time are printed.

use std::fmt::Write;
use std::str::FromStr;
use std::time::Instant;

use serde_json::{Value, json};
use tests::events::Events;
use tests::{Client, Server, id};

/// The most entries of the store that a call may read.
const MOST: u64 = 2_000;
/// After a start nobody knows where the jobs of a queue begin. How many entries per queue the first list over all queues
/// takes in one direction.
const FIRST_PER_QUEUE: u64 = 8;
/// How many jobs are enqueued at a time.
const BULK: usize = 5_000;

fn from_env<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// How many entries were read so far, for all calls together.
async fn entries_read(client: &Client) -> u64 {
    let answer = client.get("/metrics").header("accept", "text/plain").await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("zizq_reader_entries_total{"));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

/// Looks at a view, and asserts that it reads at most so many entries. Returns how many, and how long that took.
async fn look(client: &Client, view: &str, most: u64) -> String {
    let of_scrape = {
        let before = entries_read(client).await;
        entries_read(client).await - before
    };
    let before = entries_read(client).await;
    let asked = Instant::now();
    if view.starts_with("/live") {
        let mut live = Events::open(client.get(view)).await;
        let (_, message): (String, Value) = live.next().await.unwrap();
        assert!(message["now"].is_u64());
    } else {
        let accept = if view == "/metrics" { "text/plain" } else { "application/json" };
        let answer = client.get(view).header("accept", accept).await;
        // Of more queues than are tracked, some have no history.
        let is_untracked = view.starts_with("/stats/history") && answer.status == 404;
        assert!(answer.status == 200 || is_untracked, "{view}: {} {:?}", answer.status, answer.body);
    }
    let took = asked.elapsed();
    let entries = (entries_read(client).await - before).saturating_sub(of_scrape);
    assert!(entries <= most, "{view} read {entries} entries of the store");
    format!("{took:>12.1?} {entries:>6} entries  {view}")
}

/// Fills the queues evenly; in the first one some jobs are dead, and some scheduled. Returns the id of a job.
async fn fill(client: &Client, jobs: usize, queues: usize) -> String {
    for start in (0..jobs).step_by(BULK) {
        let mut body = "{\"jobs\": [".to_owned();
        for n in start..jobs.min(start + BULK) {
            let (queue, kind, comma) = (n % queues, n % 7, if n == start { "" } else { "," });
            let ready_at = if n % 10 == 9 { 4_000_000_000_000_u64 } else { 0 };
            write!(body, r#"{comma}{{"queue": "q{queue:05}", "type": "t{kind}", "payload": {{"user": {n}}}, "ready_at": {ready_at}}}"#).unwrap();
        }
        body.push_str("]}");
        client.poke("/jobs/bulk").bytes("application/json", body).await.expect(201);
    }
    for _ in 0..20 {
        let job = client.poll_one("q00000").await;
        client.fail(&job, &json!({"message": "m", "kill": true})).await;
    }
    id(&client.add("q00001").await).to_owned()
}

/// What pages and terminals ask for.
fn views(job: &str) -> Vec<String> {
    let orders = ["name", "ready", "in_flight", "dead", "rate", "oldest"];
    let lists = orders.map(|order| format!("/queues?details=true&limit=100&order={order}&desc=true"));
    let mut views = lists.to_vec();
    views.extend(
        [
            "/stats",
            "/stats/history?range=10m",
            "/stats/history?range=30d",
            "/stats/history?range=3h&queue=q00001",
            "/queues/q00001",
            "/queues?details=true&limit=100&contains=9",
            "/queues?details=true&limit=100&series=ready",
            "/queues?details=true&limit=100&status=dead",
            "/workers?limit=100",
            "/workers?limit=100&queue=q00001",
            "/jobs?limit=50&payload=preview&queue=q00001",
            "/jobs?limit=50&payload=preview&queue=q00000&status=dead&order=desc",
            "/jobs?limit=50&payload=preview&status=in_flight",
            "/jobs?limit=50&payload=preview",
            "/jobs?limit=50&payload=preview&order=desc",
            "/jobs?limit=50&payload=preview&status=dead&order=desc",
            "/jobs?limit=50&payload=preview&status=scheduled",
            "/jobs/count?queue=q00001",
            "/jobs/count?status=ready",
            "/jobs/count?type=t1&queue=q00001&at_most=100",
            "/jobs/groups?by=type&queue=q00001&newest=500",
            "/jobs/groups?by=message&status=dead&queue=q00000&newest=500",
            "/jobs/groups?by=error_type&status=dead&newest=500",
            "/metrics",
            "/budgets",
            "/crons",
            "/readyz?verbose=true",
        ]
        .map(str::to_owned),
    );
    views.extend(["", "/errors"].map(|of| format!("/jobs/{job}{of}")));
    views
}

#[tokio::test]
async fn looking_never_scans() {
    let jobs = from_env("ZIZQ_TEST_JOBS").unwrap_or(30_000);
    let queues: usize = from_env("ZIZQ_TEST_QUEUES").unwrap_or(1_000);
    let streams = from_env("ZIZQ_TEST_STREAMS").unwrap_or(100_usize);
    let mut server = Server::start().await;
    let client = server.client();
    let started = Instant::now();
    let job = fill(&client, jobs, queues).await;
    println!("{jobs} jobs in {queues} queues after {:?}", started.elapsed());
    // The streams have nothing to do: they take from queues without jobs.
    let mut open = Vec::with_capacity(streams);
    for n in 0..streams {
        open.push(client.lines(&format!("queue=idle{n}")).await);
    }
    let mut views = views(&job);
    views.push("/live?topics=totals,queues&order=oldest&desc=true&limit=100".to_owned());
    views.push(format!("/live?jobs={job}"));
    for view in views {
        println!("{}", look(&client, &view, MOST).await);
    }
    drop(open);
    // The first jobs of each queue leave: where the others begin is found out once, and known from then on.
    for _ in 0..queues.min(1_000) {
        let taken = client.poll(&json!({"limit": 10})).await;
        for job in &taken {
            client.succeed(job).await;
        }
    }
    server.sigterm().await;
    server.restart().await;
    let client = server.client();
    let first = MOST + FIRST_PER_QUEUE * queues as u64;
    for view in ["asc", "desc"].map(|order| format!("/jobs?limit=50&payload=preview&order={order}")) {
        println!("{}", look(&client, &view, first).await);
        println!("{}", look(&client, &view, MOST).await);
    }
}
