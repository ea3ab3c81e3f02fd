//! The figures, as a table for people or as lines of JSON.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::args::{Common, Mode};
use super::target::Target;
use super::usage::Usage;

/// What one round measured.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) jobs: u32,
    pub(super) elapsed: Duration,
    /// Before and after.
    pub(super) usage: Span,
    /// In microseconds: of requests, or of the way to a worker.
    pub(super) latency: Option<Histogram<u64>>,
    pub(super) faults: Vec<String>,
}

/// What was used before and after, by the server and by ourselves, where that can be known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) server: Option<(Usage, Usage)>,
    pub(super) load: Option<(Usage, Usage)>,
}

/// For latencies of up to a minute, to three digits.
pub(super) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

/// One figure of the report.
struct Figure {
    key: &'static str,
    title: &'static str,
    decimals: usize,
}

const JOBS_PER_SECOND: Figure = Figure { key: "jobs_per_s", title: "jobs/s", decimals: 0 };
const SECONDS: Figure = Figure { key: "seconds", title: "seconds", decimals: 2 };
const CPU: Figure = Figure { key: "cpu_s_per_100k", title: "CPU s/100k", decimals: 3 };
const LOAD_CPU: Figure = Figure { key: "load_cpu_s_per_100k", title: "own CPU", decimals: 3 };
const PEAK_RSS: Figure = Figure { key: "peak_rss_mib", title: "peak RSS MiB", decimals: 1 };
const P50: Figure = Figure { key: "p50_us", title: "p50 µs", decimals: 0 };
const P99: Figure = Figure { key: "p99_us", title: "p99 µs", decimals: 0 };
const P999: Figure = Figure { key: "p999_us", title: "p99.9 µs", decimals: 0 };
const MAX: Figure = Figure { key: "max_us", title: "max µs", decimals: 0 };

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn figure(&self, figure: &Figure) -> Option<f64> {
        let latency = self.latency.as_ref();
        let seconds = self.elapsed.as_secs_f64();
        Some(match figure.key {
            "jobs_per_s" => f64::from(self.jobs) / seconds,
            "seconds" => seconds,
            "cpu_s_per_100k" => self.cpu(self.usage.server?),
            "load_cpu_s_per_100k" => self.cpu(self.usage.load?),
            "peak_rss_mib" => self.usage.server?.1.peak_rss as f64 / f64::from(1 << 20),
            "p50_us" => latency?.value_at_quantile(0.5) as f64,
            "p99_us" => latency?.value_at_quantile(0.99) as f64,
            "p999_us" => latency?.value_at_quantile(0.999) as f64,
            _ => latency?.max() as f64,
        })
    }

    fn cpu(&self, (before, after): (Usage, Usage)) -> f64 {
        (after.cpu_seconds - before.cpu_seconds) * 100_000.0 / f64::from(self.jobs)
    }
}

/// Prints rounds as they end, and their medians at last.
pub(super) struct Report {
    title: String,
    mode: &'static str,
    json: bool,
    figures: Vec<Figure>,
    rounds: Vec<Round>,
}

impl Report {
    pub(super) fn new(mode: &Mode, common: &Common) -> Self {
        let bytes = common.payload_bytes;
        let (title, figures) = match mode {
            Mode::Enqueue(flags) => (
                format!(
                    "enqueue · {} jobs of {bytes} bytes · {} per request · {} connections",
                    thousands(f64::from(flags.jobs()), 0),
                    flags.bulk,
                    flags.connections(),
                ),
                vec![JOBS_PER_SECOND, SECONDS, P50, P99, P999, CPU, LOAD_CPU, PEAK_RSS],
            ),
            Mode::Drain(flags) => (
                format!(
                    "drain · {} jobs of {bytes} bytes · {} workers, {:?}, prefetch {}, {:?} ack",
                    thousands(f64::from(flags.jobs()), 0),
                    flags.workers,
                    flags.format,
                    flags.prefetch,
                    flags.ack,
                )
                .to_lowercase(),
                vec![JOBS_PER_SECOND, SECONDS, CPU, LOAD_CPU, PEAK_RSS],
            ),
            Mode::Latency(flags) => (
                format!(
                    "latency · {} jobs of {bytes} bytes, one every {} ms · {:?}",
                    thousands(f64::from(flags.jobs), 0),
                    flags.every_ms,
                    flags.format
                )
                .to_lowercase(),
                vec![P50, P99, P999, MAX, CPU, LOAD_CPU, PEAK_RSS],
            ),
        };
        Self { title, mode: mode.name(), json: common.json, figures, rounds: Vec::new() }
    }

    /// Prints the head of the table, once.
    pub(super) fn head(&mut self, target: &Target) -> Result<()> {
        if !self.rounds.is_empty() {
            return Ok(());
        }
        self.title = format!("{} · {}", target.version, self.title);
        if self.json {
            return Ok(());
        }
        let titles = self.figures.iter().map(|figure| figure.title.to_owned());
        let head = row("round", titles);
        print(&format!("{}\n\n{head}\n{}\n", self.title, "─".repeat(head.chars().count())))
    }

    /// Prints a round.
    pub(super) fn round(&mut self, n: u32, round: Round) -> Result<()> {
        let values: Vec<_> = self.figures.iter().map(|figure| round.figure(figure)).collect();
        self.line(&n.to_string(), &values, &round.faults)?;
        self.rounds.push(round);
        Ok(())
    }

    /// Prints the medians; `false` where a check failed.
    pub(super) fn finish(self) -> Result<bool> {
        let medians: Vec<_> = self.figures.iter().map(|figure| self.median(figure)).collect();
        self.line("median", &medians, &[])?;
        let failed = self.rounds.iter().filter(|round| !round.faults.is_empty()).count();
        if !self.json {
            print(&match failed {
                0 => "\nchecked: every job once, none lost\n".to_owned(),
                _ => format!("\nFAILED: {failed} of {} rounds\n", self.rounds.len()),
            })?;
        }
        Ok(failed == 0)
    }

    fn median(&self, figure: &Figure) -> Option<f64> {
        let mut values: Vec<f64> = self.rounds.iter().filter_map(|round| round.figure(figure)).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() % 2 {
            1 => values.get(middle).copied(),
            _ => Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?)),
        }
    }

    fn line(&self, name: &str, values: &[Option<f64>], faults: &[String]) -> Result<()> {
        let figures = self.figures.iter().zip(values);
        if self.json {
            let mut line = Map::new();
            line.insert("mode".to_owned(), json!(self.mode));
            line.insert("what".to_owned(), json!(self.title));
            line.insert("round".to_owned(), json!(name));
            line.extend(figures.map(|(figure, value)| (figure.key.to_owned(), json!(value))));
            line.insert("faults".to_owned(), json!(faults));
            return print(&format!("{}\n", Value::Object(line)));
        }
        let cells = figures.map(|(figure, value)| match value {
            Some(value) => thousands(*value, figure.decimals),
            None => "–".to_owned(),
        });
        print(&format!("{}\n", row(name, cells)))?;
        faults.iter().try_for_each(|fault| print(&format!("        ✗ {fault}\n")))
    }
}

fn row(name: &str, cells: impl Iterator<Item = String>) -> String {
    cells.fold(format!("{name:<6}"), |row, cell| format!("{row}  {cell:>12}"))
}

fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// A number with its thousands apart: `1,234,567`.
fn thousands(value: f64, decimals: usize) -> String {
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
}
