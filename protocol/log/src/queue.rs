//! The bounded queue between the code that logs and the thread that writes.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes that wait, and the most that are being written.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// How much buffer memory is kept for later lines.
const KEPT_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines that did not fit.
    dropped: u64,
    is_writing: bool,
    /// The writer was woken for something other than lines.
    is_called: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > MAX_BYTES {
            state.dropped = state.dropped.saturating_add(1);
            return;
        }
        state.waiting.extend_from_slice(line);
        drop(state);
        self.changed.notify_all();
    }

    /// Wakes the writer.
    pub(crate) fn call(&self) {
        self.lock().is_called = true;
        self.changed.notify_all();
    }

    /// Waits for lines, or until something else is due, and replaces the contents of `lines` by them. Returns how many
    /// lines were dropped after them.
    pub(crate) fn next(&self, lines: &mut Vec<u8>, due: impl Fn() -> Option<Instant>) -> u64 {
        lines.clear();
        lines.shrink_to(KEPT_BYTES);
        let mut state = self.lock();
        (state.is_writing, state.is_called) = (false, false);
        self.changed.notify_all();
        let is_idle = |state: &mut State| state.waiting.is_empty() && state.dropped == 0 && !state.is_called;
        // IMPORTANT: `due` is computed after `is_called` was reset, so that no call is missed.
        state = match due() {
            None => self.changed.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner),
            Some(due) => {
                let time = due.saturating_duration_since(Instant::now());
                let waited = self.changed.wait_timeout_while(state, time, is_idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.is_writing = !state.waiting.is_empty();
        mem::swap(&mut state.waiting, lines);
        mem::take(&mut state.dropped)
    }

    /// Waits until everything is written, within a time limit. Returns whether it is.
    pub(crate) fn wait_until_empty(&self, most: Duration) -> bool {
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty() || state.dropped > 0;
        let waited = self.changed.wait_timeout_while(self.lock(), most, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}
