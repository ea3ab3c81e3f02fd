//! Splits output into lines. A line ends at a line feed, at a carriage return (progress bars), or at both as one.

/// Splits output that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    /// The last line ended with a carriage return; a line feed that follows belongs to it.
    after_return: bool,
}

/// A piece of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) bytes: &'a [u8],
    /// The line ends here.
    pub(super) is_end: bool,
}

impl Cutter {
    /// Cuts the next piece off `bytes`. `is_within`: a part of its line came before.
    pub(super) fn cut<'a>(&mut self, bytes: &mut &'a [u8], is_within: bool) -> Option<Piece<'a>> {
        loop {
            let after_return = std::mem::take(&mut self.after_return);
            if bytes.is_empty() {
                self.after_return = after_return;
                return None;
            }
            let Some((piece, rest)) =
                memchr::memchr2(b'\n', b'\r', bytes).and_then(|at| bytes.split_at_checked(at))
            else {
                return Some(Piece { bytes: std::mem::take(bytes), is_end: false });
            };
            let (is_return, is_blank) = (rest.first() == Some(&b'\r'), piece.is_empty() && !is_within);
            *bytes = rest.get(1..).unwrap_or_default();
            self.after_return = is_return && !is_blank;
            // A progress bar begins with a carriage return, which is not a line.
            if is_blank && (is_return || after_return) {
                continue;
            }
            return Some(Piece { bytes: piece, is_end: true });
        }
    }

    /// Skips all of `bytes`. Returns about how many lines end in them.
    pub(super) fn skip(&mut self, bytes: &[u8]) -> usize {
        self.after_return = bytes.last() == Some(&b'\r');
        let count = |end| memchr::memchr_iter(end, bytes).count();
        count(b'\n').max(count(b'\r'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carriage_return_ends_a_line_as_a_line_feed_does_and_both_are_one_end() {
        for (pieces, expected) in [
            (&["a\nb\n"][..], &["a", "b"][..]),
            (&["a\r\nb\r\n"], &["a", "b"]),
            (&["a\r", "\nb"], &["a", "b…"]),
            (&["10%\r20%\r100%\n"], &["10%", "20%", "100%"]),
            (&["\r10%\r20%\r\n"], &["10%", "20%"]),
            (&["\r", "1", "0%", "\r", "\r20%"], &["10%", "20%…"]),
            (&["\n\n"], &["", ""]),
            (&["\r\n\r\n"], &["", ""]),
            (&["a\n\r\nb\n"], &["a", "", "b"]),
            (&["a", "", "b"], &["ab…"]),
            (&["a", "\n"], &["a"]),
        ] {
            let (mut cutter, mut lines, mut partial) = (Cutter::default(), Vec::new(), String::new());
            for text in pieces {
                let mut bytes = text.as_bytes();
                while let Some(piece) = cutter.cut(&mut bytes, !partial.is_empty()) {
                    partial += std::str::from_utf8(piece.bytes).unwrap();
                    if piece.is_end {
                        lines.push(std::mem::take(&mut partial));
                    }
                }
            }
            lines.extend((!partial.is_empty()).then(|| partial + "…"));
            assert_eq!(lines, expected, "{pieces:?}");
        }
    }
}
