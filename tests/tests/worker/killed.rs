//! Workers that are killed at random.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tests::{Client, Server, Worker, id, wait};
use tokio::time::Instant;

const TIME: Duration = Duration::from_secs(60);
const WORKERS: usize = 3;

/// The processes that know this server: those of its workers' jobs.
fn jobs_of(server: &Server) -> Vec<String> {
    let variable = format!("ZIZQ_SERVER={}", server.url());
    let knows = |pid: &str| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|one| one == variable.as_bytes())
    };
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && knows(name)).collect()
}

async fn until_none_left(server: &Server, of: &str) {
    wait::until(format!("no process left of {of}"), async || jobs_of(server).is_empty().then_some(())).await;
}

#[tokio::test]
async fn no_job_is_lost_and_no_process_is_left_behind() {
    let server = Server::start().await;
    let client = server.client();
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let ledger = folder.path().join("ledger");
    // A grandchild, in a session of its own, that would live for ever.
    let command = format!(
        "q=echo {{{{ .id }}}} {{{{ .deliveries }}}} >> {}; setsid sleep 1000 & sleep 0.$(shuf -i 10-60 -n 1)",
        ledger.display()
    );
    let start = || Worker::start(&server, ["--run", &command, "--concurrency", "4", "--lease", "2s"]);
    let mut workers: Vec<Worker> = (0..WORKERS).map(|_| start()).collect();
    let mut queued = Vec::new();
    let (begin, mut kills) = (Instant::now(), 0);
    while begin.elapsed() < TIME {
        queued.extend(enqueue(&client, 4).await);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..700))).await;
        let victim = &mut workers[fastrand::usize(..WORKERS)];
        victim.kill9().await;
        *victim = start();
        kills += 1;
    }
    wait::until("every job to be done", async || {
        let done = client.count("status=completed").await;
        (done == u64::try_from(queued.len()).unwrap()).then_some(())
    })
    .await;
    let mut runs: HashMap<String, Vec<u32>> = HashMap::new();
    for line in std::fs::read_to_string(&ledger).unwrap().lines() {
        let (job, delivery) = line.split_once(' ').unwrap();
        runs.entry(job.to_owned()).or_default().push(delivery.parse().unwrap());
    }
    let mut again = 0;
    for job in &queued {
        let runs = runs.get(id(job)).unwrap_or_else(|| panic!("{} never ran", id(job)));
        assert!(
            runs.is_sorted_by(|a, b| a < b),
            "each run of {} is a delivery of its own: {runs:?}",
            id(job)
        );
        assert_eq!(client.job(id(job)).await["attempts"], 0, "no attempt has failed");
        again += runs.len() - 1;
    }
    eprintln!("{kills} kills, {} jobs, {again} runs more than once", queued.len());
    for mut worker in workers {
        assert_eq!(worker.sigterm().await.code(), Some(0));
    }
    until_none_left(&server, "workers that were killed or stopped").await;
}

async fn enqueue(client: &Client, n: usize) -> Vec<serde_json::Value> {
    let job = json!({"queue": "q", "type": "t", "payload": n, "retention": {"completed_ms": 600_000}});
    client.enqueue_all((0..n).map(|_| job.clone())).await
}
