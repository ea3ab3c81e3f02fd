//! The kinds of values, and the inference of an expression's kinds before it runs.

use super::ast::Term;
use super::value::{self, Value};

/// What kind of value it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
    /// What an assignment makes: its input, changed.
    Assigned,
}

impl Kind {
    /// With an article, as in "an object".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
            Self::Assigned => "its input, changed",
        }
    }

    pub(super) fn of_value(value: &Value) -> Self {
        match &value.0 {
            value::Kind::Null | value::Kind::Astray(_) => Self::Null,
            value::Kind::Bool(_) => Self::Boolean,
            value::Kind::Number(_) => Self::Number,
            value::Kind::Text(_) => Self::String,
            value::Kind::Array(_) => Self::Array,
            value::Kind::Object(_) => Self::Object,
        }
    }

    /// That of every output, if it can be told.
    pub(super) fn of(term: &Term) -> Option<Self> {
        match term {
            Term::Number(_) | Term::Neg(_) => Some(Self::Number),
            Term::Text(..) | Term::Format(_) => Some(Self::String),
            Term::Array(_) => Some(Self::Array),
            Term::Object(_) | Term::Location(_) => Some(Self::Object),
            Term::Assign(..) => Some(Self::Assigned),
            Term::And(..) | Term::Or(..) | Term::Binary(_, "==" | "!=" | "<" | ">" | "<=" | ">=", _) => {
                Some(Self::Boolean)
            }
            Term::Pipe(_, last) | Term::Bind(_, _, last) | Term::Define(_, last) | Term::Label(_, last) => {
                Self::of(last)
            }
            Term::Comma(a, b) | Term::Alternative(a, b) | Term::If(_, a, Some(b)) => {
                Self::of(a).filter(|kind| Self::of(b) == Some(*kind))
            }
            _ => None,
        }
    }
}
