//! How metrics are written: names, help, labels, values.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::engine::command::report::Sum;
use crate::histogram::Histogram;
use crate::meter::{LIMITS, Timed};

/// The limits of the buckets of times, in milliseconds.
const BUCKETS: [u64; 14] =
    [1, 5, 10, 50, 100, 500, 1_000, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000];

type Labels<'a> = [(&'static str, &'a str)];

/// The metrics that were asked for by their names; without names all of them.
#[derive(Debug, Clone)]
pub(super) struct Wanted(pub Option<Vec<String>>);

impl Wanted {
    /// Names are as readers see them, so those of counters end in `_total`, but without `zizq_`: what begins so in a URL is
    /// taken for an access token, and refused.
    pub(super) fn has(&self, name: &str) -> bool {
        let name = name.strip_prefix("zizq_").unwrap_or(name);
        let is = |wanted: &String| wanted == name || wanted.strip_suffix("_total") == Some(name);
        self.0.as_ref().is_none_or(|names| names.iter().any(is))
    }
}

/// Writes metrics, each with its lines.
pub(super) struct Page<'a> {
    pub encoder: DescriptorEncoder<'a>,
    pub wanted: Wanted,
}

impl Page<'_> {
    pub(super) fn metric(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        write: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        if !self.wanted.has(name) {
            return Ok(());
        }
        write(self.encoder.encode_descriptor(name, help, None, kind)?)
    }

    pub(super) fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Vec<(&'static str, &'l str)>, f64)>,
    ) -> fmt::Result {
        self.metric(name, help, MetricType::Gauge, |mut metric| {
            lines.into_iter().try_for_each(|(labels, value)| {
                let labels: &Labels<'l> = &labels;
                metric.encode_family(&labels)?.encode_gauge(&value)
            })
        })
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.metric(name, help, MetricType::Gauge, |mut metric| metric.encode_gauge(&value))
    }

    /// The encoders add `_total` to the name.
    pub(super) fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Vec<(&'static str, &'l str)>, u64)>,
    ) -> fmt::Result {
        self.metric(name, help, MetricType::Counter, |mut metric| {
            lines.into_iter().try_for_each(|(labels, value)| {
                let labels: &Labels<'l> = &labels;
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
            })
        })
    }

    /// A histogram of times in milliseconds.
    pub(super) fn histogram(&mut self, name: &str, help: &str, times: &Histogram) -> fmt::Result {
        self.metric(name, help, MetricType::Histogram, |mut metric| {
            let (sum, count) = (seconds(times.sum()), times.count());
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets_of(times), None)
        })
    }

    /// Histograms of times in milliseconds.
    pub(super) fn histograms<'l>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (&'l str, Histogram)>,
    ) -> fmt::Result {
        self.metric(name, help, MetricType::Histogram, |mut metric| {
            lines.into_iter().try_for_each(|(queue, times)| {
                let labels = [("queue", queue)];
                let (sum, count) = (seconds(times.sum()), times.count());
                let mut metric = metric.encode_family(&labels)?;
                metric.encode_histogram::<NoLabelSet>(sum, count, &buckets_of(&times), None)
            })
        })
    }

    /// How long something took.
    pub(super) fn timings<'l>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Vec<(&'static str, &'l str)>, Timed)>,
    ) -> fmt::Result {
        self.metric(name, help, MetricType::Histogram, |mut metric| {
            lines.into_iter().try_for_each(|(labels, timed)| {
                let limits = LIMITS.map(|micros| float(micros) / 1e6).into_iter().chain([f64::INFINITY]);
                let buckets: Vec<(f64, u64)> = limits.zip(timed.buckets).collect();
                let labels: &Labels<'l> = &labels;
                let sum = float(timed.micros) / 1e6;
                metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                    sum,
                    timed.count(),
                    &buckets,
                    None,
                )
            })
        })
    }

    /// Sums of times in milliseconds, with their numbers: histograms with a single bucket.
    pub(super) fn sums<'l>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (&'l str, Sum)>,
    ) -> fmt::Result {
        self.metric(name, help, MetricType::Histogram, |mut metric| {
            lines.into_iter().try_for_each(|(queue, Sum { count, ms })| {
                let buckets = [(f64::INFINITY, count)];
                let labels = [("queue", queue)];
                metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                    seconds(ms),
                    count,
                    &buckets,
                    None,
                )
            })
        })
    }
}

/// The number of times in each of [`BUCKETS`], and above them.
fn buckets_of(times: &Histogram) -> Vec<(f64, u64)> {
    let mut below = 0;
    let bucket = |limit: u64| {
        let up_to = times.up_to(limit);
        (seconds(limit), up_to - std::mem::replace(&mut below, up_to))
    };
    let mut buckets: Vec<(f64, u64)> = BUCKETS.into_iter().map(bucket).collect();
    buckets.push((f64::INFINITY, times.count() - below));
    buckets
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floats")]
pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floats")]
pub(super) const fn float(n: u64) -> f64 {
    n as f64
}
