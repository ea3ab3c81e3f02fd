//! Numbers of jobs.

use protocol::job::Status;
use serde::{Deserialize, Serialize};

/// The number of a queue's jobs in each stored status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub scheduled: u64,
    pub ready: u64,
    pub completed: u64,
    pub dead: u64,
}

impl Counts {
    pub const fn of_mut(&mut self, status: Status) -> &mut u64 {
        match status {
            Status::Scheduled => &mut self.scheduled,
            Status::Ready | Status::InFlight => &mut self.ready,
            Status::Completed => &mut self.completed,
            Status::Dead => &mut self.dead,
        }
    }

    /// The number of jobs that are stored under a status: those in flight as ready.
    pub const fn stored(&self, status: Status) -> u64 {
        match status {
            Status::Scheduled => self.scheduled,
            Status::Ready | Status::InFlight => self.ready,
            Status::Completed => self.completed,
            Status::Dead => self.dead,
        }
    }

    pub const fn add(&mut self, other: &Self) {
        self.scheduled += other.scheduled;
        self.ready += other.ready;
        self.completed += other.completed;
        self.dead += other.dead;
    }

    pub const fn total(&self) -> u64 {
        self.scheduled + self.ready + self.completed + self.dead
    }
}
