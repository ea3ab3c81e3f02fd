//! The output of a command: logs every line and keeps the last ones, both in bounded memory and at a bounded rate.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use protocol::id::JobId;
use protocol::plural::plural;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::lines::Cutter;
use crate::logging::JOB_OUTPUT;
use crate::thin;

/// The longest line in the log, in bytes; the rest is cut off.
const MAX_LINE: usize = 4 << 10;
/// The most lines and bytes per second that are logged of one stream of a job; the rest is left out.
const MAX_LINES_PER_SECOND: u64 = 1_000;
const MAX_BYTES_PER_SECOND: usize = 256 << 10;
/// How long the start of a line waits for its end: a prompt has none.
pub(super) const PARTIAL_LINE: Duration = Duration::from_secs(1);
/// How much of the end of the output is kept.
const TAIL_BYTES: usize = 8 << 10;
const TAIL_LINES: usize = 50;

/// How long to read after a command has ended and its group was killed: only a process that left the group can then hold
/// a pipe open.
const GRACE: Duration = Duration::from_millis(500);

/// Signals the end of a command to the readers of its output.
#[derive(Debug, Default)]
pub(super) struct End(watch::Sender<bool>);

impl End {
    pub(super) fn reached(&self) {
        self.0.send_replace(true);
    }

    /// Waits for the end.
    pub(super) async fn done(&self) {
        drop(self.0.subscribe().wait_for(|&done| done).await);
    }

    /// Waits until reading on is pointless.
    pub(super) async fn over(&self) {
        self.done().await;
        sleep(GRACE).await;
    }
}

/// Reads a pipe to its end. Returns whether the end came. The sink is also called without bytes, periodically.
pub(super) async fn pump(
    pipe: Option<impl AsyncRead + Unpin>,
    end: &End,
    mut sink: impl FnMut(&[u8]),
) -> bool {
    let Some(mut pipe) = pipe else { return true };
    let mut buf = vec![0; 16 << 10];
    let mut over = pin!(end.over());
    let mut ticks = interval(PARTIAL_LINE / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let read = tokio::select! {
            biased;
            read = pipe.read(&mut buf) => read,
            () = &mut over => return false,
            _ = ticks.tick() => {
                sink(&[]);
                continue;
            }
        };
        match read {
            Ok(0) => return true,
            Ok(n) => sink(buf.get(..n).unwrap_or_default()),
            Err(e) => {
                tracing::debug!("cannot read the output of a command: {e}");
                return true;
            }
        }
    }
}

/// The last bytes of an output.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<u8>);

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let fresh = bytes.get(bytes.len().saturating_sub(TAIL_BYTES)..).unwrap_or(bytes);
        let surplus = (self.0.len() + fresh.len()).saturating_sub(TAIL_BYTES);
        self.0.drain(..surplus);
        self.0.extend(fresh);
    }

    /// The last lines, as text of at most [`TAIL_BYTES`].
    pub(super) fn text(mut self) -> String {
        let text = String::from_utf8_lossy(self.0.make_contiguous());
        let body = text.trim_end_matches('\n');
        let lines = body.rmatch_indices('\n').nth(TAIL_LINES - 1).map_or(0, |(at, _)| at + 1);
        // An invalid byte became a character of three bytes.
        let surplus = text.len().saturating_sub(TAIL_BYTES);
        let bytes = (surplus..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
        text.get(lines.max(bytes)..).unwrap_or_default().to_owned()
    }
}

/// Logs an output line by line.
#[derive(Debug)]
pub(super) struct LineLog {
    job: JobId,
    stream: &'static str,
    cutter: Cutter,
    /// The start of a line whose end has not come yet, and its time.
    partial: Vec<u8>,
    since: Instant,
    second: Instant,
    /// What was logged in this second, and how many lines were left out.
    lines: u64,
    bytes: usize,
    left_out: u64,
}

impl LineLog {
    pub(super) fn new(job: JobId, stream: &'static str, now: Instant) -> Self {
        let (cutter, partial) = (Cutter::default(), Vec::new());
        Self { job, stream, cutter, partial, since: now, second: now, lines: 0, bytes: 0, left_out: 0 }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8], now: Instant) {
        if now - self.second >= Duration::from_secs(1) {
            self.tell_left_out();
            (self.second, self.lines, self.bytes, self.left_out) = (now, 0, 0, 0);
        }
        if self.is_full()
            && let Some(last) = memchr::memrchr2(b'\n', b'\r', bytes)
        {
            // Lines before the last one are only counted, which is fast.
            self.partial.clear();
            let (counted, rest) = bytes.split_at(last + 1);
            self.left_out += u64::try_from(self.cutter.skip(counted)).unwrap_or(u64::MAX);
            bytes = rest;
        }
        while let Some(piece) = self.cutter.cut(&mut bytes, !self.partial.is_empty()) {
            if piece.is_end && self.partial.is_empty() {
                self.line(piece.bytes);
                continue;
            }
            if self.partial.is_empty() {
                self.since = now;
            }
            self.begin(piece.bytes);
            if piece.is_end {
                self.end_partial();
            }
        }
        if now - self.since >= PARTIAL_LINE {
            self.end_partial();
        }
    }

    const fn is_full(&self) -> bool {
        self.lines >= MAX_LINES_PER_SECOND || self.bytes >= MAX_BYTES_PER_SECOND
    }

    /// Keeps the start of a line, with one byte more than is logged to show that it was cut.
    fn begin(&mut self, piece: &[u8]) {
        let room = (MAX_LINE + 1).saturating_sub(self.partial.len()).min(piece.len());
        self.partial.extend_from_slice(piece.get(..room).unwrap_or(piece));
    }

    /// Logs the start of a line that has come so far.
    fn end_partial(&mut self) {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.line(&line);
        }
    }

    fn line(&mut self, line: &[u8]) {
        if self.is_full() {
            self.left_out += 1;
            return;
        }
        if thin::is_on() {
            // The log of the job has it.
            return;
        }
        let text = match line.get(..MAX_LINE) {
            Some(start) if start.len() < line.len() => format!("{}…", String::from_utf8_lossy(start)).into(),
            _ => String::from_utf8_lossy(line),
        };
        self.lines += 1;
        self.bytes += text.len();
        let Self { job, stream, .. } = self;
        tracing::info!(target: JOB_OUTPUT, %job, stream, "{text}");
    }

    fn tell_left_out(&self) {
        if self.left_out > 0 {
            let Self { job, stream, left_out, .. } = self;
            let were = plural(*left_out, "line was", "lines were");
            let left_out = zizq_log::grouped(*left_out);
            tracing::warn!(target: JOB_OUTPUT, %job, stream, "{left_out} {were} left out: the job prints too fast; its log on the server has the latest output");
        }
    }

    /// Logs the last line, if it has no end.
    pub(super) fn finish(mut self) {
        self.end_partial();
        self.tell_left_out();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(pieces: &[&[u8]]) -> String {
        let mut tail = Tail::default();
        pieces.iter().for_each(|piece| tail.push(piece));
        tail.text()
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        assert_eq!(tail(&[]), "");
        assert_eq!(tail(&[b"a\nb", b"c\n"]), "a\nbc\n");
        let lines: Vec<String> = (0..100).map(|n| format!("line {n}\n")).collect();
        let text = tail(&[lines.concat().as_bytes()]);
        assert_eq!(text, lines[50..].concat());
    }

    #[test]
    fn the_tail_is_bounded_however_the_output_comes() {
        let many = [b"0123456789".as_slice(); 10_000];
        for text in [tail(&many), tail(&[&many.concat()])] {
            assert_eq!(text.len(), TAIL_BYTES);
            assert!(text.ends_with("789"));
        }
        let bad = tail(&[&[0xff; 20_000]]);
        assert!(bad.len() <= TAIL_BYTES && bad.ends_with('\u{fffd}'));
    }

    fn log() -> (LineLog, Instant) {
        let now = Instant::now();
        (LineLog::new(JobId::from_u128(1), "stdout", now), now)
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let (mut log, now) = log();
        for _ in 0..100 {
            log.push(&[b'x'; 10_000], now);
        }
        assert_eq!(log.partial.len(), MAX_LINE + 1);
        log.push(b"\nshort\nrest", now);
        assert_eq!(log.partial, b"rest");
        assert_eq!(log.lines, 2);
    }

    #[test]
    fn the_start_of_a_line_is_logged_when_its_end_does_not_come() {
        let (mut log, now) = log();
        let at = |ms| now + Duration::from_millis(ms);
        log.push(b"password: ", at(100));
        log.push(b"", at(1_000));
        assert_eq!(log.partial, b"password: ");
        log.push(b"", at(1_100));
        assert_eq!((log.partial.len(), log.lines), (0, 1));
        // So is a line that keeps growing.
        for n in 0..=10 {
            log.push(b".", at(2_000 + 100 * n));
        }
        assert_eq!((log.partial.len(), log.lines), (0, 1));
    }

    #[test]
    fn the_log_is_bounded_in_lines_and_bytes_per_second() {
        for (line, most) in [("x\n".to_owned(), 1_000), ("x".repeat(4_000) + "\n", 66)] {
            let (mut log, now) = log();
            log.push(line.repeat(5_000).as_bytes(), now);
            assert_eq!((log.lines, log.left_out), (most, 5_000 - most));
            log.push(line.repeat(10).as_bytes(), now);
            assert_eq!((log.lines, log.left_out), (most, 5_010 - most));
        }
    }
}
