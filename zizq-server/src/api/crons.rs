//! Cron groups and their entries.

use std::sync::Arc;

use protocol::body;
use protocol::body::Malformed;
use protocol::cron::{EntryPatch, EntryRequest, GroupPatch, GroupRequest, Template};
use protocol::enqueue::EnqueueError;
use protocol::error::excerpt;
use protocol::name::CronName;
use protocol::object::Object;
use serde::Serialize;
use serde_json::json;

use super::App;
use super::listing::Listing;
use super::{enqueue, once};
use crate::batching::{self, Refused};
use crate::caller::Caller;
use crate::engine::command;
use crate::engine::command::crons::{
    AddEntry, DeleteCron, DeleteCrons, DeleteEntry, GetCron, GetEntry, ListCrons, NewEntry, PatchCron,
    PauseEntry, PutCron, PutEntry, Ran, RunEntry,
};
use crate::engine::command::once::Taken;
use crate::engine::recurrence;
use crate::hash::HashSet;
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;

pub(crate) async fn list(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let listing = Listing::read(&mut query)?;
    query.finish()?;
    let names = app.engine.ask(ListCrons).await?;
    listing.answer(request, ("/crons", "crons"), names, ToString::to_string, |name| json!(name))
}

pub(crate) async fn delete_all(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let deleted = app.engine.ask(DeleteCrons).await?;
    Ok(reply::ok(request.format, &json!({"deleted": deleted})))
}

pub(crate) async fn get(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    shown(app, request, GetCron(known_group(request)?)).await
}

pub(crate) async fn put(app: &App, request: &Request) -> Answer {
    let body: GroupRequest = body::parse_tolerant(request.body_format()?, &request.body)?;
    request.no_query()?;
    let group = new_name(request, 0)?;
    if let Some(name) = &body.timezone {
        recurrence::zone(name).map_err(Refusal::invalid)?;
    }
    let mut entries = Vec::with_capacity(body.entries.len());
    let mut names = HashSet::default();
    for (i, Object(entry)) in body.entries.into_iter().enumerate() {
        let name = entry.name.clone();
        let name = name.ok_or_else(|| Refusal::invalid(format!("entries[{i}]: missing field `name`")))?;
        if !names.insert(name.clone()) {
            return Err(Refusal::invalid(format!("entry `{name}`: the name is given twice")));
        }
        entries.push(check(app, request.caller(), name, entry).await?);
    }
    let put = PutCron { group, paused: body.paused, timezone: body.timezone, entries };
    shown(app, request, put).await
}

pub(crate) async fn patch(app: &App, request: &Request) -> Answer {
    let patch: GroupPatch = body::parse(request.body_format()?, &request.body)?;
    request.no_query()?;
    let paused = patch.paused().map_err(Refusal::not_allowed)?;
    let timezone = patch.timezone;
    if let Some(Some(name)) = &timezone {
        recurrence::zone(name).map_err(Refusal::invalid)?;
    }
    let patch = PatchCron { group: known_group(request)?, paused, timezone };
    shown(app, request, patch).await
}

pub(crate) async fn delete(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    app.engine.ask(DeleteCron(known_group(request)?)).await?;
    Ok(reply::no_content())
}

pub(crate) async fn add(app: &App, request: &Request) -> Answer {
    let entry: EntryRequest = body::parse_tolerant(request.body_format()?, &request.body)?;
    request.no_query()?;
    let group = new_name(request, 0)?;
    let name = entry.name.clone().ok_or_else(|| Refusal::invalid("the body: missing field `name`"))?;
    let add = AddEntry(group, check(app, request.caller(), name, entry).await?.into());
    Ok(reply::created(request.format, &app.engine.ask(add).await?))
}

pub(crate) async fn get_entry(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let get = GetEntry(known_group(request)?, known_entry(request)?);
    shown(app, request, get).await
}

pub(crate) async fn put_entry(app: &App, request: &Request) -> Answer {
    let entry: EntryRequest = body::parse_tolerant(request.body_format()?, &request.body)?;
    request.no_query()?;
    let (group, name) = (new_name(request, 0)?, new_name(request, 1)?);
    if let Some(other) = entry.name.as_ref().filter(|other| **other != name) {
        return Err(Refusal::invalid(format!("name: `{other}` is not the name in the path, `{name}`")));
    }
    shown(app, request, PutEntry(group, check(app, request.caller(), name, entry).await?.into())).await
}

pub(crate) async fn patch_entry(app: &App, request: &Request) -> Answer {
    let patch: EntryPatch = body::parse(request.body_format()?, &request.body)?;
    request.no_query()?;
    let paused = patch.paused().map_err(Refusal::not_allowed)?;
    let pause = PauseEntry { group: known_group(request)?, name: known_entry(request)?, paused };
    shown(app, request, pause).await
}

pub(crate) async fn delete_entry(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    app.engine.ask(DeleteEntry(known_group(request)?, known_entry(request)?)).await?;
    Ok(reply::no_content())
}

pub(crate) async fn run(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let (group, name) = (known_group(request)?, known_entry(request)?);
    let once = once::of(request)?;
    let taken = match app.engine.ask_once(once.as_ref(), RunEntry { group, name }).await? {
        Taken::Now(Ran::Enqueued(jobs)) => Taken::Now(jobs),
        Taken::Now(Ran::Folds(firing)) => app.batcher.fire(request.caller(), firing, once.as_ref()).await?,
        Taken::Again(again) => Taken::Again(again),
    };
    enqueue::answer_one(request, &taken, &[])
}

/// Asks the engine for a group or an entry and returns it as the response.
async fn shown<R>(app: &App, request: &Request, what: R) -> Answer
where
    R: command::Request<Answer: Serialize>,
{
    Ok(reply::ok(request.format, &app.engine.ask(what).await?))
}

/// Prefixes an error with the place in a job: `job.queue: ...`, or `job: ...` where it is about the job as a whole.
fn in_job(error: &str) -> String {
    match error.strip_prefix("the body: ") {
        Some(error) => format!("job: {error}"),
        None => format!("job.{error}"),
    }
}

/// Checks an entry. Errors name the entry.
async fn check(app: &App, caller: Caller, name: CronName, entry: EntryRequest) -> Result<NewEntry, Refusal> {
    let EntryRequest { expression, timezone, paused, job, .. } = entry;
    let wrong = |error: String| Refusal::invalid(format!("entry `{name}`: {error}"));
    let recurrence = expression.parse().map_err(wrong)?;
    if let Some(zone) = &timezone {
        recurrence::zone(zone).map_err(wrong)?;
    }
    let template = match Template::parse(&job) {
        Ok(template) => Arc::new(template),
        Err(EnqueueError::Malformed(Malformed(error))) => return Err(wrong(in_job(&error))),
        Err(EnqueueError::NotAllowed(error)) => {
            return Err(Refusal::not_allowed(format!("entry `{name}`: {}", in_job(&error))));
        }
    };
    enqueue::check_payload(&template.job, app.limits.max_payload_size, &format!("entry `{name}`: job."))?;
    if batching::is_batched(&template.job) {
        app.batcher.check(caller, &template.job).await.map_err(|refused| match refused {
            Refused::Job { error, .. } => wrong(format!("job.{error}")),
            refused => refused.into(),
        })?;
    }
    Ok(NewEntry { name, expression, recurrence, timezone, paused, template })
}

fn param(request: &Request, at: usize) -> &str {
    request.params.get(at).map(String::as_str).unwrap_or_default()
}

fn new_name(request: &Request, at: usize) -> Result<CronName, Refusal> {
    param(request, at).parse().map_err(|e| Refusal::invalid(format!("name: {e}")))
}

/// Reads the name of an existing group from the path. Text that cannot be a name is answered 404.
fn known_group(request: &Request) -> Result<CronName, Refusal> {
    let text = param(request, 0);
    text.parse().map_err(|_| Refusal::not_found(format!("no cron group has the name `{}`", excerpt(text))))
}

fn known_entry(request: &Request) -> Result<CronName, Refusal> {
    let text = param(request, 1);
    text.parse().map_err(|_| Refusal::not_found(format!("no cron entry has the name `{}`", excerpt(text))))
}
