//! Looking at jobs: lists, counts, filters, pages, queues.

use serde_json::{Value, json};
use tests::{Client, Server, Wire, id};

fn job(queue: &str, kind: &str) -> Value {
    json!({"queue": queue, "type": kind, "payload": {"of": queue}})
}

async fn page(client: &Client, path: &str) -> (Vec<Value>, Value) {
    let mut page = client.get(path).await.expect(200);
    assert_eq!(page.as_object().unwrap().len(), 2, "jobs and pages: {page}");
    (serde_json::from_value(page["jobs"].take()).unwrap(), page["pages"].take())
}

async fn ids(client: &Client, filters: &str) -> Vec<String> {
    let (jobs, _) = page(client, &format!("/jobs?{filters}")).await;
    assert_eq!(client.count(filters).await, jobs.len() as u64, "the count for {filters}");
    jobs.iter().map(|job| id(job).to_owned()).collect()
}

/// The parameters of a link, in their order.
fn parameters(link: &Value) -> Vec<(&str, &str)> {
    let link = link.as_str().unwrap_or_else(|| panic!("{link} is no link"));
    let (path, query) = link.split_once('?').unwrap_or((link, ""));
    assert_eq!(path, "/jobs", "an absolute path without a host");
    query.split('&').map(|pair| pair.split_once('=').unwrap()).collect()
}

#[tokio::test]
async fn a_list_is_in_the_order_of_enqueue() {
    let server = Server::start().await;
    for wire in Wire::ALL {
        let client = server.client_as(wire);
        assert_eq!(page(&client, "/jobs").await.0, [] as [Value; 0]);
        let queued = client.enqueue_all((0..3).map(|_| job("q", "t"))).await;
        let (jobs, pages) = page(&client, "/jobs").await;
        assert_eq!(jobs.iter().map(id).collect::<Vec<_>>(), queued.iter().map(id).collect::<Vec<_>>());
        assert_eq!(jobs[0], client.job(id(&jobs[0])).await, "each as it is shown alone");
        assert_eq!(parameters(&pages["self"]), [("order", "asc"), ("limit", "50")]);
        assert_eq!((&pages["next"], &pages["prev"]), (&Value::Null, &Value::Null));
        let (jobs, pages) = page(&client, "/jobs?order=desc&limit=7").await;
        assert!(jobs.iter().map(id).eq(queued.iter().rev().map(id)));
        assert_eq!(parameters(&pages["self"]), [("order", "desc"), ("limit", "7")]);
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn filters_are_joined_by_and() {
    let server = Server::start().await;
    let client = server.client();
    let queued = client.enqueue_all([job("a", "x"), job("a", "y"), job("b", "x"), job("c", "z")]).await;
    let mut later = job("a", "x");
    later["ready_at"] = json!(253_402_300_799_999_u64);
    let later = client.enqueue(&later).await;
    let flying = client.poll_one("c").await;
    let [ax, ay, bx, cz] = [0, 1, 2, 3].map(|n| id(&queued[n]));
    let later = id(&later);
    assert_eq!(id(&flying), cz);
    for (filters, expected) in [
        (String::new(), vec![ax, ay, bx, cz, later]),
        ("queue=a".to_owned(), vec![ax, ay, later]),
        ("queue=a,b".to_owned(), vec![ax, ay, bx, later]),
        ("queue=nobody".to_owned(), vec![]),
        ("type=x".to_owned(), vec![ax, bx, later]),
        ("type=z,y".to_owned(), vec![ay, cz]),
        ("status=ready".to_owned(), vec![ax, ay, bx]),
        ("status=in_flight,scheduled".to_owned(), vec![cz, later]),
        ("status=dead,completed".to_owned(), vec![]),
        ("queue=a&type=x&status=ready".to_owned(), vec![ax]),
        ("queue=a&status=in_flight".to_owned(), vec![]),
        (format!("id={bx}"), vec![bx]),
        (format!("id={bx},{ax}"), vec![ax, bx]),
        (format!("id={bx},{ax},{bx}&queue=b"), vec![bx]),
        ("queue=&type=&status=&id=".to_owned(), vec![ax, ay, bx, cz, later]),
        ("queue=a%2Cb&type=y".to_owned(), vec![ay]),
    ] {
        assert_eq!(ids(&client, &filters).await, expected, "{filters}");
    }
}

#[tokio::test]
async fn ranges_include_their_ends() {
    let server = Server::start().await;
    let client = server.client();
    let queued = client
        .enqueue_all((1..=4_u64).map(
            |n| json!({"queue": "q", "type": "t", "payload": n, "priority": n * 10, "ready_at": n * 1_000}),
        ))
        .await;
    let taken = client.poll(&json!({"limit": 4})).await;
    for job in &taken[..2] {
        client.fail(job, &json!({"message": "m", "retry_at": 253_402_300_799_999_u64})).await;
    }
    let queued: Vec<&str> = queued.iter().map(id).collect();
    for (filters, expected) in [
        ("priority=10", &queued[..1]),
        ("priority=10..20", &queued[..2]),
        ("priority=..20", &queued[..2]),
        ("priority=30..", &queued[2..]),
        ("priority=..", &queued[..]),
        ("priority=11..19", &[][..]),
        ("priority=", &queued[..]),
        ("ready_at=3000..99999999999999", &queued[2..]),
        ("ready_at=253402300799999", &queued[..2]),
        ("attempts=1", &queued[..2]),
        ("attempts=0", &queued[2..]),
        ("attempts=..1&priority=20..30", &queued[1..3]),
        ("budgets.key=b", &[][..]),
    ] {
        assert_eq!(ids(&client, filters).await, expected, "{filters}");
    }
    for (bad, names) in [
        ("priority=x", "priority"),
        ("priority=5..3", "priority"),
        ("ready_at=1..2..3", "ready_at"),
        ("attempts=-1", "attempts"),
        ("attempts=1.5", "attempts"),
        ("filter=", "filter"),
        ("filter=+", "filter"),
    ] {
        client.get(&format!("/jobs?{bad}")).await.expect_refusal(400, names);
        client.get(&format!("/jobs/count?{bad}")).await.expect_refusal(400, names);
        client.delete(&format!("/jobs?{bad}")).await.expect_refusal(400, names);
    }
}

#[tokio::test]
async fn pages_follow_each_other_both_ways() {
    let server = Server::start().await;
    let client = server.client();
    let queued = client.enqueue_all((0..25).map(|n| job(if n % 5 == 4 { "b" } else { "a" }, "t"))).await;
    let of_a: Vec<&str> = queued.iter().filter(|job| job["queue"] == "a").map(id).collect();
    for order in ["asc", "desc"] {
        let mut seen = Vec::new();
        let mut path = format!("/jobs?queue=a&order={order}&limit=8");
        let mut previous: Vec<String> = Vec::new();
        loop {
            let (jobs, pages) = page(&client, &path).await;
            let here: Vec<String> = jobs.iter().map(|job| id(job).to_owned()).collect();
            assert!(here.len() <= 8);
            if seen.is_empty() {
                assert_eq!(pages["prev"], Value::Null);
            } else {
                let (mut back, _) = page(&client, pages["prev"].as_str().unwrap()).await;
                back.sort_by(|a, b| id(a).cmp(id(b)));
                previous.sort_unstable();
                assert!(
                    back.iter().map(id).eq(previous.iter().map(String::as_str)),
                    "the page before {path}"
                );
            }
            seen.extend(here.iter().cloned());
            previous = here;
            match pages["next"].as_str() {
                Some(next) => next.clone_into(&mut path),
                None => break,
            }
        }
        if order == "desc" {
            seen.reverse();
        }
        assert_eq!(seen, of_a, "{order}");
    }
}

#[tokio::test]
async fn links_list_position_order_and_limit_before_the_filters() {
    let server = Server::start().await;
    let client = server.client();
    let queued = client.enqueue_all((0..5).map(|_| job("a b/ä&c", "t+1"))).await;
    let filters = "type=t%2B1&status=ready&queue=a+b/%C3%A4%26c,x&priority=..40000&ready_at=5..&attempts=0";
    let (jobs, pages) = page(&client, &format!("/jobs?{filters}&limit=2")).await;
    assert_eq!(jobs.len(), 2);
    for (link, position) in [("self", None), ("next", Some(id(&queued[1])))] {
        let mut parameters = parameters(&pages[link]);
        if let Some(position) = position {
            assert_eq!(parameters.remove(0), ("from", position));
        }
        assert_eq!(parameters[..2], [("order", "asc"), ("limit", "2")], "{link}");
        let mut filters = parameters[2..].to_vec();
        filters.sort_unstable();
        let names = ["attempts", "priority", "queue", "ready_at", "status", "type"];
        assert_eq!(filters.iter().map(|filter| filter.0).collect::<Vec<_>>(), names);
        assert!(filters.contains(&("priority", "..40000")) && filters.contains(&("ready_at", "5..")));
        assert!(filters.iter().all(|(_, value)| value.bytes().all(|b| b.is_ascii_graphic())), "{filters:?}");
    }
    let (jobs, pages) = page(&client, pages["next"].as_str().unwrap()).await;
    assert!(jobs.iter().map(id).eq([id(&queued[2]), id(&queued[3])]));
    let (again, _) = page(&client, pages["self"].as_str().unwrap()).await;
    assert_eq!(again, jobs);
    let (jobs, pages) = page(&client, pages["next"].as_str().unwrap()).await;
    assert!(jobs.iter().map(id).eq([id(&queued[4])]));
    assert_eq!(pages["next"], Value::Null);
}

#[tokio::test]
async fn a_position_need_not_exist() {
    let server = Server::start().await;
    let client = server.client();
    let queued = client.enqueue_all((0..6).map(|_| job("q", "t"))).await;
    client.delete(&format!("/jobs/{}", id(&queued[2]))).await.expect_nothing();
    let (jobs, pages) = page(&client, &format!("/jobs?from={}&limit=2", id(&queued[2]))).await;
    assert!(jobs.iter().map(id).eq([id(&queued[3]), id(&queued[4])]));
    assert!(pages["prev"].is_string());
    let (jobs, pages) = page(&client, &format!("/jobs?from={}", id(&queued[5]))).await;
    assert_eq!((jobs.len(), &pages["next"], &pages["prev"]), (0, &Value::Null, &Value::Null));
    let (jobs, _) = page(&client, "/jobs?from=0000000000000000000000000").await;
    assert_eq!(jobs.len(), 5);
}

#[tokio::test]
async fn a_page_has_50_jobs_unless_asked_for_up_to_2000() {
    let server = Server::start().await;
    let client = server.client();
    for _ in 0..3 {
        client.enqueue_all((0..700).map(|_| job("q", "t"))).await;
    }
    for (query, expected) in
        [("", 50), ("limit=1", 1), ("limit=2000", 2_000), ("limit=2000&order=desc", 2_000)]
    {
        let (jobs, pages) = page(&client, &format!("/jobs?{query}")).await;
        assert_eq!(jobs.len(), expected, "{query}");
        assert!(pages["next"].is_string(), "{query}");
    }
    assert_eq!(client.count("").await, 2_100);
    for limit in ["0", "2001", "-1", "x", "1.5", "99999999999999999999"] {
        client.get(&format!("/jobs?limit={limit}")).await.expect_refusal(400, "limit");
    }
}

#[tokio::test]
async fn queues_are_those_that_have_a_job() {
    let server = Server::start().await;
    let client = server.client();
    client.enqueue_all(["b", "a", "ä", "B", "a"].map(|queue| job(queue, "t"))).await;
    let mut later = job("later", "t");
    later["ready_at"] = json!(253_402_300_799_999_u64);
    client.enqueue(&later).await;
    let sorted = json!({"queues": ["B", "a", "b", "later", "ä"]});
    assert_eq!(client.get("/queues").await.expect(200), sorted);
    let taken = client.poll_one("b").await;
    assert_eq!(client.get("/queues").await.expect(200), sorted, "in flight, too");
    client.succeed(&taken).await;
    assert_eq!(client.get("/queues").await.expect(200), json!({"queues": ["B", "a", "later", "ä"]}));
}

#[tokio::test]
async fn a_list_shows_jobs_in_every_status() {
    let server = Server::start().await;
    let client = server.client();
    client
        .enqueue_all((0..4).map(
            |n| json!({"queue": format!("q{n}"), "type": "t", "payload": n, "retention": {"completed_ms": 600_000}}),
        ))
        .await;
    let completed = client.poll_one("q0").await;
    client.succeed(&completed).await;
    let dead = client.poll_one("q1").await;
    client.fail(&dead, &json!({"message": "m", "kill": true})).await;
    let retried = client.poll_one("q2").await;
    client.fail(&retried, &json!({"message": "m"})).await;
    client.poll_one("q3").await;
    client.add("q4").await;
    let (jobs, _) = page(&client, "/jobs").await;
    let shown: Vec<&str> = jobs.iter().map(|job| job["status"].as_str().unwrap()).collect();
    assert_eq!(shown, ["completed", "dead", "scheduled", "in_flight", "ready"]);
    for (job, status) in jobs.iter().zip(shown) {
        assert_eq!(ids(&client, &format!("status={status}")).await, [id(job)]);
    }
    assert!(jobs.iter().all(|job| job.get("lease").is_none()), "a token is for its holder only");
}

#[tokio::test]
async fn a_list_with_little_time_ends_early_and_can_be_continued() {
    let server = Server::with(["--enqueue-commit-mode", "buffered"]).await;
    let client = server.client();
    let hay = |n: u64| json!({"queue": "q", "type": "hay", "payload": n});
    client.enqueue_all((0..3_000).map(hay)).await;
    let needle = client.enqueue(&json!({"queue": "q", "type": "needle", "payload": "x"})).await;
    client.enqueue_all((0..3_000).map(hay)).await;
    for (filters, order) in
        [("type=needle", "asc"), ("type=needle&queue=q", "desc"), ("filter=.%20==%20%22x%22", "asc")]
    {
        let mut link = format!("/jobs?{filters}&order={order}&within_ms=1");
        let (mut found, mut slices) = (Vec::new(), 0);
        loop {
            let (jobs, pages) = page(&client, &link).await;
            found.extend(jobs.iter().map(|job| id(job).to_owned()));
            let Some(next) = pages["next"].as_str() else { break };
            assert!(next.contains("&within_ms=1") && next != link, "{next}");
            link = next.to_owned();
            slices += 1;
        }
        assert_eq!(found, [id(&needle)], "{filters}");
        assert!(slices > 0, "{filters} took no longer than a millisecond");
    }
    // With enough time nothing is different.
    let (jobs, pages) = page(&client, "/jobs?type=needle&within_ms=60000").await;
    assert_eq!((jobs.len(), &pages["next"]), (1, &Value::Null));
    for bad in ["0", "60001", "1s"] {
        client.get(&format!("/jobs?within_ms={bad}")).await.expect_refusal(400, "within_ms");
    }
}
