//! Who did what.

use serde_json::{Value, json};
use tests::wait::until;
use tests::{Client, Server};

use super::{asking, caller, printed, token};

/// The entries about something, the newest first.
async fn entries(admin: &Client, target: &str) -> Vec<Value> {
    let all = admin.get("/audit?limit=2000").await.expect(200)["entries"].clone();
    let is_about = |entry: &Value| entry["target"].as_str().is_some_and(|other| other.starts_with(target));
    all.as_array().unwrap().iter().filter(|entry| is_about(entry)).cloned().collect()
}

#[tokio::test]
async fn changes_and_refusals_are_written_down_and_traffic_is_not() {
    let (mut server, admin) = asking().await;
    let (operator, id) = caller(&server, "alice", &["--role", "operator"]).await;
    let (viewer, _) = caller(&server, "bob", &["--role", "viewer"]).await;
    for _ in 0..3 {
        operator.add("q").await;
    }
    operator.delete("/jobs?queue=q&status=ready&limit=2").await.expect(200);
    operator.poke("/queues/q/pause").header("zizq-via", "ui").await.expect(200);
    viewer.poke("/queues/q/resume").await.expect_refusal(403, "needs the grant `operate`");
    let made = token(&server, "secret-holder", &["--role", "viewer"]).await;
    let typo = made.replace("zizq_v_", "zizq_v_x");
    server.client().with_token(&typo).get("/jobs").await.expect_refusal(401, "");
    server.client().get("/jobs?nothing").await.expect_refusal(401, "");
    let body = json!({"queue": "q", "type": "t", "payload": "secret payload"});
    operator.enqueue(&body).await;

    let deleted = entries(&admin, "/jobs?queue=q").await;
    assert_eq!(deleted.len(), 1);
    let entry = &deleted[0];
    assert_eq!(entry["who"], json!({"kind": "token", "id": id, "name": "alice"}));
    assert_eq!(
        (&entry["action"], &entry["status"], &entry["changed"]),
        (&json!("DELETE"), &json!(200), &json!(2))
    );
    assert_eq!((&entry["via"], &entry["remote"]), (&json!("api"), &json!("127.0.0.1")));
    assert!(entry["at"].as_u64().is_some() && entry["took_ms"].as_u64().is_some());
    let paused = entries(&admin, "/queues/q/pause").await;
    assert_eq!((paused.len(), &paused[0]["via"]), (1, &json!("ui")));
    let refused = entries(&admin, "/queues/q/resume").await;
    assert_eq!(
        (refused.len(), &refused[0]["status"], &refused[0]["who"]["name"]),
        (1, &json!(403), &json!("bob"))
    );
    let unknown = entries(&admin, "/jobs").await;
    let unknown: Vec<_> = unknown.iter().filter(|entry| entry["status"] == 401).collect();
    assert!(unknown.iter().all(|entry| entry["who"] == json!({"kind": "unknown"})) && !unknown.is_empty());
    let created = entries(&admin, "/tokens").await;
    assert!(created.iter().any(|entry| entry["who"]["kind"] == "local" && entry["action"] == "POST"));
    // Neither enqueues, nor secrets, nor payloads.
    let all = admin.get("/audit?limit=2000").await.expect(200).to_string();
    assert!(!all.contains("secret payload") && !all.contains(&made[8..20]), "{all}");
    assert!(entries(&admin, "/jobs").await.iter().all(|entry| entry["action"] != "POST"));
    // In the log, too.
    let log = server.process().logged("/queues/q/pause").await;
    assert!(log.contains("audit") && !log.contains(&made[8..20]), "{log}");
    let printed = printed(&server.control(&["audit"]).await);
    assert!(
        printed.contains("alice")
            && printed.contains("DELETE /jobs?queue=q&status=ready&limit=2  200  2 changed")
    );
    // It survives, with the start and the stop of the server.
    server.sigterm().await;
    server.restart().await;
    let actions = until("the start", async || {
        let all = admin.get("/audit").await.expect(200)["entries"].clone();
        let of_server = all.as_array().unwrap().iter().filter(|entry| entry["who"]["kind"] == "server");
        let actions: Vec<String> =
            of_server.map(|entry| entry["action"].as_str().unwrap().to_owned()).collect();
        (actions.len() == 3).then_some(actions)
    })
    .await;
    assert_eq!(actions, ["start", "stop", "start"]);
    assert_eq!(entries(&admin, "/queues/q/pause").await.len(), 1);
}

#[tokio::test]
async fn the_trail_has_pages() {
    let server = Server::start().await;
    let client = server.client();
    for n in 0..5 {
        client.poke(&format!("/queues/q{n}/pause")).await.expect(200);
    }
    let (mut path, mut seen) = ("/audit?limit=2".to_owned(), Vec::new());
    loop {
        let page = client.get(&path).await.expect(200);
        seen.extend(page["entries"].as_array().unwrap().iter().map(|entry| entry["target"].clone()));
        match page["pages"]["next"].as_str() {
            Some(next) => next.clone_into(&mut path),
            None => break,
        }
    }
    let expected: Vec<Value> = (0..5).rev().map(|n| json!(format!("/queues/q{n}/pause"))).collect();
    assert_eq!(seen[..5], expected);
}

#[tokio::test]
async fn those_who_read_the_trail_do_not_fill_it_unless_they_may_not() {
    let (server, admin) = asking().await;
    let (viewer, _) = caller(&server, "bob", &["--role", "viewer"]).await;
    viewer.get("/audit").await.expect_refusal(403, "needs the grant `admin`");
    admin.get("/config").await.expect(200);
    for _ in 0..3 {
        let of_trail = entries(&admin, "/audit").await;
        assert_eq!((of_trail.len(), &of_trail[0]["who"]["name"]), (1, &json!("bob")));
    }
    assert_eq!(entries(&admin, "/config").await.len(), 1);
}

#[tokio::test]
async fn the_trail_is_searched() {
    let server = Server::start().await;
    let client = server.client();
    for n in 0..5 {
        client.poke(&format!("/queues/q%20{n}/pause")).await.expect(200);
        client.poke(&format!("/queues/q%20{n}/resume")).header("zizq-via", "ui").await.expect(200);
    }
    client.patch("/jobs/0", &json!({"priority": 1})).await.expect_refusal(404, "0");
    let found = async |query: &str| {
        let page = client.get(&format!("/audit?{query}")).await.expect(200);
        let target = |entry: &Value| entry["target"].as_str().unwrap_or("-").to_owned();
        let targets: Vec<String> = page["entries"].as_array().unwrap().iter().map(target).collect();
        (targets, page["looked_at"].as_u64(), page["pages"]["next"].as_str().map(str::to_owned))
    };
    let all = found("").await;
    assert_eq!(
        (all.0.len(), all.1),
        (12, None),
        "with the start of the server, but without what only looks at it"
    );
    for query in ["contains=", "contains=%20"] {
        assert_eq!(found(query).await, all, "an empty search selects all");
    }
    for (words, number) in [
        ("pause", 5),
        ("PAUSE", 5),
        ("%20pause%20%20q%2520%20", 5),
        ("ui", 5),
        ("q%203", 2),
        ("q%25203", 2),
        ("open%20127.0.0.1%20200", 10),
        ("post%20ui%20q%25203", 1),
        ("404", 1),
        ("server%20start", 1),
        ("pause%20resume", 0),
        ("took_ms", 0),
    ] {
        let (targets, looked_at, next) = found(&format!("contains={words}")).await;
        assert_eq!((targets.len(), looked_at, next), (number, Some(12), None), "{words}: {targets:?}");
    }
    let words = |n: usize| (0..n).map(|n| format!("w{n}")).collect::<Vec<_>>().join("+");
    assert_eq!(found(&format!("contains={}", words(16))).await.0, [""; 0]);
    client.get(&format!("/audit?contains={}", words(17))).await.expect_refusal(400, "at most 16 words");
    assert_eq!(found(&format!("contains={}", vec!["pause"; 1_000].join("+"))).await.0.len(), 5, "one word");
    // Page by page, each as large as asked for.
    let (mut path, mut seen) = (Some("contains=pause&limit=2".to_owned()), Vec::new());
    while let Some(query) = path {
        let (targets, looked_at, next) = found(&query).await;
        assert!(looked_at < Some(12) && targets.len() <= 2, "{targets:?} of {looked_at:?}");
        seen.extend(targets);
        path = next.map(|next| next.strip_prefix("/audit?").unwrap().to_owned());
    }
    assert_eq!(seen, (0..5).rev().map(|n| format!("/queues/q%20{n}/pause")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_bulk_change_told_as_events_is_written_down_with_its_number() {
    let server = Server::start().await;
    let client = server.client();
    for _ in 0..3 {
        client.add("q").await;
    }
    let answer = client.delete("/jobs?queue=q").header("accept", "text/event-stream").await;
    assert_eq!(answer.status, 200);
    let entry = until("the entry", async || entries(&client, "/jobs?queue=q").await.pop()).await;
    assert_eq!((&entry["changed"], &entry["who"]["kind"]), (&json!(3), &json!("open")));

    // What is only counted has changed nothing; of what is no job there are numbers, too.
    client.add("q").await;
    client.delete("/jobs?queue=q&dry_run=true").await.expect(200);
    let entry = entries(&client, "/jobs?queue=q&dry_run").await.pop().unwrap();
    assert_eq!((&entry["matched"], &entry["changed"]), (&json!(1), &json!(0)));
    let entry =
        json!({"name": "e", "expression": "0 0 1 1 *", "job": {"queue": "q", "type": "t", "payload": 1}});
    for group in ["a", "b"] {
        client.post(&format!("/crons/{group}/entries"), &entry).await.expect(201);
    }
    client.delete("/crons").await.expect(200);
    let all = entries(&client, "/crons").await;
    let entry = all.iter().find(|entry| entry["action"] == "DELETE").unwrap();
    assert_eq!((&entry["matched"], &entry["changed"]), (&json!(2), &json!(2)));
    assert!(all.iter().all(|entry| entry["action"] == "DELETE" || entry.get("changed").is_none()));
}

#[tokio::test]
async fn a_read_only_server_changes_nothing() {
    let mut server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    server.sigterm().await;
    server.restart_with(["--read-only"]).await;
    assert_eq!(client.get("/stats").await.expect(200)["read_only"], true);
    assert_eq!(client.count("queue=q").await, 1);
    client.get("/jobs?filter=true").await.expect(200);
    let job = json!({"queue": "q", "type": "t", "payload": 1});
    for call in [
        client.post("/jobs", &job),
        client.post("/jobs/take", &json!({})),
        client.delete("/jobs?queue=q"),
        client.poke("/queues/q/pause"),
        client.poke("/reset"),
        client.post("/tokens", &json!({"name": "x", "role": "viewer"})),
    ] {
        call.await.expect_refusal(403, "--read-only");
    }
    client.get("/tokens").await.expect(200);
    assert_eq!(client.count("queue=q&status=ready").await, 1);
}
