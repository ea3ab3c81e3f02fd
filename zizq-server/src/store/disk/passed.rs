//! Finds tables without a live entry in their range. Entries removed at the front of a queue, or of anything else
//! ordered by time, are adjacent.
//!
//! A table with tombstones may be dropped only together with what they remove: if a deeper table that reaches into its
//! range stayed, its entries would reappear.

use std::ops::Bound;

use fjall::{AbstractTree, AnyTree, Keyspace, SeqNo, Slice};

use super::compact::told;
use crate::hash::{HashMap, HashSet};
use crate::store::StoreError;

/// A table. Tables of the first level reach almost everywhere and are not dropped by themselves, but may be in the
/// range of others.
#[derive(Debug, Clone)]
struct Span {
    id: u64,
    level: usize,
    min: Slice,
    max: Slice,
    /// Whether it has tombstones.
    removes: bool,
}

impl Span {
    fn is_in(&self, (min, max): (&Slice, &Slice)) -> bool {
        *min <= self.min && self.max <= *max
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

/// Remembered between checks: for each table, a key in its range that was live.
#[derive(Debug, Default)]
pub(super) struct Passed(HashMap<u64, Slice>);

/// Ranges without a live entry, as of a version of the tree.
#[derive(Debug)]
pub(super) struct Ranges {
    version: u64,
    ranges: Vec<(Slice, Slice)>,
}

impl Passed {
    /// Returns what can be dropped; `None` if nothing can.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub(super) fn ranges(&mut self, jobs: &Keyspace) -> Result<Option<Ranges>, StoreError> {
        let (version, spans) = spans(jobs);
        let there: HashSet<u64> = spans.iter().map(|span| span.id).collect();
        self.0.retain(|id, _| there.contains(id));
        let mut dead = Vec::new();
        for span in spans.iter().filter(|span| span.level > 0) {
            if !self.lives(jobs, span)? {
                dead.push(span);
            }
        }
        // The deepest tables first: those above go with them.
        dead.sort_by(|a, b| (b.level, &a.min).cmp(&(a.level, &b.min)));
        let mut ranges: Vec<(Slice, Slice)> = Vec::new();
        for span in dead {
            if ranges.iter().any(|(min, max)| span.is_in((min, max))) {
                continue;
            }
            if let Some((min, max)) = ranges.last()
                && *max < span.min
                && is_empty(jobs, Bound::Excluded(max), Bound::Excluded(&span.min))?
                && is_safe(&spans, (min, &span.max))
            {
                let joined = (min.clone(), span.max.clone());
                ranges.pop();
                ranges.push(joined);
            } else if is_safe(&spans, (&span.min, &span.max)) {
                ranges.push((span.min.clone(), span.max.clone()));
            }
        }
        Ok((!ranges.is_empty()).then_some(Ranges { version, ranges }))
    }

    /// Whether the range of a table has a live entry.
    fn lives(&mut self, jobs: &Keyspace, span: &Span) -> Result<bool, StoreError> {
        // Nothing before a witness was live, or it is new, and is found once the witness is dead.
        let from = match self.0.get(&span.id) {
            Some(witness) if jobs.contains_key(witness)? => return Ok(true),
            _ => &span.min,
        };
        let found = jobs.range::<&Slice, _>((Bound::Included(from), Bound::Included(&span.max))).next();
        let found = found.map(fjall::Guard::key).transpose()?;
        if let Some(key) = &found {
            self.0.insert(span.id, key.clone());
        }
        Ok(found.is_some())
    }
}

impl Ranges {
    /// Drops the tables in these ranges, unless something has moved since. Nothing merges in the meantime.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn drop(self, jobs: &Keyspace) -> Result<bool, StoreError> {
        let AnyTree::Standard(tree) = &jobs.tree else { return Ok(true) };
        // Later entries are in the memtable, and stay there for now.
        let _flush = tree.get_flush_lock();
        if tree.is_compacting() || tree.current_version().id() != self.version {
            return Ok(false);
        }
        for (min, max) in self.ranges {
            tree.drop_range((Bound::Included(min), Bound::Included(max))).map_err(told)?;
        }
        Ok(true)
    }
}

fn spans(jobs: &Keyspace) -> (u64, Vec<Span>) {
    let version = jobs.tree.current_version();
    let mut spans = Vec::new();
    for (level, tables) in version.iter_levels().enumerate() {
        for table in tables.iter().flat_map(|run| run.iter()) {
            let range = &table.metadata.key_range;
            spans.push(Span {
                id: table.id(),
                level,
                min: range.min().clone(),
                max: range.max().clone(),
                removes: table.metadata.tombstone_count > 0,
            });
        }
    }
    (version.id(), spans)
}

fn is_empty(jobs: &Keyspace, from: Bound<&Slice>, to: Bound<&Slice>) -> Result<bool, StoreError> {
    let mut range = jobs.tree.range::<Slice, _>((from, to), SeqNo::MAX, None);
    Ok(range.next().is_none())
}

/// Whether nothing reappears when all tables in the range are dropped.
fn is_safe(spans: &[Span], range: (&Slice, &Slice)) -> bool {
    let dropped = || spans.iter().filter(|span| span.is_in(range));
    let stays =
        |span: &Span, above: &Span| span.level > above.level && span.overlaps(above) && !span.is_in(range);
    !dropped().any(|above| above.removes && spans.iter().any(|span| stays(span, above)))
}
