//! The frames between server and helper: a kind, a length of four bytes, and that many bytes.

use std::io::{self, Read, Write};

use protocol::media::Format;
use serde::Serialize;

/// Server to helper: a byte that is 1 if it must be a condition, else 0; then an expression in UTF-8.
pub(super) const COMPILE: u8 = b'C';
/// Server to helper: the time in [`TIME_BYTES`], in seconds since 1970, as a double; then payloads.
pub(super) const EVALUATE: u8 = b'E';
/// Helper to server: the expression is valid.
pub(super) const COMPILED: u8 = b'K';
/// Helper to server: the expression is invalid, and why.
pub(super) const INVALID: u8 = b'X';
/// Helper to server: the elapsed microseconds in 8 bytes, then a byte for each payload, a [`super::program::Verdict`].
/// Slow payloads come in several frames: the helper waits for [`GO_ON`] before it evaluates more.
pub(super) const MATCHES: u8 = b'M';
/// Server to helper: evaluate the next payloads of the last [`EVALUATE`].
pub(super) const GO_ON: u8 = b'G';

/// Server to helper: payloads to fold, a [`super::fold::Task`].
pub(super) const FOLD: u8 = b'F';
/// Helper to server: the result for the next of them, a [`super::fold::Turn`].
pub(super) const TURN: u8 = b'T';
/// Helper to server: the result for all of them, a [`super::fold::Folded`]; or an error of the next one.
pub(super) const FOLDED: u8 = b'D';
pub(super) const WRONG: u8 = b'W';

/// The length of the times in [`EVALUATE`] and [`MATCHES`].
pub(super) const TIME_BYTES: usize = 8;

const HEAD: usize = 5;

pub(super) fn write_frame(to: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let [a, b, c, d] = length.to_be_bytes();
    to.write_all(&[kind, a, b, c, d])?;
    to.write_all(body)?;
    to.flush()
}

/// Encodes a value as the body of a frame.
pub(super) fn packed(value: &impl Serialize) -> io::Result<Vec<u8>> {
    postcard::to_allocvec(value).map_err(io::Error::other)
}

/// Returns `None` at the end.
pub(super) fn read_frame(from: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; HEAD];
    match from.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let [kind, length @ ..] = head;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut body)?;
    Ok(Some((kind, body)))
}

/// Takes the first frame out of the buffer if it is complete.
pub(super) fn split_frame(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (&[kind, a, b, c, d], _) = buffer.split_first_chunk::<HEAD>()?;
    let end = HEAD + u32::from_be_bytes([a, b, c, d]) as usize;
    let body = buffer.get(HEAD..end)?.to_vec();
    buffer.drain(..end);
    Some((kind, body))
}

/// Appends a payload to the body of [`EVALUATE`].
pub(super) fn push_payload(body: &mut Vec<u8>, format: Format, payload: &[u8]) {
    body.push(u8::from(format == Format::Json));
    body.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend_from_slice(payload);
}

/// The payloads in the body of [`EVALUATE`].
pub(super) fn payloads(mut body: &[u8]) -> impl Iterator<Item = (Format, &[u8])> {
    std::iter::from_fn(move || {
        let (&[is_json, a, b, c, d], rest) = body.split_first_chunk::<HEAD>()?;
        let (payload, rest) = rest.split_at_checked(u32::from_be_bytes([a, b, c, d]) as usize)?;
        body = rest;
        Some((if is_json == 1 { Format::Json } else { Format::MessagePack }, payload))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_payloads_survive_any_split() {
        let mut body = Vec::new();
        push_payload(&mut body, Format::Json, b"{}");
        push_payload(&mut body, Format::MessagePack, &[0xc0]);
        let mut written = Vec::new();
        write_frame(&mut written, EVALUATE, &body).unwrap();
        write_frame(&mut written, COMPILE, b"").unwrap();
        let (mut buffer, mut frames) = (Vec::new(), Vec::new());
        for byte in &written {
            buffer.push(*byte);
            frames.extend(split_frame(&mut buffer));
        }
        assert_eq!(frames, [(EVALUATE, body.clone()), (COMPILE, Vec::new())]);
        assert_eq!(read_frame(&mut &written[..]).unwrap(), Some((EVALUATE, body.clone())));
        let payloads: Vec<_> = payloads(&body).collect();
        assert_eq!(payloads, [(Format::Json, &b"{}"[..]), (Format::MessagePack, &[0xc0])]);
        assert_eq!(read_frame(&mut &b""[..]).unwrap(), None);
    }
}
