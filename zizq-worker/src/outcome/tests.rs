use std::collections::BTreeMap;

use super::rules::{Kind, RuleError};
use super::*;

fn status(code: u16) -> Fact {
    Fact::Status { status: StatusCode::from_u16(code).unwrap(), pause: None }
}

fn judge(kind: Kind, fact: &Fact, detail: &str) -> Outcome {
    Rules::new(kind).judge(fact, detail, Said::default())
}

/// One word for what follows.
fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Success(_) => "success",
        Outcome::Failure(failure) if failure.kill == Some(true) => "dead",
        Outcome::Failure(_) => "retry",
        Outcome::Release { .. } => "release",
        Outcome::BackOff { .. } => "back_off",
        Outcome::Suspect(_) => "suspect",
        Outcome::Stopped => "stopped",
    }
}

#[test]
fn every_exit_code_has_its_line() {
    for code in 0..=255 {
        let expected = match code {
            0 => "success",
            75 => "retry",
            64..=74 | 76..=78 => "dead",
            126 | 127 => "suspect",
            _ => "retry",
        };
        assert_eq!(word(&judge(Kind::Command, &Fact::Exit(code), "")), expected, "{code}");
    }
}

#[test]
fn every_status_has_its_line() {
    for code in 100..=599 {
        let expected = match code {
            200..=299 => "success",
            429 | 503 => "release",
            408 | 425 => "retry",
            400..=499 => "dead",
            _ => "retry",
        };
        assert_eq!(word(&judge(Kind::Http, &status(code), "")), expected, "{code}");
    }
}

#[test]
fn everything_else_has_its_line_and_its_name() {
    let text = || "why".to_owned();
    for (kind, fact, expected, error_type, message) in [
        (Kind::Command, Fact::Signal(9), "retry", "signal", "killed by signal 9 (SIGKILL)"),
        (Kind::Command, Fact::Signal(64), "retry", "signal", "killed by signal 64"),
        (Kind::Command, Fact::OutOfMemory, "retry", "out_of_memory", "killed: out of memory"),
        (Kind::Command, Fact::OutOfCpuTime, "retry", "out_of_cpu_time", "killed: out of CPU time"),
        (
            Kind::Command,
            Fact::TimedOut(Duration::from_millis(1500)),
            "retry",
            "timed_out",
            "timed out after 1s 500ms",
        ),
        (Kind::Command, Fact::BadJob(text()), "dead", "bad_job", "the job does not fit its route: why"),
        (Kind::Http, Fact::TimedOut(Duration::from_secs(1)), "retry", "timed_out", "timed out after 1s"),
        (Kind::Http, Fact::NoAnswer(text()), "retry", "http_error", "no answer from the endpoint: why"),
        (Kind::Http, Fact::BadJob(text()), "dead", "bad_job", "the job does not fit its route: why"),
    ] {
        let outcome = judge(kind, &fact, "");
        assert_eq!(word(&outcome), expected, "{fact:?}");
        let Outcome::Failure(failure) = outcome else { panic!("{fact:?}") };
        assert_eq!((failure.message.as_str(), failure.error_type.as_deref()), (message, Some(error_type)));
    }
    let fault = judge(Kind::Command, &Fact::CannotStart(text()), "");
    assert_eq!(fault, Outcome::BackOff { reason: "could not be started: why".to_owned() });
    let suspect = judge(Kind::Command, &Fact::NoSuchProgram(text()), "");
    assert_eq!(word(&suspect), "suspect", "the job names the program");
    assert_eq!(judge(Kind::Http, &Fact::Stopped, ""), Outcome::Stopped);
}

#[test]
fn retry_after_says_how_long_and_whether_an_attempt_counts_it_does_not() {
    let seconds = Duration::from_secs;
    let after = |code, pause| {
        let fact = Fact::Status { status: StatusCode::from_u16(code).unwrap(), pause };
        judge(Kind::Http, &fact, "")
    };
    for code in [429, 503] {
        for given in [None, Some(seconds(0)), Some(seconds(77))] {
            assert!(matches!(after(code, given), Outcome::Release { pause, .. } if pause == given), "{code}");
        }
    }
    for (given, delay_ms) in
        [(None, None), (Some(seconds(0)), Some(1_000)), (Some(seconds(77)), Some(77_000))]
    {
        let Outcome::Failure(failure) = after(500, given) else { panic!() };
        assert_eq!((failure.delay_ms, failure.retry_at), (delay_ms, None));
    }
    let Outcome::Failure(failure) = after(404, Some(seconds(77))) else { panic!() };
    assert_eq!((failure.delay_ms, failure.kill), (None, Some(true)));
}

fn with(kind: Kind, lines: &[(&str, Action)]) -> Result<Rules, RuleError> {
    let lines: BTreeMap<_, _> = lines.iter().map(|(key, action)| ((*key).to_owned(), *action)).collect();
    Rules::with(kind, &lines)
}

#[test]
fn a_route_may_see_it_otherwise() {
    let lines = [
        ("0-255", Action::Retry),
        ("3", Action::Dead),
        ("10-19", Action::Success),
        ("signal", Action::Dead),
        ("SIGTERM", Action::Release),
        ("cannot_start", Action::Retry),
    ];
    let rules = with(Kind::Command, &lines).unwrap();
    for (fact, expected) in [
        (Fact::Exit(0), "retry"),
        (Fact::Exit(3), "dead"),
        (Fact::Exit(10), "success"),
        (Fact::Exit(19), "success"),
        (Fact::Exit(64), "retry"),
        (Fact::Signal(15), "release"),
        (Fact::Signal(11), "dead"),
        (Fact::CannotStart(String::new()), "retry"),
        (Fact::NoSuchProgram(String::new()), "retry"),
        (Fact::BadJob(String::new()), "dead"),
    ] {
        assert_eq!(word(&rules.judge(&fact, "", Said::default())), expected, "{fact:?}");
    }
    let rules = with(Kind::Http, &[("404", Action::Success), ("5xx", Action::Dead)]).unwrap();
    for (code, expected) in [(404, "success"), (500, "dead"), (503, "dead"), (410, "dead"), (200, "success")]
    {
        assert_eq!(word(&rules.judge(&status(code), "", Said::default())), expected, "{code}");
    }
}

#[test]
fn a_line_that_cannot_be_is_refused() {
    for (kind, key) in [
        (Kind::Command, "256"),
        (Kind::Command, "9-3"),
        (Kind::Command, "SIGNOTHING"),
        (Kind::Command, "no_answer"),
        (Kind::Http, "99"),
        (Kind::Http, "signal"),
        (Kind::Http, "6xx"),
        (Kind::Http, ""),
    ] {
        let error = with(kind, &[(key, Action::Dead)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{key}` is not a possible outcome")), "{error}");
    }
}

#[test]
fn what_a_job_says_of_itself_counts() {
    let own = Failure { message: "no such customer".to_owned(), kill: Some(true), ..Failure::default() };
    let said = Said { failure: Some(own.clone()), result: None };
    for code in [0, 1] {
        let outcome = Rules::new(Kind::Command).judge(&Fact::Exit(code), "", said.clone());
        assert_eq!(outcome, Outcome::Failure(own.clone()));
    }
    let outcome = Rules::new(Kind::Command).judge(&Fact::Exit(127), "", said);
    assert_eq!(word(&outcome), "suspect", "it did not even get to its end");
}

#[test]
fn messages() {
    let command = |detail: &str| match judge(Kind::Command, &Fact::Exit(3), detail) {
        Outcome::Failure(failure) => (failure.message, failure.backtrace),
        other => panic!("{other:?}"),
    };
    assert_eq!(command(""), ("exited with code 3".to_owned(), None));
    assert_eq!(command(" \n\n"), ("exited with code 3".to_owned(), None));
    let printed = "first\nlast \n\n";
    assert_eq!(command(printed), ("last (exited with code 3)".to_owned(), Some(printed.to_owned())));
    let (long, _) = command(&"xä".repeat(1000));
    assert!(long.starts_with("xäxä") && long.ends_with("(exited with code 3)"));
    assert!(long.len() < MAX_MESSAGE + 30);

    let answer = |detail: &str| match judge(Kind::Http, &status(404), detail) {
        Outcome::Failure(failure) => failure.message,
        other => panic!("{other:?}"),
    };
    assert_eq!(answer(""), "the endpoint answered 404 Not Found");
    assert_eq!(answer(" no such thing\n"), "the endpoint answered 404 Not Found: no such thing");
}
