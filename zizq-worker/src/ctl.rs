//! `zizq-worker ctl`: what a job says to its worker, for shells.

use std::fs::File;
use std::io::{self, Write as _};
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use serde_json::value::RawValue;

use crate::clock;

/// The variable that names the control channel.
pub(crate) const CONTROL_VARIABLE: &str = "ZIZQ_CTL_FD";

/// The class of the error of a job that has decided something about itself, and nobody can read what.
pub(crate) const CONTROL_ERROR: &str = "control_line";
/// Before this, in 1973, a time was hardly meant: it counts seconds.
pub(crate) const FIRST_TIME: u64 = 100_000_000_000;

/// What a job can say.
#[derive(Debug, Subcommand)]
pub enum CtlCommand {
    /// How far it is
    Progress {
        /// From 0 to 1
        progress: f64,
        /// What it is at
        message: Option<String>,
    },
    /// What it produced, as JSON; kept with the job when it succeeds
    Result {
        /// Any JSON value
        json: String,
    },
    /// Put a new job into a queue; this job succeeds only if the server took it
    Enqueue {
        /// The job as `POST /jobs` takes it: {"queue": ..., "type": ..., "payload": ...}
        job: String,
    },
    /// It failed, whatever its exit code will be
    Fail {
        /// Do not try again
        #[arg(long)]
        kill: bool,
        /// A class of errors that programs can tell apart
        #[arg(long, value_name = "CLASS")]
        error_type: Option<String>,
        /// What went wrong
        message: String,
    },
    /// It failed for now, and is to be tried again then
    RetryAt {
        /// In how long (`10m`), when (`2026-01-01T12:00:00Z`), or in milliseconds since 1970
        #[arg(value_parser = time)]
        when: u64,
        /// Why
        message: Option<String>,
    },
}

/// Reads a time, or a duration from now on.
pub(crate) fn time(text: &str) -> Result<u64, String> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if let Ok(ms) = text.parse() {
        if ms < FIRST_TIME {
            let meant = if ms < FIRST_TIME / 1_000 {
                format!("a duration has a unit: {text}s")
            } else {
                format!("did you mean {text}000?")
            };
            return Err(format!("{text} counts milliseconds since 1970, which is long ago; {meant}"));
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
            "it is neither a duration such as 10m nor a time such as 2026-01-01T12:00:00Z".to_owned()
        }
    })?;
    Ok(u64::try_from(time.as_millisecond()).unwrap_or(0))
}

impl CtlCommand {
    /// The line for the control channel.
    fn line(&self) -> Result<String, String> {
        Ok(match self {
            Self::Progress { progress, .. } if !(0.0..=1.0).contains(progress) => {
                return Err(format!("{progress} is not from 0 to 1"));
            }
            Self::Progress { progress, message } => {
                json!({"progress": progress, "message": message}).to_string()
            }
            // As it was written: numbers keep every digit.
            Self::Result { json } => raw("result", json)?,
            Self::Enqueue { job } => raw("enqueue", job)?,
            Self::Fail { kill, error_type, message } => {
                json!({"fail": {"message": message, "kill": kill, "error_type": error_type}}).to_string()
            }
            Self::RetryAt { when, message } => json!({"retry_at": when, "message": message}).to_string(),
        })
    }

    /// Says it to the worker. What was to decide something and cannot be said makes the job fail, for a script may go on
    /// as if nothing had happened.
    ///
    /// # Errors
    /// With a sentence: outside of a job, or where it cannot be said.
    pub fn run(&self) -> Result<(), String> {
        let number = channel()?;
        let line = self.line().inspect_err(|why| {
            if !matches!(self, Self::Progress { .. }) {
                write(number, &misuse(why)).ok();
            }
        })?;
        write(number, &line).map_err(|e| format!("the worker cannot be told: {e}"))
    }
}

/// Inside a job: makes it fail where it called `zizq-worker ctl` as nobody can, unless that was about progress.
pub fn misused(error: &clap::Error) {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() != Some("ctl") || words.next().is_none_or(|word| word == "progress") {
        return;
    }
    if error.use_stderr()
        && let Ok(number) = channel()
    {
        let text = error.to_string();
        let why = text.lines().next().unwrap_or_default();
        write(number, &misuse(why.strip_prefix("error: ").unwrap_or(why))).ok();
    }
}

fn misuse(why: &str) -> String {
    let message = format!("`zizq-worker ctl` was called with what it cannot read: {why}");
    json!({"fail": {"message": message, "error_type": CONTROL_ERROR}}).to_string()
}

fn channel() -> Result<u32, String> {
    let number = std::env::var(CONTROL_VARIABLE).map_err(|_| {
        format!("there is no {CONTROL_VARIABLE} in the environment: this works only inside a job")
    })?;
    number.parse().map_err(|_| format!("{CONTROL_VARIABLE} is no number: `{number}`"))
}

fn raw(member: &str, text: &str) -> Result<String, String> {
    let value: &RawValue = serde_json::from_str(text).map_err(|e| format!("`{text}` is no JSON: {e}"))?;
    // A line is a line.
    Ok(format!("{{\"{member}\":{}}}", value.get().replace(['\n', '\r'], " ")))
}

fn write(number: u32, line: &str) -> io::Result<()> {
    // The name of the descriptor opens it once more, which needs no trust in a number.
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
            ("1798711199", "counts milliseconds since 1970"),
            ("tomorrow", "it is neither a duration such as 10m nor a time such as 2026-01-01T12:00:00Z"),
        ] {
            let error = time(text).unwrap_err();
            assert!(error.contains(sentence), "{text}: {error}");
        }
    }
}
