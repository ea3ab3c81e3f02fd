//! Tests of the engine's thread over a store that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use protocol::enqueue::{NewJob, parse_job};
use protocol::job::Backoff;
use protocol::media::Format;
use protocol::outcome::LeasedJob;

mod kinds;

use super::*;
use crate::access::Scope;
use crate::engine::Settings;
use crate::engine::command::jobs::{CountJobs, Enqueue, Enqueued, Succeed};
use crate::engine::command::streams::{CloseStream, Link, OpenStream, StreamKind};
use crate::engine::command::{Drain, Stop};
use crate::engine::outbox::{Delivery, Item, Outbox};
use crate::run::handle::CallError;
use crate::store::batch::Batch;
use crate::store::memory::{MemorySnapshot, MemoryStore};

/// The present faults of the store.
#[derive(Debug, Default)]
struct Faults {
    full: AtomicBool,
    no_commit: AtomicBool,
    no_sync: AtomicBool,
    broken: AtomicBool,
    /// How often the disk was synced.
    syncs: AtomicUsize,
}

#[derive(Debug, Clone, Default)]
struct Faulty {
    memory: MemoryStore,
    faults: Arc<Faults>,
}

impl Faulty {
    fn check(&self, fault: &AtomicBool) -> Result<(), StoreError> {
        match (self.faults.broken.load(Ordering::SeqCst), fault.load(Ordering::SeqCst)) {
            (true, _) => Err(StoreError::Failed("as the test wants it".to_owned())),
            (false, true) => Err(StoreError::Full),
            (false, false) => Ok(()),
        }
    }
}

impl Store for Faulty {
    type Snapshot = MemorySnapshot;

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.check(&self.faults.no_commit)?;
        self.memory.commit(batch)
    }

    fn syncer(&self) -> Box<dyn Fn() -> Result<(), StoreError> + Send> {
        let (store, sync) = (self.clone(), self.memory.syncer());
        Box::new(move || {
            store.faults.syncs.fetch_add(1, Ordering::SeqCst);
            store.check(&store.faults.no_sync).and_then(|()| sync())
        })
    }

    fn snapshot(&self) -> MemorySnapshot {
        self.memory.snapshot()
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        self.memory.clear()
    }

    fn is_full(&self) -> bool {
        self.faults.full.load(Ordering::SeqCst)
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.check(&self.faults.no_commit)
    }
}

const SETTINGS: Settings = Settings {
    retry_limit: 25,
    backoff: Backoff { base_ms: 1, exponent: 1.0, jitter_ms: 0 },
    completed_ms: 0,
    dead_ms: 0,
    max_deliveries: 100,
    in_flight_limit: 0,
    queue_histograms: false,
    timeout_ms: None,
    stream_renewal_ms: u64::MAX,
    max_budgets: 100,
};

struct World {
    faults: Arc<Faults>,
    engine: Handle,
    thread: JoinHandle<Result<(), StoreError>>,
}

impl World {
    fn start() -> Self {
        Self::with(CommitModes { enqueue: CommitMode::Fsync, others: CommitMode::Buffered })
    }

    fn with(modes: CommitModes) -> Self {
        let store = Faulty::default();
        let faults = store.faults.clone();
        let core = Core::open(store, SETTINGS, clock::now(), 1).unwrap();
        let (engine, thread) = start(core, modes, mpsc::channel(1).0, None).unwrap();
        Self { faults, engine, thread }
    }

    /// Makes the disk full, or not, and the engine check it.
    fn fill(&self, full: bool) {
        self.faults.full.store(full, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(LOOK_EVERY_MS));
    }

    async fn enqueue(&self) -> Result<Vec<Enqueued>, CallError> {
        self.engine.ask(Enqueue(vec![new_job()])).await
    }

    /// Opens a stream that takes one job at a time.
    async fn open(&self) -> Result<(Link, Arc<Outbox>), CallError> {
        let outbox = Arc::new(Outbox::default());
        let open = OpenStream {
            within: Scope::All,
            kind: StreamKind::Bound,
            queues: None,
            prefetch: 1,
            lease_ms: None,
            resume_ms: 0,
            resume: None,
            id: u128::from(fastrand::u64(..)),
            outbox: outbox.clone(),
            about: Box::default(),
        };
        Ok((self.engine.ask(open).await?.link, outbox))
    }

    /// The same, as soon as the store is open again.
    async fn open_at_last(&self) -> (Link, Arc<Outbox>) {
        let open = async {
            loop {
                match self.open().await {
                    Ok(opened) => return opened,
                    Err(CallError::StoreClosed) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(other) => panic!("{other}"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), open).await.unwrap()
    }

    async fn succeed(&self, job: &Delivery) -> Result<(), CallError> {
        let job = LeasedJob { id: job.job.id, lease: Some(job.token) };
        let left = self.engine.ask(Succeed(vec![job])).await?;
        assert!(left.lost.is_empty() && left.not_found.is_empty(), "{left:?}");
        Ok(())
    }

    async fn count(&self) -> u64 {
        self.engine.ask(CountJobs { queues: None }).await.unwrap().counts.stored.total()
    }

    async fn stop(self) {
        self.engine.ask(Stop).await.unwrap();
        self.thread.join().unwrap().unwrap();
    }
}

fn new_job() -> NewJob {
    parse_job(Format::Json, &Bytes::from_static(br#"{"queue":"q","type":"t","payload":1}"#), 0).unwrap().job
}

/// The next job of a stream; `None` when the stream has ended.
async fn next(outbox: &Outbox) -> Option<Delivery> {
    let items = std::future::poll_fn(|context| outbox.poll_take(context));
    match tokio::time::timeout(Duration::from_secs(30), items).await.unwrap()?.pop() {
        Some(Item::Job(job)) => Some(job),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_full_disk_accepts_no_jobs_and_lets_existing_ones_finish() {
    let world = World::start();
    world.enqueue().await.unwrap();
    world.enqueue().await.unwrap();
    let (_, outbox) = world.open().await.unwrap();
    let first = next(&outbox).await.unwrap();
    world.fill(true);
    assert_eq!(world.enqueue().await.unwrap_err(), CallError::DiskFull);
    world.succeed(&first).await.unwrap();
    let second = next(&outbox).await.unwrap();
    world.succeed(&second).await.unwrap();
    world.fill(false);
    world.enqueue().await.unwrap();
    assert_eq!(world.count().await, 1);
    world.stop().await;
}

#[tokio::test]
async fn after_a_failed_commit_it_restarts_with_what_was_committed() {
    let world = World::start();
    world.enqueue().await.unwrap();
    let (old_link, outbox) = world.open().await.unwrap();
    let held = next(&outbox).await.unwrap();
    world.faults.no_commit.store(true, Ordering::SeqCst);
    assert_eq!(world.enqueue().await.unwrap_err(), CallError::StoreClosed);
    assert!(next(&outbox).await.is_none(), "the stream ends");
    assert_eq!(world.succeed(&held).await.unwrap_err(), CallError::StoreClosed);
    // What is not executed at all is refused for space.
    assert_eq!(world.enqueue().await.unwrap_err(), CallError::DiskFull);

    world.faults.no_commit.store(false, Ordering::SeqCst);
    let (_, outbox) = world.open_at_last().await;
    assert_eq!(world.count().await, 1);
    // The old connection ends only now, and must not end the new one.
    world.engine.tell(CloseStream(old_link));
    let again = next(&outbox).await.unwrap();
    assert_eq!(again.job.id, held.job.id);
    assert!(again.token > held.token);
    world.succeed(&again).await.unwrap();
    world.enqueue().await.unwrap();
    assert!(next(&outbox).await.is_some());
    world.stop().await;
}

#[tokio::test]
async fn work_done_while_the_store_was_closed_counts_after_it_reopens() {
    let world = World::start();
    world.enqueue().await.unwrap();
    let (_, outbox) = world.open().await.unwrap();
    let held = next(&outbox).await.unwrap();
    world.faults.no_commit.store(true, Ordering::SeqCst);
    assert_eq!(world.enqueue().await.unwrap_err(), CallError::StoreClosed);
    world.faults.no_commit.store(false, Ordering::SeqCst);
    let done = async {
        while let Err(error) = world.succeed(&held).await {
            assert_eq!(error, CallError::StoreClosed);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), done).await.unwrap();
    assert_eq!(world.count().await, 0);
    world.stop().await;
}

#[tokio::test]
async fn a_failed_sync_is_not_reported_as_success() {
    let world = World::start();
    world.faults.no_sync.store(true, Ordering::SeqCst);
    assert_eq!(world.enqueue().await.unwrap_err(), CallError::StoreClosed);
    // Any later call notices that the sync thread has ended.
    assert!(matches!(world.enqueue().await, Err(CallError::StoreClosed | CallError::DiskFull)));
    world.faults.no_sync.store(false, Ordering::SeqCst);
    // Commands that need no sync may still be answered by the ending engine; an enqueue is not.
    let taken = async {
        while let Err(error) = world.enqueue().await {
            assert!(matches!(error, CallError::StoreClosed | CallError::DiskFull), "{error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn a_dropped_caller_is_told_that_the_store_has_failed() {
    let (reply, answer) = tokio::sync::oneshot::channel();
    drop(Caller { reply: Some(reply), mode: CommitMode::Fsync, is_enqueue: true });
    assert_eq!(answer.await.unwrap().unwrap_err(), CallError::StoreClosed);
}

#[tokio::test]
async fn it_can_be_stopped_while_it_waits_for_space() {
    let world = World::start();
    world.faults.no_commit.store(true, Ordering::SeqCst);
    assert_eq!(world.enqueue().await.unwrap_err(), CallError::StoreClosed);
    world.stop().await;
}

#[tokio::test]
async fn a_store_that_is_broken_ends_it() {
    let world = World::start();
    world.faults.broken.store(true, Ordering::SeqCst);
    assert_eq!(world.enqueue().await.unwrap_err(), CallError::Stopped);
    assert!(matches!(world.thread.join().unwrap(), Err(StoreError::Failed(_))));
    assert!(matches!(world.engine.ask(Drain).await, Err(CallError::Stopped)));
}
