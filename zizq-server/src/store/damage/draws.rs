//! Repairs draws on budgets after a record was lost: the job's place in the order of jobs with the same draw, and the
//! number of such jobs.

use std::collections::BTreeMap;

use protocol::budget::Binding;
use protocol::name::BudgetKey;

use super::job_key;
use crate::job::Job;
use crate::job::draw::{BudgetId, DrawId};
use crate::job::id::{QueueId, Stamp};
use crate::job::place::Place;
use crate::store::batch::Batch;
use crate::store::keys::{self, Area};
use crate::store::record::{self, DrawRecord};
use crate::store::{Snapshot, StoreError, view};

/// In the store while draws must be recounted, because not every lost job tells what it drew.
const MARK: &str = "recount";

pub(super) fn mark(batch: &mut Batch) {
    batch.put_mark(MARK);
}

/// Adds to a place the draw and the priority of its order in the queue. A plain place stays as it is.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn in_order<S: Snapshot>(snapshot: &S, place: Place) -> Result<Place, StoreError> {
    if place.area() != Area::Drawing {
        return Ok(place);
    }
    let from = keys::lane(place.queue, DrawId(1), 0, Stamp::MIN);
    for entry in snapshot.scan(&from, &view::queue_end(Area::Lane, place.queue), false) {
        let (key, _) = entry?;
        if let Some(found) = view::lane_place(&key).ok().filter(|found| found.stamp == place.stamp) {
            return Ok(found);
        }
    }
    Ok(place)
}

/// Subtracts one job from those with this draw, and removes it from the order.
pub(super) fn leave<S: Snapshot>(snapshot: &S, place: Place, batch: &mut Batch) -> Result<(), StoreError> {
    let place = in_order(snapshot, place)?;
    batch.remove_lane(place);
    let key = keys::draw(place.draw);
    if let Some(Ok(mut draw)) = snapshot.get(&key)?.map(|record| record::decode_draw(&record)) {
        draw.unfinished = draw.unfinished.saturating_sub(1);
        batch.put_draw(place.draw, &draw);
    }
    Ok(())
}

/// The changes that correct the number of jobs of every draw; `None` if no recount is needed.
///
/// # Errors
/// When the store cannot be read, or another record is damaged.
pub(crate) fn recounted<S: Snapshot>(snapshot: &S) -> Result<Option<Batch>, StoreError> {
    let mark = keys::meta(MARK);
    if snapshot.get(&mark)?.is_none() {
        return Ok(None);
    }
    let budgets = view::budgets(snapshot)?.into_iter().map(|(id, budget)| (budget.key, id)).collect();
    let mut counted: BTreeMap<u32, DrawRecord> = BTreeMap::new();
    for area in [Area::Drawing, Area::Scheduled] {
        let (from, to) = (keys::parked(area, QueueId(0), Stamp::MIN), keys::start(area as u8 + 1));
        for entry in snapshot.scan(&from, &to, false) {
            let (key, record) = entry?;
            let Some(place) = job_key(&key) else { continue };
            let job = record::decode_job(place, &record).map_err(|e| e.at(&key))?;
            if !job.draw.is_none() {
                let draw = || DrawRecord { costs: costs(&job, &budgets), unfinished: 0 };
                counted.entry(job.draw.0).or_insert_with(draw).unfinished += 1;
            }
        }
    }
    let mut batch = Batch::default();
    for (id, DrawRecord { costs, .. }) in view::draws(snapshot)? {
        match counted.get_mut(&id.0) {
            Some(draw) => draw.costs = costs,
            None => batch.remove_draw(id),
        }
    }
    counted.iter().for_each(|(id, draw)| batch.put_draw(DrawId(*id), draw));
    batch.remove_mark(MARK);
    Ok(Some(batch))
}

fn costs(job: &Job, budgets: &BTreeMap<BudgetKey, BudgetId>) -> Vec<(u32, u32)> {
    let bindings = job.flow.as_ref().map_or(&[][..], |flow| &flow.budgets);
    let cost = |Binding { key, cost }: &Binding| Some((budgets.get(key)?.0, *cost));
    let mut costs: Vec<_> = bindings.iter().filter_map(cost).collect();
    costs.sort_unstable();
    costs
}
