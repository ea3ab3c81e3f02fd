//! Absolute times: milliseconds since the Unix epoch, or [RFC 3339](https://www.rfc-editor.org/rfc/rfc3339).

use std::fmt;

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

use crate::error::excerpt;
use crate::number::MAX_TIME_MS;

/// Numbers that are plausible as seconds, from the year 2001 on. As milliseconds they would be before 1974.
const SECONDS: std::ops::RangeInclusive<u64> = 1_000_000_000..=100_000_000_000;
/// The seconds, from 2001 to 2286, for which a number is taken as microseconds or nanoseconds.
const THESE_CENTURIES: std::ops::RangeInclusive<u64> = 1_000_000_000..=9_999_999_999;

/// Why a value is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTime {
    /// It counts another unit than milliseconds.
    #[error("{given} is not plausible: a time counts milliseconds since 1970; did you mean {meant}?")]
    Unit {
        /// The given number.
        given: String,
        /// The same in milliseconds.
        meant: u64,
    },
    /// It is out of range.
    #[error("{0} is out of range 0 to {MAX_TIME_MS}")]
    Beyond(String),
    /// It is not a time at all.
    #[error(
        "`{0}` is neither a whole number of milliseconds since 1970 nor an RFC 3339 time, such as 2026-12-31T23:59:59Z"
    )]
    Malformed(String),
}

/// Checks a number of milliseconds. Numbers that count seconds, microseconds or nanoseconds are detected.
///
/// # Errors
/// [`InvalidTime`].
pub fn check(ms: u64) -> Result<u64, InvalidTime> {
    let unit = |meant| Err(InvalidTime::Unit { given: ms.to_string(), meant });
    match ms {
        _ if SECONDS.contains(&ms) => unit(ms * 1_000),
        ..=MAX_TIME_MS => Ok(ms),
        _ if THESE_CENTURIES.contains(&(ms / 1_000_000)) => unit(ms / 1_000),
        _ if THESE_CENTURIES.contains(&(ms / 1_000_000_000)) => unit(ms / 1_000_000),
        _ => Err(InvalidTime::Beyond(ms.to_string())),
    }
}

/// Reads an RFC 3339 time, truncated to milliseconds.
///
/// # Errors
/// [`InvalidTime`].
pub fn parse_rfc3339(text: &str) -> Result<u64, InvalidTime> {
    let time: Timestamp = text.parse().map_err(|_| InvalidTime::Malformed(excerpt(text)))?;
    let ms = u64::try_from(time.as_millisecond()).ok().filter(|ms| *ms <= MAX_TIME_MS);
    ms.ok_or_else(|| InvalidTime::Beyond(excerpt(text)))
}

/// Reads a time from a query string: digits, or RFC 3339.
///
/// # Errors
/// [`InvalidTime`].
pub fn parse(text: &str) -> Result<u64, InvalidTime> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return parse_rfc3339(text);
    }
    text.parse().map_err(|_| InvalidTime::Beyond(excerpt(text))).and_then(check)
}

/// A time in a body: a number of milliseconds, or an RFC 3339 string.
pub(crate) struct Given(pub(crate) Result<u64, InvalidTime>);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl Visitor<'_> for Reading {
            type Value = Given;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("milliseconds since 1970 or an RFC 3339 time")
            }

            fn visit_u64<E>(self, ms: u64) -> Result<Given, E> {
                Ok(Given(check(ms)))
            }

            fn visit_i64<E>(self, ms: i64) -> Result<Given, E> {
                Ok(Given(u64::try_from(ms).map_err(|_| InvalidTime::Beyond(ms.to_string())).and_then(check)))
            }

            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "within the range of the type"
            )]
            fn visit_f64<E: Error>(self, ms: f64) -> Result<Given, E> {
                if (1e9..=1e11).contains(&ms) {
                    let meant = (ms * 1e3).round() as u64;
                    return Ok(Given(Err(InvalidTime::Unit { given: ms.to_string(), meant })));
                }
                if ms.fract() != 0.0 || !ms.is_finite() {
                    return Err(E::invalid_value(Unexpected::Float(ms), &self));
                }
                if (0.0..18_446_744_073_709_551_616.0).contains(&ms) {
                    return Ok(Given(check(ms as u64)));
                }
                Ok(Given(Err(InvalidTime::Beyond(format!("{ms:e}")))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Given, E> {
                Ok(Given(parse_rfc3339(text)))
            }
        }
        deserializer.deserialize_any(Reading)
    }
}

/// A time that may be absent or `null`.
///
/// # Errors
/// [`InvalidTime`], as an error of the deserializer.
pub fn opt_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let time = Option::<Given>::deserialize(deserializer)?.map(|Given(time)| time);
    time.transpose().map_err(D::Error::custom)
}

/// Resolves a time and a delay, of which a call may give one.
///
/// # Errors
/// A sentence about the member `delay_ms` or about both.
pub fn resolve(
    at: Option<u64>,
    at_name: &str,
    delay_ms: Option<u64>,
    now: u64,
) -> Result<Option<u64>, String> {
    match (at, delay_ms) {
        (at, None) => Ok(at),
        (None, Some(delay)) if delay <= MAX_TIME_MS => Ok(Some(now.saturating_add(delay).min(MAX_TIME_MS))),
        (None, Some(delay)) => Err(format!("delay_ms: {delay} is out of range 0 to {MAX_TIME_MS}")),
        (Some(_), Some(_)) => Err(format!("delay_ms: it cannot be used together with {at_name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_another_unit_than_milliseconds_is_detected() {
        for ms in
            [0, 1, 1_000, 999_999_999, 100_000_000_001, 1_767_225_600_000, 253_402_300_799_999, MAX_TIME_MS]
        {
            assert_eq!(check(ms), Ok(ms));
            assert_eq!(parse(&ms.to_string()), Ok(ms));
        }
        for (given, meant) in [
            (1_000_000_000, 1_000_000_000_000),
            (1_767_225_600, 1_767_225_600_000),
            (100_000_000_000, 100_000_000_000_000),
            (1_767_225_600_123_456, 1_767_225_600_123),
            (1_767_225_600_123_456_789, 1_767_225_600_123),
        ] {
            assert_eq!(check(given), Err(InvalidTime::Unit { given: given.to_string(), meant }));
            let sentence = check(given).unwrap_err().to_string();
            assert!(
                sentence.contains("counts milliseconds")
                    && sentence.contains(&format!("did you mean {meant}?"))
            );
        }
        for beyond in [MAX_TIME_MS + 1, 999_999_999_999_999, 200_000_000_000_000_000, u64::MAX] {
            assert_eq!(check(beyond), Err(InvalidTime::Beyond(beyond.to_string())), "{beyond}");
        }
    }

    #[test]
    fn times_by_rfc_3339() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-01-01T00:00:00Z", 1_767_225_600_000),
            ("2026-01-01T01:00:00+01:00", 1_767_225_600_000),
            ("2025-12-31t19:00:00.123999-05:00", 1_767_225_600_123),
            ("2026-01-01 00:00:00z", 1_767_225_600_000),
        ] {
            assert_eq!(parse_rfc3339(text), Ok(ms), "{text}");
            assert_eq!(parse(text), Ok(ms), "{text}");
        }
        for text in [
            "",
            "tomorrow",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-13-01T00:00:00Z",
            "+5",
            "-5",
            "1.5",
            "1e9",
        ] {
            assert_eq!(parse(text), Err(InvalidTime::Malformed(text.to_owned())));
        }
        assert_eq!(parse_rfc3339("1767225600000"), Err(InvalidTime::Malformed("1767225600000".to_owned())));
        for text in ["1969-12-31T23:59:59Z", "-000001-01-01T00:00:00Z"] {
            assert_eq!(parse(text), Err(InvalidTime::Beyond(text.to_owned())));
        }
    }

    #[test]
    fn a_delay_counts_from_now_and_excludes_a_time() {
        let of = |at, delay| resolve(at, "ready_at", delay, 1_000);
        assert_eq!(
            (of(None, None), of(Some(5), None), of(None, Some(5))),
            (Ok(None), Ok(Some(5)), Ok(Some(1_005)))
        );
        assert_eq!(of(None, Some(0)), Ok(Some(1_000)));
        assert_eq!(of(None, Some(MAX_TIME_MS)), Ok(Some(MAX_TIME_MS)));
        assert!(of(None, Some(MAX_TIME_MS + 1)).unwrap_err().contains("out of range"));
        assert!(of(Some(5), Some(5)).unwrap_err().contains("together with ready_at"));
    }
}
