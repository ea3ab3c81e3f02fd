//! Failures: backoff, retries, death, error records.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::wait::now_ms;
use tests::{Client, Server, id};

fn ms(job: &Value, member: &str) -> u64 {
    job[member].as_u64().unwrap_or_else(|| panic!("no {member} in {job}"))
}

/// Fails the job `n` times so that it is ready again each time.
async fn fail_often(client: &Client, n: u32) {
    for attempt in 1..=n {
        let taken = client.poll_one("q").await;
        let failed = client.fail(&taken, &json!({"message": format!("no {attempt}"), "retry_at": 1})).await;
        assert_eq!(failed["attempts"], attempt);
    }
}

/// Takes the job of the queue, fails it, and gives back how long it has to wait.
async fn pause(client: &Client) -> u64 {
    let taken = client.poll_one("q").await;
    let failed = client.fail(&taken, &json!({"message": "m"})).await;
    assert_eq!(failed["status"], "scheduled");
    ms(&failed, "ready_at") - ms(&failed, "failed_at")
}

#[tokio::test]
async fn a_failure_answers_the_job() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let taken = client.poll_one("q").await;
    let failed = client.fail(&taken, &json!({"message": "m"})).await;
    assert_eq!((id(&failed), &failed["status"]), (id(&taken), &json!("scheduled")));
    assert_eq!((&failed["attempts"], failed.get("payload")), (&json!(1), None));
    assert!(ms(&failed, "failed_at") >= ms(&taken, "dequeued_at"));
    assert!(ms(&failed, "failed_at").abs_diff(now_ms()) < 30_000);
    client
        .post(&format!("/jobs/{}/failure", id(&taken)), &json!({"message": "m"}))
        .await
        .expect_refusal(404, id(&taken));
}

#[tokio::test]
async fn the_pause_follows_the_formula() {
    let server = Server::start().await;
    let client = server.client();
    for (attempt, base, exponent, jitter, least) in [
        (1, 1_500, 4.0, 0, 1_500 + 1_000),
        (2, 0, 3.0, 0, 8_000),
        (3, 250, 1.5, 0, 250 + 5_196),
        (3, 100, 2.0, 700, 100 + 9_000),
        (5, 0, 0.0, 1_000, 1_000),
        (2, 4_000_000_000_u32, 1.0, 0, 4_000_002_000),
    ] {
        let backoff = json!({"base_ms": base, "exponent": exponent, "jitter_ms": jitter});
        client.enqueue(&json!({"queue": "q", "type": "t", "payload": 1, "backoff": backoff})).await;
        fail_often(&client, attempt - 1).await;
        let pause = pause(&client).await;
        let most = least + u64::from(attempt) * jitter;
        assert!((least..=most + 1).contains(&pause), "attempt {attempt} with {backoff} waits {pause} ms");
    }
}

#[tokio::test]
async fn the_servers_defaults_apply_to_jobs_without_a_backoff() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let first = pause(&client).await;
    assert!((16_000..=46_001).contains(&first), "{first} ms");

    let flags = [
        "--default-backoff-base",
        "2s",
        "--default-backoff-exponent",
        "3",
        "--default-backoff-jitter",
        "0ms",
    ];
    let server = Server::with(flags).await;
    let client = server.client();
    client.add("q").await;
    fail_often(&client, 1).await;
    assert_eq!(pause(&client).await, 2_000 + 8_000);
}

#[tokio::test]
async fn the_jitter_spreads_retries() {
    let server = Server::start().await;
    let client = server.client();
    let backoff = json!({"base_ms": 0, "exponent": 0, "jitter_ms": 1_000_000});
    client
        .enqueue_all((0..20).map(|n| json!({"queue": "q", "type": "t", "payload": n, "backoff": backoff})))
        .await;
    let mut pauses = BTreeSet::new();
    for _ in 0..20 {
        pauses.insert(pause(&client).await);
    }
    assert!(pauses.len() > 10, "{pauses:?}");
    assert!(pauses.iter().all(|pause| (1_000..=1_001_001).contains(pause)), "{pauses:?}");
}

#[tokio::test]
async fn a_retry_comes_when_its_pause_is_over() {
    let server = Server::start().await;
    let client = server.client();
    let backoff = json!({"base_ms": 200, "exponent": 0, "jitter_ms": 0});
    client.enqueue(&json!({"queue": "q", "type": "t", "payload": 1, "backoff": backoff})).await;
    let mut stream = client.lines("queue=q").await;
    let taken = stream.next_job().await;
    let failed = client.fail(&taken, &json!({"message": "m"})).await;
    let again = stream.next_job().await;
    assert_eq!((id(&again), &again["attempts"], &again["deliveries"]), (id(&taken), &json!(1), &json!(2)));
    assert!(ms(&again, "dequeued_at") >= ms(&failed, "ready_at"));
    assert_eq!(again["payload"], 1);
}

#[tokio::test]
async fn retry_at_is_taken_as_given() {
    let server = Server::start().await;
    let client = server.client();
    let job = json!({"queue": "q", "type": "t", "payload": 1, "retry_limit": 0});
    client.enqueue(&job).await;
    let taken = client.poll_one("q").await;
    let retry_at = now_ms() + 3_600_000;
    let failed = client.fail(&taken, &json!({"message": "m", "retry_at": retry_at})).await;
    assert_eq!(
        (&failed["status"], &failed["ready_at"]),
        (&json!("scheduled"), &json!(retry_at)),
        "before the limit"
    );
    client.poke("/reset").await.expect_nothing();

    client.enqueue(&job).await;
    let taken = client.poll_one("q").await;
    let failed = client.fail(&taken, &json!({"message": "m", "retry_at": 1_000})).await;
    assert_eq!((&failed["status"], &failed["ready_at"]), (&json!("scheduled"), &json!(1_000)));
    let again = client.poll_one("q").await;
    assert_eq!((id(&again), &again["attempts"]), (id(&taken), &json!(1)), "a past one is promoted at once");
}

#[tokio::test]
async fn kill_comes_before_everything() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let taken = client.poll_one("q").await;
    let failed =
        client.fail(&taken, &json!({"message": "m", "kill": true, "retry_at": now_ms() + 9_000})).await;
    assert_eq!((&failed["status"], &failed["attempts"]), (&json!("dead"), &json!(1)));
    assert_eq!(client.poll(&json!({})).await, [] as [Value; 0]);
    assert_eq!(client.job(id(&taken)).await["status"], "dead");
}

#[tokio::test]
async fn a_job_is_dead_after_its_retries() {
    let server = Server::with(["--default-retry-limit", "1"]).await;
    let client = server.client();
    for (own_limit, retries) in [(None, 1), (Some(0), 0), (Some(3), 3)] {
        client.enqueue(&json!({"queue": "q", "type": "t", "payload": 1, "retry_limit": own_limit})).await;
        fail_often(&client, retries).await;
        let taken = client.poll_one("q").await;
        assert_eq!(taken["attempts"], retries);
        let failed = client.fail(&taken, &json!({"message": "m", "kill": false})).await;
        assert_eq!(
            (&failed["status"], &failed["attempts"]),
            (&json!("dead"), &json!(retries + 1)),
            "{own_limit:?}"
        );
    }
}

#[tokio::test]
async fn the_default_limit_is_25_retries() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    fail_often(&client, 24).await;
    assert!(pause(&client).await > 25_u64.pow(4) * 1_000);
    client.poke("/reset").await.expect_nothing();
    client.add("q").await;
    fail_often(&client, 25).await;
    let taken = client.poll_one("q").await;
    assert_eq!(client.fail(&taken, &json!({"message": "m"})).await["status"], "dead");
}

#[tokio::test]
async fn every_failure_is_kept_and_paged() {
    let server = Server::start().await;
    let client = server.client();
    let queued = client.add("q").await;
    fail_often(&client, 7).await;
    let path = format!("/jobs/{}/errors", id(&queued));
    let all = client.get(&path).await.expect(200);
    assert_eq!((&all["pages"]["next"], &all["pages"]["prev"]), (&Value::Null, &Value::Null));
    let all = all["errors"].as_array().unwrap().clone();
    assert_eq!(all.len(), 7);
    for (n, error) in all.iter().enumerate() {
        assert_eq!((&error["attempt"], &error["message"]), (&json!(n + 1), &json!(format!("no {}", n + 1))));
        assert!(ms(error, "failed_at") >= ms(error, "dequeued_at"));
        assert_eq!((error.get("error_type"), error.get("backtrace")), (None, None));
        assert_eq!(client.get(&format!("{path}/{}", n + 1)).await.expect(200), *error);
    }

    for order in ["asc", "desc"] {
        let mut paged = Vec::new();
        let mut next = Some(format!("{path}?order={order}&limit=3"));
        while let Some(link) = next {
            let page = client.get(&link).await.expect(200);
            assert!(page["errors"].as_array().unwrap().len() <= 3);
            paged.extend(page["errors"].as_array().unwrap().iter().cloned());
            next = page["pages"]["next"].as_str().map(str::to_owned);
        }
        if order == "desc" {
            paged.reverse();
        }
        assert_eq!(paged, all, "{order}");
    }
}

#[tokio::test]
async fn errors_of_what_is_not_there_are_404() {
    let server = Server::start().await;
    let client = server.client();
    let queued = client.add("q").await;
    let none = client.get(&format!("/jobs/{}/errors", id(&queued))).await.expect(200);
    assert_eq!(none["errors"], json!([]));
    client.get(&format!("/jobs/{}/errors/1", id(&queued))).await.expect_refusal(404, "1");
    client.delete(&format!("/jobs/{}", id(&queued))).await.expect_nothing();
    client.get(&format!("/jobs/{}/errors", id(&queued))).await.expect_refusal(404, id(&queued));
    client.get(&format!("/jobs/{}/errors/1", id(&queued))).await.expect_refusal(404, id(&queued));
}

#[tokio::test]
async fn an_error_record_keeps_any_text() {
    let server = Server::start().await;
    let client = server.client();
    let queued = client.add("q").await;
    let taken = client.poll_one("q").await;
    let failure = json!({
        "message": "\u{1F4A5} \"broken\"\n\u{0}", "error_type": "Errno::ENOENT", "backtrace": "at x\n".repeat(10_000)
    });
    client.fail(&taken, &failure).await;
    let error = client.get(&format!("/jobs/{}/errors/1", id(&queued))).await.expect(200);
    for member in ["message", "error_type", "backtrace"] {
        assert_eq!(error[member], failure[member]);
    }
}
