//! What is done with arbitrary bytes. Each function panics where a law is broken; `tests/tests/it/fuzz.rs` plays the
//! kept corpus through the same functions.

mod store;

use std::hint::black_box;

use bytes::Bytes;
use protocol::body::{parse, parse_optional};
use protocol::flow::Key;
use protocol::frame::{msgpack, ndjson, sse};
use protocol::id::JobId;
use protocol::lease::{Heartbeat, JobHeartbeat, JobRelease, LeaseToken, Release};
use protocol::log::parse_lines;
use protocol::media::{Format, negotiate};
use protocol::name::{JobType, QueueName};
use protocol::outcome::{Failure, Successes};
use protocol::payload::Payload;
use protocol::take::Poll;
use protocol::{enqueue, patch};
use serde_json::Value;
use zizq_server::fuzz::Span;

pub use store::{records, store};

/// A decoder of frames, whichever.
trait Decoder {
    fn push(&mut self, bytes: &[u8]);
    fn next(&mut self) -> Result<Option<String>, String>;
}

macro_rules! decoder {
    ($Decoder:ty) => {
        impl Decoder for $Decoder {
            fn push(&mut self, bytes: &[u8]) {
                self.push(bytes);
            }

            fn next(&mut self) -> Result<Option<String>, String> {
                self.next()
                    .map(|item| item.map(|item| format!("{item:?}")))
                    .map_err(|error| format!("{error:?}"))
            }
        }
    };
}

decoder!(ndjson::Decoder);
decoder!(msgpack::Decoder);
decoder!(sse::Decoder);

/// The decoders of streams: however a stream is split, the same comes out of it.
pub fn frames(data: &[u8]) {
    let [kind, limit, seed, stream @ ..] = data else { return };
    let limit = 4 + usize::from(*limit);
    let decoder = || -> Box<dyn Decoder> {
        match kind % 3 {
            0 => Box::new(ndjson::Decoder::new(limit)),
            1 => Box::new(msgpack::Decoder::new(limit)),
            _ => Box::new(sse::Decoder::new(limit)),
        }
    };
    let whole = decoded(decoder(), stream, stream.len().max(1), 0);
    assert_eq!(decoded(decoder(), stream, 1, 0), whole);
    assert_eq!(decoded(decoder(), stream, 1 + usize::from(*seed), usize::from(*seed)), whole);
}

/// Pushes pieces of up to `most` bytes. What is in a stream before the error counts, and that there is one.
fn decoded(
    mut decoder: Box<dyn Decoder>,
    stream: &[u8],
    most: usize,
    mut seed: usize,
) -> (Vec<String>, Option<String>) {
    let (mut items, mut rest) = (Vec::new(), stream);
    while !rest.is_empty() {
        seed = seed.wrapping_mul(31).wrapping_add(7);
        let (piece, behind) = rest.split_at((1 + seed % most).min(rest.len()));
        decoder.push(if most >= stream.len() { rest } else { piece });
        rest = if most >= stream.len() { &[] } else { behind };
        loop {
            match decoder.next() {
                Ok(None) => break,
                Ok(Some(item)) => items.push(item),
                Err(error) => return (items, Some(error)),
            }
        }
    }
    (items, None)
}

/// Request bodies in both formats: never a panic, and what was accepted can be written in both.
pub fn bodies(data: &[u8]) {
    let [format, body @ ..] = data else { return };
    let format = if format % 2 == 0 { Format::Json } else { Format::MessagePack };
    let bytes = Bytes::copy_from_slice(body);
    let mut jobs = enqueue::parse_bulk(format, &bytes, 0).unwrap_or_default().jobs;
    jobs.extend(enqueue::parse_job(format, &bytes, 0).map(|parsed| parsed.job));
    jobs.iter().for_each(|job| check_payload(&job.payload));
    drop(patch::parse(format, body));
    drop(parse::<Failure>(format, body));
    drop(parse::<Successes>(format, body));
    drop(parse::<JobHeartbeat>(format, body));
    drop(parse::<JobRelease>(format, body));
    drop(parse_optional::<Heartbeat>(format, body));
    drop(parse_optional::<Release>(format, body));
    drop(parse_optional::<Poll>(format, body));
    parse_lines(body).for_each(drop);
}

/// It is one value in either format, and the same one.
fn check_payload(payload: &Payload) {
    let json = payload.to_format(Format::Json);
    let json: Value = serde_json::from_slice(&json).unwrap_or_else(|e| panic!("{e}: {json:?}"));
    let msgpack = payload.to_format(Format::MessagePack);
    let msgpack: Value = rmp_serde::from_slice(&msgpack).unwrap_or_else(|e| panic!("{e}: {msgpack:?}"));
    assert_eq!(json, msgpack);
}

/// Names, ids, tokens, ranges, media types, queries: what was accepted reads as it was written.
pub fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(QueueName::new(text).is_ok_and(|name| name.as_str() == text) || QueueName::new(text).is_err());
    assert!(JobType::new(text).is_ok_and(|name| name.as_str() == text) || JobType::new(text).is_err());
    assert!(Key::new(text).is_ok_and(|key| key.as_str() == text) || Key::new(text).is_err());
    if let Ok(id) = text.parse::<JobId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(token) = text.parse::<LeaseToken>() {
        assert_eq!(token.to_string().parse::<LeaseToken>(), Ok(token));
    }
    if let Ok(span) = Span::parse(text, u64::MAX) {
        let inside = [0, 1, 32_768, u64::MAX].into_iter().filter(|n| span.contains(*n)).count();
        assert!(text != ".." || inside == 4);
    }
    black_box((Format::from_content_type(Some(text)), Format::from_accept(Some(text))));
    black_box(negotiate(Some(text), &[("text/event-stream", 1), ("application/json", 2)], 0));
    zizq_server::fuzz::query(text);
}
