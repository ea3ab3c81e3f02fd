//! The periodic work of the pool: credits, heartbeats, sweeping, and the conditions on which a worker ends by itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use protocol::id::JobId;
use tokio::time::Instant;

use super::{Pool, RouteName, told};
use crate::config::Config;
use crate::ended::Why;
use crate::event::Event;
use crate::notify;
use crate::report::Heartbeat;
use crate::report::{Left, Progress};
use crate::shutdown::Phase;

/// How often the pool ticks.
pub(super) const PACE: Duration = Duration::from_millis(250);
/// Every this many ticks comes the work that may wait for a second.
const SLOW: u32 = 4;
/// How long `--once --wait-for-retries` waits for a job that it gave back, after it should be ready.
const COMES_BACK: Duration = Duration::from_secs(2);
/// How long `--once` waits for ready jobs that do not come, unless `--max-idle` sets it.
const NONE_COMES: Duration = Duration::from_secs(10);

impl Pool {
    pub(super) fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(SLOW) {
            self.tasks.shared.processes.sweep();
            self.set_credits();
            if self.progress_is_news {
                self.renew();
            }
            notify::is_alive(&self.tasks.stats);
            self.thinner.look(&self.tasks.stats);
            self.tell_late(told::PATIENCE);
        }
        if self.phase > Phase::Work {
            return;
        }
        if self.tasks.stats.is_reached() || !self.streams.are_wanted() {
            self.server_seen = Instant::now();
        }
        if !self.runs.is_empty() {
            return;
        }
        if let Some(most) = self.until.server_timeout.filter(|&most| self.server_seen.elapsed() >= most) {
            // There is no server to wait for, nor to accept the last reports.
            self.end(Why::NoServer(most), Phase::Stop);
        } else if !self.table.is_empty() {
            // The last job is being reported.
        } else if self.until.once && self.streams.is_empty() {
            self.end(Why::CannotServe(self.at_fault.names()), Phase::Drain);
        } else if self.until.once {
            if !self.asks_for_rest && self.tasks.stats.is_ready() {
                self.ask_for_rest();
            }
        } else if let Some(most) = self.until.max_idle.filter(|&most| self.idle_since.elapsed() >= most) {
            self.end(Why::Idle(most), Phase::Drain);
        }
    }

    /// Asks the server how many jobs are left. The answer counts only if no job came meanwhile.
    fn ask_for_rest(&mut self) {
        self.asks_for_rest = true;
        let (client, events) = (self.tasks.source.client.clone(), self.tasks.source.events.clone());
        let queues = self.streams.queues();
        tokio::spawn(async move {
            let left = client.left(&queues).await;
            let left =
                left.inspect_err(|e| tracing::warn!("cannot ask the server whether jobs are left: {e}")).ok();
            if events.send(Event::Remaining(left)).await.is_err() {
                tracing::debug!("the pool ended before the server answered");
            }
        });
    }

    pub(super) fn remaining(&mut self, left: Option<Left>) {
        self.asks_for_rest = false;
        let Some(Left { ready, held, paused, retries }) = left else { return };
        if !self.runs.is_empty() || !self.table.is_empty() {
            return;
        }
        let waited = self.idle_since.elapsed();
        let begun = self.tasks.stats.started.load(Ordering::Relaxed);
        // A job may be on its way here while none is ready: only the second answer in a row is certain.
        let is_sure = self.none_left_at.replace(begun) == Some(begun);
        if ready == 0 {
            // Another worker may take jobs that were given back, so do not wait for them for long.
            let comes_back = self.given_back.values().any(|due| due.elapsed() < COMES_BACK);
            let stays = (retries > 0 || comes_back) && self.until.wait_for_retries;
            // Jobs that this worker could not run are left to others.
            if is_sure && !self.at_fault.is_empty() {
                self.end(Why::CannotServe(self.at_fault.names()), Phase::Drain);
            } else if is_sure && !stays {
                let given_back = u64::try_from(self.given_back.len()).unwrap_or(u64::MAX);
                self.end(Why::NothingLeft { retries, given_back }, Phase::Drain);
            }
        } else if is_sure && (ready == held || waited >= self.until.max_idle.unwrap_or(NONE_COMES)) {
            let queues = paused.iter().map(|queue| format!("queue `{queue}`")).collect::<Vec<_>>();
            self.end(Why::Held { ready, paused: queues.join(", "), time: waited }, Phase::Drain);
        }
    }

    pub(super) fn reload(&mut self, config: &Config) {
        if self.phase > Phase::Work {
            return;
        }
        match self.set_routes(config) {
            Ok(()) => {
                self.shutdown_timeout = config.shutdown_timeout;
                tracing::info!(routes = config.routes.len(), "configuration reloaded");
                let (now, before) = (config.fixed(), self.fixed.iter());
                let changed = now.iter().zip(before).filter(|(now, before)| now != before);
                let changed = changed.map(|((key, _), _)| *key).collect::<Vec<_>>().join(", ");
                if !changed.is_empty() {
                    tracing::warn!("restart the worker to apply the changes to {changed}");
                }
                self.renew();
            }
            Err(e) => tracing::error!("cannot use the new configuration, keeping the old one: {e}"),
        }
    }

    /// Lets each stream hold as many jobs as can be started: none for a route that rests; and one more than are running
    /// when other routes occupy all slots, so that each queue gets its turn and other workers get the rest.
    pub(super) fn set_credits(&mut self) {
        if self.phase > Phase::Work {
            return;
        }
        let now = Instant::now();
        let mut surplus: Vec<(RouteName, usize)> = Vec::new();
        for stream in self.streams.open() {
            let (running, waiting) = self.table.load(&stream.routes);
            let rests = stream.routes.iter().all(|route| self.at_fault.is_on(route, now));
            let keep = if rests {
                0
            } else if self.table.is_full() && (waiting > 1 || stream.is_reduced()) {
                1
            } else {
                usize::from(stream.slots)
            };
            let credit = u16::try_from(running + keep).unwrap_or(u16::MAX).min(stream.slots);
            if keep <= 1 {
                surplus.extend(stream.routes.iter().map(|route| (route.clone(), keep)));
            }
            stream.set_credit(credit);
        }
        for (route, keep) in surplus {
            self.table.give_back_waiting(&route, keep);
        }
    }

    pub(super) fn progressed(&mut self, id: JobId, progress: Progress) {
        let known = self.progress.entry(id).or_default();
        known.progress = progress.progress.or(known.progress);
        known.message = progress.message.or(known.message.take());
        if let Some(slot) = self.tasks.stats.board().slots.get_mut(&id) {
            slot.progress = known.clone();
        }
        self.progress_is_news = true;
    }

    /// Sends a heartbeat for all leases. None is needed while the last one is still on its way.
    pub(super) fn renew(&mut self) {
        let leases = self.table.leases();
        let heartbeat = |lease: crate::report::Lease| Heartbeat {
            lease,
            progress: self.progress.get(&lease.id).cloned(),
        };
        let heartbeats: Vec<Heartbeat> = leases.into_iter().map(heartbeat).collect();
        self.tasks.stats.draining.store(self.phase > Phase::Work, Ordering::Relaxed);
        if !heartbeats.is_empty() && self.tasks.renewals.try_send(heartbeats).is_err() {
            tracing::debug!("a heartbeat is already on its way");
        } else {
            self.progress_is_news = false;
        }
        self.renewal.reset();
    }
}
