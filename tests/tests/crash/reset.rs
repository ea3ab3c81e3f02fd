//! `POST /reset` takes several steps on the disk. Wherever the server is killed among them, afterwards everything is there or
//! nothing: jobs, what they have printed, recurring jobs, budgets, pauses and answers.
//!
//! It needs `cc`, to build the library that stands between the server and the operating system.

use std::fs;
use std::path::Path;

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Client, id};

use super::sync_error::{Run, build};

/// More steps than there are.
const MAX_STEPS: u32 = 100;

fn job(n: u32) -> Value {
    json!({"queue": "q", "type": "t", "payload": n})
}

async fn stock(client: &Client) {
    client.enqueue_all((0..30).map(job)).await;
    let printing = client.poll_one("q").await;
    let log = format!("/jobs/{}/log", id(&printing));
    client.poke(&log).bytes("text/plain", "printed").await.expect_nothing();
    client.release(&printing).await;
    client.add("paused").await;
    client.poke("/queues/paused/pause").await.expect(200);
    let entry = json!({"name": "e", "expression": "0 0 1 1 *", "job": job(0)});
    client.call(Method::PUT, "/crons/g").value(&json!({"entries": [entry]})).await.expect(200);
    let policy = json!({"allocation": 5, "strategy": {"type": "while_in_flight"}});
    client.post("/budgets/b", &policy).await.expect(201);
    client.post("/jobs", &job(30)).header("idempotency-key", "k").await.expect(201);
}

/// What there is: all of it in words, so that a part of it is neither everything nor nothing.
async fn shown(client: &Client) -> Vec<String> {
    let jobs = client.get("/jobs?limit=100").await.expect(200)["jobs"].as_array().unwrap().clone();
    let mut shown: Vec<String> = jobs.iter().map(|job| id(job).to_owned()).collect();
    for id in shown.clone() {
        let log = client.get(&format!("/jobs/{id}/log")).header("accept", "text/plain").await;
        shown.extend((!log.body.is_empty()).then(|| format!("{id} has {:?}", log.body)));
    }
    let details = client.get("/queues?details=true").await.expect(200);
    shown.extend(details["queues"].as_array().unwrap().iter().map(|queue| {
        format!("queue {}: {}, paused: {}", queue["name"], queue["counts"]["ready"], queue["paused"])
    }));
    for path in ["/crons/g", "/budgets/b"] {
        shown.extend((client.get(path).await.status == 200).then(|| path.to_owned()));
    }
    shown
}

#[tokio::test]
async fn a_kill_within_a_reset_leaves_everything_or_nothing() {
    let mut folder = TempDir::with_prefix("zizq-test-").unwrap();
    let library = build(folder.path(), "kill_at");
    let (mut kept, mut lost) = (0, 0);
    let mut all = Vec::new();
    for step in 1..=MAX_STEPS {
        let armed = folder.path().join("armed");
        if all.is_empty() {
            let mut run = Run::start(folder, &[]).await;
            stock(&run.client).await;
            all = shown(&run.client).await;
            assert_eq!(all.len(), 32 + 1 + 2 + 2, "{all:?}");
            // What jobs print is written down by now.
            assert!(run.process.sigterm().await.success());
            folder = run.folder;
        }
        let environment = [
            ("LD_PRELOAD", library.as_path()),
            ("ZIZQ_TEST_THREAD", Path::new("engine")),
            ("ZIZQ_TEST_ARMED", armed.as_path()),
        ];
        let mut run = Run::start(folder, &environment).await;
        assert_eq!(shown(&run.client).await, all);
        fs::write(&armed, step.to_string()).unwrap();
        let answer = run.client.poke("/reset").try_response().await;
        fs::remove_file(&armed).unwrap();
        if let Ok(answer) = answer {
            assert_eq!(answer.status(), 204);
            assert_eq!(shown(&run.client).await, Vec::<String>::new());
            assert!(kept > 0 && lost > 1, "kept {kept} times, lost {lost} times");
            eprintln!("kept {kept}, lost {lost}");
            return;
        }
        run.process.ended().await;
        let mut run = Run::start(run.folder, &[]).await;
        let left = shown(&run.client).await;
        if left.is_empty() {
            lost += 1;
            all.clear();
            // Nobody has done that before.
            let made = run.client.post("/jobs", &job(30)).header("idempotency-key", "k").await.expect(201);
            assert_eq!(run.client.status(id(&made)).await.as_deref(), Some("ready"));
            run.client.poke("/reset").await.expect_nothing();
        } else {
            kept += 1;
            assert_eq!(left, all, "killed at step {step}");
            run.client.post("/jobs", &job(30)).header("idempotency-key", "k").await.expect(201);
            assert_eq!(shown(&run.client).await, all, "that call was carried out before");
        }
        assert!(run.process.sigterm().await.success());
        folder = run.folder;
    }
    panic!("a reset takes more than {MAX_STEPS} steps");
}
