//! Exponential backoff per key (route, job, type): a pause doubles each time something fails again.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use crate::outcome::LEAST_PAUSE;

/// The longest pause.
pub(super) const LIMIT: Duration = Duration::from_secs(300);
/// Above this many keys, those without recent failures are forgotten.
const MANY: usize = 10_000;

/// A pause per key. A failure during a pause began before it, and does not extend it.
#[derive(Debug)]
pub(super) struct Pauses<K> {
    of: HashMap<K, Pause>,
    /// The number of keys at which old ones are next forgotten.
    enough: usize,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    failures: u32,
}

impl<K: Hash + Eq> Pauses<K> {
    pub(super) fn new() -> Self {
        Self { of: HashMap::new(), enough: MANY }
    }

    /// Records a failure. Returns the pause, at most `limit`, and whether it is a new one.
    pub(super) fn hit(&mut self, key: K, now: Instant, limit: Duration) -> (Duration, bool) {
        if self.of.len() >= self.enough {
            self.of.retain(|_, pause| pause.until + LIMIT > now);
            self.enough = (2 * self.of.len()).max(MANY);
        }
        let pause = self.of.entry(key).or_insert(Pause { until: now, failures: 0 });
        let is_new = pause.until <= now;
        if is_new {
            let length = LEAST_PAUSE.saturating_mul(2_u32.saturating_pow(pause.failures)).min(limit);
            *pause = Pause { until: now + length, failures: pause.failures.saturating_add(1) };
        }
        (pause.until - now, is_new)
    }

    /// Whether no key has failed since its last success.
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// The keys that failed, comma-separated.
    pub(super) fn names(&self) -> String
    where
        K: std::fmt::Display + Ord,
    {
        let mut names: Vec<&K> = self.of.keys().collect();
        names.sort();
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }

    /// How many pauses there were in a row.
    pub(super) fn in_a_row<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> u32
    where
        K: std::borrow::Borrow<Q>,
    {
        self.of.get(key).map_or(0, |pause| pause.failures)
    }

    /// Records a success.
    pub(super) fn clear<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: std::borrow::Borrow<Q>,
    {
        self.of.remove(key);
    }

    pub(super) fn is_on<Q: Hash + Eq + ?Sized>(&self, key: &Q, now: Instant) -> bool
    where
        K: std::borrow::Borrow<Q>,
    {
        self.of.get(key).is_some_and(|pause| pause.until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_each_failure_and_reset_after_a_success() {
        let mut pauses = Pauses::new();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let seconds = Duration::from_secs;
        let hit = |pauses: &mut Pauses<&'static str>, at| pauses.hit("a", at, LIMIT);
        assert_eq!(hit(&mut pauses, at(0)), (seconds(1), true));
        assert_eq!(hit(&mut pauses, at(0)), (seconds(1), false));
        assert!(pauses.is_on("a", at(0)) && !pauses.is_on("a", at(1)) && !pauses.is_on("b", at(0)));
        assert_eq!(hit(&mut pauses, at(1)), (seconds(2), true));
        assert_eq!(hit(&mut pauses, at(2)), (seconds(1), false));
        assert_eq!(hit(&mut pauses, at(3)), (seconds(4), true));
        for n in 0..20 {
            hit(&mut pauses, at(1000 + 1000 * n));
        }
        assert_eq!(
            pauses.hit("a", at(40_000), seconds(30)),
            (seconds(30), true),
            "the limit may differ per call"
        );
        assert_eq!(hit(&mut pauses, at(50_000)), (LIMIT, true));
        assert_eq!((pauses.in_a_row("a"), pauses.in_a_row("b")), (25, 0));
        pauses.clear("a");
        assert_eq!(hit(&mut pauses, at(90_000)), (seconds(1), true));
    }

    #[test]
    fn keys_without_recent_failures_are_forgotten() {
        let mut pauses = Pauses::new();
        let start = Instant::now();
        for n in 0..3 * MANY {
            pauses.hit(n, start + Duration::from_secs(n as u64), LIMIT);
        }
        assert!(pauses.of.len() < 2 * MANY, "{}", pauses.of.len());
        assert_eq!(pauses.in_a_row(&(3 * MANY - 1)), 1);
    }
}
