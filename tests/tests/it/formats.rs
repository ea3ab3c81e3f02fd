//! What is asked for and what is given: media types, lenient numbers, names, unknown members.

use protocol::media::Format;
use serde_json::{Value, json};
use tests::client::{decode, encode};
use tests::{Client, Http, Server, Wire, id};

const MSGPACK: &str = "application/msgpack";
const JSON: &str = "application/json";

async fn job_with(client: &Client, member: &str, value: Value) -> Value {
    let mut job = json!({"queue": "q", "type": "t", "payload": null});
    job[member] = value;
    client.enqueue(&job).await
}

#[tokio::test]
async fn an_answer_is_in_the_format_that_accept_prefers() {
    let server = Server::start().await;
    let client = server.client();
    for (accept, expected) in [
        ("", JSON),
        ("*/*", JSON),
        (JSON, JSON),
        (MSGPACK, MSGPACK),
        ("APPLICATION/MsgPack; q=0.5", MSGPACK),
        ("application/json; charset=utf-8", JSON),
        ("application/json, application/msgpack", MSGPACK),
        ("application/*", MSGPACK),
        ("application/json, application/msgpack;q=0.5", JSON),
        ("text/html, application/json;q=0.1", JSON),
        ("text/html, */*;q=0.1", JSON),
    ] {
        let answer = client.get("/health").header("accept", accept).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, expected), "{accept:?}");
        assert_eq!(answer.value(), json!({"status": "ok"}));
    }
}

#[tokio::test]
async fn without_accept_and_content_type_both_are_json() {
    let server = Server::start().await;
    let body = br#"{"queue": "q", "type": "t", "payload": 1}"#;
    let head = format!("POST /jobs HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
    let answer = tests::raw::exchange(server.address(), head.as_bytes(), body).await;
    assert_eq!(answer.header("content-type"), JSON);
    assert_eq!(answer.expect(201)["queue"], "q");
}

#[tokio::test]
async fn what_cannot_be_accepted_is_refused_before_anything_else() {
    let server = Server::start().await;
    for http in [Http::One, Http::Two] {
        let client = server.client_as(Wire { http, ..Wire::default() });
        for path in ["/health", "/no/such/path", "/jobs?bad=1", "/jobs/nonsense", "/jobs/take"] {
            let answer = client.get(path).header("accept", "text/html").await;
            assert_eq!(answer.header("content-type"), JSON);
            let supported = answer.value()["supported"].clone();
            if path == "/jobs/take" {
                // Streams have formats of their own beside the two.
                let supported = supported.as_array().unwrap();
                assert!(
                    supported.contains(&json!(JSON)) && supported.contains(&json!(MSGPACK)),
                    "{supported:?}"
                );
            } else {
                assert_eq!(supported, json!([JSON, MSGPACK]), "{path}");
            }
            answer.expect_refusal(406, "text/html");
        }
    }
}

#[tokio::test]
async fn a_compressed_body_is_415() {
    let server = Server::start().await;
    let client = server.client();
    let job = json!({"queue": "q", "type": "t", "payload": 1});
    for path in ["/jobs", "/jobs/0000000000000000000000000/log"] {
        let answer = client.post(path, &job).header("content-encoding", "gzip").await;
        answer.expect_refusal(415, "content-encoding: `gzip`");
    }
    for plain in ["", "identity"] {
        client.post("/jobs", &job).header("content-encoding", plain).await.expect(201);
    }
}

#[tokio::test]
async fn an_unknown_content_type_is_415() {
    let server = Server::start().await;
    for http in [Http::One, Http::Two] {
        let client = server.client_as(Wire { http, ..Wire::default() });
        for path in ["/jobs", "/jobs/bulk", "/jobs/success", "/jobs/take"] {
            let answer = client.poke(path).bytes("text/plain", "hello").await;
            assert_eq!(answer.value()["supported"], json!([JSON, MSGPACK]), "{path}");
            answer.expect_refusal(415, "text/plain");
        }
    }
}

#[tokio::test]
async fn what_came_in_one_format_goes_out_in_the_other() {
    let server = Server::start().await;
    // One number is of those that are easily read as their neighbour.
    let numbers = json!([1, -1, 1.0, u64::MAX, -1.409_674_582_467_969_3e-18]);
    let payload = json!({"ä": [numbers, null, "\u{1F600}", {"x": {}}]});
    let job = json!({"queue": "q", "type": "t", "payload": payload});
    for (from, to) in [(Format::Json, Format::MessagePack), (Format::MessagePack, Format::Json)] {
        let sender = server.client_as(Wire { format: from, ..Wire::default() });
        let reader = server.client_as(Wire { format: to, ..Wire::default() });
        let queued = sender.enqueue(&job).await;
        assert_eq!(reader.job(id(&queued)).await["payload"], payload);
        let call = sender.poke("/jobs").bytes(from.media_type(), encode(from, &job));
        let answer = call.header("accept", to.media_type()).await;
        assert_eq!(decode(to, &answer.body)["queue"], "q");
    }
}

#[tokio::test]
async fn whole_floats_are_integers_and_integers_are_floats() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        assert_eq!(job_with(&client, "priority", json!(1500.0)).await["priority"], 1500);
        assert_eq!(job_with(&client, "retry_limit", json!(2.0)).await["retry_limit"], 2);
        let backoff = json!({"base_ms": 5.0, "exponent": 2, "jitter_ms": 0.0});
        let shown = job_with(&client, "backoff", backoff).await["backoff"].clone();
        assert_eq!((&shown["base_ms"], &shown["jitter_ms"]), (&json!(5), &json!(0)));
        assert_eq!(shown["exponent"].as_f64(), Some(2.0));
    }
}

#[tokio::test]
async fn unknown_members_are_ignored_and_null_is_absent() {
    let server = Server::start().await;
    let client = server.client();
    job_with(&client, "from_the_future", json!({"a": [1]})).await;
    for member in
        ["priority", "ready_at", "retry_limit", "backoff", "retention", "unique_key", "batch", "budgets"]
    {
        let job = job_with(&client, member, Value::Null).await;
        assert_eq!((&job["status"], &job["priority"]), (&json!("ready"), &json!(32_768)), "{member}");
    }
}

#[tokio::test]
async fn inside_a_payload_the_last_of_repeated_members_wins() {
    let server = Server::start().await;
    let client = server.client();
    let body = r#"{"queue": "q", "type": "t", "payload": {"a": 1, "a": 2}}"#;
    let queued = client.poke("/jobs").bytes(JSON, body).await.expect(201);
    for format in [Format::Json, Format::MessagePack] {
        let reader = server.client_as(Wire { format, ..Wire::default() });
        assert_eq!(reader.job(id(&queued)).await["payload"], json!({"a": 2}));
    }
}

#[tokio::test]
async fn a_payload_may_nest_as_deep_as_the_contract_says() {
    let server = Server::start().await;
    // The envelope is the first of the 128 levels.
    let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
    let body = format!(r#"{{"queue": "q", "type": "t", "payload": {deep}}}"#);
    let answer = server.client().poke("/jobs").bytes(JSON, body).await;
    assert_eq!(answer.expect(201)["status"], "ready");
}

#[tokio::test]
async fn names_are_utf8_with_few_exceptions() {
    let server = Server::start().await;
    let client = server.client();
    for name in
        ["a", "größe/1 2", "a.b-c_d:e;f|g+h&i=j#k%l\"m'n<o>", &"x".repeat(255), &"ä".repeat(127), "\u{1F600}"]
    {
        let queued = client.enqueue(&json!({"queue": name, "type": name, "payload": null})).await;
        let taken = client.poll_one(name).await;
        assert_eq!(id(&taken), id(&queued));
        assert_eq!((&taken["queue"], &taken["type"]), (&json!(name), &json!(name)));
        client.succeed(&taken).await;
    }
}

#[tokio::test]
async fn calls_without_a_body_need_no_content_type() {
    let server = Server::start().await;
    for http in [Http::One, Http::Two] {
        let client = server.client_as(Wire { http, ..Wire::default() });
        let queued = client.add("q").await;
        let taken = client.poll_one("q").await;
        client.poke(&format!("/jobs/{}/release", id(&taken))).await.expect_nothing();
        let taken = client.poll_one("q").await;
        client.poke(&format!("/jobs/{}/heartbeat", id(&taken))).await.expect(200);
        client.poke(&format!("/jobs/{}/success", id(&taken))).await.expect_nothing();
        client.delete(&format!("/jobs/{}", id(&queued))).await.expect_refusal(404, id(&queued));
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_long_url_is_read_over_both_versions() {
    let server = Server::start().await;
    let queues = vec!["q"; 30_000].join(",");
    for http in [Http::One, Http::Two] {
        let client = server.client_as(Wire { http, ..Wire::default() });
        client.add("q").await;
        assert!(client.count(&format!("queue={queues}")).await > 0);
    }
}
