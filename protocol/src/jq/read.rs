//! Payloads as values: of an object only the members that somebody asks for.

use std::sync::Arc;

use super::number::Num;
use super::value::{Kind, Members, Text, Value};
use crate::media::Format;
use crate::payload::Payload;

/// As deep as jq reads. Payloads never nest so deep.
const MAX_DEPTH: usize = 256;

/// Which members of the outermost object are wanted; none: all.
pub(super) type Wanted<'a> = Option<&'a [String]>;

/// Reads a payload. None where it is no JSON, or nests too deeply.
pub(super) fn payload(format: Format, bytes: &[u8], wanted: Wanted<'_>) -> Option<Value> {
    if format == Format::Json {
        return json(bytes, wanted);
    }
    let payload = Payload::from_checked(format, bytes::Bytes::copy_from_slice(bytes));
    json(&payload.to_format(Format::Json), wanted)
}

/// Reads a JSON text.
pub(super) fn json(text: &[u8], wanted: Wanted<'_>) -> Option<Value> {
    let text = std::str::from_utf8(text).ok()?;
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0, wanted)?;
    reader.skip_space();
    (reader.at == text.len()).then_some(value)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte that is no white space.
    fn token(&mut self) -> Option<u8> {
        self.skip_space();
        self.peek()
    }

    fn take(&mut self, expected: u8) -> Option<()> {
        (self.token()? == expected).then(|| self.at += 1)
    }

    fn word(&mut self, word: &str, value: Value) -> Option<Value> {
        let rest = self.text.get(self.at..)?;
        rest.starts_with(word).then(|| self.at += word.len())?;
        Some(value)
    }

    fn value(&mut self, depth: usize, wanted: Wanted<'_>) -> Option<Value> {
        match self.token()? {
            b'{' => self.object(depth, wanted),
            b'[' => self.array(depth),
            b'"' => Some(Value(Kind::Text(Text(Arc::new(self.string()?))))),
            b't' => self.word("true", Value::bool(true)),
            b'f' => self.word("false", Value::bool(false)),
            b'n' => self.word("null", Value::NULL),
            _ => Num::read(self.number()?).map(|n| Value(Kind::Number(n))),
        }
    }

    fn number(&mut self) -> Option<&'a str> {
        let rest = self.text.get(self.at..)?;
        let is_part = |b: u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.bytes().position(|b| !is_part(b)).unwrap_or(rest.len());
        self.at += length;
        let number = rest.get(..length)?;
        number.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then_some(number)
    }

    /// Text without escapes costs one search.
    fn string(&mut self) -> Option<String> {
        let begin = self.at + 1;
        let rest = self.text.get(begin..)?;
        let length = memchr::memchr2(b'"', b'\\', rest.as_bytes())?;
        if rest.as_bytes().get(length) == Some(&b'"') {
            self.at = begin + length + 1;
            return rest.get(..length).map(str::to_owned);
        }
        self.skip_string()?;
        serde_json::from_str(self.text.get(begin - 1..self.at)?).ok()
    }

    fn skip_string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            let rest = self.text.as_bytes().get(self.at..)?;
            let length = memchr::memchr2(b'"', b'\\', rest)?;
            self.at += length + 1;
            if rest.get(length) == Some(&b'"') {
                return Some(());
            }
            self.at += 1;
        }
    }

    /// Passes over a value that nobody wants.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.token()? {
                b'"' => self.skip_string()?,
                b'[' | b'{' => {
                    depth += 1;
                    self.at += 1;
                }
                b']' | b'}' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' => self.at += 1,
                _ => {
                    let rest = self.text.as_bytes().get(self.at..)?;
                    let ends = |b: &u8| matches!(b, b',' | b']' | b'}' | b':' | b' ' | b'\t' | b'\r' | b'\n');
                    self.at += rest.iter().position(ends).unwrap_or(rest.len());
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Value> {
        if depth >= MAX_DEPTH {
            return None;
        }
        self.at += 1;
        let mut items = Vec::new();
        if self.token()? == b']' {
            self.at += 1;
            return Some(Value::flat(items));
        }
        loop {
            items.push(self.value(depth + 1, None)?);
            match self.token()? {
                b',' => self.at += 1,
                b']' => break,
                _ => return None,
            }
        }
        self.at += 1;
        Some(Value::flat(items))
    }

    fn object(&mut self, depth: usize, wanted: Wanted<'_>) -> Option<Value> {
        if depth >= MAX_DEPTH {
            return None;
        }
        self.at += 1;
        let mut members = Members::default();
        if self.token()? == b'}' {
            self.at += 1;
            return Value::object(members).ok();
        }
        loop {
            if self.token()? != b'"' {
                return None;
            }
            let name = self.string()?;
            self.take(b':')?;
            if wanted.is_none_or(|wanted| wanted.contains(&name)) {
                let value = self.value(depth + 1, None)?;
                members.insert(Text(Arc::new(name)), value);
            } else {
                self.skip_value()?;
            }
            match self.token()? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return None,
            }
        }
        self.at += 1;
        Value::object(members).ok()
    }
}
