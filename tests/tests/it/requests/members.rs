//! Unknown members: refused, listed, or translated.

use http::Method;
use protocol::media::Format;
use serde_json::{Value, json};
use tests::{Server, Wire, id, lease};

fn job(member: &str, value: Value) -> Value {
    let mut job = json!({"queue": "q", "type": "t", "payload": {"delay": 1, "meta": 2}});
    job[member] = value;
    job
}

/// Calls, what they are sent, which name is refused, and what was meant by it, where that is said.
const REFUSED: [(&str, &str, &str, &str); 19] = [
    ("POST /jobs/take", r#"{"queue": "a"}"#, "queue", "`queues`"),
    ("POST /jobs/take", r#"{"visibility_timeout": 5}"#, "visibility_timeout", "`lease_ms`"),
    ("POST /jobs/take", r#"{"colour": 5}"#, "colour", ""),
    ("POST /jobs/ID/heartbeat", r#"{"lease": 5}"#, "lease", "`lease_ms`"),
    ("POST /jobs/heartbeat", r#"{"jobs": [{"id": "ID", "percent": 5}]}"#, "jobs[0]: percent", "`progress`"),
    ("POST /jobs/heartbeat", r#"{"jobs": [], "lease_ms": 5}"#, "lease_ms", ""),
    ("POST /jobs/ID/release", r#"{"delay": 5}"#, "delay", "`delay_ms`"),
    ("POST /jobs/release", r#"{"jobs": [{"id": "ID", "run_at": 5}]}"#, "jobs[0]: run_at", "`ready_at`"),
    ("POST /jobs/ID/retry", r#"{"reset": true}"#, "reset", "`reset_attempts`"),
    ("POST /jobs/retry", r#"{"queue": "a"}"#, "queue", ""),
    ("PATCH /jobs/ID", r#"{"prioriti": 0}"#, "prioriti", "`priority`"),
    ("PATCH /jobs", r#"{"priority": 1, "run_at": 0}"#, "run_at", "`ready_at`"),
    ("PATCH /jobs/ID", r#"{"retention": {"dead": 0}}"#, "retention.dead", "`dead_ms`"),
    ("PATCH /jobs/ID", r#"{"payload": 0}"#, "payload", ""),
    ("PATCH /budgets/b", r#"{"allocations": 6}"#, "allocations", "`allocation`"),
    ("PATCH /budgets/b", r#"{"strategy": {"bursts": 6}}"#, "strategy.bursts", "`burst`"),
    ("PATCH /jobs/budgets/b", r#"{"cost": 1, "costs": 6}"#, "costs", "`cost`"),
    ("PATCH /crons/g", r#"{"pause": true}"#, "pause", "`paused`"),
    ("PATCH /crons/g/entries/e", r#"{"paused": true, "timezone": "UTC"}"#, "timezone", ""),
];

#[tokio::test]
async fn unknown_members_of_our_own_calls_and_of_patches_are_refused() {
    let server = Server::start().await;
    for format in [Format::Json, Format::MessagePack] {
        let client = server.client_as(Wire { format, ..Wire::default() });
        let policy = json!({"allocation": 5, "strategy": {"type": "time_based", "duration_ms": 9}});
        client.post("/budgets/b", &policy).await.expect(201);
        let entry = json!({"name": "e", "expression": "0 0 1 1 *", "job": job("priority", json!(1))});
        client.post("/crons/g/entries", &entry).await.expect(201);
        client.add("q").await;
        let taken = client.poll_one("q").await;
        let before = client.get("/jobs").await.expect(200);
        for (call, body, name, meant) in REFUSED {
            let (method, path) = call.split_once(' ').unwrap();
            let with_id = |text: &str| text.replace("ID", id(&taken));
            let body: Value = serde_json::from_str(&with_id(body)).unwrap();
            let answer = client.call(method.parse().unwrap(), &with_id(path)).value(&body).await;
            let refused = answer.expect_refusal(400, name);
            assert!(
                refused.starts_with(&format!("{name}: there is no such member here; ")),
                "{call}: {refused}"
            );
            let rest =
                if meant.is_empty() { "; there are ".to_owned() } else { format!("; did you mean {meant}?") };
            assert!(refused.contains(&rest), "{call} {body}: {refused}");
        }
        assert_eq!(client.get("/jobs").await.expect(200), before, "nothing was done");
        let line = client.poke(&format!("/jobs/{}/log", id(&taken)));
        let line = line.bytes("application/x-ndjson", "{\"line\":\"a\",\"level\":\"info\"}");
        line.await.expect_refusal(400, "level");
        client.poke("/reset").await.expect_nothing();
    }
}

/// Our worker says what a run has used, with every outcome.
#[tokio::test]
async fn an_outcome_may_say_what_its_run_has_used() {
    let server = Server::start().await;
    let client = server.client();
    let usage = json!({"cpu_ms": 5});
    for queue in ["one", "many", "failed"] {
        client.add(queue).await;
        let taken = client.poll_one(queue).await;
        let path = format!("/jobs/{}", id(&taken));
        match queue {
            "one" => {
                client
                    .post(&format!("{path}/success"), &json!({"result": 1, "usage": usage}))
                    .await
                    .expect_nothing();
            }
            "many" => {
                let jobs = json!({"jobs": [{"id": id(&taken), "lease": lease(&taken), "usage": usage}]});
                client.post("/jobs/success", &jobs).await.expect_nothing();
            }
            _ => {
                let failure = json!({"message": "m", "kill": true, "usage": usage});
                client.post(&format!("{path}/failure"), &failure).await.expect(200);
            }
        }
    }
    assert_eq!((client.count("status=in_flight").await, client.count("").await), (0, 1));
}

#[tokio::test]
async fn names_from_other_queues_are_translated_on_enqueue() {
    let server = Server::start().await;
    for format in [Format::Json, Format::MessagePack] {
        let client = server.client_as(Wire { format, ..Wire::default() });
        for (name, meant) in [
            ("delay", "`delay_ms`"),
            ("DelaySeconds", "`delay_ms`"),
            ("countdown", "`delay_ms`"),
            ("schedule_in", "`delay_ms`"),
            ("run_at", "`ready_at`"),
            ("runAt", "`ready_at`"),
            ("eta", "`ready_at`"),
            ("scheduled_at", "`ready_at`"),
            ("at", "`ready_at`"),
            ("readyAt", "`ready_at`"),
            ("retries", "`retry_limit`"),
            ("retry", "`retry_limit`"),
            ("max_attempts", "`retry_limit`"),
            ("maxAttempts", "`retry_limit`"),
            ("attempts", "`retry_limit`"),
            ("tries", "`retry_limit`"),
            ("queue_name", "`queue`"),
            ("tube", "`queue`"),
            ("args", "`payload`"),
            ("kwargs", "`payload`"),
            ("data", "`payload`"),
            ("MessageBody", "`payload`"),
            ("class", "`type`"),
            ("jobtype", "`type`"),
            ("kind", "`type`"),
            ("worker", "`type`"),
            ("pri", "`priority`"),
            ("jobId", "`unique_key`"),
            ("unique_for", "`unique_key`"),
            ("MessageDeduplicationId", "`unique_key`"),
            ("reserve_for", "`timeout_ms`"),
            ("ttr", "`timeout_ms`"),
            ("timeout", "`timeout_ms`"),
            ("removeOnComplete", "`retention`"),
            ("repeat", "a cron entry (PUT /crons/{group})"),
        ] {
            let sentence = format!("{name}: there is no such member here; did you mean {meant}?");
            for strict in [false, true] {
                let call = client.post("/jobs", &job(name, json!(5)));
                let call = if strict { call.header("prefer", "handling=strict") } else { call };
                assert_eq!(call.await.expect_refusal(400, name), sentence);
            }
            let bulk = json!({"jobs": [job("priority", json!(1)), job(name, json!(5))]});
            let refused = client.post("/jobs/bulk", &bulk).await.expect_refusal(400, name);
            assert_eq!(refused, format!("jobs[1]: {sentence}"));
            let entry = json!({"name": "e", "expression": "0 0 1 1 *", "job": job(name, json!(5))});
            client.post("/crons/g/entries", &entry).await.expect_refusal(400, name);
        }
        // What is missing is there under another name.
        for (instead, named) in [("queue", "queue_name"), ("type", "kind"), ("payload", "args")] {
            let mut job = job(named, json!("x"));
            job.as_object_mut().unwrap().remove(instead);
            let refused = client.post("/jobs", &job).await.expect_refusal(400, named);
            assert!(refused.ends_with(&format!("did you mean `{instead}`?")), "{refused}");
        }
        assert_eq!(client.count("").await, 0);
    }
}

#[tokio::test]
async fn other_unknown_members_of_an_enqueue_are_listed_as_ignored() {
    let server = Server::start().await;
    for format in [Format::Json, Format::MessagePack] {
        let client = server.client_as(Wire { format, ..Wire::default() });
        let queued = client.enqueue(&job("trace_id", json!({"run_at": 1}))).await;
        assert_eq!(queued["ignored"], json!(["trace_id"]));
        assert_eq!(client.enqueue(&job("priority", json!(1))).await.get("ignored"), None);
        let backoff = json!({"base_ms": 1, "exponent": 2, "jitter_ms": 3, "max_ms": 4});
        let mut several = job("backoff", backoff);
        several["tags"] = json!([]);
        let queued = client.enqueue(&several).await;
        let mut ignored: Vec<&str> =
            queued["ignored"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
        ignored.sort_unstable();
        assert_eq!(ignored, ["backoff.max_ms", "tags"]);
        assert_eq!(client.job(id(&queued)).await.get("ignored"), None, "it is said once");
        let waited = client.post("/jobs?wait_ms=1", &job("meta", json!(1))).await.expect(201);
        assert_eq!((&waited["ignored"], &waited["status"]), (&json!(["meta"]), &json!("ready")));
        let bulk = json!({"jobs": [job("a", json!(1)), job("priority", json!(1)), job("b", json!(1))], "atomic": true});
        let answer = client.post("/jobs/bulk", &bulk).await.expect(201);
        let of_jobs: Vec<Value> =
            answer["jobs"].as_array().unwrap().iter().map(|job| job["ignored"].clone()).collect();
        assert_eq!(of_jobs, [json!(["a"]), Value::Null, json!(["b"])]);
        assert_eq!(answer["ignored"], json!(["atomic"]));
        let beside = json!({"jobs": [], "queue": "q"});
        client.post("/jobs/bulk", &beside).await.expect_refusal(400, "queue: it belongs in each of the jobs");
    }
}

#[tokio::test]
async fn a_client_that_prefers_strict_handling_is_refused_what_would_be_ignored() {
    let server = Server::start().await;
    for format in [Format::Json, Format::MessagePack] {
        let client = server.client_as(Wire { format, ..Wire::default() });
        let bulk = |name: &str| json!({"jobs": [job("priority", json!(1)), job(name, json!(1))]});
        for prefer in [
            "handling=strict",
            "Handling = \"Strict\"; x=1",
            "wait=5, handling=strict",
            "handling=strict, handling=lenient",
        ] {
            let strict = |path: &str, body: &Value| client.post(path, body).header("prefer", prefer);
            let refused = strict("/jobs", &job("prioritie", json!(1))).await;
            assert_eq!(refused.header("preference-applied"), "handling=strict");
            let sentence = "prioritie: there is no such member here; did you mean `priority`?";
            assert_eq!(refused.expect_refusal(400, "prioritie"), sentence);
            let refused = strict("/jobs/bulk", &bulk("meta")).await;
            assert_eq!(refused.header("preference-applied"), "handling=strict");
            refused.expect_refusal(400, "jobs[1]: meta: there is no such member here");
            let beside = json!({"jobs": [], "atomic": true});
            strict("/jobs/bulk", &beside).await.expect_refusal(400, "atomic");
            let good = strict("/jobs", &job("priority", json!(1))).await;
            assert_eq!(good.header("preference-applied"), "handling=strict");
            good.expect(201);
            strict("/jobs/bulk", &bulk("priority")).await.expect(201);
        }
        let lenient = client.post("/jobs", &job("meta", json!(1))).header("prefer", "handling=lenient").await;
        assert_eq!(lenient.header("preference-applied"), "handling=lenient");
        assert_eq!(lenient.expect(201)["ignored"], json!(["meta"]));
        for prefer in ["", "respond-async", "handling=other", "xhandling=strict", "handling"] {
            let answer = client.post("/jobs", &job("meta", json!(1))).header("prefer", prefer).await;
            assert_eq!(answer.header("preference-applied"), "", "{prefer}");
            answer.expect(201);
        }
    }
}

#[tokio::test]
async fn calls_of_the_public_contract_take_what_newer_clients_send() {
    let server = Server::start().await;
    for format in [Format::Json, Format::MessagePack] {
        let client = server.client_as(Wire { format, ..Wire::default() });
        client.add("q").await;
        let taken = client.poll_one("q").await;
        let failure = json!({"message": "m", "kill": true, "severity": 5});
        assert_eq!(client.fail(&taken, &failure).await["status"], "dead");
        let policy =
            json!({"allocation": 5, "strategy": {"type": "while_in_flight", "fair": true}, "label": "x"});
        client.post("/budgets/b", &policy).await.expect(201);
        client.call(Method::PUT, "/budgets/b").value(&policy).await.expect(200);
        let bound = client.add("q").await;
        let path = format!("/jobs/{}/budgets", id(&bound));
        client.post(&format!("{path}/b"), &json!({"cost": 2, "label": "x"})).await.expect(200);
        let bindings = json!({"budgets": [{"key": "b", "label": 1}], "label": 2});
        client.call(Method::PUT, &path).value(&bindings).await.expect(200);
        let entry = json!({"name": "e", "expression": "0 0 1 1 *", "label": 1, "job": job("meta", json!(1))});
        client
            .call(Method::PUT, "/crons/g")
            .value(&json!({"entries": [entry], "label": 1}))
            .await
            .expect(200);
        // So is an ack, for the work is done; but not a result under another name, nor a list that is none.
        client.add("done").await;
        let taken = client.poll_one("done").await;
        let success = format!("/jobs/{}/success", id(&taken));
        let refused =
            client.post(&success, &json!({"return_value": 5})).await.expect_refusal(400, "return_value");
        assert_eq!(refused, "return_value: there is no such member here; did you mean `result`?");
        let refused =
            client.post("/jobs/success", &json!({"id": id(&taken)})).await.expect_refusal(400, "id");
        assert_eq!(refused, "id: there is no such member here; did you mean `ids`?");
        client.post(&success, &json!({"message": "m"})).await.expect_nothing();
        client.add("done").await;
        let taken = client.poll_one("done").await;
        let many = json!({"jobs": [{"id": id(&taken), "lease": lease(&taken), "label": 1}], "label": 1});
        client.post("/jobs/success", &many).await.expect_nothing();
        // A failure says what is meant where that is clear.
        client.add("again").await;
        let taken = client.poll_one("again").await;
        for (body, sentence) in [
            (json!({"error": "m"}), "error: there is no such member here; did you mean `message`?"),
            (
                json!({"message": "m", "retry_after": 5}),
                "retry_after: there is no such member here; did you mean `retry_at`?",
            ),
            (
                json!({"message": "m", "stack": "s"}),
                "stack: there is no such member here; did you mean `backtrace`?",
            ),
        ] {
            let refused = client.post(&format!("/jobs/{}/failure", id(&taken)), &body).await;
            assert_eq!(refused.expect_refusal(400, ""), sentence);
        }
        client.poke("/reset").await.expect_nothing();
    }
}
