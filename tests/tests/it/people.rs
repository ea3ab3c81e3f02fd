//! The command line for people, against the real server: what it says, what it does, and its exit codes.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::binaries::binary;
use tests::wait::{until, within};
use tests::{Server, id, lease};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::watch;

/// How a command ended and what it said.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(server: &str, args: &[&str]) -> Command {
    let mut command = Command::new(binary("zizq-worker"));
    command.env("ZIZQ_SERVER", server).args(args).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn run_at(server: &str, args: &[&str], input: &str) -> Said {
    let mut child = command(server, args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (input, name) = (input.to_owned(), args.join(" "));
    let feed = tokio::spawn(async move {
        // A command that refuses its flags reads nothing.
        stdin.write_all(input.as_bytes()).await.ok();
    });
    let output = within(format!("the end of {name}"), child.wait_with_output()).await.unwrap();
    feed.await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

async fn run(server: &Server, args: &[&str]) -> Said {
    run_at(&server.url(), args, "").await
}

impl Said {
    #[track_caller]
    fn well(self) -> String {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{}", self.out);
        self.out
    }

    #[track_caller]
    fn wrong(self, code: i32, words: &str) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert!(self.err.contains(words), "{words} in {}", self.err);
        self.out
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn enqueue_takes_one_payload_files_or_lines() {
    let server = Server::start().await;
    let client = server.client();
    let said = run(&server, &["enqueue", "one", "--type", "t", "--payload", r#"{"n": 1.0}"#]).await.well();
    assert!(said.ends_with(" is in queue one, ready\n"), "{said}");
    let shown = client.job(said.split(' ').next().unwrap()).await;
    assert_eq!((&shown["type"], shown["payload"].to_string()), (&json!("t"), r#"{"n":1.0}"#.to_owned()));

    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let paths = ["a b.jpg", "ä.jpg"].map(|name| folder.path().join(name).display().to_string());
    for path in &paths {
        std::fs::write(path, "x").unwrap();
    }
    let said =
        run(&server, &["enqueue", "files", "--type", "t", "--each", &paths[0], &paths[1]]).await.well();
    assert_eq!(said, "2 jobs are in queue files\n");
    let jobs = client.get("/jobs?queue=files").await.expect(200);
    let payloads: Vec<&Value> = jobs["jobs"].as_array().unwrap().iter().map(|job| &job["payload"]).collect();
    assert_eq!(payloads, [&json!({"file": paths[0]}), &json!({"file": paths[1]})]);

    let at = ["--at", "2h", "--priority", "7", "--retry-limit", "3", "--json"];
    let args = [&["enqueue", "lines", "--type", "t"][..], &at].concat();
    let said = run_at(&server.url(), &args, "1\n\n\"two\"\n{\"three\": [3]}").await.well();
    let jobs = lines(&said);
    assert_eq!(jobs.len(), 3);
    for job in &jobs {
        let facts = (&job["status"], &job["priority"], &job["retry_limit"]);
        assert_eq!(facts, (&json!("scheduled"), &json!(7), &json!(3)));
    }
    let said =
        run_at(&server.url(), &["enqueue", "text", "--type", "t", "--text"], "no \"json\"\n").await.well();
    let shown = client.job(said.split(' ').next().unwrap()).await;
    assert_eq!(shown["payload"], "no \"json\"");

    let unique = ["enqueue", "once", "--type", "t", "--payload", "1", "--unique-key", "k"];
    let first = run(&server, &unique).await.well();
    let again = run(&server, &unique).await.well();
    let first = first.split(' ').next().unwrap();
    assert_eq!(again, format!("{first} was already enqueued: ready\n"));
}

#[tokio::test]
async fn enqueue_sends_many_lines_in_few_calls_and_names_the_line_that_is_wrong() {
    let server = Server::start().await;
    let client = server.client();
    let numbers = |n: u32| (0..n).map(|n| format!("{n}\n")).collect::<String>();
    let many = ["enqueue", "many", "--type", "t"];
    assert_eq!(run_at(&server.url(), &many, &numbers(2_500)).await.well(), "2,500 jobs are in queue many\n");
    assert_eq!(client.count("queue=many").await, 2_500);
    let last = client.get("/jobs?queue=many&order=desc&limit=1").await.expect(200);
    assert_eq!(last["jobs"][0]["payload"], 2_499);

    let said = run_at(&server.url(), &many, &(numbers(1_002) + "no json\n")).await;
    assert!(said.err.starts_with("1,002 jobs were enqueued"), "{}", said.err);
    said.wrong(1, "line 1003 is not valid JSON");
    let large = format!("1\n\"{}\"\n3\n", "x".repeat(2 << 20));
    let said = run_at(&server.url(), &many, &large).await;
    said.wrong(1, "line 2: payload");
    assert_eq!(client.count("queue=many").await, 3_502, "a part comes as a whole or not at all");
    run_at(&server.url(), &many, " \n").await.wrong(2, "the standard input is empty");
}

#[tokio::test]
async fn lines_that_come_slowly_are_sent_at_once_and_an_interrupt_says_how_many_were() {
    let server = Server::start().await;
    let mut child =
        command(&server.url(), &["enqueue", "slow", "--type", "t"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"1\n2\n3\n").await.unwrap();
    let client = server.client();
    until("what was written", async || (client.count("queue=slow").await == 3).then_some(())).await;
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let output = within("the end", child.wait_with_output()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // The answer may be on its way still.
    let unknown = "error: interrupted: 0 jobs were enqueued; it is unknown whether the server accepted those from line 1 on\n";
    assert!(said == "error: interrupted: 3 jobs were enqueued\n" || said == unknown, "{said}");
    assert_eq!(output.status.code(), Some(130));
    drop(stdin);
}

#[tokio::test]
async fn mistyped_arguments_are_reported_before_anything_is_sent() {
    let server = Server::start().await;
    for (args, words) in [
        (&["enqueue", "q"][..], "--type"),
        (&["enqueue", "a,b", "--type", "t", "--payload", "1"], "a,b"),
        (&["enqueue", "q", "--type", "t", "--payload", "text"], "a string needs double quotes"),
        (
            &["enqueue", "q", "--type", "t", "--each", "no-such-file"],
            "cannot find the file no-such-file (--each)",
        ),
        (&["enqueue", "q", "--type", "t", "--payload", "1", "--text"], "cannot be used with"),
        (&["enqueue", "q", "--type", "t", "--payload", "1", "--at", "soon"], "neither a duration"),
        (
            &["enqueue", "q", "--type", "t", "--payload", "1", "--priority", "abc"],
            "is not a number from 0 to 65535",
        ),
        (&["retry"], "say which jobs to retry: their ids, --queue QUEUE, or --all"),
        (&["retry", "--type", "t"], "say which jobs to retry"),
        (&["retry", "--all", "--queue", "q"], "cannot be used with"),
        (&["failed", "--limit", "0"], "1..=2000"),
        (&["tail"], "required"),
    ] {
        run(&server, args).await.wrong(2, words);
    }
    assert_eq!(server.client().count("").await, 0);
    run(&server, &["tail", "0000000000000000000000000"]).await.wrong(1, "no job");
    let said = run(&server, &["status", "nope"]).await.well();
    assert!(said.ends_with(": no job is in queue nope; zizq-worker status lists the queues\n"), "{said}");
    run(&server, &["retry", "nonsense"]).await.wrong(1, "");
    let refused = run(&server, &["retry", "--json", "nonsense"]).await.wrong(1, "");
    let expected = json!({"id": "nonsense", "error": "no job has the id `nonsense`", "code": "not_found"});
    assert_eq!(lines(&refused), [expected]);
    // Nobody listens on the port of an address that was free a moment ago, as a rule; port 1 never answers here.
    for args in [&["status"][..], &["failed"], &["enqueue", "q", "--type", "t", "--payload", "1"]] {
        run_at("http://127.0.0.1:1", args, "").await.wrong(69, "Is zizq-server running there?");
    }
}

#[tokio::test]
async fn status_shows_queues_and_what_to_do() {
    let server = Server::start().await;
    let client = server.client();
    let said = run(&server, &["status"]).await.well();
    assert!(said.contains("no jobs. Enqueue one:\n  zizq-worker enqueue"), "{said}");
    client.add("mails").await;
    client
        .enqueue(&json!({"queue": "later", "type": "t", "payload": 1, "ready_at": 9_999_999_999_999_u64}))
        .await;
    client.poke("/queues/later/pause").await.expect(200);
    let said = run(&server, &["status"]).await.well();
    let row = |name: &str| said.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let words = |name: &str| row(name).split_whitespace().collect::<Vec<_>>();
    assert_eq!(words("later"), ["later", "0", "0", "1", "0", "0", "0", "paused"]);
    assert_eq!(words("mails")[..7], ["mails", "1", "0", "0", "0", "0", "0"]);
    assert!(
        said.contains("no worker takes jobs of queue mails; start one: zizq-worker --run 'mails=COMMAND'"),
        "{said}"
    );
    let one: Value =
        serde_json::from_str(&run(&server, &["status", "mails", "--json"]).await.well()).unwrap();
    assert_eq!(one["counts"]["ready"], 1);
    client.poke("/queues/mails/pause").await.expect(200);
    let said = run(&server, &["status", "mails"]).await.well();
    assert!(said.contains("queue mails is paused; resume it: POST /queues/mails/resume"), "{said}");
    assert!(!said.contains("no worker takes"), "{said}");
}

#[tokio::test]
async fn failed_says_why_and_retry_makes_ready_again() {
    let server = Server::start().await;
    let client = server.client();
    assert_eq!(run(&server, &["failed"]).await.well(), "0 jobs dead, 0 jobs to be retried\n");
    for kill in [true, true, false] {
        client.add("mails").await;
        let job = client.poll_one("mails").await;
        let failure = json!({"message": "mailbox\nfull", "error_type": "smtp", "kill": kill});
        client.fail(&job, &failure).await;
    }
    let said = run(&server, &["failed", "mails"]).await.well();
    assert_eq!(said.matches("mails/").count(), 3, "{said}");
    assert!(
        said.contains("failed once") && said.contains("; dead\n") && said.contains("; retry in "),
        "{said}"
    );
    assert!(said.contains("\n2 jobs dead, 1 job to be retried\n"), "{said}");
    let listed = lines(&run(&server, &["failed", "--json", "--limit", "1"]).await.well());
    assert_eq!(listed.len(), 2, "one that is dead, one that is tried again");

    let dry = run(&server, &["retry", "--queue", "mails", "--dry-run"]).await.well();
    assert_eq!(dry, "2 jobs of queue mails would be ready again\n");
    let dead = id(&listed[0]);
    assert_eq!(run(&server, &["retry", dead]).await.well(), format!("{dead} is ready again\n"));
    let said = run(&server, &["retry", dead, id(&listed[1])]).await.wrong(1, "");
    assert!(
        said.contains(&format!("{dead}: ")) && said.contains(&format!("{} is ready", id(&listed[1]))),
        "{said}"
    );
    let said = run(&server, &["retry", "--queue", "mails", "--type", "other"]).await.well();
    assert_eq!(said, "0 jobs of queue mails made ready again\n");
    assert_eq!(
        run(&server, &["retry", "--all", "--type", "other"]).await.well(),
        "0 jobs made ready again\n"
    );
    assert_eq!(run(&server, &["retry", "--all"]).await.well(), "1 job made ready again\n");
    assert_eq!(client.count("status=ready").await, 3);
}

#[tokio::test]
async fn tail_follows_a_running_job_to_its_end() {
    let server = Server::start().await;
    let client = server.client();
    for (fails, code, end) in [(false, 0, "the job is completed"), (true, 1, "the job is retried in ")] {
        let body = json!({"queue": "q", "type": "t", "payload": 1, "retention": {"completed_ms": 600_000}});
        client.enqueue(&body).await;
        let job = client.poll_one("q").await;
        let print = async |lines: &str| {
            let call = client.poke(&format!("/jobs/{}/log", id(&job)));
            call.bytes("application/x-ndjson", lines.to_owned()).await.expect_nothing();
        };
        print("{\"stream\": \"stdout\", \"line\": \"first\"}\n").await;
        let mut child = command(&server.url(), &["tail", id(&job)]).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = async || within("a line of the log", out.next_line()).await.unwrap().unwrap();
        assert_eq!(next().await, "first");
        print(
            "{\"stream\": \"stderr\", \"line\": \"oops\"}\n{\"stream\": \"stdout\", \"line\": \"second\"}\n",
        )
        .await;
        assert_eq!(next().await, "second");
        if fails {
            client.fail(&job, &json!({"message": "no"})).await;
        } else {
            client.succeed(&job).await;
        }
        let ended = within("the end of tail", child.wait_with_output()).await.unwrap();
        let err = String::from_utf8(ended.stderr).unwrap();
        assert!(err.starts_with(&format!("oops\nattempt 1 ended; {end}")), "{err}");
        assert_eq!(ended.status.code(), Some(code), "{err}");
    }
}

/// Carries bytes to and fro; whoever is connected is cut off when told.
async fn between(to: String, mut cut: watch::Receiver<u32>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(&to).await.unwrap();
            cut.mark_unchanged();
            let mut cut = cut.clone();
            tokio::spawn(async move {
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    _ = cut.changed() => {}
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn tail_goes_on_where_it_was_when_the_server_or_the_connection_is_back() {
    for restarts in [true, false] {
        let mut server = Server::with(["--drain-timeout", "100ms"]).await;
        let client = server.client();
        let (cut, cuts) = watch::channel(0);
        let url = if restarts { server.url() } else { between(server.address().to_owned(), cuts).await };
        client.add("q").await;
        let job = client.poll_one("q").await;
        let print = async |lines: &str| {
            let call = client.poke(&format!("/jobs/{}/log", id(&job))).header("zizq-lease", lease(&job));
            call.bytes("text/plain", lines.to_owned()).await.expect_nothing();
        };
        print("first\n").await;
        let mut child = command(&url, &["tail", id(&job)]).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut next = async || within("a line of the log", out.next_line()).await.unwrap();
        let mut said = async || within("a line beside it", err.next_line()).await.unwrap();
        assert_eq!(next().await.as_deref(), Some("first"));
        if restarts {
            assert!(server.sigterm().await.success());
            server.restart().await;
        } else {
            cut.send_replace(1);
        }
        let broken = said().await.unwrap();
        assert!(
            broken.starts_with("the connection broke (") && broken.ends_with("); reconnecting"),
            "{broken}"
        );
        print("second\n").await;
        assert_eq!(next().await.as_deref(), Some("second"));
        client.succeed(&job).await;
        assert_eq!(next().await, None);
        // While the server was away, it may have been tried more than once.
        let last = loop {
            let line = said().await.unwrap();
            if !line.starts_with("the connection broke (") {
                break line;
            }
        };
        assert!(last.starts_with("attempt 1 ended; the job is gone: completed"), "{last}");
        let ended = within("the end of tail", child.wait()).await.unwrap();
        assert_eq!(ended.code(), Some(0));
    }
}

/// Reads a request, and returns its body.
async fn request(connection: &mut TcpStream) -> String {
    let (mut read, mut length) = (Vec::new(), None);
    loop {
        let head = read.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        if let (Some(head), None) = (head, length) {
            let text = String::from_utf8_lossy(&read[..head]).to_lowercase();
            let after = text.split("content-length: ").nth(1).unwrap();
            length = Some(after.lines().next().unwrap().parse::<usize>().unwrap());
        }
        if let (Some(head), Some(length)) = (head, length)
            && read.len() >= head + length
        {
            return String::from_utf8(read.split_off(head)).unwrap();
        }
        assert!(within("a request", connection.read_buf(&mut read)).await.unwrap() > 0);
    }
}

#[tokio::test]
async fn what_may_have_been_taken_is_not_sent_again_where_keys_are_not_known() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let calls = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let jobs = request(&mut first).await;
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        let question = request(&mut second).await;
        let answer = "HTTP/1.1 201 Created\r\ncontent-length: 11\r\n\r\n{\"jobs\":[]}";
        second.write_all(answer.as_bytes()).await.unwrap();
        // A third call would not be answered, and is not there.
        (jobs, question, listener)
    });
    let said = run_at(&url, &["enqueue", "q", "--type", "t"], "1\n").await;
    said.wrong(69, "(from line 1 on); it is unknown whether the server accepted these jobs");
    let (jobs, question, _listener) = calls.await.unwrap();
    assert!(jobs.contains("\"payload\":1"), "{jobs}");
    assert_eq!(question, r#"{"jobs":[]}"#);
}

#[tokio::test]
async fn a_call_whose_answer_is_lost_is_sent_again_and_carried_out_once() {
    let server = Server::start().await;
    let address = server.url().trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let between = tokio::spawn(async move {
        for n in 0.. {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(&address).await.unwrap();
            if n > 0 {
                tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
                continue;
            }
            let (mut from_near, mut from_far) = (near.split(), far.split());
            let mut answer = [0; 12];
            tokio::select! {
                _ = copy(&mut from_near.0, &mut from_far.1) => panic!("it does not wait for the answer"),
                read = from_far.0.read_exact(&mut answer) => drop(read.unwrap()),
            }
            assert_eq!(&answer, b"HTTP/1.1 201");
        }
    });
    let said = run_at(&url, &["enqueue", "q", "--type", "t"], "1\n2\n").await.well();
    assert_eq!(said, "2 jobs are in queue q\n");
    between.abort();
    let jobs = server.client().get("/jobs?queue=q").await.expect(200);
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 2, "{jobs}");
}
