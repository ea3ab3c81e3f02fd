//! The examples under `zizq-worker/examples` do what they say, where the machine has the language.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::binaries::binary;
use tests::process::Process;
use tests::{Client, Server, id, wait};
use tokio::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("zizq-worker/examples")
}

fn has(program: &str) -> bool {
    let found = std::process::Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    found.is_ok_and(|status| status.success())
}

async fn until_status(client: &Client, job: &Value, status: &str) {
    wait::until(format!("{} to be {status}", id(job)), async || {
        (client.status(id(job)).await.as_deref() == Some(status)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_same_job_in_six_languages() {
    let copy = TempDir::with_prefix("zizq-test-").unwrap();
    for file in std::fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let cc = Command::new("cc").args(["-O2", "-o", "words", "words.c"]).current_dir(copy.path()).status();
    assert!(cc.await.unwrap().success());

    let server = Server::start().await;
    let client = server.client();
    let mut command = Command::new(binary("zizq-worker"));
    command.args(["--config", "worker.toml", "--server", &server.url(), "--concurrency", "2"]);
    command.current_dir(copy.path()).env("ZIZQ_SPOOL", copy.path().join("spool"));
    let worker = Process::start(command, &copy.path().join("worker.log"));
    let all = [
        ("bash", "bash"),
        ("python", "python3"),
        ("node", "node"),
        ("ruby", "ruby"),
        ("perl", "perl"),
        ("c", "cc"),
    ];
    let here: Vec<&str> = all.iter().filter(|(_, program)| has(program)).map(|(queue, _)| *queue).collect();
    assert!(here.contains(&"bash") && here.contains(&"python") && here.contains(&"c"), "{here:?}");
    for queue in here {
        let job = |text: &str| {
            json!({
                "queue": queue, "type": "words", "payload": {"text": text},
                "retention": {"completed_ms": 600_000, "dead_ms": 600_000}
            })
        };
        let good = client.enqueue(&job("it's \"one\" two\nthree $(four) naïve")).await;
        let bad = client.enqueue(&job("")).await;
        until_status(&client, &good, "completed").await;
        until_status(&client, &bad, "dead").await;
        wait::until(format!("what {queue} prints"), async || {
            let log = worker.log();
            log.lines().any(|line| line.contains("\"6 words\"") && line.contains(id(&good))).then_some(())
        })
        .await;
        let errors = client.get(&format!("/jobs/{}/errors", id(&bad))).await.expect(200);
        assert_eq!(errors["errors"][0]["message"], "the text is empty (exited with code 65)", "{queue}");
    }
    assert!(!worker.log().contains("cannot be read"), "every line on the control channel is right");
}

/// A worker of one's own takes jobs, reports success and failure, and goes on when the server was away.
async fn works(program: &str, file: &str) {
    if !has(program) {
        return;
    }
    let mut server = Server::start().await;
    let log = TempDir::with_prefix("zizq-test-").unwrap();
    let mut command = Command::new(program);
    command.arg(folder().join(file)).env("ZIZQ_SERVER", server.url()).env("QUEUE", "q");
    let mut worker = Process::start(command, &log.path().join("log"));
    for round in 0..2 {
        let client = server.client();
        let job = |payload: &str| {
            json!({"queue": "q", "type": "t", "payload": payload, "retention": {"completed_ms": 600_000}, "retry_limit": 0,
                   "backoff": {"base_ms": 0, "exponent": 0, "jitter_ms": 0}})
        };
        let good = client.enqueue(&job("it's \"a\" line")).await;
        until_line(&mut worker, id(&good)).await;
        until_status(&client, &good, "completed").await;
        let bad = client.enqueue(&job("fail")).await;
        until_line(&mut worker, id(&bad)).await;
        wait::until(format!("{} to have failed", id(&bad)), async || {
            client.status(id(&bad)).await.is_none_or(|status| status == "dead").then_some(())
        })
        .await;
        if round == 0 {
            server.kill9().await;
            server.restart().await;
        }
    }
    worker.kill9().await;
}

async fn until_line(worker: &mut Process, job: &str) {
    loop {
        let line = worker.line().await;
        assert!(!line.is_empty(), "it has ended: {}", worker.log());
        if line.starts_with("running") && line.contains(job) {
            break;
        }
    }
}

#[tokio::test]
async fn a_worker_over_sse_in_python() {
    works("python3", "worker_sse.py").await;
}

#[tokio::test]
async fn a_worker_over_sse_in_node() {
    works("node", "worker_sse.mjs").await;
}

#[tokio::test]
async fn a_worker_by_long_poll_in_bash() {
    if has("jq") {
        works("bash", "worker_poll.sh").await;
    }
}
