//! `zizq-worker retry`: makes dead jobs ready again, by id or by queue and type.

use std::process::ExitCode;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::server::{Server, refused};
use super::{CliError, Target, jobs, print};

/// Which dead jobs to make ready again.
#[derive(Debug, clap::Args)]
pub struct Retry {
    /// These jobs: dead, completed or scheduled
    #[arg(value_name = "JOB")]
    ids: Vec<String>,
    /// All dead jobs of this queue
    #[arg(long, conflicts_with = "ids")]
    queue: Option<String>,
    /// With --queue or --all: only jobs of this type
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "ids")]
    job_type: Option<String>,
    /// All dead jobs of all queues
    #[arg(long, conflicts_with_all = ["ids", "queue"])]
    all: bool,
    /// Reset their attempt counters
    #[arg(long)]
    reset_attempts: bool,
    /// Only count the jobs
    #[arg(long, conflicts_with = "ids")]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
}

impl Retry {
    pub(super) async fn run(self) -> Result<ExitCode, CliError> {
        if self.ids.is_empty() && self.queue.is_none() && !self.all {
            let how = "say which jobs to retry: their ids, --queue QUEUE, or --all";
            return Err(CliError::Usage(how.to_owned()));
        }
        let server = self.target.connect()?;
        if self.ids.is_empty() { self.many(&server).await } else { self.each(&server).await }
    }

    /// Retries all matching jobs in one call.
    async fn many(&self, server: &Server) -> Result<ExitCode, CliError> {
        let mut query = vec![("status", "dead")];
        query.extend(self.queue.as_deref().map(|queue| ("queue", queue)));
        query.extend(self.job_type.as_deref().map(|job_type| ("type", job_type)));
        query.extend(self.dry_run.then_some(("dry_run", "true")));
        let request = server.request(Method::POST, &["jobs", "retry"], &query);
        let answer = server.expect_late(request.json(&self.body())).await?;
        if self.target.json {
            print(&format!("{answer}\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        let count = answer.get("retried").and_then(Value::as_u64).unwrap_or(0);
        let whose = self.queue.as_ref().map_or_else(String::new, |queue| format!(" of queue {queue}"));
        let (count, verb) = (jobs(count), if self.dry_run { "would be" } else { "made" });
        print(&format!("{count}{whose} {verb} ready again\n"))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Retries jobs one by one, so that one refusal does not stop the others.
    async fn each(&self, server: &Server) -> Result<ExitCode, CliError> {
        let mut code = ExitCode::SUCCESS;
        for id in &self.ids {
            let request = server.request(Method::POST, &["jobs", id, "retry"], &[]);
            let (status, answer) = server.ask(request.json(&self.body())).await?;
            let line = match status {
                StatusCode::OK if self.target.json => format!("{answer}\n"),
                StatusCode::OK => format!("{id} is ready again\n"),
                _ => {
                    code = ExitCode::FAILURE;
                    self.refusal(id, status, &answer)
                }
            };
            print(&line)?;
        }
        Ok(code)
    }

    /// A line about a job that cannot be retried.
    fn refusal(&self, id: &str, status: StatusCode, answer: &Value) -> String {
        let error = refused(status, answer).to_string();
        if !self.target.json {
            return format!("{id}: {error}\n");
        }
        let code = answer.get("code").map(|code| ("code".to_owned(), code.clone()));
        let members = [("id".to_owned(), json!(id)), ("error".to_owned(), json!(error))];
        format!("{}\n", Value::Object(members.into_iter().chain(code).collect()))
    }

    fn body(&self) -> Value {
        json!({"reset_attempts": self.reset_attempts})
    }
}
