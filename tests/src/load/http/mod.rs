//! As much of HTTP as a load generator needs.

mod chunks;
mod h1;
mod h2;

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Version {
    /// HTTP/1.1
    #[default]
    #[value(name = "1")]
    One,
    /// HTTP/2 by prior knowledge
    #[value(name = "2")]
    Two,
}

/// The value of `Authorization` in every request.
static AUTHORIZATION: OnceLock<String> = OnceLock::new();

/// Sends the access token in this file with every request from now on.
pub(super) fn send_token(file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    AUTHORIZATION.get_or_init(|| format!("Bearer {}", text.trim()));
    Ok(())
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) method: &'static str,
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: &'a [u8],
}

impl<'a> Request<'a> {
    /// A `GET` that accepts a media type.
    pub(super) fn get(path: &'a str, headers: &'a [(&'static str, &'a str)]) -> Self {
        Self { method: "GET", path, headers, body: b"" }
    }

    /// A `POST`.
    pub(super) fn post(path: &'a str, headers: &'a [(&'static str, &'a str)], body: &'a [u8]) -> Self {
        Self { method: "POST", path, headers, body }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) media: Media,
    /// Whether it is the last one of its connection.
    pub(super) closes: bool,
    pub(super) body: &'a [u8],
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Media {
    #[default]
    None,
    Json,
    Msgpack,
    Other,
}

impl Media {
    fn of(content_type: &str) -> Self {
        match content_type {
            "application/json" => Self::Json,
            "application/msgpack" => Self::Msgpack,
            _ => Self::Other,
        }
    }
}

impl Answer<'_> {
    /// For messages.
    pub(super) fn describe(&self) -> String {
        let body = String::from_utf8_lossy(self.body);
        format!("{} {}", self.status, body.chars().take(300).collect::<String>())
    }
}

/// A connection, or one of the requests at a time on a connection of HTTP/2.
#[derive(Debug)]
pub(super) enum Connection {
    One(h1::Connection),
    Two(h2::Connection),
}

impl Connection {
    pub(super) async fn open(address: &str, version: Version) -> Result<Self> {
        Ok(match version {
            Version::One => Self::One(h1::Connection::open(address).await?),
            Version::Two => Self::Two(h2::Connection::open(address).await?),
        })
    }

    /// The same connection for one more request at a time: only HTTP/2 has that.
    pub(super) fn share(&self) -> Option<Self> {
        match self {
            Self::One(_) => None,
            Self::Two(connection) => Some(Self::Two(connection.clone())),
        }
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn exchange(&mut self, request: &Request<'_>) -> Result<Answer<'_>> {
        match self {
            Self::One(connection) => connection.exchange(request).await,
            Self::Two(connection) => connection.exchange(request).await,
        }
    }

    /// Sends a request and waits for the head of its answer, whose body does not end.
    pub(super) async fn open_stream(self, request: &Request<'_>) -> Result<Stream> {
        let (status, stream) = self.begin_stream(request).await?;
        ensure!(status == 200, "the stream was answered with {status}");
        Ok(stream)
    }

    /// [`Self::open_stream`], which may be refused.
    pub(super) async fn begin_stream(self, request: &Request<'_>) -> Result<(u16, Stream)> {
        Ok(match self {
            Self::One(connection) => {
                let (status, stream) = connection.open_stream(request).await?;
                (status, Stream::One(stream))
            }
            Self::Two(connection) => {
                let (status, stream) = connection.open_stream(request).await?;
                (status, Stream::Two(stream))
            }
        })
    }
}

/// The body of an answer that does not end.
#[derive(Debug)]
pub(super) enum Stream {
    One(h1::Stream),
    Two(h2::Stream),
}

impl Stream {
    /// Waits for more and gives everything that `read` has not said it was done with.
    pub(super) async fn read(&mut self, read: impl FnMut(&[u8]) -> Result<usize>) -> Result<()> {
        match self {
            Self::One(stream) => stream.read(read).await,
            Self::Two(stream) => stream.read(read).await,
        }
    }

    /// What has come and was never read, as the socket has it. Only HTTP/1.1 is asked.
    pub(super) fn unread(&mut self) -> Result<Vec<u8>> {
        match self {
            Self::One(stream) => stream.unread(),
            Self::Two(_) => Ok(Vec::new()),
        }
    }
}
