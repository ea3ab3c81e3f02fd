//! Absolute times and delays, in bodies and in ranges.

use http::Method;
use protocol::media::Format;
use serde_json::{Value, json};
use tests::{Client, Server, Wire, id, lease};

/// The start of the year 2100, in two ways.
const MS: u64 = 4_102_444_800_000;
const TEXT: &str = "2100-01-01T01:00:00+01:00";

fn job(members: Value) -> Value {
    let mut job = json!({"queue": "q", "type": "t", "payload": null});
    job.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    job
}

/// Every call whose body has an absolute time, given that time; the last says what comes before the name in a refusal.
async fn calls(client: &Client, time: &Value) -> Vec<(Method, String, Value, &'static str, &'static str)> {
    let taken = async |queue: &str| {
        client.add(queue).await;
        client.poll_one(queue).await
    };
    let (failed, released, many, patched) =
        (taken("a").await, taken("b").await, taken("c").await, client.add("d").await);
    let of = |job: &Value, verb: &str| format!("/jobs/{}{verb}", id(job));
    let release = json!({"id": id(&many), "lease": lease(&many), "ready_at": time});
    vec![
        (Method::POST, "/jobs".to_owned(), job(json!({"ready_at": time})), "ready_at", ""),
        (
            Method::POST,
            "/jobs/bulk".to_owned(),
            json!({"jobs": [job(json!({})), job(json!({"ready_at": time}))]}),
            "ready_at",
            "jobs[1]: ",
        ),
        (Method::POST, of(&failed, "/failure"), json!({"message": "m", "retry_at": time}), "retry_at", ""),
        (Method::POST, of(&released, "/release"), json!({"ready_at": time}), "ready_at", ""),
        (Method::POST, "/jobs/release".to_owned(), json!({"jobs": [release]}), "ready_at", "jobs[0]: "),
        (Method::PATCH, of(&patched, ""), json!({"ready_at": time}), "ready_at", ""),
        (Method::PATCH, "/jobs?queue=d".to_owned(), json!({"ready_at": time}), "ready_at", ""),
    ]
}

#[tokio::test]
async fn a_time_that_counts_seconds_is_refused_in_every_body() {
    let server = Server::start().await;
    for format in [Format::Json, Format::MessagePack] {
        let client = server.client_as(Wire { format, ..Wire::default() });
        for (given, meant) in [
            (json!(1_767_225_600), "1767225600000"),
            (json!(1_000_000_000), "1000000000000"),
            (json!(100_000_000_000_u64), "100000000000000"),
            (json!(1_767_225_600.0), "1767225600000"),
            (json!(1_767_225_600.25), "1767225600250"),
            (json!(1_767_225_600_123_456_u64), "1767225600123"),
        ] {
            for (method, path, body, name, place) in calls(&client, &given).await {
                let refused = client.call(method, &path).value(&body).await.expect_refusal(400, meant);
                assert!(refused.starts_with(&format!("{place}{name}: ")), "{path}: {refused}");
                assert!(
                    refused.contains("counts milliseconds since 1970; did you mean"),
                    "{path}: {refused}"
                );
            }
            client.poke("/reset").await.expect_nothing();
        }
        for bad in [json!("tomorrow"), json!("1767225600000"), json!("2026-01-01"), json!(true), json!([1])] {
            for (method, path, body, name, _) in calls(&client, &bad).await {
                client.call(method, &path).value(&body).await.expect_refusal(400, name);
            }
            client.poke("/reset").await.expect_nothing();
        }
    }
}

#[tokio::test]
async fn a_time_can_be_a_text_by_rfc_3339_in_every_body() {
    let server = Server::start().await;
    for format in [Format::Json, Format::MessagePack] {
        let client = server.client_as(Wire { format, ..Wire::default() });
        for time in [json!(MS), json!(TEXT), json!("2100-01-01T00:00:00Z"), json!("2100-01-01t00:00:00.000z")]
        {
            for (method, path, body, ..) in calls(&client, &time).await {
                let answer = client.call(method, &path).value(&body).await;
                assert!((200..300).contains(&answer.status), "{path}: {answer:?}");
            }
            let scheduled = client.count(&format!("status=scheduled&ready_at={MS}")).await;
            assert_eq!(scheduled, 6, "{time}");
            client.poke("/reset").await.expect_nothing();
        }
    }
}

#[tokio::test]
async fn a_range_of_times_can_be_written_by_rfc_3339_and_not_in_seconds() {
    let server = Server::start().await;
    let client = server.client();
    client.enqueue(&job(json!({"ready_at": MS}))).await;
    client.enqueue(&job(json!({"ready_at": MS + 86_400_000}))).await;
    for (range, expected) in [
        ("2100-01-01T00:00:00Z", 1),
        ("2100-01-01T01:00:00%2B01:00", 1),
        ("2100-01-01T00:00:00Z..2100-01-01T23:59:59.999Z", 1),
        ("2100-01-01T00:00:00Z..", 2),
        ("..2099-12-31T23:59:59Z", 0),
        ("2099-12-31T23:59:59.5Z..4102531200000", 2),
    ] {
        assert_eq!(client.count(&format!("ready_at={range}")).await, expected, "{range}");
    }
    for range in ["1767225600", "1767225600..", "..1767225600", "0..1767225600", "1767225600000000"] {
        for path in ["/jobs", "/jobs/count"] {
            let refused = client.get(&format!("{path}?ready_at={range}")).await;
            let refused = refused.expect_refusal(400, "did you mean 1767225600000?");
            assert!(refused.starts_with("ready_at: "), "{refused}");
        }
        client.delete(&format!("/jobs?ready_at={range}")).await.expect_refusal(400, "1767225600000");
    }
    client.get("/jobs?ready_at=tomorrow..").await.expect_refusal(400, "tomorrow");
    client.get("/jobs?ready_at=2026-01-01..").await.expect_refusal(400, "RFC 3339");
    assert_eq!(client.count("").await, 2);
}

#[tokio::test]
async fn a_delay_counts_from_the_moment_of_the_call() {
    let server = Server::start().await;
    for format in [Format::Json, Format::MessagePack] {
        let client = server.client_as(Wire { format, ..Wire::default() });
        let delay = 3_600_000;
        let now = client.add("now").await["ready_at"].as_u64().unwrap();
        let is_later = |job: &Value| {
            assert_eq!(job["status"], "scheduled", "{job}");
            let waits = job["ready_at"].as_u64().unwrap() - now;
            assert!((delay..delay + 300_000).contains(&waits), "{waits}: {job}");
        };
        is_later(&client.enqueue(&job(json!({"delay_ms": delay}))).await);
        client.enqueue_all([job(json!({"delay_ms": delay}))]).await.iter().for_each(is_later);
        for (queue, verb, body) in [
            ("failed", "failure", json!({"message": "m", "delay_ms": delay})),
            ("released", "release", json!({"delay_ms": delay})),
        ] {
            client.add(queue).await;
            let taken = client.poll_one(queue).await;
            let call = client.post(&format!("/jobs/{}/{verb}", id(&taken)), &body);
            assert!(call.await.status < 300);
            is_later(&client.job(id(&taken)).await);
        }
        client.add("many").await;
        let taken = client.poll_one("many").await;
        let release = json!({"jobs": [{"id": id(&taken), "lease": lease(&taken), "delay_ms": delay}]});
        client.post("/jobs/release", &release).await.expect_nothing();
        is_later(&client.job(id(&taken)).await);
        // No delay is none.
        assert_eq!(client.enqueue(&job(json!({"delay_ms": 0}))).await["status"], "ready");
        for (body, names) in [
            (json!({"delay_ms": 1, "ready_at": MS}), "ready_at"),
            (json!({"delay_ms": -1}), "delay_ms"),
            (json!({"delay_ms": "5s"}), "delay_ms"),
            (json!({"delay_ms": 281_474_976_710_656_u64}), "delay_ms"),
        ] {
            client.post("/jobs", &job(body.clone())).await.expect_refusal(400, names);
            let bulk = json!({"jobs": [job(json!({})), job(body)]});
            client.post("/jobs/bulk", &bulk).await.expect_refusal(400, "jobs[1]: delay_ms");
        }
        let both = json!({"message": "m", "delay_ms": 1, "retry_at": MS});
        client.post(&format!("/jobs/{}/failure", id(&taken)), &both).await.expect_refusal(400, "retry_at");
        let template = json!({"expression": "0 0 1 1 *", "name": "e", "job": job(json!({"delay_ms": 1}))});
        client.post("/crons/g/entries", &template).await.expect_refusal(400, "delay_ms");
        client.poke("/reset").await.expect_nothing();
    }
}

/// A bulk of so many jobs is taken in over several turns, and its body read again after a crash.
#[tokio::test]
async fn the_delays_of_a_large_bulk_count_from_when_it_came() {
    let server = Server::start().await;
    let client = server.client();
    let jobs: Vec<Value> = (0..3_000).map(|_| job(json!({"delay_ms": 3_600_000}))).collect();
    let queued = client.enqueue_all(jobs).await;
    assert_eq!(queued.len(), 3_000);
    assert!(queued.iter().all(|job| job["ready_at"] == queued[0]["ready_at"]), "all at one time");
    assert_eq!(client.count("status=scheduled").await, 3_000);
}
