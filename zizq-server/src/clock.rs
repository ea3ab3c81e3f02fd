//! Reads both clocks, the wall clock and the monotonic one. Nothing else does.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment by both clocks, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// The wall clock, since the Unix epoch. It may be set in either direction. Times that users see or give are by
    /// this clock.
    pub wall: u64,
    /// The monotonic clock. Its origin means nothing; only differences do.
    pub up: u64,
}

/// A moment in a world where the wall clock is never set.
impl From<u64> for Time {
    fn from(wall: u64) -> Self {
        Self { wall, up: wall }
    }
}

/// Returns the present moment.
#[must_use]
pub(crate) fn now() -> Time {
    static START: OnceLock<(Duration, Instant)> = OnceLock::new();
    let (wall, instant) = both();
    let (first, since) = *START.get_or_init(|| (wall, instant));
    moment(wall, first + instant.saturating_duration_since(since))
}

/// Reads both clocks at the same time; repeats if the thread was interrupted between the two.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn both() -> (Duration, Instant) {
    const APART: Duration = Duration::from_micros(100);
    const TRIES: usize = 10;
    let read = || {
        let before = Instant::now();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (wall, before)
    };
    (1..TRIES).map(|_| read()).find(|(_, before)| before.elapsed() < APART).unwrap_or_else(read)
}

/// Converts two clock readings into a moment. Both clocks tick together: if each were cut to milliseconds separately,
/// what takes one second by one clock could take 999 ms by the other.
fn moment(wall: Duration, up: Duration) -> Time {
    let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 2);
    let set_by = (micros(wall) - micros(up) + 500).div_euclid(1_000);
    let up = millis(up);
    Time { wall: up.saturating_add_signed(set_by), up }
}

/// The wall clock, in seconds since the Unix epoch, as certificates have it.
#[must_use]
pub(crate) fn seconds() -> i64 {
    i64::try_from(now().wall / 1_000).unwrap_or(i64::MAX)
}

/// Converts a duration to milliseconds.
#[must_use]
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_measure_the_same_duration_while_neither_is_set() {
        for apart in [-400_i64, -1, 0, 1, 50, 400, 5_000_000, 3_600_000_250, -86_400_000_400] {
            for start in (0..1_000).step_by(37) {
                for length in [0, 1, 999, 1_000, 999_999, 1_000_000, 1_000_001] {
                    let at = |micros: u64| {
                        let up = 1_000_000_000_000 + micros;
                        moment(
                            Duration::from_micros(up.saturating_add_signed(apart)),
                            Duration::from_micros(up),
                        )
                    };
                    let (from, to) = (at(start), at(start + length));
                    assert_eq!(
                        to.wall - from.wall,
                        to.up - from.up,
                        "{apart} apart, {length} µs from {start}"
                    );
                    assert!(
                        from.wall.abs_diff(from.up.saturating_add_signed(apart / 1_000)) <= 1,
                        "{apart} apart"
                    );
                }
            }
        }
    }

    #[test]
    fn a_clock_before_the_epoch_is_at_the_epoch() {
        assert_eq!(moment(Duration::ZERO, Duration::from_secs(5)), Time { wall: 0, up: 5_000 });
    }
}
