//! The command line: what to do, and the flags of it. How jobs are run is in [`crate::flags`].

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cli::CliCommand;
use crate::ctl::CtlCommand;
use crate::exec::launch::LaunchArgs;
use crate::flags::Flags;

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
///
/// A job that belongs to a trace passes it on (TRACEPARENT, TRACESTATE). With OTEL_EXPORTER_OTLP_ENDPOINT in its
/// environment, the worker sends a span for every attempt whose trace is sampled to that OpenTelemetry collector.
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
