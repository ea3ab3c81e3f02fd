//! Job streams: formats, heartbeats, order, prefetch, wake-ups.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use protocol::frame::{self, StreamFormat};
use serde_json::{Value, json};
use tests::wait::{now_ms, until};
use tests::{Client, Http, Item, Server, Wire, id};

const FORMATS: [StreamFormat; 3] =
    [StreamFormat::NdJson, StreamFormat::MessagePack, StreamFormat::EventStream];
/// Beats often, for tests that take a heartbeat as the sign that nothing else is to come.
const FAST_BEAT: [&str; 2] = ["--heartbeat-interval", "250ms"];
/// Does not beat during a test, so that nothing but the event under test can wake a worker.
const SLOW_BEAT: [&str; 2] = ["--heartbeat-interval", "15s"];

fn job(queue: &str, payload: impl Into<Value>) -> Value {
    json!({"queue": queue, "type": "t", "payload": payload.into()})
}

fn payloads(jobs: &[Value]) -> Vec<&Value> {
    jobs.iter().map(|job| &job["payload"]).collect()
}

async fn succeed_all(client: &Client, jobs: &[Value]) {
    let ids: Vec<&str> = jobs.iter().map(id).collect();
    client.post("/jobs/success", &json!({"ids": ids})).await.expect_nothing();
}

#[tokio::test]
async fn the_format_follows_accept() {
    let server = Server::start().await;
    for http in [Http::One, Http::Two] {
        let client = server.client_as(Wire { http, ..Wire::default() });
        for (accept, expected) in [
            ("", "application/x-ndjson"),
            ("*/*", "application/x-ndjson"),
            ("application/json", "application/x-ndjson"),
            ("application/x-ndjson", "application/x-ndjson"),
            ("application/msgpack", "application/vnd.zizq.msgpack-stream"),
            ("application/vnd.zizq.msgpack-stream", "application/vnd.zizq.msgpack-stream"),
            ("text/event-stream", "text/event-stream"),
            ("Text/Event-Stream; charset=utf-8", "text/event-stream"),
            ("text/html, text/event-stream;q=0.1", "text/event-stream"),
        ] {
            let response = client.get("/jobs/take").header("accept", accept).response().await;
            assert_eq!(response.status(), 200, "{accept:?}");
            let content_type = response.headers()["content-type"].to_str().unwrap();
            assert_eq!(content_type.split(';').next(), Some(expected), "{accept:?}");
        }
        for accept in ["text/html", "application/xml", "image/*", "text/event-stream;q=0"] {
            client.get("/jobs/take").header("accept", accept).await.expect_refusal(406, accept);
        }
    }
}

/// Clients of HTTP/2 bound how many empty frames they take from a connection, hyper's 100 in its life; then they end it,
/// and every job that it holds is handed out again.
#[tokio::test]
async fn a_cancel_sends_no_empty_frame_in_formats_without_cancels() {
    let server = Server::with(SLOW_BEAT).await;
    for format in [StreamFormat::NdJson, StreamFormat::MessagePack] {
        let client = server.client_as(Wire { http: Http::Two, ..Wire::default() });
        let mut stream = client.take(format, "queue=q&prefetch=2").await;
        for _ in 0..120 {
            let job = client.add("q").await;
            assert_eq!(id(&stream.next_job().await), id(&job));
            // The stream is told by itself that this job is not its any more.
            client.delete(&format!("/jobs/{}", id(&job))).await.expect_nothing();
        }
    }
}

#[tokio::test]
async fn an_idle_stream_beats() {
    let server = Server::with(FAST_BEAT).await;
    for (format, heartbeat) in
        FORMATS.into_iter().zip([frame::ndjson::HEARTBEAT, frame::msgpack::HEARTBEAT, frame::sse::HEARTBEAT])
    {
        let mut stream = server.client().take(format, "").await;
        let opened = Instant::now();
        let before = stream.received.len();
        for _ in 0..3 {
            stream.expect_idle().await;
        }
        assert!(opened.elapsed() >= Duration::from_millis(500), "three beats in {:?}", opened.elapsed());
        assert_eq!(stream.received[before..], heartbeat.repeat(3));
    }
}

#[tokio::test]
async fn a_waiting_worker_gets_a_new_job_without_polling() {
    let server = Server::with(SLOW_BEAT).await;
    for (round, wire) in Wire::ALL.into_iter().enumerate() {
        let client = server.client_as(wire);
        for (queue, format) in ["a", "b", "c"].into_iter().zip(FORMATS) {
            let queue = format!("{queue}{round}");
            let mut stream = client.take(format, &format!("queue={queue}")).await;
            for n in 0..3 {
                let queued = client.enqueue(&job(&queue, n)).await;
                let taken = stream.next_job().await;
                assert_eq!((id(&taken), &taken["payload"]), (id(&queued), &json!(n)));
                let waited = taken["dequeued_at"].as_u64().unwrap() - queued["ready_at"].as_u64().unwrap();
                assert!(waited < 5_000, "pushed after {waited} ms");
                client.succeed(&taken).await;
            }
        }
    }
}

#[tokio::test]
async fn priority_comes_before_age() {
    let server = Server::start().await;
    let client = server.client();
    let jobs = [(32_769, 5), (0, 0), (65_535, 6), (1, 1), (32_767, 2), (1, 1)];
    client
        .enqueue_all(jobs.map(|(priority, payload)| {
            let mut job = job("q", payload);
            job["priority"] = json!(priority);
            job
        }))
        .await;
    client.enqueue_all([job("q", 3), job("q", 4)]).await;
    let mut stream = client.lines("queue=q&prefetch=1").await;
    let mut seen = Vec::new();
    for _ in 0..8 {
        let taken = stream.next_job().await;
        client.succeed(&taken).await;
        seen.push(taken["payload"].as_u64().unwrap());
    }
    assert_eq!(seen, [0, 1, 1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn ten_thousand_equal_jobs_come_first_in_first_out() {
    let server = Server::start().await;
    let client = server.client();
    for start in (0..10_000).step_by(1_000) {
        client.enqueue_all((start..start + 1_000).map(|n| job("q", n))).await;
    }
    let mut stream = client.lines("queue=q&prefetch=200").await;
    for start in (0..10_000).step_by(100) {
        let taken = stream.next_jobs(100).await;
        let expected: Vec<Value> = (start..start + 100).map(Value::from).collect();
        assert_eq!(payloads(&taken), expected.iter().collect::<Vec<_>>());
        succeed_all(&client, &taken).await;
    }
    assert_eq!(client.count("").await, 0);
}

#[tokio::test]
async fn prefetch_is_never_exceeded() {
    let server = Server::with(FAST_BEAT).await;
    let client = server.client();
    for (queue, format) in ["a", "b", "c"].into_iter().zip(FORMATS) {
        client.enqueue_all((0..10).map(|n| job(queue, n))).await;
        let mut stream = client.take(format, &format!("queue={queue}&prefetch=3")).await;
        let mut held = stream.next_jobs(3).await;
        for _ in 0..3 {
            stream.expect_idle().await;
            client.succeed(&held.remove(0)).await;
            held.push(stream.next_job().await);
        }
        succeed_all(&client, &held.split_off(1)).await;
        held.extend(stream.next_jobs(2).await);
        stream.expect_idle().await;
        assert_eq!(client.count("status=in_flight").await, 3);
        drop(stream);
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn prefetch_is_one_by_default_and_zero_is_no_limit() {
    let server = Server::with(FAST_BEAT).await;
    let client = server.client();
    client.enqueue_all((0..500).map(|n| job("q", n))).await;
    let mut one = client.lines("").await;
    one.next_job().await;
    one.expect_idle().await;
    let mut all = client.lines("prefetch=0").await;
    assert_eq!(all.next_jobs(499).await.len(), 499);
}

#[tokio::test]
async fn a_stream_gets_the_jobs_of_its_queues_only() {
    for query in ["queue=a,b", "queue=a,,b,", "queue=,b,a", "queue=a%2Cb"] {
        let server = Server::with(FAST_BEAT).await;
        let client = server.client();
        client.enqueue_all([job("c", 0), job("b", 1), job("a", 2), job("ab", 3), job("b", 4)]).await;
        let mut stream = client.lines(&format!("{query}&prefetch=0")).await;
        let taken = stream.next_jobs(3).await;
        assert_eq!(payloads(&taken), [&json!(1), &json!(2), &json!(4)], "{query}");
        stream.expect_idle().await;
    }
}

#[tokio::test]
async fn without_queues_a_stream_gets_the_jobs_of_all() {
    for query in ["", "queue=", "queue=,"] {
        let server = Server::start().await;
        let client = server.client();
        let mut stream = client.lines(format!("{query}&prefetch=0").trim_start_matches('&')).await;
        client.enqueue_all([job("a", 0), job("b", 1)]).await;
        client.enqueue(&job("new", 2)).await;
        let taken = stream.next_jobs(3).await;
        assert_eq!(payloads(&taken), [&json!(0), &json!(1), &json!(2)], "{query:?}");
    }
}

#[tokio::test]
async fn a_queue_is_named_by_a_query_string() {
    for (name, query) in [("a b", "a+b"), ("a b", "a%20b"), ("a+b", "a%2Bb"), ("ä&=#", "%C3%A4%26%3D%23")] {
        let server = Server::start().await;
        let client = server.client();
        let queued = client.enqueue(&job(name, 1)).await;
        let taken = client.lines(&format!("queue={query}")).await.next_job().await;
        assert_eq!(id(&taken), id(&queued), "{query}");
    }
}

#[tokio::test]
async fn a_closed_stream_gives_its_jobs_back_at_once() {
    let server = Server::with(SLOW_BEAT).await;
    for (round, wire) in Wire::ALL.into_iter().enumerate() {
        let client = server.client_as(wire);
        for (queue, format) in [("a", StreamFormat::NdJson), ("b", StreamFormat::MessagePack)] {
            let queue = format!("{queue}{round}");
            let query = format!("queue={queue}&prefetch=3");
            client.enqueue_all((0..3).map(|n| job(&queue, n))).await;
            let mut closing = client.take(format, &query).await;
            let before = closing.next_jobs(3).await;
            let mut waiting = client.take(format, &query).await;
            let closed_at = now_ms();
            drop(closing);
            let after = waiting.next_jobs(3).await;
            for (before, after) in before.iter().zip(&after) {
                assert_eq!((id(after), &after["attempts"]), (id(before), &json!(0)));
                assert_eq!(after["deliveries"], 2);
                assert_ne!(after["lease"], before["lease"]);
                let waited = after["dequeued_at"].as_u64().unwrap().saturating_sub(closed_at);
                assert!(waited < 5_000, "given back after {waited} ms");
            }
            succeed_all(&client, &after).await;
        }
    }
}

#[tokio::test]
async fn a_job_that_was_given_back_keeps_the_trace_of_its_delivery() {
    let server = Server::with(SLOW_BEAT).await;
    let client = server.client();
    client.add("q").await;
    let mut stream = client.lines("queue=q").await;
    let taken = stream.next_job().await;
    drop(stream);
    until("the job to be ready again", async || {
        (client.job(id(&taken)).await["status"] == "ready").then_some(())
    })
    .await;
    let back = client.job(id(&taken)).await;
    assert_eq!((&back["attempts"], &back["dequeued_at"]), (&json!(0), &taken["dequeued_at"]));
    client.poke(&format!("/jobs/{}/success", id(&taken))).await.expect_refusal(404, id(&taken));
}

#[tokio::test]
async fn a_limit_caps_all_streams_together() {
    let server = Server::with(["--global-in-flight-limit", "3", "--heartbeat-interval", "250ms"]).await;
    let client = server.client();
    client.enqueue_all((0..10).map(|n| job("q", n))).await;
    let mut first = client.lines("prefetch=2").await;
    let held = first.next_jobs(2).await;
    let mut second = client.events("prefetch=0").await;
    second.next_job().await;
    second.expect_idle().await;
    assert_eq!(client.poll(&json!({"limit": 5})).await, [] as [Value; 0]);
    assert_eq!(client.count("status=in_flight").await, 3);

    client.succeed(&held[0]).await;
    let third = first.next_message();
    let fourth = second.next_message();
    let next = tokio::select! { item = third => item, item = fourth => item };
    assert!(matches!(next, Some(Item::Job(_))), "{next:?}");
    first.expect_idle().await;
    second.expect_idle().await;
    assert_eq!(client.count("status=in_flight").await, 3);
}

#[tokio::test]
async fn a_waiting_worker_is_woken_by_everything_that_makes_a_job_available() {
    let server = Server::with(SLOW_BEAT).await;
    let client = server.client();
    for (queue, format) in ["a", "b", "c"].into_iter().zip(FORMATS) {
        let mut stream = client.take(format, &format!("queue={queue}")).await;
        let mut scheduled = job(queue, "promoted");
        scheduled["ready_at"] = json!(now_ms() + 300);
        client.enqueue(&scheduled).await;
        let promoted = stream.next_job().await;
        assert_eq!(promoted["payload"], "promoted");

        client.release(&promoted).await;
        let released = stream.next_job().await;
        assert_eq!(id(&released), id(&promoted));

        client.fail(&released, &json!({"message": "m", "retry_at": now_ms() + 300})).await;
        let retried = stream.next_job().await;
        assert_eq!((id(&retried), &retried["attempts"]), (id(&promoted), &json!(1)));

        let mut other = client.lines(&format!("queue={queue}")).await;
        client.enqueue(&job(queue, "given back")).await;
        let elsewhere = other.next_job().await;
        client.succeed(&retried).await;
        drop(other);
        assert_eq!(id(&stream.next_job().await), id(&elsewhere));
    }
}

#[tokio::test]
async fn every_job_goes_to_one_of_many_workers() {
    let server = Server::start().await;
    let client = server.client();
    let mut streams = Vec::new();
    for n in 0..9 {
        streams.push(client.take(FORMATS[n % 3], "queue=q&prefetch=0").await);
    }
    let queued = client.enqueue_all((0..900).map(|n| job("q", n))).await;
    let (seen, mut seeing) = tokio::sync::mpsc::channel(1_000);
    for mut stream in streams {
        let seen = seen.clone();
        tokio::spawn(async move { while seen.send(stream.next_job().await).await.is_ok() {} });
    }
    let mut taken = BTreeSet::new();
    while taken.len() < 900 {
        let job = tests::wait::within("a job of any stream", seeing.recv()).await.unwrap();
        assert!(taken.insert(id(&job).to_owned()), "{} was handed out twice", id(&job));
    }
    assert!(queued.iter().all(|job| taken.contains(id(job))));
}

#[tokio::test]
async fn every_end_of_a_delivery_frees_its_slot() {
    let server = Server::with(FAST_BEAT).await;
    let client = server.client();
    client.enqueue_all((0..6).map(|n| job("q", n))).await;
    let mut stream = client.lines("queue=q&lease_ms=1000").await;
    let deleted = stream.next_job().await;
    stream.expect_idle().await;
    client.delete(&format!("/jobs/{}", id(&deleted))).await.expect_nothing();
    let failed = stream.next_job().await;
    client.fail(&failed, &json!({"message": "m", "kill": true})).await;
    let released = stream.next_job().await;
    let path = format!("/jobs/{}/release", id(&released));
    client.post(&path, &json!({"ready_at": now_ms() + 3_600_000})).await.expect_nothing();
    let expired = stream.next_job().await;
    assert_eq!(expired["payload"], 3);
    // The expired job is ready again and the oldest, so it comes before the others.
    assert_eq!(id(&stream.next_job().await), id(&expired));
}

#[tokio::test]
async fn a_reset_leaves_streams_open() {
    let server = Server::with(SLOW_BEAT).await;
    let client = server.client();
    for format in FORMATS {
        let queue = format.content_type();
        client.enqueue_all([job(queue, 0), job(queue, 1)]).await;
        let mut stream = client.take(format, &format!("queue={queue}")).await;
        let forgotten = stream.next_job().await;
        client.poke("/reset").await.expect_nothing();
        client.poke(&format!("/jobs/{}/success", id(&forgotten))).await.expect_refusal(404, id(&forgotten));
        client.enqueue(&job(queue, 2)).await;
        let next = loop {
            match stream.next_message().await {
                Some(Item::Job(job)) => break job,
                Some(Item::Cancel(cancel)) => assert_eq!(cancel["id"], id(&forgotten)),
                other => panic!("{other:?} instead of a job"),
            }
        };
        assert_eq!(next["payload"], 2);
    }
}
