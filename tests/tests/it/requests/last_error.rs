//! `last_error`: a job that has failed says why.

use serde_json::{Value, json};
use tests::{Client, Item, Server, Wire, id};

const NEVER: u64 = 253_402_300_799_999;

async fn failed(client: &Client, failure: &Value) -> Value {
    let job = json!({"queue": "q", "type": "t", "payload": 1, "retention": {"completed_ms": 600_000}});
    let queued = client.enqueue(&job).await;
    assert_eq!(queued.get("last_error"), None, "a job that has not failed says nothing");
    let taken = client.poll_one("q").await;
    assert_eq!(taken.get("last_error"), None);
    client.fail(&taken, failure).await
}

/// The job as a list, a look, a count of one and a wait show it.
async fn shown(client: &Client, job: &Value) -> Vec<Value> {
    let listed = client.get(&format!("/jobs?id={}", id(job))).await.expect(200);
    let waited = client.get(&format!("/jobs/{}?wait_ms=1", id(job))).await.expect(200);
    vec![listed["jobs"][0].clone(), client.job(id(job)).await, waited]
}

#[tokio::test]
async fn last_error_is_in_every_job_that_has_failed_wherever_it_is_shown() {
    let mut server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let dead =
            failed(&client, &json!({"message": "no such file", "error_type": "IO", "kill": true})).await;
        let later = failed(&client, &json!({"message": "try later", "retry_at": NEVER})).await;
        for (job, error_type, message) in [(&dead, Some("IO"), "no such file"), (&later, None, "try later")] {
            let mut expected = json!({"message": message, "at": job["failed_at"]});
            if let Some(error_type) = error_type {
                expected["type"] = json!(error_type);
            }
            assert_eq!(job["last_error"], expected, "in the answer");
            for shown in shown(&client, job).await {
                assert_eq!(shown["last_error"], expected);
            }
        }
        // The next attempt hears of the one before, and its failure takes its place.
        client.poke(&format!("/jobs/{}/retry", id(&later))).await.expect(200);
        let again = client.poll_one("q").await;
        assert_eq!(again["last_error"]["message"], "try later");
        client.fail(&again, &json!({"message": "once more", "retry_at": 1})).await;
        assert_eq!(client.job(id(&later)).await["last_error"]["message"], "once more");
        let last = client.poll_one("q").await;
        client.succeed(&last).await;
        let completed = client.job(id(&later)).await;
        assert_eq!(
            (&completed["status"], &completed["last_error"]["message"]),
            (&json!("completed"), &json!("once more"))
        );
        // To count from anew is to forget.
        let anew = client.post(&format!("/jobs/{}/retry", id(&dead)), &json!({"reset_attempts": true}));
        assert_eq!(anew.await.expect(200).get("last_error"), None);
        client.poke("/reset").await.expect_nothing();
    }
    let client = server.client();
    let job = failed(&client, &json!({"message": "m", "error_type": "E", "retry_at": NEVER})).await;
    server.kill9().await;
    server.restart().await;
    let client = server.client();
    let expected = json!({"type": "E", "message": "m", "at": job["failed_at"]});
    assert_eq!(client.job(id(&job)).await["last_error"], expected, "after a restart, too");
}

#[tokio::test]
async fn last_error_holds_the_start_of_a_long_message() {
    let server = Server::start().await;
    let client = server.client();
    // An odd byte before letters of two bytes: the cut must not go through one.
    let message = format!("x{}", "ä".repeat(5_000));
    let job = failed(&client, &json!({"message": message, "error_type": message, "retry_at": NEVER})).await;
    for text in ["message", "type"] {
        let kept = job["last_error"][text].as_str().unwrap();
        assert_eq!(kept.len(), 1_023, "{text}");
        assert!(message.starts_with(kept), "{text}");
    }
    let all = client.get(&format!("/jobs/{}/errors/1", id(&job))).await.expect(200);
    assert_eq!(all["message"], message);
}

#[tokio::test]
async fn last_error_tells_of_attempts_that_the_server_ended() {
    let server = Server::with(["--max-deliveries", "1"]).await;
    let client = server.client();
    let job = json!({"queue": "slow", "type": "t", "payload": 1, "timeout_ms": 1, "retry_limit": 0});
    let slow = client.enqueue(&job).await;
    client.poll_one("slow").await;
    let lost = client.add("lost").await;
    drop(client.lines("queue=lost").await.next_job().await);
    for (job, error_type) in [(slow, "timed_out"), (lost, "lease_expired")] {
        let job = client.get(&format!("/jobs/{}?wait_ms=30000", id(&job))).await.expect(200);
        assert_eq!((&job["status"], &job["last_error"]["type"]), (&json!("dead"), &json!(error_type)));
    }
}

#[tokio::test]
async fn last_error_is_in_the_event_of_a_failure_and_no_other() {
    let server = Server::start().await;
    let client = server.client();
    let mut events = super::events(&client, "queue=q").await;
    let job = failed(&client, &json!({"message": "m", "retry_at": NEVER})).await;
    client.poke(&format!("/jobs/{}/retry", id(&job))).await.expect(200);
    let again = client.poll_one("q").await;
    client.release(&again).await;
    client.delete(&format!("/jobs/{}", id(&job))).await.expect_nothing();
    let mut said = Vec::new();
    while said.last().is_none_or(|event: &Value| !event["to"].is_null()) {
        said.push(events.next().await);
    }
    let with_error: Vec<_> = said.iter().filter(|event| event.get("last_error").is_some()).collect();
    assert_eq!(with_error.len(), 1, "{said:?}");
    assert_eq!(
        (&with_error[0]["to"], &with_error[0]["last_error"]),
        (&json!("scheduled"), &job["last_error"])
    );
}

#[tokio::test]
async fn a_stream_delivers_the_last_error_of_a_job_that_is_tried_again() {
    let server = Server::start().await;
    let client = server.client();
    let mut stream = client.events("queue=q").await;
    client.add("q").await;
    let first = stream.next_job().await;
    client.fail(&first, &json!({"message": "m", "retry_at": 1})).await;
    let Some(Item::Job(second)) = stream.next_message().await else { panic!("no second attempt") };
    assert_eq!(second["last_error"]["message"], "m");
}
