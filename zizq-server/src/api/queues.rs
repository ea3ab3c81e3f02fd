//! `GET /queues`, `GET /queues/{q}`, pause and resume.

use std::borrow::Cow;

use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::access::Verb;
use protocol::body;
use protocol::error::excerpt;
use protocol::job::Status;
use protocol::name::QueueName;
use protocol::page::{MAX_PAGE, Pages};
use protocol::pause::PausePatch;
use protocol::synonyms;
use serde_json::{Value, json};

use super::listing::{weight, with_param};
use super::stats::{SeriesName, columns, one_of, rates};
use super::{App, difference};
use crate::access::Scope;
use crate::board::{Flow, Order, Position, QueueRow, Range, Rates, Selection};
use crate::clock;
use crate::engine::command::Edited;
use crate::engine::command::queues::{
    ForgetQueue, LastRelease, ListQueues, OldestReady, OldestReadyAt, PauseQueue, QueueState,
};
use crate::engine::command::report::Tally;
use crate::hash::HashMap;
use crate::http::memory::PAGE;
use crate::http::query::Query;
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;

/// The most names that are compared to suggest the intended queue.
const MAX_NAMES: usize = 1_000;
/// How many queues the engine is asked about at a time.
const OLDEST_SLICE: usize = 1_000;
/// The most queues of one answer whose oldest jobs are looked up in the store.
const MAX_SEEKS: usize = 200;
/// How many queues are paused or resumed at a time.
const AT_A_TIME: usize = 64;
/// The most queues of one answer whose last hour is shown.
const MAX_HOURS: usize = 100;
/// The least number of deliveries per second that says how long a backlog will take.
const LEAST_RATE: f64 = 0.001;

pub(crate) async fn list(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let details = query.flag("details")?;
    let (mut selection, page) = read_selection(&mut query, details)?;
    let series = query.list::<SeriesName>("series")?;
    query.finish()?;
    if series.is_some() && !(details && selection.limit.is_some_and(|limit| limit <= MAX_HOURS)) {
        let needs = format!("series: needs `details=true` and a `limit` of at most {MAX_HOURS}");
        return Err(Refusal::invalid(needs));
    }
    // A name alone is shown while there are jobs; the details also say what is paused.
    selection.with_jobs = !details;
    selection.within = request.scope.clone();
    app.board.refresh().await?;
    let selection = with_oldest(app, selection).await?;
    let mut selected = app.board.select(selection.clone()).await;
    let oldest = if details { oldest_of(app, &selected.rows).await? } else { HashMap::default() };
    let hour = |row: &QueueRow| series.as_deref().and_then(|series| hour(app, &row.state.name, series));
    let show = |row: &QueueRow| {
        if !details {
            return json!(row.state.name);
        }
        let mut shown = detailed(row, oldest.get(&row.state.name).copied());
        if let Some(members) = shown.as_object_mut() {
            members.extend(hour(row).map(|hour| ("last_hour".to_owned(), hour)));
        }
        shown
    };
    let (mut shown, mut bytes) = (Vec::with_capacity(selected.rows.len()), 0);
    for (at, row) in selected.rows.iter().enumerate() {
        if bytes > PAGE {
            let last = at.checked_sub(1).and_then(|last| selected.rows.get(last));
            selected.next = last.map(|row| selection.position(row));
            break;
        }
        let value = show(row);
        bytes += weight(&value);
        shown.push(value);
    }
    let mut answer = json!({"queues": shown});
    if let Some(members) = answer.as_object_mut()
        && (selected.next.is_some() || page.is_asked_for)
    {
        let next = selected.next.map(|position| page.link(&position));
        members.insert("pages".to_owned(), json!(Pages { this: page.this, next, prev: None }));
    }
    Ok(reply::ok(request.format, &answer))
}

/// How a queue developed in the last hour; none if it is not tracked.
fn hour(app: &App, queue: &QueueName, series: &[SeriesName]) -> Option<Value> {
    Some(Value::Object(columns(&app.board.history(Some(queue), Range::Hour)?, Some(series))))
}

/// The links of a list of queues.
pub(super) struct Links {
    /// The list as it was asked for.
    pub this: String,
    /// The same without a position.
    base: String,
    /// Whether only a part was asked for.
    is_asked_for: bool,
    by_name: bool,
}

impl Links {
    fn link(&self, after: &Position) -> String {
        let from = if self.by_name { after.name.clone() } else { format!("{}:{}", after.value, after.name) };
        with_param(&self.base, "from", &from)
    }
}

/// Reads which queues are wanted, and the links that lead there.
pub(super) fn read_selection(query: &mut Query<'_>, details: bool) -> Result<(Selection, Links), Refusal> {
    let mut base = if details { "/queues?details=true" } else { "/queues" }.to_owned();
    for name in ["prefix", "contains", "status", "paused", "order", "desc", "limit", "series"] {
        if let Some(value) = query.peek(name).filter(|value| !value.is_empty()) {
            base = with_param(&base, name, value);
        }
    }
    let (prefix, contains) = (text(query.text("prefix")), text(query.text("contains")));
    let statuses = Status::ALL.map(|status| (status.as_str(), status));
    let status = query.read("status", |text| one_of(text, &statuses))?;
    let paused = query.peek("paused").is_some().then(|| query.flag("paused")).transpose()?;
    let order = query.read("order", |text| one_of(text, &Order::ALL))?.unwrap_or_default();
    let descending = query.flag("desc")?;
    let limit = query.number("limit", 1, MAX_PAGE)?;
    let from = text(query.text("from"));
    let this = from.as_ref().map_or_else(|| base.clone(), |from| with_param(&base, "from", from));
    let (by_name, is_asked_for) = (order == Order::Name, from.is_some() || limit.is_some());
    let position = |from: String| match from.split_once(':') {
        _ if by_name => Ok(Position { value: 0, name: from }),
        Some((value, name)) if value.parse::<u64>().is_ok() => {
            Ok(Position { value: value.parse().unwrap_or_default(), name: name.to_owned() })
        }
        _ => Err(Refusal::invalid(format!(
            "from: `{}` is not a position in this order; use the `next` of a page",
            excerpt(&from)
        ))),
    };
    let from = from.map(position).transpose()?;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    let oldest = HashMap::default();
    let selection = Selection {
        within: Scope::All,
        with_jobs: false,
        prefix,
        contains,
        status,
        paused,
        order,
        descending,
        from,
        limit,
        oldest,
    };
    Ok((selection, Links { this, base, is_asked_for, by_name }))
}

/// A parameter, unless it is empty.
fn text(text: Option<Cow<'_, str>>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(Cow::into_owned)
}

/// Adds what an order by age needs: how old the oldest ready job of each queue is.
pub(super) async fn with_oldest(app: &App, selection: Selection) -> Result<Selection, Refusal> {
    if selection.order != Order::Oldest {
        return Ok(selection);
    }
    let ready = Selection { status: Some(Status::Ready), ..selection.clone() };
    let names = app.board.names(&ready);
    Ok(Selection { oldest: oldest(app, names).await?, ..selection })
}

/// Since when the oldest ready jobs of these queues have been ready.
pub(super) async fn oldest_of(app: &App, rows: &[QueueRow]) -> Result<HashMap<QueueName, u64>, Refusal> {
    let ready = rows.iter().filter(|row| row.state.counts.of(Status::Ready) > 0);
    oldest(app, ready.map(|row| row.state.name.clone()).collect()).await
}

/// The engine knows the oldest job of every queue that somebody takes from. The others are looked up in the store, but
/// only so many: each is a read or two.
pub(super) async fn oldest(app: &App, names: Vec<QueueName>) -> Result<HashMap<QueueName, u64>, Refusal> {
    let (mut oldest, mut in_store) = (HashMap::default(), Vec::new());
    for slice in names.chunks(OLDEST_SLICE) {
        let answers = app.engine.ask(OldestReady(slice.to_vec())).await?;
        for (name, answer) in slice.iter().zip(answers) {
            match answer {
                OldestReadyAt::None => {}
                OldestReadyAt::At(at) => drop(oldest.insert(name.clone(), at)),
                OldestReadyAt::InStore if in_store.len() < MAX_SEEKS => in_store.push(name.clone()),
                OldestReadyAt::InStore => {}
            }
        }
    }
    if !in_store.is_empty() {
        oldest.extend(app.reader.oldest_ready(&in_store).await?);
    }
    Ok(oldest)
}

pub(super) fn detailed(row: &QueueRow, oldest: Option<u64>) -> Value {
    let mut shown = queue(&row.state, oldest.as_ref());
    if let Some(members) = shown.as_object_mut() {
        members.insert("rates".to_owned(), rates(&row.rates, None));
    }
    shown
}

pub(crate) async fn one(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let name = name(request)?;
    let names = Some(vec![name.clone()]);
    let state = app.engine.ask(ListQueues { names }).await?.pop();
    answer(app, request, state.unwrap_or_else(|| QueueState::empty(name))).await
}

pub(crate) async fn pause(app: &App, request: &Request, paused: bool) -> Answer {
    request.no_query()?;
    let Edited { before, now } = app.engine.ask(PauseQueue { queue: name(request)?, paused }).await?;
    difference::note(request, before.as_deref().map(difference::queue), Some(difference::queue(&now)));
    answer(app, request, now).await
}

/// Pauses or resumes all queues of the caller that have jobs or are paused.
pub(crate) async fn pause_all(app: &App, request: &Request) -> Answer {
    let patch: PausePatch = body::parse(request.body_format()?, &request.body)?;
    let mut query = request.query()?;
    let (prefix, contains) = (text(query.text("prefix")), text(query.text("contains")));
    query.finish()?;
    let paused = patch.paused().map_err(Refusal::not_allowed)?;
    app.board.refresh().await?;
    let within = request.scope.clone();
    let others = Selection { within, prefix, contains, paused: Some(!paused), ..Selection::default() };
    let names = app.board.names(&others);
    let (matched, mut patched) = (names.len() as u64, 0);
    // Together, so that one commit serves many.
    let pause = |queue| app.engine.ask(PauseQueue { queue, paused });
    let mut pauses = stream::iter(names).map(pause).buffer_unordered(AT_A_TIME);
    let done = loop {
        match pauses.try_next().await {
            Ok(Some(Edited { before, now })) => {
                patched += u64::from(before.is_none_or(|before| before.paused != now.paused));
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    request.notes().count(matched, patched);
    done.map_err(|error| Refusal::from(error).after(patched))?;
    Ok(reply::ok(request.format, &json!({"patched": patched})))
}

pub(crate) async fn forget(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let name = name(request)?;
    app.engine.ask(ForgetQueue(name.clone())).await?;
    // Nothing else is forgotten.
    let before = QueueState { paused: true, ..QueueState::empty(name) };
    difference::note(request, Some(difference::queue(&before)), None);
    Ok(reply::no_content())
}

async fn answer(app: &App, request: &Request, state: QueueState) -> Answer {
    app.board.refresh().await?;
    let row = app.board.queue(&state.name);
    let oldest = oldest(app, vec![state.name.clone()]).await?;
    let mut shown = queue(&state, oldest.get(&state.name));
    if let Some(members) = shown.as_object_mut() {
        let known = row.as_ref().map_or((Rates::default(), Tally::default()), |row| (row.rates, row.tally));
        members.insert("rates".to_owned(), rates(&known.0, None));
        let age = oldest.get(&state.name).map(|at| clock::now().wall.saturating_sub(*at));
        members.insert("oldest_ready_ms".to_owned(), json!(age.unwrap_or_default()));
        members.insert("backlog_ms".to_owned(), json!(backlog(&state, &known.0, &known.1)));
        members.extend(note(app, request, &state).map(|note| ("note".to_owned(), json!(note))));
    }
    Ok(reply::ok(request.format, &shown))
}

/// How long the ready jobs will take, in milliseconds: at the rate of the last minute or, if none were delivered, by the
/// mean time of earlier attempts, one per worker. None if neither is known.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate"
)]
fn backlog(state: &QueueState, rates: &Rates, tally: &Tally) -> Option<u64> {
    let (ready, rate) = (state.counts.of(Status::Ready), rates.minute(Flow::Delivered));
    if ready == 0 {
        return Some(0);
    }
    if rate >= LEAST_RATE {
        return Some((ready as f64 / rate * 1_000.0) as u64);
    }
    let mean = tally.ran.mean()?;
    Some(ready.saturating_mul(mean) / state.workers.max(1))
}

/// Returns a note about a queue without jobs, whose name may be a typo.
fn note(app: &App, request: &Request, state: &QueueState) -> Option<String> {
    if state.counts.stored.total() > 0 {
        return None;
    }
    let reads = request.scope_of(Verb::Read);
    let names = app.board.names(&Selection { within: reads, with_jobs: true, ..Selection::default() });
    let names: Vec<&str> = names.iter().take(MAX_NAMES).map(QueueName::as_str).collect();
    let meant = synonyms::suggest(&state.name, &names).map(|meant| format!("; did you mean `{meant}`?"));
    match (state.paused, meant) {
        (false, None) => None,
        (false, Some(meant)) => Some(format!("no job is in this queue{meant}")),
        (true, meant) => Some(format!(
            "no job is in this queue; it stays paused until it is resumed, or deleted with DELETE{}",
            meant.unwrap_or_default()
        )),
    }
}

fn name(request: &Request) -> Result<QueueName, Refusal> {
    let text = request.params.first().map(String::as_str).unwrap_or_default();
    QueueName::new(text).map_err(|e| Refusal::not_found(format!("no queue has this name: {e}")))
}

fn queue(state: &QueueState, oldest_ready_at: Option<&u64>) -> Value {
    let counts: serde_json::Map<String, Value> = Status::ALL
        .into_iter()
        .map(|status| (status.as_str().to_owned(), json!(state.counts.of(status))))
        .collect();
    let mut shown =
        json!({"name": state.name, "paused": state.paused, "counts": counts, "workers": state.workers});
    // The store was read a moment later than the counts.
    let oldest_ready_at = oldest_ready_at.filter(|_| state.counts.of(Status::Ready) > 0);
    if let (Some(at), Some(members)) = (oldest_ready_at, shown.as_object_mut()) {
        members.insert("oldest_ready_at".to_owned(), json!(at));
    }
    show_release(&mut shown, state.last_release.as_deref());
    shown
}

/// Adds the reason of the last release, if a worker gave one.
pub(super) fn show_release(shown: &mut Value, release: Option<&LastRelease>) {
    let (Some(LastRelease { reason, at, queue, worker }), Some(members)) = (release, shown.as_object_mut())
    else {
        return;
    };
    let mut release = json!({"reason": reason, "at": at, "queue": queue});
    if let (Some(name), Some(members)) = (worker, release.as_object_mut()) {
        members.insert("worker".to_owned(), json!(name));
    }
    members.insert("last_release".to_owned(), release);
}
