//! What a worker leaves behind at its end: a last line for people, and a code for programs.

use std::fmt;
use std::time::Duration;

use zizq_log::{counted, grouped};

use crate::logging::is_for_people;

/// The codes are those of sysexits.h where that has one.
const FAILED: u8 = 1;
const UNAVAILABLE: u8 = 69;
const TEMPORARY: u8 = 75;

/// Why a worker ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A signal said so, or whoever started it is gone.
    Asked,
    /// `--once`: there is nothing left, but jobs that wait.
    NothingLeft {
        /// How many wait for their next attempt.
        retries: u64,
        /// How many this worker has given back.
        given_back: u64,
    },
    /// `--once`: so many jobs are left that nobody gets.
    Held {
        /// How many those are.
        ready: u64,
        /// The queues of them that are paused, as a comma list; with none they wait for something else.
        paused: String,
        /// How long none has come.
        time: Duration,
    },
    /// `--max-jobs`: as many jobs as wanted were begun.
    Enough(u64),
    /// `--max-idle`: there was nothing to do for so long.
    Idle(Duration),
    /// `--server-timeout`: there was no server for so long.
    NoServer(Duration),
    /// `--once`: the commands of these routes, a comma list, cannot be run here.
    CannotServe(String),
    /// A part of the worker has ended, which it never should.
    Broken,
}

/// What was done, and what was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why it ended.
    pub why: Why,
    /// Whether it was to end by itself: then a job that failed is a failure of the whole.
    pub is_batch: bool,
    /// Jobs that succeeded.
    pub succeeded: u64,
    /// Jobs that failed, and did not succeed later.
    pub failed: u64,
    /// Jobs that succeeded here, but were not this worker's any more.
    pub late: u64,
    /// Runs that were given back.
    pub released: u64,
    /// Jobs that had to be ended.
    pub stopped: usize,
    /// Jobs whose outcome the server did not get.
    pub unreported: usize,
    /// How long all of it took.
    pub time: Duration,
}

impl Ended {
    /// An end before anything was begun.
    #[must_use]
    pub const fn early(why: Why, is_batch: bool) -> Self {
        let time = Duration::ZERO;
        Self { why, is_batch, succeeded: 0, failed: 0, late: 0, released: 0, stopped: 0, unreported: 0, time }
    }

    /// The exit code: 0, all is well; 1, a job failed, had to be ended or could not be reported; 69, there was no server;
    /// 75, jobs are left that could not be run now.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self.why {
            Why::NoServer(_) => UNAVAILABLE,
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
    /// The last line.
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
            Self::Asked => f.write_str("ended, as it was asked to"),
            Self::NothingLeft { retries: 0, given_back: 0 } => f.write_str("no job is left"),
            Self::NothingLeft { retries: 0, given_back } => write!(
                f,
                "no job is ready, and {} given back (--wait-for-retries waits for what was given back)",
                was(*given_back)
            ),
            Self::NothingLeft { retries, .. } => write!(
                f,
                "no job is ready, and {} for the next attempt (--wait-for-retries waits, too)",
                waits(*retries)
            ),
            Self::Held { ready, paused, time: waited } if paused.is_empty() => write!(
                f,
                "{} left, and none came for {}: their budgets have no tokens, or the server has enough jobs in \
                 flight (--max-idle says how long to wait)",
                are(*ready),
                time(waited)
            ),
            Self::Held { ready, paused, .. } => {
                let paused_is = if paused.contains(',') { "are paused" } else { "is paused" };
                write!(f, "{} left: {paused} {paused_is}", are(*ready))
            }
            Self::Enough(jobs) => write!(f, "as many jobs as wanted were begun, {}", grouped(*jobs)),
            Self::Idle(waited) => {
                write!(f, "there was nothing to do for {}", humantime::format_duration(*waited))
            }
            Self::NoServer(waited) => {
                write!(f, "there was no server for {}", humantime::format_duration(*waited))
            }
            Self::CannotServe(routes) => {
                write!(f, "this worker cannot run the jobs of {routes}; the lines above say why")
            }
            Self::Broken => f.write_str("a part of the worker has ended, which it never should"),
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
            (self.late, "came too late"),
            (self.released, "given back"),
            (u64::try_from(self.stopped).unwrap_or(u64::MAX), "had to be ended"),
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
                    "no job is ready, and 2 jobs wait for the next attempt (--wait-for-retries waits, too): {badly}"
                ),
                1,
            ),
            (
                left(0, 1),
                0,
                format!(
                    "no job is ready, and 1 was given back (--wait-for-retries waits for what was given back): {well}"
                ),
                75,
            ),
            (held("queue `q`"), 0, format!("3 jobs are left: queue `q` is paused: {well}"), 75),
            (
                held("queue `p`, queue `q`"),
                0,
                format!("3 jobs are left: queue `p`, queue `q` are paused: {well}"),
                75,
            ),
            (
                held(""),
                0,
                format!(
                    "3 jobs are left, and none came for 12s: their budgets have no tokens, or the server has enough jobs \
                     in flight (--max-idle says how long to wait): {well}"
                ),
                75,
            ),
            (held(""), 2, String::new(), 1),
            (Why::Enough(5), 0, format!("as many jobs as wanted were begun, 5: {well}"), 0),
            (Why::Enough(5), 2, String::new(), 1),
            (Why::Idle(minute), 0, format!("there was nothing to do for 1m: {well}"), 0),
            (Why::Idle(minute), 2, String::new(), 1),
            (Why::NoServer(minute), 0, format!("there was no server for 1m: {well}"), 69),
            (Why::NoServer(minute), 2, String::new(), 69),
            (Why::Asked, 0, format!("ended, as it was asked to: {well}"), 0),
            (Why::Broken, 0, String::new(), 1),
        ] {
            let ended = of(why, failed);
            assert_eq!(ended.code(), code, "{ended}");
            assert!(line.is_empty() || ended.to_string() == line, "{ended}");
        }
    }

    #[test]
    fn jobs_that_fail_are_the_fault_of_a_worker_that_was_to_end_by_itself() {
        let ended = |why, is_batch| Ended { succeeded: 12_345, ..Ended::early(why, is_batch) };
        let left = Why::NothingLeft { retries: 0, given_back: 0 };
        let served = Ended { failed: 2, ..ended(Why::Asked, false) };
        assert_eq!(served.code(), 0, "a worker that serves is not at fault when jobs fail");
        let late = Ended { late: 1, ..ended(left, true) };
        assert_eq!(late.code(), 1);
        assert!(late.to_string().contains(", 0 failed, 1 came too late in "), "{late}");
        let cut = Ended { stopped: 1, unreported: 2, released: 4, ..served };
        assert_eq!(cut.code(), 1);
        assert!(
            cut.to_string().contains(", 4 given back, 1 had to be ended, 2 not reported yet in "),
            "{cut}"
        );
    }
}
