//! `GET /queues`, `GET /queues/{q}`, pause and resume, `GET /workers`.

use protocol::job::Status;
use protocol::name::QueueName;
use protocol::synonyms;
use serde_json::{Value, json};

use super::App;
use super::listing::Listing;
use crate::engine::command::queues::{ForgetQueue, LastRelease, ListQueues, PauseQueue, QueueState};
use crate::engine::command::streams::{ListWorkers, WorkerState};
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;

/// The most names that are compared to suggest the intended queue.
const MAX_NAMES: usize = 1_000;

pub(crate) async fn list(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let details = query.flag("details")?;
    let listing = Listing::read(&mut query)?;
    query.finish()?;
    if !details {
        let names = app.reader.queues().await?;
        return listing
            .answer(request, ("/queues", "queues"), names, ToString::to_string, |name| json!(name));
    }
    let states = app.engine.ask(ListQueues { names: None }).await?;
    let oldest = app.reader.oldest_ready(None).await?;
    let show = |state: &QueueState| queue(state, oldest.get(&state.name));
    listing.answer(request, ("/queues?details=true", "queues"), states, |state| state.name.to_string(), show)
}

pub(crate) async fn one(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let name = name(request)?;
    let names = Some(vec![name.clone()]);
    let state = app.engine.ask(ListQueues { names }).await?.pop();
    answer(app, request, state.unwrap_or_else(|| QueueState::empty(name))).await
}

pub(crate) async fn pause(app: &App, request: &Request, paused: bool) -> Answer {
    request.no_query()?;
    let state = app.engine.ask(PauseQueue { queue: name(request)?, paused }).await?;
    answer(app, request, state).await
}

pub(crate) async fn forget(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    app.engine.ask(ForgetQueue(name(request)?)).await?;
    Ok(reply::no_content())
}

async fn answer(app: &App, request: &Request, state: QueueState) -> Answer {
    let oldest = app.reader.oldest_ready(Some(std::slice::from_ref(&state.name))).await?;
    let mut shown = queue(&state, oldest.get(&state.name));
    if let (Some(note), Some(members)) = (note(app, &state).await?, shown.as_object_mut()) {
        members.insert("note".to_owned(), json!(note));
    }
    Ok(reply::ok(request.format, &shown))
}

/// Returns a note about a queue without jobs, whose name may be a typo.
async fn note(app: &App, state: &QueueState) -> Result<Option<String>, Refusal> {
    if state.counts.stored.total() > 0 {
        return Ok(None);
    }
    let names = app.reader.queues().await?;
    let names: Vec<&str> = names.iter().take(MAX_NAMES).map(QueueName::as_str).collect();
    let meant = synonyms::suggest(&state.name, &names).map(|meant| format!("; did you mean `{meant}`?"));
    Ok(match (state.paused, meant) {
        (false, None) => None,
        (false, Some(meant)) => Some(format!("no job is in this queue{meant}")),
        (true, meant) => Some(format!(
            "no job is in this queue; it stays paused until it is resumed, or deleted with DELETE{}",
            meant.unwrap_or_default()
        )),
    })
}

fn name(request: &Request) -> Result<QueueName, Refusal> {
    let text = request.params.first().map(String::as_str).unwrap_or_default();
    QueueName::new(text).map_err(|e| Refusal::not_found(format!("no queue has this name: {e}")))
}

fn queue(state: &QueueState, oldest_ready_at: Option<&u64>) -> Value {
    let counts: serde_json::Map<String, Value> = Status::ALL
        .into_iter()
        .map(|status| (status.as_str().to_owned(), json!(state.counts.of(status))))
        .collect();
    let mut shown =
        json!({"name": state.name, "paused": state.paused, "counts": counts, "workers": state.workers});
    // The store was read a moment later than the counts.
    let oldest_ready_at = oldest_ready_at.filter(|_| state.counts.of(Status::Ready) > 0);
    if let (Some(at), Some(members)) = (oldest_ready_at, shown.as_object_mut()) {
        members.insert("oldest_ready_at".to_owned(), json!(at));
    }
    show_release(&mut shown, state.last_release.as_deref());
    shown
}

/// Adds the reason of the last release, if a worker gave one.
fn show_release(shown: &mut Value, release: Option<&LastRelease>) {
    let (Some(LastRelease { reason, at, queue, worker }), Some(members)) = (release, shown.as_object_mut())
    else {
        return;
    };
    let mut release = json!({"reason": reason, "at": at, "queue": queue});
    if let (Some(name), Some(members)) = (worker, release.as_object_mut()) {
        members.insert("worker".to_owned(), json!(name));
    }
    members.insert("last_release".to_owned(), release);
}

pub(crate) async fn workers(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let listing = Listing::read(&mut query)?;
    query.finish()?;
    let workers = app.engine.ask(ListWorkers).await?;
    // Sort by time of connection.
    let key = |worker: &WorkerState| format!("{:013}-{}", worker.connected_at, name_of(worker));
    listing.answer(request, ("/workers", "workers"), workers, key, worker)
}

/// The start of the stream id: enough to tell streams apart and to find one in its worker's log. The full id would let
/// others take over its jobs.
fn name_of(worker: &WorkerState) -> String {
    let mut stream = format!("{:032x}", worker.stream);
    stream.truncate(12);
    stream
}

fn worker(worker: &WorkerState) -> Value {
    let mut shown = json!({
        "stream": name_of(worker),
        "format": worker.about.format,
        "queues": worker.queues.as_deref().unwrap_or_default(),
        "prefetch": worker.prefetch,
        "in_flight": worker.in_flight,
        "connected_at": worker.connected_at,
    });
    if let Some(members) = shown.as_object_mut() {
        members.extend(worker.about.worker.iter().map(|name| ("worker".to_owned(), json!(name))));
        members.extend(worker.about.remote.iter().map(|peer| ("remote".to_owned(), json!(peer.to_string()))));
    }
    show_release(&mut shown, worker.last_release.as_deref());
    shown
}
