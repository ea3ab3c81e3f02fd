//! After a crash within a turn, the model learns from the store how far the turn had come; no call had been answered.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use protocol::enqueue::NewJob;
use protocol::id::JobId;
use protocol::lease::{JobHeartbeat, LeaseToken};
use protocol::outcome::LeasedJob;

use super::act::Act;
use super::crons::is_of_cron;
use super::ledger::Ledger;
use super::model::{Entry, Lease, Model, Saved};
use super::outcomes::Verdict;
use super::streams::Stream;
use crate::job::Job;
use crate::job::id::Stamp;

impl Model {
    /// Takes over from the store what the turn may have changed. Everything else must be as it was.
    pub(super) fn adopt(&mut self, acts: &[Act], ledger: &Ledger) -> Result<()> {
        let late = self.late(acts);
        let touched = self.touched(acts);
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            let Some(entry) = self.jobs.get_mut(&id) else { continue };
            if !touched.contains(&id) {
                ledger.compare_job(id, entry)?;
            } else if let Some(job) = ledger.jobs.get(&id) {
                entry.job = job.clone();
                let queue = ledger.queues.get(&job.queue).context("its queue is there")?;
                entry.queue = queue.name.clone();
                self.queue_ids.insert(queue.name.clone(), job.queue);
                entry.errors = ledger.errors_of(id);
                entry.known = entry.known.max(job.last_lease);
                entry.uncertain = true;
            } else {
                self.jobs.remove(&id);
            }
        }
        self.adopt_budgets(acts, ledger)?;
        if acts.iter().any(|act| matches!(act, Act::Pause(..) | Act::ForgetQueue(_))) {
            let paused = ledger.queues.values().filter(|queue| queue.paused);
            self.paused = paused.map(|queue| queue.name.clone()).collect();
            let numbers = ledger.queues.iter().filter(|(_, queue)| queue.paused);
            self.queue_ids.extend(numbers.map(|(id, queue)| (queue.name.clone(), *id)));
        }
        self.adopt_crons(acts, ledger)?;
        self.adopt_tokens(acts, ledger)?;
        self.adopt_answers(acts, ledger)?;
        self.adopt_late(&late, ledger)?;
        self.adopt_leases(&touched, ledger)?;
        let slice = self.adopt_bulk(ledger);
        self.adopt_new(acts, &slice, ledger)?;
        self.adopt_batches(acts, ledger)
    }

    /// Returns the jobs that these commands, or the time, may have changed.
    fn touched(&self, acts: &[Act]) -> BTreeSet<JobId> {
        let named = acts.iter().flat_map(Act::ids);
        let is_due = |entry: &&Entry| entry.job.due().is_some_and(|due| due <= self.now);
        let due =
            self.jobs.values().filter(|entry| is_due(entry) || self.undated.contains_key(&entry.job.id));
        let is_closed = |stream: &Stream| {
            acts.iter().any(|act| match act {
                Act::Close(link) => stream.link == Some(*link),
                Act::CutOff(start) => stream.begins_with(start),
                _ => false,
            })
        };
        let is_over = |lease: &&Lease| self.lease_end(lease).is_some_and(|end| end <= self.up);
        // A stream on which a lease runs out is closed, with all other leases that it holds.
        let lapsed: BTreeSet<u64> = self.leases.values().filter(is_over).map(|lease| lease.stream).collect();
        let ended = self.leases.values().filter(|lease| {
            let stream = self.streams.get(&lease.stream);
            lapsed.contains(&lease.stream)
                || self.deadline(lease).is_some_and(|at| at <= self.up)
                || stream.is_some_and(is_closed)
        });
        named.chain(due.map(|entry| entry.job.id)).chain(ended.map(|lease| lease.job.id)).collect()
    }

    /// The heartbeats of workers that have their jobs, or may get them back.
    fn late(&self, acts: &[Act]) -> Vec<JobHeartbeat> {
        let beats =
            acts.iter().filter_map(|act| if let Act::Heartbeat(jobs) = act { Some(jobs) } else { None });
        let verdict = |beat: &JobHeartbeat| self.verdict(LeasedJob { id: beat.id, lease: beat.lease });
        let may = |beat: &&JobHeartbeat| {
            matches!(verdict(beat), Verdict::Held | Verdict::Late(_) | Verdict::Unknown(_))
        };
        beats.flatten().filter(may).cloned().collect()
    }

    /// Takes over the leases that workers got back, if the turn came to write them down: one does so of a job that was
    /// changed then.
    fn adopt_late(&mut self, late: &[JobHeartbeat], ledger: &Ledger) -> Result<()> {
        for JobHeartbeat { id, lease, lease_ms, .. } in late {
            let saved = ledger.leases.get(&Stamp::of(*id)).map(|record| LeaseToken::from_u64(record.token));
            if let Some(token) = saved.filter(|saved| *lease == Some(*saved) && !self.leases.contains_key(id))
            {
                self.restore(*id, token, *lease_ms)?;
            }
        }
        Ok(())
    }

    fn adopt_leases(&mut self, touched: &BTreeSet<JobId>, ledger: &Ledger) -> Result<()> {
        for (id, mut lease) in std::mem::take(&mut self.leases) {
            let saved = ledger.leases.get(&Stamp::of(id));
            let lost = saved.is_none() && lease.saved.is_some() && !touched.contains(&id);
            ensure!(!lost, "the lease of {id:?} is lost");
            let Some(record) = saved else { continue };
            ensure!(LeaseToken::from_u64(record.token) == lease.token, "{id:?} has another lease");
            if let Some(job) = ledger.jobs.get(&id).filter(|_| touched.contains(&id)) {
                let (deliveries, dequeued_at) = (record.deliveries, Some(record.dequeued_at));
                lease.job = Job { deliveries, dequeued_at, ..job.clone() };
            }
            lease.saved = Some(Saved { lease_ms: record.lease_ms, stream: record.stream, end: record.end });
            self.leases.insert(id, lease);
        }
        let known = |stamp: &Stamp| self.leases.keys().any(|id| Stamp::of(*id) == *stamp);
        let stray = ledger.leases.keys().find(|stamp| !known(stamp));
        ensure!(stray.is_none(), "no worker had a lease for {stray:?}");
        Ok(())
    }

    fn adopt_new(&mut self, acts: &[Act], slice: &[NewJob], ledger: &Ledger) -> Result<()> {
        let new = ledger.jobs.values().filter(|job| !self.jobs.contains_key(&job.id));
        let (mut admitted, asked): (Vec<Job>, Vec<Job>) = new.cloned().partition(is_of_cron);
        let mut new = asked.iter().peekable();
        for act in acts {
            let (mut came, mut missing) = (0, 0);
            for asked in &act.new_jobs() {
                if let Some(job) = new.next_if(|job| job.payload == asked.payload) {
                    came += 1;
                    admitted.push(job.clone());
                } else if asked.flow.as_ref().is_none_or(|flow| flow.unique.is_none()) {
                    missing += 1;
                }
            }
            ensure!(came == 0 || missing == 0, "part of what was enqueued together is missing");
        }
        for asked in slice {
            let job = new.next_if(|job| job.payload == asked.payload);
            let may_be_duplicate = asked.flow.as_ref().is_some_and(|flow| flow.unique.is_some());
            ensure!(job.is_some() || may_be_duplicate, "a job of a bulk is missing");
            admitted.extend(job.cloned());
        }
        ensure!(new.next().is_none(), "nobody has enqueued this");
        admitted.sort_by_key(|job| job.id);
        for job in admitted {
            let queue = ledger.queues.get(&job.queue).context("its queue is there")?;
            // A queue that part of the turn created and that no longer exists has left its number.
            self.queue_ids.insert(queue.name.clone(), job.queue);
            self.admit(job, queue.name.clone())?;
        }
        Ok(())
    }
}
