//! The only reader of clocks: the one on the wall, and one that only counts.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment, by both clocks, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// By the clock on the wall, since the Unix epoch. It may be set, in either direction. Times that people see or
    /// give are by this one.
    pub wall: u64,
    /// By a clock that never steps. What it counts from means nothing: only how much has passed does.
    pub up: u64,
}

/// A moment in a world in which nobody sets the clock on the wall.
impl From<u64> for Time {
    fn from(wall: u64) -> Self {
        Self { wall, up: wall }
    }
}

/// The moment at which this is called.
#[must_use]
pub fn now() -> Time {
    static START: OnceLock<(Duration, Instant)> = OnceLock::new();
    let wall = wall();
    let (first, since) = START.get_or_init(|| (wall, Instant::now()));
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Time { wall: millis(wall), up: millis(*first + since.elapsed()) }
}

#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
