//! The examples of the README do what it says they do.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use tests::binaries::binary;
use tests::process::Process;
use tests::{Client, Server, Worker, id, wait};
use tokio::process::Command;

/// The code behind `<!-- example: NAME -->` in the README.
fn example(name: &str) -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, behind) = readme.split_once(&format!("<!-- example: {name} -->\n```")).expect(name);
    let (_, code) = behind.split_once('\n').unwrap();
    code.split_once("\n```").unwrap().0.to_owned()
}

/// The same, with the addresses of a server under test.
fn example_for(name: &str, server: &Server) -> String {
    example(name).replace("http://127.0.0.1:7890", &server.url())
}

fn start(program: &str, flag: &str, code: String, server: &Server, folder: &TempDir) -> Process {
    let mut command = Command::new(program);
    let (programs, path) = (binary("zizq-worker"), std::env::var("PATH").unwrap());
    command
        .arg(flag)
        .arg(code)
        .env("PATH", format!("{}:{path}", programs.parent().unwrap().display()))
        .env("ZIZQ_SERVER", server.url())
        .env("ZIZQ_SPOOL", folder.path())
        .kill_on_drop(true);
    Process::start(command, &folder.path().join("log"))
}

/// Runs a snippet to its end and gives back what it printed.
async fn run(code: String, server: &Server) -> String {
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let mut shell = start("sh", "-ec", code, server, &folder);
    let printed = shell.rest_of_stdout().await;
    let status = shell.ended().await;
    assert!(status.success(), "{status}: {printed}{}", shell.log());
    printed
}

async fn until_empty(client: &Client) {
    wait::until("the queue to be empty", async || (client.count("").await == 0).then_some(())).await;
}

/// A worker of one's own: it says `running` with the id of each job, and reports its success.
async fn works(program: &str, flag: &str, name: &str) {
    let server = Server::start().await;
    let client = server.client();
    let first =
        client.enqueue(&json!({"queue": "hello", "type": "greet", "payload": "it's \"a\" line"})).await;
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let mut worker = start(program, flag, example_for(name, &server), &server, &folder);
    let line = worker.line().await;
    assert!(line.starts_with("running") && line.contains(id(&first)), "{line}{}", worker.log());
    let second = client.add("hello").await;
    let line = worker.line().await;
    assert!(line.contains(id(&second)), "{line}{}", worker.log());
    until_empty(&client).await;
    worker.kill9().await;
}

#[tokio::test]
async fn a_worker_over_sse_in_python() {
    works("python3", "-c", "python-sse").await;
}

#[tokio::test]
async fn a_worker_by_long_poll_in_shell() {
    works("sh", "-c", "shell-poll").await;
}

#[tokio::test]
async fn first_steps() {
    let server = Server::start().await;
    let client = server.client();
    let printed = run(example("enqueue"), &server).await;
    assert!(printed.ends_with(" is in queue hello, ready\n"), "{printed}");
    let printed = run(example("look"), &server).await;
    assert!(printed.contains("\nhello") && printed.contains("0 jobs dead"), "{printed}");
    let printed = run(example_for("curl", &server), &server).await;
    assert!(printed.contains("\"status\":\"ready\"") && printed.contains("\"pages\":"), "{printed}");

    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let mut worker = start("sh", "-c", format!("exec {}", example("worker")), &server, &folder);
    until_empty(&client).await;
    worker.sigterm().await;
    assert!(worker.log().contains("Ada"), "{}", worker.log());
}

#[tokio::test]
async fn the_commands_of_the_night() {
    let server = Server::start().await;
    let client = server.client();
    let job = |kind: &str, to: &str| json!({"queue": "mails", "type": kind, "payload": {"to": to}});
    let jobs =
        [job("receipt", "ada@example.com"), job("spam", "x"), job("newsletter", "y"), job("receipt", "z")];
    let jobs = client.enqueue_all(jobs).await;
    let dead = client.poll(&json!({"queues": ["mails"], "limit": 2})).await;
    for job in &dead {
        client.fail(job, &json!({"message": "mailbox full", "kill": true})).await;
    }
    let spam = client.post("/jobs/retry?type=receipt", &json!({})).await.expect(200);
    assert_eq!(spam, json!({"retried": 1}));
    let again = client.poll_one("mails").await;
    let log = client.poke(&format!("/jobs/{}/log", id(&again)));
    log.bytes("text/plain", "connecting to the mail server").await.expect_nothing();
    client.fail(&again, &json!({"message": "mailbox still full", "kill": true})).await;
    // While the commands run, a worker tries one job, so that there is something to watch.
    let (code, job) = (example("night"), id(&jobs[0]));
    // The job has failed, and `tail` says so by its exit code.
    let code = code.replace("tail \"$JOB\"", "tail \"$JOB\" || true");
    let code = format!("SERVER={}; JOB={job}; {code}", server.url());
    let worker = tokio::spawn({
        let client = client.clone();
        async move {
            let mut stream = client.lines("queue=slow,mails&prefetch=0").await;
            while let Some(tests::Item::Job(job)) = stream.next_message().await {
                client.let_pass(300).await;
                client.fail(&job, &json!({"message": "no", "kill": true})).await;
            }
        }
    });
    let printed = run(code, &server).await;
    worker.abort();
    for expected in [
        "list dead jobs and their errors: zizq-worker failed",
        "; dead",
        "\"to\":\"ada@example.com\"",
        "mailbox still full",
        "connecting to the mail server\n",
        "\"paused\":true",
        "jobs of queue mails made ready again",
        "{\"patched\":",
        "{\"deleted\":",
        "\"paused\":false",
        "\"to\":\"dead\"",
    ] {
        assert!(printed.contains(expected), "{expected} is missing in {printed}");
    }
}

#[tokio::test]
async fn one_worker_for_many_queues() {
    let server = Server::start().await;
    let client = server.client();
    client.add("a").await;
    client.add("b").await;
    let _worker = Worker::start(&server, ["--run", "a=true", "--run", "b=true", "--concurrency", "b=4"]);
    until_empty(&client).await;
}
