//! Budgets: how many jobs run at a time, and how often.

mod bindings;
mod limits;

use http::Method;
use serde_json::{Value, json};
use tests::{Client, Server, Wire, id};

fn in_flight(allocation: u32) -> Value {
    json!({"allocation": allocation, "strategy": {"type": "while_in_flight"}})
}

fn over_time(allocation: u32, duration_ms: u64, burst: Option<u32>) -> Value {
    let mut strategy = json!({"type": "time_based", "duration_ms": duration_ms});
    if let Some(burst) = burst {
        strategy["burst"] = json!(burst);
    }
    json!({"allocation": allocation, "strategy": strategy})
}

fn job(queue: &str, budgets: &Value) -> Value {
    json!({"queue": queue, "type": "t", "payload": null, "budgets": budgets})
}

async fn create(client: &Client, key: &str, policy: &Value) -> Value {
    client.post(&format!("/budgets/{key}"), policy).await.expect(201)
}

async fn call(client: &Client, method: Method, path: &str, body: &Value) -> tests::Answer {
    client.call(method, path).value(body).await
}

/// Everything that can be had at the moment.
async fn take_all(client: &Client, queue: &str) -> Vec<Value> {
    client.poll(&json!({"queues": [queue], "limit": 1_000})).await
}

fn ids(jobs: &[Value]) -> Vec<&str> {
    jobs.iter().map(id).collect()
}

#[tokio::test]
async fn budgets_are_created_changed_and_deleted() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        assert_eq!(client.get("/budgets").await.expect(200), json!({"budgets": []}));
        client.get("/budgets/mails").await.expect_refusal(404, "mails");
        let made = create(&client, "mails", &over_time(10, 1_000, None)).await;
        assert_eq!((&made["key"], &made["allocation"]), (&json!("mails"), &json!(10)));
        assert_eq!(made["strategy"], json!({"type": "time_based", "duration_ms": 1_000}));
        assert!(made["created_at"].as_u64().is_some() && made["created_at"] == made["updated_at"]);
        client.post("/budgets/mails", &in_flight(1)).await.expect_refusal(409, "mails");
        assert_eq!(client.get("/budgets/mails").await.expect(200), made);

        let put =
            call(&client, Method::PUT, "/budgets/mails", &over_time(20, 500, Some(5))).await.expect(200);
        assert_eq!(put["strategy"], json!({"type": "time_based", "duration_ms": 500, "burst": 5}));
        assert_eq!((&put["allocation"], &put["created_at"]), (&json!(20), &made["created_at"]));
        let patch = async |body: Value| call(&client, Method::PATCH, "/budgets/mails", &body).await;
        let patched = patch(json!({"strategy": {"burst": null}})).await.expect(200);
        assert_eq!(patched["strategy"], json!({"type": "time_based", "duration_ms": 500}));
        let patched =
            patch(json!({"allocation": 7, "strategy": {"type": "while_in_flight"}})).await.expect(200);
        assert_eq!(
            (&patched["allocation"], &patched["strategy"]["type"]),
            (&json!(7), &json!("while_in_flight"))
        );
        patch(json!({"strategy": {"burst": 3}})).await.expect_refusal(422, "strategy.burst");
        patch(json!({"allocation": 0})).await.expect_refusal(422, "allocation");
        patch(json!({"allocation": "many"})).await.expect_refusal(400, "allocation");

        call(&client, Method::PUT, "/budgets/a%2Fb", &in_flight(1)).await.expect(200);
        let keys = client.get("/budgets").await.expect(200);
        let keys: Vec<&Value> = keys["budgets"].as_array().unwrap().iter().map(|b| &b["key"]).collect();
        assert_eq!(keys, ["a/b", "mails"]);
        client.delete("/budgets/a%2Fb").await.expect_nothing();
        client.delete("/budgets/a%2Fb").await.expect_refusal(404, "a/b");
        call(&client, Method::PATCH, "/budgets/a%2Fb", &json!({})).await.expect_refusal(404, "a/b");
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_a_sentence() {
    let server = Server::with(["--max-budgets", "2"]).await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        for (body, status, names) in [
            (json!({}), 400, "allocation"),
            (json!({"allocation": 1}), 400, "strategy"),
            (json!({"allocation": -1, "strategy": {"type": "while_in_flight"}}), 400, "allocation"),
            (json!({"allocation": 1.5, "strategy": {"type": "while_in_flight"}}), 400, "allocation"),
            (json!({"allocation": 1, "strategy": "while_in_flight"}), 400, "strategy"),
            (json!({"allocation": 1, "strategy": {"type": 5}}), 400, "strategy.type"),
            (json!({"allocation": 1, "strategy": {"type": "weekly"}}), 422, "`weekly`"),
            (json!({"allocation": 0, "strategy": {"type": "while_in_flight"}}), 422, "allocation"),
            (
                json!({"allocation": 1, "strategy": {"type": "while_in_flight", "burst": 1}}),
                422,
                "strategy.burst",
            ),
            (json!({"allocation": 1, "strategy": {"type": "time_based"}}), 422, "strategy.duration_ms"),
            (over_time(1, 0, None), 422, "strategy.duration_ms"),
            (over_time(1, 1, Some(0)), 422, "strategy.burst"),
        ] {
            for method in [Method::POST, Method::PUT] {
                call(&client, method, "/budgets/k", &body).await.expect_refusal(status, names);
            }
            let binding = json!([{"key": "k", "create_with": body}]);
            let sentence = client.post("/jobs", &job("q", &binding)).await.expect_refusal(status, names);
            assert!(status == 400 || sentence.starts_with("budgets[0].create_with."), "{sentence}");
        }
        client.post("/budgets/a%2Cb", &in_flight(1)).await.expect_refusal(400, "a,b");
        create(&client, "k", &in_flight(3)).await;
        for (budgets, status, names) in [
            (json!("k"), 400, "budgets"),
            (json!(["k"]), 400, "budgets"),
            (json!([{"cost": 1}]), 400, "key"),
            (json!([{"key": ""}]), 400, "key"),
            (json!([{"key": "k", "cost": -1}]), 400, "cost"),
            (json!([{"key": "k", "cost": 0}]), 422, "budgets[0].cost"),
            (json!([{"key": "k"}, {"key": "k"}]), 422, "`k` is named twice"),
            (json!([{"key": "k"}, {"key": "unknown"}]), 422, "budgets[1]: no budget has the key `unknown`"),
            (json!([{"key": "k", "cost": 4}]), 422, "cost: 4 is more than the budget `k` can ever pay"),
            (json!([{"key": "n", "cost": 9, "create_with": over_time(9, 1, Some(8))}]), 422, "cost: 9"),
        ] {
            let bad = job("q", &budgets);
            let one = client.post("/jobs", &bad).await.expect_refusal(status, names);
            let bulk = json!({"jobs": [job("q", &json!([])), bad]});
            let many = client.post("/jobs/bulk", &bulk).await.expect_refusal(status, names);
            assert_eq!(many, format!("jobs[1]: {one}"));
        }
        assert_eq!(client.count("").await, 0);
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_refused_request_leaves_nothing_behind() {
    let server = Server::with(["--max-budgets", "2"]).await;
    let client = server.client();
    create(&client, "k", &in_flight(3)).await;
    // Not even the budgets it would have created.
    let bulk = json!({"jobs": [
        job("q", &json!([{"key": "new", "create_with": in_flight(1)}])),
        job("q", &json!([{"key": "unknown"}])),
    ]});
    client.post("/jobs/bulk", &bulk).await.expect_refusal(422, "jobs[1]: budgets[0]: ");
    client.get("/budgets/new").await.expect_refusal(404, "new");
    create(&client, "l", &in_flight(3)).await;
    client.post("/budgets/m", &in_flight(3)).await.expect_refusal(422, "at most 2 budgets");
    let third = job("q", &json!([{"key": "m", "create_with": in_flight(3)}]));
    client.post("/jobs", &third).await.expect_refusal(422, "at most 2 budgets");
    assert_eq!(client.count("").await, 0);
}

#[tokio::test]
async fn jobs_wait_until_tokens_return_and_others_flow_past() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let binding = json!([{"key": "k", "create_with": in_flight(2)}]);
        let first = client.enqueue(&job("q", &binding)).await;
        assert_eq!(first["budgets"], json!([{"key": "k", "cost": 1}]));
        let mut bound = vec![first];
        // The budget is there by now: what another would create it with does not count.
        let other = json!([{"key": "k", "create_with": in_flight(50)}]);
        bound.extend(client.enqueue_all((0..4).map(|_| job("q", &other))).await);
        let free = client.add("q").await;
        let taken = take_all(&client, "q").await;
        assert_eq!(ids(&taken), [id(&bound[0]), id(&bound[1]), id(&free)]);
        assert_eq!(taken[0]["budgets"], json!([{"key": "k", "cost": 1}]));
        assert_eq!(client.status(id(&bound[2])).await.as_deref(), Some("ready"));
        assert_eq!(client.count("budgets.key=k").await, 5);
        assert_eq!(client.count("budgets.key=k&status=ready").await, 3);
        assert_eq!(client.count("budgets.key=x,k&status=in_flight").await, 2);
        assert_eq!(client.count("budgets.key=x").await, 0);
        assert_eq!(take_all(&client, "q").await, [] as [Value; 0]);

        // Success and failure, and release: each brings the token back and wakes the one that waits.
        let mut stream = client.lines("queue=q&prefetch=1").await;
        client.succeed(&taken[0]).await;
        let third = stream.next_job().await;
        assert_eq!(id(&third), id(&bound[2]));
        client.fail(&taken[1], &json!({"message": "m", "kill": true})).await;
        client.succeed(&third).await;
        let fourth = stream.next_job().await;
        assert_eq!(id(&fourth), id(&bound[3]));
        client.release(&fourth).await;
        assert_eq!(id(&stream.next_job().await), id(&bound[3]));
        drop(stream);
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn all_budgets_must_pay_at_once() {
    let server = Server::start().await;
    let client = server.client();
    create(&client, "wide", &in_flight(10)).await;
    create(&client, "narrow", &in_flight(3)).await;
    let both = json!([{"key": "wide", "cost": 4}, {"key": "narrow", "cost": 2}]);
    let jobs = client.enqueue_all((0..3).map(|_| job("q", &both))).await;
    let small = client.enqueue(&job("q", &json!([{"key": "narrow"}]))).await;
    let taken = take_all(&client, "q").await;
    assert_eq!(ids(&taken), [id(&jobs[0]), id(&small)], "one of four and two, then one that fits beside it");
    // What waits for the narrow one has not drawn on the wide one.
    let wide = client.enqueue(&job("q", &json!([{"key": "wide", "cost": 6}]))).await;
    assert_eq!(ids(&take_all(&client, "q").await), [id(&wide)]);
    client.succeed(&taken[0]).await;
    assert_eq!(ids(&take_all(&client, "q").await), [id(&jobs[1])]);
}

#[tokio::test]
async fn tokens_go_to_the_first_by_priority_and_age() {
    let server = Server::start().await;
    let client = server.client();
    create(&client, "k", &in_flight(1)).await;
    create(&client, "l", &in_flight(1)).await;
    let with = |priority: u16, budgets: Value| {
        let mut job = job(if priority.is_multiple_of(2) { "a" } else { "b" }, &budgets);
        job["priority"] = json!(priority);
        job
    };
    let k = || json!([{"key": "k"}]);
    let both = || json!([{"key": "k"}, {"key": "l"}]);
    let jobs = client
        .enqueue_all([
            with(7, k()),
            with(4, both()),
            with(4, k()),
            with(5, k()),
            with(0, both()),
            with(4, k()),
        ])
        .await;
    let mut order = Vec::new();
    while let Some(job) = client.poll(&json!({"limit": 10})).await.first() {
        order.push(id(job).to_owned());
        client.succeed(job).await;
    }
    let expected: Vec<&str> = [4, 1, 2, 5, 3, 0].iter().map(|i| id(&jobs[*i])).collect();
    assert_eq!(order, expected);
}

#[tokio::test]
async fn a_budget_in_use_can_neither_go_nor_shrink_below_a_cost() {
    let server = Server::start().await;
    let client = server.client();
    create(&client, "k", &in_flight(5)).await;
    let mut later = job("q", &json!([{"key": "k", "cost": 3}]));
    later["ready_at"] = json!(4_000_000_000_000_u64);
    let later = client.enqueue(&later).await;
    client.delete("/budgets/k").await.expect_refusal(409, "`k`");
    let put = async |policy: Value| call(&client, Method::PUT, "/budgets/k", &policy).await;
    put(in_flight(2)).await.expect_refusal(422, "draws 3");
    put(over_time(5, 1_000, Some(2))).await.expect_refusal(422, "draws 3");
    put(in_flight(3)).await.expect(200);
    let patch = json!({"allocation": 2});
    call(&client, Method::PATCH, "/budgets/k", &patch).await.expect_refusal(422, "draws 3");
    client.delete(&format!("/jobs/{}", id(&later))).await.expect_nothing();
    call(&client, Method::PATCH, "/budgets/k", &patch).await.expect(200);
    // A job that has ended does not hold it.
    client.enqueue(&job("q", &json!([{"key": "k"}]))).await;
    let taken = client.poll_one("q").await;
    client.delete("/budgets/k").await.expect_refusal(409, "`k`");
    client.fail(&taken, &json!({"message": "m", "kill": true})).await;
    client.delete("/budgets/k").await.expect_nothing();
    assert_eq!(client.job(id(&taken)).await["budgets"], json!([{"key": "k", "cost": 1}]));
    let again = client.poke(&format!("/jobs/{}/retry", id(&taken))).await.expect(200);
    assert_eq!(again.get("budgets"), None, "there is no such budget any more");
    assert_eq!(ids(&take_all(&client, "q").await), [id(&taken)]);
}

#[tokio::test]
async fn a_changed_policy_acts_at_once_on_what_waits_and_what_runs() {
    let server = Server::start().await;
    let client = server.client();
    create(&client, "k", &in_flight(1)).await;
    let jobs = client.enqueue_all((0..6).map(|_| job("q", &json!([{"key": "k"}])))).await;
    let mut stream = client.lines("queue=q&prefetch=0").await;
    let first = stream.next_job().await;
    let put = async |policy: Value| call(&client, Method::PUT, "/budgets/k", &policy).await.expect(200);
    put(in_flight(3)).await;
    let more = stream.next_jobs(2).await;
    put(in_flight(2)).await;
    // Three run where two may: the first that ends makes no room.
    client.succeed(&first).await;
    client.succeed(&more[0]).await;
    let fourth = stream.next_job().await;
    assert_eq!(id(&fourth), id(&jobs[3]));
    put(over_time(2, 3_600_000, None)).await;
    let rest = stream.next_jobs(2).await;
    assert_eq!(ids(&rest), [id(&jobs[4]), id(&jobs[5])], "a pool with a clock starts full");
}

#[tokio::test]
async fn budgets_and_what_waits_for_them_survive_a_crash() {
    let mut server = Server::start().await;
    let client = server.client();
    create(&client, "k", &in_flight(3)).await;
    let jobs = client.enqueue_all((0..2_000).map(|_| job("q", &json!([{"key": "k"}])))).await;
    let free = client.add("q").await;
    // A lease of a second survives, and with it what its job has drawn.
    let taken = client.poll(&json!({"queues": ["q"], "limit": 2, "lease_ms": 60_000})).await;
    client.let_pass(1_500).await;
    for clean in [false, true] {
        if clean {
            server.sigterm().await;
        } else {
            server.kill9().await;
        }
        server.restart().await;
        assert_eq!(client.get("/budgets/k").await.expect(200)["allocation"], 3);
        let more = take_all(&client, "q").await;
        assert_eq!(ids(&more), [id(&jobs[2]), id(&free)]);
        for job in &more {
            client.release(job).await;
        }
    }
    client.succeed(&taken[0]).await;
    assert_eq!(ids(&take_all(&client, "q").await), [id(&jobs[2]), id(&jobs[3]), id(&free)]);
}
