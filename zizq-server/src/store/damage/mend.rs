//! Repairs whatever depends on records that were lost with a part of the store's files, when it is unknown which
//! records those were.

use std::collections::BTreeMap;

use protocol::job::Status;

use super::{STATUSES, draws, job_key, rebuilt_queue};
use crate::job::Job;
use crate::job::counts::Counts;
use crate::job::id::{QueueId, Stamp};
use crate::store::batch::Batch;
use crate::store::disk::salvage::MARK;
use crate::store::keys::{self, Area};
use crate::store::record;
use crate::store::{Snapshot, StoreError, view};

/// The changes that correct the job counts of queues and the indexes of jobs; `None` if nothing was lost.
///
/// # Errors
/// When the store cannot be read, or another record is damaged.
pub(crate) fn mended<S: Snapshot>(snapshot: &S) -> Result<Option<Batch>, StoreError> {
    let mark = keys::meta(MARK);
    if snapshot.get(&mark)?.is_none() {
        return Ok(None);
    }
    let mut batch = Batch::default();
    let mut counted: BTreeMap<u32, Counts> = BTreeMap::new();
    let areas = STATUSES.into_iter().map(|status| (status, Area::of(status)));
    for (status, area) in areas.chain([(Status::Ready, Area::Drawing)]) {
        for entry in view::entries(snapshot, area) {
            let (key, value) = entry?;
            let Some(place) = job_key(&key) else { continue };
            *counted.entry(place.queue.0).or_default().of_mut(status) += 1;
            let job = record::decode_job(place, &value).map_err(|e| e.at(&key))?;
            find_again(snapshot, &job, &mut batch)?;
        }
    }
    for (id, queue) in view::queues(snapshot)? {
        let counts = counted.remove(&id.0).unwrap_or_default();
        batch.put_queue(id, &record::QueueRecord { counts, ..queue });
    }
    for id in counted.into_keys().map(QueueId) {
        batch.put_queue(id, &rebuilt_queue(snapshot, id, &[])?);
    }
    // A job that was restored may be before the cursors.
    for ((queue, draw, priority), _) in view::all_cursors(snapshot)? {
        batch.remove_cursor(queue, draw, priority);
    }
    draws::mark(&mut batch);
    batch.remove_mark(MARK);
    Ok(Some(batch))
}

/// Rewrites a job whose timer, lane entry or location was lost.
fn find_again<S: Snapshot>(snapshot: &S, job: &Job, batch: &mut Batch) -> Result<(), StoreError> {
    let stamp = Stamp::of(job.id);
    let timer = job.due().map(|due| keys::timer(due, stamp));
    let place = job.place();
    let lane = (place.area() == Area::Drawing)
        .then(|| keys::lane(place.queue, place.draw, place.priority, place.stamp));
    for key in timer.into_iter().chain(lane) {
        if snapshot.get(&key)?.is_none() {
            batch.put_job(job);
        }
    }
    if job.is_moved() && snapshot.get(&keys::moved(job.id))?.is_none() {
        batch.put_moved(job);
    }
    Ok(())
}
