//! Text that others wrote, made fit for a terminal: without control codes, and cut by the width that it takes there.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

/// The text without what a terminal would obey: control characters, sequences that begin with an escape, and characters
/// that turn the direction of what follows. A tab or a line break is a space.
pub(super) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => skip_sequence(&mut chars),
            '\u{9b}' => skip_csi(&mut chars),
            '\n' | '\t' | '\u{2028}' | '\u{2029}' => clean.push(' '),
            char if char.is_control() || turns(char) => {}
            char => clean.push(char),
        }
    }
    clean
}

/// Whether a character changes the direction of other text: it would move what stands behind it.
const fn turns(char: char) -> bool {
    matches!(char, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Skips what follows an escape (ECMA-48, 5.3 and 5.4).
fn skip_sequence(chars: &mut Chars<'_>) {
    match chars.next() {
        Some('[') => skip_csi(chars),
        // Strings end with BEL or ST.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(char) = chars.next() {
                if matches!(char, '\u{7}' | '\u{9c}')
                    || (char == '\u{1b}' && chars.next_if_eq(&'\\').is_some())
                {
                    return;
                }
            }
        }
        Some(' '..='/') => drop(chars.next()),
        _ => {}
    }
}

/// Skips parameters and the final character.
fn skip_csi(chars: &mut Chars<'_>) {
    while chars.next_if(|char| matches!(char, ' '..='?')).is_some() {}
    chars.next_if(|char| matches!(char, '@'..='~'));
}

/// How many columns a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The line, cut to so many columns; an ellipsis says that it was cut.
pub(super) fn cut(line: Line<'static>, columns: usize) -> Line<'static> {
    if line.width() <= columns {
        return line;
    }
    let mut room = columns.saturating_sub(1);
    let mut spans: Vec<Span<'static>> = Vec::new();
    let mut last = Style::default();
    'line: for span in &line.spans {
        let mut kept = String::new();
        last = span.style;
        for grapheme in span.styled_graphemes(Style::default()) {
            let width = grapheme.symbol.width();
            if width > room {
                spans.push(Span::styled(kept, span.style));
                break 'line;
            }
            room -= width;
            kept.push_str(grapheme.symbol);
        }
        spans.push(Span::styled(kept, span.style));
    }
    if columns > 0 {
        spans.push(Span::styled("…", last));
    }
    Line { spans, style: line.style, alignment: line.alignment }
}

/// The text in lines of so many columns, broken where the columns end.
pub(super) fn fold(text: &str, columns: usize) -> Vec<String> {
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for grapheme in Span::raw(text).styled_graphemes(Style::default()) {
        let width = grapheme.symbol.width();
        if used + width > columns && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        line.push_str(grapheme.symbol);
        used += width;
    }
    lines.push(line);
    lines
}

/// The text in lines of so many columns, broken between words.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().filter(|line| !line.is_empty());
        match line {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            line => {
                let mut parts = fold(word, columns);
                if line.is_none() {
                    lines.pop();
                }
                lines.append(&mut parts);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_taken_out() {
        for (text, clean_text) in [
            ("plain", "plain"),
            ("a\x1b[31;1mb\x1b[0mc", "abc"),
            ("a\x1b]52;c;aGk=\x07b", "ab"),
            ("a\x1b]0;title\x1b\\b", "ab"),
            ("a\x1bP1$r0m\x1b\\b", "ab"),
            ("a\x1b(Bb", "ab"),
            ("a\x1bcb\x1b", "ab"),
            ("a\u{9b}2Jb", "ab"),
            ("a\x07\x08\x00\x7f\u{85}b", "ab"),
            ("a\tb\r\nc", "a b c"),
            ("a\u{202e}b\u{2066}c\u{200f}", "abc"),
            ("\x1b[", ""),
            ("\x1b]never ends", ""),
            ("naïve 日本 👩‍💻 שלום", "naïve 日本 👩‍💻 שלום"),
        ] {
            assert_eq!(clean(text), clean_text, "{text:?}");
        }
    }

    #[test]
    fn lines_are_cut_by_their_width() {
        let shown = |text: &str, columns| cut(Line::from(text.to_owned()), columns).to_string();
        assert_eq!(shown("abcd", 4), "abcd");
        assert_eq!(shown("abcde", 4), "abc…");
        assert_eq!(shown("日本語", 6), "日本語");
        assert_eq!(shown("日本語", 5), "日本…");
        assert_eq!(shown("日本語", 4), "日…");
        assert_eq!(shown("👩‍💻👩‍💻👩‍💻", 5), "👩‍💻👩‍💻…");
        assert_eq!(shown("abc", 0), "");
        let line = Line::from(vec![Span::raw("ab"), Span::raw("cd"), Span::raw("ef")]);
        assert_eq!(cut(line, 4).to_string(), "abc…");
    }

    #[test]
    fn texts_are_folded_by_their_width() {
        assert_eq!(fold("abcdef", 4), ["abcd", "ef"]);
        assert_eq!(fold("a日本b", 3), ["a日", "本b"]);
        assert_eq!(fold("", 3), [""]);
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a abcdefghij b", 4), ["a", "abcd", "efgh", "ij b"]);
        assert_eq!(wrap("", 3), [""]);
    }
}
