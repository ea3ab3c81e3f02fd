//! The body of a stream: frames of the items in the engine's outbox, with heartbeats in between.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use bytes::Bytes;
use futures_util::Stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::body::Frame;
use protocol::encode;
use protocol::frame::{StreamFormat, msgpack, ndjson, sse};
use protocol::job::Status;
use protocol::media::Format;
use protocol::stream::{Cancel, Drain, Hello};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use zizq_spans::Spans;

use super::spans::waited;
use crate::engine::command::streams::{CaughtUp, CloseStream, FinishPoll, Link, Opened, RenewStream};
use crate::engine::outbox::{Delivery, Item, Outbox};
use crate::http::closed;
use crate::http::memory::Peer;
use crate::run::handle::Handle;

/// The delay before a reconnection that clients are told, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// Sets the headers of an endless body, which must not be cached or buffered on the way.
pub(crate) fn set_headers(headers: &mut HeaderMap, content_type: &'static str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
}

/// Appends a named event about the stream itself.
pub(crate) fn write_event<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, event: &str, data: &T) {
    let head = sse::Head { id: None, event: Some(event) };
    sse::write(out, &head, |out| encode::write(out, Format::Json, data));
}

/// Tells the engine when the connection of a stream is gone, for whatever reason.
#[derive(Debug)]
pub(crate) struct Hold {
    pub engine: Handle,
    pub link: Link,
}

impl Hold {
    /// The answer of a poll was sent: from now on its leases expire on their own.
    pub(crate) fn answered(&self) {
        self.engine.tell(FinishPoll(self.link));
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.engine.tell(CloseStream(self.link));
    }
}

/// An open stream.
pub(crate) struct JobStream {
    pub hold: Hold,
    pub opened: Opened,
    pub outbox: Arc<Outbox>,
    pub format: StreamFormat,
    /// The lease time in milliseconds; `None`: leases last as long as the stream is open.
    pub lease_ms: Option<u64>,
    /// The longest silence, in milliseconds.
    pub heartbeat_ms: u64,
    /// Whether reading the stream renews its leases.
    pub renews: bool,
    pub closing: watch::Receiver<bool>,
    /// The connection.
    pub peer: Arc<Peer>,
    pub spans: Spans,
}

impl JobStream {
    /// The frames that the connection sends.
    pub(crate) fn frames(self) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
        let encoder = Encoder { format: self.format, stream: format!("{:032x}", self.opened.id) };
        let pause = Duration::from_millis(self.heartbeat_ms);
        stream! {
            if self.format == StreamFormat::EventStream {
                yield Ok(Frame::data(encoder.hello(&self)));
            }
            // A random offset spreads the heartbeats of streams that were opened together.
            let mut silent_until = Instant::now() + pause.mul_f64(fastrand::f64());
            let mut renew_at = Instant::now() + pause;
            let mut closing = self.closing.clone();
            loop {
                let bytes = tokio::select! {
                    biased;
                    // Items that the reader does not take stay in the outbox, which the engine bounds.
                    items = self.next(), if self.peer.has_room() => match items {
                        Some(items) => match self.encode(&encoder, &items) {
                            // HTTP/2 clients close a connection that sends too many empty frames.
                            bytes if bytes.is_empty() => continue,
                            bytes => bytes,
                        },
                        None => break,
                    },
                    () = self.peer.room(), if !self.peer.has_room() => continue,
                    () = sleep_until(silent_until) => Bytes::from_static(encoder.heartbeat()),
                    () = closed(&mut closing) => break,
                };
                yield Ok(Frame::data(bytes));
                // The peer has read what was sent before, so it is alive.
                let now = Instant::now();
                silent_until = now + pause;
                if self.renews && now >= renew_at {
                    renew_at = now + pause;
                    self.hold.engine.tell(RenewStream(self.hold.link));
                }
            }
        }
    }

    async fn next(&self) -> Option<Vec<Item>> {
        poll_fn(|context| self.outbox.poll_take(context)).await
    }

    fn encode(&self, encoder: &Encoder, items: &[Item]) -> Bytes {
        let mut out = Vec::with_capacity(items.len() * 512);
        for item in items {
            encoder.item(&mut out, item);
            if let Item::Job(delivery) = item {
                waited(&self.spans, delivery);
            }
        }
        if self.outbox.was_starved(items) {
            self.hold.engine.tell(CaughtUp(self.hold.link));
        }
        if out.is_empty() { Bytes::new() } else { self.peer.piece(out) }
    }
}

struct Encoder {
    format: StreamFormat,
    /// The id of the stream, as clients see it.
    stream: String,
}

impl Encoder {
    const fn heartbeat(&self) -> &'static [u8] {
        match self.format {
            StreamFormat::NdJson => ndjson::HEARTBEAT,
            StreamFormat::MessagePack => msgpack::HEARTBEAT,
            StreamFormat::EventStream => sse::HEARTBEAT,
        }
    }

    fn hello(&self, stream: &JobStream) -> Bytes {
        let hello = Hello {
            stream: self.stream.clone(),
            resumed: stream.opened.resumed,
            lease_ms: stream.lease_ms.unwrap_or_default(),
            heartbeat_ms: stream.heartbeat_ms,
            server: crate::SERVER.to_owned(),
        };
        let mut out = Vec::new();
        sse::write_retry(&mut out, RETRY_MS);
        write_event(&mut out, "hello", &hello);
        out.into()
    }

    fn item(&self, out: &mut Vec<u8>, item: &Item) {
        match (item, self.format) {
            (Item::Job(delivery), StreamFormat::NdJson) => {
                ndjson::write(out, |out| write_delivery(out, Format::Json, delivery));
            }
            (Item::Job(delivery), StreamFormat::MessagePack) => {
                msgpack::write(out, |out| write_delivery(out, Format::MessagePack, delivery));
            }
            (Item::Job(delivery), StreamFormat::EventStream) => {
                let head = sse::Head { id: Some((&self.stream, delivery.event)), event: None };
                sse::write(out, &head, |out| write_delivery(out, Format::Json, delivery));
            }
            (Item::Cancel { id, reason }, StreamFormat::EventStream) => {
                write_event(out, "cancel", &Cancel { id: *id, reason: *reason });
            }
            (Item::Drain(reason), StreamFormat::EventStream) => {
                write_event(out, "drain", &Drain { reason: reason.as_str().to_owned() });
            }
            // The other formats cannot express these.
            (Item::Cancel { .. } | Item::Drain(_), StreamFormat::NdJson | StreamFormat::MessagePack) => {}
        }
    }
}

/// Appends a job as delivered to its worker.
pub(crate) fn write_delivery(out: &mut Vec<u8>, format: Format, delivery: &Delivery) {
    let mut view = delivery.job.view(&delivery.queue, Status::InFlight);
    view.lease = Some(delivery.token);
    view.lease_expires_at = delivery.lease_expires_at;
    view.deliveries = Some(delivery.job.deliveries);
    encode::write_job(out, format, &view, Some(&delivery.job.payload));
}
