//! Jobs: those that a filter finds, the newest first.

use ratatui::style::Stylize;
use ratatui::text::{Line, Span};
use serde_json::Value;

use super::app::App;
use super::data::Look;
use super::feeds::Slot;
use super::format::{ago, count, plural};
use super::look::{dim, none, num, status, told};
use super::table::{Row, Table, empty, number, words};
use super::text::clean;
use super::wants::PAGE;

/// The statuses that a key goes through, the first standing for all of them.
pub(super) const STATUSES: [&str; 6] = ["", "scheduled", "ready", "in_flight", "completed", "dead"];

pub(super) fn table(app: &App) -> Table {
    let jobs = app.feeds.get(Slot::Jobs);
    let rows: Vec<Row> = jobs.list("jobs").iter().map(|job| row(job, app.server_now())).collect();
    let filter = clean(&app.list().filter);
    let mut note =
        vec![Span::raw(if filter.is_empty() { "all jobs".to_owned() } else { filter.clone() }).dim()];
    if !rows.is_empty() {
        let shown = u64::try_from(rows.len()).unwrap_or_default();
        let more = if rows.len() >= PAGE + app.list().more { "the newest " } else { "" };
        note.push(Span::raw(format!("  {more}{}", plural(shown, "job"))).dim());
    }
    let (options, url) = &app.curl;
    let at_all = vec![
        Line::from("There are no jobs. This enqueues one:").bold(),
        Line::from(format!(
            "  curl {options}--json '{{\"queue\":\"hello\",\"type\":\"greet\",\"payload\":{{\"name\":\"Ada\"}}}}' {url}/jobs"
        )),
        dim(
            "Jobs that have succeeded are kept only as long as their retention says; by default they are gone at once.",
        ),
    ];
    let empty = empty(app, jobs.is_some(), at_all, &format!("No job matches {filter}"));
    Table { columns: columns(), rows, sorted: None, note: Line::from(note), empty }
}

pub(super) fn columns() -> Vec<super::table::Column> {
    vec![
        words("Status", 11, 0),
        words("Type", 28, 0),
        words("Queue", 24, 1),
        number("Priority", 6),
        number("Ready", 2),
        number("Tries", 3),
        words("Id", 25, 5),
        words("Payload or error", 40, 4),
    ]
}

/// A row of a list of jobs.
pub(super) fn row(job: &Value, now: u64) -> Row {
    let id = job.text("id").unwrap_or_default();
    let error = job.text("/last_error/message").filter(|_| job.text("status") != Some("completed"));
    let what = match (error, job.text("payload_preview")) {
        (Some(error), _) => Line::from(Span::raw(clean(error)).fg(super::look::DEAD)),
        (None, Some(payload)) => Line::from(Span::raw(clean(payload)).dim()),
        (None, None) if job.is("hidden") => dim("(hidden)"),
        (None, None) => Line::default(),
    };
    Row {
        id: id.to_owned(),
        cells: vec![
            status(job.text("status").unwrap_or_default()),
            told(job.text("type").unwrap_or_default()),
            told(job.text("queue").unwrap_or_default()),
            num(job.num("priority").unwrap_or_default()),
            job.num("ready_at").map_or_else(none, |at| Line::from(ago(at, now))),
            num(job.num("attempts").unwrap_or_default()),
            dim(id),
            what,
        ],
    }
}

/// The words of a filter, with another status.
pub(super) fn with_status(filter: &str, status: &str) -> String {
    let others = filter.split_whitespace().filter(|word| !word.starts_with("status:"));
    let first = (!status.is_empty()).then(|| format!("status:{status}"));
    first.into_iter().chain(others.map(str::to_owned)).collect::<Vec<_>>().join(" ")
}

/// The status after that of a filter.
pub(super) fn next_status(filter: &str) -> &'static str {
    let now = filter.split_whitespace().find_map(|word| word.strip_prefix("status:")).unwrap_or_default();
    let at = STATUSES.iter().position(|status| *status == now).unwrap_or_default();
    STATUSES.get((at + 1) % STATUSES.len()).unwrap_or(&"")
}

/// One line about several jobs.
pub(super) fn some(ids: &[String]) -> String {
    match ids {
        [id] => format!("job {id}"),
        ids => format!("{} jobs", count(u64::try_from(ids.len()).unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_through_the_statuses_and_keeps_the_other_words() {
        let mut filter = "queue:a .x == 1".to_owned();
        let mut seen = Vec::new();
        for _ in 0..6 {
            filter = with_status(&filter, next_status(&filter));
            seen.push(filter.clone());
        }
        assert_eq!(seen.first().unwrap(), "status:scheduled queue:a .x == 1");
        assert_eq!(seen.last().unwrap(), "queue:a .x == 1");
    }
}
