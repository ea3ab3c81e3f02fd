//! Leases: tokens, expiry, renewal, release.

use serde_json::{Value, json};
use tests::wait::{now_ms, until};
use tests::{Client, Item, Server, Wire, id, lease};

/// Takes the one job of the queue with the shortest lease there is.
async fn take_briefly(client: &Client, queue: &str) -> Value {
    let mut jobs = client.poll(&json!({"queues": [queue], "wait_ms": 30_000, "lease_ms": 1_000})).await;
    assert_eq!(jobs.len(), 1);
    jobs.remove(0)
}

async fn until_ready(client: &Client, job: &Value) {
    until(format!("the lease of {} to expire", id(job)), async || {
        (client.status(id(job)).await.as_deref() == Some("ready")).then_some(())
    })
    .await;
}

fn ms(job: &Value, member: &str) -> u64 {
    job[member].as_u64().unwrap_or_else(|| panic!("no {member} in {job}"))
}

#[tokio::test]
async fn every_delivery_has_a_token_of_its_own() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let mut tokens = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let taken = client.poll_one("q").await;
        assert!(tokens.insert(lease(&taken).to_owned()));
        client.release(&taken).await;
    }
}

#[tokio::test]
async fn an_expired_lease_is_redelivered_and_its_token_is_refused() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let first = take_briefly(&client, "q").await;
    assert_eq!(ms(&first, "lease_expires_at"), ms(&first, "dequeued_at") + 1_000);
    let second = client.poll_one("q").await;
    assert_eq!(id(&second), id(&first));
    assert!(ms(&second, "dequeued_at") >= ms(&first, "lease_expires_at"), "{second} came before the expiry");
    assert_eq!((&second["deliveries"], &second["attempts"]), (&json!(2), &json!(0)));

    for (verb, body) in [
        ("success", json!({})),
        ("failure", json!({"message": "m"})),
        ("heartbeat", json!({})),
        ("release", json!({})),
    ] {
        let path = format!("/jobs/{}/{verb}", id(&first));
        client.post(&path, &body).header("zizq-lease", lease(&first)).await.expect_refusal(409, "lease");
        let path = format!("{path}?lease={}", lease(&first));
        client.post(&path, &body).await.expect_refusal(409, "lease");
    }
    assert_eq!(client.job(id(&first)).await["status"], "in_flight");
    client.succeed(&second).await;
    assert_eq!(client.status(id(&first)).await, None);
}

#[tokio::test]
async fn an_expired_lease_wakes_a_waiting_stream() {
    let server = Server::with(["--heartbeat-interval", "15s"]).await;
    let client = server.client();
    client.add("q").await;
    let first = take_briefly(&client, "q").await;
    let second = client.lines("queue=q").await.next_job().await;
    assert_eq!(id(&second), id(&first));
    let late = ms(&second, "dequeued_at") - ms(&first, "lease_expires_at");
    assert!(late < 5_000, "{late} ms after the expiry");
}

#[tokio::test]
async fn the_right_token_is_accepted_late_while_nobody_else_holds_the_job() {
    let server = Server::start().await;
    let client = server.client();
    for verb in ["success", "failure"] {
        client.add("q").await;
        let taken = take_briefly(&client, "q").await;
        until_ready(&client, &taken).await;
        let path = format!("/jobs/{}/{verb}", id(&taken));
        let body = json!({"message": "m"});
        client.post(&path, &body).await.expect_refusal(404, id(&taken));
        let late = client.post(&path, &body).header("zizq-lease", lease(&taken)).await;
        assert_eq!(late.status, if verb == "success" { 204 } else { 200 }, "{verb}: {:?}", late.body);
        let status = client.status(id(&taken)).await;
        assert_eq!(status.as_deref(), if verb == "success" { None } else { Some("scheduled") });
    }
}

#[tokio::test]
async fn without_a_token_an_outcome_counts_while_the_job_is_in_flight() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let taken = client.poll_one("q").await;
    client.post(&format!("/jobs/{}/heartbeat", id(&taken)), &json!({})).await.expect(200);
    client.poke(&format!("/jobs/{}/release", id(&taken))).await.expect_nothing();
    client.poke(&format!("/jobs/{}/release", id(&taken))).await.expect_refusal(404, id(&taken));
    client.poke(&format!("/jobs/{}/heartbeat", id(&taken))).await.expect_refusal(404, id(&taken));
    client.poll_one("q").await;
    client.poke(&format!("/jobs/{}/success", id(&taken))).await.expect_nothing();
}

#[tokio::test]
async fn every_report_on_a_job_that_is_not_held_gets_the_same_refusal() {
    let server = Server::start().await;
    let client = server.client();
    let later = json!({"ready_at": 4_000_000_000_000_u64});
    let failure = json!({"message": "m", "retry_at": 4_000_000_000_000_u64});
    let kill = json!({"message": "m", "kill": true});
    let another_worker = "another worker has it";
    // What became of the job, and the refusal of every report with the token of the delivery before that.
    let cases = [
        ("succeeded", "success", json!({}), 404),
        ("failed and waits for its retry", "failure", failure, 404),
        ("dead", "failure", kill, 404),
        ("released", "release", json!({}), 404),
        ("released for later", "release", later, 404),
        (another_worker, "release", json!({}), 409),
    ];
    for (state, verb, body, refusal) in cases {
        client.add("q").await;
        let taken = client.poll_one("q").await;
        let call = |verb: &str, body: &Value| {
            client.post(&format!("/jobs/{}/{verb}", id(&taken)), body).header("zizq-lease", lease(&taken))
        };
        let status = call(verb, &body).await.status;
        assert!(matches!(status, 200 | 204), "{state}: {status}");
        if state == another_worker {
            client.poll_one("q").await;
        }
        for (verb, body) in [
            ("success", json!({})),
            ("failure", json!({"message": "m"})),
            ("heartbeat", json!({})),
            ("release", json!({})),
        ] {
            let answer = call(verb, &body).await;
            assert_eq!(answer.status, refusal, "{state}: {verb}: {:?}", answer.body);
        }
        let named = json!({"jobs": [{"id": id(&taken), "lease": lease(&taken)}]});
        let listed = if refusal == 409 { "lost" } else { "not_found" };
        for verb in ["success", "release"] {
            let answer = client.post(&format!("/jobs/{verb}"), &named).await.expect(422);
            assert_eq!(answer[listed], json!([id(&taken)]), "{state}: {verb}: {answer}");
        }
        let answer = client.post("/jobs/heartbeat", &named).await.expect(200);
        assert_eq!(answer["lost"], json!([id(&taken)]), "{state}: {answer}");
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_heartbeat_keeps_a_lease_alive() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let taken = take_briefly(&client, "q").await;
    let path = format!("/jobs/{}/heartbeat", id(&taken));
    let beat = async |body: Value| {
        let asked = now_ms();
        let reply = client.post(&path, &body).header("zizq-lease", lease(&taken)).await.expect(200);
        assert_eq!((id(&reply), &reply["cancel"]), (id(&taken), &json!(false)));
        ms(&reply, "lease_expires_at") - asked
    };
    let left = beat(json!({"lease_ms": 60_000, "progress": 0.5, "message": "half way"})).await;
    assert!((60_000..90_000).contains(&left), "{left} ms left of 60 s");
    // An outcome of the server's own timers: were the lease still one second, this poll would get the job.
    assert_eq!(client.poll(&json!({"queues": ["q"], "wait_ms": 1_500})).await, [] as [Value; 0]);
    assert_eq!(client.job(id(&taken)).await["status"], "in_flight");
    let left = beat(json!({"lease_ms": 1_000})).await;
    assert!((1_000..31_000).contains(&left), "{left} ms left of 1 s");
    assert_eq!(client.poll_one("q").await["deliveries"], 2);
}

#[tokio::test]
async fn a_bulk_heartbeat_tells_what_is_lost() {
    let server = Server::start().await;
    let client = server.client();
    for _ in 0..4 {
        client.add("q").await;
    }
    let taken = client.poll(&json!({"limit": 4})).await;
    client.release(&taken[1]).await;
    let again = client.poll_one("q").await;
    assert_eq!(id(&again), id(&taken[1]));
    client.delete(&format!("/jobs/{}", id(&taken[2]))).await.expect_nothing();
    client.succeed(&taken[3]).await;
    let jobs: Vec<Value> = taken
        .iter()
        .map(|job| json!({"id": id(job), "lease": lease(job), "lease_ms": 60_000, "progress": 0, "message": "m"}))
        .collect();
    let reply = client.post("/jobs/heartbeat", &json!({"jobs": jobs})).await.expect(200);
    assert_eq!(reply["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(id(&reply["jobs"][0]), id(&taken[0]));
    assert!(ms(&reply["jobs"][0], "lease_expires_at") > ms(&taken[0], "lease_expires_at"));
    assert_eq!(reply["lost"], json!([id(&taken[1]), id(&taken[2]), id(&taken[3])]));
}

#[tokio::test]
async fn a_released_job_counts_neither_attempt_nor_delivery() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    for _ in 0..3 {
        let taken = client.poll_one("q").await;
        assert_eq!((&taken["attempts"], &taken["deliveries"]), (&json!(0), &json!(1)));
        client.release(&taken).await;
    }
    let taken = client.poll_one("q").await;
    let ready_at = now_ms() + 400;
    let path = format!("/jobs/{}/release?lease={}", id(&taken), lease(&taken));
    client.post(&path, &json!({"ready_at": ready_at})).await.expect_nothing();
    let shown = client.job(id(&taken)).await;
    assert_eq!((&shown["status"], &shown["ready_at"]), (&json!("scheduled"), &json!(ready_at)));
    let taken = client.poll_one("q").await;
    assert!(ms(&taken, "dequeued_at") >= ready_at);
    assert_eq!((&taken["attempts"], &taken["deliveries"]), (&json!(0), &json!(1)));
}

#[tokio::test]
async fn bulk_calls_do_what_they_can_and_name_the_rest() {
    let server = Server::start().await;
    let client = server.client();
    for verb in ["success", "release"] {
        for _ in 0..3 {
            client.add("q").await;
        }
        let taken = client.poll(&json!({"limit": 3})).await;
        client.release(&taken[0]).await;
        client.poll_one("q").await;
        client.delete(&format!("/jobs/{}", id(&taken[1]))).await.expect_nothing();
        let jobs: Vec<Value> = taken.iter().map(|job| json!({"id": id(job), "lease": lease(job)})).collect();
        let reply = client.post(&format!("/jobs/{verb}"), &json!({"jobs": jobs})).await.expect(422);
        assert_eq!(reply["lost"], json!([id(&taken[0])]), "{verb}");
        assert_eq!(reply["not_found"], json!([id(&taken[1])]), "{verb}");
        assert_eq!(client.job(id(&taken[0])).await["status"], "in_flight");
        let done = client.status(id(&taken[2])).await;
        assert_eq!(done.as_deref(), if verb == "success" { None } else { Some("ready") });
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_bulk_release_can_schedule() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    client.add("q").await;
    let taken = client.poll(&json!({"limit": 2})).await;
    let ready_at = now_ms() + 600_000;
    let jobs = json!([
        {"id": id(&taken[0]), "ready_at": ready_at},
        {"id": id(&taken[1]), "lease": lease(&taken[1]), "ready_at": 5}
    ]);
    client.post("/jobs/release", &json!({"jobs": jobs})).await.expect_nothing();
    let later = client.job(id(&taken[0])).await;
    assert_eq!((&later["status"], &later["ready_at"]), (&json!("scheduled"), &json!(ready_at)));
    assert_eq!(client.job(id(&taken[1])).await["status"], "ready");
}

#[tokio::test]
async fn a_job_that_is_delivered_too_often_is_dead() {
    let server = Server::with(["--max-deliveries", "2"]).await;
    let client = server.client();
    client.add("q").await;
    let first = take_briefly(&client, "q").await;
    let second = take_briefly(&client, "q").await;
    assert_eq!(second["deliveries"], 2);
    until("the job to be dead", async || {
        (client.status(id(&first)).await.as_deref() == Some("dead")).then_some(())
    })
    .await;
    let errors = client.get(&format!("/jobs/{}/errors", id(&first))).await.expect(200)["errors"].take();
    let errors = errors.as_array().unwrap();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0]["error_type"], "lease_expired");
    assert_eq!(errors[0]["dequeued_at"], second["dequeued_at"]);
}

#[tokio::test]
async fn an_ndjson_lease_with_a_length_is_renewed_by_heartbeat_calls_only() {
    let server = Server::with(["--heartbeat-interval", "250ms"]).await;
    let client = server.client();
    client.enqueue(&json!({"queue": "q", "type": "t", "payload": "expires"})).await;
    let mut stream = client.lines("queue=q&lease_ms=1000&prefetch=1").await;
    let first = stream.next_job().await;
    assert_eq!(ms(&first, "lease_expires_at"), ms(&first, "dequeued_at") + 1_000);
    let mut other = client.lines("queue=q").await;
    let here = stream.next_message();
    let there = other.next_message();
    let second = tokio::select! { item = here => item, item = there => item };
    let Some(Item::Job(second)) = second else { panic!("{second:?} instead of the job again") };
    assert_eq!((id(&second), &second["deliveries"]), (id(&first), &json!(2)));
    assert!(ms(&second, "dequeued_at") >= ms(&first, "lease_expires_at"));
}

#[tokio::test]
async fn an_open_event_stream_renews_its_leases() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let mut stream = client.events("queue=q&lease_ms=1000").await;
    assert_eq!(stream.hello().lease_ms, 1_000);
    assert!(stream.hello().heartbeat_ms <= 333, "at least three beats per lease");
    let taken = stream.next_job().await;
    while now_ms() < ms(&taken, "lease_expires_at") + 1_500 {
        stream.expect_idle().await;
    }
    assert_eq!(client.job(id(&taken)).await["dequeued_at"], taken["dequeued_at"]);
    client.succeed(&taken).await;
}

#[tokio::test]
async fn of_concurrent_outcomes_exactly_one_is_accepted() {
    let server = Server::start().await;
    let client = server.client();
    for round in 0..20 {
        client.add("q").await;
        let taken = client.poll_one("q").await;
        let mut outcomes = tokio::task::JoinSet::new();
        for n in 0..8 {
            let (client, taken) = (client.clone(), taken.clone());
            outcomes.spawn(async move {
                let verb = if (n + round) % 2 == 0 { "success" } else { "failure" };
                let path = format!("/jobs/{}/{verb}", id(&taken));
                let body = json!({"message": "m", "kill": true});
                client.post(&path, &body).header("zizq-lease", lease(&taken)).await.status
            });
        }
        let statuses = outcomes.join_all().await;
        let accepted = statuses.iter().filter(|status| matches!(status, 200 | 204)).count();
        assert_eq!(accepted, 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| matches!(status, 200 | 204 | 404 | 409)), "{statuses:?}");
    }
}

#[tokio::test]
async fn a_malformed_token_is_refused() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    let taken = client.poll_one("q").await;
    for token in ["-", "short", "0123456789abcdef0", "zzzzzzzzzzzzzzzz"] {
        let call = client.poke(&format!("/jobs/{}/success", id(&taken))).header("zizq-lease", token);
        call.await.expect_refusal(400, "lease");
    }
    assert_eq!(client.job(id(&taken)).await["status"], "in_flight");
}

/// What can be no id, or no token.
const NOTHING: [&str; 5] =
    ["nonexistent-id", "", "0", "03OL3OIKDXBMXIYRXMGSCFH1C", "zzzzzzzzzzzzzzzzzzzzzzzzz"];

#[tokio::test]
async fn one_bad_id_in_a_bulk_does_not_spoil_the_rest() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        for bad in NOTHING {
            for _ in 0..4 {
                client.add("q").await;
            }
            let jobs = client.poll(&json!({"limit": 4})).await;
            let named = |n: usize, lease: &str| json!({"id": id(&jobs[n]), "lease": lease});
            let good = |n: usize| named(n, lease(&jobs[n]));
            let all = json!([{"id": bad}, good(0), {"id": bad, "lease": "x"}, named(1, "no token")]);

            let beats = client.post("/jobs/heartbeat", &json!({"jobs": all})).await.expect(200);
            assert_eq!(beats["jobs"].as_array().unwrap().len(), 1, "{beats}");
            assert_eq!(beats["lost"], json!([id(&jobs[1]), bad]));

            let refused =
                client.post("/jobs/success", &json!({"jobs": all, "ids": [bad, id(&jobs[2])]})).await;
            assert_eq!(
                refused.expect(422),
                json!({"code": "not_done", "not_found": [bad], "lost": [id(&jobs[1])]})
            );
            let all = json!([{"id": bad}, good(3), named(1, "")]);
            let refused = client.post("/jobs/release", &json!({"jobs": all})).await;
            assert_eq!(
                refused.expect(422),
                json!({"code": "not_done", "not_found": [bad], "lost": [id(&jobs[1])]})
            );

            assert_eq!(client.job(id(&jobs[1])).await["status"], "in_flight", "nobody had its token");
            assert_eq!(client.job(id(&jobs[3])).await["status"], "ready");
            assert_eq!(client.count("status=in_flight,ready").await, 2, "the others are done");
            client.poke("/reset").await.expect_nothing();
        }
    }
}

#[tokio::test]
async fn a_bulk_in_which_an_id_is_no_text_is_malformed() {
    let server = Server::start().await;
    let client = server.client();
    for (path, body) in [
        ("/jobs/success", json!({"ids": [5]})),
        ("/jobs/success", json!({"jobs": [{"id": null}]})),
        ("/jobs/success", json!({"jobs": [{"lease": "x"}]})),
        ("/jobs/heartbeat", json!({"jobs": [{"id": ["x"]}]})),
        ("/jobs/release", json!({"jobs": [{"id": {}}]})),
    ] {
        client.post(path, &body).await.expect_refusal(400, "id");
    }
}

#[tokio::test]
async fn a_token_of_another_job_is_stale() {
    let server = Server::start().await;
    let client = server.client();
    client.add("q").await;
    client.add("q").await;
    let taken = client.poll(&json!({"limit": 2})).await;
    let call =
        client.poke(&format!("/jobs/{}/success", id(&taken[0]))).header("zizq-lease", lease(&taken[1]));
    call.await.expect_refusal(409, "lease");
    assert_eq!(client.count("status=in_flight").await, 2);
}
