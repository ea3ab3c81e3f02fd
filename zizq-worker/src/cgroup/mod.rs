//! A cgroup (version 2) for every command, where the worker may make some: its limits and figures are those of all that
//! the command starts, and nothing gets out of it.
//!
//! Below the folder that it was given a worker makes one of its own, which it holds locked while it lives, and in that one
//! for every job. See `Documentation/admin-guide/cgroup-v2.rst` of Linux.

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

/// What says that a file system is one of cgroups of version 2: `CGROUP2_SUPER_MAGIC`.
const MAGIC: i64 = 0x6367_7270;

/// Below which cgroup those of the commands are.
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
            _ => Err(format!("`{text}` is neither `auto` nor the whole path of a cgroup")),
        }
    }
}

/// Which controllers there are, of the two that are of use. CPU time is counted without one, and with the one for it
/// `nice` would mean nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Controllers {
    memory: bool,
    pids: bool,
}

impl Controllers {
    const ALL: Self = Self { memory: true, pids: true };

    /// Those that a cgroup could give to its children.
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

    /// The limits that are left for the processes to have.
    pub(crate) fn leave(self, limits: Limits) -> Limits {
        Limits {
            memory: limits.memory.filter(|_| !self.memory),
            processes: limits.processes.filter(|_| !self.pids),
            ..limits
        }
    }
}

impl fmt::Display for Controllers {
    /// What the limits are about.
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

/// Says what `limits` will be about, as far as that can be seen without making anything.
///
/// # Errors
/// Where a folder cannot be used.
pub fn foresee(place: &Place) -> Result<String, String> {
    match place {
        Place::Own => {
            Ok("commands get cgroups below the worker's own, if it may make some; its start says so"
                .to_owned())
        }
        Place::Folder(folder) => {
            let controllers = look(folder)?;
            Ok(format!("commands get cgroups in {}; {controllers}", folder.display()))
        }
    }
}

/// Whether cgroups can be made in this folder, and what they would have.
fn look(folder: &Path) -> Result<Controllers, String> {
    let named = folder.display();
    let system =
        statfs(folder).map_err(|e| format!("the cgroup {named} cannot be used: {}", io::Error::from(e)))?;
    if system.f_type != MAGIC {
        return Err(format!("{named} is no cgroup of version 2"));
    }
    for path in [folder.to_owned(), folder.join("cgroup.procs"), folder.join("cgroup.subtree_control")] {
        access(&path, Access::WRITE_OK).map_err(|e| {
            format!("this worker may make no cgroups in {named}: {}: {}", path.display(), io::Error::from(e))
        })?;
    }
    Controllers::offered(folder).map_err(|e| format!("the cgroup {named} cannot be used: {e}"))
}

/// Puts this process into a cgroup.
///
/// # Errors
/// Where it may not enter it.
pub(crate) fn enter(folder: &Path) -> io::Result<()> {
    write(&folder.join("cgroup.procs"), "0")
}

/// Writes to a file of the kernel, which is there or not.
fn write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).truncate(true).open(path)?.write_all(value.as_bytes())
}
