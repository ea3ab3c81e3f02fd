//! Order, held against a model: a set sorted by priority and id.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tests::{Client, Server, id};

/// A small generator of numbers that only look random, so that a failure can be run again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What the server should hold.
#[derive(Default)]
struct Model {
    ready: BTreeSet<(u64, String)>,
    held: BTreeMap<String, Value>,
}

impl Model {
    /// The ready job at this place of the order.
    fn nth(&self, n: u64) -> Option<(u64, String)> {
        self.ready.iter().nth(usize::try_from(n).unwrap()).cloned()
    }

    async fn enqueue(&mut self, client: &Client, numbers: &mut Numbers) {
        let n = 1 + numbers.below(60);
        let jobs: Vec<Value> = (0..n)
            .map(|_| {
                let priority = [0, 5, 32_768, 65_535][usize::try_from(numbers.below(4)).unwrap()];
                json!({"queue": format!("q{}", numbers.below(3)), "type": "t", "payload": 1, "priority": priority})
            })
            .collect();
        for job in client.enqueue_all(jobs).await {
            self.ready.insert((job["priority"].as_u64().unwrap(), id(&job).to_owned()));
        }
    }

    async fn take(&mut self, client: &Client, limit: u64) {
        let taken = client.poll(&json!({"limit": limit, "lease_ms": 600_000})).await;
        for job in &taken {
            let (_, first) =
                self.ready.pop_first().unwrap_or_else(|| panic!("nothing should be left but {job}"));
            assert_eq!(id(job), first, "the first of what is ready");
            self.held.insert(first, job.clone());
        }
        let rest = self.ready.len();
        assert!(taken.len() as u64 == limit || rest == 0, "{rest} ready jobs were kept back");
    }

    async fn end_one(&mut self, client: &Client, numbers: &mut Numbers) {
        let Some((_, job)) = self.held.pop_last() else { return };
        if numbers.below(2) == 0 {
            client.succeed(&job).await;
        } else {
            client.release(&job).await;
            self.ready.insert((job["priority"].as_u64().unwrap(), id(&job).to_owned()));
        }
    }

    async fn delete_one(&mut self, client: &Client, numbers: &mut Numbers) {
        let Some(gone) = self.nth(numbers.below(self.ready.len().max(1) as u64)) else { return };
        client.delete(&format!("/jobs/{}", gone.1)).await.expect_nothing();
        self.ready.remove(&gone);
    }
}

/// The ids of all jobs in a status.
async fn all(client: &Client, status: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut next = Some(format!("/jobs?status={status}&limit=2000"));
    while let Some(link) = next {
        let page = client.get(&link).await.expect(200);
        ids.extend(page["jobs"].as_array().unwrap().iter().map(|job| id(job).to_owned()));
        next = page["pages"]["next"].as_str().map(str::to_owned);
    }
    ids
}

async fn hold_against_a_model(seed: u64) {
    let mut server = Server::start().await;
    let (mut model, mut numbers) = (Model::default(), Numbers(seed));
    for step in 0..400 {
        let client = server.client();
        match numbers.below(10) {
            0..4 => model.enqueue(&client, &mut numbers).await,
            4..6 => model.take(&client, 1 + numbers.below(40)).await,
            6..9 => model.end_one(&client, &mut numbers).await,
            _ => model.delete_one(&client, &mut numbers).await,
        }
        if step % 100 == 99 {
            // Leases that are older than a second outlive a crash.
            client.let_pass(2_000).await;
            server.kill9().await;
            server.restart().await;
        }
    }
    let client = server.client();
    let ready: BTreeSet<String> = model.ready.iter().map(|(_, id)| id.clone()).collect();
    assert_eq!(all(&client, "ready").await, ready, "seed {seed}");
    assert_eq!(all(&client, "in_flight").await, model.held.keys().cloned().collect(), "seed {seed}");
    model.take(&client, 1_000).await;
}

#[tokio::test]
async fn jobs_come_by_priority_and_age_whatever_happens_in_between() {
    tokio::join!(hold_against_a_model(1), hold_against_a_model(2), hold_against_a_model(3));
}

#[tokio::test]
async fn urgent_jobs_overtake_a_long_queue_that_is_being_drained() {
    let server = Server::start().await;
    let client = server.client();
    for _ in 0..5 {
        client.enqueue_all((0..1_000).map(|_| json!({"queue": "q", "type": "t", "payload": "plain"}))).await;
    }
    let mut last = String::new();
    for _ in 0..50 {
        client.enqueue(&json!({"queue": "q", "type": "t", "payload": "late", "priority": 40_000})).await;
        client.enqueue(&json!({"queue": "q", "type": "t", "payload": "urgent", "priority": 3})).await;
        let taken = client.poll(&json!({"limit": 100, "lease_ms": 600_000})).await;
        assert_eq!(taken[0]["payload"], "urgent");
        assert_eq!(taken.len(), 100);
        for job in &taken[1..] {
            assert_eq!(job["payload"], "plain");
            assert!(id(job) > last.as_str(), "{} after {last}", id(job));
            id(job).clone_into(&mut last);
        }
    }
    assert_eq!(client.count("status=ready").await, 100);
}
