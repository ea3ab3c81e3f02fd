//! Each refusal has a code for programs.

use protocol::error::Code;
use serde_json::json;
use tests::client::Call;
use tests::{Client, Server, Wire, id, lease, raw};

const NO_JOB: &str = "0123456789012345678901234";

/// Calls that are refused whatever there is on the server.
fn table(client: &Client) -> Vec<(Code, Call<'_>)> {
    let get = |path: &str| client.get(path);
    let post = |path: &str, body| client.post(path, &body);
    let job = || json!({"queue": "q", "type": "t", "payload": null});
    let of_job = |verb: &str| format!("/jobs/{NO_JOB}/{verb}");
    let json = "application/json";
    vec![
        (Code::Invalid, client.poke("/jobs").bytes(json, "{")),
        (Code::Invalid, post("/jobs", json!({"queue": "q"}))),
        (Code::Invalid, get("/jobs?limit=x")),
        (Code::Invalid, get("/jobs?nonsense=1")),
        (Code::Invalid, client.poke(&of_job("success")).header("zizq-lease", "-")),
        (Code::InvalidFilter, get("/jobs?filter=%5B")),
        (Code::InvalidFilter, get("/jobs?filter=+")),
        (Code::InvalidIdempotencyKey, post("/jobs", job()).header("idempotency-key", "\"\"")),
        (
            Code::InvalidIdempotencyKey,
            post("/jobs/bulk", json!({"jobs": []})).header("idempotency-key", &"k".repeat(256)),
        ),
        (Code::ForeignOrigin, get("/jobs").header("origin", "null")),
        (Code::ForeignOrigin, get("/nope").header("sec-fetch-site", "cross-site")),
        (Code::NoRoute, get("/nope")),
        (Code::NoRoute, get("/jobs/")),
        (Code::NotFound, get(&format!("/jobs/{NO_JOB}"))),
        (Code::NotFound, get("/jobs/x")),
        (Code::NotFound, client.delete("/queues/none")),
        (Code::NotFound, get("/budgets/none")),
        (Code::NotFound, get("/crons/none")),
        (Code::NotFound, get(&of_job("errors/1"))),
        (Code::NotFound, get(&of_job("log"))),
        (Code::NotInFlight, client.poke(&of_job("success"))),
        (Code::NotInFlight, post(&of_job("failure"), json!({"message": "m"}))),
        (Code::NotInFlight, client.poke(&of_job("heartbeat"))),
        (Code::NotInFlight, client.poke(&of_job("release"))),
        (Code::NotInFlight, client.poke(&of_job("log")).bytes("text/plain", "a")),
        (Code::MethodNotAllowed, client.delete("/health")),
        (Code::TooLarge, post("/jobs", json!({"queue": "q", "type": "t", "payload": "x".repeat(2 << 20)}))),
        (Code::UnsupportedMediaType, client.poke("/jobs").bytes("text/plain", "a")),
        (Code::ForeignHost, get("/jobs").header("host", "evil.example")),
        (
            Code::NotAllowed,
            post("/jobs", json!({"queue": "q", "type": "t", "payload": 1, "budgets": [{"key": "none"}]})),
        ),
        (
            Code::NotAllowed,
            post("/budgets/b", json!({"allocation": 0, "strategy": {"type": "while_in_flight"}})),
        ),
        (Code::WrongStatus, client.poke("/jobs/retry?status=ready")),
        (Code::WrongStatus, client.patch("/jobs?status=dead", &json!({"priority": 1}))),
    ]
}

#[tokio::test]
async fn bad_calls_get_the_code_of_their_fault() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        for (code, call) in table(&client) {
            call.await.expect_code(code);
        }
        client.get("/jobs").header("accept", "text/html").await.expect_code(Code::NotAcceptable);
    }
}

#[tokio::test]
async fn calls_in_the_wrong_state_get_its_code() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let job = client.add("q").await;
        client.delete("/queues/q").await.expect_code(Code::InUse);
        client.poke(&format!("/jobs/{}/retry", id(&job))).await.expect_code(Code::WrongStatus);
        client.delete("/jobs?filter=.%7Clength").await.expect_code(Code::FilterFailed);

        let first = client.poll_one("q").await;
        client.release(&first).await;
        let second = client.poll_one("q").await;
        assert_ne!(lease(&first), lease(&second));
        for verb in ["success", "failure", "heartbeat", "release", "log"] {
            let call = client.poke(&format!("/jobs/{}/{verb}", id(&job))).header("zizq-lease", lease(&first));
            let call = match verb {
                "failure" => call.value(&json!({"message": "m"})),
                "log" => call.bytes("text/plain", "a"),
                _ => call,
            };
            call.await.expect_code(Code::LeaseLost);
        }
        client.poke(&format!("/jobs/{}/retry", id(&job))).await.expect_code(Code::WrongStatus);
        let report = client.post("/jobs/success", &json!({"ids": [NO_JOB, id(&job)]})).await.expect(422);
        assert_eq!(report, json!({"code": "not_done", "not_found": [NO_JOB]}));

        let policy = json!({"allocation": 1, "strategy": {"type": "while_in_flight"}});
        client.post("/budgets/b", &policy).await.expect(201);
        client.post("/budgets/b", &policy).await.expect_code(Code::Exists);
        let of_budget = json!({"queue": "p", "type": "t", "payload": 1, "budgets": [{"key": "b"}]});
        client.enqueue(&of_budget).await;
        client.delete("/budgets/b").await.expect_code(Code::InUse);

        let enqueue = async |queue: &str| {
            let job = json!({"queue": queue, "type": "t", "payload": 1});
            client.post("/jobs", &job).header("idempotency-key", "k").await
        };
        enqueue("p").await.expect(201);
        enqueue("other").await.expect_code(Code::IdempotencyKeyReused);
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn heads_that_cannot_be_read() {
    let server = Server::start().await;
    let (long, longer) = ("a".repeat(100_000), "a".repeat(600_000));
    for (code, head) in [
        (Code::UrlTooLong, format!("GET /{long} HTTP/1.1\r\n")),
        (Code::HeadTooLarge, format!("GET /health HTTP/1.1\r\na: {longer}\r\n")),
        (Code::Invalid, "nonsense\r\n".to_owned()),
    ] {
        raw::exchange(server.address(), head.as_bytes(), b"").await.expect_code(code);
    }
}

#[tokio::test]
async fn an_event_listener_over_the_limit_is_refused() {
    let server = Server::start().await;
    let client = server.client();
    let mut listeners = Vec::new();
    for _ in 0..64 {
        let listener = client.get("/events").header("accept", "text/event-stream").response().await;
        assert_eq!(listener.status(), 200);
        listeners.push(listener);
    }
    client.get("/events").header("accept", "text/event-stream").await.expect_code(Code::Busy);
}
