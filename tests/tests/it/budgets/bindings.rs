//! What jobs draw on budgets is changed while they wait.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use tests::{Client, Server, Wire, id};

use super::{call, create, in_flight, job, take_all};

#[tokio::test]
async fn bindings_of_a_job_change_while_it_waits() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        create(&client, "k", &in_flight(5)).await;
        let added = client.add("q").await;
        let path = |rest: &str| format!("/jobs/{}/budgets{rest}", id(&added));
        let budgets = |job: Value| job.get("budgets").cloned().unwrap_or_default();
        let bound = client.poke(&path("/k")).await.expect(200);
        assert_eq!((bound.get("payload"), budgets(bound.clone())), (None, json!([{"key": "k", "cost": 1}])));
        client.poke(&path("/k")).await.expect_refusal(409, "`k` already");
        client.poke(&path("/x")).await.expect_refusal(422, "no budget has the key `x`");
        client
            .post(&path("/x"), &json!({"cost": 2, "create_with": in_flight(1)}))
            .await
            .expect_refusal(422, "cost: 2");
        let bound =
            client.post(&path("/x"), &json!({"cost": 2, "create_with": in_flight(2)})).await.expect(200);
        assert_eq!(budgets(bound), json!([{"key": "k", "cost": 1}, {"key": "x", "cost": 2}]));
        let put = call(&client, Method::PUT, &path("/k"), &json!({"cost": 3})).await.expect(200);
        assert_eq!(budgets(put), json!([{"key": "k", "cost": 3}, {"key": "x", "cost": 2}]));
        let cost = call(&client, Method::PATCH, &path("/k"), &json!({"cost": 5})).await.expect(200);
        assert_eq!(budgets(cost)[0], json!({"key": "k", "cost": 5}));
        for (body, status, names) in [
            (json!({}), 400, "cost"),
            (json!({"cost": 0}), 422, "cost"),
            (json!({"cost": 6}), 422, "cost: 6"),
        ] {
            call(&client, Method::PATCH, &path("/k"), &body).await.expect_refusal(status, names);
        }
        call(&client, Method::PATCH, &path("/y"), &json!({"cost": 1})).await.expect_refusal(404, "`y`");
        client.delete(&path("/y")).await.expect_refusal(404, "`y`");
        assert_eq!(budgets(client.delete(&path("/k")).await.expect(200)), json!([{"key": "x", "cost": 2}]));
        let all = json!({"budgets": [{"key": "k", "cost": 2}, {"key": "z", "create_with": in_flight(1)}]});
        let replaced = call(&client, Method::PUT, &path(""), &all).await.expect(200);
        assert_eq!(budgets(replaced), json!([{"key": "k", "cost": 2}, {"key": "z", "cost": 1}]));
        assert_eq!(budgets(client.delete(&path("")).await.expect(200)), Value::Null);

        let unknown = "/jobs/0123456789012345678901234/budgets/nothing";
        client.poke(unknown).await.expect_refusal(404, "0123456789012345678901234");
        client.poke(&path("/k")).await.expect(200);
        let taken = client.poll_one("q").await;
        for call in [client.poke(&path("/x")), client.delete(&path("/k")), client.delete(&path(""))] {
            call.await.expect_refusal(422, "in_flight");
        }
        client.fail(&taken, &json!({"message": "m", "kill": true})).await;
        client.poke(&path("/x")).await.expect_refusal(422, "dead");
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn bindings_of_many_jobs_change_in_one_call() {
    let server = Server::start().await;
    let client = server.client();
    create(&client, "k", &in_flight(1)).await;
    let jobs = client.enqueue_all((0..400).map(|i| job(if i < 300 { "a" } else { "b" }, &json!([])))).await;
    let running = client.poll(&json!({"queues": ["a"], "limit": 5})).await;
    let changed = client.poke("/jobs/budgets/k?queue=a").await.expect(200);
    assert_eq!(changed["changed"], 295);
    let blocked: BTreeSet<&str> =
        changed["blocked"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(blocked, running.iter().map(id).collect());
    assert_eq!(client.count("budgets.key=k").await, 295);
    // Those that are bound already stay as they are.
    let again = client.post("/jobs/budgets/k", &json!({"cost": 1})).await.expect(200);
    assert_eq!(again["changed"], 100);
    call(&client, Method::PATCH, "/jobs/budgets/k", &json!({"cost": 2})).await.expect_refusal(422, "cost: 2");
    let put = json!({"cost": 2, "create_with": in_flight(9)});
    call(&client, Method::PUT, "/jobs/budgets/l?queue=b", &put).await.expect(200);
    let costs = call(&client, Method::PATCH, "/jobs/budgets/l", &json!({"cost": 3})).await.expect(200);
    assert_eq!(costs, json!({"changed": 100, "blocked": []}), "those in flight do not draw on it");
    assert_eq!(
        client.job(id(&jobs[350])).await["budgets"],
        json!([{"key": "k", "cost": 1}, {"key": "l", "cost": 3}])
    );
    let gone = client.delete("/jobs/budgets/k?queue=b&status=ready").await.expect(200);
    assert_eq!(gone, json!({"changed": 100, "blocked": []}));
    // 295 of queue `a` draw on `k`, 100 of queue `b` on `l`.
    assert_eq!(client.delete("/jobs/budgets?status=ready").await.expect(200)["changed"], 395);
    assert_eq!(client.count("budgets.key=k,l").await, 0);
    client.poke("/jobs/budgets/nothing").await.expect_refusal(422, "nothing");
    // Who takes the budget away behind the last binding does not make the unbinding fail.
    create(&client, "gone", &in_flight(1)).await;
    for _ in 0..10 {
        client.poke("/jobs/budgets/gone?queue=b&status=ready").await.expect(200);
        let (unbound, _) = tokio::join!(client.delete("/jobs/budgets/gone?queue=b"), async {
            while client.delete("/budgets/gone").await.status == 409 {}
        });
        assert_eq!(unbound.expect(200)["changed"], 100);
        create(&client, "gone", &in_flight(1)).await;
    }
    client.delete("/jobs/budgets?status=dead").await.expect_refusal(422, "dead");
    assert_eq!(take_all(&client, "b").await.len(), 100);
}

/// Jobs of one queue: two that draw on `k` and two that do not, of each one in flight; and a dead one that does.
async fn mixed(client: &Client) -> [String; 4] {
    let mut ids = Vec::new();
    for (budgets, held) in [(true, true), (false, true), (true, false), (false, false)] {
        let budgets = if budgets { json!([{"key": "k", "cost": 2}]) } else { json!([]) };
        ids.push(id(&client.enqueue(&job("q", &budgets)).await).to_owned());
        if held {
            client.poll_one("q").await;
        }
    }
    let dead = job("dead", &json!([{"key": "k", "cost": 2}]));
    client.enqueue(&dead).await;
    let dead = client.poll_one("dead").await;
    client.fail(&dead, &json!({"message": "m", "kill": true})).await;
    ids.try_into().unwrap()
}

/// What a call about the jobs of [`mixed`] changes: which are different afterwards, and which would be.
#[tokio::test]
async fn changed_counts_jobs_that_are_different_now_and_blocked_those_that_would_be() {
    let server = Server::start().await;
    let client = server.client();
    let (held_draws, held_not, draws, not) = (0, 1, 2, 3);
    let none: [usize; 0] = [];
    let cost = |n: u32| json!({"cost": n});
    for (method, path, body, changed, blocked) in [
        (Method::POST, "/k", cost(2), &[not][..], &[held_not][..]),
        (Method::POST, "/k", cost(5), &[not], &[held_not]),
        (Method::PUT, "/k", cost(2), &[not], &[held_not]),
        (Method::PUT, "/k", cost(5), &[draws, not], &[held_draws, held_not]),
        (Method::PATCH, "/k", cost(2), &none, &none),
        (Method::PATCH, "/k", cost(5), &[draws], &[held_draws]),
        (Method::PATCH, "/other", cost(1), &none, &none),
        (Method::DELETE, "/k", Value::Null, &[draws], &[held_draws]),
        (Method::DELETE, "/other", Value::Null, &none, &none),
        (Method::DELETE, "", Value::Null, &[draws], &[held_draws]),
    ] {
        let what = format!("{method} {path} {body}");
        create(&client, "k", &in_flight(100)).await;
        create(&client, "other", &in_flight(100)).await;
        let ids = mixed(&client).await;
        let mut before = Vec::new();
        for id in &ids {
            before.push(client.job(id).await["budgets"].take());
        }
        let path = format!("/jobs/budgets{path}");
        let send = || match &body {
            Value::Null => client.delete(&path),
            body => client.call(method.clone(), &path).value(body),
        };
        let answer = send().await.expect(200);
        assert_eq!(answer["changed"], changed.len(), "{what}: {answer}");
        let named: BTreeSet<&str> =
            answer["blocked"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(named, blocked.iter().map(|n| &ids[*n][..]).collect(), "{what}: {answer}");
        for (n, id) in ids.iter().enumerate() {
            let differs = client.job(id).await["budgets"] != before[n];
            assert_eq!(differs, changed.contains(&n), "{what}: job {n}");
        }
        // Once more: there is nothing left to change.
        assert_eq!(send().await.expect(200)["changed"], 0, "{what}, again");
        client.poke("/reset").await.expect_nothing();
    }
    for (method, path) in
        [(Method::PATCH, "/unknown"), (Method::DELETE, "/unknown"), (Method::DELETE, "/a,b")]
    {
        let path = format!("/jobs/budgets{path}");
        let call = client.call(method.clone(), &path);
        let answer = if method == Method::DELETE { call.await } else { call.value(&cost(1)).await };
        answer.expect_refusal(404, "no budget has the key");
    }
}
