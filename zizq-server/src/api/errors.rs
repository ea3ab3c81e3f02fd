//! `GET /jobs/{id}/errors`, `GET /jobs/{id}/errors/{attempt}`.

use protocol::access::Verb;
use protocol::job::ErrorRecord;
use protocol::page::Pages;
use serde::Serialize;

use super::page::Page;
use super::position::is_behind_attempt;
use super::refusal::no_job;
use super::{App, admit};
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;
use crate::store::record;

pub(crate) async fn list(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let page = Page::read(&mut query)?;
    query.finish()?;
    let id = request.job_id()?;
    let (from, descending, limit) = (page.from.clone(), page.descending, page.limit);
    let asked = move |attempts: u32| page_of(attempts, from.as_deref(), descending, limit);
    let found = app.reader.errors(id, request.page(), asked).await?;
    let (mut errors, cut) = found.ok_or_else(|| no_job(id))?;
    let more = cut || errors.len() > limit;
    errors.truncate(limit);
    let first = errors.first().map(|(attempt, _)| attempt.to_string());
    let next = errors.last().filter(|_| more).map(|(attempt, _)| attempt.to_string());
    let pages = page.links(&format!("/jobs/{id}/errors"), first, next, "");
    let is_hidden = hides(app, request).await?;
    let errors: Vec<ErrorRecord> =
        errors.into_iter().map(|(attempt, error)| shown(attempt, error, is_hidden)).collect();
    Ok(reply::ok(request.format, &Errors { errors, pages }))
}

/// A page of errors. It is serialized directly, because a tree would copy all of it.
#[derive(Serialize)]
struct Errors {
    errors: Vec<ErrorRecord>,
    pages: Pages,
}

/// Lists the attempts of a page, and one more if there is one.
fn page_of(attempts: u32, from: Option<&str>, descending: bool, limit: usize) -> Vec<u32> {
    let behind = |attempt: &u32| from.is_none_or(|from| is_behind_attempt(*attempt, from, descending));
    let all = 1..=attempts;
    if descending {
        all.rev().filter(behind).take(limit + 1).collect()
    } else {
        all.filter(behind).take(limit + 1).collect()
    }
}

pub(crate) async fn one(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let id = request.job_id()?;
    let text = request.params.get(1).map(String::as_str).unwrap_or_default();
    let not_found = || {
        let attempt = protocol::error::excerpt(text);
        Refusal::not_found(format!("job `{id}` has no error of attempt `{attempt}`"))
    };
    let attempt: u32 = text.parse().map_err(|_| not_found())?;
    let found = app.reader.errors(id, usize::MAX, move |_| vec![attempt]).await?;
    let (attempt, error) = found.and_then(|(errors, _)| errors.into_iter().next()).ok_or_else(not_found)?;
    let is_hidden = hides(app, request).await?;
    Ok(reply::ok(request.format, &shown(attempt, error, is_hidden)))
}

/// Whether the caller may not see where errors come from.
async fn hides(app: &App, request: &Request) -> Result<bool, Refusal> {
    let payloads = request.scope_of(Verb::Payload);
    if payloads.is_all() || admit::holds(app, request).await? {
        return Ok(false);
    }
    let queue = admit::queue_of(app, request.job_id()?).await?;
    Ok(queue.is_none_or(|queue| !payloads.covers(&queue)))
}

fn shown(attempt: u32, error: record::ErrorRecord, is_hidden: bool) -> ErrorRecord {
    let record::ErrorRecord { message, error_type, backtrace, dequeued_at, failed_at } = error;
    let backtrace = backtrace.filter(|_| !is_hidden);
    ErrorRecord { attempt, message, error_type, backtrace, dequeued_at, failed_at }
}
