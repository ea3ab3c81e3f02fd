//! Changing one job: merge patch, retry, deletion.

use protocol::media::Format;
use serde_json::{Value, json};
use tests::{Client, Item, Server, Wire, id};

/// A time that does not come.
const NEVER: u64 = 253_402_300_799_999;

fn path(job: &Value) -> String {
    format!("/jobs/{}", id(job))
}

async fn patch(client: &Client, job: &Value, patch: &Value) -> Value {
    let patched = client.patch(&path(job), patch).await.expect(200);
    assert_eq!(patched.get("payload"), None);
    let mut shown = client.job(id(job)).await;
    // What is known of the worker of a job in flight is shown, but is not part of the job.
    for member in ["payload", "remote", "lease_expires_at", "deliveries"] {
        shown.as_object_mut().unwrap().remove(member);
    }
    assert_eq!(patched, shown, "the answer to {patch} is the job");
    patched
}

async fn in_status(client: &Client, status: &str) -> Value {
    let retention = json!({"completed_ms": 600_000});
    let queued =
        client.enqueue(&json!({"queue": status, "type": "t", "payload": 1, "retention": retention})).await;
    if status == "ready" {
        return queued;
    }
    let taken = client.poll_one(status).await;
    match status {
        "in_flight" => {}
        "completed" => client.succeed(&taken).await,
        "dead" => drop(client.fail(&taken, &json!({"message": "m", "kill": true})).await),
        "scheduled" => drop(client.fail(&taken, &json!({"message": "m", "retry_at": NEVER})).await),
        other => panic!("{other}"),
    }
    taken
}

#[tokio::test]
async fn every_field_can_be_set_and_reset() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let job = client.add("q").await;
        let backoff = json!({"base_ms": 5, "exponent": 1.5, "jitter_ms": 7});
        let all = json!({
            "priority": 7.0, "retry_limit": 3, "backoff": backoff, "ready_at": NEVER,
            "retention": {"completed_ms": 1, "dead_ms": 2}
        });
        let patched = patch(&client, &job, &all).await;
        for member in ["priority", "retry_limit", "backoff", "ready_at", "retention"] {
            assert_eq!(
                patched[member].as_f64().map_or_else(|| patched[member].clone(), Value::from),
                all[member].as_f64().map_or_else(|| all[member].clone(), Value::from),
                "{member}"
            );
        }
        assert_eq!((&patched["status"], &patched["queue"]), (&json!("scheduled"), &json!("q")));
        let merged = patch(&client, &job, &json!({"retention": {"completed_ms": null}})).await;
        assert_eq!(merged["retention"], json!({"dead_ms": 2}));
        let reset = patch(
            &client,
            &job,
            &json!({"retry_limit": null, "backoff": null, "retention": null, "ready_at": null}),
        )
        .await;
        for member in ["retry_limit", "backoff", "retention"] {
            assert_eq!(reset.get(member), None, "{member}");
        }
        assert_eq!(reset["status"], "ready");
        assert_eq!(patch(&client, &job, &json!({})).await, reset);
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_job_that_was_moved_is_found_by_its_id_and_comes_in_its_new_order() {
    let mut server = Server::start().await;
    let client = server.client();
    let jobs = client.enqueue_all((0..4).map(|n| json!({"queue": "a", "type": "t", "payload": n}))).await;
    patch(&client, &jobs[3], &json!({"queue": "b", "priority": 9})).await;
    patch(&client, &jobs[2], &json!({"priority": 1})).await;
    patch(&client, &jobs[0], &json!({"queue": "b", "priority": 9})).await;
    let later = patch(&client, &jobs[1], &json!({"queue": "c", "ready_at": NEVER})).await;
    assert_eq!(later["status"], "scheduled");
    server.kill9().await;
    server.restart().await;
    let client = server.client();
    for (job, queue) in jobs.iter().zip(["b", "c", "a", "b"]) {
        assert_eq!(client.job(id(job)).await["queue"], queue);
        assert_eq!(client.count(&format!("queue={queue}&id={}", id(job))).await, 1);
    }
    patch(&client, &jobs[1], &json!({"ready_at": null, "queue": "b", "priority": 9})).await;
    let taken = client.poll(&json!({"queues": ["b"], "limit": 9})).await;
    assert!(taken.iter().map(id).eq([0, 1, 3].map(|n| id(&jobs[n]))), "by age: {taken:?}");
    for job in &taken {
        client.succeed(job).await;
    }
    assert_eq!(client.status(id(&jobs[0])).await, None);
    client.delete(&path(&jobs[2])).await.expect_nothing();
    assert_eq!(client.count("").await, 0);
}

#[tokio::test]
async fn a_waiting_worker_gets_what_is_moved_to_its_queue_or_made_ready() {
    let server = Server::start().await;
    let client = server.client();
    let mut stream = client.lines("queue=b&prefetch=0").await;
    let ready = client.add("a").await;
    client.patch(&path(&ready), &json!({"queue": "b"})).await.expect(200);
    assert_eq!(id(&stream.next_job().await), id(&ready));
    let later = client.enqueue(&json!({"queue": "b", "type": "t", "payload": 1, "ready_at": NEVER})).await;
    client.patch(&path(&later), &json!({"ready_at": null})).await.expect(200);
    assert_eq!(id(&stream.next_job().await), id(&later));
}

#[tokio::test]
async fn a_job_in_flight_stays_there_and_comes_back_to_its_new_place() {
    let mut server = Server::start().await;
    let client = server.client();
    let job = client.add("a").await;
    let taken = client.poll(&json!({"queues": ["a"], "lease_ms": 600_000})).await;
    let patched = patch(&client, &job, &json!({"queue": "b", "priority": 3, "retry_limit": 0})).await;
    assert_eq!((&patched["status"], &patched["queue"]), (&json!("in_flight"), &json!("b")));
    assert_eq!((client.count("queue=b&status=in_flight").await, client.count("queue=a").await), (1, 0));
    server.kill9().await;
    server.restart().await;
    let client = server.client();
    assert_eq!(client.status(id(&job)).await.as_deref(), Some("in_flight"), "a lease as young as this, too");
    client.release(&taken[0]).await;
    let again = client.poll_one("b").await;
    assert_eq!((id(&again), &again["priority"]), (id(&job), &json!(3)));
    client.patch(&path(&job), &json!({"ready_at": NEVER})).await.expect(200);
    client.release(&again).await;
    assert_eq!(client.status(id(&job)).await.as_deref(), Some("scheduled"));
    client.patch(&path(&job), &json!({"ready_at": null})).await.expect(200);
    let last = client.poll_one("b").await;
    assert_eq!(client.fail(&last, &json!({"message": "m"})).await["status"], "dead", "by the new limit");
}

#[tokio::test]
async fn a_patch_is_refused_by_shape_then_value_then_job_then_status() {
    let server = Server::start().await;
    for format in [Format::Json, Format::MessagePack] {
        let client = server.client_as(Wire { format, ..Wire::default() });
        let job = client.add("q").await;
        for (bad, status, names) in [
            (json!({"queue": 7}), 400, "queue"),
            (json!({"priority": "high"}), 400, "priority"),
            (json!({"priority": 1.5}), 400, "priority"),
            (json!({"retention": 5}), 400, "retention"),
            (json!({"backoff": {"base_ms": 5}}), 400, "backoff"),
            (json!([]), 400, "object"),
            (json!({"queue": null}), 422, "queue"),
            (json!({"priority": null}), 422, "priority"),
            (json!({"queue": "a,b"}), 422, "queue"),
            (json!({"queue": ""}), 422, "queue"),
            (json!({"priority": 65_536}), 422, "priority"),
            (json!({"retry_limit": -1}), 422, "retry_limit"),
            (json!({"ready_at": -1}), 422, "ready_at"),
            (json!({"retention": {"dead_ms": -1}}), 422, "retention.dead_ms"),
        ] {
            client.patch(&path(&job), &bad).await.expect_refusal(status, names);
            client.patch("/jobs/0000000000000000000000000", &bad).await.expect_refusal(status, names);
            client.patch("/jobs", &bad).await.expect_refusal(status, names);
        }
        let good = json!({"priority": 1});
        client.patch("/jobs/0000000000000000000000000", &good).await.expect_refusal(404, "0000");
        client.patch("/jobs/nonsense", &good).await.expect_refusal(404, "nonsense");
        client.patch(&format!("{}?x=1", path(&job)), &good).await.expect_refusal(400, "x");
        assert_eq!(client.job(id(&job)).await["priority"], 32_768);
    }
    let client = server.client();
    for status in ["completed", "dead"] {
        let job = in_status(&client, status).await;
        client.patch(&path(&job), &json!({"priority": 1})).await.expect_refusal(422, status);
    }
}

#[tokio::test]
async fn retry_makes_jobs_ready_that_are_not() {
    let server = Server::start().await;
    for wire in [Wire::ALL[0], Wire::ALL[3]] {
        let client = server.client_as(wire);
        for status in ["dead", "completed", "scheduled"] {
            let job = in_status(&client, status).await;
            let mut stream = client.lines(&format!("queue={status}")).await;
            let retried = client.poke(&format!("{}/retry", path(&job))).await.expect(200);
            assert_eq!((&retried["status"], retried.get("payload")), (&json!("ready"), None), "{status}");
            assert_eq!((retried.get("completed_at"), retried.get("purge_at")), (None, None), "{status}");
            let again = stream.next_job().await;
            let attempts = u64::from(status != "completed");
            assert_eq!((id(&again), again["attempts"].as_u64()), (id(&job), Some(attempts)));
            let errors = client.get(&format!("{}/errors", path(&job))).await.expect(200);
            assert_eq!(errors["errors"].as_array().unwrap().len() as u64, attempts);
            client.succeed(&again).await;
        }
        let dead = in_status(&client, "dead").await;
        let anew = client.post(&format!("{}/retry", path(&dead)), &json!({"reset_attempts": true}));
        assert_eq!(anew.await.expect(200)["attempts"], 0);
        let errors = client.get(&format!("{}/errors", path(&dead))).await.expect(200);
        assert_eq!(errors["errors"], json!([]));
        for status in ["ready", "in_flight"] {
            let job = in_status(&client, status).await;
            client.poke(&format!("{}/retry", path(&job))).await.expect_refusal(422, status);
        }
        client.poke("/jobs/0000000000000000000000000/retry").await.expect_refusal(404, "0000");
        client
            .post(&format!("{}/retry", path(&dead)), &json!({"reset_attempts": 1}))
            .await
            .expect_refusal(400, "reset");
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_job_that_was_delivered_too_often_can_be_retried() {
    let server = Server::with(["--max-deliveries", "1"]).await;
    let client = server.client();
    let job = client.add("q").await;
    let mut stream = client.lines("").await;
    stream.next_job().await;
    drop(stream);
    tests::wait::until("its death", async || {
        (client.status(id(&job)).await.as_deref() == Some("dead")).then_some(())
    })
    .await;
    client.poke(&format!("{}/retry", path(&job))).await.expect(200);
    let again = client.poll_one("q").await;
    client.succeed(&again).await;
    assert_eq!(client.status(id(&job)).await, None);
}

#[tokio::test]
async fn deleting_a_job_in_flight_cancels_it() {
    let server = Server::start().await;
    let client = server.client();
    let job = client.add("q").await;
    let mut stream = client.events("").await;
    let taken = stream.next_job().await;
    client.delete(&path(&job)).await.expect_nothing();
    let cancel = stream.next_message().await;
    assert_eq!(cancel, Some(Item::Cancel(json!({"id": id(&job), "reason": "deleted"}))));
    let late = client.poke(&format!("{}/success", path(&job)));
    late.header("zizq-lease", tests::lease(&taken)).await.expect_refusal(404, id(&job));
    client.poke(&format!("{}/heartbeat", path(&job))).await.expect_refusal(404, id(&job));
    assert_eq!(client.status(id(&job)).await, None);
    // Its credit is free again.
    let next = client.add("q").await;
    assert_eq!(id(&stream.next_job().await), id(&next));
}
