//! The header `Retry-After`.

use std::time::UNIX_EPOCH;

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// When the other side wants to be asked again, in milliseconds since the Unix epoch. A value that is neither seconds
/// nor a date is as good as none.
pub(crate) fn at(headers: &HeaderMap, now_ms: u64) -> Option<u64> {
    parse(headers.get(RETRY_AFTER)?.to_str().ok()?, now_ms)
}

fn parse(value: &str, now_ms: u64) -> Option<u64> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(now_ms.saturating_add(seconds.saturating_mul(1000)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    u64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_dates_and_nonsense() {
        assert_eq!(parse("120", 5), Some(120_005));
        assert_eq!(parse(" 0 ", 5), Some(5));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT", 5), Some(784_111_777_000));
        for nonsense in ["", "-1", "1.5", "soon", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(parse(nonsense, 5), None, "{nonsense}");
        }
        assert_eq!(parse("18446744073709551615", 5), Some(u64::MAX));
    }
}
