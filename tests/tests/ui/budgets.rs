//! What a page costs: bytes, requests, entries of the store, and time.
//!
//! Bytes, requests and entries are the same everywhere. Times are asserted only where a size is asked for with
//! `ZIZQ_TEST_JOBS`, `ZIZQ_TEST_QUEUES` and `ZIZQ_TEST_STREAMS`, such as 10000000, 10000 and 5000 with release builds.

use serde_json::{Value, json};
use tests::Server;
use tests::crowd::{Crowd, entries_read};

use crate::browser::{Browser, Tab};
use crate::seed::fill;

/// For the code of the page, compressed.
const FIRST_BYTES: u64 = 90_000;
const FIRST_REQUESTS: u64 = 20;
/// Of more queues some have no history, which a browser reports.
const TRACKED: usize = 1_000;
/// For what a view asks the server for, in bytes of JSON.
const VIEW_BYTES: f64 = 30_000.0;
const VIEW_ENTRIES: u64 = 2_000;
/// In milliseconds. How long the server takes for each call is asked in `it never_scan::`, where no browser is busy.
const PAINTED_MS: f64 = 300.0;
/// Until everything that the view asked for is there.
const USABLE_MS: f64 = 600.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_view_is_small_and_comes_at_once() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    fill(&server).await;
    let tab = browser.open(&format!("{}/ui/", server.url())).await;
    tab.see("Needs attention").await;
    tab.wait("document.querySelector('canvas')").await;
    let entries =
        "performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))";
    let assets = format!("{entries}.filter(one => one.name.includes('/ui/'))");
    let requests = tab.eval(&format!("return {assets}.length")).await.as_u64().unwrap();
    let bytes =
        tab.eval(&format!("return {assets}.reduce((sum, one) => sum + one.encodedBodySize, 0)")).await;
    let bytes = bytes.as_u64().unwrap();
    assert!(bytes <= FIRST_BYTES, "{bytes} bytes");
    assert!(requests <= FIRST_REQUESTS, "{requests} requests");
    let foreign = tab
        .eval(&format!("return {entries}.filter(one => !one.name.startsWith(location.origin)).length"))
        .await;
    assert_eq!(foreign, 0);
    tab.fine();
}

/// What the last view has cost so far: bytes of JSON, the slowest answer, the first paint and the last answer in
/// milliseconds. Streams do not end, and do not count.
async fn cost(tab: &Tab) -> [f64; 4] {
    let cost = tab
        .eval(
            "const all = performance.getEntriesByType('resource');\
             const calls = all.filter(one => !one.name.includes('/ui/') && one.responseEnd && !one.name.includes('/live'));\
             const [paint] = performance.getEntriesByName('first-contentful-paint');\
             const most = of => calls.reduce((most, one) => Math.max(most, of(one)), 0);\
             return [calls.reduce((sum, one) => sum + one.decodedBodySize, 0), most(one => one.responseStart - one.requestStart),\
               paint?.startTime ?? 0, most(one => one.responseEnd)]",
        )
        .await;
    let [bytes, answer, painted, usable] = &cost.as_array().unwrap()[..] else { panic!("{cost}") };
    [bytes, answer, painted, usable].map(|value| Value::as_f64(value).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_view_costs_little_however_much_there_is() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    let crowd = Crowd::from_env(10_000, 500, 120);
    let (job, _open) = crowd.gather(&client).await;
    let job = format!("jobs/{job}");
    client.enqueue_all((0..120).map(|n| json!({"queue": "held", "type": "t", "payload": n}))).await;
    let mut busy = client.lines("queue=held&prefetch=120").await;
    for _ in 0..120 {
        busy.next_job().await;
    }
    let worker = client.get("/workers?queue=held").await.expect(200)["workers"][0]["stream"].clone();
    let worker = format!("workers/{}", worker.as_str().unwrap());
    let tab = browser.open(&format!("{}/ui/", server.url())).await;
    let mut above = Vec::new();
    for view in [
        "",
        "queues",
        "queues?order=oldest",
        "queues/q00001",
        "jobs",
        "jobs?status=dead",
        "jobs?queue=q00001&status=ready",
        &job,
        "dead",
        "workers",
        &worker,
        "crons",
        "budgets",
        "audit",
        "server",
    ] {
        let of_scrape = {
            let before = entries_read(&client).await;
            entries_read(&client).await - before
        };
        let before = entries_read(&client).await;
        tab.go(&format!("{}/ui/{view}", server.url())).await;
        tab.wait("document.title.endsWith('· Zizq') && !document.querySelector('.loading')").await;
        let entries = (entries_read(&client).await - before).saturating_sub(of_scrape);
        let [bytes, answer, painted, usable] = cost(&tab).await;
        let line = format!(
            "{bytes:>6} bytes {entries:>5} entries {answer:>6.1} ms the slowest answer {painted:>6.1} ms painted \
             {usable:>6.1} ms usable  {view}"
        );
        eprintln!("{line}");
        let is_late = painted > PAINTED_MS || usable > USABLE_MS;
        if bytes > VIEW_BYTES || entries > VIEW_ENTRIES || crowd.is_measured && is_late {
            above.push(line);
        }
        if crowd.queues > TRACKED {
            tab.forgive();
        }
        tab.fine();
    }
    assert!(above.is_empty(), "above their budgets:\n{}", above.join("\n"));
}
