//! A collector that takes spans as an OpenTelemetry collector does: OTLP over HTTP, decoded by the official types.

use std::collections::BTreeMap;

use http::Response;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};
use tests::endpoint::Endpoint;
use tests::wait::within;
use tokio::sync::mpsc;

/// What tells a program where the collector is.
pub(super) type Variables = Vec<(&'static str, String)>;

/// A span, with what sent it and how.
#[derive(Debug, Clone)]
pub(super) struct Got {
    pub(super) span: Span,
    /// The attributes of the span.
    pub(super) attributes: BTreeMap<String, Value>,
    /// The attributes of the program.
    pub(super) resource: BTreeMap<String, Value>,
    pub(super) scope: String,
    pub(super) path: String,
    pub(super) api_key: String,
}

/// Answers every call; its spans wait for the test.
pub(super) struct Collector {
    url: String,
    spans: mpsc::Receiver<Got>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let mut endpoint = Endpoint::start().await;
        let url = endpoint.url().to_owned();
        let (sender, spans) = mpsc::channel(10_000);
        tokio::spawn(async move {
            while !sender.is_closed() {
                let Some(call) = endpoint.any_call().await else { return };
                for got in decode(&call) {
                    drop(sender.send(got).await);
                }
                call.answer_with(Response::builder().status(200).body(Default::default()).unwrap());
            }
        });
        Self { url, spans }
    }

    pub(super) fn variables(&self) -> Variables {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.url.clone()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret".to_owned()),
        ]
    }

    /// The next spans, by their names and starts.
    pub(super) async fn next(&mut self, number: usize) -> Vec<Got> {
        let mut spans = Vec::new();
        while spans.len() < number {
            let what = format!("span {} of {number} after {:?}", spans.len() + 1, names(&spans));
            spans.push(within(what, self.spans.recv()).await.unwrap());
        }
        spans.sort_by_key(|got| (got.span.name.clone(), got.span.start_time_unix_nano));
        spans
    }

    /// Those that have come and were not looked at.
    pub(super) fn rest(&mut self) -> Vec<Got> {
        std::iter::from_fn(|| self.spans.try_recv().ok()).collect()
    }
}

pub(super) fn names(spans: &[Got]) -> Vec<&str> {
    spans.iter().map(|got| got.span.name.as_str()).collect()
}

fn decode(call: &tests::endpoint::Call) -> Vec<Got> {
    let body = call.request.body().clone();
    let request = match call.header("content-type") {
        "application/x-protobuf" => ExportTraceServiceRequest::decode(body).unwrap(),
        "application/json" => serde_json::from_slice(&body).unwrap(),
        other => panic!("a content type of OTLP: {other}"),
    };
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = attributes(of_resource.resource.unwrap().attributes);
        for of_scope in of_resource.scope_spans {
            let scope = of_scope.scope.unwrap().name;
            spans.extend(of_scope.spans.into_iter().map(|span| Got {
                attributes: attributes(span.attributes.clone()),
                span,
                resource: resource.clone(),
                scope: scope.clone(),
                path: call.request.uri().path().to_owned(),
                api_key: call.header("api-key").to_owned(),
            }));
        }
    }
    spans
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, Value> {
    let value = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::IntValue(number)) => json!(number),
        Some(any_value::Value::BoolValue(truth)) => json!(truth),
        other => panic!("{other:?}"),
    };
    let number = list.len();
    let map: BTreeMap<_, _> = list.into_iter().map(|one| (one.key, value(one.value))).collect();
    assert_eq!(map.len(), number, "an attribute is there once");
    map
}
