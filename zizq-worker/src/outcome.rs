//! From what a job left behind to what that means.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use protocol::outcome::Failure;
use reqwest::StatusCode;
use rustix::process::Signal;

/// The longest message of a failure, in bytes; what is behind it is in the backtrace or in the log.
const MAX_MESSAGE: usize = 1024;

/// How the run of a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it should.
    Success,
    /// It failed.
    Failure(Failure),
    /// This worker could not even start it.
    NotRun {
        reason: String,
        /// When to try again, in milliseconds since the Unix epoch.
        ready_at: u64,
    },
    /// It was ended because the worker was told to.
    Stopped,
}

/// The outcome of a command, by how it ended and by the last lines of its standard error.
pub(crate) fn of_exit(status: ExitStatus, stderr_tail: &str) -> Outcome {
    if status.success() {
        return Outcome::Success;
    }
    let (error_type, how) = match (status.signal(), status.code()) {
        (Some(signal), _) => ("signal", format!("killed by {}", signal_name(signal))),
        (None, code) => ("exit_code", format!("exited with code {}", code.unwrap_or(-1))),
    };
    let message = match stderr_tail.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => format!("{} ({how})", start_of(line, MAX_MESSAGE)),
        None => how,
    };
    Outcome::Failure(Failure {
        message,
        error_type: Some(error_type.to_owned()),
        backtrace: (!stderr_tail.trim().is_empty()).then(|| stderr_tail.to_owned()),
        ..Failure::default()
    })
}

fn signal_name(number: i32) -> String {
    const NAMES: [(Signal, &str); 16] = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::SYS, "SIGSYS"),
    ];
    match NAMES.iter().find(|(signal, _)| signal.as_raw() == number) {
        Some((_, name)) => format!("signal {number} ({name})"),
        None => format!("signal {number}"),
    }
}

/// The outcome of an HTTP call, by its status, its `Retry-After` and the start of its body.
pub(crate) fn of_response(status: StatusCode, retry_at: Option<u64>, body: &str) -> Outcome {
    if status.is_success() {
        return Outcome::Success;
    }
    let message = match body.trim() {
        "" => format!("the endpoint answered {status}"),
        body => format!("the endpoint answered {status}: {}", start_of(body, MAX_MESSAGE)),
    };
    Outcome::Failure(Failure {
        message,
        error_type: Some("http_status".to_owned()),
        retry_at,
        ..Failure::default()
    })
}

/// The outcome of an HTTP call that got no answer.
pub(crate) fn of_no_response(error: &str) -> Outcome {
    Outcome::Failure(Failure {
        message: start_of(&format!("the endpoint gave no answer: {error}"), MAX_MESSAGE).to_owned(),
        error_type: Some("http_error".to_owned()),
        ..Failure::default()
    })
}

/// As much of the text as fits into `max` bytes.
fn start_of(text: &str, max: usize) -> &str {
    let end = (0..=max).rfind(|&end| text.is_char_boundary(end)).unwrap_or(0);
    if text.len() <= max { text } else { text.get(..end).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(outcome: Outcome) -> (String, String, Option<String>) {
        match outcome {
            Outcome::Failure(f) => (f.message, f.error_type.unwrap(), f.backtrace),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn exit_codes_and_signals() {
        let (exited, killed) = (|code: i32| ExitStatus::from_raw(code << 8), ExitStatus::from_raw);
        assert_eq!(of_exit(exited(0), "a warning"), Outcome::Success);
        for (status, stderr, message, error_type) in [
            (exited(3), "", "exited with code 3", "exit_code"),
            (exited(3), " \n\n", "exited with code 3", "exit_code"),
            (exited(1), "first\nlast \n\n", "last (exited with code 1)", "exit_code"),
            (killed(9), "", "killed by signal 9 (SIGKILL)", "signal"),
            (killed(11 | 0x80), "oh\n", "oh (killed by signal 11 (SIGSEGV))", "signal"),
            (killed(64), "", "killed by signal 64", "signal"),
        ] {
            let backtrace = (!stderr.trim().is_empty()).then(|| stderr.to_owned());
            assert_eq!(
                failure(of_exit(status, stderr)),
                (message.to_owned(), error_type.to_owned(), backtrace)
            );
        }
    }

    #[test]
    fn a_message_is_short_and_whole_characters() {
        let (message, ..) = failure(of_exit(ExitStatus::from_raw(256), &"xä".repeat(1000)));
        assert!(message.starts_with("xäxä") && message.ends_with("(exited with code 1)"));
        assert!(message.len() < MAX_MESSAGE + 30);
    }

    #[test]
    fn answers() {
        let status = |code| StatusCode::from_u16(code).unwrap();
        for good in [200, 201, 204, 299] {
            assert_eq!(of_response(status(good), None, "whatever"), Outcome::Success);
        }
        for (code, body, message) in [
            (500, "", "the endpoint answered 500 Internal Server Error"),
            (404, " no such thing\n", "the endpoint answered 404 Not Found: no such thing"),
            (302, "", "the endpoint answered 302 Found"),
        ] {
            let expected = (message.to_owned(), "http_status".to_owned(), None);
            assert_eq!(failure(of_response(status(code), None, body)), expected);
        }
        let Outcome::Failure(busy) = of_response(status(503), Some(77), "") else { panic!() };
        assert_eq!(busy.retry_at, Some(77));
        assert_eq!(failure(of_no_response("closed")).0, "the endpoint gave no answer: closed");
    }
}
