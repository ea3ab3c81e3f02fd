//! How a worker ends by itself: its last line, and its exit code.

use std::process::Stdio;

use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::binaries::binary;
use tests::endpoint::{Call, Endpoint};
use tests::wait::{until, within};
use tests::{Client, Server, id};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;

/// Runs a worker to its end. Gives its code, and its last line.
async fn end(server: &str, flags: &[&str]) -> (Option<i32>, String) {
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let mut command = Command::new(binary("zizq-worker"));
    command.args(["--server", server]).args(flags).env("ZIZQ_SPOOL", folder.path().join("spool"));
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = within(format!("the end of a worker with {flags:?}"), output).await.unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap_or_default()).unwrap();
    assert_eq!(last["code"], json!(output.status.code()), "{log}");
    (output.status.code(), last["message"].as_str().unwrap().to_owned())
}

async fn enqueue(client: &Client, with: Value) {
    let mut job = json!({"queue": "q", "type": "t", "payload": 0});
    job.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    client.enqueue(&job).await;
}

fn retry_in(ms: u64) -> Value {
    json!({"base_ms": ms, "exponent": 0, "jitter_ms": 0})
}

#[tokio::test]
async fn once_tells_what_became_of_all_jobs_and_fails_when_one_did() {
    let server = Server::start().await;
    let client = server.client();
    let run = ["--run", "q=read n; exit $n", "--once"];
    let done = "no job is left: 2 jobs succeeded, 0 failed in ";
    let cases = [
        (json!({}), &run[..], 0, done),
        (json!({"payload": 1, "retry_limit": 0}), &run, 1, "no job is left: 2 jobs succeeded, 1 failed in "),
        (
            json!({"payload": 1, "backoff": retry_in(3_600_000)}),
            &run,
            1,
            "no job is ready, but 1 job waits for a retry (--wait-for-retries waits for them): 2 jobs succeeded, 1 failed",
        ),
        (
            json!({"backoff": retry_in(300)}),
            &["--run", "q=read n; test $n = 1 -o $ZIZQ_JOB_ATTEMPT = 2", "--once", "--wait-for-retries"],
            0,
            "no job is left: 3 jobs succeeded, 0 failed in ",
        ),
    ];
    for (job, flags, code, line) in cases {
        for _ in 0..2 {
            let payload = i32::from(flags.contains(&"--wait-for-retries"));
            enqueue(&client, json!({"payload": payload})).await;
        }
        if job != json!({}) {
            enqueue(&client, job).await;
        }
        let (ended, said) = end(&server.url(), flags).await;
        assert!(ended == Some(code) && said.starts_with(line), "{ended:?} {said}");
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn once_ends_with_a_sentence_where_jobs_are_left_that_nobody_gets() {
    let server = Server::start().await;
    let client = server.client();
    enqueue(&client, json!({})).await;
    client.poke("/queues/q/pause").await.expect(200);
    let (code, line) = end(&server.url(), &["--run", "q=true", "--once"]).await;
    let expected = "1 job is left, but queue `q` is paused: 0 jobs succeeded, 0 failed in ";
    assert!(code == Some(75) && line.starts_with(expected), "{code:?} {line}");

    let hourly = json!({"allocation": 1, "strategy": {"type": "time_based", "duration_ms": 3_600_000}});
    let budgets = json!([{"key": "hourly", "cost": 1, "create_with": hourly}]);
    for _ in 0..2 {
        enqueue(&client, json!({"queue": "r", "budgets": budgets})).await;
    }
    let (code, line) = end(&server.url(), &["--run", "r=true", "--once", "--max-idle", "1s"]).await;
    let expected = "1 job is left, but none came for 1s: their budgets have no tokens";
    assert!(code == Some(75) && line.starts_with(expected), "{code:?} {line}");
}

/// An endpoint that is too busy for the first call, for a second.
async fn busy_once() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let busy = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\n";
        for head in [busy].into_iter().chain(std::iter::repeat("HTTP/1.1 200 OK\r\n")) {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"0") && socket.read_buf(&mut request).await.unwrap() > 0 {}
            let answer = format!("{head}content-length: 0\r\nconnection: close\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn once_ends_with_75_when_a_job_was_given_back() {
    let server = Server::start().await;
    let client = server.client();
    enqueue(&client, json!({})).await;
    let to = busy_once().await;
    let (code, line) = end(&server.url(), &["--http", &format!("q={to}"), "--once"]).await;
    let expected = "no job is ready, but 1 was given back (--wait-for-retries waits for them): \
                    0 jobs succeeded, 0 failed, 1 given back in ";
    assert!(code == Some(75) && line.starts_with(expected), "{code:?} {line}");
    client.poke("/reset").await.expect_nothing();

    enqueue(&client, json!({})).await;
    let to = busy_once().await;
    let flags = ["--http", &format!("q={to}"), "--once", "--wait-for-retries"];
    let (code, line) = end(&server.url(), &flags).await;
    let expected = "no job is left: 1 job succeeded, 0 failed, 1 given back in ";
    assert!(code == Some(0) && line.starts_with(expected), "{code:?} {line}");
}

/// Lets a worker give a job back, and then keeps it busy until another one has taken that.
async fn taken_by_another(client: &Client, endpoint: &mut Endpoint) -> (Value, Call) {
    let busy = Response::builder().status(429).header("retry-after", "2").body(Full::default());
    let first = endpoint.next_call().await;
    let job = first.header("zizq-job-id").to_owned();
    first.answer_with(busy.unwrap());
    let second = endpoint.next_call().await;
    until("the job to be given back", async || {
        let status = client.status(&job).await.unwrap();
        (status != "in_flight").then_some(())
    })
    .await;
    client.patch(&format!("/jobs/{job}"), &json!({"ready_at": null})).await.expect(200);
    (client.poll_one("q").await, second)
}

#[tokio::test]
async fn once_waits_for_a_retry_that_another_worker_took() {
    let server = Server::start().await;
    let client = server.client();
    let mut endpoint = Endpoint::start().await;
    let to = format!("q={}", endpoint.url());
    let flags = ["--http", &to, "--once", "--wait-for-retries", "--concurrency", "1"];
    let url = server.url();
    for _ in 0..2 {
        enqueue(&client, json!({})).await;
    }
    let kept = async {
        let (taken, second) = taken_by_another(&client, &mut endpoint).await;
        second.answer(200);
        taken
    };
    let ((code, line), taken) = tokio::join!(end(&url, &flags), kept);
    // The other one has it still: it is none of this worker's.
    let expected = "no job is ready, but 1 was given back (--wait-for-retries waits for them): \
                    1 job succeeded, 0 failed, 1 given back in ";
    assert!(code == Some(75) && line.starts_with(expected), "{code:?} {line}");
    assert_eq!(client.status(id(&taken)).await.as_deref(), Some("in_flight"));
    client.succeed(&taken).await;

    for _ in 0..2 {
        enqueue(&client, json!({"backoff": retry_in(3_000)})).await;
    }
    let failed = async {
        let (taken, second) = taken_by_another(&client, &mut endpoint).await;
        assert_eq!(client.fail(&taken, &json!({"message": "no"})).await["status"], "scheduled");
        second.answer(200);
        let third = endpoint.next_call().await;
        assert_eq!(third.header("zizq-job-id"), id(&taken));
        third.answer(200);
    };
    let ((code, line), ()) = tokio::join!(end(&url, &flags), failed);
    let expected = "no job is left: 2 jobs succeeded, 0 failed, 1 given back in ";
    assert!(code == Some(0) && line.starts_with(expected), "{code:?} {line}");
}

#[tokio::test]
async fn a_success_that_the_server_refuses_is_reported_as_too_late() {
    let server = Server::start().await;
    enqueue(&server.client(), json!({})).await;
    let kill = r#"curl -sS -o /dev/null -d '{"message":"x","kill":true}' "#;
    let run = format!("q={kill} {}/jobs/$ZIZQ_JOB_ID/failure", server.url());
    let (code, line) = end(&server.url(), &["--run", &run, "--once"]).await;
    let expected = "no job is left: 0 jobs succeeded, 0 failed, 1 too late in ";
    assert!(code == Some(1) && line.starts_with(expected), "{code:?} {line}");
}

#[tokio::test]
async fn without_a_server_a_worker_ends_after_a_time_that_can_be_set() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    for flags in [&["--once"][..], &[]] {
        let flags = [&["--run", "q=true", "--server-timeout", "300ms"], flags].concat();
        let (code, line) = end(&address, &flags).await;
        let expected = "no Zizq server could be reached for 300ms: 0 jobs succeeded, 0 failed in ";
        assert!(code == Some(69) && line.starts_with(expected), "{code:?} {line}");
    }
}

#[tokio::test]
async fn once_notices_a_server_that_dies_while_the_last_job_runs() {
    let mut server = Server::start().await;
    let client = server.client();
    enqueue(&client, json!({})).await;
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let begun = folder.path().join("begun");
    let run = format!(
        "q=touch {}; until [ -e {}/gone ]; do sleep 0.01; done",
        begun.display(),
        folder.path().display()
    );
    let (url, flags) = (server.url(), ["--run", &run, "--once", "--server-timeout", "300ms"]);
    let kill = async {
        until("the job to begin", async || begun.exists().then_some(())).await;
        server.kill9().await;
        std::fs::write(folder.path().join("gone"), "").unwrap();
    };
    let ((code, line), ()) = tokio::join!(end(&url, &flags), kill);
    let expected =
        "no Zizq server could be reached for 300ms: 1 job succeeded, 0 failed, 1 not reported yet in ";
    assert!(code == Some(69) && line.starts_with(expected), "{code:?} {line}");
}

#[tokio::test]
async fn a_worker_that_ends_after_so_many_jobs_or_when_idle_says_so() {
    let server = Server::start().await;
    let client = server.client();
    for (payload, code, how) in
        [(0, 0, "1 job succeeded, 0 failed in "), (1, 1, "0 jobs succeeded, 1 failed in ")]
    {
        for (flag, value, why) in [
            ("--max-jobs", "1", "--max-jobs reached (1): "),
            ("--max-idle", "500ms", "no job came for 500ms: "),
        ] {
            enqueue(&client, json!({"payload": payload, "retry_limit": 0})).await;
            let (ended, line) = end(&server.url(), &["--run", "q=read n; exit $n", flag, value]).await;
            assert!(ended == Some(code) && line.starts_with(&format!("{why}{how}")), "{ended:?} {line}");
        }
    }
}
