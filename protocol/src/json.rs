//! Checks of JSON texts that `serde_json` omits for values that it skips: nesting, surrogate pairs, number ranges.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use crate::malformed::{MAX_NESTING, Malformed};

/// Refuses a body that is empty, not UTF-8, or nests deeper than [`MAX_NESTING`].
pub(crate) fn check(text: &[u8]) -> Result<(), Malformed> {
    if text.is_empty() {
        return Err(Malformed("the body is empty; expected an object".to_owned()));
    }
    if let Err(e) = std::str::from_utf8(text) {
        return Err(Malformed(format!("the body is not UTF-8: bad byte at offset {}", e.valid_up_to())));
    }
    check_nesting(text, MAX_NESTING).map_err(|Malformed(e)| Malformed(format!("the body {e}")))
}

/// Refuses a text with more levels of objects and arrays.
pub(crate) fn check_nesting(text: &[u8], levels: usize) -> Result<(), Malformed> {
    // Most texts have fewer brackets than allowed levels, and counting brackets is fast.
    let brackets = text.iter().filter(|&&b| b == b'[' || b == b'{').count();
    if brackets <= levels || nesting(text) <= levels {
        Ok(())
    } else {
        Err(Malformed(format!("nests deeper than {levels} levels")))
    }
}

fn nesting(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

/// The text without white space between its tokens, if it has line breaks: streams write a job on one line.
pub(crate) fn on_one_line(text: &str) -> Option<Vec<u8>> {
    if !text.bytes().any(|b| b == b'\n' || b == b'\r') {
        return None;
    }
    let mut line = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes().iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b'"' => {
                let rest = bytes.as_slice();
                skip_string(&mut bytes);
                line.push(b'"');
                line.extend_from_slice(rest.get(..rest.len() - bytes.len()).unwrap_or_default());
            }
            _ => line.push(*byte),
        }
    }
    Some(line)
}

/// Refuses grammatical JSON that has no value: half a surrogate pair, a number beyond a double.
///
/// `text` must be grammatical JSON. Only a text with an escape, an exponent or many digits is read again.
pub(crate) fn check_values(text: &str) -> Result<(), Malformed> {
    let bytes = text.as_bytes();
    let escapes = bytes.contains(&b'\\');
    let exponents = bytes.windows(2).fold(false, |found, pair| {
        found | matches!(pair, [digit, b'e' | b'E'] if digit.is_ascii_digit() || *digit == b'.')
    });
    // A double has at most 309 digits before the point.
    if !escapes && !exponents && bytes.len() < 300 {
        return Ok(());
    }
    match serde_json::from_str::<Values>(text) {
        Ok(Values) => Ok(()),
        Err(e) => Err(Malformed(format!("payload: {e}"))),
    }
}

/// Reads every value and keeps none.
struct Values;

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Values {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(check(nested(128).as_bytes()).is_ok());
        assert!(check(nested(129).as_bytes()).is_err());
        assert!(check(format!("[{:?}]", "[\"\\".repeat(500)).as_bytes()).is_ok());
        assert!(check("[],".repeat(500).as_bytes()).is_ok());
    }

    #[test]
    fn a_text_of_several_lines_becomes_one() {
        let text = "{\n\t\"a b\" : \"x\\\" y\\n\",\r\n \"n\": [1.0, 2 ]\n}";
        assert_eq!(on_one_line(text).unwrap(), br#"{"a b":"x\" y\n","n":[1.0,2]}"#);
        assert_eq!(on_one_line("{ \"a\": 1 }"), None);
    }

    #[test]
    fn values_that_no_reader_could_hold() {
        for good in [
            r#""\ud83d\ude00""#,
            "1e300",
            "0.1",
            r#"{"a\n": [1, null, true]}"#,
            "123456789012345678901234567890",
        ] {
            assert_eq!(check_values(good), Ok(()), "{good}");
        }
        let digits = "9".repeat(400);
        for bad in [r#""\ud83d""#, r#"{"\udc00": 1}"#, "1e400", "[-1E999]", digits.as_str()] {
            assert!(check_values(bad).is_err(), "{bad}");
        }
    }
}
