//! `cargo demo`, which is the first thing that people see.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tests::client::{Client, Wire};
use tests::process::Process;
use tests::wait::until;
use tokio::process::Command;

/// Starts the demo with a few small files.
fn start(folder: &Path, args: &[&str]) -> Process {
    let files = folder.join("files");
    std::fs::create_dir(&files).unwrap();
    for n in 0..20 {
        std::fs::write(files.join(format!("{n} it's a \"file\"")), format!("file {n}\n").repeat(100))
            .unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.arg(&files).args(args);
    Process::start(command, &folder.join("demo.log"))
}

#[tokio::test]
async fn it_survives_the_crash_that_it_causes_and_checks_every_file() {
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let mut demo = start(folder.path(), &[]);
    let shown = demo.rest_of_stdout().await;
    assert!(demo.ended().await.success(), "{shown}");
    for text in [
        "kill -9 of the server",
        "40 of 40 jobs completed",
        "20 of 20 files decompress",
        "20 of 20 checksums",
        "run it again with --keep",
    ] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
}

#[tokio::test]
async fn it_leaves_something_to_look_at_on_every_page_and_says_where_first() {
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let mut demo = start(folder.path(), &["--keep", "--no-kill"]);
    let url = loop {
        let line = demo.line().await;
        assert!(!line.contains("jobs"), "the jobs come before the address");
        if let Some((_, url)) = line.split_once("watch ") {
            break url.trim().trim_end_matches("/ui/").to_owned();
        }
    };
    let client = Client::new(&url, Wire::default());
    until("a report that says how far it is", async || {
        let jobs = client.get("/jobs?queue=reports&status=in_flight").await.expect(200);
        let progress = jobs["jobs"].as_array().unwrap().first()?["progress"].as_f64()?;
        (progress > 0.0).then_some(())
    })
    .await;
    until("mails without a recipient", async || {
        (client.count("queue=mails&status=dead").await > 2).then_some(())
    })
    .await;
    let groups = client.get("/jobs/groups?status=dead&by=message").await.expect(200);
    assert_eq!(groups["groups"][0]["key"], "there is no such mailbox", "{groups}");
    let entry = client.get("/crons/demo/entries/report").await.expect(200);
    assert!(entry["next_enqueue_at"].is_u64(), "{entry}");
    client.get("/budgets/mail-server").await.expect(200);
    until("the end of the files", async || {
        (client.count("queue=compress,checksum&status=completed").await == 40).then_some(())
    })
    .await;
    let workers = client.get("/workers").await.expect(200);
    let names = |worker: &Value| worker["worker"].as_str().unwrap_or_default().to_owned();
    let names: Vec<String> = workers["workers"].as_array().unwrap().iter().map(names).collect();
    assert!(names.iter().any(|name| name == "reports-and-mails") && names.len() > 2, "{names:?}");
    until("the invitation", async || demo.line().await.contains("until you press Ctrl-C").then_some(()))
        .await;
    demo.signal(rustix::process::Signal::INT);
    demo.rest_of_stdout().await;
    demo.ended().await;
}
