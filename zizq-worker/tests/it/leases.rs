use serde_json::json;

use crate::fake::{Server, leases};
use crate::worker::{Worker, gone, id, job, lease};

/// Prints the process ids of itself and of a child, and goes on for ever.
const FOR_EVER: &str = "q=trap '' TERM; sleep 1000 & echo pids $$ $!; wait; sleep 1000";

async fn pids(worker: &mut Worker) -> Vec<String> {
    let line = worker.message("pids ").await;
    line["message"].as_str().unwrap().split(' ').skip(1).map(str::to_owned).collect()
}

#[tokio::test]
async fn running_and_waiting_jobs_are_kept_alive() {
    let mut server = Server::start().await;
    let worker = Worker::start(&server, &["--run", "q=sleep 1000", "--lease", "1s"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    stream.job("s:2", &job(2, 12, json!(null))).await;
    for _ in 0..3 {
        while leases(&server.heartbeats.recv().await.unwrap()).len() < 2 {}
    }
    worker.stop(&mut server).await;
}

#[tokio::test]
async fn a_cancel_ends_the_whole_group_and_is_not_reported() {
    let mut server = Server::start().await;
    let mut worker = Worker::start(&server, &["--run", FOR_EVER, "--grace", "100ms"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let pids = pids(&mut worker).await;
    stream.send(&format!("event: cancel\ndata: {}\n\n", json!({"id": id(1), "reason": "deleted"}))).await;
    for pid in &pids {
        gone(pid).await;
    }
    worker.message("q/t stopped").await;
    server.no_calls();
    // The slot is free again.
    stream.job("s:2", &job(2, 12, json!(null))).await;
    worker
        .log("second run", |line| line["job"] == id(2) && line["message"].to_string().contains("pids"))
        .await;
    worker.stop(&mut server).await;
}

#[tokio::test]
async fn a_lost_lease_ends_the_job() {
    let mut server = Server::start().await;
    server.on_heartbeat(|_| json!({"jobs": [], "lost": [id(1)], "cancel": []}));
    let mut worker = Worker::start(&server, &["--run", FOR_EVER, "--grace", "100ms", "--lease", "1s"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    for pid in pids(&mut worker).await {
        gone(&pid).await;
    }
    worker.message("q/t stopped").await;
    server.no_calls();
}

#[tokio::test]
async fn a_command_may_clean_up_before_it_ends() {
    let mut server = Server::start().await;
    let command = "q=trap 'echo cleaned; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let mut worker = Worker::start(&server, &["--run", command, "--grace", "1h"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    worker.message("ready").await;
    stream.send(&format!("event: cancel\ndata: {}\n\n", json!({"id": id(1), "reason": "timed_out"}))).await;
    worker.message("cleaned").await;
    worker.message("q/t stopped").await;
    server.no_calls();
}

#[tokio::test]
async fn a_job_that_comes_again_with_a_new_lease_runs_on_under_it() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let mut server = Server::start().await;
    let command = format!("q=echo begun; while ! test -e '{}'; do sleep 0.02; done", go.display());
    let mut worker = Worker::start(&server, &["--run", &command]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    worker.message("begun").await;
    drop(stream);
    let mut stream = server.stream().await;
    assert_eq!(stream.header("last-event-id"), Some("s:1"));
    stream.hello("other", false).await;
    stream.job("other:1", &job(1, 22, json!(null))).await;
    worker.message("delivered again").await;
    std::fs::write(go, "").unwrap();
    assert_eq!(server.success().await, [(id(1), lease(22))]);
    assert_eq!(worker.count("begun"), 1);
}
