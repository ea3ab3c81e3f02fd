//! Answers to workers that report on a job they do not hold.

use protocol::error::Code;
use protocol::outcome::{LeasedJob, NotDone};

use crate::engine::command::Reject;
use crate::http::reply::Refusal;
use crate::run::handle::CallError;

/// Refuses a report on one job that was not done.
pub(super) fn check(job: LeasedJob, not_done: &NotDone) -> Result<(), Refusal> {
    match not_done {
        NotDone { lost, .. } if !lost.is_empty() => Err(lease_lost(job)),
        NotDone { not_found, .. } if !not_found.is_empty() => Err(not_in_flight(job)),
        _ => Ok(()),
    }
}

/// Turns an error of a call on one job into a refusal, which names the job where the error is about it.
pub(super) fn refused(job: LeasedJob, error: CallError) -> Refusal {
    match error {
        CallError::Rejected(Reject::NotFound) => not_in_flight(job),
        CallError::Rejected(Reject::LeaseLost) => lease_lost(job),
        error => error.into(),
    }
}

fn not_in_flight(job: LeasedJob) -> Refusal {
    Refusal::new(Code::NotInFlight, format!("job `{}` does not exist or is not in flight", job.id))
}

fn lease_lost(job: LeasedJob) -> Refusal {
    let error = format!("job `{}`: the lease has expired, and the job was delivered again", job.id);
    Refusal::new(Code::LeaseLost, error)
}
