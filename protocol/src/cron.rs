//! Recurring jobs: groups of entries, each with a cron expression and a job to enqueue.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::body::Malformed;
use crate::enqueue::{EnqueueError, NewJob, Parsed, parse_job};
use crate::media::Format;
use crate::name::CronName;
use crate::nullable::{given, not_null};
use crate::object::Object;

/// `PUT /crons/{group}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRequest {
    /// Absent: unchanged, or false for a new one.
    #[serde(default)]
    pub paused: Option<bool>,
    /// The default time zone of the entries.
    #[serde(default)]
    pub timezone: Option<String>,
    /// All of them.
    pub entries: Vec<Object<EntryRequest>>,
}

/// One entry, in the list of its group or alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryRequest {
    /// Its name within the group; optional if the path names it.
    #[serde(default)]
    pub name: Option<CronName>,
    /// Five or six fields.
    pub expression: String,
    /// Its own zone.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Absent: unchanged, or false for a new one.
    #[serde(default)]
    pub paused: Option<bool>,
    /// What is enqueued.
    pub job: Value,
}

/// `PATCH /crons/{group}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupPatch {
    /// Absent: as it was.
    #[serde(default, deserialize_with = "given")]
    paused: Option<Option<bool>>,
    /// `null` clears it.
    #[serde(default, deserialize_with = "given")]
    pub timezone: Option<Option<String>>,
}

impl GroupPatch {
    /// The new paused state, if it changes.
    ///
    /// # Errors
    /// A sentence for a `null` (422).
    pub fn paused(&self) -> Result<Option<bool>, String> {
        not_null("paused", self.paused)
    }
}

/// The job of an entry.
#[derive(Debug, Clone)]
pub struct Template {
    /// As it is shown.
    pub shown: Value,
    /// As it is enqueued.
    pub job: NewJob,
}

/// What is kept of a template.
const MEMBERS: [&str; 12] = [
    "type",
    "queue",
    "payload",
    "priority",
    "retry_limit",
    "backoff",
    "retention",
    "timeout_ms",
    "unique_key",
    "unique_while",
    "batch",
    "trace",
];

impl Template {
    /// Checks a template as if it were to be enqueued now.
    ///
    /// # Errors
    /// As for an enqueue; and 400 for a `ready_at`.
    pub fn parse(value: &Value) -> Result<Self, EnqueueError> {
        let is_there = |name: &&&str| value.get(**name).is_some_and(|at| !at.is_null());
        if let Some(name) = ["ready_at", "delay_ms"].iter().find(is_there) {
            let error =
                format!("{name}: not allowed in a cron entry, whose expression sets when its job is ready");
            return Err(Malformed(error).into());
        }
        let Parsed { job, .. } = parse_job(Format::Json, &Bytes::from(value.to_string()), 0)?;
        let member = |name: &&str| Some(((*name).to_owned(), value.get(*name)?.clone()));
        let mut shown: Map<String, Value> = MEMBERS.iter().filter_map(member).collect();
        shown.retain(|name, value| name == "payload" || !value.is_null());
        if let Some(flow) = job.flow.as_ref().filter(|flow| !flow.budgets.is_empty()) {
            shown.insert("budgets".to_owned(), json!(flow.budgets));
        }
        Ok(Self { shown: Value::Object(shown), job })
    }
}

/// A group in an answer.
#[derive(Debug, Clone, Serialize)]
pub struct GroupView {
    /// The name.
    pub name: CronName,
    /// Whether it rests.
    pub paused: bool,
    /// The default time zone of the entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// When it was last paused, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<u64>,
    /// When it was last resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<u64>,
    /// In the order they were given.
    pub entries: Vec<EntryView>,
}

/// An entry in an answer.
#[derive(Debug, Clone, Serialize)]
pub struct EntryView {
    /// The name.
    pub name: CronName,
    /// When its job is enqueued.
    pub expression: String,
    /// Its own zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Whether it rests.
    pub paused: bool,
    /// When it was last paused, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<u64>,
    /// When it was last resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<u64>,
    /// What is enqueued.
    pub job: Value,
    /// When it fires next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_enqueue_at: Option<u64>,
    /// When its job was last enqueued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_enqueue_at: Option<u64>,
    /// Its next times, from `next_enqueue_at` on: as many as were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<u64>,
}
