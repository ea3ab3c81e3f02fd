//! How people log in.

use serde_json::json;
use tests::Server;

use super::browser::Browser;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_logs_in_once_and_does_not_stay_in_the_history() {
    let Some(mut browser) = Browser::start().await else { return };
    let server = Server::with(["--auth", "required"]).await;
    let run = async |args: &[&str]| {
        let output = server.control(args).await;
        [output.stderr, output.stdout].map(|text| String::from_utf8(text).unwrap())
    };
    let [about, _] = run(&["token", "create", "alice", "--role", "operator"]).await;
    let id = about.split(' ').next().unwrap();
    let [_, link] = run(&["token", "link", id, "--server-url", &server.url()]).await;
    let tab = browser.open(link.trim()).await;
    tab.wait("location.pathname === '/ui/' && location.hash === ''").await;
    tab.see("Queues").await;
    let who = tab.eval("return (await (await fetch('/whoami')).json()).who?.name ?? null").await;
    assert_eq!(who, json!("alice"));
    tab.eval("await fetch('/ui/session', {method: 'DELETE'})").await;
    tab.forgive();
    tab.go("about:blank").await;
    tab.go(link.trim()).await;
    tab.see("this link was followed before").await;
}
