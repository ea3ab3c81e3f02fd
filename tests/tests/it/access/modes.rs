//! When callers are asked who they are.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use rustix::process::Signal;
use serde_json::json;
use tests::binaries::binary;
use tests::wait::{until, within};
use tests::{Server, raw};
use tokio::process::Command;

use super::{caller, token};

pub(super) async fn start(args: &[&str], variables: &[(&str, &str)]) -> (tempfile::TempDir, Output) {
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Command::new(binary("zizq-server"));
    command.args(["--port", "0", "--root-dir"]).arg(folder.path().join("root")).args(args).kill_on_drop(true);
    command.envs(variables.iter().copied());
    let output = within("the end of a start", command.output()).await.unwrap();
    (folder, output)
}

#[tokio::test]
async fn a_server_that_others_can_reach_says_who_may_call() {
    for host in ["0.0.0.0", "::"] {
        let (folder, output) = start(&["--host", host], &[]).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        for way in ["--auth required", "--auth open", "zizq-server token create"] {
            assert!(stderr.contains(way), "{stderr}");
        }
        assert!(!folder.path().join("root").exists(), "nothing was made");
    }
    for mode in ["open", "required"] {
        let server = Server::with(["--host", "0.0.0.0", "--auth", mode]).await;
        let status = server.client().get("/queues").await.status;
        assert_eq!(status, if mode == "open" { 200 } else { 401 });
    }
}

#[tokio::test]
async fn the_first_token_closes_an_open_server() {
    let mut server = Server::start().await;
    let stranger = server.client();
    let who = stranger.get("/whoami").await.expect(200);
    assert_eq!(who["who"], json!({"kind": "open"}));
    assert_eq!(who["auth"], "open");
    let mut stream = stranger.events("queue=q").await;
    let (client, id) = caller(&server, "w", &["--role", "worker"]).await;
    stream.expect_end().await;
    stranger.get("/queues").await.expect_refusal(401, "asks for an access token");
    client.poll(&json!({"queues": ["q"]})).await;
    // Nobody comes in because the last token has gone.
    super::printed(&server.control(&["token", "revoke", &id]).await);
    stranger.get("/queues").await.expect_refusal(401, "asks for an access token");
    server.kill9().await;
    server.restart().await;
    stranger.get("/queues").await.expect_refusal(401, "asks for an access token");
    server.sigterm().await;
    server.restart_with(["--auth", "open"]).await;
    stranger.get("/queues").await.expect(200);
    let _ = server.sigterm().await;
    // What is stored is not needed for that.
    server.restart_with::<&str>([]).await;
    stranger.get("/queues").await.expect_refusal(401, "asks for an access token");
}

#[tokio::test]
async fn an_open_server_looks_at_no_credentials() {
    let server = Server::with(["--auth", "open"]).await;
    let made = token(&server, "v", &["--role", "viewer"]).await;
    for header in ["Bearer nonsense", "Basic bWU6c2VjcmV0", &format!("Bearer {made}")] {
        server.client().poke("/queues/q/pause").header("authorization", header).await.expect(200);
    }
}

#[tokio::test]
async fn the_admin_token_may_come_as_a_file_or_a_credential() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("admin-token");
    let secret = |n: u8| format!("{n}-0123456789abcdef0123456789abcdef");
    let write = |text: &str| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    };
    write(&format!("{}\n", secret(1)));
    let path = file.to_str().unwrap().to_owned();
    for (name, value) in [
        ("ZIZQ_ADMIN_TOKEN_FILE", path.clone()),
        ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap().to_owned()),
    ] {
        write(&format!("{}\n", secret(1)));
        let variables = vec![(name, value)];
        // It says who may call, so the server may be reached by others.
        let mut server = Server::with_variables(["--host", "0.0.0.0"], variables).await;
        let with = |n: u8| server.client().with_token(&secret(n));
        let (one, two) = (with(1), with(2));
        assert_eq!(one.get("/whoami").await.expect(200)["role"], "admin");
        two.get("/whoami").await.expect_refusal(401, "begins with zizq_");
        write(&secret(2));
        server.process().signal(Signal::HUP);
        until("the new secret", async || (two.get("/whoami").await.status == 200).then_some(())).await;
        one.get("/whoami").await.expect_refusal(401, "");
        write("short");
        server.process().signal(Signal::HUP);
        server.process().logged("at least 32 characters").await;
        two.get("/whoami").await.expect(200);
    }
    write("short");
    let (_folder, output) = start(&[], &[("ZIZQ_ADMIN_TOKEN_FILE", &path)]).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("at least 32 characters"), "{stderr}");
}

#[tokio::test]
async fn names_of_the_server_do_not_matter_once_it_asks() {
    let server = Server::with(["--auth", "required"]).await;
    let made = token(&server, "v", &["--role", "viewer"]).await;
    let ask = async |host: &str, authorization: &str| {
        let head =
            format!("GET /queues HTTP/1.1\r\nhost: {host}\r\n{authorization}connection: close\r\n\r\n");
        let mut connection = raw::send(server.address(), head.as_bytes()).await;
        String::from_utf8_lossy(&raw::read_until(&mut connection, |_| false).await).into_owned()
    };
    let bearer = format!("authorization: Bearer {made}\r\n");
    assert!(ask("queue.example", &bearer).await.starts_with("HTTP/1.1 200"));
    assert!(ask("queue.example", "").await.starts_with("HTTP/1.1 401"));
}
