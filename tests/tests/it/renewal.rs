//! Who renews leases, and the reasons that workers give for releases.

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::wait::{now_ms, until};
use tests::{Client, Server, Worker, id, lease};

/// Beats faster than any lease ends.
const FAST_BEAT: [&str; 2] = ["--heartbeat-interval", "100ms"];

async fn beat(client: &Client, job: &Value) {
    let body = json!({"jobs": [{"id": id(job), "lease": lease(job)}]});
    let reply = client.post("/jobs/heartbeat", &body).await.expect(200);
    assert_eq!(reply["lost"], json!([]), "{reply}");
}

#[tokio::test]
async fn an_open_stream_that_its_worker_renews_keeps_no_job_by_itself() {
    let server = Server::with(FAST_BEAT).await;
    let client = server.client();
    client.add("q").await;
    let mut frozen = client.events("queue=q&lease_ms=1000&renew=worker").await;
    let held = frozen.next_job().await;
    // It stays open: a job goes back when the stream of lines that holds it ends.
    let mut others = client.lines("queue=q").await;
    let other = others.next_job().await;
    assert_eq!((id(&other), &other["deliveries"], &other["attempts"]), (id(&held), &json!(2), &json!(0)));
    assert!(
        other["dequeued_at"].as_u64() >= held["lease_expires_at"].as_u64(),
        "{other} came before the expiry"
    );
    // Whoever lets a lease run out gets nothing more on this connection.
    client.add("q").await;
    frozen.expect_end().await;
    assert_eq!(client.count("queue=q&status=ready").await, 1);
}

#[tokio::test]
async fn heartbeats_and_a_resume_keep_the_jobs_of_a_stream_that_its_worker_renews() {
    let server = Server::with(FAST_BEAT).await;
    let client = server.client();
    client.add("q").await;
    let query = "queue=q&lease_ms=1500&renew=worker";
    let mut stream = client.events(query).await;
    let held = stream.next_job().await;
    let began = now_ms();
    until("two leases to pass", async || {
        beat(&client, &held).await;
        (now_ms() > began + 3_000).then_some(())
    })
    .await;
    let position = stream.last_event_id.clone();
    drop(stream);
    let resumed = client.resume(&position, query).await;
    assert!(resumed.hello().resumed);
    beat(&client, &held).await;
    client.succeed(&held).await;
}

#[tokio::test]
async fn an_open_stream_renews_for_no_longer_than_the_server_allows() {
    let server = Server::with([FAST_BEAT[0], FAST_BEAT[1], "--max-stream-renewal", "1500ms"]).await;
    let client = server.client();
    client.add("q").await;
    let mut stream = client.events("queue=q&lease_ms=1000").await;
    let held = stream.next_job().await;
    let began = held["dequeued_at"].as_u64().unwrap();
    let other = client.lines("queue=q").await.next_job().await;
    assert_eq!(id(&other), id(&held));
    let kept = other["dequeued_at"].as_u64().unwrap() - began;
    assert!((2_400..12_000).contains(&kept), "kept for {kept} ms");
}

#[tokio::test]
async fn a_frozen_worker_loses_its_job_to_another_after_the_lease() {
    let server = Server::with(FAST_BEAT).await;
    let client = server.client();
    let folder = tempfile::tempdir().unwrap();
    let who = |name: &str| format!("q=echo {name} >>{0}/began; sleep 600", folder.path().display());
    let flags = |name: &str| ["--run".to_owned(), who(name), "--lease".to_owned(), "2s".to_owned()];
    let mut first = Worker::start(&server, flags("first"));
    let job = client.add("q").await;
    let began = async |name: &str| {
        until(format!("the job to begin on the {name} worker"), async || {
            let text = std::fs::read_to_string(folder.path().join("began")).unwrap_or_default();
            text.contains(name).then_some(())
        })
        .await;
    };
    began("first").await;
    first.process().signal(Signal::STOP);
    let _second = Worker::start(&server, flags("second"));
    began("second").await;
    assert_eq!(client.job(id(&job)).await["attempts"], 0);
    first.process().signal(Signal::CONT);
}

#[tokio::test]
async fn a_release_says_why_and_queue_and_worker_show_the_last_reason() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let release_of = |shown: &Value| shown.get("last_release").cloned();
    assert_eq!(release_of(&client.get("/queues/q").await.expect(200)), None);
    let call = client.get("/jobs/take?queue=q").header("accept", "text/event-stream");
    let response = call.header("worker-id", "w1").response().await;
    let mut stream = tests::Stream::open(protocol::frame::StreamFormat::EventStream, response).await;
    let asked = now_ms();
    for (n, reason) in ["no script", &"ä".repeat(2_000)].iter().enumerate() {
        let job = stream.next_job().await;
        let body = json!({"jobs": [{"id": id(&job), "lease": lease(&job), "reason": reason}]});
        let path = format!("/jobs/{}/release", id(&job));
        match n {
            0 => client.post("/jobs/release", &body).await.expect_nothing(),
            _ => client.post(&path, &json!({"reason": reason})).await.expect_nothing(),
        }
        let of_queue = release_of(&client.get("/queues/q").await.expect(200)).unwrap();
        let kept: String = reason.chars().take(if n == 0 { 100 } else { 512 }).collect();
        assert_eq!((&of_queue["reason"], &of_queue["worker"]), (&json!(kept), &json!("w1")));
        assert!(of_queue["at"].as_u64().unwrap() >= asked && of_queue["queue"] == "q", "{of_queue}");
        let workers = client.get("/workers").await.expect(200);
        assert_eq!(release_of(&workers["workers"][0]), Some(of_queue));
    }
    // One that says nothing takes nothing back.
    let job = stream.next_job().await;
    client.release(&job).await;
    assert!(release_of(&client.get("/queues/q").await.expect(200)).is_some());
}

#[tokio::test]
async fn a_pause_can_be_a_length_by_the_servers_clock() {
    let server = Server::with(["--default-retry-limit", "1"]).await;
    let client = server.client();
    client.add("q").await;
    let span = async |verb: &str, body: &Value| {
        let job = client.poll_one("q").await;
        let before = now_ms();
        let path = format!("/jobs/{}/{verb}", id(&job));
        let answer = client.post(&path, body).header("zizq-lease", lease(&job)).await;
        assert!(answer.status < 300, "{verb} {body}: {:?}", answer.body);
        let job = client.job(id(&job)).await;
        let at = job["ready_at"].as_u64().unwrap();
        (job["status"].as_str().unwrap().to_owned(), at.saturating_sub(before))
    };
    let (status, span_of_release) = span("release", &json!({"delay_ms": 60_000})).await;
    assert!(
        status == "scheduled" && (60_000..70_000).contains(&span_of_release),
        "{status} {span_of_release}"
    );
    client.poke("/jobs/retry?status=scheduled").await.expect(200);
    let (status, _) = span("release", &json!({"delay_ms": 0})).await;
    assert_eq!(status, "ready");
    let (status, span_of_failure) = span("failure", &json!({"message": "m", "delay_ms": 60_000})).await;
    assert!(
        status == "scheduled" && (60_000..70_000).contains(&span_of_failure),
        "{status} {span_of_failure}"
    );
    // Whoever gives the pause, the retry limit holds.
    client.poke("/jobs/retry?status=scheduled").await.expect(200);
    let (status, _) = span("failure", &json!({"message": "m", "delay_ms": 60_000})).await;
    assert_eq!(status, "dead");
    let both = json!({"ready_at": 1, "delay_ms": 1});
    let path = "/jobs/0000000000000000000000000/release";
    client.post(path, &both).await.expect_refusal(400, "ready_at");
    client.post(path, &json!({"delay_ms": u64::MAX})).await.expect_refusal(400, "delay_ms");
    client.get("/jobs/take?renew=me").await.expect_refusal(400, "renew");
}
