//! `zizq-server top` and `zizq-worker top` in a real terminal, tmux, against a real server.

use std::path::PathBuf;
use std::process::Output;

use protocol::frame::StreamFormat;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::binaries::binary;
use tests::process::Process;
use tests::wait::{until, within};
use tests::{Server, Worker, id};
use tokio::process::Command;

/// A terminal with a shell. It ends with its owner.
struct Terminal {
    folder: TempDir,
    socket: PathBuf,
}

impl Terminal {
    async fn open(columns: u16, lines: u16) -> Self {
        let folder = TempDir::with_prefix("zizq-test-").unwrap();
        let terminal = Self { socket: folder.path().join("tmux"), folder };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        // A shell with jobs, and nothing of whoever runs the test.
        let shell = "env -i PATH=\"$PATH\" TERM=\"$TERM\" LANG=C.UTF-8 PS1='$ ' bash --norc --noprofile -i";
        terminal.tmux(&["new-session", "-d", "-s", "t", "-x", &columns, "-y", &lines, shell]).await;
        terminal.see("the shell", |screen| screen.starts_with('$')).await;
        terminal
    }

    async fn tmux(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-u", "-f", "/dev/null", "-S"]).arg(&self.socket).args(args);
        command.env_remove("TMUX").env("LANG", "C.UTF-8");
        let output = within("the end of tmux", command.output()).await.expect("tmux can be run");
        assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Presses keys, by the names that tmux has for them.
    async fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys", "-t", "t"], keys].concat()).await;
    }

    /// Types a line.
    async fn line(&self, text: &str) {
        self.tmux(&["send-keys", "-t", "t", "-l", text]).await;
        self.press(&["Enter"]).await;
    }

    /// Waits until the screen is so, and returns it.
    async fn see(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let seen = async {
            loop {
                last = self.tmux(&["capture-pane", "-p", "-t", "t"]).await;
                if is(&last) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let seen = tokio::time::timeout(tests::wait::PATIENCE, seen).await;
        assert!(seen.is_ok(), "waited in vain for {what}; the screen is\n{last}");
        last
    }

    async fn see_text(&self, text: &str) -> String {
        self.see(text, |screen| screen.contains(text)).await
    }

    /// The process that the shell has started.
    async fn program(&self) -> Pid {
        let shell = self.tmux(&["display-message", "-p", "-t", "t", "#{pane_pid}"]).await;
        let shell = shell.trim();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
        Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap()).unwrap()
    }

    /// Starts `top`, with a line before it by which one sees what is restored.
    async fn start(&self, args: &str) {
        self.start_of("zizq-server", args).await;
    }

    /// Starts `top` of a program.
    async fn start_of(&self, program: &str, args: &str) {
        let program = binary(program);
        self.line(&format!("clear; echo be'fore'; {} top {args}; echo ended with $?", program.display()))
            .await;
        self.see_text("1 Overview").await;
    }

    async fn see_the_shell(&self, code: u8) {
        let screen = self.see_text(&format!("ended with {code}")).await;
        assert!(
            screen.contains("before") && !screen.contains("1 Overview"),
            "the screen is restored:\n{screen}"
        );
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut command = std::process::Command::new("tmux");
        command.arg("-S").arg(&self.socket).arg("kill-server").env_remove("TMUX");
        command.stderr(std::process::Stdio::null()).status().ok();
        assert!(self.folder.path().exists());
    }
}

/// Runs `top` without a terminal.
async fn run(args: &[&str], variables: &[(&str, &str)]) -> Output {
    run_of("zizq-server", args, variables).await
}

/// Runs `top` of a program without a terminal.
async fn run_of(program: &str, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary(program));
    command.arg("top").args(args).envs(variables.iter().copied()).kill_on_drop(true);
    command.stdin(std::process::Stdio::null());
    within("the end of top", command.output()).await.unwrap()
}

fn printed(output: &Output) -> &str {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).unwrap()
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A job that prints two lines and waits until a file is there.
fn waiting_worker(server: &Server, folder: &TempDir) -> (Worker, PathBuf) {
    let gate = folder.path().join("gate");
    let command = format!(
        "slow=printf 'first line\\n\\033[2Jsecond line\\n'; until [ -e '{}' ]; do sleep 0.05; done; echo last line",
        gate.display()
    );
    (Worker::start(server, ["--run", &command]), gate)
}

#[tokio::test]
async fn it_shows_queues_and_the_live_output_of_a_job_and_restores_the_screen() {
    let server = Server::start().await;
    let client = server.client();
    for _ in 0..3 {
        client.post("/jobs", &json!({"queue": "mails", "type": "send", "payload": {}})).await.expect(201);
    }
    client.post("/jobs", &json!({"queue": "slow", "type": "film", "payload": {}})).await.expect(201);
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let (_worker, gate) = waiting_worker(&server, &folder);
    let terminal = Terminal::open(100, 30).await;
    terminal.start(&format!("--root-dir '{}'", server.root_dir().display())).await;
    terminal.press(&["2"]).await;
    let queues =
        terminal.see("the queues", |screen| screen.contains("mails") && screen.contains("slow")).await;
    let mails = queues.lines().find(|line| line.contains("mails")).unwrap();
    assert!(mails.contains("no worker") && mails.contains(" 3 "), "{queues}");
    terminal.press(&["4"]).await;
    terminal.see_text("film").await;
    terminal.press(&["Enter"]).await;
    let log = terminal.see_text("second line").await;
    assert!(log.contains("Output of film") && log.contains("first line") && log.contains("live"), "{log}");
    std::fs::write(gate, "").unwrap();
    terminal
        .see("the end of the output", |screen| screen.contains("last line") && screen.contains("ended"))
        .await;
    terminal.press(&["q"]).await;
    terminal.see_the_shell(0).await;
}

#[tokio::test]
async fn it_changes_what_it_shows_and_says_what_a_token_lacks() {
    let server = Server::start().await;
    let client = server.client();
    for n in 0..120 {
        client.post("/jobs", &json!({"queue": "q", "type": "t", "payload": {"n": n}})).await.expect(201);
    }
    let terminal = Terminal::open(80, 24).await;
    terminal.start(&format!("--url {}", server.url())).await;
    terminal.press(&["2"]).await;
    terminal.see_text(" 120 ").await;
    terminal.press(&["p"]).await;
    terminal.see_text("paused; p again").await;
    assert_eq!(client.get("/queues/q").await.expect(200)["paused"], true);
    terminal.press(&["3"]).await;
    terminal.see_text("ready").await;
    terminal.press(&["/"]).await;
    terminal.line("queue:q .n >= 10").await;
    terminal.see_text("110 jobs").await;
    terminal.press(&["*", "D"]).await;
    terminal.see_text("Type 110 to confirm").await;
    terminal.line("110").await;
    terminal.see_text("110 jobs are deleted").await;
    assert_eq!(client.count("queue=q").await, 10);
    terminal.press(&["q"]).await;
    terminal.see_the_shell(0).await;
    let create = ["token", "create", "eve", "--role", "viewer"];
    let mut command = Command::new(binary("zizq-server"));
    command.args(create).env("ZIZQ_ROOT_DIR", server.root_dir());
    let token = within("a token", command.output()).await.unwrap();
    let file = terminal.folder.path().join("token");
    std::fs::write(&file, &token.stdout).unwrap();
    terminal.start(&format!("--url {} --token-file '{}'", server.url(), file.display())).await;
    terminal.see_text("as viewer").await;
    terminal.press(&["2"]).await;
    terminal.see_text("paused").await;
    terminal.press(&["p"]).await;
    terminal.see_text("this takes the right `operate`, which your role, viewer, does not have").await;
    assert_eq!(server.client().get("/queues/q").await.status, 401, "the server asks now");
}

#[tokio::test]
async fn it_says_what_is_stale_and_comes_back_by_itself() {
    let mut server = Server::start().await;
    server.client().add("before-the-end").await;
    let terminal = Terminal::open(80, 24).await;
    terminal.start(&format!("--url {}", server.url())).await;
    terminal.press(&["2"]).await;
    terminal.see_text("before-the-end").await;
    server.kill9().await;
    let stale = terminal.see_text("stale").await;
    assert!(stale.contains("before-the-end"), "what was known stays:\n{stale}");
    server.restart().await;
    server.client().add("after-it").await;
    terminal.see("news", |screen| screen.contains("after-it") && screen.contains("● live")).await;
}

#[tokio::test]
async fn it_is_suspended_and_ended_by_signals() {
    let server = Server::start().await;
    let terminal = Terminal::open(80, 24).await;
    terminal.start(&format!("--url {}", server.url())).await;
    terminal.press(&["C-z"]).await;
    let screen = terminal.see_text("Stopped").await;
    assert!(screen.contains("before") && !screen.contains("1 Overview"), "{screen}");
    terminal.line("fg").await;
    terminal.see_text("1 Overview").await;
    terminal.press(&["5"]).await;
    terminal.see_text("No job is dead").await;
    terminal.tmux(&["resize-window", "-t", "t", "-x", "120", "-y", "40"]).await;
    terminal.see("more lines", |screen| screen.lines().count() == 40 && screen.contains("? help")).await;
    kill_process(terminal.program().await, Signal::TERM).unwrap();
    // What is typed before the shell asks may be read by the program.
    let ended = |screen: &str| screen.contains("fg") && screen.trim_end().ends_with("\n$");
    terminal.see("the screen from before, and the shell", ended).await;
    terminal.line("echo it gave $?").await;
    terminal.see_text("it gave 0").await;
}

#[tokio::test]
async fn one_frame_and_lines_of_json_need_no_terminal() {
    let server = Server::start().await;
    let client = server.client();
    let evil = json!({"queue": "ev\u{202e}il", "type": "t", "payload": {"x": "\u{1b}[2J日本"}});
    let job = client.post("/jobs", &evil).await.expect(201);
    let url = server.url();
    for (tab, shown) in [
        ("queues", "evil"),
        ("jobs", id(&job)),
        ("overview", "no worker"),
        ("crons", "There are no recurring jobs"),
    ] {
        let output = run(&["--url", &url, "--once", "--tab", tab], &[]).await;
        let text = printed(&output);
        assert!(text.contains(shown), "{tab}:\n{text}");
        assert!(!text.contains(|char: char| char.is_control() && char != '\n'), "{tab}: {text:?}");
    }
    let plain = run(&["--once", "--ascii", "--tab=jobs"], &[("ZIZQ_SERVER", &url)]).await;
    assert!(printed(&plain).is_ascii(), "{}", printed(&plain));
    let line = run(&["--once", "--json"], &[("ZIZQ_ROOT_DIR", server.root_dir().to_str().unwrap())]).await;
    let line: Value = serde_json::from_str(printed(&line)).unwrap();
    assert_eq!(line["stats"]["totals"]["ready"], 1, "{line}");
    assert_eq!(line["queues"][0]["name"], "ev\u{202e}il", "{line}");
    let mut command = Command::new(binary("zizq-server"));
    command.args(["top", "--json", "--url", &url]);
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let mut lines = Process::start(command, &folder.path().join("log"));
    client.add("another").await;
    until("a line with both", async || {
        let line: Value = serde_json::from_str(&lines.line().await).unwrap();
        (line["stats"]["totals"]["ready"] == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_is_told_in_a_sentence() {
    let server = Server::with(["--auth", "required"]).await;
    let url = server.url();
    let nobody = complaint(&run(&["--once", "--url", &url], &[]).await);
    assert!(nobody.contains("access token"), "{nobody}");
    let no_terminal = complaint(&run(&["--url", &url], &[]).await);
    assert!(no_terminal.contains("--once prints one frame"), "{no_terminal}");
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let no_socket = complaint(&run(&["--once"], &[("ZIZQ_ROOT_DIR", folder.path().to_str().unwrap())]).await);
    assert!(no_socket.contains("control.sock") && no_socket.contains("--url"), "{no_socket}");
    let no_tab = complaint(&run(&["--once", "--url", &url, "--tab", "nonsense"], &[]).await);
    assert!(no_tab.contains("none of Overview, Queues"), "{no_tab}");
    let no_url = complaint(&run(&["--once", "--url", "ftp://me:secret@host"], &[]).await);
    assert!(no_url.contains("neither http nor https") && !no_url.contains("secret"), "{no_url}");
}

#[tokio::test]
async fn the_worker_shows_the_same_with_its_own_flags() {
    let server = Server::with(["--auth", "required"]).await;
    let url = server.url();
    let mut command = Command::new(binary("zizq-server"));
    command.args(["token", "create", "ada", "--role", "operator"]).env("ZIZQ_ROOT_DIR", server.root_dir());
    let token = within("a token", command.output()).await.unwrap();
    let token = String::from_utf8(token.stdout).unwrap().trim().to_owned();
    let folder = TempDir::with_prefix("zizq-test-").unwrap();
    let (of_token, of_url) = (folder.path().join("token"), folder.path().join("url"));
    std::fs::write(&of_token, &token).unwrap();
    std::fs::write(&of_url, &url).unwrap();
    let (of_token, of_url) = (of_token.to_str().unwrap(), of_url.to_str().unwrap());
    let in_variables = [("ZIZQ_SERVER", url.as_str()), ("ZIZQ_TOKEN", token.as_str())];
    for (args, variables) in [
        (&["--url", &url, "--token-file", of_token][..], &[][..]),
        (&["--server", &url, "--token-file", of_token], &[]),
        (&["--server-file", of_url, "--token-file", of_token], &[]),
        (&[], &in_variables[..]),
    ] {
        let frame = run_of("zizq-worker", &[&["--once", "--tab", "crons"], args].concat(), variables).await;
        let text = printed(&frame);
        assert!(text.contains("There are no recurring jobs") && text.contains("as operator"), "{text}");
        let line = run_of("zizq-worker", &[&["--once", "--json"], args].concat(), variables).await;
        let line: Value = serde_json::from_str(printed(&line)).unwrap();
        assert_eq!(line["stats"]["totals"]["ready"], 0, "{line}");
    }
}

#[tokio::test]
async fn the_worker_says_what_is_wrong_as_its_other_commands_do() {
    let server = Server::with(["--auth", "required"]).await;
    let url = server.url();
    let far = "http://queue.example:7890";
    for (code, args, variables, says) in [
        (1, &["--once", "--url", &url][..], &[][..], "access token"),
        (1, &["--once", "--json", "--url", &url], &[], "access token"),
        (1, &["--once", "--tab", "nonsense", "--url", &url], &[], "none of Overview, Queues"),
        (1, &["--url", &url], &[], "--once prints one frame"),
        (2, &["--url", "ftp://me:secret@host"], &[], "`ftp://***@host` does not begin with http://"),
        (2, &["--url", far], &[("HTTP_PROXY", "http://proxy:1")], "--proxy none bypasses it"),
        (69, &["--once", "--url", "http://127.0.0.1:1"], &[], "http://127.0.0.1:1: "),
        (69, &["--once", "--json", "--url", "http://127.0.0.1:1"], &[], "http://127.0.0.1:1: "),
    ] {
        let ended = run_of("zizq-worker", args, variables).await;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains(says), "{args:?}: {said}");
    }
}

#[tokio::test]
async fn the_worker_shows_it_on_a_terminal_and_goes_to_another_server() {
    let (server, other) = (Server::start().await, Server::start().await);
    server.client().add("of-the-first").await;
    other.client().add("of-the-other").await;
    let terminal = Terminal::open(80, 24).await;
    terminal.start_of("zizq-worker", &format!("--url {}", server.url())).await;
    terminal.press(&["2"]).await;
    terminal.see_text("of-the-first").await;
    terminal.line(&format!(":url {}", other.url())).await;
    terminal
        .see("the other", |screen| screen.contains("of-the-other") && !screen.contains("of-the-first"))
        .await;
    terminal.press(&["q"]).await;
    terminal.see_the_shell(0).await;
}

#[tokio::test]
async fn a_stream_is_disconnected_and_its_jobs_are_ready_again() {
    let server = Server::start().await;
    let client = server.client();
    let mut stream = client.take(StreamFormat::NdJson, "queue=q").await;
    client.add("q").await;
    stream.next_job().await;
    let terminal = Terminal::open(100, 30).await;
    terminal.start(&format!("--url {}", server.url())).await;
    terminal.press(&["6"]).await;
    terminal.see_text("1 job in flight").await;
    terminal.press(&["D"]).await;
    let asked = terminal.see_text("1 stream ends. What it has now, 1 job,").await;
    assert!(asked.contains("disconnect"), "{asked}");
    terminal.press(&["Enter"]).await;
    terminal.see_text("the stream is disconnected").await;
    assert_eq!(stream.next_message().await, None);
    terminal.see_text("No worker is connected").await;
    assert_eq!(client.count("status=ready").await, 1);
}
