//! Functions over text.

use super::value::{Kind, Outcome, Value, failure};
use super::write::{lossy, to_json, to_text};

/// Text between separators.
pub(super) fn split(text: &str, separator: &str) -> Value {
    let parts: Vec<Value> = match (text, separator) {
        ("", _) => Vec::new(),
        (_, "") => text.chars().map(String::from).map(Value::from).collect(),
        _ => text.split(separator).map(Value::text).collect(),
    };
    Value::flat(parts)
}

pub(super) fn split_by(value: Value, separator: Value) -> Outcome {
    match (value.as_text(), separator.as_text()) {
        (Some(text), Some(separator)) => Ok(split(text, separator)),
        _ => Err(failure("split input and separator must be strings")),
    }
}

fn both<'a>(value: &'a Value, other: &'a Value, name: &str) -> Outcome<(&'a str, &'a str)> {
    match (value.as_text(), other.as_text()) {
        (Some(text), Some(other)) => Ok((text, other)),
        _ => Err(failure(format!("{name}() requires string inputs"))),
    }
}

pub(super) fn starts_with(value: Value, head: Value) -> Outcome {
    both(&value, &head, "startswith").map(|(text, head)| Value::bool(text.starts_with(head)))
}

pub(super) fn ends_with(value: Value, tail: Value) -> Outcome {
    both(&value, &tail, "endswith").map(|(text, tail)| Value::bool(text.ends_with(tail)))
}

pub(super) fn trim_start(value: Value, head: Value) -> Outcome {
    let trimmed = value.as_text().and_then(|text| text.strip_prefix(head.as_text()?)).map(Value::text);
    Ok(trimmed.unwrap_or(value))
}

pub(super) fn trim_end(value: Value, tail: Value) -> Outcome {
    let trimmed = value.as_text().and_then(|text| text.strip_suffix(tail.as_text()?)).map(Value::text);
    Ok(trimmed.unwrap_or(value))
}

pub(super) fn places(value: Value, sought: Value) -> Outcome {
    let (text, sought) = (value.as_text().unwrap_or_default(), sought.as_text().unwrap_or_default());
    let finder = memchr::memmem::Finder::new(sought);
    let (mut found, mut from) = (Vec::new(), 0);
    while !sought.is_empty()
        && let Some(at) = text.as_bytes().get(from..).and_then(|rest| finder.find(rest))
    {
        found.push(Value::count(from + at));
        from += at + 1;
    }
    Ok(Value::flat(found))
}

pub(super) fn explode(value: Value) -> Outcome {
    let text = value.as_text().ok_or_else(|| failure("explode input must be a string"))?;
    Ok(Value::flat(text.chars().map(|c| Value::number(f64::from(u32::from(c)))).collect()))
}

pub(super) fn implode(value: Value) -> Outcome {
    let items = value.as_array().ok_or_else(|| failure("implode input must be an array"))?;
    let mut text = String::with_capacity(items.len());
    for item in items {
        let code = item.as_number().filter(|code| !code.is_nan()).ok_or_else(|| {
            failure(format!("{} can't be imploded, unicode codepoint needs to be numeric", item.told()))
        })?;
        #[expect(clippy::cast_possible_truncation, reason = "what is out of range is replaced")]
        let code = u32::try_from(code as i64).ok().and_then(char::from_u32);
        text.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    Ok(Value::text(text))
}

fn recode(value: Value, change: impl Fn(&mut str)) -> Outcome {
    let mut text = value.as_text().ok_or_else(|| failure("explode input must be a string"))?.to_owned();
    change(&mut text);
    Ok(Value::text(text))
}

pub(super) fn lower(value: Value) -> Outcome {
    recode(value, str::make_ascii_lowercase)
}

pub(super) fn upper(value: Value) -> Outcome {
    recode(value, str::make_ascii_uppercase)
}

/// `format("name")`
pub(super) fn format(value: Value, name: Value) -> Outcome {
    let text = name.as_text().ok_or_else(|| failure(format!("{} is not a valid format", name.told())))?;
    match text {
        "text" => Ok(to_text(value)),
        "json" => Ok(Value::text(to_json(&value))),
        "csv" => csv(value),
        "tsv" => tsv(value),
        "html" => html(value),
        "uri" => uri(value),
        "sh" => sh(value),
        "base64" => base64(value),
        "base64d" => base64_decoded(value),
        _ => Err(failure(format!("{text} is not a valid format"))),
    }
}

/// Text with some characters replaced. In all of jq's formats a NUL becomes `\0`.
fn escaped(text: &str, with: impl Fn(char) -> Option<&'static str>) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match with(c) {
            Some(escape) => out.push_str(escape),
            None if c == '\0' => out.push_str("\\0"),
            None => out.push(c),
        }
    }
    out
}

fn row(value: &Value, refused: &str, separator: &str, text: impl Fn(&str) -> String) -> Outcome {
    let items = value.as_array().ok_or_else(|| failure(format!("{} {refused}", value.told())))?;
    let mut fields = Vec::new();
    for item in items {
        fields.push(match &item.0 {
            Kind::Null => String::new(),
            Kind::Number(n) if n.is_nan() => String::new(),
            Kind::Bool(_) | Kind::Number(_) => to_json(item),
            Kind::Text(field) => text(field),
            _ => return Err(failure(format!("{} is not valid in a csv row", item.told()))),
        });
    }
    Ok(Value::text(fields.join(separator)))
}

pub(super) fn csv(value: Value) -> Outcome {
    row(&value, "cannot be csv-formatted, only array", ",", |text| {
        format!("\"{}\"", escaped(text, |c| (c == '"').then_some("\"\"")))
    })
}

pub(super) fn tsv(value: Value) -> Outcome {
    row(&value, "cannot be tsv-formatted, only array", "\t", |text| {
        escaped(text, |c| match c {
            '\t' => Some("\\t"),
            '\r' => Some("\\r"),
            '\n' => Some("\\n"),
            '\\' => Some("\\\\"),
            _ => None,
        })
    })
}

/// The text of a value.
fn told(value: Value) -> String {
    match value.as_text() {
        Some(text) => text.to_owned(),
        None => to_json(&value),
    }
}

pub(super) fn html(value: Value) -> Outcome {
    Ok(Value::text(escaped(&told(value), |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '\'' => Some("&apos;"),
        '"' => Some("&quot;"),
        _ => None,
    })))
}

pub(super) fn uri(value: Value) -> Outcome {
    let mut out = String::new();
    for byte in told(value).bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(Value::text(out))
}

pub(super) fn sh(value: Value) -> Outcome {
    let items = value.as_array().map_or_else(|| vec![value.clone()], <[Value]>::to_vec);
    let mut words = Vec::new();
    for item in &items {
        words.push(match &item.0 {
            Kind::Text(text) => format!("'{}'", escaped(text, |c| (c == '\'').then_some("'\\''"))),
            Kind::Array(_) | Kind::Object(_) => {
                // In jq's own words, which `catch` can see.
                return Err(failure(format!("{} can not be escaped for shell", item.told())));
            }
            _ => to_json(item),
        });
    }
    Ok(Value::text(words.join(" ")))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn base64(value: Value) -> Outcome {
    let mut out = String::new();
    for chunk in told(value).as_bytes().chunks(3) {
        let code = (0..3).fold(0_usize, |code, n| code << 8 | chunk.get(n).copied().map_or(0, usize::from));
        for n in 0..4 {
            let digit = BASE64.get(code >> (18 - n * 6) & 63).copied().map_or('=', char::from);
            out.push(if n <= chunk.len() { digit } else { '=' });
        }
    }
    Ok(Value::text(out))
}

pub(super) fn base64_decoded(value: Value) -> Outcome {
    let text = told(value);
    let refused = |why: &str| failure(format!("{} {why}", Value::text(text.clone()).told()));
    let (mut bytes, mut code, mut digits) = (Vec::new(), 0_usize, 0);
    for byte in text.bytes().take_while(|b| *b != b'=') {
        let digit = BASE64.iter().position(|known| *known == byte);
        code = code << 6 | digit.ok_or_else(|| refused("is not valid base64 data"))?;
        digits += 1;
        if digits == 4 {
            bytes.extend([code >> 16, code >> 8, code].map(low_byte));
            (code, digits) = (0, 0);
        }
    }
    match digits {
        3 => bytes.extend([code >> 10, code >> 2].map(low_byte)),
        2 => bytes.push(low_byte(code >> 4)),
        1 => return Err(refused("trailing base64 byte found")),
        _ => {}
    }
    Ok(Value::text(lossy(&bytes)))
}

fn low_byte(code: usize) -> u8 {
    u8::try_from(code & 0xff).unwrap_or_default()
}
