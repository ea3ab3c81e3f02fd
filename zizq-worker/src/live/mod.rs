//! The live view on a terminal, below the log: progress, recent failures and running jobs.

mod view;

use std::io::{self, IsTerminal as _, Write};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use console::truncate_str;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rustix::termios::tcgetwinsize;
use serde::Deserialize;

use self::view::View;
use crate::logging::LogFormat;
use crate::stats::Stats;

/// How often the view is drawn.
const PACE: Duration = Duration::from_millis(200);
/// How long removing it may take: the terminal may be gone.
const LAST: Duration = Duration::from_millis(500);
/// The assumed size of a terminal that does not report one.
const SIZE: (u16, u16) = (24, 80);

/// The view, if there is one. The log is written through it.
static SCREEN: OnceLock<MultiProgress> = OnceLock::new();
/// Ends the drawing thread, with a channel for its confirmation.
static END: Mutex<Option<SyncSender<SyncSender<()>>>> = Mutex::new(None);

/// Whether to show the running jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Live {
    /// If the log goes to a terminal and is for people.
    #[default]
    Auto,
    /// Even without a terminal.
    Always,
    /// Only the log.
    Never,
}

impl Live {
    /// Prepares the view, if it is wanted.
    pub fn start(self, format: Option<LogFormat>) {
        let is_for_people = io::stderr().is_terminal() && format != Some(LogFormat::Json);
        if self == Self::Always || (self == Self::Auto && is_for_people) {
            SCREEN.get_or_init(MultiProgress::new);
        }
    }
}

/// Whether there is a view.
pub(crate) fn is_on() -> bool {
    SCREEN.get().is_some()
}

/// A writer to standard error, above the view if there is one.
pub(crate) fn stderr() -> impl Write {
    Stderr
}

struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match SCREEN.get() {
            Some(screen) => screen.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Draws on a thread of its own: a stopped terminal must not block the work.
pub(crate) fn show(stats: Arc<Stats>) {
    let Some(screen) = SCREEN.get() else { return };
    let (end, ended) = sync_channel::<SyncSender<()>>(1);
    *END.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    thread::spawn(move || {
        let mut lines = Lines { screen, bar: None };
        let mut view = View::default();
        let last = loop {
            match ended.recv_timeout(PACE) {
                Err(RecvTimeoutError::Timeout) => {
                    let (rows, columns) = size();
                    lines.draw(&view.lines(&stats, rows, columns), columns);
                }
                last => break last,
            }
        };
        lines.clear();
        if let Ok(done) = last {
            done.send(()).ok();
        }
    });
}

/// Removes the view.
pub fn stop() {
    let end = END.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (done, is_done) = sync_channel(1);
    if end.is_some_and(|end| end.try_send(done).is_ok()) && is_done.recv_timeout(LAST).is_err() {
        tracing::debug!("cannot remove the live view in time");
    }
}

fn size() -> (usize, usize) {
    let (rows, columns) = tcgetwinsize(io::stderr())
        .ok()
        .map(|size| (size.ws_row, size.ws_col))
        .filter(|&(rows, columns)| rows > 0 && columns > 0)
        .unwrap_or(SIZE);
    (rows.into(), columns.into())
}

/// The lines below the log, drawn at once as one bar.
struct Lines<'a> {
    screen: &'a MultiProgress,
    bar: Option<ProgressBar>,
}

impl Lines<'_> {
    fn draw(&mut self, lines: &[String], columns: usize) {
        // The last column stays free: some terminals wrap after it.
        let cut = |line: &String| truncate_str(line, columns.saturating_sub(1), "").into_owned();
        let text = lines.iter().map(cut).collect::<Vec<_>>().join("\n");
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            self.screen.add(ProgressBar::no_length().with_style(style))
        });
        bar.set_message(text);
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
