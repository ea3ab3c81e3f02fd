//! What `null` means in every merge patch.

use http::Method;
use serde_json::{Value, json};
use tests::wait::now_ms;
use tests::{Client, Server, Wire, id};

/// What a `null` does.
enum Null {
    /// It is refused with 422, naming the member.
    Refused,
    /// It leaves everything as it is.
    Nothing,
    /// The member goes back to its default, and is shown no more.
    Cleared,
}

/// Puts `null` where a path of members says.
fn null_at(path: &str) -> Value {
    path.rsplit('.').fold(Value::Null, |value, member| json!({member: value}))
}

fn member<'a>(of: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(of, |value, member| &value[member])
}

/// A target as it is shown, less what changes with every patch.
async fn shown(client: &Client, path: &str) -> Value {
    let mut shown = client.get(path).await.expect(200);
    shown.as_object_mut().unwrap().remove("updated_at");
    shown
}

async fn check(client: &Client, path: &str, table: &[(&str, Null)]) {
    for (members, null) in table {
        let before = shown(client, path).await;
        let answer = client.patch(path, &null_at(members)).await;
        match null {
            Null::Refused => {
                answer.expect_refusal(422, &format!("{members}: "));
                assert_eq!(shown(client, path).await, before, "{path} {members}");
            }
            Null::Nothing => {
                answer.expect(200);
                assert_eq!(shown(client, path).await, before, "{path} {members}");
            }
            Null::Cleared => {
                answer.expect(200);
                assert_ne!(member(&before, members), &Value::Null, "{path} {members} is there");
                let after = shown(client, path).await;
                assert_eq!(member(&after, members), &Value::Null, "{path} {members} is gone");
            }
        }
    }
}

#[tokio::test]
async fn null_in_a_merge_patch_resets_what_has_a_default_and_is_refused_elsewhere() {
    use Null::{Cleared, Nothing, Refused};
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let job = json!({"queue": "q", "type": "t", "payload": 1, "retry_limit": 3, "ready_at": 1_000,
            "backoff": {"base_ms": 1, "exponent": 1, "jitter_ms": 1},
            "retention": {"completed_ms": 5, "dead_ms": 7}});
        let ready = client.enqueue(&job).await;
        let of_jobs = |ready_at| {
            [
                ("queue", Refused),
                ("priority", Refused),
                ("ready_at", ready_at),
                ("retry_limit", Cleared),
                ("backoff", Cleared),
                ("retention.completed_ms", Cleared),
                ("retention", Cleared),
            ]
        };
        check(&client, &format!("/jobs/{}", id(&ready)), &of_jobs(Nothing)).await;
        let held = client.enqueue(&job).await;
        client.delete(&format!("/jobs/{}", id(&ready))).await.expect_nothing();
        client.poll_one("q").await;
        check(&client, &format!("/jobs/{}", id(&held)), &of_jobs(Nothing)).await;

        let budget = |strategy: Value| json!({"allocation": 5, "strategy": strategy});
        let held = json!({"type": "while_in_flight"});
        client.call(Method::PUT, "/budgets/held").value(&budget(held)).await.expect(200);
        let timed = json!({"type": "time_based", "duration_ms": 1_000, "burst": 3});
        client.call(Method::PUT, "/budgets/timed").value(&budget(timed)).await.expect(200);
        for key in ["held", "timed"] {
            let table = [("allocation", Refused), ("strategy", Refused), ("strategy.type", Refused)];
            check(&client, &format!("/budgets/{key}"), &table).await;
        }
        let table = [("strategy.duration_ms", Refused), ("strategy.burst", Cleared)];
        check(&client, "/budgets/timed", &table).await;

        let entry = json!({"name": "e", "expression": "0 0 1 1 *", "timezone": "Europe/Berlin",
            "job": {"queue": "q", "type": "t", "payload": 1}});
        let group = json!({"timezone": "Europe/Berlin", "paused": true, "entries": [entry]});
        client.call(Method::PUT, "/crons/g").value(&group).await.expect(200);
        check(&client, "/crons/g", &[("paused", Refused), ("timezone", Cleared)]).await;
        check(&client, "/crons/g/entries/e", &[("paused", Refused)]).await;
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn null_as_the_cost_of_a_binding_is_refused() {
    let server = Server::start().await;
    let client = server.client();
    let policy = json!({"allocation": 5, "strategy": {"type": "while_in_flight"}});
    client.post("/budgets/b", &policy).await.expect(201);
    let budgets = json!([{"key": "b", "cost": 2}]);
    let job = client.enqueue(&json!({"queue": "q", "type": "t", "payload": 1, "budgets": budgets})).await;
    for path in [format!("/jobs/{}/budgets/b", id(&job)), "/jobs/budgets/b?queue=q".to_owned()] {
        client.patch(&path, &json!({"cost": null})).await.expect_refusal(422, "cost: ");
        client.patch(&path, &json!({})).await.expect_refusal(400, "cost");
    }
    assert_eq!(client.job(id(&job)).await["budgets"], budgets);
}

#[tokio::test]
async fn a_null_ready_at_makes_a_scheduled_job_ready_and_leaves_a_ready_one_in_its_place() {
    let server = Server::start().await;
    let client = server.client();
    let first = client.add("q").await;
    client.add("q").await;
    let null = json!({"ready_at": null});
    let patched = client.patch(&format!("/jobs/{}", id(&first)), &null).await.expect(200);
    assert_eq!(patched["ready_at"], first["ready_at"]);
    assert_eq!(id(&client.poll_one("q").await), id(&first), "it is still the first");

    let later = now_ms() + 3_600_000;
    let waiting = client.enqueue(&json!({"queue": "w", "type": "t", "payload": 1, "ready_at": later})).await;
    assert_eq!(waiting["status"], "scheduled");
    let patched = client.patch(&format!("/jobs/{}", id(&waiting)), &null).await.expect(200);
    assert_eq!(patched["status"], "ready");
    assert!(patched["ready_at"].as_u64().unwrap() < later - 3_000_000);
    // A job in flight that was told to wait afterwards need not any more.
    let held = client.poll_one("w").await;
    client.patch(&format!("/jobs/{}", id(&held)), &json!({"ready_at": later})).await.expect(200);
    client.patch(&format!("/jobs/{}", id(&held)), &null).await.expect(200);
    client.release(&held).await;
    assert_eq!(id(&client.poll_one("w").await), id(&held));
}
