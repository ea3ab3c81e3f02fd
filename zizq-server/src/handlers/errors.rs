//! `GET /jobs/{id}/errors`, `GET /jobs/{id}/errors/{attempt}`.

use http::StatusCode;
use protocol::job::ErrorRecord;
use protocol::page::Pages;
use serde::Serialize;

use super::look::Page;
use crate::http::App;
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;
use crate::store::record;

pub(crate) async fn list(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let page = Page::read(&mut query, |query| query.number("from", 0, u64::MAX))?;
    query.finish()?;
    let id = request.job_id()?;
    let (from, descending, limit) = (page.from, page.descending, page.limit);
    let asked = move |attempts: u32| page_of(attempts, from, descending, limit);
    let found = app.reader.errors(id, request.page(), asked).await?;
    let (mut errors, cut) = found.ok_or_else(|| Refusal::not_found(format!("no job has the id `{id}`")))?;
    let more = cut || errors.len() > limit;
    errors.truncate(limit);
    let ends = errors.first().zip(errors.last()).map(|(first, last)| (u64::from(first.0), u64::from(last.0)));
    let pages = page.links(&format!("/jobs/{id}/errors"), ends, more, "");
    let errors: Vec<ErrorRecord> = errors.into_iter().map(|(attempt, error)| shown(attempt, error)).collect();
    Ok(reply::value(StatusCode::OK, request.format, &Errors { errors, pages }))
}

/// A page. It is written as it is: a copy of it as a tree would take as much again.
#[derive(Serialize)]
struct Errors {
    errors: Vec<ErrorRecord>,
    pages: Pages,
}

/// The attempts of a page, and one more where there is one.
fn page_of(attempts: u32, from: Option<u64>, descending: bool, limit: usize) -> Vec<u32> {
    let behind = |attempt: &u32| {
        let attempt = u64::from(*attempt);
        from.is_none_or(|from| if descending { attempt < from } else { attempt > from })
    };
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
    Ok(reply::value(StatusCode::OK, request.format, &shown(attempt, error)))
}

fn shown(attempt: u32, error: record::ErrorRecord) -> ErrorRecord {
    let record::ErrorRecord { message, error_type, backtrace, dequeued_at, failed_at } = error;
    ErrorRecord { attempt, message, error_type, backtrace, dequeued_at, failed_at }
}
