//! Running: the jobs in flight, the longest first.

use ratatui::style::Stylize;
use ratatui::text::{Line, Span};
use serde_json::Value;

use super::app::App;
use super::data::Look;
use super::feeds::Slot;
use super::format::{duration, plural};
use super::look::{DEAD, FLIGHT, bar, dim, none, num, told};
use super::table::{Row, Table, empty, number, words};
use super::text::clean;

/// The columns of a bar of progress.
const BAR: u64 = 8;
/// A lease that is almost over is told, in milliseconds.
const SHORT_LEASE_MS: u64 = 5_000;

pub(super) fn table(app: &App) -> Table {
    let worker = app.list().worker.as_deref();
    // Jobs of others do not stand under the name of a worker, not even until the answer comes.
    let answer = if worker.is_some() { app.feeds.own(Slot::Running) } else { app.feeds.get(Slot::Running) };
    let now = app.server_now();
    let mut jobs: Vec<&Value> = answer.list("jobs").iter().collect();
    jobs.sort_by_key(|job| job.num("dequeued_at").unwrap_or(u64::MAX));
    if app.list().reverse {
        jobs.reverse();
    }
    let rows: Vec<Row> = jobs.iter().map(|job| row(job, now)).collect();
    let shown = u64::try_from(rows.len()).unwrap_or_default();
    let more = if answer.text("/pages/next").is_some() { " of those that were enqueued first" } else { "" };
    let filter = clean(&app.list().filter);
    let at = worker.map(|name| format!(" at {}", clean(name))).unwrap_or_default();
    let note = format!("{}{more}{at}  {filter}", plural(shown, "job"));
    let at_all = vec![Line::from(format!("No job runs{at} now."))];
    let empty = empty(app, answer.is_some(), at_all, &format!("No running job matches {filter}"));
    let columns = vec![
        words("Type", 28, 0),
        words("Queue", 24, 4),
        number("Runs for", 0),
        words("Progress", 44, 0),
        words("Worker", 24, 1),
        number("Lease left", 2),
        number("Try", 5),
        words("Id", 25, 6),
    ];
    Table { columns, rows, sorted: Some(("Runs for", !app.list().reverse)), note: dim(note), empty }
}

fn row(job: &Value, now: u64) -> Row {
    let id = job.text("id").unwrap_or_default();
    let runs = job.num("dequeued_at").map(|at| Line::from(duration(now.saturating_sub(at) / 1_000 * 1_000)));
    let lease = job.num("lease_expires_at").map(|at| match at.saturating_sub(now) {
        0 => Line::from("over".fg(DEAD)),
        left if left < SHORT_LEASE_MS => Line::from(duration(left).fg(DEAD)),
        left => Line::from(duration(left / 1_000 * 1_000)),
    });
    let progress = job.at("progress").and_then(Value::as_f64).map(|part| {
        let percent = percent(part);
        let mut line = bar(&[(percent, FLIGHT)], 100, BAR);
        line.spans.push(Span::raw(format!(" {percent:>3} % ")));
        line
    });
    let message = job.text("message").map(|message| Span::raw(clean(message)));
    let progress = match (progress, message) {
        (None, None) => none(),
        (progress, message) => {
            let mut line = progress.unwrap_or_default();
            line.spans.extend(message);
            line
        }
    };
    Row {
        id: id.to_owned(),
        cells: vec![
            told(job.text("type").unwrap_or_default()),
            told(job.text("queue").unwrap_or_default()),
            runs.unwrap_or_else(none),
            progress,
            told(job.text("worker").or(job.text("remote")).unwrap_or_default()),
            lease.unwrap_or_else(none),
            num(job.num("attempts").unwrap_or_default() + 1),
            dim(id),
        ],
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn percent(part: f64) -> u64 {
    (part * 100.0).clamp(0.0, 100.0) as u64
}
