//! Groups the newest jobs that match a filter by what they have in common.

use std::cmp::Reverse;
use std::str::FromStr;
use std::sync::Arc;

use protocol::id::JobId;
use protocol::pattern::pattern;
use protocol::payload::cut;

use super::counted::For;
use super::{ReadError, Reader};
use crate::caller::Caller;
use crate::engine::command::jobs::Seen;
use crate::hash::HashMap;
use crate::job::filter::Filter;

/// The most jobs that are looked at.
pub(crate) const MAX_NEWEST: u64 = 100_000;
/// How many keys are told apart: each may be a kilobyte long. Jobs with further ones are counted together.
const MAX_KEYS: usize = 10_000;
/// How many groups are shown.
const MAX_GROUPS: usize = 100;
/// How much of a message is shown, in bytes.
const SAMPLE_BYTES: usize = 200;

/// What the jobs of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The type of the last error.
    ErrorType,
    /// The type of the job.
    Type,
    Queue,
    /// The message of the last error, but for what differs from job to job.
    Message,
}

/// Not one of [`By`].
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("it is none of error_type, type, queue, message")]
pub(crate) struct UnknownBy;

impl FromStr for By {
    type Err = UnknownBy;

    fn from_str(text: &str) -> Result<Self, UnknownBy> {
        Ok(match text {
            "error_type" => Self::ErrorType,
            "type" => Self::Type,
            "queue" => Self::Queue,
            "message" => Self::Message,
            _ => return Err(UnknownBy),
        })
    }
}

impl By {
    fn key(self, seen: &Seen) -> Option<String> {
        let error = seen.job.last_error.as_deref();
        match self {
            Self::ErrorType => error.and_then(|error| error.error_type.clone()),
            Self::Type => Some(seen.job.job_type.to_string()),
            Self::Queue => Some(seen.queue.to_string()),
            Self::Message => error.map(|error| pattern(&error.message)),
        }
    }
}

/// Jobs that have something in common.
#[derive(Debug)]
pub(crate) struct Group {
    /// None: the jobs that have none.
    pub key: Option<String>,
    pub count: u64,
    pub newest: JobId,
    /// The beginning of the newest error's message.
    pub sample: Option<String>,
    /// When the last errors of these jobs happened: the first of them, and the last.
    pub errors: Option<(u64, u64)>,
}

/// The largest groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// The largest first.
    pub groups: Vec<Group>,
    /// How many jobs are in no group that is shown.
    pub other: u64,
    /// How many jobs were looked at.
    pub looked_at: u64,
    /// Whether these are all that match.
    pub exact: bool,
}

impl Reader {
    /// Groups the newest jobs that match a filter, at most so many.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn groups(
        &self,
        caller: Caller,
        filter: Filter,
        by: By,
        newest: u64,
    ) -> Result<Groups, ReadError> {
        let turn = self.turn(caller, &filter, &self.scans, false).await?;
        let start = self.start(&filter, None, true).await?;
        self.blocking(For::Groups, &Arc::default(), move |look| {
            let mut tally = Tally::default();
            let about = usize::try_from(newest).unwrap_or(usize::MAX);
            let mut exact = true;
            look.select(&filter, turn, start, about, |seen| {
                exact = tally.looked_at < newest;
                if exact {
                    tally.add(by, &seen);
                }
                Ok(exact)
            })?;
            Ok(Groups { exact, ..tally.largest() })
        })
        .await
    }
}

#[derive(Debug, Default)]
struct Tally {
    groups: HashMap<Option<String>, Group>,
    /// How many jobs have a key that is not among the groups.
    other: u64,
    looked_at: u64,
}

impl Tally {
    /// Counts a job that is older than all before it.
    fn add(&mut self, by: By, seen: &Seen) {
        self.looked_at += 1;
        let key = by.key(seen);
        let at = seen.job.last_error.as_ref().map(|error| (error.at, error.at));
        if let Some(group) = self.groups.get_mut(&key) {
            group.count += 1;
            let both = group.errors.into_iter().chain(at);
            group.errors = both.reduce(|(first, last), (at, _)| (first.min(at), last.max(at)));
        } else if self.groups.len() == MAX_KEYS {
            self.other += 1;
        } else {
            let message =
                seen.job.last_error.as_ref().map(|error| cut(&error.message, SAMPLE_BYTES).to_owned());
            let group =
                Group { key: key.clone(), count: 1, newest: seen.job.id, sample: message, errors: at };
            self.groups.insert(key, group);
        }
    }

    fn largest(self) -> Groups {
        let Self { groups, mut other, looked_at } = self;
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_by_key(|group| Reverse((group.count, group.newest)));
        other += groups.iter().skip(MAX_GROUPS).map(|group| group.count).sum::<u64>();
        groups.truncate(MAX_GROUPS);
        Groups { groups, other, looked_at, exact: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_beyond_the_bound_are_counted_together() {
        let mut tally = Tally::default();
        let seen = |n: u64| {
            let mut job = crate::job::Job::sample(1);
            job.job_type = protocol::name::JobType::new(&format!("t{n}")).unwrap();
            let queue = protocol::name::QueueName::new("q").unwrap();
            Seen { status: job.status, queue, job: Arc::new(job) }
        };
        let keys = MAX_KEYS as u64 + 7;
        (0..keys).chain([0]).for_each(|n| tally.add(By::Type, &seen(n)));
        let groups = tally.largest();
        assert_eq!((groups.groups.len(), groups.looked_at), (MAX_GROUPS, keys + 1));
        assert_eq!(groups.other, keys - MAX_GROUPS as u64);
        assert_eq!((groups.groups[0].key.as_deref(), groups.groups[0].count), (Some("t0"), 2));
    }
}
