//! Many jobs in many queues, and many streams: what looking at a server must not get slower by.

use std::fmt::Write;
use std::time::Instant;

use serde_json::json;

use crate::client::{Client, id};
use crate::stream::Stream;

/// How many jobs are enqueued at a time.
const BULK: usize = 5_000;

/// How many there are of each.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    pub jobs: usize,
    pub queues: usize,
    pub streams: usize,
    /// Whether somebody asked for this size: a release build is measured, and nothing else runs.
    pub is_measured: bool,
}

impl Crowd {
    /// What `ZIZQ_TEST_JOBS`, `ZIZQ_TEST_QUEUES` and `ZIZQ_TEST_STREAMS` say, such as 10000000, 10000 and 5000; else so many.
    #[must_use]
    pub fn from_env(jobs: usize, queues: usize, streams: usize) -> Self {
        let read = |name| std::env::var(name).ok().map(|text: String| text.parse().unwrap());
        let asked = read("ZIZQ_TEST_JOBS");
        Self {
            jobs: asked.unwrap_or(jobs),
            queues: read("ZIZQ_TEST_QUEUES").unwrap_or(queues),
            streams: read("ZIZQ_TEST_STREAMS").unwrap_or(streams),
            is_measured: asked.is_some(),
        }
    }

    /// Enqueues the jobs, and opens the streams, which have nothing to do: they take from queues without jobs. Returns
    /// the id of a job that is ready.
    pub async fn gather(self, client: &Client) -> (String, Vec<Stream>) {
        let started = Instant::now();
        let job = self.fill(client).await;
        eprintln!("{} jobs in {} queues after {:?}", self.jobs, self.queues, started.elapsed());
        let mut open = Vec::with_capacity(self.streams);
        for n in 0..self.streams {
            open.push(client.lines(&format!("queue=idle{n}")).await);
        }
        (job, open)
    }

    /// Fills the queues evenly; in the first one some jobs are dead, and some scheduled.
    async fn fill(self, client: &Client) -> String {
        for start in (0..self.jobs).step_by(BULK) {
            let mut body = "{\"jobs\": [".to_owned();
            for n in start..self.jobs.min(start + BULK) {
                let (queue, kind, comma) = (n % self.queues, n % 7, if n == start { "" } else { "," });
                let ready_at = if n % 10 == 9 { 4_000_000_000_000_u64 } else { 0 };
                write!(body, r#"{comma}{{"queue": "q{queue:05}", "type": "t{kind}", "payload": {{"user": {n}}}, "ready_at": {ready_at}}}"#).unwrap();
            }
            body.push_str("]}");
            client.poke("/jobs/bulk").bytes("application/json", body).await.expect(201);
        }
        for _ in 0..20 {
            let job = client.poll_one("q00000").await;
            client.fail(&job, &json!({"message": "m", "kill": true})).await;
        }
        id(&client.add("q00001").await).to_owned()
    }
}

/// How many entries of its store a server has read for those who look, so far.
pub async fn entries_read(client: &Client) -> u64 {
    let answer = client.get("/metrics").header("accept", "text/plain").await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("zizq_reader_entries_total{"));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}
