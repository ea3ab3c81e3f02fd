//! A client of the contract, in either format and over either version of HTTP.

use std::fmt::Debug;
use std::net::IpAddr;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use protocol::error::Code;
use protocol::frame::StreamFormat;
use protocol::media::Format;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::stream::Stream;
use crate::wait::within;

/// The version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Http {
    /// HTTP/1.1
    #[default]
    One,
    /// HTTP/2 by prior knowledge
    Two,
}

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// The format of bodies, both ways.
    pub format: Format,
    /// The version of HTTP.
    pub http: Http,
}

impl Wire {
    /// Every way to speak.
    pub const ALL: [Self; 4] = [
        Self { format: Format::Json, http: Http::One },
        Self { format: Format::Json, http: Http::Two },
        Self { format: Format::MessagePack, http: Http::One },
        Self { format: Format::MessagePack, http: Http::Two },
    ];
}

impl Default for Wire {
    fn default() -> Self {
        Self { format: Format::Json, http: Http::One }
    }
}

/// Speaks to one server.
#[derive(Debug, Clone)]
pub struct Client {
    url: String,
    wire: Wire,
    /// Sent with every request.
    headers: HeaderMap,
    http: legacy::Client<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client of the server at `url`.
    #[must_use]
    pub fn new(url: &str, wire: Wire) -> Self {
        Self::at(None, url, wire)
    }

    /// As [`Self::new`], at this address, or at any.
    #[must_use]
    pub fn at(address: Option<IpAddr>, url: &str, wire: Wire) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_local_address(address);
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        let http = builder.http2_only(wire.http == Http::Two).build(connector);
        Self { url: url.trim_end_matches('/').to_owned(), wire, headers: HeaderMap::new(), http }
    }

    /// The same, with an access token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        value.set_sensitive(true);
        let mut client = self.clone();
        client.headers.insert("authorization", value);
        client
    }

    /// The same, with this header in every request.
    #[must_use]
    pub fn with_header(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.insert(name, HeaderValue::from_str(value).unwrap());
        client
    }

    /// How it speaks.
    #[must_use]
    pub const fn wire(&self) -> Wire {
        self.wire
    }

    /// A request without a body.
    #[must_use]
    pub fn call(&self, method: Method, path: &str) -> Call<'_> {
        let mut headers = self.headers.clone();
        headers.insert("accept", HeaderValue::from_static(self.wire.format.media_type()));
        Call { client: self, method, path: path.to_owned(), headers, body: Bytes::new() }
    }

    /// `GET`
    #[must_use]
    pub fn get(&self, path: &str) -> Call<'_> {
        self.call(Method::GET, path)
    }

    /// `DELETE`
    #[must_use]
    pub fn delete(&self, path: &str) -> Call<'_> {
        self.call(Method::DELETE, path)
    }

    /// `POST` with a body.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Call<'_> {
        self.call(Method::POST, path).value(body)
    }

    /// `PATCH` with a body.
    #[must_use]
    pub fn patch(&self, path: &str, body: &Value) -> Call<'_> {
        self.call(Method::PATCH, path).value(body)
    }

    /// `POST` without a body.
    #[must_use]
    pub fn poke(&self, path: &str) -> Call<'_> {
        self.call(Method::POST, path)
    }

    /// Opens a job stream of the format with these query parameters, such as `queue=a&prefetch=2`.
    pub async fn take(&self, format: StreamFormat, query: &str) -> Stream {
        self.take_from(format, query, None).await
    }

    /// [`Self::take`], in lines of JSON.
    pub async fn lines(&self, query: &str) -> Stream {
        self.take(StreamFormat::NdJson, query).await
    }

    /// [`Self::take`], in server-sent events; the hello is read already.
    pub async fn events(&self, query: &str) -> Stream {
        self.take(StreamFormat::EventStream, query).await
    }

    /// Opens an event stream with `Last-Event-ID`; the hello is read already.
    pub async fn resume(&self, last_event_id: &str, query: &str) -> Stream {
        self.take_from(StreamFormat::EventStream, query, Some(last_event_id)).await
    }

    async fn take_from(&self, format: StreamFormat, query: &str, last_event_id: Option<&str>) -> Stream {
        let mut call = self.get(&format!("/jobs/take?{query}")).header("accept", format.content_type());
        if let Some(id) = last_event_id {
            call = call.header("last-event-id", id);
        }
        Stream::open(format, call.response().await).await
    }

    /// Enqueues, and gives back the job without its payload.
    pub async fn enqueue(&self, job: &Value) -> Value {
        self.post("/jobs", job).await.expect(201)
    }

    /// Enqueues a job into the queue with nothing special about it.
    pub async fn add(&self, queue: &str) -> Value {
        self.enqueue(&json!({"queue": queue, "type": "t", "payload": null})).await
    }

    /// Enqueues in bulk, and gives back the jobs without their payloads.
    pub async fn enqueue_all(&self, jobs: impl IntoIterator<Item = Value>) -> Vec<Value> {
        let jobs: Vec<Value> = jobs.into_iter().collect();
        list(self.post("/jobs/bulk", &json!({"jobs": jobs})).await.expect(201), "jobs")
    }

    /// The long-poll.
    pub async fn poll(&self, request: &Value) -> Vec<Value> {
        list(self.post("/jobs/take", request).await.expect(200), "jobs")
    }

    /// A long-poll for exactly one job, for as long as the contract allows.
    pub async fn poll_one(&self, queue: &str) -> Value {
        let mut jobs = self.poll(&json!({"queues": [queue], "wait_ms": 30_000})).await;
        assert_eq!(jobs.len(), 1, "jobs of a poll on {queue}");
        jobs.remove(0)
    }

    /// Lets time pass by the clock of the server: a poll that nothing comes of.
    pub async fn let_pass(&self, ms: u64) {
        let idle = self.poll(&json!({"queues": ["a queue without jobs"], "wait_ms": ms})).await;
        assert_eq!(idle.len(), 0, "jobs in a queue without jobs");
    }

    /// The job as the server shows it.
    pub async fn job(&self, id: &str) -> Value {
        self.get(&format!("/jobs/{id}")).await.expect(200)
    }

    /// The status of the job, `None` where there is no such job.
    pub async fn status(&self, id: &str) -> Option<String> {
        let answer = self.get(&format!("/jobs/{id}")).await;
        (answer.status != 404).then(|| answer.expect(200)["status"].as_str().unwrap().to_owned())
    }

    /// Reports success with the token of the delivery.
    pub async fn succeed(&self, job: &Value) {
        let path = format!("/jobs/{}/success", id(job));
        self.poke(&path).header("zizq-lease", lease(job)).await.expect_nothing();
    }

    /// Reports failure with the token of the delivery, and gives back the job.
    pub async fn fail(&self, job: &Value, failure: &Value) -> Value {
        let path = format!("/jobs/{}/failure", id(job));
        self.post(&path, failure).header("zizq-lease", lease(job)).await.expect(200)
    }

    /// Gives the job back with the token of the delivery.
    pub async fn release(&self, job: &Value) {
        let path = format!("/jobs/{}/release", id(job));
        self.poke(&path).header("zizq-lease", lease(job)).await.expect_nothing();
    }

    /// How many jobs match the filters.
    pub async fn count(&self, filters: &str) -> u64 {
        self.get(&format!("/jobs/count?{filters}")).await.expect(200)["count"].as_u64().unwrap()
    }
}

/// The id of a job.
#[must_use]
pub fn id(job: &Value) -> &str {
    job["id"].as_str().unwrap_or_else(|| panic!("no id in {job}"))
}

/// The lease token of a delivered job.
#[must_use]
pub fn lease(job: &Value) -> &str {
    job["lease"].as_str().unwrap_or_else(|| panic!("no lease in {job}"))
}

fn list(mut answer: Value, member: &str) -> Vec<Value> {
    match answer[member].take() {
        Value::Array(list) => list,
        other => panic!("{member} is {other} instead of a list"),
    }
}

/// A request being put together; `await` sends it.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call<'_> {
    /// With this header instead of the usual one.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    /// With one more header of this name.
    #[must_use]
    pub fn also(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    /// With a body in the format of the client.
    #[must_use]
    pub fn value(self, value: &Value) -> Self {
        let format = self.client.wire.format;
        self.bytes(format.media_type(), encode(format, value))
    }

    /// With a body of exactly these bytes.
    #[must_use]
    pub fn bytes(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    /// Sends it and waits for the head of the answer.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn response(self) -> Response<Incoming> {
        let what = format!("{} {}", self.method, self.path);
        self.try_response().await.unwrap_or_else(|e| panic!("{what}: {e:?}"))
    }

    /// Sends it and waits for the head of the answer, which does not come where the server is gone.
    ///
    /// # Errors
    /// Of the connection.
    pub async fn try_response(self) -> Result<Response<Incoming>, legacy::Error> {
        let mut request = Request::new(Full::new(self.body));
        let uri = format!("{}{}", self.client.url, self.path);
        *request.uri_mut() = uri.parse().unwrap_or_else(|e| panic!("{uri}: {e}"));
        *request.headers_mut() = self.headers;
        *request.method_mut() = self.method.clone();
        let what = format!("the answer to {} {}", self.method, self.path);
        within(what, self.client.http.request(request)).await
    }
}

impl<'a> IntoFuture for Call<'a> {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let request = format!("{} {}", self.method, self.path);
            let (head, body) = self.response().await.into_parts();
            let body = within(format!("the body of the answer to {request}"), body.collect()).await;
            let body = body.unwrap_or_else(|e| panic!("{request}: {e:?}")).to_bytes();
            Answer { request, status: head.status.as_u16(), headers: head.headers, body }
        })
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What it answers, for messages.
    pub request: String,
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A header as text; empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body, read by its `content-type`.
    #[must_use]
    pub fn value(&self) -> Value {
        let format = match self.header("content-type") {
            "application/json" => Format::Json,
            "application/msgpack" => Format::MessagePack,
            other => panic!("{}: content-type {other:?} of {:?}", self.request, self.body),
        };
        decode(format, &self.body)
    }

    /// The body of an answer that has this status.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "status of {}: {:?}", self.request, self.body);
        self.value()
    }

    /// 204, with no body and no `content-type`.
    pub fn expect_nothing(self) {
        assert_eq!(self.status, 204, "status of {}: {:?}", self.request, self.body);
        assert!(self.body.is_empty(), "{}: a 204 with the body {:?}", self.request, self.body);
        assert_eq!(self.headers.get("content-type"), None, "{}: a 204 with a content-type", self.request);
    }

    /// The sentence of a refusal that has this status. It is one sentence, and contains `expected`; its code fits the status.
    pub fn expect_refusal(self, status: u16, expected: &str) -> String {
        let (code, sentence) = self.refusal();
        assert_eq!(self.status, status, "status of {}: {:?}", self.request, self.body);
        assert_eq!(code.status(), status, "{}: {code}", self.request);
        assert!(sentence.contains(expected), "{}: {sentence:?} should contain {expected:?}", self.request);
        sentence
    }

    /// The sentence of a refusal with this code, and with the status of this code.
    pub fn expect_code(self, expected: Code) -> String {
        let (code, sentence) = self.refusal();
        assert_eq!((code, self.status), (expected, expected.status()), "{}: {sentence}", self.request);
        sentence
    }

    fn refusal(&self) -> (Code, String) {
        let body = self.value();
        let code = Code::deserialize(&body["code"]);
        let code = code.unwrap_or_else(|e| panic!("{}: its code: {e}: {} {body}", self.request, self.status));
        let sentence =
            body["error"].as_str().unwrap_or_else(|| panic!("{}: no error in {body}", self.request));
        assert!(!sentence.trim().is_empty() && !sentence.contains('\n'), "{}: {sentence:?}", self.request);
        (code, sentence.to_owned())
    }
}

/// Writes a value in the format.
#[must_use]
pub fn encode(format: Format, value: &Value) -> Vec<u8> {
    match format {
        Format::Json => value.to_string().into_bytes(),
        Format::MessagePack => rmp_serde::to_vec_named(value).unwrap(),
    }
}

/// Reads a value in the format.
#[must_use]
pub fn decode(format: Format, bytes: &[u8]) -> Value {
    let read = match format {
        Format::Json => serde_json::from_slice(bytes).map_err(|e| e.to_string()),
        Format::MessagePack => rmp_serde::from_slice(bytes).map_err(|e| e.to_string()),
    };
    read.unwrap_or_else(|e| panic!("{e} in {:?}", String::from_utf8_lossy(bytes)))
}
