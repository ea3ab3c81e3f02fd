use serde_json::{Value, json};

use crate::fake::{Call, Server};
use crate::worker::{Worker, id, job, lease};

/// A worker, the server it works for, and the endpoint that it calls.
async fn start() -> (Server, Server, Worker) {
    let (mut server, endpoint) = (Server::start().await, Server::start().await);
    let worker = Worker::start(&server, &["--http", &format!("q=http://{}/hook?a=b", endpoint.address)]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    let mut job = job(1, 11, json!({"n": 1}));
    job["type"] = json!("grüße %");
    stream.job("s:1", &job).await;
    // The stream goes on without the test.
    tokio::spawn(stream.closed());
    (server, endpoint, worker)
}

async fn fails(answer: impl FnOnce(Call)) -> Value {
    let (mut server, mut endpoint, _worker) = start().await;
    answer(endpoint.any_call().await);
    server.failure(&id(1)).await
}

#[tokio::test]
async fn a_job_is_posted_and_any_2xx_is_success() {
    let (mut server, mut endpoint, _worker) = start().await;
    let call = endpoint.call("/hook?a=b").await;
    assert_eq!(call.body, json!({"n": 1}));
    for (name, value) in [
        ("content-type", "application/json"),
        ("zizq-job-id", &id(1)),
        ("zizq-job-type", "gr%C3%BC%C3%9Fe %25"),
        ("zizq-job-queue", "q"),
        ("zizq-job-attempt", "3"),
        ("idempotency-key", &id(1)),
    ] {
        assert_eq!(call.header(name), Some(value));
    }
    server.no_calls();
    call.answer("202 Accepted", "later");
    assert_eq!(server.success().await, [(id(1), lease(11))]);
}

#[tokio::test]
async fn anything_else_is_a_failure() {
    let failure = fails(|call| call.answer("404 Not Found", "no such thing")).await;
    assert_eq!(failure["message"], "the endpoint answered 404 Not Found: no such thing");
    assert_eq!((&failure["error_type"], &failure["kill"]), (&json!("http_status"), &json!(true)));

    let busy = fails(|call| call.answer("500 Oh\r\nretry-after: Fri, 31 Dec 2100 23:59:59 GMT", "")).await;
    // A day is the longest that anybody is granted.
    assert_eq!((&busy["delay_ms"], busy.get("retry_at"), busy.get("kill")), (&json!(86_400_000), None, None));

    let redirect = fails(|call| call.answer("302 Found\r\nlocation: /elsewhere", "")).await;
    let said = "the endpoint answered 302 Found: it redirects to /elsewhere, and redirects are not followed; use that URL in the route";
    assert_eq!(redirect["message"], said);

    let cut = fails(drop).await;
    assert_eq!(cut["error_type"], "http_error");
    assert!(cut["message"].as_str().unwrap().starts_with("no answer from the endpoint: "), "{cut}");
}

#[tokio::test]
async fn who_is_too_busy_is_asked_again_later_and_no_attempt_is_counted() {
    for (answer, pause) in [
        ("503 Busy\r\nretry-after: Fri, 31 Dec 2100 23:59:59 GMT", 86_400_000),
        ("429 Slow down\r\nretry-after: 1797682573901", 86_400_000),
        ("429 Slow down\r\nretry-after: 7", 7_000),
        ("429 Slow down\r\nretry-after: 0", 1_000),
        ("503 Busy\r\nretry-after: Sun, 06 Nov 1994 08:49:37 GMT", 1_000),
        ("429 Slow down", 1_000),
    ] {
        let (mut server, mut endpoint, _worker) = start().await;
        endpoint.any_call().await.answer(answer, "not now");
        let release = server.call("/jobs/release").await;
        assert_eq!(release.body["jobs"][0]["delay_ms"], pause, "{answer}");
        let reason = release.body["jobs"][0]["reason"].as_str().unwrap();
        assert!(reason.starts_with("the endpoint answered ") && reason.ends_with(": not now"), "{reason}");
        release.answer("204 No Content", "");
    }
}

#[tokio::test]
async fn a_closed_port_is_a_failure() {
    let (mut server, mut endpoint) = (Server::start().await, Server::start().await);
    endpoint.go_down().await;
    let _worker = Worker::start(&server, &["--http", &format!("q=http://{}/", endpoint.address)]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let failure = server.failure(&id(1)).await;
    assert!(failure["message"].as_str().unwrap().contains("refused"), "{failure}");
}

#[tokio::test]
async fn a_long_body_is_not_read_to_its_end() {
    let failure = fails(|call| call.answer("500 Oh", &"x".repeat(100_000_000))).await;
    assert!(failure["message"].as_str().unwrap().len() < 2000);
}
