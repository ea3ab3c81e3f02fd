//! Handles records that cannot be read.
//!
//! Such a record must neither stop the server nor fail again and again: it is moved to its own area, where nothing
//! looks for it but people can inspect it, and whatever depends on it is repaired. How many jobs draw on a budget is
//! recounted at the next start if needed. Only which jobs have a unique key or are an open batch is not recovered; and
//! jobs whose budget is lost do not wait for it.
//!
//! fjall's checksums find damage in the store's files earlier. This module is for damage that they cannot detect, and
//! for what depends on records that were lost with a part of a file.

pub(crate) mod draws;
pub(crate) mod mend;

use protocol::job::Status;
use protocol::name::QueueName;

use super::batch::Batch;
use super::keys::{self, Area, Key, Parts};
use super::record::{self, QueueRecord};
use super::{Snapshot, StoreError, bulk, view};
use crate::hash::HashSet;
use crate::job::Job;
use crate::job::counts::Counts;
use crate::job::draw::DrawId;
use crate::job::id::{QueueId, Stamp};
use crate::job::place::Place;

const STATUSES: [Status; 4] = [Status::Scheduled, Status::Ready, Status::Completed, Status::Dead];

/// The changes that set the record under this key aside.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn set_aside<S: Snapshot>(snapshot: &S, key: &Key) -> Result<Batch, StoreError> {
    let mut batch = Batch::default();
    let Some(value) = snapshot.get(key)? else { return Ok(batch) };
    batch.set_aside(key.clone(), &value);
    if let Some(id) = view::queue_key(key) {
        batch.put_queue(id, &rebuilt_queue(snapshot, id, &value)?);
    } else if let Some(place) = job_key(key) {
        if let Ok(Some(mut queue)) = view::queue(snapshot, place.queue) {
            let count = queue.counts.of_mut(place.status);
            *count = count.saturating_sub(1);
            batch.put_queue(place.queue, &queue);
        }
        match place.area() {
            Area::Drawing => draws::leave(snapshot, place, &mut batch)?,
            Area::Scheduled => draws::mark(&mut batch),
            _ => {}
        }
    } else if let Some((due, stamp)) = view::timer_key(key)
        && let Some(job) = job_of(snapshot, stamp, |job| job.due() == Some(due))?
    {
        batch.put_job(&job);
    } else if let Some(stamp) = view::moved_key(key)
        && let Some(job) = job_of(snapshot, stamp, Job::is_moved)?
    {
        batch.put_moved(&job);
    } else if key.first() == Some(&(Area::Draw as u8)) {
        draws::mark(&mut batch);
    } else if let Some(call) = key.strip_prefix(&[Area::Answer as u8]) {
        let (from, to) = (keys::answer_part(call, 0), keys::answer_part(call, u32::MAX));
        for part in snapshot.scan(&from, &to, false) {
            batch.remove(part?.0);
        }
    } else {
        bulk::set_parts_aside(snapshot, key, &mut batch)?;
    }
    Ok(batch)
}

/// Rewrites a job in flight as one whose worker may still report.
pub(crate) fn replace(job: &Job) -> Batch {
    let mut batch = Batch::default();
    batch.put_job(&Job { lapsed: true, ..job.clone() });
    batch
}

/// The place of the job whose record is under this key. The priority of a ready job is that of the key.
pub fn job_key(key: &[u8]) -> Option<Place> {
    let mut parts = Parts(key);
    let area = parts.u8()?;
    let drawing = area == Area::Drawing as u8;
    let of_area = |status: &Status| Area::of(*status) as u8 == area;
    let status = if drawing { Status::Ready } else { STATUSES.into_iter().find(of_area)? };
    let queue = parts.queue()?;
    let priority = if status == Status::Ready && !drawing { parts.u16()? } else { 0 };
    let draw = if drawing { DrawId::SOME } else { DrawId::NONE };
    let place = Place { status, queue, draw, priority, stamp: parts.stamp()? };
    (keys::job(place)[..] == *key).then_some(place)
}

/// Rebuilds the record of a queue, with its jobs recounted. If the damage left its name neither in the record nor
/// elsewhere, the queue gets a name by which it can be found.
fn rebuilt_queue<S: Snapshot>(snapshot: &S, id: QueueId, damaged: &[u8]) -> Result<QueueRecord, StoreError> {
    let mut others = HashSet::default();
    for entry in view::entries(snapshot, Area::Queue) {
        let (key, record) = entry?;
        others.extend(record::decode_queue_name(&record).filter(|_| key[..] != keys::queue(id)[..]));
    }
    let apart = snapshot.get(&keys::queue_name(id))?;
    let apart = apart.and_then(|name| record::decode_queue_name(&name));
    let found = record::decode_queue_name(damaged).into_iter().chain(apart);
    let made_up = (0_u64..).filter_map(|n| QueueName::new(&format!("damaged-{}-{n}", id.0)).ok());
    let name = found.chain(made_up).find(|name| !others.contains(name));
    let mut counts = Counts::default();
    let drawing = [(Status::Ready, Area::Drawing)];
    for (status, area) in STATUSES.map(|status| (status, Area::of(status))).into_iter().chain(drawing) {
        let (from, to) = (keys::parked(area, id, Stamp::MIN), view::queue_end(area, id));
        for entry in snapshot.scan(&from, &to, false) {
            *counts.of_mut(status) += u64::from(job_key(&entry?.0).is_some());
        }
    }
    let name =
        name.ok_or_else(|| StoreError::Failed("no free name is left for a damaged queue".to_owned()))?;
    Ok(QueueRecord { name, counts, paused: false })
}

/// Finds a job of which only the stamp is known.
fn job_of<S: Snapshot>(
    snapshot: &S,
    stamp: Stamp,
    is_it: impl Fn(&Job) -> bool,
) -> Result<Option<Job>, StoreError> {
    for entry in view::entries(snapshot, Area::Queue) {
        let Some(queue) = view::queue_key(&entry?.0) else { continue };
        let lanes = view::lanes(snapshot, queue).unwrap_or_default();
        let ready = lanes.into_iter().map(|(draw, priority, _)| (Status::Ready, draw, priority));
        let others = STATUSES.into_iter().filter(|status| *status != Status::Ready);
        for (status, draw, priority) in others.map(|status| (status, DrawId::NONE, 0)).chain(ready) {
            let place = Place { status, queue, draw, priority, stamp };
            let Some(record) = snapshot.get(&keys::job(place))? else { continue };
            if let Some(job) = record::decode_job(place, &record).ok().filter(&is_it) {
                return Ok(Some(job));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
