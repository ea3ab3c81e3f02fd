//! Supervises a running command: writes its input, reads its output and control channel, and stops it when it must end.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use protocol::job::DeliveredJob;
use protocol::log::Output;
use rustix::process::Signal;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use wait4::ResUse;

use super::control::Control;
use super::joblog::JobLog;
use super::output::{End, LineLog, Tail, pump};
use super::processes::Started;
use super::{Shared, Stop, after, stopped};
use crate::outcome::{Fact, Said};
use crate::report::{Lease, Usage};

/// What is known of a command that has ended.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) fact: Fact,
    /// The end of its standard error.
    pub(super) tail: String,
    pub(super) said: Said,
    pub(super) usage: Usage,
}

/// The time limits of a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) timeout: Option<Duration>,
    /// How long processes that it started may outlive it.
    pub(super) linger: Duration,
    pub(super) grace: Duration,
    pub(super) cpu_limited: bool,
}

/// Supervises a command until it has ended and nothing is left of it.
pub(super) async fn attend(
    mut started: Started<'_>,
    stdin: &[u8],
    job: &DeliveredJob,
    terms: Terms,
    shared: &Shared,
    stop: watch::Receiver<Stop>,
) -> io::Result<Remains> {
    let since = Instant::now();
    let input = started.stdin.take().map(ChildStdin::from_std).transpose()?;
    let output = started.stdout.take().map(ChildStdout::from_std).transpose()?;
    let errors = started.stderr.take().map(ChildStderr::from_std).transpose()?;
    let channel = started.control.take();
    let log = JobLog::new(shared, Lease { id: job.id, token: job.lease });
    let mut out = LineLog::new(job.id, "stdout", since);
    let mut err = LineLog::new(job.id, "stderr", since);
    let mut tail = Tail::default();
    let mut control = Control::new(shared, job, stop.clone());
    let end = End::default();
    let run = async {
        let ended = bring_to_end(&mut started, terms, stop).await;
        end.reached();
        ended
    };
    let (ended, (), out_done, err_done, (), ()) = tokio::join!(
        run,
        feed(input, stdin, &end),
        pump(output, &end, |bytes| {
            log.push(Output::Stdout, bytes);
            out.push(bytes, Instant::now());
        }),
        pump(errors, &end, |bytes| {
            log.push(Output::Stderr, bytes);
            tail.push(bytes);
            err.push(bytes, Instant::now());
        }),
        control.listen(channel, &end),
        log.send(&end),
    );
    if !(out_done && err_done) {
        tracing::warn!(job = %job.id, "a process that left the job's group still holds its output open; its further output is ignored");
    }
    out.finish();
    err.finish();
    log.finish().await;
    let spent = started.group.spent();
    drop(started);
    let (ResUse { status, rusage }, broken) = ended?;
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let usage = Usage {
        wall_ms: ms(since.elapsed()),
        cpu_ms: spent.cpu_ms.unwrap_or_else(|| ms(rusage.utime + rusage.stime)),
        peak_bytes: spent
            .peak_bytes
            .or_else(|| super::memory::is_its_own(rusage.maxrss).then_some(rusage.maxrss)),
    };
    let fact = broken.unwrap_or_else(|| of_status(status, terms, spent.out_of_memory));
    Ok(Remains { fact, tail: tail.text(), said: control.said, usage })
}

/// Waits for the end of a command, or stops it. Returns also why it was stopped, if it was.
async fn bring_to_end(
    started: &mut Started<'_>,
    terms: Terms,
    mut stop: watch::Receiver<Stop>,
) -> io::Result<(ResUse, Option<Fact>)> {
    let why = tokio::select! {
        biased;
        ended = started.ended() => {
            let ended = ended?;
            end_group(started, terms, stop).await;
            return Ok((ended, None));
        }
        () = stopped(&mut stop) => Fact::Stopped,
        time = after(terms.timeout) => Fact::TimedOut(time),
    };
    let patience = if *stop.borrow() == Stop::Now { Duration::ZERO } else { terms.grace };
    let mut ended = None;
    if !patience.is_zero() {
        started.group.signal(Signal::TERM);
        tokio::select! {
            // The leader may end long before its children, which also get time to clean up.
            () = async { ended = Some(started.ended().await); started.group.emptied().await } => {}
            _ = timeout(patience, stop.wait_for(|&stop| stop == Stop::Now)) => {}
        }
    }
    started.group.end();
    let ended = match ended {
        Some(ended) => ended?,
        None => started.ended().await?,
    };
    Ok((ended, Some(why)))
}

/// Gives the processes that a command started time to end by themselves, such as a `tee` that writes its last lines; then
/// sends SIGTERM, and finally SIGKILL.
async fn end_group(started: &mut Started<'_>, terms: Terms, mut stop: watch::Receiver<Stop>) {
    let is_empty = tokio::select! {
        () = started.group.emptied() => true,
        () = sleep(terms.linger) => false,
        () = stopped(&mut stop) => false,
    };
    if !is_empty && !terms.grace.is_zero() && *stop.borrow() != Stop::Now {
        started.group.signal(Signal::TERM);
        tokio::select! {
            () = started.group.emptied() => {}
            _ = timeout(terms.grace, stop.wait_for(|&stop| stop == Stop::Now)) => {}
        }
    }
    started.group.end();
}

/// Writes the payload. A command need not read it.
async fn feed(stdin: Option<impl AsyncWrite + Unpin>, payload: &[u8], end: &End) {
    let Some(mut stdin) = stdin else { return };
    tokio::select! {
        written = stdin.write_all(payload) => if let Err(e) = written {
            tracing::debug!("a command did not read its whole payload: {e}");
        },
        () = end.done() => {}
    }
}

/// How a command ended. `out_of_memory` comes from its cgroup, if it has one.
fn of_status(status: ExitStatus, terms: Terms, out_of_memory: Option<bool>) -> Fact {
    let signal = status.signal();
    let is = |signal_was: Signal| signal == Some(signal_was.as_raw());
    match (signal, status.code()) {
        _ if terms.cpu_limited && is(Signal::XCPU) => Fact::OutOfCpuTime,
        (Some(number), _)
            if is(Signal::KILL) && out_of_memory.unwrap_or_else(super::memory::kernel_killed_for_memory) =>
        {
            tracing::debug!("the kernel killed a process because memory ran out; signal {number}");
            Fact::OutOfMemory
        }
        (Some(number), _) => Fact::Signal(number),
        (None, code) => Fact::Exit(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_for_lack_of_memory_is_reported_as_such() {
        let (linger, grace) = (Duration::ZERO, Duration::ZERO);
        let terms = Terms { timeout: None, linger, grace, cpu_limited: false };
        let of = |raw, out_of_memory| of_status(ExitStatus::from_raw(raw), terms, Some(out_of_memory));
        assert_eq!(of(9, true), Fact::OutOfMemory);
        assert_eq!(of(9, false), Fact::Signal(9));
        assert_eq!(of(15, true), Fact::Signal(15));
        assert_eq!(of(0, true), Fact::Exit(0));
    }
}
