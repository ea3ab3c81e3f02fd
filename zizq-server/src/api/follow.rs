//! Follows a log as it grows: server-sent events until the attempt is over.
//!
//! A follower has no queue: it reads the kept output after its position whenever its connection has room. A slow
//! follower misses output, is told so, and continues with what is still kept.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use bytes::Bytes;
use futures_util::Stream;
use http::Response;
use hyper::body::Frame;
use protocol::encode;
use protocol::frame::StreamFormat;
use protocol::frame::sse::{self, LastEventId};
use protocol::log::Line;
use protocol::media::Format;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout};

use super::App;
use super::stream::{set_headers, write_event};
use crate::engine::command::jobs::Seen;
use crate::http::closed;
use crate::http::memory::Peer;
use crate::http::reply::{self, Answer, Content, Refusal};
use crate::http::request::Request;
use crate::logs::{Attempt, Excerpt, LogError, MAX_FOLLOWERS, text};

/// How often to check whether the attempt is over.
const LOOK: Duration = Duration::from_millis(300);

/// Follows the requested attempt. Without one, follows the running or next attempt, or the last one of a job that has
/// ended.
pub(super) async fn stream(app: &Arc<App>, request: &Request, seen: &Seen, asked: Option<u32>) -> Answer {
    let id = seen.job.id;
    let place = app.logs.place_to_follow().ok_or_else(|| {
        Refusal::busy(format!("too many log followers (limit {MAX_FOLLOWERS}); try again later"))
    })?;
    let last_event = request.header("last-event-id");
    let last: Option<LastEventId> = last_event.and_then(|text| text.parse().ok());
    let number = match asked {
        Some(number) => number,
        None if seen.status.is_terminal() => app.logs.read(id, None, 0).await?.attempt.unwrap_or(1),
        None => seen.job.attempts.saturating_add(1),
    };
    let of = Attempt { id, number };
    let at = last.filter(|last| last.stream == number.to_string()).map_or(0, |last| last.n);
    let changes = app.logs.watch(of).await?;
    if at > 0 && is_over(of, Some(seen)) && app.logs.read(id, Some(number), at).await?.text.is_empty() {
        // A 204 tells an `EventSource` not to reconnect.
        return Ok(reply::no_content());
    }
    let follower = Follower {
        app: app.clone(),
        of,
        name: number.to_string(),
        at,
        changes,
        peer: request.peer.clone(),
        _place: place,
    };
    let mut response = Response::new(Content::stream(follower.frames()));
    set_headers(response.headers_mut(), StreamFormat::EventStream.content_type());
    Ok(response)
}

struct Follower {
    app: Arc<App>,
    of: Attempt,
    /// The attempt number, as it appears in event ids.
    name: String,
    /// The position in the log up to which output was sent.
    at: u64,
    changes: watch::Receiver<()>,
    /// The connection.
    peer: Arc<Peer>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    fn frames(mut self) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
        let heartbeat = Duration::from_millis(self.app.heartbeat_ms);
        let mut closing = self.app.closing.clone();
        stream! {
            yield Ok(frame(self.hello()));
            let (mut silent_until, mut look_at) = (Instant::now() + heartbeat, Instant::now());
            loop {
                // Check for the end before reading the log, so that the last lines are sent before the end event.
                let mut ended = None;
                if Instant::now() >= look_at {
                    ended = self.look().await;
                    look_at = Instant::now() + LOOK;
                }
                let Ok(excerpt) = self.read().await else { break };
                if let Some(bytes) = self.encode(&excerpt) {
                    yield Ok(Frame::data(self.peer.piece(bytes)));
                    silent_until = Instant::now() + heartbeat;
                }
                if let Some(end) = ended {
                    yield Ok(frame(end));
                    break;
                }
                tokio::select! {
                    // The channel closes when the server stops.
                    changed = timeout(LOOK, self.changes.changed()) => if let Ok(Err(_)) = changed { break },
                    () = closed(&mut closing) => break,
                }
                if Instant::now() >= silent_until {
                    yield Ok(frame(sse::HEARTBEAT.to_vec()));
                    silent_until = Instant::now() + heartbeat;
                }
            }
        }
    }

    async fn read(&self) -> Result<Excerpt, LogError> {
        self.app.logs.read(self.of.id, Some(self.of.number), self.at).await
    }

    /// Returns the end event if the attempt is over.
    async fn look(&self) -> Option<Vec<u8>> {
        // A failed read is retried at the next check.
        let seen = self.app.reader.job(self.of.id).await.ok()?;
        if !is_over(self.of, seen.as_ref()) {
            return None;
        }
        let mut end = json!({"id": self.of.id, "attempt": self.of.number});
        if let (Some(seen), Some(members)) = (seen, end.as_object_mut()) {
            members.insert("status".to_owned(), json!(seen.status.as_str()));
        }
        Some(event("end", &end))
    }

    fn hello(&self) -> Vec<u8> {
        event("hello", &json!({"id": self.of.id, "attempt": self.of.number}))
    }

    /// Encodes the output since the last call.
    fn encode(&mut self, excerpt: &Excerpt) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(excerpt.text.len() * 2);
        if excerpt.missed > 0 {
            out.extend(event("lagged", &json!({"missed_bytes": excerpt.missed})));
        }
        let mut at = excerpt.end - excerpt.text.len() as u64;
        for line in excerpt.text.split_inclusive(|&byte| text::is_end(byte)) {
            at += line.len() as u64;
            for (stream, line) in text::lines(line) {
                let head = sse::Head { id: Some((&self.name, at)), event: None };
                sse::write(&mut out, &head, |out| encode::write(out, Format::Json, &Line { stream, line }));
            }
        }
        self.at = excerpt.end;
        (!out.is_empty()).then_some(out)
    }
}

fn frame(bytes: Vec<u8>) -> Frame<Bytes> {
    Frame::data(bytes.into())
}

fn event(event: &str, data: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_event(&mut out, event, data);
    out
}

/// Whether an attempt prints nothing more. An attempt that was released continues when the job is delivered again.
fn is_over(of: Attempt, seen: Option<&Seen>) -> bool {
    seen.is_none_or(|seen| seen.status.is_terminal() || seen.job.attempts >= of.number)
}
