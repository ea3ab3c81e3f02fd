//! Where the jobs of the queues lie, so that a list over all queues begins to read only in those that it shows.
//!
//! The engine reports where jobs have come to lie, which makes extents wider. They become narrower when the last job of a
//! status has left, and when a reader has found at which end the jobs of a status begin. A reader compares what was known
//! before it took its snapshot with what was known after: what has become narrower in between may not be true of the
//! snapshot.

use protocol::job::Status;

use crate::hash::HashMap;
use crate::job::counts::Counts;
use crate::job::extent::Extents;
use crate::job::id::{QueueId, Stamp};

/// What is known of where the jobs of a queue lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub extents: Extents,
    pub version: Version,
}

/// Tells whether anything was heard of the jobs of a queue in between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// How often jobs have come.
    entered: u64,
    /// How often the extents became narrower.
    narrowed: u64,
}

/// Where a walk has met the first job of a queue and status, although nothing kept it from starting earlier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub queue: QueueId,
    pub status: Status,
    pub descending: bool,
    pub at: Stamp,
    /// What was known before the snapshot was taken.
    pub version: Version,
}

impl Known {
    pub(super) fn nothing() -> Self {
        Self { extents: Extents::NONE, version: Version::default() }
    }

    /// Takes in a report of a queue that has the same number as in the last one.
    pub(super) fn hear(&mut self, entered: &Extents, counts: &Counts) {
        if *entered != Extents::NONE {
            self.version.entered += 1;
            self.extents.widen(entered);
        }
        if self.extents.clear_empty(counts) {
            self.version.narrowed += 1;
        }
    }

    /// Takes in the first report of a queue with another number.
    pub(super) fn begin(&mut self, entered: &Extents, counts: &Counts) {
        self.extents = Extents::NONE;
        self.version.narrowed += 1;
        self.hear(entered, counts);
    }

    /// Takes in what a reader has found, unless something has happened since then that may make it wrong.
    pub(super) fn learn(&mut self, start: &Start) {
        let extent = self.extents.of_mut(start.status);
        if self.version == start.version
            && extent.includes(start.at)
            && extent.start(start.descending) != start.at
        {
            *extent.start_mut(start.descending) = start.at;
            self.version.narrowed += 1;
        }
    }
}

/// What is true of a snapshot that was taken between these two times: of each queue that could have jobs in it.
pub(crate) fn between(before: Vec<(QueueId, Known)>, after: Vec<(QueueId, Known)>) -> Vec<(QueueId, Known)> {
    let mut before: HashMap<QueueId, Known> = before.into_iter().collect();
    let mut known = Vec::with_capacity(after.len());
    for (id, after) in after {
        known.push(match before.remove(&id) {
            // It has only become wider.
            Some(before) if before.version.narrowed == after.version.narrowed => {
                (id, Known { version: before.version, ..after })
            }
            Some(before) => (id, Known { extents: Extents::ALL, ..before }),
            None => (id, Known { extents: Extents::ALL, ..after }),
        });
    }
    // They have gone since, and may be in the snapshot.
    known.extend(before.into_iter().map(|(id, before)| (id, Known { extents: Extents::ALL, ..before })));
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::extent::Extent;

    fn stamp(bits: u128) -> Stamp {
        Stamp::from_bits(bits)
    }

    fn at(first: u128, last: u128) -> Extents {
        let mut extents = Extents::NONE;
        extents.of_mut(Status::Dead).include(stamp(first));
        extents.of_mut(Status::Dead).include(stamp(last));
        extents
    }

    fn dead(count: u64) -> Counts {
        Counts { dead: count, ..Counts::default() }
    }

    fn known(first: u128, last: u128) -> Known {
        let mut known = Known::nothing();
        known.begin(&at(first, last), &dead(9));
        known
    }

    fn start(known: &Known, descending: bool, bits: u128) -> Start {
        Start { queue: QueueId(1), status: Status::Dead, descending, at: stamp(bits), version: known.version }
    }

    fn ends(known: &Known) -> (Stamp, Stamp) {
        let extent = known.extents.of(Status::Dead);
        (extent.start(false), extent.start(true))
    }

    #[test]
    fn an_extent_is_widened_by_what_comes_and_narrowed_by_what_readers_find() {
        let mut known = known(5, 9);
        known.hear(&at(3, 4), &dead(9));
        assert_eq!(ends(&known), (stamp(3), stamp(9)));
        known.learn(&start(&known.clone(), false, 6));
        known.learn(&start(&known.clone(), true, 8));
        assert_eq!(ends(&known), (stamp(6), stamp(8)));
        known.hear(&Extents::NONE, &dead(0));
        assert!(known.extents.of(Status::Dead).is_none());
        known.hear(&at(2, 2), &dead(1));
        assert_eq!(ends(&known), (stamp(2), stamp(2)));
    }

    #[test]
    fn what_a_reader_found_does_not_count_if_jobs_have_come_since() {
        let mut known = known(5, 9);
        let found = start(&known, false, 8);
        // Inside of what is known already.
        known.hear(&at(6, 6), &dead(9));
        known.learn(&found);
        assert_eq!(ends(&known), (stamp(5), stamp(9)));
    }

    #[test]
    fn two_readers_do_not_undo_each_other() {
        let mut known = known(5, 9);
        let (slow, fast) = (start(&known, false, 6), start(&known, false, 7));
        known.learn(&fast);
        known.learn(&slow);
        assert_eq!(ends(&known), (stamp(7), stamp(9)));
        // Nor do they say what nobody has heard of.
        known.learn(&start(&known.clone(), false, 2));
        assert_eq!(ends(&known), (stamp(7), stamp(9)));
    }

    #[test]
    fn a_snapshot_is_described_by_what_was_known_before_and_after_it() {
        let all = Extents::ALL;
        let same = known(5, 9);
        let mut wider = same;
        wider.hear(&at(1, 1), &dead(9));
        let mut learned = same;
        learned.learn(&start(&same, false, 7));
        let mut emptied = same;
        emptied.hear(&at(1, 1), &dead(0));
        let mut other_number = same;
        other_number.begin(&at(6, 6), &dead(1));
        for (before, after, right) in [
            (Some(same), Some(same), same.extents),
            (Some(same), Some(wider), wider.extents),
            (Some(same), Some(learned), all),
            (Some(same), Some(emptied), all),
            (Some(same), Some(other_number), all),
            // Its jobs may have come and gone.
            (None, Some(same), all),
            (Some(same), None, all),
        ] {
            let queue = |known: Option<Known>| known.map(|known| (QueueId(1), known)).into_iter().collect();
            let [(QueueId(1), found)] = between(queue(before), queue(after))[..] else { panic!() };
            assert_eq!(found.extents, right);
            assert_eq!(found.version, before.or(after).unwrap().version);
        }
        assert!(Extent::NONE.is_none() && !Extent::ALL.is_none());
    }
}
