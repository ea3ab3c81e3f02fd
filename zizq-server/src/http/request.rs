//! A request as the handlers see it: its parts, and its body within limits.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::media::Format;
use tokio::time::timeout;

use super::query::Query;
use super::reply::Refusal;

/// How much of a body that is too large is still read, so that its sender hears why it is refused, in bytes.
const MAX_DRAINED: usize = 64 * 1024 * 1024;

/// How much room an announced length alone is believed to need, in bytes.
const FIRST_GUESS: usize = 1024 * 1024;

/// How long a body may pause.
const BODY_PAUSE: Duration = Duration::from_secs(30);

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
        let content_type = self.header(CONTENT_TYPE);
        // An empty body is of every type.
        let content_type = content_type.filter(|_| !self.body.is_empty());
        Format::from_content_type(content_type.as_deref()).ok_or_else(|| {
            let given = protocol::error::excerpt(content_type.as_deref().unwrap_or_default());
            let error = format!("content-type: `{given}` is not supported");
            Refusal::media_type(http::StatusCode::UNSUPPORTED_MEDIA_TYPE, error, &Format::SUPPORTED)
        })
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
        let text = self.params.first().map(String::as_str).unwrap_or_default();
        text.parse().map_err(|_| {
            Refusal::not_found(format!("no job has the id `{}`", protocol::error::excerpt(text)))
        })
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

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// 413 where it is larger; 400 where it breaks off.
pub(crate) async fn read_body(mut body: Incoming, limit: usize) -> Result<Bytes, Refusal> {
    let expected = body.size_hint().exact().and_then(|n| usize::try_from(n).ok());
    let mut whole = BytesMut::new();
    loop {
        let frame = match timeout(BODY_PAUSE, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(Err(e))) => return Err(Refusal::bad_request(format!("the body broke off: {e}"))),
            Err(_) => {
                return Err(Refusal::bad_request(format!("the body stopped coming for {BODY_PAUSE:?}")));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            drop(whole);
            drain(body).await;
            let error = format!("the body has more than {limit} bytes, the limit of this server");
            return Err(Refusal::too_large(error));
        }
        // Most bodies arrive in one piece and need not be copied.
        if whole.is_empty() && expected == Some(data.len()) {
            return Ok(data);
        }
        if whole.is_empty() {
            whole.reserve(expected.unwrap_or(data.len()).min(limit).min(FIRST_GUESS));
        }
        whole.extend_from_slice(&data);
    }
}

/// Reads on for a while and keeps nothing, so that a sender who does not listen before it is done hears the answer.
async fn drain(mut body: Incoming) {
    let mut drained = 0;
    while drained < MAX_DRAINED
        && let Ok(Some(Ok(frame))) = timeout(DRAIN_PAUSE, body.frame()).await
    {
        drained += frame.data_ref().map_or(0, Bytes::len);
    }
}
