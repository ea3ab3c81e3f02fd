//! Filtering by jq, with valid, invalid and harmful expressions.

use std::time::{Duration, Instant};

use protocol::error::Code;
use protocol::media::Format;
use serde_json::{Value, json};
use tests::{Client, Server, Wire, id};
use tokio::sync::watch;

use crate::probe;

async fn add(client: &Client, payloads: impl IntoIterator<Item = Value>) -> Vec<String> {
    let jobs = payloads.into_iter().map(|payload| json!({"queue": "q", "type": "t", "payload": payload}));
    client.enqueue_all(jobs).await.iter().map(|job| id(job).to_owned()).collect()
}

fn encoded(expression: &str) -> String {
    expression.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn list(expression: &str) -> String {
    format!("/jobs?filter={}", encoded(expression))
}

async fn matching(client: &Client, expression: &str) -> Vec<String> {
    let page = client.get(&list(expression)).await.expect(200);
    let ids: Vec<String> = page["jobs"].as_array().unwrap().iter().map(|job| id(job).to_owned()).collect();
    assert_eq!(client.count(&format!("filter={}", encoded(expression))).await, ids.len() as u64);
    ids
}

#[tokio::test]
async fn any_truthy_output_is_a_match() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let payloads = [
            json!({"user_id": 42, "tags": ["a"]}),
            json!({"user_id": 43, "tags": []}),
            json!(null),
            json!("42"),
        ];
        let ids = add(&client, payloads).await;
        for (expression, expected) in [
            (".user_id == 42", &ids[..1]),
            (".user_id?", &ids[..2]),
            (".tags[0]? // false", &ids[..1]),
            ("type == \"object\" and .user_id > 42", &ids[1..2]),
            (".", &[ids[0].clone(), ids[1].clone(), ids[3].clone()]),
            ("0", &ids[..]),
            ("\"\"", &ids[..]),
            ("empty", &[]),
            ("error", &[]),
            ("tonumber == 42", &ids[3..]),
        ] {
            assert_eq!(matching(&client, expression).await, expected, "{expression}");
        }
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn pages_of_matches_follow_each_other() {
    let server = Server::start().await;
    let client = server.client();
    for part in 0..3 {
        add(&client, (0..1_000).map(|n| json!({"n": part * 1_000 + n}))).await;
    }
    assert_eq!(client.count("filter=.n+%25+7+%3D%3D+0").await, 429);
    let mut seen = Vec::new();
    let mut next = Some(format!("{}&queue=q&status=ready&limit=100", list(".n % 7 == 0")));
    while let Some(link) = next {
        let page = client.get(&link).await.expect(200);
        seen.extend(page["jobs"].as_array().unwrap().iter().map(|job| job["payload"]["n"].as_u64().unwrap()));
        next = page["pages"]["next"].as_str().map(str::to_owned);
        if let Some(link) = &next {
            assert!(link.contains("&filter=.n%20%25%207%20%3D%3D%200"), "{link}");
            assert!(link.contains("&queue=q&status=ready"), "{link}");
        }
    }
    assert_eq!(seen, (0..3_000).step_by(7).collect::<Vec<u64>>());
}

#[tokio::test]
async fn changes_by_jq() {
    let server = Server::start().await;
    let client = server.client();
    add(&client, (0..500).map(|n| json!({"n": n, "text": "x".repeat(3_000)}))).await;
    let half = encoded(".n < 250");
    let patched = client.patch(&format!("/jobs?filter={half}"), &json!({"queue": "low"})).await.expect(200);
    assert_eq!(patched, json!({"patched": 250}));
    let dry = client.delete(&format!("/jobs?filter={half}&dry_run=true")).await.expect(200);
    assert_eq!(dry["deleted"], 250);
    let deleted = client.delete(&format!("/jobs?filter={half}")).await.expect(200);
    assert_eq!(deleted, json!({"deleted": 250}));
    assert_eq!((client.count("").await, client.count("queue=low").await), (250, 0));
}

#[tokio::test]
async fn an_expression_means_what_it_means_to_jq() {
    let server = Server::start().await;
    let client = server.client();
    let ids = add(
        &client,
        [json!({}), json!({"a": {"b": null}}), json!({"a": {"b": 9007199254740993_u64}}), json!([1])],
    )
    .await;
    for (expression, expected) in [
        (".a.b == null", &ids[..2]),
        (".a.b? == null", &ids[..2]),
        (".a.b == 9007199254740993", &ids[2..3]),
        (".a.b == 9007199254740992", &[]),
        (".a.b?.c", &[]),
        ("now > 1600000000 and now < 10000000000", &ids[..]),
        ("(label $out | 1, break $out, 2) == 1", &ids[..]),
        (". as {a: {$b}} | $b == null", &ids[..2]),
    ] {
        assert_eq!(matching(&client, expression).await, expected, "{expression}");
    }
    let gone = client.delete(&format!("/jobs?filter={}", encoded(".a.b == null"))).await.expect(200);
    assert_eq!(gone, json!({"deleted": 2}));
}

#[tokio::test]
async fn a_filter_that_is_not_a_condition_changes_nothing() {
    let server = Server::start().await;
    let client = server.client();
    // The last one is looked at when many others would have been changed already.
    let payloads = (0..1_000).map(|n| if n == 999 { json!({"done": "yes"}) } else { json!({"done": true}) });
    add(&client, payloads).await;
    for (expression, status, names) in [
        (".to = \"x\"", 400, "did you mean `==`?"),
        (".done |= not", 400, "did you mean `==`?"),
        ("{a: 1}", 400, "gives an object"),
        (".", 422, "gives an object"),
        (".done", 422, "gives a string"),
        (".done | length", 422, "needs true or false"),
    ] {
        let filter = encoded(expression);
        client.delete(&format!("/jobs?filter={filter}")).await.expect_refusal(status, names);
        client.delete(&format!("/jobs?filter={filter}&dry_run=true")).await.expect_refusal(status, names);
        let patch = json!({"priority": 1});
        client.patch(&format!("/jobs?filter={filter}"), &patch).await.expect_refusal(status, names);
        assert_eq!(client.count("").await, 1_000, "{expression}");
        client.get(&list(expression)).await.expect(200);
    }
    // What is absent is null, and null is no match.
    let answer = client.delete(&format!("/jobs?filter={}", encoded(".none"))).await.expect(200);
    assert_eq!(answer, json!({"deleted": 0}));
    let answer = client.delete(&format!("/jobs?filter={}", encoded(".done == true"))).await.expect(200);
    assert_eq!(answer, json!({"deleted": 999}));
}

#[tokio::test]
async fn filters_that_take_long_share_with_others() {
    let server = Server::with(["--filter-timeout", "60s", "--enqueue-commit-mode", "buffered"]).await;
    let client = server.client();
    add(&client, (0..2_000).map(|n| json!({"n": n}))).await;
    // Several milliseconds for each job.
    let heavy = list("last(range(20000)) == -1");
    let heavy: Vec<_> = (0..4)
        .map(|_| {
            let (client, heavy) = (server.client(), heavy.clone());
            tokio::spawn(async move { client.get(&heavy).await })
        })
        .collect();
    // Whoever had to wait for one of them would wait for many seconds.
    for _ in 0..3 {
        assert_eq!(client.get(&list(".n == 5")).await.expect(200)["jobs"].as_array().unwrap().len(), 1);
        assert!(heavy.iter().any(|call| !call.is_finished()), "they do not take long enough for this test");
    }
    // Callers that go away take their filters with them.
    heavy.into_iter().for_each(|call| call.abort());
    client.get(&list(".n == 5")).await.expect(200);
}

#[tokio::test]
async fn many_filters_of_one_caller_delay_only_that_caller() {
    let mut server = Server::with(["--filter-timeout", "60s", "--enqueue-commit-mode", "buffered"]).await;
    let client = server.client();
    add(&client, (0..2_000).map(|n| json!({"n": n}))).await;
    let heavy = list("last(range(20000)) == -1");
    let busy = Client::at(Some([127, 0, 0, 2].into()), &server.url(), Wire::default());
    let ask = |_| {
        let (busy, heavy) = (busy.clone(), heavy.clone());
        tokio::spawn(async move { busy.get(&heavy).await })
    };
    let calls: Vec<_> = (0..20).map(ask).collect();
    // Each has a helper while it is at work.
    let process = server.process();
    tests::wait::until("the helpers of one caller", async || (process.children() >= 12).then_some(())).await;
    assert_eq!(client.get(&list(".n == 5")).await.expect(200)["jobs"].as_array().unwrap().len(), 1);
    let helpers = process.children();
    assert!(helpers <= 13, "{helpers} helpers: one caller has more than its share");
    // Eight of them wait for a place, and are told so after a while.
    let unfinished = calls.iter().filter(|call| !call.is_finished()).count();
    assert!(unfinished >= 12, "{unfinished} are left: they do not take long enough for this test");
    calls.into_iter().for_each(|call| call.abort());
}

#[tokio::test]
async fn an_invalid_expression_is_refused_before_any_job_is_read() {
    let server = Server::start().await;
    for format in [Format::Json, Format::MessagePack] {
        let client = server.client_as(Wire { format, ..Wire::default() });
        for (expression, names) in [
            (".a ==", "term is expected"),
            (".a | nope", "nope"),
            ("$x", "$x"),
            ("include \"x\"; .", "include"),
            ("env", "env"),
            ("$ENV", "$ENV"),
            ("env.PATH", "env"),
            ("input", "input"),
            ("inputs", "inputs"),
            ("debug", "debug"),
            ("halt", "halt"),
            (".a | halt_error", "halt_error"),
            ("input_filename", "input_filename"),
            ("\u{1F600}", "filter"),
        ] {
            client.get(&list(expression)).await.expect_refusal(400, names);
            client.delete(&list(expression)).await.expect_refusal(400, names);
            client
                .get(&format!("/jobs/count?filter={}", encoded(expression)))
                .await
                .expect_refusal(400, names);
        }
    }
}

#[tokio::test]
async fn memory_is_limited_as_the_flag_says() {
    for (limit, status) in [("64MB", 422), ("512MB", 200)] {
        let server = Server::with(["--filter-memory", limit, "--filter-timeout", "20s"]).await;
        let client = server.client();
        add(&client, [Value::Null]).await;
        // A text of 128 MiB.
        let answer = client.get(&list("reduce range(27) as $i (\"x\"; . + .) | length > 5")).await;
        assert_eq!(answer.status, status, "{limit}: {:?}", answer.body);
    }
}

/// Expressions that would harm a server that evaluates them itself, and whether they may turn out to be harmless.
fn attacks() -> Vec<(String, bool)> {
    let mut attacks = vec![
        ("def f: f; f".to_owned(), false),
        ("repeat(.)".to_owned(), false),
        ("[range(1e12)]".to_owned(), false),
        ("[limit(1e9; repeat(1))] | length".to_owned(), false),
        ("[limit(1000000000; repeat(1))] | length".to_owned(), false),
        ("reduce range(64) as $i (\"x\"; . + .)".to_owned(), false),
        ("def d: . + . | d; \"x\" | d".to_owned(), false),
        ("def f: [f]; f".to_owned(), false),
        ("def f: f + 1; f".to_owned(), false),
        ("reduce range(10000000) as $i (null; [.])".to_owned(), false),
        ("[recurse(. , .)]".to_owned(), false),
        ("last(range(1e15)) == 5".to_owned(), false),
        ("until(false; .)".to_owned(), false),
    ];
    for (open, close) in [("(", ")"), ("[", "]"), ("{a:", "}"), ("if . then ", " end"), ("-", "")] {
        attacks.push((format!("{}1{}", open.repeat(1_500), close.repeat(1_500)), true));
    }
    attacks
}

/// What everybody else does meanwhile. Returns how long each round took.
async fn probed(client: Client, over: watch::Receiver<bool>) -> Vec<Duration> {
    let mut rounds = Vec::new();
    let mut stream = client.lines(probe::QUEUE).await;
    while !*over.borrow() {
        let began = Instant::now();
        probe::round(&client, &mut stream).await;
        client.get("/jobs?queue=q&limit=10").await.expect(200);
        rounds.push(began.elapsed());
    }
    rounds
}

#[tokio::test]
async fn attacks_are_stopped_without_affecting_others() {
    let server = Server::with(["--filter-memory", "64MB", "--enqueue-commit-mode", "buffered"]).await;
    let client = server.client();
    add(&client, (0..200).map(|_| Value::Null)).await;
    let (end, over) = watch::channel(false);
    let probing = tokio::spawn(probed(server.client(), over));
    for (attack, may_be_harmless) in attacks() {
        let short: String = attack.chars().take(60).collect();
        let began = Instant::now();
        let answer = client.get(&list(&attack)).await;
        let took = began.elapsed();
        let said = String::from_utf8_lossy(&answer.body[..answer.body.len().min(90)]).into_owned();
        println!("{} after {took:.1?}: {short} {said}", answer.status);
        if answer.status != 200 || !may_be_harmless {
            let status = if may_be_harmless && answer.status == 400 { 400 } else { 422 };
            answer.expect_refusal(status, "filter");
        }
        assert!(took < Duration::from_secs(8), "{short} took {took:?}");
        let ok = client.get(&list(". == null")).await.expect(200);
        assert_eq!(ok["jobs"].as_array().unwrap().len(), 50, "after {short}");
    }
    end.send_replace(true);
    let mut rounds = probing.await.unwrap();
    rounds.sort();
    let (median, longest) = (rounds[rounds.len() / 2], rounds[rounds.len() - 1]);
    println!("{} rounds, median {median:?}, longest {longest:?}", rounds.len());
    // An attack goes on for two seconds: whoever had to wait for one would have waited for longer than this.
    assert!(longest < Duration::from_millis(1_800), "others had to wait for {longest:?}");
    assert!(median < Duration::from_millis(150), "others were slowed down to {median:?}");
}

#[tokio::test]
async fn several_attacks_at_once_leave_room_for_others() {
    let server = Server::with(["--filter-timeout", "300ms", "--enqueue-commit-mode", "buffered"]).await;
    let client = server.client();
    add(&client, (0..10).map(|_| Value::Null)).await;
    let attacks = (0..6).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.get(&list("def f: f; f")).await.expect_refusal(422, "too long") })
    });
    let attacks: Vec<_> = attacks.collect();
    for _ in 0..20 {
        let queued = client.add("probe").await;
        let taken = client.poll_one("probe").await;
        assert_eq!(id(&taken), id(&queued));
        client.succeed(&taken).await;
        client.get("/jobs?limit=5").await.expect(200);
        assert_eq!(client.delete("/jobs?queue=nobody").await.expect(200), json!({"deleted": 0}));
    }
    for attack in attacks {
        attack.await.unwrap();
    }
    assert_eq!(matching(&client, ".").await, [] as [String; 0]);
}

#[tokio::test]
async fn a_call_that_waits_too_long_for_other_expressions_is_told_to_retry() {
    let server = Server::with(["--filter-timeout", "1m", "--enqueue-commit-mode", "buffered"]).await;
    let client = server.client();
    add(&client, [Value::Null]).await;
    let helpers = std::thread::available_parallelism().unwrap().get().max(2);
    let endless = (0..helpers).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.get(&list("def f: f; f")).await })
    });
    // They go on for longer than anybody waits for them.
    let endless: Vec<_> = endless.collect();
    let since = Instant::now();
    loop {
        assert!(since.elapsed() < Duration::from_secs(50), "nobody is told to come again");
        let answer = client.get(&list(". == null")).await;
        if answer.status == 503 {
            assert_eq!(answer.header("retry-after"), "1");
            assert!(answer.expect_code(Code::Busy).contains("too many jq expressions are being evaluated"));
            break;
        }
        // Not all of them had begun.
        answer.expect(200);
    }
    // Who enqueues does not wait for who looks.
    let batched = json!({"queue": "q", "type": "t", "payload": 1, "batch": {"key": "b", "when": "true", "fold": "$new"}});
    client.enqueue(&batched).await;
    endless.iter().for_each(tokio::task::JoinHandle::abort);
}
