//! The keeper of leases: tells the server which jobs are still being worked on.

use std::mem;
use std::time::Duration;

use protocol::lease::HeartbeatsReply;
use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::client::{CallError, Client};
use crate::event::Event;
use crate::report::Beat;

/// How long the answer to a heartbeat may take at most, and at least.
const TIMEOUT: Duration = Duration::from_secs(10);
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);
/// The most leases in one call.
const MAX_LEASES: usize = 1_000;

/// Renews each list of leases once, one after the other.
///
/// After a failure the list is out of date, so the pool is asked for a new one.
pub(crate) async fn run(
    client: Client,
    lease: Duration,
    mut lists: mpsc::Receiver<Vec<Beat>>,
    events: mpsc::Sender<Event>,
) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let mut said = false;
    // Another heartbeat is soon due.
    let patience = (lease / 3).clamp(LEAST_TIMEOUT, TIMEOUT);
    while let Some(asked) = lists.recv().await {
        let event = match renew(&client, &asked, patience).await {
            Ok(reply) => {
                backoff.reset();
                said = false;
                Event::Renewed { asked: asked.into_iter().map(|beat| beat.lease).collect(), reply }
            }
            Err(e) => {
                let jobs = asked.len();
                if mem::replace(&mut said, true) {
                    tracing::debug!(jobs, "leases still could not be renewed: {e}");
                } else {
                    tracing::warn!(jobs, "leases could not be renewed: {e}");
                }
                tokio::time::sleep(backoff.next()).await;
                Event::RenewalFailed
            }
        };
        if events.send(event).await.is_err() {
            break;
        }
    }
}

async fn renew(client: &Client, beats: &[Beat], patience: Duration) -> Result<HeartbeatsReply, CallError> {
    let mut all = HeartbeatsReply::default();
    for some in beats.chunks(MAX_LEASES) {
        let reply = match client.heartbeat(some, patience).await {
            Err(CallError::Refused { message, .. }) => {
                tracing::warn!(jobs = some.len(), "a heartbeat was refused: {message}; said more plainly");
                plainly(client, some, patience).await?
            }
            other => other?,
        };
        all.jobs.extend(reply.jobs);
        all.lost.extend(reply.lost);
        all.cancel.extend(reply.cancel);
    }
    Ok(all)
}

/// Renews leases that the server did not renew together: without anything but the leases, each by itself. One that it
/// does not want to hear of at all takes no other with it.
async fn plainly(client: &Client, beats: &[Beat], patience: Duration) -> Result<HeartbeatsReply, CallError> {
    let mut all = HeartbeatsReply::default();
    for beat in beats {
        let plain = Beat { progress: None, ..beat.clone() };
        match client.heartbeat(&[plain], patience).await {
            Ok(reply) => {
                all.lost.extend(reply.lost);
                all.cancel.extend(reply.cancel);
            }
            Err(CallError::Refused { message, .. }) => {
                tracing::warn!(job = %beat.lease.id, "its lease cannot be renewed: {message}");
            }
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}
