//! A log that nobody reads, or that cannot be written, stops neither program.

use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;
use tests::binaries::binary;
use tests::client::{Client, Wire};
use tests::wait::{until, within};
use tests::{Server, id};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Starts a program whose standard error is a pipe that nobody reads.
fn unread(program: &str, folder: &TempDir, flags: &[&str]) -> Child {
    let mut command = Command::new(binary(program));
    command.args(flags).args(["--log-level", "debug"]).env("ZIZQ_SPOOL", folder.path().join("spool"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().unwrap()
}

/// SIGTERM: it ends in time and well, whether or not anybody reads its last words.
async fn ends(mut child: Child) {
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = within("the end of a program whose log nobody reads", child.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
}

/// More than a pipe holds, which is 64 KiB.
#[tokio::test]
async fn an_unread_log_does_not_stop_the_server() {
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let root = folder.path().join("root");
    let mut server = unread("zizq-server", &folder, &["--port", "0", "--root-dir", root.to_str().unwrap()]);
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    let url = line.trim_end().rsplit(' ').next().unwrap().to_owned();
    for _ in 0..1_000 {
        let mut bad = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
        bad.write_all(b"\0\0\0 bad\r\n\r\n").await.unwrap();
        within("a bad connection to be ended", bad.read_to_end(&mut Vec::new())).await.ok();
    }
    Client::new(&url, Wire::default()).add("q").await;
    ends(server).await;
}

#[tokio::test]
async fn an_unread_log_does_not_stop_a_worker() {
    let server = Server::start().await;
    let client = server.client();
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let flags = ["--server", &server.url(), "--run", "q=seq 1000"];
    let worker = unread("zizq-worker", &folder, &flags);
    for n in 0..3 {
        let job = json!({"queue": "q", "type": "t", "payload": n, "retention": {"completed_ms": 600_000}});
        let job = client.enqueue(&job).await;
        until("a job to be done", async || {
            (client.status(id(&job)).await.as_deref() == Some("completed")).then_some(())
        })
        .await;
    }
    ends(worker).await;
}
