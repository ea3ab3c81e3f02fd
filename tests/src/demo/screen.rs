//! What the user sees: colours and bars on a terminal, plain lines elsewhere.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Standard output.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    colours: bool,
    interactive: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { terminal, colours, interactive: terminal && std::io::stdin().is_terminal() }
    }

    /// Whether somebody sits there who can press a key.
    pub(super) const fn interactive(&self) -> bool {
        self.interactive
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Less important.
    pub(super) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(super) fn good_line(&self, text: &str) -> String {
        format!("  {} {text}", self.paint("32;1", "✓"))
    }

    fn bad_line(&self, text: &str) -> String {
        format!("  {} {text}", self.paint("31;1", "✗"))
    }

    pub(super) fn bolt_line(&self, text: &str) -> String {
        format!("  {} {text}", self.paint("33;1", "⚡"))
    }

    pub(super) fn line(&self, text: &str) {
        // Whoever closed our standard output does not want to read it.
        drop(writeln!(
            std::io::stdout(),
            "{}",
            if text.is_empty() { String::new() } else { format!("  {text}") }
        ));
    }

    pub(super) fn blank(&self) {
        self.line("");
    }

    pub(super) fn title(&self, text: &str) {
        self.blank();
        self.line(&self.paint("1", text));
        self.blank();
    }

    /// Something that went well.
    pub(super) fn good(&self, text: &str) {
        self.line(self.good_line(text).trim_start());
    }

    /// More of the line before.
    pub(super) fn more(&self, text: &str) {
        self.line(&format!("    {text}"));
    }

    /// Something that went well, or did not.
    pub(super) fn check(&self, good: bool, text: &str) {
        let line = if good { self.good_line(text) } else { self.bad_line(text) };
        self.line(line.trim_start());
    }
}

/// How far the queues are.
#[derive(Debug)]
pub(super) struct Progress {
    bars: MultiProgress,
    queues: [(&'static str, ProgressBar); 2],
    all: u64,
    terminal: bool,
    shown: Cell<Option<Instant>>,
}

impl Progress {
    /// How far apart plain lines are.
    const APART: Duration = Duration::from_secs(1);

    pub(super) fn new(screen: &Screen, queues: [&'static str; 2], all: u64) -> Self {
        let target =
            if screen.terminal { ProgressDrawTarget::stdout() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let bar = if screen.colours { "{bar:40.cyan/238}" } else { "{bar:40}" };
        let style =
            ProgressStyle::with_template(&format!("  {{prefix:9}} {bar} {{pos:>5}}/{{len}}  {{msg}}"));
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━─");
        let queues = queues.map(|queue| {
            let bar = bars.add(ProgressBar::new(all)).with_style(style.clone()).with_prefix(queue);
            (queue, bar)
        });
        Self { bars, queues, all, terminal: screen.terminal, shown: Cell::default() }
    }

    /// Shows how many are done, and how often the endpoint refused.
    pub(super) fn show(&self, done: &[u64; 2], refusals: u64) {
        let note = format!("{refusals} failed and retried");
        for ((_, bar), done) in self.queues.iter().zip(done) {
            bar.set_position(*done);
        }
        self.queues[1].1.set_message(note.clone());
        let due = self.shown.get().is_none_or(|shown| shown.elapsed() > Self::APART);
        if !self.terminal && (due || done.iter().sum::<u64>() == 2 * self.all) {
            self.shown.set(Some(Instant::now()));
            let parts =
                self.queues.iter().zip(done).map(|((queue, _), done)| format!("{queue} {done}/{}", self.all));
            self.say(&format!("    {}, {note}", parts.collect::<Vec<_>>().join(", ")));
        }
    }

    /// A line above the bars.
    pub(super) fn say(&self, line: &str) {
        if self.terminal {
            drop(self.bars.println(line));
        } else {
            drop(writeln!(std::io::stdout(), "{line}"));
        }
    }

    /// Leaves the bars as they are.
    pub(super) fn finish(&self) {
        self.queues.iter().for_each(|(_, bar)| bar.abandon());
    }
}

/// A duration for people.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
