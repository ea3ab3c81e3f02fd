//! Payloads: any JSON value, kept as the received bytes.

use std::borrow::Cow;
use std::io;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::json;
use crate::malformed::{MAX_NESTING, Malformed};
use crate::media::Format;

/// The payload of a job. It was checked on receipt, so reading and rewriting it cannot fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    format: Format,
    bytes: Bytes,
}

impl Payload {
    /// Wraps a payload that was already checked, by `enqueue` or before it was stored.
    #[must_use]
    pub const fn from_checked(format: Format, bytes: Bytes) -> Self {
        Self { format, bytes }
    }

    /// Wraps a grammatical JSON text after checking its values.
    ///
    /// # Errors
    /// [`Malformed`] for half a surrogate pair and for numbers beyond a double.
    pub(crate) fn from_json(body: &Bytes, text: &str) -> Result<Self, Malformed> {
        json::check_values(text)?;
        let bytes = json::on_one_line(text).map_or_else(|| body.slice_ref(text.as_bytes()), Bytes::from);
        Ok(Self { format: Format::Json, bytes })
    }

    /// Wraps a JSON text that was computed from payloads, if it would be valid as the payload of a job.
    ///
    /// # Errors
    /// [`Malformed`] if it is not JSON, nests too deeply, or has a value that no reader could hold.
    pub fn from_text(text: &Bytes) -> Result<Self, Malformed> {
        // One level less: the payload is a member of the job.
        json::check_nesting(text, MAX_NESTING - 1)?;
        let whole: &RawValue =
            serde_json::from_slice(text).map_err(|e| Malformed(format!("it is not valid JSON: {e}")))?;
        Self::from_json(text, whole.get())
    }

    /// The format the bytes are in.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The bytes, in [`Payload::format`].
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Copies the bytes out of the larger buffer that they may be part of.
    pub fn detach(&mut self) {
        self.bytes = Bytes::copy_from_slice(&self.bytes);
    }

    /// The beginning of the payload as JSON text, at most so many bytes.
    #[must_use]
    pub fn preview(&self, most: usize) -> String {
        let text = match self.format {
            Format::Json => Cow::Borrowed(self.bytes.get(..most).unwrap_or(&self.bytes)),
            Format::MessagePack => {
                let mut text = Start { bytes: Vec::new(), most };
                let mut from = rmp_serde::Deserializer::from_read_ref(&self.bytes[..]);
                // It fails where enough has been written.
                drop(serde_transcode::transcode(&mut from, &mut serde_json::Serializer::new(&mut text)));
                Cow::Owned(text.bytes)
            }
        };
        // Only the last character may be cut in two.
        let whole = text.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        whole.to_owned()
    }

    /// The payload in `format`: as received if possible, otherwise rewritten.
    #[must_use]
    pub fn to_format(&self, format: Format) -> Cow<'_, [u8]> {
        if format == self.format {
            return Cow::Borrowed(&self.bytes);
        }
        let mut out = Vec::with_capacity(self.bytes.len() + self.bytes.len() / 4);
        let rewritten = match format {
            Format::MessagePack => {
                let mut from = serde_json::Deserializer::from_slice(&self.bytes);
                serde_transcode::transcode(&mut from, &mut rmp_serde::Serializer::new(&mut out))
                    .map_err(|e| e.to_string())
            }
            Format::Json => {
                let mut from = rmp_serde::Deserializer::from_read_ref(&self.bytes[..]);
                serde_transcode::transcode(&mut from, &mut serde_json::Serializer::new(&mut out))
                    .map_err(|e| e.to_string())
            }
        };
        debug_assert_eq!(rewritten, Ok(()), "a checked payload can be rewritten");
        if rewritten.is_err() {
            out = match format {
                Format::Json => b"null".to_vec(),
                Format::MessagePack => vec![0xc0],
            };
        }
        Cow::Owned(out)
    }
}

/// Takes the first bytes and refuses the rest.
struct Start {
    bytes: Vec<u8>,
    most: usize,
}

impl io::Write for Start {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.most - self.bytes.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.bytes.extend_from_slice(taken);
        // Nothing was taken: `WriteZero` for whoever wants to write all.
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The beginning of a text: at most so many bytes, and whole characters.
#[must_use]
pub fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_both_ways() {
        let text =
            r#"{"big":18446744073709551615,"neg":-9223372036854775808,"f":1.0,"s":"ä\n","a":[null,true,{}]}"#;
        let json = Payload::from_checked(Format::Json, Bytes::from_static(text.as_bytes()));
        let packed = json.to_format(Format::MessagePack).into_owned();
        let packed = Payload::from_checked(Format::MessagePack, packed.into());
        assert_eq!(packed.to_format(Format::Json), text.as_bytes());
        assert_eq!(json.to_format(Format::Json), text.as_bytes());
    }
    #[test]
    fn a_preview_is_the_beginning_in_whole_characters() {
        let text = r#"{"s":"aäöß","n":[1.0,true,null]}"#;
        let json = Payload::from_checked(Format::Json, Bytes::from_static(text.as_bytes()));
        let packed = json.to_format(Format::MessagePack).into_owned();
        let packed = Payload::from_checked(Format::MessagePack, packed.into());
        for (most, expected) in [
            (1, "{"),
            (7, r#"{"s":"a"#),
            (8, r#"{"s":"a"#),
            (9, r#"{"s":"aä"#),
            (10, r#"{"s":"aä"#),
            (text.len() - 1, text.strip_suffix('}').unwrap()),
            (text.len(), text),
            (4_096, text),
        ] {
            assert_eq!(json.preview(most), expected, "{most}");
            assert_eq!(packed.preview(most), expected, "{most}");
        }
    }

    #[test]
    fn what_was_made_of_payloads_is_checked_like_them() {
        let made = |text: String| Payload::from_text(&Bytes::from(text));
        assert_eq!(&made(" {\"a\":\n1}".to_owned()).unwrap().bytes()[..], br#"{"a":1}"#);
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(made(nested(MAX_NESTING - 1)).is_ok());
        assert!(made(nested(MAX_NESTING)).unwrap_err().0.contains("nests deeper than 127"));
        assert!(made("[1".to_owned()).unwrap_err().0.contains("not valid JSON"));
        assert!(made("1e999".to_owned()).is_err());
        assert!(Payload::from_text(&Bytes::from_static(b"\"\xff\"")).is_err());
    }
}
