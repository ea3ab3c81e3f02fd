//! Filters: whether a payload matches an expression.

use protocol::jq::{Failure, Kind, Program};
use protocol::media::Format;

/// A compiled filter.
pub(super) struct Condition {
    program: Program,
    /// Whether each output must be true, false or null: in a call that changes jobs, anything else is a mistake.
    is_strict: bool,
}

/// The result for a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    No,
    Yes,
    /// The expression exceeds a limit.
    TooMuch,
    /// The expression returns this instead of a boolean.
    Other(Kind),
}

/// The kinds in [`Verdict::Other`], by number.
const KINDS: [Kind; 4] = [Kind::Number, Kind::String, Kind::Array, Kind::Object];

impl Condition {
    /// Compiles an expression.
    ///
    /// # Errors
    /// Why it is invalid, or not a condition.
    pub(super) fn compile(expression: &str, is_strict: bool) -> Result<Self, String> {
        let program = Program::compile(expression, &[])?;
        match program.kind() {
            Some(kind) if is_strict && !matches!(kind, Kind::Boolean | Kind::Null) => Err(no_condition(kind)),
            _ => Ok(Self { program, is_strict }),
        }
    }

    /// Whether any output is truthy. An error ends the outputs.
    pub(super) fn verdict(&self, format: Format, payload: &[u8], now: f64) -> Verdict {
        let Some(payload) = self.program.read(format, payload) else { return Verdict::No };
        for output in self.program.run(payload, [], now) {
            let output = match output {
                Ok(output) => output,
                Err(Failure::Raised(_)) => return Verdict::No,
                Err(Failure::TooMuch(_)) => return Verdict::TooMuch,
            };
            match output.kind_of() {
                Kind::Boolean | Kind::Null => {}
                kind if self.is_strict => return Verdict::Other(kind),
                _ => {}
            }
            if output.is_true() {
                return Verdict::Yes;
            }
        }
        Verdict::No
    }
}

/// The message for an expression that returns something other than a boolean.
pub(super) fn no_condition(kind: Kind) -> String {
    let hint = match kind {
        Kind::Assigned => "`=` assigns; did you mean `==`?",
        _ => "did you mean to compare it, as in `== \"x\"`, `> 5` or `!= null`?",
    };
    format!("the filter gives {}, but a call that changes jobs needs true or false; {hint}", kind.words())
}

impl Verdict {
    /// Encodes it as a byte of a frame.
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::No => 0,
            Self::Yes => 1,
            Self::TooMuch => 2,
            Self::Other(kind) => {
                let number = KINDS.iter().position(|known| *known == kind).unwrap_or_default();
                u8::try_from(number).map_or(3, |number| number + 3)
            }
        }
    }

    /// Decodes it from a byte of a frame.
    pub(super) fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::No,
            1 => Self::Yes,
            2 => Self::TooMuch,
            n => Self::Other(KINDS.get(usize::from(n - 3)).copied().unwrap_or(Kind::Object)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(expression: &str, payload: &str, is_strict: bool) -> Verdict {
        let condition = Condition::compile(expression, is_strict).unwrap();
        condition.verdict(Format::Json, payload.as_bytes(), 1_000.0)
    }

    #[test]
    fn any_truthy_output_is_a_match() {
        use Verdict::{No, Yes};
        for (expression, payload, expected) in [
            (".user_id == 42", r#"{"user_id": 42}"#, Yes),
            (".user_id == 42", r#"{"user_id": 43}"#, No),
            (".a[].b", r#"{"a": [{"b": null}, {"b": 0}]}"#, Yes),
            (".s", r#"{"s": ""}"#, Yes),
            (".s", r#"{"s": false}"#, No),
            ("empty", "1", No),
            ("error", "1", No),
            ("true, error", "1", Yes),
            ("error, true", "1", No),
            (".a.b", "[1]", No),
            (".a.b == null", "{}", Yes),
            (".big == 9007199254740993", r#"{"big": 9007199254740993}"#, Yes),
            (r#".name | test("^a.*z$")"#, r#"{"name": "abcz"}"#, Yes),
            ("any(.tags[]; . == \"x\")", r#"{"tags": ["y", "x"]}"#, Yes),
            ("def f(x): x + 1; f(.n) == 3", r#"{"n": 2}"#, Yes),
            (".t | fromdate > 0", r#"{"t": "2026-01-01T00:00:00Z"}"#, Yes),
            ("now == 1000", "null", Yes),
        ] {
            assert_eq!(verdict(expression, payload, false), expected, "{expression} of {payload}");
        }
        let packed = rmp_serde::to_vec(&serde_json::json!({"user_id": 42})).unwrap();
        let condition = Condition::compile(".user_id == 42", false).unwrap();
        assert_eq!(condition.verdict(Format::MessagePack, &packed, 0.0), Yes);
    }

    #[test]
    fn a_filter_that_is_not_a_condition_is_refused_when_jobs_change() {
        for (expression, gives) in [
            (".to = \"x\"", "gives its input, changed"),
            (".a |= 1", "gives its input, changed"),
            ("{a: 1}", "gives an object"),
            (".a | [.]", "gives an array"),
            ("\"x\"", "gives a string"),
            ("5", "gives a number"),
        ] {
            let why = Condition::compile(expression, true).err().unwrap();
            assert!(why.contains(gives), "{expression}: {why}");
            assert!(Condition::compile(expression, false).is_ok());
        }
        for (expression, payload, expected) in [
            (".a", r#"{"a": true}"#, Verdict::Yes),
            (".a", r#"{"a": false}"#, Verdict::No),
            (".a", "{}", Verdict::No),
            (".a", r#"{"a": "x"}"#, Verdict::Other(Kind::String)),
            (".a", r#"{"a": 0}"#, Verdict::Other(Kind::Number)),
            (".a", r#"{"a": []}"#, Verdict::Other(Kind::Array)),
            (".", "{}", Verdict::Other(Kind::Object)),
            (".a.b", "[1]", Verdict::No),
            (".a == null", "{}", Verdict::Yes),
        ] {
            let verdict = verdict(expression, payload, true);
            assert_eq!(verdict, expected, "{expression} of {payload}");
            assert_eq!(Verdict::from_byte(verdict.byte()), expected);
        }
    }

    #[test]
    fn expressions_see_only_the_payload() {
        for expression in [
            "env",
            "$ENV",
            "$__prog_args",
            "input",
            "inputs",
            "debug",
            "stderr",
            "halt",
            "halt_error",
            "input_filename",
            "input_line_number",
            "get_search_list",
            "localtime",
            "include \"x\"; .",
            "import \"x\" as x; .",
            "x::f",
        ] {
            assert!(Condition::compile(expression, false).is_err(), "{expression}");
        }
    }
}
