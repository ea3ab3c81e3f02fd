//! The phases of a shutdown: each SIGTERM or SIGINT moves the worker one phase further.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The phase of a worker. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Takes jobs and runs them.
    Work,
    /// Takes no more jobs and lets the running ones finish.
    Drain,
    /// Stops the running jobs: SIGTERM, then SIGKILL.
    Stop,
    /// Kills the running jobs at once.
    Kill,
}

impl Phase {
    const fn next(self) -> Self {
        match self {
            Self::Work => Self::Drain,
            Self::Drain => Self::Stop,
            Self::Stop | Self::Kill => Self::Kill,
        }
    }
}

/// Moves one phase further with each SIGTERM or SIGINT.
///
/// # Errors
/// If the signals cannot be caught.
pub fn follow_signals(phase: watch::Sender<Phase>) -> io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            phase.send_modify(|phase| *phase = phase.next());
        }
    })
}
