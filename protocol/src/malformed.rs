//! The refusal of a body, and the nesting limit: what the readers of all formats share, below them all.

/// The deepest nesting of objects and arrays in a body.
pub const MAX_NESTING: usize = 128;

/// Why a body was refused: one sentence that names the field and the bad value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);
