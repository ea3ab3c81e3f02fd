//! `GET /health`, `GET /version`, `POST /reset`.

use serde_json::json;

use super::App;
use crate::engine::command::Reset;
use crate::http::reply::{self, Answer};
use crate::http::request::Request;

pub(crate) fn health(request: &Request) -> Answer {
    request.no_query()?;
    Ok(reply::ok(request.format, &json!({"status": "ok"})))
}

pub(crate) fn version(request: &Request) -> Answer {
    request.no_query()?;
    let version = json!({"version": protocol::CONTRACT_VERSION, "server": crate::SERVER});
    Ok(reply::ok(request.format, &version))
}

pub(crate) async fn reset(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    app.engine.ask(Reset).await?;
    app.logs.sweep();
    Ok(reply::no_content())
}
