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
    assert_eq!(worker.count("the success came too late: the job is not this worker's any more"), 0);
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
