//! A small HTTP server that a worker calls, with the test behind it.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::wait::within;

/// Listens on a free port; every request waits until the test answers it.
#[derive(Debug)]
pub struct Endpoint {
    url: String,
    calls: mpsc::Receiver<Call>,
    listener: JoinHandle<()>,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Call {
    /// The request.
    pub request: Request<Bytes>,
    reply: oneshot::Sender<Response<Full<Bytes>>>,
}

impl Endpoint {
    /// Starts to listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, calls) = mpsc::channel(100);
        let listener = tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(connection, sender.clone()));
            }
        });
        Self { url, calls, listener }
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The next request, however long it takes; `None` once the endpoint has failed.
    pub async fn any_call(&mut self) -> Option<Call> {
        self.calls.recv().await
    }

    /// The next request.
    pub async fn next_call(&mut self) -> Call {
        within("a call of the endpoint", self.calls.recv()).await.unwrap()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn serve(connection: TcpStream, calls: mpsc::Sender<Call>) {
    let service = service_fn(|request: Request<Incoming>| answer(request, calls.clone()));
    // A client that goes away, or that is told to, is what some tests are about.
    drop(http1::Builder::new().serve_connection(TokioIo::new(connection), service).await);
}

async fn answer(
    request: Request<Incoming>,
    calls: mpsc::Sender<Call>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let (reply, answer) = oneshot::channel();
    if calls.send(Call { request: Request::from_parts(head, body), reply }).await.is_err() {
        return Ok(Response::builder().status(503).body(Full::default()).unwrap());
    }
    Ok(answer.await.unwrap_or_else(|_| Response::builder().status(503).body(Full::default()).unwrap()))
}

impl Call {
    /// A header as text; empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.request.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Answers with the status and no more.
    pub fn answer(self, status: u16) {
        self.answer_with(Response::builder().status(status).body(Full::default()).unwrap());
    }

    /// Answers.
    pub fn answer_with(self, response: Response<Full<Bytes>>) {
        // The caller may be gone.
        drop(self.reply.send(response));
    }
}
