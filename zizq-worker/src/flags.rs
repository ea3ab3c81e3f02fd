//! The flags that say how to run jobs, each parsed on its own. [`crate::config`] decides what they mean together.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use protocol::unit;

use crate::access::AccessFlags;
use crate::cgroup::Place;
use crate::logging::{LogFormat, LogLevel};
use crate::route::{ConcurrencyFlag, RouteFlag};
use crate::screen::Live;
use crate::values::{address, number};

/// How to run jobs.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Read routes and settings from this file, and again on SIGHUP. Flags take precedence
    #[arg(long, env = "ZIZQ_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How to reach the server.
    #[command(flatten)]
    pub access: AccessFlags,

    /// Run a shell command for every job of a queue; repeatable
    #[arg(long, value_name = "QUEUE=COMMAND", value_parser = RouteFlag::command)]
    pub run: Vec<RouteFlag>,

    /// POST every job of a queue to a URL; repeatable
    #[arg(long, value_name = "QUEUE=URL", value_parser = RouteFlag::http)]
    pub http: Vec<RouteFlag>,

    /// Run up to N jobs at a time per queue, or of this queue; repeatable [default: 1]
    #[arg(long, env = "ZIZQ_CONCURRENCY", value_name = "N|QUEUE=N", value_delimiter = ',')]
    pub concurrency: Vec<ConcurrencyFlag>,

    /// Run up to N jobs at a time in total
    #[arg(long, env = "ZIZQ_TOTAL_CONCURRENCY", value_name = "N", value_parser = number::<NonZeroU16>)]
    pub total_concurrency: Option<NonZeroU16>,

    /// Name of this worker on the server [default: host name and process id]
    #[arg(long, env = "ZIZQ_WORKER_ID", value_name = "NAME")]
    pub worker_id: Option<String>,

    /// How long the server reserves a job for this worker after its last heartbeat [default: 30s]
    #[arg(long, env = "ZIZQ_LEASE", value_name = "TIME", value_parser = unit::duration)]
    pub lease: Option<Duration>,

    /// How long a job may run [default: no limit]
    #[arg(long, env = "ZIZQ_TIMEOUT", value_name = "TIME", value_parser = unit::duration)]
    pub timeout: Option<Duration>,

    /// How long running jobs may take to finish after SIGTERM or SIGINT before they are stopped [default: 30s]
    #[arg(long, env = "ZIZQ_SHUTDOWN_TIMEOUT", value_name = "TIME", value_parser = unit::duration)]
    pub shutdown_timeout: Option<Duration>,

    /// How long a command that is stopped has between SIGTERM and SIGKILL [default: 5s]
    #[arg(long, env = "ZIZQ_GRACE", value_name = "TIME", value_parser = unit::duration)]
    pub grace: Option<Duration>,

    /// How long processes that a command started may outlive it, to print their last lines [default: 1s]
    #[arg(long, env = "ZIZQ_LINGER", value_name = "TIME", value_parser = unit::duration)]
    pub linger: Option<Duration>,

    /// Keep user name and password in the ZIZQ_SERVER that commands get, and give them the access token as ZIZQ_TOKEN; by
    /// default they get neither
    #[arg(long, env = "ZIZQ_PASS_CREDENTIALS", value_parser = BoolishValueParser::new())]
    pub pass_credentials: bool,

    /// Keep outcomes in this folder until the server has them [default: a folder of the user's state]
    #[arg(long, env = "ZIZQ_SPOOL", value_name = "FOLDER")]
    pub spool: Option<PathBuf>,

    /// Run each command in its own cgroup, below the worker's (auto) or in this folder
    #[arg(long, env = "ZIZQ_CGROUP", value_name = "auto|FOLDER")]
    pub cgroup: Option<Place>,

    /// Serve /ready, /health and /metrics on this address
    #[arg(long, env = "ZIZQ_LISTEN", value_name = "ADDRESS:PORT", value_parser = address)]
    pub listen: Option<SocketAddr>,

    /// Exit after this many jobs
    #[arg(long, env = "ZIZQ_MAX_JOBS", value_name = "N", value_parser = number::<NonZeroU64>)]
    pub max_jobs: Option<NonZeroU64>,

    /// Exit after this long without a job
    #[arg(long, env = "ZIZQ_MAX_IDLE", value_name = "TIME", value_parser = unit::duration)]
    pub max_idle: Option<Duration>,

    /// Run the jobs that are ready, then exit: 0 if all succeeded, 1 if one failed, 75 if jobs are left that cannot run
    /// now, such as those of a paused queue
    #[arg(long, visible_alias = "drain", env = "ZIZQ_ONCE", value_parser = BoolishValueParser::new())]
    pub once: bool,

    /// With --once, also wait for jobs that will be retried
    #[arg(long, env = "ZIZQ_WAIT_FOR_RETRIES", requires = "once", value_parser = BoolishValueParser::new())]
    pub wait_for_retries: bool,

    /// Exit with code 69 after this long without a server [default: never; with --once: 1m]
    #[arg(long, env = "ZIZQ_SERVER_TIMEOUT", value_name = "TIME", value_parser = unit::duration)]
    pub server_timeout: Option<Duration>,

    /// Show the running jobs on a terminal [default: auto]
    #[arg(long, env = "ZIZQ_LIVE", value_enum, value_name = "WHEN")]
    pub live: Option<Live>,

    /// How to label a job on the terminal: text with jq placeholders [default: the first string in its payload]
    #[arg(long, env = "ZIZQ_LABEL", value_name = "TEMPLATE")]
    pub label: Option<String>,

    /// The least important messages to log [default: info]
    #[arg(long, env = "ZIZQ_LOG_LEVEL", value_enum)]
    pub log_level: Option<LogLevel>,

    /// The format of the log [default: pretty on a terminal, otherwise json]
    #[arg(long, env = "ZIZQ_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}
