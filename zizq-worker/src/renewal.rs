//! The renewal of leases: sends heartbeats that name the jobs this worker still works on.

use std::mem;
use std::time::Duration;

use protocol::lease::HeartbeatsReply;
use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::client::{CallError, Client};
use crate::event::Event;
use crate::report::Heartbeat;

/// The longest and the shortest timeout of a heartbeat.
const TIMEOUT: Duration = Duration::from_secs(10);
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum number of leases per call.
const MAX_LEASES: usize = 1_000;

/// Sends each list of heartbeats once, in order.
///
/// After a failure the list is outdated, so the pool is asked for a new one.
pub(crate) async fn run(
    client: Client,
    lease: Duration,
    mut lists: mpsc::Receiver<Vec<Heartbeat>>,
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
                Event::Renewed { asked: asked.into_iter().map(|heartbeat| heartbeat.lease).collect(), reply }
            }
            Err(e) => {
                let jobs = asked.len();
                if mem::replace(&mut said, true) {
                    tracing::debug!(jobs, "still cannot renew leases: {e}");
                } else {
                    tracing::warn!(jobs, "cannot renew leases: {e}");
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

async fn renew(
    client: &Client,
    heartbeats: &[Heartbeat],
    patience: Duration,
) -> Result<HeartbeatsReply, CallError> {
    let mut all = HeartbeatsReply::default();
    for some in heartbeats.chunks(MAX_LEASES) {
        let reply = match client.heartbeat(some, patience).await {
            Err(CallError::Refused { message, .. }) => {
                tracing::warn!(
                    jobs = some.len(),
                    "the server refused a heartbeat: {message}; sending one per job"
                );
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

/// Renews leases one by one and without progress, after the server refused them together: one bad lease does not affect
/// the others.
async fn plainly(
    client: &Client,
    heartbeats: &[Heartbeat],
    patience: Duration,
) -> Result<HeartbeatsReply, CallError> {
    let mut all = HeartbeatsReply::default();
    for heartbeat in heartbeats {
        let plain = Heartbeat { progress: None, ..heartbeat.clone() };
        match client.heartbeat(&[plain], patience).await {
            Ok(reply) => {
                all.lost.extend(reply.lost);
                all.cancel.extend(reply.cancel);
            }
            Err(CallError::Refused { message, .. }) => {
                tracing::warn!(job = %heartbeat.lease.id, "cannot renew the job's lease: {message}");
            }
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}
