//! Plans what new jobs do to the open batches. The computation is slow and runs in a helper process.

use std::sync::Arc;

use protocol::enqueue::NewJob;
use protocol::flow::{Batch, Key};
use protocol::media::Format;
use protocol::payload::Payload;

use crate::engine::command::batches::{Plan, Planned, Step};
use crate::hash::HashMap;
use crate::job::Job;
use crate::jq::fold::{Folded, Item, Task, Turn};
use crate::jq::{Admission, FoldError};

/// Jobs that are enqueued together, and the keys of the batches that some of them belong to.
#[derive(Debug)]
pub(super) struct Request {
    pub jobs: Vec<NewJob>,
    /// Sorted.
    pub keys: Vec<Key>,
    /// The key of every job, by index. A job that is not ready is never folded.
    batches: Vec<Option<u32>>,
}

/// The largest payload, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit(pub usize);

pub(super) fn batch_of(job: &NewJob) -> Option<&Batch> {
    job.flow.as_ref()?.batch.as_ref()
}

impl Request {
    pub(super) fn new(jobs: Vec<NewJob>, now: u64) -> Self {
        let key = |job: &NewJob| {
            let is_ready = job.ready_at.is_none_or(|at| at <= now);
            batch_of(job).filter(|_| is_ready).map(|batch| batch.key.clone())
        };
        let of_jobs: Vec<Option<Key>> = jobs.iter().map(key).collect();
        let mut keys: Vec<Key> = of_jobs.iter().flatten().cloned().collect();
        keys.sort_unstable();
        keys.dedup();
        let number = |key: Option<Key>| keys.binary_search(&key?).ok()?.try_into().ok();
        let batches = of_jobs.into_iter().map(number).collect();
        Self { jobs, keys, batches }
    }

    /// Plans that every job opens a batch, whatever its expressions are.
    pub(super) fn without_folds(&self, open: &[Option<Arc<Job>>]) -> Plan {
        let step = |batch: &Option<u32>| if batch.is_some() { Step::Opens } else { Step::Plain };
        Plan { batches: self.planned(open), steps: self.batches.iter().map(step).collect() }
    }

    fn planned(&self, open: &[Option<Arc<Job>>]) -> Vec<Planned> {
        let versions = open.iter().map(|job| job.as_ref().map(|job| job.version()));
        let planned = |(key, open): (&Key, _)| Planned { key: key.clone(), open, payload: None };
        self.keys.iter().zip(versions).map(planned).collect()
    }

    /// Plans the folds, with the payloads that result.
    ///
    /// # Errors
    /// [`FoldError`].
    pub(super) fn fold(
        &self,
        admission: Admission,
        open: &[Option<Arc<Job>>],
        limit: Limit,
    ) -> Result<(Plan, Vec<NewJob>), FoldError> {
        let tried = self.jobs.iter().enumerate().filter_map(|(n, job)| Some((n, job, batch_of(job)?)));
        let (places, new): (Vec<usize>, Vec<Item<'_>>) = tried
            .map(|(n, job, batch)| (n, item(self.batches.get(n).copied().flatten(), &job.payload, batch)))
            .unzip();
        let place = |n: usize| places.get(n).copied().unwrap_or_default();
        let stored = open.iter().map(|job| {
            let job = job.as_deref()?;
            Some(item(None, &job.payload, job.batch()?))
        });
        let task = Task { now: admission.now(), open: stored.collect(), new };
        let folded = admission.fold(&task).map_err(|error| match error {
            FoldError::Wrong { index, error } => FoldError::Wrong { index: place(index), error },
            other @ (FoldError::Unavailable(_) | FoldError::Busy(_)) => other,
        });
        let (turns, folded) = folded?;
        let mut steps = vec![Step::Plain; self.jobs.len()];
        for (n, turn) in turns.into_iter().enumerate() {
            if let Some(step) = steps.get_mut(place(n)) {
                *step = match turn {
                    Turn::Tried => Step::Plain,
                    Turn::Folded => Step::Folds,
                    Turn::Opened => Step::Opens,
                };
            }
        }
        let mut plan = Plan { batches: self.planned(open), steps };
        let jobs = self.with_payloads(&mut plan, folded, &places, limit)?;
        Ok((plan, jobs))
    }

    /// Puts the results of the folds in place, if they are valid payloads.
    fn with_payloads(
        &self,
        plan: &mut Plan,
        folded: Folded,
        places: &[usize],
        limit: Limit,
    ) -> Result<Vec<NewJob>, FoldError> {
        let last = self.last_folds(&plan.steps);
        let wrong = |last: Option<&usize>| {
            let index = last.copied().unwrap_or_default();
            move |error| FoldError::Wrong { index, error }
        };
        for (number, payload) in folded.open {
            let made = limit.payload(payload).map_err(wrong(last.get(&(number, None))))?;
            if let Some(planned) = plan.batches.get_mut(number as usize) {
                planned.payload = Some(made);
            }
        }
        let mut jobs = self.jobs.clone();
        for (n, payload) in folded.new {
            let place = places.get(n as usize).copied().unwrap_or_default();
            let number = self.batches.get(place).copied().flatten().unwrap_or_default();
            let made = limit.payload(payload).map_err(wrong(last.get(&(number, Some(place)))))?;
            if let Some(job) = jobs.get_mut(place) {
                job.payload = made;
            }
        }
        Ok(jobs)
    }

    /// The last job that was folded into each batch, by key and by the job that opened it, if any.
    fn last_folds(&self, steps: &[Step]) -> HashMap<(u32, Option<usize>), usize> {
        let (mut opened, mut last) = (HashMap::default(), HashMap::default());
        for (n, (step, number)) in steps.iter().zip(&self.batches).enumerate() {
            let Some(number) = *number else { continue };
            match step {
                Step::Plain => {}
                Step::Opens => drop(opened.insert(number, n)),
                Step::Folds => drop(last.insert((number, opened.get(&number).copied()), n)),
            }
        }
        last
    }
}

fn item<'a>(number: Option<u32>, payload: &'a Payload, batch: &'a Batch) -> Item<'a> {
    Item {
        batch: number,
        when: batch.when.as_str(),
        fold: batch.fold.as_str(),
        is_json: payload.format() == Format::Json,
        payload: payload.bytes(),
    }
}

impl Limit {
    fn payload(self, made: Vec<u8>) -> Result<Payload, String> {
        let (size, limit) = (made.len(), self.0);
        if size > limit {
            return Err(format!(
                "batch.fold: the folded payload has {size} bytes; this server accepts at most {limit} (--max-payload-size)"
            ));
        }
        Payload::from_text(&made.into())
            .map_err(|error| format!("batch.fold: the result is not a valid payload: {error}"))
    }
}
