//! Budgets: limits that jobs share, and how many draw on them.

use ratatui::style::Stylize;
use ratatui::text::Line;
use serde_json::Value;

use super::app::App;
use super::data::Look;
use super::feeds::Slot;
use super::format::{count, duration, plural};
use super::look::{FLIGHT, READY, bar, dim, none};
use super::table::{Row, Table, empty, number, words};
use super::text::clean;

const BAR: u64 = 12;

/// The budgets that the filter lets through.
pub(super) fn budgets(app: &App) -> Vec<&Value> {
    let part = app.list().filter.to_lowercase();
    let all = app.feeds.get(Slot::Budgets).list("budgets").iter();
    let is_meant = |budget: &&Value| budget.text("key").is_some_and(|key| key.to_lowercase().contains(&part));
    let mut found: Vec<_> = all.filter(is_meant).collect();
    if app.list().reverse {
        found.reverse();
    }
    found
}

pub(super) fn table(app: &App) -> Table {
    let rows: Vec<Row> = budgets(app).into_iter().map(row).collect();
    let shown = u64::try_from(rows.len()).unwrap_or_default();
    let filter = clean(&app.list().filter);
    let (options, url) = &app.curl;
    let at_all = vec![
        Line::from("There are no budgets. A budget limits how many jobs run at a time, or in a while. This makes one:").bold(),
        Line::from(format!(
            "  curl {options}-X PUT --json '{{\"allocation\":20,\"strategy\":{{\"type\":\"time_based\",\"duration_ms\":1000}}}}' {url}/budgets/smtp"
        )),
    ];
    let is_known = app.feeds.get(Slot::Budgets).is_some();
    let empty = empty(app, is_known, at_all, &format!("No budget has {filter} in its key"));
    let columns = vec![
        words("Budget", 40, 0),
        number("Tokens", 0),
        words("Strategy", 30, 1),
        words("In use", 12, 3),
        number("In flight", 0),
        number("Ready", 0),
    ];
    let note = dim(format!("{}  {filter}", plural(shown, "budget")));
    Table { columns, rows, sorted: Some(("Budget", app.list().reverse)), note, empty }
}

fn row(budget: &Value) -> Row {
    let key = budget.text("key").unwrap_or_default();
    let tokens = budget.num("allocation").unwrap_or_default();
    let drip = budget.num("/strategy/duration_ms");
    let burst = budget.num("/strategy/burst").map(|n| format!(", {} at once", count(n))).unwrap_or_default();
    let policy = drip.map_or_else(|| "at a time".to_owned(), |ms| format!("in {}{burst}", duration(ms)));
    // Tokens of time come back by themselves: how many jobs run says little about them.
    let running = budget.num("/in_flight/count");
    let used = match (drip, running) {
        (None, Some(n)) => bar(&[(n, FLIGHT)], tokens, BAR),
        _ => none(),
    };
    Row {
        id: key.to_owned(),
        cells: vec![
            Line::from(clean(key)),
            Line::from(count(tokens)),
            Line::from(policy),
            used,
            counted(budget, "in_flight").fg(FLIGHT),
            counted(budget, "ready").fg(READY),
        ],
    }
}

/// How many jobs draw on it, as far as that was counted.
fn counted(budget: &Value, status: &str) -> Line<'static> {
    let Some(n) = budget.num(&format!("/{status}/count")) else { return none() };
    let more = if budget.at(&format!("/{status}/exact")) == Some(&Value::Bool(false)) { ">" } else { "" };
    if n == 0 { dim("0") } else { Line::from(format!("{more}{}", count(n))) }
}
