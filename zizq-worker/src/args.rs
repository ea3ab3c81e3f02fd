//! The command line: subcommands and flags, each parsed on its own. [`crate::config`] decides what they mean together.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU64};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Parser, Subcommand};
use protocol::unit;

use crate::access::AccessFlags;
use crate::cgroup::Place;
use crate::cli::CliCommand;
use crate::ctl::CtlCommand;
use crate::exec::launch::LaunchArgs;
use crate::live::Live;
use crate::logging::{LogFormat, LogLevel};
use crate::route::{ConcurrencyFlag, RouteFlag};

/// Runs the jobs of a Zizq server as commands and HTTP calls.
///
/// A command receives the payload as JSON on its standard input, and the job's id, type, queue, priority, attempt and
/// lease in the environment (ZIZQ_JOB_ID, ...). Exit code 0 means success; 64 to 78, except 75, means failed for good;
/// any other code is retried. A command that cannot be started is this worker's fault and does not count as an attempt.
/// A URL receives the payload as a POST: 2xx means success, 4xx means failed for good, anything else is retried.
/// `{{ ... }}` in a command or URL is a jq expression over the job, such as {{ .payload.name }}. A configuration file
/// (--config) covers all flags and more; `zizq-worker init` writes a sample.
///
/// A worker that ends by itself (--once, --max-jobs, --max-idle) exits with 0 when all its jobs succeeded, 1 when a job
/// failed, was stopped or could not be reported, 69 when no server answered, and 75 when jobs are left that cannot run
/// now. A worker that runs until a signal exits with 0, unless jobs were stopped or could not be reported.
#[derive(Debug, Parser)]
#[command(name = "zizq-worker", version, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do instead of running jobs.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How to run jobs.
    #[command(flatten)]
    pub flags: Flags,
}

/// Everything but running jobs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Commands for people, which ask a server.
    #[command(flatten)]
    Cli(CliCommand),
    /// Check a configuration and show what it means
    ///
    /// Reports every mistake with its line, and warns about missing programs and folders. The exit code is 0 if the
    /// configuration is valid, with or without warnings, and 2 if it is not; with --online also 69 if no server answers
    /// and 1 if the server refuses.
    Check(Box<CheckFlags>),
    /// Write a sample configuration with every key explained
    Init {
        /// The file to write; `-` is the standard output
        #[arg(default_value = "worker.toml")]
        path: PathBuf,
    },
    /// Inside a job: report progress, a result, a new job or a failure to the worker
    #[command(subcommand)]
    Ctl(CtlCommand),
    /// Set limits for this process and become a command
    #[command(hide = true)]
    ExecChild(LaunchArgs),
    /// Kill the commands of a worker that was killed
    #[command(hide = true)]
    Guard {
        /// The mark in the environment of these commands
        mark: String,
        /// The folder of their cgroups
        cgroups: Option<PathBuf>,
    },
}

/// What to check.
#[derive(Debug, clap::Args)]
pub struct CheckFlags {
    /// Also ask the server: whether it answers, and whether it knows the queues
    #[arg(long)]
    pub online: bool,
    /// The configuration.
    #[command(flatten)]
    pub flags: Flags,
}

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

    /// Keep user name and password in the ZIZQ_SERVER that commands get; by default they are removed
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

/// Reads the address and port to listen on.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address and port, such as 127.0.0.1:7891"))
}

/// A whole number that a flag can hold, with its range in words.
pub(crate) trait Number: FromStr {
    const RANGE: &str;
}

impl Number for NonZeroU16 {
    const RANGE: &str = "from 1 to 65535";
}

impl Number for NonZeroU64 {
    const RANGE: &str = "from 1";
}

impl Number for u16 {
    const RANGE: &str = "from 0 to 65535";
}

impl Number for u32 {
    const RANGE: &str = "from 0 to 4294967295";
}

/// Reads a number; the error names the range, not what the parser tripped over.
pub(crate) fn number<N: Number>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number {}", N::RANGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_refused_is_told_its_range() {
        assert_eq!(number::<NonZeroU64>("0"), Err("`0` is not a number from 1".to_owned()));
        assert_eq!(number::<u16>("abc"), Err("`abc` is not a number from 0 to 65535".to_owned()));
        assert_eq!(number::<u16>("65536"), Err("`65536` is not a number from 0 to 65535".to_owned()));
        assert_eq!(number::<NonZeroU16>("7").map(NonZeroU16::get), Ok(7));
    }
}
