//! Asks the server how many jobs are left, while somebody sees the figures.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client::Client;
use crate::stats::Stats;
use crate::{screen, thin};

/// How often the server is asked, while the figures are shown.
const PACE: Duration = Duration::from_secs(2);

/// Asks the server while the figures are shown.
pub(crate) async fn run(client: Client, stats: Arc<Stats>) {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let queues = stats.queues();
        if queues.is_empty() || !(screen::is_on() || thin::is_on()) {
            continue;
        }
        // Read before asking: a job that starts meanwhile must not count twice.
        let begun = stats.started.load(Ordering::Relaxed);
        match client.count_ready(&queues).await {
            Ok(ready) => stats.board().rest.add(Instant::now(), ready, begun),
            Err(e) => tracing::debug!("cannot ask the server how many jobs are left: {e}"),
        }
    }
}
