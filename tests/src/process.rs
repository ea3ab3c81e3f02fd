//! A process under test: its log, its signals, its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::usage::Usage;
use crate::wait::{until, within};

/// Variables of an environment.
pub type Variables = Vec<(&'static str, String)>;

/// Ends with its owner. Where that is a failing test, what it logged is shown.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Process {
    /// Starts a command whose standard error goes to the file `log`, behind what is there already.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command, log: &Path) -> Self {
        let name = Path::new(command.as_std().get_program()).file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let stderr = File::options().create(true).append(true).open(log).unwrap();
        without_tracing(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{name} can be started: {e}"));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { name, child, stdout, log: log.to_owned() }
    }

    /// The next line on standard output; empty when it was closed.
    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        let what = format!("a line on the stdout of {}", self.name);
        within(what, self.stdout.read_line(&mut line)).await.unwrap();
        line.truncate(line.trim_end().len());
        line
    }

    /// The rest of standard output, to its end.
    pub async fn rest_of_stdout(&mut self) -> String {
        let mut rest = String::new();
        let what = format!("the end of the stdout of {}", self.name);
        within(what, self.stdout.read_to_string(&mut rest)).await.unwrap();
        rest
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it has logged this, and returns what it logged so far. Another thread of it writes the log.
    pub async fn logged(&self, text: &str) -> String {
        until(format!("`{text}` in the log"), async || Some(self.log()).filter(|log| log.contains(text)))
            .await
    }

    /// The process id, until its end was waited for.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id()?.cast_signed())
    }

    /// How many processes it has started that have not ended.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn children(&self) -> usize {
        let pid = self.pid().unwrap_or_else(|| panic!("{} has ended already", self.name)).as_raw_nonzero();
        // A thread that ends meanwhile has no file any more.
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let children =
            threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
        children.map(|pids| pids.split_whitespace().count()).sum()
    }

    /// What it used so far; `None` once its end was waited for.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        Usage::of(self.pid()?.as_raw_nonzero().get().unsigned_abs())
    }

    /// Whether it has not ended yet.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to the running process.
    pub fn signal(&self, signal: Signal) {
        let pid = self.pid().unwrap_or_else(|| panic!("{} has ended already", self.name));
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        within(format!("the end of {}", self.name), self.child.wait()).await.unwrap()
    }

    /// `kill -9`, and its end.
    pub async fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// SIGTERM, and how it ended.
    pub async fn sigterm(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whoever deletes its folder next must find it gone, not going.
        if self.child.start_kill().is_ok() {
            while let Ok(None) = self.child.try_wait() {
                std::thread::yield_now();
            }
        }
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}--- end ---", self.name, self.log());
        }
    }
}

/// Takes away what the surroundings of the tests say about tracing.
fn without_tracing(command: &mut Command) {
    let is_about_it = |name: &str| name.starts_with("OTEL_") || name == "TRACEPARENT" || name == "TRACESTATE";
    let around = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_about_it));
    for (name, _) in around {
        if !command.as_std().get_envs().any(|(own, _)| own == name) {
            command.env_remove(name);
        }
    }
}
