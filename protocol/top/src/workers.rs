//! Workers: who takes jobs, and how many they have.

use ratatui::style::Stylize;
use ratatui::text::Line;
use serde_json::Value;

use super::app::App;
use super::data::Look;
use super::feeds::Slot;
use super::format::{ago, count, plural};
use super::list::List;
use super::look::{WARN, dim, none, num_in, told};
use super::table::{Row, Table, empty, number, words};
use super::text::clean;

/// What the list can be ordered by, and the title of the column.
pub(super) const ORDERS: [(&str, &str); 3] =
    [("connected_at", "Connected"), ("in_flight", "In flight"), ("worker", "Worker")];

pub(super) fn order(list: &List) -> &'static str {
    ORDERS.get(list.order % ORDERS.len()).map_or("connected_at", |(order, _)| *order)
}

pub(super) fn table(app: &App) -> Table {
    let answer = app.feeds.get(Slot::Workers);
    let now = app.server_now();
    let rows: Vec<Row> = answer.list("workers").iter().map(|worker| row(worker, now)).collect();
    let held: u64 = answer.list("workers").iter().filter_map(|worker| worker.num("in_flight")).sum();
    let shown = u64::try_from(rows.len()).unwrap_or_default();
    let filter = clean(&app.list().filter);
    let more = if answer.text("/pages/next").is_some() { " shown" } else { "" };
    let note = format!("{}{more}, {} in flight  {filter}", plural(shown, "stream"), plural(held, "job"));
    let at_all = vec![
        Line::from("No worker is connected. This runs the jobs of the queue `hello` with a command:").bold(),
        Line::from(format!("  zizq-worker --server {} --run 'hello=cat'", app.curl.1)),
    ];
    let empty = empty(app, answer.is_some(), at_all, &format!("No worker has {filter} in its name"));
    let columns = vec![
        words("Worker", 36, 0),
        words("Stream", 12, 3),
        words("Queues", 30, 1),
        number("In flight", 0),
        number("Prefetch", 4),
        number("Connected", 2),
        words("Address", 22, 5),
        words("Version", 20, 7),
        words("Format", 8, 6),
    ];
    let by = order(app.list());
    let sorted = ORDERS.iter().find(|(order, _)| *order == by).map(|(_, title)| (*title, by == "in_flight"));
    Table { columns, rows, sorted, note: dim(note), empty }
}

fn row(worker: &Value, now: u64) -> Row {
    let stream = worker.text("stream").unwrap_or_default();
    let queues: Vec<String> = worker.list("queues").iter().filter_map(Value::as_str).map(clean).collect();
    let prefetch = worker.num("prefetch").filter(|n| *n > 0).map_or_else(none, |n| Line::from(count(n)));
    let state = if worker.is("draining") {
        Line::from("draining".fg(WARN))
    } else {
        told(worker.text("format").unwrap_or_default())
    };
    Row {
        id: stream.to_owned(),
        cells: vec![
            worker.text("worker").map_or_else(none, told),
            dim(stream),
            if queues.is_empty() { dim("all") } else { Line::from(queues.join(", ")) },
            worker.num("in_flight").map_or_else(none, |n| num_in(n, super::look::FLIGHT)),
            prefetch,
            worker.num("connected_at").map_or_else(none, |at| Line::from(ago(at, now))),
            dim(clean(worker.text("remote").unwrap_or_default())),
            worker.text("agent").map_or_else(none, |agent| dim(clean(agent))),
            state,
        ],
    }
}
