//! Calls a server over its control socket.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use http::Method;
use protocol::error::ErrorBody;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;
use zizq_client::Client;

use super::too_long;

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
    let client = Client::of_socket(socket);
    let answer = runtime.block_on(async { timeout(PATIENCE, client.call(&method, path, body)).await });
    let (status, body) = answer.context("the server has not answered in time")??;
    if !Client::is_success(status) {
        let error: Result<ErrorBody, _> = serde_json::from_slice(&body);
        bail!(error.map_or_else(|_| format!("the server answered {status}"), |body| body.error));
    }
    if body.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&body)?) }
}
