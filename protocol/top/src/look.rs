//! How things look: the 16 colours of the terminal on its own background, and less where it has less.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::format::{self, NONE};
use super::text::clean;

pub(super) const READY: Color = Color::Blue;
pub(super) const FLIGHT: Color = Color::Cyan;
pub(super) const SCHEDULED: Color = Color::Magenta;
pub(super) const DONE: Color = Color::Green;
pub(super) const DEAD: Color = Color::Red;
pub(super) const WARN: Color = Color::Yellow;

/// Text that others wrote.
pub(super) fn told(text: &str) -> Line<'static> {
    Line::from(clean(text))
}

pub(super) fn dim(text: impl Into<String>) -> Line<'static> {
    Line::from(Span::raw(text.into()).dim())
}

pub(super) fn none() -> Line<'static> {
    dim(NONE)
}

/// A number; zero recedes.
pub(super) fn num(n: u64) -> Line<'static> {
    if n == 0 { dim("0") } else { Line::from(format::count(n)) }
}

/// A number in a colour; zero recedes.
pub(super) fn num_in(n: u64, color: Color) -> Line<'static> {
    if n == 0 { dim("0") } else { Line::from(format::count(n).fg(color)) }
}

/// The mark and the word of a status.
pub(super) fn status(status: &str) -> Line<'static> {
    let (mark, word, color) = match status {
        "scheduled" => ("◷", "scheduled", SCHEDULED),
        "ready" => ("○", "ready", READY),
        "in_flight" => ("▶", "in flight", FLIGHT),
        "completed" => ("✓", "completed", DONE),
        "dead" => ("✗", "dead", DEAD),
        _ => return told(status),
    };
    Line::from(format!("{mark} {word}").fg(color))
}

/// A bar of so many columns: parts in their colours, and the rest of `all` empty.
pub(super) fn bar(parts: &[(u64, Color)], all: u64, columns: u64) -> Line<'static> {
    let mut spans = Vec::new();
    let (mut sum, mut drawn) = (0_u64, 0);
    for (n, color) in parts {
        sum = sum.saturating_add(*n);
        let mut until = sum.saturating_mul(columns).checked_div(all).unwrap_or_default().min(columns);
        // What is there is seen.
        if *n > 0 && until <= drawn && drawn < columns {
            until = drawn + 1;
        }
        if until > drawn {
            spans.push(repeated("█", until - drawn).fg(*color));
            drawn = until;
        }
    }
    if drawn < columns {
        spans.push(repeated("·", columns - drawn).dim());
    }
    Line::from(spans)
}

fn repeated(text: &str, times: u64) -> Span<'static> {
    Span::raw(text.repeat(usize::try_from(times).unwrap_or_default()))
}

/// Takes all colours away.
pub(super) fn without_colours(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        cell.set_style(Style::new().fg(Color::Reset).bg(Color::Reset));
    }
}

/// Replaces what is not ASCII: lines and bars by what resembles them, other characters by a question mark.
pub(super) fn to_ascii(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        let symbol = cell.symbol();
        if symbol.is_ascii() {
            continue;
        }
        let wide = symbol.width() > 1;
        let plain = match symbol.chars().next().unwrap_or(' ') {
            '─' | '━' | '–' | '—' => "-",
            '│' | '▌' | '▎' => "|",
            '┌' | '┐' | '└' | '┘' | '├' | '┤' | '┬' | '┴' | '┼' => "+",
            '█' | '▓' => "#",
            '·' | '…' => ".",
            '▼' => "v",
            '▲' => "^",
            '▶' => ">",
            '✓' => "+",
            '✗' => "x",
            '○' | '●' | '◷' => "o",
            '⚠' => "!",
            '‖' => "=",
            '⠀' => " ",
            dots @ '⠁'..='⣿' if (u32::from(dots) - 0x2800).count_ones() > 2 => "*",
            '⠁'..='⣿' => ".",
            _ => "?",
        };
        cell.set_symbol(plain);
        debug_assert!(!wide || plain == "?", "only text is wide");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_what_is_there() {
        let of = |parts: &[u64], all| {
            let parts: Vec<(u64, Color)> = parts.iter().map(|n| (*n, READY)).collect();
            bar(&parts, all, 10).to_string()
        };
        assert_eq!(of(&[5, 5], 20), "█████·····");
        assert_eq!(of(&[1, 1], 1_000_000), "██········", "a little is not nothing");
        assert_eq!(of(&[0], 0), "··········");
        assert_eq!(of(&[30], 10), "██████████");
    }
}
