//! How much of the disk is taken by what is gone.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Client, Server, id, lease};

/// What dead data may take, in bytes, a minute after the load at the latest.
const SPARE: u64 = 256 << 20;
const MINUTE: Duration = Duration::from_secs(60);

/// In bytes, of blocks that are allocated.
fn size(folder: &Path) -> u64 {
    let files = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

/// Megabytes of traffic; `ZIZQ_TEST_TRAFFIC_MB` asks for more.
fn traffic() -> usize {
    let asked = std::env::var("ZIZQ_TEST_TRAFFIC_MB").ok().map(|value| value.parse::<usize>().unwrap());
    asked.unwrap_or(320) << 20
}

/// Rounds of jobs, each enqueued, taken and done.
async fn churn(client: &Client, bytes: usize, print: Option<&str>) {
    let payload: String = std::iter::repeat_with(fastrand::alphanumeric).take(bytes).collect();
    let per_job = bytes.max(print.map_or(0, str::len)) + 200;
    let (mut jobs, bulk) = (traffic() / per_job, (4_000_000 / per_job).clamp(1, 1_000));
    while jobs > 0 {
        for _ in 0..8 {
            let new = (0..bulk).map(|_| json!({"queue": "q", "type": "t", "payload": payload}));
            client.enqueue_all(new).await;
        }
        jobs = jobs.saturating_sub(8 * bulk);
        loop {
            let taken = client.poll(&json!({"queues": ["q"], "limit": 500})).await;
            if taken.is_empty() {
                break;
            }
            if let Some(print) = print {
                for job in &taken {
                    let log = format!("/jobs/{}/log", id(job));
                    client.poke(&log).bytes("text/plain", print.to_owned()).await.expect_nothing();
                }
                // It is written down after a second, if the job is still there.
                client.let_pass(1_100).await;
            }
            let done: Vec<Value> =
                taken.iter().map(|job| json!({"id": id(job), "lease": lease(job)})).collect();
            client.post("/jobs/success", &json!({"jobs": done})).await.expect_nothing();
        }
    }
}

async fn expect_small(server: &Server, what: &str) {
    let root = server.root_dir();
    eprintln!("{what}: {} MB after the load", size(&root) >> 20);
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    let small = async {
        while size(&root) >= SPARE {
            pace.tick().await;
        }
    };
    let is_small = tokio::time::timeout(MINUTE, small).await.is_ok();
    assert!(is_small, "{what}: {} MB a minute after the load", size(&root) >> 20);
}

#[tokio::test]
async fn the_payloads_of_finished_jobs_do_not_stay_on_the_disk() {
    for bytes in [30_000, 300] {
        let server = Server::with(["--enqueue-commit-mode", "buffered"]).await;
        churn(&server.client(), bytes, None).await;
        expect_small(&server, &format!("{bytes} bytes")).await;
    }
}

#[tokio::test]
async fn the_payloads_of_completed_jobs_do_not_stay_longer_than_they() {
    let flags = ["--enqueue-commit-mode", "buffered", "--default-completed-job-retention", "5s"];
    let server = Server::with(flags).await;
    churn(&server.client(), 100_000, None).await;
    expect_small(&server, "kept for a while").await;
}

#[tokio::test]
async fn the_output_of_jobs_that_are_gone_does_not_stay_on_the_disk() {
    let server = Server::with(["--enqueue-commit-mode", "buffered"]).await;
    let print: String = std::iter::repeat_with(fastrand::alphanumeric).take(60_000).collect();
    churn(&server.client(), 10, Some(&print)).await;
    expect_small(&server, "output").await;
}
