//! A log as it grows: server-sent events, until the attempt is over.
//!
//! The reader is in no queue: it takes what is kept behind the place it has got to, whenever its connection has room.
//! Who is too slow finds that something is missing, is told so, and goes on with what there is.

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

/// How often is looked whether the attempt is over.
const LOOK: Duration = Duration::from_millis(300);

/// Follows the attempt that was asked for; if none was, the one that runs or comes next, or of a job that has ended
/// the last one.
pub(super) async fn stream(app: &Arc<App>, request: &Request, seen: &Seen, asked: Option<u32>) -> Answer {
    let id = seen.job.id;
    let place = app
        .logs
        .place_to_follow()
        .ok_or_else(|| Refusal::busy(format!("{MAX_FOLLOWERS} others follow logs already")))?;
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
        // By this an `EventSource` knows that it need not come back.
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
    /// The number of the attempt, as it stands in ids of events.
    name: String,
    /// How far it has got.
    at: u64,
    changes: watch::Receiver<()>,
    /// Its connection.
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
                // First whether it is over, then what there is: so the last lines are there before the end is told.
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
                    // Where nothing tells of changes any more, the server stops.
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

    /// What is to be said at the end, if it has come.
    async fn look(&self) -> Option<Vec<u8>> {
        // Who cannot say now says so the next time.
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

    /// What has come since the last time.
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

/// Whether an attempt prints nothing any more. One that was given back goes on when the job is handed out again.
fn is_over(of: Attempt, seen: Option<&Seen>) -> bool {
    seen.is_none_or(|seen| seen.status.is_terminal() || seen.job.attempts >= of.number)
}
