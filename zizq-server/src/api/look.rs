//! `GET /jobs/{id}`, `GET /jobs`, `GET /jobs/count`.

use protocol::access::Verb;
use protocol::encode;
use protocol::id::JobId;
use protocol::job::Status;
use serde_json::json;

use super::App;
use super::page::Page;
use super::refusal::no_job;
use super::{admit, contents, filters, position, wait};
use crate::engine::command::jobs::{FindHolders, Holder};
use crate::hash::HashMap;
use crate::http::reply::{self, Answer, Refusal, Success};
use crate::http::request::Request;
use crate::reader::{JobList, Shown};

/// The longest time that may be set for a list.
const MAX_WITHIN_MS: u64 = 60_000;

pub(crate) async fn job(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let time = wait::read(&mut query)?;
    let contents = contents::read(&mut query)?;
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
    let shown = contents.of(seen.ok_or_else(|| no_job(id))?);
    let mut body = Vec::with_capacity(512 + shown.seen.job.payload.bytes().len());
    let holders = holders(app, std::slice::from_ref(&shown)).await?;
    let is_hidden =
        !request.scope_of(Verb::Payload).covers(&shown.seen.queue) && !admit::holds(app, request).await?;
    contents::write(&mut body, request.format, &shown, holders.get(&id), is_hidden);
    Ok(reply::bytes(Success::Done, request.format, body))
}

/// Who holds these jobs, as far as they are in flight.
pub(super) async fn holders(app: &App, jobs: &[Shown]) -> Result<HashMap<JobId, Holder>, Refusal> {
    let held = jobs.iter().filter(|shown| shown.seen.status == Status::InFlight);
    let ids: Vec<JobId> = held.map(|shown| shown.seen.job.id).collect();
    if ids.is_empty() {
        return Ok(HashMap::default());
    }
    let holders = app.engine.ask(FindHolders(ids)).await?;
    Ok(holders.into_iter().map(|holder| (holder.id, holder)).collect())
}

pub(crate) async fn list(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let page = Page::read(&mut query)?;
    let filter = filters::read(&mut query)?;
    let contents = contents::read(&mut query)?;
    let within = query.number("within_ms", 1, MAX_WITHIN_MS)?;
    query.finish()?;
    let time = within.map_or_else(String::new, |ms| format!("&within_ms={ms}"));
    let params = filter.params() + &contents::params(contents) + &time;
    let filter = filter.within(app, request).await?;
    let worker = filter.worker.clone();
    let from = page.from.as_deref().and_then(|text| position::among_jobs(text, page.descending));
    let list = JobList { filter, from, descending: page.descending, limit: page.limit, within, contents };
    let (mut jobs, next) = app.reader.list(request.caller(), list, || request.page()).await?;
    let first = jobs.first().map(|shown| shown.seen.job.id.to_string());
    let pages = page.links("/jobs", first, next.map(|id| id.to_string()), &params);
    let holders = holders(app, &jobs).await?;
    if let Some(name) = worker {
        // Another may have it by now.
        let is_of_worker = |holder: &Holder| holder.about.is_called(&name, holder.stream);
        jobs.retain(|shown| holders.get(&shown.seen.job.id).is_some_and(is_of_worker));
    }
    let size: usize = jobs.iter().map(|shown| 512 + shown.seen.job.payload.bytes().len()).sum();
    let payloads = request.scope_of(Verb::Payload);
    let mut body = Vec::with_capacity(256 + size);
    let write = |out: &mut Vec<u8>, shown: &Shown| {
        let is_hidden = !payloads.covers(&shown.seen.queue);
        contents::write(out, request.format, shown, holders.get(&shown.seen.job.id), is_hidden);
    };
    encode::write_jobs(&mut body, request.format, jobs.iter(), write, Some(&pages));
    Ok(reply::bytes(Success::Done, request.format, body))
}

pub(crate) async fn count(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let filter = filters::read(&mut query)?;
    let at_most = query.number("at_most", 1, u64::MAX)?;
    query.finish()?;
    let filter = filter.within(app, request).await?;
    let (count, exact) = app.reader.count(request.caller(), filter, at_most.unwrap_or(u64::MAX)).await?;
    let body = match at_most {
        Some(_) => json!({"count": count, "exact": exact}),
        None => json!({"count": count}),
    };
    Ok(reply::ok(request.format, &body))
}
