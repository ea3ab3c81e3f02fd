//! A connection as HTTP sees it: limits the wait for its first bytes, and adds a sentence to every refusal.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use memchr::memmem;
use protocol::error::{Code, ErrorBody};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::memory::Peer;
use super::reply::status_of;

/// How long a connection may take until its HTTP version is known. Later timeouts are those of HTTP.
const FIRST_BYTES: Duration = Duration::from_secs(30);

/// What HTTP/2 begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) struct Socket<S> {
    inner: S,
    peer: Arc<Peer>,
    /// While the version is unknown: the deadline, and how many bytes of the HTTP/2 preface have arrived.
    opening: Option<(Pin<Box<Sleep>>, usize)>,
    /// The replacement of an empty refusal, and how much of it is written.
    refusal: Option<(Vec<u8>, usize)>,
}

impl<S> Socket<S> {
    pub(crate) fn new(inner: S, peer: Arc<Peer>) -> Self {
        Self { inner, peer, opening: Some((Box::pin(sleep(FIRST_BYTES)), 0)), refusal: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        let Some((timer, seen)) = &mut self.opening else { return read };
        if read.is_pending() {
            ready!(timer.as_mut().poll(context));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request arrived")));
        }
        let new = buffer.filled().get(before..).unwrap_or_default();
        let rest = PREFACE.get(*seen..).unwrap_or_default();
        *seen += new.len();
        if new.len() >= rest.len() || !rest.starts_with(new) {
            self.opening = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.refusal.is_none() {
            this.refusal = with_a_sentence(bytes).map(|refusal| (refusal, 0));
        }
        while let Some((refusal, written)) = &mut this.refusal {
            let rest = refusal.get(*written..).unwrap_or_default();
            if rest.is_empty() {
                this.refusal = None;
                return Poll::Ready(Ok(bytes.len()));
            }
            match ready!(Pin::new(&mut this.inner).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => *written += n,
            }
        }
        this.peer.count(Pin::new(&mut this.inner).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match slices.iter().find(|slice| !slice.is_empty()) {
            Some(first) if first.starts_with(REFUSAL) => self.poll_write(context, first),
            _ => {
                let this = &mut *self;
                this.peer.count(Pin::new(&mut this.inner).poll_write_vectored(context, slices))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

const REFUSAL: &[u8] = b"HTTP/1.1 4";

/// Adds a body to the HTTP library's own answer to an unreadable head, which has none.
fn with_a_sentence(answer: &[u8]) -> Option<Vec<u8>> {
    if !answer.starts_with(REFUSAL) {
        return None;
    }
    memmem::find(answer, b"\r\ncontent-length: 0\r\n")?;
    let (code, error) = match answer.get(REFUSAL.len()..)?.first_chunk()? {
        b"14" => (Code::UrlTooLong, "the URL is too long"),
        b"31" => (Code::HeadTooLarge, "the head of the request is too large"),
        _ => (
            Code::Invalid,
            "the request is not HTTP, or its URL has a character that must be percent-encoded, such as > or a space",
        ),
    };
    Some(written(code, error))
}

/// The answer to plain HTTP on a connection that should have been TLS.
pub(super) fn plain_on_tls() -> Vec<u8> {
    written(Code::Invalid, "this port speaks TLS: use https://")
}

fn written(code: Code, error: &str) -> Vec<u8> {
    let body = ErrorBody { error: error.to_owned(), code: Some(code), supported: Vec::new(), changed: None };
    let body = serde_json::to_string(&body).unwrap_or_default();
    let (status, length) = (status_of(code), body.len());
    let head = "content-type: application/json\r\nconnection: close";
    format!("HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::memory::Memory;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn socket<S>(inner: S) -> Socket<S> {
        Socket::new(inner, Memory::new(1).connect().clone())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_closed() {
        for start in ["", "PRI * HTTP/2.0\r\n"] {
            let (mut peer, ours) = tokio::io::duplex(64);
            let mut socket = socket(ours);
            peer.write_all(start.as_bytes()).await.unwrap();
            let error = socket.read_to_end(&mut Vec::new()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{start:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_has_sent_a_request_stays_open() {
        for start in ["G", "PRI * HTTP/1.1\r\n", std::str::from_utf8(PREFACE).unwrap()] {
            let (mut peer, ours) = tokio::io::duplex(64);
            let mut socket = socket(ours);
            let bytes = start.as_bytes();
            for part in [bytes.get(..1), bytes.get(1..)].into_iter().flatten().filter(|part| !part.is_empty())
            {
                peer.write_all(part).await.unwrap();
                assert_eq!(socket.read(&mut [0; 64]).await.unwrap(), part.len());
            }
            let more = tokio::time::timeout(FIRST_BYTES * 10, socket.read(&mut [0; 64])).await;
            assert!(more.is_err(), "{start:?}: {more:?}");
        }
    }

    #[tokio::test]
    async fn refusals_get_a_sentence() {
        // The peer reads them in small pieces.
        let (mut peer, ours) = tokio::io::duplex(7);
        let mut socket = socket(ours);
        let writer = tokio::spawn(async move {
            let empty =
                "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
            socket.write_all(empty.as_bytes()).await.unwrap();
            socket.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        });
        let mut received = String::new();
        peer.read_to_string(&mut received).await.unwrap();
        writer.await.unwrap();
        assert_eq!(
            received,
            "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: 72\r\n\r\n{\"error\":\"the head of the request is too large\",\"code\":\"head_too_large\"}\
             HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}"
        );
    }
}
