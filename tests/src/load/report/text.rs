//! Tables for people.

use anyhow::Result;

use super::{Figures, Results, Round, figures, print, ratio, thousands};

const LABEL: usize = 18;

/// A round: under the names of its figures if it is the first.
pub(super) fn round(label: &str, n: u32, round: &Round) -> Result<()> {
    for (at, figures) in &round.samples {
        print(&format!("  {:<LABEL$}{}\n", at, inline(figures)))?;
    }
    print(&format!("  {:<LABEL$}{n}: {}\n", label, inline(&round.figures)))?;
    round.faults.iter().try_for_each(|fault| print(&format!("  ✗ {fault}\n")))
}

/// Figures on one line.
fn inline(figures: &Figures) -> String {
    let cells = figures.kinds().filter_map(|figure| {
        let (before, after) = figure.around;
        Some(format!("{before}{}{after}", thousands(figures.get(figure)?, figure.decimals)))
    });
    cells.collect::<Vec<_>>().join(" · ")
}

/// The medians of each server, and how the first compares with the others.
pub(super) fn medians(results: &Results) -> Result<()> {
    let kinds = results.kinds();
    let head = kinds.iter().map(|figure| figure.title.to_owned());
    print(&format!("\n  {}\n", row("median", head)))?;
    let medians: Vec<Vec<Option<f64>>> = (results.rows.iter())
        .map(|row| kinds.iter().map(|figure| figures::median(&row.rounds, figure)).collect())
        .collect();
    for (of, values) in results.rows.iter().zip(&medians) {
        let cells = kinds.iter().zip(values);
        let cells = cells.map(|(figure, value)| value.map(|value| thousands(value, figure.decimals)));
        print(&format!("  {}\n", row(&of.label, cells.map(or_dash))))?;
    }
    let Some((ours, theirs)) = medians.split_first() else { return Ok(()) };
    for (other, theirs) in results.rows.iter().skip(1).zip(theirs) {
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ratio((*ours)?, (*theirs)?));
        let cells = ratios.map(|ratio| or_dash(ratio.map(|ratio| format!("{ratio:.2}×"))));
        print(&format!("  {}\n", row(&format!("/ {}", other.label), cells)))?;
    }
    print("\n")
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "–".to_owned())
}

fn row(name: &str, cells: impl Iterator<Item = String>) -> String {
    cells.fold(format!("{name:<LABEL$}"), |row, cell| format!("{row}  {cell:>12}"))
}
