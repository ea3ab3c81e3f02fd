//! Whoever knows of the queues only what is reported must know the same as the model.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::model::Model;
use crate::engine::command::Reply;
use crate::engine::command::report::{QueueReport, Report, Tally};
use crate::hash::HashMap;
use crate::job::extent::Extents;
use crate::job::id::{QueueId, Stamp};
use crate::run::turn::Answer;

/// What is known of the queues of an engine.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    engine: u64,
    queues: HashMap<QueueId, QueueReport>,
    extents: HashMap<QueueId, Extents>,
}

impl Mirror {
    /// Takes in a report and, if it is complete, compares what is known with the model.
    pub(super) fn hear(&mut self, answer: &Answer, model: &Model) -> Result<()> {
        let Ok(Reply::GetReport(report)) = answer else { return Ok(()) };
        if report.engine != self.engine {
            *self = Self { engine: report.engine, ..Self::default() };
        }
        for queue in &report.queues {
            let before = self.queues.remove(&queue.id);
            let before = before.map_or(Tally::default(), |before| before.tally);
            let mut sum = queue.tally - before;
            sum += before;
            ensure!(sum == queue.tally, "a counter went down: {before:?}, then {queue:?}");
            if queue.is_gone {
                self.extents.remove(&queue.id);
            } else {
                self.queues.insert(queue.id, queue.clone());
                let extents = self.extents.entry(queue.id).or_insert(Extents::NONE);
                extents.widen(&queue.entered);
                extents.clear_empty(&queue.state.counts.stored);
            }
        }
        if report.is_complete { self.compare(report, model) } else { Ok(()) }
    }

    fn compare(&self, report: &Report, model: &Model) -> Result<()> {
        let mut known = BTreeMap::new();
        for queue in self.queues.values() {
            let mut state = queue.state.clone();
            state.workers += report.streams.for_all;
            let name = state.name.clone();
            ensure!(known.insert(name, state).is_none(), "two queues with one name: {:?}", self.queues);
        }
        for name in model.used_queues() {
            ensure!(known.contains_key(&name), "queue {name} was not reported");
        }
        for (name, state) in known {
            let right = model.queue_state(&name);
            ensure!(state == right, "the queue is {right:?}, and was reported as {state:?}");
        }
        self.compare_extents(model)
    }

    /// No job lies outside of where the jobs of its queue and status are said to lie.
    fn compare_extents(&self, model: &Model) -> Result<()> {
        let by_name: HashMap<_, _> =
            self.queues.values().map(|queue| (queue.state.name.clone(), queue.id)).collect();
        for (id, entry) in &model.jobs {
            let extents = by_name.get(&entry.queue).and_then(|queue| self.extents.get(queue));
            let extent = extents.map(|extents| extents.of(entry.job.status));
            ensure!(
                extent.is_some_and(|extent| extent.includes(Stamp::of(*id))),
                "job {id} is outside of {extent:?}"
            );
        }
        Ok(())
    }
}
