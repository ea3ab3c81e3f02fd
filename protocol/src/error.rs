//! The body of every answer that is not a success.

use serde::{Deserialize, Serialize};

/// `{"error": "<one sentence>"}`, and for 406 and 415 the media types that would have been taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One sentence that names the field and the bad value.
    pub error: String,
    /// The media types that the server speaks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supported: Vec<String>,
}

/// The start of a bad value, short enough and on one line, to be quoted in an error message.
#[must_use]
pub fn excerpt(value: &str) -> String {
    const MAX_CHARS: usize = 64;
    let mut chars = value.chars();
    let mut short = String::new();
    for c in chars.by_ref().take(MAX_CHARS) {
        if c.is_control() { short.extend(c.escape_debug()) } else { short.push(c) }
    }
    if chars.next().is_some() {
        short.push('…');
    }
    short
}
