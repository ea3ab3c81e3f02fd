//! Sends the output of a command to the job's log on the server.
//!
//! The server keeps the last 64 KiB of an attempt, so no more than that waits here; when output comes faster, the oldest is
//! dropped, as the server would do. Lines are sent at least once while the run goes on: a line may arrive twice if the
//! answer was lost, but none is missing because the server was away.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use protocol::error::Code;
use protocol::log::{Line, MAX_KEPT_BYTES, Output};
use tokio::time::Instant;

use super::Shared;
use super::lines::Cutter;
use super::output::{End, PARTIAL_LINE};
use crate::client::CallError;
use crate::report::Lease;

/// The most bytes of output that wait.
const MAX_BYTES: usize = MAX_KEPT_BYTES;
/// The largest body: short lines grow when they become JSON.
const MAX_BODY: usize = 256 << 10;
/// How often output is sent.
const PACE: Duration = Duration::from_millis(500);
/// How long the last call may take: the outcome waits for it.
const LAST: Duration = Duration::from_secs(2);

/// Whether the server accepts logs. One refusal turns them off.
#[derive(Debug, Default)]
pub(crate) struct Acceptance {
    refused: AtomicBool,
}

/// The output of one run that waits.
#[derive(Debug)]
pub(super) struct JobLog<'a> {
    shared: &'a Shared,
    lease: Lease,
    waiting: Mutex<Waiting>,
}

/// Raw output: only what is left when it is sent is split into lines.
#[derive(Debug, Default)]
struct Waiting {
    chunks: VecDeque<(Output, Vec<u8>)>,
    bytes: usize,
    /// Lines that were sent and not acknowledged.
    unsent: Bytes,
    /// The starts of lines whose ends have not come yet.
    partial: [Partial; 2],
}

/// The start of a line of one stream.
#[derive(Debug, Default)]
struct Partial {
    cutter: Cutter,
    bytes: Vec<u8>,
    /// When it began to wait for its end.
    since: Option<Instant>,
}

impl<'a> JobLog<'a> {
    pub(super) fn new(shared: &'a Shared, lease: Lease) -> Self {
        Self { shared, lease, waiting: Mutex::default() }
    }

    pub(super) fn push(&self, output: Output, bytes: &[u8]) {
        if !self.shared.job_log.refused.load(Ordering::Relaxed) {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(output, bytes);
        }
    }

    /// Sends output periodically until the run has ended.
    pub(super) async fn send(&self, end: &End) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(PACE) => self.flush(false).await,
                () = end.done() => break,
            }
        }
    }

    /// Sends the last lines, within a time limit.
    pub(super) async fn finish(&self) {
        if tokio::time::timeout(LAST, self.flush(true)).await.is_err() {
            tracing::debug!(job = %self.lease.id, "the last output did not reach the server in time");
        }
    }

    async fn flush(&self, is_last: bool) {
        let lock = || self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let body = lock().next(is_last, Instant::now());
        if body.is_empty() {
            return;
        }
        let sent = self.shared.client.log(self.lease, body).await;
        let is_over = matches!(sent, Ok(()) | Err(CallError::Refused { .. }));
        if is_over {
            lock().unsent.clear();
        }
        match sent {
            Ok(()) => {}
            Err(CallError::Refused { status, code: Some(Code::NoRoute), .. }) => {
                if !self.shared.job_log.refused.swap(true, Ordering::Relaxed) {
                    tracing::info!(
                        "the server does not keep the output of jobs ({status}); it is only in this log"
                    );
                }
            }
            Err(e) => tracing::debug!(job = %self.lease.id, "output did not reach the server: {e}"),
        }
    }
}

impl Waiting {
    fn push(&mut self, output: Output, bytes: &[u8]) {
        let bytes = bytes.get(bytes.len().saturating_sub(MAX_BYTES)..).unwrap_or(bytes);
        self.bytes += bytes.len();
        match self.chunks.back_mut() {
            Some((last, chunk)) if *last == output && chunk.len() < MAX_BYTES / 4 => {
                chunk.extend_from_slice(bytes)
            }
            _ => self.chunks.push_back((output, bytes.to_vec())),
        }
        while self.bytes > MAX_BYTES
            && let Some((_, dropped)) = self.chunks.pop_front()
        {
            self.bytes -= dropped.len();
        }
    }

    /// The next body: unacknowledged lines, then new ones.
    fn next(&mut self, is_last: bool, now: Instant) -> Bytes {
        let new = self.take(is_last, now);
        if self.unsent.is_empty() {
            self.unsent = new.into();
        } else if !new.is_empty() {
            self.unsent = [&self.unsent[..], new.as_bytes()].concat().into();
        }
        let surplus = self.unsent.len().saturating_sub(MAX_BODY);
        if surplus > 0 {
            let cut = memchr::memchr(b'\n', self.unsent.get(surplus - 1..).unwrap_or_default());
            self.unsent.advance(cut.map_or(self.unsent.len(), |end| surplus + end));
        }
        self.unsent.clone()
    }

    /// Takes the waiting lines, as NDJSON; at the end, or after a while, also those without an end.
    fn take(&mut self, is_last: bool, now: Instant) -> String {
        let mut lines: VecDeque<String> = VecDeque::new();
        let mut size = 0;
        let mut add = |output: Output, line: &[u8]| {
            let text = String::from_utf8_lossy(line);
            let Ok(json) = serde_json::to_string(&Line { stream: output, line: text }) else { return };
            size += json.len() + 1;
            lines.push_back(json);
            while size > MAX_BODY
                && let Some(dropped) = lines.pop_front()
            {
                size -= dropped.len() + 1;
            }
        };
        for (output, chunk) in self.chunks.drain(..) {
            let [out, err] = &mut self.partial;
            let partial = if output == Output::Stdout { out } else { err };
            let mut rest = &chunk[..];
            while let Some(piece) = partial.cutter.cut(&mut rest, !partial.bytes.is_empty()) {
                partial.bytes.extend_from_slice(piece.bytes);
                partial.since.get_or_insert(now);
                if piece.is_end {
                    add(output, &partial.bytes);
                    partial.bytes.clear();
                    partial.since = None;
                }
            }
            let surplus = partial.bytes.len().saturating_sub(MAX_BYTES);
            partial.bytes.drain(..surplus);
        }
        self.bytes = 0;
        let [out, err] = &mut self.partial;
        for (output, partial) in [(Output::Stdout, out), (Output::Stderr, err)] {
            let is_late = partial.since.is_some_and(|since| now - since >= PARTIAL_LINE);
            if !partial.bytes.is_empty() && (is_last || is_late) {
                add(output, &std::mem::take(&mut partial.bytes));
                partial.since = None;
            }
        }
        lines.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_the_rest_comes_last() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.push(Output::Stdout, b"a\nb");
        waiting.push(Output::Stderr, b"x\r\ny");
        waiting.push(Output::Stdout, b"c\n");
        let line = |stream: &str, line: &str| format!("{{\"stream\":\"{stream}\",\"line\":\"{line}\"}}\n");
        assert_eq!(
            waiting.take(false, now),
            line("stdout", "a") + &line("stderr", "x") + &line("stdout", "bc")
        );
        assert_eq!(waiting.take(false, now), "");
        assert_eq!(waiting.take(true, now), line("stderr", "y"));
    }

    #[test]
    fn unacknowledged_lines_are_sent_again_in_order() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        let line = |line: &str| format!("{{\"stream\":\"stdout\",\"line\":\"{line}\"}}\n");
        waiting.push(Output::Stdout, b"a\n");
        assert_eq!(waiting.next(false, now), line("a"));
        waiting.push(Output::Stdout, b"b\n");
        assert_eq!(waiting.next(false, now), line("a") + &line("b"));
        waiting.unsent.clear();
        waiting.push(Output::Stdout, b"c\n");
        assert_eq!(waiting.next(false, now), line("c"));
        for _ in 0..100 {
            waiting.push(Output::Stdout, ("ä".repeat(5_000) + "\n").as_bytes());
            let body = waiting.next(false, now);
            assert!(body.len() <= MAX_BODY && body.starts_with(b"{\"stream\"") && body.ends_with(b"\"}\n"));
        }
    }

    #[test]
    fn a_progress_bar_and_a_question_are_shown_while_they_wait() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.push(Output::Stderr, b"\r10%\r20%");
        waiting.push(Output::Stdout, b"go on? ");
        let line = |stream: &str, line: &str| format!("{{\"stream\":\"{stream}\",\"line\":\"{line}\"}}\n");
        assert_eq!(waiting.take(false, now), line("stderr", "10%"));
        let now = now + PARTIAL_LINE;
        assert_eq!(waiting.take(false, now), line("stdout", "go on? ") + &line("stderr", "20%"));
        assert_eq!(waiting.take(true, now), "");
    }

    #[test]
    fn of_too_much_the_end_is_kept() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for n in 0..100_000 {
            waiting.push(Output::Stdout, format!("{n}\n").as_bytes());
        }
        waiting.push(Output::Stderr, &[b'x'; 1000]);
        let body = waiting.take(false, now);
        assert!(body.len() < MAX_BODY && body.ends_with("\"line\":\"99999\"}\n"));
        for _ in 0..100 {
            waiting.push(Output::Stderr, &[b'x'; 10_000]);
            assert_eq!(waiting.take(false, now), "");
        }
        assert!(waiting.partial.iter().all(|partial| partial.bytes.len() <= MAX_BYTES));
    }
}
