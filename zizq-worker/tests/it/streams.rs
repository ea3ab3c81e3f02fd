use serde_json::json;

use crate::fake::{Server, leases};
use crate::worker::{Worker, id, job, lease};

#[tokio::test]
async fn every_queue_has_a_stream_with_its_own_concurrency() {
    let mut server = Server::start().await;
    let flags = ["--run", "a=true", "--run", "b=true", "--concurrency", "3", "--concurrency", "b=7"];
    let _worker = Worker::start(&server, &flags);
    let mut queries = [server.stream().await.query, server.stream().await.query];
    queries.sort();
    assert_eq!(
        queries,
        ["queue=a&prefetch=3&lease_ms=30000&renew=worker", "queue=b&prefetch=7&lease_ms=30000&renew=worker"]
    );
}

#[tokio::test]
async fn a_stream_cut_inside_an_event_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let mut server = Server::start().await;
    let command = format!("q=echo begun; while ! test -e '{}'; do sleep 0.02; done", go.display());
    let mut worker = Worker::start(&server, &["--run", &command, "--concurrency", "4"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let half = format!("id: s:2\ndata: {}", job(2, 12, json!(null)));
    stream.send(&half).await;
    worker.message("begun").await;
    drop(stream);

    let mut stream = server.stream().await;
    assert_eq!(stream.header("last-event-id"), Some("s:1"), "the half of an event is none");
    stream.hello("s", true).await;
    // The first one should not come again; if it does, it is known.
    stream.job("s:1", &job(1, 11, json!(null))).await;
    stream.job("s:2", &job(2, 12, json!(null))).await;
    worker.log("second job", |line| line["job"] == id(2) && line["message"] == "begun").await;
    drop(stream);
    let stream = server.stream().await;
    assert_eq!(stream.header("last-event-id"), Some("s:2"));
    std::fs::write(go, "").unwrap();

    let mut done = server.success().await;
    while done.len() < 2 {
        done.extend(server.success().await);
    }
    done.sort();
    assert_eq!(done, [(id(1), lease(11)), (id(2), lease(12))]);
    assert_eq!(worker.count("begun"), 2);
}

#[tokio::test]
async fn a_stream_that_broke_before_its_first_job_is_resumed_too() {
    let mut server = Server::start().await;
    let _worker = Worker::start(&server, &["--run", "q=true"]);
    let mut stream = server.stream().await;
    stream.hello("abc", false).await;
    drop(stream);
    assert_eq!(server.stream().await.header("last-event-id"), Some("abc:0"));
}

#[tokio::test]
async fn a_silent_stream_is_given_up() {
    let mut server = Server::start().await;
    let _worker = Worker::start(&server, &["--run", "q=true"]);
    let mut stream = server.stream().await;
    let hello =
        json!({"stream": "s", "resumed": false, "lease_ms": 30000, "heartbeat_ms": 1, "server": "fake"});
    stream.send(&format!("retry: 20\nevent: hello\ndata: {hello}\n\n")).await;
    let again = server.stream().await;
    assert_eq!(again.header("last-event-id"), Some("s:0"));
    stream.closed().await;
}

#[tokio::test]
async fn a_job_goes_on_while_the_server_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let mut server = Server::start().await;
    let command = format!("q=echo begun; while ! test -e '{}'; do sleep 0.02; done", go.display());
    let mut worker = Worker::start(&server, &["--run", &command]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    worker.message("begun").await;
    stream.send("event: drain\ndata: {\"reason\":\"shutdown\"}\n\n").await;
    worker.message("the server is shutting down (shutdown)").await;
    server.go_down().await;
    drop(stream);
    std::fs::write(go, "").unwrap();
    worker.message("q/t succeeded").await;
    worker.message("the success waits for the server").await;
    while server.heartbeats.try_recv().is_ok() {}
    server.come_back().await;
    assert_eq!(server.success().await, [(id(1), lease(11))]);
    server.stream().await.hello("t", false).await;
}

#[tokio::test]
async fn a_broken_stream_has_its_jobs_kept_at_once() {
    let mut server = Server::start().await;
    let mut worker = Worker::start(&server, &["--run", "q=echo begun; sleep 1000", "--lease", "12h"]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    worker.message("begun").await;
    drop(stream);
    let heartbeat = server.heartbeats.recv().await.unwrap();
    assert_eq!(leases(&heartbeat), [(id(1), lease(11))]);
    worker.stop(&mut server).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_or_busy_is_waited_for() {
    let mut server = Server::start().await;
    server.go_down().await;
    let mut worker = Worker::start(&server, &["--run", "q=true"]);
    worker.message("no job stream: no answer from the server").await;
    server.come_back().await;
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    assert_eq!(server.success().await, [(id(1), lease(11))]);
}

#[tokio::test]
async fn the_wrong_server_is_told_from_a_server_that_is_away() {
    let mut server = Server::start().await;
    let address = format!("http://{}/other/", server.address);
    let mut worker = Worker::start(&server, &["--run", "q=true", "--server", &address]);
    let path = "/other/jobs/take?queue=q&prefetch=1&lease_ms=30000&renew=worker";
    server.call(path).await.answer("404 Not Found", r#"{"error":"no such path"}"#);
    worker.message("no job stream: the server answered 404 Not Found: no such path; reconnecting in ").await;
    server.call(path).await.answer("200 OK\r\ncontent-type: text/html", "<html>");
    worker.message("no job stream: expected an event stream, got `text/html`").await;
}
