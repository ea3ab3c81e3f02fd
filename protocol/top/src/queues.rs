//! Queues: what waits in them and who works on them.

use ratatui::style::Stylize;
use ratatui::text::Line;
use serde_json::Value;

use super::app::App;
use super::data::Look;
use super::format::{ago, count, plural, rate};
use super::list::List;
use super::look::{DEAD, FLIGHT, READY, WARN, bar, dim, none, num, num_in, told};
use super::table::{self, Row, Table, number, words};
use super::text::clean;
use super::wants::PAGE;

/// What the list can be ordered by, with the title of the column. All but the first begin with the largest.
pub(super) const ORDERS: [(&str, &str); 6] = [
    ("name", "Queue"),
    ("ready", "Ready"),
    ("oldest", "Oldest"),
    ("in_flight", "In flight"),
    ("dead", "Dead"),
    ("rate", "Done/s"),
];

/// The columns that a bar takes.
const BAR: u64 = 12;

/// What the list is ordered by, and whether the largest come first.
pub(super) fn order(list: &List) -> (&'static str, bool) {
    let at = list.order % ORDERS.len();
    (ORDERS.get(at).map_or("name", |(order, _)| *order), (at != 0) != list.reverse)
}

pub(super) fn table(app: &App) -> Table {
    let (columns, list) = (
        vec![
            words("Queue", 40, 0),
            words("State", 12, 2),
            words("", 12, 4),
            number("Ready", 0),
            number("Oldest", 3),
            number("In flight", 0),
            number("Workers", 5),
            number("Scheduled", 6),
            number("Dead", 0),
            number("Done", 8),
            number("Done/s", 1),
        ],
        app.list(),
    );
    let (name, desc) = order(list);
    let sorted = ORDERS.iter().find(|(order, _)| *order == name).map(|(_, title)| (*title, desc));
    let Some(queues) = app.live.queues() else {
        return Table { columns, sorted, ..Table::default() };
    };
    let largest = queues.iter().map(|row| waiting(row)).max().unwrap_or_default();
    let rows: Vec<Row> = queues.iter().map(|row| self::row(row, largest, app.server_now())).collect();
    let sum = |path: &str| queues.iter().filter_map(|row| row.num(path)).sum::<u64>();
    let shown = u64::try_from(rows.len()).unwrap_or_default();
    let more = if rows.len() >= PAGE + list.more { " shown" } else { "" };
    let note = format!(
        "{}{more}: {} ready, {} in flight, {} dead",
        plural(shown, "queue"),
        count(sum("/counts/ready")),
        count(sum("/counts/in_flight")),
        count(sum("/counts/dead"))
    );
    Table { columns, rows, sorted, note: dim(note), empty: empty(app) }
}

fn waiting(row: &Value) -> u64 {
    row.num("/counts/ready").unwrap_or_default() + row.num("/counts/in_flight").unwrap_or_default()
}

fn row(row: &Value, largest: u64, now: u64) -> Row {
    let n = |path| row.num(path).unwrap_or_default();
    let (ready, workers) = (n("/counts/ready"), n("workers"));
    let state = match () {
        () if row.is("paused") => Line::from("‖ paused".fg(WARN)),
        () if ready > 0 && workers == 0 => Line::from("⚠ no worker".fg(WARN)),
        () => Line::default(),
    };
    let oldest = row.num("oldest_ready_at").filter(|_| ready > 0);
    let name = row.text("name").unwrap_or_default();
    let done = row.float("/rates/completed/1m");
    Row {
        id: name.to_owned(),
        cells: vec![
            told(name),
            state,
            bar(&[(ready, READY), (n("/counts/in_flight"), FLIGHT)], largest, BAR),
            num_in(ready, READY),
            oldest.map_or_else(none, |at| Line::from(ago(at, now))),
            num_in(n("/counts/in_flight"), FLIGHT),
            num(workers),
            num(n("/counts/scheduled")),
            num_in(n("/counts/dead"), DEAD),
            num(n("/counts/completed")),
            if done > 0.0 { Line::from(rate(done)) } else { dim("0") },
        ],
    }
}

fn empty(app: &App) -> Vec<Line<'static>> {
    let (options, url) = &app.curl;
    let at_all = vec![
        Line::from("There are no queues yet. A queue exists as soon as it has a job:").bold(),
        Line::from(format!(
            "  curl {options}--json '{{\"queue\":\"hello\",\"type\":\"greet\",\"payload\":{{\"name\":\"Ada\"}}}}' {url}/jobs"
        )),
        Line::from("And this runs it:").bold(),
        Line::from(format!("  zizq-worker --server {url} --run 'hello=cat'")),
    ];
    table::empty(app, true, at_all, &format!("No queue has {} in its name", clean(&app.list().filter)))
}
