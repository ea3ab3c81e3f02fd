//! `zizq-worker ctl`: how a shell script inside a job reports to its worker, over the control channel.

use std::fs::File;
use std::io::{self, Write as _};
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use serde_json::value::RawValue;

use crate::clock;

/// The variable that names the control channel.
pub(crate) const CONTROL_VARIABLE: &str = "ZIZQ_CTL_FD";

/// The error type of a job whose decision about itself cannot be read.
pub(crate) const CONTROL_ERROR: &str = "control_line";
/// A number below this (a time in 1973) was hardly meant as milliseconds: it counts seconds.
pub(crate) const FIRST_TIME: u64 = 100_000_000_000;

/// What a job can report.
#[derive(Debug, Subcommand)]
pub enum CtlCommand {
    /// Report progress
    Progress {
        /// From 0 to 1
        progress: f64,
        /// The current step
        message: Option<String>,
    },
    /// Set the result, as JSON; it is kept with the job when it succeeds
    Result {
        /// Any JSON value
        json: String,
    },
    /// Enqueue a new job; this job succeeds only if the server accepts it
    Enqueue {
        /// The job, as for `POST /jobs`: {"queue": ..., "type": ..., "payload": ...}
        job: String,
    },
    /// Fail this attempt, whatever the exit code
    Fail {
        /// Do not retry
        #[arg(long)]
        kill: bool,
        /// A name for this kind of error, for programs
        #[arg(long, value_name = "CLASS")]
        error_type: Option<String>,
        /// What went wrong
        message: String,
    },
    /// Fail this attempt, and retry at this time
    RetryAt {
        /// A duration (`10m`), a time (`2026-01-01T12:00:00Z`), or milliseconds since 1970
        #[arg(value_parser = time)]
        when: u64,
        /// Why
        message: Option<String>,
    },
}

/// Reads a time, or a duration from now. The result is in milliseconds since 1970.
pub(crate) fn time(text: &str) -> Result<u64, String> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if let Ok(ms) = text.parse() {
        if ms < FIRST_TIME {
            let meant = if ms < FIRST_TIME / 1_000 {
                format!("a duration has a unit: {text}s")
            } else {
                format!("did you mean {text}000?")
            };
            return Err(format!("{text} milliseconds after 1970 is long ago; {meant}"));
        }
        return Ok(ms);
    }
    if let Ok(span) = humantime::parse_duration(text) {
        return Ok(clock::now_ms().saturating_add(ms(span)));
    }
    let time = text.parse::<jiff::Timestamp>().map_err(|_| {
        if text.parse::<jiff::civil::DateTime>().is_ok() {
            let hour = if text.contains(':') { "" } else { "T00:00:00" };
            format!("{text} has no time zone: write {text}{hour}Z for UTC, or {text}{hour}+01:00")
        } else {
            "neither a duration such as 10m nor a time such as 2026-01-01T12:00:00Z".to_owned()
        }
    })?;
    Ok(u64::try_from(time.as_millisecond()).unwrap_or(0))
}

impl CtlCommand {
    /// The line for the control channel.
    fn line(&self) -> Result<String, String> {
        Ok(match self {
            Self::Progress { progress, .. } if !(0.0..=1.0).contains(progress) => {
                return Err(format!("{progress} is not a number from 0 to 1"));
            }
            Self::Progress { progress, message } => {
                json!({"progress": progress, "message": message}).to_string()
            }
            // Not parsed: numbers keep every digit.
            Self::Result { json } => raw("result", json)?,
            Self::Enqueue { job } => raw("enqueue", job)?,
            Self::Fail { kill, error_type, message } => {
                json!({"fail": {"message": message, "kill": kill, "error_type": error_type}}).to_string()
            }
            Self::RetryAt { when, message } => json!({"retry_at": when, "message": message}).to_string(),
        })
    }

    /// Reports to the worker. A decision that cannot be reported makes the job fail, because a script may carry on as if
    /// it had been.
    ///
    /// # Errors
    /// A sentence: outside a job, or if the report cannot be written.
    pub fn run(&self) -> Result<(), String> {
        let number = channel()?;
        let line = self.line().inspect_err(|why| {
            if !matches!(self, Self::Progress { .. }) {
                write(number, &misuse(why)).ok();
            }
        })?;
        write(number, &line).map_err(|e| format!("cannot reach the worker: {e}"))
    }
}

/// Inside a job: makes it fail after a wrong call of `zizq-worker ctl`, unless that was about progress.
pub fn misused(error: &clap::Error) {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() != Some("ctl") || words.next().is_none_or(|word| word == "progress") {
        return;
    }
    if error.use_stderr()
        && let Ok(number) = channel()
    {
        let text = error.to_string();
        // The names of missing arguments are on lines of their own.
        let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
        let why = lines.collect::<Vec<_>>().join(" ");
        write(number, &misuse(why.strip_prefix("error: ").unwrap_or(&why))).ok();
    }
}

fn misuse(why: &str) -> String {
    let message = format!("`zizq-worker ctl` was called wrongly: {why}");
    json!({"fail": {"message": message, "error_type": CONTROL_ERROR}}).to_string()
}

fn channel() -> Result<u32, String> {
    let number = std::env::var(CONTROL_VARIABLE)
        .map_err(|_| format!("this works only inside a job: {CONTROL_VARIABLE} is not in the environment"))?;
    number.parse().map_err(|_| format!("{CONTROL_VARIABLE} is not a number: `{number}`"))
}

fn raw(member: &str, text: &str) -> Result<String, String> {
    let value: &RawValue =
        serde_json::from_str(text).map_err(|e| format!("`{text}` is not valid JSON: {e}"))?;
    // The channel is read line by line.
    Ok(format!("{{\"{member}\":{}}}", value.get().replace(['\n', '\r'], " ")))
}

fn write(number: u32, line: &str) -> io::Result<()> {
    // Opening the descriptor by its path is safe, whatever number the variable holds.
    let mut channel = File::options().append(true).open(format!("/proc/self/fd/{number}"))?;
    channel.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_zone() {
        let at = 1_798_711_199_000;
        for (text, ms) in [
            ("2026-12-31T09:59:59Z", at),
            ("2026-12-31T10:59:59+01:00", at),
            ("2026-12-31 09:59:59.000Z", at),
            ("1798711199000", at),
        ] {
            assert_eq!(time(text), Ok(ms), "{text}");
        }
        for (text, sentence) in [
            (
                "2026-12-31T09:59:59",
                "2026-12-31T09:59:59 has no time zone: write 2026-12-31T09:59:59Z for UTC, or",
            ),
            ("2026-12-31", "2026-12-31 has no time zone"),
            ("1798711199", "1798711199 milliseconds after 1970 is long ago; did you mean 1798711199000?"),
            ("tomorrow", "neither a duration such as 10m nor a time such as 2026-01-01T12:00:00Z"),
        ] {
            let error = time(text).unwrap_err();
            assert!(error.contains(sentence), "{text}: {error}");
        }
    }
}
