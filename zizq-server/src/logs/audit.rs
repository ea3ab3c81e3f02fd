//! The audit trail: who did what, kept beside the output of jobs.

use serde_json::Value;

use super::shelf::Shelf;
use crate::store::StoreError;

/// How long entries are kept, in milliseconds, and how many.
const KEPT_MS: u64 = 90 * 86_400_000;
const KEPT: u64 = 100_000;
/// How many more are written before the oldest are removed.
const SLACK: u64 = 1_000;

/// The entries that are stored. Their numbers are ordered as the entries are, and begin with the time in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// The number of the last one; none if the store was not asked yet.
    last: Option<u64>,
    count: u64,
}

/// The bits of a number behind the time.
const COUNTER_BITS: u32 = 12;

/// A part of the trail.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// With their numbers, the newest first.
    pub entries: Vec<(u64, Value)>,
    /// Whether there are older ones.
    pub more: bool,
}

impl Trail {
    /// Stores an entry of this time, and removes those that are too old or too many.
    pub(super) fn append(&mut self, shelf: &mut Shelf, at: u64, entry: &[u8]) -> Result<(), StoreError> {
        let last = match self.last {
            Some(last) => last,
            None => {
                let (last, count) = shelf.audit_extent()?;
                self.count = count;
                last
            }
        };
        let number = (last + 1).max(at << COUNTER_BITS);
        self.last = Some(number);
        shelf.put_audit(number, entry)?;
        self.count += 1;
        if self.count.is_multiple_of(SLACK) {
            let surplus = self.count.saturating_sub(KEPT);
            let before = at.saturating_sub(KEPT_MS) << COUNTER_BITS;
            self.count -= shelf.remove_audit(before, surplus)?;
        }
        Ok(())
    }
}
