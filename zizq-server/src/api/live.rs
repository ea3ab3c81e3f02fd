//! `GET /live`: what a page or a terminal shows, as server-sent events: once a second, and only what has changed.
//!
//! Whatever several viewers see is looked up and written once a second for all of them. A viewer has no queue: each of its
//! messages says what has changed since the one before, so one that reads slowly gets fewer of them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use bytes::Bytes;
use futures_util::Stream;
use http::Response;
use hyper::body::Frame;
use protocol::frame::{StreamFormat, sse};
use protocol::id::JobId;
use protocol::media::{Format, negotiate};
use protocol::name::QueueName;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::stream::{set_headers, write_event};
use super::{App, contents, look, not_acceptable, queues, stats};
use crate::access::Scope;
use crate::board::{QueueRow, Selection};
use crate::clock;
use crate::hash::HashMap;
use crate::http::closed;
use crate::http::memory::Peer;
use crate::http::query::Query;
use crate::http::reply::{Answer, Content, Refusal};
use crate::http::request::Request;
use crate::reader::Contents;

const EVENT_STREAM: &str = StreamFormat::EventStream.content_type();
/// The most viewers at a time.
const MAX_VIEWERS: usize = 256;
/// The most jobs that a viewer watches.
const MAX_JOBS: usize = 200;
/// How many queues are shown unless `limit` says otherwise.
const DEFAULT_QUEUES: usize = 100;

/// JSON that is written once and shared.
type Text = Arc<RawValue>;

/// What all viewers share.
pub(crate) struct Live {
    places: Arc<Semaphore>,
    seen: Mutex<Seen>,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_VIEWERS)), seen: Mutex::default() }
    }
}

/// What was looked up in one second.
#[derive(Default)]
struct Seen {
    tick: u64,
    totals: Option<Text>,
    /// By the link of the list.
    lists: HashMap<String, Rows>,
    jobs: HashMap<JobId, Text>,
}

type Rows = Arc<[(QueueName, Text)]>;

/// What a viewer wants to see.
struct Wanted {
    totals: bool,
    /// A list of queues, and the link that says the same.
    queues: Option<(Selection, String)>,
    jobs: Vec<JobId>,
    /// The queues that it may see.
    scope: Scope,
}

/// All that a viewer wants to see, at one moment.
#[derive(Default)]
struct Sight {
    totals: Option<Text>,
    queues: Option<Rows>,
    jobs: Vec<(JobId, Text)>,
}

pub(crate) async fn stream(app: &Arc<App>, request: &Request) -> Answer {
    if negotiate(request.accepted.as_deref(), &[(EVENT_STREAM, ())], ()).is_none() {
        return Err(not_acceptable(request, &[EVENT_STREAM]));
    }
    let mut query = request.query()?;
    let wanted = Wanted::read(&mut query, &request.scope)?;
    query.finish()?;
    let place = app.live.places.clone().try_acquire_owned();
    let place = place
        .map_err(|_| Refusal::busy(format!("too many live views (limit {MAX_VIEWERS}); try again later")))?;
    app.board.refresh().await?;
    // The first message includes everything that was confirmed before the call.
    let first = Seen::default().look(app, &wanted).await?;
    let viewer =
        Viewer { app: app.clone(), wanted, sent: Sent::default(), peer: request.peer.clone(), _place: place };
    let mut response = Response::new(Content::stream(viewer.frames(first)));
    set_headers(response.headers_mut(), EVENT_STREAM);
    Ok(response)
}

impl Wanted {
    fn read(query: &mut Query<'_>, scope: &Scope) -> Result<Self, Refusal> {
        let topics: Option<Vec<String>> = query.list("topics")?;
        let jobs: Option<Vec<JobId>> = query.list("jobs")?;
        let (mut totals, mut lists) = (topics.is_none() && jobs.is_none(), false);
        for topic in topics.iter().flatten() {
            match topic.as_str() {
                "totals" => totals = true,
                "queues" => lists = true,
                other => {
                    let other = protocol::error::excerpt(other);
                    let error = format!(
                        "topics: `{other}` is neither totals nor queues; jobs are named by id in jobs="
                    );
                    return Err(Refusal::invalid(error));
                }
            }
        }
        let mut jobs = jobs.unwrap_or_default();
        jobs.sort_unstable();
        jobs.dedup();
        if jobs.len() > MAX_JOBS {
            let many = jobs.len();
            return Err(Refusal::invalid(format!("jobs: {many} ids are too many (limit {MAX_JOBS})")));
        }
        let queues = if lists {
            let (mut selection, links) = queues::read_selection(query, true)?;
            selection.limit.get_or_insert(DEFAULT_QUEUES);
            selection.within = scope.clone();
            Some((selection, links.this))
        } else {
            None
        };
        Ok(Self { totals, queues, jobs, scope: scope.clone() })
    }
}

impl Seen {
    /// Looks at what is wanted, as far as nobody else has in this second.
    async fn look(&mut self, app: &App, wanted: &Wanted) -> Result<Sight, Refusal> {
        let mut sight = Sight::default();
        if wanted.totals {
            let totals = match &self.totals {
                Some(totals) => totals.clone(),
                None => self.totals.insert(text(&stats::shown(app, &wanted.scope).await?)?).clone(),
            };
            sight.totals = Some(totals);
        }
        if let Some((selection, link)) = &wanted.queues {
            let rows = match self.lists.get(link) {
                Some(rows) => rows.clone(),
                None => self.lists.entry(link.clone()).or_insert(rows(app, selection).await?).clone(),
            };
            sight.queues = Some(rows);
        }
        let unseen = wanted.jobs.iter().filter(|id| !self.jobs.contains_key(id)).copied().collect();
        self.jobs.extend(jobs(app, unseen, &wanted.scope).await?);
        sight.jobs = wanted.jobs.iter().filter_map(|id| Some((*id, self.jobs.get(id)?.clone()))).collect();
        Ok(sight)
    }
}

/// The queues of a list, with all that is known of them.
async fn rows(app: &App, selection: &Selection) -> Result<Rows, Refusal> {
    let selection = queues::with_oldest(app, selection.clone()).await?;
    let selected = app.board.select(selection).await;
    let oldest = queues::oldest_of(app, &selected.rows).await?;
    let row = |row: &QueueRow| {
        let name = row.state.name.clone();
        let shown = queues::detailed(row, oldest.get(&name).copied());
        Ok((name, text(&shown)?))
    };
    selected.rows.iter().map(row).collect()
}

/// These jobs, without payloads; null for one that does not exist in these queues.
async fn jobs(app: &App, ids: Vec<JobId>, scope: &Scope) -> Result<HashMap<JobId, Text>, Refusal> {
    if ids.is_empty() {
        return Ok(HashMap::default());
    }
    let none = text(&Value::Null)?;
    let mut texts: HashMap<JobId, Text> = ids.iter().map(|id| (*id, none.clone())).collect();
    let mut found = app.reader.jobs(ids).await?;
    found.retain(|seen| scope.covers(&seen.queue));
    let found: Vec<_> = found.into_iter().map(|seen| Contents::Lengths.of(seen)).collect();
    let holders = look::holders(app, &found).await?;
    for shown in found {
        let id = shown.seen.job.id;
        let mut json = Vec::with_capacity(1_024);
        contents::write(&mut json, Format::Json, &shown, holders.get(&id), false);
        let json = String::from_utf8(json).map_err(unwritable)?;
        texts.insert(id, RawValue::from_string(json).map_err(unwritable)?.into());
    }
    Ok(texts)
}

fn text(value: &Value) -> Result<Text, Refusal> {
    to_raw_value(value).map(Text::from).map_err(unwritable)
}

fn unwritable(error: impl std::fmt::Display) -> Refusal {
    Refusal::unavailable(format!("the view cannot be written: {error}"))
}

struct Viewer {
    app: Arc<App>,
    wanted: Wanted,
    sent: Sent,
    /// The connection.
    peer: Arc<Peer>,
    _place: OwnedSemaphorePermit,
}

impl Viewer {
    fn frames(mut self, first: Sight) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
        let heartbeat = Duration::from_millis(self.app.heartbeat_ms);
        let (mut ticks, mut closing) = (self.app.board.ticks(), self.app.closing.clone());
        stream! {
            let mut message = self.sent.message(&first);
            let mut silent_until = Instant::now() + heartbeat;
            loop {
                if let Some(bytes) = message.take() {
                    yield Ok(Frame::data(self.peer.piece(bytes)));
                    silent_until = Instant::now() + heartbeat;
                } else if Instant::now() >= silent_until {
                    yield Ok(Frame::data(Bytes::from_static(sse::HEARTBEAT)));
                    silent_until = Instant::now() + heartbeat;
                }
                let ticked = tokio::select! {
                    ticked = timeout_at(silent_until, ticks.changed()) => ticked,
                    () = closed(&mut closing) => break,
                };
                match ticked {
                    Ok(Ok(())) => {
                        let tick = *ticks.borrow_and_update();
                        // While the store is closed there is nothing new to see.
                        message = self.look(tick).await.ok().and_then(|sight| self.sent.message(&sight));
                    }
                    Ok(Err(_)) => break,
                    Err(_) => {}
                }
            }
        }
    }

    async fn look(&self, tick: u64) -> Result<Sight, Refusal> {
        if !self.wanted.scope.is_all() {
            // What it may see is nothing for the others, nor theirs for it.
            return Seen::default().look(&self.app, &self.wanted).await;
        }
        let mut seen = self.app.live.seen.lock().await;
        if seen.tick != tick {
            *seen = Seen { tick, ..Seen::default() };
        }
        seen.look(&self.app, &self.wanted).await
    }
}

/// What a viewer has been told.
#[derive(Default)]
struct Sent {
    totals: Option<Text>,
    order: Option<Vec<QueueName>>,
    rows: HashMap<QueueName, Text>,
    jobs: HashMap<JobId, Text>,
}

/// The data of an event: what has changed.
#[derive(Serialize)]
struct Message<'a> {
    /// In milliseconds since the Unix epoch.
    now: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    totals: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<QueueChanges<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    jobs: Vec<JobChange<'a>>,
}

#[derive(Serialize)]
struct QueueChanges<'a> {
    /// The names of all that are shown, if these or their order are not as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Vec<&'a QueueName>>,
    /// The queues that are not as before.
    rows: Vec<&'a RawValue>,
}

#[derive(Serialize)]
struct JobChange<'a> {
    id: JobId,
    job: &'a RawValue,
}

impl Sent {
    /// Writes what has changed, if anything has, and takes it as told.
    fn message(&mut self, sight: &Sight) -> Option<Vec<u8>> {
        let totals = sight
            .totals
            .as_ref()
            .filter(|totals| self.totals.as_ref().is_none_or(|told| differ(told, totals)));
        let queues = sight.queues.as_deref().and_then(|rows| self.queue_changes(rows));
        let mut jobs = Vec::new();
        for (id, job) in &sight.jobs {
            if self.jobs.get(id).is_none_or(|told| differ(told, job)) {
                jobs.push(JobChange { id: *id, job });
                self.jobs.insert(*id, job.clone());
            }
        }
        if totals.is_none() && queues.is_none() && jobs.is_empty() {
            return None;
        }
        self.totals.clone_from(&sight.totals);
        let message = Message { now: clock::now().wall, totals: totals.map(|text| &**text), queues, jobs };
        let mut bytes = Vec::with_capacity(1_024);
        write_event(&mut bytes, "live", &message);
        Some(bytes)
    }

    fn queue_changes<'a>(&mut self, rows: &'a [(QueueName, Text)]) -> Option<QueueChanges<'a>> {
        let is_same =
            self.order.as_ref().is_some_and(|told| told.iter().eq(rows.iter().map(|(name, _)| name)));
        let is_new =
            |(name, row): &&(QueueName, Text)| self.rows.get(name).is_none_or(|told| differ(told, row));
        let changed: Vec<&'a RawValue> = rows.iter().filter(is_new).map(|(_, row)| &**row).collect();
        if is_same && changed.is_empty() {
            return None;
        }
        let order = (!is_same).then(|| rows.iter().map(|(name, _)| name).collect());
        self.order = Some(rows.iter().map(|(name, _)| name.clone()).collect());
        self.rows = rows.iter().cloned().collect();
        Some(QueueChanges { order, rows: changed })
    }
}

fn differ(told: &Text, new: &Text) -> bool {
    !Arc::ptr_eq(told, new) && told.get() != new.get()
}
