//! The helper process: reads expressions and payloads from standard input, writes matches to standard output.

use std::io::{self, stdin, stdout};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};

use super::fold::Folding;
use super::program::Condition;
use super::wire::{self, TIME_BYTES, packed, read_frame, write_frame};

/// Deep enough for every valid payload; endless recursion soon exhausts it.
const STACK: usize = 16 * 1024 * 1024;
/// The time after which other expressions get their turn. A payload is always evaluated as a whole.
const SLICE: Duration = Duration::from_millis(50);

/// Serves until standard input ends, at the latest when the server ends.
///
/// An expression may use about `memory` bytes.
#[must_use]
pub fn run(memory: u64) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    if let Err(error) = limit(memory) {
        eprintln!("cannot limit memory: {error}");
        return ExitCode::FAILURE;
    }
    let (sender, frames) = sync_channel(1);
    let worker = thread::Builder::new().stack_size(STACK).spawn(move || work(&frames));
    if worker.is_err() {
        return ExitCode::FAILURE;
    }
    // The worker may be in an endless loop; this thread notices that no one wants an answer.
    let mut stdin = stdin().lock();
    while let Ok(Some(frame)) = read_frame(&mut stdin) {
        if sender.send(frame).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Limits the process: less memory, lower priority, no core dumps.
fn limit(memory: u64) -> io::Result<()> {
    let set = |resource, limit: u64| {
        let maximum = getrlimit(resource).maximum;
        let limit = maximum.map_or(limit, |maximum| limit.min(maximum));
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
    };
    set(Resource::Core, 0)?;
    set(Resource::Data, data().saturating_add(STACK as u64).saturating_add(memory))?;
    // A process that is already nice may not be allowed to lower its priority further.
    nice(10).map(drop).unwrap_or_default();
    Ok(())
}

/// The data size of this process at its start, in bytes.
fn data() -> u64 {
    const ENOUGH: u64 = 16 * 1024 * 1024;
    // The sixth number: data and stack, in pages.
    let pages = std::fs::read_to_string("/proc/self/statm");
    let pages = pages.ok().and_then(|text| text.split(' ').nth(5)?.parse::<u64>().ok());
    pages.map_or(ENOUGH, |pages| pages.saturating_mul(rustix::param::page_size() as u64))
}

fn work(frames: &Receiver<(u8, Vec<u8>)>) -> io::Result<()> {
    let mut condition: Option<Condition> = None;
    let mut batch = Batch::default();
    let mut folding = Folding::default();
    let mut stdout = stdout().lock();
    while let Ok((kind, body)) = frames.recv() {
        match (kind, &condition) {
            (wire::COMPILE, _) => match compile(&body) {
                Ok(compiled) => {
                    condition = Some(compiled);
                    write_frame(&mut stdout, wire::COMPILED, &[])?;
                }
                Err(why) => write_frame(&mut stdout, wire::INVALID, why.as_bytes())?,
            },
            (wire::EVALUATE, Some(condition)) => {
                batch = Batch { body, seen: 0 };
                write_frame(&mut stdout, wire::MATCHES, &batch.matches(condition)?)?;
            }
            (wire::GO_ON, Some(condition)) => {
                write_frame(&mut stdout, wire::MATCHES, &batch.matches(condition)?)?;
            }
            (wire::FOLD, _) => {
                let tell = |turn| write_frame(&mut stdout, wire::TURN, &packed(&turn)?);
                match folding.run(&body, tell)? {
                    Ok(folded) => write_frame(&mut stdout, wire::FOLDED, &packed(&folded)?)?,
                    Err(why) => write_frame(&mut stdout, wire::WRONG, why.as_bytes())?,
                }
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(())
}

/// Payloads that are evaluated in slices.
#[derive(Default)]
struct Batch {
    /// The body of [`wire::EVALUATE`].
    body: Vec<u8>,
    /// How many of its payloads have been evaluated.
    seen: usize,
}

impl Batch {
    /// Evaluates payloads for about a [`SLICE`]. Returns the body of [`wire::MATCHES`].
    fn matches(&mut self, condition: &Condition) -> io::Result<Vec<u8>> {
        let (now, payloads) =
            self.body.split_first_chunk::<TIME_BYTES>().ok_or(io::ErrorKind::InvalidData)?;
        let (began, now) = (Instant::now(), f64::from_be_bytes(*now));
        let mut matches = vec![0; TIME_BYTES];
        for (format, payload) in wire::payloads(payloads).skip(self.seen) {
            matches.push(condition.verdict(format, payload, now).byte());
            self.seen += 1;
            if began.elapsed() >= SLICE {
                break;
            }
        }
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(time) = matches.first_chunk_mut() {
            *time = took.to_be_bytes();
        }
        Ok(matches)
    }
}

fn compile(body: &[u8]) -> Result<Condition, String> {
    let (is_strict, expression) = body.split_first().unwrap_or((&0, &[]));
    Condition::compile(&String::from_utf8_lossy(expression), *is_strict == 1)
}
