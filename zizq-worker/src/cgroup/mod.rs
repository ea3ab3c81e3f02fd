//! A cgroup (version 2) per command, where the worker may make some: its limits and counters cover all processes that the
//! command starts, and none of them can leave it.
//!
//! Each worker makes a folder of its own below the given one, which it keeps locked while it lives, and in it one per job.
//! See `Documentation/admin-guide/cgroup-v2.rst` of Linux.

mod job;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{Access, access, statfs};

pub(crate) use self::job::{JobGroup, Spent};
pub(crate) use self::tree::{Tree, clear_dead};
use crate::route::Limits;

/// The type of the file system of cgroups, version 2: `CGROUP2_SUPER_MAGIC`.
const MAGIC: i64 = 0x6367_7270;

/// What to do about a folder that cannot hold cgroups.
const HINT: &str = "make the folder in a cgroup file system, or use --cgroup auto";

/// The parent of the commands' cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The worker's own.
    Own,
    /// This folder.
    Folder(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Own),
            path if path.starts_with('/') => Ok(Self::Folder(path.into())),
            _ => Err(format!("`{text}` is neither `auto` nor the absolute path of a cgroup")),
        }
    }
}

/// The available controllers, of the two in use. CPU time is counted without one, and with the `cpu` controller `nice`
/// would have no effect between jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Controllers {
    memory: bool,
    pids: bool,
}

impl Controllers {
    const ALL: Self = Self { memory: true, pids: true };

    /// The controllers that a cgroup can give to its children.
    fn offered(folder: &Path) -> io::Result<Self> {
        let list = fs::read_to_string(folder.join("cgroup.controllers"))?;
        let has = |name| list.split_whitespace().any(|one| one == name);
        Ok(Self { memory: has("memory"), pids: has("pids") })
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        [("memory", self.memory), ("pids", self.pids)]
            .into_iter()
            .filter(|(_, has)| *has)
            .map(|(name, _)| name)
    }

    /// The limits that no controller covers, to be set per process.
    pub(crate) fn leave(self, limits: Limits) -> Limits {
        Limits {
            memory: limits.memory.filter(|_| !self.memory),
            processes: limits.processes.filter(|_| !self.pids),
            ..limits
        }
    }
}

impl fmt::Display for Controllers {
    /// The scope of the limits, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.memory {
            true => "memory is limited per job",
            false => "memory is limited per process, as address space (no controller `memory`)",
        })?;
        f.write_str(match self.pids {
            true => ", processes per job",
            false => ", processes per user (no controller `pids`)",
        })
    }
}

/// Predicts the scope of `limits`, without making any cgroup.
///
/// # Errors
/// If a folder cannot be used.
pub fn foresee(place: &Place) -> Result<String, String> {
    match place {
        Place::Own => {
            Ok("commands get cgroups below the worker's own if it may make some; the log at start-up says so"
                .to_owned())
        }
        Place::Folder(folder) => {
            let controllers = look(folder)?;
            Ok(format!("commands get cgroups in {}; {controllers}", folder.display()))
        }
    }
}

/// Checks that cgroups can be made in this folder. Returns their controllers.
fn look(folder: &Path) -> Result<Controllers, String> {
    let named = folder.display();
    let system = statfs(folder)
        .map_err(|e| format!("cannot use the cgroup {named}: {}; {HINT}", io::Error::from(e)))?;
    if system.f_type != MAGIC {
        return Err(format!("{named} is not a cgroup (version 2); {HINT}"));
    }
    for path in [folder.to_owned(), folder.join("cgroup.procs"), folder.join("cgroup.subtree_control")] {
        access(&path, Access::WRITE_OK).map_err(|e| {
            let (path, why) = (path.display(), io::Error::from(e));
            format!("this worker may not make cgroups in {named}: {path}: {why}; let it write there, or use --cgroup auto")
        })?;
    }
    Controllers::offered(folder).map_err(|e| format!("cannot use the cgroup {named}: {e}; {HINT}"))
}

/// Moves this process into a cgroup.
///
/// # Errors
/// If it may not enter it.
pub(crate) fn enter(folder: &Path) -> io::Result<()> {
    write(&folder.join("cgroup.procs"), "0")
}

/// Writes to a file of the kernel; never creates one.
fn write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).truncate(true).open(path)?.write_all(value.as_bytes())
}
