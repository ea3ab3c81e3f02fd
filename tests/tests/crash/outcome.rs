//! Reporting how jobs ended, and what the answers mean.

use std::collections::HashSet;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::fate::End;
use crate::ledger::Delivery;
use crate::link::{Answered, Link};
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

/// Reports single outcomes: failures and kills, and successes one by one.
pub(crate) async fn report(world: &World, link: &Link, job: &Delivery) {
    let fate = job.fate();
    let (path, body) = if job.attempts < fate.fails {
        ("failure", json!({"message": "try again", "retry_at": 1}))
    } else if fate.end == End::Kill {
        ("failure", json!({"message": "killed", "kill": true}))
    } else {
        ("success", Value::Null)
    };
    let last = job.attempts >= fate.fails;
    let mut sent_before = false;
    loop {
        world.ledger.sending(job, last);
        let path = format!("/jobs/{}/{path}", job.id);
        let call = if body.is_null() { link.client().poke(&path) } else { link.client().post(&path, &body) };
        let call = call.header("zizq-lease", &job.lease.to_string());
        if let Some(answer) = link.send(world, call).await {
            let expected = if body.is_null() { StatusCode::NO_CONTENT } else { StatusCode::OK };
            let accepted = answer.status == expected;
            return settle(world, job, &Settled { accepted, last, sent_before, answer: &answer });
        }
        world.ledger.unanswered();
        // A lease of its own may have outlived the server; that of a stream has not.
        if job.to.leases() == Leases::Stream || !world.working() {
            return;
        }
        sent_before = true;
    }
}

/// Reports successes in one call.
pub(crate) async fn succeed_all(world: &World, link: &Link, jobs: &[Delivery]) {
    jobs.iter().for_each(|job| world.ledger.sending(job, true));
    let list: Vec<_> = jobs.iter().map(|job| json!({"id": job.id, "lease": job.lease})).collect();
    let call = link.client().post("/jobs/success", &json!({"jobs": list}));
    let Some(answer) = link.send(world, call).await else { return world.ledger.unanswered() };
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
        settle(world, job, &Settled { accepted, last: true, sent_before: false, answer: &answer });
    }
}

struct Settled<'a> {
    accepted: bool,
    /// It was to be the last word on the job.
    last: bool,
    /// The same was sent before, and not answered.
    sent_before: bool,
    answer: &'a Answered,
}

fn settle(world: &World, job: &Delivery, settled: &Settled<'_>) {
    let killed = world.first_kill_after(job.at);
    let old_enough = killed.is_some_and(|kill| kill - job.at > WRITTEN_DOWN);
    let outlived = job.to.leases() == Leases::Own && old_enough;
    if settled.accepted {
        if outlived {
            world.ledger.survived();
        }
        if settled.last {
            world.ledger.ended(job, settled.answer.same_server.then(|| world.generation()))
        } else {
            world.ledger.failed(job)
        }
        return;
    }
    let lost_in_crash = world.generation() != job.generation && !outlived;
    // What was sent before and not answered may have been done.
    let excused = lost_in_crash || settled.sent_before;
    world.ledger.refused(job, excused, &format!("{:?}, old lease: {outlived}", settled.answer));
}
