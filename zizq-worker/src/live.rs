//! On a terminal: what runs, since when, and how far it is, below the log.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use protocol::id::JobId;
use serde::Deserialize;
use tokio::time::Instant;

use crate::logging::LogFormat;
use crate::stats::{Slot, Stats};

/// How often the view is drawn.
const PACE: Duration = Duration::from_millis(200);
/// The most jobs that are shown; the others are counted.
const MAX_SHOWN: usize = 20;

/// The view, while there is one. The log goes through it.
static SCREEN: OnceLock<MultiProgress> = OnceLock::new();

/// Whether to show what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Live {
    /// Where the log goes to a terminal and is for people.
    #[default]
    Auto,
    /// Also where it does not look like a terminal.
    Always,
    /// Only the log.
    Never,
}

impl Live {
    /// Starts the view, where it is wanted.
    pub fn start(self, format: Option<LogFormat>) {
        let is_for_people = io::stderr().is_terminal() && format != Some(LogFormat::Json);
        if self == Self::Always || (self == Self::Auto && is_for_people) {
            SCREEN.get_or_init(MultiProgress::new);
        }
    }
}

/// Takes the view away, so that only the log is left.
pub fn stop() {
    if let Some(screen) = SCREEN.get()
        && let Err(e) = screen.clear()
    {
        tracing::debug!("the view could not be taken away: {e}");
    }
}

/// Standard error, above the view if there is one.
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

/// Draws until the worker has ended.
pub(crate) async fn run(stats: Arc<Stats>) {
    let Some(screen) = SCREEN.get() else { return std::future::pending().await };
    let mut view = View::new(screen);
    let (mut before, mut ticks) = (stats.ended(), tokio::time::interval(PACE));
    let mut rate = 0.0;
    loop {
        ticks.tick().await;
        let ended = stats.ended();
        #[expect(clippy::cast_precision_loss, reason = "jobs per tick are few")]
        let now = (ended - before) as f64 / PACE.as_secs_f64();
        rate = 0.8_f64.mul_add(rate, 0.2 * now);
        before = ended;
        view.draw(&stats, rate);
    }
}

struct View<'a> {
    screen: &'a MultiProgress,
    head: ProgressBar,
    lines: HashMap<JobId, ProgressBar>,
}

impl<'a> View<'a> {
    fn new(screen: &'a MultiProgress) -> Self {
        let head = screen.add(ProgressBar::no_length());
        head.set_style(style("{msg}"));
        Self { screen, head, lines: HashMap::new() }
    }

    fn draw(&mut self, stats: &Stats, rate: f64) {
        use std::sync::atomic::Ordering::Relaxed;
        let (slots, open, streams) = {
            let board = stats.board();
            let open = board.streams.values().filter(|&&open| open).count();
            (board.slots.clone(), open, board.streams.len())
        };
        self.lines.retain(|id, line| {
            let runs = slots.contains_key(id);
            if !runs {
                line.finish_and_clear();
            }
            runs
        });
        for (id, slot) in slots.iter().take(MAX_SHOWN) {
            let line = self.lines.entry(*id).or_insert_with(|| {
                let line = self.screen.add(ProgressBar::new(1000));
                line.set_style(style("  {msg}"));
                line
            });
            line.set_message(describe(*id, slot));
        }
        let more = slots.len().saturating_sub(MAX_SHOWN);
        let more = if more > 0 { format!(" ({more} not shown)") } else { String::new() };
        let (well, failed) =
            (stats.succeeded.load(Relaxed), stats.failed.load(Relaxed) + stats.dead.load(Relaxed));
        self.head.set_message(format!(
            "{} running{more} · {well} succeeded · {failed} failed · {rate:.1} jobs/s · {open} of {streams} streams open",
            slots.len()
        ));
    }
}

/// One line about a job that runs.
fn describe(id: JobId, slot: &Slot) -> String {
    let seconds = Instant::now().duration_since(slot.since).as_secs();
    let time = format!("{:02}:{:02}", seconds / 60, seconds % 60);
    let bar = slot.progress.progress.map_or_else(String::new, |progress| {
        let full = (0..20).filter(|&n| f64::from(n) < progress * 20.0).count();
        format!(" [{}{}] {:3.0} %", "#".repeat(full), "-".repeat(20 - full), progress * 100.0)
    });
    let message = slot.progress.message.as_deref().unwrap_or_default();
    let message: String = message.chars().filter(|c| !c.is_control()).take(60).collect();
    format!("{time} {} {id}{bar} {message}", slot.route)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
