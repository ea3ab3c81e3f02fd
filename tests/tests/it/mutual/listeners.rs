//! `--listen`: ports and sockets with a role of their own.

use serde_json::json;
use tempfile::TempDir;
use tests::binaries::binary;
use tests::process::Process;
use tests::wait::until;
use tests::{Client, Server, Wire, raw};
use tokio::process::Command;

use super::{Authority, Secure, ended, text};
use crate::official_client::SendEmail;

/// The URLs of the listeners, in the order of their flags. The log may come after the line that says where the server is.
pub(crate) async fn urls(process: &Process, n: usize) -> Vec<String> {
    let url = |line: &str| {
        let at = line.find("http")?;
        line[at..].split('"').next().map(str::to_owned)
    };
    until("the addresses in the log", async || {
        let log = process.log();
        let lines = log.lines().filter(|line| line.contains("listening, too"));
        let urls: Vec<String> = lines.filter_map(url).collect();
        (urls.len() == n).then_some(urls)
    })
    .await
}

fn client(url: &str) -> Client {
    Client::new(url, Wire::default())
}

#[tokio::test]
async fn whoever_reaches_a_listener_with_a_role_has_it() {
    let (of_workers, of_producers) = ("127.0.0.1:0,role=worker", "127.0.0.1:0,role=producer");
    let mut server =
        Server::with(["--auth", "required", "--listen", of_workers, "--listen", of_producers]).await;
    let urls = urls(server.process(), 2).await;
    let [workers, producers] = [0, 1].map(|n| client(&urls[n]));
    server.client().get("/whoami").await.expect_refusal(401, "asks for an access token");
    let who = workers.get("/whoami").await.expect(200);
    assert_eq!((&who["who"]["kind"], &who["role"]), (&json!("listener"), &json!("worker")));
    // The official client has nothing to show.
    let official = zizq::Client::builder().url(&urls[1]).build().unwrap();
    official.enqueue(SendEmail { to: "ada".to_owned() }).await.unwrap();
    assert!(official.list_queues().await.unwrap_err().to_string().contains("`read`"));
    producers.post("/jobs/take", &json!({"queues": ["emails"]})).await.expect_refusal(403, "`work`");
    let job = workers.poll(&json!({"queues": ["emails"]})).await;
    assert!(job[0]["payload"]["to"] == "ada", "{job:?}");
    workers.get("/queues").await.expect_refusal(403, "`read`");
    // Whoever shows a token is that.
    let mut command = Command::new(binary("zizq-server"));
    command.args(["token", "create", "v", "--role", "viewer"]).env("ZIZQ_ROOT_DIR", server.root_dir());
    let made = text(&ended(command).await.stdout);
    workers.clone().with_token(made.trim()).get("/queues").await.expect(200);
    workers.with_token("nonsense").get("/queues").await.expect_refusal(401, "");
    // A page that has made its own name point here must not call where nobody is asked.
    for (url, status) in [(urls[0].as_str(), "421"), (&server.url(), "401")] {
        let head = b"GET /whoami HTTP/1.1\r\nhost: queue.example\r\nconnection: close\r\n\r\n";
        let mut connection = raw::send(url.trim_start_matches("http://"), head).await;
        let answer = text(&raw::read_until(&mut connection, |_| false).await);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

#[tokio::test]
async fn a_listener_may_serve_a_part_only() {
    let of_all = ["metrics", "api", "ui,role=admin"].map(|only| format!("127.0.0.1:0,only={only}"));
    let flags: Vec<&str> = of_all.iter().flat_map(|of| ["--listen", of]).collect();
    let mut server = Server::with([&["--auth", "required"], flags.as_slice()].concat()).await;
    let urls = urls(server.process(), 3).await;
    let [metrics, api, ui] = [0, 1, 2].map(|n| client(&urls[n]));
    for (client, path, status) in [
        (&metrics, "/metrics", 200),
        (&metrics, "/health", 200),
        (&metrics, "/queues", 404),
        (&metrics, "/ui/", 404),
        (&api, "/ui/", 404),
        (&ui, "/ui/", 200),
        (&api, "/metrics", 404),
        (&api, "/queues", 401),
        (&api, "/readyz", 200),
        (&ui, "/metrics", 404),
        (&ui, "/queues", 200),
        (&ui, "/jobs/take", 404),
    ] {
        let mut request = client.get(path);
        if ["/metrics", "/ui/"].contains(&path) {
            request = request.header("accept", "*/*");
        }
        assert_eq!(request.await.status, status, "{path}");
    }
    api.delete("/ui/session").await.expect_refusal(404, "serves other calls only");
}

#[tokio::test]
async fn a_socket_in_the_file_system_is_a_listener_too() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.sock");
    let listen = format!("unix:{},role=producer", path.display());
    let mut server = Server::with(["--auth", "required", "--listen", &listen]).await;
    let ask = async || {
        let mut command = Command::new("curl");
        command.args(["--silent", "--unix-socket"]).arg(&path).arg("http://queue/whoami");
        text(&ended(command).await.stdout)
    };
    let said = ask().await;
    assert!(said.contains("\"listener\"") && said.contains("producer"), "{said}");
    // What a server leaves behind is not in the way of the next one.
    server.kill9().await;
    assert!(path.exists());
    server.restart().await;
    assert!(ask().await.contains("producer"));
    server.sigterm().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn nothing_is_made_when_a_listener_cannot_be() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("root");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let socket = folder.path().join("a.sock");
    let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let socket = format!("unix:{}", socket.display());
    for (listen, says) in [
        (taken.as_str(), vec!["--listen", taken.as_str(), "something else listens there"]),
        (&socket, vec!["--listen", "something else listens there"]),
        ("0.0.0.0:0", vec!["0.0.0.0", "--auth required", "--tls-client-ca", "--auth open", "have a role"]),
        ("10.0.0.5", vec!["neither HOST:PORT nor unix:PATH"]),
    ] {
        let mut command = Command::new(binary("zizq-server"));
        command.args(["--port", "0", "--listen", listen, "--root-dir"]).arg(&root);
        let output = ended(command).await;
        let stderr = text(&output.stderr);
        assert!(!output.status.success(), "{listen}");
        assert!(says.iter().all(|says| stderr.contains(says)), "{listen}: {stderr}");
        assert!(!root.exists(), "{listen}");
    }
    let _server = Server::with(["--listen", "0.0.0.0:0,role=worker"]).await;
}

#[tokio::test]
async fn a_trusted_listener_asks_for_no_certificate() {
    let authority = Authority::new(&["app"]).await;
    let listen = ["127.0.0.1:0,role=worker", "127.0.0.1:0,only=metrics,tls=off"];
    let server = Secure::asking(&authority, &["--listen", listen[0], "--listen", listen[1]]).await;
    assert_eq!(authority.ask(None, &server.url("/health"), &[]).await, None);
    let urls = urls(&server.process, 2).await;
    assert!(urls[0].starts_with("https://") && urls[1].starts_with("http://"), "{urls:?}");
    let (_, who) = authority.ask(None, &format!("{}/whoami", urls[0]), &[]).await.unwrap();
    assert_eq!(who["role"], "worker");
    assert_eq!(authority.ask(None, &format!("{}/metrics", urls[1]), &[]).await.unwrap().0, 200);
}
