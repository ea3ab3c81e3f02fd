//! HTTP/1.1 over plain TCP, with one request at a time.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::chunks::Chunks;
use super::{AUTHORIZATION, Answer, Media, Request};

/// The most that is read at once; a connection that reads little has a smaller buffer.
const READ_BYTES: usize = 64 << 10;
const FIRST_READ_BYTES: usize = 2 << 10;

/// A keep-alive connection.
#[derive(Debug)]
pub(in crate::load) struct Connection {
    socket: TcpStream,
    host: String,
    output: Vec<u8>,
    input: Vec<u8>,
    /// Where the part of `input` begins that was not read yet.
    start: usize,
    /// The body of a chunked answer.
    body: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(address: &str) -> Result<Self> {
        let socket =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        let [output, input, body] = [const { Vec::new() }; 3];
        Ok(Self { socket, host: address.to_owned(), output, input, start: 0, body })
    }

    pub(super) async fn exchange(&mut self, request: &Request<'_>) -> Result<Answer<'_>> {
        let head = self.send(request).await?;
        self.body.clear();
        let Head { status, media, closes, .. } = head;
        match head.framing {
            _ if request.method == "HEAD" => Ok(Answer { status, media, closes, body: &self.body }),
            Framing::Length(len) => {
                while self.input.len() - self.start < len {
                    self.fill().await?;
                }
                let body = &self.input[self.start..self.start + len];
                self.start += len;
                Ok(Answer { status, media, closes, body })
            }
            Framing::Chunked => {
                let mut chunks = Chunks::default();
                while !self.take_chunks(&mut chunks)? {
                    self.fill().await?;
                }
                Ok(Answer { status, media, closes, body: &self.body })
            }
            Framing::Close => bail!("an answer that only the end of the connection ends"),
        }
    }

    /// The status, and the body to be read.
    pub(super) async fn open_stream(mut self, request: &Request<'_>) -> Result<(u16, Stream)> {
        let head = self.send(request).await?;
        let chunks = matches!(head.framing, Framing::Chunked).then(Chunks::default);
        self.body.clear();
        self.output = Vec::new();
        Ok((head.status, Stream { connection: self, chunks, incomplete: 0 }))
    }

    async fn send(&mut self, request: &Request<'_>) -> Result<Head> {
        self.input.drain(..self.start);
        self.start = 0;
        self.write(request)?;
        self.socket.write_all(&self.output).await?;
        loop {
            if let Some(head) = Head::parse(&self.input)? {
                self.start = head.len;
                return Ok(head);
            }
            self.fill().await?;
        }
    }

    fn write(&mut self, request: &Request<'_>) -> Result<()> {
        let Request { method, path, headers, body } = request;
        self.output.clear();
        write!(self.output, "{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.host)?;
        if let Some(value) = AUTHORIZATION.get() {
            write!(self.output, "authorization: {value}\r\n")?;
        }
        for (name, value) in *headers {
            write!(self.output, "{name}: {value}\r\n")?;
        }
        if *method != "GET" || !body.is_empty() {
            write!(self.output, "content-length: {}\r\n", body.len())?;
        }
        self.output.extend_from_slice(b"\r\n");
        self.output.extend_from_slice(body);
        Ok(())
    }

    async fn fill(&mut self) -> Result<()> {
        if self.input.len() == self.input.capacity() {
            self.input.reserve(self.input.capacity().clamp(FIRST_READ_BYTES, READ_BYTES));
        }
        let read = self.socket.read_buf(&mut self.input).await?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }

    /// Moves what has come of the chunks to `body`; `true` at their end.
    fn take_chunks(&mut self, chunks: &mut Chunks) -> Result<bool> {
        let read = chunks.feed(&self.input[self.start..], &mut self.body)?;
        self.start += read;
        if self.start == self.input.len() {
            self.input.clear();
            self.start = 0;
        }
        Ok(chunks.ended())
    }
}

/// The body of an answer that does not end.
#[derive(Debug)]
pub(in crate::load) struct Stream {
    connection: Connection,
    chunks: Option<Chunks>,
    /// Bytes that have come and of which nothing can be made before more come: the start of a line.
    incomplete: usize,
}

impl Stream {
    pub(super) async fn read(&mut self, mut read: impl FnMut(&[u8]) -> Result<usize>) -> Result<()> {
        let connection = &mut self.connection;
        if connection.input.len() - connection.start == self.incomplete {
            connection.fill().await?;
        }
        match &mut self.chunks {
            Some(chunks) => {
                let ended = connection.take_chunks(chunks)?;
                ensure!(!ended, "the server ended the stream");
            }
            None => {
                connection.body.append(&mut connection.input);
                connection.start = 0;
            }
        }
        self.incomplete = connection.input.len() - connection.start;
        let done = read(&connection.body)?;
        connection.body.drain(..done);
        Ok(())
    }

    /// Everything that has come, and not more.
    pub(super) fn unread(&mut self) -> Result<Vec<u8>> {
        let connection = &mut self.connection;
        let mut bytes = connection.input.split_off(connection.start);
        loop {
            match connection.socket.try_read_buf(&mut bytes) {
                Ok(0) => bail!("the server ended the stream"),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(bytes),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[derive(Debug)]
struct Head {
    status: u16,
    len: usize,
    framing: Framing,
    media: Media,
    closes: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
            ensure!(bytes.len() < READ_BYTES, "the head of an answer does not end");
            return Ok(None);
        };
        let head = std::str::from_utf8(&bytes[..end]).context("the head of an answer is not text")?;
        let mut lines = head.split("\r\n");
        let status =
            lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("no HTTP: {head}"))?;
        let mut framing = if status == 204 { Framing::Length(0) } else { Framing::Close };
        let (mut media, mut closes) = (Media::None, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                framing = Framing::Length(value.trim().parse()?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                framing = Framing::Chunked;
            } else if name.eq_ignore_ascii_case("content-type") {
                media = Media::of(value.trim());
            } else if name.eq_ignore_ascii_case("connection") {
                closes = value.trim().eq_ignore_ascii_case("close");
            }
        }
        Ok(Some(Self { status, len: end + 4, framing, media, closes }))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn heads() {
        let head = |text: &str| Head::parse(text.as_bytes()).unwrap().unwrap();
        let created = head("HTTP/1.1 201 Created\r\nContent-Length: 7\r\n\r\n{");
        assert_eq!((created.status, created.len, created.framing), (201, 43, Framing::Length(7)));
        assert_eq!(head("HTTP/1.1 204 No Content\r\n\r\n").framing, Framing::Length(0));
        assert_eq!(head("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").framing, Framing::Chunked);
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\n").unwrap().is_none());
    }

    #[tokio::test]
    async fn a_stream_in_pieces_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            for byte in b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n" {
                socket.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let connection = Connection::open(&address).await.unwrap();
        let (status, mut stream) = connection.open_stream(&Request::get("/", &[])).await.unwrap();
        assert_eq!(status, 200);
        let (mut all, mut calls) = (Vec::new(), 0);
        while all.len() < 5 {
            let read = stream.read(|bytes| {
                all.extend_from_slice(bytes);
                calls += 1;
                assert!(calls < 100, "it does not wait");
                Ok(bytes.len())
            });
            read.await.unwrap();
        }
        assert_eq!(all, b"hello");
    }
}
