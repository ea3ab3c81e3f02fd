//! Everything that a route can say about an HTTP call.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::fake::{Call, Server, Stream};
use crate::worker::{ConfigFile, Worker, id, job, lease};

/// A worker with a route to `URL`, the server it works for, and its open stream.
async fn start(lines: &str, url: &str) -> (Server, Stream, Worker) {
    let file = ConfigFile::new(&format!("[[route]]\nqueue = 'q'\n{}\n", lines.replace("URL", url)));
    let mut server = Server::start().await;
    let worker = file.start(&server);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    (server, stream, worker)
}

/// The call that a job of this payload makes, and what is needed to go on.
async fn called(lines: &str, payload: Value) -> Call {
    called_for(lines, &job(1, 11, payload)).await
}

/// As [`called`], with more of the job than its payload.
async fn called_for(lines: &str, job: &Value) -> Call {
    let mut endpoint = Server::start().await;
    let url = format!("http://{}", endpoint.address);
    let (_server, mut stream, _worker) = start(lines, &url).await;
    stream.job("s:1", job).await;
    endpoint.any_call().await
}

/// What the server is told when the endpoint does this with each connection.
async fn fails<F: Future<Output = ()> + Send>(
    lines: &str,
    serve: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let accepting = tokio::spawn(async move {
        loop {
            serve(listener.accept().await.unwrap().0).await;
        }
    });
    let (mut server, mut stream, _worker) = start(lines, &url).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    let failure = server.failure(&id(1)).await;
    accepting.abort();
    failure
}

async fn request(socket: &mut TcpStream) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\nnull") {
        seen.push(socket.read_u8().await.unwrap());
    }
}

#[tokio::test]
async fn method_url_headers_and_body_come_from_templates() {
    let call = called(
        "url = 'URL/customers/{{ .payload.name }}?type={{ .type }}'\nmethod = 'PUT'\n\
         headers = { authorization = 'Bearer x', x-name = '{{ .payload.name }}', content-type = 'text/plain' }\n\
         body = '\"{{ .payload.name }} has {{ .payload.list | length }}\"'",
        json!({"name": "a/b c?&", "list": [1, 2]}),
    )
    .await;
    assert_eq!(call.path, "/customers/a%2Fb%20c%3F%26?type=t");
    assert_eq!(call.method, "PUT");
    assert_eq!(call.body, json!("a/b c?& has 2"));
    for (name, value) in
        [("authorization", "Bearer x"), ("x-name", "a/b c?&"), ("content-type", "text/plain")]
    {
        assert_eq!(call.header(name), Some(value));
    }
}

#[tokio::test]
async fn cloud_events_and_traces() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let payload = json!({"traceparent": parent, "tracestate": "a=b"});
    let call = called("url = 'URL'\ncloud_events = true", payload).await;
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", &*id(1)),
        ("ce-type", "t"),
        ("ce-source", "/queues/q"),
        ("ce-time", "1970-01-01T00:00:00.001Z"),
        ("traceparent", parent),
        ("tracestate", "a=b"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(call.header(name), Some(value), "{name}");
    }
    let call = called("url = 'URL'", json!({"traceparent": "nonsense"})).await;
    assert_eq!((call.header("traceparent"), call.header("ce-id")), (None, None));
}

#[tokio::test]
async fn the_trace_of_a_job_comes_before_that_of_its_payload() {
    let parent = "00-11111111111111111111111111111111-2222222222222222-00";
    let other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (trace, state) in [
        (json!({"traceparent": parent, "tracestate": "c=d"}), Some("c=d")),
        (json!({"traceparent": parent, "of_a_later_server": 1}), None),
    ] {
        let mut job = job(1, 11, json!({"traceparent": other, "tracestate": "a=b"}));
        job["trace"] = trace;
        let call = called_for("url = 'URL?{{ .trace.traceparent }}'", &job).await;
        assert_eq!((call.header("traceparent"), call.header("tracestate")), (Some(parent), state));
        assert_eq!(call.path, format!("/?{parent}"));
    }
}

/// Verifies a call as a receiver would: by the package `standardwebhooks` of PyPI where it can be had, and in any case as
/// the specification says, with nothing but Python.
const VERIFY: &str = r#"
import base64, hashlib, hmac, json, sys
secret, headers, body = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]

def verify(body):
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    key = base64.b64decode(secret.removeprefix("whsec_"))
    right = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return right in headers["webhook-signature"].split(" ")

assert verify(body) and not verify(body + " ")
try:
    from standardwebhooks import Webhook, WebhookVerificationError
except ImportError:
    print("the package is not here", file=sys.stderr)
else:
    Webhook(secret).verify(body, headers)
    try:
        Webhook(secret).verify(body + " ", headers)
        sys.exit(9)
    except WebhookVerificationError:
        pass
"#;

#[tokio::test]
async fn signatures_are_those_of_standard_webhooks() {
    let (new, old) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    let payload = json!({"text": "grüße \"quoted\"", "n": 1.0});
    let call = called(&format!("url = 'URL'\nsecrets = ['{new}', '{old}']"), payload).await;
    let header = |name: &str| call.header(name).unwrap().to_owned();
    assert_eq!(header("webhook-id"), id(1));
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: Value = names.map(|name| (name.to_owned(), json!(header(name)))).into_iter().collect();
    let folder = format!("{}/standardwebhooks", env!("CARGO_TARGET_TMPDIR"));
    if !std::path::Path::new(&folder).exists() {
        let pip =
            ["-m", "pip", "install", "--quiet", "--no-deps", "--target", &folder, "standardwebhooks==1.1.0"];
        let python = tokio::process::Command::new("python3").args(pip).stderr(Stdio::null()).status();
        python.await.unwrap();
    }
    for secret in [new, old] {
        let mut python = tokio::process::Command::new("python3");
        python.args(["-c", VERIFY, secret, &headers.to_string(), &call.text]).env("PYTHONPATH", &folder);
        let output = python.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{secret}: {said}");
        eprint!("{said}");
    }
}

#[tokio::test]
async fn an_endpoint_that_hangs() {
    let serve = |mut socket: TcpStream| async move {
        request(&mut socket).await;
        tokio::time::sleep(Duration::from_secs(1000)).await;
    };
    for lines in ["url = 'URL'\nfirst_byte_timeout = '200ms'", "url = 'URL'\ntimeout = '200ms'"] {
        let failure = fails(lines, serve).await;
        assert_eq!(
            (&failure["error_type"], &failure["message"]),
            (&json!("timed_out"), &json!("timed out after 200ms"))
        );
    }
}

#[tokio::test]
async fn a_body_that_drips_and_one_that_never_ends() {
    let drip = |mut socket: TcpStream| async move {
        request(&mut socket).await;
        socket.write_all(b"HTTP/1.1 500 Oh\r\ncontent-length: 1000000\r\n\r\n").await.unwrap();
        while socket.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let failure = fails("url = 'URL'", drip).await;
    let message = failure["message"].as_str().unwrap();
    assert!(message.starts_with("the endpoint answered 500 Internal Server Error: xxx"), "{message}");
    let failure = fails("url = 'URL'\ntimeout = '300ms'", drip).await;
    assert_eq!(failure["error_type"], "timed_out");

    let flood = |mut socket: TcpStream| async move {
        request(&mut socket).await;
        socket.write_all(b"HTTP/1.1 500 Oh\r\ncontent-length: 100000000\r\n\r\n").await.unwrap();
        let mut left = 100_000_000_usize;
        while left > 0 && socket.write_all(&[b'y'; 10_000]).await.is_ok() {
            left -= 10_000;
        }
    };
    let failure = fails("url = 'URL'", flood).await;
    assert!(failure["message"].as_str().unwrap().len() < 2000);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let serve = |mut socket: TcpStream| async move {
        request(&mut socket).await;
        let answer =
            "HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        socket.write_all(answer.as_bytes()).await.unwrap();
    };
    let failure = fails("url = 'URL/again'", serve).await;
    let said = "the endpoint answered 302 Found: it redirects to /again, and redirects are not followed; use that URL in the route";
    assert_eq!(failure["message"], said);
}

#[tokio::test]
async fn private_addresses_can_be_refused() {
    for (host, kill, said) in [
        ("127.0.0.1", Some(true), "127.0.0.1 is not a public address"),
        ("[::1]", Some(true), "::1 is not a public address"),
        ("localhost", None, "`localhost` has no public address"),
    ] {
        let lines = "url = 'URL'\nprivate_addresses = false";
        let (mut server, mut stream, _worker) = start(lines, &format!("http://{host}:9/")).await;
        stream.job("s:1", &job(1, 11, json!(null))).await;
        let failure = server.failure(&id(1)).await;
        assert!(failure["message"].as_str().unwrap().contains(said), "{failure}");
        assert_eq!(failure["kill"].as_bool(), kill);
    }
}

#[tokio::test]
async fn a_host_gets_only_so_many_connections() {
    let mut endpoint = Server::start().await;
    let lines = "url = 'URL'\nconcurrency = 5\nmax_connections_per_host = 2";
    let (mut server, mut stream, mut worker) = start(lines, &format!("http://{}", endpoint.address)).await;
    for n in 1..=5 {
        stream.job(&format!("s:{n}"), &job(n, n, json!(n))).await;
        worker.log("a start", |line| line["job"] == id(n) && line["message"] == "started").await;
    }
    let mut waiting = vec![endpoint.any_call().await, endpoint.any_call().await];
    for left in (0..5).rev() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        endpoint.no_calls();
        waiting.remove(0).answer("200 OK", "");
        server.any_call().await.answer("204 No Content", "");
        if left > 1 {
            waiting.push(endpoint.any_call().await);
        }
    }
}

#[tokio::test]
async fn a_thousand_calls_go_on_at_once() {
    let mut endpoint = Server::start().await;
    let lines = "url = 'URL'\nconcurrency = 1000";
    let (mut server, mut stream, _worker) = start(lines, &format!("http://{}", endpoint.address)).await;
    for n in 0..1000 {
        stream.job(&format!("s:{n}"), &job(n, n, json!(n))).await;
    }
    let mut calls = Vec::new();
    while calls.len() < 1000 {
        calls.push(endpoint.any_call().await);
    }
    calls.into_iter().for_each(|call| call.answer("200 OK", ""));
    let mut done = 0;
    while done < 1000 {
        done += server.success().await.len();
    }
    assert_eq!(lease(0).len(), 16);
}

/// Answers one request after another, and closes the connection after each answer without having said so.
async fn closes_after_each_answer(mut socket: TcpStream) {
    if let Some(()) = read_request(&mut socket).await {
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.ok();
    }
}

/// Reads a request with a body of known length; none where there is none.
async fn read_request(socket: &mut TcpStream) -> Option<()> {
    let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let n = socket.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        seen.extend_from_slice(&chunk[..n]);
        if seen.ends_with(b"\r\n\r\nnull") {
            return Some(());
        }
    }
}

#[tokio::test]
async fn a_connection_that_the_endpoint_has_just_closed_costs_no_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            tokio::spawn(closes_after_each_answer(listener.accept().await.unwrap().0));
        }
    });
    let (mut server, mut stream, _worker) = start("url = 'URL'\nconcurrency = 8", &url).await;
    const JOBS: u32 = 400;
    // As many as the stream may hold.
    for n in 0..8 {
        stream.job(&format!("s:{n}"), &job(n, n, json!(null))).await;
    }
    let (mut done, mut next) = (0, 8);
    while done < JOBS {
        for _ in server.success().await {
            done += 1;
            if next < JOBS {
                stream.job(&format!("s:{next}"), &job(next, next, json!(null))).await;
                next += 1;
            }
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_never_answers_is_called_once_more_at_most() {
    let (calls_in, mut calls) = tokio::sync::mpsc::channel(100);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for n in 0.. {
            let (mut socket, _) = listener.accept().await.unwrap();
            let calls_in = calls_in.clone();
            tokio::spawn(async move {
                // The first is answered, so later ones may find a used connection.
                while read_request(&mut socket).await.is_some() {
                    calls_in.send(()).await.unwrap();
                    if n > 0
                        || socket
                            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                            .await
                            .is_err()
                    {
                        break;
                    }
                }
            });
        }
    });
    let (mut server, mut stream, _worker) = start("url = 'URL'", &url).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    assert_eq!(server.success().await, [(id(1), lease(11))]);
    stream.job("s:2", &job(2, 12, json!(null))).await;
    let failure = server.failure(&id(2)).await;
    assert_eq!(failure["error_type"], "http_error");
    let mut seen = 0;
    while calls.try_recv().is_ok() {
        seen += 1;
    }
    assert_eq!(seen, 3);
}
