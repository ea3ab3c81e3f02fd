//! What is nobody's business: the password of the server, and what was set for the worker alone.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fake::Server;
use crate::worker::{ConfigFile, Worker, command, id, job, lease};

const PASSWORD: &str = "pssst-a-password";

/// A file with the address of a server, readable by its owner alone.
fn address_file(folder: &tempfile::TempDir, server: &Server) -> String {
    let path = folder.path().join("server");
    std::fs::write(&path, format!("http://me:{PASSWORD}@{}\n", server.address)).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path.display().to_string()
}

async fn get(address: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

/// The command lines of a process and of all that it started.
fn command_lines(pid: u32) -> String {
    let mut all = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let children = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in children {
        let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in list.split_whitespace() {
            all += &command_lines(child.parse().unwrap());
        }
    }
    all
}

#[tokio::test]
async fn the_password_of_the_server_is_shown_to_nobody_who_does_not_ask_for_it() {
    let folder = tempfile::tempdir().unwrap();
    for (lines, in_environment) in [("", false), ("pass_credentials = true\n", true)] {
        let mut server = Server::start().await;
        let out = folder.path().join("environment");
        let file = ConfigFile::new(&format!(
            "{lines}listen = '127.0.0.1:0'\n[[route]]\nqueue = 'q'\nrun = 'env > {}; echo begun; cat /dev/zero | tail -c1; echo'\n",
            out.display()
        ));
        let flags = ["--config", &file.path(), "--server-file", &address_file(&folder, &server)];
        let mut worker = Worker::start(&server, &flags);
        let metrics =
            worker.message("serving readiness and metrics").await["address"].as_str().unwrap().to_owned();
        let mut stream = server.stream().await;
        assert!(
            stream.header("authorization").is_some_and(|value| value.starts_with("Basic ")),
            "it is used"
        );
        stream.hello("s", false).await;
        stream.job("s:1", &job(1, 11, json!(null))).await;
        worker.message("begun").await;
        let environment = std::fs::read_to_string(&out).unwrap();
        assert_eq!(environment.contains(PASSWORD), in_environment, "{environment}");
        assert!(environment.contains(&format!("{}\n", server.address)), "{environment}");
        assert!(!command_lines(worker.pid()).contains(PASSWORD));
        for path in ["/metrics", "/ready", "/health"] {
            assert!(!get(&metrics, path).await.contains(PASSWORD), "{path}");
        }
        // What fails is logged, too.
        server.go_down().await;
        drop(stream);
        worker.log("a lost stream", |line| line.to_string().contains("no job stream")).await;
        assert!(!worker.whole_log().contains(PASSWORD), "{}", worker.whole_log());
        worker.signal(Signal::KILL);
        worker.end().await;
    }
}

#[tokio::test]
async fn a_command_inherits_nothing_that_was_set_for_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("environment");
    let own = [
        ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
        ("SSL_CERT_DIR", "/etc/ssl/certs"),
        ("NOTIFY_SOCKET", "/nowhere"),
        ("WATCHDOG_USEC", "90000000"),
        ("CREDENTIALS_DIRECTORY", "/run/credentials/worker"),
        ("STATE_DIRECTORY", "/var/lib/worker"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cret"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=s3cret"),
        ("OTEL_SERVICE_NAME", "encoders"),
        ("ZIZQ_GRACE", "7s"),
        ("ZIZQ_LEASE", "40s"),
        ("ZIZQ_SERVER_FILE", "/nowhere"),
    ];
    for (inherit, names) in [
        ("true", &[][..]),
        ("false", &[]),
        ("['SSL_CERT_FILE', 'PATH']", &["SSL_CERT_FILE"]),
        ("['ZIZQ_GRACE', 'NOTIFY_SOCKET']", &["ZIZQ_GRACE", "NOTIFY_SOCKET"]),
    ] {
        let mut server = Server::start().await;
        let file = ConfigFile::new(&format!(
            "[[route]]\nqueue = 'q'\ninherit_env = {inherit}\nrun = ['/bin/sh', '-c', '/usr/bin/env > {}']\n",
            out.display()
        ));
        let mut program = command();
        program.envs(own).env("EVERYBODYS", "1");
        let url = format!("http://{}", server.address);
        let worker = Worker::start_as(program, &server, &["--config", &file.path(), "--server", &url]);
        let mut stream = server.stream().await;
        stream.hello("s", false).await;
        stream.job("s:1", &job(1, 11, json!(null))).await;
        assert_eq!(server.success().await, [(id(1), lease(11))]);
        let text = std::fs::read_to_string(&out).unwrap();
        let has = |name: &str| text.lines().any(|line| line.starts_with(&format!("{name}=")));
        for (name, _) in own {
            assert_eq!(has(name), names.contains(&name), "{inherit}: {name}: {text}");
        }
        assert_eq!(has("EVERYBODYS"), inherit == "true", "{inherit}: {text}");
        assert!(has("ZIZQ_SERVER") && has("ZIZQ_JOB_ID"), "{inherit}: {text}");
        worker.stop(&mut server).await;
    }
}

#[tokio::test]
async fn no_message_about_a_wrong_address_shows_its_password() {
    let url = |rest: &str| format!("{rest}me:{PASSWORD}@host");
    for (arguments, code) in [
        (vec!["--run", "q=x", "--server"], 2),
        (vec!["check", "--run", "q=x", "--server"], 2),
        (vec!["status", "--server"], 2),
        (vec!["check", "--run", "q=x", "--proxy"], 2),
    ] {
        for wrong in [url("ftp://"), url(""), url("http://") + ":99999", url("http://") + "/?x"] {
            if wrong.ends_with("?x") && arguments.contains(&"--proxy") {
                continue;
            }
            let output = command().args(&arguments).arg(&wrong).output().await.unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{arguments:?} {wrong}: {said}");
            assert!(!said.contains(PASSWORD), "{arguments:?}: {said}");
        }
    }
    let mut help = command();
    help.env("ZIZQ_SERVER", url("http://")).env("ZIZQ_PROXY", url("http://")).arg("--help");
    let output = help.output().await.unwrap();
    assert!(!String::from_utf8(output.stdout).unwrap().contains(PASSWORD));
    // Right, but for everybody to see: that is said.
    let output =
        command().args(["check", "--run", "q=true", "--server", &url("http://")]).output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("all users of this machine can see the password in --server"), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
}
