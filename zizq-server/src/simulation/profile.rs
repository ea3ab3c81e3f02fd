//! The kind of history that a seed makes, and what happens at random in it.

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use protocol::budget::{Binding, NewBinding, Policy, Strategy};
use protocol::enqueue::NewJob;
use protocol::flow::{Flow, Key, Unique, UniqueWhile};
use protocol::id::JobId;
use protocol::job::{Backoff, Retention};
use protocol::lease::{JobHeartbeat, JobRelease, LeaseToken};
use protocol::media::Format;
use protocol::name::{BudgetKey, JobType, QueueName};
use protocol::outcome::{Failure, LeasedJob};
use protocol::payload::Payload;
use protocol::trace::{Parent, Trace};

use super::act::BudgetAct;
use super::act::{Act, Opening};
use super::world::{Connection, World};
use crate::engine::Settings;
use crate::engine::command::budgets::BindingChange;
use crate::engine::command::jobs::Change;
use crate::engine::command::streams::{Link, StreamKind};
use crate::engine::outbox::Outbox;

/// Larger bulks would take more turns than there is time for.
const MAX_BULK: usize = 30;

#[derive(Debug)]
pub(super) struct Profile {
    pub settings: Settings,
    pub queues: Vec<QueueName>,
    priorities: Vec<u16>,
    /// The number of jobs that are enqueued at once now and then.
    backlog: usize,
    /// Whether payloads are so big that a reader soon has too much unread.
    big: bool,
    /// Whether power may be lost. In that case the clock does not step back.
    pub power: bool,
    /// How often a reader reads, of 100 times that it could.
    pub reads: u32,
    /// How many of 100 jobs ask for something beyond the ordinary.
    flow: u32,
    /// The number of unique keys.
    keys: u32,
    /// The number of batch keys.
    pub batches: u32,
    /// Whether there are cron entries.
    crons: bool,
    /// How many of 100 enqueues take several turns.
    bulks: u32,
    /// How many of 100 jobs draw on budgets.
    drawing: u32,
    /// How many of 100 turns are followed, or broken off, by the end of the process.
    pub crashes: u32,
    pub steps: usize,
}

/// Picks one of some values.
pub(super) fn one<T: Copy>(rng: &mut Rng, values: &[T]) -> T {
    values[rng.usize(..values.len())]
}

fn budget_key(rng: &mut Rng) -> BudgetKey {
    BudgetKey::new(one(rng, &["x", "x", "y", "z", "w"])).unwrap()
}

fn budget_policy(rng: &mut Rng) -> Policy {
    let duration_ms = one(rng, &[7, 500, 3_000]);
    let strategy = one(
        rng,
        &[
            Strategy::WhileInFlight,
            Strategy::TimeBased { duration_ms, burst: None },
            Strategy::TimeBased { duration_ms, burst: Some(2) },
        ],
    );
    Policy { allocation: rng.u32(1..6), strategy }
}

fn budget_binding(rng: &mut Rng) -> NewBinding {
    let binding = Binding { key: budget_key(rng), cost: one(rng, &[1, 1, 1, 2, 3]) };
    NewBinding { binding, create_with: chance(rng, 80).then(|| budget_policy(rng)) }
}

/// Makes a failure after which the job is ready again at once.
pub(super) fn failed_at_once(world: &World) -> Failure {
    Failure { message: "m".to_owned(), retry_at: Some(world.wall), ..Failure::default() }
}

/// Returns true in `percent` of 100 cases.
pub(super) fn chance(rng: &mut Rng, percent: u32) -> bool {
    rng.u32(..100) < percent
}

impl Profile {
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let backoff = |rng: &mut Rng| Backoff {
            base_ms: one(rng, &[0, 300, 2_000]),
            exponent: one(rng, &[0.0, 1.0, 2.5]),
            jitter_ms: one(rng, &[0, 1_000]),
        };
        let settings = Settings {
            retry_limit: one(rng, &[0, 1, 3]),
            backoff: backoff(rng),
            completed_ms: one(rng, &[0, 0, 700, 20_000]),
            dead_ms: one(rng, &[0, 900, 20_000]),
            max_deliveries: one(rng, &[1, 2, 3, 100, 100]),
            in_flight_limit: one(rng, &[0, 0, 0, 1, 4]),
            queue_histograms: false,
            timeout_ms: one(rng, &[None, None, None, Some(2_500)]),
            max_budgets: one(rng, &[3, 100]),
            stream_renewal_ms: one(rng, &[0, 3_000, u64::MAX, u64::MAX]),
        };
        let names = ["a", "b", "c", "d"].into_iter().take(rng.usize(1..=4));
        let large = chance(rng, 6);
        Self {
            settings,
            queues: names.map(|name| QueueName::new(name).unwrap()).collect(),
            priorities: one(rng, &[&[5][..], &[0, 1], &[0, 7, u16::MAX]]).to_vec(),
            backlog: if large { rng.usize(80..300) } else { rng.usize(2..60) },
            big: chance(rng, 15),
            power: chance(rng, 30),
            reads: one(rng, &[100, 100, 50, 10]),
            flow: one(rng, &[0, 20, 80]),
            keys: one(rng, &[0, 2, 30]),
            drawing: one(rng, &[0, 30, 90]),
            batches: one(rng, &[0, 0, 1, 4]),
            crons: chance(rng, 40),
            bulks: one(rng, &[0, 0, 10, 60]),
            crashes: one(rng, &[0, 1, 4, 15]),
            steps: if large { 120 } else { rng.usize(60..500) },
        }
    }
}

impl World {
    /// Returns what the next turn is given.
    pub(super) fn acts(&mut self, rng: &mut Rng) -> Vec<Act> {
        let number = if chance(rng, 70) { 1 } else { rng.usize(0..6) };
        (0..number).map(|_| self.act(rng)).collect()
    }

    fn act(&mut self, rng: &mut Rng) -> Act {
        // A history that gets no new jobs comes to rest; one whose jobs are not worked off grows without end.
        let waiting = self.model.jobs.len();
        match rng.u32(..100) {
            0..7 if self.profile.batches > 0 && waiting < 4 * self.profile.backlog => {
                self.firing_act(rng).unwrap_or_else(|| self.batch_act(rng))
            }
            0..22 if waiting < 4 * self.profile.backlog => self.enqueue(rng),
            0..34 => self.open(rng),
            34..42 => self.end_connection(rng),
            42 => Act::SucceedWith(
                self.target(rng),
                Payload::from_checked(Format::MessagePack, Bytes::from_static(&[0xc0])),
            ),
            43..60 => Act::Succeed(self.targets(rng)),
            60..70 => Act::Fail { job: self.target(rng), failure: self.failure(rng) },
            70..77 => Act::Heartbeat(self.heartbeats(rng)),
            77..84 => Act::Release(self.releases(rng)),
            84..87 => self.change(rng),
            87 | 88 if self.profile.drawing > 0 && chance(rng, 50) => self.budget_act(rng),
            87 if self.profile.crons => self.cron_act(rng),
            87 => self.change(rng),
            88 => {
                let queue = self.profile.queues[rng.usize(..self.profile.queues.len())].clone();
                if chance(rng, 20) { Act::ForgetQueue(queue) } else { Act::Pause(queue, chance(rng, 35)) }
            }
            89..92 => self.any_link(rng).map_or(Act::Inspect(Vec::new()), Act::Beat),
            92..94 => self.any_link(rng).map_or(Act::Inspect(Vec::new()), Act::Drained),
            94..97 => self.look(rng),
            97 | 98 => self.wait_act(rng),
            _ if chance(rng, 15) => Act::Reset,
            _ => self.token_act(rng),
        }
    }

    fn enqueue(&mut self, rng: &mut Rng) -> Act {
        let number = match rng.u32(..100) {
            0 => 0,
            1..80 => rng.usize(1..4),
            _ => rng.usize(1..=self.profile.backlog),
        };
        let jobs: Vec<NewJob> = (0..number).map(|_| self.new_job(rng)).collect();
        if jobs.len() < MAX_BULK && chance(rng, self.profile.bulks) {
            super::bulks::act(jobs)
        } else if chance(rng, 10) {
            self.once_act(rng)
        } else {
            Act::Enqueue(jobs)
        }
    }

    /// Makes an ordinary job, in the first queue.
    pub(super) fn plain_job(&mut self) -> NewJob {
        self.serial += 1;
        NewJob {
            queue: self.profile.queues[0].clone(),
            job_type: JobType::new("t").unwrap(),
            payload: Payload::from_checked(Format::Json, Bytes::from(self.serial.to_string())),
            priority: 5,
            ready_at: None,
            retry_limit: None,
            backoff: None,
            retention: None,
            flow: None,
            create_budgets: Vec::new(),
        }
    }

    pub(super) fn new_job(&mut self, rng: &mut Rng) -> NewJob {
        self.serial += 1;
        let mut payload = self.serial.to_string().into_bytes();
        if self.profile.big && chance(rng, 30) {
            payload.resize(rng.usize(25_000..125_000), b'0');
        }
        let now = self.model.now;
        let bindings = self.bindings(rng);
        let create = |new: &NewBinding| Some((new.binding.key.clone(), new.create_with?));
        let create_budgets = bindings.iter().filter_map(create).collect();
        let budgets = bindings.into_iter().map(|new| new.binding).collect();
        NewJob {
            queue: self.profile.queues[rng.usize(..self.profile.queues.len())].clone(),
            job_type: JobType::new("t").unwrap(),
            payload: Payload::from_checked(Format::Json, Bytes::from(payload)),
            priority: one(rng, &self.profile.priorities),
            ready_at: match rng.u32(..100) {
                0..8 => Some(now - rng.u64(..5_000)),
                8..24 => Some(now + rng.u64(..4_000)),
                24..27 => Some(now + 3_600_000),
                _ => None,
            },
            retry_limit: one(rng, &[None, None, Some(0), Some(2)]),
            backoff: one(rng, &[None, None, Some(Backoff { base_ms: 10, exponent: 1.5, jitter_ms: 50 })]),
            retention: one(
                rng,
                &[
                    None,
                    None,
                    Some(Retention { completed_ms: Some(0), dead_ms: Some(0) }),
                    Some(Retention { completed_ms: Some(500), dead_ms: None }),
                    Some(Retention { completed_ms: None, dead_ms: Some(3_000) }),
                ],
            ),
            flow: Flow { budgets, ..self.flow(rng) }.boxed(),
            create_budgets,
        }
    }

    /// Makes what a job draws on budgets.
    fn bindings(&self, rng: &mut Rng) -> Vec<NewBinding> {
        if !chance(rng, self.profile.drawing) {
            return Vec::new();
        }
        let mut bindings: Vec<NewBinding> = Vec::new();
        for _ in 0..one(rng, &[1, 1, 2, 3]) {
            let new = budget_binding(rng);
            if bindings.iter().all(|other| other.binding.key != new.binding.key) {
                bindings.push(new);
            }
        }
        bindings
    }

    fn budget_act(&self, rng: &mut Rng) -> Act {
        let key = budget_key(rng);
        let change = match rng.u32(..12) {
            0 => return Act::Budget(BudgetAct::Create(key, budget_policy(rng))),
            1..4 => return Act::Budget(BudgetAct::Put(key, budget_policy(rng))),
            4 | 5 => return Act::Budget(BudgetAct::Delete(key)),
            6 => BindingChange::Add(budget_binding(rng)),
            7 | 8 => BindingChange::Put(budget_binding(rng)),
            9 => BindingChange::Cost(key, rng.u32(1..4)),
            10 => BindingChange::Remove(key),
            _ => BindingChange::Replace(self.bindings(rng)),
        };
        let ids =
            (0..one(rng, &[1, 1, 4])).map(|_| self.any_id(rng)).collect::<std::collections::BTreeSet<_>>();
        let change = Change::Bind(Arc::new(change));
        Act::Change { ids: ids.into_iter().collect(), only: None, change }
    }

    /// Makes what some jobs ask for beyond the ordinary.
    fn flow(&self, rng: &mut Rng) -> Flow {
        if !chance(rng, self.profile.flow) {
            return Flow::default();
        }
        let scope = one(rng, &[UniqueWhile::Queued, UniqueWhile::Active, UniqueWhile::Exists]);
        let unique = rng.u32(..self.profile.keys + 2).checked_sub(2);
        Flow {
            timeout_ms: one(rng, &[None, Some(1), Some(400), Some(3_000)]),
            unique: unique.map(|n| Unique { key: Key::new(&format!("key {n}")).unwrap(), scope }),
            batch: (unique.is_none() && chance(rng, 10)).then(|| self.batch(rng)),
            budgets: Vec::new(),
            trace: chance(rng, 30).then(|| Box::new(trace(rng))),
        }
    }

    fn open(&mut self, rng: &mut Rng) -> Act {
        let kind = one(rng, &[StreamKind::Bound, StreamKind::Events, StreamKind::Events, StreamKind::Poll]);
        let lease_ms = one(rng, &[1_000, 2_000, 10_000, 30_000]);
        let all = &self.profile.queues;
        let some = match rng.u32(..100) {
            0..40 => None,
            40..75 => Some(vec![all[rng.usize(..all.len())].clone()]),
            _ => Some(all.iter().filter(|_| rng.bool()).cloned().collect()),
        };
        let resume = (kind == StreamKind::Events && chance(rng, 65)).then(|| self.resumption(rng)).flatten();
        Act::Open(Opening {
            kind,
            queues: some.filter(|queues: &Vec<_>| !queues.is_empty()),
            prefetch: rng.u32(..6),
            lease_ms: (kind != StreamKind::Bound || rng.bool()).then_some(lease_ms),
            resume_ms: one(rng, &[0, 500, 5_000, 60_000]),
            resume,
            id: rng.u128(1..),
            outbox: Arc::new(Outbox::default()),
        })
    }

    /// Picks a stream to resume, and the last event that is said to have arrived.
    fn resumption(&self, rng: &mut Rng) -> Option<(u128, u64)> {
        if chance(rng, 5) {
            return Some((rng.u128(..), rng.u64(..10)));
        }
        let (id, seen) = *rng.choice(&self.event_streams)?;
        let event = match rng.u32(..10) {
            0..6 => seen,
            6 => 0,
            7 | 8 => rng.u64(..=seen),
            _ => seen + rng.u64(..4),
        };
        Some((id, event))
    }

    fn end_connection(&mut self, rng: &mut Rng) -> Act {
        if chance(rng, 15)
            && let Some(link) = rng.choice(&self.old_links)
        {
            return one(rng, &[Act::Close, Act::Beat, Act::Drained])(*link);
        }
        let Some(Connection { link, id, kind, rests, .. }) = rng.choice(&mut self.connections) else {
            return Act::Inspect(Vec::new());
        };
        if chance(rng, 8) {
            let mut start = format!("{id:032x}");
            start.truncate(12);
            return one(rng, &[Act::DrainWorkers, Act::DrainWorkers, Act::CutOff])(start);
        }
        match kind {
            // A poll is answered only when it can get no more jobs.
            StreamKind::Poll if *rests && chance(rng, 70) => Act::Finish(*link),
            StreamKind::Poll if !*rests && chance(rng, 80) => {
                *rests = true;
                Act::Rest(*link)
            }
            _ => Act::Close(*link),
        }
    }

    fn any_link(&self, rng: &mut Rng) -> Option<Link> {
        rng.choice(&self.connections).map(|connection| connection.link)
    }

    fn targets(&self, rng: &mut Rng) -> Vec<LeasedJob> {
        let number = if chance(rng, 70) { 1 } else { rng.usize(0..6) };
        let mut jobs: Vec<LeasedJob> = Vec::new();
        for _ in 0..number {
            let mut job = self.target(rng);
            // A job that is named twice has the same token both times: with two tokens, an answer would not say which
            // was refused.
            if let Some(first) = jobs.iter().find(|first| first.id == job.id) {
                job = *first;
            }
            jobs.push(job);
        }
        jobs
    }

    /// Picks a job to report on: mostly one in flight, with the right token; otherwise a late, stale or wrong one.
    pub(super) fn target(&self, rng: &mut Rng) -> LeasedJob {
        let held = self.model.leases.values().nth(rng.usize(..self.model.leases.len().max(1)));
        match (held, rng.u32(..100)) {
            (Some(lease), 0..55) => LeasedJob { id: lease.job.id, lease: Some(lease.token) },
            (Some(lease), 55..65) => LeasedJob { id: lease.job.id, lease: None },
            (Some(lease), 65..70) => LeasedJob { id: lease.job.id, lease: self.any_token(rng) },
            (_, 70..74) => LeasedJob { id: self.any_id(rng), lease: None },
            _ => match self.past.get(rng.usize(..self.past.len().max(1))) {
                Some((id, token)) => LeasedJob { id: *id, lease: Some(*token) },
                None => LeasedJob { id: self.any_id(rng), lease: None },
            },
        }
    }

    /// Picks the token of some delivery by this process. A token from before may be of a delivery that a crash made the
    /// server forget, and the server cannot tell of which job.
    fn any_token(&self, rng: &mut Rng) -> Option<LeaseToken> {
        rng.choice(&self.past).map(|(_, token)| *token).filter(|token| *token > self.tokens_before)
    }

    pub(super) fn any_id(&self, rng: &mut Rng) -> JobId {
        let known = self.model.jobs.keys().nth(rng.usize(..self.model.jobs.len().max(1)));
        let past = rng.choice(&self.past).map(|(id, _)| *id);
        let unknown = JobId::from_u128(u128::from(rng.u64(..)));
        match (known, past) {
            (Some(id), _) if chance(rng, 70) => *id,
            (_, Some(id)) if chance(rng, 90) => id,
            _ => unknown,
        }
    }

    fn failure(&mut self, rng: &mut Rng) -> Failure {
        self.serial += 1;
        let now = self.model.now;
        Failure {
            message: format!("m{}", self.serial),
            retry_at: match rng.u32(..10) {
                0..3 => Some(now - rng.u64(..3_000)),
                3..5 => Some(now + rng.u64(..3_000)),
                _ => None,
            },
            delay_ms: chance(rng, 20).then(|| rng.u64(..3_000)),
            kill: chance(rng, 15).then_some(true),
            ..Failure::default()
        }
    }

    fn heartbeats(&self, rng: &mut Rng) -> Vec<JobHeartbeat> {
        let beat = |LeasedJob { id, lease }, rng: &mut Rng| JobHeartbeat {
            id,
            lease,
            lease_ms: one(rng, &[None, None, Some(1_000), Some(20_000)]),
            progress: None,
            message: None,
        };
        self.targets(rng).into_iter().map(|job| beat(job, rng)).collect()
    }

    fn releases(&self, rng: &mut Rng) -> Vec<JobRelease> {
        let now = self.model.now;
        let release = |LeasedJob { id, lease }, rng: &mut Rng| JobRelease {
            id,
            lease,
            ready_at: match rng.u32(..4) {
                0 => Some(now - 10),
                1 => Some(now + rng.u64(..2_000)),
                _ => None,
            },
            delay_ms: None,
            reason: None,
        };
        self.targets(rng).into_iter().map(|job| release(job, rng)).collect()
    }
}

fn trace(rng: &mut Rng) -> Trace {
    let parent = Parent { trace_id: rng.u128(1..), span_id: rng.u64(1..), flags: rng.u8(..) };
    Trace::restored(parent, one(rng, &["", "a=b", "a=b,c@d=e f"])).unwrap()
}
