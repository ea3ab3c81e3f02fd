//! `check`, `init`, and a file that changes while the worker runs.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::json;

use crate::fake::Server;
use crate::worker::{ConfigFile, command, id, job, lease};

async fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = command().args(arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn a_sample_is_written_once_and_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("worker.toml");
    let path = path.to_str().unwrap();
    assert_eq!(run(&["init", path]).await, (Some(0), String::new(), String::new()));
    let (code, said, _) = run(&["check", "--config", path]).await;
    assert_eq!(code, Some(0));
    assert!(said.contains("route thumbnails: queue thumbnails, 1 at a time, a command"), "{said}");
    assert!(said.ends_with("the configuration is valid\n"), "{said}");
    let (code, _, error) = run(&["init", path]).await;
    assert_eq!(code, Some(2));
    assert!(error == format!("error: {path} exists and is left unchanged; name another file\n"), "{error}");
    let (_, printed, _) = run(&["init", "-"]).await;
    assert_eq!(printed, std::fs::read_to_string(path).unwrap());
}

#[tokio::test]
async fn a_wrong_file_is_explained() {
    let file = ConfigFile::new("[[route]]\nqueue = 'q'\nrum = 'true'\n");
    let (code, said, error) = run(&["check", "--config", &file.path()]).await;
    assert_eq!((code, said.as_str()), (Some(2), ""));
    assert_eq!(error, format!("error: {}:3: unknown key `rum`; did you mean `run`?\n", file.path()));
}

#[tokio::test]
async fn check_tells_all_mistakes_at_once_each_with_its_line() {
    for (text, expected) in [
        (
            "lease = '1ms'\nserver = 'localhost'\n[[route]]\nqueue = 'q'\nrum = 'true'\ntimeout = '3'\n\
             limits = {memory = '512', nice = 99}\n",
            &[
                (1, "--lease must be from 1s to 12h, not 1ms"),
                (2, "`localhost` is not a URL"),
                (5, "unknown key `rum`; did you mean `run`?"),
                (6, "`3` has no unit: is it 3ms, 3s or 3m?"),
                (7, "`512` has no unit: is it 512MB, or really 512B?"),
                (7, "route `q`: limits: `nice` must be from -20 to 19"),
            ][..],
        ),
        (
            "[[route]]\nqueue = 'a'\nrun = 'true'\nurl = 'http://h'\n[[route]]\nrun = 'true'\n[[route]]\nqueue = 'b'\n\
             [[route]]\nqueue = 'c'\nrun = 'echo {{ .x'\ncloud_events = true\n\
             [[route]]\nqueue = 'd'\nrun = 'true'\n[[route]]\nqueue = 'd'\nrun = 'true'\n",
            &[
                (1, "route `a`: it has both `run` and `url`"),
                (5, "route ``: `queue` is missing"),
                (7, "route `b`: it needs `run` or `url`"),
                (11, "has a `{{` without `}}`"),
                (12, "route `c`: `cloud_events` has no meaning beside `run`"),
                (16, "queue `d` has two routes for all types"),
            ],
        ),
        (
            "[[route]]\nqueue = 'q'\nurl = 'http://h'\nmethod = 'post'\noutcome = {404 = 'done', 999 = 'dead'}\n\
             headers = {'a b' = 'x', c = 'y'}\ncert = '/nowhere'\nkey = '/nowhere'\n",
            &[
                (4, "HTTP methods are written in capitals"),
                (5, "`done` is none of success, retry, dead, release, back_off"),
                (5, "route `q`: outcome: `999` is not a possible outcome on this route"),
                (6, "`a b` is not a header name"),
                (7, "`cert`: cannot read /nowhere"),
            ],
        ),
        ("lease = 30s\n[[route]\nqueue = 'q'\nrun = 'true'\n", &[(1, ""), (2, "")]),
    ] {
        let file = ConfigFile::new(text);
        let (code, said, error) = run(&["check", "--config", &file.path()]).await;
        assert_eq!((code, said.as_str()), (Some(2), ""), "{error}");
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{text}\n{error}");
        for (line, (number, said)) in lines.iter().zip(expected) {
            let place = format!("error: {}:{number}: ", file.path());
            assert!(line.starts_with(&place) && line.contains(said), "{number} {said}: {line}");
        }
    }
    // A start says the same.
    let file = ConfigFile::new("lease = '1'\n[[route]]\nqueue = 'q'\nrum = 'true'\n");
    let (code, _, error) = run(&["--config", &file.path()]).await;
    assert_eq!(code, Some(2));
    assert!(error.contains("worker.toml:1: ") && error.contains("worker.toml:4: "), "{error}");
    std::fs::write(file.path(), b"lease = '30s'\nname = '\xff'\n").unwrap();
    let (_, _, error) = run(&["check", "--config", &file.path()]).await;
    assert!(error.contains("worker.toml:2: this line is not valid UTF-8"), "{error}");
}

#[tokio::test]
async fn check_warns_of_programs_and_folders_that_are_not_here() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    script("right", "#!/bin/sh\ntrue\n", 0o755);
    script("locked", "#!/bin/sh\n", 0o644);
    script("lost", "#!/opt/no/such/bash\n", 0o755);
    script("windows", "#!/bin/bash\r\ntrue\r\n", 0o755);
    script("by-env", "#!/usr/bin/env -S no-such-python3 -u\n", 0o755);
    script("by-env-right", "#!/usr/bin/env sh\n", 0o755);
    let cwd = format!("cwd = '{}'", folder.path().display());
    for (lines, warning) in [
        ("run = ['true']".to_owned(), None),
        ("run = ['/bin/sh', '-c', 'no-such-program']".to_owned(), None),
        ("run = 'cd / && umask 022; A=b no-such-program'".to_owned(), None),
        ("run = 'A=b no-such-program'".to_owned(), None),
        ("run = '{{ .payload.program }} x'".to_owned(), None),
        ("run = ['{{ .payload.program }}']".to_owned(), None),
        ("run = ['no-such-program']".to_owned(), Some("there is no program `no-such-program` in PATH (")),
        (
            "run = 'no-such-program {{ .payload.x }} | sort'".to_owned(),
            Some("there is no program `no-such-program`"),
        ),
        ("run = ['true']\nenv = {PATH = '/nowhere'}".to_owned(), Some("`true` in PATH (/nowhere)")),
        ("run = ['./no-such-program']".to_owned(), Some("/no-such-program")),
        (
            "run = 'true'\ncwd = '/no/such/folder'".to_owned(),
            Some("`cwd`: the folder /no/such/folder does not exist"),
        ),
        (format!("run = ['./right']\n{cwd}"), None),
        (format!("run = './right x'\n{cwd}"), None),
        (format!("run = ['./by-env-right']\n{cwd}"), None),
        (format!("run = ['./locked']\n{cwd}"), Some("locked is not executable; run chmod +x ")),
        (format!("run = './lost x'\n{cwd}"), Some("names /opt/no/such/bash, which does not exist")),
        (format!("run = ['./windows']\n{cwd}"), Some("windows has Windows line ends")),
        (format!("run = ['./by-env']\n{cwd}"), Some("names `no-such-python3`, which is not in PATH")),
        (format!("run = ['{}']", folder.path().display()), Some("is a folder, not a program")),
    ] {
        let file = ConfigFile::new(&format!("\n[[route]]\nqueue = 'q'\n{lines}\n"));
        let (code, said, error) = run(&["check", "--config", &file.path()]).await;
        assert_eq!(code, Some(0), "{error}");
        assert!(said.ends_with("the configuration is valid\n"), "{said}");
        match warning {
            None => assert_eq!(error, "", "{lines}"),
            Some(warning) => {
                let place = format!("warning: {}:2: route `q`: ", file.path());
                assert!(error.starts_with(&place) && error.contains(warning), "{lines}: {error}");
                assert_eq!(error.lines().count(), 1, "{error}");
            }
        }
    }
}

#[tokio::test]
async fn check_online_asks_the_server_and_says_what_it_knows() {
    let mut server = Server::start().await;
    let url = format!("http://{}", server.address);
    let flags = [
        "check",
        "--online",
        "--server",
        &url,
        "--run",
        "mails=true",
        "--run",
        "paused=true",
        "--run",
        "mial=true",
    ];
    let asked = tokio::spawn(command().args(flags).output());
    for (path, answer) in [
        ("/version", json!({"version": "0.7.0", "server": "zizq-server/0.1.0"})),
        (
            "/queues?details=true",
            json!({"queues": [{"name": "mails", "paused": false}, {"name": "paused", "paused": true}, {"name": "mail", "paused": false}]}),
        ),
    ] {
        let call = server.any_call().await;
        assert_eq!((call.method.as_str(), call.path.as_str()), ("GET", path));
        call.answer("200 OK", &answer.to_string());
    }
    let output = asked.await.unwrap().unwrap();
    let (said, error) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert!(said.contains(&format!("zizq-server/0.1.0 answers at {url}, contract 0.7.0\n")), "{said}");
    assert!(error.contains("route `paused`: queue `paused` is paused"), "{error}");
    assert!(
        error.contains("queue `mial` has no jobs and had none recently; did you mean `mail`?"),
        "{error}"
    );
    assert!(!error.contains("`mails`"), "{error}");

    let (code, said, error) =
        run(&["check", "--online", "--server", "http://127.0.0.1:1", "--run", "q=true"]).await;
    assert_eq!((code, said.as_str()), (Some(69), ""));
    assert!(error.starts_with("error: no answer from http://127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn a_file_is_read_again_while_jobs_run_on() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let wait = format!("echo begun; while ! test -e {}; do sleep 0.02; done; echo old", go.display());
    let file = ConfigFile::new(&format!("[[route]]\nqueue = 'q'\nrun = '{wait}'\n"));
    let mut server = Server::start().await;
    let mut worker = file.start(&server);
    let mut q = server.stream().await;
    q.hello("s", false).await;
    q.job("s:1", &job(1, 11, json!(null))).await;
    worker.message("begun").await;

    file.write("[[route]]\nqueue = 'q'\nrum = 'x'\n");
    worker.signal(Signal::HUP);
    worker.message("the new configuration is invalid, keeping the old one: ").await;
    file.write("[[route]]\nqueue = 'q'\nrun = 'echo new'\n[[route]]\nqueue = 'r'\nrun = 'echo r'\n");
    worker.signal(Signal::HUP);
    worker.message("configuration reloaded").await;
    let mut r = server.stream().await;
    assert_eq!(r.query, "queue=r&prefetch=1&lease_ms=30000&renew=worker");
    r.hello("t", false).await;
    std::fs::write(go, "").unwrap();
    worker.message("old").await;
    assert_eq!(server.success().await, [(id(1), lease(11))]);
    q.job("s:2", &job(2, 12, json!(null))).await;
    worker.message("new").await;
    assert_eq!(server.success().await, [(id(2), lease(12))]);

    file.write("[[route]]\nqueue = 'r'\nrun = 'echo r'\n");
    worker.signal(Signal::HUP);
    q.closed().await;
    let mut other = job(3, 13, json!(null));
    other["queue"] = json!("r");
    r.job("t:1", &other).await;
    assert_eq!(server.success().await, [(id(3), lease(13))]);

    file.write("lease = '50s'\nlisten = '127.0.0.1:0'\n[[route]]\nqueue = 'r'\nrun = 'echo r'\n");
    worker.signal(Signal::HUP);
    worker.message("restart the worker to apply the changes to lease, listen").await;
}

#[tokio::test]
async fn what_cannot_be_written_is_not_right() {
    for arguments in [&["init", "-"][..], &["check", "--run", "q=true"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let child = command().args(arguments).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("error: cannot write to the standard output: "), "{said}");
    }
}
