//! Handles one request and its answer, whatever they are about.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Method, Response};
use hyper::body::Incoming;
use protocol::error::Code;
use protocol::media::Format;

use super::Service;
use super::connection::{Far, Host};
use super::guard::{CallingPage, Guard};
use super::memory::{Held, Peer};
use super::reply::{self, Body, Refusal};
use super::request::{Request, Upload, accept, size_of_head};
use crate::access::Scope;

/// Answers one request. Every request gets an answer; if the client does not read it in time, the connection is closed.
pub(super) async fn respond<S: Service>(
    host: &Host<S>,
    guard: &Guard,
    Far { remote, party }: Far,
    peer: Arc<Peer>,
    request: http::Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (mut parts, body) = request.into_parts();
    let held = Held::open(&peer, size_of_head(&parts));
    guard.strip(&mut parts);
    let mut upload = Upload::new(&parts, body);
    let is_head = parts.method == Method::HEAD;
    let accepted = accept(&parts);
    let (params, body, held) = (Vec::new(), Bytes::new(), Mutex::new(held));
    let accepted_format = Format::from_accept(accepted.as_deref());
    let (accepts_format, format) = (accepted_format.is_some(), accepted_format.unwrap_or(Format::Json));
    let mut request = Request {
        parts,
        accepted,
        accepts_format,
        params,
        body,
        format,
        remote,
        held,
        peer,
        party,
        access: None,
        scope: Scope::All,
        notes: OnceLock::new(),
    };
    let (page, answer) = match guard.check(&request.parts, &request.party) {
        Err(refusal) => (CallingPage::default(), Err(refusal)),
        Ok(page) if page.asks_first(&request.parts) => (page, Ok(reply::no_content())),
        Ok(page) => (page, host.service.answer(&mut request, &mut upload).await),
    };
    let mut answer = answer.unwrap_or_else(|refusal| {
        host.meters.refuse(refusal.code());
        refusal.into_response(format)
    });
    page.allow(&request.parts, answer.headers_mut());
    if is_head {
        answer = reply::head_of(answer);
    }
    let held = request.held.into_inner().unwrap_or_else(PoisonError::into_inner);
    drop(request.body);
    finish(&mut upload, &mut answer).await;
    Ok(reply::send(answer, held))
}

/// Answers a request on a connection beyond the limit.
pub(super) async fn refuse(
    limit: usize,
    peer: Arc<Peer>,
    request: http::Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let held = Held::open(&peer, size_of_head(&parts));
    let format = Format::from_accept(accept(&parts).as_deref()).unwrap_or(Format::Json);
    let error = format!("the server has reached its connection limit of {limit}; try again in a moment");
    let mut answer = Refusal::new(Code::TooManyConnections, error).into_response(format);
    if parts.method == Method::HEAD {
        answer = reply::head_of(answer);
    }
    finish(&mut Upload::new(&parts, body), &mut answer).await;
    Ok(reply::send(answer, held))
}

/// Reads the rest of a body. Unread bytes would be taken for the next request.
async fn finish<C>(upload: &mut Upload<Incoming>, answer: &mut Response<C>) {
    if !upload.finish().await {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}
