//! How counts and flows developed: rings of points, one per second, minute or hour.

use std::collections::VecDeque;

use crate::engine::command::jobs::JobCounts;
use crate::engine::command::report::Tally;
use protocol::job::Status;

/// The distance of two points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Second = 1_000,
    Minute = 60_000,
    Hour = 3_600_000,
}

/// A part of the past, up to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    TenMinutes,
    ThreeHours,
    Day,
    Week,
    Month,
}

impl Range {
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("10m", Self::TenMinutes),
        ("3h", Self::ThreeHours),
        ("24h", Self::Day),
        ("7d", Self::Week),
        ("30d", Self::Month),
    ];

    /// The distance of its points.
    pub(crate) const fn step(self) -> Step {
        match self {
            Self::TenMinutes => Step::Second,
            Self::ThreeHours | Self::Day => Step::Minute,
            Self::Week | Self::Month => Step::Hour,
        }
    }

    /// The number of its points.
    pub(crate) const fn points(self) -> usize {
        match self {
            Self::TenMinutes => 600,
            Self::ThreeHours => 180,
            Self::Day => 1_440,
            Self::Week => 168,
            Self::Month => 720,
        }
    }
}

/// What a point says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Series {
    /// Jobs of a status at the end of the step.
    Scheduled,
    Ready,
    InFlight,
    Dead,
    /// Events during the step.
    Enqueued,
    Delivered,
    Completed,
    Failed,
    /// The mean time that jobs were ready before they were delivered during the step, in milliseconds.
    WaitMs,
    /// The mean time of the attempts that ended during the step, in milliseconds.
    RunMs,
}

impl Series {
    pub(crate) const ALL: [(&'static str, Self); 10] = [
        ("scheduled", Self::Scheduled),
        ("ready", Self::Ready),
        ("in_flight", Self::InFlight),
        ("dead", Self::Dead),
        ("enqueued", Self::Enqueued),
        ("delivered", Self::Delivered),
        ("completed", Self::Completed),
        ("failed", Self::Failed),
        ("wait_ms", Self::WaitMs),
        ("run_ms", Self::RunMs),
    ];
}

/// One step of the past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub scheduled: u32,
    pub ready: u32,
    pub in_flight: u32,
    pub dead: u32,
    pub enqueued: u32,
    pub delivered: u32,
    pub completed: u32,
    pub failed: u32,
    /// [`NOTHING`] if no job was delivered.
    pub wait_ms: u32,
    /// [`NOTHING`] if no attempt ended.
    pub run_ms: u32,
}

/// The mean of no values.
const NOTHING: u32 = u32::MAX;

impl Point {
    /// A step at whose end there were this many jobs, and in which this happened.
    pub(super) fn new(counts: &JobCounts, happened: &Tally) -> Self {
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let mean = |ms: Option<u64>| ms.map_or(NOTHING, |ms| small(ms).min(NOTHING - 1));
        Self {
            scheduled: small(counts.of(Status::Scheduled)),
            ready: small(counts.of(Status::Ready)),
            in_flight: small(counts.of(Status::InFlight)),
            dead: small(counts.of(Status::Dead)),
            enqueued: small(happened.enqueued),
            delivered: small(happened.delivered),
            completed: small(happened.completed),
            failed: small(happened.failed()),
            wait_ms: mean(happened.waited.mean()),
            run_ms: mean(happened.ran.mean()),
        }
    }

    pub(crate) fn get(&self, series: Series) -> Option<u32> {
        Some(match series {
            Series::Scheduled => self.scheduled,
            Series::Ready => self.ready,
            Series::InFlight => self.in_flight,
            Series::Dead => self.dead,
            Series::Enqueued => self.enqueued,
            Series::Delivered => self.delivered,
            Series::Completed => self.completed,
            Series::Failed => self.failed,
            Series::WaitMs => return Some(self.wait_ms).filter(|ms| *ms != NOTHING),
            Series::RunMs => return Some(self.run_ms).filter(|ms| *ms != NOTHING),
        })
    }
}

/// The last points of one step size. A step without a point, when the server did not run, is empty.
#[derive(Debug, Default)]
pub(super) struct Ring {
    points: VecDeque<Option<Point>>,
}

impl Ring {
    /// Adds the point of the step that has just ended, after this many steps without one.
    pub(super) fn push(&mut self, point: Point, gap: u64, most: usize) {
        let gap = usize::try_from(gap).map_or(most, |gap| gap.min(most));
        self.points.extend(std::iter::repeat_n(None, gap));
        self.points.push_back(Some(point));
        let over = self.points.len().saturating_sub(most);
        self.points.drain(..over);
    }

    /// The last points, the oldest first.
    pub(super) fn last(&self, points: usize) -> Vec<Option<Point>> {
        self.points.iter().skip(self.points.len().saturating_sub(points)).copied().collect()
    }
}

/// The history of one thing in steps of a minute and of an hour.
#[derive(Debug, Default)]
pub(crate) struct History {
    minutes: Ring,
    hours: Ring,
    /// What happened in the present minute and hour.
    minute: Tally,
    hour: Tally,
}

impl History {
    /// Counts what has happened.
    pub(super) fn add(&mut self, happened: Tally) {
        self.minute += happened;
        self.hour += happened;
    }

    /// Notes that some steps have ended. `most` are the numbers of minutes and hours to keep.
    pub(super) fn turn(&mut self, ended: Ended, counts: &JobCounts, most: (usize, usize)) {
        if let Some(gap) = ended.minute {
            self.minutes.push(Point::new(counts, &std::mem::take(&mut self.minute)), gap, most.0);
        }
        if let Some(gap) = ended.hour {
            self.hours.push(Point::new(counts, &std::mem::take(&mut self.hour)), gap, most.1);
        }
    }

    pub(super) fn last(&self, range: Range) -> Vec<Option<Point>> {
        match range.step() {
            Step::Second => Vec::new(),
            Step::Minute => self.minutes.last(range.points()),
            Step::Hour => self.hours.last(range.points()),
        }
    }
}

/// The steps that have just ended, each with the number of steps that were missed before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ended {
    pub second: Option<u64>,
    pub minute: Option<u64>,
    pub hour: Option<u64>,
}

/// Tells when steps end. They end at round times of the wall clock, which may be set.
#[derive(Debug)]
pub(super) struct Steps {
    at: u64,
}

impl Steps {
    /// Begins at this time, in milliseconds since the Unix epoch.
    pub(super) const fn starting(at: u64) -> Self {
        Self { at }
    }

    /// Goes on to this time.
    pub(super) fn pass(&mut self, now: u64) -> Ended {
        let before = std::mem::replace(&mut self.at, now);
        // After a step back the present steps simply last longer, or begin again.
        let ended = |step: Step| {
            let passed = (now / step as u64).checked_sub(before / step as u64)?;
            passed.checked_sub(1)
        };
        Ended { second: ended(Step::Second), minute: ended(Step::Minute), hour: ended(Step::Hour) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_end_at_round_times_and_gaps_are_counted() {
        let mut steps = Steps::starting(59_100);
        let ended = |second, minute| Ended { second, minute, hour: None };
        assert_eq!(steps.pass(59_900), ended(None, None));
        assert_eq!(steps.pass(60_100), ended(Some(0), Some(0)));
        assert_eq!(steps.pass(65_000), ended(Some(4), None));
        assert_eq!(steps.pass(30_000), ended(None, None), "the clock was set back");
        assert_eq!(steps.pass(31_000), ended(Some(0), None));
        assert_eq!(steps.pass(3_600_000), Ended { second: Some(3_568), minute: Some(59), hour: Some(0) });
    }

    #[test]
    fn a_ring_keeps_the_newest_points_and_shows_gaps() {
        let mut ring = Ring::default();
        let point = |ready| Point { ready, ..Point::default() };
        ring.push(point(1), 0, 4);
        ring.push(point(2), 1, 4);
        assert_eq!(ring.last(10), [Some(point(1)), None, Some(point(2))]);
        assert_eq!(ring.last(2), [None, Some(point(2))]);
        ring.push(point(3), u64::MAX, 4);
        assert_eq!(ring.last(10), [None, None, None, Some(point(3))]);
    }
}
