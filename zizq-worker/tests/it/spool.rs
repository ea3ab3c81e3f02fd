//! Finished work survives the server, the worker, and both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::fake::{PATIENCE, Server};
use crate::worker::{Worker, command, id, job, lease};

/// Waits until so many outcomes are in the files of a spool.
async fn kept(spool: &Path, outcomes: usize) {
    let lines = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    let count = || {
        let folder = std::fs::read_dir(spool).unwrap().next().unwrap().unwrap().path();
        std::fs::read_dir(folder).unwrap().map(|file| lines(file.unwrap().path())).sum::<usize>()
    };
    let looked = tokio::time::timeout(PATIENCE, async {
        while count() < outcomes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(looked.await.is_ok(), "{} outcomes are kept instead of {outcomes}", count());
}

#[tokio::test]
async fn what_a_killed_worker_could_not_report_is_reported_by_the_next_before_it_takes_jobs() {
    let spool = tempfile::tempdir().unwrap();
    let mut server = Server::start().await;
    let program = || {
        let mut program = command();
        program.env("ZIZQ_SPOOL", spool.path());
        program
    };
    let flags = ["--run", "q=exit $(cat)", "--concurrency", "3"];
    let mut worker = Worker::start_as(program(), &server, &flags);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    for n in 1..=3 {
        // Success, failure, success.
        stream.job(&format!("s:{n}"), &job(n, 10 + n, json!((n + 1) % 2))).await;
    }
    for _ in 0..2 {
        // They are on their way, and no answer comes.
        drop(server.any_call().await);
    }
    server.go_down().await;
    for n in 1..=3 {
        worker.log("its end", |line| line["job"] == id(n) && line.to_string().contains("\"ms\":")).await;
    }
    kept(spool.path(), 3).await;
    worker.message("the failure waits for the server").await;
    worker.message("the success waits for the server").await;
    worker.signal(Signal::KILL);
    worker.end().await;
    drop(stream);

    server.come_back().await;
    let mut worker = Worker::start_as(program(), &server, &flags);
    worker.message("delivering the outcomes that an earlier worker left behind").await;
    // What a balancer says meanwhile settles none of it.
    server.any_call().await.answer("404 Not Found", "<html>no backend</html>");
    let mut told = Vec::new();
    while told.len() < 3 {
        let call = server.any_call().await;
        match call.header("zizq-lease") {
            Some(lease) => told.push((call.path.clone(), lease.to_owned())),
            None => {
                let jobs = crate::fake::leases(&call.body);
                told.extend(jobs.into_iter().map(|(id, lease)| (format!("/jobs/{id}/success"), lease)));
            }
        }
        call.answer("204 No Content", "");
    }
    told.sort();
    let path = |n: u32, verb: &str| (format!("/jobs/{}/{verb}", id(n)), lease(10 + n));
    assert_eq!(told, [path(1, "success"), path(2, "failure"), path(3, "success")]);
    let mut stream = server.stream().await;
    stream.hello("t", false).await;
    stream.job("t:1", &job(4, 14, json!(0))).await;
    assert_eq!(server.success().await, [(id(4), lease(14))]);
    worker.signal(Signal::TERM);
    assert_eq!(worker.end().await.code(), Some(0));
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0, "nothing is left to report");
}

#[tokio::test]
async fn a_worker_that_cannot_keep_outcomes_says_so_and_works() {
    let mut server = Server::start().await;
    let mut program = command();
    program.env("ZIZQ_SPOOL", "/dev/null/spool");
    let mut worker = Worker::start_as(program, &server, &["--run", "q=true"]);
    worker.message("cannot keep outcomes in /dev/null/spool").await;
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    assert_eq!(server.success().await, [(id(1), lease(11))]);
}
