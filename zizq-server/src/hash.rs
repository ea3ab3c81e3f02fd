//! Hash maps whose order is the same in every run, so that a seed of the simulation always tells the same story.
//!
//! Not with the hash of rustc: ids of jobs that came in together differ in the middle of their 128 bits, and it gives 256
//! of those one place in a map.

use foldhash::fast::FixedState;

pub type HashMap<K, V> = std::collections::HashMap<K, V, FixedState>;
pub type HashSet<K> = std::collections::HashSet<K, FixedState>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::BuildHasher;

    use protocol::id::JobId;

    use super::*;
    use crate::job::id::{Home, QueueId, Stamps};

    /// What decides where an entry of a map of this size goes.
    const SLOTS: u64 = 4096;

    #[test]
    fn jobs_that_came_in_together_are_spread_over_a_map() {
        let map = HashMap::<JobId, ()>::default();
        let home = Home { queue: QueueId(1), priority: 32_768 };
        let mut stamps = Stamps::starting_at(1_900_000_000_000);
        let ids = std::iter::repeat_with(|| home.id(stamps.next(0))).take(4096);
        let slots: BTreeSet<u64> = ids.map(|id| map.hasher().hash_one(id) % SLOTS).collect();
        // As many as a random choice has, 1 - 1/e, and not the 16 of one in 256.
        assert!(slots.len() > 2_400, "only {} of {SLOTS} slots are used", slots.len());
    }
}
