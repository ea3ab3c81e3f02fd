//! `GET /health`, `/livez`, `/readyz`, `/version`, `POST /reset`.

use std::time::Duration;

use protocol::error::Code;
use serde_json::{Map, json};
use tokio::time::timeout;

use super::App;
use crate::engine::command::Reset;
use crate::engine::command::jobs::FindInFlight;
use crate::http::reply::{self, Answer};
use crate::http::request::Request;
use crate::run::handle::CallError;

/// How long the engine may take to answer while the server counts as alive.
const LIFE_SIGN: Duration = Duration::from_secs(5);

pub(crate) fn health(request: &Request) -> Answer {
    request.no_query()?;
    Ok(reply::ok(request.format, &json!({"status": "ok"})))
}

/// Asks the engine for nothing, and waits for its answer. It answers readers and writers one after the other, so this
/// waits for no scan.
async fn engine_answers(app: &App) -> Result<(), CallError> {
    match timeout(LIFE_SIGN, app.engine.ask(FindInFlight { ids: Vec::new(), worker: None })).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(CallError::Stopped),
    }
}

pub(crate) async fn live(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    match engine_answers(app).await {
        // While the store is being reopened the engine's thread is well, and a restart would not help.
        Ok(()) | Err(CallError::StoreClosed | CallError::DiskFull) => {
            Ok(reply::ok(request.format, &json!({"status": "ok"})))
        }
        Err(_) => Ok(reply::unavailable(
            request.format,
            "the engine does not answer; restart the server",
            Map::new(),
        )),
    }
}

/// Whether calls are served as they should be: no more are sent here by a load balancer otherwise.
pub(crate) async fn ready(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let verbose = query.peek("verbose") == Some("") || query.flag("verbose")?;
    if verbose {
        query.text("verbose");
    }
    query.finish()?;
    let answered = engine_answers(app).await;
    let mut reasons = Vec::new();
    match answered.as_ref().map_err(CallError::code) {
        Ok(()) if app.board.refresh().await.is_ok() && app.board.summary().draining => {
            reasons.push("draining")
        }
        Ok(()) => {}
        Err(Code::StoreClosed) => reasons.push("store_closed"),
        Err(Code::DiskFull) => reasons.push("disk_full"),
        Err(_) => reasons.push("engine_stuck"),
    }
    if app.reader.is_disk_full() && !reasons.contains(&"disk_full") {
        reasons.push("disk_full");
    }
    let error = format!("not ready: {}", reasons.join(", "));
    let is_ready = reasons.is_empty();
    let mut members = Map::new();
    members.insert("ready".to_owned(), json!(is_ready));
    members.insert("reasons".to_owned(), json!(reasons));
    if verbose {
        let disk = app.reader.disk().await.ok();
        let disk = disk.map(|disk| json!({"used": disk.used, "free": disk.free, "reserve": disk.reserve}));
        members.extend(disk.map(|disk| ("disk".to_owned(), disk)));
        members.insert("server".to_owned(), json!(crate::SERVER));
    }
    Ok(if is_ready {
        reply::ok(request.format, &members)
    } else {
        reply::unavailable(request.format, &error, members)
    })
}

pub(crate) fn version(request: &Request) -> Answer {
    request.no_query()?;
    let version = json!({"version": protocol::CONTRACT_VERSION, "server": crate::SERVER});
    Ok(reply::ok(request.format, &version))
}

pub(crate) fn config(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    Ok(reply::ok(request.format, &json!({"settings": app.settings})))
}

pub(crate) async fn reset(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    app.engine.ask(Reset).await?;
    app.logs.sweep();
    Ok(reply::no_content())
}
