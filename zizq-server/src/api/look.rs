//! `GET /jobs/{id}`, `GET /jobs`, `GET /jobs/count`.

use protocol::encode;
use serde_json::json;

use super::App;
use super::page::Page;
use super::refusal::no_job;
use super::{filters, position, wait};
use crate::engine::command::jobs::Seen;
use crate::http::reply::{self, Answer, Success};
use crate::http::request::Request;

pub(crate) async fn job(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let time = wait::read(&mut query)?;
    query.finish()?;
    let id = request.job_id()?;
    let ended = match time {
        // A missing job is reported by the read below.
        Some(time) => wait::for_end(app, id, time).await.ok().flatten(),
        None => None,
    };
    request.make_room().await?;
    let seen = match ended {
        Some(ended) => ended,
        None => app.reader.job(id).await?,
    };
    let shown = seen.ok_or_else(|| no_job(id))?;
    let mut body = Vec::with_capacity(512 + shown.job.payload.bytes().len());
    write_shown(&mut body, request, &shown);
    Ok(reply::bytes(Success::Done, request.format, body))
}

fn write_shown(out: &mut Vec<u8>, request: &Request, shown: &Seen) {
    let view = shown.job.view(&shown.queue, shown.status);
    let (payload, result) = (Some(&shown.job.payload), shown.job.result.as_ref());
    encode::write_job_with_result(out, request.format, &view, payload, result);
}

pub(crate) async fn list(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let page = Page::read(&mut query)?;
    let filter = filters::read(&mut query)?;
    query.finish()?;
    let most = || request.page();
    let from = page.from.as_deref().and_then(|text| position::among_jobs(text, page.descending));
    let (jobs, more) =
        app.reader.list(request.caller(), filter.clone(), from, page.descending, page.limit, most).await?;
    let ends = jobs.first().zip(jobs.last());
    let ends = ends.map(|(first, last)| (first.job.id.to_string(), last.job.id.to_string()));
    let pages = page.links("/jobs", ends, more, &filters::params(&filter));
    let size: usize = jobs.iter().map(|seen| 512 + seen.job.payload.bytes().len()).sum();
    let mut body = Vec::with_capacity(256 + size);
    let write = |out: &mut Vec<u8>, shown: &Seen| write_shown(out, request, shown);
    encode::write_jobs(&mut body, request.format, jobs.iter(), write, Some(&pages));
    Ok(reply::bytes(Success::Done, request.format, body))
}

pub(crate) async fn count(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let filter = filters::read(&mut query)?;
    query.finish()?;
    let count = app.reader.count(request.caller(), filter).await?;
    Ok(reply::ok(request.format, &json!({"count": count})))
}
