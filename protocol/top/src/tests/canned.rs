//! Servers that say always the same.

use serde_json::{Value, json};

use super::NOW;
use crate::event::Problem;

/// The ids of jobs.
pub(super) fn id(n: u64) -> String {
    format!("03hbrjey9b5v90p42pw0{n:05}")
}

fn stats() -> Value {
    let rate = |n: f64| json!({"1s": n, "1m": n * 1.1, "5m": n * 0.9});
    json!({
        "server": "zizq-server/0.1.0", "contract": 1, "now": NOW, "uptime_ms": 273_900_000,
        "totals": {"scheduled": 20, "ready": 1_234_567_890_u64, "in_flight": 3, "completed": 98_765, "dead": 1_250},
        "in_flight": 3,
        "rates": {"enqueued": rate(120.0), "delivered": rate(118.0), "completed": rate(117.0), "failed": rate(2.5), "dead": rate(0.2)},
        "wait_ms": {"p50": 12, "p95": 1_250, "p99": 4_000}, "run_ms": {"p50": 48, "p95": 800, "p99": 2_000},
        "queues": 4, "paused": 1, "workers": 3, "streams": 3,
        "disk": {"used": 1_500_000_000_u64, "free": 80_000_000_000_u64, "reserve": 1_000_000_000_u64},
        "memory": 123_456_789, "draining": false, "read_only": false,
    })
}

fn queue(
    name: &str,
    [ready, in_flight, scheduled, dead]: [u64; 4],
    workers: u64,
    age: u64,
    paused: bool,
) -> Value {
    let rate = json!({"1m": 1.5, "5m": 1.2});
    json!({
        "name": name, "paused": paused, "workers": workers, "oldest_ready_at": NOW - age,
        "counts": {"scheduled": scheduled, "ready": ready, "in_flight": in_flight, "completed": 0, "dead": dead},
        "rates": {"enqueued": rate, "delivered": rate, "completed": rate, "failed": rate, "dead": rate},
    })
}

fn queues() -> Value {
    let rows = [
        queue("mails", [1_234_567_000, 2, 0, 1_200], 2, 65_000, false),
        queue(
            "nobody-takes-this-queue-with-a-name-that-fits-nowhere-at-all-whatever-one-does",
            [890, 0, 0, 0],
            0,
            7_200_000,
            false,
        ),
        queue("שלום עולם", [0, 0, 20, 0], 0, 0, true),
        queue("日本語キュー🎉", [0, 1, 0, 50], 1, 0, false),
    ];
    let order: Vec<&Value> = rows.iter().map(|row| &row["name"]).collect();
    json!({"order": order, "rows": rows})
}

fn job(n: u64, status: &str, kind: &str, queue: &str) -> Value {
    let mut job = json!({
        "id": id(n), "type": kind, "queue": queue, "priority": 32_768, "status": status, "ready_at": NOW - 90_000,
        "attempts": 0, "retry_limit": 25, "payload_bytes": 54, "deliveries": 1,
        "payload_preview": "{\"user_id\": 12345678901234567890, \"to\": \"a\u{1b}[31m@example.org\"}",
    });
    let members = job.as_object_mut().unwrap();
    if status == "in_flight" {
        members.extend([
            ("worker".to_owned(), json!("build-host-17.example.org-4242")),
            ("remote".to_owned(), json!("10.1.2.3:54321")),
            ("dequeued_at".to_owned(), json!(NOW - n * 61_000)),
            ("lease_expires_at".to_owned(), json!(NOW + 27_000)),
        ]);
        if n == 1 {
            members.extend([
                ("progress".to_owned(), json!(0.42)),
                ("message".to_owned(), json!("frame 126 of\t300")),
            ]);
        }
    }
    if status == "dead" {
        let error = json!({"type": "exit_code", "message": "cannot reach 10.0.0.7: \u{1b}]0;evil\u{7}refused", "at": NOW - 60_000});
        members.extend([
            ("attempts".to_owned(), json!(26)),
            ("last_error".to_owned(), error),
            ("failed_at".to_owned(), json!(NOW - 60_000)),
        ]);
    }
    job
}

fn jobs(query: &str) -> Value {
    let all = [
        job(5, "scheduled", "reminder", "later"),
        job(4, "ready", "send_mail", "mails"),
        job(3, "completed", "絵文字👩‍💻", "日本語キュー🎉"),
        job(2, "in_flight", "a.type.with.a.very.long.name.indeed.that.goes.on", "mails"),
        job(1, "in_flight", "video.transcode", "slow"),
        job(9, "dead", "flaky", "fails"),
        job(8, "dead", "broken", "fails"),
    ];
    let status = query.split(['?', '&']).find_map(|param| param.strip_prefix("status="));
    let found: Vec<&Value> =
        all.iter().filter(|job| status.is_none_or(|status| job["status"] == status)).collect();
    json!({"jobs": found, "pages": {"self": "", "next": null, "prev": null}})
}

fn history() -> Value {
    let wave = |top: u64| (0..180_u64).map(|n| json!(top * ((n % 60).abs_diff(30)) / 30)).collect::<Vec<_>>();
    json!({
        "from": NOW - 180_000, "step_ms": 1_000,
        "series": {"enqueued": wave(120), "completed": wave(90), "failed": wave(5), "ready": wave(5_000), "in_flight": wave(8),
            "wait_ms": wave(1_500), "run_ms": wave(300)},
    })
}

fn whoami(role: &str) -> Value {
    let verbs: &[&str] = match role {
        "viewer" => &["read"],
        _ => &["enqueue", "work", "read", "payload", "operate", "configure", "admin"],
    };
    json!({"who": {"kind": "token", "name": "alice"}, "role": role, "grants": verbs, "auth": "required", "read_only": false})
}

/// A server where much is going on.
pub(super) fn busy(path: &str) -> Result<Value, Problem> {
    let stream = |stream: &str, worker: Option<&str>, queues: &[&str], held: u64| {
        json!({"stream": stream, "worker": worker, "format": "sse", "queues": queues, "prefetch": 4, "in_flight": held,
            "connected_at": NOW - 400_000, "remote": "10.1.2.3:54321", "agent": "zizq-worker/0.1.0"})
    };
    Ok(match path.split('?').next().unwrap_or_default() {
        "/live" => json!({"now": NOW, "totals": stats(), "queues": queues()}),
        "/whoami" => whoami("operator"),
        "/stats/history" => history(),
        "/queues" => json!({"queues": [queue("שלום עולם", [0, 0, 20, 0], 0, 0, true)]}),
        "/queues/mails" => {
            let mut queue = queue("mails", [1_234_567_000, 2, 0, 1_200], 2, 65_000, false);
            let members = queue.as_object_mut().unwrap();
            members.extend([
                ("oldest_ready_ms".to_owned(), json!(65_000)),
                ("backlog_ms".to_owned(), json!(2_460_000)),
            ]);
            members.insert(
                "last_release".to_owned(),
                json!({"reason": "disk full\u{1b}[2J", "at": NOW - 5_000}),
            );
            queue
        }
        "/jobs" => jobs(path),
        "/jobs/groups" => json!({"groups": [
            {"key": "exit_code", "count": 1_200, "newest_id": id(9), "sample": "cannot reach 10.0.0.7: \u{1b}[31mrefused"},
            {"key": null, "count": 50, "newest_id": id(8)},
        ], "other": 0, "looked_at": 1_250, "exact": true}),
        "/workers" => json!({"workers": [
            stream("4acdfc07aaaa", Some("build-host-17.example.org-4242"), &["mails", "slow"], 2),
            stream("5f37b76fbbbb", Some("日本-ワーカー"), &[], 1),
            stream("deb23c08cccc", None, &["日本語キュー🎉"], 0),
        ], "pages": {"next": null}}),
        "crons and entries" => {
            json!({"groups": [{"name": "night", "paused": false, "timezone": "Europe/Berlin", "entries": [
                {"name": "report", "expression": "30 2 * * MON-FRI", "next_enqueue_at": NOW + 52_200_000, "last_enqueue_at": NOW - 34_000_000,
                    "job": {"queue": "reports", "type": "nightly", "payload": {}}},
                {"name": "late", "expression": "* * * * *", "next_enqueue_at": NOW - 90_000, "job": {"queue": "mails", "type": "tick"}},
                {"name": "off", "expression": "0 0 1 * *", "paused": true, "job": {"queue": "mails", "type": "monthly"}},
            ]}]})
        }
        "budgets and counts" => json!({"budgets": [
            {"key": "gpu", "allocation": 3, "strategy": {"type": "while_in_flight"}, "in_flight": {"count": 2, "exact": true},
                "ready": {"count": 1_000, "exact": false}},
            {"key": "smtp-outgoing", "allocation": 20, "strategy": {"type": "time_based", "duration_ms": 1_000, "burst": 40},
                "in_flight": {"count": 0, "exact": true}, "ready": {"count": 0, "exact": true}},
        ]}),
        path if path.ends_with("/errors") => {
            json!({"errors": [{"attempt": 26, "message": "cannot reach 10.0.0.7\u{1b}[1m: refused",
            "error_type": "exit_code", "backtrace": "at main.py:12\n\tat lib.py:7", "dequeued_at": NOW - 62_000, "failed_at": NOW - 60_000}]})
        }
        path => {
            let known = jobs("");
            let found = known["jobs"]
                .as_array()
                .unwrap()
                .iter()
                .find(|job| path.ends_with(job["id"].as_str().unwrap()));
            return found.cloned().ok_or_else(|| Problem::new(404, "no such job"));
        }
    })
}

/// The same for somebody who may only look.
pub(super) fn viewed(path: &str) -> Result<Value, Problem> {
    if path == "/whoami" { Ok(whoami("viewer")) } else { busy(path) }
}

/// A fresh server.
pub(super) fn empty(path: &str) -> Result<Value, Problem> {
    let zero = json!({"1s": 0, "1m": 0.0, "5m": 0.0});
    Ok(match path.split('?').next().unwrap_or_default() {
        "/live" => {
            let mut stats = stats();
            stats["totals"] = json!({"scheduled": 0, "ready": 0, "in_flight": 0, "completed": 0, "dead": 0});
            stats["rates"] =
                json!({"enqueued": zero, "delivered": zero, "completed": zero, "failed": zero, "dead": zero});
            stats["wait_ms"] = json!({"p50": null, "p95": null, "p99": null});
            stats["workers"] = json!(0);
            json!({"now": NOW, "totals": stats, "queues": {"order": [], "rows": []}})
        }
        "/whoami" => whoami("admin"),
        "/stats/history" => {
            json!({"from": NOW, "step_ms": 1_000, "series": {"enqueued": [null], "ready": [0], "wait_ms": [null]}})
        }
        "/queues" => json!({"queues": []}),
        "/jobs" => json!({"jobs": [], "pages": {"next": null}}),
        "/jobs/groups" => json!({"groups": [], "other": 0, "looked_at": 0, "exact": true}),
        "/workers" => json!({"workers": []}),
        "crons and entries" => json!({"groups": []}),
        "budgets and counts" => json!({"budgets": []}),
        _ => return Err(Problem::new(404, "no such thing")),
    })
}

/// A server that asks for an access token.
pub(super) fn closed(_path: &str) -> Result<Value, Problem> {
    Err(Problem::new(401, "this server asks for an access token; send one as `Authorization: Bearer TOKEN`"))
}

/// A server that refuses what the views are made of.
pub(super) fn refusing(path: &str) -> Result<Value, Problem> {
    match path.split('?').next().unwrap_or_default() {
        "/live" | "/whoami" => viewed(path),
        _ => Err(Problem::new(
            403,
            "the access token `alice` does not allow this: it needs `read` for all queues",
        )),
    }
}
