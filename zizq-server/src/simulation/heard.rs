//! What a listener hears must tell the same story as the model.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use protocol::id::JobId;
use protocol::job::Status;

use super::act::Act;
use super::model::Model;
use crate::job::event::Event;
use crate::run::events::{Heard, Listening};

/// A listener, and what it knows of every job.
pub(super) struct Ear {
    listening: Listening,
    statuses: BTreeMap<JobId, Status>,
}

impl Ear {
    pub(super) fn new(listening: Listening, model: &Model) -> Self {
        Self { listening, statuses: statuses(model) }
    }

    /// Checks what was heard of a turn against what the model makes of it.
    pub(super) fn listen(&mut self, acts: &[Act], model: &Model) -> Result<()> {
        // Nothing is announced of jobs that are all deleted at once.
        let reset = acts.iter().any(|act| matches!(act, Act::Reset));
        while let Some(heard) = self.listening.listener.now() {
            let Heard::Events(events) = heard else { bail!("{heard:?}") };
            for event in events.iter() {
                let Event::Status(event) = event else { continue };
                let before = match event.to {
                    Some(status) => self.statuses.insert(event.id, status),
                    None => self.statuses.remove(&event.id),
                };
                ensure!(reset || before == event.from, "it was {before:?}, but: {event:?}");
                ensure!(event.at == model.now, "at {}: {event:?}", model.now);
            }
        }
        let known = statuses(model);
        if reset {
            self.statuses.clone_from(&known);
        }
        // A job without retention is heard of for the last time when it ends.
        self.statuses.retain(|id, status| !status.is_terminal() || known.contains_key(id));
        ensure!(self.statuses == known, "heard of {:?}, not of {known:?}", self.statuses);
        Ok(())
    }
}

fn statuses(model: &Model) -> BTreeMap<JobId, Status> {
    let status = |id: &JobId, stored: Status| {
        if model.leases.contains_key(id) { Status::InFlight } else { stored }
    };
    model.jobs.iter().map(|(id, entry)| (*id, status(id, entry.job.status))).collect()
}
