//! Looking never scans: what a page shows costs a bounded number of entries of the store, however many jobs there are.
//!
//! `ZIZQ_TEST_JOBS`, `ZIZQ_TEST_QUEUES` and `ZIZQ_TEST_STREAMS` make it larger, such as 10000000, 10000 and 5000 with
//! release builds; each call and its time are printed.

use std::time::Instant;

use serde_json::{Value, json};
use tests::crowd::{Crowd, entries_read};
use tests::events::Events;
use tests::{Client, Server};

/// The most entries of the store that a call may read.
const MOST: u64 = 2_000;
/// After a start nobody knows where the jobs of a queue begin. How many entries per queue the first list over all queues
/// takes in one direction.
const FIRST_PER_QUEUE: u64 = 8;
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
    let mut server = Server::start().await;
    let client = server.client();
    let crowd = Crowd::from_env(30_000, 1_000, 100);
    let (job, open) = crowd.gather(&client).await;
    let mut views = views(&job);
    views.push("/live?topics=totals,queues&order=oldest&desc=true&limit=100".to_owned());
    views.push(format!("/live?jobs={job}"));
    for view in views {
        println!("{}", look(&client, &view, MOST).await);
    }
    drop(open);
    // The first jobs of each queue leave: where the others begin is found out once, and known from then on.
    for _ in 0..crowd.queues.min(1_000) {
        let taken = client.poll(&json!({"limit": 10})).await;
        for job in &taken {
            client.succeed(job).await;
        }
    }
    server.sigterm().await;
    server.restart().await;
    let client = server.client();
    let first = MOST + FIRST_PER_QUEUE * crowd.queues as u64;
    for view in ["asc", "desc"].map(|order| format!("/jobs?limit=50&payload=preview&order={order}")) {
        println!("{}", look(&client, &view, first).await);
        println!("{}", look(&client, &view, MOST).await);
    }
}
