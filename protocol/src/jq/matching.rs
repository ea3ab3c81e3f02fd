//! Regular expressions: `match`, `test` and what is built on them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::pattern::{END_GROUP, Flags, Pattern, WORD, compile};
use super::value::{Outcome, TOO_LONG, Value, failure};

/// The maximum number of matches in one text.
const MAX_MATCHES: usize = 1_000_000;

thread_local! {
    /// The last pattern: it is the same for payload after payload.
    static LAST: RefCell<Option<(String, Flags, Rc<Pattern>)>> = const { RefCell::new(None) };
}

/// Characters that are a part of a word for one of the two libraries only.
static DISPUTED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!("[\\w--[{WORD}]]|[[{WORD}]--\\w]")).expect("it is tested"));

fn pattern(source: &str, flags: Flags) -> Result<Rc<Pattern>, String> {
    LAST.with_borrow_mut(|last| {
        if let Some((known, of, pattern)) = last
            && known == source
            && *of == flags
        {
            return Ok(pattern.clone());
        }
        let compiled = Rc::new(compile(source, flags)?);
        *last = Some((source.to_owned(), flags, compiled.clone()));
        Ok(compiled)
    })
}

/// Whether a letter is, to one who ignores case, the same as two others.
fn folds_to_many(c: char) -> bool {
    matches!(u32::from(c),
        0xdf | 0x130 | 0x149 | 0x1f0 | 0x390 | 0x3b0 | 0x587 | 0x1e96..=0x1e9e | 0x1f50..=0x1ffc | 0xfb00..=0xfb17)
}

fn flags_of(flags: &Value) -> Outcome<Flags> {
    let text = match flags.as_text() {
        Some(text) => text,
        None if flags.is_null() => "",
        None => return Err(failure(format!("{} is not a string", flags.told()))),
    };
    Flags::read(text).map_err(|unknown| match unknown {
        Some(c) => failure(format!("the flag `{c}` is not known here")),
        None => failure(format!("{text} is not a valid modifier string")),
    })
}

/// Checks what stands in an expression, before it runs.
///
/// # Errors
/// A sentence.
pub(super) fn check(source: &str, flags: &str) -> Result<(), String> {
    // What are no flags fails when it runs, as in jq.
    match Flags::read(flags) {
        Ok(flags) => compile(source, flags).map(drop),
        Err(Some(c)) => Err(format!("the flag `{c}` of a regular expression is not known here")),
        Err(None) => Ok(()),
    }
}

/// All matches, or with `test` whether there is one.
pub(super) fn run(value: Value, source: Value, flags: Value, test: Value) -> Outcome {
    let Some(text) = value.as_text() else {
        return Err(failure(format!("{} cannot be matched, as it is not a string", value.told())));
    };
    let source = source.as_text().ok_or_else(|| failure(format!("{} is not a string", source.told())))?;
    let flags = flags_of(&flags)?;
    let pattern = pattern(source, flags).map_err(failure)?;
    let is_disputed = (pattern.ignores_case && text.chars().any(folds_to_many))
        || (pattern.has_words && !text.is_ascii() && DISPUTED.is_match(text));
    if is_disputed {
        return Err(failure("a letter of the text is not known here to regular expressions of this kind"));
    }
    if test.is_truthy() {
        return Ok(Value::bool(pattern.regex.is_match(text)));
    }
    all(&pattern, text, flags.global)
}

fn all(pattern: &Pattern, text: &str, is_global: bool) -> Outcome {
    let (mut found, mut start) = (Vec::new(), 0);
    let mut counter = Counter::new(text);
    while start <= text.len() {
        if found.len() > MAX_MATCHES {
            return Err(failure(TOO_LONG));
        }
        if !text.is_char_boundary(start) {
            // jq goes on by bytes.
            if !pattern.is_ascii {
                return Err(failure("an empty match is followed by a letter that is not known here"));
            }
            found.push(empty(&pattern.regex, counter.at(text.ceil_char_boundary(start))));
            start += 1;
            continue;
        }
        let Some(captures) = pattern.regex.captures_at(text, start) else { break };
        let Some((from, to)) = bounds(&pattern.regex, &captures) else { break };
        if from == to {
            found.push(empty(&pattern.regex, counter.at(from)));
            start = to + 1;
        } else {
            found.push(one(&pattern.regex, &captures, (from, to), text, &mut counter));
            start = to;
        }
        if !is_global {
            break;
        }
    }
    Ok(Value::flat(found))
}

/// Where a match is, without the newline that a `$` took.
fn bounds(regex: &Regex, captures: &Captures<'_>) -> Option<(usize, usize)> {
    let whole = captures.get(0)?;
    let took = regex
        .capture_names()
        .flatten()
        .any(|name| name.starts_with(END_GROUP) && captures.name(name).is_some());
    Some((whole.start(), whole.end() - usize::from(took)))
}

/// Places in characters, counted on from the last one that was asked for.
struct Counter<'a> {
    text: &'a str,
    byte: usize,
    chars: usize,
}

impl<'a> Counter<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, byte: 0, chars: 0 }
    }

    fn at(&mut self, byte: usize) -> usize {
        if byte < self.byte {
            (self.byte, self.chars) = (0, 0);
        }
        self.chars += self.text.get(self.byte..byte).unwrap_or_default().chars().count();
        self.byte = byte;
        self.chars
    }
}

/// The groups of the expression, with their names.
fn groups(regex: &Regex) -> impl Iterator<Item = (usize, Value)> {
    let names = regex.capture_names().enumerate().skip(1);
    names
        .filter(|(_, name)| !name.is_some_and(|name| name.starts_with(END_GROUP)))
        .map(|(n, name)| (n, name.map_or(Value::NULL, Value::text)))
}

fn empty(regex: &Regex, place: usize) -> Value {
    let group = |(_, name)| {
        Value::record([
            ("offset", Value::count(place)),
            ("string", Value::text("")),
            ("length", Value::count(0)),
            ("name", name),
        ])
    };
    Value::record([
        ("offset", Value::count(place)),
        ("length", Value::count(0)),
        ("string", Value::text("")),
        ("captures", Value::flat(groups(regex).map(group).collect())),
    ])
}

fn one(
    regex: &Regex,
    captures: &Captures<'_>,
    (from, to): (usize, usize),
    text: &str,
    counter: &mut Counter<'_>,
) -> Value {
    let length = |from: usize, to: usize| text.get(from..to).unwrap_or_default().chars().count();
    let (offset, string) = (counter.at(from), text.get(from..to).unwrap_or_default());
    let mut inner = Vec::new();
    for (n, name) in groups(regex) {
        inner.push(match captures.get(n) {
            Some(group) if group.is_empty() => Value::record([
                ("offset", Value::count(counter.at(group.start()))),
                ("string", Value::text("")),
                ("length", Value::count(0)),
                ("name", name),
            ]),
            Some(group) => Value::record([
                ("offset", Value::count(counter.at(group.start()))),
                ("length", Value::count(length(group.start(), group.end()))),
                ("string", Value::text(group.as_str())),
                ("name", name),
            ]),
            None => Value::record([
                ("offset", Value::number(-1.0)),
                ("string", Value::NULL),
                ("length", Value::count(0)),
                ("name", name),
            ]),
        });
    }
    Value::record([
        ("offset", Value::count(offset)),
        ("length", Value::count(length(from, to))),
        ("string", Value::text(string)),
        ("captures", Value::flat(inner)),
    ])
}
