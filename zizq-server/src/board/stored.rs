//! The part of the history that survives a restart: the minutes and hours of all queues together and of tracked queues.

use std::collections::BTreeMap;

use protocol::name::QueueName;

use super::State;
use super::history::{History, Kept, Point, Step, Steps};
use super::{rows, totals};
use crate::clock::Time;
use crate::engine::command::jobs::JobCounts;
use crate::engine::command::report::Tally;
use crate::store::record::{HistoryPoint, HistoryStep};

/// What steps are about. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ring {
    Minutes = 0,
    Hours = 1,
    QueueMinutes = 2,
    QueueHours = 3,
}

/// A queue is tracked again if it had jobs in so many last minutes before the server stopped.
const LATELY: u64 = 60;

/// Points by queue and number.
type ByQueue = BTreeMap<QueueName, Steps>;

impl State {
    /// What is to be stored of a minute or an hour that has just ended.
    pub(super) fn to_store(&self, step: Step, now: u64) -> [HistoryStep; 2] {
        let number = (now / step as u64).saturating_sub(1);
        let most = |kept: Kept| if step == Step::Hour { kept.hours } else { kept.minutes } as u64;
        let of = |ring: Ring, kept: Kept, points: Vec<HistoryPoint>| {
            let oldest = (number + 1).saturating_sub(most(kept));
            HistoryStep { ring: ring as u8, number, oldest, points }
        };
        let point =
            |name: &str, point: Point| HistoryPoint { queue: name.to_owned(), values: point.values() };
        let all = self.totals.history.newest(step).map(|newest| point("", newest)).into_iter().collect();
        let queues = self.rows.newest(step).into_iter().map(|(name, newest)| point(&name, newest)).collect();
        let (ring, queue_ring) = match step {
            Step::Hour => (Ring::Hours, Ring::QueueHours),
            Step::Second | Step::Minute => (Ring::Minutes, Ring::QueueMinutes),
        };
        [of(ring, totals::KEPT, all), of(queue_ring, rows::KEPT, queues)]
    }

    /// Takes in what was stored.
    pub(super) fn restore(&mut self, stored: Vec<HistoryStep>, now: Time) {
        let (mut minutes, mut hours) = (Steps::new(), Steps::new());
        let (mut queue_minutes, mut queue_hours) = (ByQueue::new(), ByQueue::new());
        for HistoryStep { ring, number, points, .. } in stored {
            for HistoryPoint { queue, values } in points {
                let point = Point::restored(&values);
                let steps = match (ring, QueueName::new(&queue)) {
                    (ring, _) if ring == Ring::Minutes as u8 => &mut minutes,
                    (ring, _) if ring == Ring::Hours as u8 => &mut hours,
                    (ring, Ok(name)) if ring == Ring::QueueMinutes as u8 => {
                        queue_minutes.entry(name).or_default()
                    }
                    (ring, Ok(name)) if ring == Ring::QueueHours as u8 => {
                        queue_hours.entry(name).or_default()
                    }
                    _ => continue,
                };
                steps.insert(number, point);
            }
        }
        let this_minute = now.wall / Step::Minute as u64;
        let Some((&last, _)) = minutes.range(..this_minute).next_back() else { return };
        for (name, points) in queue_minutes {
            if points.range(..this_minute).next_back().is_some_and(|(at, _)| at + LATELY > last) {
                let minutes = filled(points, &minutes);
                let hours = filled(queue_hours.remove(&name).unwrap_or_default(), &hours);
                let history = History::restored(&minutes, hours, this_minute, rows::KEPT);
                self.rows.restore(name, history, now.up);
            }
        }
        self.totals.history = History::restored(&minutes, hours, this_minute, totals::KEPT);
    }
}

/// Adds points for the steps in which there was nothing in a queue, while the server ran.
fn filled(points: Steps, all: &Steps) -> Steps {
    let Some((&first, _)) = points.first_key_value() else { return points };
    let nothing = Point::new(&JobCounts::default(), &Tally::default());
    all.range(first..).map(|(number, _)| (*number, points.get(number).copied().unwrap_or(nothing))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::history::{Beat, Range, Series};
    use crate::board::{Rows, Totals};
    use crate::clock::Time;
    use crate::engine::command::queues::QueueState;
    use crate::engine::command::report::{QueueReport, Report};
    use crate::job::extent::Extents;
    use crate::job::id::QueueId;

    const HOUR: u64 = Step::Hour as u64;
    const MINUTE: u64 = Step::Minute as u64;

    fn at(ms: u64) -> Time {
        Time { wall: ms, up: ms }
    }

    fn state(now: u64, stored: Vec<HistoryStep>) -> State {
        let (rows, beat) = (Rows::new(1_000), Beat::starting(now));
        let mut state = State { rows, totals: Totals::default(), beat, started: at(now) };
        state.restore(stored, at(now));
        state
    }

    /// So many jobs are ready in a queue, and so many were enqueued in it.
    fn enqueue(state: &mut State, queue: &str, ready: u64, enqueued: u64, now: u64) {
        let mut counts = QueueState::empty(queue.parse().unwrap());
        counts.counts.stored.ready = ready;
        let tally = Tally { enqueued, ..Tally::default() };
        let queues = vec![QueueReport {
            id: QueueId(1),
            state: counts,
            entered: Extents::NONE,
            is_gone: false,
            tally,
            times: None,
        }];
        state.take(Report::of_queues(1, queues), at(now));
    }

    fn series(points: Vec<Option<Point>>, series: Series) -> Vec<Option<u32>> {
        points.iter().map(|point| point.as_ref().and_then(|point| point.get(series))).collect()
    }

    #[test]
    fn minutes_and_hours_survive_a_restart() {
        let begin = 1_000 * HOUR - 2 * MINUTE;
        let mut before = state(begin, Vec::new());
        let mut stored = Vec::new();
        enqueue(&mut before, "q", 3, 5, begin);
        stored.extend(before.tick(at(begin + MINUTE)));
        stored.extend(before.tick(at(begin + 2 * MINUTE)));
        enqueue(&mut before, "q", 0, 6, begin + 2 * MINUTE);
        stored.extend(before.tick(at(begin + 3 * MINUTE)));
        assert_eq!(stored.len(), 3 * 2 + 2, "three minutes and an hour, of all and of queues");
        // It stops, and starts again two minutes later.
        let after = state(begin + 5 * MINUTE + 1, stored.clone());
        let minutes = after.totals.history.last(Range::Day);
        assert_eq!(series(minutes, Series::Enqueued), [Some(5), Some(0), Some(1), None, None]);
        assert_eq!(series(after.totals.history.last(Range::Month), Series::Enqueued), [Some(5)]);
        let q = "q".parse().unwrap();
        let minutes = after.rows.history(&q, Range::ThreeHours).unwrap();
        assert_eq!(series(minutes, Series::Ready), [Some(3), Some(3), Some(0), None, None]);
        // A day later the queue is still known, since the server did not run meanwhile; what is older than its ring is not.
        let mut later = state(begin + 24 * HOUR, stored.clone());
        let minutes = later.rows.history(&q, Range::ThreeHours).unwrap();
        assert_eq!((minutes.len(), minutes.iter().flatten().count()), (rows::KEPT.minutes, 0));
        let hours = series(later.rows.history(&q, Range::Week).unwrap(), Series::Enqueued);
        assert_eq!((hours.len(), &hours[..3]), (24, [Some(5), Some(1), None].as_slice()), "{hours:?}");
        // It goes on where it was.
        let next = later.tick(at(begin + 24 * HOUR + MINUTE));
        let oldest = |ring: Ring| next.iter().find(|step| step.ring == ring as u8).unwrap().oldest;
        let number = (begin + 24 * HOUR) / MINUTE;
        assert_eq!(oldest(Ring::Minutes), number + 1 - 1_440);
        assert_eq!(oldest(Ring::QueueMinutes), number + 1 - 180);
        // With the clock set back nothing of the future is shown.
        let back = state(begin + MINUTE, stored);
        assert_eq!(series(back.totals.history.last(Range::Day), Series::Enqueued), [Some(5)]);
    }
}
