//! Every route × role × scope, from the table of routes: a new route is in here by itself, and fails until it is right.

use http::Method;
use protocol::access::{Role, Verb};
use serde_json::{Value, json};
use tests::{Answer, Client, Wire, id};
use zizq_server::{Reach, Right, Route, routes};

use super::proxy::{behind, person};
use super::{asking, caller};
use crate::mutual::{Authority, Secure, urls};

/// Whose queues, types, payloads, errors, workers, crons begin like this are none of a limited caller's business.
const FOREIGN: &str = "foreign";

/// What is in the server: a bit of everything for one owner.
struct Things {
    queue: String,
    /// A dead job, with an error and a payload.
    dead: String,
    /// A ready job.
    ready: String,
    group: String,
}

async fn fill(admin: &Client, owner: &str) -> Things {
    let queue = format!("{owner}-queue");
    admin.poke(&format!("/queues/{queue}/resume")).await.expect(200);
    let job = json!({"queue": queue, "type": format!("{owner}-type"), "payload": format!("{owner}-payload")});
    let dead = admin.enqueue(&job).await;
    let held = admin.poll_one(&queue).await;
    let failure =
        json!({"message": format!("{owner}-error"), "backtrace": format!("{owner}-trace"), "kill": true});
    admin.fail(&held, &failure).await;
    let ready = admin.enqueue(&job).await;
    let group = format!("{owner}-group");
    let entry = json!({"name": "e", "expression": "0 0 1 1 *", "job": job});
    let cron = json!({"entries": [entry]});
    admin.call(Method::PUT, &format!("/crons/{group}")).value(&cron).await.expect(200);
    let policy = json!({"allocation": 1, "strategy": {"type": "while_in_flight"}});
    admin.post(&format!("/budgets/{owner}-budget"), &policy).await.expect(201);
    Things { queue, dead: id(&dead).to_owned(), ready: id(&ready).to_owned(), group }
}

/// The path of a route, about somebody's things.
fn path_of(route: &Route, things: &Things) -> String {
    let first = match route.path {
        path if path.starts_with("/queues/") => &things.queue,
        path if path.starts_with("/crons/") => &things.group,
        path if path.ends_with("/errors") || path.contains("/errors/") || path.ends_with("/log") => {
            &things.dead
        }
        path if path.starts_with("/jobs/budgets/") || path.starts_with("/budgets/") => "a-budget",
        path if path.starts_with("/jobs/") => &things.ready,
        path if path.starts_with("/workers/") => "000000000000",
        path if path.starts_with("/tokens/") => "tok_000000000000",
        _ => "",
    };
    let second = match route.path {
        path if path.contains("/entries/") => "e",
        path if path.contains("/errors/") => "1",
        _ => "a-budget",
    };
    route.path.replacen("{}", first, 1).replacen("{}", second, 1)
}

/// A body that lets the call do as little as possible: it must only get as far as the body.
fn body_of(route: &Route, queue: &str) -> Value {
    let job = json!({"queue": queue, "type": "t", "payload": 1});
    let entry = |name: &str| json!({"name": name, "expression": "0 0 1 1 *", "job": job});
    match (route.method.as_str(), route.path) {
        ("POST", "/jobs") => job,
        ("POST", "/jobs/bulk") => json!({"jobs": [job]}),
        ("POST", "/jobs/take") => json!({"queues": [queue]}),
        ("POST", "/jobs/success") => json!({"ids": []}),
        ("POST", "/jobs/heartbeat" | "/jobs/release") => json!({"jobs": []}),
        ("PUT", "/crons/{}") => json!({"entries": [entry("e")]}),
        ("POST", "/crons/{}/entries") => entry("new"),
        ("PUT", "/crons/{}/entries/{}") => entry("e"),
        ("PATCH", path) if path.starts_with("/crons") => json!({"paused": false}),
        ("POST", "/tokens") => json!({"name": "x"}),
        ("POST", "/ui/session") => json!({"token": "x"}),
        _ => json!({}),
    }
}

async fn send(client: &Client, route: &Route, things: &Things) -> Answer {
    let mut path = path_of(route, things);
    if route.path == "/jobs/take" && route.method == Method::GET || route.path == "/events" {
        path.push_str(&format!("?queue={}", things.queue));
    }
    let mut call = client.call(route.method.clone(), &path);
    if route.method != Method::GET && route.method != Method::DELETE {
        call = call.value(&body_of(route, &things.queue));
    }
    let is_stream = ["/events", "/live"].contains(&route.path)
        || (route.path == "/jobs/take" && route.method == Method::GET);
    if is_stream {
        // Only the head: the rest has no end.
        let head = call.header("accept", "*/*").response().await;
        let (status, headers) = (head.status().as_u16(), head.headers().clone());
        let request = format!("{} {path}", route.method);
        return Answer { request, status, headers, body: bytes::Bytes::new() };
    }
    if route.path == "/metrics" { call.header("accept", "*/*").await } else { call.await }
}

/// Whether whoever may do this may make the call somewhere.
fn may(route: &Route, verbs: &[Verb]) -> bool {
    route.right.verbs().next().is_none() || route.right.verbs().any(|verb| verbs.contains(&verb))
}

/// Calls that are not made, because they would end the test.
fn is_harmless(route: &Route) -> bool {
    route.path != "/reset" && !(route.method == Method::DELETE && route.path == "/crons")
}

fn code(answer: &Answer) -> String {
    serde_json::from_slice::<Value>(&answer.body)
        .ok()
        .and_then(|body| body["code"].as_str().map(str::to_owned))
        .unwrap_or_default()
}

#[tokio::test]
async fn without_a_token_only_health_is_told() {
    let (server, admin) = asking().await;
    let things = fill(&admin, "own").await;
    let before = admin.get("/stats").await.expect(200)["totals"].clone();
    for route in routes() {
        let answer = send(&server.client(), route, &things).await;
        // To log in is to show a token; to log out needs none.
        let expected = match (route.path, &route.method) {
            ("/ui/session", &Method::DELETE) => 204,
            ("/ui/session", _) => 401,
            _ if route.right == Right::Anyone => 200,
            _ => 401,
        };
        assert_eq!(answer.status, expected, "{}: {:?}", answer.request, answer.body);
        if expected == 401 {
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{}", answer.request);
        }
    }
    assert_eq!(admin.get("/stats").await.expect(200)["totals"], before);
}

#[tokio::test]
async fn a_role_gets_what_its_grants_say_and_nothing_else() {
    let (server, admin) = asking().await;
    for role in Role::ALL {
        let (client, _) = caller(&server, role.as_str(), &["--role", role.as_str()]).await;
        try_all(&admin, &client, role).await;
    }
}

#[tokio::test]
async fn a_certificate_and_a_listener_get_what_their_role_says_and_nothing_else() {
    let names = Role::ALL.map(Role::as_str);
    let authority = Authority::new(&names).await;
    let listen = names.map(|name| format!("127.0.0.1:0,role={name},tls=off"));
    let flags: Vec<&str> = listen.iter().flat_map(|listen| ["--listen", listen.as_str()]).collect();
    let server = Secure::asking(&authority, &flags).await;
    let of_listeners = urls(&server.process, names.len()).await;
    let of_listeners: Vec<Client> =
        of_listeners.iter().map(|url| Client::new(url, Wire::default())).collect();
    let admin = &of_listeners[0];
    for (role, of_listener) in Role::ALL.into_iter().zip(&of_listeners) {
        server.known(role.as_str(), &["--role", role.as_str()]).await;
        let of_certificate = authority.caller(role.as_str(), server.port).await;
        for (client, kind) in [(&of_certificate, "certificate"), (of_listener, "listener")] {
            let who = client.get("/whoami").await.expect(200);
            assert_eq!((&who["who"]["kind"], &who["role"]), (&json!(kind), &json!(role)));
            try_all(admin, client, role).await;
        }
    }
}

#[tokio::test]
async fn whom_a_proxy_lets_in_gets_what_the_role_says_and_nothing_else() {
    let roles = Role::ALL.map(|role| format!("{0}={0}", role.as_str())).join(",");
    let server = behind(&["--auth-proxy-role", &roles]).await;
    let admin = person(&server, "admin");
    for role in Role::ALL {
        try_all(&admin, &person(&server, role.as_str()), role).await;
    }
    let nobody = person(&server, "mallory");
    let things = fill(&admin, "own").await;
    for route in routes().iter().filter(|route| route.right != Right::Anyone) {
        let answer = send(&nobody, route, &things).await;
        assert_eq!(answer.status, 403, "{}: {:?}", answer.request, answer.body);
    }
}

/// Has a caller with a role make every call.
async fn try_all(admin: &Client, client: &Client, role: Role) {
    for route in routes().iter().filter(|route| is_harmless(route)) {
        let things = fill(admin, "own").await;
        let answer = send(client, route, &things).await;
        let is_granted = may(route, role.verbs());
        // A producer may see a job by its id, and a worker its own.
        let sees_job = match route.reach {
            Reach::AnyJob => matches!(role, Role::Producer),
            _ => false,
        };
        let hides_job =
            matches!(route.reach, Reach::AnyJob | Reach::OwnJob) && role == Role::Worker && !is_granted;
        let what = format!("{} {}: {} {:?}", role.as_str(), answer.request, answer.status, answer.body);
        if (is_granted || sees_job) && route.path != "/ui/session" {
            assert!(!matches!(answer.status, 401 | 403), "{what}");
        } else if hides_job {
            assert_eq!(answer.status, 404, "{what}");
        } else if route.path == "/ui/session" {
            assert!([204, 401].contains(&answer.status), "{what}");
        } else {
            // Of a stream only the head is read.
            assert_eq!(answer.status, 403, "{what}");
            assert!(answer.body.is_empty() || code(&answer) == "forbidden", "{what}");
        }
        admin.delete(&format!("/jobs?queue={}", things.queue)).await.expect(200);
        admin.delete("/budgets/own-budget").await;
    }
}

#[tokio::test]
async fn a_limited_caller_touches_and_sees_its_queues_alone() {
    let (server, admin) = asking().await;
    let foreign = fill(&admin, FOREIGN).await;
    let own = fill(&admin, "own").await;
    let all = "enqueue:own*,work:own*,read:own*,payload:own*,operate:own*,configure:own*";
    let (client, _) = caller(&server, "limited", &["--grant", all]).await;
    let state = async || {
        let jobs = admin.get(&format!("/jobs?queue={}", foreign.queue)).await.expect(200)["jobs"].clone();
        (jobs, admin.get(&format!("/crons/{}", foreign.group)).await.expect(200))
    };
    let before = state().await;
    for route in routes().iter().filter(|route| route.right != Right::Anyone) {
        let answer = send(&client, route, &foreign).await;
        let what = format!("{}: {} {:?}", answer.request, answer.status, answer.body);
        let expected: &[u16] = match route.reach {
            _ if route.right == Right::Known => &[200],
            Reach::Whole | Reach::Queue => &[403],
            Reach::Job | Reach::OwnJob | Reach::AnyJob | Reach::Group | Reach::Entry => &[404],
            // Those that name a queue are refused, the others leave it out.
            Reach::Itself => &[200, 201, 204, 400, 403, 404, 422],
        };
        assert!(expected.contains(&answer.status), "{what}");
        let body = String::from_utf8_lossy(&answer.body);
        // A refusal may repeat what the caller has said.
        if !matches!(answer.status, 403 | 404) {
            assert!(!body.contains(FOREIGN), "{what}");
        }
        assert!(!body.contains("foreign-payload") && !body.contains("foreign-trace"), "{what}");
    }
    assert_eq!(state().await, before, "nothing of others was touched");
    // Its own things it gets.
    for route in routes().iter().filter(|route| route.right != Right::Anyone) {
        if matches!(route.reach, Reach::Whole) || route.path == "/stats/history" {
            continue;
        }
        let own = fill_again(&admin, &own).await;
        let answer = send(&client, route, &own).await;
        assert!(
            !matches!(answer.status, 401 | 403),
            "{}: {} {:?}",
            answer.request,
            answer.status,
            answer.body
        );
        if matches!(route.reach, Reach::Job | Reach::OwnJob | Reach::AnyJob)
            && route.right != Right::To(Verb::Work)
        {
            let is_missing =
                answer.status == 404 && String::from_utf8_lossy(&answer.body).contains("no job has");
            assert!(!is_missing, "{}: {:?}", answer.request, answer.body);
        }
    }
}

/// The things of an owner, some of which are gone.
async fn fill_again(admin: &Client, things: &Things) -> Things {
    let owner = things.queue.trim_end_matches("-queue");
    admin.delete(&format!("/budgets/{owner}-budget")).await;
    admin.delete(&format!("/jobs?queue={}", things.queue)).await.expect(200);
    fill(admin, owner).await
}
