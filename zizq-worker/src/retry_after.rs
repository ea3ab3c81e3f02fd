//! Reads the header `Retry-After` (RFC 9110, 10.2.3).

use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// The longest pause that is obeyed.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The pause that the other side asks for, at most [`LONGEST`]. A date is relative to this machine's clock. A value that is
/// neither seconds nor a date is ignored.
pub(crate) fn pause(headers: &HeaderMap, now_ms: u64) -> Option<Duration> {
    parse(headers.get(RETRY_AFTER)?.to_str().ok()?, now_ms)
}

fn parse(value: &str, now_ms: u64) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that overflows is a long time.
        return Some(value.parse().map_or(LONGEST, |seconds| Duration::from_secs(seconds).min(LONGEST)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let now = UNIX_EPOCH + Duration::from_millis(now_ms);
    Some(date.duration_since(now).unwrap_or_default().min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_dates_and_nonsense() {
        let at = 784_111_777_000;
        let seconds = |value| parse(value, at).map(|pause| pause.as_secs());
        for (value, expected) in [
            ("120", 120),
            (" 0 ", 0),
            ("86400", 86_400),
            ("86401", 86_400),
            ("1797682573901", 86_400),
            ("18446744073709551615", 86_400),
            ("99999999999999999999999999", 86_400),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:36 GMT", 0),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ] {
            assert_eq!(seconds(value), Some(expected), "{value}");
        }
        for nonsense in ["", "-1", "+1", "1.5", "soon", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(parse(nonsense, at), None, "{nonsense}");
        }
    }
}
