//! Job ids.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// The id of a job: 128 bits, written as 25 characters `[0-9a-z]` whose string order is enqueue order.
///
/// The text form is that of [SCRU128](https://github.com/scru128/spec). Ids are opaque to clients; the server alone decides
/// how to fill the bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(u128);

impl JobId {
    /// The length of the text form, in bytes.
    pub const TEXT_LEN: usize = 25;

    /// Makes an id of its bits.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits of the id.
    #[must_use]
    pub const fn to_u128(self) -> u128 {
        self.0
    }
}

/// The text is not a job id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job id has 25 characters 0-9 and a-z")]
pub struct InvalidJobId;

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, InvalidJobId> {
        // SCRU128 also accepts capitals; with one spelling per id, ids can be compared as text.
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidJobId);
        }
        scru128::Id::try_from_str(text).map(|id| Self(id.to_u128())).map_err(|_| InvalidJobId)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(scru128::Id::from_u128(self.0).encode().as_str())
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(scru128::Id::from_u128(self.0).encode().as_str())
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = JobId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a job id")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<JobId, E> {
                text.parse().map_err(|e| E::custom(format_args!("`{}`: {e}", crate::error::excerpt(text))))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_order_is_bit_order_and_round_trips() {
        for (a, b) in [(0, 1), (35, 36), (1 << 64, (1 << 64) + 1), (u128::MAX - 1, u128::MAX)] {
            let (a, b) = (JobId::from_u128(a), JobId::from_u128(b));
            assert!(a.to_string() < b.to_string());
            assert_eq!(a.to_string().parse(), Ok(a));
            assert_eq!(a.to_string().len(), JobId::TEXT_LEN);
        }
    }

    #[test]
    fn what_is_no_id() {
        for bad in [
            "",
            "abc",
            "zzzzzzzzzzzzzzzzzzzzzzzzz",
            "0000000000000000000000000A",
            "000000000000000000000000A",
        ] {
            assert_eq!(bad.parse::<JobId>(), Err(InvalidJobId), "{bad}");
        }
    }
}
