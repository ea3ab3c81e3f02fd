//! Every call once, in both formats and over both versions of HTTP.

use protocol::frame::StreamFormat;
use protocol::media::Format;
use serde_json::{Value, json};
use tests::{Client, Server, Wire, id, lease};

/// Runs the scenario in each of the four ways to speak, each on a server of its own.
async fn in_every_wire(scenario: impl AsyncFn(Client)) {
    for wire in Wire::ALL {
        eprintln!("as {wire:?}");
        let server = Server::start().await;
        scenario(server.client_as(wire)).await;
    }
}

fn stream_format(client: &Client) -> StreamFormat {
    match client.wire().format {
        Format::Json => StreamFormat::NdJson,
        Format::MessagePack => StreamFormat::MessagePack,
    }
}

/// The names of the members, sorted.
fn members(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_job_is_enqueued_taken_and_done() {
    in_every_wire(async |client| {
        let payload = json!({"to": "ä@b.c", "n": [1, null, true]});
        let queued = client.enqueue(&json!({"queue": "mail", "type": "send", "payload": payload})).await;
        assert_eq!(queued["status"], "ready");

        let mut stream = client.take(stream_format(&client), "queue=mail").await;
        let taken = stream.next_job().await;
        assert_eq!(id(&taken), id(&queued));
        assert_eq!(taken["payload"], payload);
        assert_eq!(client.job(id(&taken)).await["status"], "in_flight");

        client.poke(&format!("/jobs/{}/success", id(&taken))).await.expect_nothing();
        client.get(&format!("/jobs/{}", id(&taken))).await.expect_refusal(404, id(&taken));
    })
    .await;
}

#[tokio::test]
async fn an_enqueued_job_shows_exactly_what_it_has() {
    in_every_wire(async |client| {
        let plain = client.enqueue(&json!({"queue": "q", "type": "t", "payload": 1})).await;
        let always =
            ["attempts", "duplicate", "folded", "id", "priority", "queue", "ready_at", "status", "type"];
        assert_eq!(members(&plain), always);
        assert_eq!((&plain["queue"], &plain["type"]), (&json!("q"), &json!("t")));
        assert_eq!((&plain["priority"], &plain["attempts"]), (&json!(32_768), &json!(0)));
        assert_eq!((&plain["duplicate"], &plain["folded"]), (&json!(false), &json!(false)));
        assert_eq!(id(&plain).len(), 25);
        assert!(id(&plain).bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()));
        assert!(plain["ready_at"].as_u64().unwrap().abs_diff(tests::wait::now_ms()) < 30_000);

        let rich = client
            .enqueue(&json!({
                "queue": "q", "type": "t", "payload": 1, "priority": 7, "retry_limit": 3,
                "backoff": {"base_ms": 100, "exponent": 1.5, "jitter_ms": 10},
                "retention": {"completed_ms": 1000}
            }))
            .await;
        assert_eq!((&rich["priority"], &rich["retry_limit"]), (&json!(7), &json!(3)));
        assert_eq!(rich["backoff"], json!({"base_ms": 100, "exponent": 1.5, "jitter_ms": 10}));
        assert_eq!(rich["retention"], json!({"completed_ms": 1000}));
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_read_shows_its_payload_and_no_null() {
    in_every_wire(async |client| {
        let queued = client.add("q").await;
        let read = client.job(id(&queued)).await;
        assert_eq!(
            members(&read),
            ["attempts", "id", "payload", "priority", "queue", "ready_at", "status", "type"]
        );
        assert_eq!(read["payload"], Value::Null);
        let listed = client.get("/jobs").await.expect(200);
        assert_eq!(listed["jobs"], json!([read]));
    })
    .await;
}

#[tokio::test]
async fn a_delivered_job_carries_its_lease() {
    in_every_wire(async |client| {
        client
            .enqueue_all([
                json!({"queue": "q", "type": "t", "payload": 0}),
                json!({"queue": "q", "type": "t", "payload": 1}),
            ])
            .await;
        let mut stream = client.take(stream_format(&client), "prefetch=1").await;
        let streamed = stream.next_job().await;
        assert_eq!((&streamed["payload"], &streamed["deliveries"]), (&json!(0), &json!(1)));
        assert_eq!((&streamed["status"], &streamed["attempts"]), (&json!("in_flight"), &json!(0)));
        assert!(streamed["dequeued_at"].is_u64() && streamed["lease"].is_string());
        assert_eq!(streamed.get("lease_expires_at"), None, "it lives as long as its stream");

        let polled = client.poll_one("q").await;
        assert_eq!((&polled["payload"], &polled["deliveries"]), (&json!(1), &json!(1)));
        let lease_ms = polled["lease_expires_at"].as_u64().unwrap() - polled["dequeued_at"].as_u64().unwrap();
        assert_eq!(lease_ms, 30_000);
        assert_ne!(lease(&polled), lease(&streamed));
    })
    .await;
}

#[tokio::test]
async fn numbers_keep_every_bit() {
    in_every_wire(async |client| {
        let payload = json!({
            "max": u64::MAX, "min": i64::MIN, "one": 1.0, "tiny": 5e-324, "third": 1.0 / 3.0, "zero": 0
        });
        client.enqueue(&json!({"queue": "q", "type": "t", "payload": payload})).await;
        let job = client.take(stream_format(&client), "queue=q").await.next_job().await;
        assert_eq!(job["payload"], payload);
        assert!(job["payload"]["one"].is_f64(), "1.0 stays a float");
        assert!(job["payload"]["zero"].is_u64(), "0 stays an integer");
    })
    .await;
}

#[tokio::test]
async fn jobs_in_bulk_are_answered_in_order_and_done_in_bulk() {
    in_every_wire(async |client| {
        let request = (0..20).map(|n| json!({"queue": format!("q{}", n % 3), "type": "t", "payload": n}));
        let queued = client.enqueue_all(request).await;
        assert_eq!(queued.len(), 20);
        assert!(queued.iter().enumerate().all(|(n, job)| job["queue"] == format!("q{}", n % 3)));
        assert!(queued.is_sorted_by(|a, b| id(a) < id(b)), "string order is enqueue order");
        assert!(queued.iter().all(|job| job["duplicate"] == false && job.get("payload").is_none()));

        let mut stream = client.take(stream_format(&client), "prefetch=0").await;
        let taken = stream.next_jobs(20).await;
        let ids: Vec<&str> = taken.iter().map(id).collect();
        assert_eq!(ids, queued.iter().map(id).collect::<Vec<_>>());
        client.post("/jobs/success", &json!({"ids": ids})).await.expect_nothing();
        assert_eq!(client.count("").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_bulk_success_names_what_was_not_in_flight() {
    in_every_wire(async |client| {
        let queued =
            client.enqueue_all((0..4).map(|n| json!({"queue": "q", "type": "t", "payload": n}))).await;
        let mut stream = client.take(stream_format(&client), "prefetch=3").await;
        let taken = stream.next_jobs(3).await;
        let body = json!({"ids": [id(&taken[0]), id(&taken[0]), id(&queued[3]), id(&taken[1])]});
        let answer = client.post("/jobs/success", &body).await.expect(422);
        assert_eq!(answer["not_found"], json!([id(&queued[3])]));
        for done in &taken[..2] {
            assert_eq!(client.status(id(done)).await, None);
        }
        let rest = json!({"jobs": [{"id": id(&taken[2]), "lease": lease(&taken[2])}]});
        client.post("/jobs/success", &rest).await.expect_nothing();
        client.post("/jobs/success", &json!({"ids": []})).await.expect_nothing();
    })
    .await;
}

#[tokio::test]
async fn an_empty_bulk_is_fine_and_a_bad_one_leaves_nothing() {
    in_every_wire(async |client| {
        assert_eq!(client.enqueue_all([]).await, [] as [Value; 0]);
        let good = json!({"queue": "q", "type": "t", "payload": 1});
        let body =
            json!({"jobs": [good, {"queue": "q", "type": "t", "payload": 1, "priority": 65_536}, good]});
        let sentence = client.post("/jobs/bulk", &body).await.expect_refusal(400, "priority");
        assert!(sentence.starts_with("jobs[1]: "), "{sentence}");
        assert_eq!(client.count("").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_job_fails_and_its_errors_are_kept() {
    in_every_wire(async |client| {
        client.add("q").await;
        let taken = client.poll_one("q").await;
        let failure = json!({"message": "no such host", "error_type": "dns", "backtrace": "a\nb"});
        let failed = client.fail(&taken, &failure).await;
        assert_eq!((&failed["status"], &failed["attempts"]), (&json!("scheduled"), &json!(1)));
        assert_eq!(failed.get("payload"), None);
        assert_eq!(failed.get("lease"), None);

        let path = format!("/jobs/{}/errors", id(&taken));
        let error = client.get(&format!("{path}/1")).await.expect(200);
        assert_eq!(
            error,
            json!({
                "attempt": 1, "message": "no such host", "error_type": "dns", "backtrace": "a\nb",
                "dequeued_at": taken["dequeued_at"], "failed_at": failed["failed_at"]
            })
        );
        assert_eq!(client.get(&path).await.expect(200)["errors"], json!([error]));
        client.get(&format!("{path}/2")).await.expect_refusal(404, "2");
    })
    .await;
}

#[tokio::test]
async fn a_lease_is_renewed_and_given_back() {
    in_every_wire(async |client| {
        client.add("q").await;
        let taken = client.poll_one("q").await;
        let one = client.post(&format!("/jobs/{}/heartbeat", id(&taken)), &json!({"lease_ms": 60_000}));
        let one = one.header("zizq-lease", lease(&taken)).await.expect(200);
        assert_eq!(members(&one), ["cancel", "id", "lease_expires_at"]);
        assert!(one["lease_expires_at"].as_u64() > taken["lease_expires_at"].as_u64());

        let held = json!({"jobs": [{"id": id(&taken), "lease": lease(&taken)}]});
        let many = client.post("/jobs/heartbeat", &held).await.expect(200);
        assert_eq!(many["jobs"][0]["id"], id(&taken));
        assert_eq!((&many["lost"], &many["cancel"]), (&json!([]), &json!([])));

        client.release(&taken).await;
        let again = client.poll_one("q").await;
        client.post("/jobs/release", &held).await.expect(422);
        let held = json!({"jobs": [{"id": id(&again), "lease": lease(&again)}]});
        client.post("/jobs/release", &held).await.expect_nothing();
        assert_eq!(client.job(id(&again)).await["status"], "ready");
    })
    .await;
}

#[tokio::test]
async fn jobs_are_counted_deleted_and_reset() {
    in_every_wire(async |client| {
        let first = client.add("b").await;
        client.add("a").await;
        assert_eq!(client.count("").await, 2);
        assert_eq!(client.get("/queues").await.expect(200), json!({"queues": ["a", "b"]}));

        client.delete(&format!("/jobs/{}", id(&first))).await.expect_nothing();
        client.delete(&format!("/jobs/{}", id(&first))).await.expect_refusal(404, id(&first));
        assert_eq!(client.get("/queues").await.expect(200), json!({"queues": ["a"]}));

        client.poke("/reset").await.expect_nothing();
        assert_eq!(client.count("").await, 0);
        assert_eq!(client.get("/queues").await.expect(200), json!({"queues": []}));
    })
    .await;
}

#[tokio::test]
async fn health_and_version() {
    in_every_wire(async |client| {
        assert_eq!(client.get("/health").await.expect(200), json!({"status": "ok"}));
        let version = client.get("/version").await.expect(200);
        assert_eq!(members(&version), ["server", "version"]);
        assert_eq!(version["version"], "0.7.0");
        assert!(version["server"].as_str().unwrap().starts_with("zizq-server/"));
    })
    .await;
}
