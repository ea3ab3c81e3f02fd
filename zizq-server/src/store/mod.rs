//! The storage of jobs: ordered keys, one atomic batch per turn, snapshots for readers.
//!
//! [`Store`] knows bytes only and is small, so that a store in memory can replace the disk in the simulation. [`keys`],
//! [`record`], [`batch`] and [`view`] define what the bytes mean.

pub(crate) mod batch;
pub(crate) mod bulk;
pub(crate) mod damage;
pub(crate) mod disk;
pub(crate) mod keys;
pub(crate) mod memory;
pub(crate) mod record;
mod space;
pub(crate) mod view;

use std::path::{Path, PathBuf};

use bytes::Bytes;

use batch::Batch;
use keys::Key;

/// Why the store cannot do what was requested.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process has locked the folder.
    #[error("the folder is in use by another server")]
    Locked,
    /// There is no space left.
    #[error("the disk is full")]
    Full,
    /// It waits to be reopened.
    #[error("the store is closed")]
    Closed,
    /// The disk or the store on it fails.
    #[error("the store failed: {0}")]
    Failed(String),
    /// An earlier write or a background thread failed.
    #[error("an earlier write failed, usually because the disk is full; the log has the reason")]
    Poisoned,
    /// A record or its key cannot be read.
    #[error("a stored {what} record is damaged, under the key {}", keys::shown(key))]
    Damaged {
        /// The kind of record.
        what: &'static str,
        /// Its key.
        key: Key,
    },
    /// A file of the store is damaged or missing. Nothing was changed.
    #[error("{} {what}", file.display())]
    Broken {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, as the rest of a sentence.
        what: String,
    },
    /// A part of a table cannot be read. The next opening keeps what is readable around it.
    #[error("a part of a table cannot be read: {0}")]
    Unreadable(String),
    /// A later version of the server wrote this folder.
    #[error(
        "the folder has format {0}, which this version does not know; use the version that wrote it, or a later one"
    )]
    UnknownFormat(u8),
}

impl StoreError {
    /// Whether the error may pass without a repair of the store.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        // A failing disk reports that when the store is reopened. Readers that are still running keep the folder
        // locked.
        matches!(self, Self::Full | Self::Closed | Self::Poisoned | Self::Locked | Self::Unreadable(_))
    }

    /// Converts an I/O error of a file.
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
pub(crate) type Entry = (Key, Bytes);

/// Ordered keys on a disk.
pub trait Store: Send + 'static {
    /// The type of [`Store::snapshot`].
    type Snapshot: Snapshot;

    /// Writes a batch atomically, and hands it to the operating system.
    ///
    /// # Errors
    /// After an error the store takes no more writes; it must be reopened.
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError>;

    /// Returns a function for another thread that syncs what was committed to the disk.
    fn syncer(&self) -> Box<dyn Fn() -> Result<(), StoreError> + Send>;

    /// The state after the last commit.
    fn snapshot(&self) -> Self::Snapshot;

    /// Removes everything.
    ///
    /// # Errors
    /// As [`Store::commit`].
    fn clear(&mut self) -> Result<(), StoreError>;

    /// Whether so little space is left that nothing new should be stored.
    fn is_full(&self) -> bool {
        false
    }

    /// Describes the free and the required space, for the log.
    fn describe_space(&self) -> String {
        String::new()
    }

    /// Starts to free the space of removed entries, without waiting for it. May be called often.
    fn make_space(&self) {}

    /// Reopens the store after a failure, with everything that was committed.
    ///
    /// # Errors
    /// When it cannot be opened. Retry if the error [may pass](StoreError::may_pass).
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

    /// Returns the entries with `from <= key < to`, in the order of their keys or in reverse.
    fn scan(
        &self,
        from: &Key,
        to: &Key,
        descending: bool,
    ) -> Box<dyn Iterator<Item = Result<Entry, StoreError>> + Send>;
}
