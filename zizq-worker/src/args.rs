//! The flags, as they are written. What they mean together is [`crate::config`]'s business.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU64};
use std::path::PathBuf;
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
/// A command gets the payload as JSON on its standard input and the job's id, type, queue, priority, attempt and lease
/// in the environment (ZIZQ_JOB_ID, ...). Exit code 0 is success, 64 to 78 except 75 is final, anything else is
/// tried again; a command that cannot be started is this worker's fault, and counts for no attempt. A URL gets the payload as a POST; any 2xx is success, 4xx is final,
/// anything else is tried again. `{{ ... }}` in a command or URL is a jq expression over the job, such as
/// {{ .payload.name }}. A file, `--config`, can say everything that flags can, and more: `zizq-worker init` writes one.
///
/// The exit code of a worker that ends by itself (--once, --max-jobs, --max-idle) is 0 when all its jobs succeeded, 1 when
/// one failed, had to be ended or could not be reported, 69 when there was no server, and 75 when jobs are left that nobody
/// gets now. A worker that serves ends with 0 on a signal, unless jobs had to be ended or could not be reported.
#[derive(Debug, Parser)]
#[command(name = "zizq-worker", version, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What else the program can do than run jobs.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How to run jobs.
    #[command(flatten)]
    pub flags: Flags,
}

/// What else the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What people ask a server for.
    #[command(flatten)]
    Cli(CliCommand),
    /// Say whether a configuration is right, and what it means
    ///
    /// Every mistake is told, with its line. Programs and folders that are not here are warned of. The exit code is 0 where
    /// it is right, warnings or not; 2 where it is wrong; with --online also 69 where no server answers, 1 where the server
    /// refuses.
    Check(Box<CheckFlags>),
    /// Write a sample configuration with every key explained
    Init {
        /// Where to; `-` is standard output
        #[arg(default_value = "worker.toml")]
        path: PathBuf,
    },
    /// Inside a job: tell the worker something
    #[command(subcommand)]
    Ctl(CtlCommand),
    /// Sets limits for itself and becomes a command
    #[command(hide = true)]
    ExecChild(LaunchArgs),
    /// Ends the commands of a worker that was killed
    #[command(hide = true)]
    Guard {
        /// What they have in their environment
        mark: String,
        /// Where their cgroups are
        cgroups: Option<PathBuf>,
    },
}

/// What to check.
#[derive(Debug, clap::Args)]
pub struct CheckFlags {
    /// Ask the server, too: whether it answers, and whether it knows the queues
    #[arg(long)]
    pub online: bool,
    /// The configuration.
    #[command(flatten)]
    pub flags: Flags,
}

/// How to run jobs.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// A file that says what to do; read again on SIGHUP. Flags go before it
    #[arg(long, env = "ZIZQ_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How the server is reached.
    #[command(flatten)]
    pub access: AccessFlags,

    /// Run a shell command for every job of a queue; repeatable
    #[arg(long, value_name = "QUEUE=COMMAND", value_parser = RouteFlag::command)]
    pub run: Vec<RouteFlag>,

    /// POST every job of a queue to a URL; repeatable
    #[arg(long, value_name = "QUEUE=URL", value_parser = RouteFlag::http)]
    pub http: Vec<RouteFlag>,

    /// How many jobs of each queue, or of this queue, may run at a time; repeatable [default: 1]
    #[arg(long, env = "ZIZQ_CONCURRENCY", value_name = "N|QUEUE=N", value_delimiter = ',')]
    pub concurrency: Vec<ConcurrencyFlag>,

    /// How many jobs may run at a time in all
    #[arg(long, env = "ZIZQ_TOTAL_CONCURRENCY", value_name = "N")]
    pub total_concurrency: Option<NonZeroU16>,

    /// The name that the server shows for this worker [default: host name and process id]
    #[arg(long, env = "ZIZQ_WORKER_ID", value_name = "NAME")]
    pub worker_id: Option<String>,

    /// How long a job stays this worker's after the server last heard of it [default: 30s]
    #[arg(long, env = "ZIZQ_LEASE", value_name = "TIME", value_parser = unit::duration)]
    pub lease: Option<Duration>,

    /// How long a job may run [default: for ever]
    #[arg(long, env = "ZIZQ_TIMEOUT", value_name = "TIME", value_parser = unit::duration)]
    pub timeout: Option<Duration>,

    /// How long running jobs may take to finish after SIGTERM or SIGINT, before they are ended [default: 30s]
    #[arg(long, env = "ZIZQ_SHUTDOWN_TIMEOUT", value_name = "TIME", value_parser = unit::duration)]
    pub shutdown_timeout: Option<Duration>,

    /// How long a command that must end has between SIGTERM and SIGKILL [default: 5s]
    #[arg(long, env = "ZIZQ_GRACE", value_name = "TIME", value_parser = unit::duration)]
    pub grace: Option<Duration>,

    /// How long what a command has started may go on after its end, to print its last lines; then it must end, too
    /// [default: 1s]
    #[arg(long, env = "ZIZQ_LINGER", value_name = "TIME", value_parser = unit::duration)]
    pub linger: Option<Duration>,

    /// Give commands the address of the server with its name and password, which ZIZQ_SERVER is otherwise without
    #[arg(long, env = "ZIZQ_PASS_CREDENTIALS", value_parser = BoolishValueParser::new())]
    pub pass_credentials: bool,

    /// Where outcomes are kept until the server has them [default: a folder of the user's state]
    #[arg(long, env = "ZIZQ_SPOOL", value_name = "FOLDER")]
    pub spool: Option<PathBuf>,

    /// Give every command a cgroup: below that of the worker (auto), or in this folder
    #[arg(long, env = "ZIZQ_CGROUP", value_name = "auto|FOLDER")]
    pub cgroup: Option<Place>,

    /// Serve /ready, /health and /metrics here
    #[arg(long, env = "ZIZQ_LISTEN", value_name = "ADDRESS:PORT", value_parser = address)]
    pub listen: Option<SocketAddr>,

    /// End after this many jobs
    #[arg(long, env = "ZIZQ_MAX_JOBS", value_name = "N")]
    pub max_jobs: Option<NonZeroU64>,

    /// End when there was nothing to do for this long
    #[arg(long, env = "ZIZQ_MAX_IDLE", value_name = "TIME", value_parser = unit::duration)]
    pub max_idle: Option<Duration>,

    /// Run the jobs that are there, then end: 0 when all succeeded, 1 when one failed, 75 when some are left that nobody
    /// gets now, as on a paused queue
    #[arg(long, visible_alias = "drain", env = "ZIZQ_ONCE", value_parser = BoolishValueParser::new())]
    pub once: bool,

    /// With --once, wait also for jobs that are to be tried again
    #[arg(long, env = "ZIZQ_WAIT_FOR_RETRIES", requires = "once", value_parser = BoolishValueParser::new())]
    pub wait_for_retries: bool,

    /// End with code 69 when there was no server for this long [default: never; with --once 1m]
    #[arg(long, env = "ZIZQ_SERVER_TIMEOUT", value_name = "TIME", value_parser = unit::duration)]
    pub server_timeout: Option<Duration>,

    /// Show what runs, on a terminal [default: auto]
    #[arg(long, env = "ZIZQ_LIVE", value_enum, value_name = "WHEN")]
    pub live: Option<Live>,

    /// What a job is called where it is shown: text with jq in it [default: the first text in its payload]
    #[arg(long, env = "ZIZQ_LABEL", value_name = "TEMPLATE")]
    pub label: Option<String>,

    /// The least important messages to log [default: info]
    #[arg(long, env = "ZIZQ_LOG_LEVEL", value_enum)]
    pub log_level: Option<LogLevel>,

    /// How to write the log [default: pretty on a terminal, otherwise json]
    #[arg(long, env = "ZIZQ_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}

/// Where to listen.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is no address and port; write it like 127.0.0.1:7891"))
}
