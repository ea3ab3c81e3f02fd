//! `POST /jobs`, `POST /jobs/bulk`.

use std::time::Duration;

use http::Response;
use protocol::encode;
use protocol::enqueue::{MEMBERS, NewJob, Parsed, ParsedBulk, parse_bulk, parse_job};
use protocol::media::Format;
use protocol::synonyms;
use protocol::trace::{PARENT, STATE, Trace};

use super::App;
use super::once;
use super::prefer::Handling;
use super::refusal::out_of_step;
use super::spans::Enqueueing;
use super::wait::{self, Waiting};
use crate::batching::{self, Refused};
use crate::caller::Caller;
use crate::clock;
use crate::engine::command::jobs::{Enqueue, EnqueueAndWait, Enqueued, Outcome, Seen};
use crate::engine::command::once::{Once, Taken};
use crate::engine::command::{self, Reject};
use crate::http::reply::{self, Answer, Content, Refusal, Success};
use crate::http::request::Request;
use crate::job::bulk::NewBulk;
use crate::run::handle::CallError;

pub(crate) async fn one(app: &App, request: &Request) -> Answer {
    match Handling::of(request) {
        None => enqueue_one(app, request, None).await,
        Some(handling) => handling.applied(enqueue_one(app, request, Some(handling)).await),
    }
}

async fn enqueue_one(app: &App, request: &Request, handling: Option<Handling>) -> Answer {
    let since = app.spans.now();
    let mut query = request.query()?;
    let time = wait::read(&mut query)?;
    query.finish()?;
    let Parsed { mut job, ignored } = parse_job(request.body_format()?, &request.body, clock::now().wall)?;
    if let Some(trace) = trace_of(request) {
        job.inherit(&trace);
    }
    refuse_ignored(handling, &ignored, "")?;
    check_payload(&job, app.limits.max_payload_size, "")?;
    let once = once::of(request)?;
    let jobs = vec![job];
    let spans = Enqueueing::begin(&app.spans, since, "/jobs", &jobs);
    if let Some(time) = time {
        return enqueue_and_wait(app, request, (jobs, spans), &ignored, time, once).await;
    }
    let taken = enqueue(app, request.caller(), jobs, false, once.as_ref()).await;
    spans.end(taken.as_ref());
    answer_one(request, &taken?, &ignored)
}

/// The trace context of a call, which its jobs inherit.
fn trace_of(request: &Request) -> Option<Box<Trace>> {
    let all = |name: &str| request.parts.headers.get_all(name).into_iter().map(http::HeaderValue::as_bytes);
    Trace::of_headers(all(PARENT), all(STATE)).map(Box::new)
}

/// With `Prefer: handling=strict`, refuses a request with unknown members and names the first one.
fn refuse_ignored(handling: Option<Handling>, ignored: &[String], place: &str) -> Result<(), Refusal> {
    let Some(name) = ignored.first().filter(|_| handling == Some(Handling::Strict)) else { return Ok(()) };
    let meant = synonyms::suggest(name, &MEMBERS).map(|meant| format!("; did you mean `{meant}`?"));
    let meant = meant.unwrap_or_default();
    Err(Refusal::invalid(format!("{place}{name}: there is no such member here{meant}")))
}

pub(super) fn answer_one(request: &Request, taken: &Taken<Vec<Enqueued>>, ignored: &[String]) -> Answer {
    let jobs = match taken {
        Taken::Now(jobs) => jobs,
        Taken::Again(again) => return once::answer_one(request.format, again, ignored),
    };
    let mut body = Vec::with_capacity(512);
    write(&mut body, request.format, jobs.first().ok_or_else(out_of_step)?, ignored);
    Ok(reply::bytes(success(jobs), request.format, body))
}

/// Writes a job and its ignored members.
fn write(out: &mut Vec<u8>, format: Format, job: &Enqueued, ignored: &[String]) {
    let start = out.len();
    encode::write_job(out, format, &job.view(), None);
    add_ignored(out, start, format, ignored);
}

/// Adds the ignored members, if any, to the object that begins at `start`.
pub(super) fn add_ignored(out: &mut Vec<u8>, start: usize, format: Format, ignored: &[String]) {
    if !ignored.is_empty() {
        encode::add_value(out, start, format, "ignored", ignored);
    }
}

/// Answers with the job once it has ended, or with its present state when the time is up.
async fn enqueue_and_wait(
    app: &App,
    request: &Request,
    (jobs, spans): (Vec<NewJob>, Enqueueing),
    ignored: &[String],
    time: Duration,
    once: Option<Once>,
) -> Answer {
    let mut waiting = Waiting::new(app);
    let (engine, batcher, caller) = (app.engine.clone(), app.batcher.clone(), request.caller());
    // The client may disconnect before the id of its job is known. This task then goes on and ends the wait.
    let calling = tokio::spawn(async move {
        let taken = if jobs.iter().any(batching::is_batched) {
            let taken = batcher.enqueue(caller, jobs, || Some(waiting.waiter()), once.as_ref()).await;
            taken.map_err(Refusal::from)
        } else {
            let request = EnqueueAndWait { jobs, waiter: waiting.waiter() };
            engine.ask_once(once.as_ref(), request).await.map_err(Refusal::from)
        };
        spans.end(taken.as_ref());
        let taken = taken?;
        if let Taken::Now(jobs) = &taken {
            waiting = waiting.of(jobs.first().ok_or_else(out_of_step)?.job.id);
        }
        Ok((taken, waiting))
    });
    let (taken, mut waiting) = calling.await.unwrap_or_else(|_| Err(out_of_step()))?;
    let mut jobs = match taken {
        Taken::Now(jobs) => jobs,
        Taken::Again(again) => return once::wait(app, request.format, (&again, ignored), time).await,
    };
    let success = success(&jobs);
    let enqueued = jobs.first_mut().ok_or_else(out_of_step)?;
    let ended = if enqueued.status.is_terminal() { None } else { waiting.end(app, time).await };
    let now = match ended {
        Some(ended) => ended,
        None => app.reader.job(enqueued.job.id).await?,
    };
    if let Some(Seen { job, queue, status }) = now {
        (enqueued.job, enqueued.queue, enqueued.status) = (job, queue, status);
    }
    let mut body = Vec::with_capacity(512);
    let result = enqueued.job.result.as_ref();
    encode::write_job_with_result(&mut body, request.format, &enqueued.view(), None, result);
    add_ignored(&mut body, 0, request.format, ignored);
    Ok(reply::bytes(success, request.format, body))
}

/// The body of a bulk enqueue.
enum Read {
    /// Taken over several engine turns.
    Large(NewBulk),
    Jobs(Vec<NewJob>),
}

/// The unknown members: those of the request and those of its jobs.
pub(super) struct Ignored {
    pub beside: Vec<String>,
    of_jobs: Vec<(usize, Vec<String>)>,
}

impl Ignored {
    /// The unknown members of one job.
    pub(super) fn of(&self, job: usize) -> &[String] {
        let found = self.of_jobs.binary_search_by_key(&job, |(of, _)| *of).ok();
        found.and_then(|at| self.of_jobs.get(at)).map_or(&[], |(_, names)| names)
    }
}

pub(crate) async fn bulk(app: &App, request: &Request) -> Answer {
    match Handling::of(request) {
        None => enqueue_bulk(app, request, None).await,
        Some(handling) => handling.applied(enqueue_bulk(app, request, Some(handling)).await),
    }
}

async fn enqueue_bulk(app: &App, request: &Request, handling: Option<Handling>) -> Answer {
    let since = app.spans.now();
    request.no_query()?;
    let once = once::of(request)?;
    let (body_format, body, trace) = (request.body_format()?, request.body.clone(), trace_of(request));
    let (bytes, limit) = (body.len(), app.limits.max_payload_size);
    let to = app.spans.clone();
    let read = move || -> Result<(Read, Enqueueing, Ignored), Refusal> {
        let ParsedBulk { mut jobs, ignored_of_jobs, ignored } =
            parse_bulk(body_format, &body, clock::now().wall)?;
        refuse_ignored(handling, &ignored, "")?;
        if let Some((i, ignored)) = ignored_of_jobs.first() {
            refuse_ignored(handling, ignored, &format!("jobs[{i}]: "))?;
        }
        let ignored = Ignored { beside: ignored, of_jobs: ignored_of_jobs };
        let too_large = jobs.iter().enumerate().find(|(_, job)| job.payload.bytes().len() > limit);
        if let Some((i, job)) = too_large {
            check_payload(job, limit, &format!("jobs[{i}]: "))?;
        }
        if let Some(trace) = &trace {
            jobs.iter_mut().for_each(|job| job.inherit(trace));
        }
        let spans = Enqueueing::begin(&to, since, "/jobs/bulk", &jobs);
        // Jobs that are folded must be seen by the engine at the same time.
        if NewBulk::is_large(jobs.len(), bytes) && !jobs.iter().any(batching::is_batched) {
            return Ok((Read::Large(NewBulk::new(body_format, body, jobs, trace)), spans, ignored));
        }
        Ok((Read::Jobs(jobs), spans, ignored))
    };
    let (read, spans, ignored) = app.work.on(bytes, read).await??;
    let taken = match read {
        Read::Large(bulk) => ask(app, bulk, true, once.as_ref()).await,
        Read::Jobs(jobs) => enqueue(app, request.caller(), jobs, true, once.as_ref()).await,
    };
    spans.end(taken.as_ref());
    let taken = taken?;
    let format = request.format;
    let answer = move || match &taken {
        Taken::Now(jobs) => Ok(bulk_answer(jobs, format, &ignored)),
        Taken::Again(again) => once::answer_bulk(format, again, &ignored),
    };
    app.work.on(bytes, answer).await?
}

fn bulk_answer(jobs: &[Enqueued], format: Format, ignored: &Ignored) -> Response<Content> {
    let mut body = Vec::with_capacity(32 + jobs.len() * 256);
    let write = |out: &mut Vec<u8>, (i, job): (usize, &Enqueued)| write(out, format, job, ignored.of(i));
    encode::write_jobs(&mut body, format, jobs.iter().enumerate(), write, None);
    add_ignored(&mut body, 0, format, &ignored.beside);
    reply::bytes(success(jobs), format, body)
}

async fn enqueue(
    app: &App,
    caller: Caller,
    jobs: Vec<NewJob>,
    bulk: bool,
    once: Option<&Once>,
) -> Result<Taken<Vec<Enqueued>>, Refusal> {
    if jobs.iter().any(batching::is_batched) {
        let enqueued = app.batcher.enqueue(caller, jobs, || None, once).await;
        return enqueued.map_err(|refused| match refused {
            Refused::Job { index, error } => refuse_one(index, error, bulk),
            refused => refused.into(),
        });
    }
    ask(app, Enqueue(jobs), bulk, once).await
}

fn refuse_one(index: usize, error: String, bulk: bool) -> Refusal {
    Refusal::not_allowed(if bulk { format!("jobs[{index}]: {error}") } else { error })
}

async fn ask<R>(app: &App, jobs: R, bulk: bool, once: Option<&Once>) -> Result<Taken<Vec<Enqueued>>, Refusal>
where
    R: command::Request<Answer = Vec<Enqueued>>,
{
    match app.engine.ask_once(once, jobs).await {
        Ok(taken) => Ok(taken),
        Err(CallError::Rejected(Reject::Job { index, error })) => Err(refuse_one(index, error, bulk)),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn check_payload(job: &NewJob, limit: usize, place: &str) -> Result<(), Refusal> {
    let size = job.payload.bytes().len();
    if size <= limit {
        return Ok(());
    }
    Err(Refusal::too_large(format!(
        "{place}payload: it has {size} bytes; this server accepts at most {limit} (--max-payload-size)"
    )))
}

/// Returns 201 if a job was created or none was sent.
fn success(jobs: &[Enqueued]) -> Success {
    let created = |job: &Enqueued| job.outcome == Outcome::Created;
    if jobs.is_empty() || jobs.iter().any(created) { Success::Created } else { Success::Done }
}
