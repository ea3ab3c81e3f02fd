//! The syntax tree of expressions.

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Term {
    /// `.`
    Id,
    /// `..`
    Recurse,
    Number(String),
    /// A string with interpolations, through a format.
    Text(Option<String>, Vec<Part>),
    /// `@base64`
    Format(String),
    Array(Option<Box<Term>>),
    Object(Vec<(Key, Option<Term>)>),
    Neg(Box<Term>),
    Pipe(Box<Term>, Box<Term>),
    Comma(Box<Term>, Box<Term>),
    /// `source as $pattern | body`
    Bind(Box<Term>, Pattern, Box<Term>),
    /// `reduce source as $pattern (init; update)`
    Reduce(Box<Term>, Pattern, Box<Term>, Box<Term>),
    /// `foreach source as $pattern (init; update; extract)`
    Foreach(Box<Term>, Pattern, Box<Term>, Box<Term>, Option<Box<Term>>),
    If(Box<Term>, Box<Term>, Option<Box<Term>>),
    Try(Box<Term>, Option<Box<Term>>),
    Label(String, Box<Term>),
    Break(String),
    Binary(Box<Term>, &'static str, Box<Term>),
    And(Box<Term>, Box<Term>),
    Or(Box<Term>, Box<Term>),
    /// `a // b`
    Alternative(Box<Term>, Box<Term>),
    /// `path = value` and the like, by their operator.
    Assign(Box<Term>, &'static str, Box<Term>),
    Define(Box<Definition>, Box<Term>),
    Call(String, Vec<Term>),
    Var(String),
    /// `$__loc__`, with the line
    Location(usize),
    /// `term[key]`; whether a `?` follows
    Index(Box<Term>, Box<Term>, bool),
    /// `term[]`
    Each(Box<Term>, bool),
    /// `term[from:to]`
    Slice(Box<Term>, Option<Box<Term>>, Option<Box<Term>>, bool),
}

/// A part of a string.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Text(String),
    Term(Term),
}

/// The key of a member.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Key {
    /// A name, a string, or an expression in parentheses.
    Term(Term),
    /// `$name`: its value, or without a value its name.
    Var(String),
}

/// A pattern after `as`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Pattern {
    Var(String),
    Array(Vec<Pattern>),
    /// By a key; with a variable for the same value, or without.
    Object(Vec<(Term, Option<String>, Option<Pattern>)>),
}

/// `def name(params): body;`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Definition {
    pub name: String,
    /// Those of variables begin with a `$`.
    pub params: Vec<String>,
    pub body: Term,
}

impl Term {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(None, vec![Part::Text(text.into())])
    }

    /// Its text, if it is a string without interpolations.
    pub(super) fn as_text(&self) -> Option<String> {
        let Self::Text(_, parts) = self else { return None };
        parts.iter().map(Part::as_text).collect()
    }
}

impl Part {
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Term(_) => None,
        }
    }
}

impl Pattern {
    /// The variables that it binds.
    pub(super) fn variables(&self) -> Vec<&str> {
        match self {
            Self::Var(name) => vec![name],
            Self::Array(patterns) => patterns.iter().flat_map(Self::variables).collect(),
            Self::Object(members) => members
                .iter()
                .flat_map(|(_, name, pattern)| {
                    let inner = pattern.iter().flat_map(Self::variables);
                    name.as_deref().into_iter().chain(inner)
                })
                .collect(),
        }
    }
}
