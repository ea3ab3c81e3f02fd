//! The ready jobs of one queue, in the order (priority, age). Each priority is a lane.

use crate::job::place::LaneAt;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::window::{Limits, Weigh, Window};
use crate::job::Job;
use crate::job::draw::DrawId;
use crate::job::id::{QueueId, Stamp};
use crate::job::place::Place;

impl Weigh for Arc<Job> {
    fn weight(&self) -> usize {
        self.as_ref().weight()
    }
}

/// How much of a lane is in memory. In tests the limits are low, so that they are crossed all the time.
const LANE: Limits = if cfg!(test) {
    Limits { items: 16, bytes: 512 * 1024 }
} else {
    Limits { items: 512, bytes: 8 * 1024 * 1024 }
};
/// The number of jobs read from the store at a time.
pub(crate) const REFILL: usize = LANE.items / 2;
/// The approximate total weight of these jobs, in bytes.
pub(crate) const REFILL_BYTES: usize = LANE.bytes / 2;
/// The most that the ready jobs of all queues in memory may weigh, in bytes.
const MAX_BYTES: usize = if cfg!(test) { 1024 * 1024 } else { 128 * 1024 * 1024 };
/// The part of it that jobs which draw on budgets may use: while they wait for tokens they may be many, and for long.
const MAX_DRAWING_BYTES: usize = MAX_BYTES / 2;
/// The number of empty lanes that are kept. Any more are forgotten.
const MAX_IDLE_LANES: usize = if cfg!(test) { 2 } else { 16 };

/// Something that must be read from the store before dispatch can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// The lanes that the queue has.
    Lanes(QueueId),
    /// The next jobs of a lane.
    Lane(LaneAt),
    /// The payload of a job in flight.
    Payload(Place),
}

/// The next job of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Head {
    None,
    Job {
        priority: u16,
        stamp: Stamp,
        draw: DrawId,
    },
    /// It is in the store, not before this priority and stamp.
    InStore {
        priority: u16,
        stamp: Stamp,
        draw: DrawId,
        wanted: Wanted,
    },
}

impl Head {
    /// The order by which the heads of different lanes and queues are compared.
    pub(in crate::engine) const fn order(&self) -> Option<(u16, Stamp)> {
        match self {
            Self::None => None,
            Self::Job { priority, stamp, .. } | Self::InStore { priority, stamp, .. } => {
                Some((*priority, *stamp))
            }
        }
    }

    /// The draw of the next job.
    pub(in crate::engine) const fn draw(&self) -> DrawId {
        match self {
            Self::None => DrawId::NONE,
            Self::Job { draw, .. } | Self::InStore { draw, .. } => *draw,
        }
    }
}

/// The oldest ready job, by the order of enqueueing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Oldest {
    None,
    /// It has been ready since this time.
    Since(Stamp, u64),
    /// Only the store knows.
    InStore,
}

impl Oldest {
    pub(in crate::engine) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::InStore, _) | (_, Self::InStore) => Self::InStore,
            (Self::None, one) | (one, Self::None) => one,
            (Self::Since(one, _), Self::Since(other_stamp, _)) if one <= other_stamp => self,
            _ => other,
        }
    }
}

#[derive(Debug)]
struct Lane {
    jobs: Window<Stamp, Arc<Job>>,
    /// The number of jobs removed since the cursor of the lane was last written.
    removed: usize,
}

#[derive(Debug)]
pub(in crate::engine) struct Lanes {
    queue: QueueId,
    draw: DrawId,
    lanes: BTreeMap<u16, Lane>,
    /// Whether the store has been asked which lanes there are. Until then, only the store has them.
    known: bool,
}

impl Lanes {
    pub(in crate::engine) const fn new(queue: QueueId, draw: DrawId, known: bool) -> Self {
        Self { queue, draw, lanes: BTreeMap::new(), known }
    }

    pub(in crate::engine) const fn is_known(&self) -> bool {
        self.known
    }

    fn at(&self, priority: u16, from: Stamp) -> Wanted {
        Wanted::Lane(LaneAt { queue: self.queue, draw: self.draw, priority, from })
    }

    fn lane(&mut self, priority: u16) -> &mut Lane {
        self.lanes.entry(priority).or_insert_with(|| Lane { jobs: Window::new(LANE, None), removed: 0 })
    }

    /// Adds a job that is also in the store. If memory is short, it stays there alone.
    pub(in crate::engine) fn insert(&mut self, job: Arc<Job>, bytes: &mut usize) {
        if !self.known {
            return;
        }
        let most = if self.draw.is_none() { MAX_BYTES } else { MAX_DRAWING_BYTES };
        let stamp = Stamp::of(job.id);
        let jobs = &mut self.lane(job.priority).jobs;
        let before = jobs.weight();
        if *bytes < most {
            jobs.insert(stamp, job)
        } else {
            jobs.leave_in_store(stamp)
        }
        *bytes = *bytes + jobs.weight() - before;
    }

    pub(in crate::engine) fn head(&self) -> Head {
        if !self.known {
            let wanted = Wanted::Lanes(self.queue);
            return Head::InStore { priority: 0, stamp: Stamp::MIN, draw: self.draw, wanted };
        }
        for (&priority, lane) in &self.lanes {
            if let Some((stamp, _)) = lane.jobs.front() {
                return Head::Job { priority, stamp: *stamp, draw: self.draw };
            }
            if let Some(from) = lane.jobs.horizon() {
                return Head::InStore {
                    priority,
                    stamp: from,
                    draw: self.draw,
                    wanted: self.at(priority, from),
                };
            }
        }
        Head::None
    }

    /// Takes the first job of a lane. Also returns what to read if it leaves little behind.
    pub(in crate::engine) fn pop(
        &mut self,
        priority: u16,
        bytes: &mut usize,
    ) -> Option<(Arc<Job>, Option<Wanted>)> {
        let lane = self.lanes.get_mut(&priority)?;
        let (_, job) = lane.jobs.pop_front()?;
        *bytes -= job.weight();
        let from = lane.jobs.horizon().filter(|_| lane.jobs.is_low());
        if lane.jobs.is_exhausted() && self.lanes.len() > MAX_IDLE_LANES {
            self.lanes.remove(&priority);
        }
        Some((job, from.map(|from| self.at(priority, from))))
    }

    pub(in crate::engine) fn remove(&mut self, priority: u16, stamp: Stamp, bytes: &mut usize) {
        if let Some(job) = self.lanes.get_mut(&priority).and_then(|lane| lane.jobs.remove(stamp)) {
            *bytes -= job.weight();
        }
    }

    /// Takes in the lanes that the store has.
    pub(in crate::engine) fn discover(&mut self, lanes: impl IntoIterator<Item = (u16, Stamp)>) {
        self.known = true;
        for (priority, from) in lanes {
            self.lanes.insert(priority, Lane { jobs: Window::new(LANE, Some(from)), removed: 0 });
        }
    }

    /// Takes in what was read of a lane. An answer to an earlier question is dropped.
    pub(in crate::engine) fn refill(
        &mut self,
        lane: LaneAt,
        jobs: Vec<Arc<Job>>,
        next: Option<Stamp>,
        bytes: &mut usize,
    ) {
        if let Some(found) = self.lanes.get_mut(&lane.priority)
            && found.jobs.horizon() == Some(lane.from)
        {
            let before = found.jobs.weight();
            found.jobs.refill(jobs.into_iter().map(|job| (Stamp::of(job.id), job)), next);
            *bytes = *bytes + found.jobs.weight() - before;
        }
    }

    /// Notes that a job of the lane has left the store. Returns true if enough have left for the cursor to move up.
    pub(in crate::engine) fn note_removed(&mut self, priority: u16, enough: usize) -> bool {
        if !self.known {
            return false;
        }
        let lane = self.lane(priority);
        lane.removed += 1;
        let due = lane.removed >= enough;
        if due {
            lane.removed = 0;
        }
        due
    }

    /// Returns the oldest ready job.
    pub(in crate::engine) fn oldest(&self) -> Oldest {
        if !self.known {
            return Oldest::InStore;
        }
        let of_lane = |lane: &Lane| match (lane.jobs.front(), lane.jobs.horizon()) {
            (Some((stamp, job)), _) => Oldest::Since(*stamp, job.ready_at),
            (None, Some(_)) => Oldest::InStore,
            (None, None) => Oldest::None,
        };
        self.lanes.values().map(of_lane).fold(Oldest::None, Oldest::or)
    }

    /// Returns the first job of a lane that is neither in flight nor gone; none if the lane is empty.
    pub(in crate::engine) fn first(&self, priority: u16) -> Option<Stamp> {
        let jobs = &self.lanes.get(&priority)?.jobs;
        jobs.front().map(|(stamp, _)| *stamp).or(jobs.horizon())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_draw_on_budgets_leave_memory_for_the_others() {
        for (draw, most) in [(DrawId::NONE, MAX_BYTES), (DrawId(1), MAX_DRAWING_BYTES)] {
            let mut lanes = Lanes::new(QueueId(1), draw, true);
            let mut bytes = most - 1;
            for n in [1, 2] {
                lanes.insert(Arc::new(Job { draw, ..Job::sample(n) }), &mut bytes);
            }
            assert!(lanes.pop(5, &mut bytes).is_some(), "there was room for the first");
            assert!(matches!(lanes.head(), Head::InStore { .. }), "but not for both: {:?}", lanes.head());
        }
    }
}
