//! Durations and sizes in flags, environment variables and files.
//!
//! A number without a unit is refused: `64` means megabytes to one reader and bytes to another.

use std::time::Duration;

/// The longest duration, about a thousand years: every clock can add it to its time.
pub const LONGEST: Duration = Duration::from_secs(1_000 * 365 * 86_400);

/// Reads a duration: `500ms`, `15s`, `1h 30m`, `7d`; only `0` needs no unit.
///
/// # Errors
/// A sentence that says how to write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let how = "write it like 500ms, 15s, 2h or 7d";
    if text.trim().is_empty() {
        return Err(format!("it is empty; {how}"));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{text}` has no unit: is it {text}ms, {text}s or {text}m?"));
    }
    if text.split(|c: char| !c.is_alphabetic()).any(|unit| unit == "M") {
        return Err(format!("the `M` in `{text}` could be minutes or months; write m or months"));
    }
    let read =
        humantime::parse_duration(text).map_err(|e| format!("`{text}` is no length of time: {e}; {how}"))?;
    if read > LONGEST {
        return Err(format!("`{text}` is longer than a thousand years"));
    }
    if read.subsec_nanos() % 1_000_000 != 0 {
        return Err(format!("`{text}` is not a whole number of milliseconds"));
    }
    Ok(read)
}

/// Reads a size in bytes: `64KB` (64,000), `256MB`, `1GiB` (1,073,741,824); only `0` needs no unit.
///
/// # Errors
/// A sentence that says how to write it.
pub fn size(text: &str) -> Result<u64, String> {
    if text == "0" {
        return Ok(0);
    }
    let how = "write it like 64KB, 256MB or 1GiB";
    if text.trim().is_empty() {
        return Err(format!("it is empty; {how}"));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{text}` has no unit: is it {text}MB, or really {text}B?"));
    }
    let read = text.parse::<bytesize::ByteSize>();
    match read.map_err(|_| format!("`{text}` is no size; {how}"))?.as_u64() {
        size if i64::try_from(size).is_ok() => Ok(size),
        _ => Err(format!("`{text}` is more than any machine has")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("15s", 15_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("2weeks", 1_209_600_000),
            ("15 s", 15_000),
        ] {
            assert_eq!(duration(text).map(|read| read.as_millis()), Ok(ms), "{text}");
        }
        for (text, said) in [
            ("", "it is empty; write it like"),
            ("  ", "it is empty"),
            ("30", "`30` has no unit: is it 30ms, 30s or 30m?"),
            ("00", "has no unit"),
            ("5M", "could be minutes or months"),
            ("1d 5M", "could be minutes or months"),
            ("-5s", "`-5s` is no length of time"),
            ("5 apples", "is no length of time"),
            ("1:30", "is no length of time"),
            ("soon", "is no length of time"),
            ("5MB", "is no length of time"),
            ("1us", "is not a whole number of milliseconds"),
            ("10ns", "is not a whole number of milliseconds"),
            ("99999y", "is longer than a thousand years"),
            ("99999999999999999999s", "is no length of time"),
            ("١s", "is no length of time"),
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("0B", 0),
            ("512B", 512),
            ("64KB", 64_000),
            ("64kB", 64_000),
            ("64k", 64_000),
            ("1.5MB", 1_500_000),
            ("1MiB", 1 << 20),
            ("1 GiB", 1 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, said) in [
            ("", "it is empty; write it like"),
            (" ", "it is empty"),
            ("64", "`64` has no unit: is it 64MB, or really 64B?"),
            ("999999999999999999999999", "has no unit"),
            ("-1", "is no size"),
            ("-1MB", "is no size"),
            (" 64MB", "is no size"),
            ("64MB ", "is no size"),
            ("64 parsecs", "is no size"),
            ("64s", "is no size"),
            ("1e3MB", "is no size"),
            ("1,5GB", "is no size"),
            ("NaN", "is no size"),
            ("inf GB", "is no size"),
            ("99999999999999999PB", "is more than any machine has"),
        ] {
            let error = size(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
