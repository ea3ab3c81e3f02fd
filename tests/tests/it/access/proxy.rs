//! A proxy that says who calls, and those who say so themselves.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};
use tests::wait::until;
use tests::{Client, Server, Wire, raw};

use super::{caller, token};
use crate::mutual::{Authority, Secure, urls};

/// What most tests say of people.
const ROLES: [&str; 2] =
    ["--auth-proxy-role", "alice=admin,bob=viewer,group:ops=operator,group:mail=operator:mails*"];

/// A server that believes a proxy on this machine.
pub(super) async fn behind(flags: &[&str]) -> Server {
    let proxy = [
        "--auth-proxy-header",
        "X-Forwarded-User",
        "--auth-proxy-groups-header",
        "X-Forwarded-Groups",
        "--auth-proxy-from",
        "127.0.0.1",
    ];
    Server::with([&proxy, flags].concat()).await
}

/// The browser of a person, behind the proxy.
pub(super) fn person(server: &Server, name: &str) -> Client {
    of_page(&server.client()).with_header("x-forwarded-user", name)
}

fn of_page(client: &Client) -> Client {
    client.with_header("sec-fetch-site", "same-origin")
}

/// Sends these lines of a head, and gives the status and the body.
async fn send(server: &Server, lines: &[u8]) -> (u16, String) {
    let head = [b"GET /whoami HTTP/1.1\r\nsec-fetch-site: same-origin\r\n", lines].concat();
    let answer = raw::exchange(server.address(), &head, b"").await;
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}

#[tokio::test]
async fn a_person_has_the_role_that_fits_best() {
    let server = behind(&[&ROLES[..], &["--auth-proxy-role", "*=producer"]].concat()).await;
    let who = async |user: &str, groups: &str| {
        person(&server, user).get("/whoami").header("x-forwarded-groups", groups).await.expect(200)
    };
    let alice = who("alice", "").await;
    assert_eq!(alice["who"], json!({"kind": "proxy", "id": "user=alice", "name": "alice"}));
    assert_eq!((&alice["role"], &alice["auth"]), (&json!("admin"), &json!("required")));
    for (user, groups, role, grants) in [
        ("bob", "ops", json!("viewer"), json!(["read"])),
        ("carol", "staff, ops", json!("operator"), json!(["enqueue", "read", "payload", "operate"])),
        (
            "carol",
            "staff|mail",
            json!("operator"),
            json!(["enqueue:mails*", "read:mails*", "payload:mails*", "operate:mails*"]),
        ),
        // Groups are no people, and the other way round.
        ("ops", "alice", json!("producer"), json!(["enqueue"])),
        ("group:ops", "", json!("producer"), json!(["enqueue"])),
        ("Alice", "OPS", json!("producer"), json!(["enqueue"])),
        ("Ada Lovelace <ada@example.org>", "", json!("producer"), json!(["enqueue"])),
        ("*", "*", json!("producer"), json!(["enqueue"])),
    ] {
        let who = who(user, groups).await;
        assert_eq!((&who["who"]["name"], &who["role"]), (&json!(user), &role), "{user} {groups}");
        assert_eq!(who["grants"], grants, "{user} {groups}");
    }
    let (status, body) = send(&server, "X-FORWARDED-USER:  josé \r\n".as_bytes()).await;
    assert!(status == 200 && body.contains("josé"), "{body}");
    // The token that somebody makes says by whom.
    let made = person(&server, "alice")
        .post("/tokens", &json!({"name": "ci", "role": "producer"}))
        .await
        .expect(201);
    assert_eq!(made["created_by"], "proxy: alice");
}

#[tokio::test]
async fn whoever_has_no_role_is_refused_by_name() {
    let server = behind(&ROLES).await;
    let says = "the proxy says that this is `mallory`, who may do nothing here";
    person(&server, "mallory").get("/queues").await.expect_refusal(403, says);
    let staff = person(&server, "mallory").with_header("x-forwarded-groups", "staff,alice,opsx");
    staff.get("/whoami").await.expect_refusal(403, says);
    // It is known who that was.
    let trail = person(&server, "alice").get("/audit").await.expect(200)["entries"].clone();
    let refused = trail.as_array().unwrap().iter().find(|entry| entry["target"] == "/queues").unwrap();
    assert_eq!(refused["who"], json!({"kind": "proxy", "id": "user=mallory", "name": "mallory"}));
    // Health and pages are for everybody.
    person(&server, "mallory").get("/health").await.expect(200);
}

#[tokio::test]
async fn a_viewer_changes_nothing_and_what_others_change_is_written_down() {
    let server = behind(&ROLES).await;
    let (alice, bob) = (person(&server, "alice"), person(&server, "bob"));
    bob.get("/queues").await.expect(200);
    bob.poke("/queues/q/pause").await.expect_refusal(403, "needs the grant `operate`");
    bob.post("/tokens", &json!({"name": "x", "role": "admin"})).await.expect_refusal(403, "`admin`");
    let mail = person(&server, "carol").with_header("x-forwarded-groups", "mail");
    mail.poke("/queues/mails-2/pause").header("zizq-via", "ui").await.expect(200);
    mail.poke("/queues/q/pause").await.expect_refusal(403, "`operate` for the queue `q`");
    let trail = alice.get("/audit").await.expect(200)["entries"].clone();
    let of = |target: &str| {
        let of = trail.as_array().unwrap().iter().filter(|entry| entry["target"] == target);
        of.map(|entry| (entry["who"]["name"].clone(), entry["status"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(of("/queues/mails-2/pause"), [(json!("carol"), json!(200))]);
    assert_eq!(of("/queues/q/pause"), [(json!("carol"), json!(403)), (json!("bob"), json!(403))]);
}

#[tokio::test]
async fn only_the_proxy_is_believed() {
    let server = behind(&ROLES).await;
    let elsewhere = Client::at(Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))), &server.url(), Wire::default());
    let liar = of_page(&elsewhere).with_header("x-forwarded-user", "alice");
    liar.get("/whoami").await.expect_refusal(401, "counts only from the proxy");
    for name in ["x-forwarded-for", "forwarded", "x-real-ip"] {
        let call = liar.get("/whoami").header(name, "for=127.0.0.1");
        call.await.expect_refusal(401, "counts only from the proxy");
        liar.get("/whoami").header(name, "127.0.0.1").await.expect_refusal(401, "counts only from the proxy");
    }
    // The header takes nothing from who knows a token, either.
    let made = token(&server, "v", &["--role", "viewer"]).await;
    let who = liar.with_token(&made).get("/whoami").await.expect(200);
    assert_eq!((&who["who"]["name"], &who["role"]), (&json!("v"), &json!("viewer")));
    // Nobody guesses anything here.
    for _ in 0..12 {
        liar.get("/whoami").await.expect_refusal(401, "");
    }
    // Without the header the proxy is nobody.
    of_page(&server.client()).get("/whoami").await.expect_refusal(401, "asks for an access token");
    let groups = of_page(&server.client()).with_header("x-forwarded-groups", "ops");
    groups.get("/whoami").await.expect_refusal(401, "asks for an access token");
}

#[tokio::test]
async fn a_header_that_may_not_be_the_proxys_is_refused() {
    let server = behind(&[&ROLES[..], &["--auth-proxy-role", "*=viewer"]].concat()).await;
    let long = format!("X-Forwarded-User: {}\r\n", "x".repeat(256));
    for (lines, says) in [
        (&b"X-Forwarded-User: bob\r\nX-Forwarded-User: alice\r\n"[..], "more than one"),
        (b"X-Forwarded-User: bob\r\nx-forwarded-user: bob\r\n", "more than one"),
        (b"X-Forwarded-User:\r\nX-Forwarded-User: alice\r\n", "more than one"),
        (b"X-Forwarded-User: bob,alice\r\n", "a comma"),
        (b"X-Forwarded-User: bob, alice\r\n", "a comma"),
        (b"X-Forwarded-User:\r\n", "it is empty"),
        (b"X-Forwarded-User: \t \r\n", "it is empty"),
        (b"X-Forwarded-User: al\xffce\r\n", "it is no text"),
        (b"X-Forwarded-User: al\tice\r\n", "it is no text"),
        ("X-Forwarded-User: a\u{85}b\r\n".as_bytes(), "it is no text"),
        (long.as_bytes(), "more than 255 bytes"),
        (
            b"X-Forwarded-User: bob\r\nX-Forwarded-Groups: staff\r\nX-Forwarded-Groups: ops\r\n",
            "x-forwarded-groups: the request has more than one",
        ),
        (b"X-Forwarded-User: bob\r\nX-Forwarded-Groups: \xff\r\n", "x-forwarded-groups: it is no text"),
    ] {
        let (status, body) = send(&server, lines).await;
        assert!(status == 401 && body.contains(says), "{}: {body}", String::from_utf8_lossy(lines));
    }
    // Other headers are nothing.
    let (status, _) = send(&server, b"X_Forwarded_User: alice\r\nX-Forwarded-Users: alice\r\n").await;
    assert_eq!(status, 401);
    let (status, body) =
        send(&server, &long.as_bytes()[..long.len() - 3].iter().chain(b"\r\n").copied().collect::<Vec<_>>())
            .await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn a_page_of_another_site_does_nothing_in_the_name_of_a_person() {
    let server = behind(&[&ROLES[..], &["--cors-origin", "https://app.example"]].concat()).await;
    let alice = server.client().with_header("x-forwarded-user", "alice");
    let pause = |name, value: &str| alice.poke("/queues/q/pause").header(name, value);
    for site in ["cross-site", "same-site"] {
        pause("sec-fetch-site", site).await.expect_refusal(403, "another site");
        alice.get("/jobs/take").header("sec-fetch-site", site).await.expect_refusal(403, "another site");
    }
    pause("origin", "https://evil.example").await.expect_refusal(403, "https://evil.example");
    pause("origin", "null").await.expect_refusal(403, "");
    // Browsers send neither header for a picture from a page without TLS.
    alice.get("/jobs/take").await.expect_refusal(401, "for the server's own pages only");
    alice.poke("/queues/q/pause").await.expect_refusal(401, "for the server's own pages only");
    // Other origins may call with a token, as before.
    pause("origin", "https://app.example").await.expect_refusal(401, "for the server's own pages only");
    let visit =
        [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("sec-fetch-site", "cross-site")];
    let visit = visit
        .iter()
        .fold(alice.get("/ui/").header("accept", "*/*"), |call, (name, value)| call.header(name, value));
    assert_eq!(visit.await.status, 200, "links may be followed");
    let queue = person(&server, "alice").get("/queues/q").await.expect(200);
    assert_eq!(queue["paused"], false);
    pause("origin", &server.url()).await.expect(200);
    pause("sec-fetch-site", "none").await.expect(200);
}

#[tokio::test]
async fn a_page_that_has_its_own_name_point_here_is_nobody() {
    let flags = [&ROLES[..], &["--host", "0.0.0.0", "--allowed-host", "queue.example"]].concat();
    let server = behind(&flags).await;
    let admin = token(&server, "root", &["--role", "admin"]).await;
    let ask = async |host: &str, line: &str| {
        let head = format!(
            "GET /whoami HTTP/1.1\r\nhost: {host}\r\nsec-fetch-site: same-origin\r\n{line}\r\nconnection: close\r\n\r\n"
        );
        let address = format!("127.0.0.1:{}", server.port());
        let mut connection = raw::send(&address, head.as_bytes()).await;
        let answer = raw::read_until(&mut connection, |_| false).await;
        String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(ask("queue.example", "x-forwarded-user: alice").await, "200");
    assert_eq!(ask("evil.example", "x-forwarded-user: alice").await, "421");
    assert_eq!(ask("evil.example", &format!("authorization: Bearer {admin}")).await, "200");
    assert_eq!(ask("evil.example", "x-nothing: 1").await, "401");
}

#[tokio::test]
async fn whoever_shows_a_token_is_that_and_nobody_else() {
    let server = behind(&ROLES).await;
    let alice = person(&server, "alice");
    let (_, id) = caller(&server, "v", &["--role", "viewer"]).await;
    let made = token(&server, "w", &["--role", "viewer"]).await;
    let who = alice.with_token(&made).get("/whoami").await.expect(200);
    assert_eq!(who["who"]["name"], "w");
    // A token that does not count is not made good by the proxy.
    for bad in ["nonsense", "zizq_a_0123456789ABCDEFGHIJKLMNOPQRSTUV000000", ""] {
        alice.with_token(bad).get("/whoami").await.expect_refusal(401, "Authorization: ");
    }
    alice
        .get("/whoami")
        .header("authorization", "Basic YWxpY2U6")
        .await
        .expect_refusal(401, "Authorization: ");
    super::printed(&server.control(&["token", "revoke", &id]).await);
    // Who has logged in is whoever that was for, until then and after that the person.
    let answer = server.client().post("/ui/session", &json!({"token": made})).await;
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    let name = async |cookie: &str| {
        alice.get("/whoami").header("cookie", cookie).await.expect(200)["who"]["name"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(name(&cookie).await, "w");
    assert_eq!(name("zizq=1.x.2.3.AAAA").await, "alice");
}

#[tokio::test]
async fn people_share_a_connection_and_nothing_else() {
    let server = behind(&ROLES).await;
    let made = token(&server, "w", &["--role", "viewer"]).await;
    for wire in Wire::ALL {
        // One connection at a time serves them all.
        let client = of_page(&server.client_as(wire));
        let name = async |client: &Client| {
            client.get("/whoami").await.expect(200)["who"]["name"].as_str().unwrap().to_owned()
        };
        for _ in 0..3 {
            for user in ["alice", "bob"] {
                assert_eq!(name(&client.with_header("x-forwarded-user", user)).await, user, "{wire:?}");
            }
            assert_eq!(name(&client.with_header("x-forwarded-user", "bob").with_token(&made)).await, "w");
            client.get("/whoami").await.expect_refusal(401, "asks for an access token");
            let [alice, bob] = ["alice", "bob"].map(|user| client.with_header("x-forwarded-user", user));
            let second = bob.get("/whoami").also("x-forwarded-user", "alice");
            second.await.expect_refusal(401, "more than one");
            let other = alice.get("/queues").header("sec-fetch-site", "cross-site");
            other.await.expect_refusal(403, "another site");
        }
    }
}

#[tokio::test]
async fn a_stream_is_of_the_person_who_opened_it() {
    let server = behind(&["--auth-proxy-role", "alice=admin,*=worker:q"]).await;
    let [alice, ada, bob] = ["alice", "ada", "bob"].map(|name| person(&server, name));
    alice.add("q").await;
    let mut stream = ada.events("queue=q&lease_ms=60000&resume_ms=60000").await;
    let job = stream.next_job().await;
    let event = stream.last_event_id.clone();
    drop(stream);
    let gone = async || {
        let workers: Value = alice.get("/workers").await.expect(200)["workers"].clone();
        workers.as_array().unwrap().is_empty().then_some(())
    };
    until("the end of the connection", gone).await;
    let worker = token(&server, "ada", &["--role", "worker", "--queue", "q"]).await;
    for thief in [&bob, &server.client().with_token(&worker)] {
        let mut stolen = thief.resume(&event, "queue=q").await;
        assert!(!stolen.hello().resumed);
        stolen.expect_idle().await;
    }
    assert!(ada.resume(&event, "queue=q").await.hello().resumed);
    ada.succeed(&job).await;
}

#[tokio::test]
async fn a_listener_with_a_role_gives_no_other_and_a_socket_has_no_address() {
    let folder = tempfile::TempDir::new().unwrap();
    let socket = folder.path().join("app.sock");
    let listen = format!("unix:{}", socket.display());
    let flags = [&ROLES[..], &["--listen", "127.0.0.1:0,role=viewer", "--listen", &listen]].concat();
    let mut server = behind(&flags).await;
    let url = urls(server.process(), 1).await.remove(0);
    let alice = of_page(&Client::new(&url, Wire::default())).with_header("x-forwarded-user", "alice");
    let who = alice.get("/whoami").await.expect(200);
    assert_eq!((&who["who"]["kind"], &who["role"]), (&json!("listener"), &json!("viewer")));
    alice.poke("/queues/q/pause").await.expect_refusal(403, "`operate`");
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["--silent", "--header", "X-Forwarded-User: alice", "--header", "Sec-Fetch-Site: same-origin"]);
    curl.arg("--unix-socket").arg(&socket).arg("http://queue/whoami").kill_on_drop(true);
    let said = tests::wait::within("curl", curl.output()).await.unwrap().stdout;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("counts only from the proxy"), "{said}");
}

#[tokio::test]
async fn addresses_of_ipv4_are_the_same_over_ipv6() {
    let roles = ["--auth-proxy-role", "*=viewer"];
    for (from, is_believed) in [
        ("127.0.0.0/30", true),
        ("10.0.0.0/8,127.0.0.1", true),
        ("::1", false),
        ("127.0.0.2/31", false),
        ("::/1", false),
    ] {
        let flags = ["--host", "::", "--auth-proxy-header", "Remote-User", "--auth-proxy-from", from];
        let server = Server::with([&flags, &roles[..]].concat()).await;
        let url = format!("http://127.0.0.1:{}", server.port());
        let client = of_page(&Client::new(&url, Wire::default())).with_header("remote-user", "ada");
        assert_eq!(client.get("/whoami").await.status, if is_believed { 200 } else { 401 }, "{from}");
        let url = format!("http://[::1]:{}", server.port());
        let client = of_page(&Client::new(&url, Wire::default())).with_header("remote-user", "ada");
        assert_eq!(
            client.get("/whoami").await.status,
            if from.starts_with("::") { 200 } else { 401 },
            "{from}"
        );
    }
}

#[tokio::test]
async fn a_certificate_goes_before_what_the_proxy_says() {
    let authority = Authority::new(&["proxy"]).await;
    let flags = [
        "--auth-proxy-header",
        "X-Forwarded-User",
        "--auth-proxy-from",
        "127.0.0.1",
        "--tls-client-auth",
        "optional",
    ];
    let server = Secure::asking(&authority, &[&flags[..], &ROLES].concat()).await;
    let header = ["--header", "X-Forwarded-User: alice", "--header", "Sec-Fetch-Site: same-origin"];
    let url = server.url("/whoami");
    for (certificate, kind) in [(Some("proxy"), "certificate"), (None, "proxy")] {
        let (status, seen) = authority.ask(certificate, &url, &header).await.unwrap();
        assert_eq!((status, &seen["who"]["kind"]), (200, &json!(kind)), "{seen}");
    }
}

#[tokio::test]
async fn variables_say_the_same_and_contradictions_are_refused() {
    let variables = vec![
        ("ZIZQ_AUTH_PROXY_HEADER", "Remote-User".to_owned()),
        ("ZIZQ_AUTH_PROXY_GROUPS_HEADER", "Remote-Groups".to_owned()),
        ("ZIZQ_AUTH_PROXY_FROM", "10.0.0.0/8,127.0.0.1".to_owned()),
        ("ZIZQ_AUTH_PROXY_ROLE", "group:ops=operator,*=viewer".to_owned()),
    ];
    // It says who may call, so the server may be reached by others.
    let server = Server::with_variables(["--host", "0.0.0.0"], variables).await;
    let url = format!("http://127.0.0.1:{}", server.port());
    let ada = of_page(&Client::new(&url, Wire::default())).with_header("remote-user", "ada");
    assert_eq!(ada.get("/whoami").await.expect(200)["role"], "viewer");
    let ops = ada.with_header("remote-groups", "ops");
    assert_eq!(ops.get("/whoami").await.expect(200)["role"], "operator");
    Client::new(&url, Wire::default()).get("/queues").await.expect_refusal(401, "asks for an access token");
    let all =
        ["--auth-proxy-header", "X-User", "--auth-proxy-from", "127.0.0.1", "--auth-proxy-role", "*=viewer"];
    for (more, says) in [
        (["--auth", "open"], "would change nothing"),
        (["--auth-proxy-groups-header", "x-user"], "name the same header"),
    ] {
        let (folder, output) = super::modes::start(&[&all[..], &more].concat(), &[]).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(says), "{stderr}");
        assert!(!folder.path().join("root").exists(), "nothing was made");
    }
}
