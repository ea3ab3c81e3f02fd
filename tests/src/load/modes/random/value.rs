//! Values: what a member or a parameter should be, and what it should not.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::known::Known;

/// Names that queues, types, keys and groups share, so that calls meet.
pub(super) const NAMES: [&str; 6] = ["a", "b", "mails", "a b", "ä", "q.1/x"];

pub(super) fn one_of<'a, T: ?Sized>(rng: &mut Rng, of: &[&'a T]) -> &'a T {
    of[rng.usize(..of.len())]
}

pub(super) fn name(rng: &mut Rng) -> &'static str {
    one_of(rng, &NAMES)
}

/// True once in so many times.
pub(super) fn once_in(rng: &mut Rng, times: u32) -> bool {
    rng.u32(..times) == 0
}

/// What hardly any member may be.
pub(super) fn hostile(rng: &mut Rng) -> Value {
    match rng.u32(..24) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(0),
        4 => json!(1.5),
        5 => json!(1e300),
        6 => json!(u64::MAX),
        7 => json!(i64::MIN),
        8 => json!(""),
        9 => json!(" "),
        10 => json!("\u{0}\u{1b}[2J"),
        11 => json!("a,b"),
        12 => json!("x".repeat(256)),
        13 => json!("x".repeat(5_000)),
        14 => json!([]),
        15 => json!({}),
        16 => json!([null, [1], {"a": "b"}]),
        17 => json!("*"),
        18 => json!("\u{202e}\u{1f600}"),
        19 => json!("1e9999"),
        20 => json!("../../etc/passwd"),
        21 => json!(10_000_000_000_u64),
        22 => (0..200).fold(json!(1), |inner, _| json!([inner])),
        _ => json!({"id": "x", "queue": ["a"]}),
    }
}

/// Spoils one member of an object, or of an object inside of it.
pub(super) fn spoil(rng: &mut Rng, value: &mut Value) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let key = members.keys().nth(rng.usize(..members.len())).cloned().unwrap_or_default();
            match (rng.u32(..5), members.get_mut(&key)) {
                (0, _) => drop(members.remove(&key)),
                (1, _) => drop(members.insert("unknown".to_owned(), hostile(rng))),
                (2, Some(inner @ (Value::Object(_) | Value::Array(_)))) => spoil(rng, inner),
                (_, Some(member)) => *member = hostile(rng),
                (_, None) => {}
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = rng.usize(..list.len());
            spoil(rng, &mut list[at]);
        }
        other => *other = hostile(rng),
    }
}

/// A moment near now.
pub(super) fn moment(rng: &mut Rng) -> u64 {
    let now = crate::wait::now_ms();
    match rng.u32(..4) {
        0 => now.saturating_sub(rng.u64(..100_000)),
        1 => now + 3_600_000,
        _ => now + rng.u64(..2_000),
    }
}

fn payload(rng: &mut Rng) -> Value {
    match rng.u32(..8) {
        0 => Value::Null,
        1 => json!(rng.i64(..)),
        2 => json!("x".repeat(rng.usize(..3_000))),
        3 => hostile(rng),
        4 => json!([rng.f64(), 1, "two", null]),
        _ => json!({"n": rng.u32(..10), "s": name(rng), "a": [1, {"b": 2.0}]}),
    }
}

/// A member, and what gives it values.
type Member = (&'static str, fn(&mut Rng) -> Value);

/// Adds members, each now and then.
fn sometimes(rng: &mut Rng, into: &mut Map<String, Value>, members: &[Member]) {
    for (name, value) in members {
        if once_in(rng, 6) {
            let value = value(rng);
            into.insert((*name).to_owned(), value);
        }
    }
}

fn backoff(rng: &mut Rng) -> Value {
    json!({"base_ms": rng.u32(..1_000), "exponent": rng.f32() * 3.0, "jitter_ms": rng.u32(..100)})
}

fn retention(rng: &mut Rng) -> Value {
    json!({"completed_ms": rng.u32(..5_000), "dead_ms": rng.u32(..5_000)})
}

fn strategy(rng: &mut Rng) -> Value {
    match rng.bool() {
        true => json!({"type": "while_in_flight"}),
        false => json!({"type": "time_based", "duration_ms": rng.u32(1..5_000), "burst": rng.u32(1..9)}),
    }
}

pub(super) fn policy(rng: &mut Rng) -> Value {
    json!({"allocation": rng.u32(1..20), "strategy": strategy(rng)})
}

fn binding(rng: &mut Rng) -> Value {
    json!({"key": name(rng), "cost": rng.u32(1..4), "create_with": policy(rng)})
}

fn batch(rng: &mut Rng) -> Value {
    let when = one_of(rng, &["true", "false", "($existing | length) < 5", ".[", "$new.n > 3"]);
    json!({"key": name(rng), "when": when, "fold": "[$existing, $new] | tostring | .[:50]"})
}

pub(super) fn job(rng: &mut Rng) -> Value {
    let mut job = Map::new();
    job.insert("queue".to_owned(), json!(name(rng)));
    job.insert("type".to_owned(), json!(name(rng)));
    job.insert("payload".to_owned(), payload(rng));
    sometimes(
        rng,
        &mut job,
        &[
            ("priority", |rng| json!(rng.u16(..))),
            ("ready_at", |rng| json!(moment(rng))),
            ("unique_key", |rng| json!(rng.u32(..50).to_string())),
            ("unique_while", |rng| json!(one_of(rng, &["queued", "active", "exists"]))),
            ("backoff", backoff),
            ("retry_limit", |rng| json!(rng.u32(..3))),
            ("retention", retention),
            ("timeout_ms", |rng| json!(rng.u32(1..10_000))),
            ("budgets", |rng| json!([binding(rng)])),
        ],
    );
    // To fold takes a helper.
    if once_in(rng, 300) {
        job.insert("batch".to_owned(), batch(rng));
    }
    Value::Object(job)
}

pub(super) fn patch(rng: &mut Rng) -> Value {
    let mut patch = Map::new();
    sometimes(
        rng,
        &mut patch,
        &[
            ("queue", |rng| json!(name(rng))),
            ("priority", |rng| json!(rng.u16(..))),
            ("ready_at", |rng| json!(moment(rng))),
            ("ready_at", |_| Value::Null),
            ("retry_limit", |rng| json!(rng.u32(..9))),
            ("backoff", backoff),
            ("retention", retention),
        ],
    );
    Value::Object(patch)
}

pub(super) fn failure(rng: &mut Rng) -> Value {
    let mut failure = Map::new();
    failure.insert("message".to_owned(), json!(name(rng)));
    sometimes(
        rng,
        &mut failure,
        &[
            ("error_type", |rng| json!(name(rng))),
            ("backtrace", |rng| json!("at x\n".repeat(rng.usize(..200)))),
            ("retry_at", |rng| json!(moment(rng))),
            ("kill", |rng| json!(rng.bool())),
        ],
    );
    Value::Object(failure)
}

pub(super) fn heartbeat(rng: &mut Rng) -> Value {
    json!({"lease_ms": rng.u32(1_000..20_000), "progress": rng.f64(), "message": name(rng)})
}

/// A list of jobs with their tokens.
pub(super) fn leased(rng: &mut Rng, known: &Known, more: impl Fn(&mut Rng) -> Value) -> Value {
    let jobs = (0..rng.usize(..4)).map(|_| {
        let mut job = more(rng);
        let (id, lease) = known.job(rng);
        if let Some(members) = job.as_object_mut() {
            members.insert("id".to_owned(), json!(id));
            members.extend(lease.map(|lease| ("lease".to_owned(), json!(lease))));
        }
        job
    });
    json!({"jobs": jobs.collect::<Vec<_>>()})
}

pub(super) fn entry(rng: &mut Rng, named: bool) -> Value {
    let expression =
        one_of(rng, &["0 9 * * *", "*/5 * * * *", "* * * * * *", "0 0 30 2 *", "@daily", "x", "61 * * * *"]);
    let mut entry = json!({"expression": expression, "job": job(rng), "paused": rng.bool()});
    if let Some(members) = entry.as_object_mut()
        && named
    {
        members.insert("name".to_owned(), json!(name(rng)));
    }
    entry
}

pub(super) fn group(rng: &mut Rng) -> Value {
    let entries: Vec<Value> = (0..rng.usize(..3)).map(|_| entry(rng, true)).collect();
    json!({"entries": entries, "paused": rng.bool(), "timezone": one_of(rng, &["UTC", "Europe/Berlin", "Nowhere/X"])})
}

pub(super) fn bindings(rng: &mut Rng) -> Value {
    json!({"budgets": (0..rng.usize(..3)).map(|_| binding(rng)).collect::<Vec<_>>()})
}
