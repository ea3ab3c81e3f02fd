//! A random call of a random route: mostly meaningful, sometimes half so, sometimes not at all.

use fastrand::Rng;
use serde_json::{Value, json};

use super::known::Known;
use super::value::{self, name, once_in, one_of};

/// What a body is about.
#[derive(Debug, Clone, Copy)]
enum About {
    Nothing,
    Job,
    Bulk,
    Success,
    Successes,
    Failure,
    Heartbeat,
    Heartbeats,
    Release,
    Releases,
    Poll,
    Patch,
    Retry,
    Policy,
    Binding,
    Cost,
    Bindings,
    Group,
    Entry,
    Paused,
    Log,
}

/// Query parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Query {
    None,
    /// Filters of a call that changes all that match.
    Changes,
    Page,
    Trail,
    List,
    Count,
    Groups,
    Job,
    Wait,
    Stream,
    Listed,
    Lease,
    Queues,
    Prefix,
    Next,
    Workers,
    Worker,
    Ready,
    History,
    Live,
    Attempt,
    Names,
}

type Route = (&'static str, &'static str, u32, Query, About);

/// Every route, how often it is called, and what with.
const ROUTES: [Route; 85] = {
    use About::*;
    use Query as Q;
    [
        ("GET", "/", 5, Q::None, Nothing),
        ("GET", "/health", 20, Q::None, Nothing),
        ("GET", "/livez", 5, Q::None, Nothing),
        ("GET", "/readyz", 5, Q::Ready, Nothing),
        ("GET", "/version", 5, Q::None, Nothing),
        ("GET", "/config", 1, Q::None, Nothing),
        ("GET", "/stats", 5, Q::None, Nothing),
        ("GET", "/stats/history", 5, Q::History, Nothing),
        ("GET", "/live", 1, Q::Live, Nothing),
        ("GET", "/metrics", 2, Q::Names, Nothing),
        ("GET", "/queues", 5, Q::Queues, Nothing),
        ("PATCH", "/queues", 1, Q::Prefix, Paused),
        ("GET", "/queues/{queue}", 10, Q::None, Nothing),
        ("POST", "/queues/{queue}/pause", 1, Q::None, Nothing),
        ("POST", "/queues/{queue}/resume", 6, Q::None, Nothing),
        ("DELETE", "/queues/{queue}", 2, Q::None, Nothing),
        ("GET", "/workers", 5, Q::Workers, Nothing),
        ("POST", "/workers/drain", 1, Q::Worker, Nothing),
        ("POST", "/workers/{stream}/drain", 1, Q::None, Nothing),
        ("POST", "/workers/{stream}/disconnect", 1, Q::None, Nothing),
        ("GET", "/events", 1, Q::Listed, Nothing),
        ("POST", "/jobs", 150, Q::Wait, Job),
        ("GET", "/jobs", 5, Q::List, Nothing),
        ("PATCH", "/jobs", 2, Q::Changes, Patch),
        ("DELETE", "/jobs", 2, Q::Changes, Nothing),
        ("POST", "/jobs/bulk", 20, Q::None, Bulk),
        ("GET", "/jobs/count", 5, Q::Count, Nothing),
        ("GET", "/jobs/groups", 3, Q::Groups, Nothing),
        ("GET", "/jobs/take", 2, Q::Stream, Nothing),
        ("POST", "/jobs/take", 100, Q::None, Poll),
        ("POST", "/jobs/success", 30, Q::None, Successes),
        ("POST", "/jobs/heartbeat", 15, Q::None, Heartbeats),
        ("POST", "/jobs/release", 15, Q::None, Releases),
        ("POST", "/jobs/retry", 2, Q::Changes, Retry),
        ("DELETE", "/jobs/budgets", 1, Q::Changes, Nothing),
        ("POST", "/jobs/budgets/{key}", 1, Q::Changes, Binding),
        ("PUT", "/jobs/budgets/{key}", 1, Q::Changes, Binding),
        ("PATCH", "/jobs/budgets/{key}", 1, Q::Changes, Cost),
        ("DELETE", "/jobs/budgets/{key}", 1, Q::Changes, Nothing),
        ("GET", "/jobs/{id}", 60, Q::Job, Nothing),
        ("PATCH", "/jobs/{id}", 30, Q::None, Patch),
        ("DELETE", "/jobs/{id}", 15, Q::None, Nothing),
        ("GET", "/jobs/{id}/errors", 20, Q::Page, Nothing),
        ("GET", "/jobs/{id}/errors/{number}", 10, Q::None, Nothing),
        ("GET", "/jobs/{id}/log", 15, Q::Attempt, Nothing),
        ("POST", "/jobs/{id}/log", 20, Q::Lease, Log),
        ("POST", "/jobs/{id}/success", 60, Q::Lease, Success),
        ("POST", "/jobs/{id}/failure", 40, Q::Lease, Failure),
        ("POST", "/jobs/{id}/heartbeat", 20, Q::Lease, Heartbeat),
        ("POST", "/jobs/{id}/release", 20, Q::Lease, Release),
        ("POST", "/jobs/{id}/retry", 20, Q::None, Retry),
        ("GET", "/budgets", 5, Q::None, Nothing),
        ("GET", "/budgets/{key}", 10, Q::None, Nothing),
        ("POST", "/budgets/{key}", 8, Q::None, Policy),
        ("PUT", "/budgets/{key}", 8, Q::None, Policy),
        ("PATCH", "/budgets/{key}", 8, Q::None, Policy),
        ("DELETE", "/budgets/{key}", 8, Q::None, Nothing),
        ("GET", "/crons", 5, Q::None, Nothing),
        ("DELETE", "/crons", 2, Q::None, Nothing),
        ("GET", "/crons/{group}", 8, Q::Next, Nothing),
        ("PUT", "/crons/{group}", 5, Q::None, Group),
        ("PATCH", "/crons/{group}", 5, Q::None, Paused),
        ("DELETE", "/crons/{group}", 5, Q::None, Nothing),
        ("POST", "/crons/{group}/entries", 5, Q::None, Entry),
        ("GET", "/crons/{group}/entries/{entry}", 5, Q::Next, Nothing),
        ("PUT", "/crons/{group}/entries/{entry}", 5, Q::None, Entry),
        ("PATCH", "/crons/{group}/entries/{entry}", 5, Q::None, Paused),
        ("DELETE", "/crons/{group}/entries/{entry}", 5, Q::None, Nothing),
        ("POST", "/crons/{group}/entries/{entry}/run", 5, Q::None, Nothing),
        ("PUT", "/jobs/{id}/budgets", 8, Q::None, Bindings),
        ("DELETE", "/jobs/{id}/budgets", 8, Q::None, Nothing),
        ("POST", "/jobs/{id}/budgets/{key}", 8, Q::None, Binding),
        ("PUT", "/jobs/{id}/budgets/{key}", 8, Q::None, Binding),
        ("PATCH", "/jobs/{id}/budgets/{key}", 8, Q::None, Cost),
        ("DELETE", "/jobs/{id}/budgets/{key}", 8, Q::None, Nothing),
        ("GET", "/whoami", 5, Q::None, Nothing),
        ("GET", "/tokens", 2, Q::None, Nothing),
        // The first token would have the server ask for one from then on.
        ("POST", "/tokens", 0, Q::None, Nothing),
        ("DELETE", "/tokens/{id}", 1, Q::None, Nothing),
        ("POST", "/tokens/{id}/rotate", 1, Q::None, Nothing),
        ("POST", "/tokens/{id}/link", 1, Q::None, Nothing),
        ("POST", "/ui/session", 1, Q::None, Nothing),
        ("DELETE", "/ui/session", 1, Q::None, Nothing),
        ("GET", "/audit", 2, Q::Trail, Nothing),
        ("POST", "/reset", 0, Q::None, Nothing),
    ]
};

/// One in so many calls deletes everything, so that jobs do not pile up.
const RESET: u32 = 4_000;
/// A scan with jq takes a helper for a while, so it comes once in so many scans.
const JQ: u32 = 40;

/// Every route that is called: methods, and paths in which `{}` stands for a variable segment.
pub(in crate::load) fn routes() -> impl Iterator<Item = (&'static str, String)> {
    let plain = |pattern: &str| {
        let segments =
            pattern.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
        segments.collect::<Vec<_>>().join("/")
    };
    ROUTES.iter().map(move |(method, pattern, ..)| (*method, plain(pattern)))
}

/// A request.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) pattern: &'static str,
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// Whether its answer may have no end.
    pub(super) stream: bool,
}

impl Call {
    /// The next one.
    pub(super) fn next(rng: &mut Rng, known: &Known) -> Self {
        let (method, pattern, _, query, about) = pick(rng);
        let (id, lease) = known.job(rng);
        let mut path = fill(rng, pattern, &id);
        write_query(rng, query, &id, &mut path);
        let mut headers = headers(rng, lease);
        let body = body(rng, known, about, &mut headers);
        let follows = pattern == "/jobs/{id}/log" && method == "GET";
        let changes = query == Query::Changes;
        if (follows || changes) && once_in(rng, 8) {
            set(&mut headers, "accept", "text/event-stream");
        }
        // The events of a change end with it.
        let stream = matches!(query, Query::Stream | Query::Listed | Query::Live)
            || (follows && headers.iter().any(|(name, value)| *name == "accept" && value.contains("event")));
        let method = match method {
            "GET" if !stream && once_in(rng, 30) => "HEAD",
            method if once_in(rng, 200) && !stream => {
                one_of(rng, &["PUT", "OPTIONS", "DELETE", "PATCH"][..if method == "DELETE" { 2 } else { 4 }])
            }
            method => method,
        };
        Self { method, pattern, path, headers, body, stream }
    }

    /// For messages.
    pub(super) fn describe(&self) -> String {
        let cut = |text: &str| text.chars().take(400).collect::<String>();
        let body = String::from_utf8_lossy(&self.body);
        format!("{} {} {:?} {:?}", self.method, cut(&self.path), self.headers, cut(&body))
    }
}

fn pick(rng: &mut Rng) -> Route {
    if once_in(rng, RESET) {
        return ROUTES[ROUTES.len() - 1];
    }
    const ALL: u32 = {
        let (mut sum, mut at) = (0, 0);
        while at < ROUTES.len() {
            sum += ROUTES[at].2;
            at += 1;
        }
        sum
    };
    let mut at = rng.u32(..ALL);
    for route in ROUTES {
        if at < route.2 {
            return route;
        }
        at -= route.2;
    }
    ROUTES[0]
}

/// Percent-encodes all but what never needs it.
fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

fn fill(rng: &mut Rng, pattern: &str, id: &str) -> String {
    const ODD: [&str; 10] =
        ["%FF", "%2F", "..", ".", "%00", "x", "-1", "%", "%zz", "0123456789012345678901234567890"];
    let mut path = String::with_capacity(pattern.len() + 40);
    for segment in pattern.split('/').skip(1) {
        path.push('/');
        match segment {
            segment if !segment.starts_with('{') => path.push_str(segment),
            _ if once_in(rng, 30) => path.push_str(one_of(rng, &ODD)),
            "{id}" => path.push_str(id),
            "{number}" => path.push_str(&rng.u32(..4).to_string()),
            _ => encode(name(rng), &mut path),
        }
    }
    match rng.u32(..400) {
        0 => path.push('/'),
        1 => path.push_str("/x"),
        2 => path.insert(0, '/'),
        _ => {}
    }
    path
}

/// The first is none of calls that change jobs.
const FILTERS: [&str; 10] =
    ["worker", "id", "queue", "type", "status", "priority", "ready_at", "attempts", "budgets.key", "until"];
const OF_QUEUES: [&str; 10] =
    ["details", "prefix", "contains", "status", "paused", "order", "desc", "limit", "from", "series"];
const ODD_VALUES: [&str; 12] =
    ["", "-1", "x", "1..", "..", "9..1", "%", "%FF", "%zz", "99999999999999999999", "a,,b,", "%00"];

fn write_query(rng: &mut Rng, query: Query, id: &str, path: &mut String) {
    let mut names: Vec<&str> = Vec::new();
    let mut some = |rng: &mut Rng, of: &[&'static str], most: usize| {
        for _ in 0..rng.usize(..=most) {
            let name = one_of(rng, of);
            if !names.contains(&name) || once_in(rng, 50) {
                names.push(name);
            }
        }
    };
    match query {
        Query::None => {}
        Query::Count | Query::Groups | Query::Changes | Query::List => {
            some(rng, if query == Query::Changes { &FILTERS[1..] } else { &FILTERS }, 3);
            if once_in(rng, JQ) {
                some(rng, &["filter"], 1);
            }
            match query {
                Query::List => {
                    some(rng, &["from", "order", "limit", "within_ms", "payload", "preview_bytes"], 2)
                }
                Query::Count => some(rng, &["at_most"], 1),
                Query::Groups => some(rng, &["by", "by", "by", "newest"], 2),
                Query::Changes => some(rng, &["dry_run", "limit"], 1),
                _ => {}
            }
        }
        Query::Page => some(rng, &["from", "order", "limit"], 3),
        Query::Job => some(rng, &["payload", "preview_bytes"], 1),
        Query::Wait if once_in(rng, 20) => some(rng, &["wait_ms"], 1),
        Query::Wait => {}
        Query::Stream => some(rng, &["queue", "prefetch", "lease_ms", "resume_ms"], 3),
        Query::Listed => some(rng, &["queue", "type", "id", "status"], 2),
        Query::Lease if once_in(rng, 10) => some(rng, &["lease"], 1),
        Query::Lease => {}
        Query::Queues => some(rng, &OF_QUEUES, 3),
        Query::Trail => some(rng, &["contains", "limit", "from"], 2),
        Query::Prefix => some(rng, &["prefix", "contains"], 2),
        Query::Next => some(rng, &["next"], 1),
        Query::Workers => some(rng, &["queue", "worker", "contains", "order", "limit", "from"], 2),
        Query::Worker => some(rng, &["worker"], 1),
        Query::Ready => some(rng, &["verbose"], 1),
        Query::History => some(rng, &["range", "queue", "series"], 2),
        Query::Live => some(rng, &["topics", "jobs", "prefix", "order", "limit"], 3),
        Query::Attempt => some(rng, &["attempt"], 1),
        Query::Names => some(rng, &["name"], 1),
    }
    if once_in(rng, 100) {
        names.push(one_of(rng, &["unknown", "", "queue[]", "limit", "wait_ms"]));
    }
    for (at, name) in names.into_iter().enumerate() {
        path.push(if at == 0 { '?' } else { '&' });
        path.push_str(name);
        path.push('=');
        write_value(rng, name, id, path);
    }
}

fn write_value(rng: &mut Rng, of: &str, id: &str, path: &mut String) {
    // Nobody waits for long here.
    if once_in(rng, 12) && of != "wait_ms" {
        return path.push_str(one_of(rng, &ODD_VALUES));
    }
    let number = match of {
        "id" | "from" | "until" => return path.push_str(id),
        "queue" | "type" | "budgets.key" => return encode(name(rng), path),
        "status" => {
            return path.push_str(one_of(
                rng,
                &["ready", "dead", "scheduled,ready", "in_flight", "completed", "nothing"],
            ));
        }
        "order" if path.starts_with("/queues") => {
            return path.push_str(one_of(rng, &["name", "ready", "rate", "oldest", "dead", "asc"]));
        }
        "order" if path.starts_with("/workers") => {
            return path.push_str(one_of(rng, &["connected_at", "in_flight", "worker", "asc"]));
        }
        "payload" => return path.push_str(one_of(rng, &["full", "preview", "none"])),
        "by" => return path.push_str(one_of(rng, &["error_type", "type", "queue", "message"])),
        "order" => return path.push_str(one_of(rng, &["asc", "desc"])),
        "prefix" | "contains" | "worker" => return encode(name(rng), path),
        "range" => return path.push_str(one_of(rng, &["10m", "3h", "24h", "7d", "30d", "1y"])),
        "series" => return path.push_str(one_of(rng, &["ready", "ready,failed", "wait_ms", "size"])),
        "details" | "dry_run" | "paused" | "desc" | "verbose" => {
            return path.push_str(one_of(rng, &["true", "false"]));
        }
        "filter" => {
            const FILTERS: [&str; 9] = [
                ".n > 4",
                ".s == \"b\"",
                ".a[1].b",
                ".. | numbers",
                "error(\"x\")",
                ".[",
                "env",
                "$x",
                "[limit(3; repeat(1))] | length == 3",
            ];
            return encode(one_of(rng, &FILTERS), path);
        }
        "lease" => return path.push_str("1a223c0ecb300000"),
        "wait_ms" => rng.u64(..10),
        "ready_at" => value::moment(rng),
        "lease_ms" => rng.u64(900..20_000),
        "limit" | "at_most" | "preview_bytes" => rng.u64(..60),
        "next" => rng.u64(..12),
        _ => rng.u64(..40_000),
    };
    path.push_str(&number.to_string());
    if matches!(of, "priority" | "ready_at" | "attempts") {
        path.push_str("..");
    }
}

const JSON: &str = "application/json";
const MSGPACK: &str = "application/msgpack";

fn headers(rng: &mut Rng, lease: Option<String>) -> Vec<(&'static str, String)> {
    let mut headers = Vec::with_capacity(4);
    let mut add = |name, value: &str| headers.push((name, value.to_owned()));
    match rng.u32(..100) {
        0..50 => add("accept", JSON),
        50..75 => add("accept", MSGPACK),
        75..80 => add("accept", "*/*"),
        80 => add("accept", "text/html"),
        81 => add("accept", "application/msgpack;q=0.5, application/json;q=x"),
        82 => add("accept", ","),
        _ => {}
    }
    if let Some(lease) = lease
        && !once_in(rng, 10)
    {
        add("zizq-lease", &lease);
    }
    match rng.u32(..300) {
        0 => add("zizq-lease", "nothing"),
        1 => add("worker-id", "a worker"),
        2 => add("idempotency-key", &rng.u32(..100).to_string()),
        3 => add("origin", "https://evil.example"),
        4 => add("sec-fetch-site", "cross-site"),
        5 => add("content-encoding", "gzip"),
        6 => add("last-event-id", "0123456789abcdef0123456789abcdef:7"),
        7 => add("prefer", "handling=strict"),
        8 => add("x-long", &"x".repeat(3_000)),
        _ => {}
    }
    headers
}

fn set(headers: &mut Vec<(&'static str, String)>, name: &'static str, value: &str) {
    headers.retain(|(known, _)| *known != name);
    headers.push((name, value.to_owned()));
}

fn body(rng: &mut Rng, known: &Known, about: About, headers: &mut Vec<(&'static str, String)>) -> Vec<u8> {
    if let About::Log = about {
        set(headers, "content-type", one_of(rng, &["text/plain", "application/x-ndjson"]));
        return "{\"stream\":\"stdout\",\"line\":\"x\"}\n".repeat(rng.usize(..40)).into_bytes();
    }
    let Some(mut value) = meant(rng, known, about) else {
        // Some send one all the same.
        return if once_in(rng, 50) { b"{\"x\":1}".to_vec() } else { Vec::new() };
    };
    if once_in(rng, 6) {
        value::spoil(rng, &mut value);
    }
    let msgpack = rng.u32(..3) == 0;
    let mut bytes = match msgpack {
        true => rmp_serde::to_vec_named(&value).unwrap_or_default(),
        false => value.to_string().into_bytes(),
    };
    match rng.u32(..200) {
        0 => bytes.truncate(rng.usize(..=bytes.len())),
        1 if !bytes.is_empty() => {
            let at = rng.usize(..bytes.len());
            bytes[at] ^= 1 << rng.u32(..8);
        }
        2 => bytes.extend_from_slice(b"]}\xff"),
        3 => bytes.clear(),
        _ => {}
    }
    let content_type = match (rng.u32(..100), msgpack) {
        (0, _) => "text/plain",
        (1, false) | (_, true) => MSGPACK,
        (2, false) => "application/json; charset=utf-8",
        (_, false) => JSON,
    };
    if msgpack || !once_in(rng, 50) {
        set(headers, "content-type", content_type);
    }
    bytes
}

/// A body that makes sense.
fn meant(rng: &mut Rng, known: &Known, about: About) -> Option<Value> {
    let empty = |_: &mut Rng| json!({});
    Some(match about {
        About::Nothing | About::Log => return None,
        About::Success | About::Retry | About::Release if rng.bool() => return None,
        About::Job => value::job(rng),
        About::Bulk => json!({"jobs": (0..rng.usize(..12)).map(|_| value::job(rng)).collect::<Vec<_>>()}),
        About::Success => json!({"result": {"n": rng.u32(..)}}),
        About::Successes if rng.bool() => json!({"ids": [known.job(rng).0, known.job(rng).0]}),
        About::Successes => value::leased(rng, known, empty),
        About::Failure => value::failure(rng),
        About::Heartbeat => value::heartbeat(rng),
        About::Heartbeats => value::leased(rng, known, value::heartbeat),
        About::Release => json!({"ready_at": value::moment(rng)}),
        About::Releases => value::leased(rng, known, empty),
        About::Poll => {
            json!({"queues": [name(rng), name(rng)], "limit": rng.u32(1..4), "wait_ms": rng.u32(..3), "lease_ms": rng.u32(1_000..9_000)})
        }
        About::Patch => value::patch(rng),
        About::Retry => json!({"reset_attempts": rng.bool()}),
        About::Policy => value::policy(rng),
        About::Binding => json!({"cost": rng.u32(1..4)}),
        About::Cost => json!({"cost": rng.u32(..9)}),
        About::Bindings => value::bindings(rng),
        About::Group => value::group(rng),
        About::Entry => value::entry(rng, true),
        About::Paused => json!({"paused": rng.bool()}),
    })
}
