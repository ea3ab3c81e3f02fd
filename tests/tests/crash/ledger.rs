//! What was answered and what was delivered, and the laws between the two.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use protocol::lease::LeaseToken;
use tests::wait::now_ms;

use crate::fate::{End, Fate};
use crate::worker::Kind;

/// Everything that is known, from the clients' side only.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    jobs: Vec<Job>,
    /// Jobs that were answered with 201 and have not come to their end.
    open: usize,
    violations: Vec<String>,
    counts: Counts,
}

/// How much happened.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) confirmed: u64,
    pub(crate) deliveries: u64,
    pub(crate) successes: u64,
    pub(crate) failures: u64,
    pub(crate) kills: u64,
    pub(crate) deletes: u64,
    pub(crate) releases: u64,
    /// Leases that were renewed.
    pub(crate) renewals: u64,
    /// Outcomes that were sent and not answered.
    pub(crate) unanswered: u64,
    /// Outcomes that were refused because the lease was lost in a crash.
    pub(crate) lost: u64,
    /// Leases that were old enough to outlive a crash, and did.
    pub(crate) survived: u64,
}

#[derive(Debug, Default)]
struct Job {
    /// From the 201.
    id: Option<String>,
    /// By lease, which is unique per delivery.
    deliveries: HashMap<LeaseToken, Delivered>,
    /// The lease whose outcome was accepted as the last one, and by which server.
    end: Option<(LeaseToken, u64)>,
    /// An outcome that would be the last one was sent and not answered.
    maybe_ended: bool,
    /// Whether somebody gave it back, or tried to.
    released: bool,
    /// The deliveries whose workers deleted it, or tried to.
    deletes: HashSet<LeaseToken>,
    /// For those who look for the reason of a violation.
    history: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Delivered {
    /// Which server sent it.
    generation: u64,
    failure: Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Report {
    #[default]
    None,
    Sent,
    Accepted,
}

/// A job as a worker got it.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) n: u64,
    pub(crate) id: String,
    pub(crate) lease: LeaseToken,
    pub(crate) attempts: u32,
    pub(crate) generation: u64,
    pub(crate) at: Instant,
    pub(crate) to: Kind,
}

impl Delivery {
    pub(crate) fn fate(&self) -> Fate {
        Fate::of(self.n)
    }
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Takes note of a law that does not hold.
    pub(crate) fn law(&self, holds: bool, violation: impl FnOnce() -> String) {
        if !holds {
            self.state().violations.push(violation());
        }
    }

    /// The number of a job that is about to be enqueued.
    pub(crate) fn number(&self) -> u64 {
        let mut state = self.state();
        state.jobs.push(Job::default());
        state.jobs.len() as u64 - 1
    }

    /// The enqueue was answered with 201.
    pub(crate) fn confirmed(&self, n: u64, id: &str) {
        let mut state = self.state();
        state.counts.confirmed += 1;
        let job = &mut state.jobs[usize::try_from(n).unwrap()];
        // It may have run already: deliveries need not wait for the disk, answers must.
        let open = job.end.is_none();
        job.id = Some(id.to_owned());
        state.open += usize::from(open);
    }

    /// A worker got it; `false` if the worker should leave it alone.
    pub(crate) fn delivered(&self, delivery: &Delivery) -> bool {
        let mut state = self.state();
        state.counts.deliveries += 1;
        let known = state.jobs.len() as u64;
        if delivery.n >= known {
            state.violations.push(format!("{delivery:?}: nobody enqueued it"));
            return false;
        }
        let job = &mut state.jobs[usize::try_from(delivery.n).unwrap()];
        job.note(delivery, "delivered");
        let violations = job.take_note(delivery);
        let current = job.deliveries.keys().max() == Some(&delivery.lease);
        let history = if violations.is_empty() { String::new() } else { job.history.join("\n  ") };
        let violations = violations.into_iter().map(|law| format!("{delivery:?}: {law}\n  {history}"));
        state.violations.extend(violations);
        current
    }

    /// A failure after which the job goes on is about to be sent.
    pub(crate) fn failing(&self, delivery: &Delivery) {
        let mut state = self.state();
        let job = &mut state.jobs[usize::try_from(delivery.n).unwrap()];
        job.note(delivery, "failing");
        if let Some(delivered) = job.deliveries.get_mut(&delivery.lease)
            && delivered.failure == Report::None
        {
            delivered.failure = Report::Sent;
        }
    }

    /// The failure was accepted, and the job goes on.
    pub(crate) fn failed(&self, delivery: &Delivery) {
        let mut state = self.state();
        state.counts.failures += 1;
        let job = &mut state.jobs[usize::try_from(delivery.n).unwrap()];
        job.note(delivery, "failed");
        job.deliveries.entry(delivery.lease).and_modify(|delivered| delivered.failure = Report::Accepted);
    }

    /// Whether this worker shall give the job back: once for a job that is meant for that.
    pub(crate) fn releases(&self, delivery: &Delivery) -> bool {
        let mut state = self.state();
        let job = &mut state.jobs[usize::try_from(delivery.n).unwrap()];
        delivery.fate().release && !std::mem::replace(&mut job.released, true)
    }

    /// It was given back.
    pub(crate) fn released(&self, delivery: &Delivery) {
        let mut state = self.state();
        state.counts.releases += 1;
        state.jobs[usize::try_from(delivery.n).unwrap()].note(delivery, "released");
    }

    /// Its lease was renewed.
    pub(crate) fn renewed(&self, delivery: &Delivery) {
        let mut state = self.state();
        state.counts.renewals += 1;
        state.jobs[usize::try_from(delivery.n).unwrap()].note(delivery, "renewed");
    }

    /// Its worker is about to delete it.
    pub(crate) fn deleting(&self, delivery: &Delivery) {
        let mut state = self.state();
        let job = &mut state.jobs[usize::try_from(delivery.n).unwrap()];
        job.note(delivery, "deleting");
        job.deletes.insert(delivery.lease);
    }

    /// Whether another worker has tried to delete the job, for which no lease is needed: then it may not be there any more.
    pub(crate) fn deleted_by_another(&self, delivery: &Delivery) -> bool {
        let state = self.state();
        let job = &state.jobs[usize::try_from(delivery.n).unwrap()];
        job.deletes.iter().any(|lease| *lease != delivery.lease)
    }

    /// The last word on a job was accepted, by the server of this generation at the latest. An older token is honoured
    /// where the newer delivery ended with its server, for then nobody holds the job.
    pub(crate) fn ended(&self, delivery: &Delivery, by: u64) {
        let mut state = self.state();
        match delivery.fate().end {
            End::Success => state.counts.successes += 1,
            End::Kill => state.counts.kills += 1,
            End::Delete => state.counts.deletes += 1,
        }
        let job = &mut state.jobs[usize::try_from(delivery.n).unwrap()];
        job.note(delivery, &format!("ended by server {by}"));
        let before = job.end.replace((delivery.lease, by));
        let mut newer = job.deliveries.iter().filter(|(lease, _)| **lease > delivery.lease);
        let newer = newer.any(|(_, newer)| newer.generation >= by) && delivery.fate().end != End::Delete;
        let was_open = job.id.is_some() && before.is_none();
        let history = if before.is_some() || newer { job.history.join("\n  ") } else { String::new() };
        state.open -= usize::from(was_open);
        if let Some(before) = before {
            let violation = format!("{delivery:?}: ended although it had ended with {before:?}\n  {history}");
            state.violations.push(violation);
        }
        if newer {
            state
                .violations
                .push(format!("{delivery:?}: ended although it was delivered again\n  {history}"));
        }
    }

    /// An outcome was sent and not answered; `last` if the job has come to its end by it, should it have got through.
    pub(crate) fn unanswered(&self, delivery: &Delivery, last: bool) {
        let mut state = self.state();
        state.counts.unanswered += 1;
        let job = &mut state.jobs[usize::try_from(delivery.n).unwrap()];
        job.note(delivery, "unanswered");
        job.maybe_ended |= last;
    }

    /// An outcome was refused. `excused` says whether a crash may be the reason.
    pub(crate) fn refused(&self, delivery: &Delivery, excused: bool, why: &str) {
        let mut state = self.state();
        state.counts.lost += 1;
        let job = &mut state.jobs[usize::try_from(delivery.n).unwrap()];
        job.note(delivery, why);
        if !excused {
            let history = job.history.join("\n  ");
            state.violations.push(format!("{delivery:?}: its outcome was refused: {why}\n  {history}"));
        }
    }

    /// A lease that had to outlive a crash was honoured.
    pub(crate) fn survived(&self) {
        self.state().counts.survived += 1;
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state().counts
    }

    /// How many jobs were answered with 201 and have not come to their end.
    pub(crate) fn open(&self) -> usize {
        self.state().open
    }

    /// The first few laws that did not hold.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.state().violations.iter().take(10).cloned().collect()
    }

    /// Jobs that were answered with 201 and neither came to their end nor may have come to it unheard, with what is known
    /// of them.
    pub(crate) fn lost(&self) -> Vec<(String, String)> {
        let state = self.state();
        let jobs = state.jobs.iter().zip(0..);
        let lost = jobs.filter(|(job, _)| job.end.is_none() && !job.maybe_ended);
        let told =
            |id: &String, n, job: &Job| format!("{id} {:?}\n  {}", Fate::of(n), job.history.join("\n  "));
        lost.filter_map(|(job, n)| job.id.as_ref().map(|id| (id.clone(), told(id, n, job)))).collect()
    }

    /// How many jobs must be dead and how many more may be.
    pub(crate) fn dead(&self) -> (u64, u64) {
        let state = self.state();
        let jobs = state.jobs.iter().zip(0..).filter(|(_, n)| Fate::of(*n).end == End::Kill);
        let maybe = jobs.filter(|(job, _)| job.end.is_none() && job.maybe_ended).count() as u64;
        (state.counts.kills, maybe)
    }
}

impl Job {
    fn note(&mut self, delivery: &Delivery, what: &str) {
        let Delivery { lease, generation, at, to, .. } = delivery;
        let age = at.elapsed();
        self.history
            .push(format!("{}: {lease} of server {generation} to {to:?}, {age:?} old: {what}", now_ms()));
    }

    fn take_note(&mut self, delivery: &Delivery) -> Vec<String> {
        let mut broken = Vec::new();
        let mut law = |holds: bool, law: String| broken.extend((!holds).then_some(law));
        let token = delivery.lease;
        law(self.id.as_ref().is_none_or(|id| *id == delivery.id), format!("the 201 said {:?}", self.id));
        // A deletion asks for no lease: the server may have sent the job again before it got there.
        let late = u64::from(delivery.fate().end == End::Delete);
        let ended = self.end.filter(|(lease, by)| *lease < token && by + late <= delivery.generation);
        law(ended.is_none(), format!("runs again after its outcome was accepted with {ended:?}"));
        let twice = self.deliveries.contains_key(&token);
        law(!twice, "the same delivery came twice".to_owned());
        let earlier = self.deliveries.iter().filter(|(_, other)| other.generation < delivery.generation);
        let newest = earlier.map(|(lease, _)| *lease).max();
        law(newest < Some(token), format!("a token below {newest:?}, which an earlier server gave out"));
        let before = || self.deliveries.iter().filter(|(lease, _)| **lease < token);
        let accepted = before().filter(|(_, other)| other.failure == Report::Accepted).count();
        let sent = before().filter(|(_, other)| other.failure != Report::None).count();
        let range = accepted..=sent;
        law(range.contains(&(delivery.attempts as usize)), format!("attempts should be in {range:?}"));
        self.deliveries.insert(token, Delivered { generation: delivery.generation, failure: Report::None });
        broken
    }
}
