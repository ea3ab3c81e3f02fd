//! Between which stamps jobs lie.

use protocol::job::Status;

use super::counts::Counts;
use super::id::Stamp;

/// The stamps between which jobs lie, both included. It may be wider than needed, but no job lies outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    first: Stamp,
    last: Stamp,
}

impl Extent {
    /// Of no job.
    pub const NONE: Self = Self { first: Stamp::MAX, last: Stamp::MIN };
    /// Of jobs of which nothing is known.
    pub const ALL: Self = Self { first: Stamp::MIN, last: Stamp::MAX };

    pub fn is_none(self) -> bool {
        self.first > self.last
    }

    pub fn includes(self, stamp: Stamp) -> bool {
        (self.first..=self.last).contains(&stamp)
    }

    pub fn include(&mut self, stamp: Stamp) {
        self.widen(Self { first: stamp, last: stamp });
    }

    pub fn widen(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

    /// The end at which a walk in this direction begins.
    pub const fn start(self, descending: bool) -> Stamp {
        if descending { self.last } else { self.first }
    }

    pub const fn start_mut(&mut self, descending: bool) -> &mut Stamp {
        if descending { &mut self.last } else { &mut self.first }
    }
}

/// The extents of a queue's jobs by stored status: those in flight as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extents {
    scheduled: Extent,
    ready: Extent,
    completed: Extent,
    dead: Extent,
}

/// The statuses under which jobs are stored.
pub(crate) const STORED: [Status; 4] = [Status::Scheduled, Status::Ready, Status::Completed, Status::Dead];

impl Extents {
    pub const NONE: Self = Self::all_of(Extent::NONE);
    pub const ALL: Self = Self::all_of(Extent::ALL);

    const fn all_of(extent: Extent) -> Self {
        Self { scheduled: extent, ready: extent, completed: extent, dead: extent }
    }

    /// Those of a queue of which only the numbers of its jobs are known.
    pub fn of_counts(counts: &Counts) -> Self {
        let mut extents = Self::ALL;
        extents.clear_empty(counts);
        extents
    }

    /// Takes back what is said of statuses in which there is no job. Returns whether anything was.
    pub fn clear_empty(&mut self, counts: &Counts) -> bool {
        let mut cleared = false;
        for status in STORED.into_iter().filter(|status| counts.stored(*status) == 0) {
            let extent = self.of_mut(status);
            cleared |= !extent.is_none();
            *extent = Extent::NONE;
        }
        cleared
    }

    pub fn widen(&mut self, other: &Self) {
        for status in STORED {
            self.of_mut(status).widen(other.of(status));
        }
    }

    pub const fn of(&self, status: Status) -> Extent {
        match status {
            Status::Scheduled => self.scheduled,
            Status::Ready | Status::InFlight => self.ready,
            Status::Completed => self.completed,
            Status::Dead => self.dead,
        }
    }

    pub const fn of_mut(&mut self, status: Status) -> &mut Extent {
        match status {
            Status::Scheduled => &mut self.scheduled,
            Status::Ready | Status::InFlight => &mut self.ready,
            Status::Completed => &mut self.completed,
            Status::Dead => &mut self.dead,
        }
    }
}
