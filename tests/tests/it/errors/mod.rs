//! Bad input: each request gets its refusal, with a sentence that names what is wrong, and the server goes on.

mod table;

use protocol::error::Code;
use serde::Deserialize;
use serde_json::{Value, json};
use table::{Bad, table};
use tests::{Answer, Client, Http, Server, Wire, raw};

const JSON: &str = "application/json";
const MSGPACK: &str = "application/msgpack";
const NO_JOB: &str = "0123456789012345678901234";

/// What is wrong with the answer, if anything.
fn complaint(bad: &Bad, answer: &Answer) -> Option<&'static str> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let sentence = body["error"].as_str().unwrap_or_default();
    let allow = answer.header("allow");
    let method = bad.request.split(' ').next().unwrap();
    [
        (answer.status == bad.status, "another status was expected"),
        (answer.header("content-type") == JSON, "it is not JSON"),
        (body.as_object().is_some_and(|body| body.len() == 2), "it has more than the error and its code"),
        (
            Code::deserialize(&body["code"]).is_ok_and(|code| code.status() == bad.status),
            "its code is another status's",
        ),
        (!sentence.trim().is_empty(), "the error is empty"),
        (!sentence.contains(char::is_control) && sentence.len() < 500, "the error is no sentence"),
        (sentence.contains(&bad.names), "the error does not name what is wrong"),
        (allow.is_empty() == (bad.status != 405), "the header allow is for 405, and only for that"),
        (!allow.split(", ").any(|allowed| allowed == method), "allow lists the method that is not allowed"),
    ]
    .into_iter()
    .find_map(|(holds, complaint)| (!holds).then_some(complaint))
}

/// Sends the request over both versions of HTTP, and gives back both answers.
async fn send(server: &Server, http2: &Client, bad: &Bad) -> [Answer; 2] {
    let content_type = match bad.content_type {
        "" => String::new(),
        name => format!("content-type: {name}\r\n"),
    };
    let head = format!("{} HTTP/1.1\r\n{content_type}content-length: {}\r\n", bad.request, bad.body.len());
    let one = raw::exchange(server.address(), head.as_bytes(), &bad.body).await;
    let (method, path) = bad.request.split_once(' ').unwrap();
    let mut call = http2.call(method.parse().unwrap(), path);
    if !bad.content_type.is_empty() {
        call = call.bytes(bad.content_type, bad.body.clone());
    }
    [one, call.await]
}

#[tokio::test]
async fn every_malformed_request_is_refused_in_a_sentence() {
    let server = Server::start().await;
    let http2 = server.client_as(Wire { http: Http::Two, ..Wire::default() });
    let table = table();
    assert!(table.len() >= 60);
    let mut complaints = Vec::new();
    for bad in &table {
        for answer in send(&server, &http2, bad).await {
            if let Some(complaint) = complaint(bad, &answer) {
                let (status, names, body) = (bad.status, &bad.names, &bad.body[..bad.body.len().min(100)]);
                let sent = format!("{} {:?}", bad.request, String::from_utf8_lossy(body));
                let got = format!("{} {:?}", answer.status, answer.body);
                complaints.push(format!("{sent}\n  {complaint}: {status} naming {names:?}\n  got {got}"));
            }
        }
    }
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), 2 * table.len(), complaints.join("\n"));
    let client = server.client();
    assert_eq!(client.count("").await, 0, "nothing was enqueued");
    let queued = client.add("q").await;
    let taken = client.poll_one("q").await;
    assert_eq!(tests::id(&taken), tests::id(&queued), "the server still serves");
    client.succeed(&taken).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_and_one_below_is_not() {
    let server = Server::start().await;
    let payload = |bytes: usize| json!({"queue": "q", "type": "t", "payload": "x".repeat(bytes)});
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        client.enqueue(&payload((1 << 20) - 100)).await;
        client.post("/jobs", &payload((1 << 20) + 1)).await.expect_refusal(413, "payload");
        let bulk = json!({"jobs": [payload(5), payload((1 << 20) + 1)]});
        let sentence = client.post("/jobs/bulk", &bulk).await.expect_refusal(413, "payload");
        assert!(sentence.starts_with("jobs[1]: "), "{sentence}");
        client.enqueue_all((0..16).map(|_| payload(1 << 19))).await;
        let huge = json!({"jobs": vec![payload(1 << 20); 33]});
        client.post("/jobs/bulk", &huge).await.expect_refusal(413, "");
        client.poke("/reset").await.expect_nothing();
    }
    // More is announced than anybody would wait for: the answer comes when the limit is reached at the latest.
    let head = b"POST /jobs/bulk HTTP/1.1\r\ncontent-length: 99999999999\r\n";
    let answer = raw::exchange(server.address(), head, &vec![b' '; 33 << 20]).await;
    answer.expect_refusal(413, "");
}

#[tokio::test]
async fn the_limits_are_flags() {
    let server = Server::with(["--max-body-size", "64KB", "--max-payload-size", "1KB"]).await;
    let payload = |bytes: usize| json!({"queue": "q", "type": "t", "payload": "x".repeat(bytes)});
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        client.enqueue(&payload(900)).await;
        client.post("/jobs", &payload(1_100)).await.expect_refusal(413, "payload");
        client.enqueue_all(vec![payload(900); 50]).await;
        client.post("/jobs/bulk", &json!({"jobs": vec![payload(900); 100]})).await.expect_refusal(413, "64");
    }
}

#[tokio::test]
async fn a_request_that_is_not_http_is_also_refused() {
    let server = Server::start().await;
    for bytes in [
        &b"nonsense\r\n\r\n"[..],
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST /jobs HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /jobs HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x00\x01\x02\x03\x04\x05\x06\x07\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n nonsense instead of frames",
    ] {
        let mut connection = raw::send(server.address(), bytes).await;
        let answer = raw::read_until(&mut connection, |_| false).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains(" 200 ") && !text.contains(" 500 "), "{text}");
    }
    server.client().get("/health").await.expect(200);
}

#[tokio::test]
async fn a_refusal_arrives_although_the_body_is_long() {
    let server = Server::start().await;
    for http in [Http::One, Http::Two] {
        let client = server.client_as(Wire { http, ..Wire::default() });
        let long = "x".repeat(5_000_000);
        for _ in 0..5 {
            client.poke("/nothing").bytes(JSON, long.clone()).await.expect_refusal(404, "/nothing");
            client.poke("/health").bytes(JSON, long.clone()).await.expect_refusal(405, "POST");
            client
                .poke("/jobs/bulk")
                .bytes("text/plain", long.clone())
                .await
                .expect_refusal(415, "text/plain");
            let call = client.poke("/jobs/bulk").bytes(JSON, long.clone());
            call.header("accept", "text/html").await.expect_refusal(406, "text/html");
            client.poke("/jobs/bulk").bytes(JSON, long.clone()).await.expect_refusal(400, "JSON");
        }
    }
}
