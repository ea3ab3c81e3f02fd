//! People in a browser.

use serde_json::json;
use tests::Client;

use super::{asking, printed, token};

/// The cookie of an answer, as it is sent back, and its attributes.
async fn log_in(client: &Client, token: &str) -> (String, String) {
    let answer = client.post("/ui/session", &json!({"token": token})).await;
    let cookie = answer.header("set-cookie").to_owned();
    assert_eq!(answer.header("cache-control"), "no-store");
    let shown = answer.expect(200);
    assert!(shown["until"].as_u64().is_some() && !shown.to_string().contains(&token[8..20]));
    let (pair, attributes) = cookie.split_once(';').unwrap();
    (pair.to_owned(), attributes.to_owned())
}

#[tokio::test]
async fn a_session_counts_from_the_servers_own_pages_and_dies_with_its_token() {
    let (mut server, _admin) = asking().await;
    let made = token(&server, "alice", &["--role", "operator"]).await;
    let browser = server.client();
    let (cookie, attributes) = log_in(&browser, &made).await;
    assert!(cookie.starts_with("zizq=") && !cookie.contains(&made[8..20]));
    for attribute in ["Path=/", "HttpOnly", "SameSite=Strict", "Max-Age=3600"] {
        assert!(attributes.contains(attribute), "{attributes}");
    }
    let ask = async |site: (&'static str, &str)| {
        browser.get("/whoami").header("cookie", &cookie).header(site.0, site.1).await
    };
    let who = ask(("sec-fetch-site", "same-origin")).await.expect(200);
    assert_eq!(who["who"]["name"], "alice");
    ask(("sec-fetch-site", "none")).await.expect(200);
    ask(("origin", &server.url())).await.expect(200);
    ask(("sec-fetch-site", "cross-site")).await.expect_refusal(403, "another site");
    ask(("sec-fetch-site", "same-site")).await.expect_refusal(403, "another site");
    ask(("origin", "http://localhost:1")).await.expect_refusal(403, "");
    ask(("x-nothing", "1")).await.expect_refusal(401, "asks for an access token");
    let pause = browser.poke("/queues/q/pause").header("cookie", &cookie);
    pause.clone().header("sec-fetch-site", "same-origin").await.expect(200);
    pause.await.expect_refusal(401, "");
    // Nothing about sessions is stored.
    server.kill9().await;
    server.restart().await;
    ask(("sec-fetch-site", "same-origin")).await.expect(200);
    let mut events = browser
        .get("/events")
        .header("cookie", &cookie)
        .header("sec-fetch-site", "same-origin")
        .header("accept", "text/event-stream")
        .response()
        .await;
    assert_eq!(events.status(), 200);
    printed(&server.control(&["token", "revoke", who["who"]["id"].as_str().unwrap()]).await);
    ask(("sec-fetch-site", "same-origin")).await.expect_refusal(401, "");
    use http_body_util::BodyExt;
    tests::wait::within("the end of the events", async {
        while events.body_mut().frame().await.is_some() {}
    })
    .await;
}

#[tokio::test]
async fn a_link_begins_a_session_once() {
    let (server, admin) = asking().await;
    let made = token(&server, "alice", &["--role", "operator"]).await;
    let who = server.client().with_token(&made).get("/whoami").await.expect(200);
    let id = who["who"]["id"].as_str().unwrap();
    let link =
        printed(&server.control(&["token", "link", id, "--server-url", "https://queue.example/"]).await);
    let code = link.strip_prefix("https://queue.example/ui/login#code=").unwrap().to_owned();
    let browser = server.client();
    let show = |code: &str| browser.post("/ui/session", &json!({"code": code}));
    show("nonsense").await.expect_refusal(401, "was followed before, or is older");
    let answer = show(&code).await;
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    assert_eq!(answer.expect(200)["name"], "alice");
    let again =
        browser.get("/whoami").header("cookie", &cookie).header("sec-fetch-site", "same-origin").await;
    assert_eq!(again.expect(200)["who"]["id"], id);
    show(&code).await.expect_refusal(401, "was followed before, or is older");
    browser.post("/ui/session", &json!({"code": code, "token": made})).await.expect_refusal(400, "");
    // A link does not outlive its token, and only whoever makes tokens makes links.
    let path = format!("/tokens/{id}/link");
    let code = admin.poke(&path).await.expect(200)["code"].as_str().unwrap().to_owned();
    server.client().with_token(&made).poke(&path).await.expect_refusal(403, "`admin`");
    printed(&server.control(&["token", "revoke", id]).await);
    show(&code).await.expect_refusal(401, "");
    admin.poke(&path).await.expect_refusal(404, "only an access token with a secret");
}

#[tokio::test]
async fn only_a_token_begins_a_session() {
    let (server, _) = asking().await;
    let client = server.client();
    client.post("/ui/session", &json!({"token": "nonsense"})).await.expect_refusal(401, "begins with zizq_");
    client.post("/ui/session", &json!({})).await.expect_refusal(400, "token");
    client
        .get("/whoami")
        .header("cookie", "zizq=1.x.2.3.AAAA")
        .header("sec-fetch-site", "none")
        .await
        .expect_refusal(401, "");
    let out = client.delete("/ui/session").await;
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    out.expect_nothing();
}
