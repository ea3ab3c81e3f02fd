//! The real worker on the real server.

use std::path::PathBuf;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::endpoint::Endpoint;
use tests::wait::{now_ms, until, within};
use tests::{Client, Server, Worker, id};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

/// What commands have to do with a test: a folder, a pipe that they tell lines to, and one that they wait for lines
/// on. Whoever still waits when the test ends reads an end.
struct Stage {
    folder: TempDir,
    told: BufReader<Receiver>,
    gate: Sender,
}

impl Stage {
    fn new() -> Self {
        let folder = TempDir::with_prefix("zizq-test-").unwrap();
        let pipe = |name: &str| -> PathBuf {
            let path = folder.path().join(name);
            let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
            assert!(made.success());
            path
        };
        let told = OpenOptions::new().read_write(true).open_receiver(pipe("told")).unwrap();
        let gate = OpenOptions::new().read_write(true).open_sender(pipe("gate")).unwrap();
        Self { folder, told: BufReader::new(told), gate }
    }

    /// A command in which `TELL x` tells the test a line, and `WAIT` waits for the test to open the gate.
    fn command(&self, script: &str) -> String {
        let folder = self.folder.path().display();
        let script = script.replace("WAIT", "read go < gate || exit 9");
        format!("cd {folder} && TELL() {{ echo \"$*\" > told; }} && {script}")
    }

    /// The next line that a command tells.
    async fn next_line(&mut self) -> String {
        let mut line = String::new();
        within("a command to tell something", self.told.read_line(&mut line)).await.unwrap();
        line.trim_end().to_owned()
    }

    /// Lets `n` commands through the gate, now or when they get there.
    async fn open_gate(&mut self, n: usize) {
        self.gate.write_all("go\n".repeat(n).as_bytes()).await.unwrap();
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

fn job(payload: Value) -> Value {
    json!({
        "queue": "q", "type": "t", "payload": payload,
        "retention": {"completed_ms": 600_000},
        "backoff": {"base_ms": 0, "exponent": 0, "jitter_ms": 0}
    })
}

async fn until_status(client: &Client, job: &Value, status: &str) -> Value {
    until(format!("{} to be {status}", id(job)), async || {
        let shown = client.job(id(job)).await;
        (shown["status"] == status).then_some(shown)
    })
    .await
}

/// The record of the first failed attempt.
async fn first_error(client: &Client, job: &Value) -> Value {
    until(format!("{} to fail", id(job)), async || {
        let errors = client.get(&format!("/jobs/{}/errors", id(job))).await.expect(200);
        errors["errors"].get(0).cloned()
    })
    .await
}

#[tokio::test]
async fn a_command_gets_its_payload_and_its_environment() {
    let server = Server::start().await;
    let client = server.client();
    let stage = Stage::new();
    let command = stage.command("cat > payload && env | grep ^ZIZQ_ | sort > environment");
    let _worker = Worker::start(&server, ["--run", &format!("q={command}")]);
    let payload = json!({"text": "ä\n'\"$HOME", "big": u64::MAX, "one": 1.0, "none": null});
    let queued = client.enqueue(&job(payload.clone())).await;
    until_status(&client, &queued, "completed").await;
    assert_eq!(serde_json::from_str::<Value>(&stage.file("payload")).unwrap(), payload);
    let environment = stage.file("environment");
    let variables: Vec<(&str, &str)> =
        environment.lines().map(|line| line.split_once('=').unwrap()).collect();
    let url = server.url();
    for (name, value) in [
        ("ZIZQ_JOB_ATTEMPT", "1"),
        ("ZIZQ_JOB_ID", id(&queued)),
        ("ZIZQ_JOB_PRIORITY", "32768"),
        ("ZIZQ_JOB_QUEUE", "q"),
        ("ZIZQ_JOB_TYPE", "t"),
        ("ZIZQ_SERVER", &url),
    ] {
        assert!(variables.contains(&(name, value)), "{name}={value} in {variables:?}");
    }
    assert!(variables.iter().any(|(name, value)| *name == "ZIZQ_JOB_LEASE" && value.len() == 16));
}

#[tokio::test]
async fn the_end_of_stderr_becomes_the_error() {
    let server = Server::start().await;
    let client = server.client();
    for (command, error_type, how) in [
        ("echo out; echo first >&2; echo no such host >&2; exit 3", "exit_code", "3"),
        ("echo first >&2; echo no such host >&2; kill -9 $$", "signal", "9"),
    ] {
        let queued = client.enqueue(&job(json!(1))).await;
        let worker = Worker::start(&server, ["--run", &format!("q={command}")]);
        let error = first_error(&client, &queued).await;
        assert_eq!((&error["attempt"], &error["error_type"]), (&json!(1), &json!(error_type)));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("no such host") && message.contains(how), "{message}");
        let backtrace = error["backtrace"].as_str().unwrap();
        assert!(backtrace.contains("first\nno such host") && !backtrace.contains("out"), "{backtrace}");
        drop(worker);
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_failed_command_is_tried_again() {
    let server = Server::start().await;
    let client = server.client();
    let command = "test \"$ZIZQ_JOB_ATTEMPT\" = 2";
    let _worker = Worker::start(&server, ["--run", &format!("q={command}")]);
    let queued = client.enqueue(&job(json!(1))).await;
    let done = until_status(&client, &queued, "completed").await;
    assert_eq!(done["attempts"], 1);
    assert_eq!(first_error(&client, &queued).await["attempt"], 1);
}

#[tokio::test]
async fn a_command_need_not_read_its_payload() {
    let server = Server::start().await;
    let client = server.client();
    let _worker = Worker::start(&server, ["--run", "q=true"]);
    let queued = client.enqueue(&job(json!("x".repeat(1_000_000)))).await;
    let done = until_status(&client, &queued, "completed").await;
    assert_eq!(done["attempts"], 0);
}

#[tokio::test]
async fn the_output_of_a_command_is_logged_with_its_job() {
    let server = Server::start().await;
    let client = server.client();
    let mut worker = Worker::start(&server, ["--run", "q=echo one; echo two >&2; printf three"]);
    let queued = client.enqueue(&job(json!(1))).await;
    until_status(&client, &queued, "completed").await;
    for text in ["one", "two", "three"] {
        until(format!("{text} in the log"), async || {
            let log = worker.process().log();
            log.lines().any(|line| line.contains(text) && line.contains(id(&queued))).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_endpoint_is_called_with_the_job() {
    let server = Server::start().await;
    let client = server.client();
    let mut endpoint = Endpoint::start().await;
    let _worker = Worker::start(&server, ["--http", &format!("q={}/hook?x=1", endpoint.url())]);
    for status in [200, 204, 299] {
        let payload = json!({"n": status, "f": 1.0});
        let queued = client.enqueue(&job(payload.clone())).await;
        let call = endpoint.next_call().await;
        assert_eq!(
            (call.request.method().as_str(), call.request.uri().to_string()),
            ("POST", "/hook?x=1".to_owned())
        );
        assert_eq!(call.header("content-type"), "application/json");
        assert_eq!(serde_json::from_slice::<Value>(call.request.body()).unwrap(), payload);
        let headers = ["id", "type", "queue", "attempt"].map(|name| call.header(&format!("zizq-job-{name}")));
        assert_eq!(headers, [id(&queued), "t", "q", "1"]);
        call.answer(status);
        until_status(&client, &queued, "completed").await;
    }
}

#[tokio::test]
async fn an_endpoint_that_refuses_fails_the_job() {
    let server = Server::start().await;
    let client = server.client();
    let mut endpoint = Endpoint::start().await;
    let _worker = Worker::start(&server, ["--http", &format!("q={}", endpoint.url())]);
    for status in [500, 408] {
        let queued = client.enqueue(&job(json!(1))).await;
        let body = Full::new(Bytes::from("the disk is full"));
        endpoint.next_call().await.answer_with(Response::builder().status(status).body(body).unwrap());
        let error = first_error(&client, &queued).await;
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&status.to_string()) && message.contains("the disk is full"), "{message}");
        let again = endpoint.next_call().await;
        assert_eq!(again.header("zizq-job-attempt"), "2");
        again.answer(200);
        assert_eq!(until_status(&client, &queued, "completed").await["attempts"], 1);
    }
    let queued = client.enqueue(&job(json!(1))).await;
    endpoint.next_call().await.answer(404);
    until_status(&client, &queued, "dead").await;
}

#[tokio::test]
async fn retry_after_says_when() {
    let server = Server::start().await;
    let client = server.client();
    let mut endpoint = Endpoint::start().await;
    let _worker = Worker::start(&server, ["--http", &format!("q={}", endpoint.url())]);
    let queued = client.enqueue(&job(json!(1))).await;
    let call = endpoint.next_call().await;
    let asked = now_ms();
    call.answer_with(
        Response::builder().status(503).header("retry-after", "2000").body(Full::default()).unwrap(),
    );
    let scheduled = until_status(&client, &queued, "scheduled").await;
    let wait = scheduled["ready_at"].as_u64().unwrap() - asked;
    assert!((1_999_000..2_030_000).contains(&wait), "{wait} ms instead of 2000 s");
    assert_eq!(scheduled["attempts"], 0, "who is busy has not failed");
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_fails_the_job() {
    let server = Server::start().await;
    let client = server.client();
    let endpoint = Endpoint::start().await;
    let url = endpoint.url().to_owned();
    drop(endpoint);
    let _worker = Worker::start(&server, ["--http", &format!("q={url}")]);
    let queued = client.enqueue(&job(json!(1))).await;
    let error = first_error(&client, &queued).await;
    assert!(!error["message"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn no_more_jobs_run_at_once_than_wanted() {
    let server = Server::start().await;
    let client = server.client();
    let mut stage = Stage::new();
    let command = stage.command("TELL start; WAIT; TELL end");
    let _worker = Worker::start(&server, ["--run", &format!("q={command}"), "--concurrency", "2"]);
    client.enqueue_all((0..6).map(|n| job(json!(n)))).await;
    let (mut running, mut ended) = (0, 0);
    for _ in 0..2 {
        assert_eq!(stage.next_line().await, "start");
        running += 1;
    }
    assert_eq!(client.count("status=in_flight").await, 2);
    while ended < 6 {
        stage.open_gate(1).await;
        // The end of one and the start of the next.
        for _ in 0..if ended < 4 { 2 } else { 1 } {
            match stage.next_line().await.as_str() {
                "start" => running += 1,
                _ => (running, ended) = (running - 1, ended + 1),
            }
            assert!(running <= 2, "{running} at once");
        }
    }
    until("the jobs to be done", async || (client.count("status=completed").await == 6).then_some(())).await;
}

#[tokio::test]
async fn the_jobs_of_a_killed_worker_run_elsewhere() {
    let server = Server::start().await;
    let client = server.client();
    let mut stage = Stage::new();
    let command = stage.command("TELL here $ZIZQ_JOB_ID; WAIT");
    let mut worker = Worker::start(&server, ["--run", &format!("q={command}")]);
    let queued = client.enqueue(&job(json!(1))).await;
    assert_eq!(stage.next_line().await, format!("here {}", id(&queued)));
    worker.kill9().await;
    let command = stage.command("TELL elsewhere $ZIZQ_JOB_ID");
    let _other = Worker::start(&server, ["--run", &format!("q={command}")]);
    assert_eq!(stage.next_line().await, format!("elsewhere {}", id(&queued)));
    let done = until_status(&client, &queued, "completed").await;
    assert_eq!(done["attempts"], 0);
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_finishes_what_runs() {
    let server = Server::start().await;
    let client = server.client();
    let mut stage = Stage::new();
    let command = stage.command("TELL start; WAIT; TELL end");
    let mut worker = Worker::start(&server, ["--run", &format!("q={command}")]);
    let queued = client.enqueue_all((0..2).map(|n| job(json!(n)))).await;
    assert_eq!(stage.next_line().await, "start");
    worker.process().signal(rustix::process::Signal::TERM);
    // A command that runs on after the signal shows that the worker waits for it.
    client.let_pass(300).await;
    assert_eq!(client.job(id(&queued[0])).await["status"], "in_flight");
    stage.open_gate(1).await;
    assert_eq!(stage.next_line().await, "end");
    assert_eq!(worker.process().ended().await.code(), Some(0));
    assert_eq!(client.status(id(&queued[0])).await.as_deref(), Some("completed"));
    let rest = client.poll_one("q").await;
    assert_eq!((id(&rest), &rest["attempts"]), (id(&queued[1]), &json!(0)), "the second never began");
}

#[tokio::test]
async fn jobs_that_outlast_the_shutdown_timeout_are_stopped_and_released() {
    let server = Server::start().await;
    let client = server.client();
    let mut stage = Stage::new();
    let command = stage.command("trap 'TELL term; exit 0' TERM; TELL start; sleep 600 & wait");
    let flags = ["--run", &format!("q={command}"), "--shutdown-timeout", "300ms"];
    let mut worker = Worker::start(&server, flags);
    let queued = client.enqueue(&job(json!(1))).await;
    assert_eq!(stage.next_line().await, "start");
    worker.process().signal(rustix::process::Signal::TERM);
    assert_eq!(stage.next_line().await, "term");
    worker.process().ended().await;
    let again = client.poll_one("q").await;
    assert_eq!((id(&again), &again["attempts"]), (id(&queued), &json!(0)));
    assert_eq!(again["deliveries"], 1, "a release counts no delivery");
}

#[tokio::test]
async fn a_deleted_job_is_stopped() {
    let server = Server::start().await;
    let client = server.client();
    let mut stage = Stage::new();
    let command = stage.command("trap 'TELL term; exit 0' TERM; TELL start $ZIZQ_JOB_ID; sleep 600 & wait");
    let _worker = Worker::start(&server, ["--run", &format!("q={command}")]);
    let first = client.enqueue(&job(json!(1))).await;
    assert_eq!(stage.next_line().await, format!("start {}", id(&first)));
    client.delete(&format!("/jobs/{}", id(&first))).await.expect_nothing();
    assert_eq!(stage.next_line().await, "term");
    let second = client.enqueue(&job(json!(2))).await;
    assert_eq!(stage.next_line().await, format!("start {}", id(&second)), "its place is free");
}

#[tokio::test]
async fn jobs_run_once_while_the_server_crashes_and_comes_back() {
    let mut server = Server::start().await;
    let client = server.client();
    let mut stage = Stage::new();
    let command = stage.command("TELL start $ZIZQ_JOB_ID; WAIT");
    let _worker = Worker::start(&server, ["--run", &format!("q={command}"), "--concurrency", "4"]);
    let queued = client.enqueue_all((0..8).map(|n| job(json!(n)))).await;
    let mut started = Vec::new();
    for _ in 0..4 {
        started.push(stage.next_line().await);
    }
    // The contract promises it for leases that are older than a second.
    client.let_pass(2_000).await;
    server.kill9().await;
    // Two end while the server is away, two after it came back.
    stage.open_gate(2).await;
    server.restart().await;
    stage.open_gate(6).await;
    for _ in 0..4 {
        started.push(stage.next_line().await);
    }
    let client = server.client();
    for job in &queued {
        let done = until_status(&client, job, "completed").await;
        assert_eq!(done["attempts"], 0);
    }
    started.sort_unstable();
    let expected: Vec<String> = queued.iter().map(|job| format!("start {}", id(job))).collect();
    assert_eq!(started, expected, "each ran once");
}

#[tokio::test]
async fn a_worker_waits_for_a_server_that_is_not_there_yet() {
    let mut server = Server::start().await;
    server.kill9().await;
    let _worker = Worker::start(&server, ["--run", "q=true"]);
    server.restart().await;
    let client = server.client();
    let queued = client.enqueue(&job(json!(1))).await;
    until_status(&client, &queued, "completed").await;
}

#[tokio::test]
async fn bad_flags_are_refused_in_a_sentence() {
    let server = Server::start().await;
    for (flags, expected) in [
        (&[][..], "--run"),
        (&["--run", "no equals sign"], "no equals sign"),
        (&["--run", "a*=true"], "a*"),
        (&["--run", "q="], "q"),
        (&["--http", "q=not a url"], "not a url"),
        (&["--run", "q=true", "--run", "q=false"], "has two routes"),
        (&["--run", "q=true", "--concurrency", "0"], "--concurrency"),
        (&["--run", "q=true", "--concurrency", "other=2"], "other"),
        (&["--run", "q=true", "--nonsense"], "--nonsense"),
    ] {
        let mut worker = Worker::start(&server, flags.iter().copied());
        let status = worker.process().ended().await;
        let log = worker.process().log();
        assert!(!status.success(), "{flags:?}");
        assert!(log.contains(expected) && !log.contains("panicked"), "{flags:?}: {log}");
    }
}

#[tokio::test]
async fn a_job_runs_on_when_its_route_is_taken_away() {
    let server = Server::start().await;
    let client = server.client();
    let mut stage = Stage::new();
    let config = stage.folder.path().join("worker.toml");
    let route = |queue: &str, command: &str| format!("[[route]]\nqueue = '{queue}'\nrun = '''{command}'''\n");
    let (other, this) = (route("other", "true"), route("q", &stage.command("TELL start; WAIT; TELL end")));
    std::fs::write(&config, format!("{other}{this}")).unwrap();
    let mut worker = Worker::start(&server, ["--config", config.to_str().unwrap()]);
    let queued = client.enqueue(&job(json!(1))).await;
    assert_eq!(stage.next_line().await, "start");
    std::fs::write(&config, other).unwrap();
    worker.process().signal(rustix::process::Signal::HUP);
    // Longer than the server keeps what a closed stream held, unless it is told otherwise.
    client.let_pass(6_000).await;
    assert!(worker.process().log().contains("configuration reloaded"), "{}", worker.process().log());
    assert_eq!(client.job(id(&queued)).await["status"], "in_flight");
    assert!(client.poll(&json!({"queues": ["q"]})).await.is_empty(), "nobody else gets it");
    stage.open_gate(1).await;
    assert_eq!(stage.next_line().await, "end");
    assert_eq!(until_status(&client, &queued, "completed").await["attempts"], 0);
}

#[tokio::test]
async fn a_worker_that_is_drained_over_http_finishes_its_job_and_ends() {
    let server = Server::start().await;
    let client = server.client();
    let mut stage = Stage::new();
    let command = stage.command("TELL started && WAIT");
    let flags = ["--run", &format!("q={command}"), "--worker-id", "encoder-7"];
    let mut worker = Worker::start(&server, flags);
    let first = client.enqueue(&job(json!(1))).await;
    assert_eq!(stage.next_line().await, "started");
    client.poke("/workers/drain?worker=encoder-7").await.expect_nothing();
    worker.process().logged("drain this worker").await;
    let second = client.enqueue(&job(json!(2))).await;
    stage.open_gate(1).await;
    assert_eq!(worker.process().ended().await.code(), Some(0));
    assert_eq!(client.status(id(&first)).await.as_deref(), Some("completed"));
    assert_eq!(client.status(id(&second)).await.as_deref(), Some("ready"));
}
