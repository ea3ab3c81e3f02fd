//! Overview: how things are, and what needs somebody.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use serde_json::Value;

use super::app::App;
use super::chart::{self, Series, Unit};
use super::data::Look;
use super::event::Problem;
use super::feeds::Slot;
use super::format::{self, age, count, duration, plural, rate};
use super::look::{DEAD, DONE, FLIGHT, READY, SCHEDULED, WARN};
use super::queue::put;
use super::text::{clean, cut};
use super::wants::RANGES;

/// So long may the oldest ready job wait before somebody should look, in milliseconds.
const OLD_MS: u64 = 5 * 60_000;

/// The columns that a name takes in a sentence.
const LONGEST_NAME: usize = 36;

pub(super) const FLOW: [Series; 3] =
    [("enqueued", "in", READY), ("completed", "done", DONE), ("failed", "failed", DEAD)];
pub(super) const TIMES: [Series; 2] = [("wait_ms", "wait", READY), ("run_ms", "run", FLIGHT)];
pub(super) const BACKLOG: [Series; 2] = [("ready", "ready", READY), ("in_flight", "in flight", FLIGHT)];

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let Some(stats) = app.live.stats() else { return };
    let charts = (area.height.saturating_sub(4) / 2).clamp(5, 20);
    let areas = Layout::vertical([Constraint::Length(4), Constraint::Length(charts), Constraint::Fill(1)]);
    let [top, middle, bottom] = areas.areas(area);
    tiles(app, stats, frame, top);
    charts_in(app, frame, middle);
    let wide = bottom.width >= 110;
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(bottom);
    attention(app, stats, frame, if wide { left } else { bottom });
    if wide {
        let [above, below] = Layout::vertical([Constraint::Length(12), Constraint::Fill(1)]).areas(right);
        put(frame, above, &oldest_queues(app));
        put(frame, below, &newest_dead(app));
    }
}

/// The queues whose oldest jobs have waited longest.
fn oldest_queues(app: &App) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from("Longest waiting").bold()];
    let rows = app.live.queues().unwrap_or_default();
    for row in rows.into_iter().filter(|row| row.num("/counts/ready") > Some(0)).take(10) {
        let waited = row.num("oldest_ready_at").map(|at| age(app.server_now().saturating_sub(at)));
        let ready = count(row.num("/counts/ready").unwrap_or_default());
        lines.push(Line::from(vec![
            Span::raw(format!("{:>7}  ", waited.unwrap_or_default())),
            Span::raw(format!("{ready:>13}  ")).fg(READY),
            Span::raw(clean(row.text("name").unwrap_or_default())),
        ]));
    }
    lines
}

fn newest_dead(app: &App) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from("Newest dead jobs").bold()];
    for job in app.feeds.get(Slot::Deaths).list("jobs") {
        let died = job.num("failed_at").map(|at| age(app.server_now().saturating_sub(at)));
        lines.push(Line::from(vec![
            Span::raw(format!("{:>7}  ", died.unwrap_or_default())),
            Span::raw(clean(job.text("type").unwrap_or_default())),
            Span::raw(format!("  {}", clean(job.text("/last_error/message").unwrap_or_default()))).fg(DEAD),
        ]));
    }
    lines
}

struct Tile {
    label: &'static str,
    value: String,
    note: String,
    style: Style,
    warns: bool,
}

fn tile(label: &'static str, value: String, note: String, style: Style, warns: bool) -> Tile {
    Tile { label, value, note, style, warns }
}

fn tiles(app: &App, stats: &Value, frame: &mut Frame<'_>, area: Rect) {
    let n = |path| stats.num(path).unwrap_or_default();
    let (ready, dead) = (n("/totals/ready"), n("/totals/dead"));
    let oldest = oldest(app).unwrap_or_default();
    let dying = stats.float("/rates/dead/1m");
    let is_dying = dying > 0.05 * (stats.float("/rates/completed/1m") + dying);
    let nobody = ready > 0 && stats.num("workers") == Some(0);
    let p95 = stats.num("/wait_ms/p95");
    let p50 = stats.num("/wait_ms/p50").map_or_else(|| format::NONE.to_owned(), duration);
    let waits = p95.map_or_else(|| format::NONE.to_owned(), duration);
    let workers = stats.num("workers").map(|n| plural(n, "worker")).unwrap_or_default();
    let old = if ready > 0 { format!("oldest {}", age(oldest)) } else { String::new() };
    let fg = |color| Style::new().fg(color);
    let tiles = [
        tile("Ready", count(ready), old, fg(READY), oldest > OLD_MS),
        tile("In flight", count(n("/totals/in_flight")), workers, fg(FLIGHT), nobody),
        tile("Scheduled", count(n("/totals/scheduled")), String::new(), fg(SCHEDULED), false),
        tile("Dead", count(dead), format!("{}/min", rate(dying * 60.0)), fg(DEAD), is_dying),
        tile(
            "Done/s",
            rate(stats.float("/rates/completed/1s")),
            format!("{}/s 1 min", rate(stats.float("/rates/completed/1m"))),
            fg(DONE),
            false,
        ),
        tile("Wait p95", waits, format!("p50 {p50}"), Style::new(), p95.is_some_and(|ms| ms > OLD_MS)),
    ];
    let areas = Layout::horizontal([Constraint::Fill(1); 6]).spacing(1).split(area);
    let buffer = frame.buffer_mut();
    for (tile, area) in tiles.into_iter().zip(areas.iter()) {
        let label = if tile.warns {
            Line::from(vec![Span::raw("⚠ "), Span::raw(tile.label)]).fg(WARN)
        } else {
            Line::from(tile.label).dim()
        };
        let value = Line::from(Span::raw(tile.value)).style(tile.style.bold());
        let room = usize::from(area.width);
        for (line, y) in [label, value, Line::from(tile.note).dim()].into_iter().zip(area.y..area.bottom()) {
            buffer.set_line(area.x, y, &cut(line, room), area.width);
        }
    }
}

/// How long the oldest ready job of those queues that are known has waited.
fn oldest(app: &App) -> Option<u64> {
    let queues = app.live.queues()?;
    let waiting = queues.iter().filter(|row| row.num("/counts/ready") > Some(0));
    waiting.filter_map(|row| row.num("oldest_ready_at")).min().map(|at| app.server_now().saturating_sub(at))
}

fn charts_in(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let Some(history) = app.feeds.get(Slot::History) else {
        if let Some(Problem { says, .. }) = app.feeds.problem(Slot::History) {
            let line = cut(Line::from(clean(says)).dim(), usize::from(area.width));
            frame.buffer_mut().set_line(area.x, area.y, &line, area.width);
        }
        return;
    };
    let range = RANGES.get(app.range).unwrap_or(&"");
    let title = format!("Jobs/s {range}");
    let mut charts: Vec<(&[Series], &str, Unit)> =
        vec![(&FLOW, &title, Unit::PerSecond), (&TIMES, "Times", Unit::Milliseconds)];
    if area.width >= 150 {
        charts.insert(1, (&BACKLOG, "Backlog", Unit::Jobs));
    }
    let areas = Layout::horizontal(charts.iter().map(|_| Constraint::Fill(1))).spacing(2).split(area);
    for ((series, title, unit), area) in charts.into_iter().zip(areas.iter()) {
        chart::draw(frame, *area, history, series, (title, unit), &app.zone);
    }
}

fn attention(app: &App, stats: &Value, frame: &mut Frame<'_>, area: Rect) {
    let found = reasons(app, stats);
    let buffer = frame.buffer_mut();
    let title = if found.is_empty() { "Needs attention" } else { "Needs attention:" };
    buffer.set_line(area.x, area.y, &Line::from(title).bold(), area.width);
    if found.is_empty() {
        let line = Line::from("✓ Nothing does.".fg(DONE));
        buffer.set_line(area.x, area.y + 1, &line, area.width);
        return;
    }
    let room = usize::from(area.height.saturating_sub(1));
    let more = found.len().saturating_sub(room);
    for (at, ((bad, text), y)) in found.iter().zip(area.y + 1..area.bottom()).enumerate() {
        let line = if more > 0 && at + 1 == room {
            Line::from(format!("  and {} more", count(u64::try_from(more + 1).unwrap_or_default()))).dim()
        } else {
            Line::from(vec![Span::raw("⚠ ").fg(if *bad { DEAD } else { WARN }), Span::raw(clean(text))])
        };
        buffer.set_line(area.x, y, &cut(line, usize::from(area.width)), area.width);
    }
}

/// What somebody should look at, the worst first.
fn reasons(app: &App, stats: &Value) -> Vec<(bool, String)> {
    let now = app.server_now();
    let mut found = Vec::new();
    if stats.is("draining") {
        found.push((true, "The server is draining: it ends as soon as its workers are done".to_owned()));
    }
    let (used, free) = (stats.num("/disk/used"), stats.num("/disk/free"));
    if let (Some(used), Some(free)) = (used, free)
        && free.saturating_mul(100) < used.saturating_add(free).saturating_mul(15)
    {
        found.push((true, format!("The disk is almost full: {} free", format::bytes(free))));
    }
    // A long name would hide what is wrong.
    let name_of =
        |row: &Value| cut(Line::from(clean(row.text("name").unwrap_or_default())), LONGEST_NAME).to_string();
    for row in app.feeds.get(Slot::Paused).list("queues") {
        let name = name_of(row);
        let ready = row.num("/counts/ready").filter(|n| *n > 0);
        let jobs = ready.map(|n| format!(", with {}", plural(n, "ready job"))).unwrap_or_default();
        found.push((false, format!("{name} is paused{jobs}")));
    }
    for row in app.live.queues().unwrap_or_default() {
        let (name, ready) = (name_of(row), row.num("/counts/ready").unwrap_or_default());
        let waited = row.num("oldest_ready_at").map_or(0, |at| now.saturating_sub(at));
        if row.is("paused") || ready == 0 {
            continue;
        }
        if row.num("workers") == Some(0) {
            found.push((true, format!("{name} has {} and no worker", plural(ready, "ready job"))));
        } else if waited > OLD_MS {
            found.push((false, format!("The oldest job of {name} has waited for {}", duration(waited))));
        }
    }
    for group in app.feeds.get(Slot::Crons).list("groups") {
        let late = |entry: &&Value| {
            !entry.is("paused") && entry.num("next_enqueue_at").is_some_and(|at| at + 60_000 < now)
        };
        for entry in group.list("entries").iter().filter(late).filter(|_| !group.is("paused")) {
            let (group, entry) =
                (group.text("name").unwrap_or_default(), entry.text("name").unwrap_or_default());
            found.push((false, format!("Cron entry {group}/{entry} is overdue")));
        }
    }
    found.sort_by_key(|(bad, _)| !bad);
    found
}
