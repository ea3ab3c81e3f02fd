//! The cgroups of a worker: makes them, and makes sure that none is left when the worker is gone.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use super::job::kill;
use super::{Controllers, JobGroup, Place, enter, look, write};
use crate::route::Limits;

/// The prefix of the folder of a worker.
const PREFIX: &str = "zizq-worker-";

/// The cgroup of the worker itself, where it must be below its folder: a cgroup with children may not hold processes.
const WORKER: &str = "worker";

/// The file that sets the controllers of the children of a cgroup.
const CONTROL: &str = "cgroup.subtree_control";

/// How long killed processes may take to disappear, in steps of polling: the kernel does not report it.
const PATIENCE: (u32, Duration) = (100, Duration::from_millis(10));

/// The folder of this worker. Dropping this removes it and kills what is in it.
#[derive(Debug)]
pub(crate) struct Tree {
    folder: PathBuf,
    /// Shows other workers that this one lives; the kernel releases it however the worker ends.
    _lock: OwnedFd,
    controllers: Controllers,
    /// The folders of jobs that have ended, until they can be removed.
    left: Mutex<Vec<PathBuf>>,
}

impl Tree {
    /// Makes the folder of this worker, and removes those of dead workers.
    ///
    /// # Errors
    /// A sentence, if cgroups cannot be made there.
    pub(crate) fn open(place: &Place) -> Result<Self, String> {
        let (base, is_own) = match place {
            Place::Own => (own_cgroup()?, true),
            Place::Folder(folder) => (folder.clone(), false),
        };
        let offered = look(&base)?;
        let mut tree =
            Self::make(&base).map_err(|e| format!("cannot make a cgroup in {}: {e}", base.display()))?;
        if !tree.folder.join("cgroup.kill").exists() {
            return Err("cgroups need Linux 5.14 or later".to_owned());
        }
        if is_own {
            let folder = tree.folder.join(WORKER);
            let entered = fs::create_dir(&folder).and_then(|()| enter(&folder));
            entered.map_err(|e| format!("the worker cannot move to the cgroup {}: {e}", folder.display()))?;
        }
        tree.controllers = offered;
        for name in offered.names() {
            let Err(e) = enable(&base, name).and_then(|()| enable(&tree.folder, name)) else { continue };
            let why = match e.kind() {
                io::ErrorKind::ResourceBusy => "it has both processes and children".to_owned(),
                _ => e.to_string(),
            };
            let sentence = format!("cannot enable the controller `{name}` in {}: {why}", base.display());
            if !is_own {
                return Err(sentence);
            }
            tracing::warn!("{sentence}");
            match name {
                "memory" => tree.controllers.memory = false,
                _ => tree.controllers.pids = false,
            }
        }
        Ok(tree)
    }

    fn make(base: &Path) -> io::Result<Self> {
        // IMPORTANT: one worker at a time. A folder that is not locked yet looks like that of a dead worker.
        let _alone = lock(base, FlockOperation::LockExclusive)?;
        for folder in folders(base)? {
            let is_of_worker =
                folder.file_name().and_then(OsStr::to_str).is_some_and(|n| n.starts_with(PREFIX));
            if is_of_worker && clear_dead(&folder) {
                tracing::debug!("removed {}, which a dead worker left behind", folder.display());
            }
        }
        let folder = base.join(format!("{PREFIX}{:016x}", fastrand::u64(..)));
        fs::create_dir(&folder)?;
        let _lock = lock(&folder, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { folder, _lock, controllers: Controllers::default(), left: Mutex::default() })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) const fn controllers(&self) -> Controllers {
        self.controllers
    }

    /// Makes a cgroup for a job.
    ///
    /// # Errors
    /// If the kernel does not allow it, or refuses a limit.
    pub(crate) fn job(&self, name: &str, limits: &Limits) -> io::Result<JobGroup<'_>> {
        JobGroup::new(self, self.folder.join(format!("job-{name}")), limits)
    }

    /// Removes the folder of a job that has ended, now or later: killed processes take a moment to disappear.
    pub(super) fn leave(&self, folder: PathBuf) {
        if !is_gone(&folder) {
            self.left().push(folder);
        }
    }

    /// Removes folders that could not be removed before.
    pub(crate) fn sweep(&self) {
        self.left().retain(|folder| !is_gone(folder));
    }

    fn left(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        clear(&self.folder);
    }
}

/// Clears the folder of a worker unless that worker lives. Returns whether it is dead.
pub(crate) fn clear_dead(folder: &Path) -> bool {
    match lock(folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(_lock) => {
            clear(folder);
            true
        }
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

/// Kills all processes in the cgroups of a worker's jobs, and removes these cgroups.
fn clear(folder: &Path) {
    let mut left = folders(folder).unwrap_or_default();
    left.retain(|folder| folder.file_name() != Some(OsStr::new(WORKER)));
    for job in &left {
        if let Err(e) = kill(job) {
            tracing::debug!("cannot kill the processes in {}: {e}", job.display());
        }
    }
    let (steps, pause) = PATIENCE;
    for _ in 0..steps {
        left.retain(|job| !is_gone(job));
        if left.is_empty() {
            break;
        }
        sleep(pause);
    }
    let worker = folder.join(WORKER);
    if let Some(base) = folder.parent().filter(|_| worker.exists()) {
        make_room(base, folder);
        if holds_us(&worker)
            && has_room(base)
            && let Err(e) = enter(base)
        {
            tracing::debug!("this process cannot move back to {}: {e}", base.display());
        }
    }
    if is_gone(&worker) && !is_gone(folder) {
        tracing::warn!("cannot remove the cgroup {}", folder.display());
    }
}

/// Disables controllers that no one else uses: a cgroup whose children have some may not hold processes.
fn make_room(base: &Path, folder: &Path) {
    for name in Controllers::ALL.names() {
        for parent in [folder, base] {
            if let Err(e) = write(&parent.join(CONTROL), &format!("-{name}")) {
                tracing::debug!("controller `{name}` stays in {}: {e}", parent.display());
            }
        }
    }
}

fn has_room(base: &Path) -> bool {
    fs::read_to_string(base.join(CONTROL)).is_ok_and(|list| list.trim().is_empty())
}

/// Whether this process is in a cgroup.
fn holds_us(folder: &Path) -> bool {
    let inside = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let own = std::process::id().to_string();
    inside.lines().any(|pid| pid == own)
}

/// Removes a cgroup if it is empty. Returns whether it is gone.
fn is_gone(folder: &Path) -> bool {
    match fs::remove_dir(folder) {
        Ok(()) => true,
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

fn folders(parent: &Path) -> io::Result<Vec<PathBuf>> {
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    Ok(fs::read_dir(parent)?.flatten().filter(is_folder).map(|entry| entry.path()).collect())
}

fn lock(folder: &Path, how: FlockOperation) -> io::Result<OwnedFd> {
    let file = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    flock(&file, how)?;
    Ok(file)
}

/// Enables a controller for the children of a cgroup.
pub(super) fn enable(folder: &Path, controller: &str) -> io::Result<()> {
    let path = folder.join(CONTROL);
    if fs::read_to_string(&path)?.split_whitespace().any(|one| one == controller) {
        return Ok(());
    }
    write(&path, &format!("+{controller}"))
}

fn own_cgroup() -> Result<PathBuf, String> {
    let read = |path| fs::read_to_string(path).map_err(|e| format!("cannot read {path}: {e}"));
    let folder = folder_of(&read("/proc/self/mounts")?, &read("/proc/self/cgroup")?)
        .ok_or("this machine has no cgroups of version 2")?;
    // In a container, the visible hierarchy may differ from the paths.
    if holds_us(&folder) {
        Ok(folder)
    } else {
        Err(format!("the worker's own cgroup is not at {}", folder.display()))
    }
}

/// The path of the cgroup of a process, from its mounts and its cgroup file.
pub(super) fn folder_of(mounts: &str, cgroups: &str) -> Option<PathBuf> {
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let root = mounts
        .filter_map(|fields| match fields.as_slice() {
            [_, folder, "cgroup2", ..] => Some(PathBuf::from(folder)),
            _ => None,
        })
        .next()?;
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(if path.is_empty() { root } else { root.join(path) })
}
