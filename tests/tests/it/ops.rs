//! The program as its operator sees it: flags, environment, refusals to start, signals, logs.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::binaries::binary;
use tests::process::Process;
use tests::server::address;
use tests::wait::within;
use tests::{Client, Server, Wire};
use tokio::process::Command;

const FLAGS: [&str; 26] = [
    "--filter-timeout",
    "--filter-memory",
    "--root-dir",
    "--host",
    "--port",
    "--heartbeat-interval",
    "--default-retry-limit",
    "--default-backoff-base",
    "--default-backoff-exponent",
    "--default-backoff-jitter",
    "--default-completed-job-retention",
    "--default-dead-job-retention",
    "--default-commit-mode",
    "--enqueue-commit-mode",
    "--cache-size",
    "--max-body-size",
    "--max-connections",
    "--min-free-disk",
    "--max-payload-size",
    "--log-level",
    "--log-format",
    "--drain-timeout",
    "--max-deliveries",
    "--max-stream-renewal",
    "--global-in-flight-limit",
    "--version",
];

/// Runs the server to its end, which comes soon.
async fn run<'a>(args: impl IntoIterator<Item = &'a str>) -> Output {
    let mut command = Command::new(binary("zizq-server"));
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    within("a server that does not start to end", command.output()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A refusal to start: nothing on stdout, and a message that contains all of `expected`.
fn expect_refusal(output: &Output, expected: &[&str]) {
    let message = text(&output.stderr);
    assert!(!output.status.success(), "it ended well: {message}");
    assert_eq!(text(&output.stdout), "", "it said that it listens");
    assert!(expected.iter().all(|part| message.contains(part)), "{message:?} should contain {expected:?}");
    assert!(!message.contains("panicked"), "{message}");
}

#[tokio::test]
async fn the_settings_in_effect_are_shown_with_their_sources() {
    let variables = [("ZIZQ_DRAIN_TIMEOUT", "3s"), ("ZIZQ_HEARTBEAT_INTERVAL", "9s")];
    let variables = variables.map(|(name, value)| (name, value.to_owned())).to_vec();
    let server = Server::with_variables(["--heartbeat-interval", "1s"], variables).await;
    for wire in Wire::ALL {
        let shown = server.client_as(wire).get("/config").await.expect(200);
        let of = |flag: &str| {
            let settings = shown["settings"].as_array().unwrap();
            settings.iter().find(|setting| setting["flag"] == flag).unwrap().clone()
        };
        let one = |flag: &str, variable: &str, value: &str, source: &str| json!({"flag": flag, "variable": variable, "value": value, "source": source});
        let interval = one("--heartbeat-interval", "ZIZQ_HEARTBEAT_INTERVAL", "1s", "flag");
        assert_eq!(of("--heartbeat-interval"), interval, "a flag counts more than a variable");
        assert_eq!(of("--drain-timeout"), one("--drain-timeout", "ZIZQ_DRAIN_TIMEOUT", "3s", "environment"));
        assert_eq!(of("--cache-size"), one("--cache-size", "ZIZQ_CACHE_SIZE", "64MB", "default"));
        assert!(of("--default-timeout")["value"].is_null());
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused() {
    let server = Server::start().await;
    let root_dir = server.root_dir();
    let root_dir = root_dir.to_str().unwrap();
    let output = run(["--port", "0", "--root-dir", root_dir]).await;
    expect_refusal(&output, &[root_dir, "another"]);
    server.client().add("q").await;
}

#[tokio::test]
async fn a_port_in_use_is_refused() {
    let server = Server::start().await;
    let folder = TempDir::new().unwrap();
    let port = server.port().to_string();
    let output = run(["--port", &port, "--root-dir", folder.path().to_str().unwrap()]).await;
    expect_refusal(&output, &[&port, "in use"]);
}

#[tokio::test]
async fn an_invalid_host_is_refused() {
    let folder = TempDir::new().unwrap();
    let root_dir = folder.path().join("root");
    let shown = root_dir.to_str().unwrap();
    let output = run(["--port", "0", "--root-dir", shown, "--host", "not a host"]).await;
    expect_refusal(&output, &["not a host"]);
    assert!(!root_dir.exists(), "it made a folder for a server that does not start");
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_created_is_reported() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let root_dir = file.path().join("root");
    let root_dir = root_dir.to_str().unwrap();
    expect_refusal(&run(["--port", "0", "--root-dir", root_dir]).await, &[root_dir]);
}

#[tokio::test]
async fn bad_flags_are_refused() {
    for (flags, expected) in [
        (&["--nonsense"][..], "--nonsense"),
        (&["--port", "65536"], "65536"),
        (&["--port", "http"], "--port"),
        (&["--heartbeat-interval", "soon"], "--heartbeat-interval"),
        (&["--heartbeat-interval", "0s"], "--heartbeat-interval"),
        (&["--default-dead-job-retention", "7"], "--default-dead-job-retention"),
        (&["--default-commit-mode", "maybe"], "buffered"),
        (&["--enqueue-commit-mode", "never"], "fsync"),
        (&["--cache-size", "big"], "--cache-size"),
        (&["--max-body-size", "-1"], "-1"),
        (&["--min-free-disk", "-1"], "-1"),
        (&["--default-retry-limit", "-1"], "-1"),
        (&["--max-deliveries", "0"], "--max-deliveries"),
        (&["--log-format", "xml"], "json"),
        (&["--log-level", "hyper=loud"], "loud"),
        (&["--log-level", "verbose"], "off, error, warn, info, debug, trace"),
        (&["--cache-size", "64"], "64MB"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let folder = TempDir::new().unwrap();
        let rest = ["--port", "0", "--root-dir", folder.path().to_str().unwrap()];
        let flags: Vec<&str> = if flags[0] == "--port" {
            flags.iter().chain(&rest[2..]).copied().collect()
        } else {
            rest.iter().chain(flags).copied().collect()
        };
        expect_refusal(&run(flags.iter().copied()).await, &[expected]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{flags:?} left something behind");
    }
}

#[tokio::test]
async fn help_mentions_every_flag_and_variable() {
    for args in [&["--help"][..], &["serve", "--help"]] {
        let output = run(args.iter().copied()).await;
        assert!(output.status.success());
        let help = text(&output.stdout);
        for flag in FLAGS.iter().filter(|flag| args.len() == 1 || **flag != "--version") {
            assert!(help.contains(flag), "{args:?} does not mention {flag}:\n{help}");
            let variable = format!("ZIZQ_{}", flag[2..].to_uppercase().replace('-', "_"));
            assert!(*flag == "--version" || help.contains(&variable), "{args:?} does not mention {variable}");
        }
    }
    let version = text(&run(["--version"]).await.stdout);
    assert!(version.starts_with("zizq-server "), "{version}");
}

fn with_environment(folder: &Path, variables: &[(&str, &str)], args: &[&str]) -> Process {
    let mut command = Command::new(binary("zizq-server"));
    command.env("ZIZQ_ROOT_DIR", folder.join("from-env")).env("ZIZQ_PORT", "0");
    command.envs(variables.iter().copied()).args(args);
    Process::start(command, &folder.join("server.log"))
}

#[tokio::test]
async fn the_environment_sets_what_flags_do_not() {
    let folder = TempDir::new().unwrap();
    let variables = [("ZIZQ_DEFAULT_RETRY_LIMIT", "0"), ("ZIZQ_HEARTBEAT_INTERVAL", "250ms")];
    let mut process =
        with_environment(folder.path(), &variables, &["serve", "--heartbeat-interval", "500ms"]);
    let client = Client::new(&format!("http://{}", address(&mut process).await), Wire::default());
    assert_eq!(client.events("").await.hello().heartbeat_ms, 500, "the flag wins");
    client.add("q").await;
    let taken = client.poll_one("q").await;
    assert_eq!(client.fail(&taken, &json!({"message": "m"})).await["status"], "dead", "the limit is 0");
    assert!(folder.path().join("from-env").is_dir());
    assert_eq!(process.sigterm().await.code(), Some(0));

    let mut process = with_environment(folder.path(), &[("ZIZQ_PORT", "many")], &[]);
    assert!(!process.ended().await.success());
    assert!(process.log().contains("many"), "{}", process.log());
}

#[tokio::test]
async fn one_line_on_stdout_and_nothing_else() {
    let mut server = Server::with(["--log-level", "debug"]).await;
    server.client().add("q").await;
    assert!(server.sigterm().await.success());
    assert_eq!(server.process().rest_of_stdout().await, "");
}

#[tokio::test]
async fn logs_are_json_where_wanted() {
    let mut server = Server::with(["--log-level", "info", "--log-format", "json"]).await;
    server.client().get("/nothing").await.expect_refusal(404, "/nothing");
    assert!(server.sigterm().await.success());
    let log = server.process().log();
    assert!(!log.is_empty());
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"));
        assert!(entry.is_object(), "{line}");
    }
}

#[tokio::test]
async fn signals_end_it_well() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let mut server = Server::start().await;
        let client = server.client();
        let mut stream = client.lines("").await;
        let poll = tokio::spawn({
            let client = client.clone();
            async move { client.post("/jobs/take", &json!({"wait_ms": 60_000})).await.status }
        });
        client.let_pass(100).await;
        server.process().signal(signal);
        stream.expect_end().await;
        assert_eq!(server.process().ended().await.code(), Some(0), "{signal:?}");
        let status = poll.await.unwrap();
        assert!(matches!(status, 200 | 503), "a waiting poll is answered, with {status}");
    }
}

#[tokio::test]
async fn both_commit_modes_can_be_had_for_both() {
    for mode in ["buffered", "fsync"] {
        let flags = ["--default-commit-mode", mode, "--enqueue-commit-mode", mode, "--cache-size", "16MB"];
        let mut server = Server::with(flags).await;
        let client = server.client();
        client.add("q").await;
        client.add("q").await;
        let taken = client.poll_one("q").await;
        client.succeed(&taken).await;
        server.kill9().await;
        server.restart().await;
        assert_eq!(server.client().count("").await, 1, "{mode}");
    }
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let mut server = Server::with(["--drain-timeout", "100ms"]).await;
    let client = server.client();
    let backoff = json!({"base_ms": 1, "exponent": 1.5, "jitter_ms": 2});
    client
        .enqueue_all((0..50).map(|n| {
            json!({
                "queue": format!("q{}", n % 4), "type": "ä", "payload": {"n": n, "big": u64::MAX, "f": 1.0},
                "priority": n * 100 % 700, "retry_limit": 20, "backoff": backoff,
                "retention": {"completed_ms": 600_000, "dead_ms": 600_000},
                "ready_at": if n % 5 == 0 { 253_402_300_799_999_u64 } else { n }
            })
        }))
        .await;
    for queue in ["q0", "q1"] {
        let done = client.poll_one(queue).await;
        client.succeed(&done).await;
        let dead = client.poll_one(queue).await;
        client.fail(&dead, &json!({"message": "m", "error_type": "e", "backtrace": "b", "kill": true})).await;
        let retried = client.poll_one(queue).await;
        client.fail(&retried, &json!({"message": "m", "retry_at": 253_402_300_799_999_u64})).await;
        let held = client.poll(&json!({"queues": [queue], "lease_ms": 600_000})).await;
        assert_eq!(held.len(), 1);
    }
    let shown = snapshot(&client).await;
    for stop in ["SIGTERM", "kill -9", "SIGTERM"] {
        if stop == "SIGTERM" {
            assert!(server.sigterm().await.success());
        } else {
            server.kill9().await;
        }
        server.restart().await;
        let now = snapshot(&server.client()).await;
        assert_eq!(now, shown, "after {stop}");
    }
}

/// Everything that can be seen, but for who holds the jobs in flight: only memory knows the addresses of workers, and
/// a restart gives the leases more time.
async fn snapshot(client: &Client) -> Vec<Value> {
    let mut jobs = client.get("/jobs?limit=2000").await.expect(200);
    for job in jobs["jobs"].as_array_mut().unwrap() {
        for member in ["remote", "lease_expires_at"] {
            job.as_object_mut().unwrap().remove(member);
        }
    }
    let mut all = vec![client.get("/queues").await.expect(200)];
    for job in jobs["jobs"].as_array().unwrap() {
        all.push(client.get(&format!("/jobs/{}/errors", tests::id(job))).await.expect(200));
    }
    all.push(jobs);
    all
}
