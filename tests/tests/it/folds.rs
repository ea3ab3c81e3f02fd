//! Folding under load, with expressions that do harm, over crashes, and for recurring jobs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tests::wait::until;
use tests::{Client, Server, Wire, id};
use tokio::sync::watch;

use crate::probe;

fn batched(key: &str, when: &str, fold: &str, payload: Value) -> Value {
    let batch = json!({"key": key, "when": when, "fold": fold});
    json!({"queue": "q", "type": "t", "payload": payload, "batch": batch})
}

/// A job that brings a number; a batch has at most so many.
fn listing(key: &str, most: usize, n: usize) -> Value {
    let when = format!("($existing | length) < {most}");
    batched(key, &when, "$existing + $new", json!([n]))
}

async fn payloads(client: &Client) -> BTreeMap<String, Value> {
    let page = client.get("/jobs?limit=2000").await.expect(200);
    let jobs = page["jobs"].as_array().unwrap();
    jobs.iter().map(|job| (id(job).to_owned(), job["payload"].clone())).collect()
}

/// The numbers of all batches, sorted; and how many there are in each.
async fn numbers(client: &Client) -> (Vec<usize>, Vec<usize>) {
    let batches: Vec<Vec<usize>> = payloads(client)
        .await
        .into_values()
        .map(|payload| serde_json::from_value(payload).unwrap())
        .collect();
    let mut all = batches.concat();
    all.sort_unstable();
    (all, batches.iter().map(Vec::len).collect())
}

#[tokio::test]
async fn no_job_of_many_producers_with_one_key_is_lost_or_counted_twice() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let producers = (0..64).map(|producer| {
            let client = server.client_as(wire);
            tokio::spawn(async move {
                let mut created = 0;
                for n in 0..5 {
                    let job = listing("k", 100, producer * 5 + n);
                    let answer = client.post("/jobs", &job).await;
                    let folded = answer.value()["folded"].as_bool().unwrap();
                    assert_eq!(answer.status, if folded { 200 } else { 201 });
                    created += usize::from(!folded);
                }
                created
            })
        });
        let mut created = 0;
        for producer in producers.collect::<Vec<_>>() {
            created += producer.await.unwrap();
        }
        let client = server.client_as(wire);
        let (all, sizes) = numbers(&client).await;
        assert_eq!(all, (0..320).collect::<Vec<_>>());
        assert_eq!((created, sizes), (4, vec![100, 100, 100, 20]));
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn while_workers_take_the_batches_nothing_is_lost() {
    let server = Server::with(["--enqueue-commit-mode", "buffered"]).await;
    let (end, over) = watch::channel(false);
    let worker = tokio::spawn({
        let client = server.client();
        async move {
            let mut taken: Vec<usize> = Vec::new();
            while !*over.borrow() || client.count("").await > 0 {
                for job in client.poll(&json!({"limit": 10, "wait_ms": 20})).await {
                    taken.extend(serde_json::from_value::<Vec<usize>>(job["payload"].clone()).unwrap());
                    client.succeed(&job).await;
                }
            }
            taken
        }
    });
    let producers = (0..16).map(|producer| {
        let client = server.client();
        tokio::spawn(async move {
            for n in 0..40 {
                let answer =
                    client.post("/jobs", &listing(&format!("k{}", n % 3), 10, producer * 40 + n)).await;
                assert!(matches!(answer.status, 200 | 201), "{answer:?}");
            }
        })
    });
    for producer in producers.collect::<Vec<_>>() {
        producer.await.unwrap();
    }
    end.send_replace(true);
    let mut taken = worker.await.unwrap();
    taken.sort_unstable();
    assert_eq!(taken, (0..640).collect::<Vec<_>>());
}

#[tokio::test]
async fn ten_thousand_folds_take_ten_times_as_long_as_a_thousand() {
    let mut server = Server::with(["--enqueue-commit-mode", "buffered"]).await;
    let client = server.client();
    let sum = |n| batched("sum", "true", "$existing + $new", json!(n));
    // Time of the processor: others may be busy on this machine, too.
    let mut used = vec![server.process().usage().unwrap().cpu_seconds];
    for part in 0..10 {
        for n in 0..100 {
            // Some by themselves, most in bulk.
            let first = part * 1_000 + n * 10;
            client.post("/jobs", &sum(first)).await;
            let jobs: Vec<Value> = (first + 1..first + 10).map(sum).collect();
            client.post("/jobs/bulk", &json!({"jobs": jobs})).await.expect(200);
        }
        used.push(server.process().usage().unwrap().cpu_seconds);
    }
    println!("CPU seconds after each thousand folds: {used:.2?}");
    assert_eq!(payloads(&client).await.into_values().collect::<Vec<_>>(), [json!(49_995_000)]);
    let (first, last) = (used[3] - used[0], used[10] - used[7]);
    assert!(last < first * 3.0, "the first three thousand took {first:.2} s, the last {last:.2} s");
}

#[tokio::test]
async fn a_bulk_of_ten_thousand_is_folded_at_once() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let jobs: Vec<Value> = (0..10_000).map(|n| listing("k", 20_000, n)).collect();
        let answer = client.post("/jobs/bulk", &json!({"jobs": jobs})).await.expect(201);
        let folded = answer["jobs"].as_array().unwrap().iter().filter(|job| job["folded"] == true).count();
        assert_eq!(folded, 9_999);
        assert_eq!(numbers(&client).await, ((0..10_000).collect(), vec![10_000]));
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn harmful_expressions_are_stopped_without_affecting_others() {
    let flags = ["--filter-timeout", "700ms", "--filter-memory", "64MB", "--enqueue-commit-mode", "buffered"];
    let server = Server::with(flags).await;
    let client = server.client();
    let harm = "if $new.harm then (0 | until(false; . + 1)) else $existing end";
    let open = client.enqueue(&batched("open", "true", harm, json!({}))).await;
    let (end, over) = watch::channel(false);
    let probing = tokio::spawn(probed(server.client(), over));
    let attacks = [
        ("true", "def f: f; f", "too long"),
        ("[range(1e12)] | length", "$new", "batch: it"),
        ("true", "reduce range(64) as $i (\"x\"; . + .)", "batch: it"),
        ("true", "last(repeat(.))", "batch: it"),
        ("true", "def f: [f]; f", "batch"),
        ("true", "reduce range(1000000) as $i (null; [.])", "batch"),
    ];
    for (when, fold, sentence) in attacks {
        let began = Instant::now();
        client.post("/jobs", &batched("k", when, fold, json!(1))).await.expect_refusal(422, sentence);
        let bulk =
            json!({"jobs": [batched("open", "true", harm, json!({})), batched("k", when, fold, json!(1))]});
        let said = client.post("/jobs/bulk", &bulk).await.expect_refusal(422, sentence);
        assert!(said.starts_with("jobs[1]: batch"), "{said}");
        assert!(began.elapsed() < Duration::from_secs(8), "{fold} took {:?}", began.elapsed());
    }
    // One that was stored as a harmless one.
    let harmful = batched("open", "true", "$new", json!({"harm": true}));
    client.post("/jobs", &harmful).await.expect_refusal(422, "batch: it takes too long and was stopped");
    let fine = client.post("/jobs", &batched("open", "true", "$new", json!({}))).await.expect(200);
    assert_eq!(id(&fine), id(&open));
    end.send_replace(true);
    let mut rounds = probing.await.unwrap();
    rounds.sort();
    let (median, longest) = (rounds[rounds.len() / 2], rounds[rounds.len() - 1]);
    println!("{} rounds, median {median:?}, longest {longest:?}", rounds.len());
    // Whoever had to wait for one that is stopped would have waited for longer than this.
    assert!(longest < Duration::from_millis(650), "others had to wait for {longest:?}");
}

/// What everybody else does meanwhile, batches of other keys included. Returns how long each round took.
async fn probed(client: Client, over: watch::Receiver<bool>) -> Vec<Duration> {
    let mut rounds = Vec::new();
    let mut stream = client.lines(probe::QUEUE).await;
    while !*over.borrow() {
        let began = Instant::now();
        probe::round(&client, &mut stream).await;
        rounds.push(began.elapsed());
        client.post("/jobs", &batched("probe", "true", "$existing + $new", json!(1))).await;
    }
    rounds
}

#[tokio::test]
async fn an_open_batch_is_found_again_after_a_crash() {
    let mut server = Server::start().await;
    let client = server.client();
    let taken = client.enqueue(&listing("taken", 100, 0)).await;
    assert_eq!(id(&client.poll_one("q").await), id(&taken));
    let mut open: Vec<Value> = Vec::new();
    for key in 0..200 {
        open.push(client.enqueue(&listing(&format!("k{key}"), 100, 0)).await);
    }
    let closed = client.enqueue(&listing("closed", 1, 0)).await;
    let next = client.enqueue(&listing("closed", 100, 1)).await;
    for (round, clean) in [false, true, false].into_iter().enumerate() {
        for (key, open) in open.iter().enumerate() {
            let answer = client_of(&server).post("/jobs", &listing(&format!("k{key}"), 100, round + 1)).await;
            assert_eq!(id(&answer.expect(200)), id(open));
        }
        if clean {
            server.sigterm().await;
        } else {
            server.kill9().await;
        }
        server.restart().await;
    }
    let client = server.client();
    let all = payloads(&client).await;
    open.iter().for_each(|job| assert_eq!(all[id(job)], json!([0, 1, 2, 3])));
    // What was taken, or closed, is not open, though it is ready again.
    let answer = client.post("/jobs", &listing("taken", 100, 1)).await.expect(201);
    assert_ne!(id(&answer), id(&taken));
    let answer = client.post("/jobs", &listing("closed", 100, 2)).await.expect(200);
    assert_eq!(id(&answer), id(&next));
    assert_eq!(payloads(&client).await[id(&closed)], json!([0]));
}

fn client_of(server: &Server) -> Client {
    server.client()
}

async fn put(client: &Client, group: &str, entry: &Value) -> tests::Answer {
    client.call(Method::PUT, &format!("/crons/{group}")).value(&json!({"entries": [entry]})).await
}

#[tokio::test]
async fn recurring_jobs_are_folded_when_their_time_comes() {
    let mut server = Server::start().await;
    let entry = json!({"name": "e", "expression": "* * * * * *", "job": listing("k", 100, 7)});
    let client = server.client();
    let group = put(&client, "g", &entry).await.expect(200);
    assert_eq!(group["entries"][0]["job"], listing("k", 100, 7));
    let grown = async |client: &Client, least: usize| {
        until(format!("{least} to be folded"), async || {
            (numbers(client).await.0.len() >= least).then_some(())
        })
        .await;
        let shown = client.get("/crons/g/entries/e").await.expect(200);
        assert!(shown["last_enqueue_at"].as_u64() < shown["next_enqueue_at"].as_u64(), "{shown}");
    };
    grown(&client, 3).await;
    server.kill9().await;
    server.restart().await;
    let client = server.client();
    grown(&client, 5).await;
    assert_eq!(numbers(&client).await.1.len(), 1, "there is one batch");
    // Changed, paused, and deleted at any moment.
    for n in 0..20 {
        put(&client, "g", &json!({"name": "e", "expression": "* * * * * *", "job": listing("k", 100, n)}))
            .await;
        client.let_pass(70).await;
    }
    let before = numbers(&client).await.0.len();
    grown(&client, before + 2).await;
    client.delete("/crons").await.expect(200);
    let before = numbers(&client).await;
    client.let_pass(1_500).await;
    assert_eq!(numbers(&client).await, before);
}

#[tokio::test]
async fn a_recurring_job_that_cannot_be_folded_opens_the_next_batch() {
    let server = Server::start().await;
    let client = server.client();
    let adds = |n: Value| batched("k", "true", "$existing + $new", n);
    client.enqueue(&adds(json!("text"))).await;
    let entry = json!({"name": "e", "expression": "* * * * * *", "job": adds(json!(7))});
    put(&client, "g", &entry).await.expect(200);
    until("two to be folded", async || {
        let all: Vec<Value> = payloads(&client).await.into_values().collect();
        matches!(&all[..], [text, n] if *text == json!("text") && n.as_u64() >= Some(14)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn run_folds_too_and_a_bad_batch_makes_a_bad_entry() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        let entry = |job: Value| json!({"name": "e", "expression": "0 0 1 1 *", "paused": true, "job": job});
        for (job, sentence) in [
            (
                batched("k", "true", "nope", json!(1)),
                "entry `e`: job.batch.fold: `nope`: `nope/0` is not defined",
            ),
            (batched("k", "empty", "1", json!(1)), "entry `e`: job.batch.when: `empty`: it has no output"),
            (batched("", "true", "1", json!(1)), "entry `e`: job.batch.key: a key must not be empty"),
        ] {
            put(&client, "g", &entry(job.clone())).await.expect_refusal(400, sentence);
            let post = client.post("/crons/g/entries", &entry(job.clone())).await;
            post.expect_refusal(400, sentence);
            let one = client.call(Method::PUT, "/crons/g/entries/e").value(&entry(job)).await;
            one.expect_refusal(400, sentence);
        }
        put(&client, "g", &entry(listing("k", 2, 1))).await.expect(200);
        let run = async |status: u16| client.poke("/crons/g/entries/e/run").await.expect(status);
        let first = run(201).await;
        let second = run(200).await;
        assert_eq!((id(&second), &second["folded"], second.get("payload")), (id(&first), &json!(true), None));
        assert_ne!(id(&run(201).await), id(&first));
        assert!(client.get("/crons/g/entries/e").await.expect(200)["last_enqueue_at"].is_u64());
        // Asked for by somebody, it is refused where a firing would have opened another batch.
        client.enqueue(&batched("other", "true", "$existing + $new", json!("text"))).await;
        put(&client, "g", &entry(batched("other", "true", "$existing + $new", json!(1)))).await.expect(200);
        let refused = client.poke("/crons/g/entries/e/run").await;
        refused
            .expect_refusal(422, "batch: of the open batch with this key, fold: `$existing + $new`: string");
        client.poke("/reset").await.expect_nothing();
    }
}
