//! Calls that change all jobs that match a filter: their parameters, dry runs, and their progress as events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use bytes::Bytes;
use futures_util::Stream;
use http::Response;
use hyper::body::Frame;
use protocol::access::Verb;
use protocol::error::Code;
use protocol::frame::{StreamFormat, sse};
use protocol::media::{Format, negotiate};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::filters::Asked;
use super::stream::{set_headers, write_event};
use super::{App, change, contents, filters, not_acceptable};
use crate::access::Scope;
use crate::engine::command::jobs::Change;
use crate::http::closed;
use crate::http::reply::{self, Answer, Content, Refusal};
use crate::http::request::{Notes, Request};
use crate::reader::{BulkChange, Changes, Matches, Progress, Shown};

/// How often the progress is told.
const PACE: Duration = Duration::from_millis(250);

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Whole(Format),
    /// Events while the call is carried out.
    Live,
}

const EVENT_STREAM: &str = StreamFormat::EventStream.content_type();
const OFFERS: [(&str, Shape); 3] = [
    ("application/msgpack", Shape::Whole(Format::MessagePack)),
    ("application/json", Shape::Whole(Format::Json)),
    (EVENT_STREAM, Shape::Live),
];

/// Chooses the form of the answer.
///
/// # Errors
/// 406 if the client accepts none.
pub(super) fn shape(request: &Request) -> Result<Shape, Refusal> {
    let shape = negotiate(request.accepted.as_deref(), &OFFERS, Shape::Whole(Format::Json));
    shape.ok_or_else(|| not_acceptable(request, &OFFERS.map(|(media_type, _)| media_type)))
}

/// What the answer says of the jobs that were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// Their number, as this member.
    Number(&'static str),
    /// Their number, and those that could not be changed because they are in flight.
    Bindings,
}

/// The parameters of a call.
struct Bulk {
    filter: Asked,
    dry_run: bool,
    limit: Option<u64>,
}

impl Bulk {
    fn read(request: &Request) -> Result<Self, Refusal> {
        let mut query = request.query()?;
        let filter = filters::read_for_change(&mut query)?;
        let dry_run = query.flag("dry_run")?;
        if query.peek("limit").is_some_and(str::is_empty) {
            return Err(Refusal::invalid("limit: it is empty; give it a value, or leave it out"));
        }
        let limit = query.number("limit", 1, u64::MAX)?;
        query.finish()?;
        Ok(Self { filter, dry_run, limit })
    }
}

/// Changes all jobs that match the filters of the request, or says which these are.
pub(super) async fn answer(app: &Arc<App>, request: &Request, change: Change, report: Report) -> Answer {
    let Bulk { filter, dry_run, limit } = Bulk::read(request)?;
    let filter = filter.within(app, request).await?;
    change::check_statuses(&filter, &change)?;
    change::check_binding(app, &change).await?;
    // An empty change only counts the matches.
    let changes_nothing = matches!(&change, Change::Patch(patch) if patch.is_empty());
    let kind = match (dry_run, changes_nothing) {
        (true, _) => Kind::DryRun,
        (false, true) => Kind::Count,
        (false, false) => Kind::Real,
    };
    let change = BulkChange { caller: request.caller(), filter, change, limit };
    let payloads = request.scope_of(Verb::Payload);
    let notes = request.notes();
    change.filter.until.iter().for_each(|until| notes.add("until", json!(until)));
    let call = Call { app: app.clone(), change, kind, report, payloads, notes, progress: Arc::default() };
    match shape(request)? {
        Shape::Whole(format) => Ok(reply::ok(format, &call.carry_out().await?)),
        Shape::Live => {
            let mut response = Response::new(Content::stream(call.frames()));
            set_headers(response.headers_mut(), EVENT_STREAM);
            Ok(response)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Real,
    /// Says which jobs would be changed.
    DryRun,
    /// Says how many would be.
    Count,
}

#[derive(Clone)]
struct Call {
    app: Arc<App>,
    change: BulkChange,
    kind: Kind,
    report: Report,
    /// The queues whose payloads the caller may see.
    payloads: Scope,
    /// For the audit trail.
    notes: Arc<Notes>,
    progress: Arc<Progress>,
}

/// Removes the logs of deleted jobs in the end, however that comes.
struct Sweep(Arc<App>);

impl Drop for Sweep {
    fn drop(&mut self) {
        self.0.logs.sweep();
    }
}

impl Call {
    /// Returns the body of the answer.
    async fn carry_out(self) -> Result<Value, Refusal> {
        let Self { app, change, kind, report, payloads, notes, progress } = self;
        if kind != Kind::Real {
            let (limit, is_of_all) = (change.limit, is_of_all(&change));
            let matches = app.reader.would_change(change, &progress).await?;
            notes.count(matches.count, 0);
            notes.add("until", json!(matches.until));
            return Ok(of_matches(matches, kind, report, limit, is_of_all, &payloads));
        }
        let _sweep = matches!(change.change, Change::Delete).then(|| Sweep(app.clone()));
        let (is_limited, made) = (change.limit.is_some(), change.change.clone());
        let changes = app.reader.change(change, &progress).await;
        notes.count(progress.figures().matched, progress.figures().changed);
        let refused = |refusal: Refusal| refusal.after(progress.figures().changed);
        let changes = changes.map_err(|error| refused(error.into()))?;
        change::create_budgets(&app, made).await.map_err(|error| refused(error.into()))?;
        Ok(of_changes(changes, report, is_limited))
    }

    fn frames(self) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
        let heartbeat = Duration::from_millis(self.app.heartbeat_ms);
        let (mut closing, progress) = (self.app.closing.clone(), self.progress.clone());
        stream! {
            // Closing the request drops this, which ends the work.
            let mut work = JoinSet::new();
            work.spawn(self.carry_out());
            let mut pace = interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut told, mut silent_until, mut ends) = (None, Instant::now(), false);
            loop {
                tokio::select! {
                    biased;
                    ended = work.join_next() => {
                        let ended = ended.and_then(Result::ok).unwrap_or_else(|| Err(aborted()));
                        yield Ok(event("progress", &json!(progress.figures())));
                        yield Ok(last(ended, ends.then(|| progress.figures().changed)));
                        break;
                    }
                    _ = pace.tick() => {
                        let figures = Some(progress.figures());
                        if figures != told {
                            yield Ok(event("progress", &json!(figures)));
                            (told, silent_until) = (figures, Instant::now() + heartbeat);
                        } else if Instant::now() >= silent_until {
                            yield Ok(Frame::data(Bytes::from_static(sse::HEARTBEAT)));
                            silent_until = Instant::now() + heartbeat;
                        }
                    }
                    () = closed(&mut closing), if !ends => {
                        ends = true;
                        progress.stop();
                    }
                }
            }
        }
    }
}

/// The event that ends the stream. `shutdown`: how many jobs were changed until the server told the call to end.
fn last(ended: Result<Value, Refusal>, shutdown: Option<u64>) -> Frame<Bytes> {
    match (ended, shutdown) {
        (Ok(body), _) => event("done", &body),
        (Err(_), Some(changed)) => {
            let error = "the server is shutting down; some jobs may not have been changed yet";
            event("error", &Refusal::new(Code::Draining, error).after(changed).body())
        }
        (Err(refusal), None) => event("error", &refusal.body()),
    }
}

fn aborted() -> Refusal {
    Refusal::unavailable("internal error: the change was aborted; try again")
}

fn event<T: serde::Serialize>(name: &str, data: &T) -> Frame<Bytes> {
    let mut out = Vec::new();
    write_event(&mut out, name, data);
    Frame::data(out.into())
}

/// Whether the call means all jobs, which a dry run says in words.
fn is_of_all(BulkChange { filter, change, .. }: &BulkChange) -> bool {
    filter.is_of_all() && !matches!(change, Change::Retry { .. })
}

fn of_changes(Changes { changed, in_flight, more }: Changes, report: Report, is_limited: bool) -> Value {
    let mut body = match report {
        Report::Number(member) => json!({member: changed}),
        Report::Bindings => json!({"changed": changed, "blocked": in_flight}),
    };
    if let (true, Some(members)) = (is_limited, body.as_object_mut()) {
        members.insert("more".to_owned(), json!(more));
    }
    body
}

fn of_matches(
    matches: Matches,
    kind: Kind,
    report: Report,
    limit: Option<u64>,
    is_of_all: bool,
    payloads: &Scope,
) -> Value {
    let Matches { count, until, sample } = matches;
    let mut body = Map::new();
    let mut add = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    // Which bindings would be different is not known before they are changed.
    if let Report::Number(member) = report {
        add(member, json!(limit.map_or(count, |limit| count.min(limit))));
    }
    if let Some(limit) = limit {
        add("more", json!(count > limit));
    }
    if kind == Kind::DryRun {
        add("matched", json!(count));
        add("until", json!(until));
        let shown = |shown: &Shown| contents::value(shown, !payloads.covers(&shown.seen.queue));
        add("sample", sample.iter().map(shown).collect());
        if is_of_all && report != Report::Bindings {
            add("scope", json!("all jobs, because no filter is given"));
        }
    }
    body.into()
}
