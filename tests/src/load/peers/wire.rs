//! Lines and counted bytes over plain TCP: what the protocols of the peers are made of.

use anyhow::{Context, Result, ensure};
use memchr::memchr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const READ_BYTES: usize = 64 << 10;

/// A connection.
#[derive(Debug)]
pub(in crate::load) struct Wire {
    socket: TcpStream,
    input: Vec<u8>,
    /// Where the part of `input` begins that was not read yet.
    start: usize,
}

impl Wire {
    pub(in crate::load) async fn open(address: &str) -> Result<Self> {
        let socket =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, input: Vec::new(), start: 0 })
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.socket.write_all(bytes).await?)
    }

    /// The next line, without its CRLF.
    pub(super) async fn line(&mut self) -> Result<&[u8]> {
        let mut looked = 0;
        let end = loop {
            let unread = &self.input[self.start..];
            if let Some(end) = memchr(b'\n', &unread[looked..]) {
                break self.start + looked + end;
            }
            looked = unread.len();
            self.fill().await?;
        };
        let line = self.start..end.saturating_sub(1);
        self.start = end + 1;
        Ok(&self.input[line])
    }

    /// The next so many bytes, without the CRLF behind them.
    pub(super) async fn bytes(&mut self, len: usize) -> Result<&[u8]> {
        while self.input.len() - self.start < len + 2 {
            self.fill().await?;
        }
        let bytes = self.start..self.start + len;
        self.start += len + 2;
        Ok(&self.input[bytes])
    }

    async fn fill(&mut self) -> Result<()> {
        self.input.drain(..self.start);
        self.start = 0;
        self.input.reserve(READ_BYTES);
        let read = self.socket.read_buf(&mut self.input).await?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}
