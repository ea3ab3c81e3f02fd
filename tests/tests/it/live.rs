//! Live views: everything at first, then once a second what has changed.

use protocol::frame::StreamFormat;
use protocol::frame::sse::Item;
use serde_json::{Value, json};
use tests::events::Events;
use tests::{Client, Server, Stream, Wire, id, lease};

struct View(Events);

impl View {
    async fn open(client: &Client, query: &str) -> Self {
        Self(Events::open(client.get(&format!("/live?{query}"))).await)
    }

    async fn next(&mut self) -> Value {
        let (event, message) = self.0.next().await.expect("a message");
        assert_eq!(event, "live", "{message}");
        assert!(message["now"].as_u64().unwrap() > 1_600_000_000_000, "{message}");
        message
    }

    /// The first message that has this member, which `holds` accepts.
    async fn find(&mut self, member: &str, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut message = self.next().await;
            if message.get(member).is_some_and(&holds) {
                return message[member].take();
            }
        }
    }

    async fn job(&mut self, holds: impl Fn(&Value) -> bool) -> Value {
        self.find("jobs", |jobs| holds(&jobs[0]["job"])).await[0]["job"].take()
    }
}

#[tokio::test]
async fn a_view_begins_with_everything_and_goes_on_with_what_has_changed() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        client.poke("/reset").await.expect_nothing();
        let job = client.add("a").await;
        let query = format!("topics=totals,queues&jobs={},{:025}", id(&job), 0);
        let mut view = View::open(&client, &query).await;
        let first = view.next().await;
        assert_eq!(first["totals"]["totals"]["ready"], 1, "{first}");
        assert_eq!(first["queues"]["order"], json!(["a"]), "{first}");
        assert_eq!(first["queues"]["rows"][0]["counts"]["ready"], 1, "{first}");
        let shown = first["jobs"].as_array().unwrap();
        let of = |id: &str| shown.iter().find(|shown| shown["id"] == id).map(|shown| &shown["job"]);
        let seen = of(id(&job)).unwrap();
        assert_eq!((&seen["status"], seen.get("payload")), (&json!("ready"), None), "{first}");
        assert!(seen["payload_bytes"].is_u64(), "{first}");
        assert_eq!(of(&format!("{:025}", 0)), Some(&Value::Null), "it does not exist");
        client.add("b").await;
        let queues = view.find("queues", |queues| queues.get("order").is_some()).await;
        assert_eq!(queues["order"], json!(["a", "b"]));
        assert!(queues["rows"].as_array().unwrap().iter().any(|row| row["name"] == "b"), "{queues}");
        view.find("totals", |totals| totals["totals"]["ready"] == 2).await;
    }
}

#[tokio::test]
async fn a_view_follows_jobs_through_their_life() {
    let server = Server::with(["--heartbeat-interval", "200ms"]).await;
    let client = server.client();
    let job = client.add("q").await;
    let mut view = View::open(&client, &format!("jobs={}", id(&job))).await;
    let first = view.next().await;
    assert_eq!(first.as_object().unwrap().keys().collect::<Vec<_>>(), ["jobs", "now"]);
    // While nothing changes there are heartbeats only.
    for _ in 0..8 {
        assert!(matches!(view.0.item().await, Some(Item::Comment(_))));
    }
    let take = client.get("/jobs/take?queue=q&lease_ms=60000").header("worker-id", "w");
    let take = take.also("accept", StreamFormat::NdJson.content_type()).response().await;
    let mut worker = Stream::open(StreamFormat::NdJson, take).await;
    let taken = worker.next_job().await;
    let held = view.job(|job| job["status"] == "in_flight").await;
    assert_eq!((&held["worker"], &held["deliveries"]), (&json!("w"), &json!(1)));
    assert!(!held.to_string().contains(lease(&taken)), "the lease is not shown: {held}");
    let (path, progress) =
        (format!("/jobs/{}/heartbeat", id(&job)), json!({"progress": 0.5, "message": "half"}));
    client.post(&path, &progress).header("zizq-lease", lease(&taken)).await.expect(200);
    let held = view.job(|job| job.get("progress").is_some()).await;
    assert_eq!((&held["progress"], &held["message"]), (&json!(0.5), &json!("half")));
    client.fail(&taken, &json!({"message": "m", "kill": true})).await;
    let dead = view.job(|job| job["status"] == "dead").await;
    assert_eq!((dead.get("worker"), &dead["last_error"]["message"]), (None, &json!("m")));
    client.delete(&format!("/jobs/{}", id(&job))).await.expect_nothing();
    view.job(Value::is_null).await;
}

#[tokio::test]
async fn a_view_of_queues_is_selected_and_ordered_like_the_list() {
    let server = Server::start().await;
    let client = server.client();
    for (queue, jobs) in [("mail:1", 1), ("mail:2", 3), ("mail:3", 2), ("web", 9)] {
        client.enqueue_all((0..jobs).map(|_| json!({"queue": queue, "type": "t", "payload": 1}))).await;
    }
    let mut view = View::open(&client, "topics=queues&prefix=mail&order=ready&desc=true&limit=2").await;
    let first = view.next().await;
    assert_eq!(first["queues"]["order"], json!(["mail:2", "mail:3"]), "{first}");
    assert_eq!(first.get("totals"), None);
    client.enqueue_all((0..9).map(|_| json!({"queue": "mail:1", "type": "t", "payload": 1}))).await;
    let queues = view.find("queues", |queues| queues.get("order").is_some()).await;
    assert_eq!(queues["order"], json!(["mail:1", "mail:2"]), "{queues}");
    let listed =
        client.get("/queues?details=true&prefix=mail&order=ready&desc=true&limit=2").await.expect(200);
    assert_eq!(listed["queues"][0]["counts"], queues["rows"][0]["counts"], "{queues}");
}

#[tokio::test]
async fn wrong_views_are_refused_and_their_number_is_limited() {
    let server = Server::start().await;
    let client = server.client();
    let view = |query: &str| client.get(&format!("/live?{query}")).header("accept", "text/event-stream");
    view("topics=all").await.expect_refusal(400, "neither totals nor queues");
    view("prefix=a").await.expect_refusal(400, "`prefix` is unknown here");
    view("topics=queues&order=size").await.expect_refusal(400, "name, ready");
    view("jobs=x").await.expect_refusal(400, "jobs");
    let many: Vec<String> = (0..201).map(|n| format!("{n:025}")).collect();
    view(&format!("jobs={}", many.join(","))).await.expect_refusal(400, "limit 200");
    client.get("/live").header("accept", "application/json").await.expect_refusal(406, "application/json");
    let mut views = Vec::new();
    for _ in 0..256 {
        views.push(View::open(&client, "").await);
    }
    view("").await.expect_refusal(503, "limit 256");
    views.clear();
    tests::wait::until("a place", async || {
        let answer = view("").response().await;
        (answer.status() == 200).then_some(())
    })
    .await;
}
