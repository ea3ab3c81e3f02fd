//! Walks through pages while everything around changes: no job comes twice, and none is skipped that was there, and
//! asked for, all the time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tests::{Client, Server, id};
use tokio::task::JoinSet;

const QUEUES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
const WALKS: usize = 2;

fn one<T: Copy>(values: &[T]) -> T {
    values[fastrand::usize(..values.len())]
}

fn job(kind: &str) -> Value {
    json!({
        "queue": one(&QUEUES), "type": kind, "payload": {"keep": kind == "keep"}, "priority": fastrand::u8(..4),
        "retention": {"completed_ms": 3_600_000},
    })
}

/// Jobs that stay, some ended, some scheduled, the others ready, among others that do not.
async fn keep(client: &Client) -> BTreeSet<String> {
    let mut kept = BTreeSet::new();
    for n in 0..90 {
        let mut new = job("keep");
        if n % 5 == 0 {
            new["ready_at"] = json!(253_402_300_799_000_u64);
        }
        kept.insert(id(&client.enqueue(&new).await).to_owned());
        client.enqueue(&job("chaff")).await;
    }
    for taken in client.poll(&json!({"limit": 40})).await {
        if fastrand::bool() {
            client.succeed(&taken).await;
        } else {
            client.fail(&taken, &json!({"message": "m", "kill": true})).await;
        }
    }
    kept
}

/// Something that happens again and again.
async fn stir(client: &Client, kept: &[String], what: usize) {
    match what {
        0 => drop(client.enqueue_all((0..4).map(|_| job("chaff"))).await),
        1 => {
            for taken in client.poll(&json!({"queues": QUEUES, "limit": 12})).await {
                let of = |what: &str| format!("/jobs/{}{what}", id(&taken));
                let answer = match fastrand::u8(..3) {
                    _ if taken["type"] == "keep" => client.poke(&of("/release")).await,
                    0 => client.poke(&of("/success")).await,
                    1 => client.post(&of("/failure"), &json!({"message": "m", "kill": true})).await,
                    _ => client.delete(&of("")).await,
                };
                // Others may have deleted it in the meantime.
                let is_gone = answer.status == 404 && taken["type"] == "chaff";
                assert!(is_gone || [200, 204].contains(&answer.status), "{answer:?}");
            }
        }
        2 => {
            // To another place in the store, also while it is in flight. Where it has ended, that is refused.
            let patch = json!({"priority": fastrand::u8(..4), "queue": one(&QUEUES)});
            let path = format!("/jobs/{}", one(&kept.iter().collect::<Vec<_>>()));
            let answer = client.patch(&path, &patch).await;
            assert!([200, 422].contains(&answer.status), "{answer:?}");
        }
        3 => {
            let filters = format!("type=chaff&priority={}", fastrand::u8(..4));
            client
                .patch(&format!("/jobs?{filters}"), &json!({"priority": fastrand::u8(..4)}))
                .await
                .expect(200);
        }
        _ => {
            let filters = format!("type=chaff&priority={}", fastrand::u8(..4));
            client.delete(&format!("/jobs?{filters}")).await.expect(200);
        }
    }
}

/// Follows the links from this page, and gives back the ids of all of them and the last page. It ends behind `last`,
/// where no job is that was there at the beginning.
async fn follow(client: &Client, first: String, is_behind: impl Fn(&str) -> bool) -> (Vec<String>, Value) {
    let (mut ids, mut link) = (Vec::new(), first);
    loop {
        let page = client.get(&link).await.expect(200);
        ids.extend(page["jobs"].as_array().unwrap().iter().map(|job| id(job).to_owned()));
        let next = page["pages"]["next"].as_str().map(str::to_owned);
        match next {
            Some(next) if !ids.last().is_some_and(|last| is_behind(last)) => link = next,
            _ => return (ids, page),
        }
    }
}

fn check(walked: &[String], kept: &BTreeSet<String>, what: &str) {
    let seen: BTreeSet<&String> = walked.iter().collect();
    assert_eq!(seen.len(), walked.len(), "{what}: a job comes twice");
    let skipped: Vec<&String> = kept.iter().filter(|id| !seen.contains(id)).collect();
    assert!(skipped.is_empty(), "{what}: {} of {} are skipped: {skipped:?}", skipped.len(), kept.len());
}

#[tokio::test]
async fn paging_shows_every_job_once_while_jobs_change() {
    let server = Server::start().await;
    let client = server.client();
    let kept = keep(&client).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut stirring = JoinSet::new();
    for what in [0, 1, 1, 2, 2, 3, 4] {
        let (client, over) = (server.client(), over.clone());
        let kept: Vec<String> = kept.iter().cloned().collect();
        stirring.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                stir(&client, &kept, what).await;
            }
        });
    }
    let last = kept.last().unwrap();
    let by_queue = format!("queue={}&type=keep", QUEUES.join(","));
    for filters in ["", "type=keep", "filter=.keep", &by_queue, "priority=..3"] {
        for n in 0..WALKS {
            let what = format!("`{filters}`, walk {n}");
            let from = format!("/jobs?{filters}&limit={}", one(&[4, 9, 40]));
            let (forward, page) = follow(&client, from, |id| id > last.as_str()).await;
            check(&forward, &kept, &what);
            assert!(forward.is_sorted(), "{what}");
            // And back: the last page, and everything before it.
            let mut back: Vec<String> =
                page["jobs"].as_array().unwrap().iter().rev().map(|job| id(job).to_owned()).collect();
            if let Some(prev) = page["pages"]["prev"].as_str() {
                back.extend(follow(&client, prev.to_owned(), |_| false).await.0);
            }
            check(&back, &kept, &format!("{what}, back"));
            assert!(back.is_sorted_by(|a, b| a > b), "{what}, back");
        }
    }
    over.store(true, Ordering::Relaxed);
    while let Some(stirred) = stirring.join_next().await {
        stirred.unwrap();
    }
}
