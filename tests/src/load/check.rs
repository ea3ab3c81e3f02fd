//! What was delivered, held against what was enqueued.

use std::collections::BTreeSet;

/// Every job of a round by its number: delivered once, and only once.
#[derive(Debug)]
pub(super) struct Deliveries {
    seen: Vec<u64>,
    jobs: u32,
    distinct: u32,
    twice: u32,
    unknown: u32,
}

impl Deliveries {
    /// Expects the jobs `0..jobs`.
    pub(super) fn new(jobs: u32) -> Self {
        Self { seen: vec![0; jobs.div_ceil(64) as usize], jobs, distinct: 0, twice: 0, unknown: 0 }
    }

    /// Takes note of a delivery; `false` if it should not have been.
    pub(super) fn note(&mut self, n: u32) -> bool {
        if n >= self.jobs {
            self.unknown += 1;
            return false;
        }
        let (word, bit) = (&mut self.seen[n as usize / 64], 1 << (n % 64));
        let first = *word & bit == 0;
        *word |= bit;
        if first {
            self.distinct += 1;
        } else {
            self.twice += 1;
        }
        first
    }

    /// What is wrong, in sentences.
    pub(super) fn faults(&self, faults: &mut Faults) {
        let missing = self.jobs - self.distinct;
        for (count, what) in [
            (missing, "jobs were never delivered"),
            (self.twice, "deliveries of a job that had been delivered before"),
            (self.unknown, "deliveries of a job that was never enqueued"),
        ] {
            if count > 0 {
                faults.add(format!("{count} {what}"));
            }
        }
    }
}

/// What is wrong, each kind once.
#[derive(Debug, Default)]
pub(super) struct Faults(BTreeSet<String>);

impl Faults {
    /// The most kinds that are kept: more would not tell more.
    const MOST: usize = 20;

    /// Adds one.
    pub(super) fn add(&mut self, fault: String) {
        if self.0.len() < Self::MOST {
            self.0.insert(fault);
        }
    }

    /// All of them.
    pub(super) fn into_sentences(self) -> Vec<String> {
        self.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_is_counted() {
        let mut deliveries = Deliveries::new(70);
        assert!((0..69).all(|n| deliveries.note(n)));
        assert!(!deliveries.note(3));
        assert!(!deliveries.note(70));
        assert_eq!(deliveries.distinct, 69);
        let mut faults = Faults::default();
        deliveries.faults(&mut faults);
        assert_eq!(faults.into_sentences().len(), 3);
    }
}
