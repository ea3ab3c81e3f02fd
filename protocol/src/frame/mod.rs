//! The framing of job streams: writing and reading the boundaries between messages.
//!
//! The three formats have one shape. `write` appends one frame whose body a closure writes, and `HEARTBEAT` is the
//! frame that only shows life. A `Decoder` takes the bytes in pieces of any size, split anywhere:
//!
//! ```
//! use protocol::frame::{Item, ndjson};
//!
//! let mut decoder = ndjson::Decoder::new(1024);
//! for piece in ["{\"id\"", ":1}\n\n"] {
//!     decoder.push(piece.as_bytes());
//!     while let Some(item) = decoder.next()? {
//!         match item {
//!             Item::Message(json) => assert_eq!(json, b"{\"id\":1}"),
//!             Item::Heartbeat => println!("still there"),
//!         }
//!     }
//! }
//! # Ok::<(), protocol::frame::FrameError>(())
//! ```
//!
//! Call `next` until it answers `None` before the next `push`: then a decoder holds no more than one unfinished
//! frame, whatever its peer sends. A frame that is unfinished when the stream ends is none; it is dropped with the
//! decoder.

mod input;
pub mod msgpack;
pub mod ndjson;
pub mod sse;

use std::marker::PhantomData;

use input::{Framing, Input};

/// The format of a job stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamFormat {
    /// One JSON text per line; see [`ndjson`].
    NdJson,
    /// Length-prefixed MessagePack; see [`msgpack`].
    MessagePack,
    /// Server-sent events; see [`sse`].
    EventStream,
}

impl StreamFormat {
    /// The value of `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::NdJson => "application/x-ndjson",
            Self::MessagePack => "application/vnd.zizq.msgpack-stream",
            Self::EventStream => "text/event-stream",
        }
    }
}

/// What an [`ndjson`] or a [`msgpack`] stream consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An empty frame: the peer is alive.
    Heartbeat,
    /// The body of a frame, not empty and not yet parsed.
    Message(Vec<u8>),
}

impl Item {
    fn from_body(body: &[u8]) -> Self {
        if body.is_empty() { Self::Heartbeat } else { Self::Message(body.to_vec()) }
    }
}

/// Why a stream cannot be read on.
///
/// It is final: behind a frame that was not read nobody knows where the next one begins. The decoder repeats the
/// error for ever and drops whatever else is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame, finished or not, is larger than the decoder was told to accept.
    #[error("a frame is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit of the decoder, in bytes.
        limit: usize,
    },
}

/// Reads the frames of an [`ndjson`] or a [`msgpack`] stream piece by piece.
#[derive(Debug)]
pub struct Decoder<F> {
    input: Input,
    framing: PhantomData<F>,
}

impl<F: Framing> Decoder<F> {
    /// A decoder of frames whose bodies have at most `max_frame_bytes`.
    #[must_use]
    pub fn new(max_frame_bytes: usize) -> Self {
        Self { input: Input::new(max_frame_bytes), framing: PhantomData }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.push(bytes);
    }

    /// The next frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLarge`] as soon as a frame is known to be over the limit. It is final.
    #[expect(clippy::should_implement_trait, reason = "here None is not the end")]
    pub fn next(&mut self) -> Result<Option<Item>, FrameError> {
        F::next(&mut self.input)
    }
}

/// Whether text can stand in a frame that a line break would end.
fn is_one_line(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn content_types() {
        assert_eq!(StreamFormat::NdJson.content_type(), "application/x-ndjson");
        assert_eq!(StreamFormat::MessagePack.content_type(), "application/vnd.zizq.msgpack-stream");
        assert_eq!(StreamFormat::EventStream.content_type(), "text/event-stream");
    }

    #[test]
    fn an_error_names_the_limit() {
        let error = FrameError::TooLarge { limit: 7 };
        assert_eq!(error.to_string(), "a frame is larger than the limit of 7 bytes");
    }

    #[test]
    fn after_a_failure_nothing_is_kept() {
        let mut input = Input::new(2);
        input.push(b"abc");
        assert!(input.line(|b| b == b'\n', 2).is_err());
        input.push(&[b'x'; 1000]);
        assert_eq!(&*input.buf, b"abc");
    }

    proptest! {
        /// The buffer stays within a few frames and pieces, however long the stream is.
        #[test]
        fn memory_is_bounded(lines in prop::collection::vec(0..64_usize, 1..200), piece in 1..200_usize) {
            let stream: Vec<u8> = lines.iter().flat_map(|&n| [vec![b'x'; n], vec![b'\n']].concat()).collect();
            let mut input = Input::new(64);
            let mut read = Vec::new();
            for bytes in stream.chunks(piece) {
                input.push(bytes);
                while let Some(len) = input.line(|b| b == b'\n', 64).unwrap().map(<[u8]>::len) {
                    read.push(len);
                    input.consume(len + 1);
                }
                prop_assert!(input.buf.len() <= 64);
                prop_assert!(input.buf.capacity() <= 4 * (64 + piece));
            }
            prop_assert_eq!(read, lines);
        }
    }
}
