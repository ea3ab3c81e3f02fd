//! HTTP/2 over plain TCP, by prior knowledge.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{AUTHORIZATION, Answer, Media, Request};

/// Room for what the server sends before we have looked at it.
const WINDOW_BYTES: u32 = 4 << 20;

/// One request at a time on a connection that others may share.
#[derive(Debug, Clone)]
pub(in crate::load) struct Connection {
    requests: SendRequest<Full<Bytes>>,
    host: String,
    body: Bytes,
}

/// Runs what belongs to a connection on our only thread.
#[derive(Debug, Clone)]
struct Here;

impl<F: Future<Output = ()> + 'static> Executor<F> for Here {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

impl Connection {
    pub(super) async fn open(address: &str) -> Result<Self> {
        let socket =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        let mut settings = Builder::new(Here);
        settings.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (requests, connection) = settings.handshake(TokioIo::new(socket)).await?;
        tokio::task::spawn_local(connection);
        Ok(Self { requests, host: address.to_owned(), body: Bytes::new() })
    }

    async fn send(&mut self, request: &Request<'_>) -> Result<http::Response<Incoming>> {
        let uri = format!("http://{}{}", self.host, request.path);
        let mut builder = http::Request::builder().method(request.method).uri(uri);
        if let Some(value) = AUTHORIZATION.get() {
            builder = builder.header("authorization", value);
        }
        for &(name, value) in request.headers {
            builder = builder.header(name, value);
        }
        let request = builder.body(Full::new(Bytes::copy_from_slice(request.body)))?;
        self.requests.ready().await?;
        Ok(self.requests.send_request(request).await?)
    }

    pub(super) async fn exchange(&mut self, request: &Request<'_>) -> Result<Answer<'_>> {
        let answer = self.send(request).await?;
        let status = answer.status().as_u16();
        let media = answer.headers().get("content-type");
        let media = media.map_or(Media::None, |value| Media::of(value.to_str().unwrap_or_default()));
        self.body = answer.into_body().collect().await?.to_bytes();
        Ok(Answer { status, media, closes: false, body: &self.body })
    }

    /// The status, and the body to be read.
    pub(super) async fn open_stream(mut self, request: &Request<'_>) -> Result<(u16, Stream)> {
        let answer = self.send(request).await?;
        let status = answer.status().as_u16();
        Ok((status, Stream { incoming: answer.into_body(), body: Vec::new(), _connection: self }))
    }
}

/// The body of an answer that does not end.
#[derive(Debug)]
pub(in crate::load) struct Stream {
    incoming: Incoming,
    body: Vec<u8>,
    /// Kept, for the connection ends with the last of its users.
    _connection: Connection,
}

impl Stream {
    pub(super) async fn read(&mut self, mut read: impl FnMut(&[u8]) -> Result<usize>) -> Result<()> {
        let frame = self.incoming.frame().await.context("the server ended the stream")??;
        if let Some(data) = frame.data_ref() {
            self.body.extend_from_slice(data);
        }
        let done = read(&self.body)?;
        self.body.drain(..done);
        Ok(())
    }
}
