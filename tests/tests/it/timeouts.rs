//! Attempts that take too long.

use serde_json::json;
use tests::wait::until;
use tests::{Item, Server, Wire, id};

#[tokio::test]
async fn an_attempt_that_takes_too_long_has_failed() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let added = client
            .enqueue(&json!({"queue": "q", "type": "t", "payload": 1, "timeout_ms": 300.0, "retry_limit": 0}))
            .await;
        assert_eq!(added["timeout_ms"], 300);
        let taken = client.poll_one("q").await;
        assert_eq!((id(&taken), &taken["timeout_ms"]), (id(&added), &json!(300)));
        until("the attempt to time out", async || {
            (client.status(id(&added)).await.as_deref() == Some("dead")).then_some(())
        })
        .await;
        let job = client.job(id(&added)).await;
        assert_eq!((&job["attempts"], &job["timeout_ms"]), (&json!(1), &json!(300)));
        let took = job["failed_at"].as_u64().unwrap() - taken["dequeued_at"].as_u64().unwrap();
        assert!((300..5_000).contains(&took), "timed out after {took} ms");
        let error = client.get(&format!("/jobs/{}/errors/1", id(&added))).await.expect(200);
        assert_eq!(error["error_type"], "timed_out");
        // The attempt has been judged: its worker has nothing more to say.
        let path = format!("/jobs/{}/success?lease={}", id(&taken), tests::lease(&taken));
        client.poke(&path).await.expect_refusal(404, id(&taken));
    }
}

#[tokio::test]
async fn the_worker_is_told_to_stop() {
    let server = Server::start().await;
    let client = server.client();
    let mut stream = client.events("queue=q").await;
    let added = client
        .enqueue(&json!({"queue": "q", "type": "t", "payload": 1, "timeout_ms": 50, "backoff":
            {"base_ms": 0, "exponent": 0, "jitter_ms": 0}}))
        .await;
    assert_eq!(id(&stream.next_job().await), id(&added));
    let cancel = stream.next_message().await;
    assert_eq!(cancel, Some(Item::Cancel(json!({"id": id(&added), "reason": "timed_out"}))));
    // It is tried again by the usual rules, over the credit that has become free.
    let again = stream.next_job().await;
    assert_eq!((id(&again), &again["attempts"]), (id(&added), &json!(1)));
}

#[tokio::test]
async fn a_heartbeat_does_not_extend_a_timeout_and_a_release_restarts_it() {
    let server = Server::start().await;
    let client = server.client();
    let added = client.enqueue(&json!({"queue": "q", "type": "t", "payload": 1, "timeout_ms": 1_000})).await;
    let taken = client.poll_one("q").await;
    client.release(&taken).await;
    let taken = client.poll_one("q").await;
    let beat = format!("/jobs/{}/heartbeat", id(&taken));
    client.post(&beat, &json!({"lease_ms": 60_000})).await.expect(200);
    until("the attempt to time out", async || {
        (client.status(id(&added)).await.as_deref() == Some("scheduled")).then_some(())
    })
    .await;
    let job = client.job(id(&added)).await;
    let took = job["failed_at"].as_u64().unwrap() - taken["dequeued_at"].as_u64().unwrap();
    assert!(took >= 1_000, "the time before the release does not count, but it took only {took} ms");
    let late = client.poke(&beat).header("zizq-lease", tests::lease(&taken)).await;
    late.expect_refusal(404, "not in flight");
}

#[tokio::test]
async fn the_server_has_a_default_and_it_outlives_a_crash() {
    let mut server = Server::with(["--default-timeout", "2500ms"]).await;
    let client = server.client();
    let added = client.add("q").await;
    assert_eq!(added.get("timeout_ms"), None);
    let own =
        client.enqueue(&json!({"queue": "q", "type": "t", "payload": 1, "timeout_ms": 3_600_000})).await;
    let mut taken = client.poll(&json!({"queues": ["q"], "limit": 2, "lease_ms": 3_600_000})).await;
    // A lease of more than a second is written down, and with it when the attempt began.
    client.let_pass(1_200).await;
    server.kill9().await;
    server.restart().await;
    until("the attempt to time out", async || {
        (client.status(id(&added)).await.as_deref() == Some("scheduled")).then_some(())
    })
    .await;
    assert_eq!(client.status(id(&own)).await.as_deref(), Some("in_flight"));
    client.succeed(&taken.remove(1)).await;
}
