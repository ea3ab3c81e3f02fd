//! Calls and streams of the API.

use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use protocol::error::ErrorBody;
use protocol::frame::sse::{Decoder, Item};
use serde_json::Value;
use tokio::time::timeout;

use super::event::{Call, Problem};
use zizq_client::Client;

/// How long an answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// So long a stream may be silent; a server sends a heartbeat every 15 s or more often.
const SILENCE: Duration = Duration::from_secs(20);
/// The longest event.
const MAX_EVENT: usize = 16 * 1024 * 1024;

fn unreachable(error: &anyhow::Error) -> Problem {
    Problem::new(0, format!("{error:#}"))
}

/// Why a call was refused.
fn refusal(status: u16, body: &[u8]) -> Problem {
    let told: Result<ErrorBody, _> = serde_json::from_slice(body);
    Problem::new(status, told.map_or_else(|_| format!("the answer was {status}"), |body| body.error))
}

/// Makes one call.
pub(super) async fn call(
    client: &Client,
    method: &Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Problem> {
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let (status, body) = client.call(method, path, body).await.map_err(|error| unreachable(&error))?;
    if !Client::is_success(status) {
        return Err(refusal(status, &body));
    }
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body)
        .map_err(|_| Problem::new(0, "the answer is not JSON; is this a zizq-server?"))
}

/// A stream of server-sent events.
pub(super) struct Stream {
    body: Incoming,
    decoder: Decoder,
}

impl Stream {
    /// Opens a stream. Without one there is what was answered instead; null for nothing.
    pub(super) async fn open(
        client: &Client,
        call: &Call,
        last: &str,
    ) -> Result<Result<Self, Value>, Problem> {
        let body = call.body.as_ref().map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let answer = timeout(PATIENCE, client.open(&call.method, &call.path, body, last)).await;
        let answer = answer.map_err(|_| Problem::new(0, "the server has not answered in time"))?;
        let answer = answer.map_err(|error| unreachable(&error))?;
        let status = answer.status().as_u16();
        let content = answer.headers().get(http::header::CONTENT_TYPE);
        let is_stream = content.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        let body = answer.into_body();
        if Client::is_success(status) && is_stream {
            return Ok(Ok(Self { body, decoder: Decoder::new(MAX_EVENT) }));
        }
        let body = body.collect().await.map_err(|error| unreachable(&error.into()))?.to_bytes();
        if Client::is_success(status) {
            return Ok(Err(serde_json::from_slice(&body).unwrap_or_default()));
        }
        Err(refusal(status, &body))
    }

    /// The next event: its name, data and id. None at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(String, Value, String)>, Problem> {
        loop {
            let item = self
                .decoder
                .next()
                .map_err(|_| Problem::new(0, "the server has sent an event that is too long"))?;
            match item {
                Some(Item::Event { event, data, id }) => {
                    return Ok(Some((event, serde_json::from_str(&data).unwrap_or_default(), id)));
                }
                Some(_) => {}
                None => {
                    let frame = timeout(SILENCE, self.body.frame()).await;
                    let frame = frame.map_err(|_| Problem::new(0, "the server has been silent for 20 s"))?;
                    let Some(frame) = frame else { return Ok(None) };
                    let frame =
                        frame.map_err(|error| Problem::new(0, format!("the connection broke: {error}")))?;
                    self.decoder.push(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
                }
            }
        }
    }
}
