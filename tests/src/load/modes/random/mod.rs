//! Random calls over all routes, and a look at every answer: none is lost, late, incomplete or a fault of the server.

mod call;
mod judge;
mod known;
mod value;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fastrand::Rng;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub(in crate::load) use call::routes;

use super::args::Random;
use crate::load::check::Faults;
use crate::load::http::{Connection, Request, Version};
use crate::load::report::{CALLS, CALLS_PER_SECOND, REFUSED, Round, SECONDS, UNAVAILABLE};
use crate::load::target::Target;
use crate::load::watchdog::Progress;
use crate::load::worker::join;
use call::Call;
use known::Known;

/// A client hears within this time (protocol/API.md, Timeouts).
const PATIENCE: Duration = Duration::from_secs(30);
/// Calls at a time on a connection of HTTP/2.
const SHARED: u32 = 4;

/// What all who call have in common.
struct Shared {
    address: String,
    left: Cell<u64>,
    until: Instant,
    known: RefCell<Known>,
    faults: RefCell<Faults>,
    latency: RefCell<Histogram<u64>>,
    answered: Progress,
    refused: Cell<u32>,
    unavailable: Cell<u32>,
}

/// One round of the mode.
pub(super) async fn measure(target: &Target, flags: &Random) -> Result<Round> {
    let seed = flags.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("random: --seed {seed}");
    let shared = Rc::new(Shared {
        address: target.address.clone(),
        left: Cell::new(flags.calls),
        until: Instant::now() + Duration::from_secs(flags.seconds),
        known: RefCell::default(),
        faults: RefCell::default(),
        latency: RefCell::new(Histogram::new_with_bounds(1, 60_000_000, 3)?),
        answered: Progress::default(),
        refused: Cell::new(0),
        unavailable: Cell::new(0),
    });
    let (before, start) = (target.usage(), Instant::now());
    let mut callers = callers(&shared, flags.connections, seed).await?;
    shared.answered.watch("random", join(&mut callers)).await?;
    let calls = shared.answered.get();
    let mut round = Round::default();
    round.figures.rate(&CALLS_PER_SECOND, calls, start.elapsed());
    round.figures.add(&CALLS, f64::from(calls));
    round.figures.add(&SECONDS, start.elapsed().as_secs_f64());
    round.figures.latency(&shared.latency.borrow());
    round.figures.add(&REFUSED, f64::from(shared.refused.get()));
    round.figures.add(&UNAVAILABLE, f64::from(shared.unavailable.get()));
    round.figures.usage(before, target, calls.max(1));
    round.figures.footprint(target);
    let mut faults = shared.faults.take();
    if let Err(error) = health(&shared.address).await {
        faults.add(format!("the server is not well afterwards: {error:#}"));
    }
    let peak = target.usage().server.map_or(0, |usage| usage.peak_rss >> 20);
    if peak > flags.most_mib {
        faults.add(format!("the server took {peak} MiB"));
    }
    round.faults = faults.into_sentences();
    Ok(round)
}

async fn callers(shared: &Rc<Shared>, connections: u32, seed: u64) -> Result<JoinSet<Result<()>>> {
    let mut callers = JoinSet::new();
    for n in 0..connections {
        let version = if n.is_multiple_of(2) { Version::One } else { Version::Two };
        let first = Connection::open(&shared.address, version).await?;
        let others = (1..SHARED).map_while(|_| first.share()).collect::<Vec<_>>();
        for (at, connection) in (0_u64..).zip(std::iter::once(first).chain(others)) {
            let rng = Rng::with_seed(seed.wrapping_add(u64::from(n) * 1_000 + at));
            let caller = Caller { shared: Rc::clone(shared), version, rng };
            callers.spawn_local(caller.run(connection));
        }
    }
    Ok(callers)
}

async fn health(address: &str) -> Result<()> {
    let mut connection = timeout(PATIENCE, Connection::open(address, Version::One)).await??;
    for path in ["/health", "/jobs/count", "/queues?details=true"] {
        let answer = timeout(PATIENCE, connection.exchange(&Request::get(path, &[]))).await??;
        ensure!(answer.status == 200, "{path}: {}", answer.describe());
    }
    Ok(())
}

struct Caller {
    shared: Rc<Shared>,
    version: Version,
    rng: Rng,
}

impl Caller {
    async fn run(mut self, mut connection: Connection) -> Result<()> {
        while self.goes_on() {
            let call = Call::next(&mut self.rng, &self.shared.known.borrow());
            let headers: Vec<_> = call.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let request =
                Request { method: call.method, path: &call.path, headers: &headers, body: &call.body };
            let start = Instant::now();
            let keep = if call.stream {
                self.stream(&call, &request).await?;
                true
            } else {
                self.exchange(&mut connection, &call, &request).await
            };
            self.note(start.elapsed());
            if !keep {
                connection = Connection::open(&self.shared.address, self.version).await?;
            }
        }
        Ok(())
    }

    fn goes_on(&self) -> bool {
        let left = self.shared.left.get();
        self.shared.left.set(left.saturating_sub(1));
        left > 0 && Instant::now() < self.shared.until
    }

    fn note(&self, time: Duration) {
        self.shared.answered.add(1);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.shared.latency.borrow_mut().saturating_record(micros.max(1));
    }

    fn fault(&self, what: &str, call: &Call) {
        self.shared.faults.borrow_mut().add(format!("{what}: {}", call.describe()));
    }

    fn count(&self, status: u16) {
        let of = match status {
            503 | 507 => &self.shared.unavailable,
            400.. => &self.shared.refused,
            _ => return,
        };
        of.set(of.get() + 1);
    }

    /// Whether the connection can be used again.
    async fn exchange(&self, connection: &mut Connection, call: &Call, request: &Request<'_>) -> bool {
        match timeout(PATIENCE, connection.exchange(request)).await {
            Err(_) => self.fault("no answer in 30 s", call),
            Ok(Err(error)) => self.fault(&format!("no answer, but: {error:#}"), call),
            Ok(Ok(answer)) => {
                self.count(answer.status);
                if let Some(complaint) = judge::complaint(call, &answer) {
                    self.fault(&complaint, call);
                }
                if answer.status < 300 {
                    self.shared.known.borrow_mut().learn(answer.body);
                }
                return !answer.closes;
            }
        }
        false
    }

    /// Opens a stream on a connection of its own, and waits for its first bytes.
    async fn stream(&self, call: &Call, request: &Request<'_>) -> Result<()> {
        let connection = Connection::open(&self.shared.address, self.version).await?;
        let opened = timeout(PATIENCE, connection.begin_stream(request)).await;
        let Ok(Ok((status, mut stream))) = opened else {
            self.fault("no head of a stream", call);
            return Ok(());
        };
        self.count(status);
        if let Some(complaint) = judge::of_status(status) {
            self.fault(&complaint, call);
        }
        if status == 200 {
            let first = stream.read(|bytes| Ok(bytes.len()));
            match timeout(PATIENCE, first).await {
                Ok(Ok(())) => {}
                // The log of an attempt that is over may end at once.
                Ok(Err(_)) if call.pattern.ends_with("/log") => {}
                Ok(Err(error)) => self.fault(&format!("a stream without a word: {error:#}"), call),
                Err(_) => self.fault("a stream that says nothing for 30 s", call),
            }
        }
        Ok(())
    }
}
