//! Clients that can send no header: the calls of the Ruby gem, and the official Rust client.

use protocol::frame::StreamFormat;
use protocol::media::Format;
use serde_json::{Value, json};
use tests::wait::{until, within};
use tests::{Client, Http, Server, Wire, id};
use tokio::sync::oneshot;
use zizq::{Router, Worker};

use super::{Authority, Secure, ended, text, urls};
use crate::official_client::SendEmail;

/// What the gem does, in both of its formats: calls over HTTP/2, and a stream over HTTP/1.1 whose jobs are reported by their
/// ids alone.
async fn gem(enqueue_at: &str, work_at: &str) {
    for (format, of_stream) in
        [(Format::MessagePack, StreamFormat::MessagePack), (Format::Json, StreamFormat::NdJson)]
    {
        let speaks = |url: &str, http| Client::new(url, Wire { format, http });
        let (producer, worker) = (speaks(enqueue_at, Http::Two), speaks(work_at, Http::Two));
        let job = json!({"queue": "emails", "type": "send_email", "payload": {"to": "ada"}});
        let first = producer.post("/jobs", &job).await.expect(201);
        let more = producer.post("/jobs/bulk", &json!({"jobs": [job, job, job]})).await.expect(201);
        let streams = speaks(work_at, Http::One);
        let mut stream = streams.take(of_stream, "prefetch=5&queue=emails").await;
        let jobs = stream.next_jobs(4).await;
        let ids: Vec<&str> = jobs.iter().map(id).collect();
        let made = std::iter::once(&first).chain(more["jobs"].as_array().unwrap()).map(id);
        assert_eq!(ids, made.collect::<Vec<_>>());
        assert!(jobs.iter().all(|job| job["payload"] == json!({"to": "ada"})), "{jobs:?}");
        worker.poke(&format!("/jobs/{}/success", ids[0])).await.expect_nothing();
        worker.post("/jobs/success", &json!({"ids": ids[1..3]})).await.expect_nothing();
        let failure = json!({"message": "m", "error_type": "E", "backtrace": "b", "kill": true});
        let failed = worker.post(&format!("/jobs/{}/failure", ids[3]), &failure).await.expect(200);
        assert_eq!(failed["status"], "dead");
        let again = worker.post("/jobs/success", &json!({"ids": [ids[0]]})).await;
        assert_eq!(again.status, 422, "the gem takes that for done");
    }
}

#[tokio::test]
async fn the_calls_of_the_ruby_gem_work_over_mutual_tls() {
    let authority = Authority::new(&["app"]).await;
    let server = Secure::asking(&authority, &[]).await;
    let url = authority.way_in("app", server.port).await;
    gem(&url, &url).await;
    // Its libraries choose the version by ALPN.
    let version = ["--http2", "--write-out", "%{http_version}", "--output", "/dev/null"];
    let asked = ended(authority.curl(Some("app"), &server.url("/whoami"), &version)).await;
    assert_eq!(text(&asked.stdout), "2");
}

#[tokio::test]
async fn the_calls_of_the_ruby_gem_work_over_listeners_with_a_role() {
    let (of_workers, of_producers) = ("127.0.0.1:0,role=worker", "127.0.0.1:0,role=producer");
    let mut server =
        Server::with(["--auth", "required", "--listen", of_workers, "--listen", of_producers]).await;
    let urls = urls(server.process(), 2).await;
    gem(&urls[1], &urls[0]).await;
}

#[tokio::test]
async fn the_official_worker_works_over_a_listener_with_a_role() {
    let listen = ["worker", "producer", "viewer"].map(|role| format!("127.0.0.1:0,role={role}"));
    let flags: Vec<&str> = listen.iter().flat_map(|listen| ["--listen", listen.as_str()]).collect();
    let mut server = Server::with([&["--auth", "required"], flags.as_slice()].concat()).await;
    let urls = urls(server.process(), 3).await;
    let client = |n: usize| zizq::Client::builder().url(&urls[n]).build().unwrap();
    client(1).enqueue(SendEmail { to: "ada".to_owned() }).await.unwrap();
    assert!(client(0).enqueue(SendEmail { to: "bob".to_owned() }).await.is_err(), "it only works");
    let router = Router::new().route(async |_: SendEmail| Ok::<(), std::convert::Infallible>(()));
    let worker = Worker::builder().client(client(0)).queues(["emails"]).handler(router).build().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run(async move { drop(stopped.await) }));
    until("the end of the email", async || (client(2).count_jobs().await.unwrap() == 0).then_some(())).await;
    stop.send(()).unwrap();
    within("the end of the worker", running).await.unwrap().unwrap();
    let seen: Value = Client::new(&urls[2], Wire::default()).get("/whoami").await.expect(200);
    assert_eq!(seen["who"]["kind"], "listener");
}
