//! `GET /stats`, `GET /stats/history`.

use protocol::access::Verb;
use protocol::job::Status;
use protocol::name::QueueName;
use serde_json::{Map, Value, json};

use super::{App, admit};
use crate::access::Scope;
use crate::board::{Flow, Point, Range, Rates, Selection, Series, Summary};
use crate::engine::command::report::Tally;
use crate::histogram::Histogram;
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;

pub(crate) async fn stats(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    app.board.refresh().await?;
    Ok(reply::ok(request.format, &shown(app, &request.scope).await?))
}

/// Shows what is known of these queues together, as of the last refresh of the board.
pub(super) async fn shown(app: &App, scope: &Scope) -> Result<Value, Refusal> {
    if scope.is_all() { of_all(app).await } else { Ok(of_some(app, scope).await) }
}

async fn of_all(app: &App) -> Result<Value, Refusal> {
    let summary = app.board.summary();
    let disk = app.reader.disk().await?;
    let Summary { streams, counts, .. } = &summary;
    let totals = Status::ALL.into_iter().map(|status| (status.as_str().to_owned(), json!(counts.of(status))));
    Ok(json!({
        "server": crate::SERVER,
        "contract": protocol::CONTRACT_VERSION,
        "now": summary.now,
        "uptime_ms": summary.uptime_ms,
        "totals": totals.collect::<Map<_, _>>(),
        "in_flight": counts.in_flight,
        "rates": rates(&summary.rates, Some(&summary.second)),
        "wait_ms": percentiles(&summary.recent.waited),
        "run_ms": percentiles(&summary.recent.ran),
        "queues": summary.queues,
        "paused": summary.paused,
        "workers": streams.events + streams.bound + streams.polls,
        "streams": streams.events + streams.bound,
        "disk": {"used": disk.used, "free": disk.free, "reserve": disk.reserve},
        "memory": resident_memory(),
        "draining": summary.draining,
        "read_only": app.read_only,
    }))
}

/// What is known of some queues: nothing about the server as a whole.
async fn of_some(app: &App, scope: &Scope) -> Value {
    let selection = Selection { within: scope.clone(), ..Selection::default() };
    let rows = app.board.select(selection).await.rows;
    let count = |status: Status| rows.iter().map(|row| row.state.counts.of(status)).sum::<u64>();
    let totals = Status::ALL.into_iter().map(|status| (status.as_str().to_owned(), json!(count(status))));
    let rate = |flow: Flow| {
        let sum = |of: fn(&Rates, Flow) -> f64| rounded(rows.iter().map(|row| of(&row.rates, flow)).sum());
        (flow.name().to_owned(), json!({"1m": sum(Rates::minute), "5m": sum(Rates::five_minutes)}))
    };
    let summary = app.board.summary();
    json!({
        "server": crate::SERVER,
        "contract": protocol::CONTRACT_VERSION,
        "now": summary.now,
        "uptime_ms": summary.uptime_ms,
        "totals": totals.collect::<Map<_, _>>(),
        "in_flight": count(Status::InFlight),
        "rates": Flow::ALL.into_iter().map(rate).collect::<Map<_, _>>(),
        "queues": rows.len(),
        "paused": rows.iter().filter(|row| row.state.paused).count(),
        "draining": summary.draining,
        "read_only": app.read_only,
    })
}

/// Shows rates: events per second over the last second, minute and five minutes.
pub(super) fn rates(rates: &Rates, second: Option<&Tally>) -> Value {
    let of = |flow: Flow| {
        let mut shown = Map::new();
        shown.extend(second.map(|second| ("1s".to_owned(), json!(flow.of(second)))));
        shown.insert("1m".to_owned(), json!(rounded(rates.minute(flow))));
        shown.insert("5m".to_owned(), json!(rounded(rates.five_minutes(flow))));
        (flow.name().to_owned(), Value::Object(shown))
    };
    Value::Object(Flow::ALL.into_iter().map(of).collect())
}

fn rounded(rate: f64) -> f64 {
    (rate * 1_000.0).round() / 1_000.0
}

fn percentiles(times: &Histogram) -> Value {
    json!({"p50": times.quantile(0.5), "p95": times.quantile(0.95), "p99": times.quantile(0.99)})
}

/// The memory of this process that is in RAM, in bytes; none where the operating system does not say.
pub(super) fn resident_memory() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let resident: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    resident.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

pub(crate) async fn history(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let range = query.read("range", |text| one_of(text, &Range::ALL))?.unwrap_or(Range::TenMinutes);
    let queue: Option<QueueName> = query.value("queue")?;
    let series = query.list::<SeriesName>("series")?;
    query.finish()?;
    match &queue {
        Some(queue) => admit::covered(request, Verb::Read, queue)?,
        None => admit::everywhere(request, Verb::Read, "without `queue` this call is about all queues")?,
    }
    app.board.refresh().await?;
    if queue.is_some() && range == Range::TenMinutes {
        return Err(Refusal::invalid(
            "range: the last ten minutes are kept for all queues together only; ask for 1h",
        ));
    }
    let points = app.board.history(queue.as_ref(), range);
    let points = points.ok_or_else(|| {
        Refusal::not_found(format!(
            "no history is kept of this queue: it had no jobs in the last hour, or {} others did",
            app.board.max_tracked()
        ))
    })?;
    let (step, now) = (range.step() as u64, app.board.summary().now);
    // Each point is about a whole step; the last one ended with the last whole step.
    let from = (now / step).saturating_sub(points.len() as u64) * step;
    let columns = columns(&points, series.as_deref());
    Ok(reply::ok(request.format, &json!({"from": from, "step_ms": step, "series": columns})))
}

/// The values of the points, by series; without `asked`, of all series.
pub(super) fn columns(points: &[Option<Point>], asked: Option<&[SeriesName]>) -> Map<String, Value> {
    let is_asked = |(_, one): &&(&str, Series)| {
        asked.is_none_or(|asked| asked.iter().any(|SeriesName(other)| other == one))
    };
    let column = |(name, series): &(&str, Series)| {
        let values = points.iter().map(|point| point.as_ref().and_then(|point: &Point| point.get(*series)));
        ((*name).to_owned(), json!(values.collect::<Vec<_>>()))
    };
    Series::ALL.iter().filter(is_asked).map(column).collect()
}

/// The name of a series in a query.
pub(super) struct SeriesName(Series);

impl std::str::FromStr for SeriesName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        one_of(text, &Series::ALL).map(Self)
    }
}

/// Reads one of some names.
pub(super) fn one_of<T: Copy>(text: &str, names: &[(&'static str, T)]) -> Result<T, String> {
    let found = names.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        format!("must be one of {}", names.join(", "))
    })
}
