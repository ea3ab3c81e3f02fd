//! Where reading each long lane begins.

use crate::hash::HashMap;
use crate::job::Job;
use crate::job::id::Stamp;
use crate::store::batch::Batch;
use crate::store::view::LaneKey;

/// The first stamp that can be live, for lanes with a long history. See [`crate::store::view::lanes`].
///
/// No job of a lane is before its cursor in the store, unless its lease is written down. A cursor is changed together
/// with its record.
#[derive(Debug, Default)]
pub(in crate::engine) struct Cursors(HashMap<LaneKey, Stamp>);

impl Cursors {
    /// The cursors as stored.
    pub(in crate::engine) fn stored(cursors: Vec<(LaneKey, Stamp)>) -> Self {
        Self(cursors.into_iter().collect())
    }

    /// Ensures that the lane of a job is read from this job on, if not from an earlier one.
    pub(in crate::engine) fn keep_before(&mut self, job: &Job, batch: &mut Batch) {
        let stamp = Stamp::of(job.id);
        if let Some(cursor) = self.0.get_mut(&(job.queue, job.draw, job.priority))
            && stamp < *cursor
        {
            *cursor = stamp;
            batch.put_cursor(job.queue, job.draw, job.priority, stamp);
        }
    }

    /// Moves a cursor: nothing of the lane is before this stamp.
    pub(in crate::engine) fn set(&mut self, lane: LaneKey, first: Stamp, batch: &mut Batch) {
        self.0.insert(lane, first);
        let (queue, draw, priority) = lane;
        batch.put_cursor(queue, draw, priority, first);
    }

    /// Forgets the cursors of lanes that no longer exist.
    pub(in crate::engine) fn drop_where(&mut self, batch: &mut Batch, is_gone: impl Fn(&LaneKey) -> bool) {
        for ((queue, draw, priority), _) in self.0.extract_if(|lane, _| is_gone(lane)) {
            batch.remove_cursor(queue, draw, priority);
        }
    }
}
