//! `GET /metrics`: names, values and both formats.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::json;
use tests::{Client, Server};
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
async fn many_queues_are_summed_up_and_the_answer_stays_small() {
    let server = Server::start().await;
    let client = server.client();
    let job = |n: u32| json!({"queue": format!("queue-{n:05}"), "type": "t", "payload": null});
    client.enqueue_all((0..1_200).map(job)).await;
    let text = scrape(&client, "text/plain").await;
    assert!(text.len() < 2_000_000, "{} bytes", text.len());
    let samples = samples(&text);
    let own = samples.keys().filter(|name| name.starts_with("zizq_queue_workers{")).count();
    assert_eq!((own, samples["zizq_metrics_queues_untracked"]), (1_000, 200.0));
    assert_eq!(samples["zizq_jobs{queue=\"__other__\",status=\"ready\"}"], 200.0);
    assert_eq!(samples["zizq_jobs_enqueued_total{queue=\"__other__\",outcome=\"created\"}"], 200.0);
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
async fn promtool_finds_nothing_wrong() {
    let server = Server::start().await;
    let client = server.client();
    client.add("a \"quoted\" \\ name".replace('\\', "/").as_str()).await;
    let text = scrape(&client, "text/plain").await;
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool is there: apt-get install prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    let checked = promtool.wait_with_output().await.unwrap();
    let said = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn the_alerts_of_the_documentation_are_valid() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../zizq-server/docs/OPERATIONS.md"))
            .unwrap();
    let rules = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let rules = rules.filter(|block| block.starts_with("groups:")).collect::<String>();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alerts.yml");
    std::fs::write(&file, &rules).unwrap();
    let checked = Command::new("promtool").args(["check", "rules"]).arg(&file).output().await;
    let checked = checked.expect("promtool is there: apt-get install prometheus");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && said.contains("3 rules found"), "{said}");
    // Each metric that they name exists.
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let job = client.poll_one("q").await;
    client.succeed(&job).await;
    let text = scrape(&client, "text/plain").await;
    let words = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named: Vec<&str> = words.filter(|word| word.starts_with("zizq_")).collect();
    assert!(named.len() >= 5, "{named:?}");
    for name in named {
        assert!(text.contains(&format!("\n{name}{{")) || text.contains(&format!("\n{name} ")), "{name}");
    }
}
