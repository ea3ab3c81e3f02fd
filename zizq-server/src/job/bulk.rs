//! Many jobs from one request, with its body, which is stored as it is.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;
use protocol::enqueue::{EnqueueError, NewJob, parse_bulk};
use protocol::media::Format;
use protocol::trace::Trace;

use crate::hash::HashSet;

/// A bulk with more jobs is large.
const LARGE_JOBS: usize = 2_048;
/// A bulk with more bytes is large.
const LARGE_BYTES: usize = 4 * 1024 * 1024;
/// How much of the body is stored per turn, in bytes.
const PART_BYTES: usize = if cfg!(test) { 200 } else { 256 * 1024 };
/// How many jobs are enqueued per turn.
const SLICE_JOBS: usize = if cfg!(test) { 3 } else { 512 };
/// How many bytes of payload are enqueued per turn, except for the last job.
const SLICE_BYTES: usize = if cfg!(test) { 500 } else { 512 * 1024 };

/// The parsed body of a request for many jobs.
#[derive(Debug, Clone)]
pub struct NewBulk {
    pub(crate) format: Format,
    pub(crate) body: Bytes,
    /// The trace context of the call, which is not in the body.
    pub(crate) trace: Option<Box<Trace>>,
    pub(crate) number: usize,
    /// The jobs, split into slices here, outside the engine's thread.
    pub(crate) slices: VecDeque<Vec<NewJob>>,
    /// The first job for each distinct set of draws on budgets, with its index.
    pub(crate) drawing: Vec<(usize, NewJob)>,
}

impl NewBulk {
    /// Whether one turn would take too long for this much.
    pub const fn is_large(jobs: usize, bytes: usize) -> bool {
        jobs > LARGE_JOBS || bytes > LARGE_BYTES
    }

    /// Creates a bulk from jobs, the body that they were read from, and the trace context that they inherit.
    pub fn new(format: Format, body: Bytes, mut jobs: Vec<NewJob>, trace: Option<Box<Trace>>) -> Self {
        if let Some(trace) = &trace {
            jobs.iter_mut().for_each(|job| job.inherit(trace));
        }
        let (mut seen, mut drawing) = (HashSet::default(), Vec::new());
        for (i, job) in jobs.iter().enumerate() {
            if let Some(flow) = job.flow.as_ref().filter(|flow| !flow.budgets.is_empty())
                && seen.insert((&flow.budgets, &job.create_budgets))
            {
                drawing.push((i, job.clone()));
            }
        }
        let number = jobs.len();
        Self { format, body, trace, number, slices: slices(jobs), drawing }
    }

    /// Parses a stored body again, as received at the time `now`.
    ///
    /// # Errors
    /// [`EnqueueError`] if the body is not valid for `POST /jobs/bulk`.
    pub fn parse(
        format: Format,
        body: Bytes,
        now: u64,
        trace: Option<Box<Trace>>,
    ) -> Result<Self, EnqueueError> {
        let jobs = parse_bulk(format, &body, now)?.jobs;
        Ok(Self::new(format, body, jobs, trace))
    }

    /// The number of jobs.
    pub const fn number(&self) -> usize {
        self.number
    }

    /// The jobs, in order.
    #[cfg(test)]
    pub fn jobs(&self) -> Vec<NewJob> {
        self.slices.iter().flatten().cloned().collect()
    }

    pub(crate) fn skip(&mut self, mut jobs: usize) {
        while let Some(slice) = self.slices.front_mut() {
            if jobs < slice.len() {
                slice.drain(..jobs);
                return;
            }
            jobs -= slice.len();
            self.slices.pop_front();
        }
    }

    pub(crate) fn part(&self, n: u32) -> Option<&[u8]> {
        self.body.chunks(PART_BYTES).nth(n as usize)
    }
}

fn slices(jobs: Vec<NewJob>) -> VecDeque<Vec<NewJob>> {
    let (mut slices, mut slice, mut bytes) = (VecDeque::new(), Vec::new(), 0);
    for job in jobs {
        bytes += job.payload.bytes().len();
        slice.push(job);
        if slice.len() >= SLICE_JOBS || bytes >= SLICE_BYTES {
            slices.push_back(mem::take(&mut slice));
            bytes = 0;
        }
    }
    if !slice.is_empty() {
        slices.push_back(slice);
    }
    slices
}
