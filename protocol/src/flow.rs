//! The options that few jobs use: a timeout, a unique key (deduplication), batching, budgets, a trace context.

use std::fmt;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::budget::Binding;
use crate::error::excerpt;
use crate::trace::Trace;

/// The longest `unique_key` or batch key, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 1_024;
/// The longest jq expression of a batch, in bytes of UTF-8: it is kept with the job.
pub const MAX_EXPRESSION_BYTES: usize = 16 * 1_024;

/// The options that few jobs use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    /// How long an attempt may be in flight, in milliseconds; absent: the server's default.
    pub timeout_ms: Option<u64>,
    /// The unique key, if there is one.
    pub unique: Option<Unique>,
    /// How jobs with the same batch key are folded into one.
    pub batch: Option<Batch>,
    /// The tokens that each delivery takes from budgets.
    pub budgets: Vec<Binding>,
    /// The distributed trace that it belongs to.
    pub trace: Option<Box<Trace>>,
}

impl Flow {
    /// `None` if no option is set.
    #[must_use]
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// The approximate memory, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let batch = |batch: &Batch| batch.key.0.len() + batch.when.0.len() + batch.fold.0.len();
        size_of::<Self>()
            + self.unique.as_ref().map_or(0, |unique| unique.key.0.len())
            + self.batch.as_ref().map_or(0, batch)
            + size_of_val(&self.budgets[..])
            + self.trace.as_ref().map_or(0, |trace| trace.weight())
    }
}

/// A unique key, over all queues and types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// The key.
    pub key: Key,
    /// The statuses of an earlier job that make a new one a duplicate.
    pub scope: UniqueWhile,
}

/// The statuses of an earlier job that make a new one with its key a duplicate. The new job sets them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UniqueWhile {
    /// Scheduled or ready.
    #[default]
    Queued,
    /// Scheduled, ready or in flight.
    Active,
    /// Any, until it is purged.
    Exists,
}

/// A batch key, over all queues and types. At most one job with the key is open to later ones.
///
/// Both expressions see the payload of the open job as `$existing` and that of the later one as `$new`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// The key.
    pub key: Key,
    /// Decides whether a later job is folded into this one; if not, this one is closed.
    pub when: Expression,
    /// Computes the new payload of this one.
    pub fold: Expression,
}

/// A jq expression of at most [`MAX_EXPRESSION_BYTES`]. It is not compiled here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Expression(SmolStr);

impl Expression {
    /// Checks the length.
    ///
    /// # Errors
    /// One sentence that says how long it is.
    pub fn new(text: &str) -> Result<Self, String> {
        match text.len() {
            ..=MAX_EXPRESSION_BYTES => Ok(Self(SmolStr::new(text))),
            n => Err(format!(
                "an expression has at most {MAX_EXPRESSION_BYTES} bytes, this one has {n}: `{}`",
                excerpt(text)
            )),
        }
    }

    /// The expression as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SmolStr::deserialize(deserializer)?;
        Self::new(&text).map_err(D::Error::custom)
    }
}

/// A key of the user's choice: not empty, at most [`MAX_KEY_BYTES`] long.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Key(SmolStr);

impl Key {
    /// Checks the text.
    ///
    /// # Errors
    /// One sentence that says which rule it breaks.
    pub fn new(text: &str) -> Result<Self, String> {
        match text.len() {
            0 => Err("a key must not be empty".to_owned()),
            1..=MAX_KEY_BYTES => Ok(Self(SmolStr::new(text))),
            n => {
                Err(format!("a key has at most {MAX_KEY_BYTES} bytes, this one has {n}: `{}`", excerpt(text)))
            }
        }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SmolStr::deserialize(deserializer)?;
        Self::new(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_bounds() {
        assert!(Key::new("user:42, any text *").is_ok());
        assert_eq!(Key::new("").unwrap_err(), "a key must not be empty");
        assert!(Key::new(&"x".repeat(MAX_KEY_BYTES)).is_ok());
        assert!(Key::new(&"x".repeat(MAX_KEY_BYTES + 1)).unwrap_err().contains("this one has 1025"));
    }
    #[test]
    fn expressions_have_bounds() {
        assert!(Expression::new(&"x".repeat(MAX_EXPRESSION_BYTES)).is_ok());
        let long = Expression::new(&"x".repeat(MAX_EXPRESSION_BYTES + 1)).unwrap_err();
        assert!(long.contains("this one has 16385"), "{long}");
    }
}
