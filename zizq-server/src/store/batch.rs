//! The changes of an engine turn, gathered to be written at once.

use std::ops::Range;

use protocol::access::TokenId;
use protocol::id::JobId;
use protocol::name::{CronName, QueueName};
use protocol::trace::Trace;

use super::bulk::{self, BulkRecord};
use super::keys::{self, Area, Key};
use super::record::{
    self, AnswerRecord, BudgetRecord, ClockRecord, CronRecord, DrawRecord, EntryState, ErrorRecord, Holder,
    LeaseRecord, QueueRecord,
};
use crate::access::TokenRecord;
use crate::job::Job;
use crate::job::draw::{BudgetId, DrawId};
use crate::job::id::{QueueId, Stamp};
use crate::job::place::Place;
use crate::job::tag::Tag;

/// Changes in the order they were made; of two changes to one key the later counts.
#[derive(Debug, Default)]
pub struct Batch {
    /// Each key with the range of its new value; `None` removes the key.
    writes: Vec<(Key, Option<Range<usize>>)>,
    /// All values in one buffer, instead of one buffer per value.
    values: Vec<u8>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The size of the values, in bytes.
    pub const fn bytes(&self) -> usize {
        self.values.len()
    }

    /// The keys with their new values; `None` removes the key.
    pub fn writes(&self) -> impl ExactSizeIterator<Item = (&Key, Option<&[u8]>)> {
        let value = |range: &Range<usize>| self.values.get(range.clone()).unwrap_or_default();
        self.writes.iter().map(move |(key, range)| (key, range.as_ref().map(value)))
    }

    fn put(&mut self, key: Key, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.values.len();
        write(&mut self.values);
        self.writes.push((key, Some(start..self.values.len())));
    }

    pub(super) fn remove(&mut self, key: Key) {
        self.writes.push((key, None));
    }

    /// Stores a job and its timer, if it has one.
    pub fn put_job(&mut self, job: &Job) {
        let place = job.place();
        self.put(keys::job(place), |out| record::encode_job(job, out));
        if place.area() == Area::Drawing {
            self.put(keys::lane(place.queue, place.draw, place.priority, place.stamp), |_| {});
        }
        if let Some(due) = job.due() {
            self.put(keys::timer(due, Stamp::of(job.id)), |out| {
                out.push(Area::of(job.status) as u8);
                out.extend_from_slice(&job.queue.0.to_be_bytes());
            });
        }
    }

    /// Removes a job and its timer from the place where `put_job` put it.
    pub fn remove_job(&mut self, place: Place, due: Option<u64>) {
        self.remove(keys::job(place));
        if place.area() == Area::Drawing {
            self.remove(keys::lane(place.queue, place.draw, place.priority, place.stamp));
        }
        if let Some(due) = due {
            self.remove(keys::timer(due, place.stamp));
        }
    }

    pub fn remove_timer(&mut self, due: u64, stamp: Stamp) {
        self.remove(keys::timer(due, stamp));
    }

    pub fn put_queue(&mut self, id: QueueId, queue: &QueueRecord) {
        self.put(keys::queue(id), |out| record::encode_queue(queue, out));
    }

    /// Stores the name of a queue a second time, in case its record is lost.
    pub fn put_queue_name(&mut self, id: QueueId, name: &QueueName) {
        self.put(keys::queue_name(id), |out| record::encode_queue_name(name, out));
    }

    pub fn remove_queue(&mut self, id: QueueId) {
        self.remove(keys::queue(id));
        self.remove(keys::queue_name(id));
    }

    pub fn put_cursor(&mut self, queue: QueueId, draw: DrawId, priority: u16, first_live: Stamp) {
        self.put(keys::cursor(queue, draw, priority), |out| out.extend_from_slice(&first_live.to_bytes()));
    }

    pub fn remove_cursor(&mut self, queue: QueueId, draw: DrawId, priority: u16) {
        self.remove(keys::cursor(queue, draw, priority));
    }

    pub fn put_budget(&mut self, id: BudgetId, budget: &BudgetRecord) {
        self.put(keys::budget(id), |out| record::encode_budget(budget, out));
    }

    pub fn remove_budget(&mut self, id: BudgetId) {
        self.remove(keys::budget(id));
    }

    pub fn put_draw(&mut self, id: DrawId, draw: &DrawRecord) {
        self.put(keys::draw(id), |out| record::encode_draw(draw, out));
    }

    pub fn remove_draw(&mut self, id: DrawId) {
        self.remove(keys::draw(id));
    }

    /// Removes a job from the order of jobs with the same draw.
    pub fn remove_lane(&mut self, place: Place) {
        self.remove(keys::lane(place.queue, place.draw, place.priority, place.stamp));
    }

    pub fn put_cron(&mut self, group: &CronName, cron: &CronRecord) {
        self.put(keys::cron(group), |out| record::encode_cron(cron, out));
    }

    pub fn remove_cron(&mut self, group: &CronName) {
        self.remove(keys::cron(group));
    }

    pub fn put_cron_entry(&mut self, group: &CronName, entry: &CronName, state: &EntryState) {
        self.put(keys::cron_entry(group, entry), |out| record::encode_entry_state(state, out));
    }

    pub fn remove_cron_entry(&mut self, group: &CronName, entry: &CronName) {
        self.remove(keys::cron_entry(group, entry));
    }

    pub fn put_token(&mut self, id: &TokenId, token: &TokenRecord) {
        self.put(keys::token(id), |out| record::encode_token(token, out));
    }

    pub fn remove_token(&mut self, id: &TokenId) {
        self.remove(keys::token(id));
    }

    /// Stores what sessions are signed with.
    pub fn put_session_key(&mut self, key: &[u8; 32]) {
        self.put(keys::session_key(), |out| out.extend_from_slice(key));
    }

    pub fn put_error(&mut self, id: JobId, attempt: u32, error: &ErrorRecord) {
        self.put(keys::error(id, attempt), |out| record::encode_error(error, out));
    }

    pub fn remove_error(&mut self, id: JobId, attempt: u32) {
        self.remove(keys::error(id, attempt));
    }

    /// Stores where a job is that was moved from where its id tells.
    pub fn put_moved(&mut self, job: &Job) {
        self.put(keys::moved(job.id), |out| {
            out.extend_from_slice(&job.queue.0.to_be_bytes());
            out.extend_from_slice(&job.priority.to_be_bytes());
        });
    }

    pub fn remove_moved(&mut self, id: JobId) {
        self.remove(keys::moved(id));
    }

    pub fn put_lease(&mut self, id: JobId, lease: &LeaseRecord) {
        self.put(keys::lease(id), |out| record::encode_lease(lease, out));
    }

    pub fn remove_lease(&mut self, id: JobId) {
        self.remove(keys::lease(id));
    }

    pub fn put_holders(&mut self, tag: &Tag, holders: &[Holder]) {
        self.put(keys::tag(tag), |out| record::encode_holders(holders, out));
    }

    pub fn remove_holders(&mut self, tag: &Tag) {
        self.remove(keys::tag(tag));
    }

    /// Stores a chunk of an attempt's output.
    pub fn put_log(&mut self, key: Key, number: u64, text: &[u8]) {
        self.put(key, |out| record::encode_log(number, text, out));
    }

    /// Stores an entry of the audit trail.
    pub fn put_audit(&mut self, number: u64, entry: &[u8]) {
        self.put(keys::audit(number), |out| out.extend_from_slice(entry));
    }

    /// Stores how many entries the audit trail has.
    pub fn put_audit_count(&mut self, count: u64) {
        self.put(keys::audit_count(), |out| out.extend_from_slice(&count.to_be_bytes()));
    }

    pub fn remove_audit(&mut self, number: u64) {
        self.remove(keys::audit(number));
    }

    pub fn remove_log(&mut self, key: Key) {
        self.remove(key);
    }

    /// Stores a step of the history of statistics.
    pub fn put_history(&mut self, step: &record::HistoryStep) {
        self.put(keys::history(step.ring, step.number), |out| record::encode_history(&step.points, out));
    }

    pub fn remove_history(&mut self, key: Key) {
        self.remove(key);
    }

    /// Stores a part of the body of a bulk.
    pub fn put_bulk_part(&mut self, id: Stamp, number: u32, part: &[u8]) {
        self.put(keys::bulk_part(id, number), |out| out.extend_from_slice(part));
    }

    pub fn remove_bulk_part(&mut self, id: Stamp, number: u32) {
        self.remove(keys::bulk_part(id, number));
    }

    /// Removes the first `parts` parts of a bulk.
    pub fn remove_bulk_parts(&mut self, id: Stamp, parts: u32) {
        (0..parts).for_each(|number| self.remove_bulk_part(id, number));
    }

    /// Stores that a bulk is accepted, and its progress.
    pub fn put_bulk(&mut self, id: Stamp, record: BulkRecord, trace: Option<&Trace>) {
        self.put(keys::bulk(id), |out| bulk::encode_bulk(record, trace, out));
    }

    pub fn remove_bulk(&mut self, id: Stamp) {
        self.remove(keys::bulk(id));
    }

    /// Stores the answer to a call with this key.
    pub fn put_answer(&mut self, key: &str, answer: &AnswerRecord) {
        self.put(keys::answer(key), |out| record::encode_answer(answer, out));
    }

    pub fn put_answer_part(&mut self, key: &str, number: u32, part: &[u8]) {
        self.put(keys::answer_part(key.as_bytes(), number), |out| out.extend_from_slice(part));
    }

    /// Removes an answer of this many parts.
    pub fn remove_answer(&mut self, key: &str, parts: u32) {
        (0..parts).for_each(|number| self.remove(keys::answer_part(key.as_bytes(), number)));
        self.remove(keys::answer(key));
    }

    /// Moves a damaged record to an area where nothing looks for it.
    pub fn set_aside(&mut self, key: Key, value: &[u8]) {
        self.put(keys::aside(&key), |out| out.extend_from_slice(value));
        self.remove(key);
    }

    /// Removes any key, for tests.
    #[cfg(test)]
    pub fn forget(&mut self, key: Key) {
        self.remove(key);
    }

    /// Writes any entry, for tests.
    #[cfg(test)]
    pub fn put_raw(&mut self, key: &[u8], value: &[u8]) {
        self.put(Key::from_slice(key), |out| out.extend_from_slice(value));
    }

    /// Stores a mark that something must be done.
    pub fn put_mark(&mut self, name: &str) {
        self.put(keys::meta(name), |_| {});
    }

    pub fn remove_mark(&mut self, name: &str) {
        self.remove(keys::meta(name));
    }

    /// Stores the format of the store.
    pub fn put_format(&mut self) {
        self.put(keys::meta("format"), |out| out.push(keys::FORMAT));
    }

    /// Stores the engine's time.
    pub fn put_clock(&mut self, clock: ClockRecord) {
        self.put(keys::meta("clock"), |out| out.extend_from_slice(&clock.latest.to_be_bytes()));
        self.put(keys::meta("wall"), |out| record::encode_wall(clock, out));
    }
}
