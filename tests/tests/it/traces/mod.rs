//! Traces: the trace context of jobs, from producers to workers, and the spans that both programs send.

mod collector;
mod spans;

use http::Method;
use protocol::frame::StreamFormat;
use serde_json::{Value, json};
use tests::binaries::binary;
use tests::client::Call;
use tests::{Client, Server, Wire, Worker, id};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-00";

fn job(payload: u64) -> Value {
    json!({"queue": "q", "type": "t", "payload": payload})
}

/// A job with a trace of its own.
fn traced(payload: u64, parent: &str) -> Value {
    let mut job = job(payload);
    job["trace"] = json!({ "traceparent": parent });
    job
}

fn post<'a>(client: &'a Client, path: &str, body: &Value, headers: &[(&'static str, &str)]) -> Call<'a> {
    let call = client.call(Method::POST, path).value(body);
    headers.iter().fold(call, |call, (name, value)| call.also(name, value))
}

#[tokio::test]
async fn a_job_has_the_trace_of_its_member_or_else_of_its_call() {
    let server = Server::start().await;
    let own = json!({"traceparent": OTHER, "tracestate": "own=1"});
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let of_call = json!({"traceparent": PARENT, "tracestate": "a=b,c=d"});
        let with_own = json!({"queue": "q", "type": "t", "payload": 1, "trace": own});
        let both = [("traceparent", PARENT), ("tracestate", "a=b"), ("tracestate", "c=d")];
        for (headers, of_call) in [
            (&[][..], None),
            (&both[..1], Some(json!({"traceparent": PARENT}))),
            (&both[..], Some(of_call)),
            // What is wrong in a header is ignored, as W3C Trace Context demands.
            (&both[1..], None),
            (&[("traceparent", "nonsense"), ("tracestate", "a=b")][..], None),
            (&[("traceparent", PARENT), ("traceparent", OTHER)][..], None),
            (
                &[("traceparent", PARENT), ("tracestate", "nonsense")][..],
                Some(json!({"traceparent": PARENT})),
            ),
        ] {
            for (job, expected) in [(job(1), of_call.as_ref()), (with_own.clone(), Some(&own))] {
                let one = post(&client, "/jobs", &job, headers).await.expect(201);
                assert_eq!(one.get("trace"), expected, "{job} {headers:?}");
                assert_eq!(client.job(id(&one)).await.get("trace"), expected);
            }
            let body = json!({"jobs": [job(1), with_own, job(3)]});
            let jobs = post(&client, "/jobs/bulk", &body, headers).await.expect(201);
            let traces = [0, 1, 2].map(|n| jobs["jobs"][n].get("trace"));
            assert_eq!(traces, [of_call.as_ref(), Some(&own), of_call.as_ref()], "{headers:?}");
        }
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_bad_trace_is_refused_and_names_of_others_are_understood() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        for (trace, names) in [
            (json!(PARENT), "trace: invalid type"),
            (json!({}), "trace: missing field `traceparent`"),
            (json!({"tracestate": "a=b"}), "trace: missing field `traceparent`"),
            (json!({"traceparent": "nonsense"}), "trace.traceparent: `nonsense` is no traceparent"),
            (
                json!({"traceparent": PARENT, "tracestate": "x".repeat(513)}),
                "trace.tracestate: a tracestate has at most 512",
            ),
        ] {
            let mut bad = job(1);
            bad["trace"] = trace;
            client.post("/jobs", &bad).await.expect_refusal(400, names);
            let bulk = json!({"jobs": [job(1), bad]});
            client.post("/jobs/bulk", &bulk).await.expect_refusal(400, &format!("jobs[1]: {names}"));
        }
        let mut misplaced = job(1);
        misplaced["traceparent"] = json!(PARENT);
        client.post("/jobs", &misplaced).await.expect_refusal(400, "did you mean `trace`?");
        let body = json!({"jobs": [job(1)], "trace": {"traceparent": PARENT}});
        client.post("/jobs/bulk", &body).await.expect_refusal(400, "trace: it belongs in each of the jobs");
        assert_eq!(client.count("").await, 0);
    }
}

#[tokio::test]
async fn every_stream_delivers_the_trace() {
    let server = Server::start().await;
    let client = server.client();
    for format in [StreamFormat::NdJson, StreamFormat::MessagePack, StreamFormat::EventStream] {
        let mut stream = client.take(format, "queue=q").await;
        client.enqueue(&traced(1, PARENT)).await;
        let taken = stream.next_job().await;
        assert_eq!(taken["trace"], json!({"traceparent": PARENT}), "{format:?}");
        client.succeed(&taken).await;
        client.enqueue(&job(1)).await;
        let plain = stream.next_job().await;
        assert_eq!(plain.get("trace"), None);
        client.succeed(&plain).await;
    }
    client.enqueue(&traced(1, PARENT)).await;
    assert_eq!(client.poll_one("q").await["trace"]["traceparent"], PARENT);
}

/// Through a failure, a move and a change, a crash, and as a dead job that is tried again.
#[tokio::test]
async fn a_trace_stays_with_its_job() {
    let mut server = Server::start().await;
    let client = server.client();
    let trace = json!({"traceparent": PARENT, "tracestate": "a=b"});
    let mut new = job(1);
    new["trace"] = trace.clone();
    let queued = client.enqueue(&new).await;
    let taken = client.poll_one("q").await;
    let failed = client.fail(&taken, &json!({"message": "m", "delay_ms": 0})).await;
    assert_eq!(failed["trace"], trace);
    let path = format!("/jobs/{}", id(&queued));
    let patched = client.patch(&path, &json!({"queue": "other", "priority": 5})).await.expect(200);
    assert_eq!(patched["trace"], trace);
    server.kill9().await;
    server.restart().await;
    let client = server.client();
    assert_eq!(client.job(id(&queued)).await["trace"], trace);
    let taken = client.poll_one("other").await;
    assert_eq!(taken["trace"], trace);
    client.fail(&taken, &json!({"message": "m", "kill": true})).await;
    client.post(&format!("{path}/retry"), &json!({})).await.expect(200);
    assert_eq!(client.poll_one("other").await["trace"], trace);
    client.patch(&path, &json!({"trace": null})).await.expect_refusal(400, "trace");
}

#[tokio::test]
async fn duplicates_and_folded_jobs_change_no_trace_and_a_cron_entry_has_its_own() {
    let server = Server::start().await;
    let client = server.client();
    let unique = |parent: &str| {
        let mut job = traced(1, parent);
        job["unique_key"] = json!("k");
        job
    };
    client.enqueue(&unique(PARENT)).await;
    let duplicate = client.post("/jobs", &unique(OTHER)).await.expect(200);
    assert_eq!((&duplicate["duplicate"], &duplicate["trace"]["traceparent"]), (&json!(true), &json!(PARENT)));
    let batched = |parent: Option<&str>| {
        let mut job = parent.map_or_else(|| job(1), |parent| traced(1, parent));
        job["batch"] = json!({"key": "b", "when": "true", "fold": "$existing + $new"});
        job
    };
    for (first, later) in [(Some(PARENT), Some(OTHER)), (Some(PARENT), None), (None, Some(OTHER))] {
        let opened = client.post("/jobs", &batched(first)).await.expect(201);
        let folded = client.post("/jobs", &batched(later)).await.expect(200);
        assert_eq!(folded["folded"], true);
        let shown = client.job(id(&opened)).await;
        assert_eq!(shown.get("trace").map(|trace| trace["traceparent"].as_str().unwrap()), first);
        client.delete(&format!("/jobs/{}", id(&opened))).await.expect_nothing();
    }
    let entry = |name: &str, job: Value| json!({"name": name, "expression": "0 0 1 1 *", "job": job});
    let entries = json!({"entries": [entry("plain", job(1)), entry("traced", traced(1, PARENT))]});
    let group = client.call(Method::PUT, "/crons/g").value(&entries).await.expect(200);
    assert_eq!(group["entries"][1]["job"], traced(1, PARENT));
    for (name, expected) in [("plain", None), ("traced", Some(PARENT))] {
        let run =
            client.call(Method::POST, &format!("/crons/g/entries/{name}/run")).header("traceparent", OTHER);
        let fired = run.await.expect(201);
        assert_eq!(fired.get("trace").map(|trace| trace["traceparent"].as_str().unwrap()), expected);
    }
}

/// The trace of the call is not in the body, which is stored as it came and read again after a crash.
#[tokio::test]
async fn the_trace_of_a_large_bulk_outlives_a_crash() {
    const JOBS: u64 = 8_000;
    let mut server = Server::start().await;
    let client = server.client();
    let body = json!({"jobs": (0..JOBS).map(job).collect::<Vec<_>>()});
    let asked = tokio::spawn({
        let client = client.clone();
        async move { post(&client, "/jobs/bulk", &body, &[("traceparent", PARENT)]).try_response().await.is_ok() }
    });
    tests::wait::until("the first of them", async || (client.count("").await > 0).then_some(())).await;
    server.kill9().await;
    drop(asked.await);
    server.restart().await;
    let client = server.client();
    tests::wait::until("all of them", async || (client.count("").await == JOBS).then_some(())).await;
    for page in ["/jobs?order=asc&limit=1000", "/jobs?order=desc&limit=1000"] {
        let jobs = client.get(page).await.expect(200);
        let jobs = jobs["jobs"].as_array().unwrap();
        assert!(jobs.len() == 1_000 && jobs.iter().all(|job| job["trace"]["traceparent"] == PARENT));
    }
}

#[tokio::test]
async fn what_a_job_enqueues_belongs_to_its_trace() {
    let server = Server::start().await;
    let client = server.client();
    let ctl = format!("{} ctl", binary("zizq-worker").display());
    let inherits = format!("{ctl} enqueue '{}'", json!({"queue": "next", "type": "t", "payload": 1}));
    let explicit = json!({"queue": "next", "type": "t", "payload": 2, "trace": {"traceparent": OTHER}});
    let explicit = format!("{ctl} enqueue '{explicit}'");
    let run = format!("q={inherits}; {explicit}; {ctl} result \"\\\"$TRACEPARENT $TRACESTATE\\\"\"");
    let _worker = Worker::start(&server, ["--run", &run]);
    let mut new = job(1);
    new["trace"] = json!({"traceparent": PARENT, "tracestate": "a=b"});
    let done = client.post("/jobs?wait_ms=30000", &new).await.expect(201);
    assert_eq!(done["result"], format!("{PARENT} a=b"));
    let first = client.poll_one("next").await;
    assert_eq!((&first["payload"], &first["trace"]), (&json!(1), &new["trace"]));
    let second = client.poll_one("next").await;
    assert_eq!((&second["payload"], &second["trace"]), (&json!(2), &json!({"traceparent": OTHER})));
    let mut command = tokio::process::Command::new(binary("zizq-worker"));
    command.args(["enqueue", "next", "--type", "t", "--payload", "3", "--server", &server.url()]);
    command.env("TRACEPARENT", PARENT).env("TRACESTATE", "a=b");
    assert!(command.status().await.unwrap().success());
    let third = client.poll_one("next").await;
    assert_eq!((&third["payload"], &third["trace"]), (&json!(3), &new["trace"]));
    let plain = client.post("/jobs?wait_ms=30000", &job(1)).await.expect(201);
    assert_eq!(plain["result"], " ", "a job without a trace has no variables");
    assert_eq!(client.poll_one("next").await.get("trace"), None);
}
