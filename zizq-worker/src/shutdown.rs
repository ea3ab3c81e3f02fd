//! The end of a worker, in steps.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How far towards its end a worker is. It only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Takes jobs and runs them.
    Work,
    /// Takes no more jobs, lets the running ones finish.
    Drain,
    /// Asks the running jobs to end, and soon makes them.
    Stop,
    /// Makes the running jobs end at once.
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

/// Goes one phase further with each SIGTERM or SIGINT.
///
/// # Errors
/// Where the signals cannot be caught.
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
