//! Every screen: with data, without, and when something fails; in both themes, wide and narrow.

use serde_json::json;
use tests::{Server, Worker, id};

use crate::browser::Browser;
use crate::seed::{LARGE, Seeded, fill, long_name};

/// Where a screen is, and what shows that it is there.
fn screens(seeded: &Seeded) -> Vec<(String, &'static str)> {
    let Seeded { ready, scheduled, in_flight, completed, dead } = seeded;
    let screens = [
        (String::new(), "Needs attention"),
        ("queues".to_owned(), "mails"),
        ("queues/mails".to_owned(), "Types of the newest"),
        (format!("queues/{}", long_name()), "Types of the newest"),
        ("queues/%F0%9F%9A%80%20launch%2Fpad".to_owned(), "launch/pad"),
        ("jobs".to_owned(), "send_mail"),
        ("jobs?status=dead".to_owned(), "row 7 is broken"),
        (format!("jobs/{ready}"), LARGE),
        (format!("jobs/{scheduled}"), "Will be ready"),
        (format!("jobs/{in_flight}"), "40 % frame 40"),
        (format!("jobs/{in_flight}/log"), "frame 40"),
        (format!("jobs/{completed}/result"), "\"sum\": 3"),
        (format!("jobs/{completed}/curl"), "Wait for its end"),
        (format!("jobs/{dead}/errors"), "at line 2"),
        ("dead".to_owned(), "BadRow"),
        ("dead?by=message".to_owned(), "broken"),
        ("workers".to_owned(), "Drain"),
        ("workers/studio".to_owned(), "frame 40"),
        ("crons".to_owned(), "Mon–Fri 02:30"),
        ("crons/nightly/report".to_owned(), "Mon–Fri 02:30"),
        ("budgets".to_owned(), "20"),
        ("audit".to_owned(), "paused false → true"),
        ("audit?q=pause".to_owned(), "looked at"),
        ("server".to_owned(), "Ready: it accepts jobs"),
        ("login".to_owned(), "Token"),
    ];
    screens.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_screen_shows_what_there_is_and_can_be_read_by_everybody() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let seeded = fill(&server).await;
    let _worker = Worker::start(&server, ["--run", "unused=cat"]);
    let tab = browser.open(&format!("{}/ui/", server.url())).await;
    for (path, shows) in screens(&seeded) {
        tab.size(1280, 900).await;
        tab.go(&format!("{}/ui/{path}", server.url())).await;
        tab.see(shows).await;
        tab.wait("document.title.endsWith('· Zizq')").await;
        for theme in ["light", "dark"] {
            tab.theme(theme).await;
            tab.axe(&format!("{path} in {theme}")).await;
        }
        for width in [1280, 390, 320] {
            tab.size(width, 900).await;
            tab.fits(&format!("{path} at {width}")).await;
            for theme in ["light", "dark"] {
                tab.theme(theme).await;
                tab.picture(&format!("{path}.{width}.{theme}")).await;
            }
        }
        tab.fine();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_empty_teaches_with_the_address_of_this_server() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let tab = browser.open(&format!("{}/ui/", server.url())).await;
    let no_job = "0".repeat(25);
    for (path, shows) in [
        ("", "/jobs"),
        ("queues", "/jobs"),
        ("queues/new%20one", "--run 'new one=cat'"),
        ("jobs", "/jobs"),
        ("jobs?status=dead&queue=x", "No job matches"),
        ("dead", "No job is dead"),
        ("workers", "zizq-worker --server"),
        ("crons", "/crons/nightly"),
        ("budgets", "/budgets/smtp"),
        ("workers/nobody", "not connected"),
        ("audit?q=nobody", "No entry matches"),
        ("nothing/here", "no such page"),
        (&format!("jobs/{no_job}"), "There is no such job"),
    ] {
        tab.go(&format!("{}/ui/{path}", server.url())).await;
        tab.see(shows).await;
        if shows.contains('/') {
            tab.see(&server.url()).await;
        }
        tab.axe(&format!("{path}, empty")).await;
        if path.starts_with("jobs/") {
            // The browser reports that there is no such job.
            tab.forgive();
        }
        tab.fine();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_payloads_are_text_whatever_they_say() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let seeded = fill(&server).await;
    let tab = browser.open(&format!("{}/ui/jobs?order=asc", server.url())).await;
    for text in ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "إرسال", "🎉"] {
        tab.see(text).await;
    }
    assert_eq!(tab.eval("return document.querySelectorAll('main img, main script').length").await, 0);
    tab.press("🎉").await;
    tab.see("launch/pad").await;
    tab.go(&format!("{}/ui/jobs/{}", server.url(), seeded.ready)).await;
    tab.see(&format!("\"user_id\": {LARGE}")).await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_says_what_was_there_before() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::start().await;
    let client = server.client();
    let job = client.enqueue(&json!({"queue": "<b>q</b>", "type": "t", "priority": 5, "payload": 1})).await;
    let patch = json!({"queue": "r", "priority": 1, "retention": {"dead_ms": 7}});
    client.patch(&format!("/jobs/{}", id(&job)), &patch).await.expect(200);
    let until = client.delete("/jobs?queue=r&dry_run=true").await.expect(200)["until"].clone();
    let tab = browser.open(&format!("{}/ui/audit", server.url())).await;
    for line in ["priority 5 → 1", "queue <b>q</b> → r", "retention.dead_ms – → 7"] {
        tab.see(line).await;
    }
    tab.see(&format!("Only jobs enqueued before {}", until.as_str().unwrap())).await;
    tab.fine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_said_and_what_was_there_stays() {
    let Some(mut browser) = Browser::start().await else { return };
    let mut server = Server::start().await;
    server.client().add("mails").await;
    let tab = browser.open(&format!("{}/ui/queues", server.url())).await;
    tab.see("mails").await;
    server.kill9().await;
    tab.see("No connection. What you see is").await;
    tab.see("mails").await;
    tab.axe("the bar of a lost connection").await;
    server.restart().await;
    server.client().add("others").await;
    // Unless the page has come back by itself meanwhile.
    tab.eval(
        "[...document.querySelectorAll('button')].find(one => one.innerText.trim() === 'Again')?.click()",
    )
    .await;
    tab.see("others").await;
    tab.gone("No connection").await;
    // What the server refuses is shown in its words.
    tab.forgive();
    tab.go(&format!("{}/ui/jobs?filter=.a%20%3D%3D%3D", server.url())).await;
    tab.see("filter").await;
    tab.wait("document.querySelector('[role=alert]')").await;
}
