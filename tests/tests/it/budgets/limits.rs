//! Budgets under many workers are never over their limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Value, json};
use tests::Server;

use super::{create, in_flight, job, over_time};

/// Workers that succeed with what they get after a moment, until no more comes.
async fn work(
    server: &Server,
    workers: usize,
    prefetch: usize,
    jobs: usize,
    per_job: impl Fn(&Value) + Clone + Send + 'static,
    done: impl Fn(&Value) + Clone + Send + 'static,
) {
    let left = Arc::new(AtomicI64::new(i64::try_from(jobs).unwrap()));
    let mut tasks = Vec::new();
    for _ in 0..workers {
        let (client, left, per_job, done) = (server.client(), left.clone(), per_job.clone(), done.clone());
        tasks.push(tokio::spawn(async move {
            while left.load(Ordering::SeqCst) > 0 {
                let taken = client.poll(&json!({"queues": ["q"], "limit": prefetch, "wait_ms": 200})).await;
                for job in taken {
                    per_job(&job);
                    tokio::task::yield_now().await;
                    // Before the server hears of it: afterwards another may have the tokens already.
                    done(&job);
                    client.succeed(&job).await;
                    left.fetch_sub(1, Ordering::SeqCst);
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn two_hundred_workers_are_never_over_the_limit() {
    let server = Server::start().await;
    let client = server.client();
    create(&client, "k", &in_flight(7)).await;
    create(&client, "l", &in_flight(11)).await;
    let budgets = [
        json!([{"key": "k"}]),
        json!([{"key": "k", "cost": 2}, {"key": "l", "cost": 3}]),
        json!([{"key": "l"}]),
    ];
    client.enqueue_all((0..3_000).map(|i| job("q", &budgets[i % 3]))).await;
    let drawn: Arc<[(AtomicI64, AtomicI64); 2]> = Arc::default();
    let counted = |sign: i64| {
        let drawn = drawn.clone();
        move |job: &Value| {
            for binding in job["budgets"].as_array().unwrap() {
                let (now, most) = &drawn[usize::from(binding["key"] == "l")];
                let now = now.fetch_add(sign * binding["cost"].as_i64().unwrap(), Ordering::SeqCst);
                most.fetch_max(now + binding["cost"].as_i64().unwrap() * sign, Ordering::SeqCst);
            }
        }
    };
    work(&server, 200, 1, 3_000, counted(1), counted(-1)).await;
    let most: Vec<i64> = drawn.iter().map(|(_, most)| most.load(Ordering::SeqCst)).collect();
    assert!(most[0] <= 7 && most[1] <= 11, "drawn at most: {most:?} of 7 and 11");
    assert_eq!(client.count("").await, 0);
}

#[tokio::test]
async fn in_no_window_more_goes_out_than_allocation_and_burst() {
    let server = Server::start().await;
    let client = server.client();
    for (key, allocation, duration_ms, burst) in [("x", 40, 400, Some(5)), ("y", 30, 300, None)] {
        create(&client, key, &over_time(allocation, duration_ms, burst)).await;
    }
    client
        .enqueue_all((0..150).map(|i| job("q", &json!([{"key": if i % 2 == 0 { "x" } else { "y" }}]))))
        .await;
    let times: Arc<std::sync::Mutex<BTreeMap<String, Vec<u64>>>> = Arc::default();
    let note = {
        let times = times.clone();
        move |job: &Value| {
            let key = job["budgets"][0]["key"].as_str().unwrap().to_owned();
            times.lock().unwrap().entry(key).or_default().push(job["dequeued_at"].as_u64().unwrap());
        }
    };
    work(&server, 20, 5, 150, note, |_| {}).await;
    let mut times = times.lock().unwrap().clone();
    for (key, allocation, duration_ms, burst) in [("x", 40, 400, 5), ("y", 30, 300, 30)] {
        let times = times.get_mut(key).unwrap();
        times.sort_unstable();
        for (i, start) in times.iter().enumerate() {
            let within = times[i..].iter().take_while(|at| **at <= start + duration_ms).count();
            assert!(within <= allocation + burst, "{within} of {key} from {start} on: {times:?}");
        }
        // The first may find a part of a token beside the full pool.
        let (took, most) = (times.last().unwrap() - times[0], times.len() - burst - 1);
        let least_ms = most as u64 * duration_ms / allocation as u64;
        assert!(took >= least_ms, "{} of {key} took only {took} ms, not {least_ms}", times.len());
    }
}
