//! Counts how expressions end.

use super::JqError;
use crate::meter::Counter;

/// How an expression ended, over all its payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    /// It is not valid jq, or no condition where one is needed.
    Invalid,
    /// It exceeded its limits, or its caller has gone away.
    Stopped,
    /// It did not get its turn in time.
    Busy,
    Unavailable,
}

impl From<&JqError> for End {
    fn from(error: &JqError) -> Self {
        match error {
            JqError::Invalid(_) | JqError::NoCondition(_) => Self::Invalid,
            JqError::Stopped(_) => Self::Stopped,
            JqError::Busy(_) => Self::Busy,
            JqError::Unavailable(_) => Self::Unavailable,
        }
    }
}

/// How many expressions ended how.
#[derive(Debug, Default)]
pub(crate) struct Runs([Counter; 5]);

impl Runs {
    pub(super) fn count(&self, end: End) {
        let [done, invalid, stopped, busy, unavailable] = &self.0;
        let counter = match end {
            End::Done => done,
            End::Invalid => invalid,
            End::Stopped => stopped,
            End::Busy => busy,
            End::Unavailable => unavailable,
        };
        counter.add(1);
    }

    /// The counts, with the names of the ends.
    pub(crate) fn get(&self) -> [(&'static str, u64); 5] {
        let [done, invalid, stopped, busy, unavailable] = self.0.each_ref().map(Counter::get);
        [
            ("done", done),
            ("invalid", invalid),
            ("stopped", stopped),
            ("busy", busy),
            ("unavailable", unavailable),
        ]
    }
}
