//! One queue: how it does, what is in it, who works on it, and what holds it back.

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Stylize;
use ratatui::text::{Line, Span};
use serde_json::Value;

use super::app::App;
use super::chart::{self, Unit};
use super::data::Look;
use super::feeds::Slot;
use super::format::{self, ago, count, duration, plural, rate};
use super::look::WARN;
use super::overview::{BACKLOG, FLOW};
use super::text::{clean, cut};

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect, name: &str) {
    let queue = app.feeds.get(Slot::Queue);
    let mut lines =
        vec![Line::from(vec![Span::raw("Queue ").dim(), Span::raw(clean(name)).bold(), state(queue)])];
    if let Some(queue) = queue {
        lines.extend(facts(app, queue));
    } else if let Some(problem) = app.feeds.problem(Slot::Queue) {
        lines.push(Line::from(clean(&problem.says)));
    }
    let top = u16::try_from(lines.len()).unwrap_or(4) + 1;
    let charts = (area.height / 3).clamp(5, 12);
    let areas = Layout::vertical([Constraint::Length(top), Constraint::Length(charts), Constraint::Fill(1)]);
    let [head, middle, bottom] = areas.areas(area);
    put(frame, head, &lines);
    match app.feeds.get(Slot::QueueHistory) {
        Some(history) => {
            let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).spacing(2).areas(middle);
            chart::draw(frame, left, history, &FLOW, ("Jobs/s 3h", Unit::PerSecond), &app.zone);
            chart::draw(frame, right, history, &BACKLOG, ("Backlog", Unit::Jobs), &app.zone);
        }
        None => {
            let why = app.feeds.problem(Slot::QueueHistory).map(|problem| clean(&problem.says));
            put(frame, middle, &[Line::from(why.unwrap_or_default()).dim()]);
        }
    }
    let [types, workers, budgets] = Layout::horizontal([Constraint::Fill(1); 3]).spacing(2).areas(bottom);
    put(frame, types, &of_types(app));
    put(frame, workers, &of_workers(app));
    put(frame, budgets, &of_budgets(app));
}

pub(super) fn put(frame: &mut Frame<'_>, area: Rect, lines: &[Line<'static>]) {
    for (line, y) in lines.iter().zip(area.y..area.bottom()) {
        let line = cut(line.clone(), usize::from(area.width));
        frame.buffer_mut().set_line(area.x, y, &line, area.width);
    }
}

fn state(queue: Option<&Value>) -> Span<'static> {
    match queue {
        Some(queue) if queue.is("paused") => Span::raw("  ‖ paused").fg(WARN),
        Some(queue) if queue.num("/counts/ready") > Some(0) && queue.num("workers") == Some(0) => {
            Span::raw("  ⚠ no worker").fg(WARN)
        }
        _ => Span::default(),
    }
}

fn facts(app: &App, queue: &Value) -> Vec<Line<'static>> {
    let n = |path: &str| count(queue.num(path).unwrap_or_default());
    let mut lines = vec![Line::from(format!(
        "{} ready   {} in flight   {} scheduled   {} dead   {} completed   {}",
        n("/counts/ready"),
        n("/counts/in_flight"),
        n("/counts/scheduled"),
        n("/counts/dead"),
        n("/counts/completed"),
        plural(queue.num("workers").unwrap_or_default(), "worker"),
    ))];
    let known = |path: &str| queue.num(path).map_or_else(|| format::NONE.to_owned(), duration);
    if queue.num("/counts/ready") > Some(0) {
        lines.push(Line::from(format!(
            "oldest {}   empty in {} at this rate   {}/s in   {}/s done",
            known("oldest_ready_ms"),
            known("backlog_ms"),
            rate(queue.float("/rates/enqueued/1m")),
            rate(queue.float("/rates/completed/1m")),
        )));
    }
    if let Some(note) = queue.text("note") {
        lines.push(Line::from(clean(note)).dim());
    }
    if let Some(reason) = queue.text("/last_release/reason") {
        let at = queue.num("/last_release/at").map(|at| ago(at, app.server_now())).unwrap_or_default();
        lines.push(Line::from(format!("a worker gave a job back {at} ago: {}", clean(reason))).dim());
    }
    lines
}

fn of_types(app: &App) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from("Types of the newest 1,000").bold()];
    for group in app.feeds.get(Slot::QueueTypes).list("groups") {
        let (n, key) = (group.num("count").unwrap_or_default(), group.text("key").unwrap_or("(none)"));
        lines.push(Line::from(vec![Span::raw(format!("{:>6} ", count(n))), Span::raw(clean(key))]));
    }
    lines
}

fn of_workers(app: &App) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from("Workers").bold()];
    for worker in app.feeds.get(Slot::QueueWorkers).list("workers") {
        let name = worker.text("worker").or(worker.text("stream")).unwrap_or_default();
        let held = worker.num("in_flight").map_or_else(|| format::NONE.to_owned(), count);
        lines.push(Line::from(vec![Span::raw(format!("{held:>6} ")), Span::raw(clean(name))]));
    }
    lines
}

/// The budgets of the jobs that come next.
fn of_budgets(app: &App) -> Vec<Line<'static>> {
    let mut budgets: BTreeMap<&str, u64> = BTreeMap::new();
    for job in app.feeds.get(Slot::QueueJobs).list("jobs") {
        for key in job.list("budgets").iter().filter_map(|budget| budget.text("key")) {
            *budgets.entry(key).or_default() += 1;
        }
    }
    let mut lines = vec![Line::from("Budgets of the next 100").bold()];
    for (key, n) in budgets {
        lines.push(Line::from(vec![Span::raw(format!("{:>6} ", count(n))), Span::raw(clean(key))]));
    }
    lines
}
