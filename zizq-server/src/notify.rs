//! What a service manager is told, where there is one (`sd_notify`).

use std::time::Duration;

use sd_notify::NotifyState;

use crate::engine::command::jobs::CountJobs;
use crate::run::handle::{CallError, Handle};
use protocol::job::Status;

/// How often it hears how things are, unless it wants to hear more often that the engine lives.
const PACE: Duration = Duration::from_secs(10);

/// That the server answers.
pub fn is_ready(url: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("listening on {url}"))]);
}

/// That files are read again, until [`has_reloaded`] (`Type=notify-reload`).
pub fn is_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock to tell the service manager"),
    }
}

/// That they were read, or stay as they were.
pub fn has_reloaded() {
    tell(&[NotifyState::Ready]);
}

/// That the server comes to its end.
pub(crate) fn is_stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("waiting for running jobs")]);
}

/// Tells again and again that the engine answers, and how many jobs there are, until the engine has stopped.
pub(crate) async fn follow(engine: Handle) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    // Three times before it is missed, so that one that comes late does no harm.
    let mut pace = tokio::time::interval(watchdog.map_or(PACE, |within| (within / 3).min(PACE)));
    loop {
        pace.tick().await;
        let Some(status) = status(&engine).await else { return };
        tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
    }
}

/// How the engine says it is; `None` once it has stopped. While it does not answer, nothing comes of this.
async fn status(engine: &Handle) -> Option<String> {
    match engine.ask(CountJobs { queues: None }).await {
        Ok(counts) => Some(format!(
            "{} jobs ready, {} in flight",
            counts.of(Status::Ready),
            counts.of(Status::InFlight)
        )),
        Err(CallError::Stopped) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// Without a service manager nobody is told.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_does_not_answer_is_not_said_to_live() {
        let (requests, engine) = crossbeam_channel::unbounded();
        let handle = Handle::new(requests, Arc::new(Semaphore::new(8)));
        let asked = tokio::time::timeout(Duration::from_secs(3_600), status(&handle)).await;
        assert!(asked.is_err(), "{asked:?}");
        drop(engine);
        assert_eq!(status(&handle).await, None, "it has stopped");
    }
}
