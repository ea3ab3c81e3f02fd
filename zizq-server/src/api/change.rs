//! `PATCH`, `DELETE` and retry, for one job by id or for all jobs that match a filter.

use std::sync::Arc;

use protocol::access::Verb;
use protocol::body;
use protocol::encode;
use protocol::error::Code;
use protocol::job::Status;
use protocol::patch::{self, Patch};
use serde::Deserialize;

use super::bulk::{self, Report};
use super::refusal::no_job;
use super::{App, admit, difference};
use crate::engine::command::budgets::CheckBinding;
use crate::engine::command::jobs::{Change, ChangeJobs, Changed, Seen};
use crate::http::reply::{self, Answer, Refusal, Success};
use crate::http::request::Request;
use crate::job::filter::Filter;
use crate::run::handle::CallError;

pub(crate) async fn patch(app: &App, request: &Request) -> Answer {
    let patch = read_patch(request)?;
    request.no_query()?;
    may_move(request, &patch)?;
    shown(request, &one(app, request, Change::Patch(Arc::new(patch))).await?)
}

pub(crate) async fn retry(app: &App, request: &Request) -> Answer {
    let change = read_retry(request)?;
    request.no_query()?;
    shown(request, &one(app, request, change).await?)
}

pub(crate) async fn delete(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let deleted = one(app, request, Change::Delete).await?;
    app.logs.forget(deleted.job.id);
    Ok(reply::no_content())
}

pub(crate) async fn patch_bulk(app: &Arc<App>, request: &Request) -> Answer {
    let patch = read_patch(request)?;
    may_move(request, &patch)?;
    let patch = Change::Patch(Arc::new(patch));
    bulk::answer(app, request, patch, Report::Number("patched")).await
}

pub(crate) async fn retry_bulk(app: &Arc<App>, request: &Request) -> Answer {
    let retry = read_retry(request)?;
    bulk::answer(app, request, retry, Report::Number("retried")).await
}

pub(crate) async fn delete_bulk(app: &Arc<App>, request: &Request) -> Answer {
    bulk::answer(app, request, Change::Delete, Report::Number("deleted")).await
}

/// Checks that the caller may put jobs into the queue that the patch moves them to.
fn may_move(request: &Request, patch: &Patch) -> Result<(), Refusal> {
    patch.queue.iter().try_for_each(|queue| admit::covered(request, Verb::Operate, queue))
}

fn read_patch(request: &Request) -> Result<Patch, Refusal> {
    Ok(patch::parse(request.body_format()?, &request.body)?)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Retry {
    #[serde(default)]
    reset_attempts: Option<bool>,
}

fn read_retry(request: &Request) -> Result<Change, Refusal> {
    let retry: Retry = body::parse_optional(request.body_format()?, &request.body)?;
    Ok(Change::Retry { reset_attempts: retry.reset_attempts.unwrap_or(false) })
}

/// Refuses a filter that names a status in which the change is impossible.
pub(super) fn check_statuses(filter: &Filter, change: &Change) -> Result<(), Refusal> {
    let Some(status) = filter.statuses.iter().flatten().find(|status| !change.applies_to(**status)) else {
        return Ok(());
    };
    let why = match change {
        Change::Retry { .. } => "jobs that are ready or in flight cannot be retried",
        Change::Bind(_) => "jobs that have ended hold no budget tokens",
        Change::Patch(_) | Change::Delete => "completed and dead jobs cannot be changed",
    };
    Err(Refusal::new(Code::WrongStatus, format!("status: `{}`: {why}", status.as_str())))
}

/// Refuses a binding that cannot exist, before any job is read.
pub(super) async fn check_binding(app: &App, change: &Change) -> Result<(), Refusal> {
    if let Change::Bind(binding) = change {
        app.engine.ask(CheckBinding(binding.clone())).await?;
    }
    Ok(())
}

/// Creates the budgets that a binding brings along, in case it has met no job.
pub(super) async fn create_budgets(app: &App, change: Change) -> Result<(), CallError> {
    if matches!(&change, Change::Bind(binding) if !binding.news().is_empty()) {
        app.engine.ask(ChangeJobs { ids: Vec::new(), only: None, change }).await?;
    }
    Ok(())
}

/// Changes the job of the request. Returns it as it is now, or as it was if it is deleted.
pub(super) async fn one(app: &App, request: &Request, change: Change) -> Result<Seen, Refusal> {
    let id = request.job_id()?;
    let what = if matches!(change, Change::Retry { .. }) { "retried" } else { "changed" };
    let refused = |status: Status| {
        Refusal::new(Code::WrongStatus, format!("job `{id}` is {} and cannot be {what}", status.as_str()))
    };
    match app.engine.ask(ChangeJobs { ids: vec![id], only: None, change }).await?.pop() {
        Some(Changed::Same(seen)) if seen.status == Status::InFlight => Err(refused(seen.status)),
        Some(Changed::Same(seen)) => Ok(seen),
        Some(Changed::Done { before, now }) => {
            difference::note(request, Some(difference::job(&before)), now.as_ref().map(difference::job));
            Ok(now.unwrap_or(before))
        }
        Some(Changed::Refused(status)) => Err(refused(status)),
        Some(Changed::Unfit(reject)) => Err(CallError::from(reject).into()),
        Some(Changed::Missing | Changed::Passed) | None => Err(no_job(id)),
    }
}

pub(super) fn shown(request: &Request, seen: &Seen) -> Answer {
    let mut body = Vec::with_capacity(512);
    encode::write_job(&mut body, request.format, &seen.job.view(&seen.queue, seen.status), None);
    Ok(reply::bytes(Success::Done, request.format, body))
}
