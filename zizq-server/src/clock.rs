//! The only reader of the wall clock.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch. When the wall clock is set back, time goes on at its pace.
#[must_use]
pub fn now() -> u64 {
    static START: OnceLock<(Duration, Instant)> = OnceLock::new();
    let (wall, since) = START.get_or_init(|| (wall(), Instant::now()));
    let now = self::wall().max(*wall + since.elapsed());
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
