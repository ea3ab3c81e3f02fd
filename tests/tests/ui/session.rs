//! People who log in: what they see, what is offered, and what the server refuses in any case.

use http::Method;
use serde_json::{Value, json};
use tests::wait::until;
use tests::{Client, Server, Worker};

use crate::browser::{Browser, Tab};
use crate::seed::{Seeded, fill};

/// A server that asks for tokens, with jobs, and a client that may do everything.
async fn asking() -> (Server, Client, Seeded) {
    let server = Server::start().await;
    let seeded = fill(&server).await;
    let output = server.control(&["token", "create", "root", "--role", "admin"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let token = String::from_utf8(output.stdout).unwrap();
    let admin = server.client().with_token(token.trim());
    (server, admin, seeded)
}

async fn token(admin: &Client, name: &str, role: &str) -> String {
    let made = admin.post("/tokens", &json!({"name": name, "role": role})).await.expect(201);
    made["token"].as_str().unwrap().to_owned()
}

async fn log_in(tab: &Tab, token: &str) {
    tab.see("It begins with zizq_").await;
    tab.fill("[name=token]", token).await;
    tab.press("Log in").await;
    tab.see("Needs attention").await;
    // What came before the session was refused.
    tab.forgive();
}

/// What can be seen of all that changes something.
const OFFERED: &str = "return [...document.querySelectorAll('[data-needs], main form button')]
    .filter(one => one.getClientRects().length).map(one => `${one.dataset.needs} ${one.innerText}`)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_is_offered_no_action_and_refused_each() {
    let Some(mut browser) = Browser::start().await else { return };
    let (server, admin, seeded) = asking().await;
    let worker = token(&admin, "worker", "worker").await;
    let _worker = Worker::start(&server, ["--run", "unused=cat", "--token-file", &written(&server, &worker)]);
    let viewer = token(&admin, "eve", "viewer").await;
    let tab = browser.open(&format!("{}/ui/", server.url())).await;
    log_in(&tab, &viewer).await;
    let Seeded { ready, scheduled, in_flight, completed, dead } = &seeded;
    let jobs = [ready, scheduled, in_flight, completed, dead].map(|id| format!("jobs/{id}"));
    let screens = [
        "",
        "queues",
        "queues/mails",
        "jobs",
        "jobs?status=dead",
        "dead",
        "workers",
        "workers/studio",
        "crons",
        "budgets",
        "server",
    ];
    let needs = |path: &str| if path.is_empty() { "Needs attention" } else { "" };
    for path in screens.map(str::to_owned).iter().chain(&jobs) {
        tab.go(&format!("{}/ui/{path}", server.url())).await;
        tab.see(needs(path)).await;
        tab.wait("document.documentElement.dataset.deny === 'enqueue operate configure admin'").await;
        tab.wait("document.querySelector('main h1') && !document.querySelector('main .loading')").await;
        assert_eq!(tab.eval(OFFERED).await, json!([]), "offered at {path}");
        for text in ["Settings", "Access tokens"] {
            assert!(!tab.text().await.contains(text), "{text} at {path}");
        }
        tab.fine();
    }
    // Keys lead nowhere, either.
    tab.go(&format!("{}/ui/queues", server.url())).await;
    tab.see("mails").await;
    tab.first_row().await;
    for (key, verb) in [("p", "operate"), ("n", "enqueue")] {
        tab.keys(key).await;
        tab.see(&format!("You may not do this: it takes {verb}.")).await;
    }
    tab.fine();
    refuses_each(&tab, &admin, &seeded).await;
}

/// Each refusal is in the audit trail, where it would hide the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sees_some_queues_asks_for_nothing_that_is_refused() {
    let Some(mut browser) = Browser::start().await else { return };
    let (server, admin, seeded) = asking().await;
    let body = json!({"name": "mia", "role": "operator", "queues": ["mails*"]});
    let made = admin.post("/tokens", &body).await.expect(201);
    let tab = browser.open(&format!("{}/ui/", server.url())).await;
    log_in(&tab, made["token"].as_str().unwrap()).await;
    let job = format!("jobs/{}", seeded.ready);
    for path in [
        "",
        "queues",
        "queues/mails",
        "jobs",
        &job,
        "dead",
        "workers",
        "workers/studio",
        "crons",
        "budgets",
        "server",
    ] {
        tab.go(&format!("{}/ui/{path}", server.url())).await;
        tab.wait("document.querySelector('main h1') && !document.querySelector('main .loading')").await;
        tab.wait("document.title.endsWith('· Zizq')").await;
        tab.fine();
    }
    tab.go(&format!("{}/ui/budgets", server.url())).await;
    tab.see("Budgets are about all queues, and you see some of them.").await;
    let trail = admin.get("/audit?limit=200").await.expect(200);
    let refused = |entry: &&Value| entry["who"]["name"] == "mia" && entry["status"] == 403;
    let refused: Vec<&Value> = trail["entries"].as_array().unwrap().iter().filter(refused).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// The server refuses what the pages do not offer.
async fn refuses_each(tab: &Tab, admin: &Client, seeded: &Seeded) {
    for (method, path, body) in changes(seeded) {
        let call = json!({"method": method.as_str(), "path": path, "body": body});
        let status = tab
            .eval(&format!(
                "const {{ method, path, body }} = {call};
                const content = body === null ? {{}} : {{ body: JSON.stringify(body), headers: {{ 'content-type': 'application/json' }} }};
                return (await fetch(path, {{ method, ...content }})).status"
            ))
            .await;
        assert_eq!(status, 403, "{method} {path}");
    }
    assert_eq!(admin.status(&seeded.dead).await.as_deref(), Some("dead"));
    assert_eq!(admin.get("/queues/mails").await.expect(200)["paused"], false);
    let refused = |entry: &Value| entry["who"]["name"] == "eve" && entry["status"] == 403;
    let trail = admin.get("/audit?limit=200").await.expect(200);
    let refused = trail["entries"].as_array().unwrap().iter().filter(|entry| refused(entry)).count();
    assert_eq!(refused, changes(seeded).len());
}

/// Every change that the pages can make.
fn changes(seeded: &Seeded) -> Vec<(Method, String, Option<Value>)> {
    let Seeded { ready, in_flight, dead, .. } = seeded;
    let of = |method: Method, path: &str, body: Option<Value>| (method, path.to_owned(), body);
    vec![
        of(Method::POST, "/jobs", Some(json!({"queue": "q", "type": "t", "payload": 1}))),
        of(Method::PATCH, &format!("/jobs/{ready}"), Some(json!({"priority": 1}))),
        of(Method::DELETE, &format!("/jobs/{ready}"), None),
        of(Method::POST, &format!("/jobs/{dead}/retry"), Some(json!({}))),
        of(Method::POST, &format!("/jobs/{in_flight}/failure"), Some(json!({"message": "m", "kill": true}))),
        of(Method::POST, "/jobs/retry?status=dead", Some(json!({}))),
        of(Method::PATCH, "/jobs?queue=mails", Some(json!({"queue": "other"}))),
        of(Method::DELETE, "/jobs?queue=mails", None),
        of(Method::POST, "/queues/mails/pause", None),
        of(Method::PATCH, "/queues", Some(json!({"paused": true}))),
        of(Method::POST, "/workers/0123456789ab/disconnect", None),
        of(Method::POST, "/workers/drain?worker=w", None),
        of(
            Method::PUT,
            "/budgets/b",
            Some(json!({"allocation": 1, "strategy": {"type": "while_in_flight"}})),
        ),
        of(Method::PUT, "/crons/c", Some(json!({"entries": []}))),
        of(Method::POST, "/tokens", Some(json!({"name": "mallory", "role": "admin"}))),
        of(Method::GET, "/config", None),
    ]
}

/// The path of a file with this token.
fn written(server: &Server, token: &str) -> String {
    let path = server.root_dir().join("worker.token");
    std::fs::write(&path, token).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_made_and_revoked_and_the_trail_says_by_whom() {
    let Some(mut browser) = Browser::start().await else { return };
    let (server, admin, seeded) = asking().await;
    let mine = token(&admin, "ada", "admin").await;
    // What was asked for before the log-in is shown after it.
    let tab = browser.open(&format!("{}/ui/server", server.url())).await;
    tab.see("It begins with zizq_").await;
    tab.fill("[name=token]", "zizq_a_nonsense").await;
    tab.press("Log in").await;
    tab.see("the access token has 15 characters instead of 45").await;
    tab.axe("the log-in, refused").await;
    tab.fill("[name=token]", &mine).await;
    tab.press("Log in").await;
    tab.see("Access tokens").await;
    tab.see("--auth").await;
    tab.forgive();
    tab.press("Make a token").await;
    tab.fill("[name=name]", "bob").await;
    tab.fill("[name=queues]", "mails* news").await;
    tab.fill("[name=length]", "2 hours").await;
    tab.press("Make it").await;
    tab.see("2 hours is not a length of time").await;
    tab.fill("[name=length]", "2h").await;
    tab.axe("the making of a token").await;
    tab.press("Make it").await;
    tab.see("It is shown only now").await;
    let made = tab.eval("return document.querySelector('dialog pre').innerText").await;
    let bob = server.client().with_token(made.as_str().unwrap());
    let who = bob.get("/whoami").await.expect(200);
    assert_eq!(who["who"]["name"], "bob");
    assert_eq!(who["grants"], json!(["read:news", "read:mails*"]));
    tab.press("I have copied it").await;
    tab.see("read:news").await;
    for theme in ["light", "dark"] {
        tab.theme(theme).await;
        tab.axe(&format!("tokens in {theme}")).await;
    }
    for width in [1280, 390, 320] {
        tab.size(width, 900).await;
        tab.fits(&format!("tokens at {width}")).await;
    }
    tab.size(1280, 900).await;
    tab.press_of("tbody tr", "bob", "Revoke…").await;
    tab.see("bob ends at once").await;
    tab.press("Revoke").await;
    tab.see("bob is revoked").await;
    until("the end of bob", async || (bob.get("/whoami").await.status == 401).then_some(())).await;
    tab.fine();
    acts_and_ends(&tab, &server, &admin, &seeded.dead).await;
}

/// A session may do what its token may, and ends with it.
async fn acts_and_ends(tab: &Tab, server: &Server, admin: &Client, dead: &str) {
    tab.go(&format!("{}/ui/jobs/{dead}", server.url())).await;
    tab.press("Retry").await;
    until("another try", async || (admin.status(dead).await.as_deref() != Some("dead")).then_some(())).await;
    tab.go(&format!("{}/ui/audit", server.url())).await;
    tab.see(&format!("/jobs/{dead}/retry")).await;
    tab.see("ada").await;
    let trail = admin.get("/audit?limit=200").await.expect(200);
    let mine = |entry: &&Value| entry["who"]["name"] == "ada";
    let entries: Vec<&Value> = trail["entries"].as_array().unwrap().iter().filter(mine).collect();
    assert!(entries.iter().all(|entry| entry["via"] == "ui"), "{entries:?}");
    let targets: Vec<&str> = entries.iter().map(|entry| entry["target"].as_str().unwrap()).collect();
    assert!(targets.contains(&"/ui/session") && targets.contains(&"/tokens"), "{targets:?}");
    tab.fine();
    let tokens = admin.get("/tokens").await.expect(200);
    let ada = tokens["tokens"].as_array().unwrap().iter().find(|token| token["name"] == "ada").unwrap();
    admin.delete(&format!("/tokens/{}", ada["id"].as_str().unwrap())).await.expect_nothing();
    tab.see("It begins with zizq_").await;
}
