//! Reporting how jobs ended, and what the answers mean.

use std::collections::HashSet;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tests::client::Call;

use crate::fate::End;
use crate::ledger::Delivery;
use crate::link::{Answered, Gone, Link};
use crate::worker::LEASE_MS;
use crate::world::World;

/// A lease that is as old as this when the server dies must be on disk; the contract says one second.
const WRITTEN_DOWN: Duration = Duration::from_secs(2);

/// Whether a worker's leases end with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leases {
    /// NDJSON and MessagePack streams.
    Stream,
    /// Event streams and long-poll.
    Own,
}

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// A failure after which the job goes on.
    Failure,
    Release,
    Renewal,
    /// The last word on the job.
    End,
}

/// Reports single outcomes: releases, failures, kills and deletions, and successes one by one. False where there was no
/// answer; as long as its stream is open the job is then with a worker who has let it go.
pub(crate) async fn report(world: &World, link: &Link, job: &Delivery) -> bool {
    let fate = job.fate();
    if world.ledger.releases(job) {
        return tell(world, link, job, What::Release, "release", &Value::Null).await;
    }
    if job.attempts < fate.fails {
        let failure = json!({"message": "try again", "retry_at": 1});
        return tell(world, link, job, What::Failure, "failure", &failure).await;
    }
    match fate.end {
        End::Kill => {
            let kill = json!({"message": "killed", "kill": true});
            tell(world, link, job, What::End, "failure", &kill).await
        }
        End::Success => tell(world, link, job, What::End, "success", &Value::Null).await,
        End::Delete => delete(world, link, job).await,
    }
}

/// Renews a lease.
pub(crate) async fn renew(world: &World, link: &Link, job: &Delivery) {
    tell(world, link, job, What::Renewal, "heartbeat", &json!({"lease_ms": LEASE_MS})).await;
}

async fn tell(world: &World, link: &Link, job: &Delivery, what: What, call: &str, body: &Value) -> bool {
    let path = format!("/jobs/{}/{call}", job.id);
    let request = || {
        let call = if body.is_null() { link.client().poke(&path) } else { link.client().post(&path, body) };
        call.header("zizq-lease", &job.lease.to_string())
    };
    let Some((answer, sent_before)) = insist(world, link, std::slice::from_ref(job), what, request).await
    else {
        return false;
    };
    let expected = if body.is_null() { StatusCode::NO_CONTENT } else { StatusCode::OK };
    let accepted = answer.status == expected;
    settle(world, job, &Settled { accepted, what, sent_before, answer: &answer });
    true
}

async fn delete(world: &World, link: &Link, job: &Delivery) -> bool {
    let path = format!("/jobs/{}", job.id);
    let request = || {
        world.ledger.deleting(job);
        link.client().delete(&path)
    };
    let Some((answer, sent_before)) =
        insist(world, link, std::slice::from_ref(job), What::End, request).await
    else {
        return false;
    };
    match answer.status {
        StatusCode::NO_CONTENT => world.ledger.ended(job, world.generation()),
        _ => {
            let excused = sent_before || world.ledger.deleted_by_another(job);
            world.ledger.refused(job, excused, &format!("{answer:?}"));
        }
    }
    true
}

/// Reports successes in one call; as [`report`].
pub(crate) async fn succeed_all(world: &World, link: &Link, jobs: &[Delivery]) -> bool {
    let list: Vec<_> = jobs.iter().map(|job| json!({"id": job.id, "lease": job.lease})).collect();
    let body = json!({"jobs": list});
    let request = || link.client().post("/jobs/success", &body);
    let Some((answer, sent_before)) = insist(world, link, jobs, What::End, request).await else {
        return false;
    };
    let refused: HashSet<&str> = ["not_found", "lost"]
        .iter()
        .filter_map(|member| answer.body[*member].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let known = match answer.status {
        StatusCode::NO_CONTENT => true,
        StatusCode::UNPROCESSABLE_ENTITY => !refused.is_empty(),
        _ => false,
    };
    world.ledger.law(known, || format!("bulk success: {answer:?}"));
    for job in jobs {
        let accepted = known && !refused.contains(job.id.as_str());
        settle(world, job, &Settled { accepted, what: What::End, sent_before, answer: &answer });
    }
    true
}

/// Sends until there is an answer, as long as the leases may have outlived the server; says whether an earlier try may
/// have got through.
async fn insist<'a>(
    world: &World,
    link: &Link,
    jobs: &[Delivery],
    what: What,
    request: impl Fn() -> Call<'a>,
) -> Option<(Answered, bool)> {
    let mut sent_before = false;
    while world.working() {
        jobs.iter().filter(|_| what == What::Failure).for_each(|job| world.ledger.failing(job));
        match link.send(world, request()).await {
            Ok(answer) => return Some((answer, sent_before)),
            Err(Gone::Unanswered) => {
                jobs.iter().for_each(|job| world.ledger.unanswered(job, what == What::End));
                sent_before = true;
            }
            Err(Gone::NotSent) => {}
        }
        if jobs.iter().any(|job| job.to.leases() == Leases::Stream) {
            break;
        }
    }
    None
}

struct Settled<'a> {
    accepted: bool,
    what: What,
    /// The same was sent before, and not answered.
    sent_before: bool,
    answer: &'a Answered,
}

fn settle(world: &World, job: &Delivery, settled: &Settled<'_>) {
    let killed = world.killed(job.generation);
    let old_enough = killed.is_some_and(|kill| kill.saturating_duration_since(job.at) > WRITTEN_DOWN);
    let outlived = job.to.leases() == Leases::Own && old_enough;
    if settled.accepted {
        if outlived {
            world.ledger.survived();
        }
        match settled.what {
            What::Failure => world.ledger.failed(job),
            What::Release => world.ledger.released(job),
            What::Renewal => world.ledger.renewed(job),
            What::End => world.ledger.ended(job, world.generation()),
        }
        return;
    }
    let lost_in_crash = world.generation() != job.generation && !outlived;
    // What was sent before and not answered may have been done.
    let excused = lost_in_crash || settled.sent_before || world.ledger.deleted_by_another(job);
    world.ledger.refused(job, excused, &format!("{:?}, old lease: {outlived}", settled.answer));
}
