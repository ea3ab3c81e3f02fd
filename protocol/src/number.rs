//! Numbers as clients really send them: a whole float instead of an integer, an integer instead of a float.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// An integer type that a member of a request can have.
pub trait Integer: TryFrom<i128> + Copy {
    /// The smallest value, for messages.
    const LOWEST: i128;
    /// The largest value, for messages.
    const HIGHEST: i128;
}

macro_rules! integers {
    ($($T:ident)*) => {$(
        impl Integer for $T {
            const LOWEST: i128 = $T::MIN as i128;
            const HIGHEST: i128 = $T::MAX as i128;
        }
    )*};
}
integers!(u16 u32 u64);

/// Accepts `1500` and `1500.0` for the integer 1500.
///
/// # Errors
/// If it is not a whole number, or out of the range of `T`.
pub fn integer<'de, D: Deserializer<'de>, T: Integer>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(IntegerVisitor(PhantomData))
}

/// [`integer`] for a member that may be absent or `null`.
///
/// # Errors
/// As [`integer`].
pub fn opt_integer<'de, D: Deserializer<'de>, T: Integer>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct Whole<T>(T);
    impl<'de, T: Integer> Deserialize<'de> for Whole<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            integer(deserializer).map(Whole)
        }
    }
    Ok(Option::<Whole<T>>::deserialize(deserializer)?.map(|Whole(n)| n))
}

/// The latest time there is, in milliseconds since the Unix epoch: the year 10889.
pub const MAX_TIME_MS: u64 = (1 << 48) - 1;

struct IntegerVisitor<T>(PhantomData<T>);

impl<T: Integer> IntegerVisitor<T> {
    fn in_range<E: Error>(n: i128) -> Result<T, E> {
        T::try_from(n).map_err(|_| Self::out_of_range(n))
    }

    /// The upper end of 64 bits says nothing to a person.
    fn out_of_range<E: Error>(n: impl fmt::Display) -> E {
        match T::HIGHEST {
            highest if highest > i128::from(u32::MAX) => {
                E::custom(format_args!("{n} is out of range: a whole number from {} is expected", T::LOWEST))
            }
            highest => E::custom(format_args!("{n} is out of range {} to {highest}", T::LOWEST)),
        }
    }
}

impl<T: Integer> Visitor<'_> for IntegerVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match T::HIGHEST {
            highest if highest > i128::from(u32::MAX) => write!(f, "a whole number from {}", T::LOWEST),
            highest => write!(f, "an integer from {} to {highest}", T::LOWEST),
        }
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<T, E> {
        Self::in_range(i128::from(n))
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<T, E> {
        Self::in_range(i128::from(n))
    }

    #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^64 fits into an i128")]
    fn visit_f64<E: Error>(self, n: f64) -> Result<T, E> {
        if n.fract() != 0.0 || !n.is_finite() {
            return Err(E::invalid_value(Unexpected::Float(n), &self));
        }
        if n.abs() >= 18_446_744_073_709_551_616.0 {
            return Err(Self::out_of_range(format_args!("{n:e}")));
        }
        Self::in_range(n as i128)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct One {
        #[serde(deserialize_with = "integer")]
        n: u16,
        #[serde(default, deserialize_with = "opt_integer")]
        m: Option<u64>,
    }

    fn parse(json: &str) -> Result<(u16, Option<u64>), String> {
        serde_json::from_str::<One>(json).map(|one| (one.n, one.m)).map_err(|e| e.to_string())
    }

    #[test]
    fn whole_floats_are_integers_and_nothing_else_is() {
        assert_eq!(parse(r#"{"n": 1500.0, "m": null}"#), Ok((1500, None)));
        assert_eq!(parse(r#"{"n": 1.5e3, "m": 18446744073709551615}"#), Ok((1500, Some(u64::MAX))));
        assert!(parse(r#"{"n": 65536}"#).unwrap_err().starts_with("65536 is out of range 0 to 65535"));
        assert!(parse(r#"{"n": -1}"#).unwrap_err().starts_with("-1 is out of range"));
        assert!(parse(r#"{"n": 1e300}"#).unwrap_err().starts_with("1e300 is out of range"));
        assert!(parse(r#"{"n": 1.5}"#).unwrap_err().contains("expected an integer from 0 to 65535"));
        assert!(parse(r#"{"n": "7"}"#).unwrap_err().contains("expected an integer from 0 to 65535"));
        assert!(parse(r#"{"n": 1, "m": true}"#).unwrap_err().contains("expected a whole number from 0"));
        assert!(
            parse(r#"{"n": 1, "m": -1}"#)
                .unwrap_err()
                .starts_with("-1 is out of range: a whole number from 0 is expected")
        );
    }
}
