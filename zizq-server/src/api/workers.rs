//! `GET /workers`, `POST /workers/{stream}/drain`, `POST /workers/drain`.

use std::borrow::Cow;

use protocol::error::excerpt;
use protocol::name::QueueName;
use serde_json::{Value, json};

use super::App;
use super::listing::{Listing, with_param};
use super::queues::show_release;
use super::stats::one_of;
use crate::engine::command::streams::{DrainWorkers, ListWorkers, WorkerState};
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;

/// How many digits of a stream's id are shown.
const SHOWN_OF_STREAM: usize = 12;

pub(crate) async fn list(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let queue: Option<QueueName> = query.value("queue")?;
    let contains = query.text("contains").filter(|text| !text.is_empty()).map(Cow::into_owned);
    let order = query.read("order", |text| one_of(text, &WORKER_ORDERS))?.unwrap_or(WorkerOrder::ConnectedAt);
    let listing = Listing::read(&mut query)?;
    query.finish()?;
    let mut workers = app.engine.ask(ListWorkers).await?;
    let takes = |worker: &WorkerState| {
        let takes = |queue| worker.queues.as_ref().is_none_or(|queues| queues.contains(queue));
        queue.as_ref().is_none_or(takes)
    };
    let is_called = |worker: &WorkerState| {
        let contains_it = |name: &String| contains.as_ref().is_none_or(|part| name.contains(part));
        contains.is_none() || worker.about.worker.as_ref().is_some_and(contains_it)
    };
    workers.retain(|worker| takes(worker) && is_called(worker));
    let mut path = "/workers".to_owned();
    path = queue.iter().fold(path, |path, queue| with_param(&path, "queue", queue));
    path = contains.iter().fold(path, |path, part| with_param(&path, "contains", part));
    if order != WorkerOrder::ConnectedAt {
        let name = WORKER_ORDERS.iter().find(|(_, other)| *other == order).map_or("", |(name, _)| *name);
        path = with_param(&path, "order", name);
    }
    let key = |worker: &WorkerState| {
        let by = match order {
            WorkerOrder::ConnectedAt => format!("{:013}", worker.connected_at),
            WorkerOrder::InFlight => format!("{:013}", worker.in_flight),
            WorkerOrder::Worker => worker.about.worker.clone().unwrap_or_default(),
        };
        format!("{by}-{}", name_of(worker))
    };
    listing.answer(request, (&path, "workers"), workers, key, worker)
}

/// What the list of workers may be ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkerOrder {
    ConnectedAt,
    InFlight,
    Worker,
}

const WORKER_ORDERS: [(&str, WorkerOrder); 3] = [
    ("connected_at", WorkerOrder::ConnectedAt),
    ("in_flight", WorkerOrder::InFlight),
    ("worker", WorkerOrder::Worker),
];

pub(crate) async fn drain_stream(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let stream = request.params.first().map(String::as_str).unwrap_or_default();
    let is_name = stream.len() == SHOWN_OF_STREAM && stream.bytes().all(|byte| byte.is_ascii_hexdigit());
    let drain = DrainWorkers::Stream(stream.to_ascii_lowercase());
    let streams = if is_name { app.engine.ask(drain).await? } else { 0 };
    drained(streams, || format!("no stream is called `{}`; GET /workers lists them", excerpt(stream)))
}

pub(crate) async fn drain_worker(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let worker = query.text("worker").filter(|name| !name.is_empty()).map(Cow::into_owned);
    query.finish()?;
    let worker = worker.ok_or_else(|| Refusal::invalid("worker: the name of a worker is missing"))?;
    let streams = app.engine.ask(DrainWorkers::Named(worker.clone())).await?;
    drained(streams, || {
        format!("no worker called `{}` is connected; GET /workers lists them", excerpt(&worker))
    })
}

fn drained(streams: usize, missing: impl FnOnce() -> String) -> Answer {
    if streams == 0 { Err(Refusal::not_found(missing())) } else { Ok(reply::no_content()) }
}

/// The start of the stream id: enough to tell streams apart and to find one in its worker's log. The full id would let
/// others take over its jobs.
fn name_of(worker: &WorkerState) -> String {
    let mut stream = format!("{:032x}", worker.stream);
    stream.truncate(SHOWN_OF_STREAM);
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
