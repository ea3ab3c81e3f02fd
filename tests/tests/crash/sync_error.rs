//! A disk that fails to take the journal says so once, to whoever asks next: the thread that syncs for answers, the one
//! that syncs ahead, or the store itself. From then on nothing may be confirmed.
//!
//! It needs `cc`, to build the library that stands between the server and the operating system.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::binaries::binary;
use tests::process::Process;
use tests::server::address;
use tests::wait::until;
use tests::{Client, Wire, id};
use tokio::process::Command;
use tokio::task::JoinSet;

pub(super) struct Run {
    pub(super) process: Process,
    pub(super) client: Client,
    pub(super) folder: TempDir,
}

impl Run {
    pub(super) async fn start(folder: TempDir, environment: &[(&str, &Path)]) -> Self {
        let mut command = Command::new(binary("zizq-server"));
        command.args(["--port", "0", "--memtable-size", "2MB", "--root-dir"]).arg(folder.path().join("root"));
        command.envs(environment.iter().copied());
        let mut process = Process::start(command, &folder.path().join("server.log"));
        let client = Client::new(&format!("http://{}", address(&mut process).await), Wire::default());
        Self { process, client, folder }
    }
}

/// Builds the library of this name, which is to be loaded before all others.
pub(super) fn build(folder: &Path, name: &str) -> PathBuf {
    let library = folder.join(format!("{name}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/crash/{name}.c"));
    let mut cc = std::process::Command::new("cc");
    let built = cc
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .args(["-ldl", "-lpthread"])
        .status();
    assert!(built.expect("this test needs cc: apt-get install gcc").success());
    library
}

/// Enqueues in `fsync` mode until the server is gone. Gives back the ids of what was confirmed, and fails if anything was
/// that was sent after the disk had failed and before the store was opened anew.
async fn enqueue(client: Client, has_failed: Arc<AtomicBool>, log: PathBuf) -> Vec<String> {
    // So much at once that it is not left to the thread that answers.
    let payload: String = std::iter::repeat_with(fastrand::alphanumeric).take(60_000).collect();
    let job = json!({"queue": "q", "type": "t", "payload": payload});
    let jobs = json!({"jobs": vec![job; 30]});
    let mut confirmed = Vec::new();
    loop {
        let is_late = has_failed.load(Ordering::SeqCst);
        let Ok(answer) = client.post("/jobs/bulk", &jobs).try_response().await else { return confirmed };
        let status = answer.status().as_u16();
        let Ok(body) = answer.into_body().collect().await else { return confirmed };
        if status == 201 {
            assert!(!is_late || is_open_again(&log), "confirmed after the disk has failed");
            let made: Value = serde_json::from_slice(&body.to_bytes()).unwrap();
            confirmed.extend(made["jobs"].as_array().unwrap().iter().map(|job| id(job).to_owned()));
        } else {
            assert!(status >= 500, "{status}");
        }
    }
}

fn is_open_again(log: &Path) -> bool {
    fs::read_to_string(log).unwrap().contains("open again")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_confirmed_whichever_thread_saw_the_error() {
    for (thread, heard) in [("sync", "one"), ("sync-ahead", "one"), ("fjall:worker", "each")] {
        let folder = TempDir::with_prefix("zizq-test-").unwrap();
        let (library, armed) = (build(folder.path(), "sync_error"), folder.path().join("armed"));
        let log = folder.path().join("server.log");
        let environment = [
            ("LD_PRELOAD", library.as_path()),
            ("ZIZQ_TEST_THREAD", Path::new(thread)),
            ("ZIZQ_TEST_HEARD", Path::new(heard)),
            ("ZIZQ_TEST_ARMED", armed.as_path()),
        ];
        let mut run = Run::start(folder, &environment).await;
        let first = id(&run.client.add("q").await).to_owned();
        let has_failed = Arc::new(AtomicBool::new(false));
        let mut producers = JoinSet::new();
        for _ in 0..4 {
            producers.spawn(enqueue(run.client.clone(), has_failed.clone(), log.clone()));
        }
        fs::write(&armed, "").unwrap();
        until("the sync that fails", async || (!armed.exists()).then_some(())).await;
        has_failed.store(true, Ordering::SeqCst);
        let over = until("the end of it", async || {
            let running = run.process.running();
            (!running || is_open_again(&log)).then_some(running)
        });
        if over.await {
            assert_eq!(thread, "fjall:worker", "this one knows what has failed");
            run.process.kill9().await;
        } else {
            assert!(!run.process.ended().await.success(), "{thread}");
            assert!(run.process.log().contains("Input/output error"), "{}", run.process.log());
            let known = fs::read(run.folder.path().join("root/synced")).unwrap();
            // Numbers of eight bytes, in two places of four: the third says so.
            let is_doubtful = known.chunks(32).any(|place| place[16] == 1);
            assert!(is_doubtful, "{thread}: what the disk has is not certain any more: {known:?}");
        }
        let confirmed: Vec<String> = producers.join_all().await.into_iter().flatten().collect();

        let again = Run::start(run.folder, &[]).await;
        for id in confirmed.iter().chain([&first]) {
            let status = again.client.get(&format!("/jobs/{id}")).await.status;
            assert_eq!(status, 200, "{thread}: {id} was confirmed");
        }
    }
}
