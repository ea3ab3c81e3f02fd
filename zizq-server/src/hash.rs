//! Hash maps with a reproducible order, so that a seed of the simulation always gives the same run.
//!
//! rustc's hash is unsuitable: ids of jobs enqueued together differ in the middle of their 128 bits, and it maps 256 of
//! them to one slot.

use foldhash::fast::FixedState;

pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, FixedState>;
pub(crate) type HashSet<K> = std::collections::HashSet<K, FixedState>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::BuildHasher;

    use protocol::id::JobId;

    use super::*;
    use crate::job::id::{Home, QueueId, Stamps};

    /// The bits that select the slot of an entry in a map of this size.
    const SLOTS: u64 = 4096;

    #[test]
    fn ids_of_jobs_enqueued_together_spread_over_a_map() {
        let map = HashMap::<JobId, ()>::default();
        let home = Home { queue: QueueId(1), priority: 32_768 };
        let mut stamps = Stamps::starting_at(1_900_000_000_000);
        let ids = std::iter::repeat_with(|| home.id(stamps.next(0))).take(4096);
        let slots: BTreeSet<u64> = ids.map(|id| map.hasher().hash_one(id) % SLOTS).collect();
        // A random choice fills 1 - 1/e of the slots; one in 256 would fill only 16.
        assert!(slots.len() > 2_400, "only {} of {SLOTS} slots are used", slots.len());
    }
}
