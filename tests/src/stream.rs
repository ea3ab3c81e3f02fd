//! A job stream in any of its three formats.

use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use protocol::frame::{self, StreamFormat, msgpack, ndjson, sse};
use protocol::media::Format;
use protocol::stream::Hello;
use serde_json::Value;

use crate::client::decode;
use crate::wait::within;

const MAX_FRAME_BYTES: usize = 16 << 20;

/// What comes on a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A job.
    Job(Value),
    /// Nothing to do, but alive.
    Heartbeat,
    /// SSE: how long to wait before a reconnect.
    Retry(u64),
    /// SSE: `hello`.
    Hello(Hello),
    /// SSE: `cancel`.
    Cancel(Value),
    /// SSE: `drain`.
    Drain(Value),
}

/// An open stream. To drop it is to close it.
#[derive(Debug)]
pub struct Stream {
    /// The headers of the answer.
    pub headers: HeaderMap,
    /// Every byte that was read.
    pub received: Vec<u8>,
    /// SSE: the id of the last event, to resume with.
    pub last_event_id: String,
    hello: Option<Hello>,
    decoder: Decoder,
    body: Incoming,
}

#[derive(Debug)]
enum Decoder {
    NdJson(ndjson::Decoder),
    MessagePack(msgpack::Decoder),
    EventStream(sse::Decoder),
}

impl Decoder {
    fn new(format: StreamFormat) -> Self {
        match format {
            StreamFormat::NdJson => Self::NdJson(ndjson::Decoder::new(MAX_FRAME_BYTES)),
            StreamFormat::MessagePack => Self::MessagePack(msgpack::Decoder::new(MAX_FRAME_BYTES)),
            StreamFormat::EventStream => Self::EventStream(sse::Decoder::new(MAX_FRAME_BYTES)),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::NdJson(decoder) => decoder.push(bytes),
            Self::MessagePack(decoder) => decoder.push(bytes),
            Self::EventStream(decoder) => decoder.push(bytes),
        }
    }

    fn next(&mut self) -> Option<Item> {
        let from_frame = |format, item| match item {
            frame::Item::Heartbeat => Item::Heartbeat,
            frame::Item::Message(bytes) => Item::Job(decode(format, &bytes)),
        };
        match self {
            Self::NdJson(decoder) => decoder.next().unwrap().map(|item| from_frame(Format::Json, item)),
            Self::MessagePack(decoder) => {
                decoder.next().unwrap().map(|item| from_frame(Format::MessagePack, item))
            }
            Self::EventStream(decoder) => decoder.next().unwrap().map(from_event),
        }
    }
}

fn from_event(item: sse::Item) -> Item {
    match item {
        sse::Item::Comment(_) => Item::Heartbeat,
        sse::Item::Retry(ms) => Item::Retry(ms),
        sse::Item::Event { event, data, .. } => match event.as_str() {
            "message" => Item::Job(decode(Format::Json, data.as_bytes())),
            "hello" => Item::Hello(serde_json::from_str(&data).unwrap()),
            "cancel" => Item::Cancel(decode(Format::Json, data.as_bytes())),
            "drain" => Item::Drain(decode(Format::Json, data.as_bytes())),
            _ => panic!("an event {event:?} that the contract does not know: {data}"),
        },
    }
}

impl Stream {
    /// Takes over the answer to a take. Of an event stream, everything to the hello is read.
    pub async fn open(format: StreamFormat, response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        assert_eq!(head.status, 200, "the status of a take");
        let mut stream = Self {
            headers: head.headers,
            received: Vec::new(),
            last_event_id: String::new(),
            hello: None,
            decoder: Decoder::new(format),
            body,
        };
        while format == StreamFormat::EventStream && stream.hello.is_none() {
            let item = stream.next_item().await;
            assert!(matches!(item, Some(Item::Retry(_) | Item::Hello(_))), "{item:?} before the hello");
        }
        stream
    }

    /// What the server said first, on an event stream.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        self.hello.as_ref().expect("an event stream")
    }

    /// The next item; `None` at the end, be it clean or not.
    pub async fn next_item(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.decoder.next() {
                if let Decoder::EventStream(decoder) = &self.decoder {
                    decoder.last_event_id().clone_into(&mut self.last_event_id);
                }
                if let Item::Hello(hello) = &item {
                    self.hello = Some(hello.clone());
                }
                return Some(item);
            }
            let frame = within("the next item of a stream", self.body.frame()).await?.ok()?;
            if let Some(bytes) = frame.data_ref() {
                self.received.extend_from_slice(bytes);
                self.decoder.push(bytes);
            }
        }
    }

    /// The next item that is no heartbeat; `None` at the end.
    pub async fn next_message(&mut self) -> Option<Item> {
        let mut item = self.next_item().await;
        while item == Some(Item::Heartbeat) {
            item = within("an item of a stream that only beats", self.next_item()).await;
        }
        item
    }

    /// The next job, which comes before anything but heartbeats.
    pub async fn next_job(&mut self) -> Value {
        match within("the next job of a stream", self.next_message()).await {
            Some(Item::Job(job)) => job,
            other => panic!("{other:?} instead of a job"),
        }
    }

    /// The next `n` jobs.
    pub async fn next_jobs(&mut self, n: usize) -> Vec<Value> {
        let mut jobs = Vec::with_capacity(n);
        while jobs.len() < n {
            jobs.push(self.next_job().await);
        }
        jobs
    }

    /// A heartbeat is next, so the server has nothing to say: it sends one only on an idle stream.
    pub async fn expect_idle(&mut self) {
        let item = self.next_item().await;
        assert_eq!(item, Some(Item::Heartbeat), "what came on a stream that should be idle");
    }

    /// The stream ends now, but for heartbeats.
    pub async fn expect_end(&mut self) {
        let item = within("the end of a stream", self.next_message()).await;
        assert_eq!(item, None, "what came on a stream that should end");
    }
}
