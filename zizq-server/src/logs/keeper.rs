//! The thread that owns all output: writes, reads and requests go through it one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use protocol::id::JobId;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::audit::{Page, Trail};
use super::shelf::Shelf;
use super::sweep::{Sweep, is_gone};
use super::tail::{Part, Tail};
use super::{Attempt, Excerpt, Meters};
use crate::store::disk::DiskStore;
use crate::store::record::HistoryStep;
use crate::store::{Store, StoreError};

/// How long output stays in memory before it is written: output of short jobs is never written if they are deleted by
/// then.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// How many bytes of output may be in memory before they are written at once; fewer on a small disk.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// How often to check for low disk space: while there is activity or space is low, and otherwise.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_AT_REST: Duration = Duration::from_secs(10);
/// The pause after each slice of a sweep.
const PAUSE: Duration = Duration::from_millis(2);

/// A request to the keeper.
pub(super) enum Request {
    Append {
        of: Attempt,
        text: Vec<u8>,
        /// Returned when the text has been taken.
        room: OwnedSemaphorePermit,
    },
    Read {
        id: JobId,
        /// `None`: the last one that has printed something.
        attempt: Option<u32>,
        from: u64,
        reply: oneshot::Sender<Result<Excerpt, StoreError>>,
    },
    /// A channel that changes whenever the attempt prints.
    Watch {
        of: Attempt,
        reply: oneshot::Sender<watch::Receiver<()>>,
    },
    /// Stores steps of the history of statistics.
    KeepHistory(Vec<HistoryStep>),
    /// Reads them all.
    ReadHistory(oneshot::Sender<Result<Vec<HistoryStep>, StoreError>>),
    /// An entry of the audit trail.
    Audit {
        at: u64,
        entry: Vec<u8>,
        /// Returned when the entry is stored.
        room: OwnedSemaphorePermit,
    },
    ReadAudit {
        before: Option<u64>,
        limit: usize,
        reply: oneshot::Sender<Result<Page, StoreError>>,
    },
    /// A job was deleted.
    Forget(JobId),
    /// Many jobs may have been deleted.
    Sweep,
    Stop(oneshot::Sender<()>),
}

pub(super) struct Keeper {
    requests: Receiver<Request>,
    jobs: DiskStore,
    shelf: Shelf,
    trail: Trail,
    tails: BTreeMap<Attempt, Held>,
    /// The memory of the tails.
    bytes: usize,
    /// The most memory that tails may use.
    max_bytes: usize,
    watched: BTreeMap<Attempt, watch::Sender<()>>,
    /// When new output must be written.
    write_at: Option<Instant>,
    /// The bytes of the store that are not on the disk yet, when last counted.
    unwritten: u64,
    sweep: Sweep,
    /// When to check for low disk space; `None` if there is nothing to free.
    look_at: Option<Instant>,
    /// Whether a failure was already logged.
    is_failing: bool,
    meters: Arc<Meters>,
}

struct Held {
    tail: Tail,
    /// Whether it has grown since the last write.
    is_active: bool,
}

impl Keeper {
    pub(super) fn new(
        requests: Receiver<Request>,
        jobs: DiskStore,
        shelf: Shelf,
        meters: Arc<Meters>,
    ) -> Self {
        let max_bytes = usize::try_from(jobs.gathered_output(MAX_BYTES)).unwrap_or(usize::MAX);
        Self {
            requests,
            jobs,
            shelf,
            trail: Trail::default(),
            tails: BTreeMap::new(),
            bytes: 0,
            max_bytes,
            watched: BTreeMap::new(),
            write_at: None,
            unwritten: 0,
            sweep: Sweep::new(),
            look_at: Some(Instant::now()),
            is_failing: false,
            meters,
        }
    }

    /// Serves requests until it is stopped or all senders are gone.
    pub(super) fn run(mut self) {
        let stopped = loop {
            match self.requests.recv_timeout(self.pause()) {
                Ok(Request::Stop(reply)) => break Some(reply),
                Ok(request) => {
                    self.serve(request);
                    self.look_by(Instant::now() + LOOK_EVERY);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            self.announce();
            let now = Instant::now();
            if self.bytes > self.max_bytes || self.write_at.is_some_and(|at| at <= now) {
                self.write_down();
                self.recount();
            }
            if self.look_at.is_some_and(|at| at <= now) {
                let is_short = self.make_space();
                self.recount();
                let pause = if is_short { LOOK_EVERY } else { LOOK_AT_REST };
                self.look_at = self.shelf.is_used().then_some(now + pause);
            }
            if self.sweep.due_at() <= now {
                self.sweep.begin();
            }
            if self.sweep.is_under_way() && self.requests.is_empty() {
                self.sweep.go_on(&mut self.shelf, &self.jobs);
                self.recount();
                self.look_by(now + LOOK_EVERY);
            }
        };
        self.write_down();
        self.shelf.close();
        drop(self);
        if let Some(reply) = stopped {
            // The caller may have given up.
            reply.send(()).unwrap_or_default();
        }
    }

    fn pause(&self) -> Duration {
        if self.sweep.is_under_way() {
            return PAUSE;
        }
        let next =
            [self.write_at, self.look_at].into_iter().flatten().fold(self.sweep.due_at(), Instant::min);
        next.saturating_duration_since(Instant::now())
    }

    fn look_by(&mut self, at: Instant) {
        self.look_at = Some(self.look_at.map_or(at, |before| before.min(at)));
    }

    /// When space is low, removes the output of deleted jobs now. Returns whether space is low.
    fn make_space(&mut self) -> bool {
        if !self.shelf.is_used() || !self.jobs.is_full_for_output() {
            return false;
        }
        if !self.sweep.is_under_way() {
            self.sweep.begin();
        }
        self.shelf.make_space();
        true
    }

    /// Announces how much disk space the output still needs.
    fn announce(&self) {
        // What is in memory goes to the journal first, and from there to a table.
        self.jobs.set_output(2 * self.bytes as u64 + self.unwritten);
    }

    /// Counts again; call this when the store may have been replaced. It waits for the store's lock, so it is not done
    /// for every piece of output.
    fn recount(&mut self) {
        self.unwritten = self.shelf.unwritten();
        self.announce();
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Append { of, text, room } => {
                let appended = self.append(of, &text);
                let Meters { taken, dropped } = &*self.meters;
                if appended.is_ok() { taken } else { dropped }.add(text.len() as u64);
                self.note(appended);
                drop(room);
            }
            Request::Read { id, attempt, from, reply } => {
                let excerpt = self.read(id, attempt, from);
                // The caller may have gone away, here and below.
                drop(reply.send(excerpt));
            }
            Request::Watch { of, reply } => {
                let watched = self.watched.entry(of).or_insert_with(|| watch::Sender::new(()));
                drop(reply.send(watched.subscribe()));
                self.write_at.get_or_insert_with(|| Instant::now() + WRITE_EVERY);
            }
            Request::KeepHistory(steps) => {
                // The space that is left is for jobs.
                if !self.jobs.is_full_for_output() {
                    let kept = self.shelf.store_history(&steps);
                    self.note(kept);
                    self.recount();
                }
            }
            Request::ReadHistory(reply) => {
                let history =
                    if self.jobs.is_full_for_output() { Ok(Vec::new()) } else { self.shelf.history() };
                drop(reply.send(history));
            }
            Request::Audit { at, entry, room } => {
                if self.trail.push(at, entry, room) {
                    self.write_trail();
                }
                self.write_at.get_or_insert_with(|| Instant::now() + WRITE_EVERY);
            }
            Request::ReadAudit { before, limit, reply } => {
                self.write_trail();
                drop(reply.send(self.shelf.audit(before, limit)));
            }
            Request::Forget(id) => {
                self.let_go(|of, _| of.id == id);
                // What remains is swept later.
                drop(self.shelf.remove(&[id]));
                self.recount();
            }
            Request::Sweep => self.sweep.begin(),
            Request::Stop(_) => {}
        }
    }

    fn append(&mut self, of: Attempt, text: &[u8]) -> Result<(), StoreError> {
        if !self.tails.contains_key(&of) {
            let tail = self.shelf.tail(of)?;
            self.bytes += tail.weight();
            self.tails.insert(of, Held { tail, is_active: true });
        }
        let Some(held) = self.tails.get_mut(&of) else { return Ok(()) };
        self.bytes -= held.tail.weight();
        held.tail.push(text);
        held.is_active = true;
        self.bytes += held.tail.weight();
        self.write_at.get_or_insert_with(|| Instant::now() + WRITE_EVERY);
        if let Some(watched) = self.watched.get(&of) {
            watched.send_replace(());
        }
        Ok(())
    }

    fn read(&mut self, id: JobId, attempt: Option<u32>, from: u64) -> Result<Excerpt, StoreError> {
        let number = match attempt {
            Some(attempt) => attempt,
            None => {
                let all = Attempt { id, number: 0 }..=Attempt { id, number: u32::MAX };
                let newest = self.tails.range(all).next_back().map(|(of, _)| of.number);
                let Some(newest) = newest.max(self.shelf.newest(id)?) else { return Ok(Excerpt::default()) };
                newest
            }
        };
        let of = Attempt { id, number };
        let part = match self.tails.get(&of) {
            Some(held) => held.tail.part(from),
            None => self.shelf.tail(of)?.part(from),
        };
        let Part { missed, text, end } = part;
        Ok(Excerpt { attempt: Some(number), missed, text, end })
    }

    fn write_trail(&mut self) {
        if let Err(error) = self.trail.write(&mut self.shelf) {
            tracing::error!(%error, "cannot store the last entries of the audit trail; the log has them");
        }
    }

    /// Writes what is in memory, and releases tails that have not grown for a while.
    fn write_down(&mut self) {
        self.write_at = None;
        self.write_trail();
        let written = self.write_new();
        let is_written = written.is_ok();
        self.note(written);
        let is_heavy = self.bytes > self.max_bytes;
        self.let_go(|_, held| is_heavy || is_written && !held.is_active);
        self.tails.values_mut().for_each(|held| held.is_active = false);
        self.watched.retain(|_, watched| watched.receiver_count() > 0);
        if !self.tails.is_empty() || !self.watched.is_empty() {
            self.write_at = Some(Instant::now() + WRITE_EVERY);
        }
    }

    fn write_new(&mut self) -> Result<(), StoreError> {
        let jobs = self.jobs.snapshot();
        // Output that was never written belongs to young jobs, many of which are deleted soon. Whoever follows one still
        // reads its last lines.
        let watched = std::mem::take(&mut self.watched);
        self.let_go(|of, held| {
            held.tail.is_all_new() && !watched.contains_key(of) && matches!(is_gone(&jobs, of.id), Ok(true))
        });
        self.watched = watched;
        let new = self
            .tails
            .iter()
            .flat_map(|(of, held)| held.tail.new_chunks().map(|(number, text)| (*of, number, text)));
        let chunks: Vec<_> = new.collect();
        if chunks.is_empty() {
            return Ok(());
        }
        self.shelf.store(&chunks)?;
        self.sweep.count_written(chunks.len());
        self.tails.values_mut().for_each(|held| held.tail.set_stored());
        Ok(())
    }

    fn let_go(&mut self, is_over: impl Fn(&Attempt, &Held) -> bool) {
        let bytes = &mut self.bytes;
        self.tails.retain(|of, held| {
            let is_over = is_over(of, held);
            if is_over {
                *bytes -= held.tail.weight();
            }
            !is_over
        });
    }

    /// Logs once that output is lost, and once that it is stored again.
    fn note(&mut self, done: Result<(), StoreError>) {
        match done {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(%error, "cannot store the output of jobs and the history; jobs run on without them");
                }
            }
        }
    }
}
