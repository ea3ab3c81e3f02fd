//! What the decoders share: the bytes that have arrived, and how a format finds a frame in them.

use bytes::{Buf, BytesMut};

use super::{FrameError, Item};

/// How a format tells where a frame ends.
pub trait Framing {
    /// Takes the first frame, once all of it has arrived.
    fn next(input: &mut Input) -> Result<Option<Item>, FrameError>;
}

/// The received bytes that no item has been made of yet.
///
/// Every byte is searched once and moved a bounded number of times, however the pieces fall.
#[derive(Debug)]
pub struct Input {
    pub(super) buf: BytesMut,
    /// How much of `buf` is known to hold no line end.
    scanned: usize,
    pub(super) limit: usize,
    failed: bool,
}

impl Input {
    pub(super) fn new(limit: usize) -> Self {
        Self { buf: BytesMut::new(), scanned: 0, limit, failed: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !self.failed {
            self.buf.extend_from_slice(bytes);
        }
    }

    /// Finds the line at the front, which may have `room` bytes before its end; `None` until the end has arrived.
    pub(super) fn line(
        &mut self,
        is_end: impl Fn(u8) -> bool,
        room: usize,
    ) -> Result<Option<&[u8]>, FrameError> {
        let fresh = self.buf.get(self.scanned..).unwrap_or_default();
        let end = fresh.iter().position(|&byte| is_end(byte)).map(|at| self.scanned + at);
        self.scanned = end.unwrap_or(self.buf.len());
        if self.scanned > room {
            return Err(self.too_large());
        }
        Ok(end.and_then(|end| self.buf.get(..end)))
    }

    /// Ends the stream. The bytes at fault stay at the front, so that the next look at them fails again.
    pub(super) fn too_large(&mut self) -> FrameError {
        self.failed = true;
        FrameError::TooLarge { limit: self.limit }
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.buf.advance(len);
        self.scanned = 0;
    }
}
