//! What people do to jobs and queues: which calls a key makes, and what is asked before.

use http::Method;
use serde_json::{Value, json};

use super::app::App;
use super::ask::Ask;
use super::change::{Bulk, ask, bulk, capital, now, of_bulk, of_ids, plain};
use super::crons;
use super::data::Look;
use super::dead;
use super::event::{Call, JobsOf};
use super::feeds::Slot;
use super::filter::query;
use super::format::{count, plural};
use super::jobs::some;
use super::place::{Tab, View};
use super::text::clean;
use super::told::Tone;
use super::wants::{filter_of, path};

/// What the keys of actions are about.
pub(super) enum Subject {
    Jobs(Vec<String>),
    /// All jobs that match this query.
    AllJobs(String),
    Queues(Vec<String>),
    /// A group of dead jobs.
    Group(Option<String>),
    Workers(Vec<String>),
    Crons(Vec<String>),
    Budget(String),
}

/// The marked rows, or the one with the cursor.
fn chosen(app: &App) -> Vec<String> {
    let Some(table) = app.table() else { return Vec::new() };
    let list = app.list();
    if list.all {
        return table.ids().map(str::to_owned).collect();
    }
    let marked: Vec<String> = table.ids().filter(|id| list.marked.contains(*id)).map(str::to_owned).collect();
    if !marked.is_empty() {
        return marked;
    }
    let at = list.position(table.ids());
    at.and_then(|at| table.ids().nth(at)).map(str::to_owned).into_iter().collect()
}

pub(super) fn subject(app: &App) -> Option<Subject> {
    let subject = match app.open.last() {
        Some(View::Job(id) | View::Log(id)) => Subject::Jobs(vec![id.clone()]),
        Some(View::Queue(name)) => Subject::Queues(vec![name.clone()]),
        Some(View::Group(_)) => Subject::Jobs(chosen(app)),
        None => match app.tab {
            Tab::Overview => return None,
            Tab::Queues => Subject::Queues(chosen(app)),
            Tab::Jobs if app.list().all => Subject::AllJobs(filter_of(app).query()),
            // No call that changes jobs can be told who has them.
            Tab::Running if app.list().all && app.list().worker.is_none() => {
                let mut filter = filter_of(app);
                filter.set("status", "in_flight".to_owned());
                Subject::AllJobs(filter.query())
            }
            Tab::Jobs | Tab::Running => Subject::Jobs(chosen(app)),
            Tab::Dead => Subject::Group(chosen(app).pop().filter(|key| key != dead::NOTHING)),
            Tab::Workers => Subject::Workers(chosen(app)),
            Tab::Crons => Subject::Crons(chosen(app)),
            Tab::Budgets => Subject::Budget(chosen(app).pop()?),
        },
    };
    let is_empty = match &subject {
        Subject::Jobs(all) | Subject::Queues(all) | Subject::Workers(all) | Subject::Crons(all) => {
            all.is_empty()
        }
        Subject::Group(_) => app.table().is_none_or(|table| table.rows.is_empty()),
        Subject::AllJobs(_) | Subject::Budget(_) => false,
    };
    (!is_empty).then_some(subject)
}

/// Does what a key says. Returns whether it says anything here.
pub(super) fn key(app: &mut App, key: char) -> bool {
    match (key, subject(app)) {
        ('r' | 'P' | 'D' | 'K', Some(Subject::Jobs(ids))) => of_jobs(app, key, &ids),
        ('r' | 'P' | 'D', Some(Subject::AllJobs(query))) => of_all_jobs(app, key, &query),
        ('p', Some(Subject::Queues(names))) => pause(app, &names),
        ('r' | 'P' | 'D', Some(Subject::Queues(names))) => of_queues(app, key, &names),
        ('r' | 'D', Some(Subject::Group(group))) => of_group(app, key, group),
        ('R' | 'D', Some(Subject::Workers(streams))) => of_workers(app, key, &streams),
        ('p' | 'r' | 'D', Some(Subject::Crons(entries))) => of_crons(app, key, &entries),
        ('D', Some(Subject::Budget(budget))) => of_budget(app, &budget),
        _ => return false,
    }
    true
}

fn of_jobs(app: &mut App, key: char, ids: &[String]) {
    match (key, ids) {
        ('r', [id]) => {
            let call = Call::new(Method::POST, format!("{}/retry", path(&["jobs", id])), Some(json!({})));
            now(app, vec![call], format!("job {id} is ready again"));
        }
        ('r', ids) => {
            bulk(app, Bulk::Retry, &of_ids(ids), &format!("{} become ready again.", capital(&some(ids))))
        }
        ('P', ids) => {
            bulk(app, Bulk::Prioritise, &of_ids(ids), &format!("Another priority for {}.", some(ids)));
        }
        ('D', ids) => {
            bulk(
                app,
                Bulk::Delete,
                &of_ids(ids),
                &format!("{} deleted, with errors, results and output.", verb(ids)),
            );
        }
        _ => kill(app, ids),
    }
}

fn of_all_jobs(app: &mut App, key: char, query: &str) {
    let (which, says) = match key {
        'r' => (Bulk::Retry, "All jobs that match become ready again."),
        'P' => {
            (Bulk::Prioritise, "All jobs that match get another priority; those that have ended keep theirs.")
        }
        _ => (Bulk::Delete, "All jobs that match are deleted, with errors, results and output."),
    };
    bulk(app, which, query, says);
}

fn of_queues(app: &mut App, key: char, names: &[String]) {
    let of = clean(&names.join(", "));
    let (which, status, says) = match key {
        'r' => (Bulk::Retry, "dead", format!("Dead jobs of {of} become ready again.")),
        'P' => (Bulk::Prioritise, "ready", format!("Ready jobs of {of} get another priority.")),
        _ => (Bulk::Delete, "dead", format!("Dead jobs of {of} are deleted.")),
    };
    bulk(app, which, &query([("queue", names.join(",").as_str()), ("status", status)]), &says);
}

fn of_budget(app: &mut App, budget: &str) {
    let says = format!(
        "The budget {} is deleted, if no unfinished job and no cron entry draws on it.",
        clean(budget)
    );
    let call = Call::new(Method::DELETE, path(&["budgets", budget]), None);
    let done = format!("{} is deleted", clean(budget));
    ask(app, "configure", Ask { verb: "delete", danger: true, done, ..plain(says, vec![call]) });
}

fn verb(ids: &[String]) -> String {
    format!("{} {}", capital(&some(ids)), if ids.len() == 1 { "is" } else { "are" })
}

fn kill(app: &mut App, ids: &[String]) {
    let body = json!({"message": "stopped by hand", "kill": true});
    let call =
        |id: &String| Call::new(Method::POST, format!("{}/failure", path(&["jobs", id])), Some(body.clone()));
    let says = format!(
        "{} stopped and marked dead: the worker is told to stop, and nothing is tried again unless somebody retries it.",
        verb(ids)
    );
    let done = format!("{} dead", verb(ids));
    ask(
        app,
        "operate",
        Ask { verb: "stop", danger: true, done, ..plain(says, ids.iter().map(call).collect()) },
    );
}

fn pause(app: &mut App, names: &[String]) {
    let rows = app.live.queues().unwrap_or_default();
    let first = names.first().map(String::as_str);
    let known = rows.iter().find(|row| row.text("name") == first).copied();
    let paused = known.or(app.feeds.get(Slot::Queue)).is_some_and(|row| row.is("paused"));
    let verb = if paused { "resume" } else { "pause" };
    let calls =
        names.iter().map(|name| Call::new(Method::POST, format!("{}/{verb}", path(&["queues", name])), None));
    let what = if names.len() == 1 {
        clean(&names.concat())
    } else {
        plural(u64::try_from(names.len()).unwrap_or_default(), "queue")
    };
    let calls = calls.collect();
    now(app, calls, format!("{what} {verb}d; p again takes it back"));
}

/// Dead jobs of a group: those of a type or a queue by a filter, those of an error by their ids.
fn of_group(app: &mut App, key: char, group: Option<String>) {
    let by = dead::by(app.list());
    if by == "message" {
        app.tell(
            "messages are no filter: open the group with Enter, and mark its jobs with * there",
            Tone::Bad,
        );
        return;
    }
    let name = clean(group.as_deref().unwrap_or("(none)"));
    let says = if key == 'r' { "become ready again" } else { "are deleted" };
    let says = format!("Dead jobs of the group {name} {says}.");
    let query = dead::query_of(app, group.as_deref());
    let which = if key == 'r' { Bulk::Retry } else { Bulk::Delete };
    let mut about = of_bulk(which, &query, &says);
    if by == "error_type" {
        about.jobs_of = Some(JobsOf { error_type: group, query });
    }
    ask(app, "operate", about);
}

/// Drains or disconnects.
fn of_workers(app: &mut App, key: char, streams: &[String]) {
    let workers = app.feeds.get(Slot::Workers).list("workers");
    let is_meant =
        |worker: &&Value| worker.text("stream").is_some_and(|stream| streams.iter().any(|one| one == stream));
    let held: u64 = workers.iter().filter(is_meant).filter_map(|worker| worker.num("in_flight")).sum();
    let held = plural(held, "job");
    let n = u64::try_from(streams.len()).unwrap_or_default();
    let (who, has, the) = match n {
        1 => ("1 stream".to_owned(), "it has", "the stream"),
        n => (format!("{} streams", count(n)), "they have", "the streams"),
    };
    let [gets, ends, is] = if n == 1 { ["gets", "ends", "is"] } else { ["get", "end", "are"] };
    let (verb, says, done) = match key {
        'R' => (
            "drain",
            format!(
                "{who} {gets} no more jobs. What {has} now, {held}, goes on; zizq-worker ends when it is done."
            ),
            format!("{the} {gets} no more jobs"),
        ),
        _ => (
            "disconnect",
            format!(
                "{who} {ends}. What {has} now, {held}, is ready again at once: another worker may run it while this one \
                 still does. A worker that is alive connects again; R sends it home."
            ),
            format!("{the} {is} disconnected"),
        ),
    };
    let call =
        |stream: &String| Call::new(Method::POST, format!("{}/{verb}", path(&["workers", stream])), None);
    let calls = streams.iter().map(call).collect();
    ask(app, "operate", Ask { verb, danger: true, done, ..plain(says, calls) });
}

fn of_crons(app: &mut App, key: char, ids: &[String]) {
    let names: Vec<(String, String)> = ids
        .iter()
        .filter_map(|id| id.split_once(crons::BETWEEN))
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect();
    let at = |(group, entry): &(String, String)| path(&["crons", group, "entries", entry]);
    let shown: Vec<String> = names.iter().map(|(group, entry)| clean(&format!("{group}/{entry}"))).collect();
    let shown = shown.join(", ");
    match key {
        'p' => {
            let entries = crons::entries(app);
            let is_first = |group: &Value, entry: &Value| {
                names
                    .first()
                    .is_some_and(|(a, b)| group.text("name") == Some(a) && entry.text("name") == Some(b))
            };
            let paused = entries.iter().any(|(group, entry)| is_first(group, entry) && entry.is("paused"));
            let body = json!({"paused": !paused});
            let calls =
                names.iter().map(|name| Call::new(Method::PATCH, at(name), Some(body.clone()))).collect();
            now(
                app,
                calls,
                format!("{shown} {}; p again takes it back", if paused { "resumed" } else { "paused" }),
            );
        }
        'r' => {
            let calls =
                names.iter().map(|name| Call::new(Method::POST, format!("{}/run", at(name)), None)).collect();
            now(app, calls, format!("{shown} has enqueued its job"));
        }
        _ => {
            let calls = names.iter().map(|name| Call::new(Method::DELETE, at(name), None)).collect();
            let says = format!(
                "{shown} {} deleted. Jobs that were enqueued stay.",
                if names.len() == 1 { "is" } else { "are" }
            );
            let done = "deleted".to_owned();
            ask(app, "configure", Ask { verb: "delete", danger: true, done, ..plain(says, calls) });
        }
    }
}
