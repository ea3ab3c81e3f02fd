//! The jobs of the demo.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::files::Files;
use super::screen::{Screen, seconds};
use crate::client::Client;

/// The queue of the shell command.
pub(super) const COMPRESS: &str = "compress";
/// The queue of the HTTP endpoint.
pub(super) const CHECKSUM: &str = "checksum";

const BULK: usize = 500;
/// Kept for an hour after their end, so that there is something to look at.
const KEPT_MS: u64 = 3_600_000;

/// Two jobs for every file.
pub(super) async fn enqueue(client: &Client, files: &Files) -> Result<()> {
    let paths: Vec<_> = files.paths().enumerate().collect();
    for some in paths.chunks(BULK) {
        let jobs: Vec<Value> = some
            .iter()
            .flat_map(|(n, path)| {
                let payload = json!({"file": n, "path": files.name(path)});
                [COMPRESS, CHECKSUM].map(|queue| {
                    json!({"queue": queue, "type": "file", "payload": payload, "retention": {"completed_ms": KEPT_MS}})
                })
            })
            .collect();
        let answer = client.post("/jobs/bulk", &json!({"jobs": jobs})).await;
        ensure!(answer.status == 201, "the jobs were refused: {:?}", answer.body);
    }
    Ok(())
}

/// How many jobs have come to their end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) compress: u64,
    pub(super) checksum: u64,
}

impl Done {
    pub(super) async fn ask(client: &Client) -> Self {
        let count = async |queue| client.count(&format!("queue={queue}&status=completed,dead")).await;
        Self { compress: count(COMPRESS).await, checksum: count(CHECKSUM).await }
    }

    pub(super) const fn all(&self) -> u64 {
        self.compress + self.checksum
    }
}

/// What the server has to tell about the jobs of the files.
#[derive(Debug, Default)]
pub(super) struct Summary {
    jobs: u64,
    completed: u64,
    failures: u64,
    failed_job: Option<String>,
}

/// Goes through them, page by page.
pub(super) async fn summary(client: &Client) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut next = Some(format!("/jobs?queue={COMPRESS},{CHECKSUM}&limit=1000"));
    while let Some(path) = next {
        let page = client.get(&path).await.expect(200);
        for job in page["jobs"].as_array().context("no jobs")? {
            summary.jobs += 1;
            summary.completed += u64::from(job["status"] == "completed");
            let failures = job["attempts"].as_u64().unwrap_or_default();
            summary.failures += failures;
            if failures > 0 {
                summary.failed_job = job["id"].as_str().map(str::to_owned);
            }
        }
        next = page["pages"]["next"].as_str().map(str::to_owned);
    }
    Ok(summary)
}

impl Summary {
    pub(super) fn describe(&self, elapsed: Duration) -> String {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let rate = self.jobs as f64 / elapsed.as_secs_f64();
        let (jobs, failures, time) = (self.jobs, self.failures, seconds(elapsed));
        format!("{jobs} jobs, {failures} failures, {failures} retries, in {time}: {rate:.0} jobs/s")
    }

    /// The id of a job that was retried.
    pub(super) fn failed_job(&self) -> Option<String> {
        self.failed_job.clone()
    }

    /// Every job succeeded, and every failure was counted.
    pub(super) fn check(&self, screen: &Screen, refusals: u64) -> bool {
        let completed = self.completed == self.jobs;
        screen.check(completed, &format!("{} of {} jobs completed", self.completed, self.jobs));
        // The endpoint may have refused a job whose worker did not live to tell.
        let counted = self.failures >= refusals;
        screen.check(
            counted,
            &format!("each of the {refusals} refusals of the endpoint was followed by a retry"),
        );
        completed && counted
    }
}

/// What there is to see, and the commands that show it.
pub(super) fn look_around(url: &str, failed_job: Option<&str>) -> Vec<(&'static str, String)> {
    let get = |path: &str| format!("curl -s '{url}{path}'");
    let failed_job = failed_job.unwrap_or("ID");
    vec![
        (
            "the dashboard, in a browser: in the queue `reports` there is a job with progress and a live log",
            format!("{url}/ui/"),
        ),
        ("the jobs, page by page", get("/jobs?queue=compress&limit=3")),
        ("how many of them are done", get("/jobs/count?status=completed")),
        ("why one of them was retried", get(&format!("/jobs/{failed_job}/errors"))),
        (
            "one more, compressed as soon as you press enter",
            format!(
                "curl -s '{url}/jobs' -H 'content-type: application/json' \\\n          \
                 -d '{{\"queue\": \"compress\", \"type\": \"file\", \"payload\": {{\"file\": 0}}}}'"
            ),
        ),
        (
            "be a worker: jobs of the queue `mine` are pushed to you",
            format!("curl -sN '{url}/jobs/take?queue=mine'"),
        ),
    ]
}
