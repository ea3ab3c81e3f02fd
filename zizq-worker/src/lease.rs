//! The keeper of leases: tells the server which jobs are still being worked on.

use std::mem;
use std::time::Duration;

use protocol::lease::HeartbeatsReply;
use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::client::{CallError, Client};
use crate::event::Event;
use crate::report::Beat;

/// How long the answer to a heartbeat may take: another one is soon due.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most leases in one call.
const MAX_LEASES: usize = 1_000;

/// Renews each list of leases once, one after the other.
///
/// After a failure the list is out of date, so the pool is asked for a new one.
pub(crate) async fn run(client: Client, mut lists: mpsc::Receiver<Vec<Beat>>, events: mpsc::Sender<Event>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let mut said = false;
    while let Some(asked) = lists.recv().await {
        let event = match renew(&client, &asked).await {
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

async fn renew(client: &Client, beats: &[Beat]) -> Result<HeartbeatsReply, CallError> {
    let mut all = HeartbeatsReply::default();
    for some in beats.chunks(MAX_LEASES) {
        let reply = client.heartbeat(some, TIMEOUT).await?;
        all.jobs.extend(reply.jobs);
        all.lost.extend(reply.lost);
        all.cancel.extend(reply.cancel);
    }
    Ok(all)
}
