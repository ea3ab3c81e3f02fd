//! The application: finds the call of a request and answers it. One file per group of calls turns requests into
//! commands and replies into bodies.

mod admit;
pub(crate) mod audit;
mod budgets;
mod bulk;
pub(crate) mod calls;
mod change;
mod claim;
mod contents;
mod crons;
mod difference;
mod enqueue;
mod errors;
mod events;
mod filters;
mod follow;
mod groups;
mod lease;
mod listing;
pub(crate) mod live;
mod log;
mod look;
mod meant;
mod metrics;
mod named;
mod once;
mod outcome;
mod page;
mod position;
mod prefer;
mod queues;
mod refusal;
pub(crate) mod route;
mod server;
mod session;
mod spans;
mod stats;
mod stream;
mod take;
mod tokens;
mod ui;
mod wait;
mod workers;

use std::sync::Arc;
use std::time::Instant;

use ::http::Response;
use hyper::body::Incoming;
use jiff::tz::TimeZone;
use protocol::error::{Code, excerpt};
use protocol::media::Format;
use tokio::sync::watch;
use zizq_spans::Spans;

use crate::access::{Marker, Only, Registry};
use crate::batching::Batcher;
use crate::board::Board;
use crate::config::{Limits, MetricsFlags, Setting};
use crate::engine::outbox::AllUnread;
use crate::http::reply::{Answer, Content, Refusal};
use crate::http::request::{Request, Upload};
use crate::http::work::Work;
use crate::http::{self, Service};
use crate::logs::Logs;
use crate::reader::Reader;
use crate::run;
use crate::run::events::Hub;
use crate::run::handle::Handle;
use calls::CallMeters;
use live::Live;
use route::{Call, Matched, NoRoute, Route};

/// The state that every call can use.
pub(crate) struct App {
    pub access: Arc<Registry>,
    pub marker: Marker,
    /// Whether nothing may be changed.
    pub read_only: bool,
    /// The zone of cron entries that name none.
    pub zone: TimeZone,
    pub engine: Handle,
    pub reader: Reader,
    pub batcher: Arc<Batcher>,
    pub board: Board,
    pub live: Live,
    pub limits: Limits,
    /// For people who ask why the server behaves as it does.
    pub settings: Vec<Setting>,
    pub metrics: MetricsFlags,
    pub work: Work,
    pub events: Arc<Hub>,
    pub logs: Logs,
    pub spans: Spans,
    pub calls: CallMeters,
    pub transport: Arc<http::meters::Meters>,
    pub threads: Arc<run::meters::Meters>,
    /// The certificates, if there are any.
    pub tls: Option<http::tls::Acceptors>,
    /// Whether there is a dashboard.
    pub has_pages: bool,
    /// What all streams together have yet to send.
    pub unread: Arc<AllUnread>,
    /// The longest silence on a stream, in milliseconds.
    pub heartbeat_ms: u64,
    /// Turns true when streams must end.
    pub closing: watch::Receiver<bool>,
}

impl Service for Arc<App> {
    async fn answer(&self, request: &mut Request, body: &mut Upload<Incoming>) -> Answer {
        let started = Instant::now();
        let matched = route::find(&request.parts.method, request.parts.uri.path());
        let position = matched.as_ref().ok().map(|matched| matched.position);
        let answer = self.answer_matched(matched, request, body).await;
        let status = answer.as_ref().map_or_else(Refusal::status, Response::status);
        self.calls.count(position, status.as_u16(), started);
        answer
    }
}

impl App {
    /// Whether there is a dashboard where the caller came in.
    fn shows_pages(&self, request: &Request) -> bool {
        self.has_pages && request.party.only.is_none_or(|only| only == Only::Ui)
    }

    /// Answers a request. The row of its route says how to treat the rest of it.
    async fn answer_matched(
        self: &Arc<Self>,
        matched: Result<Matched, NoRoute>,
        request: &mut Request,
        body: &mut Upload<Incoming>,
    ) -> Answer {
        request.held_mut().check()?;
        if self.shows_pages(request)
            && let Some(page) = ui::page(request)
        {
            return page;
        }
        // Unknown calls are answered in one of the supported formats.
        let negotiates = matched.as_ref().is_ok_and(|matched| matched.route.answer.negotiates());
        if !negotiates && !request.accepts_format {
            return Err(not_acceptable(request, &Format::SUPPORTED));
        }
        let Matched { route, params, position: _ } = matched.map_err(|error| no_route(request, error))?;
        if route.answer == route::Answer::ShortOrStream {
            bulk::shape(request)?;
        }
        request.params = params;
        if let Err(refusal) = admit::admit(self, request, route).await {
            let refused = Err(refusal);
            let mut entry = audit::Entry::of_refusal(self, request, &refused);
            entry.iter_mut().for_each(|entry| entry.answered(&refused));
            if let Some(entry) = entry {
                entry.finish().await;
            }
            return refused;
        }
        request.body = body.read(self.limits.max_body_size, request.held_mut()).await?;
        if route.body == route::Body::Empty {
            request.no_body()?;
        }
        if route.answer.is_long() {
            request.make_room().await?;
        } else {
            request.peer.room_for_little().await;
        }
        carry_out(self, request, route).await
    }
}

/// Carries out a call for as long as its caller may.
async fn carry_out(app: &Arc<App>, request: &Request, route: &Route) -> Answer {
    let what = route.call;
    let mut entry = audit::Entry::of_call(app, request, route);
    let answer = match request.access() {
        Some(access) if access.is_proved() => tokio::select! {
            biased;
            answer = call(app, request, what) => answer,
            () = app.access.ended(access) => Err(admit::ended(access)),
        },
        // What is asked of an open server is short, but for streams.
        _ => call(app, request, what).await,
    };
    entry = entry.or_else(|| audit::Entry::of_refusal(app, request, &answer));
    entry.iter_mut().for_each(|entry| entry.answered(&answer));
    let streams = answer.as_ref().is_ok_and(|answer| matches!(answer.body(), Content::Stream(_)));
    if let Some(entry) = entry.take_if(|_| !streams) {
        entry.finish().await;
    }
    let Some(access) = request.access() else { return answer };
    let ended = |content: Content| {
        if !streams {
            return content;
        }
        let (registry, access) = (app.access.clone(), access.clone());
        content.until(async move {
            // What a stream has come to is known at its end.
            let _entry = entry;
            registry.ended(&access).await;
        })
    };
    let mut answer = answer?.map(ended);
    session::renew(app, request, access, &mut answer);
    Ok(answer)
}

fn no_route(request: &Request, error: NoRoute) -> Refusal {
    let (method, path) = (&request.parts.method, request.parts.uri.path());
    match error {
        NoRoute::NotFound => {
            let hint = meant::path(method, path);
            let hint = hint.map_or_else(String::new, |meant| format!("; did you mean {}?", excerpt(&meant)));
            Refusal::new(Code::NoRoute, format!("no such endpoint: {}{hint}", excerpt(path)))
        }
        NoRoute::MethodNotAllowed(allowed) => Refusal::method_not_allowed(method, &allowed),
    }
}

/// Builds the 406, which lists the supported media types.
fn not_acceptable(request: &Request, supported: &[&str]) -> Refusal {
    let error = format!(
        "accept: `{}` cannot be satisfied here",
        excerpt(request.accepted.as_deref().unwrap_or_default())
    );
    Refusal::not_acceptable(error, supported)
}

#[expect(clippy::too_many_lines, reason = "a line for each call")]
async fn call(app: &Arc<App>, request: &Request, call: Call) -> Answer {
    match call {
        Call::Root => ui::root(app, request),
        Call::Health => server::health(request),
        Call::Live => server::live(app, request).await,
        Call::Ready => server::ready(app, request).await,
        Call::Version => server::version(request),
        Call::ShowConfig => server::config(app, request),
        Call::LogIn => session::log_in(app, request).await,
        Call::LogOut => session::log_out(request),
        Call::ListAudit => audit::list(app, request).await,
        Call::WhoAmI => tokens::whoami(app, request),
        Call::ListTokens => tokens::list(app, request).await,
        Call::CreateToken => tokens::create(app, request).await,
        Call::RotateToken => tokens::rotate(app, request).await,
        Call::LinkToken => tokens::link(app, request),
        Call::RevokeToken => tokens::revoke(app, request).await,
        Call::Reset => server::reset(app, request).await,
        Call::Enqueue => enqueue::one(app, request).await,
        Call::EnqueueBulk => enqueue::bulk(app, request).await,
        Call::ListCrons => crons::list(app, request).await,
        Call::DeleteCrons => crons::delete_all(app, request).await,
        Call::GetCron => crons::get(app, request).await,
        Call::PutCron => crons::put(app, request).await,
        Call::PatchCron => crons::patch(app, request).await,
        Call::DeleteCron => crons::delete(app, request).await,
        Call::AddEntry => crons::add(app, request).await,
        Call::GetEntry => crons::get_entry(app, request).await,
        Call::PutEntry => crons::put_entry(app, request).await,
        Call::PatchEntry => crons::patch_entry(app, request).await,
        Call::DeleteEntry => crons::delete_entry(app, request).await,
        Call::RunEntry => crons::run(app, request).await,
        Call::ListBudgets => budgets::list(app, request).await,
        Call::GetBudget => budgets::get(app, request).await,
        Call::CreateBudget => budgets::create(app, request).await,
        Call::PutBudget => budgets::put(app, request).await,
        Call::PatchBudget => budgets::patch(app, request).await,
        Call::DeleteBudget => budgets::delete(app, request).await,
        Call::Bind => budgets::bind(app, request).await,
        Call::Rebind => budgets::rebind(app, request).await,
        Call::SetCost => budgets::set_cost(app, request).await,
        Call::Unbind => budgets::unbind(app, request).await,
        Call::ReplaceBindings => budgets::replace(app, request).await,
        Call::ClearBindings => budgets::clear(app, request).await,
        Call::BindBulk => budgets::bind_bulk(app, request).await,
        Call::RebindBulk => budgets::rebind_bulk(app, request).await,
        Call::SetCostBulk => budgets::set_cost_bulk(app, request).await,
        Call::UnbindBulk => budgets::unbind_bulk(app, request).await,
        Call::ClearBindingsBulk => budgets::clear_bulk(app, request).await,
        Call::LiveView => live::stream(app, request).await,
        Call::Stats => stats::stats(app, request).await,
        Call::Metrics => metrics::show(app, request).await,
        Call::StatsHistory => stats::history(app, request).await,
        Call::ListQueues => queues::list(app, request).await,
        Call::PauseQueues => queues::pause_all(app, request).await,
        Call::GetQueue => queues::one(app, request).await,
        Call::ForgetQueue => queues::forget(app, request).await,
        Call::PauseQueue => queues::pause(app, request, true).await,
        Call::ResumeQueue => queues::pause(app, request, false).await,
        Call::ListWorkers => workers::list(app, request).await,
        Call::DrainStream => workers::drain_stream(app, request).await,
        Call::DisconnectStream => workers::disconnect(app, request).await,
        Call::DrainWorker => workers::drain_worker(app, request).await,
        Call::ListJobs => look::list(app, request).await,
        Call::CountJobs => look::count(app, request).await,
        Call::GroupJobs => groups::groups(app, request).await,
        Call::GetJob => look::job(app, request).await,
        Call::PatchJob => change::patch(app, request).await,
        Call::DeleteJob => change::delete(app, request).await,
        Call::RetryJob => change::retry(app, request).await,
        Call::PatchJobs => change::patch_bulk(app, request).await,
        Call::DeleteJobs => change::delete_bulk(app, request).await,
        Call::RetryJobs => change::retry_bulk(app, request).await,
        Call::ListErrors => errors::list(app, request).await,
        Call::GetError => errors::one(app, request).await,
        Call::AppendLog => log::append(app, request).await,
        Call::ReadLog => log::read(app, request).await,
        Call::TakeStream => take::stream(app, request).await,
        Call::ListenEvents => events::stream(app, request),
        Call::TakePoll => take::poll(app, request).await,
        Call::Succeed => outcome::succeed(app, request).await,
        Call::SucceedBulk => outcome::succeed_bulk(app, request).await,
        Call::Fail => outcome::fail(app, request).await,
        Call::Heartbeat => lease::heartbeat(app, request).await,
        Call::HeartbeatBulk => lease::heartbeat_bulk(app, request).await,
        Call::Release => lease::release(app, request).await,
        Call::ReleaseBulk => lease::release_bulk(app, request).await,
    }
}
