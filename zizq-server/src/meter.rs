//! Counting where every call and every turn passes: a few atomic additions, no locks, no allocation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The limits of the buckets of a [`Timing`], in microseconds.
pub(crate) const LIMITS: [u64; 13] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something took, each time that it happened.
#[derive(Debug, Default)]
pub struct Timing {
    /// One for each limit, and one for what took longer.
    buckets: [Counter; LIMITS.len() + 1],
    micros: Counter,
}

/// What a [`Timing`] has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timed {
    /// How often it took at most as long as each limit, and longer than the one before; and longer than all.
    pub buckets: [u64; LIMITS.len() + 1],
    /// How long it took altogether, in microseconds.
    pub micros: u64,
}

impl Timing {
    /// Counts what has just ended.
    pub(crate) fn since(&self, started: Instant) {
        self.add(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    }

    fn add(&self, micros: u64) {
        let bucket = LIMITS.partition_point(|limit| *limit < micros);
        if let Some(count) = self.buckets.get(bucket) {
            count.add(1);
        }
        self.micros.add(micros);
    }

    pub(crate) fn get(&self) -> Timed {
        Timed { buckets: self.buckets.each_ref().map(Counter::get), micros: self.micros.get() }
    }
}

impl Timed {
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_the_first_bucket_that_holds_it() {
        let timing = Timing::default();
        for (micros, bucket) in [(0, 0), (100, 0), (101, 1), (50_000, 8), (50_001, 9), (10_000_001, 13)] {
            let before = timing.get();
            timing.add(micros);
            let after = timing.get();
            let grown = |at: &usize| after.buckets[*at] > before.buckets[*at];
            assert_eq!((0..14).filter(grown).collect::<Vec<_>>(), [bucket], "{micros}");
            assert_eq!(after.micros - before.micros, micros);
        }
        assert_eq!(timing.get().count(), 6);
    }
}
