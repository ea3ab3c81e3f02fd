//! What a caller sees that is limited to some queues, or may not see payloads.

use http::Method;
use serde_json::{Value, json};
use tests::{Client, Server, id};

use super::{asking, caller, names};

/// Two jobs in each of two queues of mine, and three in one of theirs.
async fn filled() -> (Server, Client, Vec<String>) {
    let (server, admin) = asking().await;
    let job = |queue: &str, n: u32| json!({"queue": queue, "type": format!("type-of-{queue}"), "payload": {"n": n}});
    let mut ids = Vec::new();
    for queue in ["mine.a", "mine.b", "theirs"] {
        for n in 0..if queue == "theirs" { 3 } else { 2 } {
            ids.push(id(&admin.enqueue(&job(queue, n)).await).to_owned());
        }
    }
    (server, admin, ids)
}

fn queues(jobs: &Value) -> Vec<&str> {
    jobs.as_array().unwrap().iter().map(|job| job["queue"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn lists_and_counts_have_the_callers_queues_only() {
    let (server, _admin, ids) = filled().await;
    let (mine, _) = caller(&server, "mine", &["--grant", "read:mine*,payload:mine.a"]).await;
    let all = mine.get("/jobs").await.expect(200);
    assert_eq!(queues(&all["jobs"]), ["mine.a", "mine.a", "mine.b", "mine.b"]);
    for job in all["jobs"].as_array().unwrap() {
        let shows = job["queue"] == "mine.a";
        assert_eq!((job.get("payload").is_some(), job.get("hidden").is_none()), (shows, shows), "{job}");
    }
    let link = all["pages"]["self"].as_str().unwrap();
    assert!(!link.contains("queue="), "{link}");
    for id in &ids[4..] {
        mine.get(&format!("/jobs/{id}")).await.expect_refusal(404, "no job has the id");
    }
    let by_id = mine.get(&format!("/jobs?id={}", ids.join(","))).await.expect(200);
    assert_eq!(queues(&by_id["jobs"]).len(), 4);
    assert_eq!(mine.count("").await, 4);
    assert_eq!(mine.count("status=ready").await, 4);
    assert_eq!(mine.count("queue=mine.b").await, 2);
    mine.get("/jobs/count?queue=theirs").await.expect_refusal(403, "`theirs` is not one of the queues");
    let groups = mine.get("/jobs/groups?by=queue").await.expect(200);
    assert_eq!(groups["looked_at"], 4);
    assert!(!groups.to_string().contains("theirs"));
    // jq reads payloads.
    mine.get("/jobs?filter=.n%20==%201").await.expect_refusal(403, "jq reads payloads");
    mine.get("/jobs?queue=mine.b&filter=.n%20==%201").await.expect_refusal(403, "jq reads payloads");
    let sifted = mine.get("/jobs?queue=mine.a&filter=.n%20==%201").await.expect(200);
    assert_eq!(queues(&sifted["jobs"]), ["mine.a"]);
}

#[tokio::test]
async fn statistics_are_about_the_callers_queues_only() {
    let (server, admin, _) = filled().await;
    let (mine, _) = caller(&server, "mine", &["--role", "viewer", "--queue", "mine*"]).await;
    assert_eq!(names(&mine.get("/queues").await.expect(200)["queues"]), ["mine.a", "mine.b"]);
    assert_eq!(names(&mine.get("/queues?details=true&order=ready").await.expect(200)["queues"]).len(), 2);
    let stats = mine.get("/stats").await.expect(200);
    assert_eq!((&stats["totals"]["ready"], &stats["queues"]), (&json!(4), &json!(2)));
    assert_eq!((stats.get("disk"), stats.get("memory")), (None, None));
    assert_eq!(admin.get("/stats").await.expect(200)["totals"]["ready"], 7);
    mine.get("/stats/history").await.expect_refusal(403, "without `queue`");
    mine.get("/stats/history?range=3h&queue=theirs").await.expect_refusal(403, "for the queue `theirs`");
    mine.get("/queues/theirs").await.expect_refusal(403, "for the queue `theirs`");
    mine.get("/metrics").header("accept", "text/plain").await;
    // A typo is not answered with the name of a foreign queue.
    let typo = mine.get("/queues/mine.theirz").await.expect(200);
    assert!(!typo.to_string().contains("theirs"), "{typo}");
    let mut all = admin.events("prefetch=1").await;
    let mut some = admin.events("queue=mine.a,theirs&prefetch=1").await;
    let mut other = admin.events("queue=theirs&prefetch=1").await;
    for stream in [&mut all, &mut some, &mut other] {
        stream.next_job().await;
    }
    let workers = mine.get("/workers").await.expect(200)["workers"].clone();
    let mut shown: Vec<(Value, bool)> = workers
        .as_array()
        .unwrap()
        .iter()
        .map(|worker| (worker["queues"].clone(), worker.get("in_flight").is_some()))
        .collect();
    shown.sort_by_key(|(queues, _)| queues.to_string());
    assert_eq!(shown, [(json!(["mine.a"]), false), (json!([]), false)]);
    mine.get("/workers?queue=theirs").await.expect_refusal(403, "theirs");
}

#[tokio::test]
async fn bulk_changes_touch_the_callers_queues_only() {
    let (server, admin, ids) = filled().await;
    let grants = ["--grant", "operate:mine*,read:mine*"];
    let (mine, _) = caller(&server, "mine", &grants).await;
    let dry = mine.delete("/jobs?dry_run=true").await.expect(200);
    assert_eq!(dry["matched"], 4);
    assert!(dry.get("scope").is_none() && !dry.to_string().contains("theirs"), "{dry}");
    assert!(
        dry["sample"]
            .as_array()
            .unwrap()
            .iter()
            .all(|job| job["hidden"] == true && job.get("payload").is_none())
    );
    mine.delete("/jobs?queue=mine.a,theirs").await.expect_refusal(403, "theirs");
    mine.delete("/jobs?filter=true").await.expect_refusal(403, "jq reads payloads");
    let by_id = mine.patch(&format!("/jobs?id={}", ids.join(",")), &json!({"priority": 5})).await.expect(200);
    assert_eq!(by_id["patched"], 4);
    mine.patch("/jobs", &json!({"queue": "theirs"})).await.expect_refusal(403, "theirs");
    mine.patch(&format!("/jobs/{}", ids[0]), &json!({"queue": "theirs"})).await.expect_refusal(403, "theirs");
    mine.patch(&format!("/jobs/{}", ids[0]), &json!({"queue": "mine.c"})).await.expect(200);
    assert_eq!(mine.delete("/jobs").await.expect(200)["deleted"], 4);
    assert_eq!(admin.count("").await, 3);
}

#[tokio::test]
async fn events_are_about_the_callers_queues_only() {
    use http_body_util::BodyExt;
    let (server, admin, _) = filled().await;
    let (mine, _) = caller(&server, "mine", &["--role", "viewer", "--queue", "mine*"]).await;
    mine.get("/events?queue=theirs").header("accept", "*/*").await.expect_refusal(403, "theirs");
    let mut events = mine.get("/events").header("accept", "text/event-stream").response().await;
    assert_eq!(events.status(), 200);
    let mut seen = String::new();
    let mut next = async |until: &str| {
        while !seen.contains(until) {
            let frame = tests::wait::within("an event", events.body_mut().frame()).await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        seen.clone()
    };
    next(":").await;
    admin.add("theirs").await;
    // A queue that there was not when it began to listen.
    admin.add("mine.new").await;
    let seen = next("mine.new").await;
    assert!(!seen.contains("theirs"), "{seen}");
}

#[tokio::test]
async fn a_worker_takes_from_the_queues_it_may() {
    let (server, admin, _) = filled().await;
    let (exact, _) = caller(&server, "exact", &["--role", "worker", "--queue", "mine.a,mine.b"]).await;
    let (pattern, _) = caller(&server, "pattern", &["--role", "worker", "--queue", "mine*"]).await;
    let jobs = exact.poll(&json!({"limit": 10})).await;
    assert_eq!(queues(&json!(jobs)), ["mine.a", "mine.a", "mine.b", "mine.b"]);
    assert!(jobs.iter().all(|job| job.get("payload").is_some()), "a worker needs the payloads of its jobs");
    pattern.post("/jobs/take", &json!({})).await.expect_refusal(403, "may take from mine*");
    pattern.get("/jobs/take").header("accept", "*/*").await.expect_refusal(403, "may take from mine*");
    // What it holds, it may look at.
    let job = &jobs[0];
    assert_eq!(exact.get(&format!("/jobs/{}", id(job))).await.expect(200)["payload"], job["payload"]);
    pattern.get(&format!("/jobs/{}", id(job))).await.expect_refusal(404, "no job has the id");
    let failed = json!({"message": "no", "backtrace": "at line 1"});
    exact.fail(job, &failed).await;
    exact.get(&format!("/jobs/{}", id(job))).await.expect_refusal(404, "no job has the id");
    let errors = |caller: Client, id: String| async move {
        caller.get(&format!("/jobs/{id}/errors")).await.expect(200)
    };
    let shown = errors(admin, id(job).to_owned()).await;
    assert_eq!(shown["errors"][0]["backtrace"], "at line 1");
    let (viewer, _) = caller(&server, "viewer", &["--role", "viewer"]).await;
    let shown = errors(viewer, id(job).to_owned()).await;
    assert_eq!((&shown["errors"][0]["message"], shown["errors"][0].get("backtrace")), (&json!("no"), None));
}

#[tokio::test]
async fn a_producer_follows_its_jobs_and_waits_for_results() {
    let (server, admin, ids) = filled().await;
    let (producer, _) = caller(&server, "p", &["--role", "producer", "--queue", "mine*"]).await;
    let job = producer.get(&format!("/jobs/{}", ids[0])).await.expect(200);
    assert_eq!((&job["hidden"], job.get("payload")), (&json!(true), None));
    producer.get(&format!("/jobs/{}", ids[6])).await.expect_refusal(404, "no job has the id");
    producer.get("/jobs").await.expect_refusal(403, "needs the grant `read`");
    let waiting = tokio::spawn(async move {
        let job =
            json!({"queue": "mine.rpc", "type": "t", "payload": 1, "retention": {"completed_ms": 60_000}});
        producer.post("/jobs?wait_ms=30000", &job).await
    });
    let held = admin.poll_one("mine.rpc").await;
    let done = admin.post(&format!("/jobs/{}/success", id(&held)), &json!({"result": 42}));
    done.header("zizq-lease", tests::lease(&held)).await.expect_nothing();
    assert_eq!(waiting.await.unwrap().expect(201)["result"], 42);
}

#[tokio::test]
async fn crons_belong_to_the_queues_of_their_jobs() {
    let (server, admin, _) = filled().await;
    let entry = |name: &str, queue: &str| json!({"name": name, "expression": "0 0 1 1 *", "job": {"queue": queue, "type": "t", "payload": "secret"}});
    let put = |entries: Vec<Value>| json!({"entries": entries});
    for (group, entries) in [
        ("mine", vec![entry("a", "mine.a")]),
        ("both", vec![entry("a", "mine.a"), entry("b", "theirs")]),
        ("theirs", vec![entry("b", "theirs")]),
    ] {
        admin.call(Method::PUT, &format!("/crons/{group}")).value(&put(entries)).await.expect(200);
    }
    let grants = ["--grant", "read:mine*,operate:mine*"];
    let (reader, _) = caller(&server, "reader", &grants).await;
    assert_eq!(names(&reader.get("/crons").await.expect(200)["crons"]), ["both", "mine"]);
    let both = reader.get("/crons/both").await.expect(200);
    assert_eq!(names(&both["entries"]), ["a"]);
    assert!(!both.to_string().contains("secret") && both["entries"][0]["job"]["hidden"] == true, "{both}");
    for path in ["/crons/theirs", "/crons/both/entries/b", "/crons/theirs/entries/b"] {
        reader.get(path).await.expect_refusal(404, "no");
    }
    reader.poke("/crons/both/entries/a/run").await.expect(201);
    reader.poke("/crons/both/entries/b/run").await.expect_refusal(404, "no entry");
    reader
        .patch("/crons/both", &json!({"paused": true}))
        .await
        .expect_refusal(403, "has entries of other queues, too");
    reader.patch("/crons/mine", &json!({"paused": true})).await.expect(200);
    reader
        .call(Method::PUT, "/crons/mine")
        .value(&put(vec![]))
        .await
        .expect_refusal(403, "needs the grant `configure`");
    let (writer, _) = caller(&server, "writer", &["--grant", "configure:mine*,read:mine*"]).await;
    writer
        .call(Method::PUT, "/crons/new")
        .value(&put(vec![entry("x", "theirs")]))
        .await
        .expect_refusal(403, "theirs");
    writer.call(Method::PUT, "/crons/new").value(&put(vec![entry("x", "mine.x")])).await.expect(200);
    writer
        .call(Method::PUT, "/crons/both")
        .value(&put(vec![]))
        .await
        .expect_refusal(403, "has entries of other queues");
    writer
        .call(Method::PUT, "/crons/both/entries/b")
        .value(&entry("b", "mine.a"))
        .await
        .expect_refusal(404, "no entry");
    writer.delete("/crons/theirs").await.expect_refusal(404, "no cron group");
    writer.delete("/crons").await.expect_refusal(403, "about all queues");
    writer.delete("/crons/mine").await.expect_nothing();
}

#[tokio::test]
async fn all_queues_are_those_of_the_caller_when_they_are_paused() {
    let (server, admin, _) = filled().await;
    let (mine, _) = caller(&server, "mine", &["--role", "operator", "--queue", "mine*"]).await;
    assert_eq!(mine.patch("/queues", &json!({"paused": true})).await.expect(200)["patched"], 2);
    assert_eq!(admin.get("/queues/theirs").await.expect(200)["paused"], false);
    admin.poke("/queues/theirs/pause").await.expect(200);
    assert_eq!(mine.patch("/queues", &json!({"paused": false})).await.expect(200)["patched"], 2);
    assert_eq!(admin.get("/queues/theirs").await.expect(200)["paused"], true);
}
