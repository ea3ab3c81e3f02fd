//! The frame around all views: where this is and how it is connected, the tabs, and the keys that matter.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};

use super::app::App;
use super::data::Look;
use super::feeds::Slot;
use super::format::{age, bytes, clock, duration};
use super::live::Connection;
use super::look::{DEAD, DONE, FLIGHT, WARN, to_ascii, without_colours};
use super::place::{Tab, View};
use super::queue::put;
use super::table::split_top;
use super::text::{clean, cut, width};
use super::told::Tone;
use super::{ask, help, job, output, overview, queue, table};

/// A view that is waited for longer than this says so, in milliseconds.
const SLOW_MS: u64 = 200;
/// Below this nothing can be shown.
const LEAST: (u16, u16) = (40, 10);

pub(super) fn draw(app: &mut App, frame: &mut Frame<'_>) {
    let area = frame.area();
    app.places = super::app::Places::default();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let says = format!("{} by {} is too small", area.width, area.height);
        put(frame, area, &[Line::from(says)]);
        return;
    }
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Length(1),
    ]);
    let [head, tabs, body, told, keys] = areas.areas(area);
    header(app, frame, head);
    self::tabs(app, frame, tabs);
    view(app, frame, body);
    told_line(app, frame, told);
    put(frame, keys, &[key_line(app, usize::from(keys.width))]);
    if let Some(about) = &app.ask {
        ask::draw(about, frame, body);
    }
    if app.help {
        help::draw(app, frame, area);
    }
    if !app.colours {
        without_colours(frame.buffer_mut());
    }
    if app.ascii {
        to_ascii(frame.buffer_mut());
    }
}

fn header(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let state = match app.live.connection(app.now) {
        Connection::Connecting => Span::raw("● connecting").fg(WARN),
        Connection::Live if app.frozen => Span::raw("‖ frozen").fg(WARN),
        Connection::Live => Span::raw("● live").fg(DONE),
        Connection::Stale(ms) => Span::raw(format!("● stale {}", age(ms))).fg(DEAD).bold(),
        Connection::Never(_) => Span::raw("● no connection").fg(DEAD).bold(),
    };
    let stats = app.live.stats();
    let mut left =
        vec![Span::raw("zizq ").bold().fg(FLIGHT), Span::raw(clean(&app.server)), Span::raw("  "), state];
    let server =
        stats.text("server").and_then(|server| server.split_once('/')).map(|(_, version)| clean(version));
    let me = app.me();
    let who = me.text("role").or(me.text("/who/name")).map(clean);
    let facts = [
        me.is("read_only").then(|| "read-only".to_owned()),
        stats.is("draining").then(|| "draining".to_owned()),
        who.map(|who| format!("as {who}")),
        server.map(|version| format!("version {version}")),
        stats
            .num("uptime_ms")
            .map(|ms| format!("up {}", duration(ms / 60_000 * 60_000).replace("0 ms", "0 min"))),
        stats.num("/disk/free").map(|free| format!("{} free", bytes(free))),
    ];
    let time = clock(app.server_now(), &app.zone);
    let room = usize::from(area.width).saturating_sub(width(&time) + 2);
    for fact in facts.into_iter().flatten() {
        let used: usize = left.iter().map(Span::width).sum();
        if used + 2 + width(&fact) <= room {
            left.push(Span::raw(format!("  {fact}")).dim());
        }
    }
    let buffer = frame.buffer_mut();
    buffer.set_line(area.x, area.y, &cut(Line::from(left), room), area.width);
    let x = area.right().saturating_sub(u16::try_from(width(&time)).unwrap_or(8));
    buffer.set_string(x, area.y, time, Style::new());
}

fn tabs(app: &mut App, frame: &mut Frame<'_>, area: Rect) {
    // Where all names do not fit, the others have only their beginnings.
    let long: usize = Tab::ALL.iter().map(|tab| tab.title().len() + 4).sum();
    let short = long > usize::from(area.width);
    let mut x = area.x;
    for (tab, n) in Tab::ALL.into_iter().zip(1..) {
        let title =
            if short && tab != app.tab { tab.title().get(..5).unwrap_or(tab.title()) } else { tab.title() };
        let text = format!(" {n} {title} ");
        let style = if tab == app.tab { Style::new().reversed().bold() } else { Style::new() };
        let wide = u16::try_from(text.len()).unwrap_or(u16::MAX).min(area.right().saturating_sub(x));
        frame.buffer_mut().set_stringn(x, area.y, text, usize::from(wide), style);
        app.places.tabs.push((Rect { x, y: area.y, width: wide, height: 1 }, tab));
        x += wide;
    }
}

fn view(app: &mut App, frame: &mut Frame<'_>, area: Rect) {
    // Before the server has said anything, or when it says no.
    if app.live.stats().is_none() {
        let lines = match app.live.connection(app.now) {
            Connection::Never(problem) => vec![
                Line::default(),
                Line::from(format!(" {}", clean(&problem.says)).fg(DEAD)),
                Line::from(match problem.status {
                    401 => " Give an access token: --token-file FILE or ZIZQ_TOKEN.",
                    403 => " This takes an access token with the right `read`.",
                    _ => " It is tried again and again. :url URL goes to another server, q ends.",
                })
                .dim(),
            ],
            _ => vec![Line::default(), Line::from(format!(" Connecting to {} …", clean(&app.server)))],
        };
        put(frame, area, &lines);
        return;
    }
    match app.open.last().cloned() {
        Some(View::Queue(name)) => queue::draw(app, frame, area, &name),
        Some(View::Job(id)) => job::draw(app, frame, area, &id),
        Some(View::Log(_)) => output::draw(app, frame, area),
        None if app.tab == Tab::Overview => overview::draw(app, frame, area),
        _ => list(app, frame, area),
    }
}

/// A table; below one of jobs, the job with the cursor.
fn list(app: &mut App, frame: &mut Frame<'_>, area: Rect) {
    let Some(table) = app.table() else { return };
    let has_split = app.tab == Tab::Jobs && !table.rows.is_empty() && area.height >= 16;
    let rows = if has_split {
        (area.height * 3 / 5).min(u16::try_from(table.rows.len() + 3).unwrap_or(u16::MAX))
    } else {
        area.height
    };
    let [top, bottom] = split_top(area, rows.max(area.height.min(8)));
    table::draw(app, frame, top, &table);
    if has_split && let Some(id) = app.cursor() {
        let [line, below] = split_top(bottom, 1);
        put(frame, line, &[Line::from("─".repeat(usize::from(line.width))).dim()]);
        let (height, scroll) = (app.places.height, std::mem::take(&mut app.scroll));
        job::draw(app, frame, below, &id);
        (app.places.height, app.scroll) = (height, scroll);
    }
}

/// The answer that the view is made of.
pub(super) fn slot(app: &App) -> Option<Slot> {
    match (app.open.last(), app.tab) {
        (Some(View::Queue(_)), _) => Some(Slot::Queue),
        (Some(View::Group(_)), _) => Some(Slot::GroupJobs),
        (Some(View::Job(_)), _) => Some(Slot::Job),
        (Some(View::Log(_)), _) | (None, Tab::Overview | Tab::Queues) => None,
        (None, Tab::Jobs) => Some(Slot::Jobs),
        (None, Tab::Running) => Some(Slot::Running),
        (None, Tab::Dead) => Some(Slot::Groups),
        (None, Tab::Workers) => Some(Slot::Workers),
        (None, Tab::Crons) => Some(Slot::Crons),
        (None, Tab::Budgets) => Some(Slot::Budgets),
    }
}

/// What is typed, told, wrong or waited for.
fn told_line(app: &App, frame: &mut Frame<'_>, area: Rect) {
    if let Some(prompt) = &app.prompt {
        let before = format!("{}{}", prompt.sign(), clean(prompt.field.before()));
        put(frame, area, &[Line::from(format!("{}{}", prompt.sign(), clean(&prompt.field.text)))]);
        let x = u16::try_from(width(&before)).unwrap_or(u16::MAX).min(area.width.saturating_sub(1));
        frame.set_cursor_position(Position::new(area.x + x, area.y));
        return;
    }
    let problem = slot(app).and_then(|slot| app.feeds.problem(slot)).filter(|problem| problem.status != 404);
    let waiting = slot(app).and_then(|slot| app.feeds.waiting(slot, app.now)).filter(|ms| *ms >= SLOW_MS);
    let list = app.list();
    let line = match (app.told(), problem, app.live.problem()) {
        (Some((text, Tone::Good)), ..) => Line::from(clean(text).fg(DONE)),
        (Some((text, Tone::Bad)), ..) => Line::from(clean(text).fg(DEAD)),
        (None, Some(problem), _) => Line::from(clean(&problem.says).fg(DEAD)),
        (None, None, Some(problem)) if app.live.stats().is_some() => {
            Line::from(clean(&problem.says).fg(DEAD))
        }
        _ if list.all => Line::from("all that match are marked".fg(WARN)),
        _ if !list.marked.is_empty() => Line::from(format!("{} marked", list.marked.len()).fg(WARN)),
        _ => match waiting {
            Some(ms) => Line::from(format!("{} waiting for the server, {}", spinner(ms), age(ms))).dim(),
            None => Line::default(),
        },
    };
    put(frame, area, &[line]);
}

fn spinner(ms: u64) -> char {
    let at = usize::try_from(ms / 250 % 4).unwrap_or_default();
    ['|', '/', '-', '\\'].get(at).copied().unwrap_or('|')
}

/// The keys that matter here.
fn key_line(app: &App, columns: usize) -> Line<'static> {
    let keys = help::first(app);
    let mut spans = Vec::new();
    for (key, does) in keys {
        let used: usize = spans.iter().map(Span::width).sum();
        let before = if spans.is_empty() { "" } else { "   " };
        if used + width(before) + width(key) + 1 + width(does) > columns {
            break;
        }
        spans.push(Span::raw(before));
        spans.push(Span::raw(*key).bold().fg(FLIGHT));
        spans.push(Span::raw(format!(" {does}")));
    }
    Line::from(spans)
}
