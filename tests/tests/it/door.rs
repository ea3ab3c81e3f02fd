//! Who may call: requests from web pages of other sites, or to a foreign host name, are refused on every route.

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tests::wait::within;
use tests::{Http, Server, Wire, id, raw};
use tokio::net::TcpStream;

use crate::tls::{Identity, Place, connect_for};

/// Headers that no request of a program has, and what they are answered.
const FOREIGN: [(&str, &str, u16); 6] = [
    ("sec-fetch-site", "cross-site", 403),
    ("sec-fetch-site", "same-site", 403),
    ("origin", "https://evil.example", 403),
    ("origin", "http://localhost:1", 403),
    ("origin", "null", 403),
    ("host", "evil.example", 421),
];

/// Every route, with something in the place of its variables.
fn routes() -> Vec<(Method, String)> {
    let fill = |pattern: &str| pattern.replace("{}", "x");
    zizq_server::routes().iter().map(|route| (route.method.clone(), fill(route.path))).collect()
}

async fn dial(server: &Server) -> http2::SendRequest<Empty<Bytes>> {
    let socket = TcpStream::connect(server.address()).await.unwrap();
    let (requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    requests
}

async fn sentence_of(answer: Response<Incoming>) -> String {
    let body = within("the body of a refusal", answer.into_body().collect()).await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    body["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_page_of_another_site_reaches_no_route() {
    let server = Server::start().await;
    let client = server.client();
    let job = client.add("q").await;
    let http2 = server.client_as(Wire { http: Http::Two, ..Wire::default() });
    let routes = routes();
    assert!(routes.len() > 60);
    for (method, path) in &routes {
        for (name, value, status) in FOREIGN {
            for client in [&client, &http2] {
                let call = client.call(method.clone(), path).header(name, value);
                let answer = call.await;
                assert!(answer.request.ends_with(path), "{}", answer.request);
                answer
                    .expect_refusal(status, if name == "sec-fetch-site" { "Sec-Fetch-Site" } else { value });
            }
        }
    }
    // Nothing was deleted, taken, paused or added.
    assert_eq!(client.count("status=ready").await, 1);
    let left = client.poll_one("q").await;
    assert_eq!(id(&left), id(&job));
    assert_eq!(left["deliveries"], 1);
}

#[tokio::test]
async fn a_foreign_authority_of_http2_reaches_no_route() {
    let server = Server::start().await;
    let mut requests = dial(&server).await;
    for (method, path) in routes() {
        let uri = format!("http://evil.example:{}{path}", server.port());
        let request = Request::builder().method(method.clone()).uri(uri).body(Empty::new()).unwrap();
        let answer = within("an answer", requests.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), 421, "{method} {path}");
        assert!(sentence_of(answer).await.contains("evil.example"));
    }
}

/// A connection of either version.
enum Requests {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

impl Requests {
    async fn over_tls(http: Http, port: u16, identity: &Identity) -> Self {
        let protocol: &[u8] = if http == Http::Two { b"h2" } else { b"http/1.1" };
        let stream = connect_for(port, &identity.der, protocol).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
        let stream = TokioIo::new(stream);
        if http == Http::Two {
            let (requests, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            Self::Two(requests)
        } else {
            let (requests, connection) = http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            Self::One(requests)
        }
    }

    async fn send(
        &mut self,
        method: &Method,
        host: &str,
        path: &str,
        (name, value): (&str, &str),
    ) -> Response<Incoming> {
        let request = Request::builder().method(method);
        let answer = match self {
            Self::One(requests) => {
                let request = request.uri(path);
                // RFC 9112, 3.2: there is always one.
                let request = if name == "host" { request } else { request.header("host", host) };
                within("the connection", requests.ready()).await.unwrap();
                let request = request.header(name, value).body(Empty::new()).unwrap();
                within("an answer", requests.send_request(request)).await
            }
            Self::Two(requests) => {
                let request = request.uri(format!("https://{host}{path}")).header(name, value);
                within("an answer", requests.send_request(request.body(Empty::new()).unwrap())).await
            }
        };
        answer.unwrap()
    }
}

/// Where browsers trust the connection, and so say what they call for.
#[tokio::test]
async fn a_page_of_another_site_reaches_no_route_over_tls() {
    let identity = Identity::new();
    let place = Place::new(&identity);
    let (mut process, port) = place.start().await;
    let own = format!("localhost:{port}");
    for http in [Http::One, Http::Two] {
        let mut requests = Requests::over_tls(http, port, &identity).await;
        for (method, path) in &routes() {
            for (name, value, status) in FOREIGN {
                let answer = requests.send(method, &own, path, (name, value)).await;
                assert_eq!(answer.status(), status, "{http:?} {method} {path} {name}: {value}");
                // A HEAD has no body.
                if method != Method::HEAD {
                    let said = sentence_of(answer).await;
                    let word = if name == "sec-fetch-site" { "Sec-Fetch-Site" } else { value };
                    assert!(said.contains(word), "{http:?} {method} {path} {name}: {value}: {said}");
                }
            }
            if http == Http::Two {
                let answer = requests.send(method, "evil.example", path, ("accept", "*/*")).await;
                assert_eq!(answer.status(), 421, "{method} {path}");
                assert!(sentence_of(answer).await.contains("evil.example"));
            }
        }
        // A page of the server itself, and whoever is no page.
        let origin = format!("https://{own}");
        for header in [("origin", &*origin), ("sec-fetch-site", "same-origin"), ("accept", "*/*")] {
            let answer = requests.send(&Method::GET, &own, "/health", header).await;
            assert_eq!(answer.status(), 200, "{http:?} {header:?}");
            drop(within("the rest", answer.into_body().collect()).await.unwrap());
        }
    }
    assert_eq!(process.sigterm().await.code(), Some(0));
}

#[tokio::test]
async fn names_are_checked_as_the_bytes_come() {
    let server = Server::with(["--allowed-host", "zizq.example.org,second.example.org"]).await;
    for (request, status) in [
        ("GET /health HTTP/1.1\r\nhost: localhost\r\n", 200),
        ("GET /health HTTP/1.1\r\nHOST: Second.Example.ORG.:80\r\n", 200),
        ("GET /health HTTP/1.1\r\nhost: third.example.org\r\n", 421),
        ("GET /health HTTP/1.1\r\n", 400),
        ("GET /health HTTP/1.0\r\n", 200),
        ("GET /health HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n", 400),
        ("GET http://zizq.example.org/health HTTP/1.1\r\nhost: localhost\r\n", 200),
        ("GET http://evil.example/health HTTP/1.1\r\nhost: localhost\r\n", 421),
        ("GET /health HTTP/1.1\r\nhost: localhost@evil.example\r\n", 400),
    ] {
        let bytes = format!("{request}connection: close\r\n\r\n");
        let mut connection = raw::send(server.address(), bytes.as_bytes()).await;
        let answer = raw::read_until(&mut connection, |_| false).await;
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.split(' ').nth(1), Some(&*status.to_string()), "{request:?}: {answer}");
    }
}

#[tokio::test]
async fn pages_of_a_listed_origin_may_call() {
    let server = Server::with(["--cors-origin", "https://app.example.org"]).await;
    let client = server.client();
    let origin = "https://app.example.org";
    let preflight = |origin: &str| {
        let call = client.call(Method::OPTIONS, "/jobs").header("origin", origin);
        let call = call.header("sec-fetch-site", "cross-site");
        call.header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type")
    };
    let allowed = preflight(origin).await;
    assert_eq!(allowed.header("access-control-allow-origin"), origin);
    assert!(allowed.header("access-control-allow-methods").contains("POST"));
    assert_eq!(allowed.header("access-control-allow-headers"), "content-type");
    assert_eq!(allowed.header("vary"), "origin");
    allowed.expect_nothing();
    let refused = preflight("https://evil.example").await;
    assert_eq!(refused.header("access-control-allow-origin"), "");
    refused.expect_refusal(403, "--cors-origin");

    let body = serde_json::json!({"queue": "q", "type": "t", "payload": 1});
    let added = client.post("/jobs", &body).header("origin", origin).header("sec-fetch-site", "cross-site");
    let added = added.await;
    assert_eq!(added.header("access-control-allow-origin"), origin);
    added.expect(201);
    // What is refused for another reason can be read, too.
    let missing = client.get("/jobs/nothing").header("origin", origin).await;
    assert_eq!(missing.header("access-control-allow-origin"), origin);
    missing.expect_refusal(404, "nothing");
    // A page that does not say where it comes from is none of the list.
    client.get("/jobs").header("sec-fetch-site", "cross-site").await.expect_refusal(403, "Sec-Fetch-Site");
    // Without a page nobody asks first.
    client.call(Method::OPTIONS, "/jobs").await.expect_refusal(405, "OPTIONS");
}

#[tokio::test]
async fn a_server_for_others_answers_to_addresses_and_short_names() {
    let server = Server::with(["--host", "0.0.0.0", "--auth", "open"]).await;
    let address = format!("127.0.0.1:{}", server.port());
    for (host, status) in
        [("10.0.0.7:7890", "200"), ("zizq:7890", "200"), ("[::1]", "200"), ("a.example", "421")]
    {
        let bytes = format!("GET /health HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let mut connection = raw::send(&address, bytes.as_bytes()).await;
        let answer = raw::read_until(&mut connection, |_| false).await;
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.split(' ').nth(1), Some(status), "{host}: {answer}");
    }
}

#[tokio::test]
async fn flags_that_admit_everyone_are_refused() {
    for flags in [["--cors-origin", "*"], ["--cors-origin", "null"], ["--allowed-host", "*"]] {
        let mut command = tokio::process::Command::new(tests::binaries::binary("zizq-server"));
        let output = command.args(flags).output().await.unwrap();
        assert!(!output.status.success());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(flags[0]) && error.contains("name"), "{error}");
    }
}

/// A body that is not read would be taken for the next request.
#[tokio::test]
async fn the_next_request_is_answered_whatever_was_refused_before() {
    let server = Server::start().await;
    let body = "x".repeat(20_000);
    let mut refusals = vec![
        ("POST /nowhere".to_owned(), ""),
        ("PUT /jobs".to_owned(), ""),
        ("POST /jobs".to_owned(), "accept: text/html\r\n"),
        ("POST /jobs".to_owned(), "content-type: text/plain\r\n"),
        ("GET /jobs/take".to_owned(), "accept: text/html\r\n"),
        ("GET /jobs/take?prefetch=x".to_owned(), ""),
        ("GET /events?prefetch=x".to_owned(), ""),
        ("GET /events".to_owned(), "accept: text/html\r\n"),
        ("GET /jobs/x/log".to_owned(), "accept: text/html\r\n"),
        ("HEAD /jobs/x".to_owned(), ""),
        ("HEAD /events".to_owned(), ""),
    ];
    for (method, path) in routes() {
        refusals.push((format!("{method} {path}"), "origin: https://evil.example\r\n"));
        refusals.push((format!("{method} {path}?unknown=1"), ""));
    }
    for (request, header) in &refusals {
        for framing in [
            "content-length: 20000",
            "transfer-encoding: chunked",
            "content-length: 20000\r\nexpect: 100-continue",
        ] {
            let head = format!("{request} HTTP/1.1\r\nhost: localhost\r\n{header}{framing}\r\n\r\n");
            let (first, rest) = body.split_at(if framing.contains("expect") { 0 } else { 7_000 });
            let chunked = framing.starts_with("transfer");
            let piece = |part: &str| {
                if chunked { format!("{:x}\r\n{part}\r\n", part.len()) } else { part.to_owned() }
            };
            let mut connection = raw::send(
                server.address(),
                format!("{head}{}", if first.is_empty() { String::new() } else { piece(first) }).as_bytes(),
            )
            .await;
            let asked = framing.contains("expect");
            let mut answer = Vec::new();
            if asked {
                answer = raw::read_until(&mut connection, |bytes| {
                    bytes.ends_with(b"\r\n\r\n") || bytes.ends_with(b"}")
                })
                .await;
            }
            let wanted = !asked || answer.starts_with(b"HTTP/1.1 100");
            if wanted {
                let end = if chunked { "0\r\n\r\n" } else { "" };
                let next = "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
                raw::send_more(&mut connection, format!("{}{end}{next}", piece(rest)).as_bytes()).await;
            }
            answer.extend(raw::read_until(&mut connection, |_| false).await);
            let answer = String::from_utf8_lossy(&answer);
            let answered =
                answer.matches("HTTP/1.1 200 OK").count() == 1 && answer.contains("\"status\":\"ok\"");
            let closed = answer.contains("connection: close") && !answer.contains("HTTP/1.1 200");
            assert!(answered || closed, "{request} {header:?} {framing}: {answer}");
            assert!(answer.contains("HTTP/1.1 4"), "{request} {header:?} {framing}: {answer}");
        }
    }
}
