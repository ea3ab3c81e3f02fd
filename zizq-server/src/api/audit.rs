//! The audit trail: `GET /audit`, and the entries of calls that change what others rely on, or that were refused.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use percent_encoding::percent_decode_str;
use protocol::access::Verb;
use protocol::error::{Code, excerpt};
use protocol::page::{MAX_PAGE, Pages};
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use super::listing::with_param;
use super::route::{Call, Right, Route};
use crate::access::Access;
use crate::clock;
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::{Notes, Request};
use crate::logs::{LogError, Logs};

const DEFAULT_PAGE: u64 = 100;
/// Each is looked for in each entry.
const MAX_WORDS: usize = 16;
/// How much of a path and its filters is kept, in bytes.
const MAX_TARGET: usize = 1_024;
/// The most refusals of unknown callers that are written down a minute: whoever guesses must not be able to push out the rest.
const MAX_STRANGERS: u64 = 60;

/// An entry that is being made. It is written when dropped.
pub(super) struct Entry {
    logs: Logs,
    /// Its place in the queue to the store, once it has one.
    room: Option<OwnedSemaphorePermit>,
    at: u64,
    since: Instant,
    members: Map<String, Value>,
    notes: Arc<Notes>,
}

impl Entry {
    /// Begins the entry of a call, if it is one that is written down.
    pub(super) fn of_call(app: &App, request: &Request, route: &Route) -> Option<Self> {
        let is_kept = matches!(route.right, Right::To(Verb::Operate | Verb::Configure | Verb::Admin))
            || route.path == "/ui/session";
        // A page that shows the trail reads it every few seconds: it would push out what it shows.
        (is_kept && route.call != Call::ListAudit).then(|| Self::begin(app, request))
    }

    /// Begins the entry of a refusal, if it is one that is written down.
    pub(super) fn of_refusal(app: &App, request: &Request, answer: &Answer) -> Option<Self> {
        let is_kept = match answer.as_ref().err()?.code() {
            Code::Forbidden => true,
            Code::Unauthorized => app.access.may_note_stranger(MAX_STRANGERS),
            _ => false,
        };
        is_kept.then(|| Self::begin(app, request))
    }

    fn begin(app: &App, request: &Request) -> Self {
        let at = clock::now().wall;
        let mut members = Map::new();
        members.insert("at".to_owned(), json!(at));
        members.insert("who".to_owned(), who(request.access()));
        members.extend(request.remote.map(|remote| ("remote".to_owned(), json!(remote.ip().to_string()))));
        let via = request.header("zizq-via").filter(|via| matches!(&**via, "ui" | "top" | "mcp"));
        members.insert("via".to_owned(), json!(via.as_deref().unwrap_or("api")));
        members.insert("action".to_owned(), json!(request.parts.method.as_str()));
        let target = request.parts.uri.path_and_query().map_or("", |target| target.as_str());
        let mut target = target.to_owned();
        target.truncate(target.floor_char_boundary(MAX_TARGET));
        members.insert("target".to_owned(), json!(target));
        let (logs, notes) = (app.logs.clone(), request.notes());
        Self { logs, room: None, at, since: Instant::now(), members, notes }
    }

    /// Adds how the call was answered.
    pub(super) fn answered(&mut self, answer: &Answer) {
        let (status, error) = match answer {
            Ok(response) => (response.status().as_u16(), None),
            Err(refusal) => (refusal.code().status(), Some(refusal.error())),
        };
        self.members.insert("status".to_owned(), json!(status));
        if let Some(Became(who)) = answer.as_ref().ok().and_then(|response| response.extensions().get()) {
            self.members.insert("who".to_owned(), who.clone());
        }
        self.members.extend(error.map(|error| ("error".to_owned(), json!(excerpt(error)))));
    }

    /// Writes it. The caller waits while too many wait to be stored.
    pub(super) async fn finish(mut self) {
        self.room = self.logs.audit_room().await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut members = std::mem::take(&mut self.members);
        members.extend(self.notes.take());
        let took_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        members.insert("took_ms".to_owned(), json!(took_ms));
        write(&self.logs, self.at, &Value::Object(members), self.room.take());
    }
}

/// Who the caller turned out to be: in the answer to a log-in.
#[derive(Clone)]
pub(super) struct Became(pub Value);

/// Writes an entry. Without room it is on its way as soon as there is some: whoever has made it has gone.
fn write(logs: &Logs, at: u64, entry: &Value, room: Option<OwnedSemaphorePermit>) {
    tracing::info!(target: "audit", "{entry}");
    let entry = entry.to_string().into_bytes();
    if let Some(room) = room.or_else(|| logs.audit_room_now()) {
        logs.audit(at, entry, room);
        return;
    }
    let logs = logs.clone();
    tokio::spawn(async move {
        if let Some(room) = logs.audit_room().await {
            logs.audit(at, entry, room);
        }
    });
}

/// Writes down that the server does something by itself.
pub(crate) async fn of_server(logs: &Logs, action: &str) {
    let at = clock::now().wall;
    let entry = json!({"at": at, "who": {"kind": "server"}, "action": action, "version": crate::SERVER});
    write(logs, at, &entry, logs.audit_room().await);
}

/// Who calls, as far as it is known.
pub(super) fn who(access: Option<&Access>) -> Value {
    let Some(access) = access else { return json!({"kind": "unknown"}) };
    let identity = &access.identity;
    let mut who = json!({"kind": identity.kind.as_str()});
    if let Some(members) = who.as_object_mut() {
        let texts = [("id", &identity.id), ("name", &identity.name)];
        let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
        members.extend(texts.map(|(name, text)| (name.to_owned(), json!(text))));
    }
    who
}

pub(crate) async fn list(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let from = query.number("from", 0, u64::MAX)?;
    let limit = query.number("limit", 1, MAX_PAGE)?.unwrap_or(DEFAULT_PAGE);
    let contains = query.text("contains").filter(|text| !text.trim().is_empty()).map(Cow::into_owned);
    query.finish()?;
    let words = contains.iter().flat_map(|text| text.split_whitespace()).map(str::to_lowercase);
    let words: BTreeSet<String> = words.collect();
    if words.len() > MAX_WORDS {
        return Err(Refusal::invalid(format!(
            "contains: at most {MAX_WORDS} words can be searched for at a time"
        )));
    }
    let most = |n| usize::try_from(n).unwrap_or(usize::MAX);
    let page = app.logs.read_audit(from, most(if words.is_empty() { limit } else { MAX_PAGE })).await?;
    let (more, looked_through) = (page.more, page.entries.len());
    let search = move || search(page.entries, &words, most(limit));
    let found = if contains.is_none() {
        search()
    } else {
        // Many entries take long enough to hold up others.
        tokio::task::spawn_blocking(search).await.map_err(|_| LogError::Stopped)?
    };
    let path = with_param("/audit", "limit", &limit.to_string());
    let path = contains.iter().fold(path, |path, text| with_param(&path, "contains", text));
    let link = |from: u64| with_param(&path, "from", &from.to_string());
    let next = found.last.filter(|_| more || found.looked_at < looked_through).map(link);
    let pages = Pages { this: from.map_or_else(|| path.clone(), link), next, prev: None };
    let body = match contains {
        Some(_) => json!({"entries": found.entries, "pages": pages, "looked_at": found.looked_at}),
        None => json!({"entries": found.entries, "pages": pages}),
    };
    Ok(reply::ok(request.format, &body))
}

/// The entries of a part of the trail that have been found.
struct Found {
    entries: Vec<Value>,
    looked_at: usize,
    /// The number of the last one that was looked at.
    last: Option<u64>,
}

/// Looks for entries with all of these words, until there are enough.
fn search(all: Vec<(u64, Value)>, words: &BTreeSet<String>, enough: usize) -> Found {
    let mut found = Found { entries: Vec::new(), looked_at: 0, last: None };
    for (number, entry) in all {
        (found.looked_at, found.last) = (found.looked_at + 1, Some(number));
        found.entries.extend(says(&entry, words).then_some(entry));
        if found.entries.len() == enough {
            break;
        }
    }
    found
}

/// Whether all of these words, in small letters, are in what an entry says of who has done what, from where, and how it was
/// answered.
fn says(entry: &Value, words: &BTreeSet<String>) -> bool {
    if words.is_empty() {
        return true;
    }
    let who = ["kind", "id", "name"].map(|name| entry.get("who").and_then(|who| who.get(name)));
    let call = ["remote", "via", "action", "target", "until", "status", "error"].map(|name| entry.get(name));
    let mut text = String::new();
    for value in who.into_iter().chain(call).flatten() {
        match value.as_str() {
            Some(said) => text.push_str(said),
            None => text.push_str(&value.to_string()),
        }
        // No word has a space in it.
        text.push(' ');
    }
    // As it was sent, and as it was meant.
    let target = entry.get("target").and_then(Value::as_str).unwrap_or_default();
    text.push_str(&percent_decode_str(target).decode_utf8_lossy());
    let text = text.to_lowercase();
    words.iter().all(|word| text.contains(word))
}
