//! The processes of this worker: starts them, waits for them, and makes sure that none outlives its job.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::job::DeliveredJob;
use protocol::lease::LeaseToken;
use rustix::fs::{Mode, OFlags};
use rustix::io::DupFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, getpid, getrlimit, kill_process, pidfd_open,
    prlimit, set_child_subreaper, setrlimit, waitpid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use wait4::{ResUse, try_wait4_pid};

use super::group::Group;
use super::guard::{Guard, MARK_VARIABLE};
use super::launch;
use crate::cgroup::{JobGroup, Place, Tree};
use crate::ctl::CONTROL_VARIABLE;
use crate::route::{Limits, User};

/// The variable that marks the processes of a job.
pub(super) const LEASE_VARIABLE: &str = "ZIZQ_JOB_LEASE";

/// All running commands.
#[derive(Debug)]
pub struct Processes {
    /// Dropped first: the guard takes the worker for alive as long as this folder is locked.
    cgroups: Option<Tree>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// A descriptor with a small number, usually 3: the control channel of the command that is being started. Only that
    /// child inherits it, because nothing else is started meanwhile.
    slot: OwnedFd,
    /// What the slot holds otherwise.
    null: OwnedFd,
    leaders: HashMap<u32, LeaseToken>,
    guard: Option<Guard>,
    /// A mark in the environment of every command.
    mark: String,
    /// The limit of open files for commands, if this process has raised its own.
    files: Option<Rlimit>,
}

/// A started command. Dropping this kills what is left of its group.
#[derive(Debug)]
pub(super) struct Started<'a> {
    processes: &'a Processes,
    pub(super) group: Group<'a>,
    pid: Pid,
    /// The control channel.
    pub(super) control: Option<pipe::Receiver>,
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
    exit: AsyncFd<OwnedFd>,
}

/// How to start a command.
#[derive(Debug)]
pub(super) struct StartTerms<'u, 'a> {
    pub(super) user: Option<&'u User>,
    /// The command enters it by itself.
    pub(super) cgroup: Option<JobGroup<'a>>,
    /// The command sets its own limit of open files.
    pub(super) limits_files: bool,
}

impl Processes {
    /// Also makes this process the parent of all processes that commands leave behind.
    ///
    /// # Errors
    /// If there is no `/dev/null`.
    pub fn new() -> io::Result<Self> {
        let slot = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let null = rustix::io::fcntl_dupfd_cloexec(&slot, 10)?;
        if let Err(e) = set_child_subreaper(Some(getpid())) {
            tracing::warn!("processes that leave the process group of their job will not be found: {e}");
        }
        let state = Mutex::new(State {
            slot,
            null,
            leaders: HashMap::new(),
            guard: None,
            mark: format!("{:016x}", fastrand::u64(..)),
            files: None,
        });
        Ok(Self { state, cgroups: None })
    }

    /// Gives every command a cgroup from now on. With `auto`, the worker goes on without if that fails.
    ///
    /// # Errors
    /// A sentence, if a folder was named and no cgroups can be made in it.
    pub fn within(mut self, place: &Place) -> Result<Self, String> {
        match Tree::open(place).and_then(proven) {
            Ok(tree) => {
                let controllers = tree.controllers();
                tracing::info!("commands get cgroups in {}; {controllers}", tree.folder().display());
                self.cgroups = Some(tree);
            }
            Err(e) if *place == Place::Own => {
                tracing::warn!("commands get no cgroups, so limits are per process and per user: {e}");
            }
            Err(e) => return Err(e),
        }
        Ok(self)
    }

    /// Makes a cgroup for a job, if commands get some. Returns also the limits that it does not cover.
    pub(super) fn cgroup(
        &self,
        job: &DeliveredJob,
        limits: &Limits,
    ) -> io::Result<(Option<JobGroup<'_>>, Limits)> {
        let Some(tree) = &self.cgroups else { return Ok((None, *limits)) };
        let group = tree.job(&format!("{}-{}", job.id, job.lease), limits)?;
        Ok((Some(group), tree.controllers().leave(*limits)))
    }

    /// Raises the limit of open files so that this many jobs can run at a time.
    pub(crate) fn allow(&self, jobs: u64) {
        let before = getrlimit(Resource::Nofile);
        let wanted = before.maximum.map_or(files_for(jobs), |most| most.min(files_for(jobs)));
        if before.current.is_none_or(|now| now >= wanted) {
            return;
        }
        match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: before.maximum }) {
            Ok(()) => _ = self.lock().files.get_or_insert(before),
            Err(e) => {
                tracing::warn!(
                    jobs,
                    "so many jobs at a time may need more open files than the limit allows: {e}"
                )
            }
        }
    }

    /// Starts a command as the leader of its own process group.
    pub(super) fn start<'a>(
        &'a self,
        mut command: Command,
        lease: LeaseToken,
        terms: StartTerms<'_, 'a>,
    ) -> io::Result<Started<'a>> {
        let (control, write) = pipe_with(PipeFlags::CLOEXEC)?;
        if let Some(user) = terms.user {
            // The owner of a pipe counts when it is reopened by its path, as `ctl` does.
            std::os::unix::fs::fchown(&write, Some(user.uid), Some(user.gid))?;
        }
        let control = pipe::Receiver::from_owned_fd(control)?;
        let mut state = self.lock();
        if state.guard.is_none() {
            let guard = Guard::start(&state.mark, self.cgroups.as_ref().map(Tree::folder));
            state.guard = guard
                .inspect_err(|e| {
                    tracing::warn!(
                        "cannot start the guard: {e}; commands will outlive this worker if it is killed"
                    )
                })
                .ok();
        }
        let State { slot, null, leaders, guard, mark, files } = &mut *state;
        command.env(CONTROL_VARIABLE, slot.as_raw_fd().to_string()).env(MARK_VARIABLE, mark);
        // IMPORTANT: the lock is held from here until the slot is closed again. The duplicate is inherited by any child.
        rustix::io::dup2(&write, slot)?;
        let started = command.spawn();
        rustix::io::dup3(&*null, slot, DupFlags::CLOEXEC)?;
        let mut child = started?;
        let raw = child.id();
        let pid = i32::try_from(raw).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        leaders.insert(raw, lease);
        // Commands get the limit that the worker was started with: some programs fail with a larger one.
        if let Some(files) = files.filter(|_| !terms.limits_files)
            && let Err(e) = prlimit(Some(pid), Resource::Nofile, files)
        {
            tracing::debug!("cannot reset a command's limit of open files: {e}");
        }
        if let Some(guard) = guard {
            guard.begins(pid);
        }
        drop(state);
        let group = Group::of(pid, terms.cgroup);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let exit = pidfd_open(pid, PidfdFlags::empty())?;
        let exit = watch(exit)?;
        Ok(Started { processes: self, group, pid, control: Some(control), stdin, stdout, stderr, exit })
    }

    /// Forgets a command whose group is gone.
    fn forget(&self, pid: Pid) {
        let mut state = self.lock();
        state.leaders.remove(&number(pid));
        if let Some(guard) = &mut state.guard {
            guard.ends(pid);
        }
    }

    /// Kills processes that jobs left behind outside of their groups: they became our children, their environment names
    /// the lease of their job, and that job has ended.
    pub(crate) fn sweep(&self) {
        if let Some(tree) = &self.cgroups {
            tree.sweep();
        }
        let state = self.lock();
        for pid in children() {
            if state.leaders.contains_key(&pid)
                || state.guard.as_ref().is_some_and(|guard| guard.pid() == pid)
            {
                continue;
            }
            let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
            if matches!(waitpid(Some(raw), WaitOptions::NOHANG), Ok(Some(_))) {
                continue;
            }
            let lease = lease_of(pid);
            if lease.is_some_and(|lease| !state.leaders.values().any(|&running| running == lease)) {
                tracing::warn!("killing process {pid}, which a finished job left behind");
                if let Err(e) = kill_process(raw, Signal::KILL) {
                    tracing::debug!("process {pid} has already ended: {e}");
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Started<'_> {
    /// Waits for the end of the command and reaps it. Returns what it used. Must not be called again afterwards.
    pub(super) async fn ended(&self) -> io::Result<ResUse> {
        self.exited().await?;
        try_wait4_pid(number(self.pid))?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    async fn exited(&self) -> io::Result<()> {
        self.exit.readable().await.map(|mut ready| ready.retain_ready())
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        self.group.end();
        self.processes.forget(self.pid);
    }
}

/// Proves that a command can be started in a cgroup.
fn proven(tree: Tree) -> Result<Tree, String> {
    let try_it = || {
        let group = tree.job("first", &Limits::default())?;
        let program = std::env::current_exe()?;
        let mut command = Command::new(&program);
        command.args(launch::arguments(&Limits::default(), None, Some(group.folder())));
        command.arg(program).arg("--version").output()
    };
    match try_it() {
        Ok(output) if output.status.success() => Ok(tree),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(e) => Err(format!("cannot start a command in {}: {e}", tree.folder().display())),
    }
}

#[expect(deprecated, reason = "an `OwnedFd` keeps every promise that the unsafe successor asks for")]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

const fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// How many files this process needs for this many running jobs: pipes and a process handle per command, or a connection
/// per call.
const fn files_for(jobs: u64) -> u64 {
    128 + 6 * jobs
}

/// The children of this process.
fn children() -> Vec<u32> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The lease of the job that a process belongs to.
fn lease_of(pid: u32) -> Option<LeaseToken> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|&byte| byte == 0);
    let value = variables
        .find_map(|variable| variable.strip_prefix(LEASE_VARIABLE.as_bytes())?.strip_prefix(b"="))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}
