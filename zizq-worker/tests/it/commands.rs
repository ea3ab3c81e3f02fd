use serde_json::{Value, json};

use crate::fake::{Server, leases};
use crate::worker::{Worker, command, gone, id, job, lease};

/// Runs one job by this command, and hands back what the server was told.
async fn fails(command: &str) -> Value {
    let mut server = Server::start().await;
    let _worker = Worker::start(&server, &["--run", &format!("q={command}")]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    server.failure(&id(1)).await
}

#[tokio::test]
async fn a_command_gets_the_job_and_its_success_is_reported_with_the_lease() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut server = Server::start().await;
    let line =
        format!("q=cat >'{}'; env | grep ^ZIZQ_ | grep -v MARK | sort >'{}'", file("stdin"), file("env"));
    let mut program = command();
    program.env("ZIZQ_SPOOL", folder.path());
    let _worker =
        Worker::start_as(program, &server, &["--run", &line, "--worker-id", "w1", "--lease", "45s"]);
    let mut stream = server.stream().await;
    assert_eq!(stream.query, "queue=q&prefetch=1&lease_ms=45000&renew=worker");
    assert_eq!(stream.header("worker-id"), Some("w1"));
    assert_eq!(stream.header("accept"), Some("text/event-stream"));
    assert_eq!(stream.header("last-event-id"), None);
    stream.hello("s", false).await;
    // Numbers keep every digit, so the payload is not parsed on its way.
    let text = job(1, 11, json!("PAYLOAD"))
        .to_string()
        .replace("\"PAYLOAD\"", r#"{"n":1.50,"big":12345678901234567890123}"#);
    stream.send(&format!("id: s:1\ndata: {text}\n\n")).await;
    assert_eq!(server.success().await, [(id(1), lease(11))]);
    let stdin = std::fs::read_to_string(file("stdin")).unwrap();
    assert_eq!(stdin, r#"{"n":1.50,"big":12345678901234567890123}"#);
    let expected = format!(
        "ZIZQ_CTL_FD=3\nZIZQ_JOB_ATTEMPT=3\nZIZQ_JOB_ID={}\nZIZQ_JOB_LEASE={}\nZIZQ_JOB_PRIORITY=5\nZIZQ_JOB_QUEUE=q\n\
         ZIZQ_JOB_TYPE=t\nZIZQ_SERVER=http://{}\n",
        id(1),
        lease(11),
        server.address,
    );
    assert_eq!(std::fs::read_to_string(file("env")).unwrap(), expected);
}

#[tokio::test]
async fn a_failure_says_how_it_ended_and_what_was_printed_last() {
    let failure = fails("echo to-stdout; seq 100 >&2; exit 3").await;
    assert_eq!(failure["message"], "100 (exited with code 3)");
    assert_eq!(failure["error_type"], "exit_code");
    let lines: Vec<&str> = failure["backtrace"].as_str().unwrap().lines().collect();
    assert_eq!((lines.len(), lines[0]), (50, "51"));

    let silent = fails("exit 7").await;
    assert_eq!(silent, json!({"message": "exited with code 7", "error_type": "exit_code"}));
    let killed = fails("kill -9 $$").await;
    assert_eq!(killed, json!({"message": "killed by signal 9 (SIGKILL)", "error_type": "signal"}));
    let last = fails("kill -9 $$; :").await;
    assert_eq!(last["error_type"], "signal");
    let inner = fails("sh -c 'kill -9 $$'; exit $?").await;
    let said = "Killed (exited with code 137, as a shell does after signal 9 (SIGKILL))";
    assert_eq!(inner["message"], said);
}

#[tokio::test]
async fn a_failure_carries_its_lease_in_the_header() {
    let mut server = Server::start().await;
    let _worker = Worker::start(&server, &["--run", "q=false"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let call = server.call(&format!("/jobs/{}/failure", id(1))).await;
    assert_eq!(call.header("zizq-lease"), Some(&*lease(11)));
}

#[tokio::test]
async fn a_big_payload_may_be_read_or_not() {
    let mut server = Server::start().await;
    let commands = [
        "--run",
        "q=true",
        "--run",
        "r=test $(wc -c) = 1048578",
        "--run",
        "z=exec 0<&-; printf x%.0s $(seq 9999)",
    ];
    let _worker = Worker::start(&server, &commands);
    for n in 1..=3 {
        let mut stream = server.stream().await;
        let queue = stream.query.split(['=', '&']).nth(1).unwrap().to_owned();
        stream.hello("s", false).await;
        let mut job = job(n, 11, json!("x".repeat(1 << 20)));
        job["queue"] = json!(queue);
        stream.job("s:1", &job).await;
        assert_eq!(server.success().await, [(id(n), lease(11))], "{queue}");
    }
}

#[tokio::test]
async fn output_goes_to_the_log_with_the_job() {
    let mut server = Server::start().await;
    let command = r"q=echo out; echo err >&2; printf 'bad \377 end'";
    let mut worker = Worker::start(&server, &["--run", command]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    server.success().await;
    for (text, stream) in [("out", "stdout"), ("err", "stderr"), ("bad \u{fffd} end", "stdout")] {
        let line = worker.message(text).await;
        assert_eq!((&line["job"], &line["stream"]), (&json!(id(1)), &json!(stream)));
    }
}

#[tokio::test]
async fn a_gigabyte_of_output_takes_no_memory() {
    let mut server = Server::start().await;
    let command = "q=(yes $(seq 200) | head -c 800000000; head -c 100000000 /dev/zero; yes | head -c 100000000) >&2; exit 1";
    let mut worker = Worker::start(&server, &["--run", command]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let failure = server.failure(&id(1)).await;
    assert!(failure["backtrace"].as_str().unwrap().len() <= 8192);
    worker
        .log("lines left out", |line| {
            line.to_string().contains("lines were left out: the job prints too fast")
        })
        .await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 100_000, "{peak}");
}

/// Runs one job, and hands back its worker when it has succeeded.
async fn done(command: &str, flags: &[&str]) -> Worker {
    let mut server = Server::start().await;
    let worker = Worker::start(&server, &[&["--run", &format!("q={command}")], flags].concat());
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    server.success().await;
    worker
}

#[tokio::test]
async fn the_last_lines_of_a_command_come_also_when_another_process_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    // One process that is slow, and nineteen that may be so by chance.
    let text = "exec > >([ $1 = 1 ] && sleep 0.1; tee $0.$1) 2>&1\necho first $1\necho last $1\n";
    std::fs::write(&script, text).unwrap();
    let command = format!("q=bash {} {{{{ .payload }}}}", script.display());
    let mut server = Server::start().await;
    let mut worker = Worker::start(&server, &["--run", &command, "--linger", "60s"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    for n in 1..=20 {
        stream.job(&format!("s:{n}"), &job(n, n, json!(n))).await;
        assert_eq!(server.success().await, [(id(n), lease(n))]);
        worker.log("the last line", |line| line["message"] == format!("last {n}")).await;
        let log = std::fs::read_to_string(format!("{}.{n}", script.display())).unwrap();
        assert_eq!(log, format!("first {n}\nlast {n}\n"));
    }
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_asked_to_end_before_it_is_made_to() {
    let child = "(trap \"echo cleaned up; exit\" TERM; echo ready > ready; while :; do sleep 0.01; done) &";
    let wait = "until [ -e ready ]; do sleep 0.01; done";
    let folder = tempfile::tempdir().unwrap();
    let command = format!("cd {}; {child} {wait}", folder.path().display());
    let mut worker = done(&command, &["--linger", "10ms", "--grace", "60s"]).await;
    worker.message("cleaned up").await;

    let folder = tempfile::tempdir().unwrap();
    let stubborn = child.replace("echo cleaned up; exit", "");
    let command = format!("cd {}; {stubborn} echo pid $!; {wait}", folder.path().display());
    let mut worker = done(&command, &["--linger", "10ms", "--grace", "100ms"]).await;
    let line = worker.message("pid ").await;
    gone(line["message"].as_str().unwrap().strip_prefix("pid ").unwrap()).await;
}

#[tokio::test]
async fn a_progress_bar_and_a_question_are_logged_while_the_command_runs() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let mut server = Server::start().await;
    let command = format!(
        "q=printf '\\r10%%\\r20%%\\r100%%\\r\\n'; printf 'go on? ' >&2; until [ -e {} ]; do sleep 0.01; done",
        seen.display()
    );
    let mut worker = Worker::start(&server, &["--run", &command]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    for text in ["10%", "20%", "100%", "go on? "] {
        worker.log(text, |line| line["message"] == text).await;
    }
    std::fs::write(seen, "").unwrap();
    server.success().await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_killed_and_does_not_hold_it_up() {
    let mut server = Server::start().await;
    let command = "q=sleep 1000 & echo pid $!; setsid sh -c 'echo far $$; exec sleep 1000' & sleep 0.3";
    let mut worker = Worker::start(&server, &["--run", command]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let line = worker.message("pid ").await;
    server.success().await;
    gone(line["message"].as_str().unwrap().strip_prefix("pid ").unwrap()).await;
    worker.message("a process that left the job's group").await;
    let far = worker.message("far ").await;
    gone(far["message"].as_str().unwrap().strip_prefix("far ").unwrap()).await;
}

#[tokio::test]
async fn a_job_that_cannot_be_started_is_given_back_for_later() {
    let mut server = Server::start().await;
    let mut without_shell = command();
    without_shell.env("PATH", "/nowhere");
    let mut worker = Worker::start_as(without_shell, &server, &["--run", "q=true"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let release = server.call("/jobs/release").await;
    assert_eq!(leases(&release.body), [(id(1), lease(11))]);
    assert_eq!(release.body["jobs"][0]["delay_ms"], 2_000);
    worker
        .message("q/t could not be run, given back (attempt 3, retry in 2s): could not be started: cannot run `sh`")
        .await;
}
