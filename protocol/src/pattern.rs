//! What messages of the same kind have in common.

/// What stands in a pattern for numbers, ids, and quoted text.
const NUMBER: &str = "<n>";
const ID: &str = "<id>";
const TEXT: &str = "<text>";
/// From this length on, hex digits are an id, and so are letters mixed with digits.
const MIN_HEX: usize = 8;
const MIN_MIXED: usize = 16;

/// A message without what differs from one occurrence to the next: numbers, ids, and quoted text.
#[must_use]
pub fn pattern(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    let mut last = ' ';
    while let Some(c) = rest.chars().next() {
        let (placed, len) = if let Some(len) = quoted(rest, last) {
            (Some(TEXT), len)
        } else if c.is_ascii_alphanumeric() {
            let len = uuid(rest).unwrap_or_else(|| word(rest));
            let (word, _) = rest.split_at(len);
            if is_id(word) {
                (Some(ID), len)
            } else if c.is_ascii_digit() {
                (Some(NUMBER), number(rest))
            } else {
                (None, word.bytes().take_while(u8::is_ascii_alphabetic).count())
            }
        } else {
            (None, c.len_utf8())
        };
        let (part, after) = rest.split_at(len);
        out.push_str(placed.unwrap_or(part));
        last = part.chars().next_back().unwrap_or(c);
        rest = after;
    }
    out
}

/// The length of a quoted text at the start. `last` is the character before it: an apostrophe follows a letter.
fn quoted(text: &str, last: char) -> Option<usize> {
    let open = text.chars().next()?;
    let close = match open {
        '"' | '`' => open,
        '\'' if !last.is_alphanumeric() => '\'',
        '“' => '”',
        '‘' => '’',
        '«' => '»',
        _ => return None,
    };
    let mut inside = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = inside.next() {
        let is_apostrophe = close == '\'' && inside.peek().is_some_and(|(_, next)| next.is_alphanumeric());
        if c == close && !is_apostrophe {
            return Some(at + c.len_utf8());
        }
    }
    None
}

/// The length of the letters and digits at the start.
fn word(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_alphanumeric).count()
}

/// The length of a number at the start: digits, and more after a point: `1.5`, `10.0.0.1`.
fn number(text: &str) -> usize {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut len = digits(text);
    while let Some(more) = text.get(len..).and_then(|rest| rest.strip_prefix('.')).map(digits)
        && more > 0
    {
        len += 1 + more;
    }
    len
}

fn is_id(word: &str) -> bool {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    let is_hex = digits.len() >= MIN_HEX && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = word.bytes().all(|b| b.is_ascii_digit());
    let is_mixed = word.len() >= MIN_MIXED && word.bytes().any(|b| b.is_ascii_digit());
    uuid(word).is_some() || ((is_hex || is_mixed) && !is_number)
}

/// The length of a UUID (RFC 9562, section 4) at the start.
fn uuid(text: &str) -> Option<usize> {
    const LEN: usize = 36;
    let is_part_of_it = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    let bytes = text.as_bytes().get(..LEN)?;
    let ends = text.as_bytes().get(LEN).is_none_or(|next| !next.is_ascii_alphanumeric());
    (ends && bytes.iter().enumerate().all(is_part_of_it)).then_some(LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_messages_have_one_pattern() {
        for (message, expected) in [
            ("", ""),
            ("boom", "boom"),
            ("timed out after 30s", "timed out after <n>s"),
            ("timed out after 1.5s", "timed out after <n>s"),
            ("10.0.0.1:5432 refused. 3 tries.", "<n>:<n> refused. <n> tries."),
            ("worker12 has no job 007", "worker<n> has no job <n>"),
            ("-5 is below 0", "-<n> is below <n>"),
            ("no user deadbeef", "no user <id>"),
            ("no user dead", "no user dead"),
            ("no user 0xDEADBEEF01", "no user <id>"),
            ("order 12345678", "order <n>"),
            ("order 1234567890abcdef", "order <id>"),
            ("order 550e8400-e29b-41d4-a716-446655440000!", "order <id>!"),
            ("order abcdefab-cdef-abcd-efab-cdefabcdefab", "order <id>"),
            ("job 03f5lbmjwwc5ovzjxk1vnqq9z is gone", "job <id> is gone"),
            ("internationalization failed", "internationalization failed"),
            ("no file \"a b.txt\" in 'x'", "no file <text> in <text>"),
            ("no column `id`, “x”, ‘y’, «z»", "no column <text>, <text>, <text>, <text>"),
            ("can't open 'it's here': won't", "can't open <text>: won't"),
            ("it's 5 o'clock", "it's <n> o'clock"),
            ("an open \"quote 5", "an open \"quote <n>"),
            ("\"\"", "<text>"),
            ("größe 7 über 5 €", "größe <n> über <n> €"),
            ("a\nb 1", "a\nb <n>"),
            ("1.", "<n>."),
            ("v1.2.3-rc1", "v<n>-rc<n>"),
        ] {
            assert_eq!(pattern(message), expected, "{message}");
        }
    }
}
