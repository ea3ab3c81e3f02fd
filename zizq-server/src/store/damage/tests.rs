//! Damages every record of a small store in turn, in many ways. The server must continue with everything else.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use protocol::budget::{Binding, Policy, Strategy};
use protocol::cron::Template;
use protocol::enqueue::NewJob;
use protocol::flow::{Expression, Flow, Key, Unique, UniqueWhile};
use protocol::id::JobId;
use protocol::job::{Backoff, Retention};
use protocol::lease::{JobHeartbeat, LeaseToken};
use protocol::media::Format;
use protocol::name::{BudgetKey, CronName, JobType, QueueName};
use protocol::outcome::{Failure, LeasedJob};
use protocol::patch::Patch;
use protocol::payload::Payload;
use protocol::trace::{Parent, Trace};
use tracing_subscriber::fmt::MakeWriter;

use crate::board::Board;
use crate::engine::Settings;
use crate::engine::command::batches::{Fold, Plan, Planned, Step};
use crate::engine::command::budgets::{CreateBudget, DeleteBudget};
use crate::engine::command::crons::{AddEntry, DeleteCrons, NewEntry};
use crate::engine::command::jobs::{Change, ChangeJobs, Enqueue, Fail, Heartbeat, Succeed};
use crate::engine::command::once::{Envelope, Once};
use crate::engine::command::streams::{CaughtUp, CloseStream, OpenStream, StreamKind};
use crate::engine::command::{Drain, Reject, Reply, Request, Stop};
use crate::engine::outbox::{Delivery, Item, Outbox};
use crate::job::bulk::NewBulk;
use crate::job::filter::Filter;
use crate::reader::{Contents, JobList, Reader};
use crate::run::commit::{CommitMode, CommitModes};
use crate::run::turn::Core;
use crate::run::writer;
use crate::store::batch::Batch;
use crate::store::disk::DiskStore;
use crate::store::keys::{self, Area};
use crate::store::memory::MemoryStore;
use crate::store::{Entry, Snapshot, Store, StoreError, view};

const START: u64 = 1_900_000_000_000;

const SETTINGS: Settings = Settings {
    retry_limit: 3,
    backoff: Backoff { base_ms: 0, exponent: 0.0, jitter_ms: 0 },
    completed_ms: 0,
    dead_ms: 50_000,
    max_deliveries: 100,
    in_flight_limit: 0,
    queue_histograms: false,
    timeout_ms: None,
    stream_renewal_ms: u64::MAX,
    max_budgets: 100,
};

fn new_job(queue: &str, ready_at: Option<u64>, completed_ms: Option<u64>) -> NewJob {
    NewJob {
        queue: QueueName::new(queue).unwrap(),
        job_type: JobType::new("t").unwrap(),
        payload: Payload::from_checked(Format::Json, Bytes::from_static(b"{\"n\":12345}")),
        priority: 5,
        ready_at,
        retry_limit: None,
        backoff: None,
        retention: Some(Retention { completed_ms, dead_ms: None }),
        flow: None,
        create_budgets: Vec::new(),
    }
}

fn open(queue: Option<&str>) -> (OpenStream, Arc<Outbox>) {
    let outbox = Arc::new(Outbox::default());
    let open = OpenStream {
        within: crate::access::Scope::All,
        kind: StreamKind::Bound,
        queues: queue.map(|name| vec![QueueName::new(name).unwrap()]),
        prefetch: 0,
        lease_ms: None,
        resume_ms: 0,
        resume: None,
        id: 7,
        outbox: outbox.clone(),
        about: Box::default(),
    };
    (open, outbox)
}

fn deliveries(outbox: &Outbox) -> Vec<Delivery> {
    let items = outbox.take();
    outbox.was_starved(&items);
    items.into_iter().filter_map(|item| if let Item::Job(job) = item { Some(job) } else { None }).collect()
}

fn trace() -> Trace {
    Trace::restored(Parent { trace_id: 1 << 100, span_id: 1 << 60, flags: 1 }, "a=b").unwrap()
}

fn leased(delivery: &Delivery) -> LeasedJob {
    LeasedJob { id: delivery.job.id, lease: Some(delivery.token) }
}

fn drawing(queue: &str, ready_at: Option<u64>) -> NewJob {
    let mut job = new_job(queue, ready_at, None);
    let key = BudgetKey::new("b").unwrap();
    job.flow = Flow { budgets: vec![Binding { key, cost: 1 }], ..Flow::default() }.boxed();
    job
}

/// Executes a request in its own turn, which must not refuse it.
fn ask<S: Store, R: Request>(core: &mut Core<S>, now: u64, request: R) -> R::Answer {
    let call = request.into_command().into();
    R::answer(core.turn(now.into(), [call].into_iter()).unwrap().remove(0).unwrap()).unwrap()
}

/// Enqueues jobs that draw on a budget, enough of them done for a lane cursor; an open batch; a cron entry.
fn stock_flow<S: Store>(core: &mut Core<S>) -> Vec<JobId> {
    let policy = Policy { allocation: 50, strategy: Strategy::WhileInFlight };
    ask(core, START, CreateBudget(BudgetKey::new("b").unwrap(), policy));
    let mut jobs: Vec<NewJob> = (0..10).map(|_| drawing("first", None)).collect();
    jobs.extend([drawing("second", None), drawing("second", Some(START + 60_000))]);
    let mut enqueued = ask(core, START, Enqueue(jobs));
    let (open, outbox) = open(Some("first"));
    let opened = ask(core, START, open);
    ask(core, START, Succeed(deliveries(&outbox)[..9].iter().map(leased).collect()));
    ask(core, START, CloseStream(opened.link));
    let (key, expression) = (Key::new("batch").unwrap(), || Expression::new("true").unwrap());
    let mut batch = new_job("second", None, None);
    let batch_of = protocol::flow::Batch { key: key.clone(), when: expression(), fold: expression() };
    batch.flow = Flow { batch: Some(batch_of), ..Flow::default() }.boxed();
    let plan = Plan { batches: vec![Planned { key, open: None, payload: None }], steps: vec![Step::Opens] };
    let fold = Fold { jobs: vec![batch], plan, waiter: None, firing: None };
    let batch = ask(core, START, fold);
    let job = serde_json::json!({"queue": "second", "type": "t", "payload": 1});
    let entry = NewEntry {
        name: CronName::new("e").unwrap(),
        expression: "0 0 1 1 *".to_owned(),
        recurrence: "0 0 1 1 *".parse().unwrap(),
        timezone: None,
        paused: None,
        template: Arc::new(Template::parse(&job).unwrap()),
    };
    ask(core, START, AddEntry(CronName::new("g").unwrap(), entry.into()));
    enqueued.drain(..9);
    enqueued.iter().chain(&batch).map(|enqueued| enqueued.job.id).collect()
}

/// Creates a store with a record of every kind. Also returns the jobs; the tenth is dead.
fn stocked<S: Store>(store: S) -> (Core<S>, Vec<JobId>) {
    let mut core = Core::open(store, SETTINGS, START.into(), 1).unwrap();
    let flow = stock_flow(&mut core);
    let first = (0..12).map(|n| new_job("first", None, Some(if n == 0 { 50_000 } else { 0 })));
    let scheduled = [new_job("first", Some(START + 60_000), None)];
    let mut second = [(); 3].map(|()| new_job("second", None, None));
    let unique = Unique { key: Key::new("k").unwrap(), scope: UniqueWhile::Exists };
    second[0].flow = Flow {
        timeout_ms: Some(5_000),
        unique: Some(unique),
        trace: Some(Box::new(trace())),
        ..Flow::default()
    }
    .boxed();
    let once = Once { key: "once".into(), fingerprint: u128::MAX };
    let jobs = first.chain(scheduled).chain(second).collect();
    let call = Envelope { once: Some(once), ..Enqueue(jobs).into() };
    let enqueued = core.turn(START.into(), [call].into_iter()).unwrap().pop().unwrap();
    let Ok(Reply::Enqueue(jobs)) = enqueued else { panic!("{enqueued:?}") };
    let mut ids: Vec<JobId> = jobs.iter().map(|enqueued| enqueued.job.id).collect();
    let patch = Arc::new(Patch { priority: Some(6), ..Patch::default() });
    ask(&mut core, START, ChangeJobs { ids: vec![ids[15]], only: None, change: Change::Patch(patch) });
    let (open, outbox) = open(Some("first"));
    ask(&mut core, START, open);
    let held = deliveries(&outbox).into_iter().filter(|delivery| delivery.job.draw.is_none());
    let held: Vec<LeasedJob> = held.map(|delivery| leased(&delivery)).collect();
    let failure = Failure { message: "m".to_owned(), kill: Some(true), ..Failure::default() };
    ask(&mut core, START, Fail { job: held[9], failure });
    ask(&mut core, START + 1_500, Succeed(held[..9].to_vec()));
    ask(&mut core, START + 1_500, Stop);
    ids.extend(flow);
    (core, ids)
}

/// Adds three parts and the record of a bulk, and the first three of its six jobs.
fn with_bulk(store: MemoryStore) -> MemoryStore {
    let job = r#"{"queue":"bulk","type":"t","payload":"of some length, so that there are three parts"}"#;
    let body = format!(r#"{{"jobs":[{job},{job},{job},{job},{job},{job}]}}"#);
    let bulk = NewBulk::parse(Format::Json, body.into(), 0, Some(Box::new(trace()))).unwrap();
    let mut core = Core::open(store, SETTINGS, START.into(), 1).unwrap();
    for call in [bulk.into(), Drain.into(), Drain.into(), Drain.into(), Envelope::from(Stop)] {
        core.turn((START + 1_500).into(), [call].into_iter()).unwrap();
    }
    core.store().after_crash()
}

fn entries(snapshot: &impl Snapshot) -> Vec<Entry> {
    snapshot.scan(&keys::start(0), &keys::start(u8::MAX), false).map(Result::unwrap).collect()
}

fn in_area(entries: &[Entry], area: Area) -> Vec<&Entry> {
    entries.iter().filter(|(key, _)| key[0] == area as u8).collect()
}

fn damaged(store: &MemoryStore, key: &[u8], value: Bytes) -> MemoryStore {
    let mut damaged = store.after_crash();
    let mut batch = Batch::default();
    batch.put_raw(key, &value);
    damaged.commit(batch).unwrap();
    damaged
}

/// Finds every job by its id, and runs all jobs. Returns those that ran, and what is left in the store.
fn work_off(store: MemoryStore, ids: &[JobId]) -> Result<(BTreeSet<JobId>, Vec<Entry>), StoreError> {
    let mut now = START + 2_000;
    let mut core = Core::open(store, SETTINGS, now.into(), 1)?;
    let (open, outbox) = open(None);
    let token = Some(LeaseToken::from_u64(1));
    let late =
        |id: &JobId| JobHeartbeat { id: *id, lease: token, lease_ms: None, progress: None, message: None };
    let beats = Heartbeat(ids.iter().map(late).collect());
    core.turn(now.into(), [DeleteCrons.into(), beats.into(), open.into()].into_iter())?;
    let mut ran = BTreeSet::new();
    loop {
        let jobs = deliveries(&outbox);
        if jobs.is_empty() {
            let Some(pause) = core.engine().due_in(now.into()) else { break };
            now += pause;
        }
        ran.extend(jobs.iter().map(|delivery| delivery.job.id));
        let done = Succeed(jobs.iter().map(leased).collect());
        core.turn(now.into(), [done.into()].into_iter())?;
    }
    // The next process recounts what it must, and finds that no job draws on the budget.
    let mut core = Core::open(core.store().after_crash(), SETTINGS, now.into(), 1)?;
    let no_budget = DeleteBudget(BudgetKey::new("b").unwrap());
    let deleted = core.turn(now.into(), [no_budget.into()].into_iter())?.pop().unwrap();
    assert!(matches!(deleted, Ok(_) | Err(Reject::Missing(_))), "{deleted:?}");
    // The one after that deletes empty queues.
    let core = Core::open(core.store().after_crash(), SETTINGS, now.into(), 1)?;
    Ok((ran, entries(&core.store().snapshot())))
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// What is logged while `run` runs.
    fn of(run: impl FnOnce()) -> String {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
        tracing::subscriber::with_default(subscriber, run);
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Some damage is undetectable or unread here: a truncated payload is still a payload; no one reads errors, repeated
/// answers, or the name of a queue that has a record; and the value of a lane entry is empty.
fn may_go_unnoticed(key: &[u8]) -> bool {
    let unread = [Area::Error, Area::Lane, Area::QueueName, Area::AnswerPart].map(|area| area as u8);
    super::job_key(key).is_some() || unread.contains(&key[0])
}

/// Answers are kept for a day, whatever happens to their jobs; an unreadable one is removed with its parts.
fn is_kept_answer(key: &[u8], damaged: &[u8]) -> bool {
    let areas = [Area::Answer as u8, Area::AnswerPart as u8];
    areas.contains(&key[0]) && damaged[0] != areas[0]
}

/// What an unreadable job leaves behind.
fn hangs_on_a_job(key: &[u8]) -> bool {
    [Area::Error, Area::Unique, Area::Batch, Area::Moved].map(|area| area as u8).contains(&key[0])
}

#[test]
fn everything_else_continues_whatever_record_is_damaged() {
    let (core, ids) = stocked(MemoryStore::default());
    let store = with_bulk(core.store().after_crash());
    let all = work_off(store.after_crash(), &ids).unwrap().0;
    let expected = 2 + 1 + 3 + 3 + 1 + 6;
    assert_eq!(
        all.len(),
        expected,
        "in flight before, scheduled, of the other queue, drawing, a batch, and of the bulk"
    );
    let mut areas = BTreeSet::new();
    for (key, value) in entries(&store.snapshot()) {
        areas.insert(key[0]);
        let cut = (0..value.len()).map(|len| value.slice(..len));
        for bad in cut.chain([Bytes::from_static(&[0; 40]), Bytes::from_static(&[255; 40])]) {
            let log = Log::of(|| {
                let (ran, left) = work_off(damaged(&store, &key, bad.clone()), &ids).unwrap();
                // Jobs that are enqueued later have later ids.
                let lost = all.len() - ran.len();
                let is_job = super::job_key(&key).is_some();
                let is_bulk = key[0] == Area::Bulk as u8;
                let most = if is_bulk { 3 } else { usize::from(is_job) };
                assert!(lost <= most, "{} {bad:?}: {lost} lost", keys::shown(&key));
                let aside = in_area(&left, Area::Aside);
                let kept = keys::aside(&key);
                let unnoticed = may_go_unnoticed(&key) && lost == 0 && aside.is_empty();
                // The parts of a bulk and its record are useless without each other.
                let as_expected = match is_bulk {
                    true => aside.len() == 4 && aside.contains(&&(kept, bad.clone())),
                    false => aside == [&(kept, bad.clone())],
                };
                assert!(unnoticed || as_expected, "{} {bad:?}: {aside:?}", keys::shown(&key));
                let rest =
                    left.iter().filter(|(key, _)| ![Area::Meta as u8, Area::Aside as u8].contains(&key[0]));
                let rest = rest.filter(|(left, _)| !is_kept_answer(left, &key));
                let rest: Vec<_> = rest.filter(|(key, _)| !is_job || !hangs_on_a_job(key)).collect();
                assert!(rest.is_empty(), "{} {bad:?}: {rest:?}", keys::shown(&key));
            });
            // For an unreadable bulk, the location of its record is logged.
            let place = if key[0] == Area::Bulk as u8 { &key[..10] } else { &key };
            let told = log.contains(&keys::shown(place)) && log.contains("ERROR");
            assert!(told || may_go_unnoticed(&key), "{} {bad:?}: {log}", keys::shown(&key));
        }
    }
    assert_eq!(
        areas.into_iter().collect::<Vec<_>>(),
        (0..=19).chain(21..=24).collect::<Vec<_>>(),
        "a record of every kind"
    );
}

#[test]
fn records_that_are_set_aside_are_counted() {
    let (core, _) = stocked(MemoryStore::default());
    assert_eq!(core.meters().damaged.get(), 0);
    let all = entries(&core.store().snapshot());
    let (key, _) = in_area(&all, Area::Budget)[0];
    let mut core = Core::open(damaged(core.store(), key, Bytes::new()), SETTINGS, START.into(), 1).unwrap();
    assert_eq!(core.meters().damaged.get(), 1);
    core.reopen(START.into(), 2).unwrap();
    assert_eq!(
        core.meters().damaged.get(),
        1,
        "it is set aside once, and counted by the server, not by the engine"
    );
}

#[test]
fn a_folder_of_a_later_version_is_refused() {
    let (core, _) = stocked(MemoryStore::default());
    let with = |format: u8| damaged(core.store(), &keys::meta("format"), Bytes::from(vec![format]));
    for format in [0, keys::FORMAT + 1] {
        let refused = Core::open(with(format), SETTINGS, START.into(), 1).err().unwrap();
        assert!(matches!(refused, StoreError::UnknownFormat(f) if f == format), "{refused}");
    }
    for format in keys::FIRST_FORMAT..=keys::FORMAT {
        let core = Core::open(with(format), SETTINGS, START.into(), 1).unwrap();
        let written = core.store().snapshot().get(&keys::meta("format")).unwrap();
        assert_eq!(written.as_deref(), Some(&[keys::FORMAT][..]), "as it is written from now on");
    }
}

/// Reads for users skip damaged records.
#[tokio::test]
async fn damaged_records_do_not_stop_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (core, ids) = stocked(DiskStore::open(folder.path(), 1_000_000).unwrap());
    let mut store = core.store().clone();
    let all = entries(&store.snapshot());
    let bad =
        [in_area(&all, Area::Error)[0], in_area(&all, Area::Completed)[0], in_area(&all, Area::Ready)[0]];
    let mut batch = Batch::default();
    bad.iter().for_each(|(key, _)| batch.put_raw(key, &[]));
    store.commit(batch).unwrap();
    let buffered = CommitModes { enqueue: CommitMode::Buffered, others: CommitMode::Buffered };
    let (engine, _thread) = writer::start(core, buffered, tokio::sync::mpsc::channel(1).0, None).unwrap();
    let board = Board::new(engine.clone(), Vec::new(), 0);
    let reader = Reader::new(
        store,
        engine,
        board,
        crate::jq::Limits { time: std::time::Duration::from_secs(2), memory: 1 << 28 },
    );
    let (filter, contents) = (Filter::default(), Contents::Full);
    let list = JobList { filter, from: None, descending: false, limit: 100, within: None, contents };
    let (jobs, _) = reader.list(crate::caller::Caller::Server, list, || usize::MAX).await.unwrap();
    let ready = in_area(&all, Area::Ready).len() + in_area(&all, Area::Drawing).len();
    assert_eq!(jobs.len(), ready - 1 + in_area(&all, Area::Scheduled).len() + 1);
    assert_eq!(
        reader
            .errors(ids[9], usize::MAX, |attempts| (1..=attempts).collect())
            .await
            .unwrap()
            .unwrap()
            .0
            .len(),
        0
    );
}

/// A job in flight is read again when the lane before it has moved back. Memory still has it, except a large payload.
#[test]
fn a_damaged_record_of_a_job_in_flight_is_rewritten_if_memory_has_it() {
    damage_in_flight(b"1", true);
    damage_in_flight(b"1234", false);
}

fn damage_in_flight(payload: &'static [u8], is_saved: bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = DiskStore::open(folder.path(), 1_000_000).unwrap();
    let mut core = Core::open(store.clone(), SETTINGS, START.into(), 1).unwrap();
    // Too much for a lane to keep in memory.
    let mut heavy = new_job("q", None, None);
    heavy.payload = Payload::from_checked(Format::Json, vec![b'1'; 9 * 1024 * 1024].into());
    let (open, outbox) = open(None);
    let opened = ask(&mut core, START, open);
    let mut other = new_job("q", None, None);
    other.payload = Payload::from_checked(Format::Json, Bytes::from_static(payload));
    let both = vec![heavy, other];
    ask(&mut core, START, Enqueue(both));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.extend(deliveries(&outbox));
        ask(&mut core, START, CaughtUp(opened.link));
    }
    let mut batch = Batch::default();
    let key = keys::job(held[1].job.place());
    batch.put_raw(&key, &[]);
    store.commit(batch).unwrap();
    let retry = Failure { message: "m".to_owned(), retry_at: Some(START), ..Failure::default() };
    ask(&mut core, START, Fail { job: leased(&held[0]), failure: retry });
    ask(&mut core, START, CaughtUp(opened.link));
    assert_eq!(store.snapshot().get(&key).unwrap().is_some_and(|record| !record.is_empty()), is_saved);
    let items = outbox.take();
    let cancels = items.iter().filter(|item| matches!(item, Item::Cancel { .. })).count();
    assert_eq!(cancels, usize::from(!is_saved), "{items:?}");
    let again = items.into_iter().find_map(|item| if let Item::Job(job) = item { Some(job) } else { None });
    let again = again.unwrap();
    assert_eq!(again.job.id, held[0].job.id);
    let both = vec![leased(&again), leased(&held[1])];
    let not_done = ask(&mut core, START, Succeed(both));
    assert_eq!(not_done.not_found.len(), usize::from(!is_saved));
    let queues = view::queues(&store.snapshot()).unwrap();
    assert_eq!(queues[0].1.counts.total(), 0);
    assert_eq!(in_area(&entries(&store.snapshot()), Area::Aside).len(), usize::from(!is_saved));
}
