//! More than the server can take at once: connections, bodies, and heads that nobody can read.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Collected, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use protocol::frame::StreamFormat;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tests::client::{Client, Http, Wire};
use tests::wait::{until, within};
use tests::{Server, id, raw};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

#[tokio::test]
async fn a_connection_too_many_hears_of_it_and_finds_a_place_later() {
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
        answer.expect_refusal(503, "3 connections");
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
async fn thousands_of_idle_streams_cost_little_and_slow_nobody() {
    const STREAMS: u64 = 3_000;
    allow_open_files(STREAMS + 1_000);
    let mut server = Server::start().await;
    let client = server.client();
    let mut stream = client.lines("queue=q").await;
    let before = server.process().usage().unwrap().rss;
    let mut idle: Vec<TcpStream> = Vec::new();
    for n in 0..STREAMS {
        let request = format!("GET /jobs/take?queue=idle{n} HTTP/1.1\r\nhost: a\r\n\r\n");
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

#[tokio::test]
async fn large_bodies_wait_for_each_other_and_not_in_memory() {
    const BODY: usize = 32 << 20;
    const SENT: usize = 24 << 20;
    let mut server = Server::start().await;
    let before = server.process().usage().unwrap().rss;
    let head = format!("POST /jobs/bulk HTTP/1.1\r\nhost: a\r\ncontent-length: {BODY}\r\n\r\n");
    let mut senders = JoinSet::new();
    for _ in 0..24 {
        let mut connection = raw::send(server.address(), head.as_bytes()).await;
        senders.spawn(async move {
            // Most of it, and never the rest.
            connection.write_all(&vec![b' '; SENT]).await.map(|()| connection)
        });
    }
    // Where two are being read, the third waits until one of them is over. What is small waits for none.
    let client = server.client();
    for _ in 0..3 {
        let first = within("a body to be taken", senders.join_next()).await.unwrap().unwrap();
        let second = within("a body to be taken", senders.join_next()).await.unwrap().unwrap();
        client.add("q").await;
        drop((first, second));
    }
    let peak = server.process().usage().unwrap().peak_rss.saturating_sub(before) >> 20;
    assert!(peak < 150, "{peak} MiB for two bodies at a time");
}

/// One connection of HTTP/2 could take all memory with answers that it does not read.
#[tokio::test]
async fn answers_that_nobody_reads_do_not_pile_up() {
    const JOBS: usize = 2_000;
    let mut server = Server::start().await;
    let client = server.client_as(Wire { http: Http::Two, ..Wire::default() });
    let payload = "x".repeat(8_000);
    for _ in 0..4 {
        let job = || json!({"queue": "q", "type": "t", "payload": payload});
        client.enqueue_all(std::iter::repeat_with(job).take(JOBS / 4)).await;
    }
    let before = server.process().usage().unwrap().rss;
    let path = format!("/jobs?limit={JOBS}");
    let mut unread = Vec::new();
    for _ in 0..40 {
        unread.push(within("the head of an answer", client.get(&path).response()).await);
    }
    let grown = server.process().usage().unwrap().peak_rss.saturating_sub(before) >> 20;
    assert!(grown < 300, "{grown} MiB for pages of which a few are large");

    // Others are served, and who reads at last gets all of it: long pages first, then short ones, with what comes next.
    let short = server.client().get(&path).await.expect(200);
    // All at once, for they share the window of the connection.
    let bodies: JoinSet<_> = unread.into_iter().map(|answer| answer.into_body().collect()).collect();
    let bodies = within("the rest of the answers", bodies.join_all()).await;
    let page = |body: Collected<_>| serde_json::from_slice::<Value>(&body.to_bytes()).unwrap();
    let pages: Vec<Value> = bodies.into_iter().map(|body| page(body.unwrap())).collect();
    let lengths = pages.iter().map(|page| page["jobs"].as_array().unwrap().len());
    let (long, rest): (Vec<usize>, _) = lengths.partition(|length| *length > JOBS / 2);
    assert!((3..=6).contains(&long.len()), "{long:?} and {rest:?}");
    assert!(rest.iter().all(|length| (1..20).contains(length)), "{rest:?}");
    let next = short["pages"]["next"].as_str().unwrap();
    let seen = short["jobs"].as_array().unwrap().len();
    let next = client.get(next).await.expect(200);
    assert_eq!(next["jobs"].as_array().unwrap().len(), JOBS - seen, "the next page is long again");
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
async fn what_is_no_request_gets_a_sentence_too() {
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
        "POST /jobs HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n\
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
