//! Turns results into responses. Only this file knows the statuses of answers, and `protocol::error::Code` those of
//! refusals.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full as FullBody, StreamBody};
use hyper::body::{Frame, SizeHint};
use protocol::body::Malformed;
use protocol::encode;
use protocol::error::{Code, ErrorBody};
use protocol::media::Format;
use protocol::outcome::NotDone;
use serde::Serialize;
use serde_json::{Map, Value};

use super::memory::{Full, Held};

/// The content of an answer: complete, or generated while it is sent.
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

    /// Ends a stream early, when this happens.
    pub(crate) fn until(self, ended: impl Future<Output = ()> + Send + 'static) -> Self {
        match self {
            Self::Stream(frames) => {
                let ended = Box::pin(ended);
                Self::Stream(Until { frames, ended }.boxed_unsync())
            }
            whole => whole,
        }
    }
}

/// A stream that may end early.
struct Until<F> {
    frames: UnsyncBoxBody<Bytes, Infallible>,
    ended: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> hyper::body::Body for Until<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.frames).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.frames.size_hint()
    }
}

/// The answer to `HEAD`: that of `GET` without the body (RFC 9110, 9.3.2). hyper omits the body for HTTP/1.1 only.
pub(crate) fn head_of(answer: Response<Content>) -> Response<Content> {
    let (mut parts, content) = answer.into_parts();
    if let Content::Whole(bytes) = content {
        parts.headers.insert(CONTENT_LENGTH, bytes.len().into());
    }
    Response::from_parts(parts, Content::Whole(Vec::new()))
}

/// The body that a connection sends. It counts as memory until it has been sent.
pub(crate) type Body = Either<FullBody<Bytes>, Kept>;

/// A stream, and the memory that it holds.
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

/// Converts an answer into what is sent.
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

/// Why a request was refused: a code, a sentence, and further members and headers.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Reason>);

#[derive(Debug)]
struct Reason {
    code: Code,
    error: String,
    supported: Vec<String>,
    changed: Option<u64>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// Creates a refusal. Its code determines the status and `Retry-After`.
    pub(crate) fn new(code: Code, error: impl Into<String>) -> Self {
        let seconds = match status_of(code) {
            StatusCode::SERVICE_UNAVAILABLE => Some("1"),
            StatusCode::INSUFFICIENT_STORAGE => Some("10"),
            _ => None,
        };
        let header = seconds.map(|seconds| (RETRY_AFTER, HeaderValue::from_static(seconds)));
        Self(Box::new(Reason { code, error: error.into(), supported: Vec::new(), changed: None, header }))
    }

    /// The status of its response.
    pub(crate) fn status(&self) -> StatusCode {
        status_of(self.0.code)
    }

    /// What it is, for programs.
    pub(crate) const fn code(&self) -> Code {
        self.0.code
    }

    /// What it is, in a sentence.
    pub(crate) fn error(&self) -> &str {
        &self.0.error
    }

    /// [`Code::Invalid`].
    pub(crate) fn invalid(error: impl Into<String>) -> Self {
        Self::new(Code::Invalid, error)
    }

    /// [`Code::NotFound`].
    pub(crate) fn not_found(error: impl Into<String>) -> Self {
        Self::new(Code::NotFound, error)
    }

    /// [`Code::TooLarge`].
    pub(crate) fn too_large(error: impl Into<String>) -> Self {
        Self::new(Code::TooLarge, error)
    }

    /// [`Code::NotAllowed`].
    pub(crate) fn not_allowed(error: impl Into<String>) -> Self {
        Self::new(Code::NotAllowed, error)
    }

    /// [`Code::Busy`].
    pub(crate) fn busy(error: impl Into<String>) -> Self {
        Self::new(Code::Busy, error)
    }

    /// [`Code::Unavailable`].
    pub(crate) fn unavailable(error: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, error)
    }

    /// [`Code::MethodNotAllowed`], with the allowed methods.
    pub(crate) fn method_not_allowed(method: &Method, allowed: &[Method]) -> Self {
        let list = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let error = format!("{method} is not allowed here; allowed: {list}");
        let mut refusal = Self::new(Code::MethodNotAllowed, error);
        refusal.0.header = HeaderValue::from_str(&list).ok().map(|value| (ALLOW, value));
        refusal
    }

    /// [`Code::NotAcceptable`], with the supported media types.
    pub(crate) fn not_acceptable(error: impl Into<String>, supported: &[&str]) -> Self {
        Self::new(Code::NotAcceptable, error).supported(supported)
    }

    /// [`Code::UnsupportedMediaType`], with the supported media types.
    pub(crate) fn unsupported_media_type(error: impl Into<String>, supported: &[&str]) -> Self {
        Self::new(Code::UnsupportedMediaType, error).supported(supported)
    }

    fn supported(mut self, media_types: &[&str]) -> Self {
        self.0.supported = media_types.iter().map(|&s| s.to_owned()).collect();
        self
    }

    /// Says how many jobs were changed before the call failed.
    pub(crate) fn after(mut self, changed: u64) -> Self {
        self.0.changed = Some(changed);
        self
    }

    /// The body of the response.
    pub(crate) fn body(self) -> ErrorBody {
        let Reason { code, error, supported, changed, header: _ } = *self.0;
        ErrorBody { error, code: Some(code), supported, changed }
    }

    /// Adds a header unless it is set.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header.get_or_insert((name, value));
        self
    }

    /// The response. Clients that accept no supported format get JSON.
    pub(crate) fn into_response(mut self, format: Format) -> Response<Content> {
        let (status, header) = (status_of(self.0.code), self.0.header.take());
        let body = self.body();
        let format = if body.supported.is_empty() { format } else { Format::Json };
        let mut response = encoded(status, format, &body);
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The status of an answer with this code.
pub(super) fn status_of(code: Code) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl From<Malformed> for Refusal {
    fn from(Malformed(error): Malformed) -> Self {
        Self::invalid(error)
    }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        Self::busy(full.to_string())
    }
}

/// The result of a [`super::Service`].
pub(crate) type Answer = Result<Response<Content>, Refusal>;

/// How a successful call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Success {
    /// 200.
    Done,
    /// 201: something was created.
    Created,
}

/// A body of bytes in a format.
pub(crate) fn bytes(success: Success, format: Format, body: Vec<u8>) -> Response<Content> {
    let status = match success {
        Success::Done => StatusCode::OK,
        Success::Created => StatusCode::CREATED,
    };
    whole(status, format, body)
}

/// 200: a body of one value.
pub(crate) fn ok<T: Serialize + ?Sized>(format: Format, value: &T) -> Response<Content> {
    encoded(StatusCode::OK, format, value)
}

/// 201: a body of one value, which was created.
pub(crate) fn created<T: Serialize + ?Sized>(format: Format, value: &T) -> Response<Content> {
    encoded(StatusCode::CREATED, format, value)
}

/// 204: no body, and no content type.
pub(crate) fn no_content() -> Response<Content> {
    let mut response = Response::new(Content::Whole(Vec::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// 200: a document of this media type, as it is.
pub(crate) fn document(media_type: &'static str, body: Vec<u8>) -> Response<Content> {
    let mut response = Response::new(Content::Whole(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// 302: what was asked for is there.
pub(crate) fn see(location: &'static str) -> Response<Content> {
    let mut response = Response::new(Content::Whole(Vec::new()));
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static(location));
    response
}

/// 304: the client has it.
pub(crate) fn not_modified() -> Response<Content> {
    let mut response = Response::new(Content::Whole(Vec::new()));
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

/// [`Code::NotDone`]: the jobs of a report that were not done. The lists are the whole body.
pub(crate) fn not_done<T: Serialize>(format: Format, not_done: &NotDone<T>) -> Response<Content> {
    #[derive(Serialize)]
    struct Body<'a, T> {
        code: Code,
        not_found: &'a [T],
        #[serde(skip_serializing_if = "<[T]>::is_empty")]
        lost: &'a [T],
    }
    let NotDone { not_found, lost } = not_done;
    encoded(status_of(Code::NotDone), format, &Body { code: Code::NotDone, not_found, lost })
}

/// [`Code::Unavailable`]: a part of the server does not work, and these are the members that say more about it.
pub(crate) fn unavailable(format: Format, error: &str, mut members: Map<String, Value>) -> Response<Content> {
    members.insert("error".to_owned(), error.into());
    members.insert("code".to_owned(), serde_json::json!(Code::Unavailable));
    encoded(status_of(Code::Unavailable), format, &members)
}

fn encoded<T: Serialize + ?Sized>(status: StatusCode, format: Format, value: &T) -> Response<Content> {
    let mut body = Vec::with_capacity(256);
    encode::write(&mut body, format, value);
    whole(status, format, body)
}

/// Builds a complete body. JSON ends with a newline, for readers at a terminal.
fn whole(status: StatusCode, format: Format, mut body: Vec<u8>) -> Response<Content> {
    if format == Format::Json {
        body.push(b'\n');
    }
    let mut response = Response::new(Content::Whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    response
}
