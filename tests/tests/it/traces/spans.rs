//! The spans that server and worker send.

use std::fs;
use std::sync::Arc;

use http::Method;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tests::binaries::binary;
use tests::endpoint::Endpoint;
use tests::wait::{now_ms, until, within};
use tests::{Client, Server, Worker, id};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::collector::{Collector, Got, Variables, names};
use super::{OTHER, PARENT, job, traced};
use crate::tls::{Identity, Place};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN_ID: &str = "b7ad6b7169203331";
const SERVER: i32 = 2;
const INTERNAL: i32 = 1;
const CONSUMER: i32 = 5;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn none() -> Variables {
    Vec::new()
}

async fn server(variables: Variables) -> Server {
    Server::with_variables(["--heartbeat-interval", "1s"], variables).await
}

fn with_program(script: &str) -> String {
    script.replace("@ctl", &format!("{} ctl", binary("zizq-worker").display()))
}

fn expect_attributes(got: &Got, expected: &Value) {
    let mut all = json!({"messaging.system": "zizq", "messaging.destination.name": "q"});
    all.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
    assert_eq!(json!(got.attributes), all, "{}", got.span.name);
}

/// A job that fails once, says what its environment is, and enqueues another.
async fn run_twice(client: &Client) -> (Value, Value) {
    let mut new = job(1);
    new["trace"] = json!({"traceparent": PARENT, "tracestate": "a=b"});
    new["backoff"] = json!({"base_ms": 0, "exponent": 0, "jitter_ms": 0});
    let done = client.post("/jobs?wait_ms=30000", &new).await.expect(201);
    assert_eq!((&done["status"], &done["attempts"]), (&json!("completed"), &json!(1)));
    assert_eq!(done["trace"], new["trace"], "the job keeps the context of its producer");
    let next = client.poll_one("next").await;
    (done, next)
}

const TWICE: &str = "test $ZIZQ_JOB_ATTEMPT = 2 || { echo no >&2; exit 3; }; \
     @ctl enqueue '{\"queue\": \"next\", \"type\": \"t\", \"payload\": 1}'; @ctl result \"\\\"$TRACEPARENT\\\"\"";

#[tokio::test]
async fn a_job_gives_spans_for_its_enqueue_its_waits_and_its_attempts() {
    for protocol in ["http/protobuf", "http/json"] {
        let mut collector = Collector::start().await;
        let mut variables = collector.variables();
        variables.push(("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()));
        let server = server(variables.clone()).await;
        let _worker =
            Worker::with_variables(&server, ["--run", &format!("q={}", with_program(TWICE))], variables);
        let before = now_ms();
        let (done, next) = run_twice(&server.client()).await;
        let spans = collector.next(7).await;
        let after = now_ms();
        let expected =
            ["enqueue next", "enqueue q", "process q", "process q", "wait next", "wait q", "wait q"];
        assert_eq!(names(&spans), expected);
        let [enqueue_next, enqueue, failed, succeeded, wait_next, first_wait, second_wait] = &spans[..]
        else {
            unreachable!()
        };
        for got in &spans {
            let Got { span, .. } = got;
            assert_eq!((hex(&span.trace_id), &*span.trace_state), (TRACE_ID.to_owned(), "a=b"));
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
            assert!((before * 1_000_000..after * 1_000_000).contains(&span.end_time_unix_nano), "{span:?}");
            assert_eq!((&*got.path, &*got.api_key), ("/v1/traces", "secret"));
            let (service, scope) = (got.resource["service.name"].as_str().unwrap(), &*got.scope);
            let sender = if span.kind == CONSUMER { "zizq-worker" } else { "zizq-server" };
            assert_eq!((service, scope), (sender, sender));
            assert_eq!(got.resource["service.version"], "0.1.0");
        }
        for got in [enqueue, failed, succeeded, first_wait, second_wait] {
            assert_eq!(hex(&got.span.parent_span_id), SPAN_ID, "{}", got.span.name);
        }
        // What the job enqueued lies below the attempt that did so, as its environment said.
        let of_attempt = format!("00-{TRACE_ID}-{}-01", hex(&succeeded.span.span_id));
        assert_eq!(
            (&done["result"], &next["trace"]["traceparent"]),
            (&json!(of_attempt), &json!(of_attempt))
        );
        assert_eq!(enqueue_next.span.parent_span_id, succeeded.span.span_id);
        assert_eq!(wait_next.span.parent_span_id, succeeded.span.span_id);
        check_kinds(&spans);
        check_times(enqueue, first_wait, failed, second_wait, succeeded);
        check_attributes(&spans, id(&done), id(&next));
    }
}

fn check_kinds(spans: &[Got]) {
    for Got { span, .. } in spans {
        let kind = match span.name.split_once(' ').unwrap().0 {
            "enqueue" => SERVER,
            "wait" => INTERNAL,
            _ => CONSUMER,
        };
        assert_eq!(span.kind, kind, "{}", span.name);
        let links: Vec<_> = span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect();
        let expected =
            if kind == CONSUMER { vec![(TRACE_ID.to_owned(), SPAN_ID.to_owned())] } else { vec![] };
        assert_eq!(links, expected, "{}", span.name);
    }
}

/// Waits are measured in milliseconds.
fn check_times(enqueue: &Got, first: &Got, failed: &Got, second: &Got, succeeded: &Got) {
    const MS: u64 = 1_000_000;
    let (start, end) = (|got: &Got| got.span.start_time_unix_nano, |got: &Got| got.span.end_time_unix_nano);
    assert!(start(first) / MS >= start(enqueue) / MS);
    assert!(end(first) <= start(failed) && end(failed) / MS <= start(second) / MS);
    assert!(end(second) <= start(succeeded));
}

fn check_attributes(spans: &[Got], job: &str, next: &str) {
    let enqueue = |job: &str| {
        json!({"messaging.operation.name": "enqueue", "messaging.message.id": job, "zizq.job.type": "t",
        "http.request.method": "POST", "http.route": "/jobs"})
    };
    let of = |operation: &str, attempt: u64, more: Value| {
        let mut all = json!({"messaging.operation.name": operation, "messaging.message.id": job, "zizq.job.type": "t",
            "zizq.job.attempt": attempt, "zizq.job.delivery": attempt});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let process = |attempt, more: Value| {
        let mut more = more;
        more["messaging.operation.type"] = json!("process");
        of("process", attempt, more)
    };
    let mut of_next = enqueue(next);
    of_next["messaging.destination.name"] = json!("next");
    expect_attributes(&spans[0], &of_next);
    expect_attributes(&spans[1], &enqueue(job));
    let failed = json!({"process.exit.code": 3, "zizq.job.outcome": "failure", "error.type": "exit_code"});
    expect_attributes(&spans[2], &process(1, failed));
    let status = spans[2].span.status.as_ref().unwrap();
    assert_eq!((status.code, &*status.message), (2, "no (exited with code 3)"));
    expect_attributes(&spans[3], &process(2, json!({"process.exit.code": 0, "zizq.job.outcome": "success"})));
    assert!(spans[3].span.status.as_ref().is_none_or(|status| status.code == 0));
    expect_attributes(&spans[5], &of("wait", 1, json!({})));
    expect_attributes(&spans[6], &of("wait", 2, json!({})));
}

#[tokio::test]
async fn a_worker_may_begin_a_trace_of_its_own_and_names_are_those_of_the_environment() {
    let mut collector = Collector::start().await;
    let mut variables = collector.variables();
    variables.push(("OTEL_SERVICE_NAME", "thumbnails".to_owned()));
    let server = server(none()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let endpoint = Endpoint::start().await;
    let routes = format!(
        "trace = 'link'\n[[route]]\nqueue = 'q'\nrun = 'kill -9 $$'\n[[route]]\nqueue = 'child'\nurl = '{}'\ntrace = 'child'\n",
        endpoint.url()
    );
    fs::write(file.path(), routes).unwrap();
    let _worker = Worker::with_variables(&server, ["--config", file.path().to_str().unwrap()], variables);
    let mut new = traced(1, PARENT);
    new["retry_limit"] = json!(0);
    server.client().enqueue(&new).await;
    let [got] = &collector.next(1).await[..] else { unreachable!() };
    assert_ne!(hex(&got.span.trace_id), TRACE_ID);
    assert!(got.span.parent_span_id.is_empty() && got.span.links.len() == 1);
    let link = &got.span.links[0];
    assert_eq!((hex(&link.trace_id), hex(&link.span_id)), (TRACE_ID.to_owned(), SPAN_ID.to_owned()));
    assert_eq!(got.resource["service.name"], "thumbnails");
    assert_eq!(got.attributes["zizq.process.signal"], "signal 9 (SIGKILL)");
    new["queue"] = json!("child");
    server.client().enqueue(&new).await;
    let mut endpoint = endpoint;
    let call = endpoint.next_call().await;
    let parent = call.header("traceparent").to_owned();
    call.answer(500);
    let [got] = &collector.next(1).await[..] else { unreachable!() };
    assert_eq!(parent, format!("00-{TRACE_ID}-{}-01", hex(&got.span.span_id)));
    assert_eq!(
        (&got.attributes["http.response.status_code"], hex(&got.span.parent_span_id)),
        (&json!(500), SPAN_ID.to_owned())
    );
}

/// One span for each queue and trace of a call, and none for what is not sampled.
#[tokio::test]
async fn nothing_is_sent_for_producers_that_do_not_sample() {
    let mut collector = Collector::start().await;
    let mut server = server(collector.variables()).await;
    let worker =
        Worker::with_variables(&server, ["--run", "q=true", "--run", "other=true"], collector.variables());
    let client = server.client();
    for plain in [job(1), traced(1, OTHER)] {
        let done = client.post("/jobs?wait_ms=30000", &plain).await.expect(201);
        assert_eq!(done["status"], "completed");
    }
    let mut other = traced(3, PARENT);
    other["queue"] = json!("never");
    let mut twice = traced(4, PARENT);
    twice["unique_key"] = json!("k");
    twice["queue"] = json!("never");
    let jobs = json!({"jobs": [job(1), traced(2, OTHER), other, twice, twice]});
    client.post("/jobs/bulk", &jobs).await.expect(201);
    let spans = collector.next(1).await;
    assert_eq!(names(&spans), ["enqueue never"]);
    let attributes = &spans[0].attributes;
    assert_eq!(
        (&attributes["messaging.batch.message_count"], &attributes["zizq.jobs.not_new"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(attributes["http.route"], "/jobs/bulk");
    // What waits is sent at the end.
    let mut last = traced(5, PARENT);
    last["queue"] = json!("never");
    client.enqueue(&last).await;
    drop(worker);
    assert_eq!(server.sigterm().await.code(), Some(0));
    let last = collector.next(1).await;
    assert!(last.iter().all(|got| hex(&got.span.trace_id) == TRACE_ID), "{last:?}");
    assert!(collector.rest().iter().all(|got| hex(&got.span.trace_id) == TRACE_ID));
}

/// The names of the threads of a process.
fn threads(server: &mut Server) -> Vec<String> {
    let folder = format!("/proc/{}/task", server.process().pid().unwrap().as_raw_nonzero());
    let names = fs::read_dir(folder)
        .unwrap()
        .filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

#[tokio::test]
async fn without_the_variable_there_is_nothing_that_could_send() {
    let mut collector = Collector::start().await;
    let sends = |threads: &[String]| threads.iter().any(|name| name.starts_with("OpenTelemetry"));
    let off = |name, value: &str| {
        let mut variables = collector.variables();
        variables.push((name, value.to_owned()));
        variables
    };
    let elsewhere = vec![("OTEL_SERVICE_NAME", "s".to_owned())];
    for (variables, said) in [
        (none(), ""),
        (elsewhere, ""),
        (off("OTEL_SDK_DISABLED", "true"), ""),
        (off("OTEL_TRACES_EXPORTER", "none"), ""),
        (off("OTEL_EXPORTER_OTLP_ENDPOINT", ""), ""),
        (off("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), "no spans are sent: the protocol `grpc` is neither"),
        (
            off("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere"),
            "no spans are sent: cannot read the certificates in /nowhere",
        ),
        (off("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url"), "no spans are sent: "),
    ] {
        let mut server = server(variables).await;
        server.client().enqueue(&traced(1, PARENT)).await;
        let threads = threads(&mut server);
        assert!(!sends(&threads), "{threads:?}");
        assert_eq!(server.sigterm().await.code(), Some(0));
        let log = server.process().log();
        assert_eq!(log.contains("spans"), !said.is_empty(), "{log}");
        assert!(log.contains(said), "{log}");
    }
    let mut server = server(collector.variables()).await;
    until("the thread that sends", async || sends(&threads(&mut server)).then_some(())).await;
    assert!(collector.rest().is_empty());
}

/// Neither calls nor jobs nor the end of the programs wait for it, and what is lost is said.
#[tokio::test]
async fn a_collector_that_hangs_or_is_away_delays_nothing() {
    let silent = Endpoint::start().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (url, said) in [
        (silent.url().to_owned(), "did not reach the collector"),
        (format!("http://{closed}"), "the collector"),
    ] {
        let variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", url)];
        let mut server = server(variables.clone()).await;
        let mut worker =
            Worker::with_variables(&server, ["--run", "q=true", "--concurrency", "4"], variables);
        let client = server.client();
        // More than the queue holds.
        let parent = |n: u64| format!("00-{n:032x}-00000000000000aa-01");
        let mut jobs: Vec<Value> = (1..=6_000).map(|n| traced(n, &parent(n))).collect();
        jobs.iter_mut().skip(40).for_each(|job| job["queue"] = json!("never"));
        client.post("/jobs/bulk", &json!({"jobs": jobs})).await.expect(201);
        until("the jobs", async || (client.count("queue=q").await == 0).then_some(())).await;
        assert_eq!(client.call(Method::GET, "/health").await.status, 200);
        assert_eq!(worker.sigterm().await.code(), Some(0));
        assert_eq!(server.sigterm().await.code(), Some(0));
        for log in [server.process().log(), worker.process().log()] {
            assert!(log.contains(said), "{log}");
        }
    }
}

#[tokio::test]
async fn a_collector_may_be_behind_tls() {
    let identity = Identity::new();
    let place = Place::new(&identity);
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor =
        TlsAcceptor::from(Arc::new(config.with_single_cert(vec![identity.der.clone()], key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/own", listener.local_addr().unwrap().port());
    let server = server(vec![
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", place.certificate().to_str().unwrap().to_owned()),
    ])
    .await;
    server.client().enqueue(&traced(1, PARENT)).await;
    let (connection, _) = within("a connection", listener.accept()).await.unwrap();
    let mut connection = within("TLS", acceptor.accept(connection)).await.unwrap();
    let mut head = [0; 15];
    within("a call", connection.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"POST /own HTTP/", "the variable for spans alone has the whole URL");
}
