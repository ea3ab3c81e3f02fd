use rustix::process::Signal;
use serde_json::json;

use crate::fake::{Server, leases};
use crate::worker::{Worker, gone, id, job, lease};

#[tokio::test]
async fn running_jobs_finish_and_waiting_ones_are_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let mut server = Server::start().await;
    let command = format!("q=echo begun; while ! test -e '{}'; do sleep 0.02; done", go.display());
    let mut worker = Worker::start(&server, &["--run", &command, "--lease", "12h"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    stream.job("s:2", &job(2, 12, json!(null))).await;
    worker.message("begun").await;

    worker.signal(Signal::TERM);
    stream.closed().await;
    let release = server.call("/jobs/release").await;
    assert_eq!(leases(&release.body), [(id(2), lease(12))]);
    release.answer("204 No Content", "");
    let heartbeat = server.heartbeats.recv().await.unwrap();
    assert_eq!(leases(&heartbeat), [(id(1), lease(11))]);
    std::fs::write(go, "").unwrap();
    assert_eq!(server.success().await, [(id(1), lease(11))]);
    assert_eq!(worker.end().await.code(), Some(0));
    server.no_calls();
}

#[tokio::test]
async fn a_job_that_does_not_end_is_killed_and_given_back() {
    let mut server = Server::start().await;
    let command = "q=trap '' TERM; sleep 1000 & echo pids $$ $!; wait; sleep 1000";
    let flags = ["--run", command, "--shutdown-timeout", "100ms", "--grace", "100ms"];
    let mut worker = Worker::start(&server, &flags);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let line = worker.message("pids ").await;
    worker.signal(Signal::INT);
    let release = server.call("/jobs/release").await;
    assert_eq!(leases(&release.body), [(id(1), lease(11))]);
    release.answer("204 No Content", "");
    assert_eq!(worker.end().await.code(), Some(1));
    for pid in line["message"].as_str().unwrap().split(' ').skip(1) {
        gone(pid).await;
    }
    server.no_calls();
}

#[tokio::test]
async fn more_signals_make_it_faster() {
    let mut server = Server::start().await;
    let command = "q=trap 'echo asked' TERM; echo begun; while :; do sleep 0.05; done";
    let mut worker = Worker::start(&server, &["--run", command, "--shutdown-timeout", "1h", "--grace", "1h"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    worker.message("begun").await;
    worker.signal(Signal::TERM);
    stream.closed().await;
    worker.signal(Signal::TERM);
    worker.message("asked").await;
    worker.signal(Signal::TERM);
    server.call("/jobs/release").await.answer("204 No Content", "");
    assert_eq!(worker.end().await.code(), Some(1));
}

#[tokio::test]
async fn a_worker_without_jobs_ends_at_once() {
    let mut server = Server::start().await;
    let worker = Worker::start(&server, &["--run", "q=true", "--shutdown-timeout", "1h"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.end().await.code(), Some(0));
    server.go_down().await;
}

#[tokio::test]
async fn a_server_that_is_gone_does_not_keep_a_worker_for_ever() {
    let mut server = Server::start().await;
    let flags = ["--run", "q=true", "--shutdown-timeout", "100ms", "--grace", "1h"];
    let mut worker = Worker::start(&server, &flags);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let call = server.call("/jobs/success").await;
    server.go_down().await;
    drop((call, stream));
    worker.message("the success waits for the server").await;
    worker.signal(Signal::TERM);
    let line = worker.message("the job's outcome did not reach the server").await;
    assert_eq!(line["job"], id(1));
    let files = std::fs::read_dir(line["folder"].as_str().unwrap()).unwrap();
    let kept: String = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert!(kept.contains(&id(1)), "{kept}");
    assert_eq!(worker.end().await.code(), Some(1));
}

#[tokio::test]
async fn a_terminal_that_is_gone_ends_a_worker_without_a_file() {
    let mut server = Server::start().await;
    let worker = Worker::start(&server, &["--run", "q=true"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    worker.signal(Signal::HUP);
    stream.closed().await;
    assert_eq!(worker.end().await.code(), Some(0));
}
