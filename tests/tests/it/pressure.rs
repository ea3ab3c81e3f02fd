//! More than the server can take at once: connections, bodies, and heads that nobody can read.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use protocol::error::Code;
use protocol::frame::StreamFormat;
use protocol::media::Format;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tests::client::{Client, Http, Wire};
use tests::wait::{until, within};
use tests::{Server, Stream, id, raw};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

#[tokio::test]
async fn a_connection_over_the_limit_is_refused_and_admitted_later() {
    let server = Server::with(["--max-connections", "3"]).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        // A client keeps its connection, so each stream has a client of its own.
        let client = server.client();
        streams.push((client.lines("queue=q").await, client));
    }
    for http in [Http::One, Http::Two] {
        let wire = Wire { http, ..Wire::default() };
        let answer = server.client_as(wire).get("/health").await;
        assert_ne!(answer.header("retry-after"), "");
        assert!(answer.expect_code(Code::TooManyConnections).contains("connection limit of 3"));
    }
    drop(streams.pop());
    let client = until("a place for a connection", async || {
        let client = server.client();
        (client.get("/health").await.status == 200).then_some(client)
    })
    .await;
    let job = client.add("q").await;
    let (stream, _) = &mut streams[0];
    assert_eq!(id(&stream.next_job().await), id(&job));
}

/// Lets this process have this many files open.
fn allow_open_files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = limit.maximum.map_or(wanted, |most| most.min(wanted));
        setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }).unwrap();
    }
}

/// The engine stands still for milliseconds whenever a fresh huge page is zeroed.
#[tokio::test]
async fn there_are_no_huge_pages() {
    let mut server = Server::start().await;
    let pid = server.process().pid().unwrap().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    // Linux before 5.0 does not say.
    assert!(!status.contains("THP_enabled:\t1"), "{status}");
}

#[tokio::test]
async fn thousands_of_idle_streams_cost_little_and_slow_no_one() {
    const STREAMS: u64 = 3_000;
    allow_open_files(STREAMS + 1_000);
    let mut server = Server::start().await;
    let client = server.client();
    let mut stream = client.lines("queue=q").await;
    let before = server.process().usage().unwrap().rss;
    let mut idle: Vec<TcpStream> = Vec::new();
    for n in 0..STREAMS {
        let request = format!("GET /jobs/take?queue=idle{n} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let mut connection = raw::send(server.address(), request.as_bytes()).await;
        // The first heartbeat may come together with the head.
        let has_head = |bytes: &[u8]| bytes.windows(4).any(|part| part == b"\r\n\r\n");
        let head = raw::read_until(&mut connection, has_head).await;
        assert!(head.starts_with(b"HTTP/1.1 200"), "stream {n}: {:?}", String::from_utf8_lossy(&head));
        idle.push(connection);
    }
    let each = server.process().usage().unwrap().rss.saturating_sub(before) / STREAMS;
    assert!(each < 40_000, "{each} bytes for an idle stream");
    let job = client.add("q").await;
    assert_eq!(id(&stream.next_job().await), id(&job));
    client.add("idle2999").await;
    let last = idle.last_mut().unwrap();
    let received = raw::read_until(last, |bytes| bytes.windows(8).any(|part| part == b"idle2999")).await;
    assert!(received.len() > 100);
}

/// A head announces what it likes. Only what has come takes memory, and who does not go on gives it back.
#[tokio::test]
async fn stalled_bodies_delay_no_other_call() {
    const BODY: usize = 32 << 20;
    const SENT: usize = 30 << 20;
    const SENDERS: usize = 16;
    let mut server = Server::start().await;
    let before = server.process().usage().unwrap().rss;
    let head = format!("POST /jobs/bulk HTTP/1.1\r\nhost: localhost\r\ncontent-length: {BODY}\r\n\r\n");
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let mut connection = raw::send(server.address(), head.as_bytes()).await;
        senders.spawn(async move {
            // Most of it, and never the rest.
            drop(connection.write_all(&vec![b' '; SENT]).await);
            raw::read_until(&mut connection, |_| false).await
        });
    }
    let client = server.client();
    for _ in 0..5 {
        client.add("q").await;
        client.enqueue(&json!({"queue": "q", "type": "t", "payload": "x".repeat(200_000)})).await;
    }
    while let Some(refusal) = within("an answer to a body that does not come", senders.join_next()).await {
        let refusal = String::from_utf8(refusal.unwrap()).unwrap();
        assert!(refusal.starts_with("HTTP/1.1 408") || refusal.starts_with("HTTP/1.1 503"), "{refusal}");
        assert!(refusal.contains("\r\nconnection: close\r\n"), "{refusal}");
    }
    // 128 MiB for bodies, and what the allocator has not given back yet: far less than the 480 MiB that were sent.
    let peak = server.process().usage().unwrap().peak_rss.saturating_sub(before) >> 20;
    assert!(peak < 256, "{peak} MiB");
}

/// A connection of HTTP/2 whose reader takes nothing but what fits into the smallest window.
async fn dial(server: &Server) -> (http2::SendRequest<Full<Bytes>>, tokio::task::JoinHandle<()>) {
    let socket = TcpStream::connect(server.address()).await.unwrap();
    let mut client = http2::Builder::new(TokioExecutor::new());
    client.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let (requests, connection) = client.handshake(TokioIo::new(socket)).await.unwrap();
    (requests, tokio::spawn(async move { drop(connection.await) }))
}

struct NeverComes;

impl Body for NeverComes {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_thousand_heads_without_bodies_delay_no_other_call() {
    let mut server = Server::start().await;
    let before = server.process().usage().unwrap().rss;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let socket = TcpStream::connect(server.address()).await.unwrap();
        let (requests, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..1_000 {
            let request = Request::post(format!("{}/jobs", server.url())).header("content-length", "60000");
            let body = NeverComes;
            let mut requests = requests.clone();
            waiting
                .push(tokio::spawn(async move { requests.send_request(request.body(body).unwrap()).await }));
        }
    }
    // More than 64 KiB, so that it is no small one.
    let payload = "x".repeat(100_000);
    for _ in 0..20 {
        server.client().enqueue(&json!({"queue": "q", "type": "t", "payload": payload})).await;
    }
    let peak = server.process().usage().unwrap().peak_rss.saturating_sub(before) >> 20;
    assert!(peak < 100, "{peak} MiB");
}

/// Each connection is asked for more than anybody could hold, in answers that are small one by one.
#[tokio::test]
async fn answers_of_any_size_that_are_not_read_are_bounded_and_end_their_connection() {
    let mut server = Server::start().await;
    let client = server.client();
    let job = client.enqueue(&json!({"queue": "q", "type": "t", "payload": "x".repeat(60_000)})).await;
    let uri = format!("{}/jobs/{}", server.url(), id(&job));
    let before = server.process().usage().unwrap().rss;
    let (mut unread, mut connections) = (Vec::new(), JoinSet::new());
    for _ in 0..20 {
        let (requests, connection) = dial(&server).await;
        connections.spawn(connection);
        for _ in 0..1_000 {
            let (mut requests, uri) = (requests.clone(), uri.clone());
            let get = Request::get(uri).body(Full::default()).unwrap();
            // The answer stays in its task.
            unread.push(tokio::spawn(async move { requests.send_request(get).await }));
        }
    }
    client.add("other").await;
    let ended = tokio::time::timeout(Duration::from_secs(90), async {
        while let Some(ended) = connections.join_next().await {
            ended.unwrap().unwrap();
        }
    });
    ended.await.expect("every connection is ended");
    client.add("other").await;
    let usage = server.process().usage().unwrap();
    let peak = usage.peak_rss.saturating_sub(before) >> 20;
    assert!(peak < 100, "{peak} MiB for answers that nobody reads");
    // The allocator gives it back as its threads go on working, not while they idle.
    until("the memory to come back", async || {
        server.client().get("/health").await.expect(200);
        let left = server.process().usage().unwrap().rss.saturating_sub(before) >> 20;
        (left < 40).then_some(())
    })
    .await;
}

/// Many polls of one connection get large jobs at once, and it reads none of them.
#[tokio::test]
async fn polls_that_are_not_read_give_their_jobs_to_others() {
    const JOBS: usize = 100;
    let mut server = Server::start().await;
    let before = server.process().usage().unwrap().rss;
    let client = server.client();
    let (requests, _connection) = dial(&server).await;
    let mut unread = Vec::new();
    for _ in 0..200 {
        let poll = json!({"queues": ["q"], "wait_ms": 60_000, "lease_ms": 1_000}).to_string();
        let poll = Request::post(format!("{}/jobs/take", server.url())).body(Full::from(poll)).unwrap();
        let mut requests = requests.clone();
        unread.push(tokio::spawn(async move { requests.send_request(poll).await }));
    }
    until("the polls to wait", async || {
        let workers = client.get("/workers").await.expect(200);
        (workers["workers"].as_array().unwrap().len() == 200).then_some(())
    })
    .await;
    let payload = "x".repeat(1_000_000);
    for _ in 0..JOBS / 20 {
        let job = || json!({"queue": "q", "type": "t", "payload": payload});
        client.enqueue_all(std::iter::repeat_with(job).take(20)).await;
    }
    let mut left = JOBS;
    while left > 0 {
        let job = client.poll_one("q").await;
        client.succeed(&job).await;
        left -= 1;
    }
    let peak = server.process().usage().unwrap().peak_rss.saturating_sub(before) >> 20;
    assert!(peak < 400, "{peak} MiB");
}

/// The payload of a large job, which no other has.
fn large(n: usize) -> String {
    let word = format!("{n} ");
    word.repeat(1_000_000 / word.len())
}

/// The number of a large job, whose payload must be as it came.
fn number(job: &Value) -> usize {
    let payload = job["payload"].as_str().unwrap();
    let n = payload.split(' ').next().unwrap().parse().unwrap();
    assert!(payload == large(n), "the payload of job {n} is {} bytes of something else", payload.len());
    n
}

fn numbers(jobs: &Value) -> Vec<usize> {
    jobs["jobs"].as_array().unwrap().iter().map(number).collect()
}

async fn enqueue_large(client: &Client, numbers: std::ops::Range<usize>) {
    for n in numbers {
        client.enqueue(&json!({"queue": "q", "type": "t", "payload": large(n)})).await;
    }
}

/// The next large jobs of a stream, in their order, without their payloads.
async fn take_large(stream: &mut Stream, numbers: impl IntoIterator<Item = usize>) -> Vec<Value> {
    let mut jobs = Vec::new();
    for n in numbers {
        let mut job = stream.next_job().await;
        assert_eq!(number(&job), n);
        job["payload"] = Value::Null;
        stream.received.clear();
        jobs.push(job);
    }
    jobs
}

/// D2: a worker holds as many large jobs as it likes. The server keeps no payload that it has sent, and has it when it is
/// needed again.
#[tokio::test]
async fn large_jobs_in_flight_are_not_kept_in_memory() {
    const JOBS: usize = 300;
    const FIRST: usize = 100;
    /// How much more memory two hundred jobs of a megabyte may take, in MiB: what the store has still to sort out.
    const MORE: u64 = 150;
    let retention = ["--default-completed-job-retention", "1h"];
    let flags = [retention, ["--cache-size", "1MB"], ["--memtable-size", "4MB"]];
    let flags = flags.as_flattened().iter().copied();
    let mut server = Server::with(flags).await;
    // Nothing is rewritten, which takes long without optimization.
    let client = server.client_as(Wire { format: Format::MessagePack, ..Wire::default() });
    let query = "queue=q&prefetch=0&lease_ms=600000";
    let mut stream = client.take(StreamFormat::MessagePack, query).await;
    enqueue_large(&client, 0..FIRST).await;
    let mut jobs = take_large(&mut stream, 0..FIRST).await;
    let at_first = server.process().usage().unwrap().peak_rss >> 20;
    enqueue_large(&client, FIRST..JOBS).await;
    jobs.extend(take_large(&mut stream, FIRST..JOBS).await);
    // Later jobs use the memory of earlier ones. Nobody can tell from outside what the allocator still has of it.
    let in_flight = server.process().usage().unwrap().peak_rss >> 20;
    assert!(in_flight < at_first + MORE, "{at_first} MiB, then {in_flight}");
    // Whoever asks sees them.
    assert_eq!(number(&client.job(id(&jobs[7])).await), 7);
    let page = client.get("/jobs?status=in_flight&limit=5").await.expect(200);
    assert_eq!(numbers(&page), [0, 1, 2, 3, 4]);
    let path = format!("/jobs?id={},{}&filter=startswith(%22299%20%22)", id(&jobs[298]), id(&jobs[299]));
    assert_eq!(numbers(&client.get(&path).await.expect(200)), [299]);
    // A success that is kept, a failure, a change, and releases of more than should be in memory at once.
    client.succeed(&jobs[0]).await;
    client.fail(&jobs[1], &json!({"message": "m", "delay_ms": 3_600_000})).await;
    client.patch(&format!("/jobs/{}", id(&jobs[2])), &json!({"retry_limit": 7})).await.expect(200);
    for (n, status) in ["completed", "scheduled", "in_flight"].into_iter().enumerate() {
        let job = client.job(id(&jobs[n])).await;
        assert_eq!((number(&job), job["status"].as_str()), (n, Some(status)));
    }
    let some: Vec<Value> =
        jobs[3..100].iter().map(|job| json!({"id": id(job), "lease": tests::lease(job)})).collect();
    client.post("/jobs/release", &json!({"jobs": some})).await.expect_nothing();
    take_large(&mut stream, 3..100).await;
    // The connection breaks, and all of it goes to another, some at a time.
    drop(stream);
    let mut stream = client.take(StreamFormat::MessagePack, query).await;
    let mut left: BTreeSet<usize> = (2..JOBS).collect();
    while !left.is_empty() {
        assert!(left.remove(&number(&stream.next_job().await)));
        stream.received.clear();
    }
    let in_all = server.process().usage().unwrap().peak_rss >> 20;
    assert!(in_all < in_flight + MORE, "{in_flight} MiB, then {in_all}");
}

/// A worker that comes back gets what it missed as it reads it, also from a server that was started anew.
#[tokio::test]
async fn large_jobs_that_a_worker_missed_are_sent_as_it_reads_them() {
    const JOBS: usize = 60;
    let mut server = Server::start().await;
    let client = server.client();
    enqueue_large(&client, 0..JOBS).await;
    let query = "queue=q&prefetch=0&lease_ms=10000&resume_ms=60000";
    let mut stream = client.events(query).await;
    take_large(&mut stream, 0..20).await;
    let seen = stream.last_event_id.clone();
    take_large(&mut stream, 20..JOBS).await;
    drop(stream);
    client.let_pass(1_200).await;
    enqueue_large(&client, JOBS..JOBS + 1).await;
    let mut stream = client.resume(&seen, query).await;
    assert!(stream.hello().resumed);
    take_large(&mut stream, 20..=JOBS).await;
    client.let_pass(1_200).await;
    server.kill9().await;
    server.restart().await;
    let client = server.client();
    let mut stream = client.resume(&seen, query).await;
    assert!(stream.hello().resumed);
    take_large(&mut stream, 20..=JOBS).await;
    drop(stream);
    // Their leases run out, and nothing of them is lost.
    let mut stream = client.lines("queue=q&prefetch=0").await;
    take_large(&mut stream, 0..=JOBS).await;
}

/// One connection of HTTP/2 could take all memory with answers that it does not read.
#[tokio::test]
async fn unread_answers_do_not_pile_up() {
    const JOBS: usize = 2_000;
    let mut server = Server::start().await;
    let client = server.client_as(Wire { http: Http::Two, ..Wire::default() });
    let payload = "x".repeat(9_000);
    for _ in 0..4 {
        let job = || json!({"queue": "q", "type": "t", "payload": payload});
        client.enqueue_all(std::iter::repeat_with(job).take(JOBS / 4)).await;
    }
    let before = server.process().usage().unwrap().rss;
    let path = format!("/jobs?limit={JOBS}");
    let (go, gone) = watch::channel(false);
    let (begun, mut begins) = mpsc::channel(40);
    let mut answers = JoinSet::new();
    for _ in 0..40 {
        let (client, path, begun, mut gone) = (client.clone(), path.clone(), begun.clone(), gone.clone());
        answers.spawn(async move {
            let answer = client.get(&path).response().await;
            begun.send(()).await.unwrap();
            gone.wait_for(|gone| *gone).await.unwrap();
            within("the rest of an answer", answer.into_body().collect()).await.unwrap()
        });
    }
    within("the first answer", begins.recv()).await;
    // Others are served.
    let page = server.client().get(&path).await.expect(200);
    let seen = page["jobs"].as_array().unwrap().len();
    let next = server.client().get(page["pages"]["next"].as_str().unwrap()).await.expect(200);
    assert!(seen > JOBS / 2 && next["jobs"].as_array().unwrap().len() == JOBS - seen, "{seen}");
    let grown = server.process().usage().unwrap().peak_rss.saturating_sub(before) >> 20;
    assert!(grown < 200, "{grown} MiB");
    // Who reads at last gets all of it, in pages of which each has something.
    go.send_replace(true);
    while let Some(body) = within("an answer", answers.join_next()).await {
        let page: Value = serde_json::from_slice(&body.unwrap().to_bytes()).unwrap();
        assert!(!page["jobs"].as_array().unwrap().is_empty());
    }
}

/// All elements of a list, and how many each of its pages has.
async fn walk(client: &Client, mut path: String, member: &str) -> (Vec<Value>, Vec<usize>) {
    let (mut all, mut lengths) = (Vec::new(), Vec::new());
    loop {
        let answer = client.get(&path).await;
        assert!(answer.body.len() < 18 << 20, "{} bytes of {path}", answer.body.len());
        let page = answer.expect(200);
        let list = page[member].as_array().unwrap();
        lengths.push(list.len());
        all.extend(list.iter().cloned());
        match page["pages"]["next"].as_str() {
            Some(next) => next.clone_into(&mut path),
            None => return (all, lengths),
        }
    }
}

#[tokio::test]
async fn lists_of_names_have_pages_where_they_are_asked_for() {
    let server = Server::start().await;
    let client = server.client();
    let names = ["a", "b c", "d&e=%", "f", "g"];
    for name in names {
        client.add(name).await;
        let path = |of: &str| format!("/{of}/{}", name.replace('%', "%25").replace(' ', "%20"));
        let policy = json!({"allocation": 1, "strategy": {"type": "while_in_flight"}});
        client.post(&path("budgets"), &policy).await.expect(201);
        client.call(http::Method::PUT, &path("crons")).value(&json!({"entries": []})).await.expect(200);
    }
    for (path, member, key) in [
        ("/queues", "queues", ""),
        ("/queues?details=true", "queues", "name"),
        ("/crons", "crons", ""),
        ("/budgets", "budgets", "key"),
    ] {
        let name = |value: &Value| if key.is_empty() { value.clone() } else { value[key].clone() };
        let whole = client.get(path).await.expect(200);
        assert_eq!(whole.as_object().unwrap().len(), 1, "{path}: {whole}");
        let separator = if path.contains('?') { '&' } else { '?' };
        let (paged, lengths) = walk(&client, format!("{path}{separator}limit=2"), member).await;
        assert_eq!(lengths, [2, 2, 1], "{path}");
        assert_eq!(paged.iter().map(name).collect::<Vec<_>>(), names, "{path}");
        // Rates fade from one call to the next.
        let steady = |value: &Value| {
            let mut value = value.clone();
            value.as_object_mut().map(|members| members.remove("rates"));
            value
        };
        let whole = whole[member].as_array().unwrap().iter().map(steady);
        assert!(paged.iter().map(steady).eq(whole), "{path}");
    }
    client.get("/queues?limit=0").await.expect_refusal(400, "limit");
}

#[tokio::test]
async fn a_list_too_large_for_one_answer_ends_at_a_size() {
    const POLLS: usize = 80;
    let server = Server::start().await;
    let client = server.client();
    // Each names as much as it may.
    let queues: Vec<String> = (0..1_000).map(|n| format!("{n:0>250}")).collect();
    let poll = json!({"queues": queues, "wait_ms": 60_000}).to_string();
    let (requests, _connection) = dial(&server).await;
    let mut waiting = JoinSet::new();
    for _ in 0..POLLS {
        let poll =
            Request::post(format!("{}/jobs/take", server.url())).body(Full::from(poll.clone())).unwrap();
        let mut requests = requests.clone();
        waiting.spawn(async move { requests.send_request(poll).await });
    }
    until("the polls to wait", async || {
        let (workers, _) = walk(&client, "/workers".to_owned(), "workers").await;
        (workers.len() == POLLS).then_some(())
    })
    .await;
    let (workers, lengths) = walk(&client, "/workers".to_owned(), "workers").await;
    assert!(lengths.len() == 2 && workers.len() == POLLS, "{lengths:?}");
}

#[tokio::test]
async fn a_page_of_errors_ends_at_a_size() {
    const ERRORS: u64 = 400;
    let server = Server::start().await;
    let client = server.client();
    let job = json!({"queue": "q", "type": "t", "payload": 1, "retry_limit": 100});
    let path = format!("/jobs/{}/errors", id(&client.enqueue(&job).await));
    let backtrace = "x".repeat(60_000);
    for _ in 0..ERRORS {
        let job = client.poll_one("q").await;
        client.fail(&job, &json!({"message": "m", "backtrace": backtrace, "retry_at": 1})).await;
    }
    for order in ["asc", "desc"] {
        let (errors, lengths) = walk(&client, format!("{path}?limit=2000&order={order}"), "errors").await;
        assert_eq!(lengths.len(), 2, "{lengths:?}");
        let mut all: Vec<u64> = errors.iter().map(|error| error["attempt"].as_u64().unwrap()).collect();
        if order == "desc" {
            all.reverse();
        }
        assert_eq!(all, (1..=ERRORS).collect::<Vec<_>>());
    }
}

/// It has half a minute, and a second for each 32 KiB. Reading another one in time is no excuse.
#[tokio::test]
async fn a_connection_on_which_a_large_answer_is_not_read_is_cut() {
    let server = Server::start().await;
    let job =
        server.client().enqueue(&json!({"queue": "q", "type": "t", "payload": "x".repeat(70_000)})).await;
    let socket = TcpStream::connect(server.address()).await.unwrap();
    // Less than the answer may be sent to who does not read.
    let mut client = http2::Builder::new(TokioExecutor::new());
    client.initial_stream_window_size(10_000);
    let (mut requests, connection) = client.handshake(TokioIo::new(socket)).await.unwrap();
    let connection = tokio::spawn(connection);
    let get = || {
        let uri = format!("{}/jobs/{}", server.url(), id(&job));
        Request::get(uri).body(Empty::<Bytes>::new()).unwrap()
    };
    let unread = within("an answer", requests.send_request(get())).await.unwrap();
    let read = within("an answer", requests.send_request(get())).await.unwrap();
    assert!(read.into_body().collect().await.unwrap().to_bytes().len() > 70_000);
    let ended = tokio::time::timeout(Duration::from_secs(60), connection).await;
    drop(ended.expect("the connection is cut").unwrap());
    assert!(unread.into_body().collect().await.is_err(), "it was not sent whole");
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = Server::start().await;
    let socket = TcpStream::connect(server.address()).await.unwrap();
    let client = http2::Builder::new(TokioExecutor::new());
    let (mut requests, connection) = client.handshake(TokioIo::new(socket)).await.unwrap();
    let connection = tokio::spawn(connection);
    for (path, status) in [("/health", 200), ("/jobs?limit=x", 400), ("/nothing", 404), ("/events", 405)] {
        let mut lengths = Vec::new();
        for method in ["GET", "HEAD"] {
            if (path, method) == ("/events", "GET") {
                continue;
            }
            let request = Request::builder().method(method).uri(format!("{}{path}", server.url()));
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let answer = within("an answer", requests.send_request(request)).await.unwrap();
            assert_eq!(answer.status(), status, "{method} {path}");
            lengths.push(answer.headers()["content-length"].clone());
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.is_empty(), method == "HEAD", "{method} {path}");
            let head = format!("{method} {path} HTTP/1.1\r\n");
            let answer = raw::exchange(server.address(), head.as_bytes(), b"").await;
            assert_eq!(
                (answer.status, answer.body.is_empty()),
                (status, method == "HEAD"),
                "{method} {path}"
            );
        }
        lengths.dedup();
        assert_eq!(lengths.len(), 1, "{path}");
    }
    connection.abort();
}

#[tokio::test]
async fn an_invalid_request_also_gets_a_sentence() {
    let server = Server::start().await;
    let long = "x".repeat(70_000);
    let longer = "x".repeat(200_000);
    let heads = [
        (400, "NOT HTTP AT ALL\r\n".to_owned()),
        (400, "GET /health HTTP/1.1\r\nbad header\r\n".to_owned()),
        (414, format!("GET /{long} HTTP/1.1\r\n")),
        (431, format!("GET /health HTTP/1.1\r\na: {longer}\r\n")),
    ];
    for (status, head) in heads {
        let answer = raw::exchange(server.address(), head.as_bytes(), b"").await;
        answer.expect_refusal(status, "");
    }
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let server = Server::start().await;
    let body = r#"{"queue":"q","type":"t","payload":1}"#;
    let request = format!(
        "POST /jobs HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(server.address()).await.unwrap();
    connection.set_nodelay(true).unwrap();
    for byte in request.as_bytes() {
        within("a byte to be taken", connection.write_all(&[*byte])).await.unwrap();
        tokio::task::yield_now().await;
    }
    let answer = raw::read_until(&mut connection, |_| false).await;
    assert!(answer.starts_with(b"HTTP/1.1 201"), "{:?}", String::from_utf8_lossy(&answer));
    let mut stream = Client::new(&server.url(), Wire::default()).take(StreamFormat::NdJson, "queue=q").await;
    stream.next_job().await;
}
