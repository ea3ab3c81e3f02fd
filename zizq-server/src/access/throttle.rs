//! Slows down those who guess.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::caller::Caller;
use crate::hash::HashMap;

/// How many wrong guesses a minute are answered at once.
const FREE: u32 = 9;
const WINDOW_MS: u64 = 60_000;
/// How late the others are answered.
pub(super) const PENALTY: Duration = Duration::from_secs(1);
/// How many callers are remembered. With more, the penalty is for all.
const MAX_CALLERS: usize = 10_000;

/// The wrong guesses of the last minute.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<HashMap<Caller, Guesses>>);

#[derive(Debug, Clone, Copy)]
struct Guesses {
    since: u64,
    count: u32,
}

impl Throttle {
    /// Notes a wrong guess. `up`: by the clock that never steps. Returns how long its answer must wait.
    pub(super) fn failed(&self, caller: Caller, up: u64) -> Duration {
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= MAX_CALLERS && !callers.contains_key(&caller) {
            callers.retain(|_, guesses| up.saturating_sub(guesses.since) < WINDOW_MS);
            if callers.len() >= MAX_CALLERS {
                return PENALTY;
            }
        }
        let guesses = callers.entry(caller).or_insert(Guesses { since: up, count: 0 });
        if up.saturating_sub(guesses.since) >= WINDOW_MS {
            *guesses = Guesses { since: up, count: 0 };
        }
        guesses.count = guesses.count.saturating_add(1);
        if guesses.count > FREE { PENALTY } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenth_guess_of_a_minute_waits() {
        let at = |text: &str| Caller::at(text.parse().unwrap());
        let throttle = Throttle::default();
        for n in 1..=20 {
            let wait = throttle.failed(at("10.0.0.1"), 5);
            assert_eq!(wait.is_zero(), n < 10, "guess {n}");
        }
        assert!(throttle.failed(at("10.0.0.2"), 5).is_zero(), "another caller is not to blame");
        assert!(throttle.failed(at("10.0.0.1"), 5 + WINDOW_MS).is_zero(), "it was a minute ago");
        for n in 0..20_u16 {
            let wait = throttle.failed(at(&format!("2001:db8::{n:x}")), 5);
            assert_eq!(wait.is_zero(), n < 9, "all addresses of one network are one caller");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        let at = |n: u32| Caller::at(std::net::Ipv4Addr::from(n).into());
        for n in 0..u32::try_from(MAX_CALLERS).unwrap() {
            assert!(throttle.failed(at(n), 0).is_zero());
        }
        assert!(!throttle.failed(at(u32::MAX), 1).is_zero(), "nobody is forgotten to make room");
        assert_eq!(throttle.0.lock().unwrap().len(), MAX_CALLERS);
        assert!(throttle.failed(at(u32::MAX), WINDOW_MS).is_zero());
        assert_eq!(throttle.0.lock().unwrap().len(), 1);
    }
}
