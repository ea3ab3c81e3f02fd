//! Readers of the values of flags, whose errors name what is allowed.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU64};
use std::str::FromStr;

/// Reads the address and port to listen on.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address and port, such as 127.0.0.1:7891"))
}

/// A whole number that a flag can hold, with its range in words.
pub(crate) trait Number: FromStr {
    const RANGE: &str;
}

impl Number for NonZeroU16 {
    const RANGE: &str = "from 1 to 65535";
}

impl Number for NonZeroU64 {
    const RANGE: &str = "from 1";
}

impl Number for u16 {
    const RANGE: &str = "from 0 to 65535";
}

impl Number for u32 {
    const RANGE: &str = "from 0 to 4294967295";
}

/// Reads a number; the error names the range, not what the parser tripped over.
pub(crate) fn number<N: Number>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number {}", N::RANGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_refused_is_told_its_range() {
        assert_eq!(number::<NonZeroU64>("0"), Err("`0` is not a number from 1".to_owned()));
        assert_eq!(number::<u16>("abc"), Err("`abc` is not a number from 0 to 65535".to_owned()));
        assert_eq!(number::<u16>("65536"), Err("`65536` is not a number from 0 to 65535".to_owned()));
        assert_eq!(number::<NonZeroU16>("7").map(NonZeroU16::get), Ok(7));
    }
}
