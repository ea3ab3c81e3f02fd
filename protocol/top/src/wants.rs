//! Which calls give what a view shows.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::app::App;
use super::feeds::{Slot, Source, Want, want};
use super::filter::{Filter, query};
use super::place::{Tab, View};
use super::{dead, queues, workers};

/// How many rows are asked for at first, and how many more each time.
pub(super) const PAGE: usize = 200;
/// The largest page of the API.
const MAX_PAGE: usize = 2_000;

/// The ranges of history, as the API calls them.
pub(super) const RANGES: [&str; 5] = ["10m", "3h", "24h", "7d", "30d"];

const HISTORY: &str = "series=enqueued,completed,failed,ready,in_flight,wait_ms,run_ms";

/// A path of these segments.
pub(super) fn path(segments: &[&str]) -> String {
    segments.iter().map(|segment| format!("/{}", utf8_percent_encode(segment, NON_ALPHANUMERIC))).collect()
}

/// The live view of the tab.
pub(super) fn live(app: &App) -> String {
    let list = app.list_of(Tab::Queues);
    let queues = match app.tab {
        Tab::Overview => "order=oldest&desc=true&limit=100".to_owned(),
        Tab::Queues => {
            let (order, desc) = queues::order(list);
            let limit = (PAGE + list.more).min(1_000).to_string();
            let desc = if desc { "true" } else { "" };
            query([("contains", list.filter.as_str()), ("order", order), ("desc", desc), ("limit", &limit)])
        }
        _ => return "/live?topics=totals".to_owned(),
    };
    format!("/live?topics=totals,queues&{queues}")
}

/// What the view wants besides.
pub(super) fn of(app: &App) -> Vec<Want> {
    let mut wants = vec![want(Slot::WhoAmI, "/whoami", 60_000)];
    match app.open.last() {
        None => tab(app, &mut wants),
        Some(View::Queue(name)) => queue(name, &mut wants),
        Some(View::Group(key)) => {
            let query = dead::query_of(app, key.as_deref());
            let path = format!("/jobs?{query}&order=desc&limit={MAX_PAGE}&payload=none");
            wants.push(want(Slot::GroupJobs, path, 5_000));
            selected(app, &mut wants);
        }
        Some(View::Job(id) | View::Log(id)) => {
            wants.push(of_job(id, 1_000));
            wants.push(want(
                Slot::Errors,
                format!("{}/errors?order=desc&limit=20", path(&["jobs", id])),
                5_000,
            ));
        }
    }
    wants
}

fn tab(app: &App, wants: &mut Vec<Want>) {
    let list = app.list();
    let limit = (PAGE + list.more).min(MAX_PAGE);
    match app.tab {
        Tab::Overview => {
            let range = RANGES.get(app.range).unwrap_or(&"10m");
            let every = if app.range == 0 { 2_000 } else { 30_000 };
            wants.push(want(Slot::History, format!("/stats/history?range={range}&{HISTORY}"), every));
            wants.push(want(Slot::Paused, "/queues?details=true&paused=true&limit=20", 5_000));
            wants.push(want(Slot::Deaths, "/jobs?status=dead&order=desc&limit=10&payload=none", 5_000));
            wants.push(Want { slot: Slot::Crons, source: Source::Crons, every: 30_000 });
        }
        Tab::Queues => {}
        Tab::Jobs => {
            let filter = filter_of(app).query();
            let path = format!("/jobs?{filter}&order=desc&limit={limit}&payload=preview&preview_bytes=200");
            wants.push(want(Slot::Jobs, path, 2_000));
            selected(app, wants);
        }
        Tab::Running => {
            let mut filter = filter_of(app);
            filter.set("status", "in_flight".to_owned());
            if let Some(worker) = &list.worker {
                filter.set("worker", worker.clone());
            }
            let path = format!("/jobs?{}&limit={limit}&payload=none", filter.query());
            wants.push(want(Slot::Running, path, 1_000));
            selected(app, wants);
        }
        Tab::Dead => {
            let by = dead::by(list);
            let mut filter = filter_of(app);
            filter.set("status", "dead".to_owned());
            wants.push(want(Slot::Groups, format!("/jobs/groups?by={by}&{}", filter.query()), 5_000));
        }
        Tab::Workers => {
            let limit = limit.to_string();
            let order = workers::order(list);
            let query = query([("contains", list.filter.as_str()), ("order", order), ("limit", &limit)]);
            wants.push(want(Slot::Workers, format!("/workers?{query}"), 2_000));
        }
        Tab::Crons => wants.push(Want { slot: Slot::Crons, source: Source::Crons, every: 3_000 }),
        Tab::Budgets => wants.push(Want { slot: Slot::Budgets, source: Source::Budgets, every: 3_000 }),
    }
}

/// The job with the cursor.
fn selected(app: &App, wants: &mut Vec<Want>) {
    if let Some(id) = app.cursor() {
        wants.push(of_job(&id, 2_000));
    }
}

fn of_job(id: &str, every: u64) -> Want {
    want(Slot::Job, format!("{}?payload=preview&preview_bytes=4096", path(&["jobs", id])), every)
}

fn queue(name: &str, wants: &mut Vec<Want>) {
    let of = |more: &[(&str, &str)]| query([("queue", name)].into_iter().chain(more.iter().copied()));
    wants.push(want(Slot::Queue, path(&["queues", name]), 1_000));
    wants.push(want(Slot::QueueTypes, format!("/jobs/groups?by=type&newest=1000&{}", of(&[])), 10_000));
    wants.push(want(Slot::QueueWorkers, format!("/workers?{}", of(&[("limit", "50")])), 2_000));
    let history = format!("/stats/history?range=3h&{}&{HISTORY}", of(&[]));
    wants.push(want(Slot::QueueHistory, history, 10_000));
    let ready = of(&[("status", "ready"), ("limit", "100"), ("payload", "none")]);
    wants.push(want(Slot::QueueJobs, format!("/jobs?{ready}"), 5_000));
}

/// The filter of the list that is shown. One that cannot be read has been refused before.
pub(super) fn filter_of(app: &App) -> Filter {
    Filter::read(&app.list().filter, app.server_now()).unwrap_or_default()
}
