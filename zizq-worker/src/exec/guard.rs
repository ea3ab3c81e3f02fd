//! A second process that outlives a worker which is killed, and then ends what that worker ran.
//!
//! The worker tells it the process groups that begin and end, one per line: `+123`, `-123`. When the worker is gone, its
//! end of the pipe is closed, whatever killed it. What has left its group is known by its cgroup, where there are some, or
//! by a mark in its environment.

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

/// The variable by which a process is known to be of a worker.
pub(super) const MARK_VARIABLE: &str = "ZIZQ_WORKER_MARK";

/// How long to wait before looking once more.
const PAUSE: Duration = Duration::from_millis(10);

/// The worker's end of the pipe.
#[derive(Debug)]
pub(super) struct Guard {
    pipe: Option<ChildStdin>,
    child: Child,
}

impl Guard {
    /// `cgroups` is where those of the jobs are.
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
            // A guard that hangs must not hold the worker up.
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self { pipe, child })
    }

    /// The process itself.
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
            tracing::debug!("the end of the guard was not seen: {e}");
        }
    }
}

/// What `zizq-worker guard` does.
///
/// # Errors
/// Where signals cannot be caught.
pub async fn run(mark: &str, cgroups: Option<&Path>) -> io::Result<()> {
    // Whoever ends a whole service signals this process, too; it goes with its worker, not before.
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
            // It has ended in the same moment.
            continue;
        }
    }
    if let Some(folder) = cgroups {
        // What is open of a process that was killed is closed one after the other: the lock may go after the pipe.
        for _ in 0..100 {
            if cgroup::clear_dead(folder) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    // One that is being born while the others are looked for is there the next time.
    while kill_marked(mark) > 0 {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Kills every process that has the mark. Says how many those were.
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
