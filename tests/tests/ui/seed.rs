//! A server with something of everything, for the screens to show.

use serde_json::{Value, json};
use tests::{Client, Server, id};

/// A name as long as it may be.
pub(crate) fn long_name() -> String {
    format!("tenant-{}", "x".repeat(248))
}

/// An integer that a JavaScript number cannot hold.
pub(crate) const LARGE: &str = "9007199254740993123";

/// The ids of some of the jobs.
#[derive(Debug)]
pub(crate) struct Seeded {
    pub(crate) ready: String,
    pub(crate) scheduled: String,
    pub(crate) in_flight: String,
    pub(crate) completed: String,
    pub(crate) dead: String,
}

/// Fills the server.
pub(crate) async fn fill(server: &Server) -> Seeded {
    let client = server.client();
    let payload: Value =
        serde_json::from_str(&format!(r#"{{"user_id": {LARGE}, "to": ["a", {{"b": null}}]}}"#)).unwrap();
    let job =
        |queue: &str, kind: &str, payload: &Value| json!({"queue": queue, "type": kind, "payload": payload});
    let ready = client.enqueue(&job("mails", "send_mail", &payload)).await;
    let evil = json!({"html": "<img src=x onerror=alert(1)>"});
    client
        .enqueue_all([
            job("mails", "<script>alert(1)</script>", &evil),
            job("مهام", "إرسال", &json!("مرحبا")),
            job("🚀 launch/pad", "🎉", &json!(null)),
            job(&long_name(), &long_name(), &json!({"text": "lorem ipsum ".repeat(200)})),
        ])
        .await;
    let mut later = job("later", "remind", &json!({}));
    later["delay_ms"] = json!(3_600_000);
    let scheduled = client.enqueue(&later).await;
    let dead = ends(&client, "imports", &json!({"message": "\u{1b}[31mrow 7\u{1b}[0m is broken", "error_type": "BadRow", "backtrace": "at line 1\nat line 2", "kill": true})).await;
    let completed = completes(&client).await;
    let in_flight = runs(&client).await;
    for (method, path, body) in [
        (
            "PUT",
            "/budgets/smtp",
            json!({"allocation": 20, "strategy": {"type": "time_based", "duration_ms": 1000}}),
        ),
        (
            "PUT",
            "/crons/nightly",
            json!({"timezone": "Europe/Berlin", "entries": [{"name": "report", "expression": "30 2 * * MON-FRI", "job": {"queue": "mails", "type": "report", "payload": {}}}]}),
        ),
    ] {
        client.call(method.parse().unwrap(), path).value(&body).await.expect(200);
    }
    client.poke("/queues/paused/pause").await.expect(200);
    client.add("paused").await;
    Seeded { ready: id(&ready).to_owned(), scheduled: id(&scheduled).to_owned(), in_flight, completed, dead }
}

/// A job that fails for good.
pub(crate) async fn ends(client: &Client, queue: &str, failure: &Value) -> String {
    client.add(queue).await;
    let taken = client.poll_one(queue).await;
    client.fail(&taken, failure).await;
    id(&taken).to_owned()
}

async fn completes(client: &Client) -> String {
    let kept =
        json!({"queue": "kept", "type": "sum", "payload": [1, 2], "retention": {"completed_ms": 3_600_000}});
    client.enqueue(&kept).await;
    let taken = client.poll_one("kept").await;
    let path = format!("/jobs/{}/success", id(&taken));
    client.post(&path, &json!({"result": {"sum": 3}})).await.expect_nothing();
    id(&taken).to_owned()
}

/// A job that is running, and has said so.
async fn runs(client: &Client) -> String {
    client.add("films").await;
    let taken = client
        .poll(&json!({"queues": ["films"], "wait_ms": 30_000, "lease_ms": 3_600_000, "worker": "studio"}))
        .await
        .remove(0);
    let id = id(&taken).to_owned();
    client
        .post(&format!("/jobs/{id}/heartbeat"), &json!({"progress": 0.4, "message": "frame 40"}))
        .await
        .expect(200);
    client
        .poke(&format!("/jobs/{id}/log"))
        .bytes("text/plain", "frame 39\n\u{1b}[32mframe 40\u{1b}[0m\n")
        .await
        .expect_nothing();
    id
}
