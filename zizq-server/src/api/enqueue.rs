//! `POST /jobs`, `POST /jobs/bulk`.

use std::time::Duration;

use http::Response;
use protocol::access::Verb;
use protocol::encode;
use protocol::enqueue::{MEMBERS, NewJob, Parsed, ParsedBulk, parse_bulk, parse_job};
use protocol::id::JobId;
use protocol::media::Format;
use protocol::name::{BudgetKey, QueueName};
use protocol::synonyms;
use protocol::trace::{PARENT, STATE, Trace};
use serde_json::json;

use super::once;
use super::prefer::Handling;
use super::refusal::out_of_step;
use super::spans::Enqueueing;
use super::wait::{self, Waiting};
use super::{App, admit, budgets};
use crate::access::Scope;
use crate::batching::{self, Refused};
use crate::clock;
use crate::engine::command::jobs::{Enqueue, EnqueueAndWait, Enqueued, Outcome, Seen};
use crate::engine::command::once::{Once, Taken};
use crate::engine::command::{self, Reject};
use crate::hash::HashSet;
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
    Wants::of(&Limits::of(request), std::slice::from_ref(&job)).check(app, request).await?;
    let once = once::of(request)?;
    let jobs = vec![job];
    let spans = Enqueueing::begin(&app.spans, since, "/jobs", &jobs);
    if let Some(time) = time {
        return enqueue_and_wait(app, request, (jobs, spans), &ignored, time, once).await;
    }
    let taken = enqueue(app, request, jobs, false, once.as_ref()).await;
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
        Taken::Again(again) => return once::answer_one(request, again, ignored),
    };
    let mut body = Vec::with_capacity(512);
    write(&mut body, (request.format, &request.scope), jobs.first().ok_or_else(out_of_step)?, ignored);
    Ok(reply::bytes(success(jobs), request.format, body))
}

/// What a caller must be allowed to do to enqueue some jobs.
#[derive(Default)]
struct Wants {
    queues: HashSet<QueueName>,
    /// The budgets that the jobs bring along.
    budgets: Vec<BudgetKey>,
}

/// Who asks.
#[derive(Clone)]
struct Limits {
    enqueue: Scope,
    configure: Scope,
}

impl Limits {
    fn of(request: &Request) -> Self {
        Self { enqueue: request.scope.clone(), configure: request.scope_of(Verb::Configure) }
    }
}

impl Wants {
    fn of(Limits { enqueue, configure }: &Limits, jobs: &[NewJob]) -> Self {
        let mut wants = Self::default();
        if !enqueue.is_all() {
            wants.queues.extend(jobs.iter().map(|job| job.queue.clone()));
        }
        if !configure.is_all() {
            let keys = jobs.iter().flat_map(|job| &job.create_budgets).map(|(key, _)| key.clone());
            wants.budgets = keys.collect::<HashSet<_>>().into_iter().collect();
        }
        wants
    }

    async fn check(&self, app: &App, request: &Request) -> Result<(), Refusal> {
        self.queues.iter().try_for_each(|queue| admit::covered(request, Verb::Enqueue, queue))?;
        budgets::may_create(app, request, &self.budgets).await
    }
}

/// What is shown of a job that holds the key of a new one, and is in a queue that is none of the caller's business.
pub(super) fn hidden(out: &mut Vec<u8>, format: Format, id: JobId, is_duplicate: bool) {
    encode::write(out, format, &json!({"id": id, "duplicate": is_duplicate, "hidden": true}));
}

/// Writes a job and its ignored members.
fn write(out: &mut Vec<u8>, (format, scope): (Format, &Scope), job: &Enqueued, ignored: &[String]) {
    let start = out.len();
    if scope.covers(&job.queue) {
        encode::write_job(out, format, &job.view(), None);
    } else {
        hidden(out, format, job.job.id, job.outcome == Outcome::Duplicate);
    }
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
    let scope = request.scope.clone();
    // The client may disconnect before the id of its job is known. This task then goes on and ends the wait.
    let calling = tokio::spawn(async move {
        let taken = if jobs.iter().any(batching::is_batched) {
            let batched = batcher.enqueue(caller, scope, jobs, || Some(waiting.waiter()), once.as_ref());
            let taken = batched.await;
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
        Taken::Again(again) => return once::wait(app, request, (&again, ignored), time).await,
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
    write_ended(&mut body, request, enqueued);
    add_ignored(&mut body, 0, request.format, ignored);
    Ok(reply::bytes(success, request.format, body))
}

/// Writes a job with its result, which is for whoever waited for it: but for another's job with the same key.
pub(super) fn write_ended(out: &mut Vec<u8>, request: &Request, job: &Enqueued) {
    let is_own = job.outcome != Outcome::Duplicate || request.scope_of(Verb::Payload).covers(&job.queue);
    match job.job.result.as_ref() {
        _ if !request.scope.covers(&job.queue) => write(out, (request.format, &request.scope), job, &[]),
        result => {
            encode::write_job_with_result(out, request.format, &job.view(), None, result.filter(|_| is_own))
        }
    }
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
    let (to, who) = (app.spans.clone(), Limits::of(request));
    let read = move || -> Result<(Read, Wants, Enqueueing, Ignored), Refusal> {
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
        let wants = Wants::of(&who, &jobs);
        let spans = Enqueueing::begin(&to, since, "/jobs/bulk", &jobs);
        // Jobs that are folded must be seen by the engine at the same time.
        if NewBulk::is_large(jobs.len(), bytes) && !jobs.iter().any(batching::is_batched) {
            let bulk = NewBulk::new(body_format, body, jobs, trace);
            return Ok((Read::Large(bulk), wants, spans, ignored));
        }
        Ok((Read::Jobs(jobs), wants, spans, ignored))
    };
    let (read, wants, spans, ignored) = app.work.on(bytes, read).await??;
    wants.check(app, request).await?;
    let taken = match read {
        Read::Large(bulk) => ask(app, bulk, true, once.as_ref()).await,
        Read::Jobs(jobs) => enqueue(app, request, jobs, true, once.as_ref()).await,
    };
    spans.end(taken.as_ref());
    let taken = taken?;
    let (format, scope) = (request.format, request.scope.clone());
    let answer = move || match &taken {
        Taken::Now(jobs) => Ok(bulk_answer(jobs, (format, &scope), &ignored)),
        Taken::Again(again) => once::answer_bulk((format, &scope), again, &ignored),
    };
    app.work.on(bytes, answer).await?
}

fn bulk_answer(jobs: &[Enqueued], (format, scope): (Format, &Scope), ignored: &Ignored) -> Response<Content> {
    let mut body = Vec::with_capacity(32 + jobs.len() * 256);
    let write =
        |out: &mut Vec<u8>, (i, job): (usize, &Enqueued)| write(out, (format, scope), job, ignored.of(i));
    encode::write_jobs(&mut body, format, jobs.iter().enumerate(), write, None);
    add_ignored(&mut body, 0, format, &ignored.beside);
    reply::bytes(success(jobs), format, body)
}

async fn enqueue(
    app: &App,
    request: &Request,
    jobs: Vec<NewJob>,
    bulk: bool,
    once: Option<&Once>,
) -> Result<Taken<Vec<Enqueued>>, Refusal> {
    if jobs.iter().any(batching::is_batched) {
        let (caller, scope) = (request.caller(), request.scope.clone());
        let enqueued = app.batcher.enqueue(caller, scope, jobs, || None, once).await;
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
