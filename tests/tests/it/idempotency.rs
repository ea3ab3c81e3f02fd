//! `Idempotency-Key`: a call whose answer was lost is sent again, and makes nothing twice.

use http::Method;
use serde_json::{Value, json};
use tests::client::Call;
use tests::{Answer, Client, Server, Wire, id};
use tokio::task::JoinSet;

const HEADER: &str = "idempotency-key";

fn job(payload: u32) -> Value {
    json!({"queue": "q", "type": "t", "payload": payload})
}

/// Calls that bring jobs, and how many each.
fn calls(client: &Client) -> Vec<(Call<'_>, u64)> {
    let batch = json!({"key": "k", "when": "true", "fold": "$existing + $new"});
    let mut batched = job(4);
    batched["batch"] = batch;
    let large: Vec<Value> = (0..5_000).map(|n| job(n + 10)).collect();
    vec![
        (client.post("/jobs", &job(1)), 1),
        (client.post("/jobs?wait_ms=1", &job(2)), 1),
        (client.post("/jobs/bulk", &json!({"jobs": [job(3), job(3)]})), 2),
        (client.post("/jobs/bulk", &json!({"jobs": []})), 0),
        (client.post("/jobs", &batched), 1),
        (client.post("/jobs/bulk", &json!({"jobs": large})), 5_000),
        (client.poke("/crons/g/entries/e/run"), 1),
    ]
}

async fn with_a_cron_entry(client: &Client) {
    let entry = json!({"name": "e", "expression": "0 0 1 1 *", "job": job(5)});
    client.call(Method::PUT, "/crons/g").value(&json!({"entries": [entry]})).await.expect(200);
}

fn same(first: &Answer, second: &Answer) {
    assert_eq!(first.status, second.status, "{}", first.request);
    assert_eq!(first.value(), second.value(), "{}", first.request);
}

#[tokio::test]
async fn a_call_that_is_sent_again_with_its_key_is_answered_as_the_first_time_also_after_a_restart() {
    for wire in Wire::ALL {
        let mut server = Server::start().await;
        let client = server.client_as(wire);
        with_a_cron_entry(&client).await;
        let mut firsts = Vec::new();
        for (n, (call, jobs)) in calls(&client).into_iter().enumerate() {
            let before = client.count("").await;
            let call = call.header(HEADER, &format!("\"call {n}\""));
            let first = call.clone().await;
            assert_eq!(first.status, 201, "{}: {:?}", first.request, first.body);
            same(&first, &call.await);
            assert_eq!(client.count("").await, before + jobs, "{}", first.request);
            firsts.push(first);
        }
        let before = client.count("").await;
        server.kill9().await;
        server.restart().await;
        let client = server.client_as(wire);
        // The quotes of the draft make no difference.
        for ((n, (call, _)), first) in calls(&client).into_iter().enumerate().zip(&firsts) {
            same(first, &call.header(HEADER, &format!("call {n}")).await);
        }
        assert_eq!(client.count("").await, before);
        // Without the key it is another call.
        client.enqueue(&job(1)).await;
        assert_eq!(client.count("").await, before + 1);
    }
}

#[tokio::test]
async fn a_key_that_is_used_for_another_request_is_refused() {
    let server = Server::start().await;
    let client = server.client();
    with_a_cron_entry(&client).await;
    client.post("/jobs", &job(1)).header(HEADER, "k").await.expect(201);
    for call in [
        client.post("/jobs", &job(2)),
        client.post("/jobs/bulk", &json!({"jobs": [job(1)]})),
        client.poke("/crons/g/entries/e/run"),
    ] {
        call.header(HEADER, "k").await.expect_refusal(422, "Idempotency-Key: `k`");
    }
    for (key, expected) in [("", "0 bytes"), ("\"\"", "0 bytes"), (&"k".repeat(256), "256 bytes")] {
        client.post("/jobs", &job(1)).header(HEADER, key).await.expect_refusal(400, expected);
    }
    client.post("/jobs", &job(3)).header(HEADER, &"k".repeat(255)).await.expect(201);
    assert_eq!(client.count("").await, 2);
}

#[tokio::test]
async fn a_call_that_was_refused_can_be_sent_again_with_its_key() {
    let server = Server::start().await;
    let client = server.client();
    let mut bound = job(1);
    bound["budgets"] = json!([{"key": "b"}]);
    let call = || client.post("/jobs", &bound).header(HEADER, "k");
    call().await.expect_refusal(422, "`b`");
    let policy = json!({"allocation": 5, "strategy": {"type": "while_in_flight"}});
    client.post("/budgets/b", &policy).await.expect(201);
    let first = call().await.expect(201);
    assert_eq!(call().await.expect(201), first);
}

#[tokio::test]
async fn of_many_that_are_sent_at_once_one_is_carried_out_and_all_hear_of_it() {
    let server = Server::start().await;
    let client = server.client();
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let client = client.clone();
        calls.spawn(async move { client.post("/jobs", &job(1)).header(HEADER, "k").await });
    }
    let answers = calls.join_all().await;
    let call = || client.post("/jobs", &job(1)).header(HEADER, "k");
    let first = id(&answers[0].value()).to_owned();
    for answer in answers {
        assert_eq!(id(&answer.expect(201)), first);
    }
    assert_eq!(client.count("").await, 1);
    // What becomes of the job changes nothing.
    let taken = client.poll_one("q").await;
    client.succeed(&taken).await;
    client.delete("/jobs").await.expect(200);
    let again = call().await.expect(201);
    assert_eq!((id(&again), &again["status"]), (&first[..], &json!("ready")));
    client.poke("/reset").await.expect_nothing();
    assert_ne!(id(&call().await.expect(201)), first, "a reset forgets everything");
}

#[tokio::test]
async fn a_waiting_call_that_is_retried_with_its_key_continues_to_wait() {
    let server = Server::start().await;
    let client = server.client();
    let mut kept = job(1);
    kept["retention"] = json!({"completed_ms": 600_000});
    let call = |ms: u32| client.post(&format!("/jobs?wait_ms={ms}"), &kept).header(HEADER, "k");
    let first = call(1).await.expect(201);
    assert_eq!(first["status"], "ready");
    let (again, ()) = tokio::join!(call(30_000).into_future(), async {
        let taken = client.poll_one("q").await;
        client.succeed(&taken).await;
    });
    let again = again.expect(201);
    assert_eq!((id(&again), &again["status"]), (id(&first), &json!("completed")));
}
