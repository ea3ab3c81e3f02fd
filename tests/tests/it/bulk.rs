//! Changing many jobs by filters.

use serde_json::{Value, json};
use tests::{Client, Server, Wire, id};

const NEVER: u64 = 253_402_300_799_999;

/// One job in each status, in the queue of that name, and a second ready one in queue `other`.
async fn one_of_each(client: &Client) {
    let retention = json!({"completed_ms": 600_000});
    let job = |queue: &str| json!({"queue": queue, "type": queue, "payload": 1, "retention": retention});
    client.enqueue_all(["completed", "dead", "scheduled", "in_flight", "ready", "other"].map(job)).await;
    let completed = client.poll_one("completed").await;
    client.succeed(&completed).await;
    let dead = client.poll_one("dead").await;
    client.fail(&dead, &json!({"message": "m", "kill": true})).await;
    let scheduled = client.poll_one("scheduled").await;
    client.fail(&scheduled, &json!({"message": "m", "retry_at": NEVER})).await;
    client.poll_one("in_flight").await;
}

async fn delete(client: &Client, filters: &str) -> Value {
    client.delete(&format!("/jobs?{filters}")).await.expect(200)
}

async fn patch(client: &Client, filters: &str, patch: Value) -> Value {
    client.patch(&format!("/jobs?{filters}"), &patch).await.expect(200)
}

async fn retry(client: &Client, filters: &str) -> Value {
    client.poke(&format!("/jobs/retry?{filters}")).await.expect(200)
}

#[tokio::test]
async fn a_bulk_patch_changes_what_has_not_ended() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        one_of_each(&client).await;
        assert_eq!(patch(&client, "", json!({})).await, json!({"patched": 4}), "counts the matches");
        assert_eq!(patch(&client, "dry_run=true", json!({"priority": 9})).await["patched"], 4);
        assert_eq!(client.count("priority=9").await, 0, "nothing was changed");
        assert_eq!(patch(&client, "", json!({"priority": 9})).await, json!({"patched": 4}));
        assert_eq!(client.count("priority=9").await, 4);
        assert_eq!(
            patch(&client, "status=ready&type=ready", json!({"queue": "x"})).await,
            json!({"patched": 1})
        );
        assert_eq!(client.count("queue=x&status=ready").await, 1);
        assert_eq!(patch(&client, "queue=nobody", json!({"priority": 1})).await, json!({"patched": 0}));
        for status in ["completed", "dead", "ready,dead"] {
            let refused = client.patch(&format!("/jobs?status={status}"), &json!({"priority": 1})).await;
            refused.expect_refusal(422, "status");
        }
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_bulk_retry_takes_dead_jobs_unless_told_otherwise() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        one_of_each(&client).await;
        assert_eq!(retry(&client, "dry_run=true").await["retried"], 1);
        assert_eq!(client.count("status=dead").await, 1);
        assert_eq!(retry(&client, "").await, json!({"retried": 1}));
        assert_eq!(client.count("queue=dead&status=ready").await, 1);
        assert_eq!(retry(&client, "status=scheduled,completed").await, json!({"retried": 2}));
        assert_eq!((client.count("status=ready").await, client.count("").await), (5, 6));
        let refused = client.poke("/jobs/retry?status=ready").await;
        refused.expect_refusal(422, "status");
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_bulk_delete_takes_everything_that_matches() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        one_of_each(&client).await;
        let mut stream = client.events("queue=other").await;
        stream.next_job().await;
        assert_eq!(delete(&client, "dry_run=true").await["deleted"], 6);
        assert_eq!(client.count("").await, 6);
        assert_eq!(delete(&client, "status=in_flight,dead").await, json!({"deleted": 3}));
        assert!(matches!(stream.next_message().await, Some(tests::Item::Cancel(_))));
        assert_eq!(delete(&client, "attempts=1..").await, json!({"deleted": 1}));
        assert_eq!(delete(&client, "").await, json!({"deleted": 2}));
        assert_eq!((client.count("").await, delete(&client, "").await), (0, json!({"deleted": 0})));
        client.delete("/jobs?dry_run=maybe").await.expect_refusal(400, "dry_run");
        client.delete("/jobs?order=desc").await.expect_refusal(400, "order");
    }
}

#[tokio::test]
async fn thousands_are_changed_while_others_work() {
    let server = Server::start().await;
    let client = server.client();
    for n in 0..10 {
        let jobs = (0..1_000).map(|m| {
            json!({"queue": if m % 2 == 0 { "even" } else { "odd" }, "type": "t", "payload": n, "priority": m % 3})
        });
        client.enqueue_all(jobs).await;
    }
    let worker = tokio::spawn({
        let client = client.clone();
        async move {
            let mut stream = client.lines("queue=other").await;
            for _ in 0..50 {
                let queued = client.add("other").await;
                let taken = stream.next_job().await;
                assert_eq!(id(&taken), id(&queued));
                client.succeed(&taken).await;
            }
        }
    });
    assert_eq!(patch(&client, "queue=even", json!({"queue": "moved"})).await, json!({"patched": 5_000}));
    assert_eq!(patch(&client, "queue=odd", json!({"ready_at": NEVER})).await, json!({"patched": 5_000}));
    let counts =
        (client.count("queue=moved&status=ready").await, client.count("queue=odd&status=scheduled").await);
    assert_eq!((counts, client.count("queue=even").await), ((5_000, 5_000), 0));
    assert_eq!(retry(&client, "status=scheduled").await, json!({"retried": 5_000}));
    worker.await.unwrap();
    let taken = client.poll(&json!({"queues": ["moved", "odd"], "limit": 1_000})).await;
    assert!(taken.iter().all(|job| job["priority"] == 0) && taken.is_sorted_by_key(|job| id(job).to_owned()));
    assert_eq!(delete(&client, "").await, json!({"deleted": 10_000}));
    assert_eq!(client.count("").await, 0);
}
