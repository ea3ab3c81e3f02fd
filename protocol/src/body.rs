//! Request bodies: parses bytes in either format into a typed value, or explains in one sentence what is wrong, and where.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde::de::value::CowStrDeserializer;
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use crate::error::excerpt;
pub use crate::malformed::{MAX_NESTING, Malformed};
use crate::media::Format;
use crate::object::{self, Heard, Object};
use crate::{json, msgpack, synonyms};

/// Refuses a JSON text that nests deeper than the contract allows, so that recursive readers are safe.
///
/// # Errors
/// [`Malformed`].
pub fn check_nesting(text: &[u8]) -> Result<(), Malformed> {
    json::check_nesting(text, MAX_NESTING)
}

/// Reads a body that must be an object.
///
/// # Errors
/// [`Malformed`] if the body is not in the format, nests too deeply, or has a member that is unknown or has a wrong value.
pub fn parse<'a, T: Deserialize<'a>>(format: Format, body: &'a [u8]) -> Result<T, Malformed> {
    check(format, body)?;
    members(format, body)
}

/// As [`parse`], but ignores unknown members, which newer clients may send.
///
/// # Errors
/// As [`parse`].
pub fn parse_tolerant<'a, T: Deserialize<'a>>(format: Format, body: &'a [u8]) -> Result<T, Malformed> {
    check(format, body)?;
    let read = tolerant_members(format, body).map(|Heard { value, .. }| value);
    read.map_err(|refused| refused.error)
}

/// As [`parse_tolerant`], but refuses a member that is one of the `known` under another name.
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
            // Backticks around a name, not around a sentence.
            let meant = if meant.contains(' ') { meant.to_owned() } else { format!("`{meant}`") };
            Err(Malformed(format!("{name}: there is no such member here; did you mean {meant}?")))
        }
    }
}

/// As [`parse_tolerant`], for a call whose body may be omitted.
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

/// As [`parse`], for a call whose body may be omitted.
///
/// # Errors
/// As [`parse`].
pub fn parse_optional<'a, T: Deserialize<'a> + Default>(
    format: Format,
    body: &'a [u8],
) -> Result<T, Malformed> {
    if body.is_empty() { Ok(T::default()) } else { parse(format, body) }
}

/// The part of [`parse`] after the checks of the text. Locating an error takes time, so only bad bodies get a second pass.
pub(crate) fn members<'a, T: Deserialize<'a>>(format: Format, body: &'a [u8]) -> Result<T, Malformed> {
    try_members(format, body).ok_or_else(|| explain::<T>(format, body))
}

/// Why a tolerant reading failed, and the unknown members of the object in which it failed.
pub(crate) struct Refused {
    pub(crate) error: Malformed,
    pub(crate) unknown: Vec<String>,
}

impl Refused {
    /// Explains the error: a missing member may be there under another name.
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

/// As [`members`], but ignores unknown members. A body without any is read as fast.
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

/// Reads a unit variant by name only: serde would also accept an object or a number.
pub(crate) fn name<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(CowStrDeserializer::new(Cow::deserialize(deserializer)?))
}

/// As [`name`], for an optional member.
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
    // A number that is out of every range is still valid JSON.
    let is_json = || serde_json::from_slice::<IgnoredAny>(body).is_ok();
    match error.inner().classify() {
        category if category == Category::Data || is_json() => {
            let text = error.inner().to_string();
            // A position helps with broken syntax; a wrong value is located by its path.
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

/// Adds the place: `jobs[3]: backoff.exponent: invalid type …`, with list elements before the member.
fn at(path: &Path, sentence: &str) -> String {
    const MAX_BYTES: usize = 300;
    let reworded = reworded(sentence);
    let sentence = reworded.as_deref().unwrap_or(sentence);
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

/// Rewords a message of serde for people who do not know Rust.
fn reworded(sentence: &str) -> Option<String> {
    unknown_member(sentence).or_else(|| unknown_value(sentence)).or_else(|| {
        let is_of_lists =
            sentence.ends_with("expected a sequence") || sentence.starts_with("invalid type: sequence");
        is_of_lists.then(|| {
            sentence
                .replace("expected a sequence", "expected an array")
                .replace("invalid type: sequence", "invalid type: array")
        })
    })
}

/// The sentence about a value that is none of a fixed set.
fn unknown_value(sentence: &str) -> Option<String> {
    let rest = sentence.strip_prefix("unknown variant `")?;
    let (value, list) = rest.rsplit_once("`, expected ")?;
    let known: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    Some(format!("`{}` is none of {}", excerpt(value), known.join(", ")))
}

/// The sentence about an unknown member, with a suggestion.
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
        assert_eq!(sentence(r#"{"list": 5}"#), "list: invalid type: integer `5`, expected an array");
        assert_eq!(sentence("[]"), "the body: invalid type: array, expected an object");
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
