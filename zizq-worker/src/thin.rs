//! A log for people: where jobs come and go faster than anybody reads, it says how it goes instead of what each one did.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::logging::LogLevel;
use crate::stats::Stats;

/// Above so many jobs in a second the log becomes thin, and below so many it is as before.
const MANY: u64 = 20;
const FEW: u64 = 5;
/// How often it says how it goes.
const PACE: Duration = Duration::from_secs(10);

static IS_ON: AtomicBool = AtomicBool::new(false);

/// Whether the log leaves out what single jobs print, and that they succeeded.
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Watches how many jobs end.
#[derive(Debug)]
pub(crate) struct Thinner {
    /// Who asks for every step gets it.
    is_allowed: bool,
    is_on: bool,
    second: Instant,
    ended: u64,
    said: Instant,
}

/// What to tell of it.
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

    /// Looks how fast it goes, about once a second, and says how it goes.
    pub(crate) fn look(&mut self, stats: &Stats) {
        let news = self.news(Instant::now(), stats.ended());
        IS_ON.store(self.is_on, Ordering::Relaxed);
        match news {
            Some(News::Begins) => tracing::info!(
                "more than {MANY} jobs end in a second: from now on only failures are logged, and every {} s how it \
                 goes; --log-level debug logs every job, and what a job prints is in its log on the server",
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
    fn the_log_becomes_thin_by_itself_and_says_how_it_goes() {
        let mut thinner = Thinner::new(LogLevel::Info);
        let start = thinner.second;
        let mut news = |ms: u64, ended| thinner.news(start + Duration::from_millis(ms), ended);
        assert_eq!(news(500, 100), None);
        assert_eq!(news(1_000, 20), None);
        assert_eq!(news(2_000, 320), Some(News::Begins));
        let more: Vec<_> = (3..=22).filter_map(|s| news(s * 1_000, 320 + 300 * s)).collect();
        assert_eq!(more, [News::GoesOn, News::GoesOn]);
        assert_eq!(news(23_000, 6_930), None, "it goes slowly, but not so slowly that all can be read");
        assert_eq!(news(24_000, 6_934), Some(News::Ends));
        assert_eq!(news(25_000, 6_944), None);
        assert_eq!(Thinner::new(LogLevel::Debug).news(start + PACE, 10_000), None);
    }
}
