//! Thins the log out for people: when jobs end faster than anybody reads, it logs the progress instead of each success.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::logging::LogLevel;
use crate::stats::Stats;

/// Above MANY jobs per second the log is thinned out; below FEW it is complete again.
const MANY: u64 = 20;
const FEW: u64 = 5;
/// How often it logs the progress.
const PACE: Duration = Duration::from_secs(10);

static IS_ON: AtomicBool = AtomicBool::new(false);

/// Whether the log leaves out successes and the output of jobs.
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Watches the rate at which jobs end.
#[derive(Debug)]
pub(crate) struct Thinner {
    /// Not with `--log-level debug` or `trace`, which ask for every step.
    is_allowed: bool,
    is_on: bool,
    second: Instant,
    ended: u64,
    said: Instant,
}

/// What to log about the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Begins,
    GoesOn,
    Ends,
}

impl Thinner {
    pub(crate) fn new(level: LogLevel) -> Self {
        let now = Instant::now();
        Self { is_allowed: level == LogLevel::Info, is_on: false, second: now, ended: 0, said: now }
    }

    /// Checks the rate, about once a second, and logs the progress.
    pub(crate) fn look(&mut self, stats: &Stats) {
        let news = self.news(Instant::now(), stats.ended());
        IS_ON.store(self.is_on, Ordering::Relaxed);
        match news {
            Some(News::Begins) => tracing::info!(
                "more than {MANY} jobs per second: from now on the log has only failures, and the progress every {} s; \
                 --log-level debug logs every job, and `zizq-worker tail JOB` shows the output of one",
                PACE.as_secs()
            ),
            Some(News::GoesOn | News::Ends) => tracing::info!("{}", stats.how_it_goes()),
            None => {}
        }
    }

    fn news(&mut self, now: Instant, ended: u64) -> Option<News> {
        let time = now - self.second;
        if !self.is_allowed || time < Duration::from_secs(1) {
            return None;
        }
        let per_second = u128::from(ended - self.ended) * 1_000 / time.as_millis();
        (self.second, self.ended) = (now, ended);
        if self.is_on && per_second < FEW.into() {
            self.is_on = false;
            return Some(News::Ends);
        }
        if !self.is_on && per_second > MANY.into() {
            (self.is_on, self.said) = (true, now);
            return Some(News::Begins);
        }
        if self.is_on && now - self.said >= PACE {
            self.said = now;
            return Some(News::GoesOn);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_thins_out_by_itself_and_shows_the_progress() {
        let mut thinner = Thinner::new(LogLevel::Info);
        let start = thinner.second;
        let mut news = |ms: u64, ended| thinner.news(start + Duration::from_millis(ms), ended);
        assert_eq!(news(500, 100), None);
        assert_eq!(news(1_000, 20), None);
        assert_eq!(news(2_000, 320), Some(News::Begins));
        let more: Vec<_> = (3..=22).filter_map(|s| news(s * 1_000, 320 + 300 * s)).collect();
        assert_eq!(more, [News::GoesOn, News::GoesOn]);
        assert_eq!(news(23_000, 6_930), None, "slower, but still too fast to read");
        assert_eq!(news(24_000, 6_934), Some(News::Ends));
        assert_eq!(news(25_000, 6_944), None);
        assert_eq!(Thinner::new(LogLevel::Debug).news(start + PACE, 10_000), None);
    }
}
