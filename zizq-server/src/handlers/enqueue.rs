//! `POST /jobs`, `POST /jobs/bulk`.

use std::sync::Arc;

use http::StatusCode;
use protocol::encode;
use protocol::enqueue::{NewJob, parse_bulk, parse_job};
use protocol::job::JobView;
use protocol::name::QueueName;

use super::out_of_step;
use crate::engine::command::{Command, Reply};
use crate::engine::job::Job;
use crate::http::App;
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;

pub(crate) async fn one(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let job = parse_job(request.body_format()?, &request.body)?;
    check_payload(app, &job, None)?;
    let jobs = enqueue(app, vec![job]).await?;
    let (job, queue) = jobs.first().ok_or_else(out_of_step)?;
    let mut body = Vec::with_capacity(512);
    encode::write_job(&mut body, request.format, &view(job, queue), None);
    Ok(reply::bytes(StatusCode::CREATED, request.format, body))
}

pub(crate) async fn bulk(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let jobs = parse_bulk(request.body_format()?, &request.body)?;
    for (i, job) in jobs.iter().enumerate() {
        check_payload(app, job, Some(i))?;
    }
    let jobs = enqueue(app, jobs).await?;
    let mut body = Vec::with_capacity(32 + jobs.len() * 256);
    let write = |out: &mut Vec<u8>, (job, queue): &(Arc<Job>, QueueName)| {
        encode::write_job(out, request.format, &view(job, queue), None);
    };
    encode::write_jobs(&mut body, request.format, jobs.iter(), write, None);
    Ok(reply::bytes(StatusCode::CREATED, request.format, body))
}

async fn enqueue(app: &App, jobs: Vec<NewJob>) -> Result<Vec<(Arc<Job>, QueueName)>, Refusal> {
    match app.engine.call(Command::Enqueue(jobs)).await? {
        Reply::Enqueued(jobs) => Ok(jobs),
        _ => Err(out_of_step()),
    }
}

fn check_payload(app: &App, job: &NewJob, index: Option<usize>) -> Result<(), Refusal> {
    let (size, limit) = (job.payload.bytes().len(), app.limits.max_payload_size);
    if size <= limit {
        return Ok(());
    }
    let place = index.map_or_else(String::new, |i| format!("jobs[{i}]: "));
    Err(Refusal::too_large(format!(
        "{place}payload: it has {size} bytes, the limit of this server is {limit}"
    )))
}

fn view<'a>(job: &'a Job, queue: &'a QueueName) -> JobView<'a> {
    let mut view = job.view(queue, job.status);
    view.duplicate = Some(false);
    view.folded = Some(false);
    view
}
