//! A server that we start, and start again.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::Process;

/// A running server with a folder of its own. It is killed when dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    process: Process,
    command: Vec<String>,
    /// `127.0.0.1:PORT`
    pub(super) address: String,
    folder: TempDir,
}

impl Daemon {
    /// Starts a command with `{port}` and `{dir}` in it.
    pub(super) async fn start(template: &[String]) -> Result<Self> {
        let mut attempts = 0;
        loop {
            let folder = TempDir::with_prefix("zizq-load-")?;
            let port = free_port()?;
            let dir = folder.path().to_string_lossy();
            let fill = |word: &String| word.replace("{port}", &port.to_string()).replace("{dir}", &dir);
            let command: Vec<String> = template.iter().map(fill).collect();
            let process = spawn(&command, folder.path())?;
            let mut daemon = Self { process, command, address: format!("127.0.0.1:{port}"), folder };
            match daemon.listening().await {
                // Somebody else may have been faster to take the port.
                Err(_) if attempts < 2 => attempts += 1,
                listening => return listening.map(|()| daemon),
            }
        }
    }

    /// Waits until it accepts connections.
    async fn listening(&mut self) -> Result<()> {
        for _ in 0..60_000 {
            if TcpStream::connect(&self.address).await.is_ok() {
                return Ok(());
            }
            if !self.process.running() {
                bail!("{} ended: {}", self.command.join(" "), self.log());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bail!("{} does not listen: {}", self.command.join(" "), self.log())
    }

    /// Stops it by a signal and waits for its end.
    pub(super) async fn stop(&mut self, signal: Signal) {
        self.process.signal(signal);
        self.process.ended().await;
    }

    /// Starts it after its end, and waits until it accepts connections.
    pub(super) async fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.command, self.folder.path())?;
        self.listening().await
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.process.pid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// Where it keeps its data.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The end of its log.
    pub(super) fn log(&self) -> String {
        let log = self.process.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

fn spawn(command: &[String], folder: &Path) -> Result<Process> {
    let (program, flags) = command.split_first().context("an empty command")?;
    if program.contains('/') && !Path::new(program).is_file() {
        bail!("there is no {program}");
    }
    let mut command = Command::new(program);
    command.args(flags);
    Ok(Process::start(command, &folder.join("server.log")))
}

/// A port that nobody listens on, outside of the range that connections take theirs from.
fn free_port() -> Result<u16> {
    for _ in 0..1_000 {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port was found between 20000 and 32000")
}
