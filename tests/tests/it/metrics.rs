//! `GET /metrics`: names, values and both formats.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use serde_json::json;
use tests::wait::{now_ms, until};
use tests::{Client, Server, Worker};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const OPEN_METRICS: &str = "application/openmetrics-text";

async fn scrape(client: &Client, accept: &str) -> String {
    let answer = client.get("/metrics").header("accept", accept).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert!(answer.header("content-type").starts_with(accept.split(';').next().unwrap()), "{answer:?}");
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// The samples of a scrape, by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[tokio::test]
async fn metrics_count_what_happens_in_each_queue() {
    let server = Server::start().await;
    let client = server.client();
    for _ in 0..5 {
        client.add("q").await;
    }
    let unique = json!({"queue": "q", "type": "t", "payload": 1, "unique_key": "k"});
    client.enqueue(&unique).await;
    client.post("/jobs", &unique).await.expect(200);
    let done = client.poll_one("q").await;
    client.succeed(&done).await;
    let dead = client.poll_one("q").await;
    client.fail(&dead, &json!({"message": "m", "kill": true})).await;
    let again = client.poll_one("q").await;
    client.fail(&again, &json!({"message": "m"})).await;
    let back = client.poll_one("q").await;
    client.release(&back).await;
    let gone = client.poll_one("q").await;
    client.delete(&format!("/jobs/{}", tests::id(&gone))).await.expect_nothing();
    client.poke("/queues/q/pause").await.expect(200);
    let _stream = client.events("queue=q").await;
    for accept in ["text/plain", OPEN_METRICS] {
        let text = scrape(&client, accept).await;
        let samples = samples(&text);
        let ended =
            |outcome: &str| samples[&format!("zizq_jobs_ended_total{{queue=\"q\",outcome=\"{outcome}\"}}")];
        assert_eq!(["completed", "dead", "retried", "released", "deleted"].map(ended), [1.0; 5]);
        assert_eq!(["returned", "expired", "timed_out"].map(ended), [0.0; 3]);
        for (name, value) in [
            ("zizq_jobs{queue=\"q\",status=\"ready\"}", 2.0),
            ("zizq_jobs{queue=\"q\",status=\"scheduled\"}", 1.0),
            ("zizq_jobs{queue=\"q\",status=\"dead\"}", 1.0),
            ("zizq_jobs{queue=\"__other__\",status=\"ready\"}", 0.0),
            ("zizq_jobs_enqueued_total{queue=\"q\",outcome=\"created\"}", 6.0),
            ("zizq_jobs_enqueued_total{queue=\"q\",outcome=\"duplicate\"}", 1.0),
            ("zizq_jobs_delivered_total{queue=\"q\"}", 5.0),
            ("zizq_queue_run_seconds_count{queue=\"q\"}", 3.0),
            ("zizq_run_seconds_count", 3.0),
            ("zizq_run_seconds_bucket{le=\"+Inf\"}", 3.0),
            ("zizq_queue_workers{queue=\"q\"}", 1.0),
            ("zizq_queue_paused{queue=\"q\"}", 1.0),
            ("zizq_streams{format=\"sse\"}", 1.0),
            ("zizq_disk_full", 0.0),
        ] {
            assert_eq!(samples.get(name), Some(&value), "{name} in {text}");
        }
        assert!(samples["process_cpu_seconds_total"] > 0.0 && samples["process_open_fds"] > 3.0, "{text}");
        let buckets = samples.keys().filter(|name| name.starts_with("zizq_run_seconds_bucket{")).count();
        assert_eq!(buckets, 15, "{text}");
        assert_eq!(text.ends_with("# EOF\n"), accept == OPEN_METRICS);
    }
    client.get("/metrics").header("accept", "application/json").await.expect_refusal(406, "accept");
    client.get("/metrics?queue=q").header("accept", "text/plain").await.expect_refusal(400, "queue");
}

#[tokio::test]
async fn those_that_are_named_come_alone() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let named = "/metrics?name=jobs_enqueued_total,disk_full,queue_oldest_ready_seconds,nothing";
    for accept in ["text/plain", OPEN_METRICS] {
        let answer = client.get(named).header("accept", accept).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let shown = samples(&text);
        let names: BTreeSet<&str> = shown.keys().map(|name| name.split('{').next().unwrap()).collect();
        let expected = ["zizq_disk_full", "zizq_jobs_enqueued_total", "zizq_queue_oldest_ready_seconds"];
        assert!(names.iter().eq(&expected), "{text}");
        assert_eq!(shown["zizq_jobs_enqueued_total{queue=\"q\",outcome=\"created\"}"], 1.0);
    }
    assert_eq!(samples(&scrape(&client, "text/plain").await).len(), {
        let answer = client.get("/metrics?name=").header("accept", "text/plain").await;
        samples(std::str::from_utf8(&answer.body).unwrap()).len()
    });
}

#[tokio::test]
async fn many_queues_are_summed_up_and_the_answer_stays_small() {
    let server = Server::with(["--enqueue-commit-mode", "buffered"]).await;
    let client = server.client();
    let job = |n: u32| json!({"queue": format!("mails-of-customer-{n:06}"), "type": "t", "payload": null});
    for first in (0..100_000).step_by(5_000) {
        client.enqueue_all((first..first + 5_000).map(job)).await;
    }
    let text = scrape(&client, "text/plain").await;
    assert!(text.len() < 2_000_000, "{} bytes", text.len());
    let samples = samples(&text);
    // 26 for each tracked queue and for the others, and those of the server.
    assert!((26_000..26_500).contains(&samples.len()), "{} series", samples.len());
    let own = samples.keys().filter(|name| name.starts_with("zizq_queue_workers{")).count();
    assert_eq!((own, samples["zizq_metrics_queues_untracked"]), (1_000, 99_000.0));
    assert_eq!(samples["zizq_jobs{queue=\"__other__\",status=\"ready\"}"], 99_000.0);
    assert_eq!(samples["zizq_jobs_enqueued_total{queue=\"__other__\",outcome=\"created\"}"], 99_000.0);
    // A queue keeps its series when it is empty.
    let own =
        samples.keys().find_map(|name| name.strip_prefix("zizq_queue_workers{queue=\"")?.split('"').next());
    let own = own.unwrap();
    let job = client.poll_one(own).await;
    client.succeed(&job).await;
    let after = self::samples(&scrape(&client, "text/plain").await);
    assert_eq!(after[&format!("zizq_jobs{{queue=\"{own}\",status=\"ready\"}}")], 0.0);
    assert_eq!(after[&format!("zizq_jobs_ended_total{{queue=\"{own}\",outcome=\"completed\"}}")], 1.0);
}

#[tokio::test]
async fn the_server_counts_its_own_work() {
    let server = Server::with(["--metrics-queue-histograms"]).await;
    let client = server.client();
    let budget = json!({"allocation": 3, "strategy": {"type": "while_in_flight"}});
    client.post("/budgets/b", &budget).await.expect(201);
    let bound = json!({"queue": "q", "type": "t", "payload": 1, "budgets": [{"key": "b", "cost": 2}]});
    for _ in 0..3 {
        client.enqueue(&bound).await;
    }
    let taken = client.poll_one("q").await;
    let before = samples(&scrape(&client, "text/plain").await);
    for (name, value) in [
        ("zizq_budget_allocation{budget=\"b\"}", 3.0),
        ("zizq_budget_available{budget=\"b\"}", 1.0),
        ("zizq_budget_parked_jobs{budget=\"b\"}", 2.0),
        ("zizq_queue_wait_seconds_bucket{le=\"+Inf\",queue=\"q\"}", 1.0),
        ("zizq_http_requests_total{route=\"/jobs\",method=\"POST\",code=\"2xx\"}", 3.0),
        ("zizq_http_requests_total{route=\"/jobs\",method=\"POST\",code=\"5xx\"}", 0.0),
        ("zizq_http_request_seconds_count{route=\"/jobs\",method=\"POST\"}", 3.0),
        ("zizq_http_refused_total{reason=\"origin\"}", 0.0),
        ("zizq_store_damaged_records_total", 0.0),
        ("zizq_store_open", 1.0),
        ("zizq_jq_runs_total{outcome=\"done\"}", 0.0),
    ] {
        let same = |other: &&String| sorted(other) == sorted(name);
        let found = before.keys().find(same).map(|name| before[name]);
        assert_eq!(found, Some(value), "{name} in {before:?}");
    }
    assert!(before["zizq_http_connections"] >= 1.0);
    assert!(before["zizq_engine_waiting_commands"] < 1_000.0);
    assert!(before["zizq_engine_turn_seconds_count"] >= before["zizq_store_commit_seconds_count"]);
    assert!(
        before["zizq_store_commit_seconds_count"] >= 4.0 && before["zizq_store_sync_seconds_count"] >= 3.0
    );
    // Each of these adds exactly so much.
    client.get("/jobs?filter=.%3D%3D1").await.expect(200);
    client.get("/jobs?filter=nope(").await.expect_refusal(400, "filter");
    client.get("/nowhere").await.expect_refusal(404, "endpoint");
    client.get("/queues").header("origin", "https://evil.example").await.expect_refusal(403, "evil");
    let log = client.poke(&format!("/jobs/{}/log", tests::id(&taken)));
    log.bytes("text/plain", "0123456789\n").await.expect_nothing();
    // Output is counted by the thread that takes it in, and that answers this, too.
    let read = client.get(&format!("/jobs/{}/log", tests::id(&taken))).await;
    assert_eq!(read.status, 200, "{read:?}");
    let after = samples(&scrape(&client, "text/plain").await);
    let more = |name: &str| after[name] - before.get(name).copied().unwrap_or_default();
    for (name, value) in [
        ("zizq_jq_runs_total{outcome=\"done\"}", 1.0),
        ("zizq_jq_runs_total{outcome=\"invalid\"}", 1.0),
        ("zizq_http_requests_total{route=\"none\",method=\"any\",code=\"4xx\"}", 1.0),
        ("zizq_http_requests_total{route=\"/jobs\",method=\"GET\",code=\"4xx\"}", 1.0),
        ("zizq_http_refused_total{reason=\"origin\"}", 1.0),
        ("zizq_log_bytes_total", 11.0),
    ] {
        assert_eq!(more(name), value, "{name}");
    }
}

/// A name, and its labels in order.
fn sorted(sample: &str) -> (&str, Vec<&str>) {
    let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
    let mut labels: Vec<_> = labels.trim_end_matches('}').split(',').collect();
    labels.sort_unstable();
    (name, labels)
}

#[tokio::test]
async fn readers_count_each_entry_that_they_read() {
    let server = Server::start().await;
    let client = server.client();
    let job = |n: u32| json!({"queue": format!("q{}", n % 4), "type": "t", "payload": n});
    let jobs = client.enqueue_all((0..400).map(job)).await;
    let read = async |path: &str, call: &str| {
        let name = format!("zizq_reader_entries_total{{call=\"{call}\"}}");
        let before = samples(&scrape(&client, "text/plain").await)[&name];
        client.get(path).await.expect(200);
        samples(&scrape(&client, "text/plain").await)[&name] - before
    };
    let job = format!("/jobs/{}", tests::id(&jobs[7]));
    for (path, call, least, most) in [
        ("/jobs?limit=10&payload=none", "list", 10.0, 60.0),
        ("/jobs?limit=400", "list", 400.0, 460.0),
        ("/jobs/count?type=t", "count", 400.0, 460.0),
        ("/jobs/count?queue=q1", "count", 0.0, 0.0),
        ("/jobs/groups?by=type", "groups", 400.0, 460.0),
        (job.as_str(), "job", 1.0, 10.0),
    ] {
        let entries = read(path, call).await;
        assert!((least..=most).contains(&entries), "{path} read {entries} entries");
    }
}

#[tokio::test]
async fn cron_entries_say_when_they_ran_and_what_they_missed() {
    let mut server = Server::start().await;
    let client = server.client();
    let entry =
        json!({"name": "e", "expression": "* * * * * *", "job": {"queue": "q", "type": "t", "payload": 1}});
    client.post("/crons/g/entries", &entry).await.expect(201);
    let of = |samples: &BTreeMap<String, f64>, name: &str| {
        samples.get(&format!("zizq_cron_{name}{{group=\"g\",entry=\"e\"}}")).copied()
    };
    let ran = until("the entry to run", async || {
        let samples = samples(&scrape(&client, "text/plain").await);
        of(&samples, "last_timestamp_seconds").map(|_| samples)
    })
    .await;
    let [last, next] =
        ["last_timestamp_seconds", "next_timestamp_seconds"].map(|name| of(&ran, name).unwrap());
    assert!(last < next && (next - now_ms() as f64 / 1e3).abs() < 60.0, "{last} {next}");
    let down_at = now_ms();
    server.kill9().await;
    until("three times to pass", async || (now_ms() > down_at + 3_500).then_some(())).await;
    server.restart().await;
    let client = server.client();
    until("the missed times to be counted", async || {
        let samples = samples(&scrape(&client, "text/plain").await);
        of(&samples, "missed_total").filter(|missed| *missed >= 2.0)
    })
    .await;
}

#[tokio::test]
async fn fewer_queues_can_be_shown() {
    let server = Server::with(["--metrics-queues", "2"]).await;
    let client = server.client();
    let job = |n: u32| json!({"queue": format!("q{n}"), "type": "t", "payload": null});
    client.enqueue_all((0..5).map(job)).await;
    let samples = samples(&scrape(&client, "text/plain").await);
    let own = samples.keys().filter(|name| name.starts_with("zizq_queue_workers{")).count();
    assert_eq!((own, samples["zizq_metrics_queues_untracked"]), (2, 3.0));
}

/// What promtool says of the metrics of a server and of a worker.
#[tokio::test]
async fn promtool_finds_nothing_wrong() {
    let server = Server::with(["--metrics-queue-histograms"]).await;
    let client = server.client();
    client.add("a \"quoted\" \\ name".replace('\\', "/").as_str()).await;
    let worker = Worker::start(&server, ["--run", "q=true", "--listen", "127.0.0.1:0"]);
    let worker = crate::prometheus::metrics_of(worker).await;
    for text in [scrape(&client, "text/plain").await, worker] {
        let mut promtool = Command::new("promtool");
        promtool
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut promtool = promtool.spawn().expect("promtool is there: apt-get install prometheus");
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
        let checked = promtool.wait_with_output().await.unwrap();
        let said = [checked.stdout, checked.stderr].concat();
        assert!(checked.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
}
