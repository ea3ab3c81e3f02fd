//! The live view on a terminal, below the log: progress, recent failures and running jobs.

pub(crate) mod left;
mod view;

use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use console::truncate_str;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rustix::termios::tcgetwinsize;

use self::view::View;
use crate::screen::SCREEN;
use crate::stats::Stats;

/// How often the view is drawn.
const PACE: Duration = Duration::from_millis(200);
/// How long removing it may take: the terminal may be gone.
const LAST: Duration = Duration::from_millis(500);
/// The assumed size of a terminal that does not report one.
const SIZE: (u16, u16) = (24, 80);

/// Ends the drawing thread, with a channel for its confirmation.
static END: Mutex<Option<SyncSender<SyncSender<()>>>> = Mutex::new(None);

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
