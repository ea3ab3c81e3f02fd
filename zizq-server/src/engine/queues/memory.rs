//! What memory and the store each hold of the ready jobs of all queues.

use crate::hash::HashMap;
use crate::job::Job;
use crate::job::id::Stamp;
use crate::store::batch::Batch;
use crate::store::view::LaneKey;

/// What the lanes of all queues share.
///
/// - `ready_bytes` is what the ready jobs in the windows of all lanes weigh: whoever adds or takes one counts it there.
/// - No job of a lane lies before its cursor in the store, unless its lease is written down. A cursor is changed together
///   with its record.
#[derive(Debug, Default)]
pub(in crate::engine) struct Memory {
    /// What the ready jobs in memory weigh, in bytes.
    pub ready_bytes: usize,
    /// For lanes with a long history: the first stamp that can be live. See [`crate::store::view::lanes`].
    cursors: HashMap<LaneKey, Stamp>,
}

impl Memory {
    /// With the cursors that are stored.
    pub(in crate::engine) fn stored(cursors: Vec<(LaneKey, Stamp)>) -> Self {
        Self { ready_bytes: 0, cursors: cursors.into_iter().collect() }
    }

    /// The lane of a job must be read from this job on, if not from an earlier one.
    pub(in crate::engine) fn keep_behind_cursor(&mut self, job: &Job, batch: &mut Batch) {
        let stamp = Stamp::of(job.id);
        if let Some(cursor) = self.cursors.get_mut(&(job.queue, job.draw, job.priority))
            && stamp < *cursor
        {
            *cursor = stamp;
            batch.put_cursor(job.queue, job.draw, job.priority, stamp);
        }
    }

    /// Nothing of a lane lies before this stamp.
    pub(in crate::engine) fn set_cursor(&mut self, lane: LaneKey, first: Stamp, batch: &mut Batch) {
        self.cursors.insert(lane, first);
        let (queue, draw, priority) = lane;
        batch.put_cursor(queue, draw, priority, first);
    }

    /// Forgets the cursors of lanes that are not there any more.
    pub(in crate::engine) fn drop_cursors(&mut self, batch: &mut Batch, is_gone: impl Fn(&LaneKey) -> bool) {
        for ((queue, draw, priority), _) in self.cursors.extract_if(|lane, _| is_gone(lane)) {
            batch.remove_cursor(queue, draw, priority);
        }
    }
}
