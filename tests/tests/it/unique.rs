//! Unique keys: of several jobs with one key, the later ones are not created.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::wait::until;
use tests::{Client, Server, Wire, id};

fn keyed(key: &str, scope: Option<&str>) -> Value {
    let mut job = json!({"queue": "q", "type": "t", "payload": 1, "unique_key": key});
    if let Some(scope) = scope {
        job["unique_while"] = json!(scope);
    }
    job
}

/// Enqueues, and expects a new job.
async fn created(client: &Client, job: &Value) -> Value {
    let answer = client.post("/jobs", job).await.expect(201);
    assert_eq!((&answer["duplicate"], &answer["folded"]), (&json!(false), &json!(false)), "{answer}");
    answer
}

/// Enqueues, and expects to be shown the job that is there, with this status.
async fn duplicate(client: &Client, job: &Value, of: &Value, status: &str) {
    let answer = client.post("/jobs", job).await.expect(200);
    assert_eq!((id(&answer), &answer["status"]), (id(of), &json!(status)), "{answer}");
    assert_eq!((&answer["duplicate"], &answer["folded"]), (&json!(true), &json!(false)), "{answer}");
    assert_eq!(answer.get("payload"), None);
}

#[tokio::test]
async fn a_queued_job_keeps_others_with_its_key_out() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let first = created(&client, &keyed("k", None)).await;
        assert_eq!((&first["unique_key"], &first["unique_while"]), (&json!("k"), &json!("queued")));
        for scope in [None, Some("queued"), Some("active"), Some("exists")] {
            duplicate(&client, &keyed("k", scope), &first, "ready").await;
        }
        // The key is one for all queues and types, and nothing of the new request is taken over.
        let mut other = keyed("k", None);
        (other["queue"], other["type"], other["payload"]) = (json!("elsewhere"), json!("u"), json!(2));
        duplicate(&client, &other, &first, "ready").await;
        assert_eq!(client.job(id(&first)).await["payload"], 1);
        created(&client, &keyed("another", None)).await;
        assert_eq!(client.count("").await, 2);
        client.poke("/reset").await.expect_nothing();
        created(&client, &keyed("k", None)).await;
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn the_scope_of_the_new_request_decides() {
    let server = Server::with(["--default-completed-job-retention", "1h"]).await;
    let client = server.client();
    let mut first = keyed("k", None);
    first["ready_at"] = json!(4_000_000_000_000_u64);
    let scheduled = created(&client, &first).await;
    duplicate(&client, &keyed("k", None), &scheduled, "scheduled").await;
    client.delete(&format!("/jobs/{}", id(&scheduled))).await.expect_nothing();

    let first = created(&client, &keyed("k", Some("exists"))).await;
    let taken = client.poll_one("q").await;
    duplicate(&client, &keyed("k", Some("active")), &first, "in_flight").await;
    duplicate(&client, &keyed("k", Some("exists")), &first, "in_flight").await;
    let second = created(&client, &keyed("k", Some("queued"))).await;
    duplicate(&client, &keyed("k", Some("exists")), &second, "ready").await;
    client.delete(&format!("/jobs/{}", id(&second))).await.expect_nothing();
    // The older one still has the key.
    duplicate(&client, &keyed("k", Some("active")), &first, "in_flight").await;
    client.succeed(&taken).await;
    duplicate(&client, &keyed("k", Some("exists")), &first, "completed").await;
    let third = created(&client, &keyed("k", Some("active"))).await;
    duplicate(&client, &keyed("k", Some("queued")), &third, "ready").await;
}

#[tokio::test]
async fn a_key_follows_its_job_through_every_transition() {
    let server = Server::start().await;
    let client = server.client();
    let first = created(&client, &keyed("k", None)).await;
    // Given back: by release, by the end of the stream, by the end of the lease, by a failure.
    let taken = client.poll_one("q").await;
    client.release(&taken).await;
    duplicate(&client, &keyed("k", None), &first, "ready").await;
    let mut stream = client.lines("queue=q").await;
    stream.next_job().await;
    drop(stream);
    until("the job to come back", async || {
        (client.status(id(&first)).await.as_deref() == Some("ready")).then_some(())
    })
    .await;
    duplicate(&client, &keyed("k", None), &first, "ready").await;
    client.poll(&json!({"queues": ["q"], "lease_ms": 1_000})).await;
    until("the lease to expire", async || {
        (client.status(id(&first)).await.as_deref() == Some("ready")).then_some(())
    })
    .await;
    duplicate(&client, &keyed("k", None), &first, "ready").await;
    let taken = client.poll_one("q").await;
    client.fail(&taken, &json!({"message": "m", "retry_at": 4_000_000_000_000_u64})).await;
    duplicate(&client, &keyed("k", None), &first, "scheduled").await;
    client.delete(&format!("/jobs/{}", id(&first))).await.expect_nothing();

    // Dead, and purged.
    let mut job = keyed("k", None);
    job["retention"] = json!({"dead_ms": 2_000});
    let second = created(&client, &job).await;
    let taken = client.poll_one("q").await;
    client.fail(&taken, &json!({"message": "m", "kill": true})).await;
    duplicate(&client, &keyed("k", Some("exists")), &second, "dead").await;
    until("the dead job to be purged", async || client.status(id(&second)).await.is_none().then_some(()))
        .await;
    let third = created(&client, &keyed("k", Some("exists"))).await;
    // Completed, and not retained.
    let taken = client.poll_one("q").await;
    assert_eq!(id(&taken), id(&third));
    client.succeed(&taken).await;
    created(&client, &keyed("k", Some("exists"))).await;
}

#[tokio::test]
async fn keys_survive_a_crash_and_a_restart() {
    let mut server = Server::with(["--default-completed-job-retention", "1h"]).await;
    let client = server.client();
    let jobs: Vec<Value> = (0..500).map(|n| keyed(&format!("k{n}"), None)).collect();
    let first = client.enqueue_all(jobs.clone()).await;
    let done = client.poll_one("q").await;
    client.succeed(&done).await;
    let running = client.poll_one("q").await;
    // A lease that is a second old survives; the job stays in flight.
    client.let_pass(1_500).await;
    for clean in [false, true] {
        if clean {
            server.sigterm().await;
        } else {
            server.kill9().await
        }
        server.restart().await;
        duplicate(&client, &keyed("k0", Some("exists")), &done, "completed").await;
        duplicate(&client, &keyed("k1", Some("active")), &running, "in_flight").await;
        let again = client.post("/jobs/bulk", &json!({"jobs": jobs[2..]})).await.expect(200);
        let again: Vec<&str> = again["jobs"].as_array().unwrap().iter().map(id).collect();
        assert_eq!(again, first[2..].iter().map(id).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn duplicates_inside_one_bulk_request_resolve_in_order() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let jobs = [
            keyed("a", None),
            keyed("b", None),
            keyed("a", Some("exists")),
            json!({"queue": "q",
            "type": "t", "payload": 1}),
            keyed("b", None),
        ];
        let answer = client.post("/jobs/bulk", &json!({"jobs": jobs})).await.expect(201);
        let flags: Vec<&Value> = (0..5).map(|i| &answer["jobs"][i]["duplicate"]).collect();
        assert_eq!(flags, [false, false, true, false, true]);
        assert_eq!(answer["jobs"][2]["id"], answer["jobs"][0]["id"]);
        assert_eq!(answer["jobs"][4]["id"], answer["jobs"][1]["id"]);
        let all = client.post("/jobs/bulk", &json!({"jobs": [keyed("a", None), keyed("b", None)]})).await;
        all.expect(200);
        assert_eq!(client.count("").await, 3);
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn of_many_producers_with_one_key_one_creates_the_job() {
    let server = Server::start().await;
    let client = server.client();
    for round in 0..20 {
        let key = format!("round {round}");
        let producers = (0..64).map(|n| {
            let (client, mut job) = (client.clone(), keyed(&key, Some("exists")));
            job["payload"] = json!(n);
            tokio::spawn(async move {
                let answer = client.post("/jobs", &job).await;
                (answer.status, id(&answer.value()).to_owned())
            })
        });
        let mut answers = Vec::new();
        for producer in producers.collect::<Vec<_>>() {
            answers.push(producer.await.unwrap());
        }
        let ids: BTreeSet<&String> = answers.iter().map(|(_, id)| id).collect();
        assert_eq!((ids.len(), answers.iter().filter(|(status, _)| *status == 201).count()), (1, 1));
    }
    assert_eq!(client.count("").await, 20);
}
