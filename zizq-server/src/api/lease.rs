//! `POST /jobs/{id}/heartbeat`, `POST /jobs/heartbeat`, `POST /jobs/{id}/release`, `POST /jobs/release`.

use protocol::body;
use protocol::given::Given;
use protocol::id::JobId;
use protocol::lease::{
    Heartbeat, HeartbeatReply, HeartbeatsReply, JobHeartbeat, JobRelease, LeaseToken, MAX_LEASE_MS,
    MAX_REASON_BYTES, MIN_LEASE_MS, Release,
};
use protocol::object::Object;
use protocol::outcome::{LeasedJob, NotDone};
use protocol::time;
use serde::Deserialize;

use super::App;
use super::claim;
use super::named::Named;
use super::outcome::{bulk_answer, check_length};
use crate::clock;
use crate::engine::command::jobs::{self, Renewed};
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
#[serde(deny_unknown_fields)]
struct Bulk<T> {
    jobs: Vec<Object<T>>,
}

pub(crate) async fn heartbeat(app: &App, request: &Request) -> Answer {
    let beat: Heartbeat = body::parse_optional(request.body_format()?, &request.body)?;
    let lease = only_lease(request)?;
    let job = LeasedJob { id: request.job_id()?, lease };
    let Heartbeat { lease_ms, progress, message } = beat;
    check(lease_ms, progress, "")?;
    let beat = JobHeartbeat { id: job.id, lease, lease_ms, progress, message };
    let Renewed { jobs, not_done } = app.engine.ask(jobs::Heartbeat(vec![beat])).await?;
    claim::check(job, &not_done)?;
    let lease_expires_at = jobs.first().and_then(|renewed| renewed.lease_expires_at);
    Ok(reply::ok(request.format, &HeartbeatReply { id: job.id, lease_expires_at, cancel: false }))
}

pub(crate) async fn heartbeat_bulk(app: &App, request: &Request) -> Answer {
    let body: Bulk<JobHeartbeat<Given<JobId>, Given<LeaseToken>>> =
        body::parse(request.body_format()?, &request.body)?;
    request.no_query()?;
    check_length(body.jobs.len())?;
    for (i, Object(beat)) in body.jobs.iter().enumerate() {
        check(beat.lease_ms, beat.progress, &format!("jobs[{i}]: "))?;
    }
    let given = body.jobs.into_iter().map(|Object(beat)| {
        let JobHeartbeat { id, lease, lease_ms, progress, message } = beat;
        ((id, lease), (lease_ms, progress, message))
    });
    let named = Named::sort(given, |LeasedJob { id, lease }, (lease_ms, progress, message)| JobHeartbeat {
        id,
        lease,
        lease_ms,
        progress,
        message,
    });
    let mut named = named.within(app, request, |job| job.id).await?;
    let Renewed { jobs, not_done } = app.engine.ask(jobs::Heartbeat(std::mem::take(&mut named.jobs))).await?;
    let NotDone { not_found, mut lost } = named.not_done(not_done);
    // To a worker both mean that it must stop the job.
    lost.extend(not_found);
    Ok(reply::ok(request.format, &HeartbeatsReply { jobs, lost, cancel: Vec::new() }))
}

fn check(lease_ms: Option<u64>, progress: Option<f64>, place: &str) -> Result<(), Refusal> {
    if let Some(ms) = lease_ms.filter(|ms| !(MIN_LEASE_MS..=MAX_LEASE_MS).contains(ms)) {
        let range = format!("{MIN_LEASE_MS} to {MAX_LEASE_MS}");
        return Err(Refusal::invalid(format!("{place}lease_ms: {ms} is out of range {range}")));
    }
    if let Some(progress) = progress.filter(|p| !(0.0..=1.0).contains(p)) {
        return Err(Refusal::invalid(format!("{place}progress: {progress} is out of range 0 to 1")));
    }
    Ok(())
}

pub(crate) async fn release(app: &App, request: &Request) -> Answer {
    let Release { ready_at, delay_ms, reason } = body::parse_optional(request.body_format()?, &request.body)?;
    let lease = only_lease(request)?;
    let ready_at = resolve(ready_at, delay_ms, "")?;
    let job = LeasedJob { id: request.job_id()?, lease };
    let reason = reason.map(kept);
    let release = JobRelease { id: job.id, lease, ready_at, delay_ms: None, reason };
    claim::check(job, &app.engine.ask(jobs::Release(vec![release])).await?)?;
    Ok(reply::no_content())
}

pub(crate) async fn release_bulk(app: &App, request: &Request) -> Answer {
    let body: Bulk<JobRelease<Given<JobId>, Given<LeaseToken>>> =
        body::parse(request.body_format()?, &request.body)?;
    request.no_query()?;
    check_length(body.jobs.len())?;
    let mut given = Vec::with_capacity(body.jobs.len());
    for (i, Object(job)) in body.jobs.into_iter().enumerate() {
        let ready_at = resolve(job.ready_at, job.delay_ms, &format!("jobs[{i}]: "))?;
        given.push(((job.id, job.lease), (ready_at, job.reason.map(kept))));
    }
    let named = Named::sort(given.into_iter(), |LeasedJob { id, lease }, (ready_at, reason)| JobRelease {
        id,
        lease,
        ready_at,
        delay_ms: None,
        reason,
    });
    let mut named = named.within(app, request, |job| job.id).await?;
    let not_done = app.engine.ask(jobs::Release(std::mem::take(&mut named.jobs))).await?;
    bulk_answer(request, &named.not_done(not_done))
}

/// Resolves the time at which a released job becomes ready.
fn resolve(ready_at: Option<u64>, delay_ms: Option<u64>, place: &str) -> Result<Option<u64>, Refusal> {
    let time = time::resolve(ready_at, "ready_at", delay_ms, clock::now().wall);
    time.map_err(|error| Refusal::invalid(format!("{place}{error}")))
}

/// Cuts a reason to the length that is kept.
fn kept(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
    reason
}

fn only_lease(request: &Request) -> Result<Option<LeaseToken>, Refusal> {
    let mut query = request.query()?;
    let lease = request.lease(&mut query)?;
    query.finish()?;
    Ok(lease)
}
