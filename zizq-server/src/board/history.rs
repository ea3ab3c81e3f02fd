//! How counts and flows developed: rings of points, one per second, minute or hour.

use std::collections::{BTreeMap, VecDeque};

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
    Hour,
    ThreeHours,
    Day,
    Week,
    Month,
}

impl Range {
    pub(crate) const ALL: [(&'static str, Self); 6] = [
        ("10m", Self::TenMinutes),
        ("1h", Self::Hour),
        ("3h", Self::ThreeHours),
        ("24h", Self::Day),
        ("7d", Self::Week),
        ("30d", Self::Month),
    ];

    /// The distance of its points.
    pub(crate) const fn step(self) -> Step {
        match self {
            Self::TenMinutes => Step::Second,
            Self::Hour | Self::ThreeHours | Self::Day => Step::Minute,
            Self::Week | Self::Month => Step::Hour,
        }
    }

    /// The number of its points.
    pub(crate) const fn points(self) -> usize {
        match self {
            Self::TenMinutes => 600,
            Self::Hour => 60,
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

    /// The value for a step at whose end there were this many jobs, and in which this happened.
    fn of(self, counts: &JobCounts, happened: &Tally) -> Option<u64> {
        Some(match self {
            Self::Scheduled => counts.of(Status::Scheduled),
            Self::Ready => counts.of(Status::Ready),
            Self::InFlight => counts.of(Status::InFlight),
            Self::Dead => counts.of(Status::Dead),
            Self::Enqueued => happened.enqueued,
            Self::Delivered => happened.delivered,
            Self::Completed => happened.completed,
            Self::Failed => happened.failed(),
            Self::WaitMs => return happened.waited.mean(),
            Self::RunMs => return happened.ran.mean(),
        })
    }

    /// The value for several steps together, the last one last.
    fn over(self, steps: &[Point]) -> Option<u64> {
        let values = |series: Self| steps.iter().filter_map(move |step| step.get(series)).map(u64::from);
        // Each step counts as much as it had events.
        let mean = |of: Self, events: &[Self]| {
            let weight = |step: &Point| {
                events.iter().filter_map(|series| step.get(*series)).map(u64::from).sum::<u64>()
            };
            let weighed = steps.iter().filter_map(|step| Some((u64::from(step.get(of)?), weight(step))));
            let (sum, weights) =
                weighed.fold((0, 0), |(sum, weights), (ms, weight)| (sum + ms * weight, weights + weight));
            u64::checked_div(sum, weights)
        };
        match self {
            Self::Scheduled | Self::Ready | Self::InFlight | Self::Dead => values(self).next_back(),
            Self::Enqueued | Self::Delivered | Self::Completed | Self::Failed => Some(values(self).sum()),
            Self::WaitMs => mean(self, &[Self::Delivered]),
            Self::RunMs => mean(self, &[Self::Completed, Self::Failed]),
        }
    }
}

/// One step of the past: a value of each [`Series`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Point([u32; 10]);

/// The mean of no values.
const NOTHING: u32 = u32::MAX;

impl Point {
    /// A step at whose end there were this many jobs, and in which this happened.
    pub(super) fn new(counts: &JobCounts, happened: &Tally) -> Self {
        Self::of(|series| series.of(counts, happened))
    }

    /// Several steps together, the last one last.
    fn over(steps: &[Self]) -> Self {
        Self::of(|series| series.over(steps))
    }

    fn of(value: impl Fn(Series) -> Option<u64>) -> Self {
        let small = |n: u64| u32::try_from(n).unwrap_or(NOTHING).min(NOTHING - 1);
        Self(Series::ALL.map(|(_, series)| value(series).map_or(NOTHING, small)))
    }

    /// Restores a point from [`Self::values`]; values that are missing are 0.
    pub(super) fn restored(values: &[u32]) -> Self {
        let mut point = Self::default();
        point.0.iter_mut().zip(values).for_each(|(value, restored)| *value = *restored);
        point
    }

    /// The values, to be stored.
    pub(super) fn values(&self) -> Vec<u32> {
        self.0.to_vec()
    }

    /// Whether there was no job, and nothing happened.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|value| matches!(*value, 0 | NOTHING))
    }

    /// The value of a series; none for a mean of nothing.
    pub(crate) fn get(&self, series: Series) -> Option<u32> {
        self.0.get(series as usize).copied().filter(|value| *value != NOTHING)
    }
}

/// The last points of one step size. A step without a point, when the server did not run, is empty.
#[derive(Debug, Default)]
pub(super) struct Ring {
    points: VecDeque<Option<Point>>,
}

impl Ring {
    /// Adds the point of the step that has just ended.
    fn push(&mut self, point: Point, most: usize) {
        self.points.push_back(Some(point));
        self.trim(most);
    }

    /// Passes over steps without a point.
    fn skip(&mut self, steps: u64, most: usize) {
        let steps = usize::try_from(steps).map_or(most, |steps| steps.min(most));
        self.points.extend(std::iter::repeat_n(None, steps));
        self.trim(most);
    }

    /// The points before the present step, which has this number.
    fn restored(points: &Steps, present: u64, most: usize) -> Self {
        let (mut ring, mut next) = (Self::default(), None);
        for (&number, point) in points.range(..present) {
            ring.skip(number - next.unwrap_or(number), most);
            ring.push(*point, most);
            next = Some(number + 1);
        }
        ring.skip(next.map_or(0, |next| present - next), most);
        ring
    }

    fn trim(&mut self, most: usize) {
        let over = self.points.len().saturating_sub(most);
        self.points.drain(..over);
    }

    /// The last points, the oldest first.
    pub(super) fn last(&self, points: usize) -> Vec<Option<Point>> {
        self.points.iter().skip(self.points.len().saturating_sub(points)).copied().collect()
    }

    /// The last steps as one.
    fn merged(&self, steps: usize) -> Point {
        let steps: Vec<Point> = self.last(steps).into_iter().flatten().collect();
        Point::over(&steps)
    }
}

/// The last seconds.
#[derive(Debug, Default)]
pub(super) struct Seconds(Ring);

impl Seconds {
    /// How many are kept.
    const MOST: usize = 600;

    pub(super) fn turn(&mut self, gap: u64, point: Point) {
        self.0.skip(gap, Self::MOST);
        self.0.push(point, Self::MOST);
    }

    pub(super) fn last(&self, points: usize) -> Vec<Option<Point>> {
        self.0.last(points)
    }
}

/// How many minutes and hours are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub minutes: usize,
    pub hours: usize,
}

/// The history of one thing in steps of a minute and of an hour.
#[derive(Debug, Default)]
pub(crate) struct History {
    minutes: Ring,
    hours: Ring,
    /// What happened in the present minute.
    minute: Tally,
}

/// The minutes of an hour.
const HOUR: u8 = 60;

impl History {
    /// Counts what has happened.
    pub(super) fn add(&mut self, happened: Tally) {
        self.minute += happened;
    }

    /// Notes that some steps have ended.
    pub(super) fn turn(&mut self, ended: Ended, counts: &JobCounts, kept: Kept) {
        if let Some(gap) = ended.minute {
            self.minutes.skip(gap, kept.minutes);
            self.minutes.push(Point::new(counts, &std::mem::take(&mut self.minute)), kept.minutes);
        }
        if let Some(gap) = ended.hour {
            self.hours.skip(gap, kept.hours);
            self.hours.push(self.minutes.merged(HOUR.into()), kept.hours);
        }
    }

    pub(super) fn last(&self, range: Range) -> Vec<Option<Point>> {
        match range.step() {
            Step::Second => Vec::new(),
            Step::Minute => self.minutes.last(range.points()),
            Step::Hour => self.hours.last(range.points()),
        }
    }

    /// The point of the minute or the hour that has ended last.
    pub(super) fn newest(&self, step: Step) -> Option<Point> {
        let ring = if step == Step::Hour { &self.hours } else { &self.minutes };
        ring.points.back().copied().flatten()
    }

    /// Restores a history from its minutes and hours, each by its number since 1970.
    pub(super) fn restored(minutes: &Steps, mut hours: Steps, this_minute: u64, kept: Kept) -> Self {
        let hour_of = |minute: u64| minute / u64::from(HOUR);
        let this_hour = hour_of(this_minute);
        // The server may have stopped within an hour.
        if let Some((last, _)) = minutes.last_key_value()
            && hour_of(*last) < this_hour
        {
            let hour = hour_of(*last);
            let steps: Vec<Point> =
                minutes.range(hour * u64::from(HOUR)..).map(|(_, point)| *point).collect();
            hours.entry(hour).or_insert_with(|| Point::over(&steps));
        }
        Self {
            minutes: Ring::restored(minutes, this_minute, kept.minutes),
            hours: Ring::restored(&hours, this_hour, kept.hours),
            minute: Tally::default(),
        }
    }
}

/// Points of minutes or hours, by their numbers since 1970.
pub(super) type Steps = BTreeMap<u64, Point>;

/// The steps that have just ended, each with the number of steps that were missed before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ended {
    pub second: Option<u64>,
    pub minute: Option<u64>,
    pub hour: Option<u64>,
}

/// Tells when steps end. They end at round times of the wall clock, which may be set.
#[derive(Debug)]
pub(super) struct Beat {
    at: u64,
}

impl Beat {
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
    use crate::engine::command::report::Sum;

    #[test]
    fn steps_end_at_round_times_and_gaps_are_counted() {
        let mut steps = Beat::starting(59_100);
        let ended = |second, minute| Ended { second, minute, hour: None };
        assert_eq!(steps.pass(59_900), ended(None, None));
        assert_eq!(steps.pass(60_100), ended(Some(0), Some(0)));
        assert_eq!(steps.pass(65_000), ended(Some(4), None));
        assert_eq!(steps.pass(30_000), ended(None, None), "the clock was set back");
        assert_eq!(steps.pass(31_000), ended(Some(0), None));
        assert_eq!(steps.pass(3_600_000), Ended { second: Some(3_568), minute: Some(59), hour: Some(0) });
    }

    /// A minute at whose end this many jobs were ready, and in which so many were delivered after this time.
    fn point(ready: u64, delivered: u64, waited: u64) -> Point {
        let mut counts = JobCounts::default();
        counts.stored.ready = ready;
        let waited = Sum { count: delivered, ms: delivered * waited };
        Point::new(&counts, &Tally { delivered, waited, ..Tally::default() })
    }

    #[test]
    fn a_ring_keeps_the_newest_points_and_shows_gaps() {
        let mut ring = Ring::default();
        let point = |ready| point(ready, 0, 0);
        ring.push(point(1), 4);
        ring.skip(1, 4);
        ring.push(point(2), 4);
        assert_eq!(ring.last(10), [Some(point(1)), None, Some(point(2))]);
        assert_eq!(ring.last(2), [None, Some(point(2))]);
        ring.skip(u64::MAX, 4);
        ring.push(point(3), 4);
        assert_eq!(ring.last(10), [None, None, None, Some(point(3))]);
    }

    #[test]
    fn an_hour_is_the_sum_of_its_minutes() {
        let steps = [point(7, 1, 100), point(9, 3, 500), point(2, 0, 0)];
        let hour = Point::over(&steps);
        let value = |series| hour.get(series);
        assert_eq!(value(Series::Ready), Some(2), "of its end");
        assert_eq!(value(Series::Delivered), Some(4));
        assert_eq!(value(Series::WaitMs), Some(400), "the mean of all jobs");
        assert_eq!(value(Series::RunMs), None);
        assert_eq!(Point::over(&[]).get(Series::Ready), None);
    }

    #[test]
    fn a_restored_history_has_gaps_where_the_server_did_not_run() {
        let kept = Kept { minutes: 100, hours: 10 };
        // It stopped in minute 62, the third of hour 1.
        let minutes: Steps = [59, 60, 62].map(|at| (at, point(at, 1, at))).into();
        let hours: Steps = [(0, point(59, 60, 1))].into();
        let at = |minute| History::restored(&minutes, hours.clone(), minute, kept);
        let ready = |points: Vec<Option<Point>>| {
            points.iter().map(|point| point.and_then(|point| point.get(Series::Ready))).collect::<Vec<_>>()
        };
        let soon = at(63);
        assert_eq!(ready(soon.last(Range::ThreeHours)), [Some(59), Some(60), None, Some(62)]);
        assert_eq!(ready(soon.last(Range::Week)), [Some(59)], "the second hour has not ended");
        let later = at(183);
        assert_eq!(later.last(Range::Day).len(), 100);
        assert_eq!(ready(later.last(Range::Week)), [Some(59), Some(62), None], "hours 0, 1 and 2");
        let hour = later.last(Range::Week)[1].unwrap();
        assert_eq!((hour.get(Series::Delivered), hour.get(Series::WaitMs)), (Some(2), Some(61)));
        assert_eq!(
            at(61).last(Range::Day).len(),
            2,
            "the clock was set back: later points are not of the past"
        );
    }
}
