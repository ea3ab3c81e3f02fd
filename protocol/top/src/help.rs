//! The keys of each view.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Stylize;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear};

use super::app::App;
use super::look::FLIGHT;
use super::place::{Tab, View};
use super::queue::put;

type Key = (&'static str, &'static str);

/// The five that matter.
pub(super) fn first(app: &App) -> &'static [Key] {
    if app.ask.is_some() {
        return &[("Enter", "do it"), ("Esc", "cancel"), ("c", "copy as curl")];
    }
    match &app.prompt {
        Some(prompt) if prompt.purpose == super::prompt::Purpose::Filter => {
            return &[("Enter", "filter"), ("Tab", "complete"), ("Esc", "as before"), ("^U", "clear")];
        }
        Some(_) => return &[("Enter", "do it"), ("Esc", "cancel"), ("^U", "clear")],
        None => {}
    }
    match (app.open.last(), app.tab) {
        (Some(View::Log(_)), _) => LOG,
        (Some(View::Job(_)), _) => JOB,
        (Some(View::Queue(_)), _) => QUEUE,
        (Some(View::Group(_)), _) => GROUP,
        (None, Tab::Overview) => OVERVIEW,
        (None, Tab::Queues) => QUEUES,
        (None, Tab::Jobs) => JOBS,
        (None, Tab::Running) => RUNNING,
        (None, Tab::Dead) => DEAD,
        (None, Tab::Workers) => WORKERS,
        (None, Tab::Crons) => CRONS,
        (None, Tab::Budgets) => BUDGETS,
    }
}

const LOG: &[Key] =
    &[("f", "follow"), ("/", "search"), ("w", "wrap"), ("s", "streams"), ("Esc", "back"), ("?", "help")];
const JOB: &[Key] =
    &[("Enter", "output"), ("r", "retry"), ("e", "edit"), ("D", "delete"), ("Esc", "back"), ("?", "help")];
const QUEUE: &[Key] = &[
    ("p", "pause/resume"),
    ("r", "retry dead"),
    ("P", "priority"),
    ("D", "delete dead"),
    ("Esc", "back"),
    ("?", "help"),
];
const GROUP: &[Key] =
    &[("Enter", "open"), ("r", "retry"), ("x *", "mark"), ("D", "delete"), ("Esc", "back"), ("?", "help")];
const OVERVIEW: &[Key] =
    &[("1-8", "tabs"), ("o", "range"), ("Space", "freeze"), (":", "command"), ("q", "quit"), ("?", "help")];
const QUEUES: &[Key] = &[
    ("Enter", "open"),
    ("/", "filter"),
    ("o", "order"),
    ("p", "pause/resume"),
    ("r", "retry dead"),
    ("?", "help"),
];
const JOBS: &[Key] =
    &[("Enter", "open"), ("/", "filter"), ("s", "status"), ("r", "retry"), ("D", "delete"), ("?", "help")];
const RUNNING: &[Key] = &[
    ("Enter", "output"),
    ("/", "filter"),
    ("K", "stop"),
    ("O", "order"),
    ("Space", "freeze"),
    ("?", "help"),
];
const DEAD: &[Key] = &[
    ("Enter", "open"),
    ("o", "group by"),
    ("r", "retry group"),
    ("D", "delete group"),
    ("/", "filter"),
    ("?", "help"),
];
const WORKERS: &[Key] = &[
    ("Enter", "its jobs"),
    ("R", "drain"),
    ("D", "disconnect"),
    ("o", "order"),
    ("/", "filter"),
    ("?", "help"),
];
const CRONS: &[Key] = &[
    ("r", "run now"),
    ("p", "pause/resume"),
    ("e", "edit"),
    ("Enter", "its jobs"),
    ("D", "delete"),
    ("?", "help"),
];
const BUDGETS: &[Key] =
    &[("Enter", "its jobs"), ("e", "edit"), ("D", "delete"), ("/", "filter"), ("O", "order"), ("?", "help")];

const EVERYWHERE: &[Key] = &[
    ("1 to 8, Tab", "the tabs"),
    ("j k, arrows", "one row down, up"),
    ("PgDn PgUp, g G", "a page; to the start, the end"),
    ("Enter, l", "open"),
    ("Esc, h", "back: from marks, what is open, a filter"),
    ("/", "filter; Tab completes"),
    ("o O", "another order; turn it round"),
    ("Space", "freeze, and go on"),
    ("x *", "mark a row; all that match"),
    ("c y", "copy the id; the call as curl"),
    (":", ":queue NAME, :job ID, :log ID, :url URL, :dead"),
    ("^Z q", "suspend; quit"),
];

const OF_LOG: &[Key] = &[
    ("f", "follow, or not"),
    ("/ n N", "search; the next, the one before"),
    ("w", "wrap long lines"),
    ("s", "both streams, only stdout, only stderr"),
    ("h l", "left, right"),
    ("e", "all of it in $PAGER"),
];
const OF_JOBS: &[Key] = &[
    ("s S", "the next status; several"),
    ("r", "retry"),
    ("P", "another priority"),
    ("e", "edit in $EDITOR"),
    ("K", "stop what runs, and mark it dead"),
    ("D", "delete"),
];
const OF_QUEUES: &[Key] = &[
    ("p", "pause, resume"),
    ("r", "retry the dead jobs"),
    ("P", "another priority for the ready jobs"),
    ("D", "delete the dead jobs"),
];
const OF_CRONS: &[Key] =
    &[("r", "run now"), ("p", "pause, resume"), ("e", "edit in $EDITOR"), ("D", "delete")];

/// The keys of this view alone.
fn own(app: &App) -> &'static [Key] {
    match (app.open.last(), app.tab) {
        (Some(View::Log(_)), _) => OF_LOG,
        (Some(View::Queue(_)), _) | (None, Tab::Queues) => OF_QUEUES,
        (Some(_), _) | (None, Tab::Jobs | Tab::Running) => OF_JOBS,
        (None, Tab::Dead) => &[
            ("o", "group by error, message, type, queue"),
            ("r", "retry the group"),
            ("D", "delete the group"),
        ],
        (None, Tab::Workers) => {
            &[("R", "drain: no more jobs"), ("D", "disconnect: its jobs are ready again")]
        }
        (None, Tab::Crons) => OF_CRONS,
        (None, Tab::Budgets) => &[("e", "edit in $EDITOR"), ("D", "delete")],
        (None, Tab::Overview) => &[("o", "the charts: 10 min, 3 h, 24 h, 7 d, 30 d")],
    }
}

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, screen: Rect) {
    let line =
        |(key, does): &Key| Line::from(vec![Span::raw(format!("{key:>15}  ")).fg(FLIGHT), Span::raw(*does)]);
    let mut lines = vec![Line::from(format!("{} — any key closes this", app.tab.title())).bold()];
    lines.extend(own(app).iter().map(line));
    lines.push(Line::from("Everywhere").bold());
    lines.extend(EVERYWHERE.iter().map(line));
    let width = screen.width.saturating_sub(4).min(72);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(screen.height);
    let area = screen.centered(Constraint::Length(width), Constraint::Length(height));
    frame.render_widget(Clear, area);
    frame.render_widget(Block::bordered(), area);
    let inside = Rect {
        x: area.x + 1,
        y: area.y + 1,
        width: width.saturating_sub(2),
        height: height.saturating_sub(2),
    };
    put(frame, inside, &lines);
}
