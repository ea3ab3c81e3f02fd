//! The laws of dispatch.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use protocol::id::JobId;
use protocol::job::Status;

use super::model::{Entry, Lease, Model};
use super::streams::{State, Told};
use crate::engine::command::streams::Link;
use crate::engine::outbox::{Delivery, Item};

impl Model {
    /// Checks what all streams were told in a turn against what they should have been told. Deliveries come last, and
    /// over all streams in the order of their tokens.
    pub(super) fn check_told(&mut self, told: Vec<(Link, Vec<Item>)>) -> Result<()> {
        self.send_missed();
        let mut deliveries = Vec::new();
        for (link, mut items) in told {
            let stream = self.streams.values_mut().find(|stream| stream.link == Some(link));
            let Some(stream) = stream.filter(|stream| stream.state == State::Open) else {
                ensure!(items.is_empty(), "{link:?} is closed, but is told {items:?}");
                continue;
            };
            let mut expected = std::mem::take(&mut stream.told);
            let new = items.split_off(expected.len().min(items.len()));
            let mut seen: Vec<Told> = items.iter().map(told_in).collect();
            seen.sort();
            expected.sort();
            ensure!(seen == expected, "{link:?} should hear {expected:?}, not {seen:?}");
            for item in new {
                let Item::Job(delivery) = item else { bail!("{link:?} is told {item:?} for no reason") };
                deliveries.push((link, delivery));
            }
        }
        deliveries.sort_by_key(|(_, delivery)| delivery.token);
        if deliveries.is_empty() && !self.streams.values().any(|stream| stream.state == State::Open) {
            return Ok(());
        }
        let mut ready = self.ready();
        let mut held = self.held();
        for (link, delivery) in deliveries {
            self.deliver(link, &delivery, &mut ready, &mut held)
                .with_context(|| format!("{link:?} gets {:?} {:?}", delivery.job.id, delivery.token))?;
        }
        self.check_idle(&ready, &held)
    }

    fn ready(&self) -> BTreeSet<(u16, JobId)> {
        let handed_out =
            |entry: &&Entry| entry.job.status == Status::Ready && !self.paused.contains(&entry.queue);
        let entries = self.jobs.values().filter(handed_out);
        let idle = entries.filter(|entry| !self.leases.contains_key(&entry.job.id));
        idle.map(|entry| (entry.job.priority, entry.job.id)).collect()
    }

    /// Returns how many jobs each stream holds.
    pub(super) fn held(&self) -> BTreeMap<u64, usize> {
        let mut held = BTreeMap::new();
        self.leases.values().for_each(|lease| *held.entry(lease.stream).or_default() += 1);
        held
    }

    fn deliver(
        &mut self,
        link: Link,
        delivery: &Delivery,
        ready: &mut BTreeSet<(u16, JobId)>,
        held: &mut BTreeMap<u64, usize>,
    ) -> Result<()> {
        let Delivery { job, queue, token, lease_expires_at, event } = delivery;
        ensure!(!self.draining, "while the server drains");
        ensure!(self.last_token < Some(*token), "a token after {:?}", self.last_token);
        self.last_token = Some(*token);
        let limit = self.settings.in_flight_limit;
        ensure!(limit == 0 || self.leases.len() < limit, "beyond the global limit");

        let found = self.streams.iter().find(|(_, stream)| stream.link == Some(link));
        let (key, stream) = found.map(|(key, stream)| (*key, stream)).context("it is there")?;
        let holds = held.entry(key).or_default();
        ensure!(stream.has_credit(*holds), "it holds {holds}, has {} B unread: {stream:?}", stream.unread);
        let ready_for_it =
            |(_, id): &&(u16, JobId)| stream.takes(&self.jobs[id]) && self.can_pay(&self.jobs[id].job);
        let best = *ready.iter().find(ready_for_it).context("no job is ready for it")?;
        ensure!(best == (job.priority, job.id), "{best:?} comes before");
        ready.remove(&best);
        *holds += 1;

        let now = self.now;
        let entry = self.jobs.get_mut(&job.id).context("the job is known")?;
        entry.tokens.push(*token);
        let mut expected = entry.job.clone();
        expected.deliveries += 1;
        expected.dequeued_at = Some(now);
        expected.ready_at = expected.ready_at.min(now);
        (expected.last_lease, expected.lapsed, expected.draw) = (job.last_lease, job.lapsed, job.draw);
        ensure!(**job == expected, "it should be {expected:?}, not {job:?}");
        ensure!(*queue == entry.queue, "it is of queue {}", entry.queue);
        let stream = self.streams.get_mut(&key).context("it is there")?;
        stream.event += 1;
        stream.unread += job.weight();
        ensure!(*event == stream.event, "event {event} after {}", stream.event - 1);
        let (token, event) = (*token, *event);
        let lease = Lease {
            job: expected,
            token,
            stream: key,
            since: self.up,
            began: self.up,
            kept: None,
            event,
            restored: None,
            saved: None,
        };
        let end = self.lease_end(&lease).map(|end| self.wall_of(end));
        ensure!(*lease_expires_at == end, "it expires at {lease_expires_at:?}, not {end:?}");
        self.pay(&lease.job);
        self.leases.insert(job.id, lease);
        Ok(())
    }

    /// Checks that no stream waits for a job that is there.
    fn check_idle(&self, ready: &BTreeSet<(u16, JobId)>, held: &BTreeMap<u64, usize>) -> Result<()> {
        let limit = self.settings.in_flight_limit;
        if self.draining || limit > 0 && self.leases.len() >= limit {
            return Ok(());
        }
        for (key, stream) in &self.streams {
            if stream.has_credit(held.get(key).copied().unwrap_or_default()) {
                let takes = |id| stream.takes(&self.jobs[id]) && self.can_pay(&self.jobs[id].job);
                let left = ready.iter().find(|(_, id)| takes(id));
                ensure!(left.is_none(), "{left:?} is ready, but {:?} waits for it", stream.link);
            }
        }
        Ok(())
    }
}

fn told_in(item: &Item) -> Told {
    match item {
        Item::Job(job) => {
            let expires = job.lease_expires_at;
            Told::Job { token: job.token, id: job.job.id, event: job.event, expires }
        }
        Item::Cancel { id, reason } => Told::cancel(*id, *reason),
        Item::Drain(_) => Told::Drain,
    }
}
