//! Numbers, times and sizes for people: as the dashboard shows them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use protocol::unit;

/// What stands for a value that nobody knows.
pub(super) const NONE: &str = "–";

/// 1234567 -> "1,234,567"
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// "1 job", "2 jobs"
pub(super) fn plural(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Events per second.
pub(super) fn rate(n: f64) -> String {
    match n {
        n if n <= 0.0 => "0".to_owned(),
        n if n < 0.05 => "<0.1".to_owned(),
        n if n < 99.95 => format!("{n:.1}"),
        n => count(rounded(n)),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn rounded(n: f64) -> u64 {
    n.round() as u64
}

/// Milliseconds -> "350 ms", "1.2 s", "4 min 5 s", "2 h 10 min", "3 d 4 h"
pub(super) fn duration(ms: u64) -> String {
    let two = |n: u64, unit: &str, rest: u64, small: &str| match rest {
        0 => format!("{} {unit}", count(n)),
        rest => format!("{} {unit} {rest} {small}", count(n)),
    };
    let s = (ms + 500) / 1_000;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..9_950 => format!("{}.{} s", (ms + 50) / 1_000, (ms + 50) / 100 % 10),
        _ if s < 60 => format!("{s} s"),
        _ if s < 3_600 => two(s / 60, "min", s % 60, "s"),
        _ if s < 86_400 => two(s / 3_600, "h", s % 3_600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3_600, "h"),
    }
}

/// As [`duration`], with one unit: for columns that tick.
pub(super) fn age(ms: u64) -> String {
    match ms / 1_000 {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3_600 => format!("{} min", s / 60),
        s @ 3_600..172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", count(s / 86_400)),
    }
}

/// How long ago or in what time something is.
pub(super) fn ago(at: u64, now: u64) -> String {
    if at > now { format!("in {}", age(at - now)) } else { age(now - at) }
}

/// 1234567 -> "1.2 MB"
pub(super) fn bytes(n: u64) -> String {
    let (mut unit, mut size) = (1_u64, "B");
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if n / unit < 1_000 {
            break;
        }
        (unit, size) = (unit.saturating_mul(1_000), next);
    }
    let whole = n / unit;
    if unit > 1 && whole < 100 {
        format!("{whole}.{} {size}", n % unit * 10 / unit)
    } else {
        format!("{whole} {size}")
    }
}

/// Milliseconds since 1970 -> "2026-11-29 12:03:07"
pub(super) fn time(at: u64, zone: &TimeZone) -> String {
    let at = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    at.map_or_else(
        || NONE.to_owned(),
        |at| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// Only the clock.
pub(super) fn clock(at: u64, zone: &TimeZone) -> String {
    time(at, zone).get(11..).unwrap_or(NONE).to_owned()
}

/// "90s", "1h30m", "2d" -> milliseconds.
pub(super) fn read_duration(text: &str) -> Option<u64> {
    unit::duration(text).ok().and_then(|length| u64::try_from(length.as_millis()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_for_people() {
        let of = |shown: fn(u64) -> String, n: &[u64]| n.iter().map(|n| shown(*n)).collect::<Vec<_>>();
        assert_eq!(of(count, &[0, 999, 1_000, 1_234_567_890]), ["0", "999", "1,000", "1,234,567,890"]);
        assert_eq!(
            of(bytes, &[0, 999, 1_000, 99_949, 123_456, 1_500_000_000]),
            ["0 B", "999 B", "1.0 kB", "99.9 kB", "123 kB", "1.5 GB"]
        );
        assert_eq!(
            of(duration, &[0, 999, 1_234, 9_960, 65_000, 7_800_000, 266_400_000, 60_000]),
            ["0 ms", "999 ms", "1.2 s", "10 s", "1 min 5 s", "2 h 10 min", "3 d 2 h", "1 min"]
        );
        assert_eq!(
            of(age, &[0, 59_999, 60_000, 3_600_000, 172_800_000]),
            ["0 s", "59 s", "1 min", "1 h", "2 d"]
        );
        assert_eq!([0.0, 0.01, 3.12, 99.94, 1234.5].map(rate), ["0", "<0.1", "3.1", "99.9", "1,235"]);
        assert_eq!(time(1_796_000_000_123, &TimeZone::UTC), "2026-11-30 00:53:20");
        assert_eq!(clock(1_796_000_000_123, &TimeZone::UTC), "00:53:20");
    }
}
