//! A job as a shell command.

use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use protocol::job::DeliveredJob;
use rustix::process::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::group::Group;
use super::output::{LineLog, Tail, pump};
use super::{Stop, stopped};
use crate::clock;
use crate::config::Config;
use crate::outcome::{Outcome, of_exit};

/// How long to read on after the command has ended and its group was killed: only a process that left the group can
/// still hold a pipe open then.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);
/// How long a job is given back for when it cannot be started: the machine may be short of something.
const NOT_STARTED_PAUSE_MS: u64 = 5_000;

/// A line for `sh -c`.
#[derive(Debug)]
pub(crate) struct Shell {
    line: String,
    /// The server, as commands see it.
    server: String,
    grace: Duration,
}

impl Shell {
    pub(super) fn new(line: &str, config: &Config) -> Self {
        let server = config.server.as_str().trim_end_matches('/').to_owned();
        Self { line: line.to_owned(), server, grace: config.grace }
    }

    pub(super) async fn run(&self, job: &DeliveredJob, stop: watch::Receiver<Stop>) -> Outcome {
        let started = self.command(job).spawn();
        let outcome = match started {
            Ok(child) => self.attend(child, job, stop).await,
            Err(e) => Err(e),
        };
        outcome.unwrap_or_else(|e| Outcome::NotRun {
            reason: format!("cannot run `sh`: {e}"),
            ready_at: clock::now_ms().saturating_add(NOT_STARTED_PAUSE_MS),
        })
    }

    fn command(&self, job: &DeliveredJob) -> Command {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(&self.line)
            .env("ZIZQ_JOB_ID", job.id.to_string())
            .env("ZIZQ_JOB_TYPE", job.job_type.as_str())
            .env("ZIZQ_JOB_QUEUE", job.queue.as_str())
            .env("ZIZQ_JOB_PRIORITY", job.priority.to_string())
            .env("ZIZQ_JOB_ATTEMPT", job.attempts.saturating_add(1).to_string())
            .env("ZIZQ_JOB_LEASE", job.lease.to_string())
            .env("ZIZQ_SERVER", &self.server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Feeds and reads a child until it has ended, and makes sure that nothing is left of it.
    async fn attend(
        &self,
        mut child: Child,
        job: &DeliveredJob,
        stop: watch::Receiver<Stop>,
    ) -> io::Result<Outcome> {
        let group = Group::of(&child);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut out = LineLog::new(job.id, "stdout");
        let mut err = LineLog::new(job.id, "stderr");
        let mut tail = Tail::default();
        let end = {
            let mut pipes = pin!(async {
                tokio::join!(
                    feed(stdin, job.payload.get().as_bytes()),
                    pump(stdout, |bytes| out.push(bytes)),
                    pump(stderr, |bytes| {
                        tail.push(bytes);
                        err.push(bytes);
                    }),
                )
            });
            let mut end = pin!(self.end(&mut child, group, stop));
            let mut done = false;
            let end = loop {
                tokio::select! {
                    end = &mut end => break end,
                    _ = &mut pipes, if !done => done = true,
                }
            };
            if !done && timeout(OUTPUT_GRACE, &mut pipes).await.is_err() {
                tracing::warn!(job = %job.id, "a process that left the job's group still holds its output; not read on");
            }
            end
        };
        out.finish();
        err.finish();
        let End { status, stopped } = end?;
        Ok(if stopped { Outcome::Stopped } else { of_exit(status, &tail.text()) })
    }

    /// Waits for the end of a child, or brings it about, and kills what is left of its group then.
    async fn end(&self, child: &mut Child, group: Group, mut stop: watch::Receiver<Stop>) -> io::Result<End> {
        tokio::select! {
            biased;
            status = child.wait() => {
                group.end();
                return Ok(End { status: status?, stopped: false });
            }
            () = stopped(&mut stop) => {}
        }
        let patience = if *stop.borrow() == Stop::Now { Duration::ZERO } else { self.grace };
        if !patience.is_zero() {
            group.signal(Signal::TERM);
        }
        tokio::select! {
            // The shell may be gone long before what it started.
            () = async { drop(child.wait().await); group.emptied().await } => {}
            _ = timeout(patience, stop.wait_for(|&stop| stop == Stop::Now)) => group.signal(Signal::KILL),
        }
        let status = child.wait().await;
        group.end();
        Ok(End { status: status?, stopped: true })
    }
}

/// How a child ended, and whether it was told to.
struct End {
    status: ExitStatus,
    stopped: bool,
}

/// Writes the payload. A command need not read it.
async fn feed(stdin: Option<ChildStdin>, payload: &[u8]) {
    if let Some(mut stdin) = stdin
        && let Err(e) = stdin.write_all(payload).await
    {
        tracing::debug!("a command did not read its payload: {e}");
    }
}
