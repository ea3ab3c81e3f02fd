//! From bytes to calls and back: connections, routing, bodies, status codes.

pub(crate) mod budget;
pub(crate) mod connection;
pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod route;
mod socket;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod unread;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use protocol::error::excerpt;
use protocol::media::Format;
use tokio::sync::watch;

use crate::config::Limits;
use crate::events::Hub;
use crate::folder::Folder;
use crate::handle::Handle;
use crate::handlers;
use crate::logs::Logs;
use crate::reader::Reader;
use budget::Budget;
use reply::{Answer, Body, Refusal};
use request::{Request, accept, read_body};
use route::{Call, NoRoute};

/// What every request can reach.
pub(crate) struct App {
    pub engine: Handle,
    pub reader: Reader,
    pub folder: Arc<Folder>,
    pub limits: Limits,
    pub budget: Budget,
    pub unread: unread::Unread,
    pub events: Arc<Hub>,
    pub logs: Logs,
    /// The longest silence on a stream, in milliseconds.
    pub heartbeat_ms: u64,
    /// Turns true when streams must end.
    pub closing: watch::Receiver<bool>,
}

/// Returns when streams must end.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    // A sender that is gone has nothing more to say: that is an end, too.
    drop(closing.wait_for(|closing| *closing).await);
}

/// Answers one request. There is an answer to everything. Where it is not read in time, the connection is cut.
pub(crate) async fn respond(
    app: Arc<App>,
    peer: SocketAddr,
    connection: Arc<unread::Peer>,
    request: ::http::Request<Incoming>,
) -> Result<::http::Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let accepted = accept(&parts);
    let (is_get, is_head) = (parts.method == ::http::Method::GET, parts.method == ::http::Method::HEAD);
    let is_stream = is_get && parts.uri.path() == "/jobs/take";
    let format = Format::from_accept(accepted.as_deref());
    let answer = if is_stream {
        handlers::take::stream(&app, peer, &parts, accepted.as_deref()).await
    } else if is_get && parts.uri.path() == "/events" {
        handlers::events::stream(&app, &parts, accepted.as_deref())
    } else if is_get && let Some(id) = route::log_of(parts.uri.path()) {
        handlers::log::read(&app, &parts, id, accepted.as_deref()).await
    } else {
        // Read before anything is refused: a client whose upload is cut short does not see the answer.
        let (body, share) = match read_body(body, app.limits.max_body_size, &app.budget).await {
            Ok((body, share)) => (Ok(body), Some(share)),
            Err(refusal) => (Err(refusal), None),
        };
        let answer = match format {
            None => Err(not_acceptable(accepted.as_deref(), &Format::SUPPORTED)),
            Some(format) => call(&app, peer, parts, body, format).await,
        };
        match share {
            Some(share) => answer.map(|answer| share.until_sent(answer)),
            None => answer,
        }
    };
    let answer = answer.and_then(|answer| app.unread.limit(answer, &connection));
    let answer = answer.unwrap_or_else(|refusal| refusal.into_response(format.unwrap_or(Format::Json)));
    Ok(if is_head { reply::head_of(answer) } else { answer })
}

/// Answers a request on a connection that is one too many.
pub(crate) async fn refuse(
    limit: usize,
    request: ::http::Request<Incoming>,
) -> Result<::http::Response<Body>, Infallible> {
    let (parts, _) = request.into_parts();
    let format = Format::from_accept(accept(&parts).as_deref()).unwrap_or(Format::Json);
    let answer = Refusal::too_many_connections(limit).into_response(format);
    Ok(if parts.method == ::http::Method::HEAD { reply::head_of(answer) } else { answer })
}

/// 406, with what would have been acceptable.
pub(crate) fn not_acceptable(accepted: Option<&str>, supported: &[&str]) -> Refusal {
    let error = format!("accept: `{}` can not be satisfied here", excerpt(accepted.unwrap_or_default()));
    Refusal::media_type(::http::StatusCode::NOT_ACCEPTABLE, error, supported)
}

async fn call(
    app: &Arc<App>,
    peer: SocketAddr,
    parts: ::http::request::Parts,
    body: Result<Bytes, Refusal>,
    format: Format,
) -> Answer {
    let path = parts.uri.path();
    let matched = route::find(&parts.method, path).map_err(|e| match e {
        NoRoute::NotFound => Refusal::not_found(format!("there is nothing at {}", excerpt(path))),
        NoRoute::MethodNotAllowed(allowed) => Refusal::method_not_allowed(&parts.method, &allowed),
    })?;
    let request = Request { parts, params: matched.params, body: body?, format, peer };
    match matched.call {
        Call::Health => handlers::server::health(&request),
        Call::Version => handlers::server::version(&request),
        Call::Reset => handlers::server::reset(app, &request).await,
        Call::Enqueue => handlers::enqueue::one(app, &request).await,
        Call::EnqueueBulk => handlers::enqueue::bulk(app, &request).await,
        Call::Cron(call) => handlers::crons::call(app, &request, call).await,
        Call::ListBudgets => handlers::budgets::list(app, &request).await,
        Call::GetBudget => handlers::budgets::get(app, &request).await,
        Call::CreateBudget => handlers::budgets::create(app, &request).await,
        Call::PutBudget => handlers::budgets::put(app, &request).await,
        Call::PatchBudget => handlers::budgets::patch(app, &request).await,
        Call::DeleteBudget => handlers::budgets::delete(app, &request).await,
        Call::Bind => handlers::budgets::bind(app, &request).await,
        Call::Rebind => handlers::budgets::rebind(app, &request).await,
        Call::SetCost => handlers::budgets::set_cost(app, &request).await,
        Call::Unbind => handlers::budgets::unbind(app, &request).await,
        Call::ReplaceBindings => handlers::budgets::replace(app, &request).await,
        Call::ClearBindings => handlers::budgets::clear(app, &request).await,
        Call::BindBulk => handlers::budgets::bind_bulk(app, &request).await,
        Call::RebindBulk => handlers::budgets::rebind_bulk(app, &request).await,
        Call::SetCostBulk => handlers::budgets::set_cost_bulk(app, &request).await,
        Call::UnbindBulk => handlers::budgets::unbind_bulk(app, &request).await,
        Call::ClearBindingsBulk => handlers::budgets::clear_bulk(app, &request).await,
        Call::ListQueues => handlers::queues::list(app, &request).await,
        Call::GetQueue => handlers::queues::one(app, &request).await,
        Call::PauseQueue => handlers::queues::pause(app, &request, true).await,
        Call::ResumeQueue => handlers::queues::pause(app, &request, false).await,
        Call::ListWorkers => handlers::queues::workers(app, &request).await,
        Call::ListJobs => handlers::look::list(app, &request).await,
        Call::CountJobs => handlers::look::count(app, &request).await,
        Call::GetJob => handlers::look::job(app, &request).await,
        Call::PatchJob => handlers::change::patch(app, &request).await,
        Call::DeleteJob => handlers::change::delete(app, &request).await,
        Call::RetryJob => handlers::change::retry(app, &request).await,
        Call::PatchJobs => handlers::change::patch_bulk(app, &request).await,
        Call::DeleteJobs => handlers::change::delete_bulk(app, &request).await,
        Call::RetryJobs => handlers::change::retry_bulk(app, &request).await,
        Call::ListErrors => handlers::errors::list(app, &request).await,
        Call::GetError => handlers::errors::one(app, &request).await,
        Call::AppendLog => handlers::log::append(app, &request).await,
        Call::TakeStream | Call::ListenEvents | Call::ReadLog => Err(Refusal::not_found("GET opens it")),
        Call::TakePoll => handlers::take::poll(app, &request).await,
        Call::Succeed => handlers::outcome::succeed(app, &request).await,
        Call::SucceedBulk => handlers::outcome::succeed_bulk(app, &request).await,
        Call::Fail => handlers::outcome::fail(app, &request).await,
        Call::Heartbeat => handlers::lease::heartbeat(app, &request).await,
        Call::HeartbeatBulk => handlers::lease::heartbeat_bulk(app, &request).await,
        Call::Release => handlers::lease::release(app, &request).await,
        Call::ReleaseBulk => handlers::lease::release_bulk(app, &request).await,
    }
}
