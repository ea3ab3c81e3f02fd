//! From bytes to calls and back: connections, routing, bodies, status codes.

pub(crate) mod connection;
pub(crate) mod guard;
mod meant;
pub(crate) mod memory;
mod pace;
pub(crate) mod prefer;
pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod route;
mod socket;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod work;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ::http::header::{CONNECTION, HeaderValue};
use bytes::Bytes;
use hyper::body::Incoming;
use protocol::error::{Code, excerpt};
use protocol::media::Format;
use tokio::sync::watch;

use crate::config::Limits;
use crate::events::Hub;
use crate::folder::Folder;
use crate::handle::Handle;
use crate::handlers;
use crate::logs::Logs;
use crate::reader::Reader;
use guard::{Caller, Guard};
use memory::{Held, Memory, Peer};
use reply::{Answer, Body, Refusal};
use request::{Request, Upload, accept, size_of_head};
use route::{Call, NoRoute};

/// What every request can reach.
pub(crate) struct App {
    pub engine: Handle,
    pub reader: Reader,
    pub folder: Arc<Folder>,
    pub limits: Limits,
    pub guard: Guard,
    pub memory: Arc<Memory>,
    pub work: work::Work,
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
    remote: SocketAddr,
    peer: Arc<Peer>,
    request: ::http::Request<Incoming>,
) -> Result<::http::Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let held = Held::open(&peer, size_of_head(&parts));
    let mut upload = Upload::new(&parts, body);
    let accepted = accept(&parts);
    let format = Format::from_accept(accepted.as_deref());
    let is_head = parts.method == ::http::Method::HEAD;
    let shown = format.unwrap_or(Format::Json);
    let (params, body, held) = (Vec::new(), Bytes::new(), Mutex::new(held));
    let mut request = Request { parts, params, body, format: shown, remote, held, peer };
    let (caller, answer) = match app.guard.check(&request.parts) {
        Err(refusal) => (Caller::default(), Err(refusal)),
        Ok(caller) if caller.asks_first(&request.parts) => (caller, Ok(reply::no_content())),
        Ok(caller) => {
            (caller, answer(&app, &mut request, &mut upload, accepted.as_deref(), format.is_some()).await)
        }
    };
    let mut answer = answer.unwrap_or_else(|refusal| refusal.into_response(shown));
    caller.allow(&request.parts, answer.headers_mut());
    if is_head {
        answer = reply::head_of(answer);
    }
    let held = request.held.into_inner().unwrap_or_else(PoisonError::into_inner);
    drop(request.body);
    finish(&mut upload, &mut answer).await;
    Ok(reply::send(answer, held))
}

/// Reads what is left of a body. What would not be read would be taken for the next request, so there must be none.
async fn finish<C>(upload: &mut Upload<Incoming>, answer: &mut ::http::Response<C>) {
    if !upload.finish().await {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

async fn answer(
    app: &Arc<App>,
    request: &mut Request,
    upload: &mut Upload<Incoming>,
    accepted: Option<&str>,
    acceptable: bool,
) -> Answer {
    let held = request.held.get_mut().unwrap_or_else(PoisonError::into_inner);
    held.check()?;
    let path = request.parts.uri.path();
    let matched = route::find(&request.parts.method, path);
    // What is no call of ours is said in one of our formats.
    let negotiates = matched.as_ref().is_ok_and(|matched| matched.call.negotiates());
    if !acceptable && !negotiates {
        return Err(not_acceptable(accepted, &Format::SUPPORTED));
    }
    let matched = matched.map_err(|e| match e {
        NoRoute::NotFound => {
            let hint = meant::path(&request.parts.method, path);
            let hint = hint.map_or_else(String::new, |meant| format!("; did you mean {}?", excerpt(&meant)));
            Refusal::new(Code::NoRoute, format!("there is nothing at {}{hint}", excerpt(path)))
        }
        NoRoute::MethodNotAllowed(allowed) => Refusal::method_not_allowed(&request.parts.method, &allowed),
    })?;
    request.body = upload.read(app.limits.max_body_size, held).await?;
    request.params = matched.params;
    if matched.call.is_without_body(&request.parts.method) {
        request.no_body()?;
    }
    if matched.call.answers_at_length() {
        request.make_room().await?;
    } else {
        request.peer.room_for_little().await;
    }
    call(app, request, matched.call, accepted).await
}

/// Answers a request on a connection that is one too many.
pub(crate) async fn refuse(
    limit: usize,
    peer: Arc<Peer>,
    request: ::http::Request<Incoming>,
) -> Result<::http::Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let held = Held::open(&peer, size_of_head(&parts));
    let format = Format::from_accept(accept(&parts).as_deref()).unwrap_or(Format::Json);
    let error = format!("the server has {limit} connections, which is its limit; try again in a moment");
    let mut answer = Refusal::new(Code::TooManyConnections, error).into_response(format);
    if parts.method == ::http::Method::HEAD {
        answer = reply::head_of(answer);
    }
    finish(&mut Upload::new(&parts, body), &mut answer).await;
    Ok(reply::send(answer, held))
}

/// 406, with what would have been acceptable.
pub(crate) fn not_acceptable(accepted: Option<&str>, supported: &[&str]) -> Refusal {
    let error = format!("accept: `{}` can not be satisfied here", excerpt(accepted.unwrap_or_default()));
    Refusal::not_acceptable(error, supported)
}

async fn call(app: &Arc<App>, request: &Request, call: Call, accepted: Option<&str>) -> Answer {
    match call {
        Call::Health => handlers::server::health(request),
        Call::Version => handlers::server::version(request),
        Call::Reset => handlers::server::reset(app, request).await,
        Call::Enqueue => handlers::enqueue::one(app, request).await,
        Call::EnqueueBulk => handlers::enqueue::bulk(app, request).await,
        Call::Cron(call) => handlers::crons::call(app, request, call).await,
        Call::ListBudgets => handlers::budgets::list(app, request).await,
        Call::GetBudget => handlers::budgets::get(app, request).await,
        Call::CreateBudget => handlers::budgets::create(app, request).await,
        Call::PutBudget => handlers::budgets::put(app, request).await,
        Call::PatchBudget => handlers::budgets::patch(app, request).await,
        Call::DeleteBudget => handlers::budgets::delete(app, request).await,
        Call::Bind => handlers::budgets::bind(app, request).await,
        Call::Rebind => handlers::budgets::rebind(app, request).await,
        Call::SetCost => handlers::budgets::set_cost(app, request).await,
        Call::Unbind => handlers::budgets::unbind(app, request).await,
        Call::ReplaceBindings => handlers::budgets::replace(app, request).await,
        Call::ClearBindings => handlers::budgets::clear(app, request).await,
        Call::BindBulk => handlers::budgets::bind_bulk(app, request).await,
        Call::RebindBulk => handlers::budgets::rebind_bulk(app, request).await,
        Call::SetCostBulk => handlers::budgets::set_cost_bulk(app, request).await,
        Call::UnbindBulk => handlers::budgets::unbind_bulk(app, request).await,
        Call::ClearBindingsBulk => handlers::budgets::clear_bulk(app, request).await,
        Call::ListQueues => handlers::queues::list(app, request).await,
        Call::GetQueue => handlers::queues::one(app, request).await,
        Call::ForgetQueue => handlers::queues::forget(app, request).await,
        Call::PauseQueue => handlers::queues::pause(app, request, true).await,
        Call::ResumeQueue => handlers::queues::pause(app, request, false).await,
        Call::ListWorkers => handlers::queues::workers(app, request).await,
        Call::ListJobs => handlers::look::list(app, request).await,
        Call::CountJobs => handlers::look::count(app, request).await,
        Call::GetJob => handlers::look::job(app, request).await,
        Call::PatchJob => handlers::change::patch(app, request).await,
        Call::DeleteJob => handlers::change::delete(app, request).await,
        Call::RetryJob => handlers::change::retry(app, request).await,
        Call::PatchJobs => handlers::change::patch_bulk(app, request).await,
        Call::DeleteJobs => handlers::change::delete_bulk(app, request).await,
        Call::RetryJobs => handlers::change::retry_bulk(app, request).await,
        Call::ListErrors => handlers::errors::list(app, request).await,
        Call::GetError => handlers::errors::one(app, request).await,
        Call::AppendLog => handlers::log::append(app, request).await,
        Call::ReadLog => handlers::log::read(app, request, accepted).await,
        Call::TakeStream => handlers::take::stream(app, request, accepted).await,
        Call::ListenEvents => handlers::events::stream(app, request, accepted),
        Call::TakePoll => handlers::take::poll(app, request).await,
        Call::Succeed => handlers::outcome::succeed(app, request).await,
        Call::SucceedBulk => handlers::outcome::succeed_bulk(app, request).await,
        Call::Fail => handlers::outcome::fail(app, request).await,
        Call::Heartbeat => handlers::lease::heartbeat(app, request).await,
        Call::HeartbeatBulk => handlers::lease::heartbeat_bulk(app, request).await,
        Call::Release => handlers::lease::release(app, request).await,
        Call::ReleaseBulk => handlers::lease::release_bulk(app, request).await,
    }
}
