//! jq for expressions over payloads: gives the same results as jq 1.7, or refuses an expression with a sentence.
//!
//! An expression is parsed by jq's grammar (`lex`, `parse`), checked and translated (`lower`), and run by jaq over our own
//! values (`value`), which behave as jq's do. jaq's own parser, functions and updates are not used, because they differ
//! from jq's. The only functions are those of `library.jq` and `natives`: none of them ends the process, waits, or reads
//! anything but its input. `tests/jq` in this crate holds the output of jq itself.

mod ast;
mod dates;
mod kind;
mod lex;
mod library;
mod lower;
mod matching;
mod math;
mod members;
mod names;
mod natives;
mod number;
mod order;
mod parse;
mod parse_json;
mod paths;
mod pattern;
mod read;
mod text;
mod tracked;
mod value;
mod walk;
mod write;

use std::panic::{AssertUnwindSafe, catch_unwind};

use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars};

use self::ast::Term;
pub use self::kind::Kind;
use self::lower::Lowering;
pub use self::members::Members;
use self::natives::Data;
pub use self::value::Value;
use crate::media::Format;

/// A compiled expression.
pub struct Program {
    filter: Filter<Data>,
    constants: Vec<Value>,
    term: Term,
    members: Members,
    /// The members of a payload to read; `None`: all.
    wanted: Option<Vec<String>>,
}

/// Why an expression failed while it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It raised this error.
    Raised(String),
    /// It exceeded a limit, where jq would have gone on.
    TooMuch(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Raised(words) | Self::TooMuch(words) => f.write_str(words),
        }
    }
}

impl Program {
    /// Compiles an expression that may use these variables (named without `$`).
    ///
    /// # Errors
    /// A sentence: it is not valid, or uses something that is not supported.
    pub fn compile(source: &str, variables: &[&str]) -> Result<Self, String> {
        let term = parse::parse(source)?;
        let code = Lowering::of_expression(variables).run(&term)?;
        let text = format!("{}\n{}", library::text(&code.needs), code.text);
        let names = std::iter::once("$now".to_owned())
            .chain(variables.iter().map(|name| format!("$v_{name}")))
            .chain((0..code.constants.len()).map(|n| format!("$k{n}")));
        let names: Vec<String> = names.collect();
        let filter = compile(&text, &names).ok_or("it is too much for the interpreter")?;
        let members = Members::of(&term);
        let wanted = (!members.whole).then(|| members.named.iter().cloned().collect());
        Ok(Self { filter, constants: code.constants, term, members, wanted })
    }

    /// The members of its input that it reads.
    #[must_use]
    pub const fn members(&self) -> &Members {
        &self.members
    }

    /// The kind of its outputs, if that can be told without running it.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Kind::of(&self.term)
    }

    /// Reads a payload; of an object, only the members that this expression uses. `None` if it cannot be read.
    #[must_use]
    pub fn read(&self, format: Format, payload: &[u8]) -> Option<Value> {
        read::payload(format, payload, self.wanted.as_deref())
    }

    /// The outputs for an input, up to the first error. `now` is in seconds since 1970.
    pub fn run<'a>(
        &'a self,
        input: Value,
        variables: impl IntoIterator<Item = Value>,
        now: f64,
    ) -> impl Iterator<Item = Result<Value, Failure>> + 'a {
        let known =
            std::iter::once(Value::number(now)).chain(variables).chain(self.constants.iter().cloned());
        let context = Ctx::<Data>::new(&self.filter.lut, Vars::new(known));
        let begun = catch_unwind(AssertUnwindSafe(|| self.filter.id.run((context, input))));
        let mut outputs = begun.ok();
        let mut is_over = false;
        std::iter::from_fn(move || {
            if is_over {
                return None;
            }
            let next = match outputs.as_mut().map(|outputs| catch_unwind(AssertUnwindSafe(|| outputs.next())))
            {
                Some(Ok(next)) => next?.map_err(|error| match error.get_err() {
                    Ok(error) => said(&error.into_val()),
                    Err(_) => Failure::TooMuch("it broke off".to_owned()),
                }),
                Some(Err(_)) | None => Err(Failure::TooMuch("it broke off".to_owned())),
            };
            is_over = next.is_err();
            Some(next)
        })
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("term", &self.term).finish_non_exhaustive()
    }
}

/// The text of an error.
fn said(error: &Value) -> Failure {
    match error.as_text() {
        Some(limit @ (value::TOO_DEEP | value::TOO_LONG)) => Failure::TooMuch(limit.to_owned()),
        Some(text) => Failure::Raised(text.to_owned()),
        None => Failure::Raised(format!("(not a string): {}", error.to_json())),
    }
}

/// Compiles translated text, which is always valid, unless it nests too deeply.
fn compile(text: &str, names: &[String]) -> Option<Filter<Data>> {
    let arena = Arena::default();
    let modules = Loader::new([]).load(&arena, File { code: text, path: () });
    debug_assert!(modules.is_ok(), "{text}");
    let compiled = Compiler::default()
        .with_funs(natives::all())
        .with_global_vars(names.iter().map(String::as_str))
        .compile(modules.ok()?);
    if let Err(errors) = &compiled {
        debug_assert!(false, "{errors:?} {text}");
    }
    compiled.ok()
}

impl Value {
    /// Reads a payload. `None` if it cannot be read.
    #[must_use]
    pub fn read(format: Format, payload: &[u8]) -> Option<Self> {
        read::payload(format, payload, None)
    }

    /// The output of `jq -c`.
    #[must_use]
    pub fn to_json(&self) -> String {
        write::to_json(self)
    }

    /// What kind of value it is.
    #[must_use]
    pub fn kind_of(&self) -> Kind {
        Kind::of_value(self)
    }

    /// Neither `null` nor `false`.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.is_truthy()
    }

    /// Its text, if it is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.as_text()
    }
}
