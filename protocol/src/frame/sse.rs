//! Server-sent events ([WHATWG HTML, section 9.2](https://html.spec.whatwg.org/multipage/server-sent-events.html)).

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use super::input::Input;
use super::{FrameError, is_one_line};

/// The heartbeat: a comment, which an `EventSource` ignores. It is one line, because some libraries would emit a message
/// without data at a blank line after it.
pub const HEARTBEAT: &[u8] = b": heartbeat\n";

/// The lines before the data of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head<'a> {
    /// The position for resuming, as stream and number; see [`LastEventId`].
    pub id: Option<(&'a str, u64)>,
    /// The type of the event; without one it is a `message`.
    pub event: Option<&'a str>,
}

/// Appends one event, whose data is the one line of text that `body` appends.
///
/// Neither the head nor the data may hold a raw line break, as compact JSON never does: debug builds panic.
pub fn write(out: &mut Vec<u8>, head: &Head<'_>, body: impl FnOnce(&mut Vec<u8>)) {
    if let Some((stream, n)) = head.id {
        debug_assert!(is_one_line(stream.as_bytes()), "a line break inside a stream id");
        write_line(out, format_args!("id: {stream}:{n}"));
    }
    if let Some(event) = head.event {
        debug_assert!(is_one_line(event.as_bytes()), "a line break inside an event type");
        write_line(out, format_args!("event: {event}"));
    }
    out.extend_from_slice(b"data: ");
    let start = out.len();
    body(out);
    debug_assert!(is_one_line(out.get(start..).unwrap_or_default()), "a line break inside the data");
    out.extend_from_slice(b"\n\n");
}

/// Appends how long a client should wait before it reconnects, in milliseconds.
///
/// This is a line, not an event: it may stand before any event.
pub fn write_retry(out: &mut Vec<u8>, ms: u64) {
    write_line(out, format_args!("retry: {ms}"));
}

fn write_line(out: &mut Vec<u8>, line: fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("a Vec takes every byte");
}

/// A position in a stream, `<stream>:<n>`: sent as `id:` and returned as `Last-Event-ID`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LastEventId {
    /// The id of the stream.
    pub stream: String,
    /// The number of the last event received, within the stream.
    pub n: u64,
}

/// The text is not a position in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event id has the form <stream>:<number>")]
pub struct InvalidLastEventId;

impl fmt::Display for LastEventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.stream, self.n)
    }
}

impl FromStr for LastEventId {
    type Err = InvalidLastEventId;

    fn from_str(text: &str) -> Result<Self, InvalidLastEventId> {
        let (stream, n) = text.rsplit_once(':').ok_or(InvalidLastEventId)?;
        // `u64::from_str` would take a plus sign as well.
        if stream.is_empty() || !is_digits(n) {
            return Err(InvalidLastEventId);
        }
        Ok(Self { stream: stream.to_owned(), n: n.parse().map_err(|_| InvalidLastEventId)? })
    }
}

/// What an event stream consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An event that has data.
    Event {
        /// Its type, `message` unless the stream says otherwise.
        event: String,
        /// Its lines of data, joined by LF.
        data: String,
        /// The last event id at this event, which need not be one of its own; empty without any.
        id: String,
    },
    /// A line that starts with a colon, without the colon and one space behind it. Our server's is a heartbeat.
    Comment(String),
    /// The time to wait before a reconnect, in milliseconds.
    Retry(u64),
}

/// Reads a stream piece by piece, by the rules of sections 9.2.5 and 9.2.6.
///
/// Invalid UTF-8 is replaced, never an error. A decoder is for one connection: after a reconnect a new one starts
/// without a last event id, so whoever means to resume keeps the last id that is not empty.
#[derive(Debug)]
pub struct Decoder {
    input: Input,
    /// Nothing was read yet, so that a byte order mark may follow.
    at_start: bool,
    /// The last line ended in CR; a LF that follows belongs to that end.
    after_cr: bool,
    fields: Fields,
}

impl Decoder {
    /// A decoder of events of at most `max_frame_bytes`: the type and data of the event so far, and the line being
    /// read with its field name. (The replacement of invalid UTF-8 may make three bytes of one afterwards.)
    #[must_use]
    pub fn new(max_frame_bytes: usize) -> Self {
        Self {
            input: Input::new(max_frame_bytes),
            at_start: true,
            after_cr: false,
            fields: Fields::default(),
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.push(bytes);
    }

    /// The next item, or `None` until more bytes are pushed.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLarge`] as soon as an event is over the limit, finished or not. It is final.
    #[expect(clippy::should_implement_trait, reason = "here None is not the end")]
    pub fn next(&mut self) -> Result<Option<Item>, FrameError> {
        loop {
            self.skip_lf_after_cr();
            let room = self.input.limit.saturating_sub(self.fields.len());
            let is_end = |byte| matches!(byte, b'\n' | b'\r');
            let Some(line) = self.input.line(is_end, room)? else { return Ok(None) };
            let len = line.len();
            let bom: &[u8] = if self.at_start { b"\xEF\xBB\xBF" } else { b"" };
            // A line end is never part of a longer sequence: to decode line by line is to decode the whole.
            let item = self.fields.line(&String::from_utf8_lossy(line.strip_prefix(bom).unwrap_or(line)));
            self.at_start = false;
            self.after_cr = self.input.buf.get(len) == Some(&b'\r');
            self.input.consume(len + 1);
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    /// A CR ends its line at once, for its LF may be an event away; so the LF is left to be skipped when it comes.
    fn skip_lf_after_cr(&mut self) {
        if self.after_cr
            && let Some(&byte) = self.input.buf.first()
        {
            self.after_cr = false;
            if byte == b'\n' {
                self.input.consume(1);
            }
        }
    }

    /// The id to send as `Last-Event-ID` after a reconnect, at the last item read; empty without any.
    ///
    /// It differs from the id of the last [`Item::Event`] where an event had an id but no data.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.fields.last_event_id
    }
}

/// The buffers of section 9.2.6.
#[derive(Debug, Default)]
struct Fields {
    event: String,
    /// With a LF behind every line, the last one too, so that one empty line is not the same as no data.
    data: String,
    id: String,
    /// What `id` was when an event last ended: a stream that breaks inside of an event does not move it.
    last_event_id: String,
}

impl Fields {
    /// What the unfinished event takes; `id` outlives it and is never more than a line.
    fn len(&self) -> usize {
        self.event.len() + self.data.len()
    }

    fn line(&mut self, line: &str) -> Option<Item> {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => return Some(Item::Comment(value.to_owned())),
            "event" => value.clone_into(&mut self.event),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            // The standard's integers have no upper end; so long a wait is for ever either way.
            "retry" if is_digits(value) => return Some(Item::Retry(value.parse().unwrap_or(u64::MAX))),
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Item> {
        self.last_event_id.clone_from(&self.id);
        let mut event = std::mem::take(&mut self.event);
        let mut data = std::mem::take(&mut self.data);
        data.pop()?;
        if event.is_empty() {
            event.push_str("message");
        }
        Some(Item::Event { event, data, id: self.last_event_id.clone() })
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder(bytes: &[u8]) -> Decoder {
        let mut decoder = Decoder::new(1000);
        decoder.push(bytes);
        decoder
    }

    fn items(bytes: impl AsRef<[u8]>) -> Vec<Item> {
        let mut decoder = decoder(bytes.as_ref());
        std::iter::from_fn(|| decoder.next().unwrap()).collect()
    }

    fn event(event: &str, data: &str, id: &str) -> Item {
        Item::Event { event: event.into(), data: data.into(), id: id.into() }
    }

    fn message(data: &str) -> Item {
        event("message", data, "")
    }

    #[test]
    fn an_event_as_written() {
        let mut out = Vec::new();
        write(&mut out, &Head { id: Some(("s", 7)), event: Some("cancel") }, |out| {
            out.extend_from_slice(b"{}")
        });
        write(&mut out, &Head::default(), |out| out.extend_from_slice(b"1"));
        write_retry(&mut out, 1000);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "id: s:7\nevent: cancel\ndata: {}\n\ndata: 1\n\nretry: 1000\n"
        );
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "a line break inside the data")]
    fn a_raw_line_break_is_a_bug() {
        write(&mut Vec::new(), &Head::default(), |out| out.extend_from_slice(b"{\r}"));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "a line break inside an event type")]
    fn a_line_break_in_a_type_is_a_bug() {
        write(&mut Vec::new(), &Head { id: None, event: Some("a\nb") }, |_| {});
    }

    #[test]
    fn a_last_event_id_is_stream_and_number() {
        let id = LastEventId { stream: "a:b".into(), n: u64::MAX };
        assert_eq!(id.to_string(), "a:b:18446744073709551615");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "a", ":1", "a:", "a:x", "a:+1", "a:-1", "a: 1", "a:18446744073709551616"] {
            assert_eq!(text.parse::<LastEventId>(), Err(InvalidLastEventId), "{text}");
        }
    }

    // The examples of the standard, section 9.2.6.
    #[test]
    fn examples_of_the_standard() {
        assert_eq!(items("data: YHOO\ndata: +2\ndata: 10\n\n"), [message("YHOO\n+2\n10")]);
        let blocks =
            [": test stream", "data: first event\nid: 1", "data:second event\nid", "data:  third event\n"];
        assert_eq!(
            items(blocks.join("\n\n") + "\n: incomplete"),
            [
                Item::Comment("test stream".into()),
                event("message", "first event", "1"),
                event("message", "second event", ""),
                event("message", " third event", ""),
            ]
        );
        assert_eq!(items("data\n\ndata\ndata\n\ndata:"), [message(""), message("\n")]);
        assert_eq!(items("data:test\n\ndata: test\n\n"), [message("test"), message("test")]);
    }

    #[test]
    fn lines_end_in_lf_cr_or_crlf() {
        assert_eq!(items("data:1\r\ndata:2\rdata:3\n\r\ndata:4\r\r"), [message("1\n2\n3"), message("4")]);
        assert_eq!(items("data:1\n\rdata:2\n\n"), [message("1"), message("2")]);
    }

    #[test]
    fn a_cr_does_not_wait_for_its_lf() {
        let mut decoder = decoder(b"data:1\r\n\r");
        assert_eq!(decoder.next(), Ok(Some(message("1"))));
        decoder.push(b"\ndata:2\r");
        assert_eq!(decoder.next(), Ok(None));
        decoder.push(b"\n");
        assert_eq!(decoder.next(), Ok(None), "the LF is no empty line");
        decoder.push(b"\n");
        assert_eq!(decoder.next(), Ok(Some(message("2"))));
    }

    #[test]
    fn one_byte_order_mark_is_skipped_at_the_start_only() {
        assert_eq!(items("\u{FEFF}data:1\n\n"), [message("1")]);
        assert_eq!(items("\u{FEFF}\u{FEFF}data:1\n\n"), []);
        assert_eq!(items("\n\u{FEFF}data:1\n\n"), []);
        assert_eq!(items("data:\u{FEFF}1\n\n"), [message("\u{FEFF}1")]);
    }

    #[test]
    fn fields_have_exact_names() {
        assert_eq!(items("Data:1\ndata :2\n data:3\ndatas:4\nid2:5\ndata:6\n\n"), [message("6")]);
    }

    #[test]
    fn one_space_and_only_the_first_colon_are_syntax() {
        assert_eq!(items("data:  a: b \n\ndata:\tx\n\n"), [message(" a: b "), message("\tx")]);
    }

    #[test]
    fn the_type_is_for_one_event() {
        assert_eq!(
            items("event:a\nevent:b\ndata:1\n\ndata:2\n\nevent:c\nevent\ndata:3\n\n"),
            [event("b", "1", ""), message("2"), message("3")]
        );
    }

    #[test]
    fn an_event_without_data_is_forgotten_with_its_type() {
        assert_eq!(items("event:a\n\ndata:1\n\n"), [message("1")]);
    }

    #[test]
    fn an_id_lasts_until_the_next() {
        assert_eq!(
            items("id:1\ndata:a\n\ndata:b\n\nid:2\n\ndata:c\n\nid:\ndata:d\n\n"),
            [
                event("message", "a", "1"),
                event("message", "b", "1"),
                event("message", "c", "2"),
                event("message", "d", "")
            ]
        );
    }

    #[test]
    fn an_id_with_nul_is_ignored() {
        assert_eq!(items("id:1\nid:2\0\ndata:a\n\n"), [event("message", "a", "1")]);
    }

    #[test]
    fn an_id_counts_when_its_event_ends() {
        let mut decoder = decoder(b"id:1\ndata:a\n\nid:2\ndata:b\n");
        assert_eq!(decoder.last_event_id(), "");
        assert_eq!(decoder.next(), Ok(Some(event("message", "a", "1"))));
        assert_eq!(decoder.next(), Ok(None));
        assert_eq!(decoder.last_event_id(), "1");
        decoder.push(b"\nid:3\n\n");
        assert_eq!(decoder.next(), Ok(Some(event("message", "b", "2"))));
        assert_eq!(decoder.last_event_id(), "2");
        assert_eq!(decoder.next(), Ok(None));
        assert_eq!(decoder.last_event_id(), "3", "also of an event without data");
    }

    #[test]
    fn a_retry_is_ascii_digits() {
        assert_eq!(
            items("retry:10\nretry: 007\nretry:99999999999999999999\n"),
            [Item::Retry(10), Item::Retry(7), Item::Retry(u64::MAX)]
        );
        assert_eq!(
            items("retry\nretry:\nretry:+1\nretry:-1\nretry:1.5\nretry:1 \nretry:  1\nretry:\u{661}\n"),
            []
        );
    }

    #[test]
    fn comments_are_seen_and_end_nothing() {
        assert_eq!(items(":\n: x\n::y\n"), ["", "x", ":y"].map(|text| Item::Comment(text.into())));
        assert_eq!(items("data:1\n:\ndata:2\n\n"), [Item::Comment(String::new()), message("1\n2")]);
        assert_eq!(items(HEARTBEAT), [Item::Comment("heartbeat".into())]);
    }

    #[test]
    fn an_unfinished_event_is_no_event() {
        assert_eq!(items("data:1\n\ndata:2\n"), [message("1")]);
        assert_eq!(items("data:1\n\ndata:2"), [message("1")]);
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        assert_eq!(items(b"data:\xFF\xC3\ndata:\xE2\x82\n\n"), [message("\u{FFFD}\u{FFFD}\n\u{FFFD}")]);
    }

    #[test]
    fn a_character_may_come_in_pieces() {
        let mut decoder = decoder(b"data:\xE2\x82");
        assert_eq!(decoder.next(), Ok(None));
        decoder.push(b"\xAC\n\n");
        assert_eq!(decoder.next(), Ok(Some(message("€"))));
    }

    #[test]
    fn an_event_may_be_as_long_as_the_limit() {
        let mut decoder = Decoder::new(8);
        decoder.push(b"data:abc\r\n\r\n: 345678\n\ndata:a\ndata:b\n\n");
        assert_eq!(decoder.next(), Ok(Some(message("abc"))));
        assert_eq!(decoder.next(), Ok(Some(Item::Comment("345678".into()))));
        assert_eq!(decoder.next(), Ok(Some(message("a\nb"))));
        assert_eq!(decoder.next(), Ok(None));
    }

    #[test]
    fn a_longer_event_is_refused_before_it_ends() {
        for bytes in ["data:abcd\n", "data:abcd", ": 3456789", "data:a\ndata:bc", "event:a\ndata:bcd"] {
            let mut decoder = Decoder::new(8);
            decoder.push(bytes.as_bytes());
            assert_eq!(decoder.next(), Err(FrameError::TooLarge { limit: 8 }), "{bytes}");
        }
    }

    #[test]
    fn an_error_comes_after_the_events_before_it_and_is_final() {
        let mut decoder = Decoder::new(8);
        decoder.push(b"data:a\n\ndata:abcd\n\n");
        assert_eq!(decoder.next(), Ok(Some(message("a"))));
        assert_eq!(decoder.next(), Err(FrameError::TooLarge { limit: 8 }));
        decoder.push(b"\n\ndata:a\n\n");
        assert_eq!(decoder.next(), Err(FrameError::TooLarge { limit: 8 }));
    }

    // Takes minutes, not milliseconds, if reading ever becomes quadratic.
    #[test]
    fn reading_is_linear() {
        let len = 1 << 20;
        let mut many = decoder(&b":\r\n\r\n".repeat(len / 4));
        assert_eq!(std::iter::from_fn(|| many.next().unwrap()).count(), len / 4);

        let mut long = Decoder::new(len);
        long.push(b"data:");
        for _ in 5..len {
            long.push(b"x");
            assert_eq!(long.next(), Ok(None));
        }
        long.push(b"\n\n");
        assert_eq!(long.next(), Ok(Some(message(&"x".repeat(len - 5)))));
    }
}
