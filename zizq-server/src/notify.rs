//! Status messages to a service manager, if there is one (`sd_notify`).

use std::time::Duration;

use protocol::plural::plural;
use sd_notify::NotifyState;

use crate::engine::command::jobs::{CountJobs, Counted};
use crate::run::handle::{CallError, Handle};
use protocol::job::Status;

/// How often the status is sent, unless the watchdog wants it more often.
const PACE: Duration = Duration::from_secs(10);

/// Reports that the server answers.
pub fn is_ready(url: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("listening on {url}"))]);
}

/// Reports that files are being reloaded, until [`has_reloaded`] (`Type=notify-reload`).
pub fn is_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "cannot read the monotonic clock for the service manager"),
    }
}

/// Reports that the reload is over, whether or not it succeeded.
pub fn has_reloaded() {
    tell(&[NotifyState::Ready]);
}

/// Reports that the server is stopping.
pub(crate) fn is_stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("waiting for running jobs")]);
}

/// Reports periodically that the engine answers, and its job counts, until the engine has stopped.
pub(crate) async fn follow(engine: Handle) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    // Three times per watchdog period, so that one late message does no harm.
    let mut pace = tokio::time::interval(watchdog.map_or(PACE, |within| (within / 3).min(PACE)));
    loop {
        pace.tick().await;
        let Some(status) = status(&engine).await else { return };
        tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
    }
}

/// The status of the engine; `None` once it has stopped. Does not return while the engine does not answer.
async fn status(engine: &Handle) -> Option<String> {
    match engine.ask(CountJobs { queues: None }).await {
        Ok(Counted { counts, .. }) => {
            let (ready, in_flight) = (counts.of(Status::Ready), counts.of(Status::InFlight));
            Some(format!("{ready} {} ready, {in_flight} in flight", plural(ready, "job", "jobs")))
        }
        Err(CallError::Stopped) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// Sends a message; does nothing without a service manager.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "could not notify the service manager");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_does_not_answer_is_not_reported_alive() {
        let (requests, engine) = crossbeam_channel::unbounded();
        let handle = Handle::new(requests, Arc::new(Semaphore::new(8)));
        let asked = tokio::time::timeout(Duration::from_secs(3_600), status(&handle)).await;
        assert!(asked.is_err(), "{asked:?}");
        drop(engine);
        assert_eq!(status(&handle).await, None, "it has stopped");
    }
}
