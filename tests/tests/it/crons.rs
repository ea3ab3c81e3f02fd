//! Recurring jobs: groups, entries, and what they enqueue.

use http::Method;
use serde_json::{Value, json};
use tests::wait::{now_ms, until};
use tests::{Answer, Client, Server, Wire, id};

const HOUR_MS: u64 = 3_600_000;

fn job(queue: &str) -> Value {
    json!({"queue": queue, "type": "t", "payload": {"n": 1}})
}

fn entry(name: &str, expression: &str, queue: &str) -> Value {
    json!({"name": name, "expression": expression, "job": job(queue)})
}

async fn call(client: &Client, method: Method, path: &str, body: &Value) -> Answer {
    client.call(method, path).value(body).await
}

async fn put(client: &Client, group: &str, entries: Value) -> Value {
    call(client, Method::PUT, &format!("/crons/{group}"), &json!({"entries": entries})).await.expect(200)
}

fn ms(value: &Value, member: &str) -> u64 {
    value[member].as_u64().unwrap_or_else(|| panic!("no {member} in {value}"))
}

#[tokio::test]
async fn groups_and_entries_come_and_go() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        assert_eq!(client.get("/crons").await.expect(200), json!({"crons": []}));
        client.get("/crons/g").await.expect_refusal(404, "`g`");
        let group =
            put(&client, "g", json!([entry("b", "0 * * * *", "q"), entry("a", "30 0 3 * * *", "q")])).await;
        assert_eq!(
            (&group["name"], &group["paused"], group.get("timezone")),
            (&json!("g"), &json!(false), None)
        );
        let names: Vec<&Value> = group["entries"].as_array().unwrap().iter().map(|e| &e["name"]).collect();
        assert_eq!(names, ["b", "a"], "in the order they were given");
        let b = &group["entries"][0];
        assert_eq!(
            (&b["expression"], &b["paused"], &b["job"]),
            (&json!("0 * * * *"), &json!(false), &job("q"))
        );
        let next = ms(b, "next_enqueue_at");
        assert!(next.is_multiple_of(HOUR_MS) && next > now_ms() - 60_000 && next <= now_ms() + HOUR_MS);
        assert_eq!(b.get("last_enqueue_at"), None);
        assert_eq!(client.get("/crons/g").await.expect(200), group);
        assert_eq!(client.get("/crons/g/entries/b").await.expect(200), *b);

        let added =
            call(&client, Method::POST, "/crons/g/entries", &entry("c", "* * * * *", "q")).await.expect(201);
        assert_eq!(added["name"], "c");
        let again = call(&client, Method::POST, "/crons/g/entries", &entry("c", "1 * * * *", "q")).await;
        again.expect_refusal(409, "`c`");
        let mut changed = entry("c", "1 * * * *", "q");
        changed["job"]["priority"] = json!(7);
        let changed = call(&client, Method::PUT, "/crons/g/entries/c", &changed).await.expect(200);
        assert_eq!((&changed["expression"], &changed["job"]["priority"]), (&json!("1 * * * *"), &json!(7)));
        client.delete("/crons/g/entries/c").await.expect_nothing();
        for missing in ["/crons/g/entries/c", "/crons/x/entries/c", "/crons/x"] {
            client.get(missing).await.expect_refusal(404, "no");
            client.delete(missing).await.expect_refusal(404, "no");
            call(&client, Method::PATCH, missing, &json!({"paused": true})).await.expect_refusal(404, "no");
        }
        client.poke("/crons/g/entries/c/run").await.expect_refusal(404, "`c`");

        put(&client, "other", json!([])).await;
        assert_eq!(client.get("/crons").await.expect(200), json!({"crons": ["g", "other"]}));
        client.delete("/crons/other").await.expect_nothing();
        call(&client, Method::PUT, "/crons/a%2Fb/entries/x%20y", &entry("x y", "* * * * *", "q"))
            .await
            .expect(200);
        assert_eq!(client.delete("/crons").await.expect(200), json!({"deleted": 2}));
        put(&client, "g", json!([])).await;
        client.poke("/reset").await.expect_nothing();
        assert_eq!(client.get("/crons").await.expect(200), json!({"crons": []}));
    }
}

#[tokio::test]
async fn bad_entries_are_refused_by_their_names_and_change_nothing() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let before = put(&client, "g", json!([entry("good", "0 0 1 1 *", "q")])).await;
        let with = |member: &str, value: Value| {
            let mut bad = entry("bad", "* * * * *", "q");
            bad[member] = value;
            bad
        };
        let with_job = |member: &str, value: Value| {
            let mut bad = entry("bad", "* * * * *", "q");
            bad["job"][member] = value;
            bad
        };
        for (bad, status, names) in [
            (with("expression", json!("61 * * * *")), 400, "entry `bad`: expression: `61 * * * *`"),
            (with("expression", json!("* * *")), 400, "entry `bad`: expression: `* * *`"),
            (with("expression", json!("")), 400, "entry `bad`: expression: ``"),
            (with("expression", json!(5)), 400, "expression"),
            (with("timezone", json!("Mars/Olympus")), 400, "entry `bad`: timezone: `Mars/Olympus`"),
            (with("paused", json!("yes")), 400, "paused"),
            (with("name", json!("")), 400, "name"),
            (with("name", json!("a,b")), 400, "name"),
            (with("job", json!(7)), 400, "entry `bad`: job:"),
            (with("job", json!({"queue": "q", "type": "t"})), 400, "payload"),
            (with_job("queue", json!("")), 400, "entry `bad`: job.queue"),
            (with_job("ready_at", json!(5)), 400, "entry `bad`: job.ready_at"),
            (with_job("unique_while", json!("active")), 400, "entry `bad`: job.unique_while"),
            (with_job("budgets", json!([{"key": "unknown"}])), 422, "entry `bad`: job.budgets[0]"),
            (with_job("budgets", json!([{"key": "k", "cost": 0}])), 422, "entry `bad`: job.budgets[0].cost"),
        ] {
            let body = json!({"entries": [entry("fine", "* * * * *", "q"), bad]});
            call(&client, Method::PUT, "/crons/g", &body).await.expect_refusal(status, names);
            call(&client, Method::POST, "/crons/g/entries", &bad).await.expect_refusal(status, names);
        }
        let twice = json!({"entries": [entry("a", "* * * * *", "q"), entry("a", "* * * * *", "q")]});
        call(&client, Method::PUT, "/crons/g", &twice).await.expect_refusal(400, "entry `a`");
        let other = entry("b", "* * * * *", "q");
        call(&client, Method::PUT, "/crons/g/entries/a", &other).await.expect_refusal(400, "`b`");
        for (body, names) in [
            (json!({}), "entries"),
            (json!({"entries": {}}), "entries"),
            (json!({"entries": [7]}), "entries[0]"),
            (json!({"entries": [], "timezone": "nowhere"}), "`nowhere`"),
            (json!({"entries": [], "paused": 1}), "paused"),
        ] {
            call(&client, Method::PUT, "/crons/g", &body).await.expect_refusal(400, names);
        }
        call(&client, Method::PATCH, "/crons/g", &json!({"timezone": "x"})).await.expect_refusal(400, "`x`");
        call(&client, Method::PATCH, "/crons/g/entries/good", &json!({})).await.expect_refusal(400, "paused");
        assert_eq!(client.get("/crons/g").await.expect(200), before);
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn an_entry_enqueues_its_job_every_second() {
    let server = Server::start().await;
    let client = server.client();
    let mut every = entry("tick", "* * * * * *", "q");
    every["job"]["priority"] = json!(7);
    every["job"]["timeout_ms"] = json!(60_000);
    put(&client, "g", json!([every])).await;
    let mut stream = client.lines("queue=q&prefetch=0").await;
    let mut times = Vec::new();
    for job in stream.next_jobs(3).await {
        assert_eq!(
            (&job["payload"], &job["priority"], &job["timeout_ms"]),
            (&json!({"n": 1}), &json!(7), &json!(60_000))
        );
        times.push(ms(&job, "ready_at"));
    }
    assert!(times.is_sorted_by(|a, b| a / 1_000 < b / 1_000), "one a second: {times:?}");
    let tick = client.get("/crons/g/entries/tick").await.expect(200);
    assert!(
        ms(&tick, "last_enqueue_at") >= times[2]
            && ms(&tick, "next_enqueue_at") > ms(&tick, "last_enqueue_at")
    );
}

#[tokio::test]
async fn a_paused_entry_enqueues_nothing_and_keeps_its_schedule() {
    let server = Server::start().await;
    let client = server.client();
    let mut resting = entry("rests", "* * * * * *", "a");
    resting["paused"] = json!(true);
    let group = put(&client, "g", json!([resting, entry("runs", "* * * * * *", "b")])).await;
    let first = ms(&group["entries"][0], "next_enqueue_at");
    assert!(group["entries"][0]["paused_at"].as_u64().is_some());
    client.poll_one("b").await;
    until("the clock of the resting entry to go on", async || {
        let rests = client.get("/crons/g/entries/rests").await.expect(200);
        (ms(&rests, "next_enqueue_at") > first && rests.get("last_enqueue_at").is_none()).then_some(())
    })
    .await;
    assert_eq!(client.count("queue=a").await, 0);
    let rest = async |path: &str, paused: bool| {
        call(&client, Method::PATCH, path, &json!({"paused": paused})).await.expect(200)
    };
    let resumed = rest("/crons/g/entries/rests", false).await;
    assert_eq!((&resumed["paused"], resumed["resumed_at"].as_u64().is_some()), (&json!(false), true));
    client.poll_one("a").await;
    // The group rests: so do all of its entries, though they do not say so themselves.
    let group = rest("/crons/g", true).await;
    assert_eq!((&group["paused"], &group["entries"][0]["paused"]), (&json!(true), &json!(false)));
    let since = ms(&group, "paused_at");
    let count = client.count("").await;
    client.let_pass(1_300).await;
    assert_eq!(client.count("").await, count);
    assert_eq!(ms(&rest("/crons/g", true).await, "paused_at"), since, "it rested already");
    assert!(ms(&rest("/crons/g", false).await, "resumed_at") >= since);
    until("the entries to go on", async || (client.count("").await > count).then_some(())).await;
}

#[tokio::test]
async fn a_put_keeps_what_has_not_changed() {
    let server = Server::start().await;
    let client = server.client();
    let entries = json!([entry("a", "* * * * * *", "q"), entry("b", "0 0 1 1 *", "q")]);
    put(&client, "g", entries.clone()).await;
    call(&client, Method::PATCH, "/crons/g", &json!({"paused": true})).await.expect(200);
    call(&client, Method::PATCH, "/crons/g/entries/b", &json!({"paused": true})).await.expect(200);
    client.poke("/crons/g/entries/b/run").await.expect(201);
    let before = client.get("/crons/g").await.expect(200);
    let again = put(&client, "g", entries).await;
    assert_eq!((&again["paused"], &again["entries"][1]), (&before["paused"], &before["entries"][1]));
    // Another zone means other times; another job does not.
    let mut moved = entry("b", "0 0 1 1 *", "q");
    moved["job"]["payload"] = json!(2);
    let same = put(&client, "g", json!([moved])).await;
    assert_eq!(same["entries"][0]["next_enqueue_at"], before["entries"][1]["next_enqueue_at"]);
    assert_eq!(same["entries"][0]["last_enqueue_at"], before["entries"][1]["last_enqueue_at"]);
    let body = json!({"entries": [moved], "timezone": "Pacific/Kiritimati", "paused": false});
    let zoned = call(&client, Method::PUT, "/crons/g", &body).await.expect(200);
    let earlier =
        ms(&before["entries"][1], "next_enqueue_at").abs_diff(ms(&zoned["entries"][0], "next_enqueue_at"));
    assert!(earlier >= 2 * HOUR_MS, "fourteen hours ahead of UTC, but {earlier} ms between them");
    assert_eq!((&zoned["timezone"], &zoned["paused"]), (&json!("Pacific/Kiritimati"), &json!(false)));
    // The zone of the entry counts before that of its group.
    moved["timezone"] = json!("UTC");
    let own = call(&client, Method::PUT, "/crons/g/entries/b", &moved).await.expect(200);
    assert_eq!(ms(&own, "next_enqueue_at") % (24 * HOUR_MS), 0);
    let cleared = call(&client, Method::PATCH, "/crons/g", &json!({"timezone": null})).await.expect(200);
    assert_eq!(cleared.get("timezone"), None);
}

#[tokio::test]
async fn the_server_has_a_zone_of_its_own() {
    let server = Server::with(["--timezone", "Asia/Tokyo"]).await;
    let client = server.client();
    let group = put(&client, "g", json!([entry("a", "0 0 * * *", "q")])).await;
    assert_eq!(ms(&group["entries"][0], "next_enqueue_at") % (24 * HOUR_MS), 15 * HOUR_MS);
}

#[tokio::test]
async fn run_enqueues_now_and_unique_keys_count() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let mut unique = entry("a", "0 0 1 1 *", "q");
        unique["job"]["unique_key"] = json!("k");
        unique["paused"] = json!(true);
        put(&client, "g", json!([unique])).await;
        let asked = now_ms();
        let run = client.poke("/crons/g/entries/a/run").await.expect(201);
        assert_eq!(
            (&run["status"], &run["duplicate"], run.get("payload")),
            (&json!("ready"), &json!(false), None)
        );
        let again = client.poke("/crons/g/entries/a/run").await.expect(200);
        assert_eq!((id(&again), &again["duplicate"]), (id(&run), &json!(true)));
        assert!(ms(&client.get("/crons/g/entries/a").await.expect(200), "last_enqueue_at") + 60_000 >= asked);
        client.poke("/reset").await.expect_nothing();
    }
    let client = server.client();
    let mut unique = entry("a", "* * * * * *", "q");
    unique["job"]["unique_key"] = json!("k");
    put(&client, "g", json!([unique])).await;
    until("the first to come", async || (client.count("queue=q").await == 1).then_some(())).await;
    client.let_pass(2_200).await;
    assert_eq!(client.count("queue=q").await, 1, "the others are kept out by their key");
}

#[tokio::test]
async fn entries_draw_on_budgets_and_hold_them() {
    let server = Server::start().await;
    let client = server.client();
    let mut drawing = entry("a", "0 0 1 1 *", "q");
    let policy = json!({"allocation": 3, "strategy": {"type": "while_in_flight"}});
    drawing["job"]["budgets"] = json!([{"key": "k", "cost": 2, "create_with": policy}]);
    let group = put(&client, "g", json!([drawing])).await;
    assert_eq!(group["entries"][0]["job"]["budgets"], json!([{"key": "k", "cost": 2}]));
    client.delete("/budgets/k").await.expect_refusal(409, "cron entries");
    let patch = json!({"allocation": 1});
    call(&client, Method::PATCH, "/budgets/k", &patch).await.expect_refusal(422, "draws 2");
    let run = client.poke("/crons/g/entries/a/run").await.expect(201);
    assert_eq!(run["budgets"], json!([{"key": "k", "cost": 2}]));
    client.delete("/crons/g").await.expect_nothing();
    client.delete(&format!("/jobs/{}", id(&run))).await.expect_nothing();
    client.delete("/budgets/k").await.expect_nothing();
}

#[tokio::test]
async fn what_was_missed_while_the_server_was_down_comes_once() {
    let mut server = Server::start().await;
    let client = server.client();
    let mut resting = entry("rests", "* * * * * *", "b");
    resting["paused"] = json!(true);
    let body = json!({"entries": [entry("tick", "* * * * * *", "a"), resting], "timezone": "Europe/Berlin"});
    call(&client, Method::PUT, "/crons/g", &body).await.expect(200);
    until("the first to come", async || (client.count("queue=a").await > 0).then_some(())).await;
    for clean in [false, true] {
        let count = client.count("queue=a").await;
        if clean {
            server.sigterm().await;
        } else {
            server.kill9().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(3_500)).await;
        server.restart().await;
        let group = client.get("/crons/g").await.expect(200);
        assert_eq!(
            (&group["timezone"], &group["entries"][1]["paused"]),
            (&json!("Europe/Berlin"), &json!(true))
        );
        // At once what was missed, and then one a second.
        let after = until("what was missed to come", async || {
            let after = client.count("queue=a").await;
            (after > count).then_some(after)
        })
        .await;
        assert!(after <= count + 3, "{count} before, {after} right after");
        assert_eq!(client.count("queue=b").await, 0);
    }
}

#[tokio::test]
async fn entries_show_their_next_times() {
    const DAY_MS: u64 = 24 * HOUR_MS;
    let server = Server::start().await;
    let client = server.client();
    let entries = json!([entry("daily", "0 0 * * *", "q")]);
    let group = json!({"timezone": "Asia/Tokyo", "entries": entries});
    call(&client, Method::PUT, "/crons/g", &group).await.expect(200);
    let shown = client.get("/crons/g?next=3").await.expect(200);
    let first = ms(&shown["entries"][0], "next_enqueue_at");
    assert_eq!(first % DAY_MS, 15 * HOUR_MS, "midnight in Tokyo");
    assert_eq!(shown["entries"][0]["next"], json!([first, first + DAY_MS, first + 2 * DAY_MS]));
    let alone = client.get("/crons/g/entries/daily?next=1").await.expect(200);
    assert_eq!(alone["next"], json!([first]));
    assert_eq!(client.get("/crons/g/entries/daily").await.expect(200).get("next"), None);
    for wrong in ["/crons/g?next=0", "/crons/g?next=11", "/crons/g/entries/daily?next=x"] {
        client.get(wrong).await.expect_refusal(400, "next");
    }
}
