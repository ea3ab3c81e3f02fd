//! Batches: later jobs with the same key become a part of one that waits.

use serde_json::{Value, json};
use tests::wait::until;
use tests::{Client, Server, Wire, id};

const NEVER: u64 = 4_000_000_000_000;

/// A job that adds its number to the sum of the batch, which holds at most 100.
fn adding(key: &str, n: i64) -> Value {
    batched(key, "$existing.n + $new.n <= 100", "$existing | .n += $new.n", json!({"n": n}))
}

fn batched(key: &str, when: &str, fold: &str, payload: Value) -> Value {
    let batch = json!({"key": key, "when": when, "fold": fold});
    json!({"queue": "q", "type": "t", "payload": payload, "batch": batch})
}

/// Enqueues, and expects a new job.
async fn opened(client: &Client, job: &Value) -> Value {
    let answer = client.post("/jobs", job).await.expect(201);
    assert_eq!((&answer["folded"], &answer["duplicate"]), (&json!(false), &json!(false)), "{answer}");
    answer
}

/// Enqueues, and expects that it becomes a part of this job.
async fn folded(client: &Client, job: &Value, into: &Value) {
    let answer = client.post("/jobs", job).await.expect(200);
    assert_eq!((&answer["folded"], &answer["duplicate"]), (&json!(true), &json!(false)), "{answer}");
    let kept = ["id", "queue", "type", "priority", "status", "ready_at", "batch"];
    kept.iter().for_each(|member| assert_eq!(answer[member], into[member], "{member} of {answer}"));
    assert_eq!(answer.get("payload"), None);
}

async fn payload(client: &Client, job: &Value) -> Value {
    client.job(id(job)).await["payload"].clone()
}

#[tokio::test]
async fn a_later_job_is_folded_into_the_open_batch() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let first = opened(&client, &adding("k", 1)).await;
        assert_eq!(first["batch"], adding("k", 1)["batch"]);
        client.add("q").await;
        folded(&client, &adding("k", 2), &first).await;
        // The key is one for all queues and types, and of the later job nothing but its payload counts.
        let mut other = adding("k", 30);
        (other["queue"], other["type"], other["priority"]) = (json!("elsewhere"), json!("u"), json!(1));
        other["budgets"] = json!([{"key": "b", "create_with": {"allocation": 1,
            "strategy": {"type": "while_in_flight"}}}]);
        folded(&client, &other, &first).await;
        let shown = client.job(id(&first)).await;
        assert_eq!((&shown["payload"], &shown["batch"]), (&json!({"n": 33}), &first["batch"]));
        assert_eq!((shown.get("folded"), shown.get("budgets")), (None, None));
        assert_eq!(client.get("/jobs?limit=1").await.expect(200)["jobs"][0], shown);
        assert_eq!(client.count("").await, 2);
        // It has kept its place in the queue.
        let mut stream = client.lines("queue=q&prefetch=2").await;
        let taken = stream.next_job().await;
        assert_eq!(
            (id(&taken), &taken["payload"], &taken["batch"]),
            (id(&first), &json!({"n": 33}), &first["batch"])
        );
        drop(stream);
        client.poke("/reset").await.expect_nothing();
        opened(&client, &adding("k", 1)).await;
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn where_the_condition_fails_the_next_batch_begins() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let first = opened(&client, &adding("k", 60)).await;
        let second = opened(&client, &adding("k", 50)).await;
        // The first one would have had room for this.
        folded(&client, &adding("k", 40), &second).await;
        assert_eq!(payload(&client, &first).await, json!({"n": 60}));
        assert_eq!(payload(&client, &second).await, json!({"n": 90}));
        // The expressions of the open job count, not those of the new one.
        let never = batched("k", "false", "null", json!({"n": 1}));
        folded(&client, &never, &second).await;
        assert_eq!(payload(&client, &second).await, json!({"n": 91}));
        let third = opened(&client, &batched("k", "false", "null", json!({"n": 10}))).await;
        let fourth = opened(&client, &batched("k", "0", "[$existing, $new, .]", json!({"n": 1}))).await;
        assert_ne!(id(&third), id(&fourth));
        // 0 is true, as in jq, and the expressions see nothing but the two.
        folded(&client, &adding("k", 2), &fourth).await;
        assert_eq!(payload(&client, &fourth).await, json!([{"n": 1}, {"n": 2}, null]));
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_delivered_batch_is_never_open_again() {
    let server = Server::with(["--default-completed-job-retention", "1h"]).await;
    let client = server.client();
    let became = async |job: &Value, status: &str| {
        until(status, async || (client.status(id(job)).await.as_deref() == Some(status)).then_some(())).await;
    };
    for way in ["success", "failure", "retry", "release", "expiry", "end of the stream", "late success"] {
        let first = opened(&client, &adding("k", 1)).await;
        folded(&client, &adding("k", 2), &first).await;
        let poll = json!({"queues": ["q"], "lease_ms": 1_000});
        match way {
            "end of the stream" => {
                let mut stream = client.lines("queue=q").await;
                stream.next_job().await;
                drop(stream);
                became(&first, "ready").await;
            }
            "expiry" | "late success" => {
                let taken = client.poll(&poll).await.remove(0);
                became(&first, "ready").await;
                if way == "late success" {
                    client.succeed(&taken).await;
                }
            }
            _ => {
                let taken = client.poll_one("q").await;
                let next = opened(&client, &adding("k", 5)).await;
                client.delete(&format!("/jobs/{}", id(&next))).await.expect_nothing();
                match way {
                    "success" => client.succeed(&taken).await,
                    "release" => client.release(&taken).await,
                    _ => drop(client.fail(&taken, &json!({"message": "m", "kill": way == "retry"})).await),
                }
                if way == "retry" {
                    let path = format!("/jobs/{}/retry", id(&first));
                    assert_eq!(client.poke(&path).await.expect(200)["status"], "ready");
                }
            }
        }
        let second = opened(&client, &adding("k", 10)).await;
        folded(&client, &adding("k", 20), &second).await;
        assert_eq!(payload(&client, &first).await, json!({"n": 3}), "{way}");
        assert_eq!(payload(&client, &second).await, json!({"n": 30}), "{way}");
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_batch_is_open_for_as_long_as_it_is_ready() {
    let server = Server::start().await;
    let client = server.client();
    let patch = async |job: &Value, patch: Value| {
        client.patch(&format!("/jobs/{}", id(job)), &patch).await.expect(200)
    };
    let first = opened(&client, &adding("k", 1)).await;
    // Moved about, but ready all the time.
    let budget = json!({"allocation": 1, "strategy": {"type": "while_in_flight"}});
    client.post("/budgets/b", &budget).await.expect(201);
    let bound = client.post(&format!("/jobs/{}/budgets/b", id(&first)), &json!({})).await.expect(200);
    folded(&client, &adding("k", 2), &bound).await;
    for change in
        [json!({"queue": "r"}), json!({"priority": 3}), json!({"ready_at": 1}), json!({"retry_limit": 2})]
    {
        let patched = patch(&first, change).await;
        folded(&client, &adding("k", 2), &patched).await;
    }
    client.poke("/queues/r/pause").await.expect(200);
    folded(&client, &adding("k", 2), &client.job(id(&first)).await).await;
    client.poke("/queues/r/resume").await.expect(200);
    let taken = client.poll_one("r").await;
    assert_eq!(taken["payload"], json!({"n": 13}));
    client.succeed(&taken).await;
    // Put off: it is not ready, and is not open any more when it is again.
    let second = opened(&client, &adding("k", 1)).await;
    patch(&second, json!({"ready_at": NEVER})).await;
    let third = opened(&client, &adding("k", 2)).await;
    patch(&second, json!({"ready_at": null})).await;
    folded(&client, &adding("k", 3), &third).await;
    assert_eq!(payload(&client, &second).await, json!({"n": 1}));
    // Deleted.
    client.delete(&format!("/jobs/{}", id(&third))).await.expect_nothing();
    let fourth = opened(&client, &adding("k", 4)).await;
    assert_eq!(client.delete("/jobs?queue=q").await.expect(200), json!({"deleted": 2}));
    assert_ne!(id(&opened(&client, &adding("k", 5)).await), id(&fourth));
}

#[tokio::test]
async fn a_job_for_later_is_not_folded() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let later = |at: u64| {
            let mut job = adding("k", 1);
            job["ready_at"] = json!(at);
            job
        };
        let first = opened(&client, &later(NEVER)).await;
        assert_eq!((&first["status"], &first["batch"]), (&json!("scheduled"), &adding("k", 1)["batch"]));
        let open = opened(&client, &adding("k", 2)).await;
        let second = opened(&client, &later(NEVER)).await;
        // One whose time is past is ready, and folded.
        folded(&client, &later(5), &open).await;
        for job in [&first, &second] {
            client.poke(&format!("/jobs/{}/retry", id(job))).await.expect(200);
            assert_eq!(client.status(id(job)).await.as_deref(), Some("ready"));
        }
        folded(&client, &adding("k", 4), &open).await;
        assert_eq!(payload(&client, &open).await, json!({"n": 7}));
        // Its expressions are looked at all the same.
        let mut bad = batched("k", "true", "empty", json!(1));
        bad["ready_at"] = json!(NEVER);
        client.post("/jobs", &bad).await.expect_refusal(422, "batch.fold: `empty`: it has no output");
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn in_bulk_they_are_folded_in_order() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let open = opened(&client, &adding("a", 50)).await;
        let mut later = adding("a", 7);
        later["ready_at"] = json!(NEVER);
        let plain = json!({"queue": "q", "type": "t", "payload": 0});
        let mut unique = plain.clone();
        unique["unique_key"] = json!("u");
        let jobs = [
            adding("b", 1),
            adding("a", 50),
            plain,
            adding("b", 2),
            later,
            adding("a", 1),
            unique.clone(),
            adding("a", 98),
            unique,
            adding("a", 2),
            adding("b", 4),
        ];
        let answer = client.post("/jobs/bulk", &json!({"jobs": jobs})).await.expect(201);
        let jobs = answer["jobs"].as_array().unwrap();
        let flags: Vec<bool> = jobs.iter().map(|job| job["folded"].as_bool().unwrap()).collect();
        assert_eq!(
            flags,
            [false, true, false, true, false, false, false, true, false, false, true],
            "{answer}"
        );
        assert_eq!(jobs[8]["duplicate"], true);
        let same = [(1, id(&open)), (3, id(&jobs[0])), (7, id(&jobs[5])), (10, id(&jobs[0]))];
        same.iter().for_each(|(n, into)| assert_eq!(id(&jobs[*n]), *into, "{n}"));
        for (job, n) in [(&open, 100), (&jobs[0], 7), (&jobs[5], 99), (&jobs[9], 2), (&jobs[4], 7)] {
            assert_eq!(payload(&client, job).await, json!({"n": n}));
        }
        folded(&client, &adding("a", 1), &jobs[9]).await;
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn in_bulk_all_are_enqueued_or_none() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let a = opened(&client, &adding("a", 1)).await;
        let b = opened(&client, &adding("b", 1)).await;
        // Nothing was created: 200.
        let all = json!({"jobs": [adding("a", 1), adding("b", 1)]});
        client.post("/jobs/bulk", &all).await.expect(200);
        let mut text = adding("a", 1);
        text["payload"] = json!("x");
        for (bad, sentence) in [
            (batched("a", "true", "error(\"no\")", json!({"n": 1})), "batch.fold: `error(\"no\")`: no"),
            (text, "batch.when: `$existing.n + $new.n <= 100`: Cannot index string"),
            (
                json!({"queue": "q", "type": "t", "payload": 1, "budgets": [{"key": "none"}]}),
                "budgets[0]: no budget",
            ),
        ] {
            let all = json!({"jobs": [adding("a", 1), bad, adding("b", 1), adding("c", 1)]});
            let said = client.post("/jobs/bulk", &all).await.expect_refusal(422, sentence);
            assert!(said.starts_with("jobs[1]: "), "{said}");
        }
        for job in [&a, &b] {
            assert_eq!(payload(&client, job).await, json!({"n": 2}));
        }
        assert_eq!(client.count("").await, 2);
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn what_cannot_be_folded_is_refused_in_a_sentence() {
    let server = Server::with(["--max-payload-size", "1kB"]).await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        for (when, fold, sentence) in [
            ("$existing ==", "$new", "batch.when: `$existing ==`: a term is expected"),
            ("true", "", "batch.fold: ``: a term is expected"),
            ("$old", "$new", "batch.when: `$old`: `$old` is not defined"),
            ("true", "nope", "batch.fold: `nope`: `nope/0` is not defined in jq 1.7"),
            ("env", "$new", "batch.when: `env`: `env` is not known here"),
            ("true", "$ENV", "batch.fold: `$ENV`: `$ENV` is not known here"),
            ("empty", "$new", "batch.when: `empty`: it has no output; exactly one is wanted"),
            ("true", "$existing, $new", "batch.fold: `$existing, $new`: it has more than one output"),
            ("error(\"why\")", "$new", "batch.when: `error(\"why\")`: why"),
            ("true", "$existing | .a.b += 1", "batch.fold: `$existing | .a.b += 1`: Cannot index number"),
        ] {
            let job = batched("k", when, fold, json!({"a": 5}));
            client.post("/jobs", &job).await.expect_refusal(422, sentence);
        }
        assert_eq!(client.count("").await, 0);
        // What is stored meets another payload than it was tried with.
        let open = opened(&client, &adding("k", 1)).await;
        let texts = batched("k", "true", "$existing + $new", json!({"n": "text"}));
        let said = client.post("/jobs", &texts).await;
        said.expect_refusal(
            422,
            "batch: of the open batch with this key, when: `$existing.n + $new.n <= 100`: number (1) and string",
        );
        // Too large, and too deep.
        let grows = |payload: &str| batched("g", "true", "$existing + $new", json!(payload.repeat(600)));
        let full = opened(&client, &grows("x")).await;
        let said = client.post("/jobs", &grows("y")).await;
        said.expect_refusal(
            422,
            "batch.fold: the folded payload has 1202 bytes; this server accepts at most 1000",
        );
        let two = json!({"jobs": [grows("y"), grows("z")]});
        client
            .post("/jobs/bulk", &two)
            .await
            .expect_refusal(422, "jobs[1]: batch.fold: the folded payload has 1802 bytes");
        let deep = "reduce range(200) as $i ($existing; [.])";
        let nests = opened(&client, &batched("d", "true", deep, json!(0))).await;
        let said = client.post("/jobs", &batched("d", "true", deep, json!(1))).await;
        said.expect_refusal(
            422,
            "batch.fold: the result is not a valid payload: nests deeper than 127 levels",
        );
        for (job, before) in [(&open, json!({"n": 1})), (&full, json!("x".repeat(600))), (&nests, json!(0))] {
            assert_eq!(payload(&client, job).await, before);
        }
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_waiting_call_waits_for_the_batch() {
    let server = Server::start().await;
    let client = server.client();
    let first = opened(&client, &adding("k", 1)).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.post("/jobs?wait_ms=30000", &adding("k", 2)).await.expect(200) }
    });
    until("the second to be folded", async || {
        (payload(&client, &first).await == json!({"n": 3})).then_some(())
    })
    .await;
    let taken = client.poll_one("q").await;
    client.post(&format!("/jobs/{}/success", id(&taken)), &json!({"result": 5})).await.expect_nothing();
    let ended = waiting.await.unwrap();
    assert_eq!(
        (id(&ended), &ended["status"], &ended["folded"]),
        (id(&first), &json!("completed"), &json!(true))
    );
}
