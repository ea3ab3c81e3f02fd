//! The command line for people: enqueue, status, failed, retry, tail, top. It uses the public HTTP API only.

mod enqueue;
mod failed;
mod online;
mod retry;
mod server;
mod source;
mod status;
mod table;
mod tail;
mod top;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use indicatif::HumanDuration;
use zizq_log::counted;

use crate::clock;
use crate::config::Config;
use server::Target;

/// The exit code if no server answers: `EX_UNAVAILABLE` of sysexits.h.
const UNAVAILABLE: u8 = 69;

/// The exit code after Ctrl-C, as in shells.
const INTERRUPTED: u8 = 130;

/// A command for people.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Enqueue jobs: one, one per file, or one per line of the standard input
    Enqueue(enqueue::Enqueue),
    /// Show the queues: jobs by status, workers, and the age of the oldest ready job
    Status(status::Status),
    /// List failed jobs, the latest first, each with its last error
    Failed(failed::Failed),
    /// Make dead jobs ready again
    Retry(retry::Retry),
    /// Follow a job's output until its attempt ends
    Tail(tail::Tail),
    /// Show a server on the terminal: its queues, jobs and workers, the output of jobs; and change them
    Top(top::Top),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The server refused, or the call failed on the way.
    #[error("{0}")]
    Failed(String),
    /// No server answers. The call was not carried out.
    #[error("{0}")]
    NoServer(String),
    /// Ctrl-C.
    #[error("{0}")]
    Interrupted(String),
    /// The answer was lost. The call may or may not have been carried out.
    #[error("{0}")]
    Lost(String),
}

impl CliError {
    const fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::NoServer(_) | Self::Lost(_) => UNAVAILABLE,
            Self::Interrupted(_) => INTERRUPTED,
        }
    }
}

/// Asks the server about a configuration: a sentence about the server, and warnings about queues.
///
/// # Errors
/// A sentence and the exit code; 69: no server answers.
pub fn ask(config: &Config) -> Result<(String, Vec<String>), (String, u8)> {
    in_runtime(online::look(config)).map_err(|e| (e.to_string(), e.code()))
}

fn in_runtime<T>(task: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider is installed already");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| CliError::Failed(format!("cannot start: {e}")))?;
    let done = runtime.block_on(task);
    // Only a name lookup can still be running, on its own thread.
    runtime.shutdown_background();
    done
}

impl CliCommand {
    /// Runs the command. Exit codes: 0 success, 1 the server refused or a followed job failed, 2 wrong usage, 69 no
    /// server answers.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.carry_out() {
            Ok(code) => code,
            Err(e) => {
                // Without a reader there is nothing to be done.
                drop(writeln!(io::stderr(), "error: {e}"));
                ExitCode::from(e.code())
            }
        }
    }

    fn carry_out(self) -> Result<ExitCode, CliError> {
        in_runtime(async {
            match self {
                Self::Enqueue(enqueue) => enqueue.run().await,
                Self::Status(status) => status.run().await,
                Self::Failed(failed) => failed.run().await,
                Self::Retry(retry) => retry.run().await,
                Self::Tail(tail) => tail.run().await,
                Self::Top(top) => top.run().await,
            }
        })
    }
}

/// Prints to the standard output. A reader that leaves early, such as `head`, ends the command.
fn print(text: &str) -> Result<(), CliError> {
    let mut to = io::stdout().lock();
    let printed = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    printed.map_err(|e| CliError::Failed(format!("cannot write to the standard output: {e}")))
}

/// `1 job`, `1,234 jobs`.
fn jobs(n: u64) -> String {
    counted(n, ["job", "jobs"])
}

/// The distance from now to a time in milliseconds since 1970, past or future, such as `5m`.
fn distance(at: u64) -> String {
    let ms = clock::now_ms().abs_diff(at);
    format!("{:#}", HumanDuration(Duration::from_millis(ms)))
}
