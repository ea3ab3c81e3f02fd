//! As much of HTTP/1.1 as a load generator needs, over plain TCP.

use anyhow::{Context, Result, bail, ensure};
use memchr::{memchr, memmem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const READ_BYTES: usize = 64 << 10;

/// A keep-alive connection with one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    input: Vec<u8>,
    /// Where the part of `input` begins that was not read yet.
    start: usize,
    /// The body of a chunked answer.
    body: Vec<u8>,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
}

impl Answer<'_> {
    /// For messages.
    pub(super) fn describe(&self) -> String {
        let body = String::from_utf8_lossy(self.body);
        format!("{} {}", self.status, body.chars().take(300).collect::<String>())
    }
}

impl Connection {
    pub(super) async fn open(address: &str) -> Result<Self> {
        let socket =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, input: Vec::with_capacity(READ_BYTES), start: 0, body: Vec::new() })
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        let head = self.send(request).await?;
        self.body.clear();
        match head.framing {
            Framing::Length(len) => {
                while self.input.len() - self.start < len {
                    self.fill().await?;
                }
                let body = &self.input[self.start..self.start + len];
                self.start += len;
                Ok(Answer { status: head.status, body })
            }
            Framing::Chunked => {
                let mut chunks = Chunks::default();
                while !self.take_chunks(&mut chunks)? {
                    self.fill().await?;
                }
                Ok(Answer { status: head.status, body: &self.body })
            }
            Framing::Close => bail!("an answer that only the end of the connection ends"),
        }
    }

    /// Sends a request and waits for the head of its answer; the body is left to be read with [`Self::stream`].
    pub(super) async fn open_stream(mut self, request: &[u8]) -> Result<Stream> {
        let head = self.send(request).await?;
        ensure!(head.status == 200, "the stream was answered with {}", head.status);
        let chunks = matches!(head.framing, Framing::Chunked).then(Chunks::default);
        self.body.clear();
        Ok(Stream { connection: self, chunks })
    }

    async fn send(&mut self, request: &[u8]) -> Result<Head> {
        self.input.drain(..self.start);
        self.start = 0;
        self.socket.write_all(request).await?;
        loop {
            if let Some(head) = Head::parse(&self.input)? {
                self.start = head.len;
                return Ok(head);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<()> {
        self.input.reserve(READ_BYTES);
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
pub(super) struct Stream {
    connection: Connection,
    chunks: Option<Chunks>,
}

impl Stream {
    /// Waits for more and gives everything that `read` has not said it was done with.
    pub(super) async fn read(&mut self, mut read: impl FnMut(&[u8]) -> Result<usize>) -> Result<()> {
        let connection = &mut self.connection;
        if connection.input.len() == connection.start {
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
        let done = read(&connection.body)?;
        connection.body.drain(..done);
        Ok(())
    }
}

#[derive(Debug)]
struct Head {
    status: u16,
    len: usize,
    framing: Framing,
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
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                framing = Framing::Length(value.trim().parse()?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                framing = Framing::Chunked;
            }
        }
        Ok(Some(Self { status, len: end + 4, framing }))
    }
}

/// Where in a chunked body we are.
#[derive(Debug, Default)]
enum Chunks {
    /// Before a line with a size.
    #[default]
    Size,
    /// Inside of a chunk with so many bytes to come, the CRLF behind it included.
    Data(usize),
    /// Before the line behind the last chunk.
    Last,
    Ended,
}

impl Chunks {
    const fn ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// Appends the data in `input` to `body`, and says how much of the input was used.
    fn feed(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self {
                Self::Ended => return Ok(at),
                Self::Data(left) => {
                    let take = rest.len().min(*left);
                    // The last two bytes of what is left are the CRLF.
                    body.extend_from_slice(&rest[..take.min(left.saturating_sub(2))]);
                    at += take;
                    *left -= take;
                    if *left > 0 {
                        return Ok(at);
                    }
                    *self = Self::Size;
                }
                Self::Size | Self::Last => {
                    let Some(end) = memchr(b'\n', rest) else { return Ok(at) };
                    let last = matches!(self, Self::Last);
                    *self = if last { Self::Ended } else { Self::after_size(&rest[..end])? };
                    at += end + 1;
                }
            }
        }
    }

    fn after_size(line: &[u8]) -> Result<Self> {
        let line = std::str::from_utf8(line)?.trim_end();
        let size = line.split(';').next().unwrap_or_default();
        let size =
            usize::from_str_radix(size, 16).with_context(|| format!("not the size of a chunk: {line:?}"))?;
        Ok(if size == 0 { Self::Last } else { Self::Data(size + 2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_in_pieces_of_any_size() {
        let input = b"5\r\nhello\r\n1;x=y\r\n \r\nA\r\n0123456789\r\n0\r\n\r\nrest";
        for piece in 1..input.len() {
            let (mut chunks, mut body, mut pending) = (Chunks::default(), Vec::new(), Vec::new());
            for bytes in input.chunks(piece) {
                pending.extend_from_slice(bytes);
                let used = chunks.feed(&pending, &mut body).unwrap();
                pending.drain(..used);
            }
            assert_eq!(body, b"hello 0123456789", "in pieces of {piece}");
            assert!(chunks.ended());
            assert_eq!(pending, b"rest");
        }
    }

    #[test]
    fn heads() {
        let head = |text: &str| Head::parse(text.as_bytes()).unwrap().unwrap();
        let created = head("HTTP/1.1 201 Created\r\nContent-Length: 7\r\n\r\n{");
        assert_eq!((created.status, created.len, created.framing), (201, 43, Framing::Length(7)));
        assert_eq!(head("HTTP/1.1 204 No Content\r\n\r\n").framing, Framing::Length(0));
        assert_eq!(head("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").framing, Framing::Chunked);
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\n").unwrap().is_none());
    }
}
