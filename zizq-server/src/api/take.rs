//! `GET /jobs/take`, the stream, and `POST /jobs/take`, the long-poll.

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::body::Frame;
use protocol::access::Verb;
use protocol::body;
use protocol::encode;
use protocol::error::{Code, excerpt};
use protocol::frame::StreamFormat;
use protocol::frame::sse::LastEventId;
use protocol::lease::{DEFAULT_LEASE_MS, DEFAULT_RESUME_MS, MAX_LEASE_MS, MIN_LEASE_MS};
use protocol::media::{Format, negotiate};
use protocol::name::QueueName;
use protocol::take::{MAX_POLL_LIMIT, MAX_WAIT_MS, Poll};
use serde_json::json;
use smol_str::SmolStr;

use super::refusal::out_of_step;
use super::spans::waited;
use super::stream::{Hold, JobStream, set_headers, write_delivery};
use super::{App, admit, not_acceptable};
use crate::access::Access;
use crate::engine::command::streams::{OpenStream, Opened, StopTaking, StreamKind, WorkerInfo};
use crate::engine::outbox::{Delivery, Item, Outbox};
use crate::http::closed;
use crate::http::query::Query;
use crate::http::reply::{self, Answer, Content, Refusal};
use crate::http::request::Request;

/// The media types of a stream, the preferred one first, with their formats.
const OFFERS: [(&str, StreamFormat); 5] = [
    ("application/vnd.zizq.msgpack-stream", StreamFormat::MessagePack),
    ("application/msgpack", StreamFormat::MessagePack),
    ("text/event-stream", StreamFormat::EventStream),
    ("application/x-ndjson", StreamFormat::NdJson),
    ("application/json", StreamFormat::NdJson),
];

/// The most queues a stream can name.
const MAX_QUEUES: usize = 1_000;

struct TakeParams {
    queues: Option<Vec<QueueName>>,
    prefetch: u32,
    lease_ms: Option<u64>,
    resume_ms: Option<u64>,
    /// Whether only heartbeats for its jobs renew its leases.
    renewed_by_worker: bool,
}

impl TakeParams {
    fn read(query: &mut Query<'_>) -> Result<Self, Refusal> {
        let prefetch = query.number("prefetch", 0, u64::from(u32::MAX))?.unwrap_or(1);
        Ok(Self {
            queues: query.list("queue")?.map(distinct).transpose()?,
            prefetch: u32::try_from(prefetch).unwrap_or(u32::MAX),
            lease_ms: query.number("lease_ms", MIN_LEASE_MS, MAX_LEASE_MS)?,
            resume_ms: query.number("resume_ms", 0, MAX_LEASE_MS)?,
            renewed_by_worker: match query.value::<String>("renew")?.as_deref() {
                None | Some("stream") => false,
                Some("worker") => true,
                Some(other) => {
                    let error = format!("renew: `{}` is neither `worker` nor `stream`", excerpt(other));
                    return Err(Refusal::invalid(error));
                }
            },
        })
    }
}

pub(crate) async fn stream(app: &Arc<App>, request: &Request) -> Answer {
    let format = negotiate(request.accepted.as_deref(), &OFFERS, StreamFormat::NdJson);
    let format = format.ok_or_else(|| not_acceptable(request, &OFFERS.map(|(media_type, _)| media_type)))?;
    let mut query = request.query()?;
    let params = TakeParams::read(&mut query)?;
    query.finish()?;

    let is_sse = format == StreamFormat::EventStream;
    let lease_ms = params.lease_ms.or(is_sse.then_some(DEFAULT_LEASE_MS));
    let outbox = Arc::new(Outbox::within(&app.unread));
    let open = OpenStream {
        within: request.scope.clone(),
        kind: if is_sse { StreamKind::Events } else { StreamKind::Bound },
        queues: allowed(request, params.queues)?,
        prefetch: params.prefetch,
        lease_ms,
        resume_ms: params.resume_ms.unwrap_or(DEFAULT_RESUME_MS),
        resume: request.header("last-event-id").filter(|_| is_sse).and_then(|text| last_event(&text)),
        id: random_id()?,
        outbox: outbox.clone(),
        about: Box::new(about(request, request.header("worker-id").as_deref(), format_name(format))?),
    };
    let (hold, opened) = open_stream(app, open).await?;
    // A lease must survive one late heartbeat.
    let heartbeat_ms = lease_ms.map_or(app.heartbeat_ms, |lease| app.heartbeat_ms.min(lease / 4));
    let closing = app.closing.clone();
    let peer = request.peer.clone();
    let renews = is_sse && !params.renewed_by_worker;
    let spans = app.spans.clone();
    let stream =
        JobStream { hold, opened, outbox, format, lease_ms, heartbeat_ms, renews, closing, peer, spans };
    let mut response = Response::new(Content::stream(stream.frames()));
    set_headers(response.headers_mut(), format.content_type());
    Ok(response)
}

const fn format_name(format: StreamFormat) -> &'static str {
    match format {
        StreamFormat::NdJson => "ndjson",
        StreamFormat::MessagePack => "msgpack",
        StreamFormat::EventStream => "sse",
    }
}

fn about(request: &Request, worker: Option<&str>, format: &'static str) -> Result<WorkerInfo, Refusal> {
    const MAX_BYTES: usize = 255;
    let worker = worker.filter(|name| !name.is_empty());
    if let Some(name) = worker.filter(|name| name.len() > MAX_BYTES) {
        let length = name.len();
        return Err(Refusal::invalid(format!(
            "Worker-Id, or `worker`: a name has at most {MAX_BYTES} bytes, this one has {length}"
        )));
    }
    let agent = request.header(USER_AGENT).map(|text| printable(&text)).filter(|agent| !agent.is_empty());
    let by = request.access().and_then(Access::holder).cloned();
    Ok(WorkerInfo { worker: worker.map(str::to_owned), agent, format, remote: request.remote, by })
}

/// What can be shown of the name of a program.
fn printable(agent: &str) -> SmolStr {
    const MAX_CHARS: usize = 100;
    agent.chars().filter(|c| matches!(c, ' '..='~')).take(MAX_CHARS).collect()
}

async fn open_stream(app: &Arc<App>, open: OpenStream) -> Result<(Hold, Opened), Refusal> {
    // The client may disconnect while the engine opens its stream. The spawned task continues until the hold exists;
    // dropping the hold then closes the stream.
    let engine = app.engine.clone();
    let opening = tokio::spawn(async move {
        let opened = engine.ask(open).await?;
        Ok((Hold { engine, link: opened.link }, opened))
    });
    opening.await.unwrap_or_else(|_| Err(out_of_step()))
}

/// An unknown form of id is treated as absent.
fn last_event(text: &str) -> Option<(u128, u64)> {
    let LastEventId { stream, n } = text.parse().ok()?;
    Some((u128::from_str_radix(&stream, 16).ok().filter(|_| stream.len() == 32)?, n))
}

fn random_id() -> Result<u128, Refusal> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| Refusal::unavailable(format!("the operating system provides no random numbers: {e}")))?;
    Ok(u128::from_be_bytes(bytes))
}

pub(crate) async fn poll(app: &Arc<App>, request: &Request) -> Answer {
    let poll: Poll = body::parse_optional(request.body_format()?, &request.body)?;
    request.no_query()?;
    let limit = in_range("limit", poll.limit.map(u64::from), 1, u64::from(MAX_POLL_LIMIT))?.unwrap_or(1);
    let wait_ms = in_range("wait_ms", poll.wait_ms, 0, MAX_WAIT_MS)?.unwrap_or(0);
    let lease_ms =
        in_range("lease_ms", poll.lease_ms, MIN_LEASE_MS, MAX_LEASE_MS)?.unwrap_or(DEFAULT_LEASE_MS);

    let worker = poll.worker.or_else(|| request.header("worker-id").map(Cow::into_owned));
    let outbox = Arc::new(Outbox::within(&app.unread));
    let queues = poll.queues.filter(|queues| !queues.is_empty()).map(distinct).transpose()?;
    let open = OpenStream {
        within: request.scope.clone(),
        kind: StreamKind::Poll,
        queues: allowed(request, queues)?,
        prefetch: u32::try_from(limit).unwrap_or(u32::MAX),
        lease_ms: Some(lease_ms),
        resume_ms: 0,
        resume: None,
        id: random_id()?,
        outbox: outbox.clone(),
        about: Box::new(about(request, worker.as_deref(), "poll")?),
    };
    // A client without room should leave the jobs to others.
    request.peer.room().await;
    let (hold, _) = open_stream(app, open).await?;
    let mut items = outbox.take();
    if items.is_empty() && wait_ms > 0 {
        let mut closing = app.closing.clone();
        tokio::select! {
            _ = poll_fn(|context| outbox.poll_ready(context)) => {}
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            () = closed(&mut closing) => {}
        }
    }
    // No job can arrive after this, so none is left in the outbox.
    app.engine.ask(StopTaking(hold.link)).await?;
    items.extend(outbox.take());
    if !request.peer.has_room() {
        // Its other polls were answered in the meantime, and it does not read. Dropping the hold returns the jobs to
        // their queues.
        drop(hold);
        let jobs: [(); 0] = [];
        return Ok(reply::ok(request.format, &json!({"jobs": jobs})));
    }
    for item in &items {
        if let Item::Job(delivery) = item {
            waited(&app.spans, delivery);
        }
    }
    Ok(poll_response(request, hold, &items))
}

/// The queues that a caller takes from: those that it names, or those that its grants name.
fn allowed(request: &Request, queues: Option<Vec<QueueName>>) -> Result<Option<Vec<QueueName>>, Refusal> {
    if request.scope.is_all() {
        return Ok(queues);
    }
    let Some(queues) = queues else {
        return request.scope.names().map(Some).ok_or_else(|| {
            let patterns = request.scope.shown();
            let error = format!("queue: name the queues to take from; this caller may take from {patterns}");
            Refusal::new(Code::Forbidden, error)
        });
    };
    queues.iter().try_for_each(|queue| admit::covered(request, Verb::Work, queue))?;
    Ok(Some(queues))
}

/// Removes duplicate queues and refuses lists so long that searching them would be slow.
fn distinct(mut queues: Vec<QueueName>) -> Result<Vec<QueueName>, Refusal> {
    queues.sort_unstable();
    queues.dedup();
    if queues.len() > MAX_QUEUES {
        let error = format!(
            "queue: {} names are too many; name at most {MAX_QUEUES}, or none to take from all queues",
            queues.len()
        );
        return Err(Refusal::invalid(error));
    }
    Ok(queues)
}

fn in_range(name: &str, value: Option<u64>, lowest: u64, highest: u64) -> Result<Option<u64>, Refusal> {
    match value {
        Some(n) if !(lowest..=highest).contains(&n) => {
            Err(Refusal::invalid(format!("{name}: {n} is out of range {lowest} to {highest}")))
        }
        value => Ok(value),
    }
}

/// The answer of a poll. Its jobs return to their queues if the client disconnects before the connection has taken it.
fn poll_response(request: &Request, hold: Hold, items: &[Item]) -> Response<Content> {
    let jobs: Vec<&Delivery> =
        items.iter().filter_map(|item| if let Item::Job(job) = item { Some(job) } else { None }).collect();
    let format = request.format;
    let mut out = Vec::with_capacity(64 + jobs.len() * 512);
    let write = |out: &mut Vec<u8>, job: &Delivery| write_delivery(out, format, job);
    encode::write_jobs(&mut out, format, jobs.into_iter(), write, None);
    if format == Format::Json {
        out.push(b'\n');
    }
    let length = out.len();
    let piece = request.peer.piece(out);
    let frames = stream! {
        // The connection requests the body only while its client is connected.
        hold.answered();
        yield Ok(Frame::data(piece));
    };
    let mut response = Response::new(Content::stream(frames));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    response.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}
