//! Crons: recurring jobs, when they run next, and when they did last.

use ratatui::style::Stylize;
use ratatui::text::Line;
use serde_json::Value;

use super::app::App;
use super::data::Look;
use super::feeds::Slot;
use super::format::{ago, plural};
use super::look::{WARN, dim, none, told};
use super::table::{Row, Table, empty, number, words};
use super::text::clean;

/// What separates group and entry in the id of a row; no name has it.
pub(super) const BETWEEN: char = '\u{0}';

/// All entries with their groups, as far as the filter lets them through.
pub(super) fn entries(app: &App) -> Vec<(&Value, &Value)> {
    let part = app.list().filter.to_lowercase();
    let groups = app.feeds.get(Slot::Crons).list("groups");
    let all = groups.iter().flat_map(|group| group.list("entries").iter().map(move |entry| (group, entry)));
    let mut found: Vec<_> = all
        .filter(|(group, entry)| {
            let texts =
                [group.text("name"), entry.text("name"), entry.text("/job/queue"), entry.text("/job/type")];
            texts.into_iter().flatten().any(|text| text.to_lowercase().contains(&part))
        })
        .collect();
    if app.list().order % 2 == 1 {
        found.sort_by_key(|(_, entry)| entry.num("next_enqueue_at").unwrap_or(u64::MAX));
    }
    if app.list().reverse {
        found.reverse();
    }
    found
}

pub(super) fn table(app: &App) -> Table {
    let now = app.server_now();
    let rows: Vec<Row> = entries(app).into_iter().map(|(group, entry)| row(group, entry, now)).collect();
    let shown = u64::try_from(rows.len()).unwrap_or_default();
    let filter = clean(&app.list().filter);
    let note = format!(
        "{} in {}  {filter}",
        if shown == 1 { "1 entry".to_owned() } else { format!("{shown} entries") },
        {
            let groups = app.feeds.get(Slot::Crons).list("groups").len();
            plural(u64::try_from(groups).unwrap_or_default(), "group")
        }
    );
    let (options, url) = &app.curl;
    let at_all = vec![
        Line::from("There are no recurring jobs. This makes one, for half past two on weekdays:").bold(),
        Line::from(format!(
            "  curl {options}-X PUT --json '{{\"entries\":[{{\"name\":\"report\",\"expression\":\"30 2 * * MON-FRI\",\"job\":{{\"queue\":\"reports\",\"type\":\"nightly\",\"payload\":{{}}}}}}]}}' {url}/crons/night"
        )),
    ];
    let is_known = app.feeds.get(Slot::Crons).is_some();
    let empty = empty(app, is_known, at_all, &format!("No entry matches {filter}"));
    let columns = vec![
        words("Group", 20, 2),
        words("Entry", 28, 0),
        words("State", 10, 1),
        words("When", 20, 0),
        words("Zone", 20, 5),
        number("Next", 0),
        number("Last", 1),
        words("Job", 40, 3),
    ];
    let sorted = Some(if app.list().order % 2 == 1 { "Next" } else { "Group" })
        .map(|title| (title, app.list().reverse));
    Table { columns, rows, sorted, note: dim(note), empty }
}

fn row(group: &Value, entry: &Value, now: u64) -> Row {
    let (in_group, name) = (group.text("name").unwrap_or_default(), entry.text("name").unwrap_or_default());
    let next = entry.num("next_enqueue_at");
    let state = match () {
        () if entry.is("paused") || group.is("paused") => Line::from("‖ paused".fg(WARN)),
        () if next.is_some_and(|at| at + 60_000 < now) => Line::from("⚠ overdue".fg(WARN)),
        () => Line::default(),
    };
    let zone = entry.text("timezone").or(group.text("timezone")).unwrap_or_default();
    let job = format!(
        "{} in {}",
        entry.text("/job/type").unwrap_or_default(),
        entry.text("/job/queue").unwrap_or_default()
    );
    Row {
        id: format!("{in_group}{BETWEEN}{name}"),
        cells: vec![
            told(in_group),
            told(name),
            state,
            told(entry.text("expression").unwrap_or_default()),
            dim(clean(zone)),
            next.map_or_else(none, |at| Line::from(if at > now { ago(at, now) } else { "now".to_owned() })),
            entry.num("last_enqueue_at").map_or_else(|| dim("never"), |at| Line::from(ago(at, now))),
            told(&job),
        ],
    }
}
