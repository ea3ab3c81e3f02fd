//! The guard: a second process that outlives a killed worker, and then kills the commands that the worker ran.
//!
//! The worker writes the process groups that begin and end to a pipe, one per line: `+123`, `-123`. When the worker is
//! gone, the pipe is closed, whatever killed it. Processes that left their group are found by their cgroup, if there is
//! one, or by a mark in their environment.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::signal::unix::{SignalKind, signal};

use crate::cgroup;

/// The variable that marks the processes of a worker.
pub(super) const MARK_VARIABLE: &str = "ZIZQ_WORKER_MARK";

/// How long to wait before the next look.
const PAUSE: Duration = Duration::from_millis(10);

/// The worker's end of the pipe.
#[derive(Debug)]
pub(super) struct Guard {
    pipe: Option<ChildStdin>,
    child: Child,
}

impl Guard {
    /// Starts the guard. `cgroups` is the folder of the jobs' cgroups.
    pub(super) fn start(mark: &str, cgroups: Option<&Path>) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["guard", mark])
            .args(cgroups)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take();
        if let Some(pipe) = &pipe {
            // A guard that hangs must not block the worker.
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self { pipe, child })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn begins(&mut self, group: Pid) {
        self.tell(&format!("+{}\n", group.as_raw_nonzero()));
    }

    pub(super) fn ends(&mut self, group: Pid) {
        self.tell(&format!("-{}\n", group.as_raw_nonzero()));
    }

    fn tell(&mut self, line: &str) {
        if let Some(pipe) = &mut self.pipe
            && let Err(e) = pipe.write_all(line.as_bytes())
        {
            tracing::warn!("the guard is gone: commands will outlive this worker if it is killed ({e})");
            self.pipe = None;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.pipe = None;
        if let Err(e) = self.child.wait() {
            tracing::debug!("cannot wait for the guard: {e}");
        }
    }
}

/// Runs `zizq-worker guard`.
///
/// # Errors
/// If signals cannot be caught.
pub async fn run(mark: &str, cgroups: Option<&Path>) -> io::Result<()> {
    // A service manager signals all processes of a service; the guard must end after its worker.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut groups = HashSet::new();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            _ = terminate.recv() => continue,
            _ = interrupt.recv() => continue,
            _ = hangup.recv() => continue,
        };
        let Ok(Some(line)) = line else { break };
        let Some((sign, number)) = line.split_at_checked(1) else { continue };
        let Some(group) = number.parse().ok().and_then(Pid::from_raw) else { continue };
        if sign == "+" {
            groups.insert(group);
        } else {
            groups.remove(&group);
        }
    }
    for group in groups {
        if kill_process_group(group, Signal::KILL).is_err() {
            // It ended at the same moment.
            continue;
        }
    }
    if let Some(folder) = cgroups {
        // A killed process closes its files one by one: the lock may be released after the pipe.
        for _ in 0..100 {
            if cgroup::clear_dead(folder) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    // A process forked during one pass is found in the next.
    while kill_marked(mark) > 0 {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Kills every process with the mark. Returns how many.
fn kill_marked(mark: &str) -> usize {
    let variable = format!("{MARK_VARIABLE}={mark}");
    let has_mark = |pid: &Pid| {
        let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|one| one == variable.as_bytes())
    };
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter(has_mark).filter(|&pid| kill_process(pid, Signal::KILL).is_ok()).count()
}
