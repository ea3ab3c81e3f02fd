//! A compiled jq expression. The only user of jaq.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use jaq_interpret::{Ctx, Filter, FilterT, ParseCtx, RcIter, Val};
use jaq_syn::lex::Token;
use jaq_syn::{Lexer, Main, Parser};
use jaq1_hifijson::SliceLexer;
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

    /// Compiles an expression that may name these variables.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub(super) fn compile(&self, expression: &str, variables: &[&str]) -> Result<Program, String> {
        let main = parse(expression)?;
        let mut context = ParseCtx::new(variables.iter().map(|name| (*name).to_owned()).collect());
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
                let expected = match expected.as_str() {
                    "nothing" => "the end of the expression",
                    other => other,
                };
                format!("{expected} is expected, not {}", found(token))
            },
        )
    })?;
    // jaq panics where an expression wants to read other files, and where it jumps to a label.
    catch_unwind(AssertUnwindSafe(|| module.conv(expression)))
        .map_err(|_| "it can not include or import anything, and `label` is not known here".to_owned())
}

impl Program {
    /// Whether any output is truthy. An error ends the outputs.
    pub(super) fn matches(&self, format: Format, payload: &[u8]) -> bool {
        let matches = || {
            let value = read(format, payload)?;
            let inputs = RcIter::new(std::iter::empty());
            let mut outputs = self.0.run((Ctx::new([], &inputs), value)).map_while(Result::ok);
            Some(outputs.any(|output| output.as_bool()))
        };
        catch_unwind(AssertUnwindSafe(matches)).ok().flatten().unwrap_or(false)
    }

    /// The output, with these values of the variables and nothing as input.
    ///
    /// # Errors
    /// Where it is not exactly one, or what went wrong.
    pub(super) fn only_output<const N: usize>(&self, variables: [Val; N]) -> Result<Val, String> {
        let output = || {
            let inputs = RcIter::new(std::iter::empty());
            let mut outputs = self.0.run((Ctx::new(variables, &inputs), Val::Null));
            let output = outputs.next().ok_or("it has no output; exactly one is wanted")?;
            let output = output.map_err(|error| error.to_string())?;
            match outputs.next() {
                None => Ok(output),
                Some(_) => Err("it has more than one output; exactly one is wanted".to_owned()),
            }
        };
        catch_unwind(AssertUnwindSafe(output)).unwrap_or_else(|_| Err("it broke off".to_owned()))
    }
}

/// Reads a payload.
pub(super) fn read(format: Format, payload: &[u8]) -> Option<Val> {
    if format == Format::Json {
        return SliceLexer::new(payload).exactly_one(Val::parse).ok();
    }
    let payload = Payload::from_checked(format, Bytes::copy_from_slice(payload));
    SliceLexer::new(&payload.to_format(Format::Json)).exactly_one(Val::parse).ok()
}

/// Appends a value as JSON. As in jq, what is no number is null, and what is beyond all of them is the greatest.
pub(super) fn write(value: &Val, out: &mut Vec<u8>) {
    match value {
        Val::Null => out.extend_from_slice(b"null"),
        Val::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Val::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Val::Float(x) if x.is_nan() => out.extend_from_slice(b"null"),
        Val::Float(x) => out.extend_from_slice(format!("{:?}", x.clamp(f64::MIN, f64::MAX)).as_bytes()),
        Val::Num(digits) => out.extend_from_slice(digits.as_bytes()),
        Val::Str(text) => write_text(text, out),
        Val::Arr(values) => {
            out.push(b'[');
            for (n, value) in values.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write(value, out);
            }
            out.push(b']');
        }
        Val::Obj(members) => {
            out.push(b'{');
            for (n, (name, value)) in members.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_text(name, out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let written = serde_json::to_writer(out, text);
    debug_assert!(written.is_ok(), "text can be appended to a buffer that grows");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expression: &str, payload: &str) -> bool {
        Library::new().compile(expression, &[]).unwrap().matches(Format::Json, payload.as_bytes())
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
        let program = Library::new().compile(".user_id == 42", &[]).unwrap();
        assert!(program.matches(Format::MessagePack, &packed));
    }

    #[test]
    fn only_the_payload_is_seen() {
        let refused = |expression: &str| Library::new().compile(expression, &[]).err().unwrap_or_default();
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
        let refused_both = "it can not include or import anything, and `label` is not known here";
        assert_eq!(refused("include \"x\"; ."), refused_both);
        assert_eq!(refused("label $out | break $out"), refused_both);
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
