//! Cron groups and their entries.

use std::sync::Arc;

use jiff::tz::TimeZone;
use protocol::access::Verb;
use protocol::body;
use protocol::body::Malformed;
use protocol::cron::{EntryRequest, EntryView, GroupPatch, GroupRequest, GroupView, Template};
use protocol::enqueue::EnqueueError;
use protocol::error::excerpt;
use protocol::name::{BudgetKey, CronName};
use protocol::object::Object;
use protocol::pause::PausePatch;
use serde::Serialize;
use serde_json::{Value, json};

use super::listing::Listing;
use super::{App, admit, budgets, difference, enqueue, once};
use crate::batching::{self, Refused};
use crate::engine::command::crons::{
    AddEntry, DeleteCron, DeleteCrons, DeleteEntry, GetCron, GetEntry, ListCrons, NewEntry, PatchCron,
    PauseEntry, PutCron, PutEntry, Ran, RunEntry,
};
use crate::engine::command::once::Taken;
use crate::engine::command::{self, Edited};
use crate::engine::recurrence::{self, Recurrence};
use crate::hash::HashSet;
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;
use crate::run::handle::CallError;

/// The most of the next times of an entry that are shown.
const MAX_NEXT: u64 = 10;

pub(crate) async fn list(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let listing = Listing::read(&mut query)?;
    query.finish()?;
    let mut names = app.engine.ask(ListCrons).await?;
    if !request.scope.is_all() {
        let mut own = Vec::new();
        for name in names {
            // It may have been deleted since.
            let group = app.engine.ask(GetCron(name.clone())).await.ok();
            own.extend(
                group.filter(|group| group.entries.iter().any(|entry| is_own(request, entry))).map(|_| name),
            );
        }
        names = own;
    }
    listing.answer(request, ("/crons", "crons"), names, ToString::to_string, |name| json!(name))
}

pub(crate) async fn delete_all(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let deleted = app.engine.ask(DeleteCrons).await?;
    request.notes().count(deleted as u64, deleted as u64);
    Ok(reply::ok(request.format, &json!({"deleted": deleted})))
}

pub(crate) async fn get(app: &App, request: &Request) -> Answer {
    let next = read_next(request)?;
    let name = known_group(request)?;
    let mut group = app.engine.ask(GetCron(name.clone())).await?;
    if !request.scope.is_all() {
        group.entries.retain(|entry| is_own(request, entry));
        if group.entries.is_empty() {
            return Err(Refusal::not_found(format!("no cron group has the name `{name}`")));
        }
    }
    let group = with_next(app, group, next).await?;
    Ok(reply::ok(request.format, &without_payloads(request, group)))
}

/// How many of the next times of an entry are asked for.
fn read_next(request: &Request) -> Result<usize, Refusal> {
    let mut query = request.query()?;
    let next = query.number("next", 1, MAX_NEXT)?;
    query.finish()?;
    Ok(next.and_then(|next| usize::try_from(next).ok()).unwrap_or_default())
}

/// Adds the next times of all entries.
async fn with_next(app: &App, mut group: GroupView, next: usize) -> Result<GroupView, Refusal> {
    if next == 0 {
        return Ok(group);
    }
    let zone = app.zone.clone();
    let add = move || {
        for entry in &mut group.entries {
            let named = entry.timezone.as_ref().or(group.timezone.as_ref());
            let zone = named.and_then(|name| recurrence::zone(name).ok()).unwrap_or_else(|| zone.clone());
            entry.next = times(entry, &zone, next);
        }
        group
    };
    // Thousands of entries, or one for each leap day, take a while.
    Ok(tokio::task::spawn_blocking(add).await.map_err(|_| CallError::Stopped)?)
}

fn times(entry: &EntryView, zone: &TimeZone, most: usize) -> Vec<u64> {
    let Ok(recurrence) = Recurrence::stored(&entry.expression) else { return Vec::new() };
    std::iter::successors(entry.next_enqueue_at, |at| recurrence.next(zone, *at)).take(most).collect()
}

/// Whether the job of an entry goes to one of the caller's queues.
fn is_own(request: &Request, entry: &EntryView) -> bool {
    request.scope.covers(admit::queue_of_template(&entry.job))
}

/// Leaves out the payloads that the caller may not see.
trait WithoutPayloads {
    fn hide(&mut self, is_shown: &dyn Fn(&str) -> bool);
}

impl WithoutPayloads for EntryView {
    fn hide(&mut self, is_shown: &dyn Fn(&str) -> bool) {
        if !is_shown(admit::queue_of_template(&self.job))
            && let Some(members) = self.job.as_object_mut()
        {
            members.remove("payload");
            members.insert("hidden".to_owned(), json!(true));
        }
    }
}

impl WithoutPayloads for GroupView {
    fn hide(&mut self, is_shown: &dyn Fn(&str) -> bool) {
        self.entries.iter_mut().for_each(|entry| entry.hide(is_shown));
    }
}

fn without_payloads<V: WithoutPayloads>(request: &Request, mut view: V) -> V {
    let payloads = request.scope_of(Verb::Payload);
    // Whoever sets up what is enqueued knows what that is.
    let configures = request.scope_of(Verb::Configure);
    view.hide(&|queue| payloads.covers(queue) || configures.covers(queue));
    view
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
        entries.push(check(app, request, name, entry).await?);
    }
    let put = PutCron { group, paused: body.paused, timezone: body.timezone, entries };
    edited(app, request, put, difference::group).await
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
    edited(app, request, patch, difference::group).await
}

pub(crate) async fn delete(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let before = app.engine.ask(DeleteCron(known_group(request)?)).await?;
    difference::note(request, Some(difference::group(&before)), None);
    Ok(reply::no_content())
}

pub(crate) async fn add(app: &App, request: &Request) -> Answer {
    let entry: EntryRequest = body::parse_tolerant(request.body_format()?, &request.body)?;
    request.no_query()?;
    let group = new_name(request, 0)?;
    let name = entry.name.clone().ok_or_else(|| Refusal::invalid("the body: missing field `name`"))?;
    let add = AddEntry(group, check(app, request, name, entry).await?.into());
    let added = app.engine.ask(add).await?;
    difference::note(request, None, Some(difference::entry(&added)));
    Ok(reply::created(request.format, &without_payloads(request, added)))
}

pub(crate) async fn get_entry(app: &App, request: &Request) -> Answer {
    let next = read_next(request)?;
    let (group, name) = (known_group(request)?, known_entry(request)?);
    let mut entry = app.engine.ask(GetEntry(group.clone(), name)).await?;
    if next > 0 {
        // Its zone may be that of the group.
        let group = GroupView { entries: vec![entry.clone()], ..app.engine.ask(GetCron(group)).await? };
        entry = with_next(app, group, next).await?.entries.pop().unwrap_or(entry);
    }
    Ok(reply::ok(request.format, &without_payloads(request, entry)))
}

pub(crate) async fn put_entry(app: &App, request: &Request) -> Answer {
    let entry: EntryRequest = body::parse_tolerant(request.body_format()?, &request.body)?;
    request.no_query()?;
    let (group, name) = (new_name(request, 0)?, new_name(request, 1)?);
    if let Some(other) = entry.name.as_ref().filter(|other| **other != name) {
        return Err(Refusal::invalid(format!("name: `{other}` is not the name in the path, `{name}`")));
    }
    let put = PutEntry(group, check(app, request, name, entry).await?.into());
    edited(app, request, put, difference::entry).await
}

pub(crate) async fn patch_entry(app: &App, request: &Request) -> Answer {
    let patch: PausePatch = body::parse(request.body_format()?, &request.body)?;
    request.no_query()?;
    let paused = patch.paused().map_err(Refusal::not_allowed)?;
    let pause = PauseEntry { group: known_group(request)?, name: known_entry(request)?, paused };
    edited(app, request, pause, difference::entry).await
}

pub(crate) async fn delete_entry(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let before = app.engine.ask(DeleteEntry(known_group(request)?, known_entry(request)?)).await?;
    difference::note(request, Some(difference::entry(&before)), None);
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

/// Has the engine edit a group or an entry and returns it as the response.
async fn edited<R, V>(app: &App, request: &Request, what: R, told: fn(&V) -> Value) -> Answer
where
    R: command::Request<Answer = Edited<V>>,
    V: Serialize + WithoutPayloads + Send,
{
    let Edited { before, now } = app.engine.ask(what).await?;
    difference::note(request, before.as_deref().map(told), Some(told(&now)));
    Ok(reply::ok(request.format, &without_payloads(request, now)))
}

/// Prefixes an error with the place in a job: `job.queue: ...`, or `job: ...` where it is about the job as a whole.
fn in_job(error: &str) -> String {
    match error.strip_prefix("the body: ") {
        Some(error) => format!("job: {error}"),
        None => format!("job.{error}"),
    }
}

/// Checks an entry. Errors name the entry.
async fn check(
    app: &App,
    request: &Request,
    name: CronName,
    entry: EntryRequest,
) -> Result<NewEntry, Refusal> {
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
    admit::covered(request, Verb::Configure, &template.job.queue)?;
    let brought: Vec<BudgetKey> = template.job.create_budgets.iter().map(|(key, _)| key.clone()).collect();
    budgets::may_create(app, request, &brought).await?;
    enqueue::check_payload(&template.job, app.limits.max_payload_size, &format!("entry `{name}`: job."))?;
    if batching::is_batched(&template.job) {
        app.batcher.check(request.caller(), &template.job).await.map_err(|refused| match refused {
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
