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

/// Writes metrics, each with its lines.
pub(super) struct Page<'a>(pub DescriptorEncoder<'a>);

impl Page<'_> {
    pub(super) fn metric<'m>(
        &'m mut self,
        name: &'m str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'m>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    pub(super) fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Vec<(&'static str, &'l str)>, f64)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Gauge)?;
        lines.into_iter().try_for_each(|(labels, value)| {
            let labels: &Labels<'l> = &labels;
            metric.encode_family(&labels)?.encode_gauge(&value)
        })
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.metric(name, help, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// The encoders add `_total` to the name.
    pub(super) fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Vec<(&'static str, &'l str)>, u64)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Counter)?;
        lines.into_iter().try_for_each(|(labels, value)| {
            let labels: &Labels<'l> = &labels;
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    /// A histogram of times in milliseconds.
    pub(super) fn histogram(&mut self, name: &str, help: &str, times: &Histogram) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(seconds(times.sum()), times.count(), &buckets_of(times), None)
    }

    /// Histograms of times in milliseconds.
    pub(super) fn histograms<'l>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (&'l str, Histogram)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Histogram)?;
        lines.into_iter().try_for_each(|(queue, times)| {
            let labels = [("queue", queue)];
            let (sum, count) = (seconds(times.sum()), times.count());
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets_of(&times), None)
        })
    }

    /// How long something took.
    pub(super) fn timings<'l>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Vec<(&'static str, &'l str)>, Timed)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Histogram)?;
        lines.into_iter().try_for_each(|(labels, timed)| {
            let limits = LIMITS.map(|micros| float(micros) / 1e6).into_iter().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = limits.zip(timed.buckets).collect();
            let labels: &Labels<'l> = &labels;
            let sum = float(timed.micros) / 1e6;
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, timed.count(), &buckets, None)
        })
    }

    /// Sums of times in milliseconds, with their numbers: histograms with a single bucket.
    pub(super) fn sums<'l>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (&'l str, Sum)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Histogram)?;
        lines.into_iter().try_for_each(|(queue, Sum { count, ms })| {
            let buckets = [(f64::INFINITY, count)];
            let labels = [("queue", queue)];
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(seconds(ms), count, &buckets, None)
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
