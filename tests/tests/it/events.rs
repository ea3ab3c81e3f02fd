//! The stream of events, and calls that wait for the end of a job.

use protocol::frame::sse::Item;
use serde_json::{Value, json};
use tests::events::Events;
use tests::{Client, Server, Wire, id};

struct Changes(Events);

impl Changes {
    async fn open(client: &Client, filters: &str) -> Self {
        let mut events = Events::open(client.get(&format!("/events?{filters}"))).await;
        // The first thing that comes says that the server listens.
        assert!(matches!(events.item().await, Some(Item::Comment(_))));
        Self(events)
    }

    async fn item(&mut self) -> Item {
        self.0.item().await.expect("an event")
    }

    /// The next event of a job: its id, and from what to what.
    async fn next(&mut self) -> (String, Value, Value) {
        loop {
            if let Item::Event { event, data, .. } = self.item().await {
                assert_eq!(event, "job", "{data}");
                let event: Value = serde_json::from_str(&data).unwrap();
                assert!(event["at"].as_u64().unwrap() > 1_600_000_000_000, "{event}");
                assert!(event["queue"].is_string() && event["type"].is_string(), "{event}");
                return (id(&event).to_owned(), event["from"].clone(), event["to"].clone());
            }
        }
    }

    async fn expect(&mut self, job: &Value, from: &str, to: &str) {
        let value = |status: &str| if status.is_empty() { Value::Null } else { json!(status) };
        assert_eq!(self.next().await, (id(job).to_owned(), value(from), value(to)));
    }
}

#[tokio::test]
async fn every_change_of_a_job_is_told() {
    let server = Server::start().await;
    for wire in [Wire::ALL[0], Wire::ALL[1]] {
        let client = server.client_as(wire);
        let mut events = Changes::open(&client, "").await;
        let job = client.add("q").await;
        events.expect(&job, "", "ready").await;
        let taken = client.poll_one("q").await;
        events.expect(&job, "ready", "in_flight").await;
        client.release(&taken).await;
        events.expect(&job, "in_flight", "ready").await;
        let taken = client.poll_one("q").await;
        events.expect(&job, "ready", "in_flight").await;
        client.fail(&taken, &json!({"message": "m", "retry_at": 253_402_300_799_999_u64})).await;
        events.expect(&job, "in_flight", "scheduled").await;
        client.patch(&format!("/jobs/{}", id(&job)), &json!({"ready_at": null})).await.expect(200);
        events.expect(&job, "scheduled", "ready").await;
        let taken = client.poll_one("q").await;
        events.expect(&job, "ready", "in_flight").await;
        client.fail(&taken, &json!({"message": "m", "kill": true})).await;
        events.expect(&job, "in_flight", "dead").await;
        client.poke(&format!("/jobs/{}/retry", id(&job))).await.expect(200);
        events.expect(&job, "dead", "ready").await;
        let taken = client.poll_one("q").await;
        events.expect(&job, "ready", "in_flight").await;
        client.succeed(&taken).await;
        events.expect(&job, "in_flight", "completed").await;
        let other = client.add("q").await;
        events.expect(&other, "", "ready").await;
        client.delete(&format!("/jobs/{}", id(&other))).await.expect_nothing();
        events.expect(&other, "ready", "").await;
    }
}

#[tokio::test]
async fn events_are_filtered() {
    let server = Server::start().await;
    let client = server.client();
    let mut of_queue = Changes::open(&client, "queue=b,c").await;
    let mut of_type = Changes::open(&client, "type=x").await;
    let mut ends = Changes::open(&client, "status=completed,dead").await;
    client.add("a").await;
    let b = client.add("b").await;
    let x = client.enqueue(&json!({"queue": "d", "type": "x", "payload": 1})).await;
    of_queue.expect(&b, "", "ready").await;
    of_type.expect(&x, "", "ready").await;
    let mut of_id = Changes::open(&client, &format!("id={}", id(&x))).await;
    for queue in ["a", "b", "d"] {
        let taken = client.poll_one(queue).await;
        client.succeed(&taken).await;
    }
    of_id.expect(&x, "ready", "in_flight").await;
    of_id.expect(&x, "in_flight", "completed").await;
    assert_eq!(ends.next().await.2, "completed");
    assert_eq!(ends.next().await.0, id(&b));
    client.get("/events?from=x").header("accept", "text/event-stream").await.expect_refusal(400, "from");
    client.get("/events?status=x").header("accept", "text/event-stream").await.expect_refusal(400, "status");
    client.get("/events").header("accept", "application/json").await.expect_refusal(406, "json");
}

#[tokio::test]
async fn a_slow_reader_is_told_that_it_missed_events_and_slows_no_one_down() {
    let server = Server::with(["--enqueue-commit-mode", "buffered"]).await;
    let client = server.client();
    let mut events = Changes::open(&client, "").await;
    let long = "q".repeat(250);
    for _ in 0..40 {
        let jobs = (0..1_000).map(|_| json!({"queue": long, "type": "t", "payload": null}));
        client.enqueue_all(jobs).await;
    }
    assert_eq!(client.count("").await, 40_000);
    let (mut heard, mut missed) = (0, 0);
    while heard + missed < 40_000 {
        if let Item::Event { event, data, .. } = events.item().await {
            let data: Value = serde_json::from_str(&data).unwrap();
            match event.as_str() {
                "job" => heard += 1,
                "lagged" => missed += data["missed"].as_u64().unwrap(),
                other => panic!("{other}"),
            }
        }
    }
    assert_eq!(heard + missed, 40_000);
    assert!(missed > 0, "it heard everything");
}

#[tokio::test]
async fn a_caller_waits_for_the_end_of_a_job() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        for (end, status) in [("success", "completed"), ("failure", "dead")] {
            // It is kept, so that a caller who comes too late to wait hears the same.
            let kept =
                json!({"queue": "q", "type": "t", "payload": 8, "retention": {"completed_ms": 600_000}});
            let job = client.post("/jobs", &kept).await.expect(201);
            let waiting = tokio::spawn({
                let (client, path) = (client.clone(), format!("/jobs/{}?wait_ms=30000", id(&job)));
                async move { client.get(&path).await.expect(200) }
            });
            let producer = tokio::spawn({
                let client = client.clone();
                let job = json!({"queue": "p", "type": "t", "payload": 7, "retention": {"completed_ms": 0, "dead_ms": 0}});
                async move { client.post("/jobs?wait_ms=30000", &job).await.expect(201) }
            });
            for queue in ["q", "p"] {
                let taken = client.poll_one(queue).await;
                match end {
                    "success" => client.succeed(&taken).await,
                    _ => drop(client.fail(&taken, &json!({"message": "m", "kill": true})).await),
                }
            }
            let ended = waiting.await.unwrap();
            assert_eq!(
                (id(&ended), &ended["status"], &ended["payload"]),
                (id(&job), &json!(status), &json!(8))
            );
            let produced = producer.await.unwrap();
            assert_eq!((&produced["status"], produced.get("payload")), (&json!(status), None), "{produced}");
            assert_eq!(produced["duplicate"], json!(false));
        }
    }
}

#[tokio::test]
async fn a_call_waits_for_at_most_wait_ms() {
    let server = Server::start().await;
    let client = server.client();
    let job = client.add("q").await;
    let path = format!("/jobs/{}?wait_ms", id(&job));
    assert_eq!(client.get(&format!("{path}=50")).await.expect(200)["status"], "ready");
    assert_eq!(client.get(&format!("{path}=0")).await.expect(200)["status"], "ready");
    client.get(&format!("{path}=60001")).await.expect_refusal(400, "wait_ms");
    client.get("/jobs/0000000000000000000000000?wait_ms=60000").await.expect_refusal(404, "0000");
    let produced = client.post("/jobs?wait_ms=50", &json!({"queue": "x", "type": "t", "payload": 1})).await;
    assert_eq!(produced.expect(201)["status"], "ready");
    // One that has ended is not waited for, and one that is deleted is gone.
    let dead = client.poll_one("q").await;
    client.fail(&dead, &json!({"message": "m", "kill": true})).await;
    assert_eq!(client.get(&format!("{path}=60000")).await.expect(200)["status"], "dead");
    let other = client.add("q").await;
    let waiting = tokio::spawn({
        let (client, path) = (client.clone(), format!("/jobs/{}?wait_ms=30000", id(&other)));
        async move { client.get(&path).await.status }
    });
    client.let_pass(100).await;
    client.delete(&format!("/jobs/{}", id(&other))).await.expect_nothing();
    assert_eq!(waiting.await.unwrap(), 404);
}

#[tokio::test]
async fn a_result_is_kept_with_the_job() {
    let mut server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        for result in [json!({"pages": [1, 2.5], "ä": null}), json!(null), json!("x".repeat(1_000_000))] {
            let job =
                json!({"queue": "q", "type": "t", "payload": 7, "retention": {"completed_ms": 600_000}});
            let producer = tokio::spawn({
                let client = client.clone();
                async move { client.post("/jobs?wait_ms=30000", &job).await.expect(201) }
            });
            let taken = client.poll_one("q").await;
            let path = format!("/jobs/{}", id(&taken));
            let done = client.post(&format!("{path}/success"), &json!({"result": result}));
            done.header("zizq-lease", tests::lease(&taken)).await.expect_nothing();
            let produced = producer.await.unwrap();
            assert_eq!((&produced["status"], &produced["result"]), (&json!("completed"), &result));
            let shown = client.job(id(&taken)).await;
            assert_eq!((&shown["payload"], shown.get("result")), (&json!(7), Some(&result)));
        }
    }
    let client = server.client();
    let listed = client.get("/jobs?status=completed&limit=2").await.expect(200);
    assert_eq!(listed["jobs"][0]["result"]["pages"], json!([1, 2.5]));
    let one = id(&listed["jobs"][1]).to_owned();
    server.kill9().await;
    server.restart().await;
    let client = server.client();
    assert_eq!(client.job(&one).await.get("result"), Some(&Value::Null), "null is a result, too");
    let retried = client.poke(&format!("/jobs/{one}/retry")).await.expect(200);
    assert_eq!(retried.get("result"), None);
    let taken = client.poll_one("q").await;
    let path = format!("/jobs/{one}/success");
    let large = json!({"result": "x".repeat(1_100_000)});
    client.post(&path, &large).await.expect_refusal(413, "result");
    client.post(&path, &json!([1])).await.expect_refusal(400, "object");
    client.succeed(&taken).await;
    assert_eq!(client.job(&one).await.get("result"), None);
    // Without retention it goes to whoever waits, and is not kept.
    let producer = tokio::spawn({
        let client = client.clone();
        async move { client.post("/jobs?wait_ms=30000", &json!({"queue": "g", "type": "t", "payload": 1})).await }
    });
    let taken = client.poll_one("g").await;
    client.post(&format!("/jobs/{}/success", id(&taken)), &json!({"result": 5})).await.expect_nothing();
    assert_eq!(producer.await.unwrap().expect(201)["result"], 5);
    assert_eq!(client.status(id(&taken)).await, None);
}

#[tokio::test]
async fn progress_is_told_too() {
    let server = Server::start().await;
    let client = server.client();
    let mut events = Changes::open(&client, "queue=q&status=in_flight").await;
    client.add("q").await;
    let job = client.poll_one("q").await;
    let beat = async |body: Value| {
        let beat = client.post(&format!("/jobs/{}/heartbeat", id(&job)), &body);
        beat.header("zizq-lease", tests::lease(&job)).await.expect(200);
    };
    beat(json!({"progress": 0.25, "message": "page 1"})).await;
    beat(json!({})).await;
    beat(json!({"progress": 0.5})).await;
    events.expect(&job, "ready", "in_flight").await;
    for progress in [0.25, 0.5] {
        let Item::Event { event, data, .. } = events.item().await else { panic!("no event") };
        let shown: Value = serde_json::from_str(&data).unwrap();
        assert_eq!((event.as_str(), &shown["id"], &shown["type"]), ("progress", &job["id"], &job["type"]));
        // What is not said anew stays.
        assert_eq!((&shown["progress"], &shown["message"]), (&json!(progress), &json!("page 1")));
    }
}
