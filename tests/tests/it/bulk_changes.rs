//! Changes of many jobs that an operator can trust: what they would do, how far they go, how far they have come, and their end.

use http::Method;
use protocol::frame::sse;
use protocol::media::Format;
use serde_json::{Value, json};
use tests::client::Call;
use tests::events::Events;
use tests::wait::until;
use tests::{Client, Http, Server, Wire, id};

const FORMATS: [Wire; 2] =
    [Wire { format: Format::Json, http: Http::One }, Wire { format: Format::MessagePack, http: Http::Two }];

/// Every bulk call: method, path, body, and the member of its answer that counts.
fn calls() -> [(Method, &'static str, Option<Value>, &'static str); 8] {
    [
        (Method::POST, "/jobs/budgets/b", Some(json!({"cost": 1})), "changed"),
        (Method::PUT, "/jobs/budgets/b", Some(json!({"cost": 2})), "changed"),
        (Method::PATCH, "/jobs/budgets/b", Some(json!({"cost": 3})), "changed"),
        (Method::DELETE, "/jobs/budgets/b", None, "changed"),
        (Method::DELETE, "/jobs/budgets", None, "changed"),
        (Method::PATCH, "/jobs", Some(json!({"priority": 7})), "patched"),
        (Method::POST, "/jobs/retry", Some(json!({})), "retried"),
        (Method::DELETE, "/jobs", None, "deleted"),
    ]
}

fn call<'a>(client: &'a Client, of: &(Method, &str, Option<Value>, &str), query: &str) -> Call<'a> {
    let call = client.call(of.0.clone(), &format!("{}?{query}", of.1));
    match &of.2 {
        Some(body) => call.value(body),
        None => call,
    }
}

/// Adds jobs of queue `q`, and returns their ids.
async fn add(client: &Client, number: usize, payload: impl Fn(usize) -> Value) -> Vec<String> {
    let mut ids = Vec::new();
    for from in (0..number).step_by(5_000) {
        let jobs = (from..number.min(from + 5_000))
            .map(|n| json!({"queue": "q", "type": "t", "payload": payload(n), "retry_limit": n % 3}));
        ids.extend(client.enqueue_all(jobs).await.iter().map(|job| id(job).to_owned()));
    }
    ids
}

async fn listed(client: &Client, query: &str) -> Vec<String> {
    let page = client.get(&format!("/jobs?limit=2000&{query}")).await.expect(200);
    page["jobs"].as_array().unwrap().iter().map(|job| id(job).to_owned()).collect()
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The events of an open call. To drop it is to close the request.
struct Live(Events);

impl Live {
    async fn open(call: Call<'_>) -> Self {
        Self(Events::open(call).await)
    }

    /// The first progress for which this holds.
    async fn progress(&mut self, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            match self.0.next().await {
                Some((event, figures)) if event == "progress" => {
                    if holds(&figures) {
                        return figures;
                    }
                }
                other => panic!("{other:?} instead of progress"),
            }
        }
    }

    /// All progress, and the event that ends the stream.
    async fn finish(mut self) -> (Vec<Value>, (String, Value)) {
        let mut progress = Vec::new();
        loop {
            match self.0.next().await.expect("an end") {
                (event, figures) if event == "progress" => progress.push(figures),
                last => {
                    assert_eq!(self.0.next().await, None, "after {last:?}");
                    return (progress, last);
                }
            }
        }
    }
}

/// How many jobs are left once the number no longer changes.
async fn settled(client: &Client, filters: &str) -> u64 {
    until("a change that stops", async || {
        let before = client.count(filters).await;
        client.let_pass(700).await;
        (client.count(filters).await == before).then_some(before)
    })
    .await
}

#[tokio::test]
async fn a_dry_run_counts_and_shows_what_the_call_then_changes() {
    let server = Server::start().await;
    for wire in FORMATS {
        let client = server.client_as(wire);
        let ids = add(&client, 8, |n| json!({"n": n, "text": "ä".repeat(5_000)})).await;
        for filter in ["queue=q", "type=t", &format!("filter={}", encoded(".n >= 0"))] {
            let trial = client.delete(&format!("/jobs?{filter}&dry_run=true")).await.expect(200);
            assert_eq!((&trial["deleted"], &trial["matched"]), (&json!(8), &json!(8)), "{filter}");
            let sample = trial["sample"].as_array().unwrap();
            assert!(sample.iter().map(id).eq(ids[..5].iter()), "the first ones: {trial}");
            let page = client.get("/jobs?payload=preview&limit=5").await.expect(200);
            assert_eq!(trial["sample"], page["jobs"], "as in lists");
            for job in sample {
                assert!(job.get("payload").is_none(), "{job}");
                assert!(job["payload_bytes"].as_u64().unwrap() > 10_000, "{job}");
                let preview = job["payload_preview"].as_str().unwrap();
                assert!((199..=200).contains(&preview.len()), "{}: {preview}", preview.len());
                assert!(preview.starts_with("{\"n\":") && preview.ends_with('ä'), "{preview}");
            }
        }
        let trial = client.delete("/jobs?queue=q&dry_run=true").await.expect(200);
        let frozen = format!("queue=q&until={}", trial["until"].as_str().unwrap());
        let later = add(&client, 3, |n| json!(n)).await;
        assert_eq!(listed(&client, &frozen).await, ids);
        assert_eq!(client.count(&frozen).await, 8);
        let again = client.delete(&format!("/jobs?{frozen}&dry_run=true")).await.expect(200);
        assert_eq!(again, trial, "later jobs change nothing in it");
        assert_eq!(client.delete(&format!("/jobs?{frozen}")).await.expect(200), json!({"deleted": 8}));
        assert_eq!(listed(&client, "").await, later);
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn until_is_a_filter_by_time_of_enqueue() {
    let server = Server::start().await;
    let client = server.client();
    let ids = add(&client, 6, |n| json!(n)).await;
    let third = format!("until={}", ids[3]);
    assert_eq!(listed(&client, &third).await, ids[..3]);
    let descending: Vec<String> = ids[..3].iter().rev().cloned().collect();
    assert_eq!(listed(&client, &format!("{third}&order=desc")).await, descending);
    assert_eq!(listed(&client, &format!("{third}&order=desc&from={}", ids[5])).await, descending);
    assert_eq!(listed(&client, &format!("{third}&order=desc&from={}", ids[2])).await, descending[1..]);
    assert_eq!(listed(&client, &format!("{third}&from={}", ids[0])).await, ids[1..3]);
    assert_eq!(listed(&client, &format!("{third}&id={},{}", ids[1], ids[4])).await, [ids[1].clone()]);
    assert_eq!(client.count(&third).await, 3);
    // What has become of a job since counts for nothing: it was enqueued when it was.
    client.patch(&format!("/jobs/{}", ids[1]), &json!({"queue": "other", "priority": 1})).await.expect(200);
    let taken = client.poll_one("other").await;
    assert_eq!((id(&taken), listed(&client, &third).await), (&*ids[1], ids[..3].to_vec()));
    client.patch(&format!("/jobs/{}", ids[5]), &json!({"queue": "other"})).await.expect(200);
    assert_eq!(client.count(&format!("{third}&queue=other")).await, 1);
    let page = client.get(&format!("/jobs?{third}&limit=2")).await.expect(200);
    let next = page["pages"]["next"].as_str().unwrap();
    assert!(next.contains(&format!("&{third}")), "{next}");
    let page = client.get(next).await.expect(200);
    assert_eq!(page["jobs"].as_array().unwrap().iter().map(id).collect::<Vec<_>>(), [&*ids[2]]);
    for bad in ["x", "1", &format!("{}0", ids[0])] {
        client.get(&format!("/jobs?until={bad}")).await.expect_refusal(400, "until");
        client.get(&format!("/jobs/count?until={bad}")).await.expect_refusal(400, "until");
        client.delete(&format!("/jobs?until={bad}")).await.expect_refusal(400, "until");
    }
    client.delete("/jobs?until=").await.expect_refusal(400, "until: the filter is empty");
    assert_eq!(client.count("until=").await, 6, "no filter");
}

#[tokio::test]
async fn a_limit_changes_the_first_jobs_and_says_whether_there_are_more() {
    let server = Server::start().await;
    for wire in FORMATS {
        let client = server.client_as(wire);
        for filter in ["queue=q".to_owned(), format!("filter={}", encoded("type == \"number\""))] {
            let delete =
                async |query: &str| client.delete(&format!("/jobs?{filter}&{query}")).await.expect(200);
            let ids = add(&client, 300, |n| json!(n)).await;
            let trial = delete("limit=200&dry_run=true").await;
            let expected = (&json!(200), &json!(300), &json!(true));
            assert_eq!((&trial["deleted"], &trial["matched"], &trial["more"]), expected);
            assert_eq!(delete("limit=4").await, json!({"deleted": 4, "more": true}));
            assert_eq!(listed(&client, "").await, ids[4..]);
            assert_eq!(delete("limit=200").await, json!({"deleted": 200, "more": true}), "more than a slice");
            assert_eq!(listed(&client, "").await, ids[204..]);
            assert_eq!(delete("limit=96").await, json!({"deleted": 96, "more": false}));
            assert_eq!(delete("limit=1").await, json!({"deleted": 0, "more": false}));
        }
        add(&client, 10, |n| json!(n)).await;
        client
            .post("/budgets/b", &json!({"allocation": 9, "strategy": {"type": "while_in_flight"}}))
            .await
            .expect(201);
        // Jobs that need no change do not count, so that a few at a time come to an end.
        for (changed, more) in [(4, true), (4, true), (2, false)] {
            let answer = client.post("/jobs/budgets/b?limit=4", &json!({})).await.expect(200);
            assert_eq!(answer, json!({"changed": changed, "blocked": [], "more": more}));
        }
        for bad in ["0", "-1", "x", ""] {
            client.delete(&format!("/jobs?limit={bad}")).await.expect_refusal(400, "limit");
        }
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn counts_can_stop() {
    let server = Server::start().await;
    for wire in FORMATS {
        let client = server.client_as(wire);
        add(&client, 10, |n| json!(n)).await;
        for filter in ["", "queue=q", "type=t", &format!("filter={}", encoded(". >= 0"))] {
            for (at_most, count, exact) in [(1, 1, false), (9, 9, false), (10, 10, true), (11, 10, true)] {
                let counted =
                    client.get(&format!("/jobs/count?{filter}&at_most={at_most}")).await.expect(200);
                assert_eq!(counted, json!({"count": count, "exact": exact}), "{filter} {at_most}");
            }
        }
        assert_eq!(client.get("/jobs/count").await.expect(200), json!({"count": 10}), "as before");
        for bad in ["0", "x", "-1"] {
            client.get(&format!("/jobs/count?at_most={bad}")).await.expect_refusal(400, "at_most");
        }
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn each_bulk_call_tells_its_progress_and_ends_with_the_plain_answer() {
    let server = Server::start().await;
    let client = server.client();
    client
        .post("/budgets/b", &json!({"allocation": 9, "strategy": {"type": "while_in_flight"}}))
        .await
        .expect(201);
    for (n, of) in calls().into_iter().enumerate() {
        let ids = add(&client, 300, |n| json!(n)).await;
        if of.1.ends_with("retry") {
            let patch = json!({"ready_at": 253_402_300_799_999_u64});
            client.patch("/jobs", &patch).await.expect(200);
        } else if n > 0 && of.1.contains("budgets") {
            client.post("/jobs/budgets/b", &json!({"cost": 9})).await.expect(200);
        }
        let status = if of.1.ends_with("retry") { "status=scheduled&" } else { "" };
        let trial = call(&client, &of, &format!("{status}dry_run=true")).await.expect(200);
        assert_eq!(
            (&trial["matched"], trial["sample"].as_array().unwrap().len()),
            (&json!(300), 5),
            "{of:?}"
        );
        let (progress, last) =
            Live::open(call(&client, &of, &format!("{status}dry_run=true"))).await.finish().await;
        assert_eq!(last, ("done".to_owned(), trial), "{of:?}");
        let figures = progress.last().unwrap();
        assert_eq!((&figures["matched"], &figures["changed"]), (&json!(300), &json!(0)), "{of:?}");
        let frozen = format!("{status}until={}", ids[200]);
        let (progress, last) = Live::open(call(&client, &of, &frozen)).await.finish().await;
        let mut expected = json!({of.3: 200});
        if of.1.contains("budgets") {
            expected["blocked"] = json!([]);
        }
        assert_eq!(last, ("done".to_owned(), expected.clone()), "{of:?}");
        assert_eq!(
            progress.last(),
            Some(&json!({"looked_at": 200, "matched": 200, "changed": 200})),
            "{of:?}"
        );
        // Whoever accepts both is answered as ever.
        let both = call(&client, &of, "id=0000000000000000000000000")
            .header("accept", "text/event-stream, application/json");
        expected[of.3] = json!(0);
        assert_eq!(both.await.expect(200), expected, "{of:?}");
        let refused = call(&client, &of, "").header("accept", "text/html").await.expect(406);
        let supported = json!(["application/msgpack", "application/json", "text/event-stream"]);
        assert_eq!(refused["supported"], supported, "{of:?}");
        // What is wrong with the request itself is said at once.
        let wrong = call(&client, &of, "unknown=1").header("accept", "text/event-stream").await;
        wrong.expect_refusal(400, "unknown");
        client.delete("/jobs").await.expect(200);
    }
}

#[tokio::test]
async fn a_dry_run_of_bindings_creates_nothing_and_refuses_what_the_call_refuses() {
    let server = Server::start().await;
    let client = server.client();
    add(&client, 3, |n| json!(n)).await;
    let policy = json!({"allocation": 2, "strategy": {"type": "while_in_flight"}});
    for method in [Method::POST, Method::PUT] {
        let bind = |query: &str, body: Value| {
            client.call(method.clone(), &format!("/jobs/budgets/new?{query}")).value(&body)
        };
        let trial = bind("dry_run=true", json!({"create_with": policy})).await.expect(200);
        assert_eq!((&trial["matched"], trial.get("changed")), (&json!(3), None), "{trial}");
        client.get("/budgets/new").await.expect_refusal(404, "new");
        bind("dry_run=true", json!({})).await.expect_refusal(422, "no budget has the key `new`");
        // What is refused has created nothing either.
        for (query, why) in [("filter=.[", "filter"), ("filter=1", "true or false"), ("limit=x", "limit")] {
            bind(query, json!({"create_with": policy})).await.expect_refusal(400, why);
            client.get("/budgets/new").await.expect_refusal(404, "new");
        }
        let costly = json!({"cost": 3, "create_with": policy});
        bind("dry_run=true", costly).await.expect_refusal(422, "cost: 3 is more");
    }
    client.delete("/jobs/budgets/new?dry_run=true").await.expect_refusal(404, "new");
    client.patch("/jobs/budgets/new?dry_run=true", &json!({"cost": 1})).await.expect_refusal(404, "new");
    assert_eq!(client.count("budgets.key=new").await, 0);
    client.post("/jobs/budgets/new?queue=nobody", &json!({"create_with": policy})).await.expect(200);
    client.get("/budgets/new").await.expect(200);
    client.post("/jobs/budgets/new", &json!({"create_with": policy})).await.expect(200);
    client
        .patch("/jobs/budgets/new?dry_run=true", &json!({"cost": 3}))
        .await
        .expect_refusal(422, "cost: 3 is more");
    let trial = client.delete("/jobs/budgets?dry_run=true").await.expect(200);
    assert_eq!((&trial["matched"], client.count("budgets.key=new").await), (&json!(3), 3));
}

#[tokio::test]
async fn a_change_without_progress_sends_heartbeats() {
    let server = Server::with(["--filter-timeout", "60s", "--heartbeat-interval", "300ms"]).await;
    let client = server.client();
    add(&client, 1, |n| json!(n)).await;
    let endless = format!("filter={}", encoded("def f: f; f"));
    let mut live = Live::open(client.delete(&format!("/jobs?{endless}"))).await;
    let mut told = 0;
    for _ in 0..3 {
        loop {
            match live.0.item().await.expect("no end") {
                sse::Item::Comment(comment) => {
                    assert_eq!(comment, "heartbeat");
                    break;
                }
                sse::Item::Event { event, .. } => {
                    assert_eq!(event, "progress");
                    told += 1;
                }
                sse::Item::Retry(ms) => panic!("retry: {ms}"),
            }
        }
    }
    // Nothing, and one job looked at.
    assert!(told <= 2, "{told} times the same");
    drop(live);
    assert_eq!(settled(&client, "").await, 1);
}

#[tokio::test]
async fn a_filter_that_is_no_condition_is_an_error_before_anything_is_changed() {
    let server = Server::start().await;
    let client = server.client();
    client
        .post("/budgets/b", &json!({"allocation": 9, "strategy": {"type": "while_in_flight"}}))
        .await
        .expect(201);
    add(&client, 500, |n| if n == 499 { json!({"x": "yes"}) } else { json!({"x": true}) }).await;
    for of in calls().iter().filter(|of| !of.1.ends_with("retry")) {
        let query = format!("filter={}", encoded(".x"));
        let (_, (event, body)) = Live::open(call(&client, of, &query)).await.finish().await;
        assert_eq!(
            (event.as_str(), &body["code"], &body["changed"]),
            ("error", &json!("filter_failed"), &json!(0))
        );
        assert!(body["error"].as_str().unwrap().contains("gives a string"), "{body}");
        let plain = call(&client, of, &query).await;
        assert_eq!(plain.clone().expect(422), body, "the same in a plain answer");
    }
    assert_eq!(client.count("priority=32768").await, 500);
    assert_eq!(client.count("budgets.key=b").await, 0);
    let query = format!("filter={}", encoded(".x |"));
    let (_, (event, body)) = Live::open(client.delete(&format!("/jobs?{query}"))).await.finish().await;
    assert_eq!((event.as_str(), &body["code"]), ("error", &json!("invalid_filter")));
}

#[tokio::test]
async fn a_closed_request_stops_the_change() {
    let server =
        Server::with(["--enqueue-commit-mode", "buffered", "--default-commit-mode", "buffered"]).await;
    let client = server.client();
    add(&client, 40_000, |n| json!(n)).await;
    let mut live = Live::open(client.delete("/jobs?queue=q")).await;
    live.progress(|figures| figures["changed"].as_u64().unwrap() > 0).await;
    drop(live);
    let left = settled(&client, "").await;
    assert!((1..40_000).contains(&left), "{left} are left");
    // The plain call stops as well.
    let plain = {
        let client = client.clone();
        tokio::spawn(async move { client.patch("/jobs?queue=q", &json!({"priority": 1})).await })
    };
    until("the first changes", async || (client.count("priority=1").await > 0).then_some(())).await;
    plain.abort();
    let changed = settled(&client, "priority=1").await;
    assert!((1..left).contains(&changed), "{changed} of {left} were changed");
}

#[tokio::test]
async fn a_request_that_is_closed_while_it_sifts_changes_nothing() {
    let server = Server::with(["--filter-timeout", "60s", "--enqueue-commit-mode", "buffered"]).await;
    let client = server.client();
    add(&client, 3_000, |n| json!(n)).await;
    let slow = format!("filter={}", encoded("last(range(5000)) >= 0"));
    let mut live = Live::open(client.delete(&format!("/jobs?{slow}"))).await;
    let figures = live.progress(|figures| figures["matched"].as_u64().unwrap() > 100).await;
    assert_eq!(figures["changed"], 0, "all are looked at before one is changed");
    drop(live);
    assert_eq!(settled(&client, "").await, 3_000);
}

#[tokio::test]
async fn a_change_that_a_shutdown_ends_says_how_far_it_has_come() {
    let mut server =
        Server::with(["--enqueue-commit-mode", "buffered", "--default-commit-mode", "buffered"]).await;
    let client = server.client();
    add(&client, 40_000, |n| json!(n)).await;
    let mut live = Live::open(client.delete("/jobs?queue=q")).await;
    live.progress(|figures| figures["changed"].as_u64().unwrap() > 0).await;
    server.process().signal(rustix::process::Signal::TERM);
    let (_, (event, body)) = live.finish().await;
    assert_eq!((event.as_str(), &body["code"]), ("error", &json!("draining")), "{body}");
    server.process().ended().await;
    server.restart().await;
    assert_eq!(body["changed"], 40_000 - server.client().count("").await, "{body}");
}

#[tokio::test]
async fn a_slow_filter_tells_its_progress() {
    let server = Server::with(["--filter-timeout", "60s", "--enqueue-commit-mode", "buffered"]).await;
    let client = server.client();
    add(&client, 1_500, |n| json!(n)).await;
    let slow = format!("filter={}", encoded("last(range(5000)) >= 0"));
    let trial = client.delete(&format!("/jobs?{slow}&dry_run=true"));
    let (progress, (event, body)) = Live::open(trial).await.finish().await;
    assert_eq!((event.as_str(), &body["deleted"]), ("done", &json!(1_500)));
    let matched: Vec<u64> = progress.iter().map(|figures| figures["matched"].as_u64().unwrap()).collect();
    assert!(matched.is_sorted() && matched.iter().any(|n| (1..1_500).contains(n)), "{matched:?}");
}
