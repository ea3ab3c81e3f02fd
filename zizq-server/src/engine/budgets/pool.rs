//! The tokens of one budget, counted exactly, in whole numbers.

use protocol::budget::{Policy, Strategy};

/// What a budget has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Pool {
    /// Tokens drawn by the jobs in flight.
    held: u64,
    /// The level of a pool that refills with time: its tokens at `since`, times the duration. Each millisecond adds as
    /// much as is allocated for the whole duration, so nothing is ever rounded.
    level: u128,
    since: u64,
}

impl Pool {
    pub(in crate::engine) fn full(policy: Policy, now: u64) -> Self {
        Self { held: 0, level: capacity(policy), since: now }
    }

    pub(in crate::engine) const fn hold(&mut self, cost: u32) {
        self.held += cost as u64;
    }

    pub(in crate::engine) const fn let_go(&mut self, cost: u32) {
        self.held = self.held.saturating_sub(cost as u64);
    }

    /// Takes tokens that only time brings back.
    pub(in crate::engine) fn spend(&mut self, policy: Policy, cost: u32, now: u64) {
        self.advance(policy, now);
        self.level = self.level.saturating_sub(u128::from(cost) * duration(policy));
    }

    fn advance(&mut self, policy: Policy, now: u64) {
        self.level = self.level_at(policy, now);
        self.since = self.since.max(now);
    }

    fn level_at(&self, policy: Policy, now: u64) -> u128 {
        let passed = u128::from(now.saturating_sub(self.since));
        (self.level + passed * u128::from(policy.allocation)).min(ceiling(policy))
    }

    /// Returns the number of whole tokens.
    pub(in crate::engine) fn tokens(&self, policy: Policy, now: u64) -> u32 {
        let tokens = match policy.strategy {
            Strategy::WhileInFlight => u128::from(u64::from(policy.allocation).saturating_sub(self.held)),
            Strategy::TimeBased { .. } => self.level_at(policy, now) / duration(policy),
        };
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }

    /// Returns when the pool will have `cost` tokens by itself; none if never. It has fewer now.
    pub(in crate::engine) fn has_at(&self, policy: Policy, cost: u32) -> Option<u64> {
        let needed = u128::from(cost) * duration(policy);
        if policy.strategy == Strategy::WhileInFlight || needed > capacity(policy) {
            return None;
        }
        let missing = needed.saturating_sub(self.level).div_ceil(u128::from(policy.allocation));
        u64::try_from(missing).ok()?.checked_add(self.since)
    }

    /// Switches to another policy. What is in the pool stays, up to the new capacity. A pool that did not refill with
    /// time before starts full.
    pub(in crate::engine) fn change(&mut self, from: Policy, to: Policy, now: u64) {
        self.advance(from, now);
        self.since = now;
        self.level = match from.strategy {
            Strategy::WhileInFlight => capacity(to),
            Strategy::TimeBased { .. } => (self.level * duration(to) / duration(from)).min(ceiling(to)),
        };
    }
}

const fn duration(policy: Policy) -> u128 {
    match policy.strategy {
        Strategy::TimeBased { duration_ms, .. } => duration_ms as u128,
        Strategy::WhileInFlight => 1,
    }
}

fn capacity(policy: Policy) -> u128 {
    u128::from(policy.capacity()) * duration(policy)
}

/// Returns the highest level. A full pool still takes in the rest of a token that has begun to drip in; otherwise every
/// pool in use would lose that rest with each tick of the clock.
fn ceiling(policy: Policy) -> u128 {
    capacity(policy) + duration(policy) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time_based(allocation: u32, duration_ms: u64, burst: Option<u32>) -> Policy {
        Policy { allocation, strategy: Strategy::TimeBased { duration_ms, burst } }
    }

    #[test]
    fn tokens_drip_in_evenly_and_nothing_is_rounded_away() {
        // Three tokens a second: one every 333 1/3 ms.
        let policy = time_based(3, 1_000, Some(1));
        let mut pool = Pool::full(policy, 0);
        let (mut now, mut spent) = (0, Vec::new());
        while now <= 3_000_000 {
            pool.spend(policy, 1, now);
            spent.push(now);
            assert_eq!(pool.tokens(policy, now), 0);
            let next = pool.has_at(policy, 1).unwrap();
            assert_eq!((pool.tokens(policy, next - 1), pool.tokens(policy, next)), (0, 1));
            now = next;
        }
        assert_eq!(&spent[..4], [0, 334, 667, 1_000]);
        assert_eq!(spent.len(), 9_001);
    }

    #[test]
    fn a_burst_bounds_the_pool() {
        let policy = time_based(100, 1_000, Some(7));
        let mut pool = Pool::full(policy, 50);
        assert_eq!(pool.tokens(policy, 1_000_000), 7);
        pool.spend(policy, 7, 1_000_000);
        assert_eq!(pool.has_at(policy, 7), Some(1_000_061));
        assert_eq!(pool.has_at(policy, 8), None);
    }

    #[test]
    fn a_change_keeps_what_is_in_the_pool() {
        let (slow, fast) = (time_based(10, 1_000, None), time_based(4, 10, None));
        let mut pool = Pool::full(slow, 0);
        pool.spend(slow, 7, 0);
        pool.change(slow, fast, 0);
        assert_eq!(pool.tokens(fast, 0), 3);
        assert_eq!(pool.has_at(fast, 4), Some(3));
        let held = Policy { allocation: 5, strategy: Strategy::WhileInFlight };
        pool.hold(2);
        pool.change(fast, held, 100);
        assert_eq!((pool.tokens(held, 100), pool.has_at(held, 5)), (3, None));
        pool.change(held, slow, 100);
        assert_eq!(pool.tokens(slow, 100), 10);
    }
}
