//! The flags, as they are written. What they mean together is [`crate::config`]'s business.

use std::time::Duration;

use clap::Parser;
use reqwest::Url;

use crate::logging::{LogFormat, LogLevel};
use crate::route::{ConcurrencyFlag, RouteFlag, http_url};

/// Runs the jobs of a Zizq server as shell commands and HTTP calls.
///
/// A command gets the payload as JSON on its standard input and the job's id, type, queue, priority, attempt and lease
/// in the environment (ZIZQ_JOB_ID, ...). Exit code 0 is success. A URL gets the payload as a POST; any 2xx is success.
/// Everything else is a failure, and the server decides when to try again.
#[derive(Debug, Parser)]
#[command(name = "zizq-worker", version, max_term_width = 100)]
pub struct Args {
    /// The server to take jobs from
    #[arg(long, env = "ZIZQ_SERVER", value_name = "URL", default_value = "http://127.0.0.1:7890")]
    #[arg(value_parser = server_url)]
    pub server: Url,

    /// Run a shell command for every job of a queue; repeatable
    #[arg(long, value_name = "QUEUE=COMMAND", value_parser = RouteFlag::command)]
    pub run: Vec<RouteFlag>,

    /// POST every job of a queue to a URL; repeatable
    #[arg(long, value_name = "QUEUE=URL", value_parser = RouteFlag::http)]
    pub http: Vec<RouteFlag>,

    /// How many jobs of each queue, or of this queue, may run at a time; repeatable [default: 1]
    #[arg(long, value_name = "N|QUEUE=N")]
    pub concurrency: Vec<ConcurrencyFlag>,

    /// The name that the server shows for this worker [default: host name and process id]
    #[arg(long, env = "ZIZQ_WORKER_ID", value_name = "NAME")]
    pub worker_id: Option<String>,

    /// How long a job stays this worker's after the server last heard of it
    #[arg(long, env = "ZIZQ_LEASE", value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = humantime::parse_duration)]
    pub lease: Duration,

    /// How long running jobs may take to finish after SIGTERM or SIGINT, before they are ended
    #[arg(long, env = "ZIZQ_SHUTDOWN_TIMEOUT", value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = humantime::parse_duration)]
    pub shutdown_timeout: Duration,

    /// How long a command that must end has between SIGTERM and SIGKILL
    #[arg(long, env = "ZIZQ_GRACE", value_name = "TIME", default_value = "5s")]
    #[arg(value_parser = humantime::parse_duration)]
    pub grace: Duration,

    /// The least important messages to log
    #[arg(long, env = "ZIZQ_LOG_LEVEL", value_enum, default_value = "info")]
    pub log_level: LogLevel,

    /// How to write the log [default: pretty on a terminal, otherwise json]
    #[arg(long, env = "ZIZQ_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}

fn server_url(text: &str) -> Result<Url, String> {
    let url = http_url(text, "http://HOST:PORT")?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{text}` has a `?` or `#` part, which the address of a server has not"));
    }
    Ok(url)
}
