//! What jobs have in common.

use protocol::media::Format;
use serde_json::{Value, json};
use tests::{Client, Http, Server, Wire, id};

const FORMATS: [Wire; 2] =
    [Wire { format: Format::Json, http: Http::One }, Wire { format: Format::MessagePack, http: Http::Two }];

/// Adds a job, and fails it for good where there is an error.
async fn dead(client: &Client, queue: &str, kind: &str, error: Option<(&str, Option<&str>)>) -> String {
    let job = json!({"queue": queue, "type": kind, "payload": null});
    let job = client.enqueue(&job).await;
    if let Some((message, error_type)) = error {
        let taken = client.poll_one(queue).await;
        let mut failure = json!({"message": message, "kill": true});
        if let Some(error_type) = error_type {
            failure["error_type"] = json!(error_type);
        }
        client.fail(&taken, &failure).await;
    }
    id(&job).to_owned()
}

/// Groups, without the times of their errors.
async fn groups(client: &Client, query: &str) -> Value {
    let mut groups = client.get(&format!("/jobs/groups?{query}")).await.expect(200);
    for group in groups["groups"].as_array_mut().unwrap() {
        let group = group.as_object_mut().unwrap();
        let times = ["first_error_at", "last_error_at"].map(|name| group.remove(name));
        assert!(times[0].is_some() == times[1].is_some(), "{times:?}");
    }
    groups
}

#[tokio::test]
async fn jobs_are_grouped_largest_first() {
    let server = Server::start().await;
    for wire in FORMATS {
        let client = server.client_as(wire);
        let mut ids = Vec::new();
        for (queue, kind, error) in [
            ("a", "x", Some(("no user 17", Some("Missing")))),
            ("a", "y", Some(("timed out after 30s", Some("Timeout")))),
            ("b", "x", Some(("no user 4711", Some("Missing")))),
            ("b", "x", Some(("no user \"bob\"", Some("Missing")))),
            ("c", "z", Some(("no user 5", None))),
        ] {
            ids.push(dead(&client, queue, kind, error).await);
        }
        ids.push(dead(&client, "d", "x", None).await);
        let group = |key: Value, count: u64, newest: usize, sample: Option<&str>| {
            let mut group = json!({"key": key, "count": count, "newest_id": ids[newest]});
            if let Some(sample) = sample {
                group["sample"] = json!(sample);
            }
            group
        };
        let whole = |groups: Vec<Value>, looked_at: u64| json!({"groups": groups, "other": 0, "looked_at": looked_at, "exact": true});
        let bob = Some("no user \"bob\"");
        let expected = vec![
            group(json!("Missing"), 3, 3, bob),
            group(Value::Null, 1, 4, Some("no user 5")),
            group(json!("Timeout"), 1, 1, Some("timed out after 30s")),
        ];
        assert_eq!(groups(&client, "by=error_type&status=dead").await, whole(expected, 5));
        let expected = vec![
            group(json!("no user <n>"), 3, 4, Some("no user 5")),
            group(json!("no user <text>"), 1, 3, bob),
            group(json!("timed out after <n>s"), 1, 1, Some("timed out after 30s")),
        ];
        assert_eq!(groups(&client, "by=message&status=dead").await, whole(expected, 5));
        let expected = vec![
            group(json!("x"), 4, 5, None),
            group(json!("z"), 1, 4, Some("no user 5")),
            group(json!("y"), 1, 1, Some("timed out after 30s")),
        ];
        assert_eq!(groups(&client, "by=type").await, whole(expected, 6));
        let expected = vec![group(json!("a"), 2, 1, Some("timed out after 30s"))];
        assert_eq!(groups(&client, "by=queue&queue=a").await, whole(expected, 2));
        let expected = vec![group(Value::Null, 1, 5, None)];
        assert_eq!(groups(&client, "by=message&status=ready").await, whole(expected.clone(), 1));
        assert_eq!(
            groups(&client, "by=error_type&status=ready&filter=.%20==%20null").await,
            whole(expected, 1)
        );
        assert_eq!(groups(&client, "by=type&queue=nobody").await, whole(vec![], 0));
        let expected = vec![group(json!("a"), 2, 1, Some("timed out after 30s"))];
        assert_eq!(groups(&client, &format!("by=queue&until={}", ids[2])).await, whole(expected, 2));
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn the_newest_are_looked_at_and_the_largest_shown() {
    let server = Server::with(["--enqueue-commit-mode", "buffered"]).await;
    let client = server.client();
    let jobs =
        (0..150).chain(140..150).map(|n| json!({"queue": "q", "type": format!("t{n}"), "payload": null}));
    let jobs = client.enqueue_all(jobs).await;
    let all = groups(&client, "by=type").await;
    assert_eq!(all["groups"].as_array().unwrap().len(), 100);
    assert_eq!((&all["other"], &all["looked_at"], &all["exact"]), (&json!(50), &json!(160), &json!(true)));
    assert_eq!(all["groups"][0], json!({"key": "t149", "count": 2, "newest_id": id(&jobs[159])}));
    for (newest, exact) in [(159, false), (160, true), (161, true), (100_000, true)] {
        let groups = groups(&client, &format!("by=queue&newest={newest}")).await;
        let looked_at = newest.min(160);
        assert_eq!(groups["groups"][0]["count"], looked_at);
        assert_eq!((&groups["looked_at"], &groups["exact"]), (&json!(looked_at), &json!(exact)));
    }
    let newest = groups(&client, "by=type&newest=3").await;
    assert_eq!(newest["groups"][2]["key"], "t147", "{newest}");
    for (query, names) in [
        ("", "by"),
        ("by=", "by"),
        ("by=status", "none of error_type, type, queue, message"),
        ("by=type&newest=0", "newest"),
        ("by=type&newest=100001", "newest"),
        ("by=type&limit=3", "limit"),
    ] {
        client.get(&format!("/jobs/groups?{query}")).await.expect_refusal(400, names);
    }
}

#[tokio::test]
async fn a_sample_is_the_beginning_of_a_long_message() {
    let server = Server::start().await;
    let client = server.client();
    let message = "ä".repeat(700);
    dead(&client, "q", "t", Some((&message, None))).await;
    let shown = groups(&client, "by=message").await;
    assert_eq!(shown["groups"][0]["sample"], "ä".repeat(100));
}

#[tokio::test]
async fn a_group_says_since_when_and_until_when_jobs_failed() {
    let server = Server::start().await;
    let client = server.client();
    let mut times = Vec::new();
    for _ in 0..3 {
        let job = dead(&client, "q", "t", Some(("no", None))).await;
        times.push(client.job(&job).await["last_error"]["at"].clone());
    }
    dead(&client, "other", "t2", None).await;
    let shown = client.get("/jobs/groups?by=type").await.expect(200);
    let [failed, fine] = [0, 1].map(|n| &shown["groups"][n]);
    assert_eq!((&failed["first_error_at"], &failed["last_error_at"]), (&times[0], &times[2]), "{shown}");
    assert_eq!(fine.get("first_error_at"), None, "{shown}");
}
