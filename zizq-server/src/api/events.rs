//! `GET /events`: what happens to jobs, as server-sent events.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_stream::stream;
use bytes::Bytes;
use http::Response;
use hyper::body::Frame;
use protocol::access::Verb;
use protocol::frame::{StreamFormat, sse};
use protocol::job::Status;
use protocol::media::negotiate;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::filters;
use super::stream::{set_headers, write_event};
use super::{App, admit, not_acceptable};
use crate::access::Scope;
use crate::http::closed;
use crate::http::reply::{Answer, Content, Refusal};
use crate::http::request::Request;
use crate::job::event::{Event, ProgressReport, StatusChange};
use crate::job::filter::Filter;
use crate::run::events::{Heard, Listening};

const EVENT_STREAM: &str = StreamFormat::EventStream.content_type();
/// The most listeners at a time. Each has a thread.
const MAX_LISTENERS: usize = 64;
/// The most pieces that wait for a reader, and their approximate size in bytes.
const MAX_PIECES: usize = 8;
const PIECE_BYTES: usize = 64 * 1024;

pub(crate) fn stream(app: &Arc<App>, request: &Request) -> Answer {
    if negotiate(request.accepted.as_deref(), &[(EVENT_STREAM, ())], ()).is_none() {
        return Err(not_acceptable(request, &[EVENT_STREAM]));
    }
    let mut query = request.query()?;
    let filter = filters::read_listed(&mut query)?;
    query.finish()?;
    filter.queues.iter().flatten().try_for_each(|queue| admit::covered(request, Verb::Read, queue))?;
    // Queues come and go while it listens.
    let scope = request.scope.clone();
    if app.events.listeners() >= MAX_LISTENERS {
        return Err(Refusal::busy(format!("too many listeners (limit {MAX_LISTENERS}); try again later")));
    }
    let listening = app.events.listen();
    let (sender, mut pieces) = mpsc::channel(MAX_PIECES);
    let listener = listening.listener.clone();
    let encode = move || {
        while let Some(heard) = listener.next() {
            for piece in pieces_of(&heard, &filter, &scope) {
                if sender.blocking_send(piece).is_err() {
                    return;
                }
            }
        }
    };
    let started = thread::Builder::new().name("events".to_owned()).spawn(encode);
    started.map_err(|e| Refusal::unavailable(format!("cannot start a thread for this listener: {e}")))?;
    let peer = request.peer.clone();
    let (heartbeat, mut closing) = (Duration::from_millis(app.heartbeat_ms), app.closing.clone());
    let frames = stream! {
        let _listening: Listening = listening;
        // Tells the client that it misses nothing from here on.
        yield Ok(Frame::data(Bytes::from_static(sse::HEARTBEAT)));
        loop {
            tokio::select! {
                piece = timeout(heartbeat, pieces.recv()) => match piece {
                    Ok(Some(piece)) => yield Ok(Frame::data(peer.piece(piece))),
                    Ok(None) => break,
                    Err(_) => yield Ok(Frame::data(Bytes::from_static(sse::HEARTBEAT))),
                },
                () = closed(&mut closing) => break,
            }
        }
    };
    let mut response = Response::new(Content::stream(frames));
    set_headers(response.headers_mut(), EVENT_STREAM);
    Ok(response)
}

fn pieces_of(heard: &Heard, filter: &Filter, scope: &Scope) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    let mut write = |event: &str, data: &serde_json::Value| {
        write_event(&mut piece, event, data);
        if piece.len() >= PIECE_BYTES {
            pieces.push(std::mem::take(&mut piece));
        }
    };
    match heard {
        Heard::Lagged(missed) => write("lagged", &json!({"missed": missed})),
        Heard::Events(events) => {
            for event in events.iter().filter(|event| is_asked_for(event, filter, scope)) {
                match event {
                    Event::Status(change) => write("job", &shown(change)),
                    Event::Progress(report) => write("progress", &shown_progress(report)),
                }
            }
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// Whether the filter accepts the event. For a deleted job the last status counts, otherwise the new one.
fn is_asked_for(event: &Event, filter: &Filter, scope: &Scope) -> bool {
    match event {
        Event::Status(StatusChange { id, queue, job_type, from, to, .. }) => {
            to.or(*from).is_some_and(|status| filter.wants_status(status))
                && filter.lists(id, queue, job_type)
                && scope.covers(queue)
        }
        Event::Progress(ProgressReport { id, queue, job_type, .. }) => {
            filter.wants_status(Status::InFlight) && filter.lists(id, queue, job_type) && scope.covers(queue)
        }
    }
}

fn shown_progress(
    ProgressReport { id, queue, job_type, at, progress }: &ProgressReport,
) -> serde_json::Value {
    let mut shown = json!({"id": id, "queue": queue, "type": job_type, "at": at});
    if let Some(members) = shown.as_object_mut() {
        members.extend(progress.share.map(|share| ("progress".to_owned(), json!(share))));
        members.extend(progress.message.iter().map(|message| ("message".to_owned(), json!(message))));
    }
    shown
}

fn shown(event: &StatusChange) -> serde_json::Value {
    let name = |status: Option<Status>| status.map(Status::as_str);
    let mut shown = json!({
        "id": event.id, "queue": event.queue, "type": event.job_type, "from": name(event.from),
        "to": name(event.to), "at": event.at, "priority": event.priority, "attempts": event.attempts,
    });
    if let (Some(error), Some(members)) = (&event.error, shown.as_object_mut()) {
        members.insert("last_error".to_owned(), json!(error));
    }
    shown
}
