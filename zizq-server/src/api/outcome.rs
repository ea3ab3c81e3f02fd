//! `POST /jobs/{id}/success`, `POST /jobs/success`, `POST /jobs/{id}/failure`.

use protocol::body;
use protocol::encode;
use protocol::given::Given;
use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::object::Object;
use protocol::outcome::{self, Failure, LeasedJob, MAX_RESULT_BYTES, NotDone};
use protocol::time;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::App;
use super::claim;
use super::named::{GivenJob, Named};
use crate::clock;
use crate::engine::command::jobs::{Fail, Failed, Succeed, SucceedWith};
use crate::http::reply::{self, Answer, Refusal, Success};
use crate::http::request::Request;

pub(crate) async fn succeed(app: &App, request: &Request) -> Answer {
    let result = outcome::parse_success(request.body_format()?, &request.body)?;
    let mut query = request.query()?;
    let lease = request.lease(&mut query)?;
    query.finish()?;
    if let Some(size) = result.as_ref().map(|r| r.bytes().len()).filter(|size| *size > MAX_RESULT_BYTES) {
        let error = format!("result: it has {size} bytes; the limit is {MAX_RESULT_BYTES}");
        return Err(Refusal::too_large(error));
    }
    let job = LeasedJob { id: request.job_id()?, lease };
    let not_done = match result {
        None => app.engine.ask(Succeed(vec![job])).await?,
        Some(result) => app.engine.ask(SucceedWith { job, result }).await?,
    };
    claim::check(job, &not_done)?;
    Ok(reply::no_content())
}

/// [`protocol::outcome::Successes`], with elements that must be objects.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Successes {
    #[serde(default)]
    ids: Option<Vec<Given<JobId>>>,
    #[serde(default)]
    jobs: Option<Vec<Object<Done>>>,
}

/// A [`LeasedJob`] that succeeded.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    id: Given<JobId>,
    #[serde(default)]
    lease: Option<Given<LeaseToken>>,
    /// The resources that the run used. Workers send it, but it is not kept so far.
    #[serde(default, rename = "usage")]
    _usage: IgnoredAny,
}

pub(crate) async fn succeed_bulk(app: &App, request: &Request) -> Answer {
    let body: Successes =
        body::parse_tolerant_known(request.body_format()?, &request.body, &["ids", "jobs"])?;
    request.no_query()?;
    if body.ids.is_none() && body.jobs.is_none() {
        return Err(Refusal::invalid("the body: expected `ids` or `jobs`"));
    }
    let with_tokens = body.jobs.into_iter().flatten().map(|Object(Done { id, lease, .. })| (id, lease));
    let without = body.ids.into_iter().flatten().map(|id| (id, None));
    let given: Vec<GivenJob> = with_tokens.chain(without).collect();
    check_length(given.len())?;
    let named = Named::sort(given.into_iter().map(|job| (job, ())), |job, ()| job);
    let mut named = named.within(app, request, |job| job.id).await?;
    let not_done = app.engine.ask(Succeed(std::mem::take(&mut named.jobs))).await?;
    bulk_answer(request, &named.not_done(not_done))
}

pub(crate) async fn fail(app: &App, request: &Request) -> Answer {
    let failure = outcome::parse_failure(request.body_format()?, &request.body)?;
    let mut query = request.query()?;
    let lease = request.lease(&mut query)?;
    query.finish()?;
    // The delay starts when the engine handles the command.
    time::resolve(failure.retry_at, "retry_at", failure.delay_ms, clock::now().wall)
        .map_err(Refusal::invalid)?;
    let failure = Failure {
        message: cut(failure.message),
        backtrace: failure.backtrace.map(cut),
        error_type: failure.error_type.map(cut),
        ..failure
    };
    let job = LeasedJob { id: request.job_id()?, lease };
    let failed = app.engine.ask(Fail { job, failure }).await;
    let Failed { job, queue } = failed.map_err(|error| claim::refused(job, error))?;
    let mut body = Vec::with_capacity(512);
    encode::write_job(&mut body, request.format, &job.view(&queue, job.status), None);
    Ok(reply::bytes(Success::Done, request.format, body))
}

/// Cuts a text that is stored with every attempt.
fn cut(mut text: String) -> String {
    const MAX_BYTES: usize = 64 * 1024;
    text.truncate(text.floor_char_boundary(MAX_BYTES));
    text
}

/// Refuses a list so long that it would delay other calls.
pub(super) fn check_length(jobs: usize) -> Result<(), Refusal> {
    const MAX_JOBS: usize = 10_000;
    if jobs <= MAX_JOBS {
        return Ok(());
    }
    Err(Refusal::too_large(format!("jobs: {jobs} are too many for one call; the limit is {MAX_JOBS}")))
}

/// Returns 204 if everything was done, else 422 with the jobs that were not.
pub(super) fn bulk_answer(request: &Request, not_done: &NotDone<Given<JobId>>) -> Answer {
    if not_done.not_found.is_empty() && not_done.lost.is_empty() {
        return Ok(reply::no_content());
    }
    Ok(reply::not_done(request.format, not_done))
}
