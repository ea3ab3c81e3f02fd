//! The load tool runs every scenario, and says so when a server does not do what it should.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;

use http::{Response, StatusCode};
use serde_json::{Value, json};
use tests::endpoint::Endpoint;
use tokio::process::Command;

async fn load(words: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zizq-load"));
    command.args(words.split(' ')).kill_on_drop(true).output().await.unwrap()
}

/// Its lines of JSON.
fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs scenarios, which must succeed, and gives back the medians by scenario and server.
async fn medians(words: &str) -> BTreeMap<(String, String), Value> {
    let output = load(words).await;
    let lines = lines(&output);
    let faults: Vec<_> = lines.iter().filter_map(|line| line["faults"].as_array()).flatten().collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && faults.is_empty(), "{}: {faults:?} {errors}", output.status);
    let medians = lines.into_iter().filter(|line| line["round"] == "median");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    medians.map(|line| ((text(&line["scenario"]), text(&line["server"])), line)).collect()
}

#[tokio::test]
async fn every_scenario_of_the_table() {
    let list = load("table --list").await;
    let list = String::from_utf8(list.stdout).unwrap();
    let names: BTreeSet<_> = list.lines().map(|line| line.split("  ").next().unwrap()).collect();
    let medians = medians("table --scale 0.0005 --rounds 1 --json --vs hello --vs disk").await;
    let measured: BTreeSet<_> =
        medians.keys().filter(|(_, who)| who == "zizq").map(|(name, _)| &**name).collect();
    assert_eq!(measured, names);
    for ((scenario, server), figures) in &medians {
        let rates = ["jobs_per_s", "p99_us", "first_jobs_per_s"].map(|figure| figures[figure].as_f64());
        assert!(rates.into_iter().flatten().any(|rate| rate > 0.0), "{scenario} on {server}: {figures}");
        let memory = figures["peak_rss_mib"].as_f64();
        assert!(server == "disk" || memory.is_some_and(|mib| mib > 1.0), "{scenario} on {server}: {figures}");
    }
    let backlog = &medians[&("backlog".to_owned(), "zizq".to_owned())];
    for figure in ["drain_jobs_per_s", "start_ms", "first_job_ms", "crash_first_job_ms"] {
        assert!(backlog[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {backlog}");
    }
}

/// Too long for the table.
#[tokio::test]
async fn looking_among_many_jobs() {
    let output = load("look --jobs 3000 --rounds 1 --json").await;
    let lines = lines(&output);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let median = lines.iter().find(|line| line["round"] == "median").unwrap();
    for figure in
        ["page_p50_us", "page_p99_us", "count_p99_us", "filter_s_per_1m", "patch_s_per_100k", "p99_us"]
    {
        assert!(median[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {median}");
    }
    let samples: Vec<_> = lines.iter().filter(|line| line["at"].is_string()).collect();
    assert_eq!(samples.len(), 5, "{samples:?}");
    assert!(samples.iter().all(|sample| sample["dispatch_p99_us"].as_f64().is_some()), "{samples:?}");
}

#[tokio::test]
async fn random_calls_over_all_routes() {
    let called: BTreeSet<(String, String)> =
        tests::load::routes_of_random().map(|(method, path)| (method.to_owned(), path)).collect();
    let served: BTreeSet<(String, String)> =
        zizq_server::routes().iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
    assert_eq!(called, served);
    let medians = medians("random --calls 5000 --connections 6 --rounds 1 --json").await;
    let [(_, figures)] = Vec::from_iter(&medians)[..] else { panic!("{medians:?}") };
    assert_eq!(figures["calls"].as_f64(), Some(5_000.0), "{figures}");
    // Neither is all of it nonsense, nor none of it.
    let refused = figures["refused"].as_f64().unwrap();
    assert!((500.0..3_500.0).contains(&refused), "{figures}");
    assert_eq!(figures["unavailable"].as_f64(), Some(0.0), "{figures}");
}

/// The peers are packages of the system; where one is missing, the tool must say how to get it.
#[tokio::test]
async fn peers() {
    for (peer, package) in [("beanstalkd", "beanstalkd"), ("redis", "redis-server")] {
        let words =
            format!("table --only pipeline --only single --scale 0.0005 --rounds 1 --json --vs {peer}");
        let output = load(&words).await;
        if String::from_utf8_lossy(&output.stderr).contains(&format!("apt-get install {package}")) {
            assert!(!output.status.success());
            continue;
        }
        let medians = medians(&words).await;
        for scenario in ["enqueue-single", "drain, 8 workers, single acks", "pipeline"] {
            let figures = &medians[&(scenario.to_owned(), peer.to_owned())];
            assert!(figures["jobs_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{scenario}: {figures}");
        }
    }
}

#[tokio::test]
async fn two_servers_in_turn() {
    let server = tests::Server::start().await;
    let output = load(&format!("latency --jobs 5 --rounds 2 --json --vs {}", server.url())).await;
    let lines = lines(&output);
    let rounds: Vec<_> = lines.iter().map(|line| line["round"].clone()).collect();
    assert_eq!(
        rounds,
        [json!(1), json!(1), json!(2), json!(2), json!("median"), json!("median"), json!("ratio")]
    );
    let servers: BTreeSet<_> = lines.iter().map(|line| line["server"].as_str().unwrap()).collect();
    assert_eq!(servers, BTreeSet::from(["zizq", server.address()]));
    assert!(lines[6]["p50_us"].as_f64().is_some_and(|ratio| ratio > 0.0), "{}", lines[6]);
}

/// A server that confirms every job and has one less.
#[tokio::test]
async fn a_lost_job_fails() {
    let mut server = Endpoint::start().await;
    let words = format!("enqueue --jobs 3 --bulk 1 --connections 1 --rounds 1 --json --url {}", server.url());
    let serve = async {
        let mut confirmed = 0_u32;
        loop {
            let call = server.next_call().await;
            let (status, body) = match call.request.uri().path() {
                "/version" => (StatusCode::OK, json!({"version": "0"})),
                "/jobs/count" => (StatusCode::OK, json!({"count": confirmed.saturating_sub(1)})),
                _ => {
                    confirmed += 1;
                    (StatusCode::CREATED, json!({"id": "0123456789abcdefghijklmno"}))
                }
            };
            call.answer_with(Response::builder().status(status).body(body.to_string().into()).unwrap());
        }
    };
    let output = tokio::select! {
        output = load(&words) => output,
        () = serve => unreachable!("it serves for ever"),
    };
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(lines(&output)[0]["faults"], json!(["jobs that the server counts: 2 instead of 3"]));
}
