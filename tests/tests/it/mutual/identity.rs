//! Mutual TLS: a certificate is who calls.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tests::binaries::binary;
use tests::process::Process;
use tests::raw;
use tests::wait::{until, within};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::oneshot;
use zizq::{JobStatus, Router, Worker};

use super::{Authority, Secure, ended, text};
use crate::official_client::{ProcessReport, SendEmail};

#[tokio::test]
async fn the_official_client_is_known_by_its_certificate_and_limited_to_its_queues() {
    let authority = Authority::new(&["app", "worker-7", "root"]).await;
    let server = Secure::asking(&authority, &[]).await;
    server.known("worker-7", &["--role", "worker", "--queue", "emails"]).await;
    server.known("root", &["--role", "admin"]).await;
    let [app, worker, root] = ["app", "worker-7", "root"].map(|name| authority.client(name, &server.url("")));

    // Nobody has named the application: it is a worker and a producer.
    app.enqueue(SendEmail { to: "ada".to_owned() }).await.unwrap();
    app.enqueue(ProcessReport { pages: 3 }).await.unwrap();
    assert!(app.list_queues().await.unwrap_err().to_string().contains("`read`"));
    let error = worker.enqueue(SendEmail { to: "bob".to_owned() }).await.unwrap_err();
    assert!(error.to_string().contains("work:emails"), "{error}");

    let router = || {
        Router::new()
            .route(async |_: SendEmail| Ok::<(), std::convert::Infallible>(()))
            .route(async |_: ProcessReport| Ok::<(), std::convert::Infallible>(()))
    };
    let of_queues = |queues: &[&str]| {
        Worker::builder().client(worker.clone()).queues(queues.to_vec()).handler(router()).build().unwrap()
    };
    let forbidden = within("a refusal", of_queues(&["reports"]).run(std::future::pending())).await;
    assert!(forbidden.is_err(), "the queue is none of its own");
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(of_queues(&["emails"]).run(async move { drop(stopped.await) }));
    until("the end of the email", async || {
        let left = root.count_jobs().status([JobStatus::Ready, JobStatus::InFlight]).await.unwrap();
        (left == 1).then_some(())
    })
    .await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(root.list_queues().await.unwrap(), ["reports"], "the other queue is empty");

    let who = async |name: &str| authority.ask(Some(name), &server.url("/whoami"), &[]).await.unwrap().1;
    let seven = who("worker-7").await;
    assert_eq!((&seven["who"]["kind"], &seven["who"]["name"]), (&json!("certificate"), &json!("worker-7")));
    assert_eq!(seven["grants"], json!(["work:emails"]));
    let app = who("app").await;
    assert_eq!((&app["who"]["name"], &app["grants"]), (&json!("CN=app"), &json!(["enqueue", "work"])));
}

#[tokio::test]
async fn a_worker_and_peoples_commands_show_their_certificate() {
    let authority = Authority::new(&["w", "ops"]).await;
    let server = Secure::asking(&authority, &["--tls-client-role", "none"]).await;
    server.known("w", &["--role", "worker", "--grant", "enqueue"]).await;
    server.known("ops", &["--role", "operator"]).await;
    let as_caller = |name: &str, args: &[&str]| {
        let (cert, key) =
            (authority.path(&format!("{name}.pem")), authority.path(&format!("{name}-key.pem")));
        let mut command = Command::new(binary("zizq-worker"));
        command.args(args).args(["--server", &server.url(""), "--ca", &authority.path("ca.pem")]);
        command.args(["--client-cert", &cert, "--client-key", &key]);
        command
    };
    let added = ended(as_caller("ops", &["enqueue", "q", "--type", "t", "--payload", "1"])).await;
    assert!(added.status.success(), "{}", text(&added.stderr));
    let out = authority.path("out");
    let program = binary("zizq-worker");
    let next = r#"{"queue": "next", "type": "t", "payload": null}"#;
    let run = format!("q=env > {out}; {} ctl enqueue '{next}'", program.display());
    let done = ended(as_caller("w", &["--once", "--run", &run])).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    let environment = std::fs::read_to_string(&out).unwrap();
    assert!(environment.contains("ZIZQ_JOB_ID=") && !environment.contains("ZIZQ_CLIENT_"), "{environment}");
    let (_, queues) = authority.ask(Some("ops"), &server.url("/queues"), &[]).await.unwrap();
    assert_eq!(queues["queues"], json!(["next"]), "its commands enqueue with its rights");

    // The same by the configuration, and what is wrong with it.
    let configured = |lines: &str| {
        let config = authority.path("worker.toml");
        let server = server.url("");
        let route = "[[route]]\nqueue = 'q'\nrun = ['true']\n";
        std::fs::write(
            &config,
            format!("server = '{server}'\nserver_ca = '{}'\n{lines}{route}", authority.path("ca.pem")),
        )
        .unwrap();
        let mut command = Command::new(binary("zizq-worker"));
        command.args(["check", "--online", "--config", &config]);
        command
    };
    let (cert, key) = (authority.path("ops.pem"), authority.path("ops-key.pem"));
    let good = ended(configured(&format!("client_cert = '{cert}'\nclient_key = '{key}'\n"))).await;
    assert!(good.status.success(), "{}{}", text(&good.stdout), text(&good.stderr));
    for (lines, says) in [
        (format!("client_cert = '{cert}'\n"), "`client_cert` needs `client_key`"),
        (format!("client_key = '{key}'\n"), "`client_key` needs `client_cert`"),
        (format!("client_cert = '{key}'\nclient_key = '{key}'\n"), "it holds a private key"),
        (
            format!("client_cert = '{cert}'\nclient_key = '{}'\n", authority.path("w-key.pem")),
            "does not belong to the certificate in",
        ),
    ] {
        let bad = ended(configured(&lines)).await;
        let said = text(&bad.stdout) + &text(&bad.stderr);
        assert!(bad.status.code() == Some(2) && said.contains(says), "{lines}: {said}");
    }
}

#[tokio::test]
async fn a_worker_shows_a_new_certificate_without_a_restart() {
    let authority = Authority::new(&["old", "new", "root"]).await;
    let server = Secure::asking(&authority, &["--tls-client-role", "none"]).await;
    let id = server.known("old", &["--role", "worker"]).await;
    server.known("new", &["--role", "worker"]).await;
    server.known("root", &["--role", "admin"]).await;
    let root = authority.caller("root", server.port).await;
    let (cert, key) = (authority.path("shown.pem"), authority.path("shown-key.pem"));
    let show = |name: &str| {
        std::fs::copy(authority.path(&format!("{name}.pem")), &cert).unwrap();
        std::fs::copy(authority.path(&format!("{name}-key.pem")), &key).unwrap();
    };
    show("old");
    let config = authority.path("worker.toml");
    let (ca, url) = (authority.path("ca.pem"), server.url(""));
    let lines = format!(
        "server = '{url}'\nserver_ca = '{ca}'\nclient_cert = '{cert}'\nclient_key = '{key}'\n\
         [[route]]\nqueue = 'q'\nrun = ['true']\n"
    );
    std::fs::write(&config, lines).unwrap();
    let mut command = Command::new(binary("zizq-worker"));
    command.args(["--config", &config]).env("NO_COLOR", "1");
    let worker = Process::start(command, Path::new(&authority.path("worker.log")));
    let connected = async |n: usize| {
        let streams = || worker.log().matches("connected to").count();
        until("a stream", async || (streams() >= n).then_some(())).await;
    };
    connected(1).await;
    show("new");
    // Nobody need wait for the worker to look.
    worker.signal(Signal::HUP);
    worker.logged("were read again").await;
    assert!(!worker.log().contains("restart the worker"), "{}", worker.log());
    server.control(&["token", "revoke", &id]).await;
    connected(2).await;
    root.add("q").await;
    until("the end of the job", async || (root.count("queue=q").await == 0).then_some(())).await;
}

#[tokio::test]
async fn others_are_not_heard_and_plain_http_is_told_so() {
    let (authority, other) = (Authority::new(&["app"]).await, Authority::new(&["app"]).await);
    let server = Secure::asking(&authority, &[]).await;
    let health = server.url("/health");
    assert_eq!(authority.ask(Some("app"), &health, &[]).await.unwrap().0, 200);
    assert_eq!(authority.ask(None, &health, &[]).await, None, "nobody");
    // The names are the same, but another authority has signed them.
    let theirs = ["--cert", &other.path("app.pem"), "--key", &other.path("app-key.pem")];
    assert_eq!(authority.ask(None, &health, &theirs).await, None, "a stranger");
    server.process.logged("the certificate of a caller was refused").await;

    let address = format!("127.0.0.1:{}", server.port);
    for head in ["GET /jobs HTTP/1.1\r\nhost: localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut answer = raw::send(&address, head.as_bytes()).await;
        let mut said = String::new();
        within("an answer", answer.read_to_string(&mut said)).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
        assert!(said.contains("this port speaks TLS: use https://"), "{said}");
    }
    // A large body, too, gets its answer.
    let mut body = b"POST /jobs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000\r\n\r\n".to_vec();
    body.resize(60_000, b'x');
    let mut connection = raw::send(&address, &body).await;
    let mut said = String::new();
    within("an answer", connection.read_to_string(&mut said)).await.unwrap();
    assert!(said.contains("this port speaks TLS"), "{said}");
}

#[tokio::test]
async fn a_revoked_certificate_ends_its_streams_and_stays_out() {
    let authority = Authority::new(&["looker"]).await;
    let mut server = Secure::asking(&authority, &["--heartbeat-interval", "100ms"]).await;
    let id = server.known("looker", &["--role", "viewer"]).await;
    let mut events = authority.curl(Some("looker"), &server.url("/events"), &["--no-buffer"]);
    let mut events = events.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    assert!(within("a line of the stream", lines.next_line()).await.unwrap().is_some());
    server.control(&["token", "revoke", &id]).await;
    while within("the end of the stream", lines.next_line()).await.unwrap().is_some() {}
    within("the end of curl", events.wait()).await.unwrap();

    // As somebody that nobody knows it would be a worker and a producer.
    let who =
        async |server: &Secure| authority.ask(Some("looker"), &server.url("/whoami"), &[]).await.unwrap();
    let (status, body) = who(&server).await;
    assert!(
        status == 401 && body["error"].as_str().unwrap().contains("CN=looker no longer counts"),
        "{body}"
    );
    let list = server.control(&["token", "list"]).await;
    assert!(list.contains(&id) && list.contains("revoked") && list.contains("CN=looker"), "{list}");
    server.process.kill9().await;
    server.restart().await;
    assert_eq!(who(&server).await.0, 401);
    let again = server.known("looker", &["--role", "viewer"]).await;
    assert_eq!(who(&server).await.0, 200);
    let list = server.control(&["token", "list"]).await;
    assert!(list.contains(&again) && !list.contains(&id), "{list}");
    // A certificate has no secret to replace, and belongs to one identity.
    let refused = |args: Vec<String>| {
        let mut command = Command::new(binary("zizq-server"));
        command.args(args).env("ZIZQ_ROOT_DIR", server.folder.path().join("root"));
        ended(command)
    };
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for (line, says) in [
        (format!("token rotate {again}"), "has no secret to replace"),
        (
            "token create other --certificate CN=looker --role viewer".to_owned(),
            "belongs to `looker` already",
        ),
        ("token create other --certificate looker --role viewer".to_owned(), "write CN=NAME, or URI="),
    ] {
        let output = refused(words(&line)).await;
        assert!(!output.status.success() && text(&output.stderr).contains(says), "{line}: {output:?}");
    }
}

#[tokio::test]
async fn without_a_certificate_a_token_counts_where_certificates_are_optional() {
    let authority = Authority::new(&["app"]).await;
    // It says who may call, so others may reach it.
    let flags = ["--host", "0.0.0.0", "--tls-client-auth", "optional", "--tls-client-role", "none"];
    let server = Secure::asking(&authority, &flags).await;
    let who = server.url("/whoami");
    assert_eq!(authority.ask(None, &who, &[]).await.unwrap().0, 401);
    let (status, body) = authority.ask(Some("app"), &who, &[]).await.unwrap();
    let error = body["error"].as_str().unwrap();
    assert!(status == 401 && error.contains("zizq-server token create NAME --certificate CN=app"), "{body}");
    server.known("app", &["--role", "producer"]).await;
    assert_eq!(authority.ask(Some("app"), &who, &[]).await.unwrap().1["role"], "producer");
    let said = server.control(&["token", "create", "v", "--role", "viewer"]).await;
    let bearer = format!("authorization: Bearer {}", said.lines().next().unwrap());
    // What a request shows goes before what its connection has shown.
    for name in [None, Some("app")] {
        let (_, body) = authority.ask(name, &who, &["--header", &bearer]).await.unwrap();
        assert_eq!((&body["role"], &body["who"]["kind"]), (&json!("viewer"), &json!("token")));
    }
}

#[tokio::test]
async fn a_change_of_who_somebody_is_ends_what_strangers_have_open() {
    let authority = Authority::new(&["app"]).await;
    let server = Secure::asking(&authority, &["--heartbeat-interval", "100ms"]).await;
    let take = ["--no-buffer", "--max-time", "60"];
    let mut take = authority.curl(Some("app"), &server.url("/jobs/take"), &take);
    let mut take = take.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(take.stdout.take().unwrap()).lines();
    assert!(within("a line of the stream", lines.next_line()).await.unwrap().is_some());
    server.known("app", &["--role", "producer"]).await;
    let ended = tokio::time::timeout(Duration::from_secs(30), take.wait()).await;
    assert!(ended.is_ok(), "the stream of a stranger goes on");
}

#[tokio::test]
async fn the_terminal_shows_its_certificate() {
    let authority = Authority::new(&["ada", "eve"]).await;
    let server = Secure::asking(&authority, &["--tls-client-role", "none"]).await;
    server.known("ada", &["--role", "operator"]).await;
    let url = server.url("");
    let top = async |program: &str, args: &[&str]| {
        let mut command = Command::new(binary(program));
        command.args(["top", "--once", "--url", &url, "--server-ca", &authority.path("ca.pem")]).args(args);
        let output = ended(command).await;
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    let [ada, eve, of_ada, of_eve] =
        ["ada.pem", "eve.pem", "ada-key.pem", "eve-key.pem"].map(|file| authority.path(file));
    for program in ["zizq-server", "zizq-worker"] {
        let shown = ["--client-cert", &ada, "--client-key", &of_ada];
        let (is_well, frame) = top(program, &shown).await;
        assert!(is_well && frame.contains("as operator"), "{program}: {frame}");
        let (is_well, line) = top(program, &[&shown[..], &["--json"]].concat()).await;
        assert!(is_well && line.contains("\"totals\""), "{program}: {line}");
        for (shown, says) in [
            (&["--client-cert", &eve, "--client-key", &of_eve][..], "CN=eve"),
            (&["--client-cert", &ada, "--client-key", &of_eve], "eve-key.pem"),
            (&["--client-cert", &ada, "--client-key", &ada], "there is no private key in it"),
            (&["--client-cert", &ada], "client"),
            (&[], "the server asks for a certificate"),
        ] {
            let (is_well, said) = top(program, shown).await;
            assert!(!is_well && said.contains(says), "{program} {shown:?}: {said}");
        }
    }
}
