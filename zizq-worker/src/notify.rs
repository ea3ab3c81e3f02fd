//! Notifies the service manager, if there is one (`sd_notify`).

use std::sync::atomic::{AtomicBool, Ordering};

use protocol::plural::plural;
use sd_notify::NotifyState;

use crate::stats::Stats;

/// Whether the worker was reported as ready.
static IS_READY: AtomicBool = AtomicBool::new(false);

/// Reports the worker as ready, once it is, and as alive from then on.
pub(crate) fn is_alive(stats: &Stats) {
    if stats.is_ready() && !IS_READY.swap(true, Ordering::Relaxed) {
        tell(&[NotifyState::Ready]);
    }
    if IS_READY.load(Ordering::Relaxed) {
        let running = stats.board().slots.len();
        let status = format!("{running} {} running, {} ended", plural(running, "job", "jobs"), stats.ended());
        tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
    }
}

/// Reports that a reload began; [`has_reloaded`] ends it (`Type=notify-reload`).
pub(crate) fn is_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(e) => tracing::debug!("no monotonic clock to tell the service manager: {e}"),
    }
}

/// Reports the end of a reload, successful or not.
pub(crate) fn has_reloaded() {
    tell(&[NotifyState::Ready]);
}

/// Reports that the worker is shutting down.
pub(crate) fn is_stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Does nothing without a service manager.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        tracing::debug!("cannot notify the service manager: {e}");
    }
}
