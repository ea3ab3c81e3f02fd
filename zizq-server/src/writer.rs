//! The engine's thread: it drains the commands that have arrived, turns the engine once, and answers. While it
//! works the next commands gather, and so every commit serves all that came in the meantime.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use tokio::sync::{Semaphore, oneshot};

use crate::clock;
use crate::engine::command::Command;
use crate::handle::{Handle, Request};
use crate::store::{Store, StoreError};
use crate::turn::{Answer, Core};

/// How many commands may wait for the engine before callers are made to wait.
const MAX_WAITING: usize = 8_192;
/// How many commands one turn takes.
const MAX_TURN: usize = 1_024;
/// How many turns may wait for the disk in `fsync` mode.
const MAX_UNSYNCED: usize = 4_096;

/// Whether an answer waits until the disk has what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CommitMode {
    /// It has been handed to the operating system: it survives a crash of the server.
    Buffered,
    /// It has been forced onto the disk: it survives a loss of power.
    Fsync,
}

/// The commit modes of a server.
#[derive(Debug, Clone, Copy)]
pub struct CommitModes {
    pub enqueue: CommitMode,
    pub others: CommitMode,
}

impl CommitModes {
    const fn of(self, command: &Command) -> Option<CommitMode> {
        match command {
            Command::Enqueue(_) => Some(self.enqueue),
            Command::Succeed(_)
            | Command::Fail { .. }
            | Command::Release(_)
            | Command::Change { .. }
            | Command::Reset
            | Command::Stop => Some(self.others),
            _ => None,
        }
    }
}

type Waiting = (Option<oneshot::Sender<Answer>>, CommitMode);
type Answered = (oneshot::Sender<Answer>, Answer);

/// Starts the engine. The thread ends after [`Command::Stop`], or with an error when the store fails.
///
/// # Errors
/// When a thread cannot be started.
pub fn start<S: Store>(
    core: Core<S>,
    modes: CommitModes,
) -> std::io::Result<(Handle, JoinHandle<Result<(), StoreError>>)> {
    let (sender, requests) = crossbeam_channel::unbounded();
    let permits = Arc::new(Semaphore::new(MAX_WAITING));
    let handle = Handle::new(sender, permits.clone());
    let (unsynced, syncer) = start_syncer(core.store(), handle.clone())?;
    let mut writer = Writer { core, modes, requests, permits, unsynced };
    let thread = thread::Builder::new().name("engine".to_owned()).spawn(move || {
        let result = writer.run();
        drop(writer);
        let synced =
            syncer.join().unwrap_or_else(|_| Err(StoreError::Failed("the sync thread panicked".to_owned())));
        // When the disk fails, what the engine says is a consequence.
        synced.and(result)
    })?;
    Ok((handle, thread))
}

struct Writer<S: Store> {
    core: Core<S>,
    modes: CommitModes,
    requests: Receiver<Request>,
    permits: Arc<Semaphore>,
    unsynced: Sender<Vec<Answered>>,
}

impl<S: Store> Writer<S> {
    fn run(&mut self) -> Result<(), StoreError> {
        while let Some(first) = self.wait() {
            let (mut commands, mut waiting) = (Vec::new(), Vec::new());
            let mut stop = false;
            let mut permits = 0;
            let rest = self.requests.try_iter().take(MAX_TURN);
            for request in first.into_iter().chain(rest) {
                permits += usize::from(request.reply.is_some());
                stop |= matches!(request.command, Command::Stop);
                let mode = self.modes.of(&request.command).unwrap_or(CommitMode::Buffered);
                waiting.push((request.reply, mode));
                commands.push(request.command);
            }
            self.permits.add_permits(permits);
            let answers = self.core.turn(clock::now(), commands.into_iter())?;
            self.answer(waiting, answers)?;
            if stop {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits for a command or the next deadline. None when nobody can send commands any more.
    fn wait(&self) -> Option<Option<Request>> {
        // The engine answers in microseconds, and then the next command is often there already.
        match self.requests.try_recv() {
            Ok(request) => return Some(Some(request)),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        let Some(deadline) = self.core.engine().next_deadline() else {
            return self.requests.recv().ok().map(Some);
        };
        let pause = Duration::from_millis(deadline.saturating_sub(clock::now()));
        match self.requests.recv_timeout(pause) {
            Ok(request) => Some(Some(request)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn answer(&self, waiting: Vec<Waiting>, answers: Vec<Answer>) -> Result<(), StoreError> {
        let mut unsynced = Vec::new();
        for ((reply, mode), answer) in waiting.into_iter().zip(answers) {
            let Some(reply) = reply else { continue };
            match mode {
                CommitMode::Buffered => send((reply, answer)),
                CommitMode::Fsync => unsynced.push((reply, answer)),
            }
        }
        if unsynced.is_empty() {
            return Ok(());
        }
        self.unsynced
            .send(unsynced)
            .map_err(|_| StoreError::Failed("the disk does not take what is written".to_owned()))
    }
}

fn send((reply, answer): Answered) {
    // A caller that has gone away does not want to know.
    drop(reply.send(answer));
}

type Syncer = (Sender<Vec<Answered>>, JoinHandle<Result<(), StoreError>>);

/// Forces commits onto the disk on a thread of its own, so that the engine goes on until its next
/// commit; what gathers during one fsync shares the next.
fn start_syncer<S: Store>(store: &S, engine: Handle) -> std::io::Result<Syncer> {
    let (sender, receiver) = crossbeam_channel::bounded::<Vec<Answered>>(MAX_UNSYNCED);
    let sync = store.syncer();
    let run = move || {
        while let Ok(first) = receiver.recv() {
            let mut answers = first;
            answers.extend(receiver.try_iter().flatten());
            if let Err(error) = sync() {
                tracing::error!(%error, "cannot force writes onto the disk");
                engine.tell(Command::Stop);
                return Err(error);
            }
            answers.into_iter().for_each(send);
        }
        Ok(())
    };
    Ok((sender, thread::Builder::new().name("sync".to_owned()).spawn(run)?))
}
