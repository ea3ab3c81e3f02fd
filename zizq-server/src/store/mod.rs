//! Where jobs are kept: ordered keys, one atomic batch per turn, snapshots for readers.
//!
//! [`Store`] knows bytes only and is small, so that a store in memory can stand in for the disk in the simulation.
//! What the bytes mean is said in [`keys`], [`record`], [`batch`] and [`view`].

pub mod batch;
pub mod bulk;
pub mod damage;
pub mod disk;
pub mod keys;
pub mod memory;
pub mod record;
mod space;
pub mod view;

use std::path::{Path, PathBuf};

use bytes::Bytes;

use batch::Batch;
use keys::Key;

/// Why the store could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process has the folder.
    #[error("the folder is in use by another server")]
    Locked,
    /// There is no space left.
    #[error("the disk is full")]
    Full,
    /// It waits to be opened again.
    #[error("the store is closed")]
    Closed,
    /// The disk or the store on it fails.
    #[error("the store failed: {0}")]
    Failed(String),
    /// An earlier write failed, or what works in the background.
    #[error("an earlier write failed, most often because the disk is full; the log says how")]
    Poisoned,
    /// A record cannot be read, or its key.
    #[error("a stored {what} record is damaged, under the key {}", keys::shown(key))]
    Damaged {
        /// What the record is.
        what: &'static str,
        /// Where it lies.
        key: Key,
    },
    /// A file of the store is not as it was written, or not there. Nothing was changed.
    #[error("{} {what}", file.display())]
    Broken {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it, as the rest of a sentence.
        what: String,
    },
    /// A part of a table cannot be read. What can be read around it is kept when the store is opened again.
    #[error("a part of a table cannot be read: {0}")]
    Unreadable(String),
    /// A later version of the server has written here.
    #[error(
        "the folder has format {0}, which this version does not know; use the version that wrote it, or a later one"
    )]
    UnknownFormat(u8),
}

impl StoreError {
    /// Whether it can be over some time without anybody mending the store.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        // A disk that fails says so when the store is opened again. Readers that have not come to their end keep the
        // folder locked.
        matches!(self, Self::Full | Self::Closed | Self::Poisoned | Self::Locked | Self::Unreadable(_))
    }

    /// What happened to a file.
    pub(crate) fn of_file(file: &Path, error: &std::io::Error) -> Self {
        match Self::from_kind(error.kind()) {
            Some(full) => full,
            None => Self::Failed(format!("{}: {error}", file.display())),
        }
    }

    const fn from_kind(kind: std::io::ErrorKind) -> Option<Self> {
        match kind {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Some(Self::Full),
            _ => None,
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::from_kind(error.kind()).unwrap_or_else(|| Self::Failed(error.to_string()))
    }
}

/// A key and its value.
pub type Entry = (Key, Bytes);

/// Ordered keys on a disk.
pub trait Store: Send + 'static {
    /// What [`Store::snapshot`] gives.
    type Snapshot: Snapshot;

    /// Writes a batch, all of it or nothing, and hands it to the operating system.
    ///
    /// # Errors
    /// After an error the store takes no more writes; it must be opened again.
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError>;

    /// A way to force what was committed onto the disk, for another thread.
    fn syncer(&self) -> Box<dyn Fn() -> Result<(), StoreError> + Send>;

    /// The state as of the last commit.
    fn snapshot(&self) -> Self::Snapshot;

    /// Forgets everything.
    ///
    /// # Errors
    /// As [`Store::commit`].
    fn clear(&mut self) -> Result<(), StoreError>;

    /// Whether so little space is left that nothing new should be put in.
    fn is_full(&self) -> bool {
        false
    }

    /// Begins to give back the space of what was removed, without waiting for it. It may be called often.
    fn make_space(&self) {}

    /// Opens the store again after it has failed, with all that was committed.
    ///
    /// # Errors
    /// When it cannot be opened. It may be tried again if the error [may pass](StoreError::may_pass).
    fn reopen(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// An unchanging view of a store.
pub trait Snapshot: Clone + Send + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// When the disk fails.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Entries with `from <= key < to`, in the order of their keys or the other way round.
    fn scan(
        &self,
        from: &Key,
        to: &Key,
        descending: bool,
    ) -> Box<dyn Iterator<Item = Result<Entry, StoreError>> + Send>;
}
