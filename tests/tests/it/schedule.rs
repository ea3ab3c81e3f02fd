//! Jobs for later.

use serde_json::{Value, json};
use tests::wait::now_ms;
use tests::{Server, id};

fn job_at(ready_at: u64, payload: u64) -> Value {
    json!({"queue": "q", "type": "t", "payload": payload, "ready_at": ready_at})
}

#[tokio::test]
async fn a_job_for_later_waits_for_its_time() {
    let server = Server::start().await;
    let client = server.client();
    let mut stream = client.lines("queue=q").await;
    let ready_at = now_ms() + 1_000;
    let queued = client.enqueue(&job_at(ready_at, 1)).await;
    assert_eq!((&queued["status"], &queued["ready_at"]), (&json!("scheduled"), &json!(ready_at)));
    assert_eq!(client.job(id(&queued)).await["status"], "scheduled");
    assert_eq!(client.count("status=scheduled").await, 1);
    let taken = stream.next_job().await;
    assert_eq!(id(&taken), id(&queued));
    let dequeued_at = taken["dequeued_at"].as_u64().unwrap();
    assert!((ready_at..ready_at + 5_000).contains(&dequeued_at), "{} ms late", dequeued_at - ready_at);
}

#[tokio::test]
async fn a_past_time_is_kept_as_given() {
    let server = Server::start().await;
    let client = server.client();
    for ready_at in [0, 1_000, now_ms() - 5] {
        let queued = client.enqueue(&job_at(ready_at, 1)).await;
        assert_eq!((&queued["status"], &queued["ready_at"]), (&json!("ready"), &json!(ready_at)));
        let taken = client.poll_one("q").await;
        assert_eq!((id(&taken), &taken["ready_at"]), (id(&queued), &json!(ready_at)));
    }
}

#[tokio::test]
async fn jobs_come_in_the_order_of_their_times() {
    let server = Server::start().await;
    let client = server.client();
    let now = now_ms();
    client.enqueue_all([900, 300, 600, 1_200].map(|ms| job_at(now + ms, ms))).await;
    let mut stream = client.lines("queue=q&prefetch=0").await;
    let payloads: Vec<Value> =
        stream.next_jobs(4).await.into_iter().map(|job| job["payload"].clone()).collect();
    assert_eq!(payloads, [300, 600, 900, 1_200]);
}

#[tokio::test]
async fn among_ready_jobs_an_older_one_comes_first_whenever_it_became_ready() {
    let server = Server::start().await;
    let client = server.client();
    let older = client.enqueue(&job_at(now_ms() + 300, 1)).await;
    let younger = client.enqueue(&job_at(0, 2)).await;
    tests::wait::until("the promotion", async || {
        (client.status(id(&older)).await.as_deref() == Some("ready")).then_some(())
    })
    .await;
    let taken = client.poll(&json!({"limit": 2})).await;
    assert_eq!(taken.iter().map(id).collect::<Vec<_>>(), [id(&older), id(&younger)]);
}

#[tokio::test]
async fn many_jobs_may_be_due_at_once() {
    let server = Server::start().await;
    let client = server.client();
    let ready_at = now_ms() + 1_000;
    for start in (0..5_000).step_by(1_000) {
        client.enqueue_all((start..start + 1_000).map(|n| job_at(ready_at, n))).await;
    }
    let mut stream = client.lines("queue=q&prefetch=0").await;
    let mut seen: Vec<u64> =
        stream.next_jobs(5_000).await.iter().map(|job| job["payload"].as_u64().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..5_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_deleted_job_does_not_come() {
    let server = Server::start().await;
    let client = server.client();
    let now = now_ms();
    let queued = client.enqueue_all([job_at(now + 300, 1), job_at(now + 300, 2)]).await;
    client.delete(&format!("/jobs/{}", id(&queued[0]))).await.expect_nothing();
    let mut stream = client.lines("queue=q").await;
    let taken = stream.next_job().await;
    assert_eq!(taken["payload"], 2);
    client.succeed(&taken).await;
    assert_eq!(client.count("").await, 0);
}

#[tokio::test]
async fn a_far_time_is_fine() {
    let server = Server::start().await;
    let client = server.client();
    let ready_at = 253_402_300_799_999;
    let queued = client.enqueue(&job_at(ready_at, 1)).await;
    assert_eq!((&queued["status"], &queued["ready_at"]), (&json!("scheduled"), &json!(ready_at)));
    client.get("/health").await.expect(200);
}
