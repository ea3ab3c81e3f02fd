//! One job: its facts, its errors and its payload.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Stylize;
use ratatui::text::{Line, Span};
use serde_json::Value;

use super::app::App;
use super::data::Look;
use super::feeds::Slot;
use super::format::{ago, bytes, count, duration, time};
use super::look::{DEAD, status};
use super::queue::put;
use super::text::{clean, fold};

pub(super) fn draw(app: &mut App, frame: &mut Frame<'_>, area: Rect, id: &str) {
    let lines = lines(app, id, usize::from(area.width));
    let room = usize::from(area.height);
    app.scroll = app.scroll.min(lines.len().saturating_sub(room));
    app.places.height = room;
    put(frame, area, lines.get(app.scroll..).unwrap_or_default());
}

/// All that is known of a job, in lines of so many columns.
fn lines(app: &App, id: &str, columns: usize) -> Vec<Line<'static>> {
    let job = app.feeds.get(Slot::Job).filter(|job| job.text("id") == Some(id));
    let Some(job) = job else {
        let why = app.feeds.problem(Slot::Job).map(|problem| match problem.status {
            404 => format!(
                "There is no job {}: it was deleted, or it has ended and its retention is over.",
                clean(id)
            ),
            _ => clean(&problem.says),
        });
        return vec![Line::from(why.unwrap_or_default())];
    };
    let mut lines = Vec::new();
    let mut title = status(job.text("status").unwrap_or_default()).spans;
    title.push(Span::raw(format!("  {}", clean(job.text("type").unwrap_or_default()))).bold());
    title.push(Span::raw("  in ").dim());
    title.push(Span::raw(clean(job.text("queue").unwrap_or_default())));
    lines.push(Line::from(title));
    lines.extend(facts(app, job, columns));
    if let Some(error) = job.text("/last_error/message") {
        let kind = job.text("/last_error/type").unwrap_or("error");
        let text = format!("{}: {}", clean(kind), clean(error));
        lines.extend(fold(&text, columns).into_iter().map(|line| Line::from(line.fg(DEAD))));
    }
    lines.extend(payload(job, columns));
    lines.extend(attempts(app, job, columns));
    lines
}

/// What is known, several facts in a line as far as they fit.
fn facts(app: &App, job: &Value, columns: usize) -> Vec<Line<'static>> {
    let now = app.server_now();
    let at = |path: &str| job.num(path).map(|at| format!("{} ({})", time(at, &app.zone), ago(at, now)));
    let tries = match (job.num("attempts"), job.num("retry_limit")) {
        (Some(n), Some(limit)) => Some(format!("{n} of {}", limit + 1)),
        (n, _) => n.map(count),
    };
    let progress = job.at("progress").and_then(Value::as_f64).map(|part| format!("{:.0} %", part * 100.0));
    let budgets = job.list("budgets").iter().filter_map(|budget| budget.text("key")).map(clean);
    let budgets = budgets.collect::<Vec<_>>().join(", ");
    let said = |path: &str| job.text(path).map(clean);
    let facts = [
        ("id", said("id")),
        ("priority", job.num("priority").map(count)),
        ("failed attempts", tries),
        ("deliveries", job.num("deliveries").map(count)),
        ("ready", at("ready_at")),
        ("delivered", at("dequeued_at")),
        ("completed", at("completed_at")),
        ("failed", at("failed_at")),
        ("purged", at("purge_at")),
        ("worker", said("worker")),
        ("from", said("remote")),
        ("lease ends", at("lease_expires_at")),
        ("progress", progress),
        ("message", said("message")),
        ("timeout", job.num("timeout_ms").map(duration)),
        ("unique key", said("unique_key")),
        ("batch", job.text("/batch/key").map(clean)),
        ("budgets", Some(budgets).filter(|keys| !keys.is_empty())),
    ];
    let (mut lines, mut line, mut used) = (Vec::new(), Vec::new(), 0);
    for (name, value) in facts.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let parts = [Span::raw(format!("{name} ")).dim(), Span::raw(format!("{value}   "))];
        let width: usize = parts.iter().map(Span::width).sum();
        if used + width > columns + 3 && !line.is_empty() {
            lines.push(Line::from(std::mem::take(&mut line)));
            used = 0;
        }
        used += width;
        line.extend(parts);
    }
    lines.push(Line::from(line));
    lines
}

/// The payload as it was written: no number is rounded.
fn payload(job: &Value, columns: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (title, text, size) in
        [("Payload", "payload_preview", "payload_bytes"), ("Result", "result_preview", "result_bytes")]
    {
        let Some(text) = job.text(text) else { continue };
        let all = job.num(size).unwrap_or_default();
        let cut =
            if u64::try_from(text.len()).unwrap_or(u64::MAX) < all { ", the beginning of it" } else { "" };
        lines.push(Line::from(vec![
            Span::raw(title).bold(),
            Span::raw(format!("  {}{cut}", bytes(all))).dim(),
        ]));
        lines.extend(fold(&clean(text), columns).into_iter().map(Line::from));
    }
    if job.is("hidden") {
        lines.push(Line::from("Payload and result are hidden: this takes the right `payload`.").dim());
    }
    lines
}

fn attempts(app: &App, job: &Value, columns: usize) -> Vec<Line<'static>> {
    if job.num("attempts") == Some(0) {
        return Vec::new();
    }
    let mut lines = Vec::new();
    for error in app.feeds.get(Slot::Errors).list("errors") {
        let n = |path: &str| error.num(path).unwrap_or_default();
        let took = n("failed_at").saturating_sub(n("dequeued_at"));
        lines.push(Line::from(vec![
            Span::raw(format!("Attempt {}", n("attempt"))).bold(),
            Span::raw(format!("  {}", clean(error.text("error_type").unwrap_or_default()))).fg(DEAD),
            Span::raw(format!("  {}, after {}", time(n("failed_at"), &app.zone), duration(took))).dim(),
        ]));
        let texts = [error.text("message"), error.text("backtrace")];
        for text in texts.into_iter().flatten().flat_map(str::lines) {
            lines.extend(fold(&clean(text), columns).into_iter().map(Line::from));
        }
    }
    lines
}
