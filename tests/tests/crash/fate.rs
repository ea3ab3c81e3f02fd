//! What becomes of a job, decided by its number, so that nobody has to remember it.

use std::time::Duration;

use serde_json::{Value, json};

/// The queues that the jobs are spread over.
pub(crate) const QUEUES: [&str; 3] = ["a", "b", "c"];

/// The end that a job is meant to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Success,
    /// A failure that says that there shall be no retry.
    Kill,
    /// Its worker deletes it.
    Delete,
}

/// What becomes of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fate {
    /// Whether the first worker that gets it gives it back.
    pub(crate) release: bool,
    /// Failures before the end.
    pub(crate) fails: u32,
    pub(crate) end: End,
    /// How long its worker takes, if the worker has leases that outlive its connection. Half way it renews the lease.
    pub(crate) hold: Option<Duration>,
    /// How long it is scheduled for before it is ready.
    pub(crate) delay: Option<Duration>,
}

impl Fate {
    /// The fate of job `n`.
    pub(crate) fn of(n: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(n);
        let one_in = |random: &mut fastrand::Rng, k: u32| random.u32(..k) == 0;
        Self {
            fails: if one_in(&mut random, 10) { random.u32(1..=2) } else { 0 },
            end: match random.u32(..100) {
                0 | 1 => End::Kill,
                2..5 => End::Delete,
                _ => End::Success,
            },
            release: one_in(&mut random, 15),
            hold: one_in(&mut random, 300).then(|| Duration::from_millis(random.u64(2_500..5_000))),
            delay: one_in(&mut random, 20).then(|| Duration::from_millis(random.u64(1..300))),
        }
    }
}

impl Fate {
    /// Whether every delivery ends with a success.
    pub(crate) fn is_plain(&self) -> bool {
        !self.release && self.fails == 0 && self.end == End::Success
    }
}

/// The payload of job `n`, every byte of it decided by the number.
pub(crate) fn payload(n: u64) -> Value {
    let mut random = fastrand::Rng::with_seed(!n);
    let text: String = (0..random.usize(..60)).map(|_| random.char(' '..'\u{2000}')).collect();
    json!({"n": n, "text": text, "float": 1.0, "big": u64::MAX - n, "list": [null, true, {"deep": []}]})
}

/// The request that enqueues job `n`.
pub(crate) fn request(n: u64, now_ms: u64) -> Value {
    let queue = QUEUES[usize::try_from(n % 3).unwrap()];
    let mut job = json!({"queue": queue, "type": "crash", "payload": payload(n), "priority": n % 5});
    if let Some(delay) = Fate::of(n).delay {
        job["ready_at"] = json!(now_ms + u64::try_from(delay.as_millis()).unwrap());
    }
    job
}
