//! Values as JSON, byte for byte as `jq -c` prints them.

use super::value::{Kind, Value};

/// What is deeper jq leaves out.
const MAX_PRINTED_DEPTH: u32 = 256;

/// The JSON of a value.
pub(super) fn to_json(value: &Value) -> String {
    let mut out = String::new();
    append(value, 0, &mut out);
    out
}

/// Text as it is, anything else as JSON.
pub(super) fn to_text(value: Value) -> Value {
    match &value.0 {
        Kind::Text(_) => value,
        _ => Value::text(to_json(&value)),
    }
}

fn append(value: &Value, depth: u32, out: &mut String) {
    if depth > MAX_PRINTED_DEPTH {
        return out.push_str("<skipped: too deep>");
    }
    match &value.0 {
        Kind::Null | Kind::Astray(_) => out.push_str("null"),
        Kind::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Kind::Number(n) => n.write(out),
        Kind::Text(text) => append_text(text, out),
        Kind::Array(array) => {
            out.push('[');
            for (n, item) in array.items.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                append(item, depth + 1, out);
            }
            out.push(']');
        }
        Kind::Object(object) => {
            out.push('{');
            for (n, (name, item)) in object.items.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                append_text(name, out);
                out.push(':');
                append(item, depth + 1, out);
            }
            out.push('}');
        }
    }
}

fn append_text(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c| matches!(c, '"' | '\\' | '\0'..='\x1f' | '\x7f')) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = special.chars();
        match chars.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\x08') => out.push_str("\\b"),
            Some('\t') => out.push_str("\\t"),
            Some('\r') => out.push_str("\\r"),
            Some('\n') => out.push_str("\\n"),
            Some('\x0c') => out.push_str("\\f"),
            Some(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

/// Bytes as text: what is no UTF-8 is replaced as jq replaces it.
pub(super) fn lossy(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut rest = bytes;
    while let Some((first, behind)) = rest.split_first() {
        let length = match first {
            0x00..=0x7f => 1,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        let following = behind.iter().take(length - 1).take_while(|byte| **byte & 0xc0 == 0x80).count();
        // One that the end cuts short takes with it whatever is there.
        let length = if rest.len() < length { rest.len() } else { 1 + following };
        let (one, others) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        out.push_str(std::str::from_utf8(one).unwrap_or("\u{fffd}"));
        rest = others;
    }
    out
}
