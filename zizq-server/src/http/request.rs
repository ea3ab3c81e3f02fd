//! A request as a service sees it: its parts, and its body within limits.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::Body;
use protocol::access::Verb;
use protocol::error::Code;
use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::media::{Format, is_form};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout, timeout_at};

use super::memory::{Held, Peer};
use super::pace::Pace;
use super::query::Query;
use super::reply::Refusal;
use crate::access::{Access, Party, Scope};
use crate::caller::Caller;

/// How much of an unwanted body is read, in bytes, so that its sender receives the reason; how long it may pause, and
/// how long that may take in total.
const MAX_DRAINED: usize = 64 * 1024 * 1024;
const DRAIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_DRAIN: Duration = Duration::from_secs(10);

/// The first allocation for a body that does not arrive in one piece, in bytes.
const FIRST_ROOM: usize = 256 * 1024;

/// How often to check whether others need the memory of a body that does not arrive.
const LOOK: Duration = Duration::from_secs(1);

/// A request. The service that answers it adds the path parameters and the body.
#[derive(Debug)]
pub(crate) struct Request {
    pub parts: Parts,
    /// All `Accept` headers as one.
    pub accepted: Option<String>,
    /// Whether one of our formats is among them.
    pub accepts_format: bool,
    /// The variable segments of the path.
    pub params: Vec<String>,
    pub body: Bytes,
    /// The format of the answer.
    pub format: Format,
    /// The address of the client.
    pub remote: Option<SocketAddr>,
    /// The memory that the request holds.
    pub held: Mutex<Held>,
    /// The connection.
    pub peer: Arc<Peer>,
    /// What is known of the other end of the connection.
    pub party: Arc<Party>,
    /// Who calls; none where it does not matter, and before it is known.
    pub access: Option<Access>,
    /// The queues in which the caller may do what it asks for.
    pub scope: Scope,
    /// What the call has changed; made when somebody asks for it.
    pub notes: OnceLock<Arc<Notes>>,
}

/// What a call has changed, as members of its entry in the audit trail.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Map<String, Value>>);

impl Notes {
    pub(crate) fn add(&self, name: &str, value: Value) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was noted first counts.
        notes.entry(name).or_insert(value);
    }

    /// Adds how many jobs, or what else, the call was about, and how many of them it has changed.
    pub(crate) fn count(&self, matched: u64, changed: u64) {
        self.add("matched", matched.into());
        self.add("changed", changed.into());
    }

    pub(crate) fn take(&self) -> Map<String, Value> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Request {
    /// Waits until the peer has read enough of its other answers, before an answer that may be long.
    ///
    /// # Errors
    /// 503 while too many answers are unread.
    pub(crate) async fn make_room(&self) -> Result<(), Refusal> {
        self.peer.room().await;
        Ok(self.held.lock().unwrap_or_else(PoisonError::into_inner).make()?)
    }

    /// The memory that the request holds, for its only owner.
    pub(crate) fn held_mut(&mut self) -> &mut Held {
        self.held.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// The size of a page, in bytes.
    pub(crate) fn page(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).page()
    }

    /// Who sent it.
    pub(crate) fn caller(&self) -> Caller {
        self.remote.map_or(Caller::Local, |remote| Caller::at(remote.ip()))
    }

    pub(crate) fn access(&self) -> Option<&Access> {
        self.access.as_ref()
    }

    /// Where it is noted what the call has changed.
    pub(crate) fn notes(&self) -> Arc<Notes> {
        self.notes.get_or_init(Arc::default).clone()
    }

    /// The queues in which the caller may do this.
    pub(crate) fn scope_of(&self, verb: Verb) -> Scope {
        self.access.as_ref().map_or_else(Scope::none, |access| access.identity.grants.scope(verb).clone())
    }

    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<Cow<'_, str>> {
        header(&self.parts, name)
    }

    /// The format of the body.
    ///
    /// # Errors
    /// 415 if the format is not supported.
    pub(crate) fn body_format(&self) -> Result<Format, Refusal> {
        self.is_plain(&Format::SUPPORTED)?;
        let content_type = self.header(CONTENT_TYPE);
        // An empty body has any type.
        let content_type = content_type.filter(|_| !self.body.is_empty());
        Format::of_body(content_type.as_deref(), &self.body).ok_or_else(|| {
            let given = protocol::error::excerpt(content_type.as_deref().unwrap_or_default());
            let hint = if is_form(content_type.as_deref()) {
                "; curl sends it by default: give it `-H 'content-type: application/json'` and an object"
            } else {
                ""
            };
            let error = format!("content-type: `{given}` is not supported{hint}");
            Refusal::unsupported_media_type(error, &Format::SUPPORTED)
        })
    }

    /// Checks that the body is not compressed.
    ///
    /// # Errors
    /// 415 if it is, with the supported types.
    pub(crate) fn is_plain(&self, supported: &[&str]) -> Result<(), Refusal> {
        match self.header(CONTENT_ENCODING) {
            Some(encoding) if !matches!(&*encoding.to_ascii_lowercase(), "" | "identity") => {
                let given = protocol::error::excerpt(&encoding);
                let error = format!("content-encoding: `{given}` is not supported; send the body as it is");
                Err(Refusal::unsupported_media_type(error, supported))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn query(&self) -> Result<Query<'_>, Refusal> {
        Query::parse(self.parts.uri.query())
    }

    /// Checks that there are no parameters.
    ///
    /// # Errors
    /// 400 if there is one.
    pub(crate) fn no_query(&self) -> Result<(), Refusal> {
        self.query()?.finish()
    }

    /// Checks that the body is empty. Filters that were sent in it would otherwise be ignored.
    ///
    /// # Errors
    /// 400 if it is not empty.
    pub(crate) fn no_body(&self) -> Result<(), Refusal> {
        const EMPTY_MAP: &[u8] = &[0x80];
        const NIL: &[u8] = &[0xc0];
        match self.body.trim_ascii() {
            b"" | b"{}" | b"null" | EMPTY_MAP | NIL => Ok(()),
            _ => Err(Refusal::invalid(
                "the body: this call takes none; filters belong in the query, such as `?queue=mails`",
            )),
        }
    }

    /// Reads the id of the job in the path.
    ///
    /// # Errors
    /// 404 for text that cannot be an id.
    pub(crate) fn job_id(&self) -> Result<JobId, Refusal> {
        job_id(self.params.first().map(String::as_str).unwrap_or_default())
    }

    /// Reads the lease token from the header `Zizq-Lease` or the query parameter `lease`.
    ///
    /// # Errors
    /// 400 for text that cannot be a token.
    pub(crate) fn lease(&self, query: &mut Query<'_>) -> Result<Option<LeaseToken>, Refusal> {
        let in_query = query.value::<LeaseToken>("lease")?;
        let Some(text) = self.header("zizq-lease").filter(|text| !text.is_empty()) else {
            return Ok(in_query);
        };
        let token = text.parse();
        token
            .map(Some)
            .map_err(|e| Refusal::invalid(format!("Zizq-Lease: `{}`: {e}", protocol::error::excerpt(&text))))
    }
}

/// Parses the id of a job.
///
/// # Errors
/// 404 for text that cannot be an id.
pub(crate) fn job_id(text: &str) -> Result<JobId, Refusal> {
    text.parse()
        .map_err(|_| Refusal::not_found(format!("no job has the id `{}`", protocol::error::excerpt(text))))
}

/// A header as text. Characters outside ASCII remain visible, so that they are refused, not ignored.
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

/// The body of a request that is still arriving.
pub(crate) struct Upload<B> {
    body: B,
    /// Whether all of it has arrived.
    ended: bool,
    /// The sender waits for `100 Continue` (RFC 9110, 10.1.1), which was not sent yet.
    waits: bool,
}

impl<B> Upload<B>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    pub(crate) fn new(parts: &Parts, body: B) -> Self {
        let ended = body.is_end_stream();
        let waits = !ended && parts.headers.contains_key(EXPECT);
        Self { body, ended, waits }
    }

    /// Reads a body of at most `limit` bytes.
    ///
    /// # Errors
    /// 413 if it is larger; 408 if it does not arrive in time; 400 if it is incomplete; 503 if there is no memory for
    /// it.
    pub(crate) async fn read(&mut self, limit: usize, held: &mut Held) -> Result<Bytes, Refusal> {
        let mut whole = BytesMut::new();
        let mut pace = Pace::new();
        let size = self.body.size_hint().exact().and_then(|n| usize::try_from(n).ok());
        while !self.ended {
            let Some(data) = self.next(&mut pace, held).await? else { break };
            if whole.len() + data.len() > limit {
                let error = format!(
                    "the body is larger than {limit} bytes, the limit of this server (--max-body-size)"
                );
                return Err(Refusal::too_large(error));
            }
            held.take_in(data.len()).await?;
            // Most bodies arrive in one piece and need no copy.
            if whole.is_empty() && size == Some(data.len()) {
                self.ended = true;
                return Ok(data);
            }
            let rest = size.unwrap_or(limit).saturating_sub(whole.len()).max(data.len());
            if whole.capacity() - whole.len() < data.len() {
                whole.reserve(rest.min(FIRST_ROOM.max(whole.len() * 3)).max(data.len()));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }

    /// Returns the next piece, if there is one.
    async fn next(&mut self, pace: &mut Pace, held: &Held) -> Result<Option<Bytes>, Refusal> {
        self.waits = false;
        loop {
            let manners = held.manners();
            let since = Instant::now();
            let frame = timeout_at(since + pace.left(manners).min(LOOK), self.body.frame()).await;
            match frame {
                Ok(Some(Ok(frame))) => {
                    // No piece follows the last one, so none can be late.
                    if !self.body.is_end_stream() {
                        pace.wait(since.elapsed(), manners);
                        pace.count(frame.data_ref().map_or(0, Bytes::len), manners);
                    }
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Ok(None) => {
                    self.ended = true;
                    return Ok(None);
                }
                Ok(Some(Err(e))) => return Err(Refusal::invalid(format!("the body is incomplete: {e}"))),
                Err(_) if pace.wait(since.elapsed(), manners) => {}
                Err(_) => return Err(Refusal::new(Code::BodyTimeout, "timed out reading the body")),
            }
        }
    }

    /// Reads and discards the rest for a while, so that a sender who reads only after sending receives the answer.
    /// Returns whether nothing is left that would be taken for the next request.
    pub(crate) async fn finish(&mut self) -> bool {
        if self.ended || self.waits {
            return self.ended;
        }
        let read = async {
            let mut drained = 0;
            while drained < MAX_DRAINED {
                match timeout(DRAIN_PAUSE, self.body.frame()).await {
                    Ok(Some(Ok(frame))) => drained += frame.data_ref().map_or(0, Bytes::len),
                    Ok(None) => return true,
                    Ok(Some(Err(_))) | Err(_) => return false,
                }
            }
            false
        };
        self.ended = timeout(MAX_DRAIN, read).await.unwrap_or(false);
        self.ended
    }
}

/// The approximate size of a request's head, in bytes.
pub(crate) fn size_of_head(parts: &Parts) -> usize {
    let uri = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let headers = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    uri + headers.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::memory::Memory;
    use async_stream::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use std::convert::Infallible;
    use tokio::time::sleep;

    fn body_of(
        part: usize,
        pause: Duration,
        parts: usize,
    ) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        StreamBody::new(Box::pin(stream! {
            for _ in 0..parts {
                sleep(pause).await;
                yield Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; part])));
            }
        }))
    }

    fn upload<B: Body<Data = Bytes, Error = Infallible> + Unpin>(body: B) -> Upload<B> {
        Upload::new(&http::Request::new(()).into_parts().0, body)
    }

    /// Reads a body of `parts` parts of this size, with this pause between them.
    async fn read(part: usize, pause: Duration, parts: usize) -> Result<usize, Refusal> {
        let memory = Memory::new(1 << 20);
        let mut held = Held::open(&memory.connect(), 0);
        upload(body_of(part, pause, parts)).read(1 << 20, &mut held).await.map(|bytes| bytes.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_but_not_forever() {
        const PACE: usize = 32 * 1024;
        const PAUSE: Duration = Duration::from_secs(30);
        let second = Duration::from_secs(1);
        assert_eq!(read(1, second, 25).await.unwrap(), 25);
        assert_eq!(read(PACE, second, 32).await.unwrap(), 1 << 20);
        // Fast bytes do not excuse a later pause without end.
        for (part, pause) in [(1, second), (1_000, PAUSE + second), (900_000, PAUSE + second)] {
            let since = Instant::now();
            let refusal = read(part, pause, 1_000_000).await.unwrap_err();
            assert!(format!("{refusal:?}").contains("BodyTimeout"), "{refusal:?}");
            assert!(since.elapsed() <= PAUSE + second, "{:?}", since.elapsed());
        }
        let refusal = read(PACE, Duration::from_millis(1), 33).await.unwrap_err();
        assert!(format!("{refusal:?}").contains("TooLarge"), "{refusal:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_body_is_given_up_when_memory_is_short() {
        let memory = Memory::new(64 << 20);
        let (first, second) = (memory.connect(), memory.connect());
        let idle = |peer: &Arc<Peer>| {
            let mut held = Held::open(peer, 0);
            let body = body_of(20 << 20, Duration::from_secs(60), 2);
            async move {
                let mut upload = upload(body);
                let since = Instant::now();
                let refused = upload.read(64 << 20, &mut held).await.is_err();
                (refused, since.elapsed().as_secs())
            }
        };
        assert_eq!(idle(&first).await, (true, 30), "a single body is waited for");
        let mut most = Held::open(&second, 0);
        most.take_in(40 << 20).await.unwrap();
        assert_eq!(idle(&first).await, (true, 2), "not while another one has most of the memory");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unwanted_body_is_read_for_a_while() {
        let short = Duration::from_millis(100);
        assert!(upload(body_of(1 << 20, short, 60)).finish().await);
        assert!(!upload(body_of(1 << 20, short, 70)).finish().await, "it is too large");
        assert!(!upload(body_of(1, short, 200)).finish().await, "it takes too long");
        assert!(!upload(body_of(1, Duration::from_secs(1), 2)).finish().await, "it pauses for too long");
    }
}
