//! Pauses that grow while something goes on going wrong.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// The first pause.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LIMIT: Duration = Duration::from_secs(300);

/// A pause for each of some things. What goes wrong during a pause was begun before it, and makes it no longer.
#[derive(Debug)]
pub(super) struct Pauses<K>(HashMap<K, Pause>);

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    failures: u32,
}

impl<K: Hash + Eq> Pauses<K> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Something went wrong: how long to leave it alone. Says also whether that is news.
    pub(super) fn hit(&mut self, key: K, now: Instant) -> (Duration, bool) {
        let pause = self.0.entry(key).or_insert(Pause { until: now, failures: 0 });
        let is_new = pause.until <= now;
        if is_new {
            let length = FIRST.saturating_mul(2_u32.saturating_pow(pause.failures)).min(LIMIT);
            *pause = Pause { until: now + length, failures: pause.failures.saturating_add(1) };
        }
        (pause.until - now, is_new)
    }

    /// It went well.
    pub(super) fn clear<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.remove(key);
    }

    pub(super) fn is_on<Q: Hash + Eq + ?Sized>(&self, key: &Q, now: Instant) -> bool
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.get(key).is_some_and(|pause| pause.until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_grow_from_one_failure_to_the_next_and_start_afresh_after_a_success() {
        let mut pauses = Pauses::new();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let seconds = Duration::from_secs;
        assert_eq!(pauses.hit("a", at(0)), (seconds(1), true));
        assert_eq!(pauses.hit("a", at(0)), (seconds(1), false));
        assert!(pauses.is_on("a", at(0)) && !pauses.is_on("a", at(1)) && !pauses.is_on("b", at(0)));
        assert_eq!(pauses.hit("a", at(1)), (seconds(2), true));
        assert_eq!(pauses.hit("a", at(2)), (seconds(1), false));
        assert_eq!(pauses.hit("a", at(3)), (seconds(4), true));
        for n in 0..20 {
            pauses.hit("a", at(1000 + 1000 * n));
        }
        assert_eq!(pauses.hit("a", at(50_000)), (LIMIT, true));
        pauses.clear("a");
        assert_eq!(pauses.hit("a", at(90_000)), (seconds(1), true));
    }
}
