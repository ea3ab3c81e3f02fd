//! Request bodies: bytes in either format become a typed value, or one sentence that says what is wrong where.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde::de::value::CowStrDeserializer;
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use crate::error::excerpt;
use crate::media::Format;
use crate::object::{self, Heard, Object};
use crate::{json, msgpack, synonyms};

/// The deepest nesting of objects and arrays in a body.
pub const MAX_NESTING: usize = 128;

/// Why a body was refused: one sentence that names the field and the bad value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// Refuses a JSON text that nests deeper than any body of the contract: whoever reads it by recursion is safe then.
///
/// # Errors
/// [`Malformed`].
pub fn check_nesting(text: &[u8]) -> Result<(), Malformed> {
    json::check_nesting(text, MAX_NESTING)
}

/// Reads a body that must be an object.
///
/// # Errors
/// [`Malformed`] where it is not of the format, nests too deeply, or a member is not known or has a wrong value.
pub fn parse<'a, T: Deserialize<'a>>(format: Format, body: &'a [u8]) -> Result<T, Malformed> {
    check(format, body)?;
    members(format, body)
}

/// As [`parse`], for a call that newer clients may send more to: members that are not known are passed over.
///
/// # Errors
/// As [`parse`].
pub fn parse_tolerant<'a, T: Deserialize<'a>>(format: Format, body: &'a [u8]) -> Result<T, Malformed> {
    check(format, body)?;
    let read = tolerant_members(format, body).map(|Heard { value, .. }| value);
    read.map_err(|refused| refused.error)
}

/// As [`parse_tolerant`], but a member that is one of the `known` under another name is refused.
///
/// # Errors
/// As [`parse`].
pub fn parse_tolerant_known<'a, T: Deserialize<'a>>(
    format: Format,
    body: &'a [u8],
    known: &[&'static str],
) -> Result<T, Malformed> {
    check(format, body)?;
    let Heard { value, unknown } =
        tolerant_members(format, body).map_err(|refused| refused.explain(known))?;
    refuse_translated(&unknown, known)?;
    Ok(value)
}

/// Refuses a member that is one of the `known` under another name.
pub(crate) fn refuse_translated(unknown: &[String], known: &[&'static str]) -> Result<(), Malformed> {
    let meant = |name: &String| Some((name.clone(), synonyms::translate(name, known)?));
    match unknown.iter().find_map(meant) {
        None => Ok(()),
        Some((name, meant)) => {
            // A name stands in backticks, a sentence does not.
            let meant = if meant.contains(' ') { meant.to_owned() } else { format!("`{meant}`") };
            Err(Malformed(format!("{name}: there is no such member here; did you mean {meant}?")))
        }
    }
}

/// As [`parse_tolerant`], for a call whose body may also be left out altogether.
///
/// # Errors
/// As [`parse`].
pub fn parse_tolerant_optional<'a, T: Deserialize<'a> + Default>(
    format: Format,
    body: &'a [u8],
) -> Result<T, Malformed> {
    if body.is_empty() { Ok(T::default()) } else { parse_tolerant(format, body) }
}

fn check(format: Format, body: &[u8]) -> Result<(), Malformed> {
    match format {
        Format::Json => json::check(body),
        Format::MessagePack => msgpack::check(body),
    }
}

/// As [`parse`], for a call whose body may also be left out altogether.
///
/// # Errors
/// As [`parse`].
pub fn parse_optional<'a, T: Deserialize<'a> + Default>(
    format: Format,
    body: &'a [u8],
) -> Result<T, Malformed> {
    if body.is_empty() { Ok(T::default()) } else { parse(format, body) }
}

/// The part of [`parse`] after the checks of the text. Finding out where an error is costs time, so it is done in a
/// second pass that only bad bodies pay for.
pub(crate) fn members<'a, T: Deserialize<'a>>(format: Format, body: &'a [u8]) -> Result<T, Malformed> {
    try_members(format, body).ok_or_else(|| explain::<T>(format, body))
}

/// Why a tolerant reading failed, and which members of the object it failed in are not known.
pub(crate) struct Refused {
    pub(crate) error: Malformed,
    pub(crate) unknown: Vec<String>,
}

impl Refused {
    /// What is missing may be there under another name.
    pub(crate) fn explain(self, known: &[&'static str]) -> Malformed {
        let Self { error: Malformed(error), unknown } = self;
        let list = error.find("]: ").map_or(0, |at| at + "]: ".len());
        let place = error.get(..list).filter(|place| place.starts_with("jobs[")).unwrap_or_default();
        match refuse_translated(&unknown, known) {
            Err(Malformed(translated)) => Malformed(format!("{place}{translated}")),
            Ok(()) => Malformed(error),
        }
    }
}

/// As [`members`], passing over what is not known. A body that is known in full is read as fast as by that.
pub(crate) fn tolerant_members<'a, T: Deserialize<'a>>(
    format: Format,
    body: &'a [u8],
) -> Result<Heard<T>, Refused> {
    if let Some(value) = try_members(format, body) {
        return Ok(Heard { value, unknown: Vec::new() });
    }
    let (value, unknown) = object::tolerantly(|| try_members(format, body));
    match value {
        Some(value) => Ok(Heard { value, unknown }),
        None => {
            let (error, _) = object::tolerantly(|| explain::<T>(format, body));
            Err(Refused { error, unknown })
        }
    }
}

fn try_members<'a, T: Deserialize<'a>>(format: Format, body: &'a [u8]) -> Option<T> {
    let parsed = match format {
        Format::Json => serde_json::from_slice::<Object<T>>(body).ok(),
        Format::MessagePack => rmp_serde::from_slice::<Object<T>>(body).ok(),
    };
    parsed.map(|Object(value)| value)
}

fn explain<'a, T: Deserialize<'a>>(format: Format, body: &'a [u8]) -> Malformed {
    match format {
        Format::Json => explain_json::<T>(body),
        Format::MessagePack => explain_msgpack::<T>(body),
    }
}

/// Reads one of several names, and only that: serde also takes an object or a number for it.
pub(crate) fn name<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(CowStrDeserializer::new(Cow::deserialize(deserializer)?))
}

/// As [`name`], where there may be none.
pub(crate) fn opt_name<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let name = Option::<Cow<'_, str>>::deserialize(deserializer)?;
    name.map(|name| T::deserialize(CowStrDeserializer::new(name))).transpose()
}

fn explain_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Malformed {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let error = match serde_path_to_error::deserialize::<_, Object<T>>(&mut deserializer) {
        Ok(_) => match deserializer.end() {
            Ok(()) => return Malformed("the body could not be read".to_owned()),
            Err(e) => return Malformed(format!("the body is not valid JSON: {e}")),
        },
        Err(e) => e,
    };
    // A number that is too large for anything is valid JSON all the same.
    let is_json = || serde_json::from_slice::<IgnoredAny>(body).is_ok();
    match error.inner().classify() {
        category if category == Category::Data || is_json() => {
            let text = error.inner().to_string();
            // Positions help with broken syntax; a wrong value is found by its path.
            let sentence = text.rsplit_once(" at line ").map_or(text.as_str(), |(sentence, _)| sentence);
            Malformed(at(error.path(), sentence))
        }
        _ => Malformed(format!("the body is not valid JSON: {}", error.inner())),
    }
}

fn explain_msgpack<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Malformed {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
    match serde_path_to_error::deserialize::<_, Object<T>>(&mut deserializer) {
        Ok(_) => Malformed("the body could not be read".to_owned()),
        Err(e) => Malformed(at(e.path(), &e.inner().to_string())),
    }
}

/// `jobs[3]: backoff.exponent: invalid type …`: elements of a list stand before the member.
fn at(path: &Path, sentence: &str) -> String {
    const MAX_BYTES: usize = 300;
    let unknown = unknown_member(sentence);
    let sentence = unknown.as_deref().unwrap_or(sentence);
    let sentence = sentence.get(..sentence.floor_char_boundary(MAX_BYTES)).unwrap_or(sentence);
    let mut place = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => place.push_str(&format!("[{index}]: ")),
            Segment::Map { key } => {
                if !place.is_empty() && !place.ends_with(' ') {
                    place.push('.');
                }
                place.push_str(&excerpt(key));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    match place.as_str() {
        "" => format!("the body: {sentence}"),
        list if list.ends_with(' ') => format!("{list}{sentence}"),
        member => format!("{member}: {sentence}"),
    }
}

/// What serde says of a member that is not known, put so that it helps.
fn unknown_member(sentence: &str) -> Option<String> {
    let rest = sentence.strip_prefix("unknown field `")?;
    let (name, list) = rest.rsplit_once("`, expected ").or_else(|| rest.rsplit_once("`, there are "))?;
    let known: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    Some(match synonyms::suggest(name, &known) {
        Some(meant) => format!("there is no such member here; did you mean `{meant}`?"),
        None if known.is_empty() => "there is no such member here; this body has none".to_owned(),
        None => format!("there is no such member here; there are {}", known.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Backoff;

    #[derive(Debug, Deserialize)]
    struct Outer {
        #[expect(dead_code, reason = "only read to fail")]
        #[serde(default)]
        list: Vec<Object<Inner>>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[expect(dead_code, reason = "only read to fail")]
        backoff: Object<Backoff>,
    }

    fn sentence(body: &str) -> String {
        parse::<Outer>(Format::Json, body.as_bytes()).unwrap_err().0
    }

    #[test]
    fn errors_name_the_place() {
        let bad = r#"{"list": [{"backoff": {"base_ms": 1, "exponent": "x", "jitter_ms": 0}}]}"#;
        assert_eq!(sentence(bad), r#"list[0]: backoff.exponent: invalid type: string "x", expected f32"#);
        assert_eq!(sentence(r#"{"list": [{}]}"#), "list[0]: missing field `backoff`");
        assert_eq!(sentence(r#"{"list": 5}"#), "list: invalid type: integer `5`, expected a sequence");
        assert_eq!(sentence("[]"), "the body: invalid type: sequence, expected an object");
        assert_eq!(
            sentence(r#"{"list": []} x"#),
            "the body is not valid JSON: trailing characters at line 1 column 14"
        );
        let large = r#"{"list": [{"backoff": {"base_ms": 1, "exponent": 1e400, "jitter_ms": 0}}]}"#;
        assert_eq!(sentence(large), "list[0]: backoff.exponent: number out of range");
        assert!(sentence(r#"{"list": "#).starts_with("the body is not valid JSON: EOF"));
        assert!(sentence(r#"{"list": [], "list": []}"#).contains("duplicate field `list`"));
        let not_utf8 = parse::<Outer>(Format::Json, b"{\"a\": \"\xff\"}").unwrap_err().0;
        assert_eq!(not_utf8, "the body is not UTF-8: bad byte at offset 7");
    }

    #[test]
    fn messagepack_errors_name_the_place_too() {
        let body = rmp_serde::to_vec(&serde_json::json!({"list": [{"backoff": {"base_ms": -1}}]})).unwrap();
        let sentence = parse::<Outer>(Format::MessagePack, &body).unwrap_err().0;
        assert_eq!(sentence, "list[0]: backoff.base_ms: -1 is out of range 0 to 4294967295");
    }
}
