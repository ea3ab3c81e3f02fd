//! The real program, and the jobs it is given.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::fake::{PATIENCE, Server};

pub(crate) struct Worker {
    child: Child,
    /// Where it keeps outcomes, unless the test says otherwise.
    _spool: tempfile::TempDir,
    log: Arc<Mutex<Vec<Value>>>,
    lines: watch::Receiver<usize>,
}

impl Worker {
    pub(crate) fn start(server: &Server, flags: &[&str]) -> Self {
        Self::start_as(command(), server, flags)
    }

    pub(crate) fn start_as(mut command: Command, server: &Server, flags: &[&str]) -> Self {
        let spool = tempfile::tempdir().unwrap();
        if !command.as_std().get_envs().any(|(name, _)| name == "ZIZQ_SPOOL") {
            command.env("ZIZQ_SPOOL", spool.path());
        }
        let mut child = command
            .env("ZIZQ_SERVER", format!("http://{}/", server.address))
            .args(["--log-format", "json", "--log-level", "debug"])
            .args(flags)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (count, lines) = watch::channel(0);
        let kept = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
                let mut kept = kept.lock().unwrap();
                kept.push(line);
                count.send_replace(kept.len());
            }
        });
        Self { child, _spool: spool, log, lines }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Waits for a line of the log that satisfies the test.
    pub(crate) async fn log(&mut self, what: &str, test: impl Fn(&Value) -> bool) -> Value {
        let (log, mut seen) = (self.log.clone(), 0);
        let mut found = None;
        let look = self.lines.wait_for(|_| {
            let log = log.lock().unwrap();
            found = log.iter().skip(seen).find(|line| test(line)).cloned();
            seen = log.len();
            found.is_some()
        });
        let looked = timeout(PATIENCE, look).await;
        let ended = looked.is_ok_and(|found| found.is_ok());
        found
            .unwrap_or_else(|| panic!("no {what} (log ended: {}) in {:#?}", !ended, self.log.lock().unwrap()))
    }

    /// Waits for a line of the log with this message.
    pub(crate) async fn message(&mut self, start: &str) -> Value {
        self.log(start, |line| line["message"].as_str().is_some_and(|text| text.starts_with(start))).await
    }

    /// All that was logged so far.
    pub(crate) fn whole_log(&self) -> String {
        format!("{:?}", self.log.lock().unwrap())
    }

    pub(crate) fn count(&self, message: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line["message"] == message).count()
    }

    /// How many lines of the log begin so.
    pub(crate) fn count_of(&self, start: &str) -> usize {
        let begins = |line: &&Value| line["message"].as_str().is_some_and(|text| text.starts_with(start));
        self.log.lock().unwrap().iter().filter(begins).count()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Ends it and what it runs, as one does who is in a hurry.
    pub(crate) async fn stop(mut self, server: &mut Server) {
        loop {
            tokio::select! {
                _ = self.child.wait() => break,
                call = server.any_call() => call.answer("204 No Content", ""),
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => self.signal(Signal::TERM),
            }
        }
    }

    pub(crate) async fn end(mut self) -> ExitStatus {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.unwrap_or_else(|_| panic!("the worker goes on: {:#?}", self.log.lock().unwrap())).unwrap()
    }
}

/// Without anything of this environment that the worker reads.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zizq-worker"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ZIZQ_")) {
        command.env_remove(name);
    }
    command
}

pub(crate) fn id(n: u32) -> String {
    format!("{n:025}")
}

pub(crate) fn lease(n: u32) -> String {
    format!("{n:016x}")
}

pub(crate) fn job(n: u32, token: u32, payload: Value) -> Value {
    json!({
        "id": id(n), "type": "t", "queue": "q", "priority": 5, "status": "in_flight", "ready_at": 1, "attempts": 2,
        "payload": payload, "lease": lease(token), "lease_expires_at": 9, "deliveries": 1,
    })
}

/// Waits until a process is gone, or dead and only not yet buried.
pub(crate) async fn gone(pid: &str) {
    let waited = timeout(PATIENCE, async {
        while let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat"))
            && !stat.rsplit(") ").next().unwrap().starts_with('Z')
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("process {pid} is left behind"));
}

/// A file with this configuration, and the flags that name it.
pub(crate) struct ConfigFile {
    folder: tempfile::TempDir,
}

impl ConfigFile {
    pub(crate) fn new(text: &str) -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        file.write(text);
        file
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    pub(crate) fn path(&self) -> String {
        self.folder.path().join("worker.toml").to_str().unwrap().to_owned()
    }

    pub(crate) fn start(&self, server: &Server) -> Worker {
        Worker::start(server, &["--config", &self.path()])
    }
}
