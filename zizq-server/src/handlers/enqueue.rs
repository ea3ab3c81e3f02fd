//! `POST /jobs`, `POST /jobs/bulk`.

use std::time::Duration;

use http::{Response, StatusCode};
use protocol::encode;
use protocol::enqueue::{MEMBERS, NewJob, Parsed, ParsedBulk, parse_bulk, parse_job};
use protocol::job::JobView;
use protocol::media::Format;
use protocol::synonyms;

use super::out_of_step;
use super::wait::{self, Waiting};
use crate::clock;
use crate::engine::bulk::NewBulk;
use crate::engine::command::{Command, Enqueued, Outcome, Reject, Reply, Seen};
use crate::folder::{self, Refused};
use crate::handle::CallError;
use crate::http::App;
use crate::http::prefer::Handling;
use crate::http::reply::{self, Answer, Content, Refusal};
use crate::http::request::Request;

pub(crate) async fn one(app: &App, request: &Request) -> Answer {
    match Handling::of(request) {
        None => enqueue_one(app, request, None).await,
        Some(handling) => handling.applied(enqueue_one(app, request, Some(handling)).await),
    }
}

async fn enqueue_one(app: &App, request: &Request, handling: Option<Handling>) -> Answer {
    let mut query = request.query()?;
    let time = wait::read(&mut query)?;
    query.finish()?;
    let Parsed { job, ignored } = parse_job(request.body_format()?, &request.body, clock::now())?;
    refuse_ignored(handling, &ignored, "")?;
    check_payload(&job, app.limits.max_payload_size, "")?;
    if let Some(time) = time {
        return enqueue_and_wait(app, request, job, &ignored, time).await;
    }
    answer_one(request, &enqueue(app, vec![job], false).await?, &ignored)
}

/// Who wants to be understood in full, or not at all, hears which member is not.
fn refuse_ignored(handling: Option<Handling>, ignored: &[String], place: &str) -> Result<(), Refusal> {
    let Some(name) = ignored.first().filter(|_| handling == Some(Handling::Strict)) else { return Ok(()) };
    let meant = synonyms::suggest(name, &MEMBERS).map(|meant| format!("; did you mean `{meant}`?"));
    let meant = meant.unwrap_or_default();
    Err(Refusal::bad_request(format!("{place}{name}: there is no such member here{meant}")))
}

pub(super) fn answer_one(request: &Request, jobs: &[Enqueued], ignored: &[String]) -> Answer {
    let mut body = Vec::with_capacity(512);
    write(&mut body, request.format, jobs.first().ok_or_else(out_of_step)?, ignored);
    Ok(reply::bytes(status(jobs), request.format, body))
}

/// A job, and the members of it that were passed over.
fn write(out: &mut Vec<u8>, format: Format, job: &Enqueued, ignored: &[String]) {
    let start = out.len();
    encode::write_job(out, format, &view(job), None);
    if !ignored.is_empty() {
        encode::add_value(out, start, format, "ignored", ignored);
    }
}

/// Answers when the job has ended, or time is up, with the job as it is then.
async fn enqueue_and_wait(
    app: &App,
    request: &Request,
    job: NewJob,
    ignored: &[String],
    time: Duration,
) -> Answer {
    let mut waiting = Waiting::new(app);
    let (engine, folder) = (app.engine.clone(), app.folder.clone());
    // The client may go away before it is known which job it waits for. Then this goes on, and ends the waiting.
    let calling = tokio::spawn(async move {
        let jobs = if folder::is_batched(&job) {
            folder.enqueue(vec![job], || Some(waiting.waiter())).await?
        } else {
            let command = Command::EnqueueAndWait { jobs: vec![job], waiter: waiting.waiter() };
            let Reply::Enqueued(jobs) = engine.call(command).await? else { return Err(out_of_step()) };
            jobs
        };
        let id = jobs.first().ok_or_else(out_of_step)?.job.id;
        Ok((jobs, waiting.of(id)))
    });
    let (mut jobs, mut waiting) = calling.await.unwrap_or_else(|_| Err(out_of_step()))?;
    let status = status(&jobs);
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
    encode::write_job_with_result(&mut body, request.format, &view(enqueued), None, result);
    if !ignored.is_empty() {
        encode::add_value(&mut body, 0, request.format, "ignored", ignored);
    }
    Ok(reply::bytes(status, request.format, body))
}

/// The body of a bulk.
enum Read {
    /// To be taken in over several turns.
    Large(NewBulk),
    Jobs(Vec<NewJob>),
}

/// The members that nobody knows: beside the jobs, and of those jobs that have some.
struct Ignored {
    beside: Vec<String>,
    of_jobs: Vec<(usize, Vec<String>)>,
}

pub(crate) async fn bulk(app: &App, request: &Request) -> Answer {
    match Handling::of(request) {
        None => enqueue_bulk(app, request, None).await,
        Some(handling) => handling.applied(enqueue_bulk(app, request, Some(handling)).await),
    }
}

async fn enqueue_bulk(app: &App, request: &Request, handling: Option<Handling>) -> Answer {
    request.no_query()?;
    let (body_format, body) = (request.body_format()?, request.body.clone());
    let (bytes, limit) = (body.len(), app.limits.max_payload_size);
    let read = move || -> Result<(Read, Ignored), Refusal> {
        let ParsedBulk { jobs, ignored_of_jobs, ignored } = parse_bulk(body_format, &body, clock::now())?;
        refuse_ignored(handling, &ignored, "")?;
        if let Some((i, ignored)) = ignored_of_jobs.first() {
            refuse_ignored(handling, ignored, &format!("jobs[{i}]: "))?;
        }
        let ignored = Ignored { beside: ignored, of_jobs: ignored_of_jobs };
        let too_large = jobs.iter().enumerate().find(|(_, job)| job.payload.bytes().len() > limit);
        if let Some((i, job)) = too_large {
            check_payload(job, limit, &format!("jobs[{i}]: "))?;
        }
        // What is to be folded has to be looked at in one go.
        if NewBulk::is_large(jobs.len(), bytes) && !jobs.iter().any(folder::is_batched) {
            return Ok((Read::Large(NewBulk::new(body_format, body, jobs)), ignored));
        }
        Ok((Read::Jobs(jobs), ignored))
    };
    let (read, ignored) = app.work.on(bytes, read).await??;
    let jobs = match read {
        Read::Large(bulk) => ask(app, Command::EnqueueBulk(bulk), true).await?,
        Read::Jobs(jobs) => enqueue(app, jobs, true).await?,
    };
    let format = request.format;
    app.work.on(bytes, move || bulk_answer(&jobs, format, &ignored)).await
}

fn bulk_answer(jobs: &[Enqueued], format: Format, ignored: &Ignored) -> Response<Content> {
    let mut body = Vec::with_capacity(32 + jobs.len() * 256);
    let mut of_jobs = ignored.of_jobs.iter().peekable();
    let write = |out: &mut Vec<u8>, (i, job): (usize, &Enqueued)| {
        let ignored = of_jobs.next_if(|(of, _)| *of == i).map_or(&[][..], |(_, names)| names);
        write(out, format, job, ignored);
    };
    encode::write_jobs(&mut body, format, jobs.iter().enumerate(), write, None);
    if !ignored.beside.is_empty() {
        encode::add_value(&mut body, 0, format, "ignored", &ignored.beside);
    }
    reply::bytes(status(jobs), format, body)
}

async fn enqueue(app: &App, jobs: Vec<NewJob>, bulk: bool) -> Result<Vec<Enqueued>, Refusal> {
    if jobs.iter().any(folder::is_batched) {
        let enqueued = app.folder.enqueue(jobs, || None).await;
        return enqueued.map_err(|refused| match refused {
            Refused::Job { index, error } => refuse_one(index, error, bulk),
            refused => refused.into(),
        });
    }
    ask(app, Command::Enqueue(jobs), bulk).await
}

fn refuse_one(index: usize, error: String, bulk: bool) -> Refusal {
    Refusal::unprocessable(if bulk { format!("jobs[{index}]: {error}") } else { error })
}

async fn ask(app: &App, command: Command, bulk: bool) -> Result<Vec<Enqueued>, Refusal> {
    match app.engine.call(command).await {
        Ok(Reply::Enqueued(jobs)) => Ok(jobs),
        Ok(_) => Err(out_of_step()),
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
        "{place}payload: it has {size} bytes, the limit of this server is {limit}"
    )))
}

/// 201 where something was created, or nothing was asked for.
fn status(jobs: &[Enqueued]) -> StatusCode {
    let created = |job: &Enqueued| job.outcome == Outcome::Created;
    if jobs.is_empty() || jobs.iter().any(created) { StatusCode::CREATED } else { StatusCode::OK }
}

fn view(enqueued: &Enqueued) -> JobView<'_> {
    let mut view = enqueued.job.view(&enqueued.queue, enqueued.status);
    view.duplicate = Some(enqueued.outcome == Outcome::Duplicate);
    view.folded = Some(enqueued.outcome == Outcome::Folded);
    view
}
