//! What a round measured.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::target::{Target, Used};
use crate::usage::Usage;

/// Something that is measured.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::load) struct Figure {
    /// Its name in JSON.
    pub(super) key: &'static str,
    /// Its name over a column.
    pub(super) title: &'static str,
    pub(super) decimals: usize,
    /// What stands around its value where there is no column for it.
    pub(super) around: (&'static str, &'static str),
}

const fn figure(
    key: &'static str,
    title: &'static str,
    decimals: usize,
    around: (&'static str, &'static str),
) -> Figure {
    Figure { key, title, decimals, around }
}

pub(in crate::load) const JOBS_PER_SECOND: Figure = figure("jobs_per_s", "jobs/s", 0, ("", "/s"));
pub(in crate::load) const CALLS_PER_SECOND: Figure = figure("calls_per_s", "calls/s", 0, ("", "/s"));
pub(in crate::load) const CALLS: Figure = figure("calls", "calls", 0, ("", " calls"));
pub(in crate::load) const REFUSED: Figure = figure("refused", "refused", 0, ("", " refused"));
pub(in crate::load) const UNAVAILABLE: Figure = figure("unavailable", "503 and 507", 0, ("", " unavailable"));
pub(in crate::load) const SECONDS: Figure = figure("seconds", "seconds", 2, ("", " s"));
pub(in crate::load) const CPU: Figure = figure("cpu_s_per_100k", "CPU s/100k", 3, ("CPU ", ""));
pub(in crate::load) const LOAD_CPU: Figure = figure("load_cpu_s_per_100k", "own CPU", 3, ("own CPU ", ""));
pub(in crate::load) const RSS: Figure = figure("rss_mib", "RSS MiB", 0, ("RSS ", " MiB"));
pub(in crate::load) const PEAK_RSS: Figure = figure("peak_rss_mib", "peak RSS MiB", 0, ("peak RSS ", " MiB"));
pub(in crate::load) const DISK: Figure = figure("disk_mib", "disk MiB", 0, ("disk ", " MiB"));
pub(in crate::load) const P50: Figure = figure("p50_us", "p50 µs", 0, ("p50 ", " µs"));
pub(in crate::load) const P99: Figure = figure("p99_us", "p99 µs", 0, ("p99 ", " µs"));
pub(in crate::load) const P999: Figure = figure("p999_us", "p99.9 µs", 0, ("p99.9 ", " µs"));
pub(in crate::load) const MAX: Figure = figure("max_us", "max µs", 0, ("max ", " µs"));
pub(in crate::load) const IDLE_P99: Figure = figure("idle_p99_us", "idle p99 µs", 0, ("before ", " µs"));
pub(in crate::load) const FIRST_RATE: Figure =
    figure("first_jobs_per_s", "first jobs/s", 0, ("first ", "/s"));
pub(in crate::load) const LAST_RATE: Figure = figure("last_jobs_per_s", "last jobs/s", 0, ("last ", "/s"));
pub(in crate::load) const DRAIN_RATE: Figure =
    figure("drain_jobs_per_s", "drain jobs/s", 0, ("drain ", "/s"));
pub(in crate::load) const STOP: Figure = figure("stop_ms", "stop ms", 0, ("stop ", " ms"));
pub(in crate::load) const START: Figure = figure("start_ms", "start ms", 0, ("start ", " ms"));
pub(in crate::load) const FIRST_JOB: Figure =
    figure("first_job_ms", "first job ms", 0, ("first job ", " ms"));
pub(in crate::load) const CRASH_FIRST_JOB: Figure =
    figure("crash_first_job_ms", "after kill -9 ms", 0, ("after kill -9 ", " ms"));

pub(in crate::load) const PAGE_P50: Figure = figure("page_p50_us", "page p50 µs", 0, ("page p50 ", " µs"));
pub(in crate::load) const PAGE_P99: Figure = figure("page_p99_us", "page p99 µs", 0, ("page p99 ", " µs"));
pub(in crate::load) const COUNT_P99: Figure =
    figure("count_p99_us", "count p99 µs", 0, ("count p99 ", " µs"));
pub(in crate::load) const FILTER_SECONDS: Figure =
    figure("filter_s_per_1m", "jq s/1M", 2, ("jq ", " s per million"));
pub(in crate::load) const PATCH_SECONDS: Figure =
    figure("patch_s_per_100k", "patch s/100k", 2, ("patch ", " s per 100,000"));
pub(in crate::load) const DISPATCH_P50: Figure =
    figure("dispatch_p50_us", "dispatch p50 µs", 0, ("dispatch p50 ", " µs"));
pub(in crate::load) const DISPATCH_P99: Figure =
    figure("dispatch_p99_us", "dispatch p99 µs", 0, ("dispatch p99 ", " µs"));
pub(in crate::load) const DISPATCH_MAX: Figure =
    figure("dispatch_max_us", "dispatch max µs", 0, ("dispatch max ", " µs"));

/// Figures of one kind each.
#[derive(Debug, Clone, Default)]
pub(in crate::load) struct Figures(Vec<(&'static Figure, f64)>);

impl Figures {
    pub(in crate::load) fn add(&mut self, figure: &'static Figure, value: f64) {
        self.0.push((figure, value));
    }

    /// Jobs per second.
    pub(in crate::load) fn rate(&mut self, figure: &'static Figure, jobs: u32, time: Duration) {
        self.add(figure, f64::from(jobs) / time.as_secs_f64());
    }

    /// Bytes as MiB.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(in crate::load) fn bytes(&mut self, figure: &'static Figure, bytes: Option<u64>) {
        if let Some(bytes) = bytes {
            self.add(figure, bytes as f64 / f64::from(1 << 20));
        }
    }

    /// Milliseconds.
    pub(in crate::load) fn millis(&mut self, figure: &'static Figure, time: Duration) {
        self.add(figure, time.as_secs_f64() * 1e3);
    }

    /// Percentiles of a histogram in microseconds.
    pub(in crate::load) fn latency(&mut self, latency: &Histogram<u64>) {
        for (figure, quantile) in [(&P50, 0.5), (&P99, 0.99), (&P999, 0.999), (&MAX, 1.0)] {
            self.quantile(figure, latency, quantile);
        }
    }

    /// One of them.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(in crate::load) fn quantile(
        &mut self,
        figure: &'static Figure,
        latency: &Histogram<u64>,
        quantile: f64,
    ) {
        self.add(figure, latency.value_at_quantile(quantile) as f64);
    }

    /// CPU time since then per 100,000 jobs, and memory.
    pub(in crate::load) fn usage(&mut self, before: Used, target: &Target, jobs: u32) {
        let after = target.usage();
        let spent = |before: Option<Usage>, after: Option<Usage>| {
            Some((after?.cpu_seconds - before?.cpu_seconds) * 100_000.0 / f64::from(jobs))
        };
        if let Some(cpu) = spent(before.server, after.server) {
            self.add(&CPU, cpu);
        }
        if let Some(cpu) = spent(before.load, after.load) {
            self.add(&LOAD_CPU, cpu);
        }
        self.bytes(&PEAK_RSS, after.server.map(|usage| usage.peak_rss));
    }

    /// Memory and disk as they are now.
    pub(in crate::load) fn footprint(&mut self, target: &Target) {
        self.bytes(&RSS, target.usage().server.map(|usage| usage.rss));
        self.bytes(&DISK, target.disk_bytes());
    }

    pub(in crate::load) fn get(&self, figure: &Figure) -> Option<f64> {
        self.0.iter().find(|(of, _)| *of == figure).map(|(_, value)| *value)
    }

    /// Which there are, in order.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &'static Figure> {
        self.0.iter().map(|(figure, _)| *figure)
    }
}

/// What one round measured.
#[derive(Debug, Default)]
pub(in crate::load) struct Round {
    /// What the server says it is.
    pub(in crate::load) version: String,
    pub(in crate::load) figures: Figures,
    /// Figures on the way, and where that was.
    pub(in crate::load) samples: Vec<(String, Figures)>,
    pub(in crate::load) faults: Vec<String>,
}

/// The middle of a figure over rounds.
pub(super) fn median(rounds: &[Round], figure: &Figure) -> Option<f64> {
    let mut values: Vec<f64> = rounds.iter().filter_map(|round| round.figures.get(figure)).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values.get(middle).copied(),
        _ => Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let round = |value| {
            let mut round = Round::default();
            round.figures.add(&SECONDS, value);
            round
        };
        assert_eq!(median(&[round(3.0), round(1.0), round(2.0)], &SECONDS), Some(2.0));
        assert_eq!(median(&[round(3.0), round(1.0)], &SECONDS), Some(2.0));
        assert_eq!(median(&[round(3.0)], &CPU), None);
        assert_eq!(median(&[], &CPU), None);
    }
}
