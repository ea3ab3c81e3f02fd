//! Dead jobs by what they have in common, then the jobs of a group.

use protocol::pattern::pattern;
use ratatui::style::Stylize;
use ratatui::text::Line;
use serde_json::Value;

use super::app::App;
use super::data::Look;
use super::feeds::Slot;
use super::filter::Filter;
use super::format::{count, plural};
use super::jobs;
use super::list::List;
use super::look::{DEAD, DONE, dim, none, num_in, told};
use super::place::Tab;
use super::table::{Row, Table, empty, number, words};
use super::text::clean;

/// What dead jobs are grouped by, and the title of the column.
pub(super) const BY: [(&str, &str); 4] =
    [("error_type", "Error type"), ("message", "Message"), ("type", "Job type"), ("queue", "Queue")];

/// The row of the jobs that have nothing in common; no error and no type is called so.
pub(super) const NOTHING: &str = "\u{0}";

pub(super) fn by(list: &List) -> &'static str {
    BY.get(list.order % BY.len()).map_or("error_type", |(by, _)| *by)
}

pub(super) fn groups(app: &App) -> Table {
    let by = by(app.list());
    let title = BY.iter().find(|(name, _)| *name == by).map_or("", |(_, title)| *title);
    let columns =
        vec![words(title, 40, 0), number("Jobs", 0), number("Share", 1), words("Newest error", 80, 2)];
    let answer = app.feeds.get(Slot::Groups);
    let looked = answer.num("looked_at").unwrap_or_default();
    let row = |group: &Value| {
        let (key, n) = (group.text("key"), group.num("count").unwrap_or_default());
        Row {
            id: key.unwrap_or(NOTHING).to_owned(),
            cells: vec![
                key.map_or_else(none, told),
                num_in(n, DEAD),
                Line::from(format!("{} %", (n * 100).checked_div(looked).unwrap_or_default())),
                dim(clean(group.text("sample").unwrap_or_default())),
            ],
        }
    };
    let rows: Vec<Row> = answer.list("groups").iter().map(row).collect();
    let of = if answer.is("exact") { "" } else { "the newest " };
    let other = answer.num("other").filter(|n| *n > 0).map(|n| format!(", {} in smaller groups", count(n)));
    let filter = clean(&app.list().filter);
    let note =
        format!("{of}{} by {title}{}  {filter}", plural(looked, "dead job"), other.unwrap_or_default());
    let at_all = vec![
        Line::from("✓ No job is dead.".fg(DONE)),
        dim("A job is dead when its last retry has failed, or when its worker says that retries are no use."),
    ];
    let empty = empty(app, answer.is_some(), at_all, &format!("No dead job matches {filter}"));
    Table { columns, rows, sorted: Some(("Jobs", true)), note: dim(note), empty }
}

/// The query of the dead jobs of a group, as far as the API can say it.
pub(super) fn query_of(app: &App, key: Option<&str>) -> String {
    let list = app.list_of(Tab::Dead);
    let mut filter = Filter::read(&list.filter, app.server_now()).unwrap_or_default();
    filter.set("status", "dead".to_owned());
    match (by(list), key) {
        ("type", Some(key)) => filter.set("type", key.to_owned()),
        ("queue", Some(key)) => filter.set("queue", key.to_owned()),
        _ => {}
    }
    filter.query()
}

/// Whether a dead job belongs to the group that is open, as far as the query does not say it.
fn belongs(by: &str, key: Option<&str>, job: &Value) -> bool {
    match by {
        "error_type" => job.text("/last_error/type") == key,
        "message" => job.text("/last_error/message").map(pattern).as_deref() == key,
        _ => true,
    }
}

/// The jobs of the group that is open.
pub(super) fn jobs(app: &App, key: Option<&str>) -> Table {
    let by = by(app.list_of(Tab::Dead));
    let answer = app.feeds.get(Slot::GroupJobs);
    let found = answer.list("jobs").iter().filter(|job| belongs(by, key, job));
    let rows: Vec<Row> = found.map(|job| jobs::row(job, app.server_now())).collect();
    let shown = u64::try_from(rows.len()).unwrap_or_default();
    let more = if answer.text("/pages/next").is_some() { " among the newest 2,000" } else { "" };
    let note = format!("{}: {}{more}", clean(key.unwrap_or("(none)")), plural(shown, "dead job"));
    let empty = if answer.is_some() { vec![Line::from("No job of this group is left.")] } else { Vec::new() };
    Table { columns: jobs::columns(), rows, sorted: None, note: dim(note), empty }
}
