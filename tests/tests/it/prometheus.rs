//! The shipped dashboard and alerts, against a real Prometheus that scrapes a real server and a real worker.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};
use tests::process::{Process, Variables};
use tests::wait::until;
use tests::{Client, Server, Wire, Worker};
use tokio::process::Command;

use crate::mutual::{Authority, Secure};

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../zizq-server/contrib").join(file).canonicalize().unwrap()
}

fn dashboard() -> Value {
    serde_json::from_slice(&std::fs::read(shipped("grafana/zizq.json")).unwrap()).unwrap()
}

/// A Prometheus that scrapes twice a second, and knows the shipped alerts.
struct Prometheus {
    client: Client,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    async fn scraping(server: &str, worker: &str, (ca, secure): (&str, &str)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [shipped("prometheus/alerts.yml")],
            "scrape_configs": [
                {"job_name": "zizq", "static_configs": [{"targets": [server]}]},
                {"job_name": "zizq-worker", "static_configs": [{"targets": [worker]}]},
                {"job_name": "secure", "scheme": "https", "tls_config": {"ca_file": ca}, "static_configs": [{"targets": [secure]}]},
            ],
        });
        // JSON is YAML.
        std::fs::write(folder.path().join("prometheus.yml"), config.to_string()).unwrap();
        let mut command = Command::new("prometheus");
        command.current_dir(folder.path()).arg("--config.file=prometheus.yml");
        command.args(["--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]).kill_on_drop(true);
        let process = Process::start(command, &folder.path().join("log"));
        let address = address_in(&process, "Listening on").await;
        let client = Client::new(&format!("http://{address}"), Wire::default());
        until("Prometheus to be ready", async || {
            let answer = client.get("/-/ready").try_response().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        Self { client, _process: process, _folder: folder }
    }

    /// The series of an expression.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.client.get(&format!("/api/v1/query?query={encoded}")).await;
        assert_eq!(answer.status, 200, "{expression}: {:?}", answer.body);
        let mut answer = answer.value();
        let Value::Array(series) = answer["data"]["result"].take() else { panic!("{expression}: {answer}") };
        series
    }

    async fn has_data(&self, expression: &str) {
        let what = format!("data for {expression}");
        until(what, async || (!self.query(expression).await.is_empty()).then_some(())).await;
    }
}

/// The address in the line of its log that says this.
async fn address_in(process: &Process, line: &str) -> String {
    static ADDRESS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"127\.0\.0\.1:\d+").unwrap());
    until(format!("the line {line:?}"), async || {
        let log = process.log();
        let line = log.lines().find(|logged| logged.contains(line))?;
        Some(ADDRESS.find(line)?.as_str().to_owned())
    })
    .await
}

/// What a worker with `--listen` says about itself.
pub(crate) async fn metrics_of(mut worker: Worker) -> String {
    let address = address_in(worker.process(), "serving readiness and metrics").await;
    let answer = Client::new(&format!("http://{address}"), Wire::default()).get("/metrics").await;
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// The metrics that a text names.
fn names_in(text: &str) -> BTreeSet<String> {
    static NAME: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b(zizq|process)_[a-z_]+\b").unwrap());
    NAME.find_iter(text).map(|name| name.as_str().to_owned()).collect()
}

/// A server on which something of everything has happened, and a worker.
async fn busy() -> (Server, Worker, String) {
    let server = Server::start().await;
    let client = server.client();
    let mut worker = Worker::with_variables(
        &server,
        ["--run", "done=true", "--listen", "127.0.0.1:0"],
        Variables::from([("NO_COLOR", "1".to_owned())]),
    );
    let listens = address_in(worker.process(), "serving readiness and metrics").await;
    client.post("/budgets/b", &json!({"allocation": 2, "strategy": {"type": "while_in_flight"}})).await;
    let every_second = json!({"name": "e", "expression": "* * * * * *", "job": {"queue": "done", "type": "t", "payload": 1}});
    client.post("/crons/g/entries", &every_second).await.expect(201);
    client.add("done").await;
    client
        .enqueue(&json!({"queue": "left", "type": "t", "payload": 1, "budgets": [{"key": "b", "cost": 1}]}))
        .await;
    let dead = client.poll_one("left").await;
    client.fail(&dead, &json!({"message": "m", "kill": true})).await;
    client.add("left").await;
    client.get("/jobs?filter=true").await.expect(200);
    (server, worker, listens)
}

#[tokio::test]
async fn every_expression_of_dashboard_and_alerts_has_data() {
    let (server, _worker, listens) = busy().await;
    let authority = Authority::new(&[]).await;
    let secure = Secure::with(&authority, &[]).await;
    let target = format!("localhost:{}", secure.port);
    let prometheus =
        Prometheus::scraping(server.address(), &listens, (&authority.path("ca.pem"), &target)).await;
    for job in ["zizq", "zizq-worker", "secure"] {
        prometheus.has_data(&format!("count_over_time(up{{job=\"{job}\"}}[1m]) > 2 and up == 1")).await;
    }
    let alerts = std::fs::read_to_string(shipped("prometheus/alerts.yml")).unwrap();
    let dashboard = dashboard();
    let named = names_in(&format!("{alerts}{dashboard}"));
    assert!(named.len() > 40, "{named:?}");
    for name in named {
        prometheus.has_data(&name).await;
    }
    for expression in expressions(&dashboard) {
        // The other server has no certificates.
        let instance = if expression.contains("zizq_tls_") { &target } else { server.address() };
        let here = [("$instance", instance), ("$queue", ".*"), ("$__rate_interval", "10s")];
        let asked = here.iter().fold(expression, |text, (variable, value)| text.replace(variable, value));
        prometheus.has_data(&asked).await;
    }
    until("each alert to be evaluated", async || {
        let rules = prometheus.client.get("/api/v1/rules").await.expect(200);
        let rules = rules["data"]["groups"][0]["rules"].as_array()?.clone();
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:?}");
        (rules.len() == 13 && rules.iter().all(|rule| rule["health"] == "ok")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn alerts_fire_when_they_should_and_not_when_they_should_not() {
    let folder = shipped("prometheus");
    let named = |file: &str| {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let alert = Regex::new(r"(?m)^ +(?:- alert|alertname): (\w+)$").unwrap();
        let names = alert.captures_iter(&text).map(|found| found[1].to_owned());
        names.collect::<BTreeSet<_>>()
    };
    let alerts = named("alerts.yml");
    assert_eq!((alerts.len(), named("alerts.test.yml")), (13, alerts));
    for (what, file) in [("check", "alerts.yml"), ("test", "alerts.test.yml")] {
        let checked =
            Command::new("promtool").args([what, "rules", file]).current_dir(&folder).output().await;
        let checked = checked.expect("promtool is there: apt-get install prometheus");
        let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
        assert!(checked.status.success() && said.contains("SUCCESS"), "{said}");
    }
}

/// The panels of a dashboard but for the rows.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

fn expressions(dashboard: &Value) -> Vec<String> {
    let targets = panels(dashboard).flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_dashboard_is_sane() {
    let dashboard = dashboard();
    assert_eq!((&dashboard["uid"], &dashboard["title"]), (&json!("zizq"), &json!("Zizq")));
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variables: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(variables, ["datasource", "instance", "queue"]);
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id twice: {panel}");
        assert!(!panel["title"].as_str().unwrap().is_empty());
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{panel}");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{} lies upon another panel", panel["title"]);
        }
    }
    for panel in panels(&dashboard) {
        assert!(["timeseries", "stat"].contains(&panel["type"].as_str().unwrap()), "{panel}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{panel}");
        let refs: BTreeSet<_> = panel["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|target| target["refId"].as_str().unwrap())
            .collect();
        assert_eq!(refs.len(), panel["targets"].as_array().unwrap().len());
    }
    let used = Regex::new(r"\$\w+").unwrap();
    for expression in expressions(&dashboard) {
        let known = ["$instance", "$queue", "$__rate_interval"];
        assert!(used.find_iter(&expression).all(|found| known.contains(&found.as_str())), "{expression}");
    }
}
