//! Values of the store. Each begins with its format number, so that later versions can read earlier ones.

use crate::job::counts::Counts;
use std::sync::Arc;

use bytes::Bytes;
use postcard::ser_flavors::Flavor;
use protocol::access::{Grant, Role};
use protocol::budget::{Binding, MAX_DURATION_MS, Policy, Strategy};
use protocol::flow::{Batch, Expression, Flow, Key, Unique, UniqueWhile};
use protocol::id::JobId;
use protocol::job::{Backoff, LastError, Retention, Status};
use protocol::lease::{LeaseToken, MAX_LEASE_MS};
use protocol::media::Format;
use protocol::name::{BudgetKey, CronName, InvalidName, JobType, QueueName, TokenName};
use protocol::number::MAX_TIME_MS;
use protocol::payload::Payload;
use protocol::trace::{Parent, Trace};
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::keys::{self, Area};
use crate::access::{Credential, Digest, OldSecret, TokenRecord};
use crate::job::Job;
use crate::job::draw::DrawId;
use crate::job::id::{Home, QueueId};
use crate::job::place::Place;

const FORMAT: u8 = 1;
/// A job record with a list of [`Extra`] between its header and its payload.
const FORMAT_WITH_EXTRAS: u8 = 2;
/// An access token that is known by a certificate instead of a secret.
const FORMAT_WITH_CREDENTIAL: u8 = 2;

/// A stored value is not a valid record of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored {0} record is damaged")]
pub struct Damaged(pub &'static str);

impl Damaged {
    /// The error of reading this key.
    pub fn at(self, key: &[u8]) -> StoreError {
        StoreError::Damaged { what: self.0, key: keys::Key::from_slice(key) }
    }
}

pub(super) fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    out.push(FORMAT);
    put(value, out);
}

pub(super) fn put<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let written = postcard::serialize_with_flavor(value, Tail(out));
    debug_assert_eq!(written, Ok(()), "plain data can be appended to a buffer that grows");
}

/// Appends to a buffer.
struct Tail<'a>(&'a mut Vec<u8>);

impl Flavor for Tail<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Decodes a value; also returns the bytes after it.
pub(super) fn decode<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), Damaged> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => take(what, rest),
        _ => Err(Damaged(what)),
    }
}

pub(super) fn take<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), Damaged> {
    postcard::take_from_bytes(bytes).map_err(|_| Damaged(what))
}

/// A job record before its payload, without what is in the key.
#[derive(Serialize, Deserialize)]
struct JobHeader<'a> {
    /// Queue and priority at enqueue, if they have changed since.
    home: Option<(u32, u16)>,
    priority: u16,
    #[serde(borrow)]
    job_type: &'a str,
    payload_is_json: bool,
    ready_at: u64,
    attempts: u32,
    deliveries: u32,
    last_lease: u64,
    lapsed: bool,
    retry_limit: Option<u32>,
    backoff: Option<(u32, f32, u32)>,
    retention: Option<(Option<u64>, Option<u64>)>,
    dequeued_at: Option<u64>,
    failed_at: Option<u64>,
    completed_at: Option<u64>,
    purge_at: Option<u64>,
}

/// A field that only some jobs have. Append new ones at the end.
#[derive(Serialize, Deserialize)]
enum Extra<'a> {
    TimeoutMs(u64),
    Unique(&'a str, UniqueWhile),
    #[serde(borrow)]
    Budgets(Vec<(&'a str, u32)>),
    Draw(u32),
    /// Whether it is JSON, and its bytes.
    Result(bool, &'a [u8]),
    /// Key, condition and fold.
    Batch(&'a str, &'a str, &'a str),
    /// Type, message and time of the last failure.
    LastError(Option<&'a str>, &'a str, u64),
    #[serde(borrow)]
    Trace(StoredTrace<'a>),
}

/// A trace context: trace, span, flags, and what tracing systems have added.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredTrace<'a>([u8; 16], [u8; 8], u8, &'a str);

impl<'a> StoredTrace<'a> {
    pub(super) fn of(trace: &'a Trace) -> Self {
        let Parent { trace_id, span_id, flags } = trace.parent;
        Self(trace_id.to_be_bytes(), span_id.to_be_bytes(), flags, trace.state().unwrap_or_default())
    }

    /// `None` if it is damaged.
    pub(super) fn read(self) -> Option<Trace> {
        let Self(trace_id, span_id, flags, state) = self;
        let parent =
            Parent { trace_id: u128::from_be_bytes(trace_id), span_id: u64::from_be_bytes(span_id), flags };
        Trace::restored(parent, state)
    }
}

fn extras(job: &Job) -> Vec<Extra<'_>> {
    let draw = (!job.draw.is_none()).then_some(Extra::Draw(job.draw.0));
    let result = job.result.as_ref().map(|r| Extra::Result(r.format() == Format::Json, r.bytes()));
    let error = job.last_error.as_deref();
    let error = error.map(|e| Extra::LastError(e.error_type.as_deref(), &e.message, e.at));
    let draw = draw.into_iter().chain(result).chain(error);
    let Some(flow) = &job.flow else { return draw.collect() };
    let budgets = flow.budgets.iter().map(|Binding { key, cost }| (key.as_str(), *cost)).collect();
    let budgets = (!flow.budgets.is_empty()).then_some(Extra::Budgets(budgets));
    let timeout = flow.timeout_ms.map(Extra::TimeoutMs);
    let unique = flow.unique.as_ref().map(|unique| Extra::Unique(unique.key.as_str(), unique.scope));
    let batch = flow
        .batch
        .as_ref()
        .map(|Batch { key, when, fold }| Extra::Batch(key.as_str(), when.as_str(), fold.as_str()));
    let trace = flow.trace.as_ref().map(|trace| Extra::Trace(StoredTrace::of(trace)));
    timeout.into_iter().chain(unique).chain(batch).chain(budgets).chain(trace).chain(draw).collect()
}

/// The decoded extras of a job.
struct Said {
    flow: Flow,
    draw: DrawId,
    result: Option<Payload>,
    last_error: Option<LastError>,
}

fn said(extras: Vec<Extra<'_>>) -> Result<Said, Damaged> {
    let (mut flow, mut draw, mut result, mut last_error) = (Flow::default(), DrawId::NONE, None, None);
    for extra in extras {
        match extra {
            Extra::TimeoutMs(ms) => flow.timeout_ms = Some(ms),
            Extra::Unique(key, scope) => {
                let key = Key::new(key).map_err(|_| Damaged("job"))?;
                flow.unique = Some(Unique { key, scope });
            }
            Extra::Budgets(budgets) => {
                let binding = |(key, cost): (&str, u32)| Ok(Binding { key: BudgetKey::new(key)?, cost });
                let budgets = budgets.into_iter().map(binding).collect::<Result<_, InvalidName>>();
                flow.budgets = budgets.map_err(|_| Damaged("job"))?;
            }
            Extra::Batch(key, when, fold) => {
                let batch = || {
                    let (when, fold) = (Expression::new(when)?, Expression::new(fold)?);
                    Ok(Batch { key: Key::new(key)?, when, fold })
                };
                flow.batch = Some(batch().map_err(|_: String| Damaged("job"))?);
            }
            Extra::LastError(error_type, message, at) => {
                let error_type = error_type.map(str::to_owned);
                last_error = Some(LastError { error_type, message: message.to_owned(), at });
            }
            Extra::Trace(trace) => flow.trace = Some(Box::new(trace.read().ok_or(Damaged("job"))?)),
            Extra::Draw(id) => draw = DrawId(id),
            Extra::Result(is_json, bytes) => {
                let format = if is_json { Format::Json } else { Format::MessagePack };
                result = Some(Payload::from_checked(format, Bytes::copy_from_slice(bytes)));
            }
        }
    }
    Ok(Said { flow, draw, result, last_error })
}

/// Appends the record of a job.
///
/// # Panics
/// If the payload was left to the store: the record would lose it.
pub fn encode_job(job: &Job, out: &mut Vec<u8>) {
    assert_eq!(job.left_bytes, 0, "a job is stored with its payload");
    let home = Home::of(job.id);
    let moved = home != Home { queue: job.queue, priority: job.priority };
    let header = JobHeader {
        home: moved.then_some((home.queue.0, home.priority)),
        priority: job.priority,
        job_type: &job.job_type,
        payload_is_json: job.payload.format() == Format::Json,
        ready_at: job.ready_at,
        attempts: job.attempts,
        deliveries: job.deliveries,
        last_lease: job.last_lease.map_or(0, LeaseToken::to_u64),
        lapsed: job.lapsed,
        retry_limit: job.retry_limit,
        backoff: job.backoff.map(|b| (b.base_ms, b.exponent, b.jitter_ms)),
        retention: job.retention.map(|r| (r.completed_ms, r.dead_ms)),
        dequeued_at: job.dequeued_at,
        failed_at: job.failed_at,
        completed_at: job.completed_at,
        purge_at: job.purge_at,
    };
    let has_extras = job.flow.is_some() || job.result.is_some() || job.last_error.is_some();
    out.push(if has_extras { FORMAT_WITH_EXTRAS } else { FORMAT });
    put(&header, out);
    if has_extras {
        put(&extras(job), out);
    }
    out.extend_from_slice(job.payload.bytes());
}

/// More failures than that are damage: a job is dead at half as many ([`crate::job::MAX_ATTEMPTS`]), and then only
/// repeated retries by users add to them.
const CREDIBLE_ATTEMPTS: u32 = 2_000_000;

/// Reads the record of the job at `place`; its priority is that of the record if the key has none.
pub fn decode_job(place: Place, record: &Bytes) -> Result<Job, Damaged> {
    let has_extras = record.first() == Some(&FORMAT_WITH_EXTRAS);
    let (header, rest): (JobHeader<'_>, &[u8]) =
        if has_extras { take("job", record.get(1..).unwrap_or_default())? } else { decode("job", record)? };
    let (extras, payload) = if has_extras { take("job", rest)? } else { (Vec::new(), rest) };
    // With another priority than its own it would not be found again to be removed.
    if place.area() == Area::Ready && header.priority != place.priority {
        return Err(Damaged("job"));
    }
    let home =
        header.home.map_or(Home { queue: place.queue, priority: header.priority }, |(queue, priority)| {
            Home { queue: QueueId(queue), priority }
        });
    let Said { flow, draw, result, last_error } = said(extras)?;
    // Deleting the job would look up each of its failures; and a job without budgets has no draw.
    if header.attempts > CREDIBLE_ATTEMPTS || !draw.is_none() && flow.budgets.is_empty() {
        return Err(Damaged("job"));
    }
    // Otherwise it would be looked up in the wrong area.
    if place.status == Status::Ready && draw.is_none() != place.draw.is_none() {
        return Err(Damaged("job"));
    }
    let format = if header.payload_is_json { Format::Json } else { Format::MessagePack };
    Ok(Job {
        id: home.id(place.stamp),
        queue: place.queue,
        priority: header.priority,
        job_type: JobType::new(header.job_type).map_err(|_| Damaged("job"))?,
        payload: Payload::from_checked(format, record.slice_ref(payload)),
        left_bytes: 0,
        status: place.status,
        ready_at: header.ready_at,
        attempts: header.attempts,
        deliveries: header.deliveries,
        last_lease: (header.last_lease != 0).then(|| LeaseToken::from_u64(header.last_lease)),
        lapsed: header.lapsed,
        retry_limit: header.retry_limit,
        backoff: header.backoff.map(|(base_ms, exponent, jitter_ms)| Backoff {
            base_ms,
            exponent,
            jitter_ms,
        }),
        retention: header.retention.map(|(completed_ms, dead_ms)| Retention { completed_ms, dead_ms }),
        dequeued_at: header.dequeued_at,
        failed_at: header.failed_at,
        last_error: last_error.map(Arc::new),
        completed_at: header.completed_at,
        purge_at: header.purge_at,
        result,
        draw,
        flow: flow.boxed(),
    })
}

/// A queue and its job counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRecord {
    pub name: QueueName,
    /// By stored status: scheduled, ready (in flight included), completed, dead.
    pub counts: Counts,
    /// Whether its jobs are not delivered.
    pub paused: bool,
}

pub fn encode_queue(queue: &QueueRecord, out: &mut Vec<u8>) {
    encode(queue, out);
}

pub fn decode_queue(record: &[u8]) -> Result<QueueRecord, Damaged> {
    decode("queue", record).map(|(queue, _)| queue)
}

pub(crate) fn encode_queue_name(name: &QueueName, out: &mut Vec<u8>) {
    encode(name, out);
}

/// The name of a queue, stored alone or at the beginning of a record that may be damaged after it.
pub fn decode_queue_name(record: &[u8]) -> Option<QueueName> {
    decode("queue", record).ok().map(|(name, _)| name)
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    pub message: String,
    pub error_type: Option<String>,
    pub backtrace: Option<String>,
    pub dequeued_at: u64,
    pub failed_at: u64,
}

impl ErrorRecord {
    /// Its approximate size in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        128 + self.message.len() + length(&self.error_type) + length(&self.backtrace)
    }
}

pub fn encode_error(error: &ErrorRecord, out: &mut Vec<u8>) {
    encode(error, out);
}

pub fn decode_error(record: &[u8]) -> Result<ErrorRecord, Damaged> {
    decode("error", record).map(|(error, _)| error)
}

/// Appends a numbered chunk of an attempt's output.
pub fn encode_log(number: u64, text: &[u8], out: &mut Vec<u8>) {
    encode(&number, out);
    out.extend_from_slice(text);
}

/// The number and the text of a chunk.
pub fn decode_log(record: &[u8]) -> Result<(u64, &[u8]), Damaged> {
    decode("log", record)
}

/// One step of one ring of the history of statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryStep {
    pub ring: u8,
    /// Its number since 1970.
    pub number: u64,
    /// The first step of the ring that is still kept.
    pub oldest: u64,
    pub points: Vec<HistoryPoint>,
}

/// The values of a queue, or of all together, in one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// Empty: all queues together.
    pub queue: String,
    pub values: Vec<u32>,
}

/// Appends the points of a step.
pub(crate) fn encode_history(points: &[HistoryPoint], out: &mut Vec<u8>) {
    encode(&points, out);
}

/// The points of a step.
pub(crate) fn decode_history(record: &[u8]) -> Result<Vec<HistoryPoint>, Damaged> {
    Ok(decode("history", record)?.0)
}

/// A lease that survives a restart of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    pub queue: u32,
    pub priority: u16,
    pub token: u64,
    pub deliveries: u32,
    pub dequeued_at: u64,
    /// Its duration in milliseconds; `None`: as long as its stream is open.
    pub lease_ms: Option<u64>,
    /// The SSE stream that can resume it, and the number of its event there.
    pub stream: Option<(u128, u64)>,
    pub end: LeaseEnd,
}

/// When a lease that is found at a start ends; by default its duration later. In milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseEnd {
    /// A heartbeat extended it beyond its duration.
    pub kept_until: Option<u64>,
    /// When an earlier start found it, if its worker has not been heard of since: its duration counts from then.
    pub restored_at: Option<u64>,
}

impl LeaseEnd {
    /// Whether it is more specific than its duration.
    pub const fn is_dated(&self) -> bool {
        self.kept_until.is_some() || self.restored_at.is_some()
    }
}

/// The stored answer to a call, without the jobs in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// When it was given, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The fingerprint of the call and its body.
    pub fingerprint: u128,
    /// Whether jobs were created.
    pub created: bool,
    /// The bulk, if it is still being enqueued.
    pub bulk: Option<u128>,
    /// The number of parts.
    pub parts: u32,
    /// Their total length.
    pub bytes: usize,
}

pub(crate) fn encode_answer(answer: &AnswerRecord, out: &mut Vec<u8>) {
    encode(answer, out);
}

pub(crate) fn decode_answer(record: &[u8]) -> Result<AnswerRecord, Damaged> {
    Ok(decode("answer", record)?.0)
}

/// The time, in milliseconds since the Unix epoch. It is stored under two keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockRecord {
    /// No earlier stamp or token has a later time, so that they keep growing after a restart.
    pub latest: u64,
    /// The wall clock.
    pub wall: u64,
    /// The wall clock before it was set back, while not all earlier dates have been checked.
    pub back_from: Option<u64>,
}

/// The value under the second key: two times of eight bytes, the second 0 unless the clock was set back.
pub(crate) fn encode_wall(ClockRecord { wall, back_from, .. }: ClockRecord, out: &mut Vec<u8>) {
    out.extend_from_slice(&wall.to_be_bytes());
    out.extend_from_slice(&back_from.unwrap_or(0).to_be_bytes());
}

pub(crate) fn decode_wall(bytes: &[u8]) -> Option<(u64, Option<u64>)> {
    let (wall, back_from) = bytes.split_at_checked(8)?;
    let back_from = Some(decode_time(back_from)?).filter(|from| *from > 0);
    Some((decode_time(wall)?, back_from))
}

/// Decodes a time of eight bytes.
pub(crate) fn decode_time(bytes: &[u8]) -> Option<u64> {
    let time = bytes.try_into().ok().map(u64::from_be_bytes);
    time.filter(|time| *time <= MAX_TIME_MS)
}

/// No stream has more events than this. Larger numbers that workers make up are cut.
pub(crate) const MAX_EVENT: u64 = u64::MAX / 2;

pub fn encode_lease(lease: &LeaseRecord, out: &mut Vec<u8>) {
    encode(lease, out);
}

pub fn decode_lease(record: &[u8]) -> Result<LeaseRecord, Damaged> {
    let (lease, _): (LeaseRecord, _) = decode("lease", record)?;
    let possible = lease.lease_ms.is_none_or(|ms| ms <= MAX_LEASE_MS)
        && lease.stream.is_none_or(|(_, event)| event <= MAX_EVENT)
        && lease.end.restored_at.is_none_or(|at| at <= u64::MAX - MAX_LEASE_MS);
    if possible { Ok(lease) } else { Err(Damaged("lease")) }
}

/// A job that has a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    pub id: JobId,
    /// When it will be deleted, if it has ended.
    pub purge_at: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct HolderRecord([u8; 16], Option<u64>);

pub(crate) fn encode_holders(holders: &[Holder], out: &mut Vec<u8>) {
    let holders = holders.iter().map(|h| HolderRecord(h.id.to_u128().to_be_bytes(), h.purge_at));
    encode(&holders.collect::<Vec<_>>(), out);
}

pub fn decode_holders(record: &[u8]) -> Result<Vec<Holder>, Damaged> {
    let (holders, _): (Vec<HolderRecord>, _) = decode("unique", record)?;
    let holder =
        |HolderRecord(id, purge_at)| Holder { id: JobId::from_u128(u128::from_be_bytes(id)), purge_at };
    Ok(holders.into_iter().map(holder).collect())
}

/// A budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetRecord {
    pub key: BudgetKey,
    pub policy: Policy,
    pub created_at: u64,
    pub updated_at: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredBudget<'a> {
    key: &'a str,
    allocation: u32,
    /// Duration and burst of a time-based budget.
    time_based: Option<(u64, Option<u32>)>,
    created_at: u64,
    updated_at: u64,
}

pub(crate) fn encode_budget(budget: &BudgetRecord, out: &mut Vec<u8>) {
    let Policy { allocation, strategy } = budget.policy;
    let time_based = match strategy {
        Strategy::WhileInFlight => None,
        Strategy::TimeBased { duration_ms, burst } => Some((duration_ms, burst)),
    };
    let BudgetRecord { key, created_at, updated_at, .. } = budget;
    let (created_at, updated_at) = (*created_at, *updated_at);
    encode(&StoredBudget { key: key.as_str(), allocation, time_based, created_at, updated_at }, out);
}

pub(crate) fn decode_budget(record: &[u8]) -> Result<BudgetRecord, Damaged> {
    let (stored, _): (StoredBudget<'_>, _) = decode("budget", record)?;
    let StoredBudget { key, allocation, time_based, created_at, updated_at } = stored;
    let strategy = time_based
        .map_or(Strategy::WhileInFlight, |(duration_ms, burst)| Strategy::TimeBased { duration_ms, burst });
    let key = BudgetKey::new(key).map_err(|_| Damaged("budget"))?;
    let possible = match strategy {
        Strategy::WhileInFlight => true,
        Strategy::TimeBased { duration_ms, burst } => {
            (1..=MAX_DURATION_MS).contains(&duration_ms) && burst != Some(0)
        }
    };
    if allocation == 0 || !possible {
        return Err(Damaged("budget"));
    }
    Ok(BudgetRecord { key, policy: Policy { allocation, strategy }, created_at, updated_at })
}

/// What some jobs draw on budgets, and the number of such jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrawRecord {
    /// The number of each budget, and its tokens.
    pub costs: Vec<(u32, u32)>,
    /// Jobs that have not ended.
    pub unfinished: u64,
}

pub(crate) fn encode_draw(draw: &DrawRecord, out: &mut Vec<u8>) {
    encode(draw, out);
}

pub(crate) fn decode_draw(record: &[u8]) -> Result<DrawRecord, Damaged> {
    decode("draw", record).map(|(draw, _)| draw)
}

/// A cron group with its entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronRecord {
    pub timezone: Option<String>,
    pub paused: bool,
    pub paused_at: Option<u64>,
    pub resumed_at: Option<u64>,
    pub entries: Vec<EntryRecord>,
}

/// A cron entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRecord {
    pub name: CronName,
    pub expression: String,
    pub timezone: Option<String>,
    pub paused: bool,
    pub paused_at: Option<u64>,
    pub resumed_at: Option<u64>,
    /// The job to enqueue, as JSON.
    pub job: String,
}

/// When a cron entry fires next, and when it fired last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryState {
    pub next_at: Option<u64>,
    pub last_at: Option<u64>,
}

pub(crate) fn encode_cron(cron: &CronRecord, out: &mut Vec<u8>) {
    encode(cron, out);
}

pub(crate) fn decode_cron(record: &[u8]) -> Result<CronRecord, Damaged> {
    decode("cron", record).map(|(cron, _)| cron)
}

pub(crate) fn encode_entry_state(state: &EntryState, out: &mut Vec<u8>) {
    encode(state, out);
}

pub(crate) fn decode_entry_state(record: &[u8]) -> Result<EntryState, Damaged> {
    decode("cron entry", record).map(|(state, _)| state)
}

/// An access token with a secret, as it was stored before there were others.
#[derive(Serialize, Deserialize)]
struct SecretToken {
    name: TokenName,
    role: Option<Role>,
    grants: Vec<Grant>,
    digest: Digest,
    old: Option<OldSecret>,
    created_at: u64,
    created_by: String,
    expires_at: Option<u64>,
    used_on: u32,
}

impl From<SecretToken> for TokenRecord {
    fn from(token: SecretToken) -> Self {
        let SecretToken { name, role, grants, digest, old, created_at, created_by, expires_at, used_on } =
            token;
        let credential = Credential::Secret { digest, old };
        Self { name, role, grants, credential, created_at, created_by, expires_at, used_on }
    }
}

pub(crate) fn encode_token(token: &TokenRecord, out: &mut Vec<u8>) {
    let TokenRecord { name, role, grants, credential, created_at, created_by, expires_at, used_on } =
        token.clone();
    match credential {
        Credential::Secret { digest, old } => {
            let token =
                SecretToken { name, role, grants, digest, old, created_at, created_by, expires_at, used_on };
            encode(&token, out);
        }
        Credential::Certificate { .. } => {
            out.push(FORMAT_WITH_CREDENTIAL);
            put(token, out);
        }
    }
}

pub(crate) fn decode_token(record: &[u8]) -> Result<TokenRecord, Damaged> {
    const WHAT: &str = "access token";
    match record.split_first() {
        Some((&FORMAT_WITH_CREDENTIAL, rest)) => take(WHAT, rest).map(|(token, _)| token),
        _ => decode::<SecretToken>(WHAT, record).map(|(token, _)| token.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_job_is_read_back_and_may_be_missing() {
        let mut job = Job::sample(7);
        job.attempts = 3;
        let read = |job: &Job| {
            let mut record = Vec::new();
            encode_job(job, &mut record);
            (record.first().copied(), decode_job(job.place(), &record.into()).unwrap())
        };
        assert_eq!(read(&job), (Some(FORMAT), job.clone()), "as jobs without one were written");
        for error_type in [None, Some("E".to_owned())] {
            let error = LastError { error_type, message: "no such file\nä".to_owned(), at: 5 };
            job.last_error = Some(error.into());
            assert_eq!(read(&job), (Some(FORMAT_WITH_EXTRAS), job.clone()));
        }
    }
    #[test]
    fn a_trace_is_read_back_and_a_damaged_one_is_damage() {
        let parent = Parent { trace_id: 1 << 127, span_id: 1, flags: 0xfe };
        for state in ["", "a=b,c=d"] {
            let trace = Trace::restored(parent, state).unwrap();
            let mut job = Job::sample(7);
            job.flow = Flow { trace: Some(Box::new(trace.clone())), ..Flow::default() }.boxed();
            let mut record = Vec::new();
            encode_job(&job, &mut record);
            assert_eq!(decode_job(job.place(), &record.into()).unwrap(), job);
            assert_eq!(StoredTrace::of(&trace).read(), Some(trace));
        }
        for bad in [
            StoredTrace([0; 16], [1; 8], 1, ""),
            StoredTrace([1; 16], [0; 8], 1, ""),
            StoredTrace([1; 16], [1; 8], 1, "no state"),
        ] {
            assert_eq!(bad.read(), None);
        }
    }

    #[test]
    fn access_tokens_are_read_and_written_as_before_certificates() {
        let [digest, older] = ["secret", "older"].map(Digest::of);
        let mut token = TokenRecord {
            name: "ci".parse().unwrap(),
            role: Some(Role::Producer),
            grants: vec!["enqueue:a*".parse().unwrap()],
            credential: Credential::Secret { digest, old: Some(OldSecret { digest: older, until: 5 }) },
            created_at: 3,
            created_by: "local".to_owned(),
            expires_at: Some(300),
            used_on: 7,
        };
        let written = [
            b"\x01\x02ci\x01\x03\x01\x0aenqueue:a*".as_slice(),
            &digest.bytes()[..],
            b"\x01",
            &older.bytes()[..],
            b"\x05\x03\x05local\x01\xac\x02\x07",
        ]
        .concat();
        let encoded = |token: &TokenRecord| {
            let mut record = Vec::new();
            encode_token(token, &mut record);
            record
        };
        assert_eq!((encoded(&token), decode_token(&written)), (written, Ok(token.clone())));
        token.credential = Credential::Certificate { name: "CN=w".parse().unwrap(), revoked_at: Some(9) };
        let record = encoded(&token);
        assert_eq!(decode_token(&record), Ok(token.clone()));
        assert!(decode_token(record.get(..record.len() - 1).unwrap()).is_err());
        assert!(decode_token(b"\x03").is_err() && decode_token(b"").is_err());
    }

    /// The first fields of jobs are as in every earlier version.
    #[test]
    fn records_without_a_trace_are_as_before() {
        let mut job = Job::sample(7);
        job.flow = Flow { timeout_ms: Some(5), ..Flow::default() }.boxed();
        let mut record = Vec::new();
        encode_job(&job, &mut record);
        assert_eq!(record, b"\x02\0\x05\x01t\x01\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x05null");
        assert_eq!(size_of::<Job>(), 320, "a trace is kept where it costs other jobs nothing");
    }
}
