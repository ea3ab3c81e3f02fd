//! JSON in a string, for `fromjson` and `tonumber`: accepts what jq accepts, which is slightly more than JSON, and fails
//! with jq's error messages.

use super::number::Num;
use super::read;
use super::value::{Failure, Kind, Members, Outcome, Text, Value, failure};

/// As deep as jq reads.
const MAX_DEPTH: usize = 256;

/// Reads the one value in a text.
pub(super) fn parse(text: &str) -> Outcome {
    if let Some(value) = read::json(text.as_bytes(), None) {
        return Ok(value);
    }
    let told = text.split('\0').next().unwrap_or_default();
    Scanner::default().run(text).map_err(|why| failure(format!("{why} (while parsing '{told}')")))
}

/// What is open around the next value.
enum Open {
    Array(Vec<Value>),
    Object(Members),
    Key(Text),
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Normal,
    String,
    Escape,
}

/// jq's own scanner: it goes by characters, and notices a mistake where jq does.
#[derive(Default)]
struct Scanner {
    stack: Vec<Open>,
    next: Option<Value>,
    token: String,
    state: State,
    line: usize,
    column: usize,
}

type Step<T = ()> = Result<T, &'static str>;

impl Scanner {
    fn run(mut self, text: &str) -> Result<Value, String> {
        self.line = 1;
        let mut only = None;
        for c in text.chars() {
            let done =
                self.scan(c).map_err(|why| format!("{why} at line {}, column {}", self.line, self.column))?;
            if let Some(value) = done {
                if only.is_some() {
                    return Err("Unexpected extra JSON values".to_owned());
                }
                only = Some(value);
            }
        }
        let at_end = |why: &str, scanner: &Self| {
            format!("{why} at EOF at line {}, column {}", scanner.line, scanner.column)
        };
        if self.state != State::Normal {
            return Err(at_end("Unfinished string", &self));
        }
        self.literal().map_err(|why| at_end(why, &self))?;
        if !self.stack.is_empty() {
            return Err(at_end("Unfinished JSON term", &self));
        }
        match (only, self.next) {
            (Some(_), Some(_)) => Err("Unexpected extra JSON values".to_owned()),
            (Some(value), None) | (None, Some(value)) => Ok(value),
            (None, None) => Err("Expected JSON value".to_owned()),
        }
    }

    fn scan(&mut self, c: char) -> Step<Option<Value>> {
        self.column += c.len_utf8();
        if c == '\n' {
            self.line += 1;
            self.column = 0;
        }
        match self.state {
            State::Normal => return self.scan_normal(c),
            State::String if c == '"' => {
                let text = unescape(&std::mem::take(&mut self.token))?;
                self.value(Value::text(text))?;
                self.state = State::Normal;
                return Ok(self.done());
            }
            State::String => {
                self.token.push(c);
                if c == '\\' {
                    self.state = State::Escape;
                }
            }
            State::Escape => {
                self.token.push(c);
                self.state = State::String;
            }
        }
        Ok(None)
    }

    fn scan_normal(&mut self, c: char) -> Step<Option<Value>> {
        let mut done = None;
        let is_structure = matches!(c, '[' | ',' | ']' | '{' | ':' | '}');
        let is_space = matches!(c, ' ' | '\t' | '\r' | '\n');
        if is_structure || is_space || c == '"' {
            self.literal()?;
            done = self.done();
        }
        match c {
            _ if is_space => {}
            '"' => self.state = State::String,
            _ if is_structure => self.structure(c)?,
            _ => self.token.push(c),
        }
        Ok(done.or_else(|| self.done()))
    }

    fn done(&mut self) -> Option<Value> {
        if self.stack.is_empty() { self.next.take() } else { None }
    }

    fn value(&mut self, value: Value) -> Step {
        if self.next.is_some() {
            return Err("Expected separator between values");
        }
        self.next = Some(value);
        Ok(())
    }

    fn literal(&mut self) -> Step {
        if self.token.is_empty() {
            return Ok(());
        }
        let token = std::mem::take(&mut self.token);
        let value = match token.as_bytes() {
            b"true" => Value::bool(true),
            b"false" => Value::bool(false),
            b"null" => Value::NULL,
            [b't' | b'f', ..] | [b'n', b'u', ..] => return Err("Invalid literal"),
            _ => Num::read(&token).map(|n| Value(Kind::Number(n))).ok_or("Invalid numeric literal")?,
        };
        self.value(value)
    }

    fn structure(&mut self, c: char) -> Step {
        match c {
            '[' => self.open(Open::Array(Vec::new())),
            '{' => self.open(Open::Object(Members::default())),
            ':' => self.colon(),
            ',' => self.comma(),
            ']' => self.end_array(),
            _ => self.end_object(),
        }
    }

    fn open(&mut self, open: Open) -> Step {
        if self.stack.len() >= MAX_DEPTH {
            return Err("Exceeds depth limit for parsing");
        }
        if self.next.is_some() {
            return Err("Expected separator between values");
        }
        self.stack.push(open);
        Ok(())
    }

    fn colon(&mut self) -> Step {
        let Some(next) = self.next.take() else { return Err("Expected string key before ':'") };
        if !matches!(self.stack.last(), Some(Open::Object(_))) {
            return Err("':' not as part of an object");
        }
        let Kind::Text(key) = next.0 else { return Err("Object keys must be strings") };
        self.stack.push(Open::Key(key));
        Ok(())
    }

    fn comma(&mut self) -> Step {
        let Some(next) = self.next.take() else { return Err("Expected value before ','") };
        match self.stack.last_mut() {
            None => Err("',' not as part of an object or array"),
            Some(Open::Array(items)) => {
                items.push(next);
                Ok(())
            }
            Some(Open::Key(_)) => self.member(next),
            Some(Open::Object(_)) => Err("Objects must consist of key:value pairs"),
        }
    }

    fn member(&mut self, value: Value) -> Step {
        let Some(Open::Key(key)) = self.stack.pop() else { return Err("Unmatched '}'") };
        match self.stack.last_mut() {
            Some(Open::Object(members)) => drop(members.insert(key, value)),
            _ => return Err("Unmatched '}'"),
        }
        Ok(())
    }

    fn end_array(&mut self) -> Step {
        let next = self.next.take();
        match self.stack.pop() {
            Some(Open::Array(mut items)) => {
                match next {
                    Some(next) => items.push(next),
                    None if !items.is_empty() => return Err("Expected another array element"),
                    None => {}
                }
                self.next = Some(Value::flat(items));
                Ok(())
            }
            _ => Err("Unmatched ']'"),
        }
    }

    fn end_object(&mut self) -> Step {
        if self.stack.is_empty() {
            return Err("Unmatched '}'");
        }
        match self.next.take() {
            Some(next) if matches!(self.stack.last(), Some(Open::Key(_))) => self.member(next)?,
            Some(_) => return Err("Objects must consist of key:value pairs"),
            None => match self.stack.last() {
                Some(Open::Object(members)) if members.is_empty() => {}
                Some(Open::Object(_)) => return Err("Expected another key-value pair"),
                _ => return Err("Unmatched '}'"),
            },
        }
        match self.stack.pop() {
            Some(Open::Object(members)) => {
                self.next = Value::object(members).ok();
                Ok(())
            }
            _ => Err("Unmatched '}'"),
        }
    }
}

/// What is between the quotes of a JSON string.
///
/// # Errors
/// jq's sentence.
pub(super) fn unescape(token: &str) -> Step<String> {
    let mut out = String::with_capacity(token.len());
    let mut chars = token.chars();
    while let Some(c) = chars.next() {
        if c <= '\x1f' {
            return Err("Invalid string: control characters from U+0000 through U+001F must be escaped");
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next().ok_or("Expected escape character at end of string")? {
            c @ ('\\' | '"' | '/') => out.push(c),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            't' => out.push('\t'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            'u' => out.push(code_point(&mut chars)?),
            _ => return Err("Invalid escape"),
        }
    }
    Ok(out)
}

fn code_point(chars: &mut std::str::Chars<'_>) -> Step<char> {
    const NO_PAIR: &str = "Invalid \\uXXXX\\uXXXX surrogate pair escape";
    let first = hex4(chars)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    if chars.next() != Some('\\') || chars.next() != Some('u') {
        return Err(NO_PAIR);
    }
    match hex4(chars) {
        Ok(second @ 0xdc00..0xe000) => {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
        }
        _ => Err(NO_PAIR),
    }
}

fn hex4(chars: &mut std::str::Chars<'_>) -> Step<u32> {
    let digits = chars.as_str().get(..4);
    let Some(digits) = digits else {
        return Err(if chars.as_str().len() < 4 {
            "Invalid \\uXXXX escape"
        } else {
            "Invalid characters in \\uXXXX escape"
        });
    };
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("Invalid characters in \\uXXXX escape");
    }
    let code = u32::from_str_radix(digits, 16).map_err(|_| "Invalid characters in \\uXXXX escape")?;
    *chars = chars.as_str().get(4..).unwrap_or_default().chars();
    Ok(code)
}

/// The number that a string is.
pub(super) fn to_number(value: Value) -> Outcome {
    let refused =
        |value: &Value| -> Failure { failure(format!("{} cannot be parsed as a number", value.told())) };
    match &value.0 {
        Kind::Number(_) => Ok(value),
        // As in jq, what is behind a NUL is not seen.
        Kind::Text(text) => match parse(text.split('\0').next().unwrap_or_default())? {
            number if number.as_number().is_some() => Ok(number),
            _ => Err(refused(&value)),
        },
        _ => Err(refused(&value)),
    }
}
