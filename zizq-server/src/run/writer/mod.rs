//! The engine's thread: takes the commands that have arrived, runs one turn, and answers. Further commands gather in
//! the meantime, so one commit serves many (group commit).

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use tokio::sync::{Semaphore, mpsc};

use crate::clock;
use crate::engine::answers::Known;
use crate::engine::command::crons::Firing;
use crate::engine::command::once::Envelope;
use crate::engine::command::{Command, Kind, Reply};
use crate::hash::HashMap;
use crate::job::id::Stamp;
use crate::run::commit::{CommitMode, CommitModes};
use crate::run::handle::{Handle, ReplyTo, Request};
use crate::run::syncer::{Caller, Syncer};
use crate::run::turn::{Answer, Core};
use crate::store::{Store, StoreError};

/// How many commands may wait for the engine before callers have to wait.
const MAX_WAITING: usize = 8_192;
/// The number of jobs after which a turn takes no more commands, so that later ones do not wait long and connections
/// send one turn's deliveries while the engine runs the next.
const MAX_TURN: usize = 256;
/// How often to check for a full disk, in milliseconds.
const LOOK_EVERY_MS: u64 = 20;
/// The longest sleep before a timer: setting the clock does not wake the engine.
const LOOK_AT_CLOCK: Duration = Duration::from_millis(400);
/// The first pause before the store is reopened. It doubles while the store fails again soon, up to a limit.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// After the store has been open for this long, the next failure starts with the first pause again, in milliseconds.
const CALM_MS: u64 = 60_000;

/// Starts the engine. The thread ends after [`Command::Stop`], or with an error when the store fails for good. When the
/// disk is full, it waits for space and reopens the store; `down` makes it wait from the start. Cron entries whose jobs
/// must be folded go to `firings` and return as commands.
///
/// # Errors
/// When a thread cannot be started.
pub(crate) fn start<S: Store>(
    core: Core<S>,
    modes: CommitModes,
    firings: mpsc::Sender<Firing>,
    down: Option<StoreError>,
) -> std::io::Result<(Handle, JoinHandle<Result<(), StoreError>>)> {
    let (sender, requests) = crossbeam_channel::unbounded();
    let permits = Arc::new(Semaphore::new(MAX_WAITING));
    let handle = Handle::new(sender, permits.clone());
    let writer = Writer {
        core,
        modes,
        firings,
        requests,
        permits,
        later: HashMap::default(),
        full: false,
        looked_at: 0,
        opened_at: clock::now().up,
        pause: FIRST_PAUSE,
    };
    let thread = thread::Builder::new().name("engine".to_owned()).spawn(move || writer.run(down))?;
    Ok((handle, thread))
}

struct Writer<S: Store> {
    core: Core<S>,
    modes: CommitModes,
    /// Receives cron entries whose jobs must be folded.
    firings: mpsc::Sender<Firing>,
    requests: Receiver<Request>,
    permits: Arc<Semaphore>,
    /// The callers that wait for the end of a bulk.
    later: HashMap<Stamp, Caller>,
    /// Whether the disk was full at the last check.
    full: bool,
    looked_at: u64,
    opened_at: u64,
    /// How long to wait before the store is reopened.
    pause: Duration,
}

impl<S: Store> Writer<S> {
    fn run(mut self, down: Option<StoreError>) -> Result<(), StoreError> {
        let mut failed = down.map_or(Ok(()), Err);
        loop {
            if let Err(error) = failed
                && self.recover(error)?
            {
                return Ok(());
            }
            let syncer = Syncer::start(self.core.store(), self.core.meters().clone())?;
            let served = self.serve(&syncer);
            let error = served.as_ref().err().unwrap_or(&StoreError::Closed);
            self.later.drain().for_each(|(_, caller)| caller.fail(error));
            if served.is_ok() {
                // Finally everything is synced to the disk, whatever the commit modes. If that fails, the thread's end
                // reports it.
                syncer.send(Vec::new()).ok();
            }
            failed = match (served, syncer.finish()) {
                (Ok(()), Ok(())) => return Ok(()),
                // After the disk has failed, later errors of the store are consequences.
                (Err(error), Err(StoreError::Poisoned) | Ok(())) | (_, Err(error)) => Err(error),
            };
        }
    }

    fn serve(&mut self, syncer: &Syncer) -> Result<(), StoreError> {
        while let Some(first) = self.wait() {
            let now = clock::now();
            let (mut calls, mut callers) = (Vec::new(), Vec::new());
            let (mut stop, mut size) = (false, 0);
            for request in first.into_iter().chain(self.requests.clone().try_iter()) {
                size += request.call.command.about().size();
                let caller = self.take_up(&request.call, request.reply);
                let engine = self.core.engine();
                let is_known =
                    request.call.once.as_ref().is_some_and(|once| engine.known(once) != Ok(Known::New));
                if caller.is_enqueue && !is_known && self.is_full(now.up) {
                    caller.refuse(&StoreError::Full);
                } else {
                    stop |= matches!(request.call.command, Command::Stop(_));
                    callers.push(caller);
                    calls.push(request.call);
                }
                if size >= MAX_TURN {
                    break;
                }
            }
            let started = Instant::now();
            match self.core.turn(now, calls.into_iter()) {
                Ok(answers) => {
                    self.core.meters().turns.since(started);
                    self.send_firings();
                    self.answer(callers, answers, syncer)?;
                }
                Err(error) => {
                    callers.into_iter().for_each(|caller| caller.fail(&error));
                    return Err(error);
                }
            }
            if stop {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends firings. Each returns as a command, so those that do not fit are sent after a later turn.
    fn send_firings(&mut self) {
        while self.core.engine().has_firing() {
            let Ok(room) = self.firings.try_reserve() else { return };
            if let Some(firing) = self.core.take_firing() {
                room.send(firing);
            }
        }
    }

    fn answer(
        &mut self,
        callers: Vec<Caller>,
        answers: Vec<Answer>,
        syncer: &Syncer,
    ) -> Result<(), StoreError> {
        let mut unsynced = Vec::new();
        let mut answer = |caller: Caller, answer| match caller.mode {
            CommitMode::Buffered => caller.answer(answer),
            CommitMode::Fsync => unsynced.push((caller, answer)),
        };
        for (caller, said) in callers.into_iter().zip(answers) {
            match said {
                Ok(Reply::Later(id)) => drop(self.later.insert(id, caller)),
                said => answer(caller, said),
            }
        }
        for (id, said) in self.core.late_answers() {
            if let Some(caller) = self.later.remove(&id) {
                answer(caller, said);
            }
        }
        if unsynced.is_empty() { Ok(()) } else { syncer.send(unsynced) }
    }

    fn take_up(&self, call: &Envelope, reply: Option<ReplyTo>) -> Caller {
        self.permits.add_permits(usize::from(reply.is_some()));
        let kind = call.kind();
        Caller { reply, is_enqueue: kind == Kind::Enqueue, mode: self.modes.of(kind) }
    }

    /// Waits for a command or the next deadline. Returns `None` when no sender is left.
    fn wait(&self) -> Option<Option<Request>> {
        // The engine answers in microseconds, so the next command has often arrived already.
        match self.requests.try_recv() {
            Ok(request) => return Some(Some(request)),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        loop {
            let Some(pause) = self.core.engine().due_in(clock::now()) else {
                return self.requests.recv().ok().map(Some);
            };
            match self.requests.recv_timeout(LOOK_AT_CLOCK.min(Duration::from_millis(pause))) {
                Ok(request) => return Some(Some(request)),
                Err(RecvTimeoutError::Timeout) if pause <= clock::millis(LOOK_AT_CLOCK) => {
                    return Some(None);
                }
                // The clock may have been set in the meantime.
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn is_full(&mut self, now: u64) -> bool {
        if now >= self.looked_at + LOOK_EVERY_MS {
            self.looked_at = now;
            let was_full = std::mem::replace(&mut self.full, self.core.store().is_full());
            if self.full {
                self.core.store().make_space();
            }
            match (was_full, self.full) {
                (false, true) => tracing::warn!(
                    space = self.core.store().describe_space(),
                    "the disk has less free space than --min-free-disk; no jobs are accepted until there is more"
                ),
                (true, false) => {
                    tracing::info!("there is enough free space on the disk; jobs are accepted again")
                }
                _ => {}
            }
        }
        self.full
    }

    /// Waits until the store can be reopened; callers are told so in the meantime. Returns true if the server must
    /// stop.
    fn recover(&mut self, mut error: StoreError) -> Result<bool, StoreError> {
        self.core.close_streams();
        let was_calm = clock::now().up >= self.opened_at + CALM_MS;
        self.pause = if was_calm { FIRST_PAUSE } else { MAX_PAUSE.min(self.pause * 2) };
        if error.may_pass() {
            // Absent from the log where it is not the reason.
            let space = matches!(error, StoreError::Full).then(|| self.core.store().describe_space());
            tracing::error!(%error, space, "the store has failed; calls are refused until it is reopened");
        }
        while error.may_pass() {
            if self.refuse(&error) {
                return Ok(true);
            }
            match self.core.reopen(clock::now(), fastrand::u64(..)) {
                Ok(()) => {
                    tracing::info!("the store is open again");
                    self.opened_at = clock::now().up;
                    return Ok(false);
                }
                Err(again) => error = again,
            }
        }
        Err(error)
    }

    /// Refuses every command that arrives during the pause. Returns true if one of them was to stop.
    fn refuse(&self, error: &StoreError) -> bool {
        let until = clock::now().up + clock::millis(self.pause);
        loop {
            let left = until.saturating_sub(clock::now().up);
            match self.requests.recv_timeout(Duration::from_millis(left)) {
                Ok(Request { call, reply }) => {
                    let caller = self.take_up(&call, reply);
                    if matches!(call.command, Command::Stop(_)) {
                        caller.answer(Ok(Reply::Stop(())));
                        return true;
                    }
                    caller.refuse(error);
                }
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
            if left == 0 {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests;
