//! The line of the worker's log about what became of a job says everything.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::fake::{Call, Server};
use crate::worker::{Worker, id, job};

/// Fails the third attempt of a job, and hands back the report of that.
async fn fails(command: &str) -> (Server, Worker, Call) {
    let mut server = Server::start().await;
    let worker = Worker::start(&server, &["--run", &format!("q={command}")]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let call = server.call(&format!("/jobs/{}/failure", id(1))).await;
    (server, worker, call)
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a server has a clock")]
async fn one_line_says_what_failed_why_and_when_it_is_tried_again() {
    let in_two_hours = SystemTime::now() + Duration::from_secs(7_200);
    let in_two_hours = in_two_hours.duration_since(UNIX_EPOCH).unwrap().as_millis();
    let why = "no such host (exited with code 3)";
    for (answer, line, again) in [
        (
            json!({"status": "scheduled", "ready_at": in_two_hours, "retry_limit": 24}),
            "q/t failed (attempt 3 of 25, retry in ",
            true,
        ),
        (json!({"status": "scheduled", "ready_at": in_two_hours}), "q/t failed (attempt 3, retry in ", true),
        (
            json!({"status": "dead", "ready_at": 1, "retry_limit": 2}),
            "q/t failed for good (attempt 3 of 3): ",
            false,
        ),
        (json!({}), "q/t failed (attempt 3): ", false),
    ] {
        let (_server, mut worker, call) = fails("echo first >&2; echo no such host >&2; exit 3").await;
        call.answer("200 OK", &answer.to_string());
        let told = worker.message(line).await;
        let message = told["message"].as_str().unwrap();
        assert!(message.ends_with(&format!(": {why}")), "{message}");
        assert!(!again || message.contains("in 2h)") || message.contains("in 1h 59m)"), "{message}");
        assert_eq!(told["again_in_ms"].is_u64(), again, "{told}");
        let members = ["job", "queue", "job_type", "attempt", "level"].map(|name| told[name].clone());
        assert_eq!(members, [json!(id(1)), json!("q"), json!("t"), json!(3), json!("WARN")]);
        assert!(told["ms"].is_u64() && told["cpu_ms"].is_u64(), "{told}");
    }
}

#[tokio::test]
async fn a_failure_is_logged_also_when_no_server_says_what_follows() {
    let (_server, mut worker, call) = fails("echo oops >&2; exit 1").await;
    worker.message("q/t failed (attempt 3): oops (exited with code 1)").await;
    drop(call);
}

#[tokio::test]
async fn a_long_message_of_many_lines_is_a_short_one_of_one() {
    let script = r#"python3 -c "import json; print(json.dumps({'fail': 'a\nb' + 'x' * 5000}))" >&3"#;
    let (_server, mut worker, call) = fails(script).await;
    call.answer("200 OK", "{}");
    let told = worker.message("q/t failed (attempt 3): a bxxx").await;
    let message = told["message"].as_str().unwrap();
    assert!(message.chars().count() < 1_100 && message.ends_with("x…"), "{message}");
    assert_eq!(told["again_in_ms"], Value::Null);
}
