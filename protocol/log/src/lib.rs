//! A log to standard error that never blocks the code that logs.
//!
//! ```text
//! event ──► Few: limits each kind ──► format ──► Log: bounded bytes ──► thread ──► standard error
//! ```
//!
//! Logging never waits for the reader: lines that do not fit are dropped and counted. And no peer or job can flood the
//! log: of the messages from one line of code, a few pass per period, and the others are counted.
#![warn(missing_docs)]

mod few;
mod queue;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use std::{panic, thread};

use tracing_subscriber::fmt::MakeWriter;

pub use self::few::Few;
use self::few::Sites;
use self::queue::Queue;

/// The target of messages about the log itself.
pub const TARGET: &str = "zizq_log";

/// How long the last lines may take at exit.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How long a panic waits until it is written.
const PANIC: Duration = Duration::from_millis(100);

/// The queue of lines. Clones share it. Each write, such as a line, is accepted as a whole or dropped; it never waits and
/// never fails.
#[derive(Debug, Clone)]
pub struct Log {
    queue: Arc<Queue>,
    sites: Arc<Sites>,
}

impl Log {
    /// Starts the thread that writes to `out`.
    #[must_use]
    pub fn start(out: impl Write + Send + 'static) -> Self {
        let log = Self { queue: Arc::default(), sites: Arc::default() };
        let writer = log.clone();
        thread::spawn(move || writer.write_to(out));
        log
    }

    /// The filter that passes a few messages of each kind. Messages with one of these targets are bounded elsewhere.
    #[must_use]
    pub fn few(&self, bounded: &'static [&'static str]) -> Few {
        Few::new(self.clone(), bounded)
    }

    /// Waits until everything is written, within a time limit, because there may be no reader left. Returns whether it is.
    pub fn finish(&self) -> bool {
        self.tell_left_out(true);
        self.queue.wait_until_empty(LAST_LINES)
    }

    /// Turns panics into log lines. A panicking thread waits only briefly for the reader; the process may be about to end.
    pub fn take_panics(&self) {
        let queue = self.queue.clone();
        panic::set_hook(Box::new(move |info| {
            tracing::error!(target: TARGET, "{info}");
            queue.wait_until_empty(PANIC);
        }));
    }

    fn write_to(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        loop {
            let dropped = self.queue.next(&mut lines, || self.sites.due());
            if dropped > 0 {
                tracing::warn!(target: TARGET, dropped, "{}", said(dropped));
            }
            if !lines.is_empty() {
                // Without a reader there is nothing to be done.
                out.write_all(&lines).and_then(|()| out.flush()).ok();
            }
            self.tell_left_out(false);
        }
    }

    fn tell_left_out(&self, is_last: bool) {
        for left in self.sites.left_out(is_last) {
            let (n, seconds, message) = (left.n, left.seconds, left.message);
            let (level, text) =
                (left.level, format!("and {} more in {seconds} s like: {message}", grouped(n)));
            if level == tracing::Level::ERROR {
                tracing::error!(target: TARGET, left_out = n, "{text}");
            } else {
                tracing::warn!(target: TARGET, left_out = n, "{text}");
            }
        }
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.queue.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn said(dropped: u64) -> String {
    let (lines, were) = if dropped == 1 { ("line", "was") } else { ("lines", "were") };
    format!(
        "{} log {lines} {were} dropped, because standard error was not read fast enough",
        grouped(dropped)
    )
}

/// A number with thousands separators: `1,234`.
#[must_use]
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its singular or plural: `1 job`, `1,234 jobs`.
#[must_use]
pub fn counted(n: u64, [one, many]: [&str; 2]) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests;
