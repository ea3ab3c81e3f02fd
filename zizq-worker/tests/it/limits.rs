//! What a command may use, and what is left of it when its worker is killed.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fake::Server;
use crate::worker::{ConfigFile, Worker, gone, id, job, lease};

/// Runs a job by a route with these lines, and hands back what the server was told.
async fn fails(lines: &str) -> Value {
    let mut server = Server::start().await;
    let file = ConfigFile::new(&format!("[[route]]\nqueue = 'q'\n{lines}\n"));
    let _worker = file.start(&server);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let call = server.call(&format!("/jobs/{}/failure", id(1))).await;
    call.body.clone()
}

#[tokio::test]
async fn limits_are_in_force_before_the_command_begins() {
    let failure = fails(
        "run = 'ulimit -v; ulimit -t; ulimit -n; nice; exit 3'\n\
         limits = {memory = '1GiB', cpu_time = '7s', files = 100, nice = 5}\n\
         outcome = {3 = 'dead'}",
    )
    .await;
    assert_eq!(failure["kill"], true);
    // It is nicer than its worker, which is as nice as this test.
    let nice = (rustix::process::getpriority_process(None).unwrap() + 5).min(19);
    let failure = fails(&format!(
        "run = 'test $(ulimit -v) = 1048576 && test $(ulimit -t) = 7 && test $(ulimit -n) = 100 && test $(nice) = {nice}; exit $((7 - $?))'\n\
         limits = {{memory = '1GiB', cpu_time = '7s', files = 100, nice = 5}}"
    ))
    .await;
    assert_eq!(failure["message"], "exited with code 7");
}

#[tokio::test]
async fn who_uses_up_the_cpu_time_is_named() {
    let failure = fails("run = ['sh', '-c', 'while :; do :; done']\nlimits = {cpu_time = '1s'}").await;
    assert_eq!(failure["error_type"], "out_of_cpu_time");
    let cpu = failure["usage"]["cpu_ms"].as_u64().unwrap();
    assert!((500..5000).contains(&cpu), "{failure}");
}

#[tokio::test]
async fn what_a_command_used_is_reported() {
    let failure = fails(
        "run = [\"perl\", \"-e\", \"my $x = 'x' x 50_000_000; my $n = 0; $n++ while $n < 3_000_000; exit 1\"]",
    )
    .await;
    let usage = &failure["usage"];
    assert!(usage["peak_bytes"].as_u64().unwrap() > 50_000_000, "{usage}");
    assert!(usage["cpu_ms"].as_u64().unwrap() >= 10, "{usage}");
    assert!(usage["wall_ms"].as_u64().unwrap() >= 10, "{usage}");
}

#[tokio::test]
async fn a_job_that_takes_too_long_is_ended_with_all_it_started() {
    let mut server = Server::start().await;
    let file = ConfigFile::new(
        "[[route]]\nqueue = 'q'\ntimeout = '300ms'\ngrace = '100ms'\n\
         run = \"trap '' TERM; sleep 1000 & echo pids $$ $!; while :; do sleep 1; done\"\n",
    );
    let mut worker = file.start(&server);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let failure = server.failure(&id(1)).await;
    assert_eq!(failure["error_type"], "timed_out");
    assert_eq!(failure["message"], "timed out after 300ms");
    let line = worker.message("pids ").await;
    for pid in line["message"].as_str().unwrap().split(' ').skip(1) {
        gone(pid).await;
    }
}

#[tokio::test]
async fn a_worker_that_is_killed_leaves_no_command_behind() {
    let mut server = Server::start().await;
    let command = "q=trap '' TERM HUP; sleep 1000 & a=$!; setsid sleep 1000 & echo pids $$ $a $!; while :; do sleep 1; done";
    let mut worker = Worker::start(&server, &["--run", command]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let line = worker.message("pids ").await;
    worker.signal(Signal::KILL);
    for pid in line["message"].as_str().unwrap().split(' ').skip(1) {
        gone(pid).await;
    }
}

#[tokio::test]
async fn the_environment_is_what_the_route_says() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut server = Server::start().await;
    for (inherit, home, path) in [("true", true, true), ("false", false, false), ("['HOME']", true, false)] {
        let file = ConfigFile::new(&format!(
            "[[route]]\nqueue = 'q'\ninherit_env = {inherit}\ncwd = '/'\n\
             env = {{ CUSTOMER = '{{{{ .payload.name }}}}', FIXED = 'a b' }}\n\
             run = ['/bin/sh', '-c', '/usr/bin/env > {}; pwd >> {}']\n",
            out.display(),
            out.display()
        ));
        let worker = file.start(&server);
        let mut stream = server.stream().await;
        stream.hello("s", false).await;
        stream.job("s:1", &job(1, 11, json!({"name": "O'Neil $(x)"}))).await;
        assert_eq!(server.success().await, [(id(1), lease(11))]);
        let text = std::fs::read_to_string(&out).unwrap();
        let has = |start: &str| text.lines().any(|line| line.starts_with(start));
        assert!(has("CUSTOMER=O'Neil $(x)") && has("FIXED=a b") && has("ZIZQ_JOB_ID=") && has("/"), "{text}");
        assert_eq!((has("HOME="), has("CARGO_PKG_NAME=")), (home, path), "{inherit}: {text}");
        worker.stop(&mut server).await;
    }
}

#[tokio::test]
async fn the_payload_may_be_in_a_file_that_is_gone_afterwards() {
    let mut server = Server::start().await;
    let file = ConfigFile::new(
        "[[route]]\nqueue = 'q'\npayload = 'file'\n\
         run = 'cat; echo file $ZIZQ_PAYLOAD_FILE; test \"$(cat $ZIZQ_PAYLOAD_FILE)\" = \"{\\\"n\\\":1}\"'\n",
    );
    let mut worker = file.start(&server);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!({"n": 1}))).await;
    assert_eq!(server.success().await, [(id(1), lease(11))]);
    let line = worker.message("file ").await;
    let path = line["message"].as_str().unwrap().strip_prefix("file ").unwrap();
    assert!(path.contains("zizq-payload-") && !std::path::Path::new(path).exists());
}

#[tokio::test]
async fn two_hundred_commands_run_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let mut server = Server::start().await;
    let command = format!("q=echo begun; while ! test -e {}; do sleep 0.2; done", go.display());
    // With as few files as a login may have.
    let mut program = tokio::process::Command::new("sh");
    let worker = env!("CARGO_BIN_EXE_zizq-worker");
    program.args(["-c", &format!("ulimit -S -n 256; exec {worker} \"$@\""), "sh"]);
    let mut worker = Worker::start_as(program, &server, &["--run", &command, "--concurrency", "200"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    for n in 0..200 {
        stream.job(&format!("s:{n}"), &job(n, n, json!(null))).await;
    }
    for n in 0..200 {
        let line = worker.log("a start", |line| line["job"] == id(n) && line["stream"] == "stdout").await;
        assert_eq!(line["message"], "begun");
    }
    std::fs::write(go, "").unwrap();
    let mut done = 0;
    while done < 200 {
        done += server.success().await.len();
    }
}

/// Only who is root can become somebody else.
#[tokio::test]
async fn a_command_may_run_as_somebody_else() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut server = Server::start().await;
    let file = ConfigFile::new(
        "[[route]]\nqueue = 'q'\nuser = 'nobody'\ncwd = '/'\npayload = 'file'\n\
         run = 'echo I am $(id -un) $USER $HOME; echo {} >> /proc/self/fd/$ZIZQ_CTL_FD; test \"$(cat $ZIZQ_PAYLOAD_FILE)\" = 7'\n",
    );
    let mut worker = file.start(&server);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(7))).await;
    assert_eq!(server.success().await, [(id(1), lease(11))]);
    let line = worker.message("I am ").await;
    assert!(line["message"].as_str().unwrap().starts_with("I am nobody nobody /"), "{line}");
}

#[tokio::test]
async fn processes_of_a_user_are_limited() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // Nobody else has this number.
    let failure = fails(
        "run = 'sleep 1 & sleep 1 & sleep 1 & wait'\nuser = '54321'\ncwd = '/'\nlimits = {processes = 2}\n",
    )
    .await;
    let message = failure["backtrace"].as_str().unwrap();
    assert!(message.contains("fork"), "{failure}");
}
