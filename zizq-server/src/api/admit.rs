//! Lets calls in: who calls, whether it may do this, and in which queues. It decides before anything is done for a call, and
//! nobody else decides but the calls that take their [scope](Request::scope) themselves ([`Reach::Itself`]).

use http::Method;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use protocol::access::{AccessToken, Verb};
use protocol::cron::GroupView;
use protocol::error::{Code, excerpt};
use protocol::id::JobId;
use protocol::name::QueueName;
use serde_json::Value;

use super::App;
use super::refusal::no_job;
use super::route::{Reach, Right, Route};
use crate::access::{Access, Denied, Only, Scope};
use crate::engine::command::crons::GetCron;
use crate::engine::command::jobs::FindHolders;
use crate::http::reply::Refusal;
use crate::http::request::Request;
use crate::run::handle::CallError;

/// The names under which people put secrets into URLs.
const NAMES_OF_SECRETS: [&str; 6] = ["token", "access_token", "auth", "api_key", "apikey", "authorization"];

/// Lets a call in.
///
/// # Errors
/// 401 if the server does not know the caller; 403 if the caller may not do this; 404 for a job or entry in a queue that is
/// none of its business.
pub(super) async fn admit(app: &App, request: &mut Request, route: &'static Route) -> Result<(), Refusal> {
    refuse_secret_in_url(request)?;
    elsewhere(request, route)?;
    if route.right == Right::Anyone {
        return Ok(());
    }
    match app.access.identify(&request.party, &request.parts.headers) {
        Ok(access) => request.access = Some(access),
        Err(why) => return Err(denied(app, request, &why).await),
    }
    refuse_without_role(request)?;
    let Some(verb) = route.right.verbs().next() else { return Ok(()) };
    let looks =
        matches!(verb, Verb::Read | Verb::Payload) || (verb == Verb::Admin && route.method == Method::GET);
    if app.read_only && !looks {
        return Err(Refusal::new(Code::Forbidden, "this server only shows what it has (--read-only)"));
    }
    let scope = route.right.verbs().map(|verb| request.scope_of(verb)).fold(Scope::none(), Scope::or);
    if scope.is_all() {
        return Ok(());
    }
    request.scope = scope.clone();
    reach(app, request, route.reach, verb, &scope).await
}

/// Refuses whom a proxy lets in and this server does not: it is known who that is.
fn refuse_without_role(request: &Request) -> Result<(), Refusal> {
    let stranger = request.access().map(|access| &access.identity).filter(|one| one.grants.is_empty());
    let Some(stranger) = stranger else { return Ok(()) };
    let error = format!(
        "the proxy says that this is `{}`, who may do nothing here; whoever runs the server gives roles with --auth-proxy-role",
        excerpt(&stranger.name)
    );
    Err(Refusal::new(Code::Forbidden, error))
}

/// Refuses what the listener does not serve.
fn elsewhere(request: &Request, route: &Route) -> Result<(), Refusal> {
    let Some(only) = request.party.only else { return Ok(()) };
    let (is_page, is_metrics) = (route.path.starts_with("/ui/"), route.path == "/metrics");
    let is_probe = route.right == Right::Anyone && !is_page;
    let is_served = match only {
        Only::Metrics => is_metrics,
        Only::Api => !is_page && !is_metrics,
        Only::Ui => !is_metrics && route.right != Right::To(Verb::Work),
    };
    if is_served || is_probe {
        return Ok(());
    }
    let error = format!("this address serves other calls only (--listen ...,only={})", only.as_str());
    Err(Refusal::not_found(error))
}

/// Refuses an access token in the URL: logs, histories and the pages that are visited next would see it.
fn refuse_secret_in_url(request: &Request) -> Result<(), Refusal> {
    let Some(query) = request.parts.uri.query() else { return Ok(()) };
    let is_secret = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        NAMES_OF_SECRETS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
            || AccessToken::is_meant_by(value)
    };
    if query.split('&').any(is_secret) {
        return Err(Refusal::invalid(
            "an access token never goes into a URL, where logs and histories keep it: send it as `Authorization: Bearer \
             TOKEN`, and replace this one with `zizq-server token rotate`",
        ));
    }
    Ok(())
}

pub(super) async fn denied(app: &App, request: &Request, why: &Denied) -> Refusal {
    let wait = app.access.denied(request.caller(), why);
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    unauthorized(why.to_string())
}

/// The caller is not known, or no longer.
pub(super) fn unauthorized(error: impl Into<String>) -> Refusal {
    let challenge = HeaderValue::from_static("Bearer realm=\"zizq\", charset=\"UTF-8\"");
    Refusal::new(Code::Unauthorized, error).with_header(WWW_AUTHENTICATE, challenge)
}

/// The permission ended while the call was carried out.
pub(super) fn ended(access: &Access) -> Refusal {
    unauthorized(match access.is_proved() {
        true => "the access token has ended, or the certificate: it was revoked, replaced, or has expired",
        false => "this server asks for access tokens from now on",
    })
}

/// What a caller may do is listed where it is refused: whoever reads it knows what to ask for.
fn forbidden(request: &Request, why: &str) -> Refusal {
    let grants = request.access().map(|access| access.identity.grants.list()).unwrap_or_default();
    let grants: Vec<String> = grants.iter().map(ToString::to_string).collect();
    let grants = if grants.is_empty() { "nothing".to_owned() } else { excerpt(&grants.join(" ")) };
    Refusal::new(Code::Forbidden, format!("{why}; this caller has: {grants}"))
}

/// Decides about a caller that is limited to some queues, or to none.
async fn reach(app: &App, request: &Request, reach: Reach, verb: Verb, scope: &Scope) -> Result<(), Refusal> {
    let is_own = match reach {
        Reach::OwnJob | Reach::AnyJob => holds(app, request).await?,
        _ => false,
    };
    if is_own {
        return Ok(());
    }
    let enqueues = request.scope_of(Verb::Enqueue);
    let by_enqueue = reach == Reach::AnyJob && !enqueues.is_none();
    let by_work = matches!(reach, Reach::AnyJob | Reach::OwnJob) && !request.scope_of(Verb::Work).is_none();
    if scope.is_none() && !by_enqueue && !by_work {
        return Err(forbidden(request, &format!("this call needs the grant `{}`", verb.as_str())));
    }
    match reach {
        Reach::Itself => Ok(()),
        Reach::Whole => {
            let why =
                format!("this call is about all queues, so it needs `{}` for all of them", verb.as_str());
            Err(forbidden(request, &why))
        }
        Reach::Queue => {
            let queue = request.params.first().map(String::as_str).unwrap_or_default();
            if scope.covers(queue) { Ok(()) } else { Err(not_covered(request, verb, queue)) }
        }
        Reach::Job | Reach::OwnJob | Reach::AnyJob => {
            let id = request.job_id()?;
            match queue_of(app, id).await? {
                Some(queue) if !(scope.covers(&queue) || (by_enqueue && enqueues.covers(&queue))) => {
                    Err(if verb == Verb::Work { not_held(id) } else { no_job(id) })
                }
                // The call itself says best that there is none.
                _ => Ok(()),
            }
        }
        Reach::Group => group(app, request, scope).await,
        Reach::Entry => entry(app, request, scope).await,
    }
}

/// Checks that the caller may do this in a queue that the call names.
///
/// # Errors
/// 403.
pub(super) fn covered(request: &Request, verb: Verb, queue: &str) -> Result<(), Refusal> {
    if request.scope_of(verb).covers(queue) { Ok(()) } else { Err(not_covered(request, verb, queue)) }
}

fn not_covered(request: &Request, verb: Verb, queue: &str) -> Refusal {
    let why = format!("this call needs `{}` for the queue `{}`", verb.as_str(), excerpt(queue));
    forbidden(request, &why)
}

/// Checks that the caller may do this in every queue.
///
/// # Errors
/// 403.
pub(super) fn everywhere(request: &Request, verb: Verb, what: &str) -> Result<(), Refusal> {
    if request.scope_of(verb).is_all() {
        return Ok(());
    }
    Err(forbidden(request, &format!("{what}, so it needs `{}` for all queues", verb.as_str())))
}

fn not_held(id: JobId) -> Refusal {
    Refusal::new(Code::NotInFlight, format!("job `{id}` does not exist or is not in flight"))
}

/// The queue that a job is in, if it exists.
pub(super) async fn queue_of(app: &App, id: JobId) -> Result<Option<QueueName>, Refusal> {
    Ok(app.reader.jobs(vec![id]).await?.pop().map(|seen| seen.queue))
}

/// Whether the caller holds the job in the path.
pub(super) async fn holds(app: &App, request: &Request) -> Result<bool, Refusal> {
    let Some(token) = request.access().and_then(Access::holder) else { return Ok(false) };
    let Ok(id) = request.job_id() else { return Ok(false) };
    let holders = app.engine.ask(FindHolders(vec![id])).await?;
    Ok(holders.iter().any(|holder| holder.about.by.as_ref() == Some(token)))
}

/// The queue of the job that a cron entry enqueues.
pub(super) fn queue_of_template(job: &Value) -> &str {
    job.get("queue").and_then(Value::as_str).unwrap_or_default()
}

async fn view_of_group(app: &App, request: &Request) -> Result<Option<GroupView>, Refusal> {
    let name = request.params.first().map(String::as_str).unwrap_or_default();
    let Ok(name) = name.parse() else { return Ok(None) };
    match app.engine.ask(GetCron(name)).await {
        Ok(group) => Ok(Some(group)),
        Err(CallError::Rejected(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A group is touched as a whole: each of its entries must be one of the caller's.
async fn group(app: &App, request: &Request, scope: &Scope) -> Result<(), Refusal> {
    let Some(group) = view_of_group(app, request).await? else { return Ok(()) };
    let is_own = |job: &Value| scope.covers(queue_of_template(job));
    let own = group.entries.iter().filter(|entry| is_own(&entry.job)).count();
    if own == group.entries.len() && own > 0 {
        return Ok(());
    }
    let name = group.name;
    if own == 0 {
        return Err(Refusal::not_found(format!("no cron group has the name `{name}`")));
    }
    Err(forbidden(request, &format!("cron group `{name}` has entries of other queues, too")))
}

async fn entry(app: &App, request: &Request, scope: &Scope) -> Result<(), Refusal> {
    let Some(group) = view_of_group(app, request).await? else { return Ok(()) };
    let name = request.params.get(1).map(String::as_str).unwrap_or_default();
    match group.entries.iter().find(|entry| *entry.name == *name) {
        Some(entry) if !scope.covers(queue_of_template(&entry.job)) => {
            let (group, entry) = (group.name, &entry.name);
            Err(Refusal::not_found(format!("cron group `{group}` has no entry `{entry}`")))
        }
        _ => Ok(()),
    }
}
