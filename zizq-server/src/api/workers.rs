//! `GET /workers`, `POST /workers/{stream}/drain`, `POST /workers/drain`, `POST /workers/{stream}/disconnect`.

use std::borrow::Cow;

use protocol::access::Verb;
use protocol::error::excerpt;
use protocol::name::QueueName;
use serde_json::{Value, json};

use super::listing::{Listing, with_param};
use super::queues::show_release;
use super::stats::one_of;
use super::{App, admit, filters};
use crate::access::Scope;
use crate::engine::command::streams::{
    CutOff, DrainWorkers, ListWorkers, STREAM_NAME_LEN, WorkerState, stream_name,
};
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;

/// No worker holds more jobs.
const MOST_IN_FLIGHT: usize = 9_999_999_999_999;

pub(crate) async fn list(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let queue: Option<QueueName> = query.value("queue")?;
    let contains = query.text("contains").filter(|text| !text.is_empty()).map(Cow::into_owned);
    let name = filters::read_worker(&mut query);
    let order = query.read("order", |text| one_of(text, &WORKER_ORDERS))?.unwrap_or(WorkerOrder::ConnectedAt);
    let listing = Listing::read(&mut query)?;
    query.finish()?;
    if let Some(queue) = &queue {
        admit::covered(request, Verb::Read, queue)?;
    }
    let scope = &request.scope;
    let mut workers = app.engine.ask(ListWorkers).await?;
    workers.retain(|worker| worker.queues.as_ref().is_none_or(|all| all.iter().any(|one| scope.covers(one))));
    let takes = |worker: &WorkerState| {
        let takes = |queue| worker.queues.as_ref().is_none_or(|queues| queues.contains(queue));
        queue.as_ref().is_none_or(takes)
    };
    let is_called = |worker: &WorkerState| {
        let contains_it = |name: &String| contains.as_ref().is_none_or(|part| name.contains(part));
        (contains.is_none() || worker.about.worker.as_ref().is_some_and(contains_it))
            && name.as_ref().is_none_or(|name| worker.about.is_called(name, worker.stream))
    };
    workers.retain(|worker| takes(worker) && is_called(worker));
    let mut path = "/workers".to_owned();
    path = queue.iter().fold(path, |path, queue| with_param(&path, "queue", queue));
    path = contains.iter().fold(path, |path, part| with_param(&path, "contains", part));
    path = name.iter().fold(path, |path, name| with_param(&path, "worker", name));
    if order != WorkerOrder::ConnectedAt {
        let name = WORKER_ORDERS.iter().find(|(_, other)| *other == order).map_or("", |(name, _)| *name);
        path = with_param(&path, "order", name);
    }
    let key = |worker: &WorkerState| {
        let by = match order {
            // Many connect within a millisecond.
            WorkerOrder::ConnectedAt => format!("{:013}-{:020}", worker.connected_at, worker.number),
            WorkerOrder::InFlight => format!("{:013}", MOST_IN_FLIGHT.saturating_sub(worker.in_flight)),
            WorkerOrder::Worker => worker.about.worker.clone().unwrap_or_default(),
        };
        format!("{by}-{}", stream_name(worker.stream))
    };
    listing.answer(request, (&path, "workers"), workers, key, |one| worker(one, scope))
}

/// Whether the caller may do this in all queues that the meant workers take from.
async fn is_own(
    app: &App,
    request: &Request,
    is_meant: impl Fn(&WorkerState) -> bool,
) -> Result<bool, Refusal> {
    if request.scope.is_all() {
        return Ok(true);
    }
    let workers = app.engine.ask(ListWorkers).await?;
    let covers = |queues: &Vec<QueueName>| queues.iter().all(|queue| request.scope.covers(queue));
    let mut meant = workers.iter().filter(|worker| is_meant(worker));
    Ok(meant.all(|worker| worker.queues.as_ref().is_some_and(covers)))
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
    let stream = known_stream(app, request).await?;
    let streams = app.engine.ask(DrainWorkers::Stream(stream.clone())).await?;
    sent_away(request, streams, || no_stream(&stream))
}

pub(crate) async fn disconnect(app: &App, request: &Request) -> Answer {
    let stream = known_stream(app, request).await?;
    let streams = app.engine.ask(CutOff(stream.clone())).await?;
    sent_away(request, streams, || no_stream(&stream))
}

/// The name of a stream in the path, if the caller may do this to it.
async fn known_stream(app: &App, request: &Request) -> Result<String, Refusal> {
    request.no_query()?;
    let stream = request.params.first().map(String::as_str).unwrap_or_default();
    let is_name = stream.len() == STREAM_NAME_LEN && stream.bytes().all(|byte| byte.is_ascii_hexdigit());
    let start = stream.to_ascii_lowercase();
    if is_name && is_own(app, request, |worker| stream_name(worker.stream) == start).await? {
        Ok(start)
    } else {
        Err(Refusal::not_found(no_stream(stream)))
    }
}

fn no_stream(name: &str) -> String {
    format!("no stream is called `{}`; GET /workers lists them", excerpt(name))
}

pub(crate) async fn drain_worker(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let worker = query.text("worker").filter(|name| !name.is_empty()).map(Cow::into_owned);
    query.finish()?;
    let worker = worker.ok_or_else(|| Refusal::invalid("worker: the name of a worker is missing"))?;
    let is_own = is_own(app, request, |one| one.about.worker.as_ref() == Some(&worker)).await?;
    let streams = if is_own { app.engine.ask(DrainWorkers::Named(worker.clone())).await? } else { 0 };
    sent_away(request, streams, || {
        format!("no worker called `{}` is connected; GET /workers lists them", excerpt(&worker))
    })
}

fn sent_away(request: &Request, streams: usize, missing: impl FnOnce() -> String) -> Answer {
    request.notes().count(streams as u64, streams as u64);
    if streams == 0 { Err(Refusal::not_found(missing())) } else { Ok(reply::no_content()) }
}

fn worker(worker: &WorkerState, scope: &Scope) -> Value {
    let all = worker.queues.as_deref().unwrap_or_default();
    let queues: Vec<&QueueName> = all.iter().filter(|queue| scope.covers(queue)).collect();
    // How many jobs it holds of other queues is none of the caller's business.
    let is_whole = scope.is_all() || (worker.queues.is_some() && queues.len() == all.len());
    let mut shown = json!({
        "stream": stream_name(worker.stream),
        "format": worker.about.format,
        "queues": queues,
        "prefetch": worker.prefetch,
        "connected_at": worker.connected_at,
    });
    if let Some(members) = shown.as_object_mut() {
        members.extend(is_whole.then(|| ("in_flight".to_owned(), json!(worker.in_flight))));
        members.extend(worker.about.worker.iter().map(|name| ("worker".to_owned(), json!(name))));
        members.extend(worker.about.agent.iter().map(|agent| ("agent".to_owned(), json!(agent))));
        members.extend(worker.about.remote.iter().map(|peer| ("remote".to_owned(), json!(peer.to_string()))));
    }
    let release = worker.last_release.as_deref().filter(|release| scope.covers(&release.queue));
    show_release(&mut shown, release);
    shown
}
