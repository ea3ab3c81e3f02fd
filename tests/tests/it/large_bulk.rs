//! Bulks that are too large for one turn of the engine.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tests::wait::until;
use tests::{Client, Server, Wire, id};

const JOBS: u64 = 8_000;

fn bulk(jobs: u64) -> Value {
    let job = |n| json!({"queue": "q", "type": "t", "payload": n, "priority": n % 3});
    json!({"jobs": (0..jobs).map(job).collect::<Vec<_>>()})
}

/// Works everything off, and gives back the payloads.
async fn drain(client: &Client) -> Vec<u64> {
    let mut payloads = Vec::new();
    loop {
        let jobs = client.poll(&json!({"limit": 1_000})).await;
        if jobs.is_empty() {
            return payloads;
        }
        payloads.extend(jobs.iter().map(|job| job["payload"].as_u64().unwrap()));
        let ids: Vec<&str> = jobs.iter().map(id).collect();
        client.post("/jobs/success", &json!({"ids": ids})).await.expect_nothing();
    }
}

#[tokio::test]
async fn a_large_bulk_is_answered_like_any_other() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let answer = client.post("/jobs/bulk", &bulk(3_000)).await.expect(201);
        let jobs = answer["jobs"].as_array().unwrap();
        assert_eq!(jobs.len(), 3_000);
        assert!(jobs.is_sorted_by_key(|job| id(job).to_owned()));
        assert!(jobs.iter().zip(0..).all(|(job, n)| job["priority"] == n % 3 && job["status"] == "ready"));
        assert_eq!(client.count("status=ready").await, 3_000);
        let by_priority: Vec<u64> =
            (0..3).flat_map(|rest| (0..3_000).filter(move |n| n % 3 == rest)).collect();
        assert_eq!(drain(&client).await, by_priority);
    }
}

#[tokio::test]
async fn a_large_bulk_with_one_bad_job_or_budget_leaves_nothing() {
    let server = Server::start().await;
    let client = server.client();
    let mut bad = bulk(3_000);
    bad["jobs"][2_321]["queue"] = json!("");
    client.post("/jobs/bulk", &bad).await.expect_refusal(400, "jobs[2321]: queue");
    let mut unknown = bulk(3_000);
    unknown["jobs"][2_321]["budgets"] = json!([{"key": "nobody"}]);
    unknown["jobs"][2_322]["budgets"] = json!([{"key": "new", "create_with":
        {"allocation": 1, "strategy": {"type": "while_in_flight"}}}]);
    client.post("/jobs/bulk", &unknown).await.expect_refusal(422, "jobs[2321]: budgets[0]: no budget");
    assert_eq!(client.get("/budgets").await.expect(200)["budgets"], json!([]));
    assert_eq!(client.count("").await, 0);
}

#[tokio::test]
async fn in_a_large_bulk_duplicates_resolve_in_order() {
    let server = Server::start().await;
    let client = server.client();
    let job =
        |n: u64| json!({"queue": "q", "type": "t", "payload": n, "unique_key": format!("k{}", n % 2_000)});
    let jobs: Vec<Value> = (0..3_000).map(job).collect();
    let answer = client.post("/jobs/bulk", &json!({ "jobs": jobs })).await.expect(201);
    let jobs = answer["jobs"].as_array().unwrap();
    let same = |n: usize| id(&jobs[n]) == id(&jobs[n % 2_000]) && jobs[n]["duplicate"] == json!(n >= 2_000);
    assert!((0..3_000).all(same));
    assert_eq!(client.count("").await, 2_000);
}

/// Others get their answers and their jobs while it is taken in, and it comes to its end though nobody waits for it.
#[tokio::test]
async fn others_go_on_while_a_large_bulk_is_taken_in() {
    let server = Server::start().await;
    let client = server.client();
    let mut stream = client.lines("queue=other").await;
    let asked = tokio::spawn({
        let client = client.clone();
        async move { client.post("/jobs/bulk", &bulk(JOBS)).try_response().await }
    });
    until("the first of them", async || (client.count("queue=q").await > 0).then_some(())).await;
    let between = client.add("other").await;
    let taken = stream.next_job().await;
    assert_eq!(id(&taken), id(&between));
    client.succeed(&taken).await;
    asked.abort();
    until("the last of them", async || (client.count("queue=q").await == JOBS).then_some(())).await;
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_large_bulk_leaves_nothing_of_it() {
    let server = Server::start().await;
    let client = server.client();
    let asked = tokio::spawn({
        let client = client.clone();
        async move { client.post("/jobs/bulk", &bulk(JOBS)).await }
    });
    until("the first of them", async || (client.count("").await > 0).then_some(())).await;
    client.poke("/reset").await.expect_nothing();
    let answer = asked.await.unwrap();
    // The last of them may have come before.
    if answer.status != 201 {
        answer.expect_refusal(409, "deleted");
    }
    assert_eq!(client.count("").await, 0);
}

#[tokio::test]
async fn a_large_bulk_that_a_crash_interrupts_comes_whole_or_not_at_all() {
    let mut server = Server::start().await;
    let mut came = BTreeSet::new();
    for round in 0..8 {
        let client = server.client();
        let asked = tokio::spawn({
            let client = client.clone();
            async move { client.post("/jobs/bulk", &bulk(JOBS)).try_response().await.is_ok() }
        });
        if round % 2 == 1 {
            until("the first of them", async || (client.count("").await > 0).then_some(())).await;
        } else {
            tokio::time::sleep(Duration::from_millis(round * 20)).await;
        }
        server.kill9().await;
        let answered = asked.await.unwrap();
        server.restart().await;
        let client = server.client();
        let there = client.count("").await > 0;
        assert!(there || !answered && round % 2 == 0, "lost in round {round}");
        if there {
            until("all of them", async || (client.count("").await == JOBS).then_some(())).await;
        }
        came.insert(there);
        if round < 7 {
            client.poke("/reset").await.expect_nothing();
        } else if there {
            let mut payloads = drain(&client).await;
            payloads.sort_unstable();
            assert!(payloads.into_iter().eq(0..JOBS), "each of them once");
        }
    }
    assert!(came.contains(&true));
}
