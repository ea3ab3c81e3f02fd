//! What somebody needs who was woken up: why, since when, who, and the way back.

use serde_json::{Value, json};
use tests::wait::until;
use tests::{Client, Server, id};

use crate::browser::{Browser, Tab};
use crate::seed::{LARGE, ends, fill};

async fn at(browser: &mut Browser, server: &Server, path: &str) -> Tab {
    browser.open(&format!("{}/ui/{path}", server.url())).await
}

async fn add(client: &Client, queue: &str, jobs: u64) {
    client.enqueue_all((0..jobs).map(|n| json!({"queue": queue, "type": "t", "payload": n}))).await;
}

/// Waits until the rows of the first table begin with these names, in this order.
async fn rows(tab: &Tab, names: &[&str]) {
    let shown = "[...document.querySelector('.table-frame tbody').rows].map(row => row.querySelector('.name').innerText)";
    tab.wait(&format!(
        "document.querySelector('.table-frame') && {shown}.join() === {}",
        json!(names.join(","))
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_moves_away_from_under_a_hand_or_a_dialog() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    add(&client, "a", 1).await;
    add(&client, "b", 2).await;
    let tab = at(&mut browser, &server, "queues?order=ready&desc=true").await;
    rows(&tab, &["b", "a"]).await;
    let ready = |n: u64| format!("document.querySelector('tbody').innerText.includes('\\t{n}\\t')");
    tab.hover(Some("tbody tr")).await;
    add(&client, "a", 10).await;
    tab.wait(&ready(11)).await;
    rows(&tab, &["b", "a"]).await;
    tab.hover(None).await;
    rows(&tab, &["a", "b"]).await;
    tab.keys("?").await;
    tab.wait("document.querySelector('dialog[open]')").await;
    add(&client, "b", 30).await;
    tab.wait(&ready(32)).await;
    rows(&tab, &["a", "b"]).await;
    tab.keys("Escape").await;
    rows(&tab, &["b", "a"]).await;
    // Sorted by hand, it is sorted at once.
    tab.hover(Some("thead button")).await;
    tab.press("Queue").await;
    rows(&tab, &["a", "b"]).await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_of_queues_lead_to_their_jobs_and_views_are_links() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    fill(&server).await;
    let tab = at(&mut browser, &server, "queues?q=imports").await;
    tab.wait("document.querySelector('td.c-dead a')").await;
    tab.eval("document.querySelector('td.c-dead a').click()").await;
    tab.see("row 7 is broken").await;
    assert_eq!(tab.place().await, "/ui/jobs?queue=imports&status=dead");
    // The range of the charts is in the address.
    tab.go(&format!("{}/ui/", server.url())).await;
    tab.press("24 h").await;
    tab.wait("location.search === '?range=24h'").await;
    tab.go(&format!("{}/ui/?range=7d", server.url())).await;
    tab.wait("document.querySelector('.choice [aria-pressed=true]')?.innerText === '7 d'").await;
    // And so is one cron entry.
    tab.go(&format!("{}/ui/crons", server.url())).await;
    tab.press("report").await;
    tab.wait("document.querySelectorAll('td.c-next time, td.c-then time').length === 10").await;
    assert_eq!(tab.place().await, "/ui/crons/nightly/report");
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_deleted_even_if_the_page_goes_away_at_once() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    let job = client.add("q").await;
    let tab = at(&mut browser, &server, &format!("jobs/{}", id(&job))).await;
    tab.see("Timeline").await;
    tab.press("Delete").await;
    tab.see("Undo").await;
    tab.go("about:blank").await;
    until("the job is deleted", async || client.status(id(&job)).await.is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_edited_or_moved_can_be_given_back() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    let one = client.enqueue(&json!({"queue": "a", "type": "one", "priority": 5, "payload": null})).await;
    let two = client.enqueue(&json!({"queue": "b", "type": "two", "payload": null})).await;
    let is = async |job: &Value, name: &str, value: Value| {
        until(format!("{name} is {value}"), async || {
            (client.job(id(job)).await[name] == value).then_some(())
        })
        .await;
    };
    let tab = at(&mut browser, &server, &format!("jobs/{}", id(&one))).await;
    tab.press("Edit…").await;
    tab.fill("[name=priority]", "9").await;
    tab.fill("[name=retry_limit]", "3").await;
    tab.press("Save").await;
    is(&one, "priority", json!(9)).await;
    tab.press("Undo").await;
    is(&one, "priority", json!(5)).await;
    is(&one, "retry_limit", Value::Null).await;
    // Each selected job goes back to where it was.
    tab.go(&format!("{}/ui/jobs", server.url())).await;
    tab.see("two").await;
    tab.first_row().await;
    tab.keys("x j X").await;
    tab.see("2 jobs").await;
    tab.press_of(".selection", "", "Move…").await;
    tab.fill("[name=queue]", "c").await;
    tab.press("Move 2 jobs").await;
    is(&one, "queue", json!("c")).await;
    is(&two, "queue", json!("c")).await;
    tab.press("Undo").await;
    is(&one, "queue", json!("a")).await;
    is(&two, "queue", json!("b")).await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_match_are_selected_by_one_key() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    add(&client, "q", 60).await;
    let tab = at(&mut browser, &server, "jobs?queue=q").await;
    tab.first_row().await;
    tab.keys("*").await;
    tab.see("All that match").await;
    tab.wait("document.querySelector('.selection strong').innerText === 'All that match'").await;
    tab.keys("D").await;
    tab.see("60 jobs").await;
    tab.keys("Escape").await;
    tab.wait("!document.querySelector('dialog')").await;
    // One row less is no longer all.
    tab.first_row().await;
    tab.keys("x").await;
    tab.wait("document.querySelector('.selection strong').innerText === '49 jobs'").await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_search_ends_and_can_look_further() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::with(["--enqueue-commit-mode", "buffered"]).await;
    let client = server.client();
    client.enqueue(&json!({"queue": "q", "type": "needle", "payload": 1})).await;
    add(&client, "q", 3_000).await;
    let tab = at(&mut browser, &server, "jobs").await;
    tab.first_row().await;
    // It takes no time to run out of time.
    tab.eval("window.real = fetch; window.fetch = (url, options) => real(String(url).replace('within_ms=2000', 'within_ms=1'), options)").await;
    tab.fill("#search", "type:needle").await;
    tab.keys("Enter").await;
    tab.see("The search ended after 2.0 s; nothing was found so far.").await;
    tab.eval("window.fetch = real").await;
    let found = "[...document.querySelectorAll('a.name')].some(one => one.innerText === 'needle')";
    tab.wait(&format!(
        "{found} || (() => {{ [...document.querySelectorAll('a')].find(one => one.innerText === 'Look further')?.click() }})()"
    ))
    .await;
    assert!(tab.place().await.contains("type=needle&from="), "{}", tab.place().await);
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_jobs_say_since_when_and_groups_have_keys() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    for error_type in ["One", "One", "Two"] {
        ends(&client, "q", &json!({"message": "no", "error_type": error_type, "kill": true})).await;
    }
    let tab = at(&mut browser, &server, "dead").await;
    tab.wait("document.querySelectorAll('td.c-first time, td.c-last time').length === 4").await;
    tab.first_row().await;
    tab.keys("r").await;
    tab.see("Dead jobs with the error One become ready again.").await;
    tab.press("Retry 2 jobs").await;
    until("the group", async || (client.count("status=ready").await == 2).then_some(())).await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_walk_through_all_tables_and_mean_the_row() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    for group in ["first", "second"] {
        let entry = json!({"name": format!("of {group}"), "expression": "0 0 1 1 *", "job": {"queue": group, "type": "t", "payload": null}});
        client
            .call(http::Method::PUT, &format!("/crons/{group}"))
            .value(&json!({"entries": [entry]}))
            .await
            .expect(200);
    }
    let tab = at(&mut browser, &server, "crons").await;
    tab.see("of second").await;
    let focus = |name: &str| format!("document.activeElement.innerText === '{name}'");
    tab.first_row().await;
    tab.wait(&focus("of first")).await;
    tab.keys("r").await;
    tab.see("t is ready in first").await;
    tab.keys("j").await;
    tab.wait(&focus("of second")).await;
    tab.keys("p").await;
    tab.see("Paused of second").await;
    assert_eq!(client.get("/crons/first").await.expect(200)["entries"][0].get("paused_at"), None);
    tab.keys("k e").await;
    tab.see("Edit the entry").await;
    tab.wait("document.querySelector('[name=group]').value === 'first'").await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_say_what_is_left_and_how_many_wait() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    let policy = json!({"allocation": 2, "strategy": {"type": "while_in_flight"}});
    client.call(http::Method::PUT, "/budgets/smtp").value(&policy).await.expect(200);
    let job = json!({"queue": "q", "type": "t", "payload": null, "budgets": [{"key": "smtp", "cost": 2}]});
    client.enqueue_all([job.clone(), job.clone(), job]).await;
    client.poll_one("q").await;
    let tab = at(&mut browser, &server, "budgets").await;
    tab.wait("document.querySelector('td.c-available')?.innerText === '0'").await;
    tab.wait("document.querySelector('td.c-parked')?.innerText === '2'").await;
    tab.go(&format!("{}/ui/queues/q", server.url())).await;
    tab.see("0 left, 2 jobs wait").await;
    tab.press("smtp").await;
    tab.wait("location.pathname === '/ui/budgets/smtp'").await;
    tab.first_row().await;
    tab.keys("e").await;
    tab.see("Edit the budget").await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trail_is_searched_exported_and_linked() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    client.add("mails").await;
    client.poke("/queues/mails/pause").await.expect(200);
    let tab = at(&mut browser, &server, "queues/mails").await;
    tab.see("by 127.0.0.1").await;
    tab.press("Priority…").await;
    tab.fill("[name=priority]", "3").await;
    tab.press("Change 1 job").await;
    tab.wait("document.querySelector('.toast a')?.innerText === 'Audit'").await;
    tab.eval("document.querySelector('.toast a').click()").await;
    let only = |text: &str| {
        format!(
            "document.querySelector('tbody')?.rows.length > 0 && [...document.querySelector('tbody').rows].every(row => row.innerText.includes('{text}'))"
        )
    };
    tab.wait(&only("/jobs?queue=mails")).await;
    tab.fill("#search", "pause 127.0.0.1").await;
    tab.wait(&only("/queues/mails/pause")).await;
    tab.see("1 entry of").await;
    tab.press("Export").await;
    tab.see("1 line written").await;
    tab.fill("#search", "nobody").await;
    tab.see("No entry matches").await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_shows_what_it_runs() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let seeded = fill(&server).await;
    let client = server.client();
    let mut stream = client.lines("queue=mails&prefetch=1").await;
    let taken = stream.next_job().await;
    // One that has no stream at the moment.
    let tab = at(&mut browser, &server, "workers/studio").await;
    tab.see("40 %").await;
    tab.see("frame 40").await;
    tab.first_row().await;
    tab.keys("K").await;
    tab.press("Stop it").await;
    until("the job is dead", async || {
        (client.status(&seeded.in_flight).await.as_deref() == Some("dead")).then_some(())
    })
    .await;
    tab.see("This worker is not connected").await;
    // One without a name.
    tab.go(&format!("{}/ui/workers", server.url())).await;
    tab.press("(no name)").await;
    tab.see("1 stream, 1 job in flight").await;
    tab.press("send_mail").await;
    tab.see("Timeline").await;
    assert_eq!(tab.place().await, format!("/ui/jobs/{}", id(&taken)));
    // One that runs more than a page of jobs.
    client
        .enqueue_all((0..60).map(|n| json!({"queue": "many", "type": format!("t{n}"), "payload": n})))
        .await;
    let mut many = client.lines("queue=many&prefetch=60").await;
    for _ in 0..60 {
        many.next_job().await;
    }
    let shown = client.get("/workers?queue=many").await.expect(200)["workers"][0]["stream"].clone();
    tab.go(&format!("{}/ui/workers/{}", server.url(), shown.as_str().unwrap())).await;
    tab.see("1 stream, 60 jobs in flight").await;
    tab.wait("document.querySelector('tbody').rows.length === 50").await;
    tab.press("Newer").await;
    tab.wait("document.querySelector('tbody').rows.length === 10").await;
    tab.see("t59").await;
    tab.see("1 stream, 60 jobs in flight").await;
    tab.press("The first").await;
    tab.see("t0").await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_is_shown_as_text_too() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let seeded = fill(&server).await;
    let tab = at(&mut browser, &server, &format!("jobs/{}", seeded.ready)).await;
    tab.press("Text").await;
    tab.wait(&format!(
        "document.querySelector('.code[role=region]')?.textContent.includes('\\n  \"user_id\": {LARGE}')"
    ))
    .await;
    tab.axe("a payload as text").await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_about_the_machine_needs_attention_too() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    server.client().add("q").await;
    let tab = at(&mut browser, &server, "server").await;
    tab.see("Turns of the engine").await;
    tab.see("on average").await;
    tab.eval(
        "const real = fetch; const soon = Date.now() / 1000 + 3.5 * 86400;
        window.fetch = (url, options) => String(url).includes('/metrics') ? Promise.resolve(new Response(`# HELP x y
zizq_tls_expiry_timestamp_seconds{file=\"/etc/\\\\\"a\\\\\".pem\"} ${soon}\nzizq_store_damaged_records_total 2\n`)) : real(url, options)",
    )
    .await;
    tab.keys("g o").await;
    tab.see("The certificate in /etc/\"a\".pem expires in 3 d").await;
    tab.see("2 records are damaged and set aside").await;
    tab.keys("g s").await;
    tab.see("Certificates").await;
    tab.fine();
}
