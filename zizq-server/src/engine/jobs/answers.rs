//! Answers that are given a second time. A call that brings jobs can carry a key, and the same call with the same key
//! gets the answer of the first, also after a restart. The part of an answer that is kept is stored in the batch that
//! stores its jobs.
//!
//! ```text
//!  new ──► taken in (large bulks, over several turns) ──► kept for a day, or until there are too many others
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::encode;
use protocol::media::Format;

use crate::engine::Engine;
use crate::engine::command::jobs::{Enqueued, Outcome};
use crate::engine::command::once::Once;
use crate::engine::command::{Reject, Reply};
use crate::hash::HashMap;
use crate::job::id::Stamp;
use crate::store::record::AnswerRecord;

/// How long an answer is kept, in milliseconds: a day.
const KEPT_MS: u64 = 86_400_000;
/// The most answers that are kept. The oldest go first.
const MAX_ANSWERS: usize = if cfg!(test) { 8 } else { 100_000 };
/// The most bytes that they take together.
const MAX_BYTES: usize = if cfg!(test) { 20_000 } else { 256 * 1024 * 1024 };
/// The answer to a large bulk weighs more than this, in bytes.
const LARGE: usize = if cfg!(test) { 2_000 } else { 64 * 1024 };
/// The most answers forgotten in one turn.
const SLICE: usize = 64;

/// What is known of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    New,
    /// It was carried out, and this many parts of its answer are stored.
    Answered {
        parts: u32,
        created: bool,
    },
}

#[derive(Debug)]
struct Kept {
    record: AnswerRecord,
    /// When the answer was given, by the clock that never steps.
    since: u64,
    /// Whether its jobs are still being taken in.
    is_coming: bool,
}

/// The answers that are kept.
///
/// - `order` has each key of `by_key` once, and `bytes` is their total weight.
#[derive(Debug, Default)]
pub(in crate::engine) struct Answers {
    by_key: HashMap<Arc<str>, Kept>,
    /// The oldest first.
    order: VecDeque<Arc<str>>,
    bytes: usize,
}

impl Answers {
    fn insert(&mut self, key: Arc<str>, kept: Kept) {
        self.bytes += kept.record.bytes;
        if self.by_key.insert(key.clone(), kept).is_none() {
            self.order.push_back(key);
        }
    }

    /// Removes the oldest answer if it has been kept too long or there are too many. If all together weigh too much,
    /// removes the oldest large one, so that one sender of large bulks does not displace the answers of others; but
    /// never the last, which may be asked for now.
    fn pop_old(&mut self, up: u64) -> Option<(Arc<str>, AnswerRecord)> {
        let oldest = self.by_key.get(self.order.front()?)?;
        let is_over = self.order.len() > MAX_ANSWERS || up >= oldest.since + KEPT_MS;
        let at = if is_over && !oldest.is_coming {
            0
        } else if self.bytes > MAX_BYTES {
            let last = self.order.len() - 1;
            let of = |key| self.by_key.get(key).filter(|kept| !kept.is_coming);
            let is_large = |key| of(key).is_some_and(|kept| kept.record.bytes > LARGE);
            let others = || self.order.iter().take(last);
            others().position(is_large).or_else(|| others().position(|key| of(key).is_some()))?
        } else {
            return None;
        };
        let key = self.order.remove(at)?;
        let kept = self.by_key.remove(&key)?;
        self.bytes -= kept.record.bytes;
        Some((key, kept.record))
    }
}

impl Engine {
    /// Loads the stored answers.
    pub(in crate::engine) fn load_answers(&mut self, mut answers: Vec<(Arc<str>, AnswerRecord)>) {
        answers.sort_by_key(|(_, record)| record.at);
        for (key, record) in answers {
            let since = self.clock.up_of(record.at.min(self.clock.now()));
            // If damage took the bulk, no more jobs come than those already there.
            let is_coming =
                record.bulk.is_some_and(|bulk| self.bulks.answer_for(Stamp::from_bits(bulk), key.clone()));
            self.answers.insert(key, Kept { record, since, is_coming });
        }
    }

    /// Returns whether a call was carried out before.
    ///
    /// # Errors
    /// If its key belongs to another call, or the first call is still being carried out.
    pub fn known(&self, Once { key, fingerprint }: &Once) -> Result<Known, Reject> {
        let Some(kept) = self.answers.by_key.get(key) else { return Ok(Known::New) };
        if kept.record.fingerprint != *fingerprint {
            return Err(Reject::KeyReused(key.clone()));
        }
        if kept.is_coming {
            return Err(Reject::KeyInUse(key.clone()));
        }
        let AnswerRecord { parts, created, .. } = kept.record;
        Ok(Known::Answered { parts, created })
    }

    /// Keeps the answer to a call that was carried out for the first time.
    pub fn keep_answer(&mut self, once: &Once, reply: &Reply) {
        let record =
            AnswerRecord { at: self.clock.now(), fingerprint: once.fingerprint, ..AnswerRecord::default() };
        let kept = |is_coming| Kept { record, since: self.clock.up(), is_coming };
        if let Reply::Later(id) = reply {
            self.answers.insert(once.key.clone(), kept(true));
            let _ = self.bulks.answer_for(*id, once.key.clone());
        } else if let Some(jobs) = reply.enqueued() {
            self.answers.insert(once.key.clone(), kept(true));
            self.add_answer(&once.key, jobs);
            self.end_answer(&once.key);
        }
        // This call is only a first step: the steps that follow carry the key on.
    }

    /// Takes the key for a bulk that is accepted: from now on all of its jobs come, also after a crash.
    pub(in crate::engine) fn accept_answer(&mut self, key: &Arc<str>, bulk: Stamp) {
        if let Some(kept) = self.answers.by_key.get_mut(key) {
            kept.record.bulk = Some(bulk.to_bits());
            self.batch.put_answer(key, &kept.record);
        }
    }

    /// Adds the jobs that have come.
    pub(in crate::engine) fn add_answer(&mut self, key: &Arc<str>, jobs: &[Enqueued]) {
        let Some(kept) = self.answers.by_key.get_mut(key) else { return };
        let mut part = Vec::with_capacity(jobs.len() * 256);
        for (n, job) in jobs.iter().enumerate() {
            if n > 0 {
                part.push(b',');
            }
            encode::write_job(&mut part, Format::Json, &job.view(), None);
        }
        let record = &mut kept.record;
        record.created |= jobs.iter().any(|job| job.outcome == Outcome::Created);
        self.batch.put_answer_part(key, record.parts, &part);
        record.parts += 1;
        record.bytes += part.len();
        self.answers.bytes += part.len();
        self.batch.put_answer(key, record);
    }

    /// Ends the answer: all of its jobs have come.
    pub(in crate::engine) fn end_answer(&mut self, key: &Arc<str>) {
        let Some(kept) = self.answers.by_key.get_mut(key) else { return };
        kept.is_coming = false;
        kept.record.bulk = None;
        self.batch.put_answer(key, &kept.record);
    }

    /// Drops the answer of a call that came to nothing.
    pub(in crate::engine) fn drop_answer(&mut self, key: &Arc<str>) {
        if let Some(kept) = self.answers.by_key.remove(key) {
            self.answers.bytes -= kept.record.bytes;
            self.answers.order.retain(|other| other != key);
        }
    }

    /// Forgets answers that have been kept long enough.
    pub(in crate::engine) fn forget_answers(&mut self) {
        for _ in 0..SLICE {
            let Some((key, record)) = self.answers.pop_old(self.clock.up()) else { return };
            self.batch.remove_answer(&key, record.parts);
        }
    }
}
