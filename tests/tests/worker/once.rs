//! Jobs that run while the server crashes again and again.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tests::{Server, Worker, id, wait};

const JOBS: usize = 50;
const WORKERS: usize = 4;
const CRASHES: usize = 10;

fn starts(ledger: &Path) -> HashMap<String, usize> {
    let mut starts = HashMap::new();
    for line in std::fs::read_to_string(ledger).unwrap_or_default().lines() {
        *starts.entry(line.to_owned()).or_default() += 1;
    }
    starts
}

#[tokio::test]
async fn fifty_jobs_in_four_workers_run_once_through_ten_crashes_of_the_server() {
    let mut server = Server::start().await;
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let ledger = folder.path().join("ledger");
    let command = format!("q=echo $ZIZQ_JOB_ID >> {}; sleep 5", ledger.display());
    let flags = ["--run", &command, "--concurrency", "13"];
    let workers: Vec<Worker> = (0..WORKERS).map(|_| Worker::start(&server, flags)).collect();
    let client = server.client();
    let job =
        |n: usize| json!({"queue": "q", "type": "t", "payload": n, "retention": {"completed_ms": 600_000}});
    let queued = client.enqueue_all((0..JOBS).map(job)).await;
    wait::until("every job to begin", async || (starts(&ledger).len() == JOBS).then_some(())).await;
    // The contract promises it for leases that are older than a second.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    for _ in 0..CRASHES {
        server.kill9().await;
        server.restart().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let client = server.client();
    wait::until("every job to be done", async || {
        (client.count("status=completed").await == u64::try_from(JOBS).unwrap()).then_some(())
    })
    .await;
    let starts = starts(&ledger);
    for job in &queued {
        assert_eq!(starts.get(id(job)), Some(&1), "{} ran once", id(job));
        assert_eq!(client.job(id(job)).await["attempts"], 0);
    }
    assert_eq!(starts.len(), JOBS);
    drop(workers);
}
