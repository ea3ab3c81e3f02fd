//! `PATCH /jobs/{id}` and `PATCH /jobs`: a JSON merge patch ([RFC 7396](https://www.rfc-editor.org/rfc/rfc7396)) of the
//! mutable members of a job.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

use crate::body::{self, Malformed};
use crate::job::{Backoff, Retention};
use crate::media::Format;
use crate::name::QueueName;
use crate::nullable::{given, not_null};
use crate::number::Integer;
use crate::object::Object;
use crate::time::{Given, InvalidTime};

/// The changes to a job. The outer `None` leaves a field unchanged, the inner one resets it to the default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Patch {
    /// The queue it moves to.
    pub queue: Option<QueueName>,
    /// Lower runs first.
    pub priority: Option<u16>,
    /// When it becomes ready, in milliseconds since the Unix epoch; reset: now.
    pub ready_at: Option<Option<u64>>,
    /// How often it is retried after its first attempt; 0: never.
    pub retry_limit: Option<Option<u32>>,
    /// Its own backoff.
    pub backoff: Option<Option<Backoff>>,
    /// Its own retention.
    pub retention: RetentionPatch,
}

/// The changes to a retention, member by member, as in [`Patch`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionPatch {
    /// After a success, in milliseconds.
    pub completed_ms: Option<Option<u64>>,
    /// After its death, in milliseconds.
    pub dead_ms: Option<Option<u64>>,
}

impl Patch {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl RetentionPatch {
    /// The changed retention.
    #[must_use]
    pub fn apply(self, retention: Option<Retention>) -> Option<Retention> {
        let Retention { completed_ms, dead_ms } = retention.unwrap_or_default();
        let patched = Retention {
            completed_ms: self.completed_ms.unwrap_or(completed_ms),
            dead_ms: self.dead_ms.unwrap_or(dead_ms),
        };
        Some(patched).filter(|patched| *patched != Retention::default())
    }
}

/// Why a patch was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The body has a wrong shape (400).
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The field cannot have this value (422).
    #[error("{0}")]
    Invalid(String),
}

/// Reads the body of a patch.
///
/// # Errors
/// [`PatchError`], in one sentence that names the field.
pub fn parse(format: Format, body: &[u8]) -> Result<Patch, PatchError> {
    let members: Members = body::parse(format, body)?;
    members.check().map_err(PatchError::Invalid)
}

/// The given members: of the right type, but with any value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    #[serde(default, deserialize_with = "given")]
    queue: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    priority: Option<Option<Whole>>,
    #[serde(default, deserialize_with = "given")]
    ready_at: Option<Option<Moment>>,
    #[serde(default, deserialize_with = "given")]
    retry_limit: Option<Option<Whole>>,
    #[serde(default, deserialize_with = "given")]
    backoff: Option<Option<Object<BackoffMembers>>>,
    #[serde(default, deserialize_with = "given")]
    retention: Option<Option<Object<RetentionMembers>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackoffMembers {
    base_ms: Whole,
    exponent: f64,
    jitter_ms: Whole,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetentionMembers {
    #[serde(default, deserialize_with = "given")]
    completed_ms: Option<Option<Whole>>,
    #[serde(default, deserialize_with = "given")]
    dead_ms: Option<Option<Whole>>,
}

impl Members {
    fn check(self) -> Result<Patch, String> {
        let queue = not_null("queue", self.queue)?;
        let priority = not_null("priority", self.priority)?;
        let beyond = |time: InvalidTime| format!("ready_at: {time}");
        Ok(Patch {
            queue: queue.map(|name| QueueName::new(&name).map_err(|e| format!("queue: {e}"))).transpose()?,
            priority: priority.map(|n| n.within("priority", u16::LOWEST, u16::HIGHEST)).transpose()?,
            ready_at: self
                .ready_at
                .map(|at| at.map(|Moment(at)| at).transpose())
                .transpose()
                .map_err(beyond)?,
            retry_limit: ranged(self.retry_limit, "retry_limit", u32::HIGHEST)?,
            backoff: self
                .backoff
                .map(|backoff| backoff.map(|Object(members)| members.check()).transpose())
                .transpose()?,
            retention: self.retention.map(RetentionMembers::check).transpose()?.unwrap_or_default(),
        })
    }
}

impl BackoffMembers {
    fn check(self) -> Result<Backoff, String> {
        if !(0.0..=100.0).contains(&self.exponent) {
            return Err(format!("backoff.exponent: {} is out of range 0 to 100", self.exponent));
        }
        #[expect(clippy::cast_possible_truncation, reason = "from 0 to 100")]
        let exponent = self.exponent as f32;
        Ok(Backoff {
            base_ms: self.base_ms.within("backoff.base_ms", 0, u32::HIGHEST)?,
            exponent,
            jitter_ms: self.jitter_ms.within("backoff.jitter_ms", 0, u32::HIGHEST)?,
        })
    }
}

impl RetentionMembers {
    fn check(members: Option<Object<Self>>) -> Result<RetentionPatch, String> {
        let Some(Object(members)) = members else {
            return Ok(RetentionPatch { completed_ms: Some(None), dead_ms: Some(None) });
        };
        Ok(RetentionPatch {
            completed_ms: ranged(members.completed_ms, "retention.completed_ms", u64::HIGHEST)?,
            dead_ms: ranged(members.dead_ms, "retention.dead_ms", u64::HIGHEST)?,
        })
    }
}

#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
fn ranged<T: Integer>(
    given: Option<Option<Whole>>,
    name: &str,
    highest: i128,
) -> Result<Option<Option<T>>, String> {
    given.map(|n| n.map(|n| n.within(name, 0, highest)).transpose()).transpose()
}

/// A whole number of any size.
struct Whole(i128);

impl Whole {
    fn within<T: Integer>(self, name: &str, lowest: i128, highest: i128) -> Result<T, String> {
        let n = Some(self.0).filter(|n| (lowest..=highest).contains(n));
        n.and_then(|n| T::try_from(n).ok())
            .ok_or_else(|| format!("{name}: {} is out of range {lowest} to {highest}", self.0))
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }

            fn visit_u64<E>(self, n: u64) -> Result<Whole, E> {
                Ok(Whole(i128::from(n)))
            }

            fn visit_i64<E>(self, n: i64) -> Result<Whole, E> {
                Ok(Whole(i128::from(n)))
            }

            #[expect(clippy::cast_possible_truncation, reason = "a value that is too large stays too large")]
            fn visit_f64<E: Error>(self, n: f64) -> Result<Whole, E> {
                if n.fract() == 0.0 && n.is_finite() {
                    Ok(Whole(n as i128))
                } else {
                    Err(E::invalid_value(Unexpected::Float(n), &self))
                }
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// A time, which may be out of range. A value that is not a time, or counts another unit, has the wrong type.
struct Moment(Result<u64, InvalidTime>);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Given::deserialize(deserializer)? {
            Given(Err(wrong @ (InvalidTime::Unit { .. } | InvalidTime::Malformed(_)))) => {
                Err(D::Error::custom(wrong))
            }
            Given(time) => Ok(Self(time)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: &serde_json::Value) -> Result<Patch, PatchError> {
        let json = parse(Format::Json, body.to_string().as_bytes());
        let packed = parse(Format::MessagePack, &rmp_serde::to_vec(body).unwrap());
        match (&json, &packed) {
            (Err(a), Err(b)) => {
                assert_eq!(std::mem::discriminant(a), std::mem::discriminant(b), "{a} {b}");
            }
            _ => assert_eq!(json, packed),
        }
        json
    }

    #[test]
    fn absent_null_and_a_value_are_three_things() {
        assert!(read(&json!({})).unwrap().is_empty());
        let at = |at| read(&json!({"ready_at": at})).unwrap().ready_at;
        assert_eq!(at(json!("2026-01-01T00:00:00Z")), Some(Some(1_767_225_600_000)));
        let patch =
            read(&json!({"ready_at": null, "retry_limit": 3.0, "retention": {"dead_ms": null}})).unwrap();
        assert_eq!((patch.ready_at, patch.retry_limit), (Some(None), Some(Some(3))));
        assert_eq!(patch.retention, RetentionPatch { completed_ms: None, dead_ms: Some(None) });
        let both = Some(Retention { completed_ms: Some(1), dead_ms: Some(2) });
        assert_eq!(patch.retention.apply(both), Some(Retention { completed_ms: Some(1), dead_ms: None }));
        let none = read(&json!({"retention": null, "backoff": null})).unwrap();
        assert_eq!((none.retention.apply(both), none.backoff), (None, Some(None)));
    }

    #[test]
    fn a_wrong_type_is_malformed_and_a_bad_value_invalid() {
        for bad in [
            json!({"queue": 7}),
            json!({"priority": "high"}),
            json!({"priority": 1.5}),
            json!({"backoff": {"base_ms": 1, "exponent": 2}}),
            json!({"retention": []}),
            json!({"prioriti": 0}),
            json!({"retention": {"dead": 1}}),
            json!({"ready_at": 1_767_225_600}),
            json!({"ready_at": 1_767_225_600.5}),
            json!({"ready_at": 1.5}),
            json!({"ready_at": "tomorrow"}),
            json!({"ready_at": true}),
            json!([]),
        ] {
            assert!(matches!(read(&bad), Err(PatchError::Malformed(_))), "{bad}");
        }
        for (bad, expected) in [
            (json!({"queue": null}), "queue: it cannot be null"),
            (json!({"priority": null}), "priority: it cannot be null"),
            (json!({"queue": ""}), "queue: a name must not be empty"),
            (json!({"priority": 65_536}), "priority: 65536 is out of range 0 to 65535"),
            (json!({"ready_at": -1}), "ready_at: -1 is out of range 0 to 281474976710655"),
            (
                json!({"backoff": {"base_ms": 1, "exponent": -2, "jitter_ms": 0}}),
                "backoff.exponent: -2 is out of range 0 to 100",
            ),
        ] {
            assert_eq!(read(&bad), Err(PatchError::Invalid(expected.to_owned())));
        }
    }
}
