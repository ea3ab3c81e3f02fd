//! Requests about recurring jobs: groups of entries.

use std::sync::Arc;

use protocol::cron::Template;
use protocol::name::CronName;

use super::jobs::Enqueued;
use crate::engine::recurrence::Recurrence;

/// The names of all groups.
#[derive(Debug)]
pub struct ListCrons;

/// One group.
#[derive(Debug)]
pub struct GetCron(pub CronName);

/// The group becomes this, all of it.
#[derive(Debug)]
pub struct PutCron {
    pub group: CronName,
    pub paused: Option<bool>,
    pub timezone: Option<String>,
    pub entries: Vec<NewEntry>,
}

/// Some of a group becomes this.
#[derive(Debug)]
pub struct PatchCron {
    pub group: CronName,
    pub paused: Option<bool>,
    pub timezone: Option<Option<String>>,
}

/// A group goes, with its entries.
#[derive(Debug)]
pub struct DeleteCron(pub CronName);

/// All groups go. The answer says how many there were.
#[derive(Debug)]
pub struct DeleteCrons;

/// A group has one entry more.
#[derive(Debug)]
pub struct AddEntry(pub CronName, pub Box<NewEntry>);

/// One entry of a group.
#[derive(Debug)]
pub struct GetEntry(pub CronName, pub CronName);

/// The entry of a group becomes this, be it there already or not.
#[derive(Debug)]
pub struct PutEntry(pub CronName, pub Box<NewEntry>);

/// An entry comes no more, or again.
#[derive(Debug)]
pub struct PauseEntry {
    pub group: CronName,
    pub name: CronName,
    pub paused: bool,
}

/// An entry goes.
#[derive(Debug)]
pub struct DeleteEntry(pub CronName, pub CronName);

/// Enqueue the job of an entry now.
#[derive(Debug)]
pub struct RunEntry {
    pub group: CronName,
    pub name: CronName,
}

/// What came of a [`RunEntry`].
#[derive(Debug)]
pub enum Ran {
    Enqueued(Vec<Enqueued>),
    /// The job of the entry belongs to a batch, and is to be folded first.
    Folds(Firing),
}

/// An entry as it is asked for: everything in it has been checked.
#[derive(Debug, Clone)]
pub struct NewEntry {
    pub name: CronName,
    pub expression: String,
    pub recurrence: Recurrence,
    pub timezone: Option<String>,
    /// Absent: as it was, or else false.
    pub paused: Option<bool>,
    pub template: Arc<Template>,
}

/// An entry whose job belongs to a batch, and is to come back as a [`super::batches::Fold`].
#[derive(Debug, Clone)]
pub struct Firing {
    pub group: CronName,
    pub name: CronName,
    pub template: Arc<Template>,
    /// Whether its time has come; else somebody has asked for it.
    pub is_due: bool,
}
