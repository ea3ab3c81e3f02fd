//! Tables in Markdown: scenarios down, servers across.

use anyhow::Result;

use super::{Results, Row, figures, print, ratio, thousands};

/// Every scenario in one table, and one more for each that has samples.
pub(super) fn tables(results: &[Results]) -> Result<()> {
    let mut labels: Vec<&str> = Vec::new();
    for row in results.iter().flat_map(|results| &results.rows) {
        if !labels.contains(&row.label.as_str()) {
            labels.push(&row.label);
        }
    }
    line(std::iter::once("Scenario").chain(labels.iter().copied()))?;
    line(std::iter::once("---").chain(labels.iter().map(|_| "---")))?;
    for results in results {
        let cells = labels.iter().map(|label| {
            let row = results.rows.iter().find(|row| row.label == *label);
            row.map_or_else(|| "–".to_owned(), |row| cell(results, row))
        });
        let cells: Vec<String> = std::iter::once(results.title.name.clone()).chain(cells).collect();
        line(cells.iter().map(String::as_str))?;
    }
    results.iter().try_for_each(samples)
}

/// The medians that matter most. Behind them, for another server, how ours compares in the first.
fn cell(results: &Results, row: &Row) -> String {
    let shown = results.title.headline.iter().filter_map(|figure| {
        let (before, after) = figure.around;
        let value = figures::median(&row.rounds, figure)?;
        Some(format!("{before}{}{after}", thousands(value, figure.decimals)))
    });
    let mut shown: Vec<String> = shown.collect();
    if let Some(first) = results.rows.first()
        && first.label != row.label
        && let Some(figure) = results.title.headline.first()
        && let Some(ours) = figures::median(&first.rounds, figure)
        && let Some(theirs) = figures::median(&row.rounds, figure)
        && let Some(ratio) = ratio(ours, theirs)
    {
        shown.push(format!("{ratio:.2}×"));
    }
    let failed = row.rounds.iter().any(|round| !round.faults.is_empty());
    format!("{}{}", shown.join(", "), if failed { " **failed**" } else { "" })
}

/// The samples of the last round on the first server.
fn samples(results: &Results) -> Result<()> {
    let last = results.rows.first().and_then(|row| row.rounds.last());
    let Some((_, first)) = last.and_then(|round| round.samples.first()) else { return Ok(()) };
    let kinds: Vec<_> = first.kinds().collect();
    print(&format!("\n{}: {}\n\n", results.title.name, results.title.what))?;
    line(std::iter::once("at").chain(kinds.iter().map(|figure| figure.title)))?;
    line(std::iter::once("---").chain(kinds.iter().map(|_| "--:")))?;
    for (at, figures) in last.iter().flat_map(|round| &round.samples) {
        let cells = kinds.iter().map(|figure| {
            let value = figures.get(figure);
            value.map_or_else(|| "–".to_owned(), |value| thousands(value, figure.decimals))
        });
        let cells: Vec<String> = std::iter::once(at.clone()).chain(cells).collect();
        line(cells.iter().map(String::as_str))?;
    }
    Ok(())
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> Result<()> {
    print(&format!("| {} |\n", cells.collect::<Vec<_>>().join(" | ")))
}
