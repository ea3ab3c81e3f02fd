//! The filters of a call: reads them from its query and writes them into links.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use protocol::access::Verb;
use protocol::error::{Code, excerpt};
use protocol::job::Status;
use protocol::name::QueueName;

use super::App;
use crate::board::Selection;
use crate::http::query::Query;
use crate::http::reply::Refusal;
use crate::http::request::Request;
use crate::job::filter::{Filter, Span};

/// The characters that a query value keeps as they are (RFC 3986, unreserved).
pub(super) const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const NAMES: [&str; 10] =
    ["id", "queue", "type", "status", "budgets.key", "priority", "ready_at", "attempts", "until", JQ];
const JQ: &str = "filter";

/// The filters of a call as they were asked for. What they mean depends on who asks.
#[derive(Debug)]
pub(super) struct Asked(Filter);

impl Asked {
    /// The filters as query parameters of a link.
    pub(super) fn params(&self) -> String {
        params(&self.0)
    }

    /// Limits the filters to the queues in which the caller may do what it asks for. jq reads payloads, which the caller must
    /// be allowed to.
    ///
    /// # Errors
    /// 403 for a queue that is named and is not one of these, and for jq.
    pub(super) async fn within(self, app: &App, request: &Request) -> Result<Filter, Refusal> {
        let Self(mut filter) = self;
        if !request.scope.is_all() {
            filter.queues = Some(queues(app, request, filter.queues).await?);
        }
        let payloads = request.scope_of(Verb::Payload);
        let is_shown = match &filter.queues {
            _ if filter.jq.is_none() => true,
            Some(queues) => queues.iter().all(|queue| payloads.covers(queue)),
            None => payloads.is_all(),
        };
        if !is_shown {
            let error = "filter: jq reads payloads, so it needs `payload` for the queues that it reads; name them with \
                 `queue`, or ask for the grant";
            return Err(Refusal::new(Code::Forbidden, error));
        }
        Ok(filter)
    }
}

/// The queues that a call is about: those that it names, or those that there are in its scope.
async fn queues(
    app: &App,
    request: &Request,
    named: Option<Vec<QueueName>>,
) -> Result<Vec<QueueName>, Refusal> {
    if let Some(named) = named {
        if let Some(queue) = named.iter().find(|queue| !request.scope.covers(queue)) {
            let error = format!(
                "queue: `{queue}` is not one of the queues that this caller may name here: {}",
                request.scope.shown()
            );
            return Err(Refusal::new(Code::Forbidden, error));
        }
        return Ok(named);
    }
    app.board.refresh().await?;
    let selection = Selection { within: request.scope.clone(), with_jobs: true, ..Selection::default() };
    Ok(app.board.names(&selection))
}

/// Reads the name of a worker or of a stream, whose jobs or streams are meant; like other empty filters, an empty one
/// means all.
pub(super) fn read_worker(query: &mut Query<'_>) -> Option<String> {
    query.text("worker").filter(|name| !name.is_empty()).map(Cow::into_owned)
}

/// Reads all filters from the query of a call that changes the jobs it matches. An empty filter, such as `queue=$QUEUE`
/// with the variable unset, would match every job, so it is refused.
pub(super) fn read_for_change(query: &mut Query<'_>) -> Result<Asked, Refusal> {
    let says_nothing = |name: &&str| {
        query.peek(name).is_some_and(|value| match *name {
            JQ => value.trim().is_empty(),
            _ => value.split(',').all(str::is_empty),
        })
    };
    if let Some(name) = NAMES.iter().find(|name| says_nothing(name)) {
        let error =
            format!("{name}: the filter is empty; give it a value, or leave it out to match all jobs");
        return Err(Refusal::invalid(error));
    }
    if query.peek("worker").is_some() {
        let error = "worker: who holds a job may change at any moment, so this call has no such filter; list the jobs with GET \
                     /jobs?worker=, and name them with `id`";
        return Err(Refusal::invalid(error));
    }
    Ok(Asked(read_all_but_worker(query)?))
}

/// Reads all filters from a query.
pub(super) fn read(query: &mut Query<'_>) -> Result<Asked, Refusal> {
    Ok(Asked(Filter { worker: read_worker(query), ..read_all_but_worker(query)? }))
}

/// Reads the filters of which a job itself shows whether it matches them.
fn read_all_but_worker(query: &mut Query<'_>) -> Result<Filter, Refusal> {
    let jq = query.text(JQ).map(Cow::into_owned);
    if jq.as_ref().is_some_and(|expression| expression.trim().is_empty()) {
        return Err(Refusal::new(Code::InvalidFilter, "filter: the jq expression is empty"));
    }
    Ok(Filter {
        budgets: sorted(query.list("budgets.key")?),
        priority: span(query, "priority", u64::from(u16::MAX))?,
        ready_at: query.read("ready_at", Span::parse_times)?,
        attempts: span(query, "attempts", u64::from(u32::MAX))?,
        until: query.value("until")?,
        jq,
        ..read_listed(query)?
    })
}

/// Reads the filters on a job's index fields, which are lists of values.
pub(super) fn read_listed(query: &mut Query<'_>) -> Result<Filter, Refusal> {
    Ok(Filter {
        ids: sorted(query.list("id")?),
        queues: sorted(query.list("queue")?),
        types: sorted(query.list("type")?),
        statuses: statuses(query)?,
        ..Filter::default()
    })
}

fn span(query: &mut Query<'_>, name: &'static str, highest: u64) -> Result<Option<Span>, Refusal> {
    query.read(name, |text| Span::parse(text, highest))
}

fn statuses(query: &mut Query<'_>) -> Result<Option<Vec<Status>>, Refusal> {
    let names = query.list::<String>("status")?;
    let statuses: Option<Result<Vec<Status>, Refusal>> =
        names.map(|names| names.iter().map(|name| status(name)).collect());
    Ok(sorted(statuses.transpose()?))
}

fn sorted<T: Ord>(list: Option<Vec<T>>) -> Option<Vec<T>> {
    list.map(|mut list| {
        list.sort_unstable();
        list.dedup();
        list
    })
}

fn status(name: &str) -> Result<Status, Refusal> {
    Status::ALL.into_iter().find(|status| status.as_str() == name).ok_or_else(|| {
        Refusal::invalid(format!(
            "status: `{}` is none of scheduled, ready, in_flight, completed, dead",
            excerpt(name)
        ))
    })
}

/// The filters as query parameters of a link.
fn params(filter: &Filter) -> String {
    let Filter { ids, queues, types, statuses, budgets, priority, ready_at, attempts, until, worker, jq } =
        filter;
    let statuses = statuses.as_ref().map(|all| all.iter().map(|s| s.as_str()).collect::<Vec<_>>());
    let values = [
        ("id", join(ids.as_deref())),
        ("queue", join(queues.as_deref())),
        ("type", join(types.as_deref())),
        ("status", statuses.map(|all| all.join(","))),
        ("budgets.key", join(budgets.as_deref())),
        ("priority", priority.map(|span| span.to_string())),
        ("ready_at", ready_at.map(|span| span.to_string())),
        ("attempts", attempts.map(|span| span.to_string())),
        ("until", until.map(|id| id.to_string())),
        ("worker", worker.clone()),
        ("filter", jq.clone()),
    ];
    let mut params = String::new();
    for (name, value) in values {
        if let Some(value) = value {
            params.push_str(&format!("&{name}={}", utf8_percent_encode(&value, VALUE)));
        }
    }
    params
}

fn join<T: ToString>(list: Option<&[T]>) -> Option<String> {
    list.map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}
