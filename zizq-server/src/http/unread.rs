//! What nobody reads does not stay for ever: a large answer is to be read at the pace at which bodies are to come.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::Response;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Body as _;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::budget::SMALL;
use super::reply::Body;
use super::request::time_for;

/// Ends a connection.
pub(crate) type Cut = Arc<Notify>;

/// The answer; its connection is cut where it is large and is not read in time.
pub(crate) fn limit(answer: Response<Body>, cut: &Cut) -> Response<Body> {
    keep_until_sent(answer, |bytes| {
        let (cut, time) = (cut.clone(), time_for(bytes));
        let watch = tokio::spawn(async move {
            sleep(time).await;
            cut.notify_one();
        });
        Watch(watch.abort_handle())
    })
}

struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The answer; where it is large, what `keep` makes of its size is kept until all of it has been sent.
pub(crate) fn keep_until_sent<T: Send + 'static>(
    answer: Response<Body>,
    keep: impl FnOnce(usize) -> T,
) -> Response<Body> {
    answer.map(|body| match body {
        Either::Left(mut whole) if whole.size_hint().lower() > SMALL as u64 => {
            let bytes = whole.frame().now_or_never().flatten().and_then(|Ok(frame)| frame.into_data().ok());
            let bytes = bytes.unwrap_or_default();
            let _kept = keep(bytes.len());
            Either::Left(Full::new(Bytes::from_owner(Unsent { bytes, _kept })))
        }
        other => other,
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

    #[tokio::test(start_paused = true)]
    async fn a_large_answer_that_is_not_read_ends_its_connection() {
        let cut = Cut::default();
        let answer = |bytes| limit(reply::bytes(StatusCode::OK, Format::Json, vec![7; bytes]), &cut);
        let small = answer(SMALL);
        let sent = answer(SMALL + 1).into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&sent[..], [7; SMALL + 1]);
        drop(sent);
        assert!(timeout(HOUR, cut.notified()).await.is_err(), "nothing was left unread that counts");
        drop(small);

        let since = Instant::now();
        let unread = answer(1 << 20);
        timeout(HOUR, cut.notified()).await.unwrap();
        assert_eq!(since.elapsed().as_secs(), time_for(1 << 20).as_secs());
        drop(unread);
    }
}
