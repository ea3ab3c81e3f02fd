//! Large answers are bounded until they have been sent: in memory, all of them together, and in time, by the pace at
//! which bodies are to come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use http::Response;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Body as _;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::budget::SMALL;
use super::reply::{Body, Refusal};
use super::request::time_for;

/// A page of large jobs ends before its limit, at about this many bytes.
const PAGE: usize = 16 * 1024 * 1024;
/// While more than this waits for its readers, in bytes, pages end at [`SMALL`].
const MANY: usize = 64 * 1024 * 1024;
/// While more than this waits for its readers, in bytes, no large answers are given.
const TOO_MANY: usize = 128 * 1024 * 1024;

/// What large answers take that are not sent yet, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Unread(Arc<AtomicUsize>);

/// A connection: what it has not sent yet, and how to end it.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    unread: Arc<AtomicUsize>,
    cut: Arc<Notify>,
}

impl Peer {
    /// Returns when the connection is to be ended.
    pub(crate) async fn cut(&self) {
        self.cut.notified().await;
    }
}

impl Unread {
    /// How many bytes a page of jobs may have. Nobody waits: where others do not read theirs, pages get shorter.
    pub(crate) fn page(&self) -> usize {
        if self.0.load(Ordering::Relaxed) < MANY { PAGE } else { SMALL }
    }

    /// The answer; where it is large, the connection is cut if it is not read in time.
    ///
    /// # Errors
    /// 503 when too much waits already.
    pub(crate) fn limit(&self, answer: Response<Body>, peer: &Peer) -> Result<Response<Body>, Refusal> {
        if is_large(answer.body()) && self.0.load(Ordering::Relaxed) > TOO_MANY {
            return Err(Refusal::unavailable(
                "too many large answers are not read yet; try again in a moment",
            ));
        }
        Ok(keep_until_sent(answer, |bytes| {
            let counted = Counted::add(&self.0, bytes);
            let on_connection = Counted::add(&peer.unread, bytes);
            // The answers of a connection share its pace.
            let time = time_for(peer.unread.load(Ordering::Relaxed));
            let cut = peer.cut.clone();
            let watch = tokio::spawn(async move {
                sleep(time).await;
                cut.notify_one();
            });
            (counted, on_connection, Watch(watch.abort_handle()))
        }))
    }
}

/// Bytes that are counted until it is dropped.
struct Counted {
    sum: Arc<AtomicUsize>,
    bytes: usize,
}

impl Counted {
    fn add(sum: &Arc<AtomicUsize>, bytes: usize) -> Self {
        sum.fetch_add(bytes, Ordering::Relaxed);
        Self { sum: sum.clone(), bytes }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.sum.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether a body is more than a small one. A stream is not: it is made as it is read.
fn is_large(body: &Body) -> bool {
    matches!(body, Either::Left(whole) if whole.size_hint().lower() > SMALL as u64)
}

/// The answer; where it is large, what `keep` makes of its size is kept until all of it has been sent.
pub(crate) fn keep_until_sent<T: Send + 'static>(
    answer: Response<Body>,
    keep: impl FnOnce(usize) -> T,
) -> Response<Body> {
    if !is_large(answer.body()) {
        return answer;
    }
    answer.map(|body| match body {
        Either::Left(mut whole) => {
            let bytes = whole.frame().now_or_never().flatten().and_then(|Ok(frame)| frame.into_data().ok());
            let bytes = bytes.unwrap_or_default();
            let _kept = keep(bytes.len());
            Either::Left(Full::new(Bytes::from_owner(Unsent { bytes, _kept })))
        }
        stream @ Either::Right(_) => stream,
    })
}

struct Unsent<T> {
    bytes: Bytes,
    _kept: T,
}

impl<T> AsRef<[u8]> for Unsent<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;
    use protocol::media::Format;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::http::reply;

    const HOUR: Duration = Duration::from_secs(3600);
    const MIB: usize = 1024 * 1024;

    fn answer(bytes: usize) -> Response<Body> {
        reply::bytes(StatusCode::OK, Format::Json, vec![7; bytes])
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_answer_that_is_not_read_ends_its_connection() {
        let (unread, peer) = (Unread::default(), Peer::default());
        let small = unread.limit(answer(SMALL), &peer).unwrap();
        let sent = unread.limit(answer(SMALL + 1), &peer).unwrap();
        let sent = sent.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&sent[..], [7; SMALL + 1]);
        drop(sent);
        assert!(timeout(HOUR, peer.cut()).await.is_err(), "nothing was left unread that counts");
        drop(small);

        let since = Instant::now();
        let first = unread.limit(answer(MIB), &peer).unwrap();
        let second = unread.limit(answer(MIB), &peer).unwrap();
        drop(first);
        timeout(HOUR, peer.cut()).await.unwrap();
        assert_eq!(since.elapsed().as_secs(), time_for(2 * MIB).as_secs(), "both go over one connection");
        drop(second);
    }

    #[tokio::test]
    async fn pages_get_shorter_and_large_answers_are_refused_while_too_much_is_unread() {
        let (unread, peer) = (Unread::default(), Peer::default());
        let mut kept = Vec::new();
        let mut pages = Vec::new();
        while let Ok(answer) = unread.limit(answer(PAGE), &peer) {
            kept.push(answer);
            pages.push(unread.page());
        }
        assert_eq!(pages, [[PAGE; 3].as_slice(), &[SMALL; 6]].concat());
        unread.limit(answer(SMALL), &peer).unwrap();
        drop(kept);
        assert_eq!(unread.page(), PAGE);
    }
}
