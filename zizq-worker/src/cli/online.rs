//! `zizq-worker check --online`: compares a configuration with what the server knows.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::CliError;
use super::server::{Server, refused};
use crate::config::Config;

/// Names less similar than this are not suggested.
const LIKE: f64 = 0.8;

#[derive(Debug, Deserialize)]
struct Queues {
    queues: Vec<Queue>,
}

#[derive(Debug, Deserialize)]
struct Queue {
    name: String,
    paused: bool,
}

/// A queue that was asked for by its name.
#[derive(Debug, Deserialize)]
struct Seen {
    #[serde(flatten)]
    queue: Queue,
    counts: BTreeMap<String, u64>,
}

/// A sentence about the server, and warnings about queues that may be misspelled or paused.
pub(super) async fn look(config: &Config) -> Result<(String, Vec<String>), CliError> {
    let server = Server::at(&config.access)?;
    let version = server.get(&["version"], &[]).await?;
    let text = |key: &str| version.get(key).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    let said = format!("{} answers at {}, contract {}", text("server"), server.shown(), text("version"));
    let list = server.request(Method::GET, &["queues"], &[("details", "true")]);
    let mut warnings = Vec::new();
    let known = match server.ask(list).await? {
        (StatusCode::FORBIDDEN, _) => one_by_one(&server, config, &mut warnings).await?,
        (status, list) if status.is_success() => understood::<Queues>(list)?.queues,
        (status, error) => return Err(refused(status, &error)),
    };
    for route in &config.routes {
        for queue in &route.queues {
            match known.iter().find(|known| known.name == queue.as_str()) {
                Some(known) if known.paused => warnings.push(format!(
                    "route `{}`: queue `{queue}` is paused and delivers no jobs; resume it: POST /queues/{queue}/resume",
                    route.name
                )),
                Some(_) => {}
                None => warnings.push(format!("route `{}`: {}", route.name, never_used(queue, &known))),
            }
        }
    }
    Ok((said, warnings))
}

/// The queues of the configuration. Who only works may not list all queues, but look at its own.
async fn one_by_one(
    server: &Server,
    config: &Config,
    warnings: &mut Vec<String>,
) -> Result<Vec<Queue>, CliError> {
    let mut known = Vec::new();
    for route in &config.routes {
        for queue in &route.queues {
            match server.ask(server.request(Method::GET, &["queues", queue.as_str()], &[])).await? {
                (status, seen) if status.is_success() => {
                    let seen: Seen = understood(seen)?;
                    if seen.queue.paused || seen.counts.values().any(|&jobs| jobs > 0) {
                        known.push(seen.queue);
                    }
                }
                (status, error) => {
                    warnings.push(format!("route `{}`: {}", route.name, refused(status, &error)));
                    // More is not known of it.
                    known.push(Queue { name: queue.to_string(), paused: false });
                }
            }
        }
    }
    Ok(known)
}

fn understood<T: DeserializeOwned>(answer: Value) -> Result<T, CliError> {
    serde_json::from_value(answer)
        .map_err(|e| CliError::Failed(format!("cannot read the server's answer: {e}")))
}

/// A queue without jobs: they may come later, or its name is misspelled.
fn never_used(queue: &str, known: &[Queue]) -> String {
    let like = |name: &str| strsim::jaro_winkler(queue, name);
    let nearest = known.iter().map(|queue| queue.name.as_str()).max_by(|a, b| like(a).total_cmp(&like(b)));
    match nearest.filter(|name| like(name) >= LIKE) {
        Some(near) => format!("queue `{queue}` has no jobs and had none recently; did you mean `{near}`?"),
        None => format!("queue `{queue}` has no jobs and had none recently"),
    }
}
