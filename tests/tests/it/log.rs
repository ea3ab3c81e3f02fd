//! What jobs print: kept with them, read in several shapes, followed live.

use std::fs;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use protocol::frame::sse::{Decoder, Item};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::wait::within;
use tests::{Answer, Client, Server, Wire, Worker, id, lease};

const KEPT: usize = 64 * 1024;

fn path(job: &Value) -> String {
    format!("/jobs/{}/log", id(job))
}

/// Adds lines to the log of a delivered job.
async fn print(client: &Client, job: &Value, text: &str) -> Answer {
    client.poke(&path(job)).header("zizq-lease", lease(job)).bytes("text/plain", text.to_owned()).await
}

async fn shown(client: &Client, job: &Value, query: &str) -> Value {
    client.get(&format!("{}{query}", path(job))).await.expect(200)
}

fn line(stream: &str, line: &str) -> Value {
    json!({"stream": stream, "line": line})
}

/// A job that is kept for long when it has ended, delivered.
async fn delivered(client: &Client, queue: &str) -> Value {
    let job = json!({"queue": queue, "type": "t", "payload": null, "retention": {"completed_ms": 3_600_000}});
    client.enqueue(&job).await;
    client.poll_one(queue).await
}

#[tokio::test]
async fn what_a_job_prints_is_kept_and_shown_in_every_shape() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let job = delivered(&client, "q").await;
        assert_eq!(shown(&client, &job, "").await, json!({"id": id(&job), "attempt": 1, "lines": []}));
        print(&client, &job, "one\r\ntwo\n").await.expect_nothing();
        let lines = "{\"stream\":\"stderr\",\"line\":\"a \\\"ä\\\"\"}\n\n{\"line\":\"\"}\n";
        for content_type in ["application/x-ndjson; charset=utf-8", "application/json"] {
            client.poke(&path(&job)).bytes(content_type, lines).await.expect_nothing();
        }
        client.poke(&path(&job)).await.expect_nothing();
        let expected = [
            line("stdout", "one"),
            line("stdout", "two"),
            line("stderr", "a \"ä\""),
            line("stdout", ""),
            line("stderr", "a \"ä\""),
            line("stdout", ""),
        ];
        let whole = json!({"id": id(&job), "attempt": 1, "lines": expected});
        assert_eq!(shown(&client, &job, "").await, whole);
        client.succeed(&job).await;
        assert_eq!(shown(&client, &job, "").await, whole, "kept with the completed job");

        let get = |accept| client.get(&path(&job)).header("accept", accept);
        let plain = get("text/plain").await;
        assert_eq!((plain.status, plain.header("content-type")), (200, "text/plain; charset=utf-8"));
        assert_eq!(&plain.body[..], "one\ntwo\na \"ä\"\n\na \"ä\"\n\n".as_bytes());
        let lines = get("application/x-ndjson").await;
        assert_eq!(lines.header("content-type"), "application/x-ndjson");
        let lines = std::str::from_utf8(&lines.body).unwrap().lines();
        let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, expected);
        assert_eq!(get("*/*").await.header("content-type"), "application/json");
        assert_eq!(get("text/*").await.header("content-type"), "text/plain; charset=utf-8");
    }
}

#[tokio::test]
async fn only_the_worker_that_has_the_job_adds_to_its_log() {
    let server = Server::start().await;
    let client = server.client();
    let waiting = client.add("waiting").await;
    let post = |job: &Value| client.poke(&path(job)).bytes("text/plain", "x");
    post(&json!({"id": "0".repeat(25)})).await.expect_refusal(404, "not in flight");
    post(&json!({"id": "nonsense"})).await.expect_refusal(404, "nonsense");
    post(&waiting).await.expect_refusal(404, "not in flight");

    client.add("q").await;
    let first = client.poll_one("q").await;
    post(&first).await.expect_nothing();
    client.release(&first).await;
    print(&client, &first, "x").await.expect_refusal(404, "not in flight");
    let second = client.poll_one("q").await;
    print(&client, &first, "x").await.expect_refusal(409, "delivered again");
    let stale = format!("{}?lease={}", path(&first), lease(&first));
    client.poke(&stale).bytes("text/plain", "x").await.expect_refusal(409, "delivered again");
    print(&client, &second, "y").await.expect_nothing();
    let lines = [line("stdout", "x"), line("stdout", "y")];
    assert_eq!(shown(&client, &second, "").await["lines"], json!(lines), "the same attempt goes on");

    // The lease is over, but nobody else has the job: its word counts.
    client.add("short").await;
    let late = &client.poll(&json!({"queues": ["short"], "lease_ms": 1000})).await[0];
    client.let_pass(1_500).await;
    print(&client, late, "late").await.expect_nothing();
    assert_eq!(shown(&client, late, "").await["lines"], json!([line("stdout", "late")]));
}

#[tokio::test]
async fn malformed_log_bodies_are_refused() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let job = client.poll_one("q").await;
    let post = |content_type, body: &str| client.poke(&path(&job)).bytes(content_type, body.to_owned());
    post("application/x-ndjson", "{\"line\":\"a\"}\n{\"line\":1}").await.expect_refusal(400, "line 2: line");
    post("application/x-ndjson", "{\"stream\":\"x\",\"line\":\"\"}").await.expect_refusal(400, "stream");
    post("", "plain").await.expect_refusal(400, "line 1: the body is not valid JSON");
    let refused = post("application/x-www-form-urlencoded", "x").await;
    assert_eq!(refused.clone().expect(415)["supported"], json!(["text/plain", "application/x-ndjson"]));
    post("text/plain", &"x".repeat(1 << 20)).await.expect_nothing();
    post("text/plain", &"x".repeat((1 << 20) + 1)).await.expect_refusal(413, "1048576");
    client.poke(&format!("{}?x=1", path(&job))).await.expect_refusal(400, "`x`");
    client.poke(&path(&job)).header("zizq-lease", "?").await.expect_refusal(400, "Zizq-Lease");

    let get = |query: &str| client.get(&format!("{}{query}", path(&job)));
    get("?attempt=0").await.expect_refusal(400, "attempt");
    get("?attempt=2").await.expect_refusal(404, "no attempt 2");
    get("?lease=1").await.expect_refusal(400, "lease");
    client.get("/jobs/nonsense/log").await.expect_refusal(404, "nonsense");
    client.get(&format!("/jobs/{}/log", "0".repeat(25))).await.expect_refusal(404, "no job");
    let refused = client.get("/jobs/nonsense/log").header("accept", "image/png").await.expect(406);
    assert_eq!(refused["supported"].as_array().unwrap().len(), 5, "{refused}");
    let refused = client.delete(&path(&job)).await;
    assert_eq!(refused.header("allow"), "GET, POST");
    refused.expect_refusal(405, "DELETE");
}

#[tokio::test]
async fn the_end_of_every_attempt_is_kept() {
    let server = Server::with(["--default-backoff-base", "0s", "--default-backoff-jitter", "0s"]).await;
    let client = server.client();
    client.enqueue(&json!({"queue": "q", "type": "t", "payload": null, "retry_limit": 1})).await;
    let (mut job, mut printed) = (Value::Null, Vec::new());
    for attempt in 1..=2 {
        job = client.poll_one("q").await;
        // In pieces of many sizes, until much more was printed than is kept.
        let pieces = (0..60).map(|n| format!("{attempt} {n} {}\n", "x".repeat(n * 83 % 4_000)));
        let pieces: Vec<String> = pieces.collect();
        for piece in &pieces {
            print(&client, &job, piece).await.expect_nothing();
        }
        client.fail(&job, &json!({"message": "m", "retry_at": 1})).await;
        printed.push(pieces.concat());
    }
    for (query, attempt) in [("", 2), ("?attempt=2", 2), ("?attempt=1", 1)] {
        let all: &str = &printed[attempt - 1];
        // The first line that begins where no more than is kept is left, or the end of a long one before it.
        let mut starts = all.match_indices('\n').map(|(at, _)| at + 1);
        let (whole, cut) = (starts.find(|at| all.len() - at <= KEPT).unwrap(), all.len() - KEPT);
        let missed = if whole - cut < 1024 { whole } else { cut };
        let lines: Vec<Value> = all[missed..].lines().map(|text| line("stdout", text)).collect();
        assert!(lines.len() > 10, "{} lines", lines.len());
        let expected = json!({"id": id(&job), "attempt": attempt, "lines": lines, "missed_bytes": missed});
        assert_eq!(shown(&client, &job, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn a_log_is_gone_with_its_job() {
    let server = Server::start().await;
    let client = server.client();
    let gone = async |job: &Value| client.get(&path(job)).await.expect_refusal(404, "no job");
    let job = delivered(&client, "q").await;
    print(&client, &job, "x").await.expect_nothing();
    client.delete(&format!("/jobs/{}", id(&job))).await.expect_nothing();
    gone(&job).await;
    print(&client, &job, "x").await.expect_refusal(404, "not in flight");

    client.add("q").await;
    let job = client.poll_one("q").await;
    print(&client, &job, "x").await.expect_nothing();
    client.succeed(&job).await;
    gone(&job).await;

    let job = delivered(&client, "q").await;
    print(&client, &job, "x").await.expect_nothing();
    client.delete("/jobs").await.expect(200);
    gone(&job).await;

    let job = delivered(&client, "q").await;
    print(&client, &job, "x").await.expect_nothing();
    client.poke("/reset").await.expect_nothing();
    gone(&job).await;
}

#[tokio::test]
async fn a_log_outlives_the_server() {
    let mut server = Server::start().await;
    let client = server.client();
    let job = delivered(&client, "q").await;
    print(&client, &job, "one").await.expect_nothing();
    assert!(server.sigterm().await.success());
    server.restart().await;
    print(&client, &job, "two").await.expect_nothing();
    // Longer than output stays in memory only.
    client.let_pass(2_500).await;
    server.kill9().await;
    server.restart().await;
    print(&client, &job, "three").await.expect_nothing();
    let lines = ["one", "two", "three"].map(|text| line("stdout", text));
    assert_eq!(shown(&client, &job, "").await["lines"], json!(lines));
}

/// A log that is followed.
struct Follow {
    decoder: Decoder,
    body: Incoming,
    last_event_id: String,
}

impl Follow {
    async fn open(client: &Client, job: &Value, query: &str, last_event_id: Option<&str>) -> Self {
        let mut call = client.get(&format!("{}{query}", path(job))).header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            call = call.header("last-event-id", id);
        }
        let response = call.response().await;
        assert_eq!(response.status(), 200);
        for (name, value) in [("content-type", "text/event-stream"), ("cache-control", "no-cache")] {
            assert_eq!(response.headers()[name], value);
        }
        Self { decoder: Decoder::new(1 << 20), body: response.into_body(), last_event_id: String::new() }
    }

    /// The next event: its type and data; none at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(item) = self.decoder.next().unwrap() {
                if let Item::Event { event, data, .. } = item {
                    self.decoder.last_event_id().clone_into(&mut self.last_event_id);
                    return Some((event, serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            let frame = within("an event of a log", self.body.frame()).await?.ok()?;
            self.decoder.push(frame.data_ref().unwrap());
        }
    }

    async fn expect(&mut self, event: &str, data: Value) {
        assert_eq!(self.next().await, Some((event.to_owned(), data)));
    }

    async fn expect_line(&mut self, text: &str) {
        self.expect("message", line("stdout", text)).await;
    }

    async fn expect_end(&mut self, mut data: Value, status: Option<&str>) {
        if let Some(status) = status {
            data["status"] = json!(status);
        }
        self.expect("end", data).await;
        assert_eq!(self.next().await, None);
    }
}

#[tokio::test]
async fn a_log_is_followed_until_the_attempt_is_over() {
    let server = Server::with(["--heartbeat-interval", "100ms"]).await;
    for wire in [Wire::ALL[0], Wire::ALL[1]] {
        let client = server.client_as(wire);
        let job =
            json!({"queue": "q", "type": "t", "payload": null, "retention": {"completed_ms": 3_600_000}});
        let job = client.enqueue(&job).await;
        let of = |attempt: u32| json!({"id": id(&job), "attempt": attempt});
        // Already before it begins.
        let mut early = Follow::open(&client, &job, "", None).await;
        early.expect("hello", of(1)).await;
        let taken = client.poll_one("q").await;
        print(&client, &taken, "one").await.expect_nothing();
        early.expect_line("one").await;
        print(&client, &taken, "two\nthree").await.expect_nothing();
        early.expect_line("two").await;
        let place = early.last_event_id.clone();
        let mut again = Follow::open(&client, &job, "?attempt=1", Some(&place)).await;
        again.expect("hello", of(1)).await;
        again.expect_line("three").await;
        early.expect_line("three").await;
        print(&client, &taken, "four").await.expect_nothing();
        client.fail(&taken, &json!({"message": "m", "retry_at": 1})).await;
        for follow in [&mut early, &mut again] {
            follow.expect_line("four").await;
            let (event, data) = follow.next().await.unwrap();
            assert_eq!((event.as_str(), &data["attempt"]), ("end", &json!(1)), "{data}");
            assert_eq!(follow.next().await, None);
        }
        // The next attempt is another log; the last one is still there.
        let taken = client.poll_one("q").await;
        let mut next = Follow::open(&client, &job, "", None).await;
        next.expect("hello", of(2)).await;
        let mut last = Follow::open(&client, &job, "?attempt=1", None).await;
        last.expect("hello", of(1)).await;
        for text in ["one", "two", "three", "four"] {
            last.expect_line(text).await;
        }
        last.expect_end(of(1), Some("in_flight")).await;
        let come_back = client.get(&path(&job)).header("accept", "text/event-stream");
        let come_back = come_back.header("last-event-id", &last.last_event_id);
        print(&client, &taken, "five").await.expect_nothing();
        next.expect_line("five").await;
        client.succeed(&taken).await;
        next.expect_end(of(2), Some("completed")).await;
        let done = client.get(&path(&job)).header("accept", "text/event-stream");
        done.header("last-event-id", &next.last_event_id).await.expect_nothing();
        drop(come_back);
    }
}

#[tokio::test]
async fn a_follower_is_told_when_the_job_is_deleted() {
    let server = Server::start().await;
    let client = server.client();
    for way in ["delete", "reset", "purge"] {
        client.add("q").await;
        let job = client.poll_one("q").await;
        let mut follow = Follow::open(&client, &job, "", None).await;
        let of = json!({"id": id(&job), "attempt": 1});
        follow.expect("hello", of.clone()).await;
        print(&client, &job, "x").await.expect_nothing();
        follow.expect_line("x").await;
        match way {
            "delete" => client.delete(&format!("/jobs/{}", id(&job))).await.expect_nothing(),
            "reset" => client.poke("/reset").await.expect_nothing(),
            _ => client.succeed(&job).await,
        }
        follow.expect_end(of, None).await;
    }
}

#[tokio::test]
async fn a_follower_that_does_not_read_misses_output_and_slows_no_one() {
    let server = Server::start().await;
    let client = server.client();
    let job = delivered(&client, "q").await;
    let mut slow = Follow::open(&client, &job, "", None).await;
    let mut quick = Follow::open(&client, &job, "", None).await;
    slow.expect("hello", json!({"id": id(&job), "attempt": 1})).await;
    quick.expect("hello", json!({"id": id(&job), "attempt": 1})).await;
    // Far more than the sockets hold in between.
    let last = tokio::spawn(async move {
        while let Some((event, data)) = quick.next().await {
            if event == "message" && data["line"] == "last" {
                return;
            }
        }
        panic!("the last line did not come");
    });
    for n in 0..40 {
        let body: String = (0..10_000).map(|line| format!("{n} {line} {}\n", "x".repeat(90))).collect();
        print(&client, &job, &body).await.expect_nothing();
        if n % 10 == 0 {
            client.add("other").await;
            let other = client.poll_one("other").await;
            client.succeed(&other).await;
        }
    }
    print(&client, &job, "last").await.expect_nothing();
    within("the last line", last).await.unwrap();
    client.succeed(&job).await;
    let (mut missed, mut read, mut end) = (0, 0, false);
    while let Some((event, data)) = slow.next().await {
        match event.as_str() {
            "lagged" => missed += data["missed_bytes"].as_u64().unwrap(),
            "message" => read += data["line"].as_str().unwrap().len() as u64 + 1,
            "end" => end = true,
            other => panic!("{other}: {data}"),
        }
    }
    assert!(end && missed > 1 << 20, "missed {missed}, read {read}");
    let whole = shown(&client, &job, "").await;
    let kept: usize =
        whole["lines"].as_array().unwrap().iter().map(|l| l["line"].as_str().unwrap().len() + 1).sum();
    assert!((KEPT - 200..=KEPT).contains(&kept), "{kept} bytes are kept");
    assert_eq!(missed + read, whole["missed_bytes"].as_u64().unwrap() + kept as u64, "all is accounted for");
}

#[tokio::test]
async fn what_a_command_of_a_worker_prints_is_seen_as_it_comes() {
    let server = Server::start().await;
    let client = server.client();
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let go_on = folder.path().join("go on");
    let command = format!(
        "q=echo one; echo oops >&2; while [ ! -e '{}' ]; do sleep 0.05; done; printf 'no end'",
        go_on.display()
    );
    let _worker = Worker::start(&server, ["--run", &command]);
    let job = json!({"queue": "q", "type": "t", "payload": null, "retention": {"completed_ms": 3_600_000}});
    let job = client.enqueue(&job).await;
    let mut follow = Follow::open(&client, &job, "", None).await;
    follow.expect("hello", json!({"id": id(&job), "attempt": 1})).await;
    let mut first = [follow.next().await.unwrap().1, follow.next().await.unwrap().1];
    first.sort_by_key(|line| line["stream"].to_string());
    assert_eq!(first, [line("stderr", "oops"), line("stdout", "one")]);
    assert_eq!(client.status(id(&job)).await.unwrap(), "in_flight");
    fs::write(&go_on, "").unwrap();
    follow.expect_line("no end").await;
    follow.expect_end(json!({"id": id(&job), "attempt": 1}), Some("completed")).await;
    let lines = shown(&client, &job, "").await["lines"].clone();
    assert_eq!(lines.as_array().unwrap().len(), 3, "{lines}");
}
