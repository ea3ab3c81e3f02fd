//! What somebody needs who was woken up: why, since when, who, and the way back.

use serde_json::{Value, json};
use tests::wait::until;
use tests::{Client, Server, id};

use crate::browser::{Browser, Tab};

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
