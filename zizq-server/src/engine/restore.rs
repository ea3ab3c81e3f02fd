//! The engine begins with what the store has.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use protocol::id::JobId;
use protocol::lease::{DEFAULT_LEASE_MS, LeaseToken};
use protocol::name::CronName;
use smallvec::SmallVec;

use super::budgets::{BudgetId, Budgets, DrawId};
use super::bulk::Bulks;
use super::command::StreamKind;
use super::crons::Crons;
use super::dispatch::Heads;
use super::id::{QueueId, Stamp, Stamps};
use super::job::Job;
use super::lease::{Lease, Leases, SAVE_AFTER_MS};
use super::queues::Queues;
use super::schedule::Timers;
use super::streams::{State, Stream, Streams, Takes};
use super::tags::Tags;
use super::transition::TOKEN_COUNT_BITS;
use super::{Engine, Settings};
use crate::hash::{HashMap, HashSet};
use crate::store::batch::Batch;
use crate::store::bulk::StoredBulks;
use crate::store::record::{
    BudgetRecord, CronRecord, DrawRecord, EntryState, LeaseEnd, LeaseRecord, QueueRecord,
};
use crate::store::view::LaneKey;

/// The clock is written down about once a second: what was handed out last may be this much later, in milliseconds.
const CLOCK_SLACK_MS: u64 = 2_000;

/// Streams are numbered from the time of the start on, so that what is said on a connection to an earlier engine of the
/// process reaches none of them.
const STREAM_COUNT_BITS: u32 = 20;

/// The tokens of deliveries that a crash may have made the store forget: those of the last seconds before it.
const fn forgotten_tokens(clock: u64, start: u64) -> Range<u64> {
    let earliest = clock.saturating_sub(SAVE_AFTER_MS + CLOCK_SLACK_MS);
    (earliest << TOKEN_COUNT_BITS)..(start << TOKEN_COUNT_BITS)
}

/// What is read from the store at start. Jobs are not: their fronts are read when somebody asks for them.
#[derive(Debug, Default)]
pub struct Stored {
    pub clock: u64,
    pub queues: Vec<(QueueId, QueueRecord)>,
    pub cursors: Vec<(LaneKey, Stamp)>,
    pub budgets: Vec<(BudgetId, BudgetRecord)>,
    pub draws: Vec<(DrawId, DrawRecord)>,
    pub crons: Vec<(CronName, CronRecord)>,
    pub cron_states: Vec<((CronName, CronName), EntryState)>,
    pub bulks: StoredBulks,
    /// With the job each is for, where it is still there.
    pub leases: Vec<(JobId, LeaseRecord, Option<Job>)>,
}

impl Engine {
    /// An engine that goes on where an earlier one stopped. `seed` makes its random numbers.
    pub fn new(settings: Settings, stored: Stored, now: u64, seed: u64) -> Self {
        // Only counters start ahead of the clock: time itself must not stand still until the clock has caught up.
        let start = if stored.clock == 0 { now } else { now.max(stored.clock + CLOCK_SLACK_MS) };
        let mut engine = Self {
            settings,
            now,
            random: fastrand::Rng::with_seed(seed),
            stamps: Stamps::starting_at(start),
            last_token: start << TOKEN_COUNT_BITS,
            forgotten: forgotten_tokens(stored.clock, start),
            clock_saved_at: 0,
            queues: Queues::default(),
            leases: Leases::default(),
            streams: Streams::starting_at(start << STREAM_COUNT_BITS),
            timers: Timers::stored(),
            tags: Tags::default(),
            firings: VecDeque::new(),
            budgets: Budgets::default(),
            crons: Crons::default(),
            bulks: Bulks::default(),
            cursors: stored.cursors.into_iter().collect(),
            checks: BinaryHeap::<Reverse<_>>::new(),
            queues_to_dispatch: VecDeque::new(),
            streams_to_feed: VecDeque::new(),
            heads: Heads::default(),
            waits: 0,
            waiting_for_all: VecDeque::new(),
            awaited: HashSet::default(),
            wanted: HashSet::default(),
            ready_bytes: 0,
            watched: false,
            events: Vec::new(),
            waiters: HashMap::default(),
            woken: Vec::new(),
            batch: Batch::default(),
            clear: false,
            draining: false,
        };
        engine.batch.put_format();
        engine.load_queues(stored.queues);
        engine.budgets.load(stored.budgets, stored.draws, now, &mut engine.batch);
        engine.drop_stray_cursors();
        engine.crons.load(stored.crons, stored.cron_states, now, &mut engine.batch);
        for job in engine.crons.jobs() {
            engine.budgets.expect(job.flow.as_ref().map_or(&[], |flow| &flow.budgets), true);
        }
        engine.load_bulks(stored.bulks);
        engine.load_leases(stored.leases);
        engine
    }

    fn load_queues(&mut self, queues: Vec<(QueueId, QueueRecord)>) {
        for (id, record) in queues {
            if record.counts.total() > 0 || record.paused {
                self.queues.load(id, record);
            } else {
                self.queues.skip(id);
                self.batch.remove_queue(id);
                for ((_, draw, priority), _) in self.cursors.extract_if(|(queue, ..), _| *queue == id) {
                    self.batch.remove_cursor(id, draw, priority);
                }
            }
        }
    }

    /// Forgets the cursors of draws that are not there any more.
    fn drop_stray_cursors(&mut self) {
        let stray =
            self.cursors.extract_if(|(_, draw, _), _| !draw.is_none() && !self.budgets.has_draw(*draw));
        for ((queue, draw, priority), _) in stray {
            self.batch.remove_cursor(queue, draw, priority);
        }
    }

    /// Workers of before get their time to come back, once: the length of their lease, counted from the first start that
    /// they have not been heard of since.
    fn load_leases(&mut self, leases: Vec<(JobId, LeaseRecord, Option<Job>)>) {
        let mut resumable: HashMap<u128, u64> = HashMap::default();
        for (id, record, job) in leases {
            let Some(mut job) = job else {
                self.batch.remove_lease(id);
                continue;
            };
            let lease_ms = record.lease_ms.unwrap_or(DEFAULT_LEASE_MS);
            let since = record.end.restored_at.unwrap_or(self.now);
            let end = LeaseEnd { restored_at: Some(since), ..record.end };
            if end != record.end {
                self.batch.put_lease(id, &LeaseRecord { end, ..record });
            }
            let token = LeaseToken::from_u64(record.token);
            let key = match record.stream {
                None => self.answered_stream(lease_ms),
                Some((stream, _)) => {
                    *resumable.entry(stream).or_insert_with(|| self.broken_stream(stream, since, lease_ms))
                }
            };
            let event = record.stream.map_or(0, |(_, event)| event);
            if let Some(stream) = self.streams.get_mut(key) {
                stream.event = stream.event.max(event);
            }
            job.deliveries = record.deliveries;
            job.dequeued_at = Some(record.dequeued_at);
            job.last_lease = Some(token);
            job.lapsed = false;
            self.lease_to(
                key,
                Lease {
                    job: Arc::new(job),
                    token,
                    stream: key,
                    since,
                    kept_until: end.kept_until,
                    deadline: None,
                    event,
                    restored_at: end.restored_at,
                    saved: Some(end),
                },
            );
        }
    }

    fn broken_stream(&mut self, id: u128, since: u64, lease_ms: u64) -> u64 {
        self.streams.insert(Stream {
            state: State::Broken { until: since + lease_ms },
            ..Stream::new(id, StreamKind::Events, Takes::Queues(SmallVec::new()), Some(lease_ms))
        })
    }
}
