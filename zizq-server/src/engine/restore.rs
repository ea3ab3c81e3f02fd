//! Starts the engine from what the store has.

use std::sync::Arc;

use protocol::id::JobId;
use protocol::lease::{DEFAULT_LEASE_MS, LeaseToken};
use protocol::name::CronName;
use smallvec::SmallVec;

use super::access::AccessTokens;
use super::budgets::Budgets;
use super::clock::{Clock, set_back_by};
use super::command::streams::StreamKind;
use super::crons::Crons;
use super::jobs::answers::Answers;
use super::jobs::bulks::Bulks;
use super::jobs::listeners::Listeners;
use super::jobs::tags::Tags;
use super::jobs::timers::Timers;
use super::queues::Queues;
use super::queues::cursors::Cursors;
use super::streams::dispatch::Dispatcher;
use super::streams::lease::{Lease, Leases};
use super::streams::{State, Stream, Streams, Takes};
use super::{Engine, Settings};
use crate::access::Tokens;
use crate::clock::Time;
use crate::hash::HashMap;
use crate::job::Job;
use crate::job::draw::{BudgetId, DrawId};
use crate::job::id::{QueueId, Stamp};
use crate::store::batch::Batch;
use crate::store::bulk::StoredBulks;
use crate::store::record::{
    AnswerRecord, BudgetRecord, ClockRecord, CronRecord, DrawRecord, EntryState, LeaseEnd, LeaseRecord,
    QueueRecord,
};
use crate::store::view::LaneKey;

/// Streams are numbered from the time of the start on, so that messages for an earlier engine of the process, on a
/// connection to it, reach none of them.
const STREAM_COUNT_BITS: u32 = 20;

/// What is read from the store at start. Jobs are not: the heads of their lanes are read when they are needed.
#[derive(Debug, Default)]
pub struct Stored {
    pub clock: ClockRecord,
    pub queues: Vec<(QueueId, QueueRecord)>,
    pub cursors: Vec<(LaneKey, Stamp)>,
    pub budgets: Vec<(BudgetId, BudgetRecord)>,
    pub draws: Vec<(DrawId, DrawRecord)>,
    pub crons: Vec<(CronName, CronRecord)>,
    pub cron_states: Vec<((CronName, CronName), EntryState)>,
    pub bulks: StoredBulks,
    /// With their keys.
    pub answers: Vec<(Arc<str>, AnswerRecord)>,
    pub tokens: Tokens,
    /// With the job that each is for, if it still exists.
    pub leases: Vec<(JobId, LeaseRecord, Option<Job>)>,
}

impl Engine {
    /// Makes an engine that has received nothing yet, and for which nothing is stored.
    pub(super) fn empty(settings: Settings, clock: Clock, random: fastrand::Rng) -> Self {
        let streams = Streams::starting_at(clock.latest() << STREAM_COUNT_BITS);
        let mut batch = Batch::default();
        batch.put_format();
        Self {
            settings,
            clock,
            random,
            queues: Queues::default(),
            cursors: Cursors::default(),
            ready_bytes: 0,
            timers: Timers::empty(),
            leases: Leases::default(),
            streams,
            dispatcher: Dispatcher::default(),
            listeners: Listeners::default(),
            tags: Tags::default(),
            budgets: Budgets::default(),
            crons: Crons::default(),
            access: AccessTokens::default(),
            bulks: Bulks::default(),
            answers: Answers::default(),
            batch,
            clear: false,
            draining: false,
        }
    }

    /// Makes an engine that goes on where an earlier one stopped. `seed` seeds its random numbers.
    pub fn new(settings: Settings, stored: Stored, time: Time, seed: u64) -> Self {
        let Time { wall: now, up } = time;
        let back = set_back_by(stored.clock, now);
        let clock = Clock::stored(stored.clock, time);
        let mut engine = Self::empty(settings, clock, fastrand::Rng::with_seed(seed));
        engine.timers = Timers::stored();
        engine.cursors = Cursors::stored(stored.cursors);
        engine.queues.number_engine(seed, settings.queue_histograms);
        engine.load_queues(stored.queues);
        engine.budgets.load(stored.budgets, stored.draws, up, &mut engine.batch);
        engine.drop_stray_cursors();
        engine.crons.load(stored.crons, stored.cron_states, now, &mut engine.batch);
        for job in engine.crons.jobs() {
            engine.budgets.expect(job.flow.as_ref().map_or(&[], |flow| &flow.budgets), true);
        }
        engine.access = AccessTokens::stored(stored.tokens);
        engine.load_bulks(stored.bulks);
        engine.load_answers(stored.answers);
        engine.load_leases(stored.leases, back);
        if back > 0 {
            engine.clock.save_step(stored.clock, &mut engine.batch);
        }
        engine
    }

    fn load_queues(&mut self, queues: Vec<(QueueId, QueueRecord)>) {
        for (id, record) in queues {
            if record.counts.total() > 0 || record.paused {
                self.queues.load(id, record);
            } else {
                self.queues.skip(id);
                self.batch.remove_queue(id);
                self.cursors.drop_where(&mut self.batch, |(queue, ..)| *queue == id);
            }
        }
    }

    /// Forgets the cursors of draws that no longer exist.
    fn drop_stray_cursors(&mut self) {
        let Self { cursors, budgets, batch, .. } = self;
        cursors.drop_where(batch, |(_, draw, _)| !draw.is_none() && !budgets.has_draw(*draw));
    }

    /// Gives the workers of before time to come back, once: the length of their lease, counted from the first start
    /// since they were last heard of. `back` is by how much the clock was set back since the leases were written down.
    fn load_leases(&mut self, leases: Vec<(JobId, LeaseRecord, Option<Job>)>, back: u64) {
        let mut resumable: HashMap<u128, u64> = HashMap::default();
        for (id, record, job) in leases {
            let Some(mut job) = job else {
                self.batch.remove_lease(id);
                continue;
            };
            let lease_ms = record.lease_ms.unwrap_or(DEFAULT_LEASE_MS);
            let restored_at = record.end.restored_at.map_or(self.clock.now(), |at| at.saturating_sub(back));
            let kept_until = record.end.kept_until.map(|at| at.saturating_sub(back));
            let end = LeaseEnd { restored_at: Some(restored_at.min(self.clock.now())), kept_until };
            let dequeued_at = record.dequeued_at.saturating_sub(back);
            if (end, dequeued_at) != (record.end, record.dequeued_at) {
                self.batch.put_lease(id, &LeaseRecord { end, dequeued_at, ..record });
            }
            let since = self.clock.up_of(restored_at.min(self.clock.now()));
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
            job.dequeued_at = Some(dequeued_at);
            // Unless it was changed in flight, its date is from before, perhaps from a clock that was ahead.
            if job.last_lease != Some(token) {
                job.ready_at = job.ready_at.min(dequeued_at);
            }
            job.last_lease = Some(token);
            job.lapsed = false;
            self.lease_to(
                key,
                Lease {
                    job: Arc::new(job),
                    token,
                    stream: key,
                    since,
                    kept_until: kept_until.map(|at| self.clock.up_of(at)),
                    deadline: None,
                    event,
                    restored_at: Some(since),
                    progress: None,
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
