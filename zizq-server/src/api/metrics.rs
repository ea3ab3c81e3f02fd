//! `GET /metrics`, for Prometheus: OpenMetrics 1.0, or the older text format.
//!
//! Everything comes from the board and from memory. A queue has series of its own while it is tracked, so that series do
//! not come and go with bursts, and their number is bounded; the others are summed up. No label has a value of which
//! there can be any number: no ids, addresses, tokens or types.

use std::fmt;
use std::time::Duration;

use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use protocol::budget::BudgetView;
use protocol::job::Status;
use protocol::media::negotiate;
use protocol::name::QueueName;
use rustix::time::ClockId;

use super::queues::oldest;
use super::stats::resident_memory;
use super::{App, not_acceptable};
use crate::board::Sample;
use crate::clock;
use crate::engine::command::budgets::ListBudgets;
use crate::engine::command::jobs::JobCounts;
use crate::engine::command::report::{Sum, Tally};
use crate::hash::HashMap;
use crate::histogram::Histogram;
use crate::http::reply::{Answer, Content, Refusal};
use crate::http::request::Request;
use crate::store::disk::Usage;

/// The label of all queues without series of their own.
const OTHERS: &str = "__other__";
/// The most budgets with series of their own, by name.
const MAX_BUDGETS: usize = 1_000;
/// The limits of the buckets of times, in milliseconds.
const BUCKETS: [u64; 14] =
    [1, 5, 10, 50, 100, 500, 1_000, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    OpenMetrics,
    Text,
}

const OFFERS: [(&str, Shape); 2] =
    [("application/openmetrics-text", Shape::OpenMetrics), ("text/plain", Shape::Text)];

pub(crate) async fn show(app: &App, request: &Request) -> Answer {
    let shape = negotiate(request.accepted.as_deref(), &OFFERS, Shape::Text);
    let shape = shape.ok_or_else(|| not_acceptable(request, &OFFERS.map(|(media_type, _)| media_type)))?;
    request.no_query()?;
    app.board.refresh().await?;
    let sample = app.board.sample();
    let ready = sample.queues.iter().filter(|row| row.state.counts.of(Status::Ready) > 0);
    let oldest = oldest(app, ready.map(|row| row.state.name.clone()).collect()).await?;
    let mut budgets = app.engine.ask(ListBudgets).await?;
    budgets.truncate(MAX_BUDGETS);
    let disk = app.reader.disk().await.ok();
    let is_disk_full = app.reader.is_disk_full();
    let metrics = Metrics { sample, oldest, budgets, disk, is_disk_full, now: clock::now().wall };
    let (media_type, written) = match shape {
        Shape::OpenMetrics => {
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", write(metrics, shape))
        }
        Shape::Text => ("text/plain; version=0.0.4; charset=utf-8", write(metrics, shape)),
    };
    let body =
        written.map_err(|error| Refusal::unavailable(format!("the metrics cannot be written: {error}")))?;
    let mut response = Response::new(Content::Whole(body.into_bytes()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}

fn write(metrics: Metrics, shape: Shape) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(metrics));
    let mut body = String::with_capacity(64 * 1024);
    match shape {
        Shape::OpenMetrics => text::encode(&mut body, &registry)?,
        Shape::Text => prometheus_text::encode(&mut body, &registry)?,
    }
    Ok(body)
}

/// What was gathered for one answer.
#[derive(Debug)]
struct Metrics {
    sample: Sample,
    oldest: HashMap<QueueName, u64>,
    budgets: Vec<BudgetView>,
    disk: Option<Usage>,
    is_disk_full: bool,
    /// In milliseconds since the Unix epoch.
    now: u64,
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.write(&mut Page(encoder))
    }
}

type Labels<'a> = [(&'static str, &'a str)];

/// Writes metrics, each with its lines.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn metric<'m>(
        &'m mut self,
        name: &'m str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'m>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn gauges<'l>(
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

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.metric(name, help, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// The encoders add `_total` to the name.
    fn counters<'l>(
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
    fn histogram(&mut self, name: &str, help: &str, times: &Histogram) -> fmt::Result {
        let mut below = 0;
        let bucket = |limit: u64| {
            let up_to = times.up_to(limit);
            (seconds(limit), up_to - std::mem::replace(&mut below, up_to))
        };
        let mut buckets: Vec<(f64, u64)> = BUCKETS.into_iter().map(bucket).collect();
        buckets.push((f64::INFINITY, times.count() - below));
        let mut metric = self.metric(name, help, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(seconds(times.sum()), times.count(), &buckets, None)
    }

    /// Sums of times in milliseconds, with their numbers: histograms with a single bucket.
    fn sums<'l>(
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

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floats")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floats")]
const fn float(n: u64) -> f64 {
    n as f64
}

/// What the operating system says about the process, by the usual names.
fn write_process(page: &mut Page<'_>) -> fmt::Result {
    if let Some(bytes) = resident_memory() {
        page.gauge("process_resident_memory_bytes", "Memory of the process that is in RAM", float(bytes))?;
    }
    let cpu = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    let used = Duration::try_from(cpu).unwrap_or_default().as_secs_f64();
    let mut metric = page.metric("process_cpu_seconds", "CPU time of the process", MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, _, u64>(&used, None)?;
    match std::fs::read_dir("/proc/self/fd") {
        Ok(files) => page.gauge("process_open_fds", "Open files and sockets", float(files.count() as u64)),
        Err(_) => Ok(()),
    }
}

impl Metrics {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        self.write_server(page)?;
        self.write_counts(page)?;
        self.write_counters(page)?;
        self.write_times(page)?;
        self.write_queues(page)?;
        self.write_budgets(page)?;
        self.write_disk(page)
    }

    fn write_server(&self, page: &mut Page<'_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION")), ("contract", protocol::CONTRACT_VERSION)];
        page.gauges(
            "zizq_build_info",
            "The version of the server, and of the contract",
            [(version.into(), 1.0)],
        )?;
        write_process(page)?;
        let started = seconds(self.now.saturating_sub(self.sample.uptime_ms));
        page.gauge("process_start_time_seconds", "When the process started, since 1970", started)?;
        let streams = self.sample.streams;
        let by_format = [("sse", streams.events), ("ndjson", streams.bound), ("poll", streams.polls)];
        let lines = by_format.map(|(format, count)| (vec![("format", format)], float(count)));
        page.gauges("zizq_streams", "Connected job streams and waiting polls", lines)?;
        let resumed = [(Vec::new(), streams.resumed)];
        page.counters("zizq_streams_resumed", "Job streams that were resumed", resumed)
    }

    /// The tallies of the tracked queues, and of all others.
    fn tallies(&self) -> impl Iterator<Item = (&str, Tally)> {
        let tracked = self.sample.queues.iter().map(|row| (row.state.name.as_str(), row.tally));
        tracked.chain(std::iter::once((OTHERS, self.sample.untracked)))
    }

    /// The counts of the queues that are not tracked.
    fn other_counts(&self) -> JobCounts {
        let mut others = self.sample.counts;
        for row in &self.sample.queues {
            for status in [Status::Scheduled, Status::Ready, Status::Completed, Status::Dead] {
                *others.stored.of_mut(status) -= row.state.counts.stored.stored(status);
            }
            others.in_flight -= row.state.counts.in_flight;
        }
        others
    }

    fn write_counts(&self, page: &mut Page<'_>) -> fmt::Result {
        let tracked = self.sample.queues.iter().map(|row| (row.state.name.as_str(), row.state.counts));
        let all = tracked.chain(std::iter::once((OTHERS, self.other_counts())));
        let lines = all.flat_map(|(queue, counts)| {
            Status::ALL
                .map(|status| (vec![("queue", queue), ("status", status.as_str())], float(counts.of(status))))
        });
        page.gauges("zizq_jobs", "Jobs by queue and status", lines)?;
        let has_jobs =
            |row: &&crate::board::QueueRow| row.state.paused || row.state.counts.stored.total() > 0;
        let tracked = self.sample.queues.iter().filter(has_jobs).count() as u64;
        let untracked = float(self.sample.all_queues.saturating_sub(tracked));
        page.gauge("zizq_metrics_queues_untracked", "Queues that are summed up as __other__", untracked)
    }

    fn write_counters(&self, page: &mut Page<'_>) -> fmt::Result {
        let enqueued = self.tallies().flat_map(|(queue, tally)| {
            let outcomes =
                [("created", tally.enqueued), ("duplicate", tally.duplicates), ("folded", tally.folded)];
            outcomes.map(|(outcome, count)| (vec![("queue", queue), ("outcome", outcome)], count))
        });
        page.counters("zizq_jobs_enqueued", "Enqueues by what became of them", enqueued)?;
        let delivered = self.tallies().map(|(queue, tally)| (vec![("queue", queue)], tally.delivered));
        page.counters("zizq_jobs_delivered", "Deliveries to workers", delivered)?;
        let ended = self.tallies().flat_map(|(queue, tally)| {
            let outcomes = [
                ("completed", tally.completed),
                ("retried", tally.retried),
                ("dead", tally.dead),
                ("released", tally.released),
                ("returned", tally.returned),
                ("expired", tally.expired),
                ("timed_out", tally.timed_out),
                ("deleted", tally.deleted),
            ];
            outcomes.map(|(outcome, count)| (vec![("queue", queue), ("outcome", outcome)], count))
        });
        page.counters("zizq_jobs_ended", "Deliveries and jobs by how they ended", ended)?;
        let expired = self.tallies().map(|(_, tally)| tally.expired).sum();
        page.counters("zizq_leases_expired", "Leases that ran out", [(Vec::new(), expired)])
    }

    fn write_times(&self, page: &mut Page<'_>) -> fmt::Result {
        let (wait, run) = ("How long jobs were ready before delivery", "How long attempts took");
        page.histogram("zizq_wait_seconds", wait, &self.sample.times.waited)?;
        page.histogram("zizq_run_seconds", run, &self.sample.times.ran)?;
        let waited = self.tallies().map(|(queue, tally)| (queue, tally.waited));
        page.sums("zizq_queue_wait_seconds", wait, waited)?;
        let ran = self.tallies().map(|(queue, tally)| (queue, tally.ran));
        page.sums("zizq_queue_run_seconds", run, ran)
    }

    fn write_queues(&self, page: &mut Page<'_>) -> fmt::Result {
        let rows = &self.sample.queues;
        let age = |name: &QueueName| self.oldest.get(name).map_or(0, |at| self.now.saturating_sub(*at));
        let label = |name| vec![("queue", QueueName::as_str(name))];
        let oldest = rows.iter().map(|row| (label(&row.state.name), seconds(age(&row.state.name))));
        page.gauges(
            "zizq_queue_oldest_ready_seconds",
            "The age of the oldest ready job; 0 without any",
            oldest,
        )?;
        let workers = rows.iter().map(|row| (label(&row.state.name), float(row.state.workers)));
        page.gauges("zizq_queue_workers", "Connected streams that take from the queue", workers)?;
        let paused = rows.iter().map(|row| (label(&row.state.name), f64::from(u8::from(row.state.paused))));
        page.gauges("zizq_queue_paused", "Whether the queue is paused", paused)
    }

    fn write_budgets(&self, page: &mut Page<'_>) -> fmt::Result {
        let lines = self.budgets.iter();
        let lines = lines.map(|budget| (vec![("budget", budget.key.as_str())], f64::from(budget.allocation)));
        page.gauges("zizq_budget_allocation", "The tokens of the budget", lines)
    }

    fn write_disk(&self, page: &mut Page<'_>) -> fmt::Result {
        if let Some(Usage { used, free, reserve }) = self.disk {
            page.gauge("zizq_store_bytes", "What the jobs take on the disk", float(used))?;
            page.gauge("zizq_disk_free_bytes", "What is free on the disk", float(free))?;
            page.gauge(
                "zizq_disk_reserve_bytes",
                "What is kept free; with less, no jobs are accepted",
                float(reserve),
            )?;
        }
        let full = f64::from(u8::from(self.is_disk_full));
        page.gauge("zizq_disk_full", "Whether no jobs are accepted because the disk is full", full)
    }
}
