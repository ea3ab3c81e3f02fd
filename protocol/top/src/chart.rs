//! Charts of dots.

use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType};
use serde_json::Value;

use super::data::Look;
use super::format;
use super::table::split_top;

/// A line of a chart: the series of the history, what it is called, and its colour.
pub(super) type Series = (&'static str, &'static str, Color);

/// What the numbers of a chart are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Events of a step, shown per second.
    PerSecond,
    Jobs,
    Milliseconds,
}

/// Draws series of an answer of `GET /stats/history`.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    history: &Value,
    series: &[Series],
    (title, unit): (&str, Unit),
    zone: &TimeZone,
) {
    let (from, step) =
        (history.num("from").unwrap_or_default(), history.num("step_ms").unwrap_or(1_000).max(1));
    let scale = if unit == Unit::PerSecond { 1_000.0 / as_f64(step) } else { 1.0 };
    // A step that is not over yet, or that nobody measured, is a gap in the line.
    let lines: Vec<Vec<(f64, f64)>> = series
        .iter()
        .map(|(name, ..)| {
            let values = history.list(&format!("/series/{name}")).iter().enumerate();
            values.filter_map(|(x, value)| Some((index(x), value.as_f64()? * scale))).collect()
        })
        .collect();
    let steps =
        series.iter().map(|(name, ..)| history.list(&format!("/series/{name}")).len()).max().unwrap_or(0);
    let most = lines.iter().flatten().map(|(_, y)| *y).fold(0.0, f64::max);
    let top = round_up(most, unit);
    let [head, body] = split_top(area, 1);
    let mut legend = vec![Span::raw(title.to_owned()).bold()];
    for ((_, label, color), line) in series.iter().zip(&lines) {
        let last = line.last().map_or_else(|| format::NONE.to_owned(), |(_, y)| shown(*y, unit));
        legend.push(Span::raw(format!("  {label} ")).fg(*color));
        legend.push(Span::raw(last));
    }
    let legend = super::text::cut(Line::from(legend), usize::from(head.width));
    frame.buffer_mut().set_line(head.x, head.y, &legend, head.width);
    let sets = series.iter().zip(&lines).map(|((_, _, color), line)| {
        let set = Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line);
        set.style(Style::new().fg(*color)).data(line)
    });
    let end = from + step * u64::try_from(steps).unwrap_or_default();
    let x = Axis::default().bounds([0.0, index(steps.saturating_sub(1)).max(1.0)]).style(Style::new().dim());
    let y = Axis::default().bounds([0.0, top]).style(Style::new().dim());
    let y = y.labels([Line::from("0"), Line::from(shown(top, unit))]);
    let x = x.labels([Line::from(short(from, step, zone)), Line::from(short(end, step, zone))]);
    frame.render_widget(Chart::new(sets.collect()).x_axis(x).y_axis(y).legend_position(None), body);
}

/// The clock, or the day where steps are longer.
fn short(at: u64, step: u64, zone: &TimeZone) -> String {
    let time = format::time(at, zone);
    let part = match step {
        0..60_000 => time.get(11..19),
        60_000..3_600_000 => time.get(11..16),
        _ => time.get(5..10),
    };
    part.unwrap_or_default().to_owned()
}

fn shown(y: f64, unit: Unit) -> String {
    match unit {
        Unit::PerSecond => format::rate(y),
        Unit::Jobs => format::count(to_u64(y)),
        Unit::Milliseconds => format::duration(to_u64(y)),
    }
}

/// 1, 2 or 5 times a power of ten, so that the scale seldom changes.
fn round_up(most: f64, unit: Unit) -> f64 {
    let most = if unit == Unit::PerSecond { most.max(0.1) } else { most.max(1.0) };
    let power = 10_f64.powf(most.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|top| *top >= most * 0.999).unwrap_or(most)
}

#[expect(clippy::cast_precision_loss, reason = "a place in a chart")]
fn index(at: usize) -> f64 {
    at as f64
}

#[expect(clippy::cast_precision_loss, reason = "a place in a chart")]
fn as_f64(n: u64) -> f64 {
    n as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn to_u64(y: f64) -> u64 {
    y.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round() {
        for (most, top) in
            [(0.0, 1.0), (1.0, 1.0), (3.0, 5.0), (10.0, 10.0), (11.0, 20.0), (1_234.0, 2_000.0)]
        {
            assert!((round_up(most, Unit::Jobs) - top).abs() < 1e-9, "{most}");
        }
        assert!((round_up(0.0, Unit::PerSecond) - 0.1).abs() < 1e-9);
    }
}
