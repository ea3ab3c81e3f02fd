//! A server that does what a test tells it to, misbehaviour included.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A request other than `GET /jobs/take`, waiting for its answer.
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
    /// The body as it came.
    pub(crate) text: String,
    answer: oneshot::Sender<(String, String)>,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// `status` may have header lines behind it.
    pub(crate) fn answer(self, status: &str, body: &str) {
        self.answer.send((status.to_owned(), body.to_owned())).ok();
    }
}

/// An open stream of jobs.
pub(crate) struct Stream {
    pub(crate) query: String,
    headers: Vec<(String, String)>,
    socket: TcpStream,
}

impl Stream {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
        self.socket.flush().await.unwrap();
    }

    /// The beginning of a stream; reconnects are quick.
    pub(crate) async fn hello(&mut self, stream: &str, resumed: bool) {
        let hello = json!({"stream": stream, "resumed": resumed, "lease_ms": 30000, "heartbeat_ms": 3000, "server": "fake"});
        self.send(&format!("retry: 20\nevent: hello\ndata: {hello}\n\n")).await;
    }

    pub(crate) async fn job(&mut self, event_id: &str, job: &Value) {
        self.send(&format!("id: {event_id}\ndata: {job}\n\n")).await;
    }

    /// Waits until the worker has closed it.
    pub(crate) async fn closed(mut self) {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, self.socket.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "the worker keeps its stream open");
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

type Heartbeat = Box<dyn Fn(&Value) -> Value + Send>;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    streams: mpsc::Receiver<Stream>,
    calls: mpsc::Receiver<Call>,
    pub(crate) heartbeats: mpsc::Receiver<Value>,
    /// What came for the logs of jobs: path and lines.
    pub(crate) logs: mpsc::Receiver<(String, String)>,
    to_test: ToTest,
    accepting: JoinSet<()>,
}

#[derive(Clone)]
struct ToTest {
    streams: mpsc::Sender<Stream>,
    calls: mpsc::Sender<Call>,
    heartbeats: mpsc::Sender<Value>,
    logs: mpsc::Sender<(String, String)>,
    takes_logs: Arc<AtomicBool>,
    heartbeat: Arc<Mutex<Heartbeat>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (streams_in, streams) = mpsc::channel(100);
        let (calls_in, calls) = mpsc::channel(1000);
        let (heartbeats_in, heartbeats) = mpsc::channel(10_000);
        let (logs_in, logs) = mpsc::channel(1000);
        let renewed: Heartbeat = Box::new(|body| json!({"jobs": body["jobs"], "lost": [], "cancel": []}));
        let heartbeat = Arc::new(Mutex::new(renewed));
        let to_test = ToTest {
            streams: streams_in,
            calls: calls_in,
            heartbeats: heartbeats_in,
            logs: logs_in,
            takes_logs: Arc::default(),
            heartbeat,
        };
        let address = listener.local_addr().unwrap();
        let mut server =
            Self { address, streams, calls, heartbeats, logs, to_test, accepting: JoinSet::new() };
        server.accept(listener);
        server
    }

    fn accept(&mut self, listener: TcpListener) {
        let to_test = self.to_test.clone();
        self.accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(serve(socket, to_test.clone()));
            }
        });
    }

    /// Breaks every connection and refuses new ones. Calls that the test has not looked at are gone
    /// with their connections; streams that it holds go on.
    pub(crate) async fn go_down(&mut self) {
        self.accepting.shutdown().await;
        while self.calls.try_recv().is_ok() {}
    }

    pub(crate) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.accept(listener);
    }

    /// From now on this is a server that keeps what jobs print.
    pub(crate) fn take_logs(&self) {
        self.to_test.takes_logs.store(true, Ordering::Relaxed);
    }

    /// What to answer to heartbeats from now on.
    pub(crate) fn on_heartbeat(&self, reply: impl Fn(&Value) -> Value + Send + 'static) {
        *self.to_test.heartbeat.lock().unwrap() = Box::new(reply);
    }

    pub(crate) async fn stream(&mut self) -> Stream {
        wait_for("a stream", self.streams.recv()).await
    }

    /// The next call, which must be this one.
    pub(crate) async fn call(&mut self, path: &str) -> Call {
        let call = self.any_call().await;
        assert_eq!(call.path, path, "{}", call.body);
        call
    }

    pub(crate) async fn any_call(&mut self) -> Call {
        wait_for("a call", self.calls.recv()).await
    }

    /// The next `POST /jobs/success`, answered: its jobs as (id, lease).
    pub(crate) async fn success(&mut self) -> Vec<(String, String)> {
        let call = self.call("/jobs/success").await;
        let jobs = leases(&call.body);
        call.answer("204 No Content", "");
        jobs
    }

    /// The next failure of this job, answered: what it says.
    pub(crate) async fn failure(&mut self, id: &str) -> Value {
        let mut call = self.call(&format!("/jobs/{id}/failure")).await;
        let mut failure = call.body.take();
        failure.as_object_mut().unwrap().remove("usage");
        call.answer("200 OK", "{}");
        failure
    }

    pub(crate) fn no_calls(&mut self) {
        if let Ok(call) = self.calls.try_recv() {
            panic!("{} {}", call.path, call.body);
        }
    }
}

pub(crate) fn leases(body: &Value) -> Vec<(String, String)> {
    let text = |job: &Value, key: &str| job[key].as_str().unwrap().to_owned();
    body["jobs"].as_array().unwrap().iter().map(|job| (text(job, "id"), text(job, "lease"))).collect()
}

async fn wait_for<T>(what: &str, next: impl Future<Output = Option<T>>) -> T {
    let next = tokio::time::timeout(PATIENCE, next).await;
    next.unwrap_or_else(|_| panic!("{what} did not come")).unwrap()
}

async fn serve(socket: TcpStream, to_test: ToTest) {
    let mut socket = BufReader::new(socket);
    while let Some((start, headers, body)) = request(&mut socket).await {
        let target = start.split(' ').nth(1).unwrap();
        if let Some(query) = target.strip_prefix("/jobs/take?") {
            let mut socket = socket.into_inner();
            socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
                .await
                .ok();
            to_test.streams.send(Stream { query: query.to_owned(), headers, socket }).await.ok();
            return;
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (status, answer) = if target.ends_with("/log") {
            to_test.logs.send((target.to_owned(), text)).await.ok();
            match to_test.takes_logs.load(Ordering::Relaxed) {
                true => ("204 No Content".to_owned(), String::new()),
                false => (
                    "404 Not Found".to_owned(),
                    format!(r#"{{"error":"there is no `{target}`","code":"no_route"}}"#),
                ),
            }
        } else if target.starts_with("/jobs/count?") {
            ("200 OK".to_owned(), r#"{"count":0}"#.to_owned())
        } else if target == "/jobs/heartbeat" {
            let answer = to_test.heartbeat.lock().unwrap()(&body);
            to_test.heartbeats.send(body).await.ok();
            ("200 OK".to_owned(), answer.to_string())
        } else {
            let (answer_in, answer) = oneshot::channel();
            let (path, method) = (target.to_owned(), start.split(' ').next().unwrap().to_owned());
            to_test.calls.send(Call { method, path, headers, body, text, answer: answer_in }).await.ok();
            // A call that the test drops gets no answer but a broken connection.
            let Ok(answer) = answer.await else { return };
            answer
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
        let head = if status.starts_with("204") { format!("HTTP/1.1 {status}\r\n\r\n") } else { head };
        if socket.write_all(head.as_bytes()).await.is_err() {
            return;
        }
    }
}

type Request = (String, Vec<(String, String)>, Vec<u8>);

async fn request(socket: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let pair = |line: &String| line.split_once(": ").map(|(key, value)| (key.to_owned(), value.to_owned()));
    let headers: Vec<_> = lines.iter().skip(1).filter_map(pair).collect();
    let length = header(&headers, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some((lines.first()?.clone(), headers, body))
}
