//! Tables: columns as wide as what is in them, the least important left out where there is no room.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::{Line, Span};

use super::app::App;
use super::text::{cut, fold, width};

#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Numbers stand at the right.
    pub(super) right: bool,
    /// The most columns that it takes while others need room.
    pub(super) most: usize,
    /// The highest is the first to be left out; 0 stays.
    pub(super) drop: u8,
}

pub(super) const fn words(title: &'static str, most: usize, drop: u8) -> Column {
    Column { title, right: false, most, drop }
}

pub(super) const fn number(title: &'static str, drop: u8) -> Column {
    Column { title, right: true, most: 16, drop }
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    /// What the cursor stays on.
    pub(super) id: String,
    pub(super) cells: Vec<Line<'static>>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
    /// The column by which the rows are ordered, and whether the largest come first.
    pub(super) sorted: Option<(&'static str, bool)>,
    /// What stands above: totals of what is shown.
    pub(super) note: Line<'static>,
    /// What is said instead of rows.
    pub(super) empty: Vec<Line<'static>>,
}

impl Table {
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> + Clone {
        self.rows.iter().map(|row| row.id.as_str())
    }
}

/// What is said instead of rows: nothing before the server has answered, `at_all` where there is nothing to show, and that
/// `no_match` where a filter leaves nothing of it.
pub(super) fn empty(
    app: &App,
    is_known: bool,
    at_all: Vec<Line<'static>>,
    no_match: &str,
) -> Vec<Line<'static>> {
    match is_known {
        false => Vec::new(),
        true if app.list().filter.is_empty() => at_all,
        true => vec![Line::from(format!("{no_match}. Esc shows all."))],
    }
}

/// The space between columns.
const GAP: usize = 2;
/// The space for marks, at the left.
const MARK: usize = 2;

/// Texts that may be longer than this are cut where there is no room.
const SHORT: usize = 20;

/// How wide each column is; 0 is left out.
fn fit(columns: &[Column], content: &[usize], room: usize) -> Vec<usize> {
    let is_cut = |column: &Column| !column.right && column.most > SHORT;
    let least = |(column, content): (&Column, &usize)| match is_cut(column) {
        true => (*content).min((column.most / 2).max(width(column.title))),
        false => (*content).min(column.most),
    };
    let mut widths: Vec<usize> = columns.iter().zip(content).map(least).collect();
    let taken = |widths: &[usize]| {
        let shown = widths.iter().filter(|width| **width > 0);
        shown.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
    };
    // First the least important columns go, then what is left is cut further.
    while taken(&widths) > room {
        let shown = columns
            .iter()
            .enumerate()
            .zip(&widths)
            .filter(|((_, column), width)| column.drop > 0 && **width > 0);
        let Some(((last, _), _)) = shown.max_by_key(|((_, column), _)| column.drop) else { break };
        widths.iter_mut().skip(last).take(1).for_each(|width| *width = 0);
    }
    let mut over = taken(&widths).saturating_sub(room);
    for (_, width) in columns.iter().zip(&mut widths).filter(|(column, _)| is_cut(column)) {
        let gives = width.saturating_sub(SHORT / 4).min(over);
        (*width, over) = (*width - gives, over - gives);
    }
    // What is left goes to texts that are cut.
    let mut left = room.saturating_sub(taken(&widths));
    for (content, width) in content.iter().zip(&mut widths).filter(|(_, width)| **width > 0) {
        let more = content.saturating_sub(*width).min(left);
        (*width, left) = (*width + more, left - more);
    }
    widths
}

/// Draws the table, or why there is none, and notes where its rows are.
pub(super) fn draw(app: &mut App, frame: &mut Frame<'_>, area: Rect, table: &Table) {
    let buffer = frame.buffer_mut();
    let [note, rest] = split_top(area, 1);
    buffer.set_line(note.x, note.y, &cut(table.note.clone(), usize::from(note.width)), note.width);
    if table.rows.is_empty() {
        // Commands are shown whole, so that they can be copied.
        let room = usize::from(rest.width.saturating_sub(2)).max(1);
        let lines = table.empty.iter().flat_map(|line| {
            let style = line.spans.first().map_or(line.style, |span| line.style.patch(span.style));
            fold(&line.to_string(), room).into_iter().map(move |part| Line::from(part).style(style))
        });
        for (line, y) in lines.zip(rest.y + 1..rest.bottom()) {
            buffer.set_line(rest.x + 1, y, &line, rest.width);
        }
        return;
    }
    let [head, body] = split_top(rest, 1);
    let content: Vec<usize> = (0..table.columns.len())
        .map(|at| {
            let cells = table.rows.iter().filter_map(|row| row.cells.get(at)).map(Line::width);
            let title = table.columns.get(at).map_or(0, |column| width(&titled(column, table)));
            cells.max().unwrap_or_default().max(title)
        })
        .collect();
    let widths = fit(&table.columns, &content, usize::from(body.width).saturating_sub(MARK));
    let titles =
        table.columns.iter().map(|column| Line::from(titled(column, table)).bold()).collect::<Vec<_>>();
    buffer.set_line(head.x, head.y, &line(&table.columns, &titles, &widths, "  "), head.width);
    let height = usize::from(body.height);
    let ids: Vec<&str> = table.ids().collect();
    let list = app.list_mut();
    let cursor = list.settle(ids.iter().copied(), height);
    let top = list.top;
    for ((at, row), y) in table.rows.iter().enumerate().skip(top).zip(body.y..body.bottom()) {
        let mark = if list.all || list.marked.contains(&row.id) { "▌ " } else { "  " };
        let shown = line(&table.columns, &row.cells, &widths, mark);
        buffer.set_line(body.x, y, &shown, body.width);
        if cursor == Some(at) {
            let style = Style::reset().add_modifier(Modifier::REVERSED);
            buffer.set_style(Rect { y, height: 1, ..body }, style);
        }
    }
    app.places.rows = Some((body, top));
    app.places.height = height;
}

fn titled(column: &Column, table: &Table) -> String {
    match table.sorted {
        Some((title, desc)) if title == column.title => format!("{title}{}", if desc { "▼" } else { "▲" }),
        _ => column.title.to_owned(),
    }
}

fn line(columns: &[Column], cells: &[Line<'static>], widths: &[usize], mark: &'static str) -> Line<'static> {
    let mut spans = vec![Span::raw(mark)];
    for ((column, cell), columns) in columns.iter().zip(cells).zip(widths).filter(|(_, width)| **width > 0) {
        if spans.len() > 1 {
            spans.push(Span::raw(" ".repeat(GAP)));
        }
        let cell = cut(cell.clone(), *columns);
        let space = Span::raw(" ".repeat(columns.saturating_sub(cell.width())));
        let style = cell.style;
        let inner = cell.spans.into_iter().map(|span| span.patch_style(style));
        if column.right {
            spans.push(space);
            spans.extend(inner);
        } else {
            spans.extend(inner);
            spans.push(space);
        }
    }
    Line::from(spans)
}

/// The first lines of an area, and the rest.
pub(super) fn split_top(area: Rect, lines: u16) -> [Rect; 2] {
    let lines = lines.min(area.height);
    [Rect { height: lines, ..area }, Rect { y: area.y + lines, height: area.height - lines, ..area }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_give_way_by_their_importance() {
        let columns = [words("Name", 30, 0), number("Ready", 0), number("Dead", 1), words("Note", 24, 2)];
        let content = [40, 13, 5, 20];
        assert_eq!(fit(&columns, &content, 100), [40, 13, 5, 20], "there is room for all");
        assert_eq!(fit(&columns, &content, 70), [34, 13, 5, 12], "the name gets what is left");
        assert_eq!(fit(&columns, &content, 50), [28, 13, 5, 0], "the note is the first to go");
        assert_eq!(fit(&columns, &content, 33), [18, 13, 0, 0]);
        assert_eq!(fit(&columns, &content, 20), [5, 13, 0, 0], "what stays is cut");
    }
}
