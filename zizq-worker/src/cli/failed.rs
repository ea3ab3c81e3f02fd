//! `zizq-worker failed`: lists failed jobs, dead or waiting for a retry, each with its last error.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use super::server::Server;
use super::table::one_line;
use super::{CliError, Target, distance, jobs, print};

/// How many characters of an error message are shown.
const MESSAGE: usize = 200;

/// Which failed jobs to show.
#[derive(Debug, clap::Args)]
pub struct Failed {
    /// Only jobs of this queue
    queue: Option<String>,
    /// Show up to N dead jobs, and up to N that will be retried
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=2000))]
    limit: u16,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Deserialize)]
struct Job {
    id: String,
    #[serde(rename = "type")]
    job_type: String,
    queue: String,
    status: String,
    attempts: u64,
    ready_at: u64,
    last_error: Option<LastError>,
}

#[derive(Debug, Deserialize)]
struct LastError {
    #[serde(rename = "type")]
    error_type: Option<String>,
    message: String,
    at: u64,
}

/// The kinds of failed jobs: a name for people, and the filters that find them.
const KINDS: [(&str, &[(&str, &str)]); 2] = [
    ("dead", &[("status", "dead")]),
    ("to be retried", &[("status", "scheduled,ready,in_flight"), ("attempts", "1..")]),
];

impl Failed {
    pub(super) async fn run(self) -> Result<ExitCode, CliError> {
        let server = self.target.connect()?;
        let (mut found, mut text, mut foot) = (Vec::new(), String::new(), Vec::new());
        for (kind, filters) in KINDS {
            let listed = self.list(&server, filters).await?;
            if self.target.json {
                found.extend(listed);
                continue;
            }
            let count = self.count(&server, filters).await?;
            for job in listed {
                let job = serde_json::from_value(job)
                    .map_err(|e| CliError::Failed(format!("cannot read the server's answer: {e}")))?;
                text.push_str(&shown(&job));
            }
            foot.push(format!("{} {kind}", jobs(count)));
        }
        if self.target.json {
            let lines: Vec<String> = found.iter().map(|job| format!("{job}\n")).collect();
            print(&lines.concat())?;
        } else {
            print(&format!("{text}{}\n{}", foot.join(", "), self.advice(!text.is_empty())))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn list(&self, server: &Server, filters: &[(&str, &str)]) -> Result<Vec<Value>, CliError> {
        let limit = self.limit.to_string();
        let mut query = vec![("order", "desc"), ("limit", &*limit)];
        query.extend(filters);
        query.extend(self.queue.as_deref().map(|queue| ("queue", queue)));
        let mut answer = server.get(&["jobs"], &query).await?;
        match answer.get_mut("jobs").map(Value::take) {
            Some(Value::Array(jobs)) => Ok(jobs),
            _ => Err(CliError::Failed("the server's answer has no `jobs`".to_owned())),
        }
    }

    async fn count(&self, server: &Server, filters: &[(&str, &str)]) -> Result<u64, CliError> {
        let mut query = filters.to_vec();
        query.extend(self.queue.as_deref().map(|queue| ("queue", queue)));
        let answer = server.get(&["jobs", "count"], &query).await?;
        Ok(answer.get("count").and_then(Value::as_u64).unwrap_or(0))
    }

    fn advice(&self, any: bool) -> String {
        if !any {
            return String::new();
        }
        let queue = self.queue.as_deref().unwrap_or("QUEUE");
        format!(
            "see a job's output: zizq-worker tail JOB; retry dead jobs: zizq-worker retry --queue {queue}\n"
        )
    }
}

fn shown(job: &Job) -> String {
    let Job { id, job_type, queue, status, attempts, ready_at, last_error } = job;
    let when = last_error.as_ref().map(|error| format!(", {} ago", distance(error.at))).unwrap_or_default();
    let next = match status.as_str() {
        "dead" => "dead".to_owned(),
        "scheduled" => format!("retry in {}", distance(*ready_at)),
        "in_flight" => "running again".to_owned(),
        _ => "ready again".to_owned(),
    };
    let times = if *attempts == 1 { "once".to_owned() } else { format!("{attempts} times") };
    let why = last_error.as_ref().map(|LastError { error_type, message, .. }| {
        let error_type = error_type.as_ref().map(|error_type| format!("{error_type}: ")).unwrap_or_default();
        format!("    {}\n", one_line(&format!("{error_type}{message}"), MESSAGE))
    });
    format!("{id}  {queue}/{job_type}  failed {times}{when}; {next}\n{}", why.unwrap_or_default())
}
