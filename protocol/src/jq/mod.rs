//! jq, as far as expressions over payloads need it: jq 1.7's answer to an expression, or a sentence that refuses it.
//!
//! An expression is read by jq's grammar (`lex`, `parse`), checked and put into other words (`lower`), and run by jaq over
//! values of our own (`value`), which behave as jq's do. What jaq has of its own is not used: its parser, its functions
//! and its updates mean other things than jq's. `library.jq` and the functions of `natives` are all there is; nothing of it
//! ends, waits, or looks anywhere but at its input. `tests/jq` in this crate holds what jq itself says.

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
    /// The members to read of a payload; none: all.
    wanted: Option<Vec<String>>,
}

/// What went wrong while an expression ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It raised an error: its words.
    Raised(String),
    /// It wants more than there may be, where jq would have gone on.
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
    /// Compiles an expression that may name these variables (without their `$`).
    ///
    /// # Errors
    /// Why it is none, or what of it is not known here, in a sentence.
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

    /// What each of its outputs is, where that can be seen without running it.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Kind::of(&self.term)
    }

    /// Reads a payload: of an object no more than this expression looks at. None if it cannot be read.
    #[must_use]
    pub fn read(&self, format: Format, payload: &[u8]) -> Option<Value> {
        read::payload(format, payload, self.wanted.as_deref())
    }

    /// Its outputs for an input, until the first error. `now` is in seconds since 1970.
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

/// The words of an error.
fn said(error: &Value) -> Failure {
    match error.as_text() {
        Some(limit @ (value::TOO_DEEP | value::TOO_LONG)) => Failure::TooMuch(limit.to_owned()),
        Some(text) => Failure::Raised(text.to_owned()),
        None => Failure::Raised(format!("(not a string): {}", error.to_json())),
    }
}

/// Compiles what was written for jaq; so it is always right, or too deep.
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
    /// Reads a payload. None where it cannot be read.
    #[must_use]
    pub fn read(format: Format, payload: &[u8]) -> Option<Self> {
        read::payload(format, payload, None)
    }

    /// As `jq -c` prints it.
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

    /// The text that it is.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.as_text()
    }
}
