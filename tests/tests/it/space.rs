//! A disk that runs full. The server runs on a small file system of its own, in a mount namespace: as root, or where
//! everybody may have a user namespace.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use protocol::error::Code;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::binaries::binary;
use tests::process::Process;
use tests::server::address;
use tests::wait::until;
use tests::{Answer, Client, Wire, id, lease};
use tokio::process::Command;

/// A server whose folder lies on a file system of this size.
struct Small {
    process: Process,
    client: Client,
    /// The folder of the file system, seen from here.
    disk: PathBuf,
    /// How many jobs were refused for space after a call that had no clear answer: they may be there.
    unclear: AtomicUsize,
    _folder: TempDir,
}

impl Small {
    async fn start(megabytes: u32, flags: &[&str]) -> Self {
        let folder = TempDir::with_prefix("zizq-test-").unwrap();
        let disk = folder.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let script = r#"mount -t tmpfs -o size="$1"m tmpfs "$2" && shift 2 && exec "$@""#;
        let namespaces = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
        let mut command = Command::new("unshare");
        command.args([namespaces, "sh", "-c", script, "sh"]).arg(megabytes.to_string()).arg(&disk);
        command.arg(binary("zizq-server")).args(["--port", "0"]).arg("--root-dir").arg(disk.join("root"));
        command.args(flags);
        let mut process = Process::start(command, &folder.path().join("server.log"));
        let address = address(&mut process).await;
        let pid = process.pid().unwrap().as_raw_nonzero();
        let disk = Path::new(&format!("/proc/{pid}/root")).join(disk.strip_prefix("/").unwrap());
        let client = Client::new(&format!("http://{address}"), Wire::default());
        Self { process, client, disk, unclear: AtomicUsize::new(0), _folder: folder }
    }

    fn ballast(&self) -> PathBuf {
        self.disk.join("ballast")
    }

    /// Leaves no space, or almost none.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).unwrap();
        for size in [1 << 20, 1 << 12] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Leaves this much space.
    fn fill_up_to(&self, megabytes: u64) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).unwrap();
        while free(&self.disk) > megabytes << 20 {
            file.write_all(&vec![0; 1 << 18]).unwrap();
        }
    }

    fn make_space(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    /// Enqueues until a job is refused, and gives back those that were not. A job may be there although a commit failed,
    /// so each is asked for by its key until the answer is clear.
    async fn enqueue_to_the_end(&self, bytes: usize) -> BTreeSet<String> {
        // Nothing that could be compressed.
        let payload: String = std::iter::repeat_with(fastrand::alphanumeric).take(bytes).collect();
        let job = json!({"queue": "q", "type": "t", "payload": payload});
        let (mut ids, mut key, mut is_unclear) = (BTreeSet::new(), fastrand::u64(..), false);
        loop {
            let answer = self.client.post("/jobs", &job).header("idempotency-key", &key.to_string()).await;
            match answer.status {
                201 => {
                    ids.insert(id(&answer.value()).to_owned());
                    (key, is_unclear) = (key.wrapping_add(1), false);
                }
                507 => {
                    assert_ne!(answer.header("retry-after"), "");
                    answer.expect_refusal(507, "less free space");
                    self.unclear.fetch_add(usize::from(is_unclear), Ordering::Relaxed);
                    return ids;
                }
                // The store is opened anew.
                503 => {
                    is_unclear = true;
                    tokio::task::yield_now().await;
                }
                status => panic!("{status} after {} jobs: {:?}", ids.len(), answer.body),
            }
        }
    }

    /// Enqueues as soon as jobs are taken again.
    async fn enqueue_at_last(&self) -> Value {
        let key = fastrand::u64(..).to_string();
        until("jobs to be taken again", async || {
            let call = self.client.post("/jobs", &json!({"queue": "q", "type": "t", "payload": null}));
            let answer = call.header("idempotency-key", &key).await;
            match answer.status {
                201 => Some(answer.value()),
                503 | 507 => None,
                status => panic!("{status}: {:?}", answer.body),
            }
        })
        .await
    }

    /// Works everything off, and gives back what there was.
    async fn drain(&self) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        loop {
            let request = json!({"queues": ["q"], "limit": 100});
            let jobs = self.open(async || self.client.post("/jobs/take", &request).await).await.value();
            let jobs = jobs["jobs"].as_array().unwrap().clone();
            if jobs.is_empty() {
                return ids;
            }
            let done: Vec<Value> =
                jobs.iter().map(|job| json!({"id": id(job), "lease": lease(job)})).collect();
            let done = json!({"jobs": done});
            let answer = self.open(async || self.client.post("/jobs/success", &done).await).await;
            // Where the store was opened anew in between, they were done already, or are taken once more.
            assert!(matches!(answer.status, 204 | 422), "{}: {:?}", answer.status, answer.body);
            ids.extend(jobs.iter().map(|job| id(job).to_owned()));
        }
    }

    /// Asserts that exactly these jobs were there, but for those of which nobody knows.
    fn check(&self, there: &BTreeSet<String>, expected: &BTreeSet<String>) {
        let lost: Vec<&String> = expected.difference(there).collect();
        assert!(lost.is_empty(), "{} of {} jobs are lost: {lost:?}", lost.len(), expected.len());
        let unclear = self.unclear.swap(0, Ordering::Relaxed);
        let more: Vec<&String> = there.difference(expected).collect();
        assert!(
            more.len() <= unclear,
            "refused, and there all the same: {more:?}, {unclear} of them unclear"
        );
    }

    /// What the server answers once its store is open and it has time.
    async fn open(&self, mut ask: impl AsyncFnMut() -> Answer) -> Answer {
        until("the store to be open", async || Some(ask().await).filter(|answer| answer.status != 503)).await
    }
}

/// In bytes.
fn free(folder: &Path) -> u64 {
    let disk = rustix::fs::statvfs(folder).unwrap();
    disk.f_bavail * disk.f_frsize
}

#[tokio::test]
async fn below_the_reserve_new_jobs_are_refused_and_existing_ones_finish() {
    let server = Small::start(64, &["--min-free-disk", "16MiB"]).await;
    server.client.add("prints").await;
    let prints = server.client.poll_one("prints").await;
    let log = format!("/jobs/{}/log", id(&prints));
    let print = |text: &'static str| server.client.poke(&log).bytes("text/plain", text);
    print("before").await.expect_nothing();
    server.fill_up_to(20);
    let mut expected = server.enqueue_to_the_end(50_000).await;
    assert!(expected.len() > 20, "{} jobs", expected.len());
    assert!(free(&server.disk) > 12 << 20, "the reserve is kept");
    server.client.post("/jobs/bulk", &json!({"jobs": []})).await.expect_code(Code::DiskFull);
    assert_eq!(server.client.count("queue=q").await, expected.len() as u64);
    let refused = print("refused").await;
    assert_ne!(refused.header("retry-after"), "");
    refused.expect_refusal(507, "less free space");
    server.check(&server.drain().await, &expected);
    server.make_space();
    print("after").await.expect_nothing();
    let lines = server.client.get(&log).header("accept", "text/plain").await;
    assert_eq!(&lines.body[..], b"before\nafter\n");
    server.client.succeed(&prints).await;
    expected = BTreeSet::from([id(&server.enqueue_at_last().await).to_owned()]);
    server.check(&server.drain().await, &expected);
}

#[tokio::test]
async fn a_full_disk_refuses_every_call_that_brings_jobs_and_lets_the_others_be() {
    let server = Small::start(64, &["--min-free-disk", "16MiB"]).await;
    let client = &server.client;
    let entry = |name: &str, batch: Value| {
        let mut job = json!({"queue": "cron", "type": "t", "payload": [1]});
        if !batch.is_null() {
            job["batch"] = batch;
        }
        json!({"name": name, "expression": "0 0 1 1 *", "job": job})
    };
    let batch = json!({"key": "k", "when": "true", "fold": "$existing + $new"});
    let entries = json!({"entries": [entry("plain", Value::Null), entry("batched", batch.clone())]});
    client.call(Method::PUT, "/crons/g").value(&entries).await.expect(200);
    client.add("held").await;
    let held = client.poll_one("held").await;
    let job = json!({"queue": "q", "type": "t", "payload": [1]});
    let mut batched = job.clone();
    batched["batch"] = batch;
    let calls = [
        ("/jobs", Some(job.clone())),
        ("/jobs?wait_ms=1", Some(job.clone())),
        ("/jobs", Some(batched.clone())),
        ("/jobs/bulk", Some(json!({"jobs": [job]}))),
        ("/jobs/bulk", Some(json!({"jobs": [batched]}))),
        ("/crons/g/entries/plain/run", None),
        ("/crons/g/entries/batched/run", None),
    ];
    let call = |(path, body): &(&str, Option<Value>)| {
        let call = client.poke(path);
        if let Some(body) = body { call.value(body) } else { call }
    };
    let mut made = Vec::new();
    for (n, of) in calls.iter().enumerate() {
        let answer = call(of).header("idempotency-key", &n.to_string()).await;
        assert!(matches!(answer.status, 200 | 201), "{of:?}: {:?}", answer.body);
        made.push((answer.status, answer.value()));
    }
    server.fill_up_to(20);
    server.enqueue_to_the_end(50_000).await;
    let jobs = client.count("").await;
    for (n, of) in calls.iter().enumerate() {
        call(of).await.expect_refusal(507, "less free space");
        call(of).header("idempotency-key", "another").await.expect_refusal(507, "less free space");
        // What was carried out already is answered: nothing comes of it.
        let again = call(of).header("idempotency-key", &n.to_string()).await;
        assert_eq!((again.status, again.value()), made[n], "{of:?}");
    }
    assert_eq!(client.count("").await, jobs);
    client.poke("/queues/q/pause").await.expect(200);
    client.poke("/queues/q/resume").await.expect(200);
    client.patch("/crons/g", &json!({"paused": true})).await.expect(200);
    client.patch(&format!("/jobs/{}", id(&held)), &json!({"priority": 1})).await.expect(200);
    client.get("/crons/g").await.expect(200);
    client.succeed(&held).await;
    client.delete("/jobs?queue=q").await.expect(200);
}

/// While nothing new is taken, little is written, and the store would not clean up by itself.
#[tokio::test]
async fn a_disk_that_is_full_of_finished_jobs_is_cleaned_up() {
    let server = Small::start(400, &["--min-free-disk", "250MiB", "--memtable-size", "4MiB"]).await;
    let mut expected = server.enqueue_to_the_end(300_000).await;
    // What works in the background takes space, and gives it back.
    let mut refused = 0;
    while refused < 20 {
        let more = server.enqueue_to_the_end(300_000).await;
        refused = if more.is_empty() { refused + 1 } else { 0 };
        expected.extend(more);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.check(&server.drain().await, &expected);
    let last = server.enqueue_at_last().await;
    assert_eq!(server.drain().await, BTreeSet::from([id(&last).to_owned()]));
}

#[tokio::test]
async fn a_disk_with_no_space_at_all_loses_nothing_and_is_used_again_when_there_is_some() {
    let mut server = Small::start(64, &["--min-free-disk", "0B"]).await;
    let mut expected = BTreeSet::new();
    for round in 0..2 {
        let mut stream = server.client.lines("queue=held").await;
        server.client.add("held").await;
        let held = stream.next_job().await;
        server.fill_up_to(4 + round);
        expected.extend(server.enqueue_to_the_end(10_000).await);
        server.fill();
        // Had the store found space before it was filled, it fails once more, and stays closed.
        expected.extend(server.enqueue_to_the_end(10_000).await);
        server.client.poke(&format!("/jobs/{}/success", id(&held))).await.expect_code(Code::StoreClosed);
        server.make_space();
        expected.insert(id(&server.enqueue_at_last().await).to_owned());
        server.client.succeed(&held).await;
    }
    server.check(&server.drain().await, &expected);
    assert!(server.process.sigterm().await.success());
}

/// The server's log, and what jobs print, on a disk without space: neither is a reason not to start.
#[tokio::test]
async fn a_log_on_a_full_disk_does_not_keep_the_server_from_starting() {
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("logs")).unwrap();
    let script =
        r#"mount -t tmpfs -o size=1m tmpfs "$1"; dd if=/dev/zero of="$1/ballast" bs=4k; shift; exec "$@""#;
    let namespaces = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
    let mut command = Command::new("unshare");
    command.args([namespaces, "sh", "-c", script, "sh"]).arg(root.join("logs")).arg(binary("zizq-server"));
    command.args(["--port", "0", "--log-level", "debug", "--root-dir"]).arg(&root);
    let mut process = Process::start(command, Path::new("/dev/full"));
    let client = Client::new(&format!("http://{}", address(&mut process).await), Wire::default());
    client.add("q").await;
    let job = client.poll_one("q").await;
    client.poke(&format!("/jobs/{}/log", id(&job))).bytes("text/plain", "printed").await;
    client.succeed(&job).await;
    assert!(process.sigterm().await.success());
}

#[tokio::test]
async fn a_disk_too_full_to_open_the_store_is_logged_with_its_folder_and_space() {
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let (root, log) = (folder.path().join("root"), folder.path().join("log"));
    fs::create_dir(&root).unwrap();
    let script =
        r#"mount -t tmpfs -o size=16m tmpfs "$1"; dd if=/dev/zero of="$1/ballast" bs=4k; shift; exec "$@""#;
    let namespaces = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
    let mut command = Command::new("unshare");
    command.args([namespaces, "sh", "-c", script, "sh"]).arg(&root).arg(binary("zizq-server"));
    command.args(["--port", "0", "--root-dir"]).arg(&root);
    let mut process = Process::start(command, &log);
    let client = Client::new(&format!("http://{}", address(&mut process).await), Wire::default());
    client.get("/jobs/count").await.expect(503);
    let expected = format!("{}: 0 KiB free, 1024 KiB required to open the store", root.display());
    process.logged(&expected).await;
    assert!(process.sigterm().await.success());
}

/// Full and empty again, by jobs and by what they print, with the reserve that is usual. `ZIZQ_TEST_DISK_MB` and
/// `ZIZQ_TEST_ROUNDS` make it larger and longer.
#[tokio::test]
async fn a_full_disk_recovers_again_and_again() {
    let from_env = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u32>().unwrap());
    let disk = from_env("ZIZQ_TEST_DISK_MB").unwrap_or(64);
    let mut server = Small::start(disk, &[]).await;
    for round in 0..from_env("ZIZQ_TEST_ROUNDS").unwrap_or(2) {
        if round % 2 == 1 {
            server.print_to_the_end().await;
        }
        let mut expected = server.enqueue_to_the_end(30_000).await;
        if round % 3 == 2 {
            // Somebody else takes what is left, and gives it back.
            server.fill();
            server.make_space();
            expected.insert(id(&server.enqueue_at_last().await).to_owned());
        }
        let mut drained = server.drain().await;
        let begun = std::time::Instant::now();
        let last = server.enqueue_at_last().await;
        eprintln!("round {round}: {} jobs, taken again after {:?}", expected.len(), begun.elapsed());
        drained.extend(server.drain().await);
        expected.insert(id(&last).to_owned());
        server.check(&drained, &expected);
    }
    assert!(server.process.sigterm().await.success());
}

impl Small {
    /// Lets jobs print until their output is refused, and ends them.
    async fn print_to_the_end(&self) {
        let text: String = std::iter::repeat_with(fastrand::alphanumeric).take(60_000).collect();
        let (mut is_full, mut jobs) = (false, Vec::new());
        while !is_full {
            let job = json!({"queue": "prints", "type": "t", "payload": null});
            if self.client.post("/jobs", &job).await.status == 507 {
                break;
            }
            let job = self.client.poll_one("prints").await;
            let log = format!("/jobs/{}/log", id(&job));
            let print = async || self.client.poke(&log).bytes("text/plain", text.clone()).await;
            // It may come faster than it can be taken.
            let answer = self.open(print).await;
            is_full = answer.status == 507;
            assert!(is_full || answer.status == 204, "{}: {:?}", answer.status, answer.body);
            jobs.push(job);
        }
        for job in &jobs {
            let path = format!("/jobs/{}/success", id(job));
            let answer = self.open(async || self.client.poke(&path).await).await;
            assert!(matches!(answer.status, 204 | 404), "{}: {:?}", answer.status, answer.body);
        }
    }
}
