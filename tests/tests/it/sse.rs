//! Server-sent events: hello, ids, resume, cancel, drain.

use protocol::frame::sse;
use serde_json::{Value, json};
use tests::wait::now_ms;
use tests::{Client, Http, Item, Server, Stream, Wire, id, lease};

/// Beats often, for tests that take a heartbeat as the sign that nothing else is to come.
const FAST_BEAT: [&str; 2] = ["--heartbeat-interval", "250ms"];

async fn add_numbered(client: &Client, n: u64) {
    client.enqueue_all((0..n).map(|n| json!({"queue": "q", "type": "t", "payload": n}))).await;
}

/// The payloads and leases: what a job that is sent again has in common with itself.
fn deliveries(jobs: &[Value]) -> Vec<(&Value, &str)> {
    jobs.iter().map(|job| (&job["payload"], lease(job))).collect()
}

async fn next_cancel(stream: &mut Stream) -> Value {
    match stream.next_message().await {
        Some(Item::Cancel(cancel)) => cancel,
        other => panic!("{other:?} instead of a cancel"),
    }
}

#[tokio::test]
async fn a_stream_begins_with_retry_and_hello() {
    let server = Server::start().await;
    let client = server.client();
    let version = client.get("/version").await.expect(200);
    let stream = client.events("").await;
    let text = String::from_utf8(stream.received.clone()).unwrap();
    assert!(text.starts_with("retry: 1000\n"), "{text}");
    let hello = stream.hello();
    assert!(!hello.resumed);
    assert_eq!((hello.lease_ms, hello.heartbeat_ms), (30_000, 3_000));
    assert_eq!(hello.server, version["server"].as_str().unwrap());
    assert!(hello.stream.len() >= 22, "128 random bits do not fit into {:?}", hello.stream);
    let other = client.events("lease_ms=43200000").await;
    assert_ne!(other.hello().stream, stream.hello().stream);
    assert_eq!(other.hello().lease_ms, 43_200_000);
}

#[tokio::test]
async fn the_headers_suit_proxies() {
    let server = Server::start().await;
    for http in [Http::One, Http::Two] {
        let client = server.client_as(Wire { http, ..Wire::default() });
        let call = client.get("/jobs/take").header("accept", "text/event-stream").header("worker-id", "me");
        let response = call.header("accept-encoding", "gzip, br").response().await;
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(
            header("content-type").and_then(|value| value.split(';').next()),
            Some("text/event-stream")
        );
        assert_eq!(header("cache-control"), Some("no-cache"));
        assert_eq!(header("x-accel-buffering"), Some("no"));
        assert_eq!(header("content-encoding"), None);
    }
}

#[tokio::test]
async fn jobs_are_unnamed_events_with_ids_that_count() {
    let server = Server::start().await;
    let client = server.client();
    add_numbered(&client, 3).await;
    let mut stream = client.events("prefetch=3").await;
    let name = stream.hello().stream.clone();
    for n in 1..=3 {
        let job = stream.next_job().await;
        assert_eq!(job["payload"], n - 1);
        assert_eq!(stream.last_event_id, format!("{name}:{n}"));
        assert_eq!(job["lease_expires_at"].as_u64().unwrap(), job["dequeued_at"].as_u64().unwrap() + 30_000);
    }
    let text = String::from_utf8(stream.received.clone()).unwrap();
    assert_eq!(text.matches("event:").count(), 1, "only the hello is named: {text}");
    assert_eq!(text.matches("\ndata: {\"id\":").count(), 3, "one data line per job: {text}");
}

/// Reads an event stream by the byte, to the middle of its `n`th job, and cuts the connection there. Gives back the
/// jobs that came whole, and the id of the last of them.
async fn cut_in_job(
    server: &Server,
    query: &str,
    last_event_id: Option<&str>,
    n: usize,
) -> (Vec<Value>, String) {
    let resume = last_event_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
    let address = server.address();
    let head = format!(
        "GET /jobs/take?{query} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n{resume}\r\n"
    );
    let mut connection = tests::raw::send(address, head.as_bytes()).await;
    let starts = |bytes: &[u8]| -> Vec<usize> {
        let line = b"\ndata: {\"id\":";
        bytes.windows(line.len()).enumerate().filter(|(_, window)| window == line).map(|(at, _)| at).collect()
    };
    let received = tests::raw::read_until(&mut connection, |bytes| starts(bytes).len() >= n).await;
    drop(connection);
    let body = tests::raw::body_of_chunks(&received);
    let mut decoder = sse::Decoder::new(1 << 20);
    decoder.push(&body[..starts(&body)[n - 1] + 20]);
    let mut jobs = Vec::new();
    while let Some(item) = decoder.next().unwrap() {
        if let sse::Item::Event { event, data, .. } = item
            && event == "message"
        {
            jobs.push(serde_json::from_str(&data).unwrap());
        }
    }
    (jobs, decoder.last_event_id().to_owned())
}

#[tokio::test]
async fn a_stream_cut_in_the_middle_of_an_event_loses_nothing_and_runs_nothing_twice() {
    // Small events are all in the socket buffers when the connection is cut; of large ones only a part was sent.
    for padding in [0, 800_000] {
        let server = Server::with(FAST_BEAT).await;
        let client = server.client();
        let job =
            |n: u64| json!({"queue": "q", "type": "t", "payload": {"n": n, "pad": "x".repeat(padding)}});
        client.enqueue_all((0..6).map(job)).await;
        let (mut run, position) = cut_in_job(&server, "queue=q&prefetch=4", None, 3).await;
        assert_eq!(run.len(), 2);
        let (none, same) = cut_in_job(&server, "queue=q&prefetch=4", Some(&position), 1).await;
        assert_eq!(none, [] as [Value; 0], "nothing came whole, so the position stays");
        let position = if same.is_empty() { position } else { same };

        let mut waiting = client.lines("queue=q&prefetch=0").await;
        run.extend(waiting.next_jobs(2).await);
        let mut stream = client.resume(&position, "queue=q&prefetch=4").await;
        assert!(stream.hello().resumed);
        run.extend(stream.next_jobs(2).await);
        stream.expect_idle().await;
        waiting.expect_idle().await;
        let mut numbers: Vec<u64> = run.iter().map(|job| job["payload"]["n"].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5], "each job came whole once");
        assert!(run.iter().all(|job| job["deliveries"] == 1));
        for job in &run {
            client.succeed(job).await;
        }
        assert_eq!(client.count("").await, 0);
    }
}

#[tokio::test]
async fn what_comes_after_the_last_event_id_is_sent_again_with_the_same_lease() {
    for http in [Http::One, Http::Two] {
        let server = Server::with(FAST_BEAT).await;
        let client = server.client_as(Wire { http, ..Wire::default() });
        add_numbered(&client, 5).await;
        let mut stream = client.events("prefetch=4").await;
        let first = stream.next_job().await;
        let position = stream.last_event_id.clone();
        let rest = stream.next_jobs(3).await;
        client.succeed(&rest[1]).await;
        // What was done is not sent again; the freed place is taken by a new job, now or after the resume.
        drop(stream);

        let mut stream = client.resume(&position, "prefetch=4").await;
        assert!(stream.hello().resumed);
        let again = stream.next_jobs(3).await;
        let expected = [&rest[0], &rest[2]].map(Clone::clone);
        assert_eq!(deliveries(&again[..2]), deliveries(&expected));
        assert_eq!(again[2]["payload"], 4);
        assert!(again.iter().all(|job| job["deliveries"] == 1));
        stream.expect_idle().await;
        for job in again.iter().chain([&first]) {
            client.succeed(job).await;
        }
    }
}

#[tokio::test]
async fn the_parameters_of_the_resuming_request_count() {
    let server = Server::with(FAST_BEAT).await;
    let client = server.client();
    add_numbered(&client, 6).await;
    let mut stream = client.events("queue=q&prefetch=2").await;
    let held = stream.next_jobs(2).await;
    let position = stream.last_event_id.clone();
    drop(stream);
    let mut stream = client.resume(&position, "queue=q&prefetch=3&lease_ms=60000").await;
    assert_eq!(stream.hello().lease_ms, 60_000);
    let new = stream.next_job().await;
    assert_eq!(new["payload"], 2);
    assert_eq!(new["lease_expires_at"].as_u64().unwrap(), new["dequeued_at"].as_u64().unwrap() + 60_000);
    stream.expect_idle().await;
    let position = stream.last_event_id.clone();
    drop(stream);
    let mut stream = client.resume(&position, "queue=other&prefetch=1").await;
    assert!(stream.hello().resumed, "a stream can be resumed again and again");
    for job in held.iter().chain([&new]) {
        client.succeed(job).await;
    }
    stream.expect_idle().await;
    assert_eq!(client.count("status=in_flight").await, 0);
}

#[tokio::test]
async fn an_unknown_position_starts_a_new_stream() {
    let server = Server::start().await;
    let client = server.client();
    let positions = ["0123456789abcdef0123456789abcdef:7", "garbage", ":", "1"];
    for (queue, position) in ["a", "b", "c", "d"].into_iter().zip(positions) {
        let queued = client.add(queue).await;
        let mut stream = client.resume(position, &format!("queue={queue}")).await;
        assert!(!stream.hello().resumed, "{position}");
        let taken = stream.next_job().await;
        assert_eq!(id(&taken), id(&queued));
        client.succeed(&taken).await;
    }
}

#[tokio::test]
async fn a_resume_closes_the_connection_that_the_server_believes_alive() {
    let server = Server::with(FAST_BEAT).await;
    let client = server.client();
    add_numbered(&client, 3).await;
    let mut old = client.events("prefetch=2").await;
    let held = old.next_jobs(2).await;
    let mut new = client.resume(&old.last_event_id.clone(), "prefetch=2").await;
    assert!(new.hello().resumed);
    old.expect_end().await;
    new.expect_idle().await;
    client.succeed(&held[0]).await;
    assert_eq!(new.next_job().await["payload"], 2);
    client.succeed(&held[1]).await;
}

#[tokio::test]
async fn the_jobs_of_a_broken_stream_wait_for_its_worker() {
    for (query, wait) in [("resume_ms=1500", 1_500), ("resume_ms=0", 0), ("resume_ms=60000&lease_ms=1000", 0)]
    {
        let server = Server::start().await;
        let client = server.client();
        client.add("q").await;
        let mut stream = client.events(query).await;
        let first = stream.next_job().await;
        let position = stream.last_event_id.clone();
        let closed_at = now_ms();
        drop(stream);
        let second = client.lines("queue=q").await.next_job().await;
        assert_eq!((id(&second), &second["deliveries"]), (id(&first), &json!(2)), "{query}");
        let waited = second["dequeued_at"].as_u64().unwrap() - closed_at;
        assert!((wait..wait + 10_000).contains(&waited), "{query}: ready after {waited} ms");
        let late = client.resume(&position, "queue=none").await;
        assert!(
            !late.hello().resumed || query.contains("60000"),
            "{query}: there is nothing to come back to"
        );
    }
}

#[tokio::test]
async fn the_worker_of_a_broken_stream_may_report_late() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let mut stream = client.events("queue=q&resume_ms=0").await;
    let taken = stream.next_job().await;
    drop(stream);
    tests::wait::until("the job to be ready again", async || {
        (client.status(id(&taken)).await.as_deref() == Some("ready")).then_some(())
    })
    .await;
    client.succeed(&taken).await;
    assert_eq!(client.count("").await, 0);
}

#[tokio::test]
async fn of_two_that_resume_at_once_one_gets_the_jobs() {
    let server = Server::with(FAST_BEAT).await;
    let client = server.client();
    for round in 0..10 {
        let queue = format!("q{round}");
        client.enqueue_all([0, 1].map(|n| json!({"queue": queue, "type": "t", "payload": n}))).await;
        let query = format!("queue={queue}&prefetch=2");
        let mut stream = client.events(&query).await;
        let held = stream.next_jobs(2).await;
        let position = format!("{}:0", stream.hello().stream);
        drop(stream);
        let (mut one, mut other) =
            tokio::join!(client.resume(&position, &query), client.resume(&position, &query));
        let (from_one, from_other) = tokio::join!(until_idle(&mut one), until_idle(&mut other));
        // The later of the two took the stream over from the earlier, which may have been sent the jobs before.
        let again = [from_one, from_other].into_iter().flatten().max_by_key(Vec::len).unwrap();
        assert_eq!(deliveries(&again), deliveries(&held), "round {round}");
        assert_eq!(client.count(&format!("queue={queue}&status=in_flight")).await, 2);
        client.succeed(&held[0]).await;
        client.succeed(&held[1]).await;
    }
}

/// The jobs to the next heartbeat; `None` where the stream ends before.
async fn until_idle(stream: &mut Stream) -> Option<Vec<Value>> {
    let mut jobs = Vec::new();
    loop {
        match stream.next_item().await? {
            Item::Job(job) => jobs.push(job),
            Item::Heartbeat => return Some(jobs),
            other => panic!("{other:?} instead of a job"),
        }
    }
}

#[tokio::test]
async fn a_deleted_job_is_cancelled() {
    for http in [Http::One, Http::Two] {
        let server = Server::start().await;
        let client = server.client_as(Wire { http, ..Wire::default() });
        client.add("q").await;
        let mut stream = client.events("queue=q").await;
        let taken = stream.next_job().await;
        client.delete(&format!("/jobs/{}", id(&taken))).await.expect_nothing();
        assert_eq!(next_cancel(&mut stream).await, json!({"id": id(&taken), "reason": "deleted"}));
        client.poke(&format!("/jobs/{}/success", id(&taken))).await.expect_refusal(404, id(&taken));
        let next = client.add("q").await;
        assert_eq!(id(&stream.next_job().await), id(&next), "its place is free");
    }
}

#[tokio::test]
async fn a_stopping_server_drains() {
    let mut server = Server::with(["--heartbeat-interval", "250ms", "--drain-timeout", "25s"]).await;
    let client = server.client();
    add_numbered(&client, 3).await;
    let mut events = client.events("").await;
    let mut lines = client.lines("").await;
    let held = [events.next_job().await, lines.next_job().await];
    server.process().signal(rustix::process::Signal::TERM);
    let Some(Item::Drain(drain)) = events.next_message().await else { panic!("no drain on SIGTERM") };
    assert_eq!(drain, json!({"reason": "shutdown"}));
    // New work is turned away, at the door or with the word to come back.
    if let Ok(refused) = client.get("/jobs/take").try_response().await {
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
    }
    client.succeed(&held[0]).await;
    client.succeed(&held[1]).await;
    events.expect_end().await;
    lines.expect_end().await;
    let drained_at = now_ms();
    assert_eq!(server.process().ended().await.code(), Some(0));
    assert!(now_ms() - drained_at < 20_000, "the server waited for acks that it had");
    server.restart().await;
    assert_eq!(server.client().poll_one("q").await["payload"], 2);
    assert_eq!(server.client().count("").await, 1);
}

#[tokio::test]
async fn a_drain_ends_without_acks_too() {
    let mut server = Server::with(["--drain-timeout", "500ms"]).await;
    let client = server.client();
    add_numbered(&client, 1).await;
    let mut stream = client.events("").await;
    let held = stream.next_job().await;
    assert_eq!(server.sigterm().await.code(), Some(0));
    assert!(matches!(stream.next_message().await, Some(Item::Drain(_))));
    stream.expect_end().await;
    server.restart().await;
    let client = server.client();
    assert_eq!(client.job(id(&held)).await["status"], "in_flight", "a clean stop hands nothing out twice");
    client.succeed(&held).await;
}
