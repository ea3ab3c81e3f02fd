//! Queues and workers: how they are, pause and resume.

use serde_json::{Value, json};
use tests::{Client, Server, Wire, id};

async fn queue(client: &Client, name: &str) -> Value {
    client.get(&format!("/queues/{name}")).await.expect(200)
}

async fn pause(client: &Client, name: &str) -> Value {
    client.poke(&format!("/queues/{name}/pause")).await.expect(200)
}

async fn resume(client: &Client, name: &str) -> Value {
    client.poke(&format!("/queues/{name}/resume")).await.expect(200)
}

#[tokio::test]
async fn a_queue_shows_its_counts_its_oldest_job_and_its_workers() {
    for wire in Wire::ALL {
        let server = Server::start().await;
        let client = server.client_as(wire);
        let none = json!({"scheduled": 0, "ready": 0, "in_flight": 0, "completed": 0, "dead": 0});
        let mut shown = queue(&client, "a%2F%20b").await;
        let rates = shown.as_object_mut().unwrap().remove("rates").unwrap();
        assert_eq!(rates["completed"], json!({"1m": 0.0, "5m": 0.0}));
        let (name, ms) = ("a/ b", 0);
        let empty = json!({"name": name, "paused": false, "counts": none, "workers": 0, "oldest_ready_ms": ms, "backlog_ms": ms});
        assert_eq!(shown, empty);
        let jobs = client.enqueue_all((0..4).map(|n| {
            json!({"queue": "q", "type": "t", "payload": n, "ready_at": 1_000 + n, "retention": {"completed_ms": 60_000}})
        }));
        let jobs = jobs.await;
        let dead = client.poll_one("q").await;
        client.fail(&dead, &json!({"message": "m", "kill": true})).await;
        let done = client.poll_one("q").await;
        client.succeed(&done).await;
        let held = client.poll_one("q").await;
        assert_eq!(id(&held), id(&jobs[2]));
        let _one = client.lines("queue=other,q&prefetch=1").await;
        let _all = client.events("prefetch=1").await;
        let _elsewhere = client.lines("queue=other").await;
        let later = client.add("empty").await;
        client.patch(&format!("/jobs/{}", id(&later)), &json!({"ready_at": 253_402_300_799_999_u64})).await;
        let shown = queue(&client, "q").await;
        // The last job may have gone to a worker by now.
        assert_eq!((&shown["counts"]["dead"], &shown["counts"]["completed"]), (&json!(1), &json!(1)));
        assert_eq!(shown["workers"], 2);
        let all = client.get("/queues?details=true").await.expect(200);
        let names: Vec<&str> =
            all["queues"].as_array().unwrap().iter().map(|queue| queue["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["empty", "q"]);
        assert_eq!(client.get("/queues").await.expect(200), json!({"queues": ["empty", "q"]}));
    }
    let server = Server::start().await;
    let client = server.client();
    client
        .enqueue_all((0..3).map(|n| json!({"queue": "o", "type": "t", "payload": n, "ready_at": 7_000 + n})))
        .await;
    assert_eq!(queue(&client, "o").await["oldest_ready_at"], 7_000);
    client.poll_one("o").await;
    let shown = queue(&client, "o").await;
    assert_eq!((&shown["oldest_ready_at"], &shown["counts"]["in_flight"]), (&json!(7_001), &json!(1)));
    client.get("/queues/a,b").await.expect_refusal(404, "a,b");
    client.get("/queues?details=perhaps").await.expect_refusal(400, "details");
    client.poke("/queues/q").await.expect_refusal(405, "GET");
}

#[tokio::test]
async fn a_paused_queue_hands_out_nothing_until_it_is_resumed() {
    let mut server = Server::start().await;
    let client = server.client();
    let mut stream = client.lines("prefetch=0").await;
    assert_eq!(pause(&client, "q").await["paused"], json!(true));
    let first = client.add("q").await;
    let other = client.add("other").await;
    assert_eq!(id(&stream.next_job().await), id(&other), "others go on");
    let mut own = client.lines("queue=q&prefetch=0").await;
    let polled = client.poll(&json!({"queues": ["q"], "wait_ms": 100})).await;
    assert_eq!(polled.len(), 0);
    let shown = queue(&client, "q").await;
    assert_eq!((&shown["paused"], &shown["counts"]["ready"]), (&json!(true), &json!(1)));
    assert_eq!(resume(&client, "q").await["paused"], json!(false));
    tokio::select! {
        job = own.next_job() => assert_eq!(id(&job), id(&first)),
        job = stream.next_job() => assert_eq!(id(&job), id(&first)),
    }
    drop((stream, own));
    // It survives a crash, also without a job.
    pause(&client, "lonely").await;
    server.kill9().await;
    server.restart().await;
    let client = server.client();
    assert_eq!(queue(&client, "lonely").await["paused"], json!(true));
    let job = client.add("lonely").await;
    assert_eq!(client.poll(&json!({"queues": ["lonely"], "wait_ms": 100})).await.len(), 0);
    resume(&client, "lonely").await;
    assert_eq!(id(&client.poll_one("lonely").await), id(&job));
}

#[tokio::test]
async fn jobs_in_flight_finish_while_their_queue_is_paused() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    client.add("q").await;
    let done = client.poll_one("q").await;
    let released = client.poll_one("q").await;
    pause(&client, "q").await;
    client.succeed(&done).await;
    client.release(&released).await;
    assert_eq!(client.poll(&json!({"wait_ms": 100})).await.len(), 0);
    resume(&client, "q").await;
    assert_eq!(id(&client.poll_one("q").await), id(&released));
}

#[tokio::test]
async fn workers_are_those_that_are_connected() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        assert_eq!(client.get("/workers").await.expect(200), json!({"workers": []}));
        let call = client.get("/jobs/take?queue=a,b&prefetch=7").header("worker-id", "mailer-1");
        let call = call.header("accept", "application/x-ndjson");
        let mut stream =
            tests::Stream::open(protocol::frame::StreamFormat::NdJson, call.response().await).await;
        let events = client.events("queue=x").await;
        client.add("a").await;
        stream.next_job().await;
        let shown = client.get("/workers").await.expect(200);
        let workers = shown["workers"].as_array().unwrap();
        assert_eq!(workers.len(), 2, "{shown}");
        let named = workers.iter().find(|worker| worker["worker"] == "mailer-1").unwrap();
        assert_eq!((&named["format"], &named["prefetch"]), (&json!("ndjson"), &json!(7)));
        assert_eq!((&named["queues"], &named["in_flight"]), (&json!(["a", "b"]), &json!(1)));
        assert!(named["remote"].as_str().unwrap().starts_with("127.0.0.1:"), "{named}");
        assert!(named["connected_at"].as_u64().unwrap() > 1_600_000_000_000);
        let other = workers.iter().find(|worker| worker.get("worker").is_none()).unwrap();
        assert_eq!((&other["queues"], &other["format"]), (&json!(["x"]), &json!("sse")));
        // It is told apart by the start of its id, which is not enough to take it over.
        let start = other["stream"].as_str().unwrap();
        assert!(events.hello().stream.starts_with(start) && start.len() == 12, "{other}");
        for guess in [start.to_owned(), format!("{start:0<32}")] {
            let thief = client.resume(&format!("{guess}:0"), "queue=x").await;
            assert!(!thief.hello().resumed, "{guess}");
        }
        client.poke("/reset").await.expect_nothing();
        drop((stream, events));
        tests::wait::until("the streams to be closed", async || {
            let workers = client.get("/workers").await.expect(200);
            (workers["workers"] == json!([])).then_some(())
        })
        .await;
    }
    let long = "x".repeat(256);
    let refused = server.client().get("/jobs/take").header("worker-id", &long).await;
    refused.expect_refusal(400, "Worker-Id");
}

#[tokio::test]
async fn all_queues_are_paused_and_resumed_in_one_call() {
    let server = Server::start().await;
    let client = server.client();
    for queue in ["mails:a", "mails:b", "films", "mails:paused"] {
        client.add(queue).await;
    }
    pause(&client, "mails:paused").await;
    let patch = async |query: &str, paused: bool| {
        client.patch(&format!("/queues{query}"), &json!({"paused": paused})).await.expect(200)["patched"]
            .clone()
    };
    let paused = async || {
        let shown = client.get("/queues?details=true&paused=true").await.expect(200);
        let queues = shown["queues"].as_array().unwrap().clone();
        queues.iter().map(|queue| queue["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(patch("?prefix=mails", true).await, 2, "one of three was paused already");
    assert_eq!(paused().await, ["mails:a", "mails:b", "mails:paused"]);
    assert_eq!(patch("?contains=:b", false).await, 1);
    assert_eq!(patch("", true).await, 2);
    assert_eq!(paused().await.len(), 4);
    assert_eq!(patch("", true).await, 0);
    assert_eq!(patch("", false).await, 4);
    assert_eq!(paused().await, [""; 0]);
    client.poll_one("mails:paused").await;
    for (path, body, status) in [
        ("/queues", json!({}), 400),
        ("/queues", json!({"paused": null}), 422),
        ("/queues?status=ready", json!({"paused": true}), 400),
    ] {
        client
            .patch(path, &body)
            .await
            .expect_refusal(status, if path == "/queues" { "paused" } else { "status" });
    }
    let trail = client.get("/audit?limit=200").await.expect(200);
    let mut entries = trail["entries"].as_array().unwrap().iter();
    let entry = entries.find(|entry| entry["target"] == "/queues?prefix=mails").unwrap();
    assert_eq!((&entry["matched"], &entry["changed"]), (&json!(2), &json!(2)), "{entry}");
}
