//! One line of the control channel: parses it, and judges how bad an unreadable one is.

use std::collections::BTreeMap;

use protocol::outcome::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::ctl::FIRST_TIME;

/// The members of a line. Independent ones may be combined.
#[derive(Debug, Default)]
pub(super) struct Line<'a> {
    pub(super) progress: Option<f64>,
    pub(super) message: Option<String>,
    pub(super) result: Option<&'a RawValue>,
    pub(super) enqueue: Option<&'a RawValue>,
    pub(super) fail: Option<Failure>,
    pub(super) retry_at: Option<u64>,
    /// What cannot be read.
    pub(super) bad: Option<Bad>,
}

/// What is wrong with a line, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bad {
    /// It decides nothing: it is about progress, or unknown.
    Harmless(String),
    /// It was to decide the outcome of the job.
    Decisive(String),
}

/// The members that decide something, and those that only inform.
const DECISIVE: [&str; 4] = ["fail", "retry_at", "result", "enqueue"];
const TELLING: [&str; 2] = ["progress", "message"];
/// A word more similar than this to a known one is taken for a misspelling.
const LIKE: f64 = 0.88;

#[derive(Deserialize)]
#[serde(untagged)]
enum Fail {
    Message(String),
    Whole(Failure),
}

/// Reads a line. Readable members count, whatever is beside them.
pub(super) fn read(line: &[u8]) -> Line<'_> {
    let text = line.trim_ascii();
    // There may be a lot of foreign output; its first byte gives it away.
    if text.first() != Some(&b'{') {
        return bad(Bad::Harmless("not a JSON object".to_owned()));
    }
    let members: BTreeMap<String, &RawValue> = match serde_json::from_slice(text) {
        Ok(members) => members,
        Err(e) => return bad(of_word(first_word(text), e.to_string())),
    };
    let mut line = Line::default();
    if members.is_empty() {
        line.add(Bad::Harmless("the object is empty".to_owned()));
    }
    for (name, value) in members {
        if let Err(why) = line.member(&name, value) {
            line.add(of_word(&name, why));
        }
    }
    line
}

/// The fault of a line that is too long to be read, judged by its start.
pub(super) fn too_long(start: &[u8], most: usize) -> Bad {
    of_word(first_word(start.trim_ascii_start()), format!("longer than {most} bytes"))
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
    // No member name is that long, and comparing takes time.
    word.len() < 20 && strsim::jaro_winkler(&word.to_lowercase().replace('-', "_"), known) >= LIKE
}

impl<'a> Line<'a> {
    /// Keeps the worst fault.
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
                    return Err(format!("`progress`: {progress} is not a number from 0 to 1"));
                }
                self.progress = Some(progress);
            }
            "message" => self.message = Some(parse(name, value)?),
            "result" => self.result = Some(value),
            "enqueue" => self.enqueue = Some(value),
            "fail" => {
                let fail = parse(name, value).map_err(|_| {
                    "`fail` must be a string, or an object with a string `message`".to_owned()
                })?;
                self.fail = Some(match fail {
                    Fail::Message(message) => Failure { message, ..Failure::default() },
                    Fail::Whole(failure) => failure,
                });
            }
            "retry_at" => {
                let time: u64 = parse(name, value)?;
                if time < FIRST_TIME {
                    return Err(format!("`retry_at`: {time} milliseconds after 1970 is long ago"));
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
        Some(near) => format!("unknown member `{name}`; did you mean `{near}`?"),
        None => format!("unknown member `{}`", protocol::error::excerpt(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_line_is_a_failure_if_it_was_to_decide_something() {
        let decisive = [
            (r#"{"fail": 5}"#, "`fail` must be a string"),
            (r#"{"fail": {"msg": "x"}}"#, "`fail` must be a string"),
            (r#"{"fail": "no customer"#, "EOF"),
            (r#" { "fail" : "x" "#, "EOF"),
            (r#"{"retry_at": "10m"}"#, "`retry_at`: invalid type"),
            (r#"{"retry_at": -1}"#, "`retry_at`: invalid value"),
            (r#"{"retry_at": 1767225600}"#, "1767225600 milliseconds after 1970 is long ago"),
            (r#"{"result": }"#, "expected value"),
            (r#"{"enqueue": {"queue": "q"}"#, "EOF"),
            (r#"{"failed": "x"}"#, "did you mean `fail`?"),
            (r#"{"retry-at": 1767225600000}"#, "did you mean `retry_at`?"),
            (r#"{"Result": 1}"#, "did you mean `result`?"),
            (r#"{"progress": 40, "fail": 5}"#, "`fail` must be a string"),
        ];
        let harmless = [
            ("nonsense", "not a JSON object"),
            ("[1]", "not a JSON object"),
            ("{}", "the object is empty"),
            (r#"{"level": "info"}"#, "unknown member `level`"),
            (r#"{"progress": 40}"#, "40 is not a number from 0 to 1"),
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
    fn readable_members_count_whatever_is_beside_them() {
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
    fn a_line_that_is_too_long_is_judged_by_its_first_member() {
        assert!(matches!(too_long(br#"{"result": "xxx"#, 9), Bad::Decisive(_)));
        assert!(matches!(too_long(b"\0\0\0", 9), Bad::Harmless(_)));
    }
}
