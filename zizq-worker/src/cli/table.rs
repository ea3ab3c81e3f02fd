//! Text for a terminal: aligned columns, and foreign text on one line.

/// Formats rows under a header. Columns 1 to `numbers` are right-aligned, all others left-aligned.
pub(super) fn table(head: &[&str], rows: &[Vec<String>], numbers: usize) -> String {
    let width_of = |n: usize| {
        let cells = rows.iter().filter_map(|row| row.get(n)).map(String::as_str);
        cells.chain(head.get(n).copied()).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width_of).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (n, (cell, &width)) in cells.zip(&widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count().min(width));
            let is_number = (1..=numbers).contains(&n);
            let gap = if n == 0 { "" } else { "  " };
            line.push_str(gap);
            line.push_str(&if is_number { pad + cell } else { cell.to_owned() + &pad });
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Foreign text as one line of a terminal: no control characters, at most `most` characters.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !c.is_control())
        .take(most + 1)
        .collect();
    if line.chars().count() > most {
        line.pop();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_right_aligned_and_names_left_aligned() {
        let rows = [["a", "1", "x"], ["bcd", "1,234", "y"]].map(|row| row.map(ToOwned::to_owned).to_vec());
        assert_eq!(
            table(&["queue", "ready", ""], &rows, 1),
            "queue  ready\na          1  x\nbcd    1,234  y\n"
        );
        assert_eq!(table(&["queue"], &[], 0), "queue\n");
    }

    #[test]
    fn foreign_text_is_one_line() {
        assert_eq!(one_line("a\nb\x1b[31m\u{202e}", 10), "a b[31m\u{202e}");
        assert_eq!(one_line("1234567", 5), "12345…");
        assert_eq!(one_line("12345", 5), "12345");
    }
}
