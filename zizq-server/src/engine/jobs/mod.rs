//! The life of jobs, from enqueue to end, and what is kept of them beside their records.

pub(crate) mod answers;
pub(super) mod backoff;
pub(super) mod batches;
pub(super) mod bulks;
mod change;
mod enqueue;
pub(super) mod listeners;
pub(super) mod outcome;
mod payloads;
pub(super) mod tags;
pub(super) mod timers;
pub(super) mod transition;
mod unique;
