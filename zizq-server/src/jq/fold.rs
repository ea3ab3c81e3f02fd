//! Folding payloads into each other: the request, and how the helper computes it.

use std::io;
use std::rc::Rc;

use protocol::error::excerpt;
use protocol::jq::{Program, Value};
use protocol::media::Format;
use serde::{Deserialize, Serialize};

use crate::hash::HashMap;

/// The variables with both payloads in an expression.
const VARIABLES: [&str; 2] = ["existing", "new"];
/// How many bytes of expressions are kept compiled.
const MAX_KNOWN: usize = 64 * 1024;
/// Error messages of an expression may contain whole payloads. They are cut at this many bytes.
const MAX_WORDS: usize = 200;

/// A payload, and how it is folded.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Item<'a> {
    /// The number of its batch; `None`: its expressions are only tried.
    pub batch: Option<u32>,
    pub when: &'a str,
    pub fold: &'a str,
    pub is_json: bool,
    pub payload: &'a [u8],
}

/// The payloads to fold.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task<'a> {
    /// The value of `now`, in seconds since 1970.
    pub now: f64,
    /// The open batches by number; `None`: there is none for this key yet.
    #[serde(borrow)]
    pub open: Vec<Option<Item<'a>>>,
    /// In order: each is folded into the batch that is open then, or opens the next one.
    pub new: Vec<Item<'a>>,
}

/// The result for one payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Turn {
    Tried,
    Folded,
    Opened,
}

/// The payloads that others were folded into, in JSON.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Folded {
    /// With the numbers of the batches that were open.
    pub open: Vec<(u32, Vec<u8>)>,
    /// With their indexes among the new ones.
    pub new: Vec<(u32, Vec<u8>)>,
}

/// The helper's side: the expressions it has compiled.
#[derive(Default)]
pub(super) struct Folding {
    known: HashMap<String, Rc<Program>>,
    bytes: usize,
}

/// An open batch.
struct Open<'a> {
    item: Item<'a>,
    /// Its index among the new ones; `None`: it was open before.
    new: Option<u32>,
    payload: Value,
    /// Whether the payload differs from the item's.
    folded: bool,
}

impl Folding {
    /// Folds, and reports on every payload as soon as it is done.
    ///
    /// # Errors
    /// Errors of reporting. An error of the next payload is part of the answer.
    pub(super) fn run(
        &mut self,
        task: &[u8],
        mut tell: impl FnMut(Turn) -> io::Result<()>,
    ) -> io::Result<Result<Folded, String>> {
        let Task { now, open, new } = postcard::from_bytes(task).map_err(io::Error::other)?;
        let mut folded = Folded::default();
        let mut batches: Vec<Option<Open<'_>>> = Vec::with_capacity(open.len());
        for item in open {
            // Stored payloads were checked on arrival.
            batches.push(
                item.and_then(|item| Some(Open { item, new: None, payload: item.read()?, folded: false })),
            );
        }
        for (n, item) in new.into_iter().enumerate() {
            let turn = match self.one(now, item, n, &mut batches, &mut folded) {
                Ok(turn) => turn,
                Err(why) => return Ok(Err(why)),
            };
            tell(turn)?;
        }
        let open = batches.into_iter().enumerate();
        open.for_each(|(number, open)| open.into_iter().for_each(|open| folded.take(number, open)));
        Ok(Ok(folded))
    }

    fn one<'a>(
        &mut self,
        now: f64,
        item: Item<'a>,
        n: usize,
        batches: &mut [Option<Open<'a>>],
        folded: &mut Folded,
    ) -> Result<Turn, String> {
        let payload = item.read().ok_or("payload: cannot be read")?;
        let both = [payload.clone(), payload.clone()];
        self.evaluate(now, "when", item.when, both.clone()).map_err(|why| format!("batch.{why}"))?;
        self.evaluate(now, "fold", item.fold, both).map_err(|why| format!("batch.{why}"))?;
        let number = item.batch.map(|batch| batch as usize);
        let Some((number, batch)) = number.and_then(|number| Some((number, batches.get_mut(number)?))) else {
            return Ok(Turn::Tried);
        };
        if let Some(open) = batch {
            let of_open = |why: String| format!("batch: of the open batch with this key, {why}");
            let both = [open.payload.clone(), payload.clone()];
            let when = self.evaluate(now, "when", open.item.when, both.clone()).map_err(of_open)?;
            if when.is_true() {
                open.payload = self.evaluate(now, "fold", open.item.fold, both).map_err(of_open)?;
                open.folded = true;
                return Ok(Turn::Folded);
            }
        }
        let new = Open { item, new: u32::try_from(n).ok(), payload, folded: false };
        if let Some(closed) = batch.replace(new) {
            folded.take(number, closed);
        }
        Ok(Turn::Opened)
    }

    /// The only output of an expression, or an error that begins with its name.
    fn evaluate(
        &mut self,
        now: f64,
        name: &str,
        expression: &str,
        payloads: [Value; 2],
    ) -> Result<Value, String> {
        let program = self.program(expression);
        program.and_then(|program| only_output(&program, payloads, now)).map_err(|why| {
            let end = why.floor_char_boundary(MAX_WORDS);
            let (words, more) = (why.get(..end).unwrap_or_default(), if end < why.len() { "…" } else { "" });
            format!("{name}: `{}`: {words}{more}", excerpt(expression))
        })
    }

    fn program(&mut self, expression: &str) -> Result<Rc<Program>, String> {
        if let Some(program) = self.known.get(expression) {
            return Ok(program.clone());
        }
        let program = Rc::new(Program::compile(expression, &VARIABLES)?);
        if self.bytes > MAX_KNOWN {
            self.known.clear();
            self.bytes = 0;
        }
        self.bytes += expression.len();
        self.known.insert(expression.to_owned(), program.clone());
        Ok(program)
    }
}

impl Item<'_> {
    fn read(&self) -> Option<Value> {
        Value::read(if self.is_json { Format::Json } else { Format::MessagePack }, self.payload)
    }
}

/// The only output, with these values of the variables and `null` as input.
fn only_output(program: &Program, payloads: [Value; 2], now: f64) -> Result<Value, String> {
    let mut outputs = program.run(Value::default(), payloads, now);
    let output = outputs.next().ok_or("it has no output; exactly one is wanted")?;
    let output = output.map_err(|why| why.to_string())?;
    match outputs.next() {
        None => Ok(output),
        Some(_) => Err("it has more than one output; exactly one is wanted".to_owned()),
    }
}

impl Folded {
    fn take(&mut self, number: usize, open: Open<'_>) {
        if !open.folded {
            return;
        }
        let payload = open.payload.to_json().into_bytes();
        match open.new {
            Some(n) => self.new.push((n, payload)),
            None => self.open.extend(u32::try_from(number).map(|number| (number, payload))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item<'a>(batch: Option<u32>, when: &'a str, fold: &'a str, payload: &'a str) -> Item<'a> {
        Item { batch, when, fold, is_json: true, payload: payload.as_bytes() }
    }

    fn run(task: &Task<'_>) -> (Vec<Turn>, Result<Folded, String>) {
        let mut turns = Vec::new();
        let task = postcard::to_allocvec(task).unwrap();
        let tell = |turn| {
            turns.push(turn);
            Ok(())
        };
        let folded = Folding::default().run(&task, tell).unwrap();
        (turns, folded)
    }

    /// Folds two payloads.
    fn fold(when: &str, fold: &str, existing: &str, new: &str) -> Result<Option<String>, String> {
        let open = vec![Some(item(Some(0), when, fold, existing))];
        let (turns, folded) = run(&Task { now: 0.0, open, new: vec![item(Some(0), "true", "null", new)] });
        let folded = folded?.open.pop().map(|(_, payload)| String::from_utf8(payload).unwrap());
        assert_eq!(turns, [if folded.is_some() { Turn::Folded } else { Turn::Opened }]);
        Ok(folded)
    }

    #[test]
    fn the_stored_expressions_see_both_payloads() {
        for (when, expression, existing, new, expected) in [
            ("true", "$existing + $new", "[1]", "[2, 3]", Some("[1,2,3]")),
            ("true", "[$existing, $new, .]", "1", "2", Some("[1,2,null]")),
            (
                "$existing.n + $new.n <= 3",
                "$existing | .n += $new.n",
                r#"{"n":1}"#,
                r#"{"n":2}"#,
                Some(r#"{"n":3}"#),
            ),
            ("$existing.n + $new.n <= 3", "$existing | .n += $new.n", r#"{"n":2}"#, r#"{"n":2}"#, None),
            ("null", "$new", "1", "2", None),
            ("0", "$new", "1", "2", Some("2")),
            ("\"\"", "empty, $new", "1", "2", Some("2")),
            (
                "(($existing | .a) + ($new | .a)) | length <= 3",
                "$existing | .a += ($new | .a)",
                r#"{"a":[1]}"#,
                r#"{"a":[2,2]}"#,
                Some(r#"{"a":[1,2,2]}"#),
            ),
            (
                "true",
                "$existing | .a = ((.a) + ($new | .a) | unique)",
                r#"{"a":[3]}"#,
                r#"{"a":[1,3]}"#,
                Some(r#"{"a":[1,3]}"#),
            ),
        ] {
            assert_eq!(fold(when, expression, existing, new).unwrap().as_deref(), expected, "{expression}");
        }
    }

    #[test]
    fn values_are_written_as_json() {
        let text = r#"{"s":"\"\\\n\u0001\u007fä😀'","f":1.0,"e":1e+20,"big":18446744073709551615,"n":-7,"b":[true,null,{}]}"#;
        let folded = fold("true", "$new", "0", text).unwrap().unwrap();
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&folded), read(text));
        assert!(folded.contains("\"f\":1.0"), "{folded}");
        for (expression, expected) in [
            ("nan", "null"),
            ("infinite", "1.7976931348623157e+308"),
            ("-infinite", "-1.7976931348623157e+308"),
            ("1.5 + 1.5", "3"),
            ("9007199254740993", "9007199254740993"),
            ("9007199254740993 + 0", "9007199254740992"),
            ("1e300 * 10", "1e+301"),
        ] {
            assert_eq!(
                fold("true", expression, "0", "0").unwrap().as_deref(),
                Some(expected),
                "{expression}"
            );
        }
    }

    #[test]
    fn every_key_has_its_batch_and_a_closed_batch_takes_no_more() {
        let few = "$existing + $new <= 3";
        let add = "$existing + $new";
        let open = vec![None, Some(item(Some(1), few, add, "1"))];
        let new = vec![
            item(Some(0), few, add, "1"),
            item(Some(1), "false", "null", "2"),
            item(Some(0), "false", "null", "2"),
            // The open batch refuses; from here on this one decides.
            item(Some(0), "true", "[$existing, $new]", "3"),
            item(None, few, add, "4"),
            item(Some(0), few, add, "5"),
            item(Some(1), few, add, "6"),
        ];
        let (turns, folded) = run(&Task { now: 0.0, open, new });
        use Turn::{Folded as F, Opened as O, Tried as T};
        assert_eq!(turns, [O, F, F, O, T, F, O]);
        let text = |text: &str| text.as_bytes().to_vec();
        let expected = Folded { open: vec![(1, text("3"))], new: vec![(0, text("3")), (3, text("[3,5]"))] };
        assert_eq!(folded.unwrap(), expected);
    }

    #[test]
    fn errors_of_an_expression_begin_with_its_name() {
        let refused = |when: &str, fold: &str| {
            let (turns, folded) =
                run(&Task { now: 0.0, open: Vec::new(), new: vec![item(None, when, fold, "{\"a\":1}")] });
            assert_eq!(turns, []);
            folded.unwrap_err()
        };
        for (when, fold, sentence) in [
            ("$existing.a ==", "$new", "batch.when: `$existing.a ==`: a term is expected, not the end"),
            ("", "$new", "batch.when: ``: a term is expected, not the end of the expression"),
            ("tru e", "$new", "batch.when: `tru e`: the end of the expression is expected, not `e`"),
            ("true", "$other", "batch.fold: `$other`: `$other` is not defined"),
            ("true", "$ENV", "batch.fold: `$ENV`: `$ENV` is not known here"),
            ("true", "input", "batch.fold: `input`: `input` is not known here"),
            ("true", "empty", "batch.fold: `empty`: it has no output; exactly one is wanted"),
            (
                "true, false",
                "1",
                "batch.when: `true, false`: it has more than one output; exactly one is wanted",
            ),
            ("$existing.a.b", "1", "batch.when: `$existing.a.b`: Cannot index number"),
            ("true", "error(\"no\")", "batch.fold: `error(\"no\")`: no"),
            ("true", "1, error", "batch.fold: `1, error`: it has more than one output"),
        ] {
            let said = refused(when, fold);
            assert!(said.starts_with(sentence), "{said:?} should begin with {sentence:?}");
        }
        let long = refused("true", "error(\"x\" * 100000)");
        assert!(long.len() < 400, "{}", long.len());
        let of_open = fold("true", "$existing + $new", "1", "\"x\"").unwrap_err();
        let sentence = "batch: of the open batch with this key, fold: `$existing + $new`: number (1) and string (\"x\") cannot be added";
        assert!(of_open.starts_with(sentence), "{of_open}");
    }
}
