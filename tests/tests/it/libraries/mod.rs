//! Libraries for server-sent events that others use, against resume and heartbeats.
//!
//! `ZIZQ_SSE_LIBRARIES` names the folder where they are installed, as `.ci/run` does it: a virtual environment of Python
//! in `venv`, and `node_modules`. Without it these tests say that they were skipped.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tests::wait::within;
use tests::{Server, id, lease};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of what the server says.
#[derive(Debug, Default)]
struct Way {
    /// It is lost.
    swallows: bool,
    /// How often all connections were cut.
    cuts: u32,
}

/// A way to the server that can be cut.
struct Link {
    address: String,
    way: watch::Sender<Way>,
    serving: JoinHandle<()>,
}

impl Link {
    async fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (way, watched) = watch::channel(Way::default());
        let target = server.address().to_owned();
        let serving = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&target).await.unwrap();
                tokio::spawn(carry(near, far, watched.clone()));
            }
        });
        Self { address, way, serving }
    }

    fn swallow(&self) {
        self.way.send_modify(|way| way.swallows = true);
    }

    fn cut(&self) {
        self.way.send_modify(|way| *way = Way { swallows: false, cuts: way.cuts + 1 });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Carries bytes both ways until one end closes, or the link is cut.
async fn carry(near: TcpStream, far: TcpStream, way: watch::Receiver<Way>) {
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let (mut cut, cuts) = (way.clone(), way.borrow().cuts);
    tokio::select! {
        () = pump(near_read, far_write, None) => {}
        () = pump(far_read, near_write, Some(way)) => {}
        _ = cut.wait_for(|way| way.cuts != cuts) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Option<watch::Receiver<Way>>) {
    let mut bytes = [0; 4_096];
    while let Ok(n @ 1..) = from.read(&mut bytes).await {
        let swallows = way.as_ref().is_some_and(|way| way.borrow().swallows);
        if !swallows && to.write_all(&bytes[..n]).await.is_err() {
            return;
        }
    }
}

/// A program that listens with one of the libraries.
struct Listener {
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Listener {
    fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { lines, _process: process }
    }

    /// The next event that the library tells of. None is empty.
    async fn next(&mut self) -> (String, Value, Value) {
        let line = within("an event from the library", self.lines.next_line()).await.unwrap();
        let heard: Value = serde_json::from_str(&line.expect("the listener ended")).unwrap();
        let data = heard["data"].as_str().unwrap_or_default();
        assert_ne!(data, "", "an event without data: {heard}");
        (
            heard["event"].as_str().unwrap().to_owned(),
            serde_json::from_str(data).unwrap(),
            heard["id"].clone(),
        )
    }

    async fn expect_hello(&mut self, resumed: bool) {
        let (event, data, _) = self.next().await;
        assert_eq!((event.as_str(), &data["resumed"]), ("hello", &json!(resumed)), "{data}");
    }

    async fn expect_job(&mut self, queued: &Value, n: u64) -> Value {
        let (event, job, position) = self.next().await;
        assert_eq!((event.as_str(), id(&job)), ("message", id(queued)), "{job}");
        assert!(position.as_str().unwrap().ends_with(&format!(":{n}")), "{position}");
        job
    }
}

/// Nothing is heard twice, nothing is lost, and what a heartbeat is made of is not heard at all.
async fn hears_every_job_once(listener: impl FnOnce(String) -> Command) {
    let server = Server::with(["--heartbeat-interval", "50ms"]).await;
    let (client, link) = (server.client(), Link::to(&server).await);
    let url = format!("http://{}/jobs/take?queue=q&prefetch=0&resume_ms=60000&lease_ms=600000", link.address);
    let mut listener = Listener::start(listener(url));
    listener.expect_hello(false).await;
    // Heartbeats before an event with an id, and behind it.
    client.let_pass(300).await;
    let queued = client.enqueue_all((0..2).map(|n| json!({"queue": "q", "type": "t", "payload": n}))).await;
    let mut jobs = vec![listener.expect_job(&queued[0], 1).await, listener.expect_job(&queued[1], 2).await];
    client.let_pass(300).await;
    let third = client.add("q").await;
    jobs.push(listener.expect_job(&third, 3).await);
    link.cut();
    listener.expect_hello(true).await;
    // What the library has heard does not come again: the next is a new one.
    let fourth = client.add("q").await;
    jobs.push(listener.expect_job(&fourth, 4).await);
    link.swallow();
    let lost = client.add("q").await;
    client.let_pass(300).await;
    assert_eq!(client.job(id(&lost)).await["status"], "in_flight", "it was sent");
    link.cut();
    listener.expect_hello(true).await;
    jobs.push(listener.expect_job(&lost, 5).await);
    assert_eq!(jobs[4]["deliveries"], 1, "the same delivery once more");
    for job in &jobs {
        client.succeed(job).await;
    }
    assert!(jobs.iter().all(|job| lease(job).len() == 16) && client.count("").await == 0);
}

/// The folder of the libraries; none where nobody has installed them.
fn libraries() -> Option<PathBuf> {
    let folder = std::env::var_os("ZIZQ_SSE_LIBRARIES").filter(|folder| !folder.is_empty());
    if folder.is_none() {
        eprintln!("SKIPPED: ZIZQ_SSE_LIBRARIES names no folder with the libraries for server-sent events");
    }
    folder.map(PathBuf::from)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/libraries").join(name)
}

async fn of_python(name: &str) {
    let Some(folder) = libraries() else { return };
    hears_every_job_once(|url| {
        let mut command = Command::new(folder.join("venv/bin/python"));
        command.arg(script(name)).arg(url);
        command
    })
    .await;
}

#[tokio::test]
async fn httpx_sse_hears_every_job_once_and_no_heartbeat() {
    of_python("httpx_listener.py").await;
}

#[tokio::test]
async fn sseclient_py_hears_every_job_once_and_no_heartbeat() {
    of_python("sseclient_listener.py").await;
}

#[tokio::test]
async fn aiohttp_sse_client_hears_every_job_once_and_no_heartbeat() {
    of_python("aiohttp_listener.py").await;
}

#[tokio::test]
async fn eventsource_of_npm_hears_every_job_once_and_no_heartbeat() {
    let Some(folder) = libraries() else { return };
    hears_every_job_once(|url| {
        let mut command = Command::new("node");
        command.arg(script("eventsource_listener.cjs")).arg(url).arg(&folder);
        command
    })
    .await;
}
