//! What was delivered and acked, held against what was enqueued.

use std::collections::BTreeSet;

/// A set of jobs by their numbers.
#[derive(Debug, Default)]
struct Numbers {
    words: Vec<u64>,
}

impl Numbers {
    /// `false` if it is there already.
    fn insert(&mut self, n: u32) -> bool {
        let (word, bit) = (n as usize / 64, 1 << (n % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let word = &mut self.words[word];
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

/// Every job of a round: delivered once, and only once.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    seen: Numbers,
    /// One more than the largest number that was seen.
    reach: u32,
    distinct: u32,
    twice: u32,
}

impl Deliveries {
    /// Takes note of a delivery; `false` if it should not have been.
    pub(super) fn note(&mut self, n: u32) -> bool {
        let first = self.seen.insert(n);
        self.reach = self.reach.max(n.saturating_add(1));
        if first {
            self.distinct += 1;
        } else {
            self.twice += 1;
        }
        first
    }

    /// How many different jobs were delivered.
    pub(super) fn distinct(&self) -> u32 {
        self.distinct
    }

    /// What is wrong where the jobs `0..enqueued` exist and `missing` of them may have stayed where they are.
    pub(super) fn faults(&self, enqueued: u32, missing: u32, faults: &mut Faults) {
        let expected = enqueued.saturating_sub(missing);
        if self.distinct < expected {
            faults.add(format!("{} jobs were never delivered", expected - self.distinct));
        }
        if self.twice > 0 {
            faults.add(format!("{} deliveries of jobs that had been delivered before", self.twice));
        }
        if self.reach > enqueued {
            faults.add(format!("job {} was delivered, of {enqueued} that were enqueued", self.reach - 1));
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

    /// Adds others.
    pub(super) fn add_all(&mut self, others: Self) {
        others.0.into_iter().for_each(|fault| self.add(fault));
    }

    /// Adds one if two counts differ.
    pub(super) fn expect(&mut self, what: &str, counted: u64, expected: u32) {
        if counted != u64::from(expected) {
            self.add(format!("{what}: {counted} instead of {expected}"));
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

    fn faults(numbers: &[u32], enqueued: u32, missing: u32) -> Vec<String> {
        let mut deliveries = Deliveries::default();
        for &n in numbers {
            deliveries.note(n);
        }
        let mut faults = Faults::default();
        deliveries.faults(enqueued, missing, &mut faults);
        faults.into_sentences()
    }

    #[test]
    fn all_well() {
        assert!(faults(&[1, 0, 70, 2], 71, 67).is_empty());
        let all: Vec<u32> = (0..200).collect();
        assert!(faults(&all, 200, 0).is_empty());
    }

    #[test]
    fn every_kind_of_fault_is_seen() {
        assert_eq!(faults(&[0, 2], 3, 0), ["1 jobs were never delivered"]);
        assert_eq!(faults(&[0, 1, 1], 2, 0), ["1 deliveries of jobs that had been delivered before"]);
        assert_eq!(faults(&[0, 1, 2], 2, 0), ["job 2 was delivered, of 2 that were enqueued"]);
        let mut counts = Faults::default();
        counts.expect("jobs left", 0, 0);
        counts.expect("jobs left", 1, 0);
        assert_eq!(counts.into_sentences(), ["jobs left: 1 instead of 0"]);
    }
}
