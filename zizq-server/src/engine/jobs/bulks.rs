//! Large bulks, taken in over several turns, so that nothing waits long for one of them.
//!
//! The input is first stored as it is, in parts that nothing else looks at. Then one small record *accepts* it: before
//! that none of its jobs come; from then on all of them do, also after a crash. An accepted bulk is enqueued one slice
//! a turn, and its record says how many of its jobs are there. One bulk is taken in at a time.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use protocol::budget::Binding;
use protocol::enqueue::NewJob;

use crate::engine::command::jobs::Enqueued;
use crate::engine::command::{Reject, Reply};
use crate::engine::{Engine, Found};
use crate::job::bulk::NewBulk;
use crate::job::id::Stamp;
use crate::store::bulk::{BulkRecord, StoredBulk, StoredBulks};

#[derive(Debug, Default)]
pub(in crate::engine) struct Bulks {
    /// In order of arrival; the first is being taken in.
    coming: VecDeque<Bulk>,
    finished: Vec<(Stamp, Result<Reply, Reject>)>,
}

#[derive(Debug)]
struct Bulk {
    id: Stamp,
    bulk: NewBulk,
    stage: Stage,
    /// The results for its jobs so far, if a caller waits for them.
    enqueued: Option<Vec<Enqueued>>,
    /// The key of the call that it came with.
    once: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// This many parts are stored.
    Coming(u32),
    Accepted(BulkRecord),
}

impl Bulks {
    /// Keeps the answer to a bulk under this key. Returns false if there is no such bulk.
    pub(in crate::engine) fn answer_for(&mut self, id: Stamp, key: Arc<str>) -> bool {
        let bulk = self.coming.iter_mut().find(|bulk| bulk.id == id);
        bulk.map(|bulk| bulk.once = Some(key)).is_some()
    }

    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.coming.is_empty()
    }

    /// Follows a store that has deleted everything: the current bulk has lost some of its jobs, and the rest do not
    /// come.
    pub(in crate::engine) fn without_jobs(mut self) -> Self {
        self.coming.iter_mut().for_each(|bulk| bulk.once = None);
        let Some(bulk) = self.coming.front_mut() else { return self };
        match bulk.stage {
            Stage::Coming(_) => bulk.stage = Stage::Coming(0),
            Stage::Accepted(_) => {
                let reset = "everything was deleted while these jobs were being enqueued";
                self.finish(Err(Reject::Conflict(reset.to_owned())));
            }
        }
        self
    }

    fn finish(&mut self, answer: Result<Reply, Reject>) {
        let bulk = self.coming.pop_front();
        self.finished.extend(bulk.filter(|bulk| bulk.enqueued.is_some()).map(|bulk| (bulk.id, answer)));
    }
}

impl Engine {
    pub(in crate::engine) fn enqueue_bulk(&mut self, bulk: NewBulk) -> Result<Stamp, Reject> {
        if self.draining {
            return Err(Reject::Draining);
        }
        let id = self.clock.next_stamp();
        let enqueued = Some(Vec::with_capacity(bulk.number));
        self.bulks.coming.push_back(Bulk { id, bulk, stage: Stage::Coming(0), enqueued, once: None });
        Ok(id)
    }

    /// Goes on with the bulk that is being taken in. The caller brings the jobs it returns to
    /// [`Engine::enqueue_slice`].
    pub fn next_slice(&mut self) -> Option<Vec<NewJob>> {
        let Bulk { id, bulk, stage, .. } = self.bulks.coming.front_mut()?;
        match stage {
            Stage::Accepted(_) => Some(bulk.slices.pop_front().unwrap_or_default()),
            Stage::Coming(parts) => {
                if let Some(part) = bulk.part(*parts) {
                    self.batch.put_bulk_part(*id, *parts, part);
                    *parts += 1;
                } else {
                    let record =
                        BulkRecord { format: bulk.format, bytes: bulk.body.len(), parts: *parts, done: 0 };
                    self.accept_bulk(record);
                }
                None
            }
        }
    }

    fn accept_bulk(&mut self, record: BulkRecord) {
        let Some(Bulk { id, bulk, once, .. }) = self.bulks.coming.front() else { return };
        let (id, drawing, once, trace) = (*id, bulk.drawing.clone(), once.clone(), bulk.trace.clone());
        if let Err(reject) = self.prepare_budgets(drawing.iter().map(|(i, job)| (*i, job))) {
            self.batch.remove_bulk_parts(id, record.parts);
            once.iter().for_each(|key| self.drop_answer(key));
            self.bulks.finish(Err(reject));
            return;
        }
        self.batch.put_bulk(id, record, trace.as_deref());
        once.iter().for_each(|key| self.accept_answer(key, id));
        self.expect_draws(&drawing, true);
        if let Some(bulk) = self.bulks.coming.front_mut() {
            bulk.stage = Stage::Accepted(record);
        }
    }

    /// Counts the draws of a bulk in or out: its budgets must not be deleted before its last job is there.
    fn expect_draws(&mut self, drawing: &[(usize, NewJob)], comes: bool) {
        for (_, job) in drawing {
            let budgets: &[Binding] = job.flow.as_ref().map_or(&[], |flow| &flow.budgets);
            self.budgets.expect(budgets, comes);
        }
    }

    /// Enqueues the jobs that [`Engine::next_slice`] returned. `found` is as for a command that enqueues.
    pub fn enqueue_slice(&mut self, jobs: Vec<NewJob>, found: &Found) {
        let number = jobs.len();
        let slice = self.enqueue_accepted(jobs, found);
        let once = self.bulks.coming.front().and_then(|bulk| bulk.once.clone());
        once.iter().for_each(|key| self.add_answer(key, &slice));
        let Some(Bulk { id, bulk, stage: Stage::Accepted(record), enqueued, .. }) =
            self.bulks.coming.front_mut()
        else {
            return;
        };
        if let Some(enqueued) = enqueued {
            enqueued.extend(slice);
        }
        record.done += number;
        if !bulk.slices.is_empty() {
            self.batch.put_bulk(*id, *record, bulk.trace.as_deref());
            return;
        }
        self.batch.remove_bulk(*id);
        self.batch.remove_bulk_parts(*id, record.parts);
        let drawing = mem::take(&mut bulk.drawing);
        let enqueued = enqueued.as_mut().map(mem::take).unwrap_or_default();
        self.expect_draws(&drawing, false);
        once.iter().for_each(|key| self.end_answer(key));
        self.bulks.finish(Ok(Reply::NewBulk(enqueued)));
    }

    /// Returns the bulks that have ended since the last call, with the answers for their callers. They count once they
    /// are committed.
    pub fn finished_bulks(&mut self) -> Vec<(Stamp, Result<Reply, Reject>)> {
        mem::take(&mut self.bulks.finished)
    }

    /// Goes on with the bulks that were accepted before.
    pub(in crate::engine) fn load_bulks(&mut self, bulks: StoredBulks) {
        for StoredBulk { id, record, mut bulk } in bulks.accepted {
            self.expect_draws(&bulk.drawing, true);
            bulk.skip(record.done);
            self.bulks.coming.push_back(Bulk {
                id,
                bulk,
                stage: Stage::Accepted(record),
                enqueued: None,
                once: None,
            });
        }
        for (id, part) in bulks.stray {
            self.batch.remove_bulk_part(id, part);
        }
    }
}
