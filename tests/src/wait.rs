//! Waiting, with an end.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// After this long a test gives up: well over the 30 s that the server itself grants, such as for a body that pauses, on a
/// machine with other work.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits for `future`.
///
/// # Panics
/// When [`PATIENCE`] is over, naming `what` was awaited.
pub async fn within<T>(what: impl Display, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Asks `probe` again and again until it gives a value: for what the contract has no signal for.
///
/// # Panics
/// When [`PATIENCE`] is over, naming `what` was awaited.
pub async fn until<T>(what: impl Display, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    let attempts = async {
        loop {
            pace.tick().await;
            if let Some(value) = probe().await {
                return value;
            }
        }
    };
    within(what, attempts).await
}

/// The time in milliseconds since the Unix epoch; the servers under test share our clock.
#[expect(clippy::disallowed_methods, reason = "here is the one place where the tests read the clock")]
#[must_use]
pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
