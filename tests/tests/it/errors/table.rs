//! The bad requests, by what is bad about them.

use protocol::media::Format;
use serde_json::{Value, json};
use tests::client::encode;

use super::{JSON, MSGPACK, NO_JOB};

/// All of them.
pub(super) fn table() -> Vec<Bad> {
    let tables =
        [broken_bodies(), bad_members(), bad_messagepack(), bad_calls(), bad_urls(), wrong_methods()];
    tables.into_iter().flatten().collect()
}

/// A request that must be refused.
pub(super) struct Bad {
    pub(super) request: String,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) status: u16,
    /// What the sentence must contain.
    pub(super) names: String,
}

/// A bad request without a body.
fn bad(request: impl Into<String>, status: u16, names: &str) -> Bad {
    Bad { request: request.into(), content_type: "", body: Vec::new(), status, names: names.to_owned() }
}

/// A bad request with a body of JSON, or of something that should have been JSON.
fn body(request: impl Into<String>, text: impl Into<Vec<u8>>, status: u16, names: &str) -> Bad {
    Bad { request: request.into(), content_type: JSON, body: text.into(), status, names: names.to_owned() }
}

/// `POST /jobs` of a job that is fine but for these members.
fn job(members: &Value, status: u16, names: &str) -> Bad {
    let mut job = json!({"queue": "q", "type": "t", "payload": null});
    for (name, value) in members.as_object().unwrap() {
        job[name] = value.clone();
    }
    body("POST /jobs", job.to_string(), status, names)
}

/// `POST /jobs` of bytes that should have been MessagePack.
fn packed(bytes: impl Into<Vec<u8>>, names: &str) -> Bad {
    Bad { content_type: MSGPACK, ..body("POST /jobs", bytes, 400, names) }
}

fn broken_bodies() -> Vec<Bad> {
    let deep =
        |n: usize| format!(r#"{{"queue":"q","type":"t","payload":{}{}}}"#, "[".repeat(n), "]".repeat(n));
    vec![
        body("POST /jobs", "", 400, "empty"),
        body("POST /jobs", "{", 400, "JSON"),
        body("POST /jobs", "nonsense", 400, "JSON"),
        body("POST /jobs", r#"{"queue": "q","#, 400, "JSON"),
        body("POST /jobs", r#"{"queue": "q", "type": "t", "payload": }"#, 400, "JSON"),
        body("POST /jobs", r#"{"queue": "q", "type": "t", "payload": 1} {}"#, 400, "JSON"),
        body("POST /jobs", r#"{"queue": "q", "type": "t", "payload": 01}"#, 400, "JSON"),
        body("POST /jobs", r#"{"queue": "q", "type": "t", "payload": NaN}"#, 400, "JSON"),
        body("POST /jobs", r#"{'queue': 'q'}"#, 400, "JSON"),
        body("POST /jobs", "[]", 400, "object"),
        body("POST /jobs", "null", 400, "object"),
        body("POST /jobs", "7", 400, "object"),
        body("POST /jobs", "\"queue\"", 400, "object"),
        body("POST /jobs", b"{\"queue\": \"\xff\xfe\", \"type\": \"t\", \"payload\": 1}", 400, "UTF-8"),
        body("POST /jobs", b"{\"queue\": \"q\", \"type\": \"t\", \"payload\": \"\xc3\x28\"}", 400, "UTF-8"),
        body("POST /jobs", r#"{"queue": "q", "type": "t", "payload": "\ud800"}"#, 400, "payload"),
        body("POST /jobs", r#"{"queue": "q", "type": "t", "payload": 1e999}"#, 400, "payload"),
        body("POST /jobs", r#"{"queue": "q", "queue": "r", "type": "t", "payload": 1}"#, 400, "queue"),
        body("POST /jobs", r#"{"queue": "q", "type": "t", "payload": 1, "payload": 2}"#, 400, "payload"),
        body("POST /jobs", deep(128), 400, "128"),
        body("POST /jobs", deep(100_000), 400, "128"),
        body("POST /jobs", format!("{}1", r#"{"payload":"#.repeat(200_000)), 400, "128"),
    ]
}

fn bad_members() -> Vec<Bad> {
    let long = "x".repeat(256);
    let mut table = vec![
        body("POST /jobs", r#"{"type": "t", "payload": 1}"#, 400, "queue"),
        body("POST /jobs", r#"{"queue": "q", "payload": 1}"#, 400, "type"),
        body("POST /jobs", r#"{"queue": "q", "type": "t"}"#, 400, "payload"),
        job(&json!({"queue": 7}), 400, "queue"),
        job(&json!({"queue": null}), 400, "queue"),
        job(&json!({"queue": ""}), 400, "queue"),
        job(&json!({"queue": long}), 400, "queue"),
        job(&json!({"type": ["t"]}), 400, "type"),
        job(&json!({"type": ""}), 400, "type"),
        job(&json!({"type": long}), 400, "type"),
        job(&json!({"priority": "high"}), 400, "priority"),
        job(&json!({"priority": -1}), 400, "priority"),
        job(&json!({"priority": 65_536}), 400, "65536"),
        job(&json!({"priority": 1.5}), 400, "1.5"),
        job(&json!({"priority": 1e300}), 400, "priority"),
        job(&json!({"ready_at": -5}), 400, "ready_at"),
        job(&json!({"ready_at": "tomorrow"}), 400, "tomorrow"),
        job(&json!({"ready_at": 1e30}), 400, "ready_at"),
        job(&json!({"retry_limit": -1}), 400, "retry_limit"),
        job(&json!({"retry_limit": 4_294_967_296_u64}), 400, "retry_limit"),
        job(&json!({"backoff": 5}), 400, "backoff"),
        job(&json!({"backoff": [1, 2, 3]}), 400, "backoff"),
        job(&json!({"backoff": {"base_ms": 1, "exponent": 2}}), 400, "jitter_ms"),
        job(&json!({"backoff": {"base_ms": -1, "exponent": 2, "jitter_ms": 0}}), 400, "backoff.base_ms"),
        job(&json!({"backoff": {"base_ms": 1, "exponent": "x", "jitter_ms": 0}}), 400, "backoff.exponent"),
        job(&json!({"retention": "long"}), 400, "retention"),
        job(&json!({"retention": {"completed_ms": -1}}), 400, "retention.completed_ms"),
        job(&json!({"retention": {"dead_ms": []}}), 400, "retention.dead_ms"),
        job(&json!({"unique_key": ""}), 400, "unique_key"),
        job(&json!({"unique_key": 5}), 400, "unique_key"),
        job(&json!({"unique_key": "k".repeat(1_025)}), 400, "1024 bytes"),
        job(&json!({"unique_key": "k", "unique_while": "forever"}), 400, "unique_while"),
        job(&json!({"unique_while": "active"}), 400, "unique_while"),
        job(&json!({"batch": 5}), 400, "batch"),
        job(&json!({"batch": {"key": "k", "when": "true"}}), 400, "batch: missing field `fold`"),
        job(&json!({"batch": {"key": "", "when": "true", "fold": "$new"}}), 400, "batch.key"),
        job(&json!({"batch": {"key": "k".repeat(1_025), "when": "true", "fold": "$new"}}), 400, "1024 bytes"),
        job(&json!({"batch": {"key": "k", "when": 1, "fold": "$new"}}), 400, "batch.when"),
        job(&json!({"batch": {"key": "k", "when": "1", "fold": "1".repeat(16_385)}}), 400, "16384 bytes"),
        job(&json!({"unique_key": "u", "batch": {"key": "k", "when": "1", "fold": "1"}}), 400, "unique_key"),
        job(&json!({"batch": {"key": "k", "when": "true", "fold": "$news"}}), 422, "batch.fold: `$news`"),
        job(
            &json!({"budgets": [{"key": "k"}]}),
            422,
            "budgets[0]: no budget has the key `k`; create it with PUT /budgets/k",
        ),
        job(&json!({"timeout_ms": 0}), 400, "timeout_ms"),
        job(&json!({"timeout_ms": -5}), 400, "timeout_ms"),
        job(&json!({"timeout_ms": "5s"}), 400, "timeout_ms"),
    ];
    for reserved in [",", "*", "?", "[", "]", "{", "}", "\\", "\u{0}", "\n", "\u{7f}"] {
        table.push(job(&json!({"queue": format!("a{reserved}b")}), 400, "queue"));
        table.push(job(&json!({"type": format!("a{reserved}b")}), 400, "type"));
    }
    table
}

fn bad_messagepack() -> Vec<Bad> {
    // Everything but the payload, which comes last.
    let start = b"\x83\xa5queue\xa1q\xa4type\xa1t\xa7payload";
    let payload = |bytes: &[u8]| [start, bytes].concat();
    vec![
        packed(Vec::new(), "empty"),
        packed(payload(&[]), "end"),
        packed(payload(&[0xa5, b'a']), "end"),
        packed(payload(&[0xdd, 0xff, 0xff, 0xff, 0xff]), "end"),
        packed(payload(&[0xc0, 0xc0]), "trailing"),
        packed(payload(&[0xc4, 1, 0]), "bin"),
        packed(payload(&[0xd4, 1, 0]), "ext"),
        packed(payload(&[0xc1]), "MessagePack"),
        packed(payload(&[&[0xcb][..], &f64::NAN.to_be_bytes()].concat()), "NaN"),
        packed(payload(&[&[0xca][..], &f32::INFINITY.to_be_bytes()].concat()), "infinity"),
        packed(payload(&[0x81, 1, 1]), "key"),
        packed(payload(&[0xa2, 0xc3, 0x28]), "UTF-8"),
        packed(payload(&[vec![0x91; 128], vec![0xc0]].concat()), "128"),
        packed(payload(&[vec![0x91; 500_000], vec![0xc0]].concat()), "128"),
        packed(vec![0x90], "object"),
        packed(encode(Format::MessagePack, &json!({"queue": "", "type": "t", "payload": 1})), "queue"),
        packed(
            encode(Format::MessagePack, &json!({"queue": "q", "type": "t", "payload": 1, "priority": -1})),
            "priority",
        ),
        packed(b"{\"queue\": \"q\", \"type\": \"t\", \"payload\": 1}", "MessagePack"),
    ]
}

fn bad_calls() -> Vec<Bad> {
    let of = |verb: &str| format!("POST /jobs/{NO_JOB}/{verb}");
    vec![
        body("POST /jobs/bulk", "{}", 400, "jobs"),
        body("POST /jobs/bulk", r#"{"jobs": {}}"#, 400, "jobs"),
        body("POST /jobs/bulk", r#"{"jobs": [7]}"#, 400, "jobs[0]: "),
        body(
            "POST /jobs/bulk",
            r#"{"jobs": [{"queue": "q", "type": "t", "payload": 1}, {"queue": "q", "type": "t"}]}"#,
            400,
            "jobs[1]: ",
        ),
        body(
            "POST /jobs/bulk",
            r#"{"jobs": [{"queue": "q", "type": "t", "payload": 1, "unique_key": ""}]}"#,
            400,
            "jobs[0]: ",
        ),
        body("POST /jobs/success", "[]", 400, "object"),
        body("POST /jobs/success", r#"{"ids": "x"}"#, 400, "ids"),
        body("POST /jobs/success", r#"{"ids": [5]}"#, 400, "ids"),
        body("POST /jobs/success", r#"{"jobs": [{"lease": "0123456789abcdef"}]}"#, 400, "id"),
        body("POST /jobs/release", r#"{"jobs": 1}"#, 400, "jobs"),
        body("POST /jobs/heartbeat", r#"{"jobs": [{"id": 5}]}"#, 400, "id"),
        body(
            "POST /jobs/heartbeat",
            format!(r#"{{"jobs": [{{"id": "{NO_JOB}", "lease_ms": 999}}]}}"#),
            400,
            "lease_ms",
        ),
        body(of("failure"), "", 400, "empty"),
        body(of("failure"), "{}", 400, "message"),
        body(of("failure"), r#"{"message": 5}"#, 400, "message"),
        body(of("failure"), r#"{"message": "m", "retry_at": -1}"#, 400, "retry_at"),
        body(of("failure"), r#"{"message": "m", "kill": "yes"}"#, 400, "kill"),
        body(of("failure"), r#"{"message": "m"}"#, 404, NO_JOB),
        body(of("heartbeat"), r#"{"progress": 1.5}"#, 400, "progress"),
        body(of("heartbeat"), r#"{"progress": -0.1}"#, 400, "progress"),
        body(of("heartbeat"), r#"{"lease_ms": 43200001}"#, 400, "lease_ms"),
        body(of("heartbeat"), "{}", 404, NO_JOB),
        body(of("release"), r#"{"ready_at": "now"}"#, 400, "ready_at"),
        bad(of("release"), 404, NO_JOB),
        bad(of("success"), 404, NO_JOB),
        bad(format!("{}?lease=short", of("success")), 400, "lease"),
        body("POST /jobs/take", r#"{"limit": 0}"#, 400, "limit"),
        body("POST /jobs/take", r#"{"limit": 1001}"#, 400, "limit"),
        body("POST /jobs/take", r#"{"wait_ms": 60001}"#, 400, "wait_ms"),
        body("POST /jobs/take", r#"{"lease_ms": 999}"#, 400, "lease_ms"),
        body("POST /jobs/take", r#"{"queues": "q"}"#, 400, "queues"),
        body("POST /jobs/take", r#"{"queues": ["a*"]}"#, 400, "a*"),
        bad("GET /jobs/take?prefetch=-1", 400, "prefetch"),
        bad("GET /jobs/take?prefetch=many", 400, "many"),
        bad("GET /jobs/take?lease_ms=999", 400, "lease_ms"),
        bad("GET /jobs/take?lease_ms=43200001", 400, "lease_ms"),
        bad("GET /jobs/take?resume_ms=x", 400, "resume_ms"),
        bad("GET /jobs/take?queue=a*", 400, "a*"),
        bad("GET /jobs/take?colour=red", 400, "colour"),
    ]
}

fn bad_urls() -> Vec<Bad> {
    let known = |path: &str| path.replace("{id}", NO_JOB);
    vec![
        bad("GET /nothing/here", 404, "/nothing/here"),
        bad("GET /jobs/", 404, ""),
        bad("GET //jobs", 404, ""),
        bad("POST /jobs/bulk/more", 404, "/jobs/bulk/more"),
        bad(known("GET /jobs/{id}/nothing"), 404, "nothing"),
        bad(known("GET /jobs/{id}"), 404, NO_JOB),
        bad(known("DELETE /jobs/{id}"), 404, NO_JOB),
        bad("GET /jobs/nonsense", 404, "nonsense"),
        bad("GET /jobs/0123456789ABCDEFGHIJKLMNO", 404, "0123456789ABCDEFGHIJKLMNO"),
        bad("GET /jobs/%F0%9F%98%80", 404, ""),
        bad("DELETE /jobs/nonsense", 404, "nonsense"),
        bad("POST /jobs/nonsense/success", 404, "nonsense"),
        bad(known("GET /jobs/{id}/errors"), 404, NO_JOB),
        bad(known("GET /jobs/{id}/errors/1"), 404, NO_JOB),
        bad(known("GET /jobs/{id}/errors/first"), 404, "first"),
        bad(known("GET /jobs/{id}/errors?limit=0"), 400, "limit"),
        bad(known("GET /jobs/{id}/errors?order=up"), 400, "order"),
        bad(known("GET /jobs/{id}/errors?from=x"), 404, NO_JOB),
        bad("GET /jobs?id=nonsense", 400, "nonsense"),
        bad(format!("GET /jobs?id={NO_JOB},x"), 400, "x"),
        bad("GET /jobs/count?id=nonsense", 400, "nonsense"),
        bad("GET /jobs?status=lost", 400, "lost"),
        bad("GET /jobs/count?status=READY", 400, "READY"),
        bad("GET /jobs?order=up", 400, "order"),
        bad("GET /jobs?limit=2001", 400, "2001"),
        bad("GET /jobs?limit=0", 400, "limit"),
        bad("GET /jobs?priority=65536", 400, "priority"),
        bad("GET /jobs?colour=red", 400, "colour"),
        bad("GET /jobs/count?limit=5", 400, "limit"),
        bad("GET /jobs?queue=a&queue=b", 400, "queue"),
        bad("GET /jobs?limit=1&limit=1", 400, "limit"),
        bad("GET /jobs?queue=%zz", 400, "%zz"),
        bad("GET /jobs?queue=%4", 400, "%4"),
        bad("GET /jobs?queue=%ff", 400, "UTF-8"),
        bad("GET /jobs/%zz", 404, ""),
        bad("GET /health?verbose=1", 400, "verbose"),
        bad("GET /queues?colour=red", 400, "colour"),
        bad("POST /reset?really=1", 400, "really"),
    ]
}

fn wrong_methods() -> Vec<Bad> {
    let requests = [
        "PUT /jobs",
        "PUT /jobs/bulk",
        "POST /health",
        "DELETE /queues",
        "GET /reset",
        "PUT /jobs/take",
        "POST /version",
        "BREW /jobs",
        "POST /jobs/count",
        "DELETE /jobs/{id}/success",
        "GET /jobs/{id}/failure",
        "POST /jobs/{id}",
        "POST /jobs/{id}/errors",
    ];
    requests
        .map(|request| bad(request.replace("{id}", NO_JOB), 405, request.split(' ').next().unwrap()))
        .into()
}
