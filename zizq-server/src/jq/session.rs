//! The server's side: one expression over many payloads, with a helper that it may crash.

use std::io::{self, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use protocol::payload::Payload;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::fair::Permit;
use super::fold::{Folded, Task, Turn};
use super::program::{Verdict, no_condition};
use super::runs::End;
use super::wire::{self, TIME_BYTES, packed, push_payload, split_frame, write_frame};
use super::{Admission, Busy, GLANCE, JqError, Limits};

/// How much each payload, and each byte of it, adds to the time of an expression: far more than any reasonable one
/// needs.
const TIME_PER_PAYLOAD: Duration = Duration::from_micros(100);
const TIME_PER_BYTE: Duration = Duration::from_nanos(25);
/// How much each folded payload adds: the one it is folded into may be a thousand times as long.
const TIME_PER_FOLD: Duration = Duration::from_millis(1);
/// How long to wait for an answer that is no longer needed before the helper is killed.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// A process that evaluates expressions. Killed when dropped.
#[derive(Debug)]
pub(super) struct Helper {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// Bytes that do not make a whole frame yet.
    buffer: Vec<u8>,
    /// The last expression it compiled, as it was sent.
    compiled: Vec<u8>,
}

impl Helper {
    fn start(limits: Limits) -> io::Result<Self> {
        let program = std::env::current_exe()?;
        // The file may have been replaced by a newer version; this link is the one that runs.
        let running = std::path::Path::new("/proc/self/exe");
        let mut child = Command::new(if running.exists() { running } else { &program })
            .arg("jq-helper")
            .arg(limits.memory.to_string())
            .env_clear()
            // Memory that the allocator reserves in advance would count against the limit of the expression.
            .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            .env("MIMALLOC_ARENA_RESERVE", "0")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => {
                Ok(Self { child, stdin, stdout, buffer: Vec::new(), compiled: Vec::new() })
            }
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Waits for the next frame. Returns `None` when the time is up or the caller has gone away; an error when the
    /// helper has ended.
    fn receive(&mut self, until: Instant, is_over: impl Fn() -> bool) -> io::Result<Option<(u8, Vec<u8>)>> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(frame) = split_frame(&mut self.buffer) {
                return Ok(Some(frame));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || is_over() {
                return Ok(None);
            }
            let timeout = Timespec::try_from(left.min(GLANCE)).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.stdout, PollFlags::IN)], Some(&timeout)) {
                Err(rustix::io::Errno::INTR) | Ok(0) => continue,
                ready => drop(ready?),
            }
            match self.stdout.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.buffer.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            }
        }
    }

    /// Explains why it has ended.
    fn last_words(&mut self) -> String {
        let mut words = String::new();
        // It is ending anyway; only that end is waited for.
        drop(self.child.kill());
        if let Some(stderr) = &mut self.child.stderr {
            drop(stderr.take(4_096).read_to_string(&mut words));
        }
        if words.contains("memory allocation") {
            "it needs more memory than --filter-memory allows and was stopped".to_owned()
        } else if words.contains("overflowed its stack") {
            "it recurses too deep and was stopped".to_owned()
        } else {
            "the helper crashed".to_owned()
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A running expression.
///
/// Over all its payloads it may take the time of the limits, plus a little for each payload and byte. So a scan of
/// millions of jobs may take minutes, but a wasteful expression is stopped soon. Only the helper's time counts.
#[derive(Debug)]
pub(crate) struct Session {
    admission: Admission,
    helper: Option<Helper>,
    /// Its remaining time, without the present slice.
    left: Duration,
    /// When the helper's present slice was sent, and its number of payloads.
    sent: Option<(Instant, usize)>,
    /// Held while the helper is busy.
    turn: Option<Permit>,
    body: Vec<u8>,
    /// How it ended, as far as is known.
    end: End,
}

impl Admission {
    /// Compiles an expression. Blocks within the limits.
    ///
    /// `is_strict`: it must return true, false or null for every payload.
    ///
    /// # Errors
    /// [`JqError`].
    pub(crate) fn compile(self, expression: &str, is_strict: bool) -> Result<Session, JqError> {
        let mut session = self.open()?;
        let body = [&[u8::from(is_strict)], expression.as_bytes()].concat();
        if let Some(helper) = &mut session.helper {
            if helper.compiled == body {
                return Ok(session);
            }
            helper.compiled.clear();
        }
        session.send(wire::COMPILE, &body, 0)?;
        match session.reply()? {
            (wire::COMPILED, _) => {
                if let Some(helper) = &mut session.helper {
                    helper.compiled = body;
                }
                Ok(session)
            }
            (_, why) => Err(session.fails(JqError::Invalid(String::from_utf8_lossy(&why).into_owned()))),
        }
    }

    /// Folds payloads. Blocks within the limits and a little for every payload.
    ///
    /// # Errors
    /// [`FoldError`].
    pub(crate) fn fold(self, task: &Task<'_>) -> Result<(Vec<Turn>, Folded), FoldError> {
        self.open().map_err(|error| FoldError::of(0, error))?.fold(task)
    }

    fn open(self) -> Result<Session, JqError> {
        let limits = self.helpers.limits;
        let helper = self.helpers.take().map_or_else(|| Helper::start(limits), Ok);
        let helper = Some(helper.map_err(|error| {
            self.helpers.runs.count(End::Unavailable);
            JqError::Unavailable(error.to_string())
        })?);
        let (left, body, end) = (limits.time, Vec::new(), End::Done);
        Ok(Session { admission: self, helper, left, sent: None, turn: None, body, end })
    }
}

/// Why payloads cannot be folded.
#[derive(Debug)]
pub(crate) enum FoldError {
    /// The new payload at this index is invalid, or its expressions, or those of the batch that it meets.
    Wrong { index: usize, error: String },
    /// The helper cannot be started or reached.
    Unavailable(String),
    /// Other expressions use all the time.
    Busy(Busy),
}

impl FoldError {
    fn of(index: usize, error: JqError) -> Self {
        match error {
            JqError::Invalid(error) | JqError::NoCondition(error) | JqError::Stopped(error) => {
                Self::Wrong { index, error: format!("batch: {error}") }
            }
            JqError::Unavailable(error) => {
                Self::Unavailable(format!("batches cannot be folded at the moment: {error}"))
            }
            JqError::Busy(busy) => Self::Busy(busy),
        }
    }
}

impl Session {
    /// Sends payloads to the helper.
    ///
    /// # Errors
    /// [`JqError`].
    pub(crate) fn begin<'a>(&mut self, payloads: impl Iterator<Item = &'a Payload>) -> Result<(), JqError> {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        body.extend_from_slice(&self.admission.now().to_be_bytes());
        let mut count = 0;
        for payload in payloads {
            push_payload(&mut body, payload.format(), payload.bytes());
            count += 1;
        }
        let times = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.left += TIME_PER_PAYLOAD * times(count) + TIME_PER_BYTE * times(body.len());
        let sent = self.send(wire::EVALUATE, &body, count);
        self.body = body;
        sent
    }

    /// Waits for the helper's results for its payloads, and returns how long it took.
    ///
    /// # Errors
    /// [`JqError`].
    pub(crate) fn finish(&mut self) -> Result<(Vec<bool>, Duration), JqError> {
        let count = self.sent.map_or(0, |(_, count)| count);
        let (mut matches, mut total) = (Vec::with_capacity(count), Duration::ZERO);
        loop {
            let reply = self.reply()?;
            let (time, verdicts) = match &reply {
                (wire::MATCHES, body) => body.split_first_chunk().unwrap_or((&[0; TIME_BYTES], &[])),
                _ => (&[0; TIME_BYTES], &[][..]),
            };
            if verdicts.is_empty() || verdicts.len() > count - matches.len() {
                self.helper = None;
                return Err(self.fails(JqError::Unavailable("unexpected reply of the helper".to_owned())));
            }
            let took = Duration::from_micros(u64::from_be_bytes(*time));
            self.left = self.left.saturating_sub(took);
            total += took;
            for verdict in verdicts {
                matches.push(is_match(*verdict).map_err(|error| self.fails(error))?);
            }
            if matches.len() == count {
                return Ok((matches, total));
            }
            // Others that wait get their turn first.
            self.send(wire::GO_ON, &[], count)?;
        }
    }

    fn fold(&mut self, task: &Task<'_>) -> Result<(Vec<Turn>, Folded), FoldError> {
        let body = packed(task).map_err(|e| FoldError::Unavailable(e.to_string()))?;
        let times = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.left += TIME_PER_FOLD * times(task.new.len()) + TIME_PER_BYTE * times(body.len());
        let mut turns = Vec::with_capacity(task.new.len());
        self.send(wire::FOLD, &body, 0).map_err(|error| FoldError::of(0, error))?;
        let sent = self.sent;
        loop {
            let index = turns.len();
            let (kind, body) = self.reply().map_err(|error| FoldError::of(index, error))?;
            match kind {
                wire::TURN => {
                    turns.push(postcard::from_bytes(&body).map_err(|_| self.out_of_step())?);
                    let turn = self.admission.turn().map_err(|error| self.fails(error));
                    if turn.is_err() {
                        // The next helper continues with the rest.
                        self.helper = None;
                    }
                    (self.sent, self.turn) = (sent, Some(turn.map_err(|error| FoldError::of(index, error))?));
                }
                wire::FOLDED if index == task.new.len() => {
                    let folded = postcard::from_bytes(&body).map_err(|_| self.out_of_step())?;
                    return Ok((turns, folded));
                }
                wire::WRONG => {
                    self.end = End::Invalid;
                    let error = String::from_utf8_lossy(&body).into_owned();
                    return Err(FoldError::Wrong { index, error });
                }
                _ => return Err(self.out_of_step()),
            }
        }
    }

    fn out_of_step(&mut self) -> FoldError {
        (self.helper, self.end) = (None, End::Unavailable);
        FoldError::Unavailable("unexpected reply of the helper".to_owned())
    }

    fn send(&mut self, kind: u8, body: &[u8], count: usize) -> Result<(), JqError> {
        let turn = self.admission.turn().map_err(|error| self.fails(error))?;
        let Some(helper) = &mut self.helper else { return Err(self.fails(gone())) };
        self.turn = Some(turn);
        self.sent = Some((Instant::now(), count));
        // A helper that has died is noticed when its answer is awaited.
        drop(write_frame(&mut helper.stdin, kind, body));
        Ok(())
    }

    fn reply(&mut self) -> Result<(u8, Vec<u8>), JqError> {
        let (Some(helper), Some((sent, _))) = (&mut self.helper, self.sent.take()) else {
            return Err(self.fails(gone()));
        };
        let admission = &self.admission;
        let received = helper.receive(sent + self.left, || admission.is_abandoned());
        self.turn = None;
        let stopped = match received {
            Ok(Some(frame)) => return Ok(frame),
            Ok(None) if admission.is_abandoned() => "its caller has gone away".to_owned(),
            Ok(None) => format!("it takes too long and was stopped after {:.1?}", sent.elapsed()),
            Err(_) => helper.last_words(),
        };
        self.helper = None;
        Err(self.fails(JqError::Stopped(stopped)))
    }

    /// Notes why it ends.
    fn fails(&mut self, error: JqError) -> JqError {
        self.end = End::from(&error);
        error
    }
}

fn is_match(verdict: u8) -> Result<bool, JqError> {
    match Verdict::from_byte(verdict) {
        Verdict::Other(kind) => Err(JqError::NoCondition(no_condition(kind))),
        Verdict::TooMuch => Err(JqError::Stopped(
            "it builds a value that nests too deeply or is too long, and was stopped".to_owned(),
        )),
        verdict => Ok(verdict == Verdict::Yes),
    }
}

fn gone() -> JqError {
    JqError::Unavailable("the helper is gone".to_owned())
}

impl Drop for Session {
    fn drop(&mut self) {
        self.admission.helpers.runs.count(self.end);
        let Some(mut helper) = self.helper.take() else { return };
        let idle = match self.sent.take() {
            None => true,
            Some(_) => matches!(helper.receive(Instant::now() + LAST_WAIT, || false), Ok(Some(_))),
        };
        if idle {
            self.admission.helpers.put_back(helper);
        }
    }
}
