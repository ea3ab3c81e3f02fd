//! What jq 1.7.1 says to many expressions over many payloads, and what this crate says: the same, or a refusal.
#![cfg(feature = "jq")]

use proptest::prelude::*;
use protocol::jq::Program;
use protocol::media::Format;
use serde_json::Value;

/// What random expressions are made of: nothing that goes on for ever.
const TOKENS: &[&str] = &[
    ".",
    "..",
    ".a",
    ".[]",
    ".[0]",
    ".a?",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "|",
    ",",
    ":",
    ";",
    "+",
    "-",
    "*",
    "/",
    "%",
    "=",
    "|=",
    "+=",
    "//",
    "//=",
    "==",
    "<",
    "and",
    "or",
    "not",
    "if",
    "then",
    "else",
    "elif",
    "end",
    "try",
    "catch",
    "?",
    "reduce",
    "foreach",
    "as",
    "$x",
    "[$x]",
    "{$x}",
    "label",
    "break",
    "$out",
    "1",
    "1.5e3",
    "\"a\"",
    "\"x\\(1)\"",
    "@json",
    "\\(",
    "null",
    "length",
    "map(",
    "select(",
    "path(",
    "del(",
    "error",
    "first(",
    "test(\"a\")",
    "sub(\"a\";",
    "keys",
    "to_entries",
    "tojson",
    "fromjson",
    "sort_by(",
    "limit(2;",
    "$__loc__",
    "def f:",
    "def g(x):",
    "g(",
    "?//",
    "a",
    "é",
    "#",
];

proptest! {
    /// Any text is a program or refused in a sentence, and a program comes to an end.
    #[test]
    fn no_text_breaks_it(tokens in prop::collection::vec(prop::sample::select(TOKENS), 0..25)) {
        let source = tokens.join(" ");
        match Program::compile(&source, &[]) {
            Ok(program) => for payload in ["null", "{\"a\": [1, {\"b\": null}]}", "[\"a\", 2]"] {
                let input = program.read(Format::Json, payload.as_bytes()).expect("it is JSON");
                program.run(input, [], 0.0).take(100).for_each(drop);
            },
            Err(why) => prop_assert!(!why.is_empty()),
        }
    }

    /// The same of texts that nobody would write.
    #[test]
    fn no_noise_breaks_it(source in "\\PC{0,60}") {
        if let Err(why) = Program::compile(&source, &[]) {
            prop_assert!(!why.is_empty());
        }
    }
}

/// The outputs, and whether an error ends them.
fn run(program: &Program, payload: &str) -> Vec<Value> {
    let input = program.read(Format::Json, payload.as_bytes()).expect("it is JSON");
    let outputs = program.run(input, [], 1_700_000_000.5);
    outputs.map(|output| output.map_or(Value::Bool(true), |value| Value::String(value.to_json()))).collect()
}

#[test]
fn an_expression_does_what_jq_does_or_is_refused() {
    let payloads: Vec<&str> = include_str!("jq/payloads.txt").lines().collect();
    let (mut compared, mut refused, mut wrong) = (0, Vec::new(), Vec::new());
    for line in table().lines() {
        let (expression, expected): (String, Option<Vec<Vec<Value>>>) = serde_json::from_str(line).unwrap();
        let program = match Program::compile(&expression, &[]) {
            Ok(program) => program,
            Err(why) => {
                assert!(!why.is_empty());
                if expected.is_some() {
                    refused.push(format!("{expression}: {why}"));
                }
                continue;
            }
        };
        let Some(expected) = expected else {
            wrong.push(format!("{expression}: jq refuses it"));
            continue;
        };
        for (payload, expected) in payloads.iter().zip(expected) {
            compared += 1;
            let found = run(&program, payload);
            if found != expected {
                wrong.push(format!("{payload} | {expression}\n  jq  {expected:?}\n  not {found:?}"));
            }
        }
    }
    if std::env::var_os("ZIZQ_JQ_REFUSED").is_some() {
        eprintln!("{} refused:\n{}", refused.len(), refused.join("\n"));
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 5_000, "{compared}");
}

/// The table, or another one of the same shape.
fn table() -> String {
    match std::env::var_os("ZIZQ_JQ_TABLE") {
        Some(path) => std::fs::read_to_string(path).expect("it is there"),
        None => include_str!("jq/expected.txt").to_owned(),
    }
}
