//! What was measured, as tables for people, as lines of JSON, or as a table in Markdown.

mod figures;
mod json;
mod markdown;
mod text;

use std::io::Write;

use anyhow::Result;

pub(super) use figures::*;

use super::args::Common;
use super::standard::Scenario;

/// What is told of a scenario.
pub(super) struct Title {
    /// Its short name.
    pub(super) name: String,
    /// What it is, in words.
    pub(super) what: String,
    /// The figures that matter most.
    pub(super) headline: Vec<&'static Figure>,
}

/// The rounds of a scenario on one server.
struct Row {
    /// Who was measured.
    label: String,
    rounds: Vec<Round>,
}

/// All that was measured of a scenario.
struct Results {
    title: Title,
    rows: Vec<Row>,
}

impl Results {
    /// Every figure that some round has, in the order of their appearance.
    fn kinds(&self) -> Vec<&'static Figure> {
        let mut kinds: Vec<&'static Figure> = Vec::new();
        for figure in self.rows.iter().flat_map(|row| &row.rounds).flat_map(|round| round.figures.kinds()) {
            if !kinds.contains(&figure) {
                kinds.push(figure);
            }
        }
        kinds
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Text,
    Json,
    Markdown,
}

/// Tells rounds as they end, and their medians at last.
pub(super) struct Report {
    style: Style,
    results: Vec<Results>,
}

impl Report {
    pub(super) fn new(common: &Common) -> Self {
        let style = match common {
            Common { json: true, .. } => Style::Json,
            Common { markdown: true, .. } => Style::Markdown,
            _ => Style::Text,
        };
        Self { style, results: Vec::new() }
    }

    /// The rounds that come are of this scenario.
    pub(super) fn begin(&mut self, title: Title) -> Result<()> {
        match self.style {
            Style::Text => print(&format!("{}: {}\n", title.name, title.what))?,
            Style::Markdown => eprintln!("{}: {}", title.name, title.what),
            Style::Json => {}
        }
        self.results.push(Results { title, rows: Vec::new() });
        Ok(())
    }

    /// A round on a server.
    pub(super) fn round(&mut self, label: &str, n: u32, round: Round) -> Result<()> {
        let Some(results) = self.results.last_mut() else { return Ok(()) };
        match self.style {
            Style::Text => text::round(label, n, &round)?,
            Style::Json => json::round(&results.title, label, n, &round)?,
            Style::Markdown => round.faults.iter().for_each(|fault| eprintln!("✗ {label}: {fault}")),
        }
        match results.rows.iter_mut().find(|row| row.label == label) {
            Some(row) => row.rounds.push(round),
            None => results.rows.push(Row { label: label.to_owned(), rounds: vec![round] }),
        }
        Ok(())
    }

    /// The scenario is over.
    pub(super) fn end(&mut self) -> Result<()> {
        let Some(results) = self.results.last() else { return Ok(()) };
        match self.style {
            Style::Text => text::medians(results),
            Style::Json => json::medians(results),
            Style::Markdown => Ok(()),
        }
    }

    /// Everything is over; `false` where a check failed.
    pub(super) fn finish(self) -> Result<bool> {
        if self.style == Style::Markdown {
            markdown::tables(&self.results)?;
        }
        let rounds = self.results.iter().flat_map(|results| &results.rows).flat_map(|row| &row.rounds);
        let failed = rounds.clone().filter(|round| !round.faults.is_empty()).count();
        if self.style == Style::Text {
            print(&match failed {
                0 => "checked: nothing was lost\n".to_owned(),
                _ => format!("FAILED: {failed} of {} rounds\n", rounds.count()),
            })?;
        }
        Ok(failed == 0)
    }
}

/// The command lines of scenarios.
pub(super) fn list(scenarios: &[Scenario]) -> Result<bool> {
    let line =
        |scenario: &Scenario| print(&format!("{:<40} zizq-load {}\n", scenario.name, scenario.command));
    scenarios.iter().try_for_each(line)?;
    Ok(true)
}

fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// How two figures compare, where they can be.
fn ratio(ours: f64, theirs: f64) -> Option<f64> {
    Some(ours / theirs).filter(|ratio| ratio.is_finite())
}

/// A number with its thousands apart: `1,234,567`.
pub(super) fn thousands(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(thousands(1_234_567.0, 0), "1,234,567");
        assert_eq!(thousands(999.0, 0), "999");
        assert_eq!(thousands(1_000.256, 2), "1,000.26");
        assert_eq!(thousands(0.0, 0), "0");
    }

    #[test]
    fn one_bad_round_fails_the_report() {
        let mut report = Report { style: Style::Markdown, results: Vec::new() };
        let title = Title { name: "a".to_owned(), what: "b".to_owned(), headline: Vec::new() };
        report.begin(title).unwrap();
        report.round("x", 1, Round::default()).unwrap();
        report.round("x", 2, Round { faults: vec!["lost".to_owned()], ..Round::default() }).unwrap();
        assert!(!report.finish().unwrap());
    }
}
