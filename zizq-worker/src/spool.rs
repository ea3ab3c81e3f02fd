//! Outcomes on disk until the server has them, so that finished work is not done again because this process ended.
//!
//! Each worker appends to files of its own, which it holds locked. A file is deleted when everything in it is settled.
//! A file that nobody holds is what a worker left behind: whoever starts next delivers it, before it takes jobs. An
//! outcome that was delivered just before may come again then; its token tells the server so.
//!
//! What the server has within a moment need not be on the disk: it is forced there only when it has to wait, on another
//! thread, so that a worker whose server is away loses no outcome to a loss of power, and any other does not wait for
//! the disk.

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

use crate::access::shown;
use crate::report::{Lease, Report, Verdict};

/// After so many bytes the next outcomes go to the next file.
const MAX_FILE: u64 = 1 << 20;

/// What is not settled after this time is forced onto the disk.
const SYNC_AFTER: Duration = Duration::from_secs(1);

/// The files of this worker.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    /// By number. The last is being written, unless it is full.
    files: HashMap<u64, Open>,
    next: u64,
    /// Which file holds what is not settled.
    pending: HashMap<Lease, u64>,
    /// Since when something may not be on the disk.
    unsynced_since: Option<Instant>,
    /// It said already that it cannot write.
    broken: bool,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    bytes: u64,
    pending: usize,
}

/// What to say, and to do, where [`default_folder`] knows none.
pub(crate) const NO_FOLDER: &str = "outcomes are not kept on disk, for there is neither STATE_DIRECTORY nor HOME; \
     name a folder of this user's with --spool, or set StateDirectory= in the unit of systemd";

/// Where outcomes are kept unless the configuration says otherwise. Never where everybody may write: a folder of a known
/// name there is that of whoever makes it first.
pub(crate) fn default_folder() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // systemd gives a list, with the first of which any service is content.
    let state =
        of("STATE_DIRECTORY").map(|list| list.to_string_lossy().split(':').next().unwrap_or_default().into());
    state
        .or_else(|| of("XDG_STATE_HOME").map(|folder| folder.join("zizq-worker")))
        .or_else(|| of("HOME").map(|folder| folder.join(".local/state/zizq-worker")))
}

impl Spool {
    /// Where it lies.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The spool for a server, and what earlier workers left in it.
    pub(crate) fn open(folder: &Path, server: &Url) -> io::Result<(Self, Vec<Report>)> {
        // Whatever the password is by now, it is the same server.
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

    /// Takes over a file that nobody holds.
    fn adopt(&mut self, path: PathBuf) -> io::Result<Vec<Report>> {
        // Only what lies here itself, and never waiting for the other end of a pipe.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file =
            File::options().read(true).append(true).custom_flags(flags.bits().cast_signed()).open(&path);
        let mut file = match file {
            Ok(file) if file.metadata()?.is_file() => file,
            Ok(_) => return Ok(no_file(&path)),
            // A symbolic link, a socket, a folder.
            Err(e)
                if [Errno::LOOP, Errno::NXIO, Errno::ISDIR].map(Some).contains(&Errno::from_io_error(&e)) =>
            {
                return Ok(no_file(&path));
            }
            // Its owner has deleted it in the meantime.
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
                // The end of a file may be half a line: its writer was killed.
                Err(e) => tracing::warn!("a line of {} cannot be read: {e}", path.display()),
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

    /// Writes outcomes down. What is given back needs no keeping: nothing was done.
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
                    "outcomes cannot be kept in {folder}: {e}; if this worker is killed, jobs may run again"
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
        // Another worker may have taken the empty folder away at its end.
        make(&self.folder)?;
        check(&self.folder)?;
        let file = File::options().create_new(true).append(true).mode(0o600).open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let number = self.next;
        self.files.insert(number, Open { path, file, bytes: 0, pending: 0 });
        self.next += 1;
        Ok(number)
    }

    /// The server has answered for good.
    pub(crate) fn settled(&mut self, leases: impl IntoIterator<Item = Lease>) {
        for lease in leases {
            let Some(number) = self.pending.remove(&lease) else { continue };
            let Some(open) = self.files.get_mut(&number) else { continue };
            open.pending = open.pending.saturating_sub(1);
            if open.pending > 0 {
                continue;
            }
            if open.has_room() {
                // The same file again, from its start.
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

    /// When what waits is to be forced onto the disk.
    pub(crate) fn sync_due(&self) -> Option<Instant> {
        self.unsynced_since.map(|since| since + SYNC_AFTER)
    }

    /// Forces what waits onto the disk, names included. That takes its time, elsewhere.
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
                tracing::warn!("outcomes in {} may not survive a loss of power: {e}", folder.display());
            }
        });
    }

    /// How many outcomes the server does not have yet.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }
}

fn no_file(path: &Path) -> Vec<Report> {
    tracing::warn!("{} is no file and no outcomes are read from it; what is it for?", path.display());
    Vec::new()
}

/// Checks that a folder is this user's own, and nobody else's: who can write in it could have jobs reported as done.
fn check(folder: &Path) -> io::Result<()> {
    let us = geteuid().as_raw();
    let wrong = |folder: &Path, why: String| Err(io::Error::other(format!("{}: {why}", folder.display())));
    let found = fs::symlink_metadata(folder)?;
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    if !found.is_dir() {
        return wrong(folder, "it is no folder".to_owned());
    }
    if owner != us {
        return wrong(folder, format!("it belongs to user {owner}, not to user {us}, who runs this worker"));
    }
    if mode & 0o077 != 0 {
        return wrong(folder, format!("it is open to others (mode {mode:o}); chmod 700 it"));
    }
    // Whoever owns the folder around it, or can write there, could put another in its place.
    let around = folder.parent().unwrap_or(folder);
    let found = fs::metadata(around)?;
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    if owner != us && owner != 0 {
        return wrong(around, format!("it belongs to user {owner}, not to user {us}, who runs this worker"));
    }
    match mode & 0o1002 {
        0o002 => wrong(around, format!("everybody can write in it (mode {mode:o}); chmod o-w it")),
        _ => Ok(()),
    }
}

/// Makes a folder for nobody else: outcomes have results and tokens in them.
fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

impl Open {
    const fn has_room(&self) -> bool {
        self.bytes < MAX_FILE
    }

    fn delete(self) {
        if let Err(e) = fs::remove_file(&self.path) {
            tracing::warn!("{} cannot be deleted: {e}", self.path.display());
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        for (_, open) in self.files.drain().filter(|(_, open)| open.pending == 0) {
            open.delete();
        }
        if let Err(e) = fs::remove_dir(&self.folder) {
            tracing::debug!("{} stays: {e}", self.folder.display());
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
    fn what_is_not_settled_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut spool, left) = open(folder.path());
        assert!(left.is_empty());
        spool.keep(&[report(1), report(2), report(3)]);
        spool.settled([report(2).lease]);
        drop(spool);
        let (mut spool, mut left) = open(folder.path());
        left.sort_by_key(|report| report.lease.id);
        assert_eq!(left, [report(1), report(2), report(3)], "what was settled in part comes whole");
        spool.keep(&[report(4)]);
        assert_eq!(spool.pending(), 4);
        spool.settled((1..=4).map(|n| report(n).lease));
        drop(spool);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_new_password_finds_what_was_kept_and_nobody_else_may_look() {
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
            "what is no file of the folder is not read"
        );

        let refused = |why: &str| {
            let error = Spool::open(base.path(), &url).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        chmod(&folder, 0o755);
        refused("it is open to others (mode 755); chmod 700 it");
        chmod(&folder, 0o700);
        chmod(base.path(), 0o777);
        refused("everybody can write in it (mode 777)");
        chmod(base.path(), 0o1777);
        assert!(
            Spool::open(base.path(), &url).is_ok(),
            "with the sticky bit only the owner takes names away"
        );
        if geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(12_345), None).unwrap();
            refused("it belongs to user 12345");
        }
        fs::remove_dir_all(&folder).unwrap();
        symlink(base.path(), &folder).unwrap();
        refused("it is no folder");
    }

    #[tokio::test]
    async fn only_what_has_to_wait_is_forced_onto_the_disk() {
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
    fn a_file_that_is_held_is_left_alone_and_a_torn_line_is_skipped() {
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
