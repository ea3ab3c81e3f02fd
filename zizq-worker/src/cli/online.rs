//! `zizq-worker check --online`: compares a configuration with what the server knows.

use serde::Deserialize;
use serde_json::Value;

use super::CliError;
use super::server::Server;
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

/// A sentence about the server, and warnings about queues that may be misspelled or paused.
pub(super) async fn look(config: &Config) -> Result<(String, Vec<String>), CliError> {
    let server = Server::at(&config.access)?;
    let version = server.get(&["version"], &[]).await?;
    let text = |key: &str| version.get(key).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    let said = format!("{} answers at {}, contract {}", text("server"), server.shown(), text("version"));
    let known = server.get(&["queues"], &[("details", "true")]).await?;
    let known: Queues = serde_json::from_value(known)
        .map_err(|e| CliError::Failed(format!("cannot read the server's answer: {e}")))?;
    let mut warnings = Vec::new();
    for route in &config.routes {
        for queue in &route.queues {
            match known.queues.iter().find(|known| known.name == queue.as_str()) {
                Some(known) if known.paused => warnings.push(format!(
                    "route `{}`: queue `{queue}` is paused and delivers no jobs; resume it: POST /queues/{queue}/resume",
                    route.name
                )),
                Some(_) => {}
                None => warnings.push(format!("route `{}`: {}", route.name, never_used(queue, &known.queues))),
            }
        }
    }
    Ok((said, warnings))
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
