//! The pause before a retry. The formula is here and nowhere else.

use protocol::job::Backoff;

/// `base_ms + attempts^exponent * 1000 + attempts * random(0, jitter_ms)`, in milliseconds.
///
/// `attempts` counts the failure that has just happened; `random` is drawn from 0 (included) to 1 (not included).
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits before")]
pub(in crate::engine) fn delay_ms(backoff: Backoff, attempts: u32, random: f64) -> u64 {
    /// The longest pause, whatever the exponent: a hundred years.
    const LONGEST_MS: f64 = 100.0 * 365.25 * 86_400_000.0;
    let attempts = f64::from(attempts);
    let growth = attempts.powf(f64::from(backoff.exponent)) * 1000.0;
    let jitter = attempts * random * f64::from(backoff.jitter_ms);
    (f64::from(backoff.base_ms) + growth + jitter).min(LONGEST_MS) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formula() {
        let default = Backoff { base_ms: 15_000, exponent: 4.0, jitter_ms: 30_000 };
        assert_eq!(delay_ms(default, 1, 0.0), 16_000);
        assert_eq!(delay_ms(default, 2, 0.5), 15_000 + 16_000 + 30_000);
        let none = Backoff { base_ms: 0, exponent: 0.0, jitter_ms: 0 };
        assert_eq!(delay_ms(none, 7, 0.9), 1_000);
        let steep = Backoff { base_ms: 0, exponent: 100.0, jitter_ms: 0 };
        assert_eq!(delay_ms(steep, u32::MAX, 0.0), 3_155_760_000_000);
    }

    /// 25 retries take about 25 days with the defaults, as the documentation says.
    #[test]
    fn the_defaults_give_up_after_weeks() {
        let default = Backoff { base_ms: 15_000, exponent: 4.0, jitter_ms: 30_000 };
        let total: u64 = (1..=25).map(|attempt| delay_ms(default, attempt, 0.5)).sum();
        assert!((20..30).contains(&(total / 86_400_000)), "{} days", total / 86_400_000);
    }
}
