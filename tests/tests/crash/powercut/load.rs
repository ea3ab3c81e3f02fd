//! What the clients do before the power goes.

use serde_json::{Value, json};
use tests::Client;
use tokio::task::JoinSet;

const CLIENTS: u64 = 6;
const ROUNDS: u64 = 12;
/// A journal is rotated when it has 64 MB.
const FILL_BYTES: usize = 70_000_000;
const FAT_BYTES: usize = 400_000;

/// Enqueues so much that journals are rotated. Most of it is deleted again before it gets into a table.
pub(crate) async fn fill(client: &Client) {
    let text: String = std::iter::repeat_with(fastrand::alphanumeric).take(FAT_BYTES).collect();
    for n in 0..FILL_BYTES / FAT_BYTES {
        let job = client.enqueue(&json!({"queue": "fat", "type": "t", "payload": text})).await;
        if !n.is_multiple_of(20) {
            client.delete(&format!("/jobs/{}", tests::id(&job))).await;
        }
    }
}

/// Enqueues, takes, succeeds and fails, all at once.
pub(crate) async fn run(client: &Client) {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = client.clone();
        clients.spawn(async move {
            for round in 0..ROUNDS {
                produce(&client, number * 1_000 + round * 10).await;
                consume(&client, round).await;
            }
        });
    }
    clients.join_all().await;
}

async fn produce(client: &Client, n: u64) {
    let job = |n: u64| {
        let text = "x".repeat(usize::try_from(n % 97 * 30).unwrap_or_default());
        json!({"queue": "q", "type": "t", "payload": {"n": n, "text": text}})
    };
    client.enqueue(&job(n)).await;
    client.enqueue_all((n + 1..n + 5).map(job)).await;
}

async fn consume(client: &Client, round: u64) {
    let jobs = client.poll(&json!({"limit": 3})).await;
    let Some((first, rest)) = jobs.split_first() else { return };
    if round.is_multiple_of(4) {
        client.fail(first, &json!({"message": "m", "retry_at": 1})).await;
    } else {
        client.succeed(first).await;
    }
    let rest: Vec<Value> =
        rest.iter().map(|job| json!({"id": tests::id(job), "lease": tests::lease(job)})).collect();
    if !rest.is_empty() {
        client.post("/jobs/success", &json!({"jobs": rest})).await.expect_nothing();
    }
}
