//! The keys of the only keyspace: an area, then what orders it. All numbers are big-endian, so that the byte order is
//! their order.
//!
//! | area | key behind the area byte | value |
//! |---|---|---|
//! | meta | name | the engine's time, under `clock` and `wall` ([`super::record::ClockRecord`]); what sessions are signed with, under `sessions`; the format of all this, under `format`; how many commits there were, under `commits`; in the store of logs how many entries the audit trail has, under `audit` |
//! | queue | queue number | [`super::record::QueueRecord`] |
//! | cursor | queue, priority | stamp: no live job of the lane comes before it |
//! | ready | queue, priority, stamp | job record |
//! | scheduled, completed, dead | queue, stamp | job record |
//! | timer | due, stamp | area, queue |
//! | error | stamp, attempt | [`super::record::ErrorRecord`] |
//! | lease | stamp | [`super::record::LeaseRecord`] |
//! | drawing | queue, stamp | record of a ready job that draws on budgets |
//! | lane | queue, draw, priority, stamp | nothing: the order of those jobs |
//! | draw cursor | queue, draw, priority | stamp, as under cursor |
//! | budget | budget number | [`super::record::BudgetRecord`] |
//! | draw | draw number | [`super::record::DrawRecord`] |
//! | cron | name of the group | [`super::record::CronRecord`] |
//! | cron entry | name of the group, 0, name of the entry | [`super::record::EntryState`] |
//! | unique | the unique key | the jobs that have it: [`super::record::Holder`] |
//! | batch | the key of the batch | the job that is open to others, as under unique |
//! | moved | stamp | queue, priority: where a job is that is not where its id says |
//! | log | job id, attempt, place in the ring | a chunk of what the attempt has printed, in a store of its own |
//! | bulk | stamp | [`super::bulk::BulkRecord`]: a bulk was accepted |
//! | bulk | stamp, number | a part of what was sent |
//! | queue name | queue number | the name of the queue, far from its record, so that one damaged block does not cost both |
//! | answer | the key of a call | [`super::record::AnswerRecord`]: what was answered is kept |
//! | answer part | the key of a call, 0, number | some of the jobs that were answered, in JSON |
//! | access token | its id | [`crate::access::TokenRecord`] |
//! | audit | number | who did what, in JSON; in the store of logs |
//! | aside | the key of a damaged record | what was found there, see [`super::damage`] |

use crate::job::place::Place;
use protocol::access::TokenId;
use protocol::id::JobId;
use protocol::job::Status;
use protocol::name::CronName;
use smallvec::SmallVec;

use crate::job::draw::{BudgetId, DrawId};
use crate::job::id::{QueueId, Stamp};
use crate::job::tag::Tag;

/// A key of the store. All keys but those of logs and those with text fit into 20 bytes, which fjall keeps inline.
pub(crate) type Key = SmallVec<[u8; 20]>;

/// The format of the store. It changes when earlier versions of the server cannot read what is written.
pub(crate) const FORMAT: u8 = 2;
/// The earliest readable format. In format 1 jobs do not have their last error.
pub(crate) const FIRST_FORMAT: u8 = 1;

/// The first byte of every key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Area {
    Meta = 0,
    Queue = 1,
    Cursor = 2,
    Ready = 3,
    Scheduled = 4,
    Completed = 5,
    Dead = 6,
    Timer = 7,
    Error = 8,
    Lease = 9,
    Unique = 10,
    Moved = 11,
    Drawing = 12,
    Lane = 13,
    DrawCursor = 14,
    Budget = 15,
    Draw = 16,
    Cron = 17,
    CronEntry = 18,
    Batch = 19,
    Log = 20,
    Bulk = 21,
    QueueName = 22,
    Answer = 23,
    AnswerPart = 24,
    History = 25,
    AccessToken = 26,
    Audit = 27,
    /// After all other areas, including future ones.
    Aside = 254,
}

impl Area {
    /// The area of jobs with this status. In flight has none: after a crash such a job is ready again.
    pub const fn of(status: Status) -> Self {
        match status {
            Status::Ready | Status::InFlight => Self::Ready,
            Status::Scheduled => Self::Scheduled,
            Status::Completed => Self::Completed,
            Status::Dead => Self::Dead,
        }
    }
}

impl Place {
    pub const fn area(self) -> Area {
        match Area::of(self.status) {
            Area::Ready if !self.draw.is_none() => Area::Drawing,
            area => area,
        }
    }
}

struct Builder(Key);

impl Builder {
    fn new(area: Area) -> Self {
        Self(SmallVec::from_slice(&[area as u8]))
    }

    fn push(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn queue(self, queue: QueueId) -> Self {
        self.push(&queue.0.to_be_bytes())
    }

    fn stamp(self, stamp: Stamp) -> Self {
        self.push(&stamp.to_bytes())
    }
}

pub(crate) fn meta(name: &str) -> Key {
    Builder::new(Area::Meta).push(name.as_bytes()).0
}

/// The key under which every commit of the store on disk stores its number.
pub(crate) fn commits() -> Key {
    meta("commits")
}

pub(crate) fn token(id: &TokenId) -> Key {
    Builder::new(Area::AccessToken).push(id.as_str().as_bytes()).0
}

/// The key under which what sessions are signed with is stored.
pub(crate) fn session_key() -> Key {
    meta("sessions")
}

/// The key under which the store of logs has how many entries its audit trail has.
pub(crate) fn audit_count() -> Key {
    meta("audit")
}

/// The key of an entry of the audit trail.
pub(crate) fn audit(number: u64) -> Key {
    Builder::new(Area::Audit).push(&number.to_be_bytes()).0
}

/// The number of the entry of the audit trail with this key.
pub(crate) fn audit_number(key: &[u8]) -> Option<u64> {
    let bytes = key.get(1..).filter(|_| key.first() == Some(&(Area::Audit as u8)))?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

pub(crate) fn answer(key: &str) -> Key {
    Builder::new(Area::Answer).push(key.as_bytes()).0
}

pub(crate) fn answer_part(key: &[u8], number: u32) -> Key {
    Builder::new(Area::AnswerPart).push(key).push(&[0]).push(&number.to_be_bytes()).0
}

pub(crate) fn queue(queue: QueueId) -> Key {
    Builder::new(Area::Queue).queue(queue).0
}

pub(crate) fn queue_name(queue: QueueId) -> Key {
    Builder::new(Area::QueueName).queue(queue).0
}

pub(crate) fn cursor(queue: QueueId, draw: DrawId, priority: u16) -> Key {
    if draw.is_none() {
        return Builder::new(Area::Cursor).queue(queue).push(&priority.to_be_bytes()).0;
    }
    Builder::new(Area::DrawCursor).queue(queue).push(&draw.0.to_be_bytes()).push(&priority.to_be_bytes()).0
}

/// A place in the order of a lane: for plain jobs the record itself, for others an entry without a value.
pub(crate) fn lane(queue: QueueId, draw: DrawId, priority: u16, stamp: Stamp) -> Key {
    if draw.is_none() {
        return ready(queue, priority, stamp);
    }
    let key = Builder::new(Area::Lane).queue(queue).push(&draw.0.to_be_bytes());
    key.push(&priority.to_be_bytes()).stamp(stamp).0
}

pub(crate) fn cron(group: &CronName) -> Key {
    Builder::new(Area::Cron).push(group.as_bytes()).0
}

/// Names never contain the zero that separates the two.
pub(crate) fn cron_entry(group: &CronName, entry: &CronName) -> Key {
    Builder::new(Area::CronEntry).push(group.as_bytes()).push(&[0]).push(entry.as_bytes()).0
}

pub(crate) fn budget(id: BudgetId) -> Key {
    Builder::new(Area::Budget).push(&id.0.to_be_bytes()).0
}

pub(crate) fn draw(id: DrawId) -> Key {
    Builder::new(Area::Draw).push(&id.0.to_be_bytes()).0
}

pub(crate) fn ready(queue: QueueId, priority: u16, stamp: Stamp) -> Key {
    Builder::new(Area::Ready).queue(queue).push(&priority.to_be_bytes()).stamp(stamp).0
}

/// The key of a job that is neither ready nor in flight.
pub(crate) fn parked(area: Area, queue: QueueId, stamp: Stamp) -> Key {
    Builder::new(area).queue(queue).stamp(stamp).0
}

pub(crate) fn job(place: Place) -> Key {
    match place.area() {
        Area::Ready => ready(place.queue, place.priority, place.stamp),
        area => parked(area, place.queue, place.stamp),
    }
}

pub(crate) fn timer(due: u64, stamp: Stamp) -> Key {
    Builder::new(Area::Timer).push(due.to_be_bytes().get(2..).unwrap_or_default()).stamp(stamp).0
}

pub(crate) fn error(id: JobId, attempt: u32) -> Key {
    Builder::new(Area::Error).stamp(Stamp::of(id)).push(&attempt.to_be_bytes()).0
}

pub(crate) fn lease(id: JobId) -> Key {
    Builder::new(Area::Lease).stamp(Stamp::of(id)).0
}

pub(crate) fn tag(tag: &Tag) -> Key {
    let (area, text) = match tag {
        Tag::Unique(key) => (Area::Unique, key),
        Tag::Batch(key) => (Area::Batch, key),
    };
    Builder::new(area).push(text.as_str().as_bytes()).0
}

pub(crate) fn moved(id: JobId) -> Key {
    Builder::new(Area::Moved).stamp(Stamp::of(id)).0
}

/// The key of a chunk of an attempt's output.
pub(crate) fn log(id: JobId, attempt: u32, slot: u8) -> Key {
    let key = Builder::new(Area::Log).push(&id.to_u128().to_be_bytes());
    key.push(&attempt.to_be_bytes()).push(&[slot]).0
}

/// A step of a ring of the history of statistics.
pub(crate) fn history(ring: u8, number: u64) -> Key {
    Builder::new(Area::History).push(&[ring]).push(&number.to_be_bytes()).0
}

/// The ring and the number of a step of the history.
pub(crate) fn history_parts(key: &[u8]) -> Option<(u8, u64)> {
    let mut parts = Parts(key);
    parts.u8()?;
    let (ring, number) = (parts.u8()?, u64::try_from(parts.take(8)?).ok()?);
    (history(ring, number)[..] == *key).then_some((ring, number))
}

/// The job, the attempt and the slot in the ring of a log key.
pub fn log_parts(key: &[u8]) -> Option<(JobId, u32, u8)> {
    let mut parts = Parts(key);
    parts.u8()?;
    let (id, attempt, slot) = (JobId::from_u128(parts.take(16)?), parts.u32()?, parts.u8()?);
    (log(id, attempt, slot)[..] == *key).then_some((id, attempt, slot))
}

pub(crate) fn bulk(id: Stamp) -> Key {
    Builder::new(Area::Bulk).stamp(id).0
}

pub(crate) fn bulk_part(id: Stamp, part: u32) -> Key {
    Builder::new(Area::Bulk).stamp(id).push(&part.to_be_bytes()).0
}

/// The key under which a damaged record is kept.
pub(crate) fn aside(key: &[u8]) -> Key {
    Builder::new(Area::Aside).push(key).0
}

/// A key as shown to people.
pub(crate) fn shown(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first key of an area; with `area + 1`, the key after it.
pub(crate) fn start(area: u8) -> Key {
    SmallVec::from_slice(&[area])
}

/// Parses the numbers of a key.
pub(crate) struct Parts<'a>(pub &'a [u8]);

impl Parts<'_> {
    fn take(&mut self, len: usize) -> Option<u128> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head.iter().fold(0, |n, byte| n << 8 | u128::from(*byte)))
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.try_into().ok()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok()
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok()
    }

    pub(crate) fn queue(&mut self) -> Option<QueueId> {
        self.take(4)?.try_into().ok().map(QueueId)
    }

    pub(crate) fn millis(&mut self) -> Option<u64> {
        self.take(6)?.try_into().ok()
    }

    pub(crate) fn stamp(&mut self) -> Option<Stamp> {
        self.take(Stamp::BYTES).map(Stamp::from_bits)
    }
}
