//! One line of the control channel: what it says, and what of it cannot be read.

use std::collections::BTreeMap;

use protocol::outcome::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::ctl::FIRST_TIME;

/// What a job can say. Members that stand for different things may stand together.
#[derive(Debug, Default)]
pub(super) struct Line<'a> {
    pub(super) progress: Option<f64>,
    pub(super) message: Option<String>,
    pub(super) result: Option<&'a RawValue>,
    pub(super) enqueue: Option<&'a RawValue>,
    pub(super) fail: Option<Failure>,
    pub(super) retry_at: Option<u64>,
    /// What of it cannot be read.
    pub(super) bad: Option<Bad>,
}

/// What is wrong with a line, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bad {
    /// Nothing follows from it: nobody knows what it is for, or it is about progress.
    Harmless(String),
    /// It was to decide what becomes of the job.
    Decisive(String),
}

/// The words that decide something, and those that only tell.
const DECISIVE: [&str; 4] = ["fail", "retry_at", "result", "enqueue"];
const TELLING: [&str; 2] = ["progress", "message"];
/// Above this likeness a word was meant.
const LIKE: f64 = 0.88;

#[derive(Deserialize)]
#[serde(untagged)]
enum Fail {
    Message(String),
    Whole(Failure),
}

/// Reads a line. What can be read of it counts, whatever stands beside it.
pub(super) fn read(line: &[u8]) -> Line<'_> {
    let text = line.trim_ascii();
    // Most of what is no line of ours is known by its first byte, and there may be a lot of it.
    if text.first() != Some(&b'{') {
        return bad(Bad::Harmless("it is no JSON object".to_owned()));
    }
    let members: BTreeMap<String, &RawValue> = match serde_json::from_slice(text) {
        Ok(members) => members,
        Err(e) => return bad(of_word(first_word(text), e.to_string())),
    };
    let mut line = Line::default();
    if members.is_empty() {
        line.add(Bad::Harmless("it says nothing".to_owned()));
    }
    for (name, value) in members {
        if let Err(why) = line.member(&name, value) {
            line.add(of_word(&name, why));
        }
    }
    line
}

/// What is wrong with a line that is too long to be read; this is how it begins.
pub(super) fn too_long(start: &[u8], most: usize) -> Bad {
    of_word(first_word(start.trim_ascii_start()), format!("it is longer than {most} bytes"))
}

fn bad(bad: Bad) -> Line<'static> {
    Line { bad: Some(bad), ..Line::default() }
}

/// The name of the first member of what is meant to be an object.
fn first_word(text: &[u8]) -> &str {
    let word = || {
        let name = text.strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"")?;
        std::str::from_utf8(name.split(|&byte| byte == b'"').next()?).ok()
    };
    word().unwrap_or_default()
}

fn of_word(word: &str, why: String) -> Bad {
    let is_meant = DECISIVE.iter().any(|known| is_like(word, known));
    if is_meant { Bad::Decisive(why) } else { Bad::Harmless(why) }
}

fn is_like(word: &str, known: &str) -> bool {
    // No word is so long, and comparing takes time.
    word.len() < 20 && strsim::jaro_winkler(&word.to_lowercase().replace('-', "_"), known) >= LIKE
}

impl<'a> Line<'a> {
    /// Keeps the worst of what is wrong.
    fn add(&mut self, bad: Bad) {
        if !matches!(self.bad, Some(Bad::Decisive(_))) {
            self.bad = Some(bad);
        }
    }

    fn member(&mut self, name: &str, value: &'a RawValue) -> Result<(), String> {
        let is_null = value.get() == "null";
        match name {
            _ if is_null && (DECISIVE.contains(&name) || TELLING.contains(&name)) => {}
            "progress" => {
                let progress: f64 = parse(name, value)?;
                if !(0.0..=1.0).contains(&progress) {
                    return Err(format!("`progress`: {progress} is not from 0 to 1"));
                }
                self.progress = Some(progress);
            }
            "message" => self.message = Some(parse(name, value)?),
            "result" => self.result = Some(value),
            "enqueue" => self.enqueue = Some(value),
            "fail" => {
                let fail = parse(name, value).map_err(|_| {
                    "`fail` must be a text, or an object with a `message` that is one".to_owned()
                })?;
                self.fail = Some(match fail {
                    Fail::Message(message) => Failure { message, ..Failure::default() },
                    Fail::Whole(failure) => failure,
                });
            }
            "retry_at" => {
                let time: u64 = parse(name, value)?;
                if time < FIRST_TIME {
                    return Err(format!("`retry_at` counts milliseconds since 1970, and {time} is long ago"));
                }
                self.retry_at = Some(time);
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

fn parse<'a, T: Deserialize<'a>>(name: &str, value: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(value.get()).map_err(|e| format!("`{name}`: {e}"))
}

fn unknown(name: &str) -> String {
    let mut known = DECISIVE.iter().chain(&TELLING);
    match known.find(|known| is_like(name, known)) {
        Some(near) => format!("there is no `{name}`; did you mean `{near}`?"),
        None => "it says nothing that is known here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_line_that_cannot_be_read_is_a_failure_where_it_was_to_decide_something() {
        let decisive = [
            (r#"{"fail": 5}"#, "`fail` must be a text"),
            (r#"{"fail": {"msg": "x"}}"#, "`fail` must be a text"),
            (r#"{"fail": "no customer"#, "EOF"),
            (r#" { "fail" : "x" "#, "EOF"),
            (r#"{"retry_at": "10m"}"#, "`retry_at`: invalid type"),
            (r#"{"retry_at": -1}"#, "`retry_at`: invalid value"),
            (r#"{"retry_at": 1767225600}"#, "counts milliseconds"),
            (r#"{"result": }"#, "expected value"),
            (r#"{"enqueue": {"queue": "q"}"#, "EOF"),
            (r#"{"failed": "x"}"#, "did you mean `fail`?"),
            (r#"{"retry-at": 1767225600000}"#, "did you mean `retry_at`?"),
            (r#"{"Result": 1}"#, "did you mean `result`?"),
            (r#"{"progress": 40, "fail": 5}"#, "`fail` must be a text"),
        ];
        let harmless = [
            ("nonsense", "no JSON object"),
            ("[1]", "no JSON object"),
            ("{}", "it says nothing"),
            (r#"{"level": "info"}"#, "nothing that is known here"),
            (r#"{"progress": 40}"#, "40 is not from 0 to 1"),
            (r#"{"progress": NaN}"#, "expected value"),
            (r#"{"message": 5}"#, "`message`: invalid type"),
            (r#"{"progres": 0.4}"#, "did you mean `progress`?"),
        ];
        for (text, expected) in decisive {
            match read(text.as_bytes()).bad {
                Some(Bad::Decisive(why)) => assert!(why.contains(expected), "{text}: {why}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        for (text, expected) in harmless {
            match read(text.as_bytes()).bad {
                Some(Bad::Harmless(why)) => assert!(why.contains(expected), "{text}: {why}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_can_be_read_counts_whatever_stands_beside_it() {
        let line = read(br#" {"progress": 1, "message": "ok", "result": {"n": 1.50}, "eta": 5} "#);
        assert_eq!((line.progress, line.message.as_deref()), (Some(1.0), Some("ok")));
        assert_eq!(line.result.map(RawValue::get), Some(r#"{"n": 1.50}"#));
        assert!(matches!(line.bad, Some(Bad::Harmless(_))));
        let line = read(br#"{"fail": {"message": "x", "kill": true}, "result": null}"#);
        assert_eq!(line.fail.map(|fail| (fail.message, fail.kill)), Some(("x".to_owned(), Some(true))));
        assert!(line.result.is_none() && line.bad.is_none());
        assert_eq!(read(br#"{"retry_at": 1999999999999}"#).retry_at, Some(1_999_999_999_999));
    }

    #[test]
    fn a_line_that_is_too_long_is_known_by_its_first_word() {
        assert!(matches!(too_long(br#"{"result": "xxx"#, 9), Bad::Decisive(_)));
        assert!(matches!(too_long(b"\0\0\0", 9), Bad::Harmless(_)));
    }
}
