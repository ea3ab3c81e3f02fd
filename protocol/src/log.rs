//! The output of a running job, line by line.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::body::{Malformed, name, parse};
use crate::media::Format;

/// How much of an attempt's output is kept, in bytes, line ends included.
pub const MAX_KEPT_BYTES: usize = 64 * 1024;

/// The largest body of `POST /jobs/{id}/log`, in bytes.
pub const MAX_LOG_BYTES: usize = 1024 * 1024;

/// The stream that a job prints to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line in NDJSON: `{"stream": "stdout", "line": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line<'a> {
    /// The stream; absent: standard output.
    #[serde(default, deserialize_with = "name")]
    pub stream: Output,
    /// The text without its line end.
    #[serde(borrow)]
    pub line: Cow<'a, str>,
}

/// A [`Line`] as it is sent to the server.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    #[serde(default, deserialize_with = "name")]
    stream: Output,
    #[serde(borrow)]
    line: Cow<'a, str>,
}

/// Reads lines of JSON; empty ones are skipped.
///
/// # Errors
/// [`Malformed`], in one sentence that names the line.
pub fn parse_lines(body: &[u8]) -> impl Iterator<Item = Result<Line<'_>, Malformed>> {
    let lines = body.split(|&byte| byte == b'\n').zip(1..);
    lines.filter(|(line, _)| !line.trim_ascii().is_empty()).map(|(line, number)| {
        let line = parse(Format::Json, line).map(|Request { stream, line }| Line { stream, line });
        line.map_err(|Malformed(error)| Malformed(format!("line {number}: {error}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<Line<'_>>, String> {
        parse_lines(body.as_bytes()).map(|line| line.map_err(|Malformed(error)| error)).collect()
    }

    #[test]
    fn lines() {
        let line = |stream, line: &'static str| Line { stream, line: line.into() };
        let body = "{\"stream\":\"stderr\",\"line\":\"a\\tb\"}\n\n{\"line\":\"c\"}\r\n";
        assert_eq!(read(body), Ok(vec![line(Output::Stderr, "a\tb"), line(Output::Stdout, "c")]));
        assert_eq!(read(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_line_is_named() {
        for (body, expected) in [
            ("{\"line\":\"a\"}\n{\"line\":5}", "line 2: line: invalid type: integer `5`, expected a string"),
            ("[\"stdout\",\"a\"]", "line 1: the body: invalid type: array, expected an object"),
            ("{\"stream\":\"tty\",\"line\":\"\"}", "line 1: stream: `tty` is none of stdout, stderr"),
            ("{\"stream\":\"stdout\"}", "line 1: missing field `line`"),
            (
                "{\"line\":\"a\",\"strem\":\"stdout\"}",
                "strem: there is no such member here; did you mean `stream`?",
            ),
            ("plain", "line 1: the body is not valid JSON"),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.contains(expected.trim_start_matches("line 1: ")), "{body}: {error}");
            assert!(error.starts_with("line "), "{error}");
        }
    }
}
