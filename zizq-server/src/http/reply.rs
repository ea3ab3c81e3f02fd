//! Results become responses. The only place that knows status codes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full as FullBody, StreamBody};
use hyper::body::{Frame, SizeHint};
use protocol::body::Malformed;
use protocol::encode;
use protocol::enqueue::EnqueueError;
use protocol::error::ErrorBody;
use protocol::media::Format;
use protocol::patch::PatchError;
use serde::Serialize;

use super::memory::{Full, Held};
use crate::engine::command::Reject;
use crate::handle::CallError;
use crate::store::StoreError;

/// What an answer says: something that is there, or something that is made while it is sent.
pub(crate) enum Content {
    Whole(Vec<u8>),
    Stream(UnsyncBoxBody<Bytes, Infallible>),
}

impl Content {
    pub(crate) fn stream(
        frames: impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static,
    ) -> Self {
        Self::Stream(StreamBody::new(frames).boxed_unsync())
    }
}

/// The answer to `HEAD`: what `GET` is answered, without the body (RFC 9110, 9.3.2). hyper leaves it out for HTTP/1.1 only.
pub(crate) fn head_of(answer: Response<Content>) -> Response<Content> {
    let (mut parts, content) = answer.into_parts();
    if let Content::Whole(bytes) = content {
        parts.headers.insert(CONTENT_LENGTH, bytes.len().into());
    }
    Response::from_parts(parts, Content::Whole(Vec::new()))
}

/// What a connection sends. It counts until it has been sent.
pub(crate) type Body = Either<FullBody<Bytes>, Kept>;

/// A stream, and what it holds.
pub(crate) struct Kept {
    frames: UnsyncBoxBody<Bytes, Infallible>,
    _held: Held,
}

impl hyper::body::Body for Kept {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.frames).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.frames.size_hint()
    }
}

/// The answer as it is sent.
pub(crate) fn send(answer: Response<Content>, mut held: Held) -> Response<Body> {
    answer.map(|content| match content {
        Content::Whole(bytes) => {
            held.made(bytes.len());
            if bytes.is_empty() {
                return Either::Left(FullBody::default());
            }
            Either::Left(FullBody::new(held.until_sent(bytes)))
        }
        Content::Stream(frames) => {
            held.made(0);
            Either::Right(Kept { frames, _held: held })
        }
    })
}

/// Why a request was refused: a status, one sentence, and what belongs to it.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Reason>);

#[derive(Debug)]
struct Reason {
    status: StatusCode,
    body: ErrorBody,
    header: Option<(http::HeaderName, HeaderValue)>,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let body = ErrorBody { error: error.into(), supported: Vec::new() };
        Self(Box::new(Reason { status, body, header: None }))
    }

    /// 400: the request is malformed.
    pub(crate) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// 403: whoever calls may not.
    pub(crate) fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error)
    }

    /// 404: there is no such thing.
    pub(crate) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// 405: with the methods that would do.
    pub(crate) fn method_not_allowed(method: &Method, allowed: &[Method]) -> Self {
        let list = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let error = format!("{method} is not allowed here; allowed: {list}");
        let mut refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, error);
        refusal.0.header = HeaderValue::from_str(&list).ok().map(|value| (ALLOW, value));
        refusal
    }

    /// 408: the request did not come in time.
    pub(crate) fn too_slow(error: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, error)
    }

    /// 409: the request is at odds with what is.
    pub(crate) fn conflict(error: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error)
    }

    /// 413: more than the server takes.
    pub(crate) fn too_large(error: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, error)
    }

    /// 421: another server is meant (RFC 9110, 15.5.20).
    pub(crate) fn misdirected(error: impl Into<String>) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, error)
    }

    /// 422: well-formed, but not allowed.
    pub(crate) fn unprocessable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }

    /// 406 or 415: the media types that would do are listed.
    pub(crate) fn media_type(status: StatusCode, error: impl Into<String>, supported: &[&str]) -> Self {
        let mut refusal = Self::new(status, error);
        refusal.0.body.supported = supported.iter().map(|&s| s.to_owned()).collect();
        refusal
    }

    /// 503: come back in a moment.
    pub(crate) fn unavailable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error).retry_after("1")
    }

    /// 503, and the end of the connection.
    pub(crate) fn too_many_connections(limit: usize) -> Self {
        let error = format!("the server has {limit} connections, which is its limit; try again in a moment");
        Self::unavailable(error)
    }

    /// 507: come back when there is space (RFC 4918).
    pub(crate) fn out_of_space(error: impl Into<String>) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, error).retry_after("10")
    }

    fn retry_after(mut self, seconds: &'static str) -> Self {
        self.0.header = Some((RETRY_AFTER, HeaderValue::from_static(seconds)));
        self
    }

    /// With one more header, where there is none yet.
    pub(crate) fn with_header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.0.header.get_or_insert((name, value));
        self
    }

    /// The response. Clients that asked for a format that does not exist get JSON.
    pub(crate) fn into_response(self, format: Format) -> Response<Content> {
        let Reason { status, body, header } = *self.0;
        let media = matches!(status, StatusCode::NOT_ACCEPTABLE | StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let format = if media { Format::Json } else { format };
        let mut response = value(status, format, &body);
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<Malformed> for Refusal {
    fn from(Malformed(error): Malformed) -> Self {
        Self::bad_request(error)
    }
}

impl From<EnqueueError> for Refusal {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Malformed(malformed) => malformed.into(),
            EnqueueError::NotAllowed(error) => Self::unprocessable(error),
        }
    }
}

impl From<PatchError> for Refusal {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(malformed) => malformed.into(),
            PatchError::Invalid(error) => Self::unprocessable(error),
        }
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Rejected(Reject::NotFound | Reject::Missing(_)) => Self::not_found(error.to_string()),
            CallError::Rejected(Reject::LeaseLost | Reject::Conflict(_)) => Self::conflict(error.to_string()),
            CallError::Rejected(Reject::NotAllowed(_) | Reject::Job { .. }) => {
                Self::unprocessable(error.to_string())
            }
            CallError::DiskFull => Self::out_of_space(error.to_string()),
            CallError::Rejected(Reject::Draining | Reject::Changed)
            | CallError::StoreClosed
            | CallError::Stopped => Self::unavailable(error.to_string()),
        }
    }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        Self::unavailable(full.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Closed) {
            return CallError::StoreClosed.into();
        }
        tracing::error!(%error, "cannot read the store");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the store cannot be read; the server's log says why")
    }
}

/// What a handler gives back.
pub(crate) type Answer = Result<Response<Content>, Refusal>;

/// A body of bytes in a format. JSON ends with a line end, for those who read it in a terminal.
pub(crate) fn bytes(status: StatusCode, format: Format, mut body: Vec<u8>) -> Response<Content> {
    if format == Format::Json {
        body.push(b'\n');
    }
    let mut response = Response::new(Content::Whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    response
}

/// A body of one value.
pub(crate) fn value<T: Serialize + ?Sized>(
    status: StatusCode,
    format: Format,
    value: &T,
) -> Response<Content> {
    let mut body = Vec::with_capacity(256);
    encode::write(&mut body, format, value);
    bytes(status, format, body)
}

/// 204: no body, and no content type.
pub(crate) fn no_content() -> Response<Content> {
    let mut response = Response::new(Content::Whole(Vec::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
