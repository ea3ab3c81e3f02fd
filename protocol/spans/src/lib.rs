//! Spans on their way to an OpenTelemetry collector, by OTLP over HTTP.
//!
//! Nothing is recorded unless the environment names a collector (`OTEL_EXPORTER_OTLP_ENDPOINT`) and the trace is sampled.
//! A span that has ended waits in a bounded queue for a thread that sends batches. Where the collector is away or slow,
//! spans are dropped and counted; nothing else waits for it.
#![warn(missing_docs)]

mod client;
pub mod names;
mod span;

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter as Otlp, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor as _,
};
use protocol::plural::plural;
use protocol::trace::Trace;

use crate::client::Calls;
pub use crate::span::{Kind, Moment, Span};

/// The most spans that wait; more are dropped.
const MAX_WAITING: usize = 2_048;
/// The most spans in one call.
const MAX_BATCH: usize = 512;
/// How often waiting spans are sent.
const PACE: Duration = Duration::from_secs(1);
/// How long the last spans may delay the end of the program.
const LAST: Duration = Duration::from_secs(2);

/// The variables that name a collector: for spans alone, and for everything, to which `/v1/traces` is added.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// The variables that name the protocol.
const FORMATS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];

/// The variables that name a file with the certificates to trust.
const CERTIFICATES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];

/// Where spans go that have ended.
#[derive(Debug, Clone, Default)]
pub struct Spans(Option<Arc<Pipe>>);

#[derive(Debug)]
struct Pipe {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Spans that are queued or being sent.
    waiting: AtomicUsize,
    /// Spans that did not reach the collector.
    lost: AtomicU64,
}

impl Counts {
    fn lose(&self, spans: usize) -> u64 {
        let spans = spans as u64;
        self.lost.fetch_add(spans, Ordering::Relaxed) + spans
    }
}

impl Spans {
    /// As the environment says (`OTEL_*`); off if it names no collector, or wrongly, which is logged. Must be called on a
    /// runtime.
    #[must_use]
    pub fn from_env(service: &'static str, version: &'static str) -> Self {
        let is = |name: &str, value: &str| env::var(name).is_ok_and(|set| set.eq_ignore_ascii_case(value));
        let named = ENDPOINTS.iter().any(|name| env::var_os(name).is_some_and(|url| !url.is_empty()));
        if !named || is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Self::default();
        }
        match pipe(service, version) {
            Ok(pipe) => Self(Some(Arc::new(pipe))),
            Err(why) => {
                tracing::error!(
                    "no spans are sent: {why}; look at the variables that begin with OTEL_EXPORTER_OTLP"
                );
                Self::default()
            }
        }
    }

    /// The present, if spans are recorded at all.
    #[must_use]
    pub fn now(&self) -> Option<Moment> {
        self.0.is_some().then(Moment::now)
    }

    /// The context if spans of its trace are recorded here.
    #[must_use]
    pub fn wanted<'a>(&self, trace: Option<&'a Trace>) -> Option<&'a Trace> {
        self.0.as_ref()?;
        trace.filter(|trace| trace.parent.is_sampled())
    }

    /// Ends a span and sends it some time later.
    pub fn end(&self, span: Span) {
        let Some(Pipe { processor, scope, counts }) = self.0.as_deref() else { return };
        if counts.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            counts.waiting.fetch_sub(1, Ordering::Relaxed);
            counts.lose(1);
            return;
        }
        processor.on_end(span.finished(scope));
    }

    /// How many spans did not reach the collector so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.as_ref().map_or(0, |pipe| pipe.counts.lost.load(Ordering::Relaxed))
    }

    /// Sends what waits, for two seconds at most, and says what was lost.
    pub async fn close(&self) {
        let Some(pipe) = self.0.clone() else { return };
        let counts = pipe.counts.clone();
        // It blocks its thread.
        let closing = tokio::task::spawn_blocking(move || pipe.processor.shutdown_with_timeout(LAST));
        let sent = closing.await.is_ok_and(|closed| closed.is_ok());
        let waiting = if sent { 0 } else { counts.waiting.load(Ordering::Relaxed) };
        let lost = counts.lost.load(Ordering::Relaxed) + waiting as u64;
        if lost > 0 {
            tracing::warn!("{lost} {} did not reach the collector", plural(lost, "span", "spans"));
        }
    }
}

fn pipe(service: &'static str, version: &'static str) -> Result<Pipe, String> {
    let certificates = CERTIFICATES.iter().find_map(env::var_os).filter(|path| !path.is_empty());
    let calls = Calls::new(certificates.as_deref().map(Path::new))?;
    let exporter = Otlp::builder().with_http().with_http_client(calls).with_protocol(format()?);
    let exporter = exporter.build().map_err(|e| e.to_string())?;
    let counts = Arc::<Counts>::default();
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(MAX_WAITING)
        .with_max_export_batch_size(MAX_BATCH)
        .with_scheduled_delay(PACE)
        .build();
    let exporter = Counted { exporter, counts: counts.clone() };
    let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    processor.set_resource(&resource(service, version));
    let scope = InstrumentationScope::builder(service).with_version(version).build();
    Ok(Pipe { processor, scope, counts })
}

/// How spans are written, as the specification has it by default.
fn format() -> Result<Protocol, String> {
    let named = FORMATS.iter().find_map(|name| env::var(name).ok()).filter(|format| !format.is_empty());
    match named.as_deref() {
        None | Some("http/protobuf") => Ok(Protocol::HttpBinary),
        Some("http/json") => Ok(Protocol::HttpJson),
        Some(other) => Err(format!("the protocol `{other}` is neither http/protobuf nor http/json")),
    }
}

/// What sends the spans. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` come before our own.
fn resource(service: &'static str, version: &'static str) -> Resource {
    let is_named = env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty())
        || env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|list| list.contains("service.name="));
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", version));
    if is_named { builder.build() } else { builder.with_service_name(service).build() }
}

/// Counts what reached the collector and what did not.
#[derive(Debug)]
struct Counted {
    exporter: Otlp,
    counts: Arc<Counts>,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        self.counts.waiting.fetch_sub(spans, Ordering::Relaxed);
        if let Err(why) = &sent {
            let lost = self.counts.lose(spans);
            let noun = plural(spans as u64, "span", "spans");
            tracing::warn!("cannot send {spans} {noun} to the collector, {lost} lost so far: {why}");
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
