//! The terminal, shared by the log and the live view below it.

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;

use clap::ValueEnum;
use indicatif::MultiProgress;
use serde::Deserialize;

/// The view, if there is one. The log is written through it.
pub(crate) static SCREEN: OnceLock<MultiProgress> = OnceLock::new();
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
    pub fn start(self, is_log_for_people: bool) {
        let is_seen = io::stderr().is_terminal() && is_log_for_people;
        if self == Self::Always || (self == Self::Auto && is_seen) {
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
