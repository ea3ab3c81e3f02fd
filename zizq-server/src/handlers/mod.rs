//! One file per group of calls: request to command, reply to body.

pub(crate) mod budgets;
pub(crate) mod change;
mod claim;
pub(crate) mod crons;
pub(crate) mod enqueue;
pub(crate) mod errors;
pub(crate) mod events;
mod filters;
mod follow;
pub(crate) mod lease;
mod listing;
pub(crate) mod log;
pub(crate) mod look;
mod named;
pub(crate) mod once;
pub(crate) mod outcome;
mod page;
mod position;
pub(crate) mod queues;
pub(crate) mod server;
pub(crate) mod take;
mod wait;

use protocol::error::Code;

use crate::folder::Refused;
use crate::http::reply::Refusal;
use crate::jq::JqError;
use crate::reader::ReadError;

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
