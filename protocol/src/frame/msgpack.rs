//! Length-prefixed MessagePack: four bytes of length, big-endian, then a message of that length; length 0 is a heartbeat.

use super::FrameError;
pub use super::Item;
use super::input::{Framing, Input};

/// The heartbeat.
pub const HEARTBEAT: &[u8] = &[0; 4];

/// Appends one message, the MessagePack value that `body` appends.
///
/// # Panics
///
/// If the value has 4 GiB or more, or `body` removes bytes from `out`. In debug builds also if the value is empty.
pub fn write(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let frame = out.get_mut(start..).and_then(<[u8]>::split_first_chunk_mut);
    let (length, message) = frame.expect("a body only appends");
    debug_assert!(!message.is_empty(), "an empty message is a heartbeat");
    *length = u32::try_from(message.len()).expect("a message is shorter than 4 GiB").to_be_bytes();
}

/// Reads a stream piece by piece. The length prefix of a message does not count towards the limit, and one over the
/// limit is refused as soon as its length is announced.
pub type Decoder = super::Decoder<LengthPrefix>;

/// A message is found by the length before it.
#[derive(Debug)]
pub enum LengthPrefix {}

impl Framing for LengthPrefix {
    fn next(input: &mut Input) -> Result<Option<Item>, FrameError> {
        let Some((&length, rest)) = input.buf.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(length) as usize;
        if length > input.limit {
            return Err(input.too_large());
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let item = Item::from_body(message);
        input.consume(4 + length);
        Ok(Some(item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder(limit: usize, bytes: &[u8]) -> Decoder {
        let mut decoder = Decoder::new(limit);
        decoder.push(bytes);
        decoder
    }

    #[test]
    fn the_length_stands_before_the_message() {
        let mut out = b"before".to_vec();
        write(&mut out, |out| out.extend_from_slice(&[7; 258]));
        assert_eq!(out[..12], *b"before\x00\x00\x01\x02\x07\x07");
        assert_eq!(out.len(), 6 + 4 + 258);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "an empty message is a heartbeat")]
    fn an_empty_message_is_a_bug() {
        write(&mut Vec::new(), |_| {});
    }

    #[test]
    #[should_panic(expected = "a body only appends")]
    fn a_body_that_removes_bytes_is_a_bug() {
        write(&mut b"before".to_vec(), Vec::clear);
    }

    #[test]
    fn a_heartbeat_reads_as_one() {
        assert_eq!(decoder(0, HEARTBEAT).next(), Ok(Some(Item::Heartbeat)));
    }

    #[test]
    fn a_message_may_come_in_pieces() {
        let mut decoder = Decoder::new(10);
        for byte in [0, 0, 0, 2, b'\n'] {
            decoder.push(&[byte]);
            assert_eq!(decoder.next(), Ok(None));
        }
        decoder.push(&[0, 0, 0, 0, 0]);
        assert_eq!(decoder.next(), Ok(Some(Item::Message(vec![b'\n', 0]))));
        assert_eq!(decoder.next(), Ok(Some(Item::Heartbeat)));
        assert_eq!(decoder.next(), Ok(None));
    }

    #[test]
    fn a_message_may_be_as_long_as_the_limit() {
        assert_eq!(decoder(3, b"\0\0\0\x03abc").next(), Ok(Some(Item::Message(b"abc".into()))));
    }

    #[test]
    fn a_longer_message_is_refused_before_it_arrives() {
        assert_eq!(decoder(3, b"\0\0\0\x04").next(), Err(FrameError::TooLarge { limit: 3 }));
        assert_eq!(decoder(3, b"HTTP").next(), Err(FrameError::TooLarge { limit: 3 }));
    }

    #[test]
    fn an_error_comes_after_the_messages_before_it_and_is_final() {
        let mut decoder = decoder(3, b"\0\0\0\x01a\0\0\0\x04");
        assert_eq!(decoder.next(), Ok(Some(Item::Message(b"a".into()))));
        assert_eq!(decoder.next(), Err(FrameError::TooLarge { limit: 3 }));
        decoder.push(b"abcd\0\0\0\x01a");
        assert_eq!(decoder.next(), Err(FrameError::TooLarge { limit: 3 }));
    }

    // Takes minutes, not milliseconds, if reading ever becomes quadratic.
    #[test]
    fn reading_is_linear() {
        let len = 1 << 20;
        let mut many = decoder(1, &vec![0; len]);
        assert_eq!(std::iter::from_fn(|| many.next().unwrap()).count(), len / 4);

        let mut long = decoder(len, b"\x00\x10\x00\x00");
        for _ in 0..len {
            assert_eq!(long.next(), Ok(None));
            long.push(b"x");
        }
        assert_eq!(long.next(), Ok(Some(Item::Message(vec![b'x'; len]))));
    }
}
