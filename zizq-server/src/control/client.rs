//! Calls a server over its control socket.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use protocol::error::ErrorBody;
use serde::Serialize;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::too_long;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes one call. Returns the body of the answer; null if it has none.
///
/// # Errors
/// When nobody listens there, or the call is refused. The message is one sentence for people.
pub(crate) fn call<B: Serialize>(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<&B>,
) -> anyhow::Result<Value> {
    if let Some(why) = too_long(socket) {
        bail!(why);
    }
    let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async { timeout(PATIENCE, exchange(socket, method, path, body)).await });
    let (status, body) = answer.context("the server has not answered in time")??;
    if !(200..300).contains(&status) {
        let error: Result<ErrorBody, _> = serde_json::from_slice(&body);
        bail!(error.map_or_else(|_| format!("the server answered {status}"), |body| body.error));
    }
    if body.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&body)?) }
}

async fn exchange(socket: &Path, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<(u16, Bytes)> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        let shown = socket.display();
        format!(
            "no server answers at its control socket {shown}; is it running, and is its folder the one that --root-dir or \
             ZIZQ_ROOT_DIR names"
        )
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    Ok((status, body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes()))
}
