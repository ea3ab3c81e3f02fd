//! Counts what readers read, by what for: a call that scans where it should seek shows here.

use std::sync::Arc;

use bytes::Bytes;

use crate::meter::Counter;
use crate::store::disk::DiskSnapshot;
use crate::store::keys::Key;
use crate::store::{Entry, Snapshot, StoreError};

/// What the store is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Job,
    List,
    Count,
    Groups,
    OldestReady,
    Errors,
    Change,
}

const ALL: [(For, &str); 7] = [
    (For::Job, "job"),
    (For::List, "list"),
    (For::Count, "count"),
    (For::Groups, "groups"),
    (For::OldestReady, "oldest_ready"),
    (For::Errors, "errors"),
    (For::Change, "change"),
];

/// How many entries of the store were read.
#[derive(Debug, Default)]
pub(super) struct Entries([Counter; ALL.len()]);

impl Entries {
    /// The counts, with the names of what they were read for.
    pub(super) fn get(&self) -> [(&'static str, u64); ALL.len()] {
        ALL.map(|(what, name)| (name, self.of(what).get()))
    }

    const fn of(&self, what: For) -> &Counter {
        let [job, list, count, groups, oldest_ready, errors, change] = &self.0;
        match what {
            For::Job => job,
            For::List => list,
            For::Count => count,
            For::Groups => groups,
            For::OldestReady => oldest_ready,
            For::Errors => errors,
            For::Change => change,
        }
    }
}

/// A snapshot that counts each entry that is read from it, and each key that is looked up.
#[derive(Clone)]
pub(super) struct Counted {
    snapshot: DiskSnapshot,
    entries: Arc<Entries>,
    what: For,
}

impl Counted {
    pub(super) const fn new(snapshot: DiskSnapshot, entries: Arc<Entries>, what: For) -> Self {
        Self { snapshot, entries, what }
    }
}

impl Snapshot for Counted {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.entries.of(self.what).add(1);
        self.snapshot.get(key)
    }

    fn scan(
        &self,
        from: &Key,
        to: &Key,
        descending: bool,
    ) -> Box<dyn Iterator<Item = Result<Entry, StoreError>> + Send> {
        let (entries, what) = (self.entries.clone(), self.what);
        let scan = self.snapshot.scan(from, to, descending);
        Box::new(scan.inspect(move |_| entries.of(what).add(1)))
    }
}
