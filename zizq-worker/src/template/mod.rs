//! Text with placeholders: `{{ EXPRESSION }}`, where the expression is jq over the job. Values of a payload stay data:
//! no placeholder can turn one into code, a URL path or another argument.

mod jq;
mod place;
mod shell;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use protocol::job::DeliveredJob;
use protocol::trace::Trace;
use serde::Serialize;
use serde_json::value::RawValue;

use self::jq::Expression;
pub(crate) use self::jq::Input;
pub(crate) use self::shell::Script;

/// The characters that need no encoding in any part of a URL.
const URL_PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A compiled text.
#[derive(Debug)]
pub(crate) struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Placeholder(Expression),
}

/// The members of [`View`].
const MEMBERS: [&str; 10] =
    ["id", "type", "queue", "priority", "attempts", "attempt", "deliveries", "ready_at", "trace", "payload"];

/// The job as expressions see it: the members of the contract, and `attempt`, counted from 1.
#[derive(Serialize)]
struct View<'a> {
    id: String,
    r#type: &'a str,
    queue: &'a str,
    priority: u16,
    attempts: u32,
    attempt: u32,
    deliveries: u32,
    ready_at: u64,
    trace: Option<&'a Trace>,
    payload: &'a RawValue,
}

impl Input {
    /// The job for every template that it goes through.
    pub(crate) fn of(job: &DeliveredJob) -> Result<Self, String> {
        let view = View {
            id: job.id.to_string(),
            r#type: &job.job_type,
            queue: &job.queue,
            priority: job.priority,
            attempts: job.attempts,
            attempt: job.attempts.saturating_add(1),
            deliveries: job.deliveries,
            ready_at: job.ready_at,
            trace: job.trace.as_deref(),
            payload: &job.payload,
        };
        let json = serde_json::to_vec(&view).map_err(|e| e.to_string())?;
        Self::read(&json)
    }
}

impl Template {
    /// Compiles a text.
    pub(crate) fn parse(source: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        for piece in pieces(source)? {
            parts.push(match piece {
                Piece::Text(text) => Part::Text(text.to_owned()),
                Piece::Placeholder(code) => Part::Placeholder(Expression::compile(code)?),
            });
        }
        Ok(Self { source: source.to_owned(), parts })
    }

    /// Compiles a program and its arguments.
    ///
    /// # Errors
    /// If one of them is wrong, or if the program would treat a value as code.
    pub(crate) fn parse_command(words: &[String]) -> Result<Vec<Self>, String> {
        let mut templates = Vec::new();
        for (n, word) in words.iter().enumerate() {
            let template = Self::parse(word)?;
            if let Some((partial, _)) = word.split_once("{{")
                && let Some(name) = place::taken_for_code(words.get(..n).unwrap_or_default(), partial)
            {
                return Err(format!(
                    "the placeholder in `{word}` is part of what `{name}` runs as code; pass the value as an argument, or \
                     read the payload from standard input"
                ));
            }
            templates.push(template);
        }
        Ok(templates)
    }

    /// The source text.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn has_placeholders(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Placeholder(_)))
    }

    /// The text for a job.
    pub(crate) fn render(&self, input: &Input) -> Result<String, String> {
        self.render_as(input, |_, value| value)
    }

    /// The text as a URL: values are percent-encoded, except at the very beginning.
    ///
    /// # Errors
    /// If an expression fails, or if a value would turn a path segment into `.` or `..`, which points elsewhere.
    pub(crate) fn render_url(&self, input: &Input) -> Result<String, String> {
        let url = self.render_as(input, |at, value| match at {
            0 => value,
            _ => utf8_percent_encode(&value, URL_PART).to_string(),
        })?;
        let dots = dot_segments(&url);
        let fixed: String =
            self.parts.iter().map(|part| if let Part::Text(text) = part { text } else { "x" }).collect();
        if dots > dot_segments(&fixed) {
            return Err(format!(
                "`{}` would become `{url}`, whose path has a segment `.` or `..`",
                self.source
            ));
        }
        Ok(url)
    }

    fn render_as(&self, input: &Input, encode: impl Fn(usize, String) -> String) -> Result<String, String> {
        let mut text = String::new();
        for (at, part) in self.parts.iter().enumerate() {
            match part {
                Part::Text(fixed) => text.push_str(fixed),
                Part::Placeholder(expression) => text.push_str(&encode(at, expression.output(input)?)),
            }
        }
        Ok(text)
    }

    /// Any number of texts if the template is exactly one placeholder; otherwise one.
    pub(crate) fn render_all(&self, input: &Input) -> Result<Vec<String>, String> {
        match self.parts.as_slice() {
            [Part::Placeholder(expression)] => expression.outputs(input),
            _ => self.render(input).map(|text| vec![text]),
        }
    }
}

/// How many path segments of a URL are `.` or `..`, in any encoding.
fn dot_segments(url: &str) -> usize {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let is_dots = |segment: &str| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    };
    path.split(['/', '\\']).filter(|segment| is_dots(segment)).count()
}

/// A part of a text, not yet compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

/// Splits a text at its placeholders.
fn pieces(source: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = source;
    while let Some((text, behind)) = rest.split_once("{{") {
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        let end =
            end_of_placeholder(behind).ok_or_else(|| format!("`{source}` has a `{{{{` without `}}}}`"))?;
        let (code, behind) = behind.split_at(end);
        if code.trim().is_empty() {
            return Err(format!("`{source}` has an empty placeholder"));
        }
        pieces.push(Piece::Placeholder(code));
        rest = behind.get(2..).unwrap_or_default();
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

/// The position of the `}}` that ends a placeholder: not one inside a string or an object.
fn end_of_placeholder(code: &str) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b'}' if code.as_bytes().get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
