//! Groups the newest jobs that match a filter by what they have in common.

use std::cmp::Reverse;
use std::str::FromStr;
use std::sync::Arc;

use protocol::id::JobId;
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
        if let Some(group) = self.groups.get_mut(&key) {
            group.count += 1;
        } else if self.groups.len() == MAX_KEYS {
            self.other += 1;
        } else {
            let message =
                seen.job.last_error.as_ref().map(|error| cut(&error.message, SAMPLE_BYTES).to_owned());
            let group = Group { key: key.clone(), count: 1, newest: seen.job.id, sample: message };
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

/// What stands in a pattern for numbers, ids, and quoted text.
const NUMBER: &str = "<n>";
const ID: &str = "<id>";
const TEXT: &str = "<text>";
/// From this length on, hex digits are an id, and so are letters mixed with digits.
const MIN_HEX: usize = 8;
const MIN_MIXED: usize = 16;

/// A message without what differs from one occurrence to the next: numbers, ids, and quoted text.
fn pattern(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    let mut last = ' ';
    while let Some(c) = rest.chars().next() {
        let (placed, len) = if let Some(len) = quoted(rest, last) {
            (Some(TEXT), len)
        } else if c.is_ascii_alphanumeric() {
            let len = uuid(rest).unwrap_or_else(|| word(rest));
            let (word, _) = rest.split_at(len);
            if is_id(word) {
                (Some(ID), len)
            } else if c.is_ascii_digit() {
                (Some(NUMBER), number(rest))
            } else {
                (None, word.bytes().take_while(u8::is_ascii_alphabetic).count())
            }
        } else {
            (None, c.len_utf8())
        };
        let (part, after) = rest.split_at(len);
        out.push_str(placed.unwrap_or(part));
        last = part.chars().next_back().unwrap_or(c);
        rest = after;
    }
    out
}

/// The length of a quoted text at the start. `last` is the character before it: an apostrophe follows a letter.
fn quoted(text: &str, last: char) -> Option<usize> {
    let open = text.chars().next()?;
    let close = match open {
        '"' | '`' => open,
        '\'' if !last.is_alphanumeric() => '\'',
        '“' => '”',
        '‘' => '’',
        '«' => '»',
        _ => return None,
    };
    let mut inside = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = inside.next() {
        let is_apostrophe = close == '\'' && inside.peek().is_some_and(|(_, next)| next.is_alphanumeric());
        if c == close && !is_apostrophe {
            return Some(at + c.len_utf8());
        }
    }
    None
}

/// The length of the letters and digits at the start.
fn word(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_alphanumeric).count()
}

/// The length of a number at the start: digits, and more after a point: `1.5`, `10.0.0.1`.
fn number(text: &str) -> usize {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut len = digits(text);
    while let Some(more) = text.get(len..).and_then(|rest| rest.strip_prefix('.')).map(digits)
        && more > 0
    {
        len += 1 + more;
    }
    len
}

fn is_id(word: &str) -> bool {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    let is_hex = digits.len() >= MIN_HEX && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = word.bytes().all(|b| b.is_ascii_digit());
    let is_mixed = word.len() >= MIN_MIXED && word.bytes().any(|b| b.is_ascii_digit());
    uuid(word).is_some() || ((is_hex || is_mixed) && !is_number)
}

/// The length of a UUID (RFC 9562, section 4) at the start.
fn uuid(text: &str) -> Option<usize> {
    const LEN: usize = 36;
    let is_part_of_it = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    let bytes = text.as_bytes().get(..LEN)?;
    let ends = text.as_bytes().get(LEN).is_none_or(|next| !next.is_ascii_alphanumeric());
    (ends && bytes.iter().enumerate().all(is_part_of_it)).then_some(LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_messages_have_one_pattern() {
        for (message, expected) in [
            ("", ""),
            ("boom", "boom"),
            ("timed out after 30s", "timed out after <n>s"),
            ("timed out after 1.5s", "timed out after <n>s"),
            ("10.0.0.1:5432 refused. 3 tries.", "<n>:<n> refused. <n> tries."),
            ("worker12 has no job 007", "worker<n> has no job <n>"),
            ("-5 is below 0", "-<n> is below <n>"),
            ("no user deadbeef", "no user <id>"),
            ("no user dead", "no user dead"),
            ("no user 0xDEADBEEF01", "no user <id>"),
            ("order 12345678", "order <n>"),
            ("order 1234567890abcdef", "order <id>"),
            ("order 550e8400-e29b-41d4-a716-446655440000!", "order <id>!"),
            ("order abcdefab-cdef-abcd-efab-cdefabcdefab", "order <id>"),
            ("job 03f5lbmjwwc5ovzjxk1vnqq9z is gone", "job <id> is gone"),
            ("internationalization failed", "internationalization failed"),
            ("no file \"a b.txt\" in 'x'", "no file <text> in <text>"),
            ("no column `id`, “x”, ‘y’, «z»", "no column <text>, <text>, <text>, <text>"),
            ("can't open 'it's here': won't", "can't open <text>: won't"),
            ("it's 5 o'clock", "it's <n> o'clock"),
            ("an open \"quote 5", "an open \"quote <n>"),
            ("\"\"", "<text>"),
            ("größe 7 über 5 €", "größe <n> über <n> €"),
            ("a\nb 1", "a\nb <n>"),
            ("1.", "<n>."),
            ("v1.2.3-rc1", "v<n>-rc<n>"),
        ] {
            assert_eq!(pattern(message), expected, "{message}");
        }
    }

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
