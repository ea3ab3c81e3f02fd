//! Converts errors from other parts of the server into refusals.

use protocol::enqueue::EnqueueError;
use protocol::error::Code;
use protocol::id::JobId;
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
            ReadError::Stopped => Self::busy(error.to_string()),
            ReadError::Jq(error) => match error {
                JqError::Invalid(_) => Self::new(Code::InvalidFilter, error.to_string()),
                JqError::NoCondition(_) | JqError::Stopped(_) => {
                    Self::new(Code::FilterFailed, error.to_string())
                }
                JqError::Busy(_) => Self::busy(error.to_string()),
                JqError::Unavailable(_) => {
                    tracing::error!(%error, "the jq helper is unavailable");
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
                tracing::error!(%error, "cannot fold jobs");
                Self::unavailable(error)
            }
        }
    }
}

/// The job does not exist. It may have been deleted, which users do not expect of a job that has just completed.
pub(super) fn no_job(id: JobId) -> Refusal {
    Refusal::not_found(format!(
        "no job has the id `{id}`; completed jobs are deleted at once unless the server keeps them \
         (--default-completed-job-retention)"
    ))
}

/// The engine's reply does not belong to the command: a defect of this server.
pub(crate) fn out_of_step() -> Refusal {
    tracing::error!("the engine's reply does not match its command");
    Refusal::unavailable("internal error: the engine's reply does not match its command; try again")
}
