//! What was answered and delivered of jobs with unique keys, batches, budgets and timeouts, and the laws between.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::World;

/// How many jobs that draw on the budget may be in flight.
pub(super) const ALLOCATION: usize = 3;
/// How long an attempt of a job with a timeout may take.
pub(super) const TIMEOUT: Duration = Duration::from_millis(400);

/// What a job is about; the name of its queue, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum About {
    Unique,
    Batch,
    Budget,
    Timeout,
    Cron,
}

impl About {
    pub(super) const ALL: [Self; 5] = [Self::Unique, Self::Batch, Self::Budget, Self::Timeout, Self::Cron];

    pub(super) const fn queue(self) -> &'static str {
        match self {
            Self::Unique => "unique",
            Self::Batch => "batch",
            Self::Budget => "budget",
            Self::Timeout => "timeout",
            Self::Cron => "cron",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    jobs: HashMap<String, Job>,
    /// Of each number that was answered, the job that it is a part of.
    numbers: HashMap<u64, String>,
    /// Whoever draws on the budget now: the server that says so, and the job.
    drawing: Vec<(u64, String)>,
    duplicates: usize,
    folds: usize,
    timeouts: usize,
}

#[derive(Debug, Default)]
struct Job {
    key: Option<String>,
    /// When it was answered that it was created.
    confirmed: Option<Instant>,
    payload: Option<Value>,
    attempts: u64,
    /// When it was delivered last, and by which server.
    delivered: Option<(Instant, u64)>,
    /// When its success was first sent, and when it was accepted.
    sent: Option<Instant>,
    ended: Option<Instant>,
}

impl Job {
    fn numbers(&self) -> Vec<u64> {
        let numbers = self.payload.as_ref().and_then(|payload| payload["ns"].as_array());
        numbers.into_iter().flatten().filter_map(Value::as_u64).collect()
    }
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// An enqueue was answered that was sent at this time.
    pub(super) fn answered(&self, world: &World, about: About, n: u64, answer: &Value, asked: Instant) {
        let mut state = self.state();
        let id = tests::id(answer).to_owned();
        let (duplicate, folded) = (answer["duplicate"] == true, answer["folded"] == true);
        state.duplicates += usize::from(duplicate);
        state.folds += usize::from(folded);
        let key = answer["unique_key"].as_str().map(str::to_owned);
        if duplicate {
            let ended = state.jobs.get(&id).and_then(|job| job.ended).filter(|ended| *ended < asked);
            world.ledger.law(ended.is_none(), || format!("{id} keeps others out and has ended: {answer}"));
        } else if key.is_some() {
            let same = |(other, job): &(&String, &Job)| **other != id && job.key == key;
            let active = |job: &Job| job.confirmed.is_some_and(|at| at < asked) && job.sent.is_none();
            let kept = state.jobs.iter().filter(same).find(|(_, job)| active(job)).map(|(other, _)| other);
            world.ledger.law(kept.is_none(), || format!("{kept:?} has the key of {answer}"));
        }
        if about == About::Batch {
            state.numbers.insert(n, id.clone());
        }
        let job = state.jobs.entry(id).or_default();
        job.key = job.key.take().or(key);
        if !duplicate && !folded {
            job.confirmed = Some(Instant::now());
        }
    }

    /// A worker got a job from this server.
    pub(super) fn delivered(&self, world: &World, about: About, delivery: &Value, generation: u64) {
        let mut state = self.state();
        let id = tests::id(delivery).to_owned();
        let attempts = delivery["attempts"].as_u64().unwrap();
        let job = state.jobs.entry(id.clone()).or_default();
        let ended = job.ended;
        let payload = job.payload.get_or_insert_with(|| delivery["payload"].clone());
        world.ledger.law(*payload == delivery["payload"], || {
            format!("{delivery} was delivered before with {payload}")
        });
        // A token of an earlier server may be accepted while a later one hands the job out.
        let again = ended.is_some() && job.delivered.is_some_and(|(_, by)| by == generation);
        world.ledger.law(!again, || format!("{delivery} runs again after its outcome was accepted"));
        let before = job.delivered.replace((Instant::now(), generation));
        if about == About::Timeout && attempts > job.attempts {
            let long = before.is_none_or(|(at, by)| at.elapsed() >= TIMEOUT || by != generation);
            world.ledger.law(long, || format!("{delivery} was timed out too early: {before:?}"));
            job.attempts = attempts;
            state.timeouts += 1;
        }
        if about == About::Budget {
            state.drawing.retain(|(by, other)| *by == generation && *other != id);
            state.drawing.push((generation, id));
            let drawing = state.drawing.len();
            world
                .ledger
                .law(drawing <= ALLOCATION, || format!("{drawing} draw on the budget: {:?}", state.drawing));
        }
    }

    /// The success of a job is about to be sent.
    pub(super) fn succeeding(&self, id: &str) {
        let mut state = self.state();
        state.drawing.retain(|(_, other)| other != id);
        let job = state.jobs.entry(id.to_owned()).or_default();
        job.sent = job.sent.or(Some(Instant::now()));
    }

    pub(super) fn succeeded(&self, id: &str) {
        let mut state = self.state();
        state.jobs.entry(id.to_owned()).or_default().ended = Some(Instant::now());
    }

    /// What was answered and did not happen.
    pub(super) fn lost(&self) -> Vec<String> {
        let state = self.state();
        let unfinished = state.jobs.iter().filter(|(_, job)| job.confirmed.is_some() && job.sent.is_none());
        let unfinished = unfinished.map(|(id, job)| format!("{id} never ran to its end: {job:?}"));
        let part = |n: &u64, id: &String| state.jobs.get(id).is_some_and(|job| job.numbers().contains(n));
        let numbers = state.numbers.iter().filter(|(n, id)| !part(n, id));
        let numbers = numbers.map(|(n, id)| format!("{n} is no part of {id}: {:?}", state.jobs.get(id)));
        let mut places: HashMap<u64, &String> = HashMap::new();
        let all = state.jobs.iter().flat_map(|(id, job)| job.numbers().into_iter().map(move |n| (n, id)));
        let twice = all.filter_map(|(n, id)| {
            let other = places.insert(n, id)?;
            Some(format!("{n} is a part of both {id} and {other}"))
        });
        let twice: Vec<String> = twice.collect();
        unfinished.chain(numbers).chain(twice).take(10).collect()
    }

    /// Duplicates, folds and timeouts.
    pub(super) fn counts(&self) -> [usize; 3] {
        let state = self.state();
        [state.duplicates, state.folds, state.timeouts]
    }
}
