//! A chunked body, taken apart.

use anyhow::{Context, Result};
use memchr::memchr;

/// Where in a chunked body we are.
#[derive(Debug, Default)]
pub(super) enum Chunks {
    /// Before a line with a size.
    #[default]
    Size,
    /// Inside of a chunk with so many bytes to come, the CRLF behind it included.
    Data(usize),
    /// Before the line behind the last chunk.
    Last,
    Ended,
}

impl Chunks {
    pub(super) const fn ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// Appends the data in `input` to `body`, and says how much of the input was used.
    pub(super) fn feed(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self {
                Self::Ended => return Ok(at),
                Self::Data(left) => {
                    let take = rest.len().min(*left);
                    // The last two bytes of what is left are the CRLF.
                    body.extend_from_slice(&rest[..take.min(left.saturating_sub(2))]);
                    at += take;
                    *left -= take;
                    if *left > 0 {
                        return Ok(at);
                    }
                    *self = Self::Size;
                }
                Self::Size | Self::Last => {
                    let Some(end) = memchr(b'\n', rest) else { return Ok(at) };
                    let last = matches!(self, Self::Last);
                    *self = if last { Self::Ended } else { Self::after_size(&rest[..end])? };
                    at += end + 1;
                }
            }
        }
    }

    fn after_size(line: &[u8]) -> Result<Self> {
        let line = std::str::from_utf8(line)?.trim_end();
        let size = line.split(';').next().unwrap_or_default();
        let size =
            usize::from_str_radix(size, 16).with_context(|| format!("not the size of a chunk: {line:?}"))?;
        Ok(if size == 0 { Self::Last } else { Self::Data(size + 2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_in_pieces_of_any_size() {
        let input = b"5\r\nhello\r\n1;x=y\r\n \r\nA\r\n0123456789\r\n0\r\n\r\nrest";
        for piece in 1..input.len() {
            let (mut chunks, mut body, mut pending) = (Chunks::default(), Vec::new(), Vec::new());
            for bytes in input.chunks(piece) {
                pending.extend_from_slice(bytes);
                let used = chunks.feed(&pending, &mut body).unwrap();
                pending.drain(..used);
            }
            assert_eq!(body, b"hello 0123456789", "in pieces of {piece}");
            assert!(chunks.ended());
            assert_eq!(pending, b"rest");
        }
    }
}
