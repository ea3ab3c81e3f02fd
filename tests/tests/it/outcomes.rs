//! How the worker reports the end of a run, and what the server makes of the report.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client as Forward;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tests::endpoint::Endpoint;
use tests::wait::{now_ms, until};
use tests::{Client, Server, Worker, id};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

fn job(payload: Value) -> Value {
    json!({"queue": "q", "type": "t", "payload": payload, "retention": {"completed_ms": 600_000}})
}

async fn until_none_is(client: &Client, status: &str) {
    until(format!("no job to be {status}"), async || {
        (client.count(&format!("status={status}")).await == 0).then_some(())
    })
    .await;
}

/// What a balancer before a server answers when it should not.
const LIES: [(u16, &str); 6] = [
    (404, "<html>no backend</html>"),
    (403, "<html>blocked</html>"),
    (401, ""),
    (302, "<html>moved</html>"),
    (200, "<html>sign in</html>"),
    (422, r#"{"message":"no"}"#),
];

/// The calls that came to a proxy, by path, and its lies so far.
#[derive(Default)]
struct Turns {
    calls: HashMap<String, usize>,
    lies: usize,
}

impl Turns {
    /// The first call of each path meets a lie, the second passes, and so on. Counted over all paths, a call between two
    /// heartbeats could meet a lie each time: each heartbeat that meets one comes again at once and takes the turn that
    /// passes.
    fn lie(&mut self, path: &str) -> Option<(u16, &'static str)> {
        let calls = self.calls.entry(path.to_owned()).or_default();
        *calls += 1;
        if calls.is_multiple_of(2) {
            return None;
        }
        self.lies += 1;
        Some(LIES[self.lies % LIES.len()])
    }
}

/// Passes on what comes to a server, but for every other call that is about outcomes or leases: that is answered by a lie.
async fn lying_proxy(server: &str) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let forward: Forward<HttpConnector, Full<Bytes>> = Forward::builder(TokioExecutor::new()).build_http();
    let (server, turns) = (server.to_owned(), Arc::new(Mutex::new(Turns::default())));
    let accepting = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (forward, server, turns) = (forward.clone(), server.clone(), turns.clone());
            tokio::spawn(async move {
                let service = service_fn(|request| pass(request, forward.clone(), &server, &turns));
                drop(http1::Builder::new().serve_connection(TokioIo::new(socket), service).await);
            });
        }
    });
    (url, accepting)
}

async fn pass(
    request: Request<Incoming>,
    forward: Forward<HttpConnector, Full<Bytes>>,
    server: &str,
    turns: &Mutex<Turns>,
) -> Result<Response<Either<Incoming, Full<Bytes>>>, Infallible> {
    if request.method() == Method::POST
        && let Some((status, body)) = turns.lock().unwrap().lie(request.uri().path())
    {
        let lie = Response::builder().status(status).header("location", "/sign-in");
        return Ok(lie.body(Either::Right(Full::from(body))).unwrap());
    }
    let (mut head, body) = request.into_parts();
    head.uri = format!("{server}{}", head.uri.path_and_query().unwrap()).parse::<Uri>().unwrap();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    match forward.request(Request::from_parts(head, Full::new(body))).await {
        Ok(answer) => Ok(answer.map(Either::Left)),
        Err(_) => Ok(Response::builder().status(502).body(Either::Right(Full::default())).unwrap()),
    }
}

#[tokio::test]
async fn false_answers_of_a_proxy_lose_no_outcome_and_hold_no_job() {
    let server = Server::with(["--default-retry-limit", "0"]).await;
    let client = server.client();
    let (proxy, accepting) = lying_proxy(&server.url()).await;
    let flags = ["--run", "q=exit $(cat)", "--concurrency", "6", "--lease", "5s"];
    let _worker = Worker::start_at(&proxy, flags);
    let queued = client.enqueue_all((0..60).map(|n| job(json!(u8::from(n % 3 == 0))))).await;
    until_none_is(&client, "ready,in_flight,scheduled").await;
    for job in &queued {
        let job = client.job(id(job)).await;
        let ends = if job["payload"] == 0 { ("completed", 0) } else { ("dead", 1) };
        assert_eq!((job["status"].as_str().unwrap(), job["attempts"].as_u64().unwrap()), ends, "{job}");
    }
    accepting.abort();
}

#[tokio::test]
async fn a_job_whose_command_is_not_found_stops_nothing_behind_it() {
    let server = Server::start().await;
    let client = server.client();
    let bad = client.enqueue(&job(json!(127))).await;
    let also_bad = client.enqueue(&job(json!(126))).await;
    client.enqueue_all((0..200).map(|_| job(json!(0)))).await;
    let mut worker = Worker::start(&server, ["--run", "q=exit $(cat)", "--once"]);
    let ended = tests::wait::within("the worker to end by itself", worker.process().ended()).await;
    assert!(ended.code().is_some(), "{ended}");
    assert_eq!(client.count("status=completed").await, 200);
    for bad in [bad, also_bad] {
        let bad = client.job(id(&bad)).await;
        assert_eq!((&bad["status"], &bad["attempts"]), (&json!("scheduled"), &json!(1)), "{bad}");
    }
}

#[tokio::test]
async fn jobs_whose_program_each_names_itself_stop_nothing_behind_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("worker.toml");
    let route = "[[route]]\nqueue = 'q'\nrun = ['{{ .payload }}']\nconcurrency = 3\n";
    std::fs::write(&config, route).unwrap();
    let server = Server::start().await;
    let client = server.client();
    let bad = client.enqueue_all((0..10).map(|n| job(json!(format!("/no/such/program/{n}"))))).await;
    client.enqueue_all((0..20).map(|_| job(json!("true")))).await;
    let _worker = Worker::start(&server, ["--config", config.to_str().unwrap()]);
    until("the good ones to be done", async || (client.count("status=completed").await == 20).then_some(()))
        .await;
    until_none_is(&client, "ready,in_flight").await;
    let error = client.get(&format!("/jobs/{}/errors", id(&bad[3]))).await.expect(200)["errors"][0].clone();
    let expected =
        "could not be started: cannot run `/no/such/program/3`: there is no file `/no/such/program/3`";
    assert_eq!((&error["message"], &error["error_type"]), (&json!(expected), &json!("cannot_start")));
}

#[tokio::test]
async fn once_ends_where_the_worker_cannot_run_anything() {
    let server = Server::start().await;
    let client = server.client();
    client.enqueue_all((0..50).map(|n| job(json!(n)))).await;
    let mut worker = Worker::start(&server, ["--run", "q=./no-such-script.sh", "--once"]);
    let ended = tests::wait::within("the worker to end by itself", worker.process().ended()).await;
    assert!(!ended.success(), "{ended}");
    assert_eq!(client.count("attempts=0").await, 50, "no attempt was made");
    let log = worker.process().log();
    assert!(log.contains("there is no file `./no-such-script.sh` in "), "{log}");
}

#[tokio::test]
async fn a_broken_worker_is_seen_on_the_server_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("job.sh");
    let set_mode = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let server = Server::start().await;
    let client = server.client();
    let path = script.display().to_string();
    let gone = folder.path().join("gone").display().to_string();
    let plain = |line: &str| format!("[[route]]\nqueue = 'q'\nrun = '{line}'\n");
    let program = |line: &str| format!("[[route]]\nqueue = 'q'\nrun = ['{line}']\n");
    let (crlf, python) = ("#!/bin/bash\r\necho\r\n", "#!/usr/bin/env python9\n");
    for (content, mode, config, expected) in [
        ("", 0o644, plain(&format!("{gone}.sh")), format!("there is no file `{gone}.sh`")),
        ("", 0o644, program(&format!("{gone}.sh")), format!("there is no file `{gone}.sh`")),
        (crlf, 0o644, plain(&path), format!("`{path}` is not executable")),
        (crlf, 0o644, program(&path), format!("`{path}` is not executable")),
        (crlf, 0o755, plain(&path), "its first line names `/bin/bash\\r`".to_owned()),
        (crlf, 0o755, program(&path), "its first line names `/bin/bash\\r`".to_owned()),
        (python, 0o755, plain(&path), "its first line asks for `python9`".to_owned()),
        (python, 0o755, program(&path), "its first line asks for `python9`".to_owned()),
        (
            "#!/opt/no/sh\n",
            0o755,
            program(&path),
            "its first line names `/opt/no/sh`, which does not".to_owned(),
        ),
        ("x", 0o644, plain("no-such-program"), "there is no program `no-such-program`".to_owned()),
        ("x", 0o644, program("no-such-program"), "there is no program `no-such-program`".to_owned()),
        (
            "x",
            0o644,
            format!("{}cwd = '{gone}'\n", plain("true")),
            format!("the folder {gone} (`cwd`) does not exist"),
        ),
    ] {
        std::fs::write(&script, content).unwrap();
        set_mode(mode);
        let file = folder.path().join("worker.toml");
        std::fs::write(&file, &config).unwrap();
        client.poke("/reset").await.expect_nothing();
        let queued = client.enqueue(&job(json!(null))).await;
        let flags = ["--config", file.to_str().unwrap(), "--worker-id", "broken-1"];
        let _worker = Worker::start(&server, flags);
        let release = until(format!("a release for {config}"), async || {
            let queue = client.get("/queues/q").await.expect(200);
            queue.get("last_release").cloned()
        })
        .await;
        let reason = release["reason"].as_str().unwrap();
        assert!(reason.contains(&expected), "{config}: {reason}");
        assert_eq!(release["worker"], "broken-1");
        let job = client.job(id(&queued)).await;
        assert_eq!(job["attempts"], 0, "{job}");
    }
}

#[tokio::test]
async fn a_zero_pause_lasts_at_least_a_second_and_starves_no_one() {
    let server = Server::start().await;
    let client = server.client();
    let mut endpoint = Endpoint::start().await;
    let busy = client.enqueue(&job(json!("busy"))).await;
    client.enqueue_all((0..30).map(|_| job(json!("good")))).await;
    let _worker = Worker::start(&server, ["--http", &format!("q={}", endpoint.url()), "--concurrency", "1"]);
    let mut calls: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let values = ["0", "Sun, 06 Nov 1994 08:49:37 GMT", "0", "Thu, 01 Jan 1970 00:00:00 GMT"];
    // Until all others are done, and the busy one was asked four times.
    while calls.get("good").map_or(0, Vec::len) < 30 || calls.get("busy").map_or(0, Vec::len) < 4 {
        let call = endpoint.next_call().await;
        let name: String = serde_json::from_slice(call.request.body()).unwrap();
        let times = calls.entry(name.clone()).or_default();
        times.push(now_ms());
        if name == "good" {
            call.answer(200);
            continue;
        }
        let status = if times.len().is_multiple_of(2) { 429 } else { 503 };
        let busy = Response::builder().status(status).header("retry-after", values[times.len() - 1]);
        call.answer_with(busy.body(Full::default()).unwrap());
    }
    let pauses: Vec<u64> = calls["busy"].windows(2).map(|two| two[1] - two[0]).collect();
    for (pause, least) in pauses.iter().zip([1_000, 2_000, 4_000]) {
        assert!(*pause >= least - 50, "{pauses:?}");
    }
    assert_eq!(client.job(id(&busy)).await["attempts"], 0);
}

#[tokio::test]
async fn no_pause_is_longer_than_a_day_and_the_retry_limit_holds_whoever_gives_it() {
    let server = Server::with(["--default-retry-limit", "1"]).await;
    let client = server.client();
    let mut endpoint = Endpoint::start().await;
    let _worker = Worker::start(&server, ["--http", &format!("q={}", endpoint.url())]);
    for value in ["1797682573901", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        for status in [429, 503, 500] {
            let queued = client.enqueue(&job(json!(1))).await;
            let busy = || Response::builder().status(status).header("retry-after", value);
            endpoint.next_call().await.answer_with(busy().body(Full::default()).unwrap());
            let waits = until(format!("{status} with {value}"), async || {
                let job = client.job(id(&queued)).await;
                (job["status"] == "scheduled").then_some(job)
            })
            .await;
            let day = 24 * 60 * 60 * 1000;
            let wait = waits["ready_at"].as_u64().unwrap() - now_ms();
            assert!((day - 60_000..=day).contains(&wait), "{status} {value}: {wait} ms");
            let counted = u64::from(status == 500);
            assert_eq!(waits["attempts"].as_u64().unwrap(), counted, "{status} {value}");
            client.poke(&format!("/jobs/{}/retry", id(&queued))).await.expect(200);
            endpoint.next_call().await.answer_with(busy().body(Full::default()).unwrap());
            let ends = if status == 500 { "dead" } else { "scheduled" };
            until(format!("{status} with {value} to end"), async || {
                (client.status(id(&queued)).await.as_deref() == Some(ends)).then_some(())
            })
            .await;
            client.delete(&format!("/jobs/{}", id(&queued))).await.expect_nothing();
        }
    }
}
