//! What people try who have no token, or the wrong one.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;
use tests::wait::until;
use tests::{Client, Server, id, lease};

use super::{asking, caller, token};

#[tokio::test]
async fn guessing_is_slowed_down_and_counted_but_never_who_knows() {
    let (server, admin) = asking().await;
    let guess = "zizq_a_0123456789ABCDEFGHIJKLMNOPQRSTUV000000";
    let stranger = server.client().with_token(guess);
    let failures = async || {
        let metrics = admin.get("/metrics").header("accept", "text/plain").await;
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        let line = text.lines().find(|line| line.starts_with("zizq_auth_failures_total"));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = failures().await;
    for _ in 0..9 {
        stranger.get("/queues").await.expect_refusal(401, "mistyped");
    }
    let since = Instant::now();
    stranger.get("/queues").await.expect_refusal(401, "mistyped");
    assert!(since.elapsed() >= Duration::from_secs(1), "the tenth waits");
    assert_eq!(failures().await, before + 10);
    // From the same address, at the same time.
    let waiting = tokio::spawn({
        let stranger = stranger.clone();
        async move { stranger.get("/queues").await }
    });
    admin.get("/queues").await.expect(200);
    assert!(!waiting.is_finished(), "who knows a token does not wait for those who guess");
    waiting.await.unwrap().expect_refusal(401, "");
    // Whoever shows nothing has guessed nothing.
    for _ in 0..12 {
        server.client().get("/queues").await.expect_refusal(401, "");
    }
}

#[tokio::test]
async fn wrong_credentials_are_told_apart_without_being_repeated() {
    let (server, _) = asking().await;
    let made = token(&server, "v", &["--role", "viewer"]).await;
    let other = Server::start().await;
    let of_another = token(&other, "v", &["--role", "viewer"]).await;
    let typo = format!("{}{}", &made[..20], made[20..].chars().rev().collect::<String>());
    let basic = |text: &str| {
        use base64::prelude::{BASE64_STANDARD, Engine};
        format!("Basic {}", BASE64_STANDARD.encode(text))
    };
    let ask = async |header: &str| server.client().get("/queues").header("authorization", header).await;
    for (header, says) in [
        (format!("Bearer {}", &made[..made.len() - 1]), "a part is missing"),
        (format!("Bearer {made}0"), "or there is too much"),
        (format!("Bearer {typo}"), "mistyped"),
        (format!("Bearer {of_another}"), "made by another server"),
        (made.clone(), "neither `Bearer TOKEN` nor `Basic`"),
        (format!("Token {made}"), "neither `Bearer TOKEN` nor `Basic`"),
        (basic(&made), "neither `Bearer TOKEN` nor `Basic`"),
        (basic(&format!("{made}:")), "begins with zizq_"),
    ] {
        let sentence = ask(&header).await.expect_refusal(401, says);
        assert!(!sentence.contains(&made[10..20]) && !sentence.contains(&of_another[10..20]), "{sentence}");
    }
    for header in [
        format!("Bearer {made}"),
        format!("bearer  {made}"),
        basic(&format!("x:{made}")),
        basic(&format!(":{made}")),
    ] {
        ask(&header).await.expect(200);
    }
}

#[tokio::test]
async fn a_token_in_a_url_is_refused_whether_it_is_right_or_not() {
    let (server, admin) = asking().await;
    let made = token(&server, "v", &["--role", "viewer"]).await;
    let with = server.client().with_token(&made);
    for client in [&server.client(), &with, &admin] {
        for query in [
            format!("token={made}"),
            format!("access_token={made}"),
            format!("q={made}"),
            "TOKEN=x".to_owned(),
        ] {
            let sentence =
                client.get(&format!("/queues?{query}")).await.expect_refusal(400, "never goes into a URL");
            assert!(!sentence.contains(&made[10..20]));
        }
    }
    let user = server.url().replace("http://", &format!("http://x:{made}@"));
    // Clients that keep a password in their URL send it as a header.
    assert!(user.contains('@'));
}

/// A worker of one queue, beside another queue with a job that somebody else holds.
async fn intruder() -> (Server, Client, Client, serde_json::Value) {
    let (server, admin) = asking().await;
    let job = json!({"queue": "theirs", "type": "t", "payload": {"card": "4111"}});
    admin.enqueue(&job).await;
    let held = admin.poll_one("theirs").await;
    let (worker, _) = caller(&server, "mine", &["--role", "worker", "--queue", "mine"]).await;
    (server, admin, worker, held)
}

#[tokio::test]
async fn a_worker_of_one_queue_reads_nothing_of_another() {
    let (_server, _admin, worker, held) = intruder().await;
    let id = id(&held);
    for (path, status) in [
        (format!("/jobs/{id}"), 404),
        (format!("/jobs/{id}/errors"), 404),
        (format!("/jobs/{id}/log"), 404),
        (format!("/jobs?id={id}"), 403),
        ("/jobs?filter=.card".to_owned(), 403),
        ("/jobs/count?queue=theirs".to_owned(), 403),
        ("/events".to_owned(), 403),
        ("/queues".to_owned(), 403),
        ("/budgets".to_owned(), 403),
        ("/jobs/take?queue=theirs".to_owned(), 403),
        ("/jobs/take?queue=mine,theirs".to_owned(), 403),
    ] {
        let answer = worker.get(&path).header("accept", "*/*").await;
        assert_eq!(answer.status, status, "{path}: {:?}", answer.body);
        assert!(!String::from_utf8_lossy(&answer.body).contains("4111"));
    }
}

#[tokio::test]
async fn a_worker_of_one_queue_reports_on_nothing_of_another() {
    let (_server, admin, worker, held) = intruder().await;
    let (id, lease) = (id(&held), lease(&held));
    for verb in ["success", "heartbeat", "release", "failure"] {
        let body = if verb == "failure" { json!({"message": "x"}) } else { json!({}) };
        let call = worker.post(&format!("/jobs/{id}/{verb}"), &body).header("zizq-lease", lease);
        call.await.expect_refusal(404, "does not exist or is not in flight");
        let missing = worker.post(&format!("/jobs/{}/{verb}", "0".repeat(25)), &body).await;
        assert_eq!(missing.status, 404);
    }
    let log = worker.call(Method::POST, &format!("/jobs/{id}/log")).header("zizq-lease", lease);
    log.bytes("text/plain", "ha").await.expect_refusal(404, "");
    let one = json!([{"id": id, "lease": lease}]);
    for (path, body, list) in [
        ("/jobs/success", json!({"jobs": one}), "not_found"),
        ("/jobs/success", json!({"ids": [id]}), "not_found"),
        ("/jobs/release", json!({"jobs": one}), "not_found"),
    ] {
        assert_eq!(worker.post(path, &body).await.expect(422)[list], json!([id]), "{path}");
    }
    let beats = worker.post("/jobs/heartbeat", &json!({"jobs": one})).await.expect(200);
    assert_eq!((&beats["lost"], &beats["jobs"]), (&json!([id]), &json!([])));
    admin.succeed(&held).await;
}

#[tokio::test]
async fn nobody_resumes_the_stream_of_another() {
    let (server, admin) = asking().await;
    let (theirs, _) = caller(&server, "theirs", &["--role", "worker", "--queue", "theirs"]).await;
    let (mine, _) = caller(&server, "mine", &["--role", "worker", "--queue", "mine"]).await;
    let (twin, _) = caller(&server, "twin", &["--role", "worker", "--queue", "theirs"]).await;
    admin.add("theirs").await;
    let mut stream = theirs.events("queue=theirs&lease_ms=60000&resume_ms=60000").await;
    let job = stream.next_job().await;
    let event = stream.last_event_id.clone();
    drop(stream);
    let gone = async || {
        let workers = admin.get("/workers").await.expect(200)["workers"].clone();
        workers.as_array().unwrap().is_empty().then_some(())
    };
    until("the end of the connection", gone).await;
    for thief in [&mine, &twin] {
        let queue = if std::ptr::eq(thief, &twin) { "theirs" } else { "mine" };
        let mut stolen = thief.resume(&event, &format!("queue={queue}")).await;
        assert!(!stolen.hello().resumed);
        stolen.expect_idle().await;
    }
    let resumed = theirs.resume(&event, "queue=theirs").await;
    assert!(resumed.hello().resumed);
    theirs.succeed(&job).await;
}

#[tokio::test]
async fn a_worker_resumes_its_stream_after_a_restart_of_the_server() {
    let (mut server, admin) = asking().await;
    let (theirs, _) = caller(&server, "theirs", &["--role", "worker", "--queue", "theirs"]).await;
    let (mine, _) = caller(&server, "mine", &["--role", "worker", "--queue", "mine"]).await;
    admin.add("theirs").await;
    let mut stream = theirs.events("queue=theirs&lease_ms=60000&resume_ms=60000").await;
    let job = stream.next_job().await;
    let event = stream.last_event_id.clone();
    server.sigterm().await;
    server.restart().await;
    // Whose it is, is not known any more; but what it holds is nothing for the other.
    assert!(!mine.resume(&event, "queue=mine").await.hello().resumed);
    assert!(theirs.resume(&event, "queue=theirs").await.hello().resumed);
    theirs.succeed(&job).await;
}

#[tokio::test]
async fn keys_lead_to_no_job_of_another_queue() {
    let (server, admin) = asking().await;
    let (mine, _) = caller(&server, "mine", &["--role", "producer", "--queue", "mine"]).await;
    let unique = |queue: &str| json!({"queue": queue, "type": format!("type of {queue}"), "payload": 1, "unique_key": "k"});
    admin.enqueue(&unique("theirs")).await;
    for path in ["/jobs", "/jobs?wait_ms=100"] {
        let seen = mine.post(path, &unique("mine")).await.expect(200);
        assert_eq!((&seen["duplicate"], &seen["hidden"]), (&json!(true), &json!(true)), "{seen}");
        assert!(!seen.to_string().contains("theirs"), "{seen}");
    }
    let bulk = json!({"jobs": [unique("mine")]});
    let seen = mine.post("/jobs/bulk", &bulk).header("idempotency-key", "i").await.expect(200);
    assert!(!seen.to_string().contains("theirs"), "{seen}");
    let again = mine.post("/jobs/bulk", &bulk).header("idempotency-key", "i").await.expect(200);
    assert_eq!(seen, again);
    // Nobody gets the answer to somebody else's call.
    admin
        .post("/jobs/bulk", &bulk)
        .header("idempotency-key", "i")
        .await
        .expect_refusal(422, "another request");
    let batch = |queue: &str| {
        let batch = json!({"key": "b", "when": "true", "fold": "$existing + $new"});
        json!({"queue": queue, "type": "t", "payload": [queue], "batch": batch})
    };
    let theirs = admin.enqueue(&batch("theirs")).await;
    mine.post("/jobs", &batch("mine"))
        .await
        .expect_refusal(422, "in a queue that this caller may not enqueue to");
    assert_eq!(admin.job(id(&theirs)).await["payload"], json!(["theirs"]));
}

#[tokio::test]
async fn budgets_are_set_up_by_nobody_on_the_way() {
    let (server, admin) = asking().await;
    let grants = ["--grant", "enqueue:mine,operate:mine,read:mine,configure:mine"];
    let (mine, _) = caller(&server, "mine", &grants).await;
    let policy = json!({"allocation": 1, "strategy": {"type": "while_in_flight"}});
    let job =
        json!({"queue": "mine", "type": "t", "payload": 1, "budgets": [{"key": "b", "create_with": policy}]});
    let plain = mine.add("mine").await;
    let says = "this call creates the budget `b`";
    mine.post("/jobs", &job).await.expect_refusal(403, says);
    mine.post("/jobs/bulk", &json!({"jobs": [job]})).await.expect_refusal(403, says);
    let bind = json!({"create_with": policy});
    mine.post(&format!("/jobs/{}/budgets/b", id(&plain)), &bind).await.expect_refusal(403, says);
    mine.post("/jobs/budgets/b?queue=mine", &bind).await.expect_refusal(403, says);
    let cron = json!({"entries": [{"name": "e", "expression": "0 0 1 1 *", "job": job}]});
    mine.call(Method::PUT, "/crons/g").value(&cron).await.expect_refusal(403, says);
    admin.post("/budgets/b", &policy).await.expect(201);
    mine.enqueue(&job).await;
    for path in ["/budgets", "/budgets/b"] {
        mine.get(path).await.expect_refusal(403, "about all queues");
    }
}
