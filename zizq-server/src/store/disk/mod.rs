//! The store on disk: one keyspace of [fjall](https://docs.rs/fjall). Nothing outside of this folder knows fjall.

mod accepted;
mod ahead;
mod begun;
mod compact;
mod intact;
mod journal;
mod lock;
mod manifest;
mod memtables;
mod passed;
mod removal;
pub(super) mod salvage;
mod synced;
mod table;
pub(crate) mod torn;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::{
    AbstractTree, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable,
};

use ahead::Ahead;
use compact::Compactor;
use intact::{Fault, Part, Whole};
use journal::{Descriptor, Journal};
use removal::Removal;
use salvage::Loss;

use super::batch::Batch;
use super::keys::{self, Key};
use super::space::Space;
use super::{Entry, Snapshot, Store, StoreError};

/// The size of a table, in bytes. The last table of a compaction is synced while nothing else can read or write.
const TABLE_BYTES: u64 = 8 * 1024 * 1024;
/// The number of flush threads.
const WORKERS: usize = 2;

/// The log targets of the store's libraries.
pub(crate) const LOG_TARGETS: [&str; 2] = ["fjall", "lsm_tree"];
/// The log target for a folder that is in use.
pub(crate) const LOG_TARGET_OF_LOCK: &str = "fjall::locked_file";

/// Space on a disk, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub used: u64,
    pub free: u64,
    /// What is kept free.
    pub reserve: u64,
}

/// How much memory a store may use, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheSizes {
    /// For caching data read from disk.
    pub cache: u64,
    /// For the memtable. A larger one makes writes cheaper and the replay after a crash longer, and takes up to three
    /// times as much memory.
    pub memtable: u64,
}

impl CacheSizes {
    /// The sizes for the store of jobs.
    #[must_use]
    pub(crate) const fn for_jobs(cache: u64) -> Self {
        Self { cache, memtable: 24 * 1024 * 1024 }
    }
}

/// Clones are the same store: reopening one reopens all.
#[derive(Clone)]
pub(crate) struct DiskStore {
    at: Arc<At>,
    open: Arc<RwLock<Option<Open>>>,
    /// Whether everything was cleared since the last commit.
    was_cleared: bool,
}

/// The folder of a store, and its state.
struct At {
    folder: PathBuf,
    sizes: CacheSizes,
    space: Space,
    journal: Arc<Journal>,
    /// Whether to continue with what can be read of a damaged folder.
    salvages: AtomicBool,
    /// Whether something was unreadable, or a background thread has ended.
    is_suspect: Arc<AtomicBool>,
    /// Whether the journals take space that is needed.
    is_cramped: Arc<AtomicBool>,
}

#[derive(Clone)]
struct Open {
    /// Declared before the others, so that its threads end first.
    compactor: Arc<Compactor>,
    database: Database,
    jobs: Keyspace,
    ahead: Ahead,
    /// The bytes that fjall still counts as memtable although they were cleared.
    cleared: Arc<AtomicU64>,
    _removal: Option<Arc<Removal>>,
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Locked => Self::Locked,
            fjall::Error::Poisoned => Self::Poisoned,
            fjall::Error::Storage(fjall::LsmError::Io(error)) if is_short(&error) => {
                Self::Unreadable(error.to_string())
            }
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => error.into(),
            fjall::Error::Storage(error) => Self::Unreadable(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Whether a file is shorter than it was.
fn is_short(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::UnexpectedEof
}

impl DiskStore {
    /// The store in `folder`, not opened yet. It is full when its disk has fewer than `min_free` free bytes; the
    /// default depends on the disk.
    #[must_use]
    pub(crate) fn new(folder: &Path, sizes: CacheSizes, min_free: Option<u64>) -> Self {
        Self::within(folder, sizes, Space::new(folder, min_free))
    }

    fn within(folder: &Path, sizes: CacheSizes, space: Space) -> Self {
        let sizes = CacheSizes { memtable: space.gathered(sizes.memtable), ..sizes };
        let folder = folder.to_owned();
        let journal = Arc::new(Journal::new(folder.clone()));
        let (salvages, is_suspect, is_cramped) = (AtomicBool::new(false), Arc::default(), Arc::default());
        let at = At { folder, sizes, space, journal, salvages, is_suspect, is_cramped };
        Self { at: Arc::new(at), open: Arc::default(), was_cleared: false }
    }

    /// A store in another folder of the same disk, not opened yet, which may use as much of the disk, and holds no
    /// space back.
    #[must_use]
    pub(crate) fn beside(&self, folder: &Path, sizes: CacheSizes) -> Self {
        Self::within(folder, sizes, self.at.space.beside(folder))
    }

    /// Opens the store in `folder`, or creates one.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it open.
    #[cfg(test)]
    pub(crate) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let mut store = Self::new(folder, CacheSizes::for_jobs(cache_bytes), None);
        store.reopen()?;
        Ok(store)
    }

    fn opened(&self) -> Result<Open, StoreError> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)
    }

    /// Makes opening a damaged store continue with what can be read. What is lost is set aside.
    pub(crate) fn salvage(&self) {
        self.at.salvages.store(true, Ordering::Relaxed);
    }

    /// Guesses why a background thread failed, which does not say. Usually it found no space; it may have met an
    /// unreadable table, or a disk that did not take the journal.
    fn reason(&self, error: fjall::Error) -> StoreError {
        match StoreError::from(error) {
            StoreError::Poisoned => {
                let is_full = self.is_full() || self.at.space.free() < self.at.sizes.memtable;
                if !is_full {
                    self.at.is_suspect.store(true, Ordering::Relaxed);
                }
                let error = if is_full { StoreError::Full } else { StoreError::Poisoned };
                // Later callers must not take this for an error that reopening cannot fix.
                self.at.journal.doubt(error.clone());
                error
            }
            error => error,
        }
    }

    /// Whether so little space is left that job output must be refused.
    pub(crate) fn is_full_for_output(&self) -> bool {
        self.at.space.is_low(self.unwritten() + self.at.space.for_output())
    }

    /// Reserves room for this many bytes of output.
    pub(crate) fn set_output(&self, bytes: u64) {
        self.at.space.set_output(bytes);
    }

    /// How much output may gather in memory before it is written, in bytes; `most` on a large disk.
    pub(crate) fn gathered_output(&self, most: u64) -> u64 {
        self.at.space.gathered(most)
    }

    /// The space that the store takes on its disk, and what is left there.
    ///
    /// # Errors
    /// When the store is closed, or its files cannot be looked at.
    pub(crate) fn usage(&self) -> Result<Usage, StoreError> {
        let used = self.opened()?.database.disk_space()?;
        Ok(Usage { used, free: self.at.space.free(), reserve: self.at.space.reserve() })
    }

    /// Whether it must be reopened to free space that is needed.
    pub(crate) fn is_cramped(&self) -> bool {
        self.at.is_cramped.load(Ordering::Relaxed)
    }

    /// The memtable bytes that are not on the disk yet.
    pub(crate) fn unwritten(&self) -> u64 {
        let counted = |open: &Open| {
            let cleared = open.cleared.load(Ordering::Relaxed);
            let least = open.jobs.tree.active_memtable().size();
            open.database.write_buffer_size().saturating_sub(cleared).max(least)
        };
        self.opened().map_or(0, |open| counted(&open))
    }

    fn set(&self, open: Option<Open>) {
        let before = std::mem::replace(&mut *self.open.write().unwrap_or_else(PoisonError::into_inner), open);
        // This may have to wait for a merge; others need not.
        drop(before);
    }

    /// The open store, while it takes commits.
    fn usable(&self) -> Result<Open, StoreError> {
        self.at.journal.check()?;
        if self.at.is_suspect.load(Ordering::Relaxed) {
            return Err(StoreError::Unreadable("the store is being reopened".to_owned()));
        }
        if self.at.is_cramped.load(Ordering::Relaxed) {
            // Reopening shortens the journals.
            return Err(StoreError::Full);
        }
        self.opened()
    }
}

impl Open {
    fn at(at: &At) -> Result<Self, StoreError> {
        let mut loss = Loss::new(&at.folder);
        let Whole { commits: reached, seqno, .. } = at.look(&mut loss)?;
        let database = open_database(at).map_err(|error| at.blame(error))?;
        let jobs = open_jobs(&database, at)?;
        if let Some(last) = seqno {
            // fjall restarts its numbers after everything was cleared, and would put smaller numbers after greater
            // ones.
            let supervisor = &database.supervisor;
            supervisor.seqno.fetch_max(last + 1);
            supervisor.snapshot_tracker.set(supervisor.seqno.get());
        }
        sync_folders(&at.folder)?;
        loss.settle(&jobs)?;
        let commits = jobs.get(keys::commits().as_slice()).map_err(|error| noted(&at.is_suspect, error))?;
        let commits = commits.and_then(|bytes| Some(u64::from_be_bytes(bytes.as_ref().try_into().ok()?)));
        at.journal
            .was_read(reached.max(commits.unwrap_or(0)))
            .and_then(|()| Loss::finish(&at.folder))
            .map_err(|error| StoreError::of_file(&at.folder, &error))?;
        let compactor =
            Compactor::start(&database, &jobs, at.space.clone(), [&at.is_suspect, &at.is_cramped])?;
        let ahead = Ahead::start(at.journal.clone(), jobs.tree.clone())?;
        let removal = Removal::watch(&[at.folder.clone(), jobs.path().join("tables")]);
        let removal = removal.inspect_err(|error| {
            tracing::warn!(%error, "cannot watch the store's files; freeing the space of removed files may cause pauses");
        });
        Ok(Self {
            compactor: Arc::new(compactor),
            database,
            jobs,
            ahead,
            cleared: Arc::default(),
            _removal: removal.ok().map(Arc::new),
        })
    }
}

impl At {
    /// Checks that everything exists before fjall takes missing files for files that never existed.
    fn look(&self, loss: &mut Loss) -> Result<Whole, StoreError> {
        let folder = &self.folder;
        let _lock = lock::take(folder)?;
        begun::take_away(folder).map_err(|error| StoreError::of_file(folder, &error))?;
        let is_certain = |known: Option<synced::Known>| known.is_some_and(|known| !known.is_doubtful);
        if self.journal.check().is_err() || synced::read(folder).is_ok_and(|known| !is_certain(known)) {
            torn::write_anew(folder).map_err(|error| StoreError::of_file(folder, &error))?;
        }
        let salvages = self.salvages.load(Ordering::Relaxed);
        let was_mending = loss.resume().map_err(|error| StoreError::of_file(folder, &error))?;
        if was_mending || self.is_suspect.load(Ordering::Relaxed) {
            self.mend(loss, salvages)?;
            self.is_suspect.store(false, Ordering::Relaxed);
        }
        // Each repair may reveal other damage, but never the same twice.
        for _ in 0..MAX_REPAIRS {
            match intact::look(folder) {
                Ok(whole) => {
                    if let Some((journal, at)) = &whole.torn {
                        torn::cut_off(journal, *at).map_err(|error| StoreError::of_file(journal, &error))?;
                    }
                    if self.is_cramped.swap(false, Ordering::Relaxed) || self.space.is_low(0) {
                        self.shorten();
                    }
                    return Ok(whole);
                }
                Err(Fault::Store(error)) => return Err(error),
                Err(Fault::Broken(broken)) if salvages => {
                    salvage::repair(folder, &broken, loss, |folder| self.make(folder)).map_err(told)?;
                }
                Err(Fault::Broken(broken)) if broken.part == Part::Tables => self.mend(loss, false)?,
                Err(Fault::Broken(broken)) => return Err(broken.into()),
            }
        }
        Err(StoreError::Failed(format!("{} is still damaged after all repairs", folder.display())))
    }

    /// Removes unfinished copies, which may take the space that is needed to open the store.
    fn tidy(&self) {
        if let Ok(_lock) = lock::take(&self.folder)
            && let Err(error) = torn::remove_copies(&self.folder)
        {
            tracing::warn!(%error, folder = %self.folder.display(), "cannot remove copies of journals");
        }
    }

    /// Rewrites tables that cannot be fully read.
    fn mend(&self, loss: &mut Loss, anything: bool) -> Result<(), StoreError> {
        let [_, jobs] = intact::trees(&self.folder);
        salvage::mend(&jobs, loss, anything).map_err(told)
    }

    /// Removes from the newest journal what is in the tables, which fjall would not read again either. On an error the
    /// journal stays as it was.
    fn shorten(&self) {
        let [_, jobs] = intact::trees(&self.folder);
        let Some(persisted) = intact::look_at_jobs(&jobs).ok().and_then(|reach| reach.seqno) else { return };
        match torn::shorten(&self.folder, persisted, self.space.beyond_opening()) {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "shortened the journal by what is already in the tables"),
            Err(error) => tracing::warn!(%error, "cannot shorten the journal"),
        }
    }

    /// Creates an empty store in another folder.
    fn make(&self, folder: &Path) -> Result<(), StoreError> {
        let database = Database::builder(folder).open()?;
        open_jobs(&database, self)?;
        Ok(())
    }

    /// Why fjall could not open the folder; names the file if it cannot be opened here either.
    fn blame(&self, error: fjall::Error) -> StoreError {
        match StoreError::from(error) {
            StoreError::Failed(what) | StoreError::Unreadable(what) => StoreError::Failed(
                unopened(&self.folder).unwrap_or_else(|| format!("{}: {what}", self.folder.display())),
            ),
            error => error,
        }
    }
}

/// More than the number of kinds of damage that one repair can leave behind.
const MAX_REPAIRS: usize = 16;

fn told(fault: Fault) -> StoreError {
    match fault {
        Fault::Broken(broken) => broken.into(),
        Fault::Store(error) => error,
    }
}

/// The first file below a folder that cannot be opened, with the reason.
fn unopened(path: &Path) -> Option<String> {
    let told = |error: std::io::Error| Some(format!("{}: {error}", path.display()));
    if !path.is_dir() {
        return File::options().read(true).write(true).open(path).map_or_else(told, |_| None);
    }
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.find_map(|entry| entry.map_or_else(told, |entry| unopened(&entry.path()))),
        Err(error) => told(error),
    }
}

fn open_database(at: &At) -> fjall::Result<Database> {
    Database::builder(&at.folder).cache_size(at.sizes.cache).worker_threads(WORKERS).open()
}

fn open_jobs(database: &Database, at: &At) -> fjall::Result<Keyspace> {
    // It never has anything to do: see `compact.rs`.
    let compaction = Arc::new(Leveled::default().with_l0_threshold(u8::MAX).with_table_target_size(1 << 40));
    let options = || {
        let options = KeyspaceCreateOptions::default().max_memtable_size(at.sizes.memtable);
        options.compaction_strategy(compaction.clone())
    };
    database.keyspace("jobs", options)
}

/// Syncs the directory entries of new files: fjall does so for contents and for most folders, but a keyspace whose
/// folder is lost in a power failure is lost with everything in it.
fn sync_folders(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}

impl Store for DiskStore {
    type Snapshot = DiskSnapshot;

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        let Open { database, jobs, ahead, compactor, .. } = self.usable()?;
        let writes = batch.writes();
        let mut atomic =
            OwnedWriteBatch::with_capacity(database, writes.len() + 1).durability(Some(PersistMode::Buffer));
        let mut bytes = 0;
        for (key, value) in writes {
            bytes += key.len() + value.map_or(0, <[u8]>::len);
            match value {
                Some(value) => atomic.insert(&jobs, key.as_slice(), value),
                None => atomic.remove(&jobs, key.as_slice()),
            }
        }
        let commit = self.at.journal.next_commit();
        atomic.insert(&jobs, keys::commits().as_slice(), commit.to_be_bytes());
        atomic.commit().map_err(|error| self.reason(error))?;
        ahead.note(commit, bytes as u64);
        if std::mem::take(&mut self.was_cleared) {
            compactor.note_cleared()
        } else {
            compactor.note()
        }
        Ok(())
    }

    fn syncer(&self) -> Box<dyn Fn() -> Result<(), StoreError> + Send> {
        let (store, descriptor) = (self.clone(), Mutex::<Descriptor>::default());
        Box::new(move || {
            store.at.journal.sync(&mut descriptor.lock().unwrap_or_else(PoisonError::into_inner))?;
            // This also syncs the journal, and fjall reports errors of that only to writers.
            let persisted = store.opened()?.database.persist(PersistMode::Buffer);
            persisted.map_err(|error| store.reason(error))
        })
    }

    fn snapshot(&self) -> DiskSnapshot {
        let open = self.opened().ok();
        let (suspect, snapshot) =
            (self.at.is_suspect.clone(), |open: &Open| Arc::new(open.database.snapshot()));
        DiskSnapshot(open.map(|open| Reading { snapshot: snapshot(&open), jobs: open.jobs, suspect }))
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        let open = self.usable()?;
        // A running merge would bring the entries back.
        let _still = open.compactor.still();
        let gathered = open.database.write_buffer_size();
        open.jobs.clear().map_err(|error| self.reason(error))?;
        open.cleared.store(gathered, Ordering::Relaxed);
        self.was_cleared = true;
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.at.space.is_low(self.unwritten())
    }

    fn describe_space(&self) -> String {
        match self.opened() {
            Ok(_) => self.at.space.describe(self.unwritten()),
            Err(_) => self.at.space.describe_opening(),
        }
    }

    fn make_space(&self) {
        if let Ok(open) = self.opened() {
            open.compactor.urge();
        }
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.at.tidy();
        // fjall cannot always open what is half made for lack of space. Until there is space, readers can read.
        if !self.at.space.is_enough_to_open() {
            return Err(StoreError::Full);
        }
        self.set(None);
        self.set(Some(Open::at(&self.at)?));
        self.at.space.hold_back();
        Ok(())
    }
}

/// Empty if the store was closed.
#[derive(Clone)]
pub(crate) struct DiskSnapshot(Option<Reading>);

#[derive(Clone)]
struct Reading {
    snapshot: Arc<fjall::Snapshot>,
    jobs: Keyspace,
    suspect: Arc<AtomicBool>,
}

/// Makes the store be reopened without what is unreadable.
fn noted(suspect: &AtomicBool, error: fjall::Error) -> StoreError {
    let error = StoreError::from(error);
    if matches!(error, StoreError::Unreadable(_)) {
        suspect.store(true, Ordering::Relaxed);
    }
    error
}

impl Snapshot for DiskSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let Reading { snapshot, jobs, suspect } = self.0.as_ref().ok_or(StoreError::Closed)?;
        let value = snapshot.get(jobs, key).map_err(|error| noted(suspect, error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        from: &Key,
        to: &Key,
        descending: bool,
    ) -> Box<dyn Iterator<Item = Result<Entry, StoreError>> + Send> {
        let Some(Reading { snapshot, jobs, suspect }) = self.0.as_ref() else {
            return Box::new(std::iter::once(Err(StoreError::Closed)));
        };
        if from >= to {
            return Box::new(std::iter::empty());
        }
        let range = snapshot.range(jobs, from.to_vec()..to.to_vec());
        let suspect = suspect.clone();
        let read = move |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(|error| noted(&suspect, error))?;
            // A copy: fjall's value is a slice of a block, and would keep the whole block in memory.
            Ok((Key::from_slice(&key), Bytes::copy_from_slice(&value)))
        };
        if descending { Box::new(range.rev().map(read)) } else { Box::new(range.map(read)) }
    }
}

#[cfg(test)]
mod tests;
