//! `check`, `init`, and a file that changes while the worker runs.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::json;

use crate::fake::Server;
use crate::worker::{ConfigFile, command, id, job, lease};

async fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = command().args(arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn a_sample_is_written_once_and_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("worker.toml");
    let path = path.to_str().unwrap();
    assert_eq!(run(&["init", path]).await, (Some(0), String::new(), String::new()));
    let (code, said, _) = run(&["check", "--config", path]).await;
    assert_eq!(code, Some(0));
    assert!(said.contains("route thumbnails: queue thumbnails, 1 at a time, a command"), "{said}");
    assert!(said.ends_with("the configuration is right\n"), "{said}");
    let (code, _, error) = run(&["init", path]).await;
    assert_eq!(code, Some(2));
    assert!(error.starts_with(&format!("error: cannot write {path}: ")), "{error}");
    let (_, printed, _) = run(&["init", "-"]).await;
    assert_eq!(printed, std::fs::read_to_string(path).unwrap());
}

#[tokio::test]
async fn a_wrong_file_is_explained() {
    let file = ConfigFile::new("[[route]]\nqueue = 'q'\nrum = 'true'\n");
    let (code, said, error) = run(&["check", "--config", &file.path()]).await;
    assert_eq!((code, said.as_str()), (Some(2), ""));
    assert_eq!(error, format!("error: {}:3: there is no key `rum`; did you mean `run`?\n", file.path()));
}

#[tokio::test]
async fn a_file_is_read_again_while_jobs_run_on() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let wait = format!("echo begun; while ! test -e {}; do sleep 0.02; done; echo old", go.display());
    let file = ConfigFile::new(&format!("[[route]]\nqueue = 'q'\nrun = '{wait}'\n"));
    let mut server = Server::start().await;
    let mut worker = file.start(&server);
    let mut q = server.stream().await;
    q.hello("s", false).await;
    q.job("s:1", &job(1, 11, json!(null))).await;
    worker.message("begun").await;

    file.write("[[route]]\nqueue = 'q'\nrum = 'x'\n");
    worker.signal(Signal::HUP);
    worker.message("the configuration is wrong and stays as it was: ").await;
    file.write("[[route]]\nqueue = 'q'\nrun = 'echo new'\n[[route]]\nqueue = 'r'\nrun = 'echo r'\n");
    worker.signal(Signal::HUP);
    worker.message("the configuration was read again").await;
    let mut r = server.stream().await;
    assert_eq!(r.query, "queue=r&prefetch=1&lease_ms=30000");
    r.hello("t", false).await;
    std::fs::write(go, "").unwrap();
    worker.message("old").await;
    assert_eq!(server.success().await, [(id(1), lease(11))]);
    q.job("s:2", &job(2, 12, json!(null))).await;
    worker.message("new").await;
    assert_eq!(server.success().await, [(id(2), lease(12))]);

    file.write("[[route]]\nqueue = 'r'\nrun = 'echo r'\n");
    worker.signal(Signal::HUP);
    q.closed().await;
    let mut other = job(3, 13, json!(null));
    other["queue"] = json!("r");
    r.job("t:1", &other).await;
    assert_eq!(server.success().await, [(id(3), lease(13))]);

    file.write("lease = '50s'\nlisten = '127.0.0.1:0'\n[[route]]\nqueue = 'r'\nrun = 'echo r'\n");
    worker.signal(Signal::HUP);
    worker.message("only a restart changes what is new in lease, listen").await;
}

#[tokio::test]
async fn what_cannot_be_written_is_not_right() {
    for arguments in [&["init", "-"][..], &["check", "--run", "q=true"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let child = command().args(arguments).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("error: cannot write to the standard output: "), "{said}");
    }
}
