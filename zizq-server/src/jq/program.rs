//! A compiled jq expression. The only user of jaq.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use jaq_interpret::{Ctx, Filter, FilterT, ParseCtx, RcIter, Val};
use jaq_syn::lex::Token;
use jaq_syn::{Lexer, Main, Parser};
use jaq1_hifijson::token::Lex;
use protocol::media::Format;
use protocol::payload::Payload;

/// What an expression cannot have: it sees the payload and nothing else.
const WITHHELD: [&str; 4] = ["env", "now", "inputs", "debug"];

/// The standard library, read once.
pub(super) struct Library {
    definitions: Vec<jaq_syn::Def>,
}

pub(super) struct Program(Filter);

impl Library {
    pub(super) fn new() -> Self {
        let mut definitions = jaq1_std::std();
        // It is defined by what is withheld.
        definitions.retain(|definition| definition.lhs.name != "input");
        Self { definitions }
    }

    /// Compiles an expression.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub(super) fn compile(&self, expression: &str) -> Result<Program, String> {
        let main = parse(expression)?;
        let mut context = ParseCtx::new(Vec::new());
        context.insert_natives(natives());
        context.insert_defs(self.definitions.iter().cloned());
        let filter = context.compile(main);
        match context.errs.first() {
            None => Ok(Program(filter)),
            Some((error, span)) => Err(format!("{error} `{}`", expression.get(span.clone()).unwrap_or("?"))),
        }
    }
}

fn natives() -> impl Iterator<Item = (String, usize, jaq_interpret::Native)> {
    jaq1_core::core().filter(|(name, ..)| !WITHHELD.contains(&name.as_str()))
}

fn parse(expression: &str) -> Result<Main, String> {
    let found = |rest: &str| match rest.chars().next() {
        None => "the end of the expression".to_owned(),
        Some(_) => format!("`{}`", protocol::error::excerpt(rest)),
    };
    let tokens = Lexer::new(expression).lex().map_err(|errors| match errors.first() {
        Some((expected, rest)) => format!("{} is expected, not {}", expected.as_str(), found(rest)),
        None => "it is no jq expression".to_owned(),
    })?;
    let module = Parser::new(&tokens).parse(|p| p.module(|p| p.term())).map_err(|errors| {
        let error = errors.into_iter().next();
        error.map_or_else(
            || "it is no jq expression".to_owned(),
            |(expected, token)| {
                let token = Token::opt_as_str(token, expression);
                format!("{} is expected, not {}", expected.as_str(), found(token))
            },
        )
    })?;
    // jaq panics where an expression wants to read other files.
    catch_unwind(AssertUnwindSafe(|| module.conv(expression)))
        .map_err(|_| "it can not include or import anything".to_owned())
}

impl Program {
    /// Whether any output is truthy. An error ends the outputs.
    pub(super) fn matches(&self, format: Format, payload: &[u8]) -> bool {
        let matches = || {
            let value = match format {
                Format::Json => read(payload)?,
                Format::MessagePack => {
                    let payload = Payload::from_checked(format, Bytes::copy_from_slice(payload));
                    read(&payload.to_format(Format::Json))?
                }
            };
            let inputs = RcIter::new(std::iter::empty());
            let mut outputs = self.0.run((Ctx::new([], &inputs), value)).map_while(Result::ok);
            Some(outputs.any(|output| output.as_bool()))
        };
        catch_unwind(AssertUnwindSafe(matches)).ok().flatten().unwrap_or(false)
    }
}

fn read(json: &[u8]) -> Option<Val> {
    let mut lexer = jaq1_hifijson::SliceLexer::new(json);
    lexer.exactly_one(Val::parse).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expression: &str, payload: &str) -> bool {
        Library::new().compile(expression).unwrap().matches(Format::Json, payload.as_bytes())
    }

    #[test]
    fn any_truthy_output_is_a_match() {
        for (expression, payload, expected) in [
            (".user_id == 42", r#"{"user_id": 42}"#, true),
            (".user_id == 42", r#"{"user_id": 43}"#, false),
            (".a[].b", r#"{"a": [{"b": null}, {"b": 0}]}"#, true),
            (".s", r#"{"s": ""}"#, true),
            (".s", r#"{"s": false}"#, false),
            ("empty", "1", false),
            ("error", "1", false),
            ("true, error", "1", true),
            ("error, true", "1", false),
            (".a.b", "[1]", false),
            (".big == 9007199254740993", r#"{"big": 9007199254740993}"#, true),
            (r#".name | test("^a.*z$")"#, r#"{"name": "abcz"}"#, true),
            ("any(.tags[]; . == \"x\")", r#"{"tags": ["y", "x"]}"#, true),
            ("def f(x): x + 1; f(.n) == 3", r#"{"n": 2}"#, true),
            (".t | fromdate > 0", r#"{"t": "2026-01-01T00:00:00Z"}"#, true),
        ] {
            assert_eq!(matches(expression, payload), expected, "{expression} of {payload}");
        }
        let packed = rmp_serde::to_vec(&serde_json::json!({"user_id": 42})).unwrap();
        let program = Library::new().compile(".user_id == 42").unwrap();
        assert!(program.matches(Format::MessagePack, &packed));
    }

    #[test]
    fn only_the_payload_is_seen() {
        let refused = |expression: &str| Library::new().compile(expression).err().unwrap_or_default();
        for expression in [
            "env",
            "$ENV",
            "$__prog_args",
            "input",
            "inputs",
            "now",
            "debug",
            "halt",
            "input_filename",
            "get_search_list",
        ] {
            let sentence = refused(expression);
            assert!(sentence.starts_with("undefined"), "{expression}: {sentence}");
        }
        assert_eq!(refused("include \"x\"; ."), "it can not include or import anything");
        assert_eq!(refused(".a =="), "term is expected, not the end of the expression");
        assert_eq!(refused(".a )"), "token is expected, not `)`");
        assert_eq!(refused("nope(1)"), "undefined filter `nope`");
    }

    /// Whoever brings in a later version of jaq looks at what is new in it.
    #[test]
    fn natives_are_known() {
        let mut names: Vec<String> = natives().map(|(name, arity, _)| format!("{name}/{arity}")).collect();
        names.sort_unstable();
        assert_eq!(names.join(" "), include_str!("natives.txt").trim());
    }
}
