//! `zizq-worker status`: a table of the queues, and hints about what to do next.

use std::process::ExitCode;

use indicatif::HumanCount;
use serde::Deserialize;
use serde_json::Value;

use super::server::Server;
use super::table::table;
use super::{CliError, Target, distance, print};

/// The queues to show.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// Only this queue
    queue: Option<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Deserialize)]
struct Queue {
    name: String,
    paused: bool,
    counts: Counts,
    oldest_ready_at: Option<u64>,
    workers: u64,
}

#[derive(Debug, Default, Deserialize)]
struct Counts {
    scheduled: u64,
    ready: u64,
    in_flight: u64,
    dead: u64,
    completed: u64,
}

impl Counts {
    const fn is_empty(&self) -> bool {
        let Self { scheduled, ready, in_flight, dead, completed } = *self;
        scheduled == 0 && ready == 0 && in_flight == 0 && dead == 0 && completed == 0
    }
}

impl Status {
    pub(super) async fn run(self) -> Result<ExitCode, CliError> {
        let server = self.target.connect()?;
        let answer = match &self.queue {
            Some(queue) => server.get(&["queues", queue], &[]).await?,
            None => server.get(&["queues"], &[("details", "true")]).await?,
        };
        if self.target.json {
            print(&format!("{answer}\n"))?;
        } else {
            let version = server.get(&["version"], &[]).await?;
            print(&shown(&server, &version, answer)?)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn shown(server: &Server, version: &Value, answer: Value) -> Result<String, CliError> {
    let is_one = answer.get("queues").is_none();
    let queues = match answer.get("queues") {
        Some(queues) => queues.clone(),
        None => Value::Array(vec![answer]),
    };
    let queues: Vec<Queue> = serde_json::from_value(queues)
        .map_err(|e| CliError::Failed(format!("cannot read the server's answer: {e}")))?;
    let version = version.get("server").and_then(Value::as_str).unwrap_or("a server of unknown version");
    let head = format!("{version} at {}", server.shown());
    // The server answers for a queue that it does not know as for an empty one.
    if let [Queue { name, paused: false, workers: 0, counts, .. }] = queues.as_slice()
        && is_one
        && counts.is_empty()
    {
        return Ok(format!("{head}: no job is in queue {name}; zizq-worker status lists the queues\n"));
    }
    if queues.is_empty() {
        return Ok(format!(
            "{head}: no jobs. Enqueue one:\n  zizq-worker enqueue hello --type greet --payload '{{\"name\": \"Ada\"}}'\n"
        ));
    }
    let columns =
        ["queue", "ready", "in flight", "scheduled", "dead", "completed", "workers", "oldest ready", ""];
    let rows: Vec<Vec<String>> = queues.iter().map(row).collect();
    let mut text = format!("{head}\n\n{}", table(&columns, &rows, 7));
    let waiting = queues.iter().filter(|queue| queue.counts.ready > 0);
    let stuck = waiting.filter(|queue| queue.paused || queue.workers == 0);
    for Queue { name, paused, .. } in stuck.take(3) {
        text.push_str(&match paused {
            true => format!("\nqueue {name} is paused; resume it: POST /queues/{name}/resume"),
            false => format!(
                "\nno worker takes jobs of queue {name}; start one: zizq-worker --run '{name}=COMMAND'"
            ),
        });
    }
    if queues.iter().any(|queue| queue.counts.dead > 0) {
        text.push_str("\nlist dead jobs and their errors: zizq-worker failed");
    }
    Ok(text.trim_end().to_owned() + "\n")
}

fn row(queue: &Queue) -> Vec<String> {
    let Counts { scheduled, ready, in_flight, dead, completed } = queue.counts;
    let counts = [ready, in_flight, scheduled, dead, completed, queue.workers];
    let mut row = vec![queue.name.clone()];
    row.extend(counts.map(|n| HumanCount(n).to_string()));
    row.push(queue.oldest_ready_at.map(distance).unwrap_or_default());
    row.push(if queue.paused { "paused".to_owned() } else { String::new() });
    row
}
