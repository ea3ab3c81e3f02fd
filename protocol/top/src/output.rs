//! The view of the output of a job.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};

use super::app::App;
use super::data::Look;
use super::feeds::Slot;
use super::format::{count, plural};
use super::log::{Kind, Log, State};
use super::look::{DEAD, WARN, dim};
use super::table::split_top;
use super::text::{clean, cut};

pub(super) fn draw(app: &mut App, frame: &mut Frame<'_>, area: Rect) {
    let job =
        app.feeds.get(Slot::Job).map(|job| clean(job.text("type").unwrap_or_default())).unwrap_or_default();
    let [head, body] = split_top(area, 1);
    let (width, height) = (usize::from(body.width), usize::from(body.height));
    let Some(log) = app.log.as_mut() else { return };
    let rows = log.rows(width);
    let last = rows.len().saturating_sub(height);
    if log.follow {
        log.top = last;
    }
    log.top = log.top.min(last);
    log.drawn = (rows.len(), height);
    let title = cut(title(log, &job, rows.iter().filter(|(.., hit)| *hit).count()), usize::from(head.width));
    let buffer = frame.buffer_mut();
    buffer.set_line(head.x, head.y, &title, head.width);
    if rows.is_empty() {
        let text = match log.state {
            State::Connecting => "",
            State::Live => "Nothing has been printed yet.",
            _ => "There is no output. Commands that zizq-worker runs are recorded; URLs are not.",
        };
        buffer.set_line(body.x, body.y, &cut(dim(text), width), body.width);
    }
    for ((kind, row, hit), y) in rows.iter().skip(log.top).zip(body.y..body.bottom()) {
        let mut style = match kind {
            Kind::Out => Style::new(),
            Kind::Error => Style::new().fg(WARN),
            Kind::Gap => Style::new().fg(DEAD),
        };
        if *hit {
            style = style.reversed();
        }
        let shown = if log.wrap { row.clone() } else { row.chars().skip(log.left).collect() };
        buffer.set_line(body.x, y, &cut(Line::from(Span::styled(shown, style)), width), body.width);
    }
    app.places.height = height;
}

fn title(log: &Log, job: &str, hits: usize) -> Line<'static> {
    let state = match &log.state {
        State::Connecting => "connecting".to_owned(),
        State::Live if log.follow => "live".to_owned(),
        State::Live => "live, not followed".to_owned(),
        State::Ended(status) => format!(
            "ended{}",
            status.as_ref().map(|status| format!(": {}", clean(status))).unwrap_or_default()
        ),
        State::Failed(why) => clean(why),
    };
    let mut parts = vec![
        Span::raw("Output of ").dim(),
        Span::raw(cut(Line::from(job.to_owned()), 40).to_string()).bold(),
    ];
    parts.extend(log.attempt.map(|attempt| Span::raw(format!("  attempt {attempt}"))));
    parts.push(Span::raw(format!("  {state}")));
    let only = match log.only {
        Some(Kind::Out) => "  only stdout",
        Some(_) => "  only stderr",
        None => "",
    };
    parts.push(Span::raw(only));
    if log.dropped > 0 {
        parts.push(Span::raw(format!("  the first {} lines are not kept", count(log.dropped))).dim());
    }
    if !log.search.is_empty() {
        let hits = u64::try_from(hits).unwrap_or_default();
        parts.push(Span::raw(format!("  {} with {}", plural(hits, "line"), clean(&log.search))).fg(WARN));
    }
    parts.push(Span::raw(format!("  {}", log.id)).dim());
    Line::from(parts)
}
