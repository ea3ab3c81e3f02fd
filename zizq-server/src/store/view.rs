//! Reads the store in the terms of the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use protocol::id::JobId;
use protocol::job::Status;
use protocol::name::CronName;

use super::keys::{self, Area, Key, Parts};
use super::record::{
    self, AnswerRecord, BudgetRecord, ClockRecord, CronRecord, Damaged, DrawRecord, EntryState, ErrorRecord,
    Holder, LeaseRecord, QueueRecord,
};
use super::{Entry, Snapshot, StoreError};
use crate::access::Tokens;
use crate::job::Job;
use crate::job::draw::{BudgetId, DrawId};
use crate::job::id::{Home, QueueId, Stamp};
use crate::job::place::LaneAt;
use crate::job::place::Place;
use crate::job::tag::Tag;

/// A part of an ordered run, and where the rest begins.
#[derive(Debug)]
pub struct Part<T, K> {
    pub items: Vec<T>,
    pub next: Option<K>,
}

/// The target of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerTarget {
    pub status: Status,
    pub queue: QueueId,
}

/// Finds a job by its id, wherever it is.
pub(crate) fn find<S: Snapshot>(snapshot: &S, id: JobId) -> Result<Option<Job>, StoreError> {
    if let Some(job) = find_in(snapshot, id, Home::of(id))? {
        return Ok(Some(job));
    }
    let key = keys::moved(id);
    let Some(value) = snapshot.get(&key)? else { return Ok(None) };
    let mut parts = Parts(&value);
    let place = parts
        .queue()
        .zip(parts.u16())
        .filter(|_| value.len() == 6)
        .map(|(queue, priority)| Home { queue, priority });
    find_in(snapshot, id, place.ok_or_else(|| Damaged("moved").at(&key))?)
}

fn find_in<S: Snapshot>(snapshot: &S, id: JobId, home: Home) -> Result<Option<Job>, StoreError> {
    let plain =
        [Status::Ready, Status::Scheduled, Status::Dead, Status::Completed].map(|s| (s, DrawId::NONE));
    for (status, draw) in plain.into_iter().chain([(Status::Ready, DrawId::SOME)]) {
        let (queue, priority) = (home.queue, home.priority);
        let place = Place { status, queue, draw, priority, stamp: Stamp::of(id) };
        if let Some(job) = job_at(snapshot, place)? {
            return Ok(Some(job).filter(|job| job.id == id));
        }
    }
    Ok(None)
}

/// The job at a place.
pub(crate) fn job_at<S: Snapshot>(snapshot: &S, place: Place) -> Result<Option<Job>, StoreError> {
    let key = keys::job(place);
    let record = snapshot.get(&key)?;
    record.map(|record| record::decode_job(place, &record).map_err(|e| e.at(&key))).transpose()
}

/// Ready jobs of one lane from a stamp on, in order: up to `limit`, of about `most` bytes.
pub(crate) fn lane<S: Snapshot>(
    snapshot: &S,
    lane: LaneAt,
    limit: usize,
    most: usize,
) -> Result<Part<Job, Stamp>, StoreError> {
    let LaneAt { queue, draw, priority, from } = lane;
    let end = lane_end(queue, draw, priority);
    let mut part = Part { items: Vec::new(), next: None };
    let mut bytes = 0;
    for entry in snapshot.scan(&keys::lane(queue, draw, priority, from), &end, false) {
        let (key, record) = entry?;
        let place = lane_place(&key)?;
        if part.items.len() == limit || bytes >= most {
            part.next = Some(place.stamp);
            break;
        }
        if draw.is_none() {
            part.items.push(record::decode_job(place, &record).map_err(|e| e.at(&key))?);
        } else if let Some(job) = job_at(snapshot, place)? {
            part.items.push(job);
        } else {
            continue;
        }
        bytes += part.items.last().map_or(0, Job::weight);
    }
    Ok(part)
}

fn lane_end(queue: QueueId, draw: DrawId, priority: u16) -> Key {
    match (priority.checked_add(1), draw.0.checked_add(1)) {
        (Some(next), _) => keys::lane(queue, draw, next, Stamp::MIN),
        (None, Some(next)) if !draw.is_none() => keys::lane(queue, DrawId(next), 0, Stamp::MIN),
        (None, _) => queue_end(if draw.is_none() { Area::Ready } else { Area::Lane }, queue),
    }
}

/// Everything in an area, in the order of keys.
pub(crate) fn entries<S: Snapshot>(
    snapshot: &S,
    area: Area,
) -> impl Iterator<Item = Result<Entry, StoreError>> + use<S> {
    snapshot.scan(&keys::start(area as u8), &keys::start(area as u8 + 1), false)
}

/// The key after all keys of a queue in an area.
pub(super) fn queue_end(area: Area, queue: QueueId) -> Key {
    match queue.0.checked_add(1) {
        Some(next) => keys::parked(area, QueueId(next), Stamp::MIN),
        None => keys::start(area as u8 + 1),
    }
}

/// The place in a lane of a key.
pub(crate) fn lane_place(key: &[u8]) -> Result<Place, StoreError> {
    let read = |mut parts: Parts<'_>| {
        let drawing = parts.u8()? == Area::Lane as u8;
        let queue = parts.queue()?;
        let draw = if drawing { DrawId(parts.u32()?) } else { DrawId::NONE };
        let (priority, stamp) = (parts.u16()?, parts.stamp()?);
        Some(Place { status: Status::Ready, queue, draw, priority, stamp })
    };
    let is_it = |p: &Place| keys::lane(p.queue, p.draw, p.priority, p.stamp)[..] == *key;
    read(Parts(key)).filter(is_it).ok_or_else(|| Damaged("job").at(key))
}

/// The lanes of a queue that have ready jobs, each with the stamp to start reading at; lanes of one draw are adjacent.
///
/// Jobs before a stored cursor are known to be dead and are skipped.
pub(crate) fn lanes<S: Snapshot>(
    snapshot: &S,
    queue: QueueId,
) -> Result<Vec<(DrawId, u16, Stamp)>, StoreError> {
    let mut lanes = plain_lanes(snapshot, queue)?;
    let first = keys::lane(queue, DrawId(1), 0, Stamp::MIN);
    lanes.append(&mut lanes_in(snapshot, queue, first, &queue_end(Area::Lane, queue), true)?);
    Ok(lanes)
}

/// As [`lanes`], but only for jobs that draw on no budget.
pub(crate) fn plain_lanes<S: Snapshot>(
    snapshot: &S,
    queue: QueueId,
) -> Result<Vec<(DrawId, u16, Stamp)>, StoreError> {
    let first = keys::ready(queue, 0, Stamp::MIN);
    lanes_in(snapshot, queue, first, &queue_end(Area::Ready, queue), false)
}

fn lanes_in<S: Snapshot>(
    snapshot: &S,
    queue: QueueId,
    mut from: Key,
    end: &Key,
    drawing: bool,
) -> Result<Vec<(DrawId, u16, Stamp)>, StoreError> {
    let mut lanes = Vec::new();
    // There may be lanes without a cursor between two cursors.
    for ((draw, priority), stamp) in cursors(snapshot, queue, drawing)? {
        find_lanes(snapshot, from, &keys::lane(queue, draw, priority, Stamp::MIN), &mut lanes)?;
        lanes.push((draw, priority, stamp));
        from = lane_end(queue, draw, priority);
    }
    find_lanes(snapshot, from, end, &mut lanes)?;
    Ok(lanes)
}

/// Finds the first job of each lane, with one step per lane.
fn find_lanes<S: Snapshot>(
    snapshot: &S,
    mut from: Key,
    end: &Key,
    lanes: &mut Vec<(DrawId, u16, Stamp)>,
) -> Result<(), StoreError> {
    while from < *end
        && let Some((key, _)) = snapshot.scan(&from, end, false).next().transpose()?
    {
        let Place { queue, draw, priority, stamp, .. } = lane_place(&key)?;
        lanes.push((draw, priority, stamp));
        from = lane_end(queue, draw, priority);
    }
    Ok(())
}

fn cursors<S: Snapshot>(
    snapshot: &S,
    queue: QueueId,
    drawing: bool,
) -> Result<BTreeMap<(DrawId, u16), Stamp>, StoreError> {
    let (draw, area) = if drawing { (DrawId(1), Area::DrawCursor) } else { (DrawId::NONE, Area::Cursor) };
    let end = match queue.0.checked_add(1) {
        Some(next) => keys::cursor(QueueId(next), draw, 0),
        None => keys::start(area as u8 + 1),
    };
    let entries = snapshot.scan(&keys::cursor(queue, draw, 0), &end, false);
    let cursors = entries.map(|entry| {
        let ((_, draw, priority), first) = cursor_entry(entry?)?;
        Ok(((draw, priority), first))
    });
    cursors.collect()
}

/// A queue, a draw, and a priority.
pub(crate) type LaneKey = (QueueId, DrawId, u16);

/// The cursors of all lanes that have one.
pub(crate) fn all_cursors<S: Snapshot>(snapshot: &S) -> Result<Vec<(LaneKey, Stamp)>, StoreError> {
    let cursors = entries(snapshot, Area::Cursor).chain(entries(snapshot, Area::DrawCursor));
    cursors.map(|entry| cursor_entry(entry?)).collect()
}

fn cursor_entry((key, value): Entry) -> Result<(LaneKey, Stamp), StoreError> {
    let read = |mut parts: Parts<'_>| {
        let drawing = parts.u8()? == Area::DrawCursor as u8;
        let queue = parts.queue()?;
        let draw = if drawing { DrawId(parts.u32()?) } else { DrawId::NONE };
        Some(((queue, draw, parts.u16()?), Parts(&value).stamp()?))
    };
    let cursor = read(Parts(&key))
        .filter(|((queue, draw, priority), _)| keys::cursor(*queue, *draw, *priority)[..] == *key);
    cursor.filter(|_| value.len() == Stamp::BYTES).ok_or_else(|| Damaged("cursor").at(&key))
}

/// When a timer fires, and for which job.
pub(crate) type TimerKey = (u64, Stamp);

/// Timers from `from` on, in the order in which they fire.
pub(crate) fn timers<S: Snapshot>(
    snapshot: &S,
    from: TimerKey,
    limit: usize,
) -> Result<Part<(TimerKey, TimerTarget), TimerKey>, StoreError> {
    let mut part = Part { items: Vec::new(), next: None };
    let end = keys::start(Area::Timer as u8 + 1);
    for entry in snapshot.scan(&keys::timer(from.0, from.1), &end, false) {
        let (key, value) = entry?;
        let timer = timer_entry(&key, &value).ok_or_else(|| Damaged("timer").at(&key))?;
        if part.items.len() == limit {
            part.next = Some(timer.0);
            break;
        }
        part.items.push(timer);
    }
    Ok(part)
}

fn timer_entry(key: &[u8], value: &[u8]) -> Option<(TimerKey, TimerTarget)> {
    let at = timer_key(key)?;
    let mut value = Parts(value);
    let area = value.u8()?;
    let status = [Status::Scheduled, Status::Completed, Status::Dead]
        .into_iter()
        .find(|s| Area::of(*s) as u8 == area)?;
    Some((at, TimerTarget { status, queue: value.queue()? }))
}

/// When the timer under this key fires.
pub fn timer_key(key: &[u8]) -> Option<TimerKey> {
    let mut parts = Parts(key);
    parts.u8()?;
    let (due, stamp) = (parts.millis()?, parts.stamp()?);
    (keys::timer(due, stamp)[..] == *key).then_some((due, stamp))
}

/// The stamp of the moved job of this key.
pub fn moved_key(key: &[u8]) -> Option<Stamp> {
    let stamp = Parts(key.get(1..)?).stamp()?;
    (key.first() == Some(&(Area::Moved as u8)) && key.len() == 1 + Stamp::BYTES).then_some(stamp)
}

/// Every queue.
pub(crate) fn queues<S: Snapshot>(snapshot: &S) -> Result<Vec<(QueueId, QueueRecord)>, StoreError> {
    area(snapshot, Area::Queue, |key, value| {
        let id = queue_key(key).ok_or(Damaged("queue"))?;
        Ok((id, record::decode_queue(value)?))
    })
}

/// The number of the queue of this key.
pub fn queue_key(key: &[u8]) -> Option<QueueId> {
    let id = Parts(key.get(1..)?).queue()?;
    // A number must remain for the next queue.
    (keys::queue(id)[..] == *key && id.0 < u32::MAX).then_some(id)
}

/// The queue of this number.
pub(crate) fn queue<S: Snapshot>(snapshot: &S, id: QueueId) -> Result<Option<QueueRecord>, StoreError> {
    let key = keys::queue(id);
    snapshot.get(&key)?.map(|record| record::decode_queue(&record).map_err(|e| e.at(&key))).transpose()
}

/// Every budget.
pub(crate) fn budgets<S: Snapshot>(snapshot: &S) -> Result<Vec<(BudgetId, BudgetRecord)>, StoreError> {
    area(snapshot, Area::Budget, |key, value| {
        let id = number_key(key).ok_or(Damaged("budget"))?;
        Ok((BudgetId(id), record::decode_budget(value)?))
    })
}

/// Parses a key of an area and a number, and nothing else.
fn number_key(key: &[u8]) -> Option<u32> {
    Parts(key.get(1..)?).u32().filter(|id| key.len() == 5 && *id < u32::MAX)
}

/// What jobs draw on budgets.
pub(crate) fn draws<S: Snapshot>(snapshot: &S) -> Result<Vec<(DrawId, DrawRecord)>, StoreError> {
    area(snapshot, Area::Draw, |key, value| {
        let id = number_key(key).filter(|id| *id > 0).ok_or(Damaged("draw"))?;
        Ok((DrawId(id), record::decode_draw(value)?))
    })
}

/// Every cron group.
pub(crate) fn crons<S: Snapshot>(snapshot: &S) -> Result<Vec<(CronName, CronRecord)>, StoreError> {
    area(snapshot, Area::Cron, |key, value| {
        let name = name_in(key.get(1..)).ok_or(Damaged("cron"))?;
        Ok((name, record::decode_cron(value)?))
    })
}

/// The names of a cron group and of an entry in it.
pub(crate) type EntryKey = (CronName, CronName);

/// When each cron entry fires next.
pub(crate) fn cron_states<S: Snapshot>(snapshot: &S) -> Result<Vec<(EntryKey, EntryState)>, StoreError> {
    area(snapshot, Area::CronEntry, |key, value| {
        let mut names = key.get(1..).unwrap_or_default().splitn(2, |byte| *byte == 0);
        let names = name_in(names.next()).zip(name_in(names.next())).ok_or(Damaged("cron entry"))?;
        Ok((names, record::decode_entry_state(value)?))
    })
}

fn name_in(bytes: Option<&[u8]>) -> Option<CronName> {
    CronName::new(std::str::from_utf8(bytes?).ok()?).ok()
}

/// Every access token, and what sessions are signed with.
pub(crate) fn tokens<S: Snapshot>(snapshot: &S) -> Result<Tokens, StoreError> {
    let all = area(snapshot, Area::AccessToken, |key, value| {
        let id = std::str::from_utf8(key.get(1..).unwrap_or_default()).ok().and_then(|id| id.parse().ok());
        Ok((id.ok_or(Damaged("access token"))?, Arc::new(record::decode_token(value)?)))
    })?;
    let key = snapshot.get(&keys::session_key())?.and_then(|key| <[u8; 32]>::try_from(&key[..]).ok());
    Ok(Tokens { all: all.into_iter().collect(), key })
}

/// All stored leases.
pub(crate) fn leases<S: Snapshot>(snapshot: &S) -> Result<Vec<(Stamp, LeaseRecord)>, StoreError> {
    area(snapshot, Area::Lease, |key, value| {
        let stamp = Parts(key.get(1..).unwrap_or_default()).stamp();
        let stamp = stamp.filter(|_| key.len() == 1 + Stamp::BYTES).ok_or(Damaged("lease"))?;
        Ok((stamp, record::decode_lease(value)?))
    })
}

fn area<S: Snapshot, T>(
    snapshot: &S,
    area: Area,
    read: impl Fn(&[u8], &[u8]) -> Result<T, Damaged>,
) -> Result<Vec<T>, StoreError> {
    entries(snapshot, area)
        .map(|entry| {
            let (key, value) = entry?;
            read(&key, &value).map_err(|e| e.at(&key))
        })
        .collect()
}

/// All stored answers.
pub(crate) fn answers<S: Snapshot>(snapshot: &S) -> Result<Vec<(Arc<str>, AnswerRecord)>, StoreError> {
    area(snapshot, Area::Answer, |key, value| {
        let text = key.get(1..).and_then(|text| std::str::from_utf8(text).ok()).ok_or(Damaged("answer"))?;
        Ok((text.into(), record::decode_answer(value)?))
    })
}

/// The parts of a stored answer; `None` if one of them is missing.
pub(crate) fn answer<S: Snapshot>(
    snapshot: &S,
    key: &str,
    parts: u32,
) -> Result<Option<Vec<Bytes>>, StoreError> {
    (0..parts).map(|number| snapshot.get(&keys::answer_part(key.as_bytes(), number))).collect()
}

/// Checks that this version can read the store. An empty store is readable.
///
/// # Errors
/// [`StoreError::UnknownFormat`].
pub(crate) fn check_format<S: Snapshot>(snapshot: &S) -> Result<(), StoreError> {
    let key = keys::meta("format");
    match snapshot.get(&key)?.as_deref() {
        None | Some([keys::FIRST_FORMAT..=keys::FORMAT]) => Ok(()),
        Some([format]) => Err(StoreError::UnknownFormat(*format)),
        Some(_) => Err(Damaged("format").at(&key)),
    }
}

/// The last stored time of the engine.
pub(crate) fn clock<S: Snapshot>(snapshot: &S) -> Result<ClockRecord, StoreError> {
    let (key, wall_key) = (keys::meta("clock"), keys::meta("wall"));
    let latest = snapshot.get(&key)?;
    let latest = latest.map(|value| record::decode_time(&value).ok_or_else(|| Damaged("clock").at(&key)));
    let wall = snapshot.get(&wall_key)?;
    let wall = wall.map(|value| record::decode_wall(&value).ok_or_else(|| Damaged("clock").at(&wall_key)));
    let (wall, back_from) = wall.transpose()?.unwrap_or_default();
    Ok(ClockRecord { latest: latest.transpose()?.unwrap_or_default(), wall, back_from })
}

/// One failed attempt of a job.
pub(crate) fn error<S: Snapshot>(
    snapshot: &S,
    id: JobId,
    attempt: u32,
) -> Result<Option<ErrorRecord>, StoreError> {
    let key = keys::error(id, attempt);
    snapshot.get(&key)?.map(|record| record::decode_error(&record).map_err(|e| e.at(&key))).transpose()
}

/// The jobs that have a tag.
pub(crate) fn holders<S: Snapshot>(snapshot: &S, tag: &Tag) -> Result<Vec<Holder>, StoreError> {
    let key = keys::tag(tag);
    let record = snapshot.get(&key)?;
    record.map_or(Ok(Vec::new()), |record| record::decode_holders(&record).map_err(|e| e.at(&key)))
}

/// A run of jobs in enqueue order, of one queue and status; ready jobs also of one priority, or those that draw on
/// budgets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub status: Status,
    pub queue: QueueId,
    pub draw: DrawId,
    /// Meaningful only for ready jobs.
    pub priority: u16,
    /// No job of the run comes before it.
    pub first: Stamp,
}

impl Run {
    /// The jobs of the run from `from` on in the requested direction, including the job with that stamp.
    pub(crate) fn walk<S: Snapshot>(
        self,
        snapshot: &S,
        from: Option<Stamp>,
        descending: bool,
    ) -> impl Iterator<Item = Result<(Stamp, Bytes), StoreError>> + Send + use<S> {
        let key = |stamp| keys::job(self.place(stamp));
        let (start, end) = match (from, descending) {
            (None, _) => (key(self.first), self.end()),
            (Some(from), false) => (key(self.first.max(from)), self.end()),
            (Some(from), true) => (key(self.first), from.checked_next().map_or_else(|| self.end(), key)),
        };
        snapshot.scan(&start, &end, descending).map(|entry| {
            let (key, record) = entry?;
            let stamp = key.len().checked_sub(Stamp::BYTES).and_then(|at| Parts(key.get(at..)?).stamp());
            Ok((stamp.ok_or_else(|| Damaged("job").at(&key))?, record))
        })
    }

    pub(crate) const fn place(self, stamp: Stamp) -> Place {
        Place { status: self.status, queue: self.queue, draw: self.draw, priority: self.priority, stamp }
    }

    fn end(self) -> Key {
        match self.place(Stamp::MIN).area() {
            Area::Ready => lane_end(self.queue, DrawId::NONE, self.priority),
            area => queue_end(area, self.queue),
        }
    }
}
