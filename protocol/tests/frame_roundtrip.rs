//! The stream codecs against random input: what is written is read again however the bytes are split, and nothing
//! that a peer sends makes a decoder panic, disagree with itself or (for server-sent events) with the standard.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use protocol::frame::{FrameError, Item, msgpack, ndjson, sse};

/// Larger than everything generated here.
const NO_LIMIT: usize = 1 << 20;

/// A whole stream as a decoder sees it: its items, and the error that ended it.
type Decoded<T> = (Vec<T>, Option<FrameError>);

/// The shape that the three decoders share.
trait Decode {
    type Item;
    fn push(&mut self, bytes: &[u8]);
    fn next(&mut self) -> Result<Option<Self::Item>, FrameError>;

    /// Reads to the end, or to the first error, which must then stay.
    fn decode<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded<Self::Item> {
        let mut items = Vec::new();
        let mut error = None;
        for piece in pieces {
            self.push(piece);
            loop {
                match self.next() {
                    Ok(Some(item)) => items.push(item),
                    Ok(None) => break,
                    Err(e) if error == Some(e) => break,
                    Err(e) => error = Some(e),
                }
            }
        }
        (items, error)
    }
}

macro_rules! decode {
    ($($format:ident: $item:ty),*) => {$(
        impl Decode for $format::Decoder {
            type Item = $item;
            fn push(&mut self, bytes: &[u8]) {
                $format::Decoder::push(self, bytes);
            }
            fn next(&mut self) -> Result<Option<$item>, FrameError> {
                $format::Decoder::next(self)
            }
        }
    )*};
}

decode!(ndjson: Item, msgpack: Item, sse: sse::Item);

/// Cuts `bytes` at every one of `cuts`; pieces may be empty.
fn split<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut rest = bytes;
    let mut start = 0;
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, after) = rest.split_at(cut - start);
        pieces.push(piece);
        (rest, start) = (after, cut);
    }
    pieces.push(rest);
    pieces
}

fn cuts() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 0..12)
}

/// Bytes of which every third or so means something to one of the formats.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![2 => any::<u8>(), 1 => select(b"\0\0\0\x01\x02\x05\n\n\r: ".to_vec())], 0..200)
}

/// Text without line breaks, not empty.
fn line() -> impl Strategy<Value = String> {
    "[^\n\r]{1,40}"
}

/// A stream of messages, where `None` is a heartbeat.
fn messages<T: std::fmt::Debug>(body: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<Option<T>>> {
    vec(proptest::option::weighted(0.8, body), 0..20)
}

fn item(body: Option<impl Into<Vec<u8>>>) -> Item {
    body.map_or(Item::Heartbeat, |body| Item::Message(body.into()))
}

/// One event as the server writes it.
#[derive(Debug, Clone)]
struct Event {
    id: Option<(String, u64)>,
    event: Option<String>,
    data: String,
}

fn event() -> impl Strategy<Value = Event> {
    let id = proptest::option::of(("[0-9a-z]{1,8}", any::<u64>()));
    let event = proptest::option::of("[a-z]{1,8}");
    (id, event, "[^\n\r]{0,40}").prop_map(|(id, event, data)| Event { id, event, data })
}

/// Pieces of an event stream that mean something, alone or in touch with each other.
fn sse_tokens() -> impl Strategy<Value = Vec<u8>> {
    let tokens = b"\n,\n,\r,\r\n,\n\n,:, ,data,data:,data: x\n,event,event: e\n,id,id: 7\n,id:a\0b\n,\
        retry,retry:,12,99999999999999999999,+,x,\0,\xEF\xBB\xBF,\xEF,\xBB,\xC3,\xA9,\xF0\x9F,\xFF,\xC3\xA9,\
        \xE2\x82\xAC";
    let tokens: Vec<_> = tokens.split(|&byte| byte == b',').map(<[u8]>::to_vec).collect();
    vec(select(tokens), 0..60).prop_map(|tokens| tokens.concat())
}

/// WHATWG HTML section 9.2.6 to the letter, over a whole stream at once: the items, and the last event id at its end.
fn sse_reference(stream: &[u8]) -> (Vec<sse::Item>, String) {
    let text = String::from_utf8_lossy(stream);
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text).replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.pop(); // never ended

    let mut items = Vec::new();
    let (mut data, mut event_type) = (String::new(), String::new());
    let (mut id_buffer, mut last_event_id) = (String::new(), String::new());
    for line in lines {
        if line.is_empty() {
            last_event_id = id_buffer.clone();
            if !data.is_empty() {
                let event = if event_type.is_empty() { "message".into() } else { event_type };
                let data = data.strip_suffix('\n').unwrap_or(&data).to_owned();
                items.push(sse::Item::Event { event, data, id: last_event_id.clone() });
            }
            (data, event_type) = (String::new(), String::new());
            continue;
        }
        let colon = line.find(':').unwrap_or(line.len());
        let (field, rest) = line.split_at(colon);
        let value: String = rest.chars().skip(if rest.starts_with(": ") { 2 } else { 1 }).collect();
        if colon == 0 {
            items.push(sse::Item::Comment(value));
        } else if field == "event" {
            event_type = value;
        } else if field == "data" {
            data = data + &value + "\n";
        } else if field == "id" && value.chars().all(|c| c != '\0') {
            id_buffer = value;
        } else if field == "retry" && !value.is_empty() && value.chars().all(|c| c.is_ascii_digit()) {
            let digits = value.bytes().map(|digit| u64::from(digit - b'0'));
            let ms = digits.fold(0_u64, |ms, digit| ms.saturating_mul(10).saturating_add(digit));
            items.push(sse::Item::Retry(ms));
        }
    }
    (items, last_event_id)
}

/// The largest text of an item.
fn sse_len(item: &sse::Item) -> usize {
    match item {
        sse::Item::Event { event, data, id } => event.len().max(data.len()).max(id.len()),
        sse::Item::Comment(text) => text.len(),
        sse::Item::Retry(_) => 0,
    }
}

proptest! {
    #[test]
    fn ndjson_round_trip(bodies in messages(line()), cuts in cuts()) {
        let mut out = Vec::new();
        for body in &bodies {
            match body {
                Some(body) => ndjson::write(&mut out, |out| out.extend_from_slice(body.as_bytes())),
                None => out.extend_from_slice(ndjson::HEARTBEAT),
            }
        }
        let items: Vec<_> = bodies.into_iter().map(item).collect();
        prop_assert_eq!(ndjson::Decoder::new(NO_LIMIT).decode(split(&out, &cuts)), (items, None));
    }

    #[test]
    fn msgpack_round_trip(bodies in messages(vec(any::<u8>(), 1..300)), cuts in cuts()) {
        let mut out = Vec::new();
        for body in &bodies {
            match body {
                Some(body) => msgpack::write(&mut out, |out| out.extend_from_slice(body)),
                None => out.extend_from_slice(msgpack::HEARTBEAT),
            }
        }
        let items: Vec<_> = bodies.into_iter().map(item).collect();
        prop_assert_eq!(msgpack::Decoder::new(NO_LIMIT).decode(split(&out, &cuts)), (items, None));
    }

    #[test]
    fn sse_round_trip(retry: u64, events in messages(event()), cuts in cuts()) {
        let mut out = Vec::new();
        sse::write_retry(&mut out, retry);
        let mut items = vec![sse::Item::Retry(retry)];
        let mut last = String::new();
        for event in events {
            let Some(Event { id, event, data }) = event else {
                out.extend_from_slice(sse::HEARTBEAT);
                items.push(sse::Item::Comment("heartbeat".into()));
                continue;
            };
            let head = sse::Head { id: id.as_ref().map(|(s, n)| (s.as_str(), *n)), event: event.as_deref() };
            sse::write(&mut out, &head, |out| out.extend_from_slice(data.as_bytes()));
            if let Some((stream, n)) = id {
                last = sse::LastEventId { stream, n }.to_string();
            }
            items.push(sse::Item::Event { event: event.unwrap_or("message".into()), data, id: last.clone() });
        }
        prop_assert_eq!(sse::Decoder::new(NO_LIMIT).decode(split(&out, &cuts)), (items, None));
    }

    #[test]
    fn a_last_event_id_round_trips(stream in "[^\n\r\0]{1,20}", n: u64) {
        let id = sse::LastEventId { stream, n };
        prop_assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn ndjson_pieces_do_not_matter(bytes in bytes(), cuts in cuts(), limit in 0..30_usize) {
        let whole = ndjson::Decoder::new(limit).decode([&*bytes]);
        prop_assert!(whole.0.iter().all(|item| !matches!(item, Item::Message(body) if body.len() > limit)));
        prop_assert_eq!(ndjson::Decoder::new(limit).decode(split(&bytes, &cuts)), whole);
    }

    #[test]
    fn msgpack_pieces_do_not_matter(bytes in bytes(), cuts in cuts(), limit in 0..30_usize) {
        let whole = msgpack::Decoder::new(limit).decode([&*bytes]);
        prop_assert!(whole.0.iter().all(|item| !matches!(item, Item::Message(body) if body.len() > limit)));
        prop_assert_eq!(msgpack::Decoder::new(limit).decode(split(&bytes, &cuts)), whole);
    }

    #[test]
    fn sse_pieces_do_not_matter(bytes in prop_oneof![bytes(), sse_tokens()], cuts in cuts(), limit in 0..60_usize) {
        let whole = sse::Decoder::new(limit).decode([&*bytes]);
        prop_assert!(whole.0.iter().all(|item| sse_len(item) <= 3 * limit.max("message".len())));
        prop_assert_eq!(sse::Decoder::new(limit).decode(split(&bytes, &cuts)), whole);
    }

    #[test]
    fn sse_is_the_standard(bytes in prop_oneof![1 => bytes(), 4 => sse_tokens()], cuts in cuts()) {
        let mut decoder = sse::Decoder::new(NO_LIMIT);
        let (items, error) = decoder.decode(split(&bytes, &cuts));
        prop_assert_eq!(error, None);
        prop_assert_eq!((items, decoder.last_event_id().to_owned()), sse_reference(&bytes));
    }
}
