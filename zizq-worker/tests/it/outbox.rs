use serde_json::{Value, json};

use crate::fake::{Server, leases};
use crate::worker::{Worker, id, job, lease};

#[tokio::test]
async fn outcomes_are_delivered_through_errors_and_refused_connections() {
    let mut server = Server::start().await;
    let mut worker = Worker::start(&server, &["--run", "q=exit $(cat)", "--concurrency", "2"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;

    stream.job("s:1", &job(1, 11, json!(0))).await;
    server.call("/jobs/success").await.answer("503 Starting\r\nretry-after: 0", r#"{"error":"starting"}"#);
    server.call("/jobs/success").await.answer("500 Oh", "");
    drop(server.call("/jobs/success").await);
    server.call("/jobs/success").await.answer("429 Slow", "");
    let call = server.call("/jobs/success").await;
    server.go_down().await;
    drop(call);
    worker.message("the success still waits for the server: no answer").await;
    server.come_back().await;
    assert_eq!(server.success().await, [(id(1), lease(11))]);

    stream.job("s:2", &job(2, 12, json!(1))).await;
    let path = format!("/jobs/{}/failure", id(2));
    server.call(&path).await.answer("503 Busy", "");
    drop(server.call(&path).await);
    let failure = server.failure(&id(2)).await;
    assert_eq!(failure["message"], "exited with code 1");
}

#[tokio::test]
async fn a_refused_outcome_is_dropped_with_a_warning() {
    let mut server = Server::start().await;
    let mut worker = Worker::start(&server, &["--run", "q=exit $(cat)"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;

    stream.job("s:1", &job(1, 11, json!(1))).await;
    let body = r#"{"error":"the lease is not the newest"}"#;
    server.call(&format!("/jobs/{}/failure", id(1))).await.answer("409 Conflict", body);
    let line = worker.message("the failure was not accepted").await;
    assert_eq!(line["job"], id(1));
    assert!(line["message"].as_str().unwrap().ends_with("409 Conflict: the lease is not the newest"));

    stream.job("s:2", &job(2, 12, json!(0))).await;
    let body = json!({"not_found": [], "lost": [id(2)]}).to_string();
    server.call("/jobs/success").await.answer("422 Unprocessable Entity", &body);
    let line = worker.message("the success came too late").await;
    assert_eq!(line["job"], id(2));

    stream.job("s:3", &job(3, 13, json!(0))).await;
    assert_eq!(server.success().await, [(id(3), lease(13))]);
}

#[tokio::test]
async fn finished_work_that_is_handed_out_again_is_reported_not_repeated() {
    let mut server = Server::start().await;
    let mut worker = Worker::start(&server, &["--run", "q=echo begun"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let call = server.call("/jobs/success").await;
    stream.job("s:2", &job(1, 22, json!(null))).await;
    worker.message("delivered again").await;
    call.answer("422 Unprocessable Entity", &json!({"not_found": [], "lost": [id(1)]}).to_string());
    assert_eq!(server.success().await, [(id(1), lease(22))]);
    assert_eq!(worker.count("begun"), 1);
    assert_eq!(worker.count("the success came too late: the job's lease was lost"), 0);
}

#[tokio::test]
async fn a_slow_server_gets_what_is_finished_in_few_calls() {
    let mut server = Server::start().await;
    let mut worker = Worker::start(&server, &["--run", "q=true", "--concurrency", "100"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    for n in 0..100 {
        stream.job(&format!("s:{n}"), &job(n, n, json!(null))).await;
    }
    for n in 0..100 {
        worker
            .log("success", |line| {
                line["job"] == id(n) && line["message"].as_str().unwrap().starts_with("q/t succeeded")
            })
            .await;
    }
    let (mut calls, mut done) = (0, Vec::<(String, String)>::new());
    while done.len() < 100 {
        let call = server.call("/jobs/success").await;
        assert!(call.body.get("ids").is_none_or(Value::is_null));
        done.extend(leases(&call.body));
        call.answer("204 No Content", "");
        calls += 1;
    }
    done.sort();
    assert_eq!(done, (0..100).map(|n| (id(n), lease(n))).collect::<Vec<_>>());
    assert!(calls <= 20, "{calls}");
}

/// What stands before a server now and then, and says what it likes.
const LIES: [(&str, &str); 9] = [
    ("404 Not Found", "<html>no backend</html>"),
    ("403 Forbidden", "<html>blocked</html>"),
    ("401 Unauthorized\r\nwww-authenticate: Basic", ""),
    ("302 Found\r\nlocation: https://sign-in.example/", "<html>moved</html>"),
    ("200 OK\r\ncontent-type: text/html", "<html>sign in</html>"),
    ("409 Conflict", ""),
    ("400 Bad Request", r#"{"message":"bad"}"#),
    ("404 Not Found", r#"{"timestamp":1,"status":404,"error":"Not Found","path":"/jobs"}"#),
    ("421 Misdirected Request", r#"{"error":"this host is not served here"}"#),
];

#[tokio::test]
async fn what_something_else_than_the_server_answers_settles_nothing() {
    let mut server = Server::start().await;
    let mut worker = Worker::start(&server, &["--run", "q=exit $(cat)"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    for (n, (status, body)) in (1..).zip(LIES) {
        stream.job(&format!("s:{n}0"), &job(2 * n, 2 * n, json!(0))).await;
        server.call("/jobs/success").await.answer(status, body);
        assert_eq!(server.success().await, [(id(2 * n), lease(2 * n))], "after {status}");
        let failed = 2 * n + 1;
        stream.job(&format!("s:{n}1"), &job(failed, failed, json!(1))).await;
        server.call(&format!("/jobs/{}/failure", id(failed))).await.answer(status, body);
        assert_eq!(server.failure(&id(failed)).await["message"], "exited with code 1", "after {status}");
    }
    let said = "the success waits for the server: something other than a Zizq server answered 404 Not Found: \
                <html>no backend</html>";
    worker.message(said).await;
}

#[tokio::test]
async fn what_never_gets_through_holds_up_nothing_else() {
    let mut server = Server::start().await;
    let _worker = Worker::start(&server, &["--run", "q=exit $(cat)", "--concurrency", "30"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    // More than there are calls at a time.
    for n in 1..=20 {
        stream.job(&format!("s:{n}"), &job(n, n, json!(1))).await;
    }
    stream.job("s:21", &job(21, 21, json!(0))).await;
    stream.job("s:22", &job(22, 22, json!(0))).await;
    let (mut refused, mut done) = (0, Vec::new());
    // The first of the two successes is not let through either, and takes the second with it at first.
    while done.is_empty() || refused < 40 {
        let call = server.any_call().await;
        let bad = call.path.ends_with("/failure") || call.text.contains(&id(21));
        match bad {
            true => {
                refused += 1;
                call.answer("403 Forbidden", "<html>no</html>");
            }
            false => {
                done.extend(leases(&call.body));
                call.answer("204 No Content", "");
            }
        }
    }
    assert_eq!(done, [(id(22), lease(22))]);
    // As soon as it may, all of it comes through, once.
    let mut told = std::collections::BTreeSet::new();
    while told.len() < 21 {
        let call = server.any_call().await;
        let of_bulk = leases_of(&call.body);
        let one = call.path.split('/').nth(2).unwrap().to_owned();
        for id in if of_bulk.is_empty() { vec![one] } else { of_bulk } {
            assert!(told.insert(id.clone()), "{id} came twice");
        }
        call.answer("204 No Content", "");
    }
}

fn leases_of(body: &Value) -> Vec<String> {
    let jobs = body["jobs"].as_array().into_iter().flatten();
    jobs.map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_the_server_refuses_is_said_more_plainly_until_it_is_accepted() {
    const NO: &str = "400 Bad Request";
    const WHY: &str = r#"{"error":"a member of it is wrong"}"#;
    let mut server = Server::start().await;
    let mut worker = Worker::start(&server, &["--run", "q=echo oh >&2; exit $(cat)", "--concurrency", "3"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(1))).await;
    let path = format!("/jobs/{}/failure", id(1));
    let call = server.call(&path).await;
    assert!(call.body.get("backtrace").is_some() && call.body.get("usage").is_some(), "{}", call.body);
    call.answer(NO, WHY);
    let call = server.call(&path).await;
    assert_eq!(call.body, json!({"message": "oh (exited with code 1)"}));
    call.answer(NO, WHY);
    let call = server.call("/jobs/release").await;
    assert_eq!(
        (leases(&call.body), &call.body["jobs"][0]["delay_ms"]),
        (vec![(id(1), lease(11))], &json!(60_000))
    );
    call.answer(NO, WHY);
    let call = server.call("/jobs/release").await;
    assert_eq!(call.body, json!({"jobs": [{"id": id(1), "lease": lease(11)}]}));
    call.answer(NO, WHY);
    worker
        .message("the release was not accepted: the server answered 400 Bad Request: a member of it is wrong")
        .await;

    // Of a bulk that is refused each goes by itself.
    stream.job("s:2", &job(2, 12, json!(0))).await;
    let first = server.call("/jobs/success").await;
    stream.job("s:3", &job(3, 13, json!(0))).await;
    stream.job("s:4", &job(4, 14, json!(0))).await;
    for n in 3..=4 {
        worker
            .log("its end", |line| {
                line["job"] == id(n) && line["message"].as_str().unwrap().starts_with("q/t succeeded")
            })
            .await;
    }
    first.answer("204 No Content", "");
    let (mut alone, mut told) = (Vec::new(), 0);
    while told < 2 {
        let call = server.call("/jobs/success").await;
        let jobs = leases(&call.body);
        if jobs.len() > 1 {
            call.answer("413 Too Large", r#"{"error":"the body is too large"}"#);
            continue;
        }
        told += 1;
        alone.extend(jobs);
        call.answer("204 No Content", "");
    }
    alone.sort();
    assert_eq!(alone, [(id(3), lease(13)), (id(4), lease(14))]);
}

#[tokio::test]
async fn a_job_that_this_worker_cannot_read_is_given_back() {
    let mut server = Server::start().await;
    let _worker = Worker::start(&server, &["--run", "q=true"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &json!({"id": id(1), "lease": lease(11), "queue": 7, "type": "t"})).await;
    let call = server.call("/jobs/release").await;
    assert_eq!(
        (leases(&call.body), &call.body["jobs"][0]["delay_ms"]),
        (vec![(id(1), lease(11))], &json!(1_000))
    );
    let reason = call.body["jobs"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("this worker cannot read the job: "), "{reason}");
}
