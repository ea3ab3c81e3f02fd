//! Proxies, homes and service managers: what a worker finds around it.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixDatagram};

use crate::fake::{PATIENCE, Server};
use crate::worker::{ConfigFile, Worker, command, id, job, lease};

/// A proxy that answers 502, and how many requests it got.
async fn proxy() -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://me:secret@{}/", listener.local_addr().unwrap());
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(socket.read(&mut request).await.is_ok_and(|n| n > 0));
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let answer = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            socket.write_all(answer.as_bytes()).await.ok();
        }
    });
    (url, count)
}

#[tokio::test]
async fn a_proxy_on_the_way_to_the_server_is_named_at_the_first_failure() {
    let far = "http://queue.invalid:7890";
    let (url, calls) = proxy().await;
    let shown = url.replace("me:secret@", "");
    for (variables, flags, server, said) in [
        (
            &[("HTTP_PROXY", url.as_str())][..],
            &[][..],
            far,
            Some("from HTTP_PROXY; --proxy none bypasses it"),
        ),
        (&[("http_proxy", &url)], &[], far, Some("from http_proxy;")),
        (&[("ALL_PROXY", &url)], &[], far, Some("from ALL_PROXY;")),
        (&[], &["--proxy", &url], far, Some("from --proxy)")),
        (&[("ZIZQ_PROXY", &url)], &[], far, Some("from --proxy)")),
        (&[("HTTP_PROXY", &url)], &["--proxy", "none"], far, None),
        (&[("HTTP_PROXY", &url), ("NO_PROXY", "queue.invalid")], &[], far, None),
        (&[("HTTP_PROXY", &url)], &[], "http://127.0.0.1:1", None),
        (&[("HTTPS_PROXY", &url)], &[], far, None),
    ] {
        let before = calls.load(std::sync::atomic::Ordering::Relaxed);
        let plain = || {
            let mut command = command();
            for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"] {
                command.env_remove(name);
            }
            command.envs(variables.iter().copied());
            command
        };
        let fake = Server::start().await;
        let all: Vec<&str> = ["--run", "q=true", "--server", server].iter().chain(flags).copied().collect();
        let mut worker = Worker::start_as(plain(), &fake, &all);
        let line = worker.log("a failure", |line| line.to_string().contains("no job stream")).await;
        let line = line["message"].as_str().unwrap();
        assert_eq!(line.contains("proxy"), said.is_some(), "{variables:?} {flags:?}: {line}");
        if let Some(said) = said {
            assert!(line.contains(&format!("through the proxy {shown} {said}")), "{line}");
            assert!(!line.contains("secret"), "{line}");
        }
        assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed) > before, said.is_some(), "{line}");
        worker.signal(Signal::KILL);
        worker.end().await;
    }
}

#[tokio::test]
async fn without_a_home_outcomes_are_not_kept_in_a_folder_of_everybodys() {
    let temporary = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let plain = || {
        let mut program = command();
        for name in ["HOME", "XDG_STATE_HOME", "STATE_DIRECTORY"] {
            program.env_remove(name);
        }
        program.env("TMPDIR", temporary.path());
        program
    };
    let run = async |mut program: tokio::process::Command| {
        let output = program.args(["check", "--run", "q=true"]).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = run(plain()).await;
    assert!(
        said.contains("neither STATE_DIRECTORY nor HOME is set; name a folder of this user with --spool"),
        "{said}"
    );
    let mut with = plain();
    with.env("STATE_DIRECTORY", format!("{}:/other", state.path().display()));
    let said = run(with).await;
    assert!(said.contains(&format!("keeps outcomes in {}\n", state.path().display())), "{said}");

    // It works all the same, and says what to do.
    let mut server = Server::start().await;
    let mut program = plain();
    program.env_remove("ZIZQ_SPOOL");
    let mut worker = Worker::start_as(program, &server, &["--run", "q=true"]);
    worker.message("outcomes are not kept on disk: neither STATE_DIRECTORY nor HOME is set").await;
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    stream.job("s:1", &job(1, 11, json!(null))).await;
    assert_eq!(server.success().await, [(id(1), lease(11))]);
    assert_eq!(
        std::fs::read_dir(temporary.path()).unwrap().count(),
        0,
        "something lies in the temporary folder"
    );
    worker.signal(Signal::KILL);
    worker.end().await;
}

#[tokio::test]
async fn a_spool_that_others_can_write_in_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let server = Server::start().await;
    let spool = folder.path().display().to_string();
    let mut worker = Worker::start(&server, &["--run", "q=true", "--spool", &spool]);
    let line = worker.message("cannot keep outcomes in").await;
    let line = line["message"].as_str().unwrap();
    assert!(line.contains("all users can write to it (mode 777); run chmod o-w on it"), "{line}");
    assert!(line.contains("name a folder of this user with --spool"), "{line}");
    worker.signal(Signal::KILL);
    worker.end().await;
}

#[tokio::test]
async fn a_service_manager_hears_of_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let file = ConfigFile::new("[[route]]\nqueue = 'q'\nrun = 'true'\n");
    let mut server = Server::start().await;
    let mut program = command();
    program.env("NOTIFY_SOCKET", &path);
    let mut worker = Worker::start_as(program, &server, &["--config", &file.path()]);
    let mut stream = server.stream().await;
    stream.hello("s", false).await;
    let told = async |text: &str| {
        let mut buffer = [0; 1000];
        loop {
            let n = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
            let message = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if message.lines().any(|line| line.starts_with(text)) {
                break message;
            }
        }
    };
    told("READY=1").await;
    for text in ["[[route]]\nqueue = 'q'\nrun = 'false'\n", "[[route]]\nqueue = 'q'\nrum = 'false'\n"] {
        file.write(text);
        worker.signal(Signal::HUP);
        assert!(told("RELOADING=1").await.contains("MONOTONIC_USEC="));
        told("READY=1").await;
    }
    worker.message("the new configuration is invalid, keeping the old one").await;
    worker.signal(Signal::KILL);
    worker.end().await;
}
