//! What one thing was before a call, and after it, in the audit trail.

use serde_json::{Value, json};
use tests::{Client, Server, id};

use super::printed;

/// The last entry of this call.
async fn entry(admin: &Client, action: &str, target: &str) -> Value {
    let all = admin.get("/audit?limit=2000").await.expect(200)["entries"].clone();
    let is_it = |entry: &&Value| entry["action"] == action && entry["target"] == target;
    all.as_array().unwrap().iter().find(is_it).unwrap_or_else(|| panic!("{action} {target}: {all}")).clone()
}

/// Checks what the last entry of a call says; null: nothing.
#[track_caller]
fn check(entry: &Value, before: &Value, after: &Value) {
    assert_eq!((&entry["before"], &entry["after"]), (before, after), "{entry}");
    for (side, name) in [(before, "before"), (after, "after")] {
        assert_eq!(entry.get(name).is_some(), !side.is_null(), "{entry}");
    }
    assert!(entry.get("more").is_none(), "{entry}");
}

#[tokio::test]
async fn of_a_job_that_is_changed_retried_and_deleted() {
    let mut server = Server::start().await;
    let client = server.client();
    let job = json!({"queue": "mails", "type": "send", "priority": 5, "payload": {"to": "secret payload"}, "unique_key": "k"});
    let job = client.enqueue(&job).await;
    let path = format!("/jobs/{}", id(&job));
    let patch = json!({"priority": 1, "retry_limit": 3, "retention": {"dead_ms": 1_000_000}});
    client.patch(&path, &patch).await.expect(200);
    check(
        &entry(&client, "PATCH", &path).await,
        &json!({"priority": 5, "retry_limit": null, "retention": {"dead_ms": null}}),
        &json!({"priority": 1, "retry_limit": 3, "retention": {"dead_ms": 1_000_000}}),
    );
    let shown = printed(&server.control(&["audit"]).await);
    let line = format!("PATCH {path}  200  priority 5 → 1, retention.dead_ms – → 1000000, retry_limit – → 3");
    assert!(shown.lines().any(|shown| shown.ends_with(&line)), "{shown}");
    client.patch(&path, &json!({"priority": 1})).await.expect(200);
    check(&entry(&client, "PATCH", &path).await, &Value::Null, &Value::Null);
    client.patch(&path, &json!({"priority": -1})).await.expect_refusal(422, "priority");
    check(&entry(&client, "PATCH", &path).await, &Value::Null, &Value::Null);

    let held = client.poll_one("mails").await;
    client.patch(&path, &json!({"queue": "later"})).await.expect(200);
    check(&entry(&client, "PATCH", &path).await, &json!({"queue": "mails"}), &json!({"queue": "later"}));
    client.fail(&held, &json!({"message": "secret payload", "kill": true})).await;
    client.post(&format!("{path}/retry"), &json!({"reset_attempts": true})).await.expect(200);
    let retried = entry(&client, "POST", &format!("{path}/retry")).await;
    let status = |side: &str| (retried[side]["status"].clone(), retried[side]["attempts"].clone());
    assert_eq!([status("before"), status("after")], [(json!("dead"), json!(1)), (json!("ready"), json!(0))]);
    client.delete(&path).await.expect_nothing();
    let deleted = entry(&client, "DELETE", &path).await;
    let was = &deleted["before"];
    assert_eq!(
        (&was["type"], &was["queue"], &was["status"]),
        (&json!("send"), &json!("later"), &json!("ready"))
    );
    assert!(deleted.get("after").is_none(), "{deleted}");
    let all = client.get("/audit?limit=2000").await.expect(200).to_string();
    assert!(!all.contains("secret") && !all.contains("unique_key"), "{all}");
    let log = server.process().logged("DELETE").await;
    assert!(log.contains("priority") && !log.contains("secret payload"), "{log}");
}

#[tokio::test]
async fn of_budgets_and_what_jobs_draw_on_them() {
    let server = Server::start().await;
    let client = server.client();
    let limited =
        |allocation: u32| json!({"allocation": allocation, "strategy": {"type": "while_in_flight"}});
    client.post("/budgets/api", &limited(10)).await.expect(201);
    let created = json!({"allocation": 10, "strategy": {"type": "while_in_flight"}});
    check(&entry(&client, "POST", "/budgets/api").await, &Value::Null, &created);
    client.call(http::Method::PUT, "/budgets/api").value(&limited(2)).await.expect(200);
    check(
        &entry(&client, "PUT", "/budgets/api").await,
        &json!({"allocation": 10}),
        &json!({"allocation": 2}),
    );
    let drips = json!({"strategy": {"type": "time_based", "duration_ms": 1_000}});
    client.patch("/budgets/api", &drips).await.expect(200);
    check(
        &entry(&client, "PATCH", "/budgets/api").await,
        &json!({"strategy": {"type": "while_in_flight", "duration_ms": null}}),
        &json!({"strategy": {"type": "time_based", "duration_ms": 1_000}}),
    );

    let job = client.add("q").await;
    let path = format!("/jobs/{}/budgets/api", id(&job));
    client.post(&path, &json!({"cost": 1})).await.expect(200);
    let bound = |cost: Option<u32>| json!({"budgets": {"api": {"cost": cost}}});
    check(&entry(&client, "POST", &path).await, &bound(None), &bound(Some(1)));
    client.patch(&path, &json!({"cost": 2})).await.expect(200);
    check(&entry(&client, "PATCH", &path).await, &bound(Some(1)), &bound(Some(2)));
    client.delete(&path).await.expect(200);
    check(&entry(&client, "DELETE", &path).await, &bound(Some(2)), &bound(None));

    client.delete("/budgets/api").await.expect_nothing();
    let deleted = json!({"allocation": 2, "strategy": {"type": "time_based", "duration_ms": 1_000}});
    check(&entry(&client, "DELETE", "/budgets/api").await, &deleted, &Value::Null);
}

#[tokio::test]
async fn of_recurring_jobs_without_their_payloads() {
    let server = Server::start().await;
    let client = server.client();
    let job = |secret: &str| json!({"queue": "q", "type": "t", "payload": {"secret": secret}});
    let nightly = |hour: u32, secret: &str| json!({"name": "nightly", "expression": format!("0 {hour} * * *"), "job": job(secret)});
    client.post("/crons/g/entries", &nightly(3, "one")).await.expect(201);
    let shown = |hour: u32, bytes: u32| {
        json!({
            "expression": format!("0 {hour} * * *"), "paused": false,
            "job": {"queue": "q", "type": "t", "payload": {"bytes": bytes}},
        })
    };
    let mut created = shown(3, 16);
    created["name"] = json!("nightly");
    check(&entry(&client, "POST", "/crons/g/entries").await, &Value::Null, &created);

    let path = "/crons/g/entries/nightly";
    let put =
        async |path: &str, body: &Value| client.call(http::Method::PUT, path).value(body).await.expect(200);
    put(path, &nightly(4, "two")).await;
    let differs =
        |hour: u32| json!({"expression": format!("0 {hour} * * *"), "job": {"payload": {"bytes": 16}}});
    check(&entry(&client, "PUT", path).await, &differs(3), &differs(4));
    client.patch(path, &json!({"paused": true})).await.expect(200);
    check(&entry(&client, "PATCH", path).await, &json!({"paused": false}), &json!({"paused": true}));
    client.patch("/crons/g", &json!({"timezone": "Europe/Berlin"})).await.expect(200);
    check(
        &entry(&client, "PATCH", "/crons/g").await,
        &json!({"timezone": null}),
        &json!({"timezone": "Europe/Berlin"}),
    );

    let mut daily = nightly(6, "three");
    daily["name"] = json!("daily");
    put("/crons/g", &json!({"timezone": "Europe/Berlin", "entries": [nightly(5, "two"), daily]})).await;
    check(
        &entry(&client, "PUT", "/crons/g").await,
        &json!({"entries": {
            "nightly": {"expression": "0 4 * * *"},
            "daily": {"expression": null, "paused": null, "job": {"queue": null, "type": null, "payload": null}},
        }}),
        &json!({"entries": {"nightly": {"expression": "0 5 * * *"}, "daily": shown(6, 18)}}),
    );
    client.delete("/crons/g/entries/daily").await.expect_nothing();
    let mut deleted = shown(6, 18);
    deleted["name"] = json!("daily");
    check(&entry(&client, "DELETE", "/crons/g/entries/daily").await, &deleted, &Value::Null);
    client.delete("/crons/g").await.expect_nothing();
    let mut last = shown(5, 16);
    last["paused"] = json!(true);
    let deleted = json!({"paused": false, "timezone": "Europe/Berlin", "entries": {"nightly": last}});
    check(&entry(&client, "DELETE", "/crons/g").await, &deleted, &Value::Null);
    let all = client.get("/audit?limit=2000").await.expect(200).to_string();
    assert!(!all.contains("secret"), "{all}");
}

#[tokio::test]
async fn of_queues_and_access_tokens() {
    let (server, admin) = super::asking().await;
    for (action, was, is) in [("pause", false, true), ("resume", true, false), ("pause", false, true)] {
        let path = format!("/queues/q/{action}");
        admin.poke(&path).await.expect(200);
        check(&entry(&admin, "POST", &path).await, &json!({"paused": was}), &json!({"paused": is}));
    }
    admin.poke("/queues/q/pause").await.expect(200);
    check(&entry(&admin, "POST", "/queues/q/pause").await, &Value::Null, &Value::Null);
    admin.delete("/queues/q").await.expect_nothing();
    check(&entry(&admin, "DELETE", "/queues/q").await, &json!({"paused": true}), &Value::Null);

    let (_, id) = super::caller(&server, "bob", &["--role", "worker", "--queue", "q"]).await;
    let created = entry(&admin, "POST", "/tokens").await;
    assert_eq!((&created["after"]["name"], &created["after"]["id"]), (&json!("bob"), &json!(id)));
    let path = format!("/tokens/{id}");
    let rotated = admin.post(&format!("{path}/rotate"), &json!({})).await.expect(200);
    let old_secret = |until: &Value| json!({"old_secret_until": until});
    check(
        &entry(&admin, "POST", &format!("{path}/rotate")).await,
        &old_secret(&Value::Null),
        &old_secret(&rotated["old_secret_until"]),
    );
    admin.delete(&path).await.expect_nothing();
    let revoked = entry(&admin, "DELETE", &path).await;
    assert_eq!(revoked["before"]["role"], "worker");
    assert!(revoked.get("after").is_none() && revoked["before"]["grants"][0].is_string(), "{revoked}");
    let all = admin.get("/audit?limit=2000").await.expect(200).to_string();
    assert!(!all.contains(rotated["token"].as_str().unwrap().get(8..20).unwrap()), "{all}");
}

#[tokio::test]
async fn a_large_thing_is_told_in_part() {
    let server = Server::start().await;
    let client = server.client();
    let entry_of = |n| json!({"name": format!("{n:03}").repeat(60), "expression": "0 3 * * *", "job": {"queue": "q", "type": "t", "payload": n}});
    let entries: Vec<Value> = (0..50).map(entry_of).collect();
    client.call(http::Method::PUT, "/crons/g").value(&json!({"entries": entries})).await.expect(200);
    let created = entry(&client, "PUT", "/crons/g").await;
    assert_eq!(created["more"], true);
    assert!((2..50).contains(&created["after"]["entries"].as_object().unwrap().len()), "{created}");
    assert!(created.to_string().len() < 4_096, "{created}");
    let shown = printed(&server.control(&["audit"]).await);
    assert!(shown.lines().any(|line| line.contains("PUT /crons/g") && line.ends_with(", …")), "{shown}");
}

#[tokio::test]
async fn a_frozen_set_is_known_by_its_id() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let until = client.delete("/jobs?queue=q&dry_run=true").await.expect(200)["until"].clone();
    assert_eq!(entry(&client, "DELETE", "/jobs?queue=q&dry_run=true").await["until"], until);
    let shown = printed(&server.control(&["audit"]).await);
    let line = format!("0 changed  until {}", until.as_str().unwrap());
    assert!(shown.lines().any(|shown| shown.ends_with(&line)), "{shown}");
    client.add("q").await;
    let path = format!("/jobs?queue=q&until={}", until.as_str().unwrap());
    client.delete(&path).await.expect(200);
    let deleted = entry(&client, "DELETE", &path).await;
    assert_eq!((&deleted["until"], &deleted["changed"]), (&until, &json!(1)));
    client.delete("/jobs?queue=q").await.expect(200);
    let deleted = entry(&client, "DELETE", "/jobs?queue=q").await;
    assert_eq!((deleted.get("until"), &deleted["changed"]), (None, &json!(1)));
}
