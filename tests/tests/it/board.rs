//! Statistics: exact, up to date, and in pages.

use protocol::frame::StreamFormat;
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Client, Item, Server, Stream, Wire, Worker, wait};

async fn names(client: &Client, query: &str) -> Vec<String> {
    let shown = client.get(&format!("/queues?{query}")).await.expect(200);
    let name = |queue: &Value| queue.as_str().or(queue["name"].as_str()).unwrap().to_owned();
    shown["queues"].as_array().unwrap().iter().map(name).collect()
}

#[tokio::test]
async fn statistics_include_everything_that_was_confirmed_before() {
    for wire in Wire::ALL {
        let server = Server::start().await;
        let client = server.client_as(wire);
        let stats = client.get("/stats").await.expect(200);
        let none = json!({"scheduled": 0, "ready": 0, "in_flight": 0, "completed": 0, "dead": 0});
        assert_eq!((&stats["totals"], &stats["queues"], &stats["workers"]), (&none, &json!(0), &json!(0)));
        assert_eq!(stats["wait_ms"], json!({"p50": null, "p95": null, "p99": null}));
        for n in 1..=20 {
            client.add("q").await;
            let stats = client.get("/stats").await.expect(200);
            assert_eq!((&stats["totals"]["ready"], &stats["queues"]), (&json!(n), &json!(1)));
        }
        let done = client.poll_one("q").await;
        client.succeed(&done).await;
        let dead = client.poll_one("q").await;
        client.fail(&dead, &json!({"message": "m", "kill": true})).await;
        let again = client.poll_one("q").await;
        client.fail(&again, &json!({"message": "m"})).await;
        client.poll_one("q").await;
        client.poke("/queues/other/pause").await.expect(200);
        let _stream = client.lines("queue=other").await;
        let stats = client.get("/stats").await.expect(200);
        let counts = json!({"scheduled": 1, "ready": 16, "in_flight": 1, "completed": 0, "dead": 1});
        assert_eq!((&stats["totals"], &stats["in_flight"]), (&counts, &json!(1)));
        assert_eq!(
            (&stats["queues"], &stats["paused"], &stats["streams"]),
            (&json!(2), &json!(1), &json!(1))
        );
        let per_minute = |flow: &str| (stats["rates"][flow]["1m"].as_f64().unwrap() * 60.0).round();
        let flows = ["enqueued", "delivered", "completed", "failed", "dead"].map(per_minute);
        assert!(
            flows.iter().zip([20.0, 4.0, 1.0, 2.0, 1.0]).all(|(seen, right)| seen <= &right),
            "{flows:?}"
        );
        assert!(flows.iter().all(|seen| *seen > 0.0), "{flows:?}");
        assert!(stats["wait_ms"]["p99"].is_u64() && stats["run_ms"]["p50"].is_u64(), "{stats}");
        assert!(stats["disk"]["free"].as_u64() > stats["disk"]["reserve"].as_u64(), "{stats}");
        assert!(stats["memory"].as_u64().unwrap() > 1_000_000, "{stats}");
    }
    let server = Server::start().await;
    let client = server.client();
    client.get("/stats?queue=q").await.expect_refusal(400, "queue");
    client.poke("/stats").await.expect_refusal(405, "GET");
}

#[tokio::test]
async fn queues_are_selected_and_ordered_and_come_in_pages() {
    let server = Server::start().await;
    let client = server.client();
    // The jobs of `mail:2` are the oldest, and it has most.
    for (queue, jobs, at) in
        [("mail:1", 2, 3_000), ("mail:2", 5, 1_000), ("mail:3", 2, 2_000), ("web", 1, 4_000)]
    {
        let job = json!({"queue": queue, "type": "t", "payload": 1, "ready_at": at});
        client.enqueue_all((0..jobs).map(|_| job.clone())).await;
    }
    client.poke("/queues/paused/pause").await.expect(200);
    let dead = client.poll_one("web").await;
    client.add("web").await;
    client.fail(&dead, &json!({"message": "m", "kill": true})).await;
    let all = ["mail:1", "mail:2", "mail:3", "web"];
    assert_eq!(names(&client, "").await, all);
    assert_eq!(names(&client, "details=true").await, ["mail:1", "mail:2", "mail:3", "paused", "web"]);
    assert_eq!(names(&client, "prefix=mail").await, all[..3]);
    assert_eq!(names(&client, "contains=:3").await, ["mail:3"]);
    assert_eq!(names(&client, "status=dead").await, ["web"]);
    assert_eq!(names(&client, "details=true&paused=true").await, ["paused"]);
    assert_eq!(
        names(&client, "paused=false&status=ready&desc=true").await,
        ["web", "mail:3", "mail:2", "mail:1"]
    );
    assert_eq!(
        names(&client, "order=ready&desc=true&status=ready").await,
        ["mail:2", "mail:3", "mail:1", "web"]
    );
    assert_eq!(names(&client, "order=oldest&desc=true&prefix=mail").await, ["mail:2", "mail:3", "mail:1"]);
    for order in ["name", "ready", "in_flight", "dead", "rate", "oldest"] {
        for desc in [false, true] {
            let query = format!("details=true&order={order}&desc={desc}");
            let whole = names(&client, &query).await;
            let (mut pages, mut next) = (Vec::new(), Some(format!("/queues?{query}&limit=2")));
            while let Some(path) = next {
                let page = client.get(&path).await.expect(200);
                assert_eq!(page["pages"]["self"], json!(path));
                let shown = page["queues"].as_array().unwrap();
                assert!(shown.len() <= 2);
                pages.extend(shown.iter().map(|queue| queue["name"].as_str().unwrap().to_owned()));
                next = page["pages"]["next"].as_str().map(str::to_owned);
            }
            assert_eq!(pages, whole, "{query}");
        }
    }
    for (wrong, about) in [
        ("order=age", "order"),
        ("limit=0", "limit"),
        ("status=done", "status"),
        ("desc=yes", "desc"),
        ("paused=", "paused"),
        ("order=ready&from=web", "from"),
        ("sort=name", "sort"),
        ("details=true&series=ready", "limit"),
        ("details=true&series=ready&limit=101", "limit"),
        ("series=ready&limit=1", "details=true"),
        ("details=true&series=size&limit=1", "series"),
    ] {
        client.get(&format!("/queues?{wrong}")).await.expect_refusal(400, about);
    }
}

#[tokio::test]
async fn the_backlog_of_a_queue_is_told_in_time() {
    let server = Server::start().await;
    let client = server.client();
    for _ in 0..30 {
        client.add("q").await;
    }
    let shown = client.get("/queues/q").await.expect(200);
    assert_eq!(shown["backlog_ms"], json!(null), "nothing has been delivered yet");
    assert!(shown["oldest_ready_ms"].as_u64().unwrap() < 60_000, "{shown}");
    for _ in 0..6 {
        let job = client.poll_one("q").await;
        client.succeed(&job).await;
    }
    let shown = client.get("/queues/q").await.expect(200);
    // Six a minute, or a little less by now, and 24 to go.
    let backlog = shown["backlog_ms"].as_u64().unwrap();
    assert!((239_000..480_000).contains(&backlog), "{shown}");
    let details = client.get("/queues?details=true").await.expect(200);
    assert!(details["queues"][0]["rates"]["completed"]["5m"].as_f64().unwrap() > 0.0, "{details}");
}

#[tokio::test]
async fn the_history_has_a_point_for_each_second() {
    let server = Server::start().await;
    let client = server.client();
    for _ in 0..3 {
        client.add("q").await;
    }
    let job = client.poll_one("q").await;
    client.succeed(&job).await;
    let sum = |history: &Value, series: &str| {
        let values = history["series"][series].as_array().unwrap();
        values.iter().filter_map(Value::as_u64).sum::<u64>()
    };
    let history = wait::until("the jobs are in the history", async || {
        let history = client.get("/stats/history?range=10m").await.expect(200);
        (sum(&history, "completed") == 1).then_some(history)
    })
    .await;
    assert_eq!((sum(&history, "enqueued"), sum(&history, "delivered")), (3, 1));
    assert_eq!(history["series"]["ready"].as_array().unwrap().last(), Some(&json!(2)));
    assert_eq!(history["step_ms"], 1_000);
    let now = client.get("/stats").await.expect(200)["now"].as_u64().unwrap();
    let points = history["series"]["ready"].as_array().unwrap().len() as u64;
    let end = history["from"].as_u64().unwrap() + points * 1_000;
    assert!(end <= now && now - end < 60_000, "{end} is just before {now}");
    let some = client.get("/stats/history?range=3h&series=ready,failed").await.expect(200);
    assert_eq!(some["series"].as_object().unwrap().keys().collect::<Vec<_>>(), ["failed", "ready"]);
    client.get("/stats/history?range=3h&queue=q").await.expect(200);
    client.get("/stats/history?range=3h&queue=nobody").await.expect_refusal(404, "history");
    client.get("/stats/history?range=10m&queue=q").await.expect_refusal(400, "range");
    client.get("/stats/history?range=1y").await.expect_refusal(400, "10m, 1h, 3h");
    client.get("/stats/history?series=size").await.expect_refusal(400, "series");
}

#[tokio::test]
async fn workers_are_selected_by_queue_and_name_and_can_be_drained() {
    let server = Server::start().await;
    let client = server.client();
    let open = async |worker: &str, queue: &str| {
        let call = client.get(&format!("/jobs/take?queue={queue}&prefetch=5")).header("worker-id", worker);
        let call = call.header("accept", "text/event-stream");
        Stream::open(StreamFormat::EventStream, call.response().await).await
    };
    let mut first = open("mailer-1", "mail").await;
    let mut second = open("mailer-1", "web").await;
    let mut other = open("other", "mail,web").await;
    let shown = async |query: &str| {
        let shown = client.get(&format!("/workers?{query}")).await.expect(200);
        let workers = shown["workers"].as_array().unwrap().clone();
        workers.iter().map(|worker| worker["worker"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown("").await, ["mailer-1", "mailer-1", "other"]);
    assert_eq!(shown("queue=web").await, ["mailer-1", "other"]);
    assert_eq!(shown("contains=oth").await, ["other"]);
    assert_eq!(shown("worker=mailer-1&queue=web").await, ["mailer-1"]);
    assert_eq!(shown("worker=mailer").await, [""; 0]);
    assert_eq!(shown("worker=").await.len(), 3);
    assert_eq!(shown("order=worker&limit=1").await, ["mailer-1"]);
    let page = client.get("/workers?queue=mail&order=worker&limit=1").await.expect(200);
    let next = page["pages"]["next"].as_str().unwrap();
    assert_eq!(client.get(next).await.expect(200)["workers"][0]["worker"], "other");
    client.get("/workers?order=age").await.expect_refusal(400, "order");

    client.poke("/workers/drain?worker=mailer-1").await.expect_nothing();
    for stream in [&mut first, &mut second] {
        assert_eq!(stream.next_message().await, Some(Item::Drain(json!({"reason": "asked"}))));
    }
    let all = client.get("/workers").await.expect(200);
    let stream =
        all["workers"].as_array().unwrap().iter().find(|worker| worker["worker"] == "other").unwrap();
    let mail = client.add("mail").await;
    assert_eq!(tests::id(&other.next_job().await), tests::id(&mail), "who is drained takes no more");
    client.poke(&format!("/workers/{}/drain", stream["stream"].as_str().unwrap())).await.expect_nothing();
    assert_eq!(other.next_message().await, Some(Item::Drain(json!({"reason": "asked"}))));
    client.add("web").await;
    let mut again = open("mailer-1", "web").await;
    again.next_job().await;
    client.poke("/workers/drain?worker=nobody").await.expect_refusal(404, "nobody");
    client.poke("/workers/0123456789ab/drain").await.expect_refusal(404, "0123456789ab");
    client.poke("/workers/drain").await.expect_refusal(400, "worker");
}

/// Takes so many new jobs of a queue. Returns the stream, and the ids of its jobs.
async fn hold(client: &Client, worker: Option<&str>, queue: &str, jobs: usize) -> (Stream, Vec<String>) {
    client.enqueue_all((0..jobs).map(|n| json!({"queue": queue, "type": "t", "payload": n}))).await;
    let call = client.get(&format!("/jobs/take?queue={queue}&prefetch=0"));
    let call = worker.into_iter().fold(call, |call, name| call.header("worker-id", name));
    let mut stream = Stream::open(StreamFormat::NdJson, call.response().await).await;
    let mut held = Vec::new();
    for _ in 0..jobs {
        held.push(tests::id(&stream.next_job().await).to_owned());
    }
    (stream, held)
}

/// The ids of the jobs of a list, page by page.
async fn listed(client: &Client, query: &str) -> Vec<String> {
    let (mut ids, mut next) = (Vec::new(), Some(format!("/jobs?{query}")));
    while let Some(page) = next {
        let page = client.get(&page).await.expect(200);
        ids.extend(page["jobs"].as_array().unwrap().iter().map(|job| tests::id(job).to_owned()));
        next = page["pages"]["next"].as_str().map(str::to_owned);
    }
    ids
}

#[tokio::test]
async fn jobs_are_listed_by_who_holds_them() {
    let server = Server::start().await;
    let client = server.client();
    let (_one, mails) = hold(&client, Some("a&b é"), "mail", 700).await;
    let (two, web) = hold(&client, Some("a&b é"), "web", 3).await;
    let (_three, nameless) = hold(&client, None, "other", 2).await;
    client.add("unheld").await;
    let both = [mails.clone(), web.clone()].concat();
    // More than the engine says at a time, page by page, in both orders.
    for limit in [2_000, 50] {
        assert_eq!(listed(&client, &format!("worker=a%26b%20%C3%A9&limit={limit}&payload=none")).await, both);
    }
    let mut reversed = listed(&client, "worker=a%26b%20%C3%A9&order=desc&limit=333").await;
    reversed.reverse();
    assert_eq!(reversed, both);
    assert_eq!(listed(&client, "worker=a%26b%20%C3%A9&queue=web&status=in_flight,ready").await, web);
    let named = format!("id={},{}&worker=a%26b%20%C3%A9", nameless[0], web[1]);
    assert_eq!(listed(&client, &named).await, web[1..2]);
    assert_eq!(listed(&client, "worker=a%26b%20%C3%A9&filter=.%3D%3D699").await, mails[699..]);
    assert_eq!(client.count("worker=a%26b%20%C3%A9").await, 703);
    let groups = client.get("/jobs/groups?by=queue&worker=a%26b%20%C3%A9").await.expect(200);
    assert_eq!((&groups["groups"][0]["count"], &groups["groups"][1]["key"]), (&json!(700), &json!("web")));
    for none in ["worker=a", "worker=a%26b%20%C3%A9&status=dead", "worker=nobody&status=ready"] {
        assert_eq!((listed(&client, none).await, client.count(none).await), (vec![], 0), "{none}");
    }
    assert_eq!(client.count("worker=").await, 706, "as with other filters that are empty");
    let workers = client.get("/workers?queue=other").await.expect(200);
    let stream = workers["workers"][0]["stream"].as_str().unwrap();
    assert_eq!(listed(&client, &format!("worker={stream}")).await, nameless);
    assert_eq!(
        client.get(&format!("/workers?worker={stream}")).await.expect(200)["workers"],
        workers["workers"]
    );
    assert_eq!(listed(&client, &format!("worker={}", stream.to_uppercase())).await, nameless);
    let busiest = client.get("/workers?order=in_flight").await.expect(200)["workers"].clone();
    let held: Vec<_> = busiest.as_array().unwrap().iter().map(|worker| &worker["in_flight"]).collect();
    assert_eq!(held, [700, 3, 2], "the busiest come first");
    // Another may have the job by the time it is changed.
    for call in [
        client.delete("/jobs?worker=a&dry_run=true"),
        client.patch("/jobs?worker=a&dry_run=true", &json!({"priority": 1})),
        client.poke("/jobs/retry?worker=a&dry_run=true"),
        client.delete("/jobs/budgets?worker=a&dry_run=true"),
    ] {
        call.await.expect_refusal(400, "list the jobs with GET /jobs?worker=");
    }
    drop(two);
    wait::until("the jobs are back", async || {
        (listed(&client, "worker=a%26b%20%C3%A9").await == mails).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_job_that_changes_hands_is_listed_with_who_has_it() {
    let server = Server::start().await;
    let client = server.client();
    client.enqueue_all((0..20).map(|n| json!({"queue": "q", "type": "t", "payload": n}))).await;
    let over = std::sync::atomic::AtomicBool::new(false);
    let is_over = || over.load(std::sync::atomic::Ordering::Relaxed);
    // Each takes what the other gives back.
    let bounce = async |worker: &str| {
        while !is_over() {
            let take = json!({"queues": ["q"], "limit": 10, "worker": worker, "wait_ms": 20});
            for job in client.poll(&take).await {
                let release = client.poke(&format!("/jobs/{}/release", tests::id(&job)));
                release.header("zizq-lease", tests::lease(&job)).await;
            }
        }
    };
    let look = async || {
        for _ in 0..200 {
            let list = client.get("/jobs?worker=a&payload=none").await.expect(200);
            for job in list["jobs"].as_array().unwrap() {
                assert_eq!(job["status"], "in_flight", "{job}");
                assert_ne!(job["worker"], "b", "{job}");
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    tokio::join!(bounce("a"), bounce("b"), look());
}

#[tokio::test]
async fn a_stream_that_is_disconnected_gives_back_its_jobs_at_once() {
    let server = Server::start().await;
    let client = server.client();
    let open = async |accept: &str, format, resumes: Option<&str>| {
        let call = client.get("/jobs/take?queue=q&prefetch=5").header("accept", accept);
        let call = call.header("user-agent", "zizq-\u{e9}worker/0.1.0");
        let call = resumes.into_iter().fold(call, |call, id| call.header("last-event-id", id));
        Stream::open(format, call.response().await).await
    };
    let stream_of = async || client.get("/workers").await.expect(200)["workers"][0]["stream"].clone();
    for (accept, format) in
        [("text/event-stream", StreamFormat::EventStream), ("application/x-ndjson", StreamFormat::NdJson)]
    {
        let mut stream = open(accept, format, None).await;
        let job = client.add("q").await;
        let held = stream.next_job().await;
        let name = stream_of().await;
        client.poke(&format!("/workers/{}/disconnect", name.as_str().unwrap())).await.expect_nothing();
        assert_eq!(stream.next_message().await, None);
        let again = client.poll_one("q").await;
        assert_eq!(tests::id(&again), tests::id(&job));
        assert_eq!(client.get("/workers").await.expect(200)["workers"], json!([]));
        let path = format!("/jobs/{}/success", tests::id(&held));
        client.poke(&path).header("zizq-lease", tests::lease(&held)).await.expect_refusal(409, "lease");
        client.succeed(&again).await;
        // Who comes back, is new.
        let mut back = open(accept, format, Some(&stream.last_event_id)).await;
        client.add("q").await;
        let next = back.next_job().await;
        if format == StreamFormat::EventStream {
            assert!(!back.hello().resumed);
        }
        client.succeed(&next).await;
        drop(back);
        wait::until("the stream is gone", async || {
            (client.get("/workers").await.expect(200)["workers"] == json!([])).then_some(())
        })
        .await;
    }
    // A poll that waits is answered.
    let waits = json!({"queues": ["q"], "wait_ms": 30_000});
    let (polled, ()) = tokio::join!(client.poll(&waits), async {
        let name =
            wait::until("the poll waits", async || stream_of().await.as_str().map(str::to_owned)).await;
        client.poke(&format!("/workers/{name}/disconnect")).await.expect_nothing();
    });
    assert_eq!(polled, [json!(null); 0]);
    assert_eq!(client.get("/stats").await.expect(200)["workers"], 0);
    client.poke("/workers/0123456789ab/disconnect").await.expect_refusal(404, "0123456789ab");
}

#[tokio::test]
async fn workers_show_what_program_they_are() {
    let server = Server::start().await;
    let client = server.client();
    let open = async |agent: &str| {
        let call = client.get("/jobs/take?queue=q").header("user-agent", agent);
        Stream::open(StreamFormat::NdJson, call.response().await).await
    };
    let streams = [open("mine/1.2 (x)").await, open(&format!("caf\u{e9}{}", "x".repeat(1_000))).await];
    let _worker = Worker::start(&server, ["--run", "q=cat"]);
    let agents = wait::until("all are connected", async || {
        let shown = client.get("/workers").await.expect(200);
        let agents = shown["workers"].as_array().unwrap().iter().map(|worker| worker["agent"].clone());
        let agents: Vec<Value> = agents.collect();
        (agents.len() == 3).then_some(agents)
    })
    .await;
    let ours = format!("zizq-worker/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(agents, [json!("mine/1.2 (x)"), json!(format!("caf{}", "x".repeat(97))), json!(ours)]);
    drop(streams);
}

#[tokio::test]
async fn a_server_says_whether_it_is_alive_and_ready() {
    let mut server = Server::start().await;
    let client = server.client();
    assert_eq!(client.get("/livez").await.expect(200), json!({"status": "ok"}));
    assert_eq!(client.get("/readyz").await.expect(200), json!({"ready": true, "reasons": []}));
    let verbose = client.get("/readyz?verbose=true").await.expect(200);
    assert!(verbose["disk"]["free"].as_u64().unwrap() > 0, "{verbose}");
    client.get("/readyz?verbose").await.expect(200);
    let health = async |url: &str| {
        let program = tests::binaries::binary("zizq-server");
        let asked =
            tokio::process::Command::new(program).args(["health", "--url", url]).output().await.unwrap();
        let said = [asked.stdout, asked.stderr].concat();
        (asked.status.code(), String::from_utf8_lossy(&said).trim().to_owned())
    };
    let url = server.url();
    assert_eq!(health(&url).await, (Some(0), "ready".to_owned()));
    // A job in flight keeps a server that shuts down from ending at once.
    client.add("q").await;
    client.poll_one("q").await;
    server.process().signal(Signal::TERM);
    let draining = wait::until("it drains", async || {
        let answer = client.get("/readyz").await;
        (answer.status == 503).then_some(answer)
    });
    let draining = draining.await.expect(503);
    assert_eq!((&draining["ready"], &draining["reasons"]), (&json!(false), &json!(["draining"])));
    assert_eq!(health(&url).await, (Some(1), "not ready: draining".to_owned()));
    assert_eq!(client.get("/livez").await.expect(200), json!({"status": "ok"}));
    server.kill9().await;
    let (code, said) = health(&url).await;
    assert!(code == Some(2) && said.contains("Connection refused"), "{said}");
    let (code, said) = health("localhost").await;
    assert!(code == Some(2) && said.contains("http://127.0.0.1:7890"), "{said}");
}

#[tokio::test]
async fn a_job_in_flight_shows_who_has_it_and_how_far_it_is() {
    for wire in Wire::ALL {
        let server = Server::start().await;
        let client = server.client_as(wire);
        let call =
            client.get("/jobs/take?queue=q&prefetch=1&lease_ms=60000").header("worker-id", "encoder-7");
        let call = call.header("accept", "text/event-stream");
        let mut stream = Stream::open(StreamFormat::EventStream, call.response().await).await;
        client.add("q").await;
        client.add("q").await;
        let job = stream.next_job().await;
        let beat = json!({"progress": 0.5, "message": "halfway"});
        let beat = client.post(&format!("/jobs/{}/heartbeat", tests::id(&job)), &beat);
        let renewed = beat.header("zizq-lease", tests::lease(&job)).await.expect(200);
        let list = client.get("/jobs?status=in_flight&payload=none").await.expect(200);
        let one = client.job(tests::id(&job)).await;
        for shown in [&list["jobs"][0], &one] {
            assert_eq!(
                (&shown["id"], &shown["worker"], &shown["deliveries"]),
                (&job["id"], &json!("encoder-7"), &json!(1))
            );
            assert_eq!((&shown["progress"], &shown["message"]), (&json!(0.5), &json!("halfway")));
            assert_eq!(shown["lease_expires_at"], renewed["lease_expires_at"]);
            assert!(shown["remote"].as_str().unwrap().starts_with("127.0.0.1:"), "{shown}");
            assert!(shown.get("lease").is_none(), "the token is nobody else's business: {shown}");
        }
        client.succeed(&job).await;
        // What was said of one attempt does not show on the next, nor on another job.
        let next = stream.next_job().await;
        let next = client.job(tests::id(&next)).await;
        assert!(next.get("progress").is_none() && next["worker"] == "encoder-7", "{next}");
    }
}
