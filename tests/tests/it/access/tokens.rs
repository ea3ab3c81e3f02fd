//! Access tokens from their first to their last day.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tests::wait::{until, within};
use tests::{Server, id};

use super::{asking, caller, names, printed, token};

#[tokio::test]
async fn a_token_is_made_over_the_control_socket_and_printed_alone() {
    let server = Server::with(["--auth", "required"]).await;
    let socket = server.root_dir().join("control.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let output =
        server.control(&["token", "create", "ci", "--role", "producer", "--queue", "mails*,x"]).await;
    let made = printed(&output);
    assert!(made.starts_with("zizq_p_") && !made.contains(char::is_whitespace), "{made}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("`ci` may: enqueue:x enqueue:mails*"), "{stderr}");
    assert!(!stderr.contains(&made));

    let client = server.client().with_token(&made);
    let who = client.get("/whoami").await.expect(200);
    assert_eq!(who["who"]["name"], "ci");
    assert_eq!(
        (&who["who"]["kind"], &who["role"], &who["auth"]),
        (&json!("token"), &json!("producer"), &json!("required"))
    );
    assert_eq!(who["grants"], json!(["enqueue:x", "enqueue:mails*"]));
    client.add("mails.eu").await;
    client.add("x").await;
    let job = json!({"queue": "y", "type": "t", "payload": null});
    client.post("/jobs", &job).await.expect_refusal(403, "`enqueue` for the queue `y`");

    let listed = printed(&server.control(&["token", "list"]).await);
    assert!(
        listed.contains("ci") && listed.contains("enqueue:mails*") && !listed.contains(&made),
        "{listed}"
    );
}

#[tokio::test]
async fn tokens_are_listed_without_their_secrets_and_survive_a_crash() {
    let (mut server, admin) = asking().await;
    let made = token(&server, "w", &["--role", "worker", "--expires", "90d"]).await;
    let client = server.client().with_token(&made);
    client.poll(&json!({"queues": ["q"]})).await;
    let list = admin.get("/tokens").await.expect(200);
    let text = list.to_string();
    assert!(!text.contains(&made[7..]) && !text.contains("digest"), "{text}");
    let of = |name: &str, list: &Value| {
        list["tokens"].as_array().unwrap().iter().find(|token| token["name"] == name).unwrap().clone()
    };
    let one = of("w", &list);
    assert_eq!(one["grants"], json!(["work"]));
    assert_eq!(one["created_by"], "local: control socket");
    assert!(one["expires_at"].as_u64().unwrap() > one["created_at"].as_u64().unwrap() + 89 * 86_400_000);
    assert_eq!(one["last_used_at"].as_u64().unwrap() % 86_400_000, 0, "to the day");
    server.kill9().await;
    server.restart().await;
    client.poll(&json!({"queues": ["q"]})).await;
    assert_eq!(names(&admin.get("/tokens").await.expect(200)["tokens"]).len(), 2);
    // What is about jobs goes; who may call stays.
    admin.poke("/reset").await.expect_nothing();
    client.poll(&json!({"queues": ["q"]})).await;
    server.kill9().await;
    server.restart().await;
    client.poll(&json!({"queues": ["q"]})).await;
}

#[tokio::test]
async fn a_revoked_token_ends_at_once_with_all_that_is_open() {
    let (server, admin) = asking().await;
    let all = ["--grant", "work,read,payload,enqueue,operate"];
    let (client, token) = caller(&server, "w", &all).await;
    let job = client.add("q").await;
    let mut jobs = client.events("queue=q&prefetch=1").await;
    let mut lines = client.lines("queue=nothing").await;
    jobs.next_job().await;
    let log = format!("/jobs/{}/log", id(&job));
    let mut log = client.get(&log).header("accept", "text/event-stream").response().await;
    let mut events = client.get("/events").header("accept", "text/event-stream").response().await;
    let (poll, wait) = (client.clone(), client.clone());
    let poll =
        tokio::spawn(
            async move { poll.post("/jobs/take", &json!({"queues": ["n"], "wait_ms": 30_000})).await },
        );
    let path = format!("/jobs/{}?wait_ms=30000", id(&job));
    let wait = tokio::spawn(async move { wait.get(&path).await });
    // Both wait once the poll is listed.
    until("the poll", async || {
        let workers = admin.get("/workers?queue=n").await.expect(200);
        (!names(&workers["workers"]).is_empty()).then_some(())
    })
    .await;
    printed(&server.control(&["token", "revoke", &token]).await);
    client.get("/whoami").await.expect_refusal(401, "no access token is like this one");
    poll.await.unwrap().expect_refusal(401, "the access token has ended");
    wait.await.unwrap().expect_refusal(401, "the access token has ended");
    jobs.expect_end().await;
    lines.expect_end().await;
    for body in [log.body_mut(), events.body_mut()] {
        use http_body_util::BodyExt;
        within("the end of a stream", async { while body.frame().await.is_some() {} }).await;
    }
    // Its job goes to the next.
    let (next, _) = caller(&server, "next", &all).await;
    assert_eq!(id(&next.poll_one("q").await), id(&job));
}

#[tokio::test]
async fn a_rotated_token_counts_until_the_overlap_is_over() {
    let (server, admin) = asking().await;
    let made = token(&server, "w", &["--role", "worker", "--queue", "q"]).await;
    let old = server.client().with_token(&made);
    let who = old.get("/whoami").await.expect(200);
    let id = who["who"]["id"].as_str().unwrap();
    let rotated = printed(&server.control(&["token", "rotate", id, "--overlap", "24h"]).await);
    assert!(rotated.starts_with("zizq_w_") && rotated != made);
    let new = server.client().with_token(&rotated);
    let who_now = new.get("/whoami").await.expect(200);
    assert_eq!(who_now["who"], who["who"]);
    old.get("/whoami").await.expect(200);
    let view = admin.get("/tokens").await.expect(200);
    assert!(view.to_string().contains("old_secret_until"));
    // Without an overlap the one before ends at once, and so does what was opened with it.
    let mut stream = new.events("queue=q").await;
    let last = admin.post(&format!("/tokens/{id}/rotate"), &json!({"overlap_ms": 0})).await.expect(200);
    new.get("/whoami").await.expect_refusal(401, "no access token is like this one");
    old.get("/whoami").await.expect_refusal(401, "no access token is like this one");
    stream.expect_end().await;
    server.client().with_token(last["token"].as_str().unwrap()).get("/whoami").await.expect(200);
    // With a short one it ends by itself.
    let short = admin.post(&format!("/tokens/{id}/rotate"), &json!({"overlap_ms": 300})).await.expect(200);
    let last = server.client().with_token(last["token"].as_str().unwrap());
    until("the end of the overlap", async || (last.get("/whoami").await.status == 401).then_some(())).await;
    server.client().with_token(short["token"].as_str().unwrap()).get("/whoami").await.expect(200);
}

#[tokio::test]
async fn the_log_says_which_tokens_expire_soon() {
    let (mut server, _) = asking().await;
    for (name, expires) in [("soon", "13d"), ("late", "30d")] {
        token(&server, name, &["--role", "viewer", "--expires", expires]).await;
    }
    server.sigterm().await;
    server.restart().await;
    let log = until("the warning", async || {
        Some(server.process().log()).filter(|log| log.contains("access token `soon`"))
    })
    .await;
    // Twelve days and most of another, or, within the second in which it was made, thirteen.
    assert!(
        ["12 days", "13 days"].iter().any(|days| log.contains(&format!("it expires in {days}"))),
        "{log}"
    );
    assert!(!log.contains("`late`"), "{log}");
}

#[tokio::test]
async fn a_token_expires_with_its_streams() {
    let (server, admin) = asking().await;
    let new = json!({"name": "short", "role": "worker", "queues": ["q"], "expires_in_ms": 700});
    let made = admin.post("/tokens", &new).await.expect(201);
    let client = server.client().with_token(made["token"].as_str().unwrap());
    let mut stream = client.events("queue=q").await;
    stream.expect_end().await;
    client.get("/whoami").await.expect_refusal(401, "has expired");
}

#[tokio::test]
async fn senseless_tokens_are_refused() {
    let (server, admin) = asking().await;
    for (body, status, says) in [
        (json!({"name": "a"}), 422, "it would allow nothing"),
        (json!({"name": "", "role": "viewer"}), 400, "must not be empty"),
        (json!({"name": "a", "role": "king"}), 400, "king"),
        (json!({"name": "a", "role": "viewer", "queue": "x"}), 400, "queue"),
        (json!({"name": "a", "grants": ["reed"]}), 400, "use one of enqueue, work, read"),
        (json!({"name": "a", "role": "admin", "queues": ["x"]}), 422, "the server as a whole"),
        (json!({"name": "a", "role": "viewer", "expires_at": 1}), 422, "expired already"),
        (json!({"name": "root", "role": "viewer"}), 409, "there is an access token `root` already"),
    ] {
        admin.post("/tokens", &body).await.expect_refusal(status, says);
    }
    for path in ["/tokens/x", "/tokens/tok_123456789012"] {
        admin.delete(path).await.expect_refusal(404, "no access token has the id");
    }
    let made = token(&server, "x", &["--role", "viewer"]).await;
    let refused = admin.delete(&format!("/tokens/{made}")).await;
    refused.expect_refusal(404, "`***`");
    for (args, says) in [
        (
            vec!["token", "create", "a", "--role", "king"],
            "use one of admin, operator, viewer, producer, worker",
        ),
        (vec!["token", "create", "a"], "it would allow nothing"),
        (
            vec!["token", "create", "a", "--role", "worker", "--queue", "a*b"],
            "a pattern is a name, or a prefix and `*`",
        ),
        (vec!["token", "revoke", "tok_123456789012"], "no access token has the id"),
        (
            vec!["token", "list", "--root-dir", "/nowhere"],
            "no server answers at its control socket /nowhere/control.sock",
        ),
    ] {
        let output = server.control(&args).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && stderr.contains(says) && output.stdout.is_empty(),
            "{args:?}: {stderr}"
        );
    }
}

#[tokio::test]
async fn a_long_path_of_the_socket_is_said_and_can_be_moved() {
    let folder = tempfile::TempDir::new().unwrap();
    let long = folder.path().join("x".repeat(100)).join("control.sock");
    let long = long.to_str().unwrap();
    let server = Server::start().await;
    let output = server.control(&["token", "list", "--control-socket", long]).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("those of sockets have at most 107") && stderr.contains("--control-socket"),
        "{stderr}"
    );
    let moved = folder.path().join("s");
    let moved = moved.to_str().unwrap();
    let server = Server::with(["--control-socket", moved]).await;
    assert!(!server.root_dir().join("control.sock").exists());
    assert_eq!(printed(&server.control(&["token", "list", "--control-socket", moved]).await), "");
}
