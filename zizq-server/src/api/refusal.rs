//! What the parts of the server refuse becomes an answer.

use protocol::enqueue::EnqueueError;
use protocol::error::Code;
use protocol::patch::PatchError;

use crate::batching::Refused;
use crate::http::reply::Refusal;
use crate::jq::JqError;
use crate::reader::ReadError;
use crate::run::handle::CallError;
use crate::store::StoreError;

impl From<EnqueueError> for Refusal {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Malformed(malformed) => malformed.into(),
            EnqueueError::NotAllowed(error) => Self::not_allowed(error),
        }
    }
}

impl From<PatchError> for Refusal {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(malformed) => malformed.into(),
            PatchError::Invalid(error) => Self::not_allowed(error),
        }
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Closed) {
            return CallError::StoreClosed.into();
        }
        tracing::error!(%error, "cannot read the store");
        Self::new(Code::StoreUnreadable, "the store cannot be read; the server's log says why")
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => error.into(),
            ReadError::Engine(error) => error.into(),
            ReadError::Busy(error) => Self::busy(error.to_string()),
            ReadError::Jq(error) => match error {
                JqError::Invalid(_) => Self::new(Code::InvalidFilter, error.to_string()),
                JqError::NoCondition(_) | JqError::Stopped(_) => {
                    Self::new(Code::FilterFailed, error.to_string())
                }
                JqError::Busy(_) => Self::busy(error.to_string()),
                JqError::Unavailable(_) => {
                    tracing::error!(%error, "no jq helper");
                    Self::unavailable(error.to_string())
                }
            },
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Job { error, .. } => Self::not_allowed(error),
            Refused::Engine(error) => error.into(),
            Refused::Busy(error) => Self::busy(error.to_string()),
            Refused::Unavailable(error) => {
                tracing::error!(%error, "cannot fold");
                Self::unavailable(error)
            }
        }
    }
}

/// The engine answered something that does not belong to the command: a defect of this server.
pub(crate) fn out_of_step() -> Refusal {
    tracing::error!("a reply of the engine does not fit its command");
    Refusal::unavailable("the server is out of step; try again")
}
