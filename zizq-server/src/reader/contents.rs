//! What a look shows of the payload and the result of a job: all, the beginning, or how long they are.

use std::sync::Arc;

use bytes::Bytes;
use protocol::media::Format;
use protocol::payload::Payload;

use crate::engine::command::jobs::Seen;

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    Full,
    /// As JSON, at most this many bytes of each.
    Preview(usize),
    /// Only the lengths.
    Lengths,
}

/// A job to be shown.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub seen: Seen,
    /// What is shown in place of payload and result, which the job has no longer.
    pub short: Option<Short>,
}

#[derive(Debug, Clone)]
pub(crate) struct Short {
    pub payload: Excerpt,
    pub result: Option<Excerpt>,
}

#[derive(Debug, Clone)]
pub(crate) struct Excerpt {
    /// The length of the whole, as it was received.
    pub bytes: usize,
    pub preview: Option<String>,
}

impl Contents {
    /// Whether the payload must be read.
    pub(super) const fn needs_payload(self) -> bool {
        !matches!(self, Self::Lengths)
    }

    /// Shortens what a job has.
    pub(crate) fn of(self, mut seen: Seen) -> Shown {
        if self == Self::Full {
            return Shown { seen, short: None };
        }
        let job = Arc::make_mut(&mut seen.job);
        let none = Payload::from_checked(Format::Json, Bytes::new());
        let payload = std::mem::replace(&mut job.payload, none);
        let short = Short {
            payload: self.excerpt(&payload, job.left_bytes),
            result: job.result.take().map(|result| self.excerpt(&result, 0)),
        };
        Shown { seen, short: Some(short) }
    }

    /// `left`: the bytes that were not read.
    fn excerpt(self, whole: &Payload, left: usize) -> Excerpt {
        let preview = match self {
            Self::Preview(most) => Some(whole.preview(most)),
            Self::Full | Self::Lengths => None,
        };
        Excerpt { bytes: whole.bytes().len() + left, preview }
    }
}

impl Shown {
    /// The approximate memory, in bytes.
    pub(super) fn weight(&self) -> usize {
        let excerpts = self.short.iter().flat_map(|short| [Some(&short.payload), short.result.as_ref()]);
        let previews = excerpts.flatten().filter_map(|excerpt| excerpt.preview.as_ref());
        self.seen.job.weight() + previews.map(String::len).sum::<usize>()
    }
}
