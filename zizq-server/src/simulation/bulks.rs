//! Bulks that take several turns: all of their jobs come, or none.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail, ensure};
use protocol::budget::Binding;
use protocol::enqueue::{EnqueueError, NewJob};
use protocol::id::JobId;
use protocol::media::Format;
use serde_json::{Map, Value, json};

use super::act::Act;
use super::ledger::Ledger;
use super::model::Model;
use crate::engine::command::jobs::{Enqueued, Outcome};
use crate::engine::command::{Reject, Reply};
use crate::job::Job;
use crate::job::bulk::NewBulk;
use crate::job::id::Stamp;
use crate::run::turn::Answer;
use crate::store::{Snapshot, bulk};

#[derive(Debug, Clone, Default)]
pub(super) struct Bulks {
    /// The first is being taken in.
    coming: VecDeque<Coming>,
    /// The bulk that had to be given up when everything was deleted.
    given_up: Option<Stamp>,
}

#[derive(Debug, Clone)]
struct Coming {
    id: Stamp,
    jobs: Vec<NewJob>,
    /// How many of its jobs are there, once it is accepted.
    accepted: Option<usize>,
    /// What became of its jobs so far: the job, or those one of which is named in its place.
    enqueued: Vec<(Vec<JobId>, Outcome)>,
    /// Whether a caller waits for the answer.
    awaited: bool,
}

impl Bulks {
    pub(super) fn is_any_coming(&self) -> bool {
        !self.coming.is_empty()
    }

    pub(super) fn reset(&mut self) {
        if self.coming.front().is_some_and(|bulk| bulk.accepted.is_some()) {
            self.given_up = self.coming.pop_front().filter(|bulk| bulk.awaited).map(|bulk| bulk.id);
        }
    }

    /// Keeps what was accepted, which goes on, and nothing else.
    pub(super) fn restart(&mut self) {
        self.coming.retain(|bulk| bulk.accepted.is_some());
        self.coming.iter_mut().for_each(|bulk| bulk.awaited = false);
    }

    /// Returns what accepted bulks draw on budgets.
    pub(super) fn draws(&self) -> impl Iterator<Item = &Binding> {
        let jobs = self.coming.iter().filter(|bulk| bulk.accepted.is_some()).flat_map(|bulk| &bulk.jobs);
        jobs.filter_map(|job| job.flow.as_ref()).flat_map(|flow| &flow.budgets)
    }
}

impl Model {
    pub(super) fn enqueue_bulk(&mut self, bulk: &NewBulk, answer: &Answer) -> Result<()> {
        if self.draining {
            ensure!(matches!(answer, Err(Reject::Draining)), "draining, but answered {answer:?}");
            return Ok(());
        }
        let Ok(Reply::Later(id)) = answer else { bail!("answered {answer:?}") };
        let (jobs, enqueued) = (bulk.jobs(), Vec::new());
        self.bulks.coming.push_back(Coming { id: *id, jobs, accepted: None, enqueued, awaited: true });
        Ok(())
    }

    /// Takes one step with the bulk that is being taken in, as far as the store has come with it.
    pub(super) fn take_in_bulk(
        &mut self,
        snapshot: &impl Snapshot,
        late: Vec<(Stamp, Answer)>,
    ) -> Result<()> {
        let mut late = late.into_iter();
        if let Some(id) = self.bulks.given_up.take() {
            let said = late.next();
            ensure!(matches!(&said, Some((of, Err(Reject::Conflict(_)))) if *of == id), "answered {said:?}");
        }
        if let Some(bulk) = self.bulks.coming.front() {
            let (id, accepted, jobs) = (bulk.id, bulk.accepted, bulk.jobs.clone());
            let record = bulk::records(snapshot)?.get(&id).copied();
            match (accepted, record) {
                (None, Some(record)) => {
                    ensure!(record.done == 0, "{record:?} has only now been accepted");
                    ensure!(self.prepare_budgets(&jobs), "it draws on what is not there");
                    self.accepted(Some(0))?;
                }
                (None, None) => {
                    if let Some((of, answer)) = late.next() {
                        let refused = matches!(answer, Err(Reject::Job { .. } | Reject::NotAllowed(_)));
                        ensure!(of == id && refused && !self.prepare_budgets(&jobs), "answered {answer:?}");
                        self.bulks.coming.pop_front();
                    }
                }
                (Some(before), record) => {
                    let done = record.map_or(jobs.len(), |record| record.done);
                    ensure!(done > before || jobs.is_empty(), "it stands still at {done} jobs");
                    self.take_slice(&jobs[before..done], &Ledger::read(snapshot)?)?;
                    self.accepted(record.map(|_| done))?;
                    if record.is_none() {
                        self.finish_bulk(late.next())?;
                    }
                }
            }
        }
        let more = late.next();
        ensure!(more.is_none(), "no caller waits for {more:?}");
        Ok(())
    }

    fn accepted(&mut self, done: Option<usize>) -> Result<()> {
        self.bulks.coming.front_mut().context("it is coming")?.accepted = done;
        Ok(())
    }

    /// Takes in the next jobs of an accepted bulk.
    fn take_slice(&mut self, slice: &[NewJob], ledger: &Ledger) -> Result<()> {
        let new: Vec<Job> = ledger.jobs.values().filter(|job| self.last_id < Some(job.id)).cloned().collect();
        let (mut new, mut enqueued) = (new.into_iter(), Vec::new());
        for asked in slice {
            let keepers = self.keepers(asked);
            if !keepers.is_empty() {
                enqueued.push((keepers, Outcome::Duplicate));
                continue;
            }
            let job = new.next().context("a job of a bulk is missing")?;
            enqueued.push((vec![job.id], Outcome::Created));
            let queue = ledger.queues.get(&job.queue).context("its queue is there")?.name.clone();
            self.admit_new(asked, job, queue)?;
        }
        ensure!(new.next().is_none(), "a job that no act enqueued");
        self.bulks.coming.front_mut().context("it is coming")?.enqueued.extend(enqueued);
        Ok(())
    }

    fn finish_bulk(&mut self, said: Option<(Stamp, Answer)>) -> Result<()> {
        let bulk = self.bulks.coming.pop_front().context("it was coming")?;
        let outcome = |enqueued: &Enqueued| (enqueued.job.id, enqueued.outcome);
        match said {
            None => ensure!(!bulk.awaited, "no caller was told the end of {bulk:?}"),
            Some((id, Ok(Reply::NewBulk(jobs)))) => {
                let said: Vec<_> = jobs.iter().map(outcome).collect();
                let fits = |((id, said), (ids, outcome)): (&(JobId, Outcome), &(Vec<JobId>, Outcome))| {
                    ids.contains(id) && said == outcome
                };
                let all_fit = said.len() == bulk.enqueued.len() && said.iter().zip(&bulk.enqueued).all(fits);
                ensure!(id == bulk.id && bulk.awaited && all_fit, "{bulk:?} came to {said:?}");
            }
            Some(other) => bail!("answered {other:?}"),
        }
        Ok(())
    }

    /// Returns the jobs of the accepted bulk that may have come before a crash within a turn.
    pub(super) fn adopt_bulk(&mut self, ledger: &Ledger) -> Vec<NewJob> {
        let Some(bulk) = self.bulks.coming.front_mut() else { return Vec::new() };
        let record = ledger.bulks.get(&bulk.id);
        let Some(before) = bulk.accepted else {
            bulk.accepted = record.map(|record| record.done);
            return Vec::new();
        };
        let done = record.map_or(bulk.jobs.len(), |record| record.done);
        let came = bulk.jobs[before..done].to_vec();
        bulk.accepted = Some(done);
        if record.is_none() {
            self.bulks.coming.pop_front();
        }
        came
    }
}

/// Makes a bulk that takes several turns; or one turn, if the jobs are refused before they come to the engine.
pub(super) fn act(jobs: Vec<NewJob>) -> Act {
    let body = json!({ "jobs": jobs.iter().map(written).collect::<Vec<_>>() }).to_string();
    let trace = jobs.first().and_then(NewJob::trace).cloned().map(Box::new);
    match NewBulk::parse(Format::Json, body.into(), 0, trace) {
        Ok(bulk) => Act::EnqueueBulk(bulk),
        Err(EnqueueError::NotAllowed(_)) => Act::Enqueue(jobs),
        Err(EnqueueError::Malformed(error)) => panic!("{error:?}"),
    }
}

fn written(job: &NewJob) -> Value {
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
    put("queue", json!(job.queue));
    put("type", json!(job.job_type));
    // A number of many digits is a text here, and not too long: no client could send it as a number.
    let payload = String::from_utf8_lossy(job.payload.bytes());
    put("payload", payload.parse::<u64>().map_or_else(|_| json!(payload.get(..300)), Value::from));
    put("priority", json!(job.priority));
    put("ready_at", json!(job.ready_at));
    put("retry_limit", json!(job.retry_limit));
    put("backoff", json!(job.backoff));
    put("retention", json!(job.retention));
    let Some(flow) = &job.flow else { return Value::Object(members) };
    put("timeout_ms", json!(flow.timeout_ms));
    put("trace", json!(flow.trace));
    if let Some(unique) = &flow.unique {
        put("unique_key", json!(unique.key));
        put("unique_while", json!(unique.scope));
    }
    let policy =
        |of: &Binding| job.create_budgets.iter().find(|(key, _)| *key == of.key).map(|(_, policy)| policy);
    let budget = |b: &Binding| json!({"key": b.key, "cost": b.cost, "create_with": policy(b)});
    put("budgets", flow.budgets.iter().map(budget).collect());
    Value::Object(members)
}
