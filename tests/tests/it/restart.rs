//! Leases and jobs over clean stops and crashes of the server.

use std::time::Instant;

use serde_json::{Value, json};
use tests::wait::{PATIENCE, now_ms};
use tests::{Client, Server, id, lease};

const SHORT_DRAIN: [&str; 2] = ["--drain-timeout", "100ms"];

fn job(payload: u64) -> Value {
    json!({"queue": "q", "type": "t", "payload": payload})
}

/// After this the server has written down every lease that was given before.
async fn let_leases_settle(client: &Client) {
    client.let_pass(2_000).await;
}

/// Ends the server, by a crash or by a clean stop.
async fn end(server: &mut Server, crash: bool) {
    if crash {
        server.kill9().await;
    } else {
        assert_eq!(server.sigterm().await.code(), Some(0));
    }
}

async fn expect_nothing_to_take(client: &Client) {
    assert_eq!(client.poll(&json!({"wait_ms": 300})).await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_lease_outlives_a_clean_stop_however_young() {
    let mut server = Server::with(SHORT_DRAIN).await;
    server.client().enqueue(&job(1)).await;
    let taken = server.client().poll_one("q").await;
    assert_eq!(server.sigterm().await.code(), Some(0));
    server.restart().await;
    let client = server.client();
    let shown = client.job(id(&taken)).await;
    assert_eq!((&shown["status"], &shown["dequeued_at"]), (&json!("in_flight"), &taken["dequeued_at"]));
    expect_nothing_to_take(&client).await;
    client.succeed(&taken).await;
    assert_eq!(client.count("").await, 0);
}

#[tokio::test]
async fn a_lease_older_than_a_second_outlives_a_crash() {
    let mut server = Server::start().await;
    let client = server.client();
    client.enqueue(&job(1)).await;
    let taken = client.poll_one("q").await;
    let_leases_settle(&client).await;
    server.kill9().await;
    server.restart().await;
    let client = server.client();
    assert_eq!(client.job(id(&taken)).await["status"], "in_flight");
    expect_nothing_to_take(&client).await;
    let beat = client.post(&format!("/jobs/{}/heartbeat", id(&taken)), &json!({"lease_ms": 60_000}));
    let beat = beat.header("zizq-lease", lease(&taken)).await.expect(200);
    assert!(beat["lease_expires_at"].as_u64() > taken["lease_expires_at"].as_u64());
    client.succeed(&taken).await;
    assert_eq!(client.count("").await, 0);
}

#[tokio::test]
async fn after_a_crash_a_young_lease_is_honoured_until_the_job_is_handed_out() {
    let mut server = Server::start().await;
    for round in 0..5 {
        let client = server.client();
        client.enqueue_all([job(round), job(round)]).await;
        let taken = client.poll(&json!({"queues": ["q"], "limit": 2})).await;
        assert_eq!(taken.len(), 2);
        server.kill9().await;
        server.restart().await;
        let client = server.client();
        client.succeed(&taken[0]).await;
        let bulk = json!({"jobs": [{"id": id(&taken[1]), "lease": lease(&taken[1])}]});
        client.post("/jobs/success", &bulk).await.expect_nothing();
        assert_eq!(client.count("").await, 0);
    }
}

#[tokio::test]
async fn a_lease_expires_on_time_after_a_restart_and_its_token_is_stale_then() {
    let mut server = Server::start().await;
    let client = server.client();
    client.enqueue(&job(1)).await;
    let mut taken = client.poll(&json!({"queues": ["q"], "lease_ms": 3_500})).await;
    let first = taken.remove(0);
    let_leases_settle(&client).await;
    server.kill9().await;
    server.restart().await;
    let client = server.client();
    let second = client.poll_one("q").await;
    assert_eq!(id(&second), id(&first));
    assert!(second["dequeued_at"].as_u64() >= first["lease_expires_at"].as_u64());
    assert_ne!(lease(&second), lease(&first));
    let stale = client.poke(&format!("/jobs/{}/success", id(&first))).header("zizq-lease", lease(&first));
    stale.await.expect_refusal(409, "lease");
    client.succeed(&second).await;
}

#[tokio::test]
async fn a_lease_that_a_heartbeat_made_longer_stays_long() {
    for crash in [true, false] {
        let mut server = Server::with(SHORT_DRAIN).await;
        let client = server.client();
        client.enqueue(&job(1)).await;
        let taken = client.poll(&json!({"queues": ["q"], "lease_ms": 1_000})).await.remove(0);
        let path = format!("/jobs/{}/heartbeat", id(&taken));
        let renewed = client.post(&path, &json!({"lease_ms": 3_600_000})).header("zizq-lease", lease(&taken));
        assert_eq!(renewed.await.expect(200)["id"], taken["id"]);
        let_leases_settle(&client).await;
        end(&mut server, crash).await;
        server.restart().await;
        let client = server.client();
        // Longer than the lease was at first.
        let others = client.poll(&json!({"queues": ["q"], "wait_ms": 1_500})).await;
        assert_eq!(others, Vec::<Value>::new(), "crash: {crash}");
        client.succeed(&taken).await;
    }
}

#[tokio::test]
async fn a_worker_that_does_not_come_back_has_its_time_once_however_often_the_server_is_restarted() {
    let mut server = Server::start().await;
    let client = server.client();
    client.enqueue(&job(1)).await;
    let taken = client.poll(&json!({"queues": ["q"], "lease_ms": 4_000})).await.remove(0);
    let_leases_settle(&client).await;
    let begun = Instant::now();
    loop {
        server.kill9().await;
        server.restart().await;
        let found = server.client().poll(&json!({"queues": ["q"], "wait_ms": 500})).await;
        if let [again] = &found[..] {
            assert_eq!((id(again), again["deliveries"].as_u64()), (id(&taken), Some(2)));
            return server.client().succeed(again).await;
        }
        assert!(begun.elapsed() < PATIENCE, "it is kept again and again");
    }
}

#[tokio::test]
async fn the_worker_of_an_event_stream_comes_back_to_its_jobs_after_a_restart() {
    for crash in [false, true] {
        let mut server = Server::with(SHORT_DRAIN).await;
        let client = server.client();
        client.enqueue_all((0..4).map(job)).await;
        let mut stream = client.events("queue=q&prefetch=2").await;
        let held = stream.next_jobs(2).await;
        let_leases_settle(&client).await;
        end(&mut server, crash).await;
        server.restart().await;
        let client = server.client();
        let mut back = client.resume(&stream.last_event_id, "queue=q&prefetch=4").await;
        let new = back.next_jobs(2).await;
        assert_eq!((&new[0]["payload"], &new[1]["payload"]), (&json!(2), &json!(3)), "crash: {crash}");
        for job in held.iter().chain(&new) {
            client.succeed(job).await;
        }
        assert_eq!(client.count("").await, 0);
    }
}

#[tokio::test]
async fn what_was_acknowledged_stays_so_after_a_crash() {
    let mut server = Server::start().await;
    for round in 0..5 {
        let client = server.client();
        let queued = client.enqueue_all((0..6).map(job)).await;
        let taken = client.poll(&json!({"queues": ["q"], "limit": 4})).await;
        client.succeed(&taken[0]).await;
        client.post("/jobs/success", &json!({"ids": [id(&taken[1])]})).await.expect_nothing();
        client.fail(&taken[2], &json!({"message": "m", "retry_at": 253_402_300_799_999_u64})).await;
        client.fail(&taken[3], &json!({"message": "m", "kill": true})).await;
        client.delete(&format!("/jobs/{}", id(&queued[4]))).await.expect_nothing();
        server.kill9().await;
        server.restart().await;
        let client = server.client();
        let expected =
            [None, None, Some("scheduled"), Some("dead"), None, Some("ready")].map(|s| s.map(str::to_owned));
        for (job, expected) in queued.iter().zip(expected) {
            assert_eq!(client.status(id(job)).await, expected, "round {round}, job {}", id(job));
        }
        let error = client.get(&format!("/jobs/{}/errors/1", id(&taken[2]))).await.expect(200);
        assert_eq!(error["message"], "m");
        client.poke("/reset").await.expect_nothing();
        server.kill9().await;
        server.restart().await;
        assert_eq!(server.client().count("").await, 0, "a reset is for good");
    }
}

#[tokio::test]
async fn order_goes_on_after_a_restart() {
    let mut server = Server::start().await;
    let mut queued = Vec::new();
    for round in 0..3 {
        queued.extend(server.client().enqueue_all((0..500).map(|n| job(round * 500 + n))).await);
        server.kill9().await;
        server.restart().await;
    }
    assert!(queued.is_sorted_by(|a, b| id(a) < id(b)), "ids stay in order over restarts");
    let client = server.client();
    let mut urgent = job(9_999);
    urgent["priority"] = json!(0);
    client.enqueue(&urgent).await;
    let mut stream = client.lines("queue=q&prefetch=0").await;
    assert_eq!(stream.next_job().await["payload"], 9_999);
    let payloads: Vec<u64> =
        stream.next_jobs(1_500).await.iter().map(|job| job["payload"].as_u64().unwrap()).collect();
    assert_eq!(payloads, (0..1_500).collect::<Vec<_>>());
}

#[tokio::test]
async fn jobs_that_fell_due_while_the_server_was_down_come_at_once() {
    let mut server = Server::with(SHORT_DRAIN).await;
    for crash in [false, true] {
        let client = server.client();
        let mut later = job(1);
        later["ready_at"] = json!(now_ms() + 700);
        let queued = client.enqueue(&later).await;
        end(&mut server, crash).await;
        server.restart().await;
        let taken = server.client().lines("queue=q").await.next_job().await;
        assert_eq!(id(&taken), id(&queued));
        assert!(taken["dequeued_at"].as_u64() >= queued["ready_at"].as_u64());
        server.client().poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn jobs_of_plain_streams_are_ready_after_a_crash() {
    let mut server = Server::start().await;
    let client = server.client();
    client.enqueue_all((0..3).map(job)).await;
    let mut stream = client.lines("queue=q&prefetch=2").await;
    let held = stream.next_jobs(2).await;
    server.kill9().await;
    server.restart().await;
    let client = server.client();
    let again = client.lines("queue=q&prefetch=3").await.next_jobs(3).await;
    assert_eq!(again.iter().take(2).map(id).collect::<Vec<_>>(), held.iter().map(id).collect::<Vec<_>>());
    assert!(again.iter().all(|job| job["attempts"] == 0));
}
