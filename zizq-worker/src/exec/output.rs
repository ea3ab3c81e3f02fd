//! What a command prints: every line to the log, the last ones kept. Both in bounded memory, whatever it prints.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use protocol::id::JobId;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::logging::JOB_OUTPUT;

/// The longest line in the log, in bytes; the rest of it is left out.
const MAX_LINE: usize = 4 << 10;
/// The most lines of one job and stream that are logged in a second; the rest is left out.
const MAX_LINES_PER_SECOND: u64 = 1_000;
/// How much of the end of the output is kept.
const TAIL_BYTES: usize = 8 << 10;
const TAIL_LINES: usize = 50;

/// How long to read on after a command has ended and its group was killed: only a process that left the group can still
/// hold a pipe open then.
const GRACE: Duration = Duration::from_millis(500);

/// The end of a command, for those who read what it writes.
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

    /// Waits until there is no sense in reading on.
    pub(super) async fn over(&self) {
        self.done().await;
        sleep(GRACE).await;
    }
}

/// Reads a pipe to its end. Says whether it came.
pub(super) async fn pump(
    pipe: Option<impl AsyncRead + Unpin>,
    end: &End,
    mut sink: impl FnMut(&[u8]),
) -> bool {
    let Some(mut pipe) = pipe else { return true };
    let mut buf = vec![0; 16 << 10];
    let mut over = pin!(end.over());
    loop {
        let read = tokio::select! {
            biased;
            read = pipe.read(&mut buf) => read,
            () = &mut over => return false,
        };
        match read {
            Ok(0) => return true,
            Ok(n) => sink(buf.get(..n).unwrap_or_default()),
            Err(e) => {
                tracing::debug!("the output of a command cannot be read: {e}");
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
        // A bad byte has become a character of three.
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
    /// The start of a line whose end has not come yet.
    partial: Vec<u8>,
    second: Instant,
    lines: u64,
}

impl LineLog {
    pub(super) fn new(job: JobId, stream: &'static str) -> Self {
        Self { job, stream, partial: Vec::new(), second: Instant::now(), lines: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.next_second();
        }
        if self.lines >= MAX_LINES_PER_SECOND
            && let Some(last) = memchr::memrchr(b'\n', bytes)
        {
            // Whatever comes before the last line is only counted, and that is quick.
            self.partial.clear();
            let (counted, rest) = bytes.split_at(last + 1);
            self.lines += u64::try_from(memchr::memchr_iter(b'\n', counted).count()).unwrap_or(u64::MAX);
            return self.push_lines(rest);
        }
        self.push_lines(bytes);
    }

    fn push_lines(&mut self, mut bytes: &[u8]) {
        while let Some((line, rest)) = memchr::memchr(b'\n', bytes).and_then(|at| bytes.split_at_checked(at))
        {
            if self.partial.is_empty() {
                self.line(line);
            } else {
                self.begin(line);
                let line = std::mem::take(&mut self.partial);
                self.line(&line);
            }
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.begin(bytes);
    }

    /// Keeps the start of a line, one byte more than is logged: that shows that there was more.
    fn begin(&mut self, piece: &[u8]) {
        let room = (MAX_LINE + 1).saturating_sub(self.partial.len()).min(piece.len());
        self.partial.extend_from_slice(piece.get(..room).unwrap_or(piece));
    }

    fn line(&mut self, line: &[u8]) {
        self.lines += 1;
        if self.lines > MAX_LINES_PER_SECOND {
            return;
        }
        let (Self { job, stream, .. }, line) = (self, line.strip_suffix(b"\r").unwrap_or(line));
        let text = match line.get(..MAX_LINE) {
            Some(start) if start.len() < line.len() => format!("{}…", String::from_utf8_lossy(start)).into(),
            _ => String::from_utf8_lossy(line),
        };
        tracing::info!(target: JOB_OUTPUT, %job, stream, "{text}");
    }

    fn next_second(&mut self) {
        let left_out = self.lines.saturating_sub(MAX_LINES_PER_SECOND);
        if left_out > 0 {
            let Self { job, stream, .. } = self;
            tracing::warn!(target: JOB_OUTPUT, %job, stream, "{left_out} more lines came too fast to be logged");
        }
        (self.second, self.lines) = (Instant::now(), 0);
    }

    /// Logs what is left: a last line without an end.
    pub(super) fn finish(mut self) {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.line(&line);
        }
        self.next_second();
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

    #[tokio::test]
    async fn a_line_without_end_takes_no_memory() {
        let mut log = LineLog::new(JobId::from_u128(1), "stdout");
        for _ in 0..100 {
            log.push(&[b'x'; 10_000]);
        }
        assert_eq!(log.partial.len(), MAX_LINE + 1);
        log.push(b"\nshort\nrest");
        assert_eq!(log.partial, b"rest");
        assert_eq!(log.lines, 2);
    }
}
