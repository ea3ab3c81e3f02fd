//! `GET /metrics`, for Prometheus: OpenMetrics 1.0, or the older text format.
//!
//! Everything comes from the board and from memory. A queue has series of its own while it is tracked, so that series do
//! not come and go with bursts, and their number is bounded; the others are summed up. No label has a value of which
//! there can be any number: no ids, addresses, tokens or types.

mod page;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use protocol::job::Status;
use protocol::media::negotiate;
use protocol::name::QueueName;
use rustix::time::ClockId;

use super::calls::Called;
use super::queues::oldest;
use super::stats::resident_memory;
use super::{App, not_acceptable};
use crate::board::Sample;
use crate::clock;
use crate::engine::command::jobs::JobCounts;
use crate::engine::command::report::{BudgetLevel, EntryLevel, GetLevels, Levels, Tally};
use crate::hash::HashMap;
use crate::http::meters as transport;
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;
use crate::http::tls::Acceptors;
use crate::meter::Timing;
use crate::run::handle::CallError;
use crate::run::meters as threads;
use crate::store::disk::Usage;
use page::{Page, Wanted, float, seconds};

/// The label of all queues without series of their own.
const OTHERS: &str = "__other__";
/// The metric that takes a look at the store.
const OLDEST: &str = "zizq_queue_oldest_ready_seconds";

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
    let mut query = request.query()?;
    let wanted = Wanted(query.list("name")?);
    query.finish()?;
    let metrics = gather(app, wanted).await?;
    let media_type = match shape {
        Shape::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        Shape::Text => "text/plain; version=0.0.4; charset=utf-8",
    };
    let written = write(metrics, shape);
    let body =
        written.map_err(|error| Refusal::unavailable(format!("the metrics cannot be written: {error}")))?;
    Ok(reply::document(media_type, body.into_bytes()))
}

async fn gather(app: &App, wanted: Wanted) -> Result<Metrics, Refusal> {
    let waiting = app.engine.waiting();
    let levels = match app.engine.ask(GetLevels).await {
        // While the store is closed, what was known before is shown, or nobody would see why.
        Err(CallError::StoreClosed) => None,
        levels => Some(levels?),
    };
    if levels.is_some() {
        app.board.refresh().await?;
    }
    let sample = app.board.sample();
    let ready = sample.queues.iter().filter(|row| row.state.counts.of(Status::Ready) > 0);
    let oldest = match &levels {
        Some(_) if wanted.has(OLDEST) => {
            oldest(app, ready.map(|row| row.state.name.clone()).collect()).await?
        }
        _ => HashMap::default(),
    };
    let mut jq = app.reader.jq_runs().get();
    jq.iter_mut().zip(app.batcher.jq_runs().get()).for_each(|((_, runs), (_, folds))| *runs += folds);
    let output = app.logs.meters();
    Ok(Metrics {
        auth_failures: app.access.failures(),
        expiries: app.tls.as_ref().map(Acceptors::expiries).unwrap_or_default(),
        sample,
        oldest,
        levels,
        disk: app.reader.disk().await.ok(),
        is_disk_full: app.reader.is_disk_full(),
        waiting,
        calls: app.calls.get(),
        transport: app.transport.clone(),
        threads: app.threads.clone(),
        entries: app.reader.entries().into_iter().collect(),
        jq,
        output: [output.taken.get(), output.dropped.get()],
        lagged: app.events.lagged(),
        lost_spans: app.spans.lost(),
        by_queue: app.metrics.metrics_queue_histograms,
        now: clock::now().wall,
        wanted,
    })
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
    auth_failures: u64,
    /// The files of certificates, and when they expire, in seconds since the Unix epoch.
    expiries: Vec<(String, i64)>,
    sample: Sample,
    oldest: HashMap<QueueName, u64>,
    /// None while the store is closed.
    levels: Option<Box<Levels>>,
    disk: Option<Usage>,
    is_disk_full: bool,
    /// Commands that wait for the engine.
    waiting: usize,
    calls: Vec<Called>,
    transport: Arc<transport::Meters>,
    threads: Arc<threads::Meters>,
    /// Entries of the store that were read, by what for.
    entries: Vec<(&'static str, u64)>,
    /// jq expressions, by how they ended.
    jq: [(&'static str, u64); 5],
    /// Bytes of output, taken and dropped.
    output: [u64; 2],
    /// Events that listeners missed.
    lagged: u64,
    lost_spans: u64,
    /// Whether times are shown by queue.
    by_queue: bool,
    /// In milliseconds since the Unix epoch.
    now: u64,
    wanted: Wanted,
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.write(&mut Page { encoder, wanted: self.wanted.clone() })
    }
}

/// What the operating system says about the process, by the usual names.
fn write_process(page: &mut Page<'_>) -> fmt::Result {
    if let Some(bytes) = resident_memory() {
        page.gauge("process_resident_memory_bytes", "Memory of the process that is in RAM", float(bytes))?;
    }
    let cpu = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    let used = Duration::try_from(cpu).unwrap_or_default().as_secs_f64();
    page.metric("process_cpu_seconds", "CPU time of the process", MetricType::Counter, |mut metric| {
        metric.encode_counter::<NoLabelSet, _, u64>(&used, None)
    })?;
    match std::fs::read_dir("/proc/self/fd") {
        Ok(files) => page.gauge("process_open_fds", "Open files and sockets", float(files.count() as u64)),
        Err(_) => Ok(()),
    }
}

fn budget_labels(budget: &BudgetLevel) -> Vec<(&'static str, &str)> {
    vec![("budget", budget.key.as_str())]
}

fn entry_labels(entry: &EntryLevel) -> Vec<(&'static str, &str)> {
    vec![("group", entry.group.as_str()), ("entry", entry.name.as_str())]
}

impl Metrics {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        self.write_server(page)?;
        self.write_counts(page)?;
        self.write_counters(page)?;
        self.write_times(page)?;
        self.write_queues(page)?;
        self.write_budgets(page)?;
        self.write_crons(page)?;
        self.write_http(page)?;
        self.write_threads(page)?;
        self.write_work(page)?;
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
        page.counters("zizq_streams_resumed", "Job streams that were resumed", resumed)?;
        let failures = [(Vec::new(), self.auth_failures)];
        page.counters("zizq_auth_failures", "Calls that were answered 401", failures)?;
        let expires = |at: i64| float(u64::try_from(at).unwrap_or_default());
        let lines = self.expiries.iter().map(|(file, at)| (vec![("file", file.as_str())], expires(*at)));
        let help = "When the first certificate in the file expires, since 1970";
        page.gauges("zizq_tls_expiry_timestamp_seconds", help, lines)
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
        if self.by_queue {
            let rows = || {
                self.sample
                    .queues
                    .iter()
                    .map(|row| (row.state.name.as_str(), row.times.as_deref().cloned().unwrap_or_default()))
            };
            page.histograms(
                "zizq_queue_wait_seconds",
                wait,
                rows().map(|(queue, times)| (queue, times.waited)),
            )?;
            return page.histograms(
                "zizq_queue_run_seconds",
                run,
                rows().map(|(queue, times)| (queue, times.ran)),
            );
        }
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
        page.gauges(OLDEST, "The age of the oldest ready job; 0 without any", oldest)?;
        let workers = rows.iter().map(|row| (label(&row.state.name), float(row.state.workers)));
        page.gauges("zizq_queue_workers", "Connected streams that take from the queue", workers)?;
        let paused = rows.iter().map(|row| (label(&row.state.name), f64::from(u8::from(row.state.paused))));
        page.gauges("zizq_queue_paused", "Whether the queue is paused", paused)
    }

    fn write_budgets(&self, page: &mut Page<'_>) -> fmt::Result {
        let budgets = || self.levels.iter().flat_map(|levels| &levels.budgets);
        let lines = budgets().map(|budget| (budget_labels(budget), f64::from(budget.allocation)));
        page.gauges("zizq_budget_allocation", "The tokens of the budget", lines)?;
        let lines = budgets().map(|budget| (budget_labels(budget), f64::from(budget.available)));
        page.gauges("zizq_budget_available", "The tokens that are left of the budget", lines)?;
        let lines = budgets().map(|budget| (budget_labels(budget), float(budget.parked)));
        let help = "Unfinished jobs that draw on the budget and are not in flight";
        page.gauges("zizq_budget_parked_jobs", help, lines)
    }

    fn write_crons(&self, page: &mut Page<'_>) -> fmt::Result {
        let entries = || self.levels.iter().flat_map(|levels| &levels.entries);
        let lines = entries().filter_map(|entry| Some((entry_labels(entry), seconds(entry.last_at?))));
        page.gauges("zizq_cron_last_timestamp_seconds", "When the entry last enqueued, since 1970", lines)?;
        let lines = entries().filter_map(|entry| Some((entry_labels(entry), seconds(entry.next_at?))));
        page.gauges("zizq_cron_next_timestamp_seconds", "When the entry enqueues next, since 1970", lines)?;
        let lines = entries().map(|entry| (entry_labels(entry), entry.missed));
        let help = "Times that went by without a job, because the server did not run or was too late";
        page.counters("zizq_cron_missed", help, lines)
    }

    fn write_http(&self, page: &mut Page<'_>) -> fmt::Result {
        let of = |called: &Called| match called.route {
            Some(route) => (route.path, route.method.as_str()),
            None => ("none", "any"),
        };
        let lines = self.calls.iter().flat_map(|called| {
            let (route, method) = of(called);
            called
                .classes
                .map(|(code, count)| (vec![("route", route), ("method", method), ("code", code)], count))
        });
        page.counters(
            "zizq_http_requests",
            "Answered requests by route, method and class of the status",
            lines,
        )?;
        let lines = self.calls.iter().map(|called| {
            let (route, method) = of(called);
            (vec![("route", route), ("method", method)], called.times)
        });
        let help = "Time until the answer began: of a stream until it was open, of a call that waits for jobs with the wait";
        page.timings("zizq_http_request_seconds", help, lines)?;
        page.gauge("zizq_http_connections", "Open connections", float(self.transport.connections()))?;
        let lines = self.transport.refused().map(|(reason, count)| (vec![("reason", reason)], count));
        page.counters(
            "zizq_http_refused",
            "Connections and calls that were refused, whatever they asked for",
            lines,
        )
    }

    fn write_threads(&self, page: &mut Page<'_>) -> fmt::Result {
        let threads::Meters { turns, commits, syncs, damaged } = &*self.threads;
        let one = |timing: &Timing| [(Vec::new(), timing.get())];
        page.timings("zizq_engine_turn_seconds", "Turns of the engine, with their commits", one(turns))?;
        let waiting = float(self.waiting as u64);
        page.gauge("zizq_engine_waiting_commands", "Commands that wait for the engine", waiting)?;
        page.timings(
            "zizq_store_commit_seconds",
            "Commits, until the operating system has them",
            one(commits),
        )?;
        page.timings("zizq_store_sync_seconds", "Syncs to the disk that answers waited for", one(syncs))?;
        let damaged = [(Vec::new(), damaged.get())];
        page.counters("zizq_store_damaged_records", "Records that were set aside as unreadable", damaged)?;
        let is_open = f64::from(u8::from(self.levels.is_some()));
        page.gauge(
            "zizq_store_open",
            "Whether the store is open; 0 while it is reopened after a failure",
            is_open,
        )
    }

    fn write_work(&self, page: &mut Page<'_>) -> fmt::Result {
        let lines = self.entries.iter().map(|(call, count)| (vec![("call", *call)], *count));
        page.counters("zizq_reader_entries", "Entries of the store that were read for calls", lines)?;
        let lines = self.jq.iter().map(|(outcome, count)| (vec![("outcome", *outcome)], *count));
        page.counters("zizq_jq_runs", "jq expressions, each over all its payloads", lines)?;
        let [taken, dropped] = self.output;
        page.counters("zizq_log_bytes", "Output of jobs that was taken in", [(Vec::new(), taken)])?;
        let help = "Output of jobs that was refused or lost, for lack of space or because the disk failed";
        page.counters("zizq_log_dropped_bytes", help, [(Vec::new(), dropped)])?;
        let help = "Events that slow listeners missed, each listener's by themselves";
        page.counters("zizq_events_lagged", help, [(Vec::new(), self.lagged)])?;
        page.counters(
            "zizq_spans_lost",
            "Spans that did not reach the collector",
            [(Vec::new(), self.lost_spans)],
        )
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
