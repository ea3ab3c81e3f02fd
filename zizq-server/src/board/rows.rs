//! What is known of each queue.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use protocol::job::Status;
use protocol::name::QueueName;

use super::extents::{Known, Start};
use super::history::{Ended, History, Kept, Point, Range, Step};
use super::rates::{Flow, Rates};
use crate::access::Scope;
use crate::engine::command::jobs::JobCounts;
use crate::engine::command::queues::QueueState;
use crate::engine::command::report::{QueueReport, QueueTimes, Report, Tally};
use crate::hash::HashMap;
use crate::job::id::QueueId;

/// How long an empty queue stays tracked, in milliseconds: metrics must not vanish between two bursts.
const TRACKED_MS: u64 = 3_600_000;
/// How many minutes and hours of a tracked queue are kept.
pub(super) const KEPT: Kept = Kept { minutes: 180, hours: 168 };

/// A queue, as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct QueueRow {
    pub state: QueueState,
    pub rates: Rates,
    /// What has happened since it was tracked.
    pub tally: Tally,
    /// Its times since then, if they are kept.
    pub times: Option<Box<QueueTimes>>,
}

/// What a list of queues may be ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Order {
    #[default]
    Name,
    Ready,
    InFlight,
    Dead,
    /// Completed jobs per second.
    Rate,
    /// How long the oldest ready job has been ready; the caller must give the times.
    Oldest,
}

impl Order {
    pub(crate) const ALL: [(&'static str, Self); 6] = [
        ("name", Self::Name),
        ("ready", Self::Ready),
        ("in_flight", Self::InFlight),
        ("dead", Self::Dead),
        ("rate", Self::Rate),
        ("oldest", Self::Oldest),
    ];
}

/// A place in an ordered list of queues.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// What the list is ordered by; 0 for names.
    pub value: u64,
    pub name: String,
}

/// The queues that are wanted: those that have jobs or are paused, and that fit every condition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// The queues that may be shown.
    pub within: Scope,
    /// Leaves out queues that are only paused.
    pub with_jobs: bool,
    pub prefix: Option<String>,
    pub contains: Option<String>,
    /// Has jobs of this status.
    pub status: Option<Status>,
    pub paused: Option<bool>,
    pub order: Order,
    pub descending: bool,
    /// After this place.
    pub from: Option<Position>,
    pub limit: Option<usize>,
    /// For [`Order::Oldest`]: since when the oldest ready job of each queue has been ready. Queues that are not here
    /// have none.
    pub oldest: HashMap<QueueName, u64>,
}

/// A part of the list of queues.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selected {
    pub rows: Vec<QueueRow>,
    /// The place of the last one, if there are more.
    pub next: Option<Position>,
}

impl Selection {
    fn accepts(&self, state: &QueueState) -> bool {
        let counts = &state.counts;
        (counts.stored.total() > 0 || (state.paused && !self.with_jobs))
            && self.paused.is_none_or(|paused| paused == state.paused)
            && self.status.is_none_or(|status| counts.of(status) > 0)
            && self.within.covers(&state.name)
            && self.prefix.as_ref().is_none_or(|prefix| state.name.starts_with(prefix.as_str()))
            && self.contains.as_ref().is_none_or(|part| state.name.contains(part.as_str()))
    }

    /// The place of a queue in the order of the list, whatever its direction.
    pub(crate) fn position(&self, row: &QueueRow) -> Position {
        Position { value: self.value(&row.state, &row.rates), name: row.state.name.to_string() }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an order")]
    fn value(&self, state: &QueueState, rates: &Rates) -> u64 {
        match self.order {
            Order::Name => 0,
            Order::Ready => state.counts.of(Status::Ready),
            Order::InFlight => state.counts.in_flight,
            Order::Dead => state.counts.of(Status::Dead),
            Order::Rate => (rates.minute(Flow::Completed) * 1_000.0).round() as u64,
            // The oldest is the greatest, as people mean it. A queue without ready jobs has waited least.
            Order::Oldest => self.oldest.get(&state.name).map_or(0, |at| u64::MAX - at),
        }
    }
}

#[derive(Debug)]
struct Row {
    /// Its number in the present engine; none if the engine has forgotten it.
    id: Option<QueueId>,
    state: QueueState,
    /// What the present engine has counted so far.
    reported: Tally,
    /// Where its jobs lie.
    known: Known,
    rates: Rates,
    tracked: Option<Box<Tracked>>,
}

impl Row {
    fn new(name: QueueName) -> Self {
        let (state, reported, rates) = (QueueState::empty(name), Tally::default(), Rates::default());
        Self { id: None, state, reported, known: Known::nothing(), rates, tracked: None }
    }
}

#[derive(Debug, Default)]
struct Tracked {
    /// What has happened since it is tracked.
    tally: Tally,
    times: Option<Box<QueueTimes>>,
    history: History,
    /// Since when it has been empty, by the clock that never steps.
    empty_since: Option<u64>,
}

/// All queues.
///
/// - `totals` are the sums over all rows.
/// - A row without a number is tracked, or has been seen in an earlier engine and not yet in this one.
#[derive(Debug)]
pub(super) struct Rows {
    engine: u64,
    by_name: BTreeMap<QueueName, Row>,
    names: HashMap<QueueId, QueueName>,
    totals: Sums,
    for_all: u64,
    tracked: usize,
    max_tracked: usize,
    /// What has happened in queues while they were not tracked.
    untracked: Tally,
}

/// Sums over all queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub counts: JobCounts,
    /// Queues that have jobs or are paused.
    pub queues: u64,
    pub paused: u64,
}

impl Sums {
    fn change(&mut self, state: &QueueState, change: impl Fn(&mut u64, u64)) {
        for status in [Status::Scheduled, Status::Ready, Status::Completed, Status::Dead] {
            change(self.counts.stored.of_mut(status), state.counts.stored.stored(status));
        }
        change(&mut self.counts.in_flight, state.counts.in_flight);
        change(&mut self.queues, u64::from(state.paused || state.counts.stored.total() > 0));
        change(&mut self.paused, u64::from(state.paused));
    }
}

impl Rows {
    pub(super) fn new(max_tracked: usize) -> Self {
        Self {
            engine: 0,
            by_name: BTreeMap::new(),
            names: HashMap::default(),
            totals: Sums::default(),
            for_all: 0,
            tracked: 0,
            max_tracked,
            untracked: Tally::default(),
        }
    }

    pub(super) const fn totals(&self) -> &Sums {
        &self.totals
    }

    pub(super) const fn max_tracked(&self) -> usize {
        self.max_tracked
    }

    /// Takes in a report. Returns what has happened since the one before.
    pub(super) fn take(&mut self, report: Report, now: u64) -> Tally {
        if report.engine != self.engine {
            self.engine = report.engine;
            self.forget_numbers();
        }
        let mut happened = report.others;
        self.untracked += report.others;
        for queue in report.queues {
            happened += self.take_queue(queue, now);
        }
        self.for_all = report.streams.for_all;
        if report.is_complete {
            self.drop_strays();
        }
        happened
    }

    fn take_queue(&mut self, queue: QueueReport, now: u64) -> Tally {
        let name = queue.state.name.clone();
        let row = self.by_name.entry(name.clone()).or_insert_with(|| Row::new(name.clone()));
        // A queue may go and come back under another number between two reports, in any order.
        if queue.is_gone && row.id.is_some_and(|id| id != queue.id) {
            let happened = queue.tally;
            return self.count(&name, happened, queue.times, now);
        }
        self.totals.change(&row.state, |sum, part| *sum -= part);
        let is_new = row.id != Some(queue.id);
        let before = if is_new { Tally::default() } else { row.reported };
        if is_new {
            row.known.begin(&queue.entered, &queue.state.counts.stored);
        } else {
            row.known.hear(&queue.entered, &queue.state.counts.stored);
        }
        row.id = Some(queue.id).filter(|_| !queue.is_gone);
        row.reported = if queue.is_gone { Tally::default() } else { queue.tally };
        row.state = queue.state;
        if queue.is_gone {
            row.state = QueueState::empty(name.clone());
            self.names.remove(&queue.id);
        } else {
            self.names.insert(queue.id, name.clone());
        }
        self.totals.change(&row.state, |sum, part| *sum += part);
        self.count(&name, queue.tally - before, queue.times, now)
    }

    /// Counts what has happened in a queue.
    fn count(
        &mut self,
        name: &QueueName,
        happened: Tally,
        times: Option<Box<QueueTimes>>,
        now: u64,
    ) -> Tally {
        let Some(row) = self.by_name.get_mut(name) else { return happened };
        if happened != Tally::default() {
            row.rates.add(&happened, now);
        }
        let is_empty = row.state.counts.stored.total() == 0;
        if row.tracked.is_none() && self.tracked < self.max_tracked && (!is_empty || happened.enqueued > 0) {
            row.tracked = Some(Box::default());
            self.tracked += 1;
        }
        match &mut row.tracked {
            Some(tracked) => {
                tracked.tally += happened;
                if let Some(times) = times {
                    tracked.times.get_or_insert_default().merge(&times);
                }
                tracked.history.add(happened);
                let since = tracked.empty_since.filter(|_| happened == Tally::default());
                tracked.empty_since = is_empty.then(|| since.unwrap_or(now));
            }
            None => self.untracked += happened,
        }
        if row.id.is_none() && row.tracked.is_none() {
            self.by_name.remove(name);
        }
        happened
    }

    /// Follows a new engine, which reports all its queues anew.
    fn forget_numbers(&mut self) {
        self.names.clear();
        self.totals = Sums::default();
        for (name, row) in &mut self.by_name {
            (row.id, row.reported, row.state) = (None, Tally::default(), QueueState::empty(name.clone()));
        }
    }

    /// Drops rows that the present engine does not know.
    fn drop_strays(&mut self) {
        if self.names.len() + self.tracked < self.by_name.len() {
            self.by_name.retain(|_, row| row.id.is_some() || row.tracked.is_some());
        }
    }

    /// Handles the end of steps of the history, and of the time for which empty queues are tracked.
    pub(super) fn tick(&mut self, ended: Ended, now: u64) {
        if ended.minute.is_none() && ended.hour.is_none() {
            return;
        }
        let mut gone = Vec::new();
        for (name, row) in &mut self.by_name {
            let Some(tracked) = &mut row.tracked else { continue };
            tracked.history.turn(ended, &row.state.counts, KEPT);
            if tracked.empty_since.is_some_and(|since| now.saturating_sub(since) >= TRACKED_MS) {
                row.tracked = None;
                self.tracked -= 1;
                gone.extend(row.id.is_none().then(|| name.clone()));
            }
        }
        gone.iter().for_each(|name| drop(self.by_name.remove(name)));
    }

    /// The points of the minute or hour that has just ended, of the tracked queues in which there was anything.
    pub(super) fn newest(&self, step: Step) -> Vec<(QueueName, Point)> {
        let point = |(name, row): (&QueueName, &Row)| {
            let point = row.tracked.as_ref()?.history.newest(step)?;
            (!point.is_empty()).then(|| (name.clone(), point))
        };
        self.by_name.iter().filter_map(point).collect()
    }

    /// Tracks a queue that was tracked before the server stopped, as long as there is room.
    pub(super) fn restore(&mut self, name: QueueName, history: History, now: u64) {
        if self.tracked >= self.max_tracked {
            return;
        }
        let row = self.by_name.entry(name.clone()).or_insert_with(|| Row::new(name));
        if row.tracked.is_none() {
            self.tracked += 1;
        }
        row.tracked = Some(Box::new(Tracked { history, empty_since: Some(now), ..Tracked::default() }));
    }

    fn show(&self, row: &Row, now: u64) -> QueueRow {
        let mut state = row.state.clone();
        state.workers += self.for_all;
        let tally = row.tracked.as_ref().map_or(Tally::default(), |tracked| tracked.tally);
        QueueRow { state, rates: row.rates.now(now), tally, times: None }
    }

    pub(super) fn get(&self, name: &QueueName, now: u64) -> Option<QueueRow> {
        self.by_name.get(name).map(|row| self.show(row, now))
    }

    /// The tracked queues, by name.
    pub(super) fn tracked(&self, now: u64) -> Vec<QueueRow> {
        let tracked = self.by_name.values().filter(|row| row.tracked.is_some());
        let times = |row: &Row| row.tracked.as_ref().and_then(|tracked| tracked.times.clone());
        tracked.map(|row| QueueRow { times: times(row), ..self.show(row, now) }).collect()
    }

    /// What has happened in queues while they were not tracked.
    pub(super) const fn untracked(&self) -> Tally {
        self.untracked
    }

    /// Where the jobs of each queue lie.
    pub(super) fn known(&self) -> Vec<(QueueId, Known)> {
        self.by_name.values().filter_map(|row| row.id.map(|id| (id, row.known))).collect()
    }

    /// Takes in where a reader has found the first job of a queue and status.
    pub(super) fn learn(&mut self, start: &Start) {
        let row = self.names.get(&start.queue).and_then(|name| self.by_name.get_mut(name));
        if let Some(row) = row.filter(|row| row.id == Some(start.queue)) {
            row.known.learn(start);
        }
    }

    pub(super) fn names(&self, selection: &Selection) -> Vec<QueueName> {
        let accepted = self.by_name.iter().filter(|(_, row)| selection.accepts(&row.state));
        accepted.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn history(&self, name: &QueueName, range: Range) -> Option<Vec<Option<Point>>> {
        Some(self.by_name.get(name)?.tracked.as_ref()?.history.last(range))
    }

    pub(super) fn select(&self, selection: &Selection, now: u64) -> Selected {
        let accepted = self.by_name.values().filter(|row| selection.accepts(&row.state));
        let mut places: Vec<(u64, &Row)> =
            accepted.map(|row| (selection.value(&row.state, &row.rates.now(now)), row)).collect();
        let compare = |one: (u64, &str), other: (u64, &str)| {
            let order = one.cmp(&other);
            if selection.descending { order.reverse() } else { order }
        };
        if let Some(Position { value, name }) = &selection.from {
            let after = |(at, row): &(u64, &Row)| {
                compare((*at, &row.state.name), (*value, name)) == Ordering::Greater
            };
            places.retain(after);
        }
        let limit = selection.limit.unwrap_or(usize::MAX);
        let by_place = |one: &(u64, &Row), other: &(u64, &Row)| {
            compare((one.0, &one.1.state.name), (other.0, &other.1.state.name))
        };
        let has_more = places.len() > limit;
        if has_more {
            places.select_nth_unstable_by(limit, by_place);
            places.truncate(limit);
        }
        places.sort_unstable_by(by_place);
        let last = places.last().filter(|_| has_more);
        let next = last.map(|(value, row)| Position { value: *value, name: row.state.name.to_string() });
        Selected { rows: places.into_iter().map(|(_, row)| self.show(row, now)).collect(), next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::extent::Extents;

    /// A queue with this many ready jobs, to which so many were enqueued since its engine started.
    fn queue(id: u32, name: &str, ready: u64, enqueued: u64) -> QueueReport {
        let mut state = QueueState::empty(name.parse().unwrap());
        state.counts.stored.ready = ready;
        let tally = Tally { enqueued, ..Tally::default() };
        QueueReport { id: QueueId(id), state, entered: Extents::NONE, is_gone: false, tally, times: None }
    }

    fn gone(id: u32, name: &str, enqueued: u64) -> QueueReport {
        QueueReport { is_gone: true, ..queue(id, name, 0, enqueued) }
    }

    fn known(rows: &Rows) -> (u64, u64, Vec<(String, u64)>) {
        let selected = rows.select(&Selection::default(), 0).rows;
        let shown =
            selected.iter().map(|row| (row.state.name.to_string(), row.state.counts.of(Status::Ready)));
        (rows.totals().counts.stored.ready, rows.totals().queues, shown.collect())
    }

    #[test]
    fn queues_that_go_and_come_back_are_counted_once() {
        let mut rows = Rows::new(10);
        let enqueued = |rows: &mut Rows, report| rows.take(report, 0).enqueued;
        assert_eq!(
            enqueued(&mut rows, Report::of_queues(1, vec![queue(1, "a", 3, 3), queue(2, "b", 1, 1)])),
            4
        );
        assert_eq!(known(&rows), (4, 2, vec![("a".to_owned(), 3), ("b".to_owned(), 1)]));
        // `a` is worked off and forgotten, and comes back under another number, all between two reports.
        assert_eq!(enqueued(&mut rows, Report::of_queues(1, vec![gone(1, "a", 5), queue(3, "a", 2, 2)])), 4);
        assert_eq!(known(&rows), (3, 2, vec![("a".to_owned(), 2), ("b".to_owned(), 1)]));
        // Of several that have gone, an earlier one may be told of later.
        assert_eq!(enqueued(&mut rows, Report::of_queues(1, vec![gone(4, "a", 7), gone(3, "a", 2)])), 7);
        assert_eq!(known(&rows), (1, 1, vec![("b".to_owned(), 1)]));
        // A tracked queue that is empty is remembered.
        let row = rows.get(&"a".parse().unwrap(), 0).unwrap();
        assert_eq!((row.tally.enqueued, row.state.counts.stored.total()), (3 + 2 + 2 + 7, 0));
        // Another engine counts from 0 again, and does not know every queue.
        assert_eq!(enqueued(&mut rows, Report::of_queues(2, vec![queue(1, "b", 1, 0)])), 0);
        assert_eq!(known(&rows), (1, 1, vec![("b".to_owned(), 1)]));
        assert_eq!(enqueued(&mut rows, Report::of_queues(2, vec![queue(1, "b", 2, 1)])), 1);
        assert_eq!(rows.tracked(0).len(), 2);
    }

    #[test]
    fn only_so_many_queues_are_tracked_and_an_empty_one_makes_room_after_an_hour() {
        let mut rows = Rows::new(2);
        let many = ["a", "b", "c"].iter().zip(1..).map(|(name, id)| queue(id, name, 1, 1)).collect();
        rows.take(Report::of_queues(1, many), 0);
        let tracked = |rows: &Rows| {
            let names = rows.tracked(0).into_iter().map(|row| row.state.name.to_string());
            (names.collect::<Vec<_>>(), rows.untracked().enqueued)
        };
        assert_eq!(tracked(&rows), (vec!["a".to_owned(), "b".to_owned()], 1));
        rows.take(Report::of_queues(1, vec![gone(1, "a", 1)]), 1_000);
        let minute = Ended { minute: Some(0), ..Ended::default() };
        rows.tick(minute, TRACKED_MS);
        assert_eq!(tracked(&rows).0, ["a", "b"]);
        rows.tick(minute, TRACKED_MS + 1_000);
        assert_eq!(tracked(&rows).0, ["b"]);
        assert!(rows.get(&"a".parse().unwrap(), 0).is_none(), "nothing is left of it");
        assert_eq!(rows.history(&"b".parse().unwrap(), Range::ThreeHours).unwrap().len(), 2);
        rows.take(Report::of_queues(1, vec![queue(3, "c", 2, 2)]), TRACKED_MS + 2_000);
        // What happened before is not moved from the others: their counters never go down.
        assert_eq!(tracked(&rows), (vec!["b".to_owned(), "c".to_owned()], 1));
    }
}
