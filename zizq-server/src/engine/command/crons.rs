//! Requests about recurring jobs, which are groups of entries.

use std::sync::Arc;

use protocol::cron::Template;
use protocol::name::CronName;

use super::jobs::Enqueued;
use crate::engine::recurrence::Recurrence;

/// Lists the names of all groups.
#[derive(Debug)]
pub struct ListCrons;

/// Reads one group.
#[derive(Debug)]
pub struct GetCron(pub CronName);

/// Creates a group or replaces all of it.
#[derive(Debug)]
pub struct PutCron {
    pub group: CronName,
    pub paused: Option<bool>,
    pub timezone: Option<String>,
    pub entries: Vec<NewEntry>,
}

/// Changes part of a group.
#[derive(Debug)]
pub struct PatchCron {
    pub group: CronName,
    pub paused: Option<bool>,
    pub timezone: Option<Option<String>>,
}

/// Deletes a group with its entries.
#[derive(Debug)]
pub struct DeleteCron(pub CronName);

/// Deletes all groups. The answer says how many there were.
#[derive(Debug)]
pub struct DeleteCrons;

/// Adds an entry to a group.
#[derive(Debug)]
pub struct AddEntry(pub CronName, pub Box<NewEntry>);

/// Reads one entry of a group.
#[derive(Debug)]
pub struct GetEntry(pub CronName, pub CronName);

/// Creates or replaces an entry of a group.
#[derive(Debug)]
pub struct PutEntry(pub CronName, pub Box<NewEntry>);

/// Pauses or resumes an entry.
#[derive(Debug)]
pub struct PauseEntry {
    pub group: CronName,
    pub name: CronName,
    pub paused: bool,
}

/// Deletes an entry.
#[derive(Debug)]
pub struct DeleteEntry(pub CronName, pub CronName);

/// Enqueues the job of an entry now.
#[derive(Debug)]
pub struct RunEntry {
    pub group: CronName,
    pub name: CronName,
}

/// The result of a [`RunEntry`].
#[derive(Debug)]
pub enum Ran {
    Enqueued(Vec<Enqueued>),
    /// The job of the entry belongs to a batch and has to be folded first.
    Folds(Firing),
}

/// An entry as requested, fully checked.
#[derive(Debug, Clone)]
pub struct NewEntry {
    pub name: CronName,
    pub expression: String,
    pub recurrence: Recurrence,
    pub timezone: Option<String>,
    /// If absent, it stays as it was; in a new entry it is false.
    pub paused: Option<bool>,
    pub template: Arc<Template>,
}

/// An entry whose job belongs to a batch, and comes back as a [`super::batches::Fold`].
#[derive(Debug, Clone)]
pub struct Firing {
    pub group: CronName,
    pub name: CronName,
    pub template: Arc<Template>,
    /// Whether its time has come; otherwise a caller asked for it.
    pub is_due: bool,
}
