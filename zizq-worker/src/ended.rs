//! The end of a worker: a last line for people, and an exit code for programs.

use std::fmt;
use std::time::Duration;

use zizq_log::{counted, grouped};

use crate::logging::is_for_people;

/// The codes of sysexits.h where it has one.
const FAILED: u8 = 1;
const UNAVAILABLE: u8 = 69;
const TEMPORARY: u8 = 75;
const NO_PERMISSION: u8 = 77;

/// Why a worker ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A signal, or the terminal that started it is gone.
    Asked,
    /// `--once`: no job is ready.
    NothingLeft {
        /// Jobs that wait for a retry.
        retries: u64,
        /// Jobs that this worker gave back.
        given_back: u64,
    },
    /// `--once`: jobs are ready, but the server delivers none of them.
    Held {
        /// How many jobs.
        ready: u64,
        /// Their paused queues, comma-separated; if empty, they wait for something else.
        paused: String,
        /// How long none has come.
        time: Duration,
    },
    /// `--max-jobs`: this many jobs were started.
    Enough(u64),
    /// `--max-idle`: no job came for this long.
    Idle(Duration),
    /// `--server-timeout`: no server was reachable for this long.
    NoServer(Duration),
    /// The server does not let it take jobs: its words.
    NotAllowed(String),
    /// `--once`: the commands of these routes, comma-separated, cannot be run here.
    CannotServe(String),
    /// A task of the worker ended unexpectedly: a bug.
    Broken,
}

/// The summary of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why it ended.
    pub why: Why,
    /// Whether the worker ends by itself (`--once` ...): then a failed job is a failure of the run.
    pub is_batch: bool,
    /// Jobs that succeeded.
    pub succeeded: u64,
    /// Jobs that failed and did not succeed later.
    pub failed: u64,
    /// Jobs that succeeded here after their lease was lost.
    pub late: u64,
    /// Jobs that were given back.
    pub released: u64,
    /// Jobs that were stopped.
    pub stopped: usize,
    /// Jobs whose outcome did not reach the server.
    pub unreported: usize,
    /// The duration of the run.
    pub time: Duration,
}

impl Ended {
    /// The end of a run in which no job was started.
    #[must_use]
    pub const fn early(why: Why, is_batch: bool) -> Self {
        let time = Duration::ZERO;
        Self { why, is_batch, succeeded: 0, failed: 0, late: 0, released: 0, stopped: 0, unreported: 0, time }
    }

    /// The exit code. 0: success; 1: a job failed, was stopped or could not be reported; 69: no server; 75: jobs are left
    /// that cannot run now; 77: the server does not let it take jobs.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self.why {
            Why::NoServer(_) => UNAVAILABLE,
            Why::NotAllowed(_) => NO_PERMISSION,
            Why::Broken | Why::CannotServe(_) => FAILED,
            _ if self.stopped > 0 || self.unreported > 0 => FAILED,
            _ if self.is_batch && (self.failed > 0 || self.late > 0) => FAILED,
            Why::NothingLeft { retries: 1.., .. } => FAILED,
            Why::NothingLeft { given_back: 1.., .. } | Why::Held { .. } => TEMPORARY,
            Why::Asked | Why::NothingLeft { .. } | Why::Enough(_) | Why::Idle(_) => 0,
        }
    }
}

impl Ended {
    /// Logs the last line.
    pub(crate) fn tell(&self) {
        let Self { succeeded, failed, late, released, stopped, unreported, .. } = *self;
        let (code, ms) = (self.code(), u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX));
        macro_rules! say {
            ($level:ident) => {
                if is_for_people() {
                    tracing::$level!("{self}");
                } else {
                    tracing::$level!(
                        succeeded, failed, late, released, stopped, unreported, ms, code, "{self}"
                    );
                }
            };
        }
        if code == 0 { say!(info) } else { say!(error) }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: &Duration| humantime::format_duration(Duration::from_secs(time.as_secs()));
        match self {
            Self::Asked => f.write_str("shut down as requested"),
            Self::NotAllowed(why) => {
                write!(
                    f,
                    "the server does not let this worker take jobs: {why} (--token-file or ZIZQ_TOKEN gives it an access token)"
                )
            }
            Self::NothingLeft { retries: 0, given_back: 0 } => f.write_str("no job is left"),
            Self::NothingLeft { retries: 0, given_back } => write!(
                f,
                "no job is ready, but {} given back (--wait-for-retries waits for them)",
                was(*given_back)
            ),
            Self::NothingLeft { retries, .. } => write!(
                f,
                "no job is ready, but {} for a retry (--wait-for-retries waits for them)",
                waits(*retries)
            ),
            Self::Held { ready, paused, time: waited } if paused.is_empty() => write!(
                f,
                "{} left, but none came for {}: their budgets have no tokens, or the server has reached its limit of jobs \
                 in flight (--max-idle sets how long to wait)",
                are(*ready),
                time(waited)
            ),
            Self::Held { ready, paused, .. } => {
                let paused_is = if paused.contains(',') { "are paused" } else { "is paused" };
                write!(f, "{} left, but {paused} {paused_is}", are(*ready))
            }
            Self::Enough(jobs) => write!(f, "--max-jobs reached ({})", grouped(*jobs)),
            Self::Idle(waited) => {
                write!(f, "no job came for {}", humantime::format_duration(*waited))
            }
            Self::NoServer(waited) => {
                write!(f, "no Zizq server could be reached for {}", humantime::format_duration(*waited))
            }
            Self::CannotServe(routes) => {
                write!(f, "this worker cannot run the jobs of {routes} (the lines above say why)")
            }
            Self::Broken => f.write_str("a task of the worker ended unexpectedly, which is a bug"),
        }
    }
}

fn was(n: u64) -> String {
    counted(n, ["was", "were"])
}

fn waits(n: u64) -> String {
    counted(n, ["job waits", "jobs wait"])
}

fn are(n: u64) -> String {
    counted(n, ["job is", "jobs are"])
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let succeeded = counted(self.succeeded, ["job", "jobs"]);
        write!(f, "{}: {succeeded} succeeded, {} failed", self.why, grouped(self.failed))?;
        let others = [
            (self.late, "too late"),
            (self.released, "given back"),
            (u64::try_from(self.stopped).unwrap_or(u64::MAX), "stopped"),
            (u64::try_from(self.unreported).unwrap_or(u64::MAX), "not reported yet"),
        ];
        for (n, what) in others.into_iter().filter(|(n, _)| *n > 0) {
            write!(f, ", {} {what}", grouped(n))?;
        }
        let time = Duration::from_millis(u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX));
        let time = if time < Duration::from_secs(10) { time } else { Duration::from_secs(time.as_secs()) };
        write!(f, " in {}", humantime::format_duration(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_has_a_last_line_and_a_code() {
        let (one, minute) = (Duration::from_millis(1_234), Duration::from_secs(60));
        let of = |why, failed| Ended { succeeded: 12_345, failed, time: one, ..Ended::early(why, true) };
        let held = |paused: &str| Why::Held { ready: 3, paused: paused.to_owned(), time: 10 * one };
        let left = |retries, given_back| Why::NothingLeft { retries, given_back };
        let well = "12,345 jobs succeeded, 0 failed in 1s 234ms";
        let badly = "12,345 jobs succeeded, 2 failed in 1s 234ms";
        for (why, failed, line, code) in [
            (left(0, 0), 0, format!("no job is left: {well}"), 0),
            (left(0, 0), 2, format!("no job is left: {badly}"), 1),
            (
                left(2, 1),
                2,
                format!(
                    "no job is ready, but 2 jobs wait for a retry (--wait-for-retries waits for them): {badly}"
                ),
                1,
            ),
            (
                left(0, 1),
                0,
                format!("no job is ready, but 1 was given back (--wait-for-retries waits for them): {well}"),
                75,
            ),
            (held("queue `q`"), 0, format!("3 jobs are left, but queue `q` is paused: {well}"), 75),
            (
                held("queue `p`, queue `q`"),
                0,
                format!("3 jobs are left, but queue `p`, queue `q` are paused: {well}"),
                75,
            ),
            (
                held(""),
                0,
                format!(
                    "3 jobs are left, but none came for 12s: their budgets have no tokens, or the server has reached its \
                     limit of jobs in flight (--max-idle sets how long to wait): {well}"
                ),
                75,
            ),
            (held(""), 2, String::new(), 1),
            (Why::Enough(5), 0, format!("--max-jobs reached (5): {well}"), 0),
            (Why::Enough(5), 2, String::new(), 1),
            (Why::Idle(minute), 0, format!("no job came for 1m: {well}"), 0),
            (Why::Idle(minute), 2, String::new(), 1),
            (Why::NoServer(minute), 0, format!("no Zizq server could be reached for 1m: {well}"), 69),
            (Why::NoServer(minute), 2, String::new(), 69),
            (Why::Asked, 0, format!("shut down as requested: {well}"), 0),
            (Why::Broken, 0, String::new(), 1),
        ] {
            let ended = of(why, failed);
            assert_eq!(ended.code(), code, "{ended}");
            assert!(line.is_empty() || ended.to_string() == line, "{ended}");
        }
    }

    #[test]
    fn failed_jobs_fail_only_a_worker_that_ends_by_itself() {
        let ended = |why, is_batch| Ended { succeeded: 12_345, ..Ended::early(why, is_batch) };
        let left = Why::NothingLeft { retries: 0, given_back: 0 };
        let served = Ended { failed: 2, ..ended(Why::Asked, false) };
        assert_eq!(served.code(), 0, "failed jobs do not fail a worker that runs until a signal");
        let late = Ended { late: 1, ..ended(left, true) };
        assert_eq!(late.code(), 1);
        assert!(late.to_string().contains(", 0 failed, 1 too late in "), "{late}");
        let cut = Ended { stopped: 1, unreported: 2, released: 4, ..served };
        assert_eq!(cut.code(), 1);
        assert!(cut.to_string().contains(", 4 given back, 1 stopped, 2 not reported yet in "), "{cut}");
    }
}
