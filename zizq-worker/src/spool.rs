//! The spool: outcomes on disk until the server has them, so that finished work is not redone because this process ended.
//!
//! Each worker appends to files of its own, which it keeps locked. A file is deleted when everything in it is settled.
//! A file that is not locked was left behind: the next worker delivers it before it takes jobs. An outcome may then be
//! delivered twice (at least once); the fencing token makes the repetition harmless.
//!
//! Outcomes are synced to disk, on another thread, only when they wait for the server. So a worker whose server is away
//! loses no outcome to a power loss, and any other does not wait for the disk.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::process::geteuid;
use tokio::time::Instant;

use crate::address::shown;
use crate::report::{Lease, Report, Verdict};

/// A file takes no more outcomes beyond this size.
const MAX_FILE: u64 = 1 << 20;

/// Outcomes that are not settled after this time are synced.
const SYNC_AFTER: Duration = Duration::from_secs(1);

/// The files of this worker.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    /// By number. The last one is being written, unless it is full.
    files: HashMap<u64, Open>,
    next: u64,
    /// The file of each unsettled outcome.
    pending: HashMap<Lease, u64>,
    /// Since when something is not synced.
    unsynced_since: Option<Instant>,
    /// The log already says that writing fails.
    broken: bool,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    bytes: u64,
    pending: usize,
}

/// The message if there is no [`default_folder`].
pub(crate) const NO_FOLDER: &str = "outcomes are not kept on disk: neither STATE_DIRECTORY nor HOME is set; \
     name a folder of this user with --spool, or set StateDirectory= in the systemd unit";

/// The default folder for outcomes. Never one in a world-writable place: there anybody could create it first.
pub(crate) fn default_folder() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // systemd sets a list; the first entry will do.
    let state =
        of("STATE_DIRECTORY").map(|list| list.to_string_lossy().split(':').next().unwrap_or_default().into());
    state
        .or_else(|| of("XDG_STATE_HOME").map(|folder| folder.join("zizq-worker")))
        .or_else(|| of("HOME").map(|folder| folder.join(".local/state/zizq-worker")))
}

impl Spool {
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens the spool for a server. Returns also the reports that earlier workers left in it.
    pub(crate) fn open(folder: &Path, server: &Url) -> io::Result<(Self, Vec<Report>)> {
        // Without the password: it may change, and the server is the same.
        let folder = folder.join(utf8_percent_encode(shown(server).as_str(), NON_ALPHANUMERIC).to_string());
        make(&folder)?;
        check(&folder)?;
        let mut spool = Self {
            folder,
            files: HashMap::new(),
            next: 0,
            pending: HashMap::new(),
            unsynced_since: None,
            broken: false,
        };
        let mut left = Vec::new();
        for entry in fs::read_dir(&spool.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "ndjson") {
                left.extend(spool.adopt(path)?);
            }
        }
        Ok((spool, left))
    }

    /// Takes over a file that is not locked.
    fn adopt(&mut self, path: PathBuf) -> io::Result<Vec<Report>> {
        // Follows no links out of the folder, and never blocks on a pipe.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file =
            File::options().read(true).append(true).custom_flags(flags.bits().cast_signed()).open(&path);
        let mut file = match file {
            Ok(file) if file.metadata()?.is_file() => file,
            Ok(_) => return Ok(no_file(&path)),
            // A symbolic link, a socket or a folder.
            Err(e)
                if [Errno::LOOP, Errno::NXIO, Errno::ISDIR].map(Some).contains(&Errno::from_io_error(&e)) =>
            {
                return Ok(no_file(&path));
            }
            // Its owner deleted it in the meantime.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(Vec::new());
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let mut reports = Vec::new();
        for line in text.lines() {
            match serde_json::from_str::<Report>(line) {
                Ok(report) => reports.push(report),
                // The last line may be torn: its writer was killed.
                Err(e) => tracing::warn!("skipping a line of {} that cannot be read: {e}", path.display()),
            }
        }
        if reports.is_empty() {
            fs::remove_file(&path)?;
            return Ok(reports);
        }
        let number = self.next;
        self.next += 1;
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let mut open = Open { path, file, bytes: bytes.max(MAX_FILE), pending: 0 };
        for report in &reports {
            if self.pending.insert(report.lease, number).is_none() {
                open.pending += 1;
            }
        }
        self.files.insert(number, open);
        Ok(reports)
    }

    /// Persists outcomes. Releases are not kept, because no work would be lost with them.
    pub(crate) fn keep(&mut self, reports: &[Report]) {
        let mut lines = Vec::new();
        let mut leases = Vec::new();
        for report in reports.iter().filter(|report| !matches!(*report.verdict, Verdict::Release { .. })) {
            if serde_json::to_writer(&mut lines, report).is_ok() {
                lines.push(b'\n');
                leases.push(report.lease);
            }
        }
        if leases.is_empty() {
            return;
        }
        match self.write(&lines, &leases) {
            Ok(()) => {
                self.broken = false;
                self.unsynced_since.get_or_insert_with(Instant::now);
            }
            Err(e) if !std::mem::replace(&mut self.broken, true) => {
                let folder = self.folder.display();
                tracing::error!(
                    "cannot keep outcomes in {folder}: {e}; if this worker is killed, jobs may run again"
                );
            }
            Err(_) => {}
        }
    }

    fn write(&mut self, lines: &[u8], leases: &[Lease]) -> io::Result<()> {
        let number =
            match self.next.checked_sub(1).filter(|last| self.files.get(last).is_some_and(Open::has_room)) {
                Some(last) => last,
                None => self.create()?,
            };
        let Some(open) = self.files.get_mut(&number) else { return Ok(()) };
        open.file.write_all(lines)?;
        open.bytes += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        for &lease in leases {
            if self.pending.insert(lease, number).is_none() {
                open.pending += 1;
            }
        }
        Ok(())
    }

    fn create(&mut self) -> io::Result<u64> {
        let name = format!("{}-{:016x}-{}.ndjson", std::process::id(), fastrand::u64(..), self.next);
        let path = self.folder.join(name);
        // Another worker may have removed the empty folder.
        make(&self.folder)?;
        check(&self.folder)?;
        let file = File::options().create_new(true).append(true).mode(0o600).open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let number = self.next;
        self.files.insert(number, Open { path, file, bytes: 0, pending: 0 });
        self.next += 1;
        Ok(number)
    }

    /// Forgets reports that the server has answered for good.
    pub(crate) fn settled(&mut self, leases: impl IntoIterator<Item = Lease>) {
        for lease in leases {
            let Some(number) = self.pending.remove(&lease) else { continue };
            let Some(open) = self.files.get_mut(&number) else { continue };
            open.pending = open.pending.saturating_sub(1);
            if open.pending > 0 {
                continue;
            }
            if open.has_room() {
                // Reuse the file from its start.
                if open.file.set_len(0).is_ok() {
                    open.bytes = 0;
                }
            } else if let Some(full) = self.files.remove(&number) {
                full.delete();
            }
        }
        if self.pending.is_empty() {
            self.unsynced_since = None;
        }
    }

    /// When unsettled outcomes must be synced.
    pub(crate) fn sync_due(&self) -> Option<Instant> {
        self.unsynced_since.map(|since| since + SYNC_AFTER)
    }

    /// Syncs files and folder, on another thread.
    pub(crate) fn sync(&mut self) {
        self.unsynced_since = None;
        let waiting = self.files.values().filter(|open| open.pending > 0);
        let files: io::Result<Vec<File>> = waiting.map(|open| open.file.try_clone()).collect();
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || {
            let synced = files.and_then(|files| {
                files.iter().try_for_each(File::sync_data)?;
                File::open(&folder)?.sync_all()
            });
            if let Err(e) = synced {
                tracing::warn!(
                    "cannot sync {}: {e}; outcomes in it may not survive a power loss",
                    folder.display()
                );
            }
        });
    }

    /// How many outcomes are not settled.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }
}

fn no_file(path: &Path) -> Vec<Report> {
    tracing::warn!("ignoring {}, which is not a regular file", path.display());
    Vec::new()
}

/// Checks that only this user can write to a folder: anybody else could get jobs reported as done.
fn check(folder: &Path) -> io::Result<()> {
    let us = geteuid().as_raw();
    let wrong = |folder: &Path, why: String| Err(io::Error::other(format!("{}: {why}", folder.display())));
    let found = fs::symlink_metadata(folder)?;
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    if !found.is_dir() {
        return wrong(folder, "it is not a folder".to_owned());
    }
    if owner != us {
        return wrong(folder, format!("it belongs to user {owner}, but this worker runs as user {us}"));
    }
    if mode & 0o077 != 0 {
        return wrong(folder, format!("other users can access it (mode {mode:o}); run chmod 700 on it"));
    }
    // The owner of the parent folder, and anybody who can write there, could replace the folder.
    let around = folder.parent().unwrap_or(folder);
    let found = fs::metadata(around)?;
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    if owner != us && owner != 0 {
        return wrong(around, format!("it belongs to user {owner}, but this worker runs as user {us}"));
    }
    match mode & 0o1002 {
        0o002 => wrong(around, format!("all users can write to it (mode {mode:o}); run chmod o-w on it")),
        _ => Ok(()),
    }
}

/// Makes a private folder: outcomes contain results and tokens.
fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

impl Open {
    const fn has_room(&self) -> bool {
        self.bytes < MAX_FILE
    }

    fn delete(self) {
        if let Err(e) = fs::remove_file(&self.path) {
            tracing::warn!("cannot delete {}: {e}", self.path.display());
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        for (_, open) in self.files.drain().filter(|(_, open)| open.pending == 0) {
            open.delete();
        }
        if let Err(e) = fs::remove_dir(&self.folder) {
            tracing::debug!("leaving {}: {e}", self.folder.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::id::JobId;
    use protocol::lease::LeaseToken;

    use super::*;

    fn report(n: u64) -> Report {
        let lease = Lease { id: JobId::from_u128(n.into()), token: LeaseToken::from_u64(n) };
        Report { lease, verdict: Arc::new(Verdict::Success { result: None, usage: None }) }
    }

    fn open(folder: &Path) -> (Spool, Vec<Report>) {
        Spool::open(folder, &Url::parse("http://127.0.0.1:1").unwrap()).unwrap()
    }

    #[test]
    fn unsettled_outcomes_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut spool, left) = open(folder.path());
        assert!(left.is_empty());
        spool.keep(&[report(1), report(2), report(3)]);
        spool.settled([report(2).lease]);
        drop(spool);
        let (mut spool, mut left) = open(folder.path());
        left.sort_by_key(|report| report.lease.id);
        assert_eq!(
            left,
            [report(1), report(2), report(3)],
            "a file that is settled in part is read as a whole"
        );
        spool.keep(&[report(4)]);
        assert_eq!(spool.pending(), 4);
        spool.settled((1..=4).map(|n| report(n).lease));
        drop(spool);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_new_password_finds_the_same_private_folder() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let of = |url| Spool::open(folder.path(), &Url::parse(url).unwrap()).unwrap();
        let (mut spool, _) = of("http://me:old@127.0.0.1:1");
        spool.keep(&[report(1)]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(spool.folder()), 0o700);
        let file = fs::read_dir(spool.folder()).unwrap().next().unwrap().unwrap().path();
        assert_eq!(mode(&file), 0o600);
        assert!(!file.to_string_lossy().contains("old"), "{file:?}");
        drop(spool);
        assert_eq!(of("http://me:new@127.0.0.1:1").1, [report(1)]);
    }

    #[test]
    fn only_files_of_this_users_folder_are_read() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let base = tempfile::tempdir().unwrap();
        let url = Url::parse("http://127.0.0.1:1").unwrap();
        let (mut spool, _) = open(base.path());
        spool.keep(&[report(1)]);
        let folder = spool.folder().to_owned();
        drop(spool);
        let kept = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        let elsewhere = base.path().join("elsewhere.ndjson");
        fs::rename(&kept, &elsewhere).unwrap();
        symlink(&elsewhere, folder.join("link.ndjson")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("pipe.ndjson"), rustix::fs::Mode::RUSR).unwrap();
        fs::create_dir(folder.join("folder.ndjson")).unwrap();
        assert_eq!(
            Spool::open(base.path(), &url).unwrap().1,
            [],
            "only regular files of the folder are read"
        );

        let refused = |why: &str| {
            let error = Spool::open(base.path(), &url).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        chmod(&folder, 0o755);
        refused("other users can access it (mode 755); run chmod 700 on it");
        chmod(&folder, 0o700);
        chmod(base.path(), 0o777);
        refused("all users can write to it (mode 777)");
        chmod(base.path(), 0o1777);
        assert!(
            Spool::open(base.path(), &url).is_ok(),
            "with the sticky bit only the owner can rename or delete"
        );
        if geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(12_345), None).unwrap();
            refused("it belongs to user 12345");
        }
        fs::remove_dir_all(&folder).unwrap();
        symlink(base.path(), &folder).unwrap();
        refused("it is not a folder");
    }

    #[tokio::test]
    async fn only_waiting_outcomes_are_synced() {
        let folder = tempfile::tempdir().unwrap();
        let (mut spool, _) = open(folder.path());
        assert_eq!(spool.sync_due(), None);
        spool.keep(&[report(1), report(2)]);
        assert!(spool.sync_due().is_some_and(|at| at > Instant::now()));
        spool.settled([report(1).lease, report(2).lease]);
        assert_eq!(spool.sync_due(), None, "the server has it");
        spool.keep(&[report(3)]);
        assert!(spool.sync_due().is_some());
        spool.sync();
        assert_eq!(spool.sync_due(), None);
        spool.keep(&[report(4)]);
        assert!(spool.sync_due().is_some(), "that came later");
    }

    #[test]
    fn a_locked_file_is_left_alone_and_a_torn_line_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, _) = open(folder.path());
        one.keep(&[report(1)]);
        let (two, left) = open(folder.path());
        assert!(left.is_empty());
        let path = one.files.values().next().unwrap().path.clone();
        drop((one, two));
        File::options().append(true).open(path).unwrap().write_all(b"{\"id\":").unwrap();
        let (_, left) = open(folder.path());
        assert_eq!(left, [report(1)]);
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let (mut spool, _) = open(folder.path());
        let reports: Vec<Report> = (0..50_000).map(report).collect();
        for some in reports.chunks(100) {
            spool.keep(some);
            spool.settled(some.iter().skip(1).map(|report| report.lease));
        }
        assert!(spool.files.len() > 2, "one of each hundred is not settled");
        spool.settled(reports.iter().map(|report| report.lease));
        assert_eq!((spool.pending(), spool.files.len()), (0, 1));
        for some in reports.chunks(100) {
            spool.keep(some);
            spool.settled(some.iter().map(|report| report.lease));
        }
        assert_eq!(spool.files.len(), 1);
        assert!(spool.files.values().all(|open| open.bytes == 0));
    }
}
