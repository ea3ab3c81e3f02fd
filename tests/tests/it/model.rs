//! Random filters over random jobs, held against what a look at each job by itself says.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};
use tests::{Client, Server, id};

const SEEDS: u64 = 6;
const JOBS: usize = 120;
const FILTERS: usize = 40;
const QUEUES: [&str; 4] = ["a", "b", "c", "nowhere"];
const TYPES: [&str; 3] = ["x", "y", "never"];
const BUDGETS: [&str; 3] = ["m", "n", "none"];
const STATUSES: [&str; 5] = ["scheduled", "ready", "in_flight", "completed", "dead"];
const LATER: u64 = 253_402_300_799_000;

/// Says which seed it was when a test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {}", self.0);
        }
    }
}

fn one<T: Copy>(rng: &mut Rng, values: &[T]) -> T {
    values[rng.usize(..values.len())]
}

fn some<'a>(rng: &mut Rng, values: &[&'a str]) -> Vec<&'a str> {
    let first = one(rng, values);
    let mut some: Vec<&str> = values.iter().copied().filter(|_| rng.u8(..3) == 0).collect();
    some.push(first);
    some
}

fn payload(rng: &mut Rng) -> Value {
    match rng.u8(..8) {
        0 => Value::Null,
        1 => json!("a text"),
        2 => json!(rng.u8(..4)),
        3 => json!([1, 2, 3]),
        4 => json!({"name": "ada"}),
        _ => {
            json!({"user": rng.u8(..5), "name": one(rng, &["ada", "bob", "ä"]), "tags": some(rng, &["p", "q"])})
        }
    }
}

/// Jobs of every kind, as each is shown by itself.
async fn jobs(client: &Client, rng: &mut Rng) -> BTreeMap<String, Value> {
    let mut fates = BTreeMap::new();
    for _ in 0..JOBS {
        let status = one(rng, &STATUSES);
        let attempts = if status == "scheduled" && rng.bool() { 0 } else { rng.u64(..3) };
        let budgets = BUDGETS[..2].iter().filter(|_| rng.u8(..4) == 0);
        let policy = json!({"allocation": 1_000_000, "strategy": {"type": "while_in_flight"}});
        let budgets: Vec<Value> = budgets.map(|key| json!({"key": key, "create_with": policy})).collect();
        let mut job = json!({
            "queue": one(rng, &QUEUES[..3]), "type": one(rng, &TYPES[..2]), "payload": payload(rng),
            "priority": one(rng, &[0, 5, 6, 65_535]), "budgets": budgets,
            "retention": {"completed_ms": 3_600_000, "dead_ms": 3_600_000},
        });
        if status == "scheduled" && attempts == 0 {
            job["ready_at"] = json!(LATER - rng.u64(..5));
        }
        fates.insert(id(&client.enqueue(&job).await).to_owned(), (status, attempts));
    }
    // Each round brings every job that is to fail again one failure further.
    for round in 0..3 {
        let taken = client.poll(&json!({"limit": 1_000, "lease_ms": 3_600_000})).await;
        for job in &taken {
            let (status, attempts) = fates[id(job)];
            if job["attempts"].as_u64().unwrap() < attempts {
                let is_last = status == "scheduled" && job["attempts"] == attempts - 1;
                let retry_at = if is_last { LATER - rng.u64(..5) } else { 1 };
                client.fail(job, &json!({"message": "m", "retry_at": retry_at})).await;
            } else if round < 2 {
                client.release(job).await;
            } else {
                match status {
                    "in_flight" => {}
                    "completed" => client.succeed(job).await,
                    "dead" => drop(client.fail(job, &json!({"message": "m", "kill": true})).await),
                    "ready" => client.release(job).await,
                    other => panic!("{other} was handed out"),
                }
            }
        }
    }
    let mut jobs = BTreeMap::new();
    for (id, (status, attempts)) in fates {
        let job = client.job(&id).await;
        let attempts = attempts + u64::from(status == "dead");
        assert_eq!((&job["status"], &job["attempts"]), (&json!(status), &json!(attempts)), "{job}");
        jobs.insert(id, job);
    }
    jobs
}

type Test = Box<dyn Fn(&Value) -> bool>;

/// A condition as the server is told it, and as it is meant.
type Condition = (String, Test);

fn listed(name: &'static str, member: &'static str, values: Vec<String>) -> Condition {
    let query = format!("{name}={}", values.join(","));
    (query, Box::new(move |job| values.iter().any(|value| job[member] == **value)))
}

fn range(rng: &mut Rng, name: &'static str, jobs: &BTreeMap<String, Value>) -> Condition {
    let seen: Vec<u64> = jobs.values().map(|job| job[name].as_u64().unwrap()).collect();
    let (a, b) = (one(rng, &seen), one(rng, &seen));
    let (low, high) = (a.min(b), a.max(b));
    let (text, low, high) = match rng.u8(..5) {
        0 => (format!("{low}"), low, low),
        1 => (format!("{low}..{high}"), low, high),
        2 => (format!("..{high}"), 0, high),
        3 => (format!("{low}.."), low, u64::MAX),
        _ => ("..".to_owned(), 0, u64::MAX),
    };
    (format!("{name}={text}"), Box::new(move |job| (low..=high).contains(&job[name].as_u64().unwrap())))
}

fn over_payload(rng: &mut Rng) -> Condition {
    let is_true = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    let user = |payload: &Value| payload["user"].as_u64();
    let all: [(&str, Test); 7] = [
        (".user%20==%202", Box::new(move |p| user(p) == Some(2))),
        (
            ".user%20%3E%201%20and%20.name%20==%20%22ada%22",
            Box::new(move |p| user(p) > Some(1) && p["name"] == "ada"),
        ),
        (".", Box::new(is_true)),
        (".user", Box::new(move |p| user(p).is_some())),
        (".%20==%20null", Box::new(|p| p.is_null())),
        (
            ".tags%20|%20any(.%20==%20%22q%22)",
            Box::new(|p| p["tags"].as_array().is_some_and(|tags| tags.contains(&json!("q")))),
        ),
        (".name%20|%20startswith(%22%C3%A4%22)", Box::new(|p| p["name"] == "ä")),
    ];
    let at = rng.usize(..all.len());
    let (text, holds) = all.into_iter().nth(at).unwrap();
    (format!("filter={text}"), Box::new(move |job| holds(&job["payload"])))
}

fn conditions(rng: &mut Rng, jobs: &BTreeMap<String, Value>) -> Vec<Condition> {
    let text = |values: Vec<&str>| values.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let mut kinds: Vec<u8> = (0..9).collect();
    rng.shuffle(&mut kinds);
    kinds.truncate(rng.usize(0..4));
    let condition = |kind: u8| match kind {
        0 => {
            let mut ids: Vec<String> = jobs.keys().filter(|_| rng.u8(..10) < 3).cloned().collect();
            ids.push("0".repeat(25));
            listed("id", "id", ids)
        }
        1 => listed("queue", "queue", text(some(rng, &QUEUES))),
        2 => listed("type", "type", text(some(rng, &TYPES))),
        3 => listed("status", "status", text(some(rng, &STATUSES))),
        4 => {
            let keys = some(rng, &BUDGETS);
            let query = format!("budgets.key={}", keys.join(","));
            let keys: Vec<String> = text(keys);
            let draws = move |job: &Value| {
                let bound = job["budgets"].as_array();
                bound.is_some_and(|all| all.iter().any(|b| keys.iter().any(|key| b["key"] == **key)))
            };
            (query, Box::new(draws) as Test)
        }
        5 => range(rng, "priority", jobs),
        6 => range(rng, "ready_at", jobs),
        7 => range(rng, "attempts", jobs),
        _ => over_payload(rng),
    };
    kinds.into_iter().map(condition).collect()
}

/// The ids of all pages, by their links.
async fn walk(client: &Client, query: &str, order: &str, limit: usize) -> Vec<String> {
    let (mut ids, mut next) = (Vec::new(), Some(format!("/jobs?{query}&order={order}&limit={limit}")));
    while let Some(link) = next {
        let page = client.get(&link).await.expect(200);
        let jobs = page["jobs"].as_array().unwrap();
        assert!(jobs.len() <= limit, "{} jobs on {link}", jobs.len());
        ids.extend(jobs.iter().map(|job| id(job).to_owned()));
        next = page["pages"]["next"].as_str().map(str::to_owned);
    }
    ids
}

/// How many a dry run would change; none where the call is refused.
async fn would(client: &Client, method: &str, path: &str, query: &str) -> Option<u64> {
    let method = http::Method::from_bytes(method.as_bytes()).unwrap();
    let mut call = client.call(method.clone(), &format!("{path}?{query}&dry_run=true"));
    if method == http::Method::PATCH {
        call = call.value(&json!({"priority": 7}));
    }
    let answer = call.await;
    if answer.status == 422 {
        return None;
    }
    answer.expect(200).as_object().unwrap().values().next().unwrap().as_u64()
}

/// How many jobs calls that change them would change, by a dry run of each: those that delete and those that patch. None where
/// the call is refused.
async fn dry_runs(
    client: &Client,
    query: &str,
    conditions: &[Condition],
    matching: &[&Value],
) -> [Option<u64>; 2] {
    let of = |statuses: &[&str]| {
        let has = |job: &&&Value| statuses.iter().any(|status| job["status"] == **status);
        matching.iter().filter(has).count() as u64
    };
    let named = |statuses: &[&str]| {
        let text = query.split('&').find_map(|part| part.strip_prefix("status="));
        text.map(|text| text.split(',').any(|name| statuses.contains(&name)))
    };
    // Calls that change jobs want a boolean of each job they would change, and refuse anything else. What lists take for a
    // match is no boolean here: no payload, and no user, is one.
    let is_condition =
        !conditions.iter().any(|(text, _)| matches!(text.as_str(), "filter=." | "filter=.user"));
    let unless_refused = |count: &u64| is_condition || *count == 0;
    let deleted = Some(matching.len() as u64).filter(unless_refused);
    assert_eq!(would(client, "DELETE", "/jobs", query).await, deleted, "{query}");
    let is_finished = named(&STATUSES[3..]) == Some(true);
    let patched = (!is_finished).then(|| of(&STATUSES[..3])).filter(unless_refused);
    assert_eq!(would(client, "PATCH", "/jobs", query).await, patched, "{query}");
    let retried = match named(&["ready", "in_flight"]) {
        None => Some(of(&["dead"])),
        Some(false) => Some(matching.len() as u64),
        Some(true) => None,
    };
    let retried = retried.filter(unless_refused);
    assert_eq!(would(client, "POST", "/jobs/retry", query).await, retried, "{query}");
    [deleted, patched]
}

#[tokio::test]
async fn every_filter_finds_what_a_look_at_each_job_finds() {
    let server = Server::start().await;
    let client = server.client();
    for seed in 0..SEEDS {
        let _seed = Seed(seed);
        let rng = &mut Rng::with_seed(seed);
        client.poke("/reset").await.expect_nothing();
        let mut jobs = jobs(&client, rng).await;
        for _ in 0..FILTERS {
            let conditions = conditions(rng, &jobs);
            let query = conditions.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join("&");
            let holds = |job: &&Value| conditions.iter().all(|(_, holds)| holds(job));
            let matching: Vec<&Value> = jobs.values().filter(holds).collect();
            let ids: Vec<String> = matching.iter().map(|job| id(job).to_owned()).collect();
            assert_eq!(client.count(&query).await, ids.len() as u64, "count of {query}");
            let limit = one(rng, &[1, 7, 50, 2_000]).max(ids.len() / 9 + 1);
            assert_eq!(walk(&client, &query, "asc", limit).await, ids, "{query}");
            let mut descending = walk(&client, &query, "desc", limit).await;
            descending.reverse();
            assert_eq!(descending, ids, "{query}, descending");
            let [deleted, patched] = dry_runs(&client, &query, &conditions, &matching).await;
            if patched.is_some() && rng.u8(..4) == 0 {
                let priority = rng.u16(..10);
                let answer = client.patch(&format!("/jobs?{query}"), &json!({"priority": priority})).await;
                assert_eq!(answer.expect(200), json!({"patched": patched}), "{query}");
                for id in &ids {
                    let job = jobs.get_mut(id).unwrap();
                    if STATUSES[..3].iter().any(|status| job["status"] == **status) {
                        job["priority"] = json!(priority);
                    }
                }
            } else if ids.len() < 4 {
                let answer = client.delete(&format!("/jobs?{query}")).await;
                if deleted.is_none() {
                    answer.expect_refusal(422, "filter");
                    continue;
                }
                assert_eq!(answer.expect(200), json!({"deleted": ids.len()}), "{query}");
                ids.iter().for_each(|id| drop(jobs.remove(id)));
            }
        }
        for (id, job) in &jobs {
            assert_eq!(client.job(id).await, *job);
        }
    }
}
