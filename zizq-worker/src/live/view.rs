//! The lines of the live view.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use protocol::plural::plural;
use tokio::time::Instant;
use zizq_log::grouped;

use crate::stats::{Board, Failed, Slot, Stats, rounded};

/// The most jobs that are shown; others are only counted.
const MAX_SHOWN: usize = 20;
/// The fewest jobs that are shown.
const MIN_SHOWN: usize = 2;
/// How many lines are left for the log.
const LOG: usize = 4;
/// Below this width, bars are short.
const WIDE: usize = 70;
/// The weight of the last second in the average rate.
const FOLLOWS: f64 = 0.2;

/// The average rate of ended jobs.
#[derive(Debug, Default)]
pub(super) struct View {
    before: Option<(Instant, u64)>,
    rate: f64,
}

impl View {
    /// The lines for a terminal of this size: failures, running jobs, progress.
    pub(super) fn lines(&mut self, stats: &Stats, rows: usize, columns: usize) -> Vec<String> {
        let now = Instant::now();
        self.look(now, stats.ended());
        let board = stats.board();
        let mut lines: Vec<String> = board.failures.iter().map(|failed| failure(failed, now)).collect();
        if !lines.is_empty() {
            lines.insert(0, "last failures:".to_owned());
        }
        let room = rows.saturating_sub(lines.len() + 2 + LOG).clamp(MIN_SHOWN, MAX_SHOWN);
        lines.extend(board.slots.values().take(room).map(|slot| running(slot, now, columns)));
        lines.push(self.progress(&board, stats, now, columns));
        lines.push(counts(&board, stats, board.slots.len().saturating_sub(room)));
        lines
    }

    fn look(&mut self, now: Instant, ended: u64) {
        let (at, before) = *self.before.get_or_insert((now, ended));
        let time = (now - at).as_secs_f64();
        if time < 0.9 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "jobs per second are few")]
        let rate = ended.saturating_sub(before) as f64 / time;
        self.rate = if self.rate > 0.0 { FOLLOWS.mul_add(rate - self.rate, self.rate) } else { rate };
        self.before = Some((now, ended));
    }

    /// The progress; the most important first, because a narrow terminal cuts the rest.
    fn progress(&self, board: &Board, stats: &Stats, now: Instant, columns: usize) -> String {
        let running = u64::try_from(board.slots.len()).unwrap_or_default();
        let speed = format!("{:.1} jobs/s", self.rate);
        let Some((done, total)) = board.rest.done(stats.started.load(Relaxed), running) else {
            return format!("{} done · {speed}", grouped(stats.ended()));
        };
        let left = match board.rest.time_left(now) {
            Some(time) if total > done => format!(" · {} to go", rounded(time)),
            _ => String::new(),
        };
        #[expect(clippy::cast_precision_loss, reason = "it is for a bar")]
        let bar = bar(if total > 0 { done as f64 / total as f64 } else { 1.0 }, columns);
        let (left_over, done) = (grouped(total - done), grouped(done));
        format!("{bar}{done} of {} done{left} · {left_over} left · {speed}", grouped(total))
    }
}

fn counts(board: &Board, stats: &Stats, hidden: usize) -> String {
    let (well, failed) =
        (stats.succeeded.load(Relaxed), stats.failed.load(Relaxed) + stats.dead.load(Relaxed));
    let hidden = if hidden > 0 { format!(" ({hidden} not shown)") } else { String::new() };
    let open = board.streams.values().filter(|&&open| open).count();
    let (running, streams) = (board.slots.len(), board.streams.len());
    let (well, failed) = (grouped(well), grouped(failed));
    let noun = plural(streams, "stream", "streams");
    format!(
        "{running} running{hidden} · {well} succeeded · {failed} failed · {open} of {streams} {noun} open"
    )
}

/// One line about a failed job.
fn failure(failed: &Failed, now: Instant) -> String {
    let Failed { at, what, message } = failed;
    format!("  {} {}: {}", ago(now.duration_since(*at)), plain(what), plain(message))
}

fn ago(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds:>3}s ago"),
        60..3_600 => format!("{:>3}m ago", seconds / 60),
        _ => format!("{:>3}h ago", seconds / 3_600),
    }
}

/// One line about a running job.
fn running(slot: &Slot, now: Instant, columns: usize) -> String {
    let seconds = now.duration_since(slot.since).as_secs();
    let time = format!("{:02}:{:02}", seconds / 60, seconds % 60);
    let bar = slot.progress.progress.map_or_else(String::new, |progress| {
        format!("{}{:3.0} % ", bar(progress, columns), progress * 100.0)
    });
    let message = slot.progress.message.as_deref().unwrap_or_default();
    format!("  {time} {} {bar}{}", plain(&slot.what), plain(message))
}

/// A bar, if there is room for one.
fn bar(progress: f64, columns: usize) -> String {
    let length: u8 = if columns >= WIDE { 20 } else { 8 };
    let full = (0..length).filter(|&n| f64::from(n) < progress * f64::from(length)).count();
    format!("[{}{}] ", "#".repeat(full), "-".repeat(usize::from(length) - full))
}

/// The text in one line, without control characters.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use protocol::id::JobId;
    use protocol::outcome::Failure;

    use super::*;
    use crate::outcome::Outcome;
    use crate::report::Progress;

    #[tokio::test]
    async fn the_view_shows_failures_running_jobs_and_progress() {
        let stats = Stats::default();
        stats.board().streams.insert("q".to_owned(), true);
        for n in 1..=38 {
            stats.begins(JobId::from_u128(n), format!("q/t photo-{n}.jpg"), Instant::now());
        }
        for n in 1..=8 {
            let failure = Failure { message: format!("no such file {n}\x1b[31m"), ..Failure::default() };
            stats.ends(JobId::from_u128(n), &Outcome::Failure(failure), 1, None);
        }
        let progress = Progress { progress: Some(0.25), message: Some("halfway\nthere".to_owned()) };
        stats.board().slots.get_mut(&JobId::from_u128(9)).unwrap().progress = progress;
        stats.board().rest.add(Instant::now(), 49_962, 38);
        let mut view = View::default();
        let lines = view.lines(&stats, 24, 80);
        let failures = (4..=8).map(|n| format!("    0s ago q/t photo-{n}.jpg: no such file {n} [31m"));
        assert_eq!(lines[..6], ["last failures:".to_owned()].into_iter().chain(failures).collect::<Vec<_>>());
        assert_eq!(lines[6], "  00:00 q/t photo-9.jpg [#####---------------]  25 % halfwaythere");
        assert_eq!(lines[7], "  00:00 q/t photo-10.jpg ");
        assert_eq!(
            lines[18..],
            [
                "[#-------------------] 8 of 50,000 done · 49,992 left · 0.0 jobs/s",
                "30 running (18 not shown) · 0 succeeded · 8 failed · 1 of 1 stream open"
            ]
        );
        assert_eq!(lines.len() + LOG, 24);
        assert_eq!(view.lines(&stats, 8, 40).len(), 6 + MIN_SHOWN + 2, "a small one shows the least");
        assert!(view.lines(&stats, 24, 40)[6].ends_with("[##------]  25 % halfwaythere"));
    }
}
