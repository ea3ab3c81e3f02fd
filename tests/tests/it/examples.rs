//! The examples in the pages do what the pages say they do.
//!
//! Every `sh` block of a page runs. A block behind `<!-- example: NAME -->` has a test of its own here. One behind
//! `<!-- not run: REASON -->` cannot run in a test. All others of a page run one after the other, with a server that has
//! just been started.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;
use tests::binaries::binary;
use tests::process::Process;
use tests::{Client, Server, id, wait};
use tokio::process::Command;

/// The folder with the README.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The pages for users, relative to the [`root`].
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![PathBuf::from("README.md")];
    for folder in ["protocol/docs", "zizq-server/docs", "zizq-worker/docs"] {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        pages.extend(entries.map(|entry| Path::new(folder).join(entry.unwrap().file_name())));
    }
    pages
}

/// A block of code in a page.
#[derive(Debug)]
struct Block {
    /// The first line of the code, counted from 1.
    line: usize,
    language: String,
    /// The name behind `example:` in the comment before the block.
    name: Option<String>,
    /// The reason behind `not run:` in the comment before the block.
    not_run: Option<String>,
    code: String,
}

fn blocks(page: &Path) -> Vec<Block> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let (mut blocks, mut before, mut open) = (Vec::new(), "", None::<Block>);
    for (at, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(language)) => {
                let comment = |kind: &str| {
                    let text = before.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
                    Some(text.strip_prefix(kind)?.trim().to_owned())
                };
                let (name, not_run) = (comment("example:"), comment("not run:"));
                let language = language.trim().to_owned();
                open = Some(Block { line: at + 2, language, name, not_run, code: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.code.push_str(line);
                block.code.push('\n');
            }
            (None, None) => {}
        }
        before = line;
    }
    assert!(open.is_none(), "a block in {} has no end", page.display());
    blocks
}

/// The code behind `<!-- example: NAME -->`.
fn example(name: &str) -> String {
    let mut found = pages().iter().flat_map(|page| blocks(page)).collect::<Vec<_>>();
    found.retain(|block| block.name.as_deref() == Some(name));
    assert_eq!(found.len(), 1, "example {name}");
    found.remove(0).code.trim_end().to_owned()
}

/// The same, with the addresses of a server under test.
fn example_for(name: &str, server: &Server) -> String {
    example(name).replace("http://127.0.0.1:7890", &server.url())
}

/// Starts code in a folder of its own, with the programs of this project in its path.
fn start(program: &str, flag: &str, code: String, server: &Server, folder: &TempDir) -> Process {
    let mut command = Command::new(program);
    let (programs, path) = (binary("zizq-worker"), std::env::var("PATH").unwrap());
    command
        .current_dir(folder)
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
    // Paths in examples are those of this project.
    std::os::unix::fs::symlink(root().join("zizq-worker"), folder.path().join("zizq-worker")).unwrap();
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
async fn every_example_runs_or_says_why_not() {
    let here = fs::read_to_string(root().join("tests/tests/it/examples.rs")).unwrap();
    let mut run_count = 0;
    for page in pages() {
        let server = Server::start().await;
        // A refusal fails the page. `SERVER=…` in one block is meant for those behind it, too.
        let mut code = "curl() { command curl --fail-with-body \"$@\"; }\n".to_owned();
        for Block { line, language, name, not_run, code: block } in blocks(&page) {
            let at = format!("{}:{line}", page.display());
            assert!(!language.is_empty(), "{at}: the block names no language");
            match (name, not_run) {
                (Some(name), _) => {
                    assert!(here.contains(&format!("\"{name}\"")), "{at}: no test runs the example {name}");
                }
                (None, Some(reason)) => assert!(!reason.is_empty(), "{at}: a reason is missing"),
                (None, None) if language == "sh" => {
                    code.push_str(&format!("echo; echo '# {at}'\n{block}"));
                    run_count += 1;
                }
                (None, None) => {}
            }
        }
        let code = code.replace("http://127.0.0.1:7890", &server.url());
        let printed = run(code, &server).await;
        assert!(!printed.contains("\"ignored\""), "{printed}");
    }
    assert!(run_count > 5, "{run_count} blocks were found");
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
async fn the_commands_for_operations() {
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
async fn a_server_starts_without_flags() {
    let server = Server::start().await;
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let code = format!("ZIZQ_PORT=0 exec {}", example("server"));
    let mut second = start("sh", "-ec", code, &server, &folder);
    let line = second.line().await;
    assert!(line.contains("http://127.0.0.1:"), "{line}{}", second.log());
    assert!(folder.path().join("zizq-root").is_dir());
    assert!(second.sigterm().await.success());
}

#[tokio::test]
async fn one_worker_for_many_queues() {
    let server = Server::start().await;
    let client = server.client();
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let file = folder.path().join("a file; true");
    fs::write(&file, "text").unwrap();
    client.enqueue(&json!({"queue": "files", "type": "t", "payload": {"file": file}})).await;
    // The endpoint is the server itself: it takes the payload as a job.
    let mail = json!({"queue": "sent", "type": "mail", "payload": "dear Ada"});
    client.enqueue(&json!({"queue": "mails", "type": "t", "payload": mail})).await;
    let endpoint = format!("{}/jobs", server.url());
    let code = example_for("many-queues", &server).replace("http://127.0.0.1:8080/send-mail", &endpoint);
    let mut worker = start("sh", "-c", format!("exec {code}"), &server, &folder);
    wait::until("both jobs to end", async || (client.count("queue=files,mails").await == 0).then_some(()))
        .await;
    assert_eq!(client.count("queue=sent").await, 1);
    worker.sigterm().await;
}

#[tokio::test]
async fn a_template_in_a_command_line() {
    let server = Server::start().await;
    let client = server.client();
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let file = folder.path().join("a file; true");
    fs::write(&file, "text").unwrap();
    client.enqueue(&json!({"queue": "files", "type": "t", "payload": {"file": file}})).await;
    let mut worker = start("sh", "-c", format!("exec {}", example("template")), &server, &folder);
    until_empty(&client).await;
    assert_eq!(fs::read_to_string(folder.path().join("a file; true.bak")).unwrap(), "text");
    worker.sigterm().await;
}

#[tokio::test]
async fn the_sample_of_a_configuration_file() {
    let server = Server::start().await;
    let client = server.client();
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let code = example("config").replace("zizq-worker --config", "exec zizq-worker --config");
    let mut worker = start("sh", "-ec", code, &server, &folder);
    wait::until("the worker to take jobs", async || {
        let workers = client.get("/workers").await.expect(200);
        (!workers["workers"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    worker.sigterm().await;
    assert!(folder.path().join("worker.toml").is_file());
}

#[tokio::test]
async fn a_command_talks_back() {
    let server = Server::start().await;
    let client = server.client();
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    fs::write(folder.path().join("talk.sh"), example("ctl")).unwrap();
    let job = client.add("talks").await;
    let code = "exec zizq-worker --run 'talks=sh -e talk.sh && touch done'".to_owned();
    let mut worker = start("sh", "-c", code, &server, &folder);
    // The last report counts.
    wait::until("the job to wait for its retry", async || {
        (client.status(id(&job)).await.as_deref() == Some("scheduled")).then_some(())
    })
    .await;
    assert!(folder.path().join("done").exists(), "{}", worker.log());
    assert_eq!(client.count("queue=mails&type=done").await, 1);
    worker.sigterm().await;
}
