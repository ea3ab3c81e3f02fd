//! The stored form of output: lines, each followed by one byte that ends it and names its stream. Such a byte never
//! occurs in UTF-8, so lines are found wherever a text is cut, and a line takes as much as in a file.

use std::borrow::Cow;

use protocol::log::{MAX_KEPT_BYTES, Output};

const END_STDOUT: u8 = 0xff;
const END_STDERR: u8 = 0xfe;

/// Whether a byte ends a line.
pub(crate) const fn is_end(byte: u8) -> bool {
    byte >= END_STDERR
}

/// Whether a byte continues the character of the byte before it.
pub(super) const fn is_continued(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// Appends printed text line by line. A line longer than all that is kept is cut at its start.
pub(crate) fn push(text: &mut Vec<u8>, output: Output, printed: &str) {
    const MAX_LINE: usize = MAX_KEPT_BYTES - 1;
    let printed = printed.strip_suffix('\n').unwrap_or(printed);
    for line in printed.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let line = line.get(line.ceil_char_boundary(line.len().saturating_sub(MAX_LINE))..).unwrap_or(line);
        text.extend_from_slice(line.as_bytes());
        text.push(match output {
            Output::Stdout => END_STDOUT,
            Output::Stderr => END_STDERR,
        });
    }
}

/// The lines of a text, and their streams.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = (Output, Cow<'_, str>)> {
    text.split_inclusive(|&byte| is_end(byte)).filter_map(|line| {
        let (end, line) = line.split_last()?;
        let output = if *end == END_STDERR { Output::Stderr } else { Output::Stdout };
        Some((output, String::from_utf8_lossy(line)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Vec<(Output, String)> {
        lines(text).map(|(output, line)| (output, line.into_owned())).collect()
    }

    #[test]
    fn lines_survive_a_round_trip() {
        let mut text = Vec::new();
        push(&mut text, Output::Stdout, "a\r\nä\n");
        push(&mut text, Output::Stderr, "");
        push(&mut text, Output::Stdout, "\nno end");
        let line = |output, line: &str| (output, line.to_owned());
        let (out, err) = (Output::Stdout, Output::Stderr);
        assert_eq!(
            read(&text),
            [line(out, "a"), line(out, "ä"), line(err, ""), line(out, ""), line(out, "no end")]
        );
    }

    #[test]
    fn the_end_of_a_line_that_is_too_long_is_kept() {
        let mut text = Vec::new();
        push(&mut text, Output::Stdout, &format!("{}ä{}", "x".repeat(10), "y".repeat(MAX_KEPT_BYTES - 2)));
        assert_eq!(text.len(), MAX_KEPT_BYTES - 1, "characters are kept whole");
        assert_eq!(read(&text), [(Output::Stdout, "y".repeat(MAX_KEPT_BYTES - 2))]);
    }
}
