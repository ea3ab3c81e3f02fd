//! Sets limits for this process, enters a cgroup and becomes a command, so that all of it holds before the command's first
//! instruction.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};

use crate::cgroup;
use crate::route::{Limits, User};

/// The exit code if the worker is at fault.
pub const CANNOT_LAUNCH: u8 = 126;

/// `zizq-worker exec-child`.
#[derive(Debug, clap::Args)]
pub struct LaunchArgs {
    /// The cgroup to enter.
    #[arg(long)]
    cgroup: Option<PathBuf>,
    #[arg(long)]
    memory: Option<u64>,
    #[arg(long)]
    cpu_seconds: Option<u64>,
    #[arg(long)]
    processes: Option<u64>,
    #[arg(long)]
    files: Option<u64>,
    #[arg(long, allow_negative_numbers = true)]
    nice: Option<i32>,
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    #[arg(long, requires = "uid")]
    gid: Option<u32>,
    /// The command.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// The arguments for this program to enter the cgroup, set the limits and become the command that follows, as this user.
/// Limits come first, because the user may not be allowed to set them.
pub(super) fn arguments(limits: &Limits, user: Option<&User>, cgroup: Option<&Path>) -> Vec<OsString> {
    let number = |flag: &str, value: Option<u64>| value.map(|value| format!("--{flag}={value}").into());
    let flags = [
        cgroup.map(|folder| {
            let mut flag = OsString::from("--cgroup=");
            flag.push(folder);
            flag
        }),
        number("memory", limits.memory),
        number("cpu-seconds", limits.cpu_seconds),
        number("processes", limits.processes),
        number("files", limits.files),
        limits.nice.map(|nice| format!("--nice={nice}").into()),
        number("uid", user.map(|user| user.uid.into())),
        number("gid", user.map(|user| user.gid.into())),
    ];
    let flags = flags.into_iter().flatten();
    std::iter::once("exec-child".into()).chain(flags).chain(["--".into()]).collect()
}

/// Becomes the command; returns only an error.
///
/// # Errors
/// If a limit cannot be set, or the command cannot be executed.
pub fn run(args: LaunchArgs) -> Result<Infallible, String> {
    if let Some(folder) = &args.cgroup {
        cgroup::enter(folder).map_err(|e| format!("cannot enter the cgroup {}: {e}", folder.display()))?;
    }
    let limits = [
        (Resource::As, "memory", args.memory, args.memory),
        // The soft limit sends SIGXCPU, which names the cause; the hard limit sends SIGKILL.
        (Resource::Cpu, "cpu_time", args.cpu_seconds, args.cpu_seconds.map(|soft| soft.saturating_add(1))),
        (Resource::Nproc, "processes", args.processes, args.processes),
        (Resource::Nofile, "files", args.files, args.files),
    ];
    for (resource, name, soft, hard) in limits {
        if soft.is_some() {
            // A limit cannot exceed that of this process.
            let most = getrlimit(resource).maximum;
            let within = |limit: Option<u64>| limit.map(|limit| most.map_or(limit, |most| limit.min(most)));
            let new = Rlimit { current: within(soft), maximum: within(hard) };
            setrlimit(resource, new).map_err(|e| format!("cannot limit `{name}`: {e}"))?;
        }
    }
    if let Some(more) = args.nice {
        nice(more).map_err(|e| format!("cannot set `nice`: {e}"))?;
    }
    let Some((program, rest)) = args.command.split_first() else {
        return Err("the command is missing".to_owned());
    };
    let mut command = Command::new(program);
    if let (Some(uid), Some(gid)) = (args.uid, args.gid) {
        command.uid(uid).gid(gid);
    }
    let error = command.args(rest).exec();
    Err(format!("cannot run `{}`: {error}", program.display()))
}
