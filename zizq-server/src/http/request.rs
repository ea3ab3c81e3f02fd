//! A request as the handlers see it: its parts, and its body within limits.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::Body;
use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::media::Format;
use tokio::time::{Instant, timeout};

use super::budget::{Budget, Share};
use super::query::Query;
use super::reply::Refusal;

/// How much of a body that is too large is still read, so that its sender hears why it is refused, in bytes.
const MAX_DRAINED: usize = 64 * 1024 * 1024;

/// How much room a body of unknown length gets at first, in bytes.
const FIRST_GUESS: usize = 64 * 1024;

/// How long a body may pause.
const BODY_PAUSE: Duration = Duration::from_secs(30);

/// Beyond that a body comes at least this fast, in bytes a second.
const MIN_PACE: usize = 32 * 1024;

/// How long the rest of such a body may pause.
const DRAIN_PAUSE: Duration = Duration::from_millis(200);

/// A request whose call is known.
#[derive(Debug)]
pub(crate) struct Request {
    pub parts: Parts,
    /// The variable segments of the path.
    pub params: Vec<String>,
    pub body: Bytes,
    /// The format of the answer.
    pub format: Format,
    /// Where it comes from.
    pub peer: SocketAddr,
}

impl Request {
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<Cow<'_, str>> {
        header(&self.parts, name)
    }

    /// The format of the body.
    ///
    /// # Errors
    /// 415 where it is none of ours.
    pub(crate) fn body_format(&self) -> Result<Format, Refusal> {
        self.is_plain(&Format::SUPPORTED)?;
        let content_type = self.header(CONTENT_TYPE);
        // An empty body is of every type.
        let content_type = content_type.filter(|_| !self.body.is_empty());
        Format::from_content_type(content_type.as_deref()).ok_or_else(|| {
            let given = protocol::error::excerpt(content_type.as_deref().unwrap_or_default());
            let error = format!("content-type: `{given}` is not supported");
            Refusal::media_type(http::StatusCode::UNSUPPORTED_MEDIA_TYPE, error, &Format::SUPPORTED)
        })
    }

    /// That the body is not compressed.
    ///
    /// # Errors
    /// 415 where it is, with the types that would do.
    pub(crate) fn is_plain(&self, supported: &[&str]) -> Result<(), Refusal> {
        match self.header(CONTENT_ENCODING) {
            Some(encoding) if !matches!(&*encoding.to_ascii_lowercase(), "" | "identity") => {
                let given = protocol::error::excerpt(&encoding);
                let error = format!("content-encoding: `{given}` is not supported; send the body as it is");
                Err(Refusal::media_type(http::StatusCode::UNSUPPORTED_MEDIA_TYPE, error, supported))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn query(&self) -> Result<Query<'_>, Refusal> {
        Query::parse(self.parts.uri.query())
    }

    /// For calls that have no parameters.
    ///
    /// # Errors
    /// 400 where there is one.
    pub(crate) fn no_query(&self) -> Result<(), Refusal> {
        self.query()?.finish()
    }

    /// The job the path names.
    ///
    /// # Errors
    /// 404 for what can be no id.
    pub(crate) fn job_id(&self) -> Result<JobId, Refusal> {
        job_id(self.params.first().map(String::as_str).unwrap_or_default())
    }

    /// The lease token that comes as header `Zizq-Lease` or as query parameter `lease`.
    ///
    /// # Errors
    /// 400 for what can be no token.
    pub(crate) fn lease(&self, query: &mut Query<'_>) -> Result<Option<LeaseToken>, Refusal> {
        let in_query = query.value::<LeaseToken>("lease")?;
        let Some(text) = self.header("zizq-lease").filter(|text| !text.is_empty()) else {
            return Ok(in_query);
        };
        let token = text.parse();
        token.map(Some).map_err(|e| {
            Refusal::bad_request(format!("Zizq-Lease: `{}`: {e}", protocol::error::excerpt(&text)))
        })
    }
}

/// The job of this name.
///
/// # Errors
/// 404 for what can be no id.
pub(crate) fn job_id(text: &str) -> Result<JobId, Refusal> {
    text.parse()
        .map_err(|_| Refusal::not_found(format!("no job has the id `{}`", protocol::error::excerpt(text))))
}

/// A header as text. What is not ASCII stays visible as such, so that it is refused and not passed over.
pub(crate) fn header(parts: &Parts, name: impl http::header::AsHeaderName) -> Option<Cow<'_, str>> {
    parts.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()))
}

/// All `Accept` headers as one.
pub(crate) fn accept(parts: &Parts) -> Option<String> {
    let mut values =
        parts.headers.get_all(ACCEPT).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let first = values.next()?.into_owned();
    Some(values.fold(first, |list, value| list + "," + &value))
}

/// Reads a body of at most `limit` bytes, as soon as there is memory for it.
///
/// # Errors
/// 413 where it is larger; 408 where it does not come in time; 400 where it breaks off.
pub(crate) async fn read_body<B>(
    mut body: B,
    limit: usize,
    budget: &Budget,
) -> Result<(Bytes, Share), Refusal>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    let expected = body.size_hint().exact().and_then(|n| usize::try_from(n).ok());
    let mut room = expected.unwrap_or(FIRST_GUESS).min(limit);
    let mut share = budget.take(room).await;
    let mut whole = BytesMut::new();
    let mut pace = Pace::new();
    loop {
        let frame = match timeout(pace.patience(), body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return Ok((whole.freeze(), share)),
            Ok(Some(Err(e))) => return Err(Refusal::bad_request(format!("the body broke off: {e}"))),
            Err(_) => return Err(Refusal::too_slow("the body came too slowly")),
        };
        let Ok(data) = frame.into_data() else { continue };
        pace.count(data.len());
        if whole.len() + data.len() > limit {
            drop((whole, share));
            drain(body).await;
            let error = format!("the body has more than {limit} bytes, the limit of this server");
            return Err(Refusal::too_large(error));
        }
        // Most bodies arrive in one piece and need not be copied.
        if whole.is_empty() && expected == Some(data.len()) {
            return Ok((data, share));
        }
        if whole.len() + data.len() > room {
            // How much will come is not known. What has come counts as little while it waits.
            room = limit;
            share = budget.take(room).await;
            pace = Pace::new();
        }
        if whole.is_empty() {
            whole.reserve(room);
        }
        whole.extend_from_slice(&data);
    }
}

/// How long one waits for a body: its parts may pause, but not for long, and all in all it must come at some pace.
struct Pace {
    since: Instant,
    bytes: usize,
}

impl Pace {
    fn new() -> Self {
        Self { since: Instant::now(), bytes: 0 }
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// How long the next part may take.
    fn patience(&self) -> Duration {
        time_for(self.bytes).saturating_sub(self.since.elapsed()).min(BODY_PAUSE)
    }
}

/// How long so many bytes may take in all, whichever way they go.
pub(crate) fn time_for(bytes: usize) -> Duration {
    BODY_PAUSE + Duration::from_secs((bytes / MIN_PACE) as u64)
}

/// Reads on for a while and keeps nothing, so that a sender who does not listen before it is done hears the answer.
async fn drain<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let mut drained = 0;
    while drained < MAX_DRAINED
        && let Ok(Some(Ok(frame))) = timeout(DRAIN_PAUSE, body.frame()).await
    {
        drained += frame.data_ref().map_or(0, Bytes::len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_stream::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use std::convert::Infallible;
    use tokio::time::sleep;

    /// Reads a body of parts of this size that come so long after each other.
    async fn read(part: usize, pause: Duration, parts: usize) -> Result<usize, Refusal> {
        let budget = Budget::new(1 << 20);
        let body = StreamBody::new(Box::pin(stream! {
            for _ in 0..parts {
                sleep(pause).await;
                yield Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; part])));
            }
        }));
        read_body(body, 1 << 20, &budget).await.map(|(bytes, _)| bytes.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_but_not_for_ever() {
        assert_eq!(read(1, Duration::from_secs(1), 25).await.unwrap(), 25);
        assert_eq!(read(MIN_PACE, Duration::from_secs(1), 32).await.unwrap(), 1 << 20);
        for (part, pause) in [(1, Duration::from_secs(1)), (1_000, BODY_PAUSE + Duration::from_secs(1))] {
            let since = Instant::now();
            let refusal = read(part, pause, 1_000_000).await.unwrap_err();
            assert!(format!("{refusal:?}").contains("408"), "{refusal:?}");
            assert!(since.elapsed() <= BODY_PAUSE + Duration::from_secs(1), "{:?}", since.elapsed());
        }
        let refusal = read(MIN_PACE, Duration::from_millis(1), 33).await.unwrap_err();
        assert!(format!("{refusal:?}").contains("413"), "{refusal:?}");
    }
}
