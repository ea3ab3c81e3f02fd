//! What jobs say to their worker, and what they print.

use serde_json::{Value, json};

use crate::fake::Server;
use crate::worker::{Worker, id, job, lease};

/// The program, for `ctl` in a shell.
const CTL: &str = concat!(env!("CARGO_BIN_EXE_zizq-worker"), " ctl");

async fn start(script: &str) -> (Server, Worker) {
    let mut server = Server::start().await;
    let worker = Worker::start(&server, &["--run", &format!("q={}", script.replace("@ctl", CTL))]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    tokio::spawn(stream.closed());
    (server, worker)
}

#[tokio::test]
async fn progress_goes_with_the_heartbeats() {
    let (mut server, _worker) = start("@ctl progress 0.4 'frame 400/1000'; sleep 1000").await;
    loop {
        let beat = server.heartbeats.recv().await.unwrap();
        if beat["jobs"][0].get("progress").is_some() {
            let job = &beat["jobs"][0];
            assert_eq!((&job["progress"], &job["message"]), (&json!(0.4), &json!("frame 400/1000")));
            break;
        }
    }
}

#[tokio::test]
async fn a_result_goes_with_the_success_and_a_server_that_takes_none_gets_the_success() {
    let script = r#"echo '{"result": {"n": 1.50}}' >&$ZIZQ_CTL_FD"#;
    for (answer, again) in [("204 No Content", false), ("422 Unprocessable Entity", true)] {
        let (mut server, _worker) = start(script).await;
        let call = server.call(&format!("/jobs/{}/success", id(1))).await;
        assert_eq!(call.header("zizq-lease"), Some(&*lease(11)));
        assert_eq!(call.body["result"].to_string(), r#"{"n":1.5}"#);
        call.answer(answer, r#"{"error":"result is not supported yet"}"#);
        if again {
            assert_eq!(server.success().await, [(id(1), lease(11))]);
        }
    }
}

#[tokio::test]
async fn a_job_decides_about_its_own_failure() {
    for (script, expected) in [
        ("@ctl fail --kill 'no such customer'", json!({"message": "no such customer", "kill": true})),
        (
            "@ctl fail --error-type timeout 'too slow'; exit 1",
            json!({"message": "too slow", "error_type": "timeout"}),
        ),
        // A time that is over: at once.
        ("@ctl retry-at 1700000000000 later", json!({"message": "later", "delay_ms": 0})),
        // A length, so that the retry limit holds and the server's clock counts.
        (
            r#"echo '{"fail": {"message": "later", "retry_at": 1}}' >&3"#,
            json!({"message": "later", "delay_ms": 0}),
        ),
        (r#"echo '{"fail": "short"}' >&3"#, json!({"message": "short"})),
    ] {
        let (mut server, _worker) = start(script).await;
        assert_eq!(server.failure(&id(1)).await, expected, "{script}");
    }
}

#[tokio::test]
async fn a_job_that_wants_to_be_tried_later_says_for_how_long() {
    for (when, least, most) in [("10m", 540_000, 600_000), ("2100-01-01T00:00:00Z", 1, u64::MAX)] {
        let (mut server, _worker) = start(&format!("@ctl retry-at {when} later")).await;
        let failure = server.failure(&id(1)).await;
        let delay = failure["delay_ms"].as_u64().unwrap();
        assert!((least..=most).contains(&delay) && failure.get("retry_at").is_none(), "{failure}");
    }
}

#[tokio::test]
async fn new_jobs_are_with_the_server_before_the_job_succeeds() {
    let enqueue =
        |n: u8| format!("@ctl enqueue '{{\"queue\": \"next\", \"type\": \"t\", \"payload\": {n}}}'");
    let (mut server, _worker) = start(&[enqueue(1), enqueue(2)].join("; ")).await;
    server.call("/jobs").await.answer("503 Starting", "");
    for n in 1..=2 {
        let call = server.call("/jobs").await;
        assert_eq!(call.body, json!({"queue": "next", "type": "t", "payload": n}));
        call.answer("201 Created", "{}");
    }
    assert_eq!(server.success().await, [(id(1), lease(11))]);

    let (mut server, _worker) = start("@ctl enqueue '{\"queue\": 1}'").await;
    server.call("/jobs").await.answer("400 Bad Request", r#"{"error":"queue: not a text"}"#);
    let failure = server.failure(&id(1)).await;
    let said = "the server refused a job that this job enqueued: 400 Bad Request: queue: not a text";
    assert_eq!(failure["message"], said);
}

#[tokio::test]
async fn a_control_line_that_cannot_be_read_is_a_failure_and_the_job_says_so() {
    for (script, message) in [
        (
            r#"echo '{"fail": 5}' >&3; exit 0"#,
            "cannot read a line on the control channel: `fail` must be a string, or an object with a string `message`: \
             {\"fail\": 5}",
        ),
        (
            r#"echo '{"retry_at": "10m"' >&3"#,
            "cannot read a line on the control channel: EOF while parsing an object at line 1 column 18: \
             {\"retry_at\": \"10m\"",
        ),
        (
            "@ctl result '{bad'; true",
            "`zizq-worker ctl` was called wrongly: `{bad` is not valid JSON: key must be a string at line 1 column 2",
        ),
        (
            "@ctl retry-at soon; true",
            "`zizq-worker ctl` was called wrongly: invalid value 'soon' for '<WHEN>': neither a duration such as 10m nor \
             a time such as 2026-01-01T12:00:00Z",
        ),
        (
            "@ctl retry-at 600; true",
            "`zizq-worker ctl` was called wrongly: invalid value '600' for '<WHEN>': 600 milliseconds after 1970 is long \
             ago; a duration has a unit: 600s",
        ),
        (
            "@ctl fail; true",
            "`zizq-worker ctl` was called wrongly: the following required arguments were not provided: <MESSAGE>",
        ),
    ] {
        let (mut server, _worker) = start(script).await;
        let expected = json!({"message": message, "error_type": "control_line"});
        assert_eq!(server.failure(&id(1)).await, expected, "{script}");
    }
}

#[tokio::test]
async fn nonsense_on_the_channel_is_logged_and_harms_nobody() {
    let (mut server, mut worker) =
        start("echo nonsense >&3; head -c 5000000 /dev/zero >&3; @ctl progress 7; @ctl progress; true").await;
    worker.message("cannot read a line on the control channel: not a JSON object: nonsense").await;
    worker.message("1 more line on the control channel could not be read").await;
    worker.message("error: 7 is not a number from 0 to 1").await;
    assert_eq!(server.success().await, [(id(1), lease(11))]);
}

#[tokio::test]
async fn what_a_job_says_is_bounded_in_the_log_and_in_time() {
    let script =
        "yes x | head -c 6000000 >&$ZIZQ_CTL_FD; yes '{\"progress\":0.5}' | head -c 3400000 >&$ZIZQ_CTL_FD";
    let (mut server, mut worker) = start(script).await;
    assert_eq!(server.success().await, [(id(1), lease(11))]);
    worker.message("2,999,999 more lines on the control channel could not be read").await;
    assert_eq!(worker.count_of("cannot read a line on the control channel"), 1);
}

#[tokio::test]
async fn ctl_outside_of_a_job_says_so() {
    let output = crate::worker::command().args(["ctl", "progress", "0.5"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("this works only inside a job"));
}

#[tokio::test]
async fn what_a_job_prints_goes_to_its_log_before_its_outcome() {
    let mut server = Server::start().await;
    server.take_logs();
    let _worker = Worker::start(&server, &["--run", "q=echo one; echo 'two \"' >&2; seq 100000 >&2; exit 1"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    server.failure(&id(1)).await;
    let mut lines: Vec<Value> = Vec::new();
    while let Ok((path, text)) = server.logs.try_recv() {
        assert_eq!(path, format!("/jobs/{}/log", id(1)));
        assert!(text.len() <= 256 << 10, "{}", text.len());
        lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    // Each output comes in order, but not the two.
    let last = lines.iter().rfind(|line| line["stream"] == "stderr").unwrap();
    assert_eq!(last["line"], "100000", "of too much the end is kept");
}

#[tokio::test]
async fn what_a_job_prints_while_the_server_is_away_is_sent_once_it_is_back() {
    let mut server = Server::start().await;
    server.take_logs();
    let folder = tempfile::tempdir().unwrap();
    let wait =
        |name: &str| format!("until test -e {}; do sleep 0.05; done", folder.path().join(name).display());
    let go = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
    let run = format!("q=echo one; {}; echo two; {}", wait("away"), wait("back"));
    let mut worker = Worker::start(&server, &["--run", &run]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let line = |line: &str| format!("{{\"stream\":\"stdout\",\"line\":\"{line}\"}}\n");
    assert_eq!(server.logs.recv().await.unwrap().1, line("one"));
    server.go_down().await;
    go("away");
    worker.message("output did not reach the server").await;
    server.come_back().await;
    assert_eq!(server.logs.recv().await.unwrap().1, line("two"));
    go("back");
    server.success().await;
}

#[tokio::test]
async fn a_server_without_logs_is_asked_once() {
    let mut server = Server::start().await;
    let mut worker = Worker::start(&server, &["--run", "q=echo text"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    for n in 1..=3 {
        stream.job(&format!("s:{n}"), &job(n, 11, json!(null))).await;
        server.success().await;
    }
    worker.message("the server does not keep the output of jobs").await;
    assert!(server.logs.try_recv().is_ok() && server.logs.try_recv().is_err());
}
