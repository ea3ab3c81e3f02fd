//! Workers and people's commands with an access token.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::json;
use tests::binaries::binary;
use tests::wait::{until, within};
use tests::{Server, Worker};
use tokio::process::Command;

use super::{asking, printed, token};

/// A file with a token that nobody else can read.
fn file(token: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{token}\n")).unwrap();
    std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o600)).unwrap();
    file
}

async fn people(server: &Server, args: &[&str], token: Option<&str>) -> Output {
    let mut command = Command::new(binary("zizq-worker"));
    command.args(args).args(["--server", &server.url()]).kill_on_drop(true);
    command.envs(token.map(|token| ("ZIZQ_TOKEN", token)));
    within("the end of a command", command.output()).await.unwrap()
}

#[tokio::test]
async fn a_worker_shows_its_token_with_every_call_and_to_nobody_else() {
    let (server, admin) = asking().await;
    let made = token(&server, "w", &["--role", "worker", "--queue", "q", "--grant", "enqueue:next"]).await;
    let file = file(&made);
    let out = tempfile::NamedTempFile::new().unwrap();
    let next = r#"'{"queue": "next", "type": "t", "payload": null}'"#;
    let (out_path, program) = (out.path().display(), binary("zizq-worker"));
    let run = format!("q=env > {out_path}; {} ctl enqueue {next}", program.display());
    let flags = ["--run", &run, "--token-file", file.path().to_str().unwrap()];
    let mut worker = Worker::start(&server, flags);
    let job = json!({"queue": "q", "type": "t", "payload": null, "retention": {"completed_ms": 60_000}});
    let job = admin.enqueue(&job).await;
    until("the end of the job", async || {
        (admin.status(tests::id(&job)).await.as_deref() == Some("completed")).then_some(())
    })
    .await;
    assert_eq!(admin.count("queue=next").await, 1, "its commands enqueue with its rights");
    let environment = std::fs::read_to_string(out.path()).unwrap();
    assert!(environment.contains("ZIZQ_JOB_ID=") && !environment.contains(&made[8..20]), "{environment}");
    let pid = worker.process().pid().unwrap().as_raw_nonzero();
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!String::from_utf8_lossy(&line).contains(&made[8..20]));
    assert!(worker.sigterm().await.success());
    assert!(!worker.process().log().contains(&made[8..20]));
}

#[tokio::test]
async fn a_worker_that_may_not_take_ends_and_says_why() {
    let (server, _) = asking().await;
    let viewer = token(&server, "v", &["--role", "viewer"]).await;
    let other = token(&server, "o", &["--role", "worker", "--queue", "other"]).await;
    for (token, says) in [
        (None, "asks for an access token"),
        (Some(&viewer), "needs the grant `work`"),
        (Some(&other), "`work` for the queue `q`"),
    ] {
        let variables = token.map(|token| ("ZIZQ_TOKEN", token.clone())).into_iter().collect();
        let mut worker = Worker::with_variables(&server, ["--run", "q=true"], variables);
        let ended = worker.process().ended().await;
        let log = worker.process().log();
        assert_eq!(ended.code(), Some(77), "{log}");
        assert!(log.contains("does not let this worker take jobs") && log.contains(says), "{log}");
    }
}

#[tokio::test]
async fn a_worker_with_its_role_alone_knows_when_its_queues_have_nothing_left() {
    let (server, admin) = asking().await;
    let made = token(&server, "w", &["--role", "worker", "--queue", "q"]).await;
    for queue in ["q", "q", "other"] {
        admin.add(queue).await;
    }
    let client = server.client().with_token(&made);
    assert_eq!((client.count("queue=q").await, client.count("status=ready").await), (2, 2));
    client.get("/jobs/count?queue=other").await.expect_refusal(403, "`other` is not one of the queues");
    client.get("/jobs/count?filter=true").await.expect_refusal(403, "jq reads payloads");
    assert_eq!(client.get("/queues/q").await.expect(200)["counts"]["ready"], 2);
    client.get("/queues/other").await.expect_refusal(403, "`read` for the queue `other`");
    client.get("/queues").await.expect_refusal(403, "needs the grant `read`");
    let check = ["check", "--online", "--run", "q=true", "--run", "other=true", "--run", "empty=true"];
    let checked = people(&server, &check, Some(&made)).await;
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(checked.status.success() && said.contains("answers at"), "{said}");
    assert!(said.contains("`read` for the queue `other`") && !said.contains("queue `q`"), "{said}");
    assert!(!said.contains("has no jobs"), "{said}");
    let once = async || {
        let variables = vec![("ZIZQ_TOKEN", made.clone())];
        let mut worker = Worker::with_variables(&server, ["--once", "--run", "q=true"], variables);
        (worker.process().ended().await, worker.process().log())
    };
    let (ended, log) = once().await;
    assert!(ended.success() && client.count("").await == 0, "{log}");
    admin.add("q").await;
    admin.poke("/queues/q/pause").await.expect(200);
    let (_, log) = once().await;
    assert!(log.contains("queue `q`") && log.contains("paused"), "{log}");
}

#[tokio::test]
async fn a_worker_reads_its_token_again_when_the_file_changes() {
    let (server, admin) = asking().await;
    let made = async |name: &str| token(&server, name, &["--role", "worker", "--queue", "q"]).await;
    let [first, second, third] = [made("one").await, made("two").await, made("three").await];
    let file = file(&first);
    let mut worker =
        Worker::start(&server, ["--run", "q=true", "--token-file", file.path().to_str().unwrap()]);
    let connected = |log: &str| log.matches("connected to").count();
    until("the stream", async || (connected(&worker.process().log()) >= 1).then_some(())).await;
    let revoke = async |name: &str| {
        let list = admin.get("/tokens").await.expect(200);
        let list = list["tokens"].as_array().unwrap();
        let id = list.iter().find(|one| one["name"] == name).unwrap()["id"].as_str().unwrap().to_owned();
        admin.delete(&format!("/tokens/{id}")).await.expect_nothing();
    };
    let done = async || {
        admin.add("q").await;
        until("the end of the job", async || (admin.count("queue=q").await == 0).then_some(())).await;
    };
    // What is no token leaves the old one in force, and is told once.
    std::fs::write(file.path(), "two words\n").unwrap();
    let kept = "the old access token and client certificate stay in use";
    worker.process().logged(kept).await;
    done().await;
    std::fs::write(file.path(), &second).unwrap();
    worker.process().logged("were read again").await;
    revoke("one").await;
    until("the next stream", async || (connected(&worker.process().log()) >= 2).then_some(())).await;
    done().await;
    // Whoever replaces the file and revokes at once is not too quick.
    std::fs::write(file.path(), &third).unwrap();
    revoke("two").await;
    until("the next stream", async || (connected(&worker.process().log()) >= 3).then_some(())).await;
    done().await;
    let log = worker.process().log();
    assert!(log.matches(kept).count() == 1 && !log.contains(&third[8..20]), "{log}");
    assert!(worker.sigterm().await.success());
}

#[tokio::test]
async fn a_worker_ends_with_its_token() {
    let (server, _) = asking().await;
    let made = token(&server, "w", &["--role", "worker"]).await;
    let who = server.client().with_token(&made).get("/whoami").await.expect(200);
    let mut worker = Worker::with_variables(&server, ["--run", "q=true"], vec![("ZIZQ_TOKEN", made)]);
    worker.process().logged("connected to").await;
    printed(&server.control(&["token", "revoke", who["who"]["id"].as_str().unwrap()]).await);
    let ended = worker.process().ended().await;
    assert_eq!(ended.code(), Some(77), "{}", worker.process().log());
}

#[tokio::test]
async fn peoples_commands_send_it_too() {
    let (server, admin) = asking().await;
    let made = token(&server, "p", &["--role", "operator"]).await;
    let enqueue = ["enqueue", "q", "--type", "t", "--payload", "1"];
    let output = people(&server, &enqueue, Some(&made)).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(admin.count("queue=q").await, 1);
    let file = file(&made);
    let with_file = people(&server, &["status", "--token-file", file.path().to_str().unwrap()], None).await;
    assert!(with_file.status.success(), "{}", String::from_utf8_lossy(&with_file.stderr));
    let without = people(&server, &["status"], None).await;
    assert!(String::from_utf8_lossy(&without.stderr).contains("asks for an access token"));
    let typo = format!("{made}x");
    let output = people(&server, &["status"], Some(&typo)).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && stderr.contains("ZIZQ_TOKEN: the access token has 46 characters"),
        "{stderr}"
    );
    assert!(!stderr.contains(&made[8..20]));
}
