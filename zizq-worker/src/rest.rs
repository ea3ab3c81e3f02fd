//! Estimates how many jobs are left and how long they will take.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The time over which the rate is measured.
const WINDOW: Duration = Duration::from_secs(60);

/// Recent answers of the server about the jobs that are left.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rest {
    /// Times, and how many jobs were ready.
    samples: VecDeque<(Instant, u64)>,
    /// How many jobs this worker had started at the last sample.
    begun: u64,
    /// The largest number of jobs, done and not done.
    total: u64,
}

impl Rest {
    /// Adds a sample: the number of ready jobs, and of jobs that this worker has started.
    pub(crate) fn add(&mut self, now: Instant, ready: u64, begun: u64) {
        self.samples.retain(|&(at, _)| now.duration_since(at) <= WINDOW);
        self.samples.push_back((now, ready));
        self.begun = begun;
        self.total = self.total.max(begun.saturating_add(ready));
    }

    /// How many jobs are done, of how many. `begun`: jobs that this worker has started; `running`: those still running.
    /// Running jobs of other workers are unknown and count as done.
    pub(crate) fn done(&self, begun: u64, running: u64) -> Option<(u64, u64)> {
        let (_, ready) = self.samples.back()?;
        let ready = ready.saturating_sub(begun.saturating_sub(self.begun));
        Some((self.total.saturating_sub(ready.saturating_add(running)), self.total))
    }

    /// How long the ready jobs will take if their number keeps falling at the recent rate, whoever runs them.
    pub(crate) fn time_left(&self, now: Instant) -> Option<Duration> {
        let (&(begin, many), &(end, few)) = (self.samples.front()?, self.samples.back()?);
        let (time, fewer) = (end.duration_since(begin), many.checked_sub(few).filter(|&fewer| fewer > 0)?);
        #[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
        let left = time.mul_f64((few as f64 / fewer as f64).min(1e6));
        Some(left.saturating_sub(now.duration_since(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_and_for_how_long() {
        let (mut rest, start) = (Rest::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!((rest.done(0, 0), rest.time_left(start)), (None, None));
        rest.add(at(0), 1_000, 8);
        assert_eq!((rest.done(8, 8), rest.time_left(at(0))), (Some((0, 1_008)), None));
        rest.add(at(10), 900, 108);
        assert_eq!(rest.done(108, 8), Some((100, 1_008)));
        assert_eq!(rest.done(118, 8), Some((110, 1_008)), "jobs started since then are no longer ready");
        assert_eq!(rest.time_left(at(10)), Some(Duration::from_secs(90)));
        assert_eq!(rest.time_left(at(20)), Some(Duration::from_secs(80)));
        // Other workers also run some.
        rest.add(at(20), 100, 120);
        assert_eq!(rest.done(120, 8), Some((900, 1_008)));
        // New ones come.
        rest.add(at(30), 5_000, 200);
        assert_eq!((rest.done(200, 8), rest.time_left(at(30))), (Some((192, 5_200)), None));
        // Old samples do not count.
        rest.add(at(91), 4_000, 1_200);
        rest.add(at(101), 3_000, 2_200);
        assert_eq!(rest.time_left(at(101)), Some(Duration::from_secs(30)));
    }
}
