//! What everybody in a run shares.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::ledger::Ledger;

/// How long to wait before a server that is down is tried again.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// A run.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) ledger: Ledger,
    generation: AtomicU64,
    /// When the server of each generation was killed.
    kills: Mutex<Vec<Instant>>,
    /// Whether there is a server that nobody has begun to end.
    serving: AtomicBool,
    producing: AtomicBool,
    working: AtomicBool,
    /// Between two jobs of a producer, in microseconds; the greatest number: as producers like it.
    pace: AtomicU64,
    breaking_off: AtomicBool,
}

/// In a soak, one in so many times a worker or a producer breaks off.
const BREAKS_OFF: u32 = 300;

impl World {
    pub(crate) fn new(url: String) -> Arc<Self> {
        Arc::new(Self {
            url,
            ledger: Ledger::default(),
            generation: AtomicU64::new(0),
            kills: Mutex::default(),
            serving: AtomicBool::new(true),
            producing: AtomicBool::new(true),
            working: AtomicBool::new(true),
            pace: AtomicU64::new(u64::MAX),
            breaking_off: AtomicBool::new(false),
        })
    }

    /// How often the server was killed before: what happened without this changing, happened on one server.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// To be called before the server is killed, so that whatever fails afterwards is known to be due to that.
    pub(crate) fn about_to_kill(&self) {
        self.serving.store(false, Ordering::SeqCst);
        self.kills.lock().unwrap().push(Instant::now());
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// To be called once the server is there again.
    pub(crate) fn restarted(&self) {
        self.serving.store(true, Ordering::SeqCst);
    }

    /// The generation of the server, as long as nobody has begun to end it: it must answer, and keep its streams.
    pub(crate) fn serving(&self) -> Option<u64> {
        self.serving.load(Ordering::SeqCst).then(|| self.generation())
    }

    /// Whether it is the server that was [serving](Self::serving) before, and nobody has begun to end it since.
    pub(crate) fn serves_on(&self, before: Option<u64>) -> bool {
        before.is_some() && self.serving() == before
    }

    /// When the server of this generation was killed. What it sent may have been read later than that.
    pub(crate) fn killed(&self, generation: u64) -> Option<Instant> {
        self.kills.lock().unwrap().get(usize::try_from(generation).unwrap()).copied()
    }

    /// How long a producer waits between two jobs, where it is told.
    pub(crate) fn pace(&self) -> Option<Duration> {
        Some(self.pace.load(Ordering::SeqCst)).filter(|pace| *pace < u64::MAX).map(Duration::from_micros)
    }

    pub(crate) fn set_pace(&self, pace: Duration) {
        self.pace.store(u64::try_from(pace.as_micros()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn begin_breaking_off(&self) {
        self.breaking_off.store(true, Ordering::SeqCst);
    }

    /// Whether who asks shall forget what it has at hand, close its connection and begin anew.
    pub(crate) fn breaks_off(&self) -> bool {
        self.breaking_off.load(Ordering::SeqCst) && fastrand::u32(..BREAKS_OFF) == 0
    }

    pub(crate) fn producing(&self) -> bool {
        self.producing.load(Ordering::SeqCst)
    }

    pub(crate) fn stop_producing(&self) {
        self.producing.store(false, Ordering::SeqCst);
    }

    pub(crate) fn working(&self) -> bool {
        self.working.load(Ordering::SeqCst)
    }

    pub(crate) fn stop_working(&self) {
        self.working.store(false, Ordering::SeqCst);
    }
}
