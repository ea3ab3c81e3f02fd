//! MessagePack bodies: checks that JSON can express them, and finds the payloads as byte ranges.

use std::ops::Range;

use rmp::Marker;

use crate::malformed::{MAX_NESTING, Malformed};

/// Refuses a body that is not one MessagePack value, or that JSON cannot express.
pub(crate) fn check(body: &[u8]) -> Result<(), Malformed> {
    scan(body, Place::Anywhere).map(|_| ())
}

/// As [`check`], and finds the `payload` of one enqueue request.
pub(crate) fn payload_of_job(body: &[u8]) -> Result<Vec<Range<usize>>, Malformed> {
    scan(body, Place::Job)
}

/// As [`check`], and finds the `result` of a success.
pub(crate) fn result_of_success(body: &[u8]) -> Result<Vec<Range<usize>>, Malformed> {
    scan(body, Place::Success)
}

/// As [`check`], and finds the `payload` of every element of `jobs`.
pub(crate) fn payloads_of_bulk(body: &[u8]) -> Result<Vec<Range<usize>>, Malformed> {
    scan(body, Place::Bulk)
}

fn scan(body: &[u8], place: Place) -> Result<Vec<Range<usize>>, Malformed> {
    if body.is_empty() {
        return Err(Malformed("the body is empty; expected an object".to_owned()));
    }
    let mut scanner = Scanner { body, at: 0, payloads: Vec::new() };
    scanner.value(place, 0)?;
    if scanner.at < body.len() {
        return Err(Malformed(format!(
            "the body is not valid MessagePack: trailing bytes at offset {}",
            scanner.at
        )));
    }
    Ok(scanner.payloads)
}

/// The role in the request of the value under the cursor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Bulk,
    Jobs,
    Job,
    Success,
    Anywhere,
}

struct Scanner<'a> {
    body: &'a [u8],
    at: usize,
    payloads: Vec<Range<usize>>,
}

impl<'a> Scanner<'a> {
    fn refuse<T>(&self, what: &str) -> Result<T, Malformed> {
        Err(Malformed(format!("the body is not valid MessagePack: {what} at offset {}", self.at)))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        match self.at.checked_add(len).and_then(|end| self.body.get(self.at..end)) {
            Some(bytes) => {
                self.at += len;
                Ok(bytes)
            }
            None => self.refuse("unexpected end"),
        }
    }

    /// A big-endian length of `width` bytes.
    fn length(&mut self, width: usize) -> Result<usize, Malformed> {
        Ok(self.take(width)?.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)))
    }

    fn value(&mut self, place: Place, depth: usize) -> Result<(), Malformed> {
        let marker = Marker::from_u8(self.take(1)?.first().copied().unwrap_or_default());
        match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => Ok(()),
            Marker::U8 | Marker::I8 => self.take(1).map(drop),
            Marker::U16 | Marker::I16 => self.take(2).map(drop),
            Marker::U32 | Marker::I32 => self.take(4).map(drop),
            Marker::U64 | Marker::I64 => self.take(8).map(drop),
            Marker::F32 => {
                let bytes = self.take(4)?;
                self.finite(f32::from_be_bytes(bytes.try_into().unwrap_or_default()).is_finite())
            }
            Marker::F64 => {
                let bytes = self.take(8)?;
                self.finite(f64::from_be_bytes(bytes.try_into().unwrap_or_default()).is_finite())
            }
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => self.string(marker).map(drop),
            Marker::FixArray(n) => self.array(usize::from(n), place, depth),
            Marker::Array16 => self.length(2).and_then(|n| self.array(n, place, depth)),
            Marker::Array32 => self.length(4).and_then(|n| self.array(n, place, depth)),
            Marker::FixMap(n) => self.map(usize::from(n), place, depth),
            Marker::Map16 => self.length(2).and_then(|n| self.map(n, place, depth)),
            Marker::Map32 => self.length(4).and_then(|n| self.map(n, place, depth)),
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => self.refuse("bin, which JSON cannot express,"),
            Marker::Reserved => self.refuse("reserved marker"),
            _ => self.refuse("ext, which JSON cannot express,"),
        }
    }

    fn finite(&self, finite: bool) -> Result<(), Malformed> {
        if finite { Ok(()) } else { self.refuse("NaN or infinity, which JSON cannot express,") }
    }

    fn string(&mut self, marker: Marker) -> Result<&'a [u8], Malformed> {
        let len = match marker {
            Marker::FixStr(len) => usize::from(len),
            Marker::Str8 => self.length(1)?,
            Marker::Str16 => self.length(2)?,
            Marker::Str32 => self.length(4)?,
            _ => return self.refuse("a map key that is not a string"),
        };
        let bytes = self.take(len)?;
        if std::str::from_utf8(bytes).is_err() {
            self.refuse("a string that is not UTF-8")
        } else {
            Ok(bytes)
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize, Malformed> {
        if depth < MAX_NESTING {
            Ok(depth + 1)
        } else {
            Err(Malformed(format!("the body nests deeper than {MAX_NESTING} levels")))
        }
    }

    fn array(&mut self, len: usize, place: Place, depth: usize) -> Result<(), Malformed> {
        let depth = self.deeper(depth)?;
        let element = if place == Place::Jobs { Place::Job } else { Place::Anywhere };
        (0..len).try_for_each(|_| self.value(element, depth))
    }

    fn map(&mut self, len: usize, place: Place, depth: usize) -> Result<(), Malformed> {
        let depth = self.deeper(depth)?;
        for _ in 0..len {
            let marker = Marker::from_u8(self.take(1)?.first().copied().unwrap_or_default());
            let key = self.string(marker)?;
            let start = self.at;
            match (place, key) {
                (Place::Bulk, b"jobs") => self.value(Place::Jobs, depth)?,
                (Place::Job, b"payload") | (Place::Success, b"result") => {
                    self.value(Place::Anywhere, depth)?;
                    self.payloads.push(start..self.at);
                }
                _ => self.value(Place::Anywhere, depth)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds_payloads_where_they_belong() {
        let inner = json!({"payload": {"jobs": [{"payload": 1}]}});
        let body = rmp_serde::to_vec(
            &json!({"payload": 0, "jobs": [inner, {"x": {"payload": 2}}, {"payload": null}]}),
        );
        let body = body.unwrap();
        let spans = payloads_of_bulk(&body).unwrap();
        let values: Vec<serde_json::Value> =
            spans.into_iter().map(|span| rmp_serde::from_slice(&body[span]).unwrap()).collect();
        assert_eq!(values, [json!({"jobs": [{"payload": 1}]}), json!(null)]);
        assert_eq!(payload_of_job(&body).unwrap().len(), 1);
    }

    #[test]
    fn refuses_what_json_cannot_say() {
        let nan = [&[0xcb][..], &f64::NAN.to_be_bytes()].concat();
        let deep = [vec![0x91; 129], vec![0xc0]].concat();
        let cases: [(&[u8], &str); 9] = [
            (&[0xc4, 1, 0], "bin"),
            (&[0xd4, 1, 0], "ext"),
            (&[0x81, 1, 1], "a map key that is not a string"),
            (&nan, "NaN"),
            (&[0xc1], "reserved marker"),
            (&[0xa2, b'a'], "unexpected end"),
            (&[0xa1, 0xff], "not UTF-8"),
            (&[0xc0, 0xc0], "trailing bytes"),
            (&deep, "nests deeper than 128"),
        ];
        for (bytes, what) in cases {
            let sentence = check(bytes).unwrap_err().0;
            assert!(sentence.contains(what), "{sentence} should contain {what}");
        }
        assert!(check(&[vec![0x91; 128], vec![0xc0]].concat()).is_ok());
        // A length that no input could back is refused by the first missing byte, not by an allocation.
        assert!(check(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
