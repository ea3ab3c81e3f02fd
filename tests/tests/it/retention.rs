//! What is kept of a job after its end, and for how long.

use serde_json::{Value, json};
use tests::wait::{now_ms, until};
use tests::{Client, Server, id};

fn ms(job: &Value, member: &str) -> u64 {
    job[member].as_u64().unwrap_or_else(|| panic!("no {member} in {job}"))
}

/// A job that was run, with what is set about its retention.
async fn run(client: &Client, retention: Value) -> Value {
    let queued =
        client.enqueue(&json!({"queue": "q", "type": "t", "payload": "p", "retention": retention})).await;
    let taken = client.poll_one("q").await;
    assert_eq!(id(&taken), id(&queued));
    taken
}

async fn expect_gone(client: &Client, job: &Value) {
    client.get(&format!("/jobs/{}", id(job))).await.expect_refusal(404, id(job));
    client.get(&format!("/jobs/{}/errors", id(job))).await.expect_refusal(404, id(job));
    assert_eq!(client.get(&format!("/jobs?id={}", id(job))).await.expect(200)["jobs"], json!([]));
    assert_eq!(client.count(&format!("id={}", id(job))).await, 0);
    client.delete(&format!("/jobs/{}", id(job))).await.expect_refusal(404, id(job));
}

#[tokio::test]
async fn a_completed_job_is_gone_by_default() {
    let server = Server::start().await;
    let client = server.client();
    let taken = run(&client, Value::Null).await;
    client.succeed(&taken).await;
    expect_gone(&client, &taken).await;
    assert_eq!(client.get("/queues").await.expect(200), json!({"queues": []}));
}

#[tokio::test]
async fn a_completed_job_is_kept_where_wanted() {
    let server = Server::with(["--default-completed-job-retention", "1h"]).await;
    let client = server.client();
    for (own, kept_ms) in [(Value::Null, 3_600_000), (json!({"completed_ms": 60_000}), 60_000)] {
        let taken = run(&client, own).await;
        client.succeed(&taken).await;
        let kept = client.job(id(&taken)).await;
        assert_eq!((&kept["status"], &kept["payload"]), (&json!("completed"), &json!("p")));
        assert!(ms(&kept, "completed_at") >= ms(&taken, "dequeued_at"));
        assert_eq!(ms(&kept, "purge_at"), ms(&kept, "completed_at") + kept_ms);
        client.poke(&format!("/jobs/{}/success", id(&taken))).await.expect_refusal(404, id(&taken));
    }
    let taken = run(&client, json!({"completed_ms": 0})).await;
    client.succeed(&taken).await;
    expect_gone(&client, &taken).await;
    assert_eq!(client.count("status=completed").await, 2);
    assert_eq!(client.poll(&json!({})).await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_dead_job_is_kept_for_a_week_by_default() {
    let server = Server::start().await;
    let client = server.client();
    let taken = run(&client, Value::Null).await;
    let dead = client.fail(&taken, &json!({"message": "m", "kill": true})).await;
    assert_eq!(ms(&dead, "purge_at"), ms(&dead, "failed_at") + 7 * 24 * 3_600_000);
    assert_eq!(client.job(id(&taken)).await["payload"], "p");

    let server = Server::with(["--default-dead-job-retention", "2d"]).await;
    let client = server.client();
    let taken = run(&client, json!({"completed_ms": 1})).await;
    let dead = client.fail(&taken, &json!({"message": "m", "kill": true})).await;
    assert_eq!(ms(&dead, "purge_at"), ms(&dead, "failed_at") + 2 * 24 * 3_600_000);
}

#[tokio::test]
async fn a_dead_job_without_retention_answers_and_is_gone() {
    let server = Server::start().await;
    let client = server.client();
    let taken = run(&client, json!({"dead_ms": 0})).await;
    let dead = client.fail(&taken, &json!({"message": "m", "kill": true})).await;
    assert_eq!((&dead["status"], &dead["attempts"]), (&json!("dead"), &json!(1)));
    expect_gone(&client, &taken).await;
}

#[tokio::test]
async fn a_job_past_its_retention_is_invisible_and_purged() {
    let server = Server::start().await;
    let client = server.client();
    for end in ["completed", "dead"] {
        let taken = run(&client, json!({"completed_ms": 400, "dead_ms": 400})).await;
        if end == "completed" {
            client.succeed(&taken).await;
        } else {
            client.fail(&taken, &json!({"message": "m", "kill": true})).await;
        }
        let shown = client.job(id(&taken)).await;
        assert_eq!(shown["status"], end);
        client.let_pass(500).await;
        assert!(now_ms() > ms(&shown, "purge_at"));
        expect_gone(&client, &taken).await;
    }
    until("the queue to be purged", async || {
        (client.get("/queues").await.expect(200) == json!({"queues": []})).then_some(())
    })
    .await;
}

#[tokio::test]
async fn retention_goes_on_over_a_restart() {
    let mut server = Server::start().await;
    let client = server.client();
    let mut ended = Vec::new();
    for kept_ms in [600_000, 1_000] {
        let completed = run(&client, json!({"completed_ms": kept_ms})).await;
        client.succeed(&completed).await;
        let dead = run(&client, json!({"dead_ms": kept_ms})).await;
        client.fail(&dead, &json!({"message": "m", "kill": true})).await;
        ended.push([completed, dead]);
    }
    let kept = [client.job(id(&ended[0][0])).await, client.job(id(&ended[0][1])).await];
    server.sigterm().await;
    server.restart().await;
    let client = server.client();
    assert_eq!([client.job(id(&kept[0])).await, client.job(id(&kept[1])).await], kept);
    client.let_pass(1_000).await;
    for job in &ended[1] {
        expect_gone(&client, job).await;
    }
    assert_eq!(client.count("").await, 2);
}
