//! One JSON object per line.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{Figures, Results, Round, Title, figures, print, ratio};

/// A round, behind its samples.
pub(super) fn round(title: &Title, label: &str, n: u32, round: &Round) -> Result<()> {
    for (at, figures) in &round.samples {
        let mut line = line(title, label, json!(n));
        line.insert("at".to_owned(), json!(at));
        add(&mut line, figures);
        print_line(line)?;
    }
    let mut line = line(title, label, json!(n));
    add(&mut line, &round.figures);
    line.insert("version".to_owned(), json!(round.version));
    line.insert("faults".to_owned(), json!(round.faults));
    print_line(line)
}

/// The medians of each server, and how the first compares with the others.
pub(super) fn medians(results: &Results) -> Result<()> {
    let median = |row: &super::Row, figure| figures::median(&row.rounds, figure);
    for row in &results.rows {
        let mut line = line(&results.title, &row.label, json!("median"));
        for figure in results.kinds() {
            line.insert(figure.key.to_owned(), json!(median(row, figure)));
        }
        print_line(line)?;
    }
    let Some((first, others)) = results.rows.split_first() else { return Ok(()) };
    for other in others {
        let mut line = line(&results.title, &first.label, json!("ratio"));
        line.insert("vs".to_owned(), json!(other.label));
        for figure in results.kinds() {
            let both = median(first, figure).zip(median(other, figure));
            let ratio = both.and_then(|(ours, theirs)| ratio(ours, theirs));
            line.insert(figure.key.to_owned(), json!(ratio));
        }
        print_line(line)?;
    }
    Ok(())
}

fn line(title: &Title, label: &str, round: Value) -> Map<String, Value> {
    let members = [
        ("scenario", json!(title.name)),
        ("what", json!(title.what)),
        ("server", json!(label)),
        ("round", round),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn add(line: &mut Map<String, Value>, figures: &Figures) {
    line.extend(figures.kinds().map(|figure| (figure.key.to_owned(), json!(figures.get(figure)))));
}

fn print_line(line: Map<String, Value>) -> Result<()> {
    print(&format!("{}\n", Value::Object(line)))
}
