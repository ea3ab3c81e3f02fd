//! What a service manager is told, where there is one (`sd_notify`).

use std::sync::atomic::{AtomicBool, Ordering};

use sd_notify::NotifyState;

use crate::stats::Stats;

/// Whether it was told that this worker is ready.
static IS_READY: AtomicBool = AtomicBool::new(false);

/// Tells that the worker is ready, once it is, and from then on that it is alive.
pub(crate) fn is_alive(stats: &Stats) {
    if stats.is_ready() && !IS_READY.swap(true, Ordering::Relaxed) {
        tell(&[NotifyState::Ready]);
    }
    if IS_READY.load(Ordering::Relaxed) {
        let status = format!("{} jobs run, {} have ended", stats.board().slots.len(), stats.ended());
        tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
    }
}

/// Tells that the configuration is read again, until [`has_reloaded`] (`Type=notify-reload`).
pub(crate) fn is_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(e) => tracing::debug!("no monotonic clock to tell the service manager: {e}"),
    }
}

/// Tells that it was read, or stays as it was.
pub(crate) fn has_reloaded() {
    tell(&[NotifyState::Ready]);
}

/// Tells that the worker comes to its end.
pub(crate) fn is_stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Without a service manager nobody is told.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        tracing::debug!("the service manager could not be told: {e}");
    }
}
