//! Long-poll.

use std::time::{Duration, Instant};

use protocol::media::Format;
use serde_json::{Value, json};
use tests::{Server, Wire, id};

fn job(queue: &str, payload: u64) -> Value {
    json!({"queue": queue, "type": "t", "payload": payload})
}

fn payloads(jobs: &[Value]) -> Vec<u64> {
    jobs.iter().map(|job| job["payload"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_poll_takes_what_is_there() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        client.enqueue_all((0..10).map(|n| job("q", n))).await;
        assert_eq!(payloads(&client.poll(&json!({})).await), [0], "one is the default");
        assert_eq!(payloads(&client.poll(&json!({"limit": 3, "worker": "me"})).await), [1, 2, 3]);
        // It does not wait to fill up.
        let rest = client.poll(&json!({"limit": 1_000, "wait_ms": 60_000})).await;
        assert_eq!(payloads(&rest), [4, 5, 6, 7, 8, 9]);
        assert_eq!(client.poll(&json!({"limit": 1_000})).await, [] as [Value; 0]);
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_poll_needs_no_body() {
    let server = Server::start().await;
    let client = server.client();
    let queued = client.add("q").await;
    let jobs = client.poke("/jobs/take").await.expect(200);
    assert_eq!(id(&jobs["jobs"][0]), id(&queued));
}

#[tokio::test]
async fn a_poll_without_jobs_is_empty_after_its_wait() {
    let server = Server::start().await;
    let client = server.client();
    client.add("other").await;
    let asked = Instant::now();
    assert_eq!(client.poll(&json!({"queues": ["q"], "wait_ms": 700})).await, [] as [Value; 0]);
    let waited = asked.elapsed();
    assert!((Duration::from_millis(700)..Duration::from_secs(20)).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn a_waiting_poll_is_woken_by_a_new_job() {
    let server = Server::start().await;
    let client = server.client();
    for format in [Format::Json, Format::MessagePack] {
        let poller = server.client_as(Wire { format, ..Wire::default() });
        let poll = tokio::spawn(async move { poller.poll_one("q").await });
        let queued = client.add("q").await;
        let taken = poll.await.unwrap();
        assert_eq!(id(&taken), id(&queued));
        let waited = taken["dequeued_at"].as_u64().unwrap() - queued["ready_at"].as_u64().unwrap();
        assert!(waited < 5_000, "handed out after {waited} ms");
    }
}

#[tokio::test]
async fn many_polls_share_the_jobs() {
    let server = Server::start().await;
    let client = server.client();
    let mut polls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        polls.spawn(async move { client.poll_one("q").await });
    }
    client.enqueue_all((0..20).map(|n| job("q", n))).await;
    let mut numbers = payloads(&polls.join_all().await);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_poll_takes_from_its_queues_by_priority() {
    let server = Server::start().await;
    let client = server.client();
    let mut urgent = job("b", 3);
    urgent["priority"] = json!(0);
    client.enqueue_all([job("a", 0), job("b", 1), job("c", 2), urgent]).await;
    let taken = client.poll(&json!({"queues": ["b", "a"], "limit": 10})).await;
    assert_eq!(payloads(&taken), [3, 0, 1]);
    assert_eq!(payloads(&client.poll(&json!({"queues": [], "limit": 10})).await), [2], "no queues: all");
}

#[tokio::test]
async fn a_lease_outlives_the_connection_of_its_poll() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let taken = client.poll(&json!({"lease_ms": 1_000})).await.remove(0);
    drop(client);
    let client = server.client();
    assert_eq!(client.poll(&json!({})).await, [] as [Value; 0]);
    let again = client.poll_one("q").await;
    assert_eq!((id(&again), &again["deliveries"]), (id(&taken), &json!(2)));
    assert!(again["dequeued_at"].as_u64() >= taken["lease_expires_at"].as_u64());
}

#[tokio::test]
async fn abandoned_polls_swallow_no_jobs() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let mut polls = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let client = client.clone();
            let poll = json!({"queues": ["q"], "wait_ms": 60_000, "lease_ms": 3_600_000});
            polls.spawn(async move { client.poll(&poll).await });
        }
        client.let_pass(300).await;
        polls.shutdown().await;
        client.let_pass(300).await;
        client.enqueue_all((0..10).map(|n| job("q", n))).await;
        let taken = client.poll(&json!({"queues": ["q"], "wait_ms": 30_000, "limit": 10})).await;
        assert_eq!(taken.len(), 10, "as {wire:?}");
        client.poke("/reset").await.expect_nothing();
    }
}
