//! A clock that is set while the server runs, in both directions. What the server takes for the wall clock is faked by
//! libfaketime; the clock that only counts is the real one.

use std::fs;
use std::path::Path;

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::binaries::binary;
use tests::process::Process;
use tests::server::address;
use tests::wait::{now_ms, until};
use tests::{Client, Wire, id, lease};
use tokio::process::Command;

const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;

/// A server that sees the clock that it is told to see.
struct Faked {
    process: Process,
    client: Client,
    folder: TempDir,
}

fn library() -> String {
    let found = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path().join("faketime"));
    let found = found.chain([Path::new("/usr/lib/faketime").to_owned()]);
    let mut libraries = found.map(|folder| folder.join("libfaketimeMT.so.1")).filter(|path| path.exists());
    let library = libraries.next().expect("libfaketime is installed (package faketime)");
    library.to_str().unwrap().to_owned()
}

/// Sets the clock: how much it is ahead of the real one, in seconds. A reader never finds half of it.
fn set(folder: &Path, ahead_s: i64) {
    let new = folder.join("clock.new");
    fs::write(&new, format!("{ahead_s:+}\n")).unwrap();
    fs::rename(new, folder.join("clock")).unwrap();
}

async fn start(folder: &Path) -> (Process, Client) {
    let mut command = Command::new(binary("zizq-server"));
    command.args(["--port", "0", "--default-completed-job-retention", "1h", "--root-dir"]);
    command.arg(folder.join("root"));
    command.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", folder.join("clock"));
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let mut process = Process::start(command, &folder.join("server.log"));
    let address = address(&mut process).await;
    (process, Client::new(&format!("http://{address}"), Wire::default()))
}

impl Faked {
    async fn start() -> Self {
        let folder = TempDir::with_prefix("zizq-test-").unwrap();
        set(folder.path(), 0);
        let (process, client) = start(folder.path()).await;
        Self { process, client, folder }
    }

    async fn restart(&mut self) {
        (self.process, self.client) = start(self.folder.path()).await;
    }

    /// Sets the clock, and waits until the server has noticed: it dates new jobs by it.
    async fn set(&self, ahead_s: i64) {
        set(self.folder.path(), ahead_s);
        until("the server to see the clock", async || {
            let job = self.client.add("probe").await;
            let ahead = ready_at(&job).abs_diff(now_ms().saturating_add_signed(ahead_s * 1_000));
            (ahead < 10_000).then_some(())
        })
        .await;
    }

    async fn every_second(&self) {
        let entry = json!({"name": "e", "expression": "* * * * * *",
            "job": {"queue": "cron", "type": "t", "payload": null}});
        self.client.call(Method::PUT, "/crons/g").value(&json!({"entries": [entry]})).await.expect(200);
    }

    /// Waits for jobs of the cron entry that were made now, by the clock that the server sees.
    async fn cron_comes(&self, ahead_s: i64, times: usize) {
        let mut came = 0;
        while came < times {
            let job = self.client.poll_one("cron").await;
            self.client.succeed(&job).await;
            let off = ready_at(&job).abs_diff(now_ms().saturating_add_signed(ahead_s * 1_000));
            came += usize::from(off < 5_000);
        }
    }
}

fn ready_at(job: &Value) -> u64 {
    job["ready_at"].as_u64().unwrap()
}

async fn take(client: &Client, queue: &str, lease_ms: u64) -> Value {
    let mut jobs = client.poll(&json!({"queues": [queue], "wait_ms": 30_000, "lease_ms": lease_ms})).await;
    assert_eq!(jobs.len(), 1);
    jobs.remove(0)
}

#[tokio::test]
async fn the_history_survives_a_restart() {
    const MINUTE_S: i64 = 60;
    let mut server = Faked::start().await;
    for _ in 0..3 {
        server.client.add("q").await;
    }
    let enqueued = async |client: &Client, of: &str| {
        let shown = client.get(&format!("/stats/history?range=3h&series=enqueued{of}")).await.expect(200);
        let minutes = shown["series"]["enqueued"].as_array().unwrap().iter().filter_map(Value::as_u64);
        minutes.collect::<Vec<_>>()
    };
    set(server.folder.path(), MINUTE_S);
    let in_q = async |client: &Client| enqueued(client, "&queue=q").await;
    let before = until("the minute to end", async || {
        let minutes = in_q(&server.client).await;
        (!minutes.is_empty()).then_some(minutes)
    })
    .await;
    assert_eq!(before, [3]);
    assert_eq!(enqueued(&server.client, "").await, [3]);
    let hour = server.client.get("/queues?details=true&limit=100&series=enqueued,ready").await.expect(200);
    assert_eq!(hour["queues"][0]["last_hour"], json!({"enqueued": [3], "ready": [3]}));
    for ends_cleanly in [true, false] {
        if ends_cleanly {
            server.process.sigterm().await;
        } else {
            server.process.kill9().await;
        }
        server.restart().await;
        assert_eq!(in_q(&server.client).await, [3], "cleanly: {ends_cleanly}");
        assert_eq!(enqueued(&server.client, "").await, [3], "cleanly: {ends_cleanly}");
    }
}

#[tokio::test]
async fn a_clock_that_is_a_day_ahead_for_a_moment_stops_nothing() {
    let server = Faked::start().await;
    let client = &server.client;
    server.every_second().await;
    server.cron_comes(0, 1).await;
    let backoff = json!({"base_ms": 0, "exponent": 0, "jitter_ms": 0});
    let job = |queue: &str| json!({"queue": queue, "type": "t", "payload": 1, "backoff": backoff});
    client.enqueue_all(["long", "short", "retry"].map(job)).await;
    let in_an_hour = {
        let mut job = job("scheduled");
        job["ready_at"] = json!(now_ms() + HOUR_MS);
        client.enqueue(&job).await
    };
    let long = take(client, "long", 600_000).await;

    server.set(86_400).await;
    server.cron_comes(86_400, 2).await;
    // What has a date is due; what lasts for a length goes on.
    client.poll_one("scheduled").await;
    let renewed = client.poke(&format!("/jobs/{}/heartbeat", id(&long))).header("zizq-lease", lease(&long));
    let expires = renewed.await.expect(200)["lease_expires_at"].as_u64().unwrap();
    assert!(expires.abs_diff(now_ms() + DAY_MS + 600_000) < 60_000, "{expires}");
    // Begun while the clock is wrong: a retry, a lease, a timeout.
    let retry = take(client, "retry", 600_000).await;
    let failed = client.fail(&retry, &json!({"message": "m"})).await;
    take(client, "short", 1_000).await;
    let mut slow = job("slow");
    slow["timeout_ms"] = json!(1_000);
    client.enqueue(&slow).await;
    take(client, "slow", 600_000).await;

    server.set(0).await;
    server.cron_comes(0, 3).await;
    // The retry comes within moments, not tomorrow.
    assert_eq!(id(&take(client, "retry", 600_000).await), id(&failed));
    take(client, "short", 600_000).await;
    until("the timeout", async || {
        (client.get("/jobs/count?queue=slow&status=in_flight").await.value()["count"] == 0).then_some(())
    })
    .await;
    let next = client.job(id(&in_an_hour)).await;
    assert_eq!(next["status"], "in_flight", "it was handed out and stays with its worker");
    client.succeed(&long).await;
    client.enqueue(&json!({"queue": "soon", "type": "t", "payload": 1, "ready_at": now_ms() + 700})).await;
    client.poll_one("soon").await;
    let shown = client.get("/crons/g").await.value();
    let next = shown["entries"][0]["next_enqueue_at"].as_u64().unwrap();
    assert!(next.abs_diff(now_ms()) < 10_000, "{shown}");
}

#[tokio::test]
async fn a_clock_that_is_set_right_while_the_server_is_down_stops_nothing() {
    let mut server = Faked::start().await;
    set(server.folder.path(), 86_400);
    server.set(86_400).await;
    server.every_second().await;
    server.cron_comes(86_400, 1).await;
    server.client.add("held").await;
    let held = take(&server.client, "held", 1_000).await;
    // Its lease is written down for the next start.
    let beat = json!({"lease_ms": 3_000});
    let beat = server.client.post(&format!("/jobs/{}/heartbeat", id(&held)), &beat);
    beat.header("zizq-lease", lease(&held)).await.expect(200);
    assert!(server.process.sigterm().await.success());
    set(server.folder.path(), 0);
    server.restart().await;
    server.cron_comes(0, 2).await;
    assert_eq!(id(&take(&server.client, "held", 600_000).await), id(&held));
    let later = server.client.add("held").await;
    assert!(id(&later) > id(&held), "ids go on growing");
}

#[tokio::test]
async fn a_clock_that_is_set_back_is_followed_at_once() {
    let server = Faked::start().await;
    let client = &server.client;
    server.every_second().await;
    server.cron_comes(0, 1).await;
    let before = client.add("order").await;
    for ahead_s in [-3_600, -3_700, 30, 0] {
        server.set(ahead_s).await;
        server.cron_comes(ahead_s, 2).await;
        let now = now_ms().saturating_add_signed(ahead_s * 1_000);
        client.enqueue(&json!({"queue": "soon", "type": "t", "payload": 1, "ready_at": now + 700})).await;
        let soon = client.poll_one("soon").await;
        client.succeed(&soon).await;
    }
    let after = client.add("order").await;
    assert!(id(&after) > id(&before), "ids go on growing");
    assert_eq!(id(&client.poll_one("order").await), id(&before), "the order is that of enqueuing");
}
