//! Whoever knows of the queues only what is reported must know the same as the model.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::model::Model;
use crate::engine::command::Reply;
use crate::engine::command::report::{QueueReport, Report, Tally};
use crate::hash::HashMap;
use crate::job::id::QueueId;
use crate::run::turn::Answer;

/// What is known of the queues of an engine.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    engine: u64,
    queues: HashMap<QueueId, QueueReport>,
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
            if !queue.is_gone {
                self.queues.insert(queue.id, queue.clone());
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
        Ok(())
    }
}
