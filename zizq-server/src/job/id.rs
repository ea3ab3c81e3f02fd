//! The bits of a job id, which alone tells where the job was stored at enqueue.
//!
//! ```text
//! 48 bits milliseconds | 24 bits count | 32 bits queue | 16 bits priority | 8 bits engine
//! ```
//!
//! The first 72 bits, the stamp, are unique within an engine and grow with every job. Queue and priority are those at
//! enqueue. The last 8 bits are reserved for the number of the engine that made the id. There is one engine, and its
//! number is 0: nothing else may be put there, and nobody may take an id with another number for one of a job here.

use protocol::id::JobId;

/// The number of a queue in keys and ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u32);

/// The part of a job id that is unique and in enqueue order: 72 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u128);

impl Stamp {
    /// The length in keys, in bytes.
    pub const BYTES: usize = 9;
    /// The stamp before every job.
    pub const MIN: Self = Self(0);
    /// The last stamp.
    pub const MAX: Self = Self((1 << (8 * Self::BYTES)) - 1);

    const ID_SHIFT: u32 = 56;
    const COUNT_BITS: u32 = 24;

    pub const fn of(id: JobId) -> Self {
        Self(id.to_u128() >> Self::ID_SHIFT)
    }

    /// An id that is between those of the jobs before this stamp and those from it on.
    pub(crate) const fn boundary(self) -> JobId {
        Home { queue: QueueId(0), priority: 0 }.id(self)
    }

    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// When it was generated, in milliseconds since the Unix epoch.
    #[expect(clippy::cast_possible_truncation, reason = "a stamp has 48 bits of time")]
    pub const fn millis(self) -> u64 {
        (self.0 >> Self::COUNT_BITS) as u64
    }

    pub const fn to_bits(self) -> u128 {
        self.0
    }

    /// The next stamp.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// As [`Stamp::next`]; `None` after the last.
    pub fn checked_next(self) -> Option<Self> {
        let next = self.next();
        (next.0 >> (8 * Self::BYTES) == 0).then_some(next)
    }

    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let [.., a, b, c, d, e, f, g, h, i] = self.0.to_be_bytes();
        [a, b, c, d, e, f, g, h, i]
    }
}

impl std::fmt::Debug for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.0 >> Self::COUNT_BITS, self.0 & ((1 << Self::COUNT_BITS) - 1))
    }
}

/// Where a job was stored when it was enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Home {
    pub queue: QueueId,
    pub priority: u16,
}

/// The number of the only engine there is. The ids of two engines may differ in this alone.
const ENGINE: u8 = 0;

impl Home {
    #[expect(clippy::cast_possible_truncation, reason = "takes the bits apart")]
    pub(crate) const fn of(id: JobId) -> Self {
        let bits = id.to_u128();
        Self { queue: QueueId((bits >> 24) as u32), priority: (bits >> 8) as u16 }
    }

    pub(crate) const fn id(self, stamp: Stamp) -> JobId {
        JobId::from_u128(
            stamp.0 << Stamp::ID_SHIFT
                | (self.queue.0 as u128) << 24
                | (self.priority as u128) << 8
                | ENGINE as u128,
        )
    }
}

/// Generates stamps from the engine's time, and a counter that continues when the clock stands still or steps back.
#[derive(Debug, Clone)]
pub(crate) struct Stamps {
    last: u128,
}

impl Stamps {
    /// Starts after everything that was generated before `millis`.
    pub(crate) const fn starting_at(millis: u64) -> Self {
        Self { last: (millis as u128) << Stamp::COUNT_BITS }
    }

    /// The last generated stamp.
    pub(crate) const fn last(&self) -> Stamp {
        Stamp(self.last)
    }

    /// The time of the last stamp, in milliseconds since the Unix epoch.
    pub(crate) const fn millis(&self) -> u64 {
        self.last().millis()
    }

    pub(crate) fn next(&mut self, now: u64) -> Stamp {
        self.last = (u128::from(now) << Stamp::COUNT_BITS).max(self.last + 1);
        Stamp(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_where_its_job_was_stored() {
        let home = Home { queue: QueueId(u32::MAX - 5), priority: 40_000 };
        let stamp = Stamps::starting_at(7).next(1_900_000_000_000);
        let id = home.id(stamp);
        assert_eq!((Home::of(id), Stamp::of(id)), (home, stamp));
    }

    #[test]
    fn the_last_eight_bits_of_an_id_are_the_number_of_the_engine() {
        let homes =
            [Home { queue: QueueId(0), priority: 0 }, Home { queue: QueueId(u32::MAX), priority: u16::MAX }];
        for home in homes {
            for stamp in [Stamp::MIN, Stamp::from_bits((1 << (8 * Stamp::BYTES)) - 1)] {
                let bits = home.id(stamp).to_u128();
                assert_eq!(bits & 0xff, 0, "{home:?} {stamp:?}");
                // The rest of an id with another engine's number means the same.
                let other = JobId::from_u128(bits | 0xff);
                assert_eq!((Home::of(other), Stamp::of(other)), (home, stamp));
            }
        }
    }

    #[test]
    fn stamps_grow_even_if_the_clock_steps_back() {
        let mut stamps = Stamps::starting_at(1000);
        let times = [999, 1000, 1000, 2000, 1500, 2000, 2001];
        let handed_out: Vec<Stamp> = times.iter().map(|now| stamps.next(*now)).collect();
        assert!(handed_out.is_sorted_by(|a, b| a < b));
    }
}
