//! The cgroup of one job: its limits, its counters, and its end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Controllers, Tree, write};
use crate::route::Limits;

/// The cgroup of a job. Dropping this kills the processes that are left in it.
#[derive(Debug)]
pub(crate) struct JobGroup<'a> {
    tree: &'a Tree,
    folder: PathBuf,
}

/// What all processes of a job used together; `None`: the kernel does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// CPU time, in milliseconds.
    pub(crate) cpu_ms: Option<u64>,
    /// Peak memory in bytes.
    pub(crate) peak_bytes: Option<u64>,
    /// Whether the kernel killed a process because memory ran out.
    pub(crate) out_of_memory: Option<bool>,
}

impl<'a> JobGroup<'a> {
    /// Makes a cgroup with these limits, as far as there are controllers for them.
    pub(super) fn new(tree: &'a Tree, folder: PathBuf, limits: &Limits) -> io::Result<Self> {
        fs::create_dir(&folder)?;
        let group = Self { tree, folder };
        limit(&group.folder, tree.controllers(), limits)?;
        Ok(group)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills all its processes, including those that are being forked.
    pub(crate) fn kill(&self) {
        if let Err(e) = kill(&self.folder) {
            tracing::warn!("cannot kill the processes in {}: {e}", self.folder.display());
        }
    }

    pub(crate) fn spent(&self) -> Spent {
        spent(&self.folder)
    }
}

impl Drop for JobGroup<'_> {
    fn drop(&mut self) {
        self.kill();
        self.tree.leave(std::mem::take(&mut self.folder));
    }
}

pub(super) fn kill(folder: &Path) -> io::Result<()> {
    write(&folder.join("cgroup.kill"), "1")
}

pub(super) fn limit(folder: &Path, controllers: Controllers, limits: &Limits) -> io::Result<()> {
    let set = |file: &str, value: &str| {
        let told = |e: io::Error| io::Error::new(e.kind(), format!("{file}: {e}"));
        write(&folder.join(file), value).map_err(told)
    };
    if controllers.memory {
        // The kernel kills the whole job or nothing of it.
        set("memory.oom.group", "1")?;
        if let Some(bytes) = limits.memory {
            set("memory.max", &bytes.to_string())?;
            // The file is absent on machines without swap.
            match set("memory.swap.max", "0") {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
    }
    match limits.processes.filter(|_| controllers.pids) {
        Some(most) => set("pids.max", &most.to_string()),
        None => Ok(()),
    }
}

pub(super) fn spent(folder: &Path) -> Spent {
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let entry = |file: &str, key: &str| {
        let text = read(file)?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(name, _)| *name == key).and_then(|(_, value)| value.parse::<u64>().ok())
    };
    Spent {
        cpu_ms: entry("cpu.stat", "usage_usec").map(|us| us / 1000),
        peak_bytes: read("memory.peak").and_then(|text| text.trim().parse().ok()),
        out_of_memory: entry("memory.events", "oom_kill").map(|kills| kills > 0),
    }
}
