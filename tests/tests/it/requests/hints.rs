//! Hints for requests that are almost right.

use http::Method;
use protocol::media::Format;
use serde_json::{Value, json};
use tests::wait::until;
use tests::{Server, Wire, id};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn json_answers_end_with_a_line_end_and_others_do_not() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        client.add("q").await;
        let job = client.add("q").await;
        for path in [
            "/health".to_owned(),
            "/jobs".to_owned(),
            format!("/jobs/{}", id(&job)),
            "/queues?details=true".to_owned(),
            "/nowhere".to_owned(),
            "/jobs?limit=0".to_owned(),
        ] {
            let answer = client.get(&path).await;
            let is_json = wire.format == Format::Json;
            assert_eq!(answer.body.ends_with(b"}\n"), is_json, "{path}: {answer:?}");
            assert!(!answer.body.ends_with(b"\n\n"), "{path}");
            if !answer.header("content-length").is_empty() {
                assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "{path}");
            }
            assert!(answer.value().is_object(), "{path}");
            let head = client.call(Method::HEAD, &path).await;
            assert_eq!(head.header("content-length"), answer.body.len().to_string(), "HEAD {path}");
        }
        let polled = client.post("/jobs/take", &json!({"limit": 5})).await;
        assert_eq!(polled.header("content-length"), polled.body.len().to_string());
        assert_eq!(polled.body.ends_with(b"}\n"), wire.format == Format::Json);
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn json_under_the_default_type_of_curl_is_read_as_json() {
    let server = Server::start().await;
    let client = server.client();
    let job = json!({"queue": "q", "type": "t", "payload": null});
    for body in [job.to_string(), format!("\n  {job}")] {
        client.poke("/jobs").bytes(FORM, body).await.expect(201);
    }
    let with_charset = format!("{FORM}; charset=utf-8");
    client.poke("/jobs/bulk").bytes(&with_charset, json!({"jobs": [job]}).to_string()).await.expect(201);
    client.poke("/jobs/bulk").bytes(FORM, json!([job]).to_string()).await.expect_refusal(400, "an array");
    let taken = client.poll_one("q").await;
    let log = format!("/jobs/{}/log", id(&taken));
    client.poke(&log).bytes(FORM, "{\"line\":\"a\"}").await.expect_nothing();
    for (path, body) in [("/jobs", "queue=q&type=t"), ("/jobs", "\"q\""), (log.as_str(), "a=b")] {
        let refused = client.poke(path).bytes(FORM, body).await;
        assert_eq!(refused.header("content-type"), JSON);
        refused.expect_refusal(415, FORM);
    }
    let refused = client.poke("/jobs").bytes(FORM, "queue=q").await.expect_refusal(415, FORM);
    assert!(refused.contains("content-type: application/json"), "{refused}");
    for other in ["text/plain", "multipart/form-data"] {
        client.poke("/jobs").bytes(other, job.to_string()).await.expect_refusal(415, other);
    }
    assert_eq!(client.count("").await, 3);
}

#[tokio::test]
async fn a_first_start_warns_of_nothing() {
    let mut server = Server::start().await;
    server.client().add("q").await;
    let log = server.process().log();
    assert!(!log.contains("WARN"), "{log}");
    let mut asked = Server::with(["--max-connections", "1000000"]).await;
    until("a warning, for more is asked than there can be", async || {
        let log = asked.process().log();
        (log.contains("WARN") && log.contains("--max-connections")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_path_that_is_almost_right_is_corrected() {
    let server = Server::start().await;
    let client = server.client();
    for (method, path, meant) in [
        (Method::GET, "/jobs/", "GET /jobs?"),
        (Method::POST, "/jobs/bulk/", "POST /jobs/bulk?"),
        (Method::GET, "/job", "GET /jobs?"),
        (Method::GET, "/queue/mails", "GET /queues/mails?"),
        (Method::POST, "/jobs/x/sucess", "POST /jobs/x/success?"),
        (Method::PUT, "/cron/nightly", "PUT /crons/nightly?"),
        (Method::GET, "/api/v1/jobs", "GET /jobs?"),
    ] {
        let refused = client.call(method, path).await.expect_refusal(404, "no such endpoint: ");
        assert!(refused.ends_with(&format!("; did you mean {meant}")), "{refused}");
    }
    let refused = client.get("/favicon.ico").await.expect_refusal(404, "/favicon.ico");
    assert!(!refused.contains("did you mean"), "{refused}");
}

#[tokio::test]
async fn a_parameter_that_is_almost_right_is_corrected() {
    let server = Server::start().await;
    let client = server.client();
    for (path, meant) in [
        ("/jobs?queues=mails", "`queue=mails`"),
        ("/jobs?state=dead", "`status=dead`"),
        ("/jobs?per_page=5", "`limit=5`"),
        ("/jobs?cursor=x", "`from=x`"),
        ("/jobs?sort=desc", "`order=desc`"),
        ("/jobs?attempts%3E=3", "`attempts=3..`"),
        ("/jobs?attempts%3E3", "`attempts=4..`"),
        ("/jobs/count?priorty=3", "`priority=3`"),
        ("/queues?detail=true", "`details=true`"),
    ] {
        let refused = client.get(path).await.expect_refusal(400, "is unknown here");
        assert!(refused.ends_with(&format!("; did you mean {meant}?")), "{path}: {refused}");
    }
    for (query, meant) in [
        ("attempts=%3E3", "4.."),
        ("attempts=%3E=3", "3.."),
        ("priority=1-5", "1..5"),
        ("priority=%3C5", "..4"),
    ] {
        for path in ["/jobs", "/jobs/count"] {
            let refused = client.get(&format!("{path}?{query}")).await.expect_refusal(400, "range");
            assert!(refused.ends_with(&format!("; did you mean {meant}?")), "{query}: {refused}");
        }
    }
    let refused = client.get("/jobs?colour=red").await.expect_refusal(400, "colour");
    assert!(!refused.contains("did you mean"), "{refused}");
}

#[tokio::test]
async fn a_bare_array_of_jobs_is_told_where_to_go() {
    let server = Server::start().await;
    for format in [Format::Json, Format::MessagePack] {
        let client = server.client_as(Wire { format, ..Wire::default() });
        let jobs = json!([{"queue": "q", "type": "t", "payload": 1}]);
        client
            .post("/jobs/bulk", &jobs)
            .await
            .expect_refusal(400, r#"expected an object, not an array: {"jobs": [...]}"#);
        client.post("/jobs", &jobs).await.expect_refusal(400, "POST /jobs/bulk takes several jobs");
    }
}

#[tokio::test]
async fn a_queue_that_is_almost_one_of_those_with_jobs_is_noted() {
    let server = Server::start().await;
    let client = server.client();
    client.add("mails").await;
    let shown = client.get("/queues/mail").await.expect(200);
    assert_eq!(shown["note"], "no job is in this queue; did you mean `mails`?");
    for name in ["mails", "thumbnails"] {
        assert_eq!(client.get(&format!("/queues/{name}")).await.expect(200).get("note"), None, "{name}");
    }
    let paused = client.poke("/queues/mail/pause").await.expect(200);
    let note = paused["note"].as_str().unwrap();
    assert!(note.contains("deleted with DELETE") && note.ends_with("did you mean `mails`?"), "{note}");
    assert_eq!(client.poke("/queues/mails/pause").await.expect(200).get("note"), None);
}

#[tokio::test]
async fn a_forgotten_pause_can_be_removed() {
    let mut server = Server::start().await;
    let names = |shown: &Value| -> Vec<String> {
        let queues = shown["queues"].as_array().unwrap();
        queues.iter().map(|queue| queue["name"].as_str().unwrap().to_owned()).collect()
    };
    let client = server.client();
    for queue in ["removed", "resumed", "kept", "full"] {
        client.poke(&format!("/queues/{queue}/pause")).await.expect(200);
    }
    let job = client.add("full").await;
    client.delete("/queues/removed").await.expect_nothing();
    client.poke("/queues/resumed/resume").await.expect(200);
    client.delete("/queues/full").await.expect_refusal(409, "has 1 job;");
    for queue in ["removed", "resumed", "never", "a,b"] {
        client.delete(&format!("/queues/{queue}")).await.expect_refusal(404, "");
    }
    assert_eq!(names(&client.get("/queues?details=true").await.expect(200)), ["full", "kept"]);
    server.kill9().await;
    server.restart().await;
    let client = server.client();
    assert_eq!(names(&client.get("/queues?details=true").await.expect(200)), ["full", "kept"]);
    assert_eq!(client.get("/queues/full").await.expect(200)["paused"], json!(true));
    assert_eq!(client.get("/queues/removed").await.expect(200)["paused"], json!(false));
    // What is taken from it counts, too.
    client.poke("/queues/full/resume").await.expect(200);
    let taken = client.poll_one("full").await;
    client.delete("/queues/full").await.expect_refusal(409, "has 1 job;");
    client.succeed(&taken).await;
    assert_eq!(client.status(id(&job)).await, None);
    client.delete("/queues/full").await.expect_refusal(404, "is not paused");
}
