//! A line for `sh -c` with placeholders.
//!
//! Each placeholder is replaced by a variable, and the shell gets the value in its environment. So a payload is always
//! data to the shell, never part of the line.

use super::jq::Expression;
use super::place::Place;
use super::{Input, Piece, pieces};

/// A compiled line.
#[derive(Debug)]
pub(crate) struct Script {
    line: String,
    values: Vec<(String, Expression)>,
}

/// The quotes around a position in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Quote {
    #[default]
    None,
    Single,
    Double,
}

impl Script {
    /// Compiles a line.
    pub(crate) fn parse(source: &str) -> Result<Self, String> {
        let (mut line, mut values) = (String::new(), Vec::new());
        let (mut quote, mut place) = (Quote::None, Place::default());
        for piece in pieces(source)? {
            match piece {
                Piece::Text(text) => {
                    quote = quote_after(quote, text);
                    place.read(text);
                    line.push_str(text);
                }
                Piece::Placeholder(code) => {
                    if let Some(why) = place.refusal() {
                        return Err(format!("the placeholder {{{{{code}}}}} is part of {why}"));
                    }
                    place.read_value();
                    let name = format!("ZIZQ_ARG_{}", values.len() + 1);
                    match quote {
                        Quote::None => line.push_str(&format!("\"${{{name}}}\"")),
                        Quote::Double => line.push_str(&format!("${{{name}}}")),
                        Quote::Single => {
                            return Err(format!(
                                "the placeholder {{{{{code}}}}} is in single quotes, where the shell inserts no values; \
                                 use double quotes or none"
                            ));
                        }
                    }
                    values.push((name, Expression::compile(code)?));
                }
            }
        }
        Ok(Self { line, values })
    }

    /// The line, with variables instead of placeholders.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    pub(crate) fn has_placeholders(&self) -> bool {
        !self.values.is_empty()
    }

    /// The variables for a job.
    pub(crate) fn variables(&self, input: &Input) -> Result<Vec<(&str, String)>, String> {
        self.values.iter().map(|(name, value)| Ok((name.as_str(), value.output(input)?))).collect()
    }
}

/// The quotes after a text. A wrong guess is safe: it puts too many or too few quotes around a value, which splits it into
/// words, but never makes it code.
fn quote_after(mut quote: Quote, text: &str) -> Quote {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        quote = match (quote, c) {
            (Quote::None | Quote::Double, '\\') => {
                chars.next();
                quote
            }
            (Quote::None, '\'') => Quote::Single,
            (Quote::None, '"') => Quote::Double,
            (Quote::Single, '\'') | (Quote::Double, '"') => Quote::None,
            _ => quote,
        };
    }
    quote
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_variables_by_the_quotes_around_them() {
        for (source, line) in [
            ("cp {{.payload.a}} b", "cp \"${ZIZQ_ARG_1}\" b"),
            ("echo \"to {{.payload.a}}: {{.id}}\"", "echo \"to ${ZIZQ_ARG_1}: ${ZIZQ_ARG_2}\""),
            ("echo it\\'s {{.id}}", "echo it\\'s \"${ZIZQ_ARG_1}\""),
            ("echo 'a\"' {{.id}}", "echo 'a\"' \"${ZIZQ_ARG_1}\""),
            ("echo \"\\\"{{.id}}\"", "echo \"\\\"${ZIZQ_ARG_1}\""),
            ("true", "true"),
        ] {
            assert_eq!(Script::parse(source).unwrap().line(), line, "{source}");
        }
        let error = Script::parse("echo 'to {{.id}}'").unwrap_err();
        assert!(error.contains("{{.id}} is in single quotes"), "{error}");
    }
}
