//! Exponential backoff with jitter, for retries of calls.

use std::time::Duration;

/// The pauses between attempts: each about twice the one before, up to a limit, with jitter so that workers spread out.
#[derive(Debug)]
pub(crate) struct Backoff {
    pub(crate) base: Duration,
    limit: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) const fn new(base: Duration, limit: Duration) -> Self {
        Self { base, limit, failures: 0 }
    }

    /// The pause after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = pause(self.base, self.limit, self.failures, fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Records a success.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The pause after `failures` earlier failures in a row; `random` is in `0.0..1.0`.
fn pause(base: Duration, limit: Duration, failures: u32, random: f64) -> Duration {
    let full = base.saturating_mul(2_u32.saturating_pow(failures)).min(limit);
    full.mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn doubles_up_to_the_limit_and_is_spread_over_the_upper_half() {
        let longest = |failures| pause(BASE, LIMIT, failures, 1.0);
        assert_eq!([0, 1, 2].map(longest), [BASE, BASE * 2, BASE * 4]);
        assert_eq!([7, 31, 32, u32::MAX].map(longest), [LIMIT; 4]);
        assert_eq!(pause(BASE, LIMIT, 3, 0.0), BASE * 4);
    }

    #[test]
    fn a_success_resets_it() {
        let mut backoff = Backoff::new(BASE, LIMIT);
        assert!(backoff.next() <= BASE);
        assert!(backoff.next() >= BASE);
        backoff.reset();
        assert!(backoff.next() <= BASE);
    }
}
