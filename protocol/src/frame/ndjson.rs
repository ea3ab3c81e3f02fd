//! Newline-delimited JSON ([the format](https://github.com/ndjson/ndjson-spec)): a message is a line, an empty line
//! is a heartbeat.

pub use super::Item;
use super::input::{Framing, Input};
use super::{FrameError, is_one_line};

/// The heartbeat.
pub const HEARTBEAT: &[u8] = b"\n";

/// Appends one message, the JSON text that `body` appends.
///
/// The text must not be empty and must not hold a raw line break, as compact JSON never does: debug builds panic.
pub fn write(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    body(out);
    debug_assert!(out.len() > start, "an empty line is a heartbeat");
    debug_assert!(is_one_line(out.get(start..).unwrap_or_default()), "a line break inside a message");
    out.push(b'\n');
}

/// Reads a stream piece by piece. Lines may end in LF or in CRLF. The LF does not count towards the limit, and a line over
/// the limit is refused whether it has ended or not.
pub type Decoder = super::Decoder<Lines>;

/// A message ends with its line.
#[derive(Debug)]
pub enum Lines {}

impl Framing for Lines {
    fn next(input: &mut Input) -> Result<Option<Item>, FrameError> {
        let Some(line) = input.line(|byte| byte == b'\n', input.limit)? else { return Ok(None) };
        let item = Item::from_body(line.strip_suffix(b"\r").unwrap_or(line));
        let len = line.len() + 1;
        input.consume(len);
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

    fn message(text: &str) -> Item {
        Item::Message(text.into())
    }

    #[test]
    fn a_message_is_a_line() {
        let mut out = b"before ".to_vec();
        write(&mut out, |out| out.extend_from_slice(b"{}"));
        assert_eq!(out, b"before {}\n");
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "a line break inside a message")]
    fn a_raw_line_break_is_a_bug() {
        write(&mut Vec::new(), |out| out.extend_from_slice(b"{\n}"));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "an empty line is a heartbeat")]
    fn an_empty_message_is_a_bug() {
        write(&mut Vec::new(), |_| {});
    }

    #[test]
    fn lines_end_in_lf_or_crlf() {
        let mut decoder = decoder(10, b"1\n2\r\n\n\r\n3\r4\n");
        let items: Vec<_> = std::iter::from_fn(|| decoder.next().unwrap()).collect();
        let heartbeat = Item::Heartbeat;
        assert_eq!(items, [message("1"), message("2"), heartbeat.clone(), heartbeat, message("3\r4")]);
    }

    #[test]
    fn a_heartbeat_reads_as_one() {
        assert_eq!(decoder(0, HEARTBEAT).next(), Ok(Some(Item::Heartbeat)));
    }

    #[test]
    fn a_line_may_come_in_pieces() {
        let mut decoder = decoder(10, b"{\"a");
        assert_eq!(decoder.next(), Ok(None));
        decoder.push(b"\":1}\r");
        assert_eq!(decoder.next(), Ok(None));
        decoder.push(b"\n");
        assert_eq!(decoder.next(), Ok(Some(message("{\"a\":1}"))));
        assert_eq!(decoder.next(), Ok(None));
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit() {
        assert_eq!(decoder(3, b"abc\n").next(), Ok(Some(message("abc"))));
        assert_eq!(decoder(3, b"abc").next(), Ok(None));
    }

    #[test]
    fn a_longer_line_is_refused_before_it_ends() {
        let error = Err(FrameError::TooLarge { limit: 3 });
        assert_eq!(decoder(3, b"abcd\n").next(), error);
        assert_eq!(decoder(3, b"abcd").next(), error);
    }

    #[test]
    fn an_error_comes_after_the_lines_before_it_and_is_final() {
        let mut decoder = decoder(3, b"ok\nabcd\nok\n");
        assert_eq!(decoder.next(), Ok(Some(message("ok"))));
        assert_eq!(decoder.next(), Err(FrameError::TooLarge { limit: 3 }));
        decoder.push(b"ok\n");
        assert_eq!(decoder.next(), Err(FrameError::TooLarge { limit: 3 }));
    }

    // Takes minutes, not milliseconds, if reading ever becomes quadratic.
    #[test]
    fn reading_is_linear() {
        let len = 1 << 20;
        let mut many = decoder(1, &vec![b'\n'; len]);
        assert_eq!(std::iter::from_fn(|| many.next().unwrap()).count(), len);

        let mut long = Decoder::new(len);
        for _ in 0..len {
            long.push(b"x");
            assert_eq!(long.next(), Ok(None));
        }
        long.push(b"\n");
        assert_eq!(long.next(), Ok(Some(Item::Message(vec![b'x'; len]))));
    }
}
