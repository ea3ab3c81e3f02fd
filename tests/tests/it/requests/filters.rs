//! Empty filters, filters out of range, and positions that do not exist.

use http::Method;
use protocol::media::Format;
use serde_json::{Value, json};
use tests::{Answer, Client, Server, Wire, id};

/// Every call that changes the jobs it matches, with a body where it needs one.
fn changing_calls() -> Vec<(Method, &'static str, Option<Value>)> {
    vec![
        (Method::DELETE, "/jobs", None),
        (Method::PATCH, "/jobs", Some(json!({"priority": 1}))),
        (Method::PATCH, "/jobs", Some(json!({}))),
        (Method::POST, "/jobs/retry", None),
        (Method::POST, "/jobs/retry", Some(json!({"reset_attempts": true}))),
        (Method::DELETE, "/jobs/budgets", None),
        (Method::POST, "/jobs/budgets/b", Some(json!({"cost": 2}))),
        (Method::PUT, "/jobs/budgets/b", Some(json!({"cost": 2}))),
        (Method::PATCH, "/jobs/budgets/b", Some(json!({"cost": 2}))),
        (Method::DELETE, "/jobs/budgets/b", None),
    ]
}

async fn send(client: &Client, (method, path, body): &(Method, &str, Option<Value>), query: &str) -> Answer {
    let call = client.call(method.clone(), &format!("{path}?{query}"));
    match body {
        Some(body) => call.value(body).await,
        None => call.await,
    }
}

/// A job with a budget, one that is dead, and one that is only there.
async fn some_jobs(client: &Client) {
    let policy = json!({"allocation": 5, "strategy": {"type": "while_in_flight"}});
    client.post("/budgets/b", &policy).await.expect(201);
    client.enqueue(&json!({"queue": "q", "type": "t", "payload": 1, "budgets": [{"key": "b"}]})).await;
    client.add("q").await;
    client.add("dead").await;
    let taken = client.poll_one("dead").await;
    client.fail(&taken, &json!({"message": "m", "kill": true})).await;
}

#[tokio::test]
async fn an_empty_filter_in_a_changing_call_is_refused() {
    let server = Server::start().await;
    for format in [Format::Json, Format::MessagePack] {
        let client = server.client_as(Wire { format, ..Wire::default() });
        some_jobs(&client).await;
        let before = client.get("/jobs").await.expect(200);
        for call in changing_calls() {
            for (name, empty) in [
                ("id", vec!["", ",", ",,,", "%2C"]),
                ("queue", vec!["", ",", "%2C%2C"]),
                ("type", vec!["", ","]),
                ("status", vec!["", ","]),
                ("budgets.key", vec!["", ","]),
                ("priority", vec![""]),
                ("ready_at", vec![""]),
                ("attempts", vec![""]),
                ("filter", vec!["", "+", "%20%09"]),
            ] {
                for value in empty {
                    for query in
                        [format!("{name}={value}"), format!("priority=0..40000&type=t&{name}={value}")]
                    {
                        // A filter is not given twice.
                        if query.matches(&format!("{name}=")).count() > 1 {
                            continue;
                        }
                        let refused = send(&client, &call, &query).await.expect_refusal(400, name);
                        assert!(refused.starts_with(&format!("{name}: ")), "{refused}");
                        assert!(refused.contains("leave it out to match all jobs"), "{refused}");
                    }
                }
            }
            send(&client, &call, "queue").await.expect_refusal(400, "queue: ");
        }
        assert_eq!(client.get("/jobs").await.expect(200), before, "nothing was changed");
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn an_empty_filter_of_a_list_or_count_is_no_filter() {
    let server = Server::start().await;
    let client = server.client();
    some_jobs(&client).await;
    for query in [
        "queue=",
        "queue=,",
        "id=",
        "type=,",
        "status=",
        "budgets.key=",
        "priority=",
        "ready_at=..",
        "attempts=..",
    ] {
        assert_eq!(client.count(query).await, 3, "{query}");
        let list = client.get(&format!("/jobs?{query}")).await.expect(200);
        assert_eq!(list["jobs"].as_array().unwrap().len(), 3, "{query}");
    }
}

#[tokio::test]
async fn an_empty_list_element_does_not_widen_a_filter() {
    let server = Server::start().await;
    let client = server.client();
    some_jobs(&client).await;
    let deleted = client.delete("/jobs?queue=,dead,&status=dead,").await.expect(200);
    assert_eq!((deleted, client.count("").await), (json!({"deleted": 1}), 2));
}

#[tokio::test]
async fn an_empty_dry_run_does_not_become_the_real_thing() {
    let server = Server::start().await;
    let client = server.client();
    some_jobs(&client).await;
    for query in ["dry_run=", "dry_run", "dry_run=1", "queue=q&dry_run="] {
        client.delete(&format!("/jobs?{query}")).await.expect_refusal(400, "dry_run");
        client.patch(&format!("/jobs?{query}"), &json!({"priority": 1})).await.expect_refusal(400, "dry_run");
        client.poke(&format!("/jobs/retry?{query}")).await.expect_refusal(400, "dry_run");
    }
    assert_eq!(client.count("").await, 3);
}

#[tokio::test]
async fn a_dry_run_without_a_filter_says_that_it_covers_all_jobs() {
    let server = Server::start().await;
    let client = server.client();
    some_jobs(&client).await;
    let scope = "all jobs, because no filter is given";
    let delete = client.delete("/jobs?dry_run=true").await.expect(200);
    assert_eq!((&delete["deleted"], &delete["scope"]), (&json!(3), &json!(scope)));
    let patch = client.patch("/jobs?dry_run=true", &json!({"priority": 1})).await.expect(200);
    assert_eq!((&patch["patched"], &patch["scope"]), (&json!(2), &json!(scope)));
    for query in ["queue=q&dry_run=true", "priority=0..&dry_run=true"] {
        let trial = client.delete(&format!("/jobs?{query}")).await.expect(200);
        assert_eq!(trial.get("scope"), None, "{query}");
    }
    assert_eq!(
        client.patch("/jobs", &json!({})).await.expect(200),
        json!({"patched": 2}),
        "as clients expect"
    );
    assert_eq!(client.delete("/jobs").await.expect(200), json!({"deleted": 3}));
}

#[tokio::test]
async fn filters_in_the_body_of_a_call_without_one_are_refused() {
    let server = Server::start().await;
    let client = server.client();
    some_jobs(&client).await;
    let job = client.add("q").await;
    let filters = json!({"queue": "nobody"});
    for (method, path) in [
        (Method::DELETE, "/jobs".to_owned()),
        (Method::DELETE, format!("/jobs/{}", id(&job))),
        (Method::DELETE, "/jobs/budgets".to_owned()),
        (Method::DELETE, "/jobs/budgets/b".to_owned()),
        (Method::DELETE, "/budgets/b".to_owned()),
        (Method::DELETE, "/crons".to_owned()),
        (Method::POST, "/reset".to_owned()),
        (Method::POST, "/queues/q/pause".to_owned()),
        (Method::POST, "/queues/q/resume".to_owned()),
    ] {
        let refused = client.call(method.clone(), &path).value(&filters).await;
        refused.expect_refusal(400, "query");
        // Some clients send an empty body for none.
        for empty in ["", "{}", "null", " {}\n"] {
            if method == Method::POST && path != "/reset" {
                client.call(method.clone(), &path).bytes("application/json", empty).await.expect(200);
            }
        }
    }
    assert_eq!(client.count("").await, 4);
    client.delete("/jobs").value(&json!({})).await.expect(200);
    assert_eq!(client.count("").await, 0);
}

#[tokio::test]
async fn a_range_beyond_its_field_is_refused() {
    let server = Server::start().await;
    let client = server.client();
    for (name, highest) in
        [("priority", 65_535), ("attempts", 4_294_967_295), ("ready_at", (1_u64 << 48) - 1)]
    {
        let beyond = highest + 1;
        for range in [
            format!("{beyond}"),
            format!("{beyond}.."),
            format!("..{beyond}"),
            format!("0..{beyond}"),
            "99999999999999999999999".to_owned(),
        ] {
            let query = format!("{name}={range}");
            for path in ["/jobs", "/jobs/count"] {
                let refused = client.get(&format!("{path}?{query}")).await.expect_refusal(400, name);
                assert!(refused.contains(&format!("out of range 0 to {highest}")), "{refused}");
            }
            for call in changing_calls() {
                send(&client, &call, &query).await.expect_refusal(400, name);
            }
        }
        for range in [format!("{highest}"), format!("0..{highest}"), format!("{highest}..")] {
            assert_eq!(client.count(&format!("{name}={range}")).await, 0, "{name}={range}");
        }
    }
}

#[tokio::test]
async fn any_text_is_a_position_in_a_list() {
    let server = Server::start().await;
    let client = server.client();
    let queued = client.enqueue_all((0..3).map(|n| json!({"queue": "q", "type": "t", "payload": n}))).await;
    let middle = id(&queued[1]);
    let (cut, longer) = (&middle[..24], format!("{middle}0"));
    // How many jobs come behind each position in ascending and in descending order.
    for (from, ascending, descending) in [
        ("x", 0, 3),
        ("~", 0, 3),
        ("%C3%A4", 0, 3),
        ("nonsense", 0, 3),
        ("0", 3, 0),
        ("%21", 3, 0),
        ("0000", 3, 0),
        (middle, 1, 1),
        (cut, 2, 1),
        (longer.as_str(), 1, 2),
        ("", 3, 3),
    ] {
        for (order, expected) in [("asc", ascending), ("desc", descending)] {
            let page = client.get(&format!("/jobs?from={from}&order={order}")).await.expect(200);
            let shown = page["jobs"].as_array().unwrap().len();
            assert_eq!(shown, expected, "{from} {order}: {}", page["pages"]);
            let again = client.get(page["pages"]["self"].as_str().unwrap()).await.expect(200);
            assert_eq!(again, page, "{from} {order}");
            assert_eq!(page["pages"]["prev"].is_string(), shown > 0 && !from.is_empty(), "{from} {order}");
        }
    }
}

#[tokio::test]
async fn any_text_is_a_position_among_errors() {
    let server = Server::start().await;
    let client = server.client();
    let job = client.add("q").await;
    for _ in 0..3 {
        let taken = client.poll_one("q").await;
        client.fail(&taken, &json!({"message": "m", "retry_at": 1})).await;
    }
    for (from, ascending, descending) in
        [("1", 2, 0), ("2.5", 1, 2), ("x", 0, 3), ("-1", 3, 0), ("99999999999999999999", 0, 3), ("", 3, 3)]
    {
        for (order, expected) in [("asc", ascending), ("desc", descending)] {
            let path = format!("/jobs/{}/errors?from={from}&order={order}", id(&job));
            let page = client.get(&path).await.expect(200);
            assert_eq!(page["errors"].as_array().unwrap().len(), expected, "{from} {order}");
        }
    }
}
