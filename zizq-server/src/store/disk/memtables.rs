//! Frees memtables that have been flushed to the disk.
//!
//! fjall drops them under a lock that every read and write needs, and freeing the hundred thousand entries of one takes
//! 5 to 10 ms for the last owner. So each is held here until no one else has it.

use std::any::Any;
use std::sync::Arc;

use fjall::{AbstractTree, AnyTree};

#[derive(Default)]
pub(super) struct Memtables(Vec<Arc<dyn Any + Send + Sync>>);

impl Memtables {
    /// Keeps the active memtable, and frees those that no one else has.
    pub(super) fn tend(&mut self, tree: &AnyTree) {
        let newest: Arc<dyn Any + Send + Sync> = tree.active_memtable();
        if self.0.last().is_none_or(|last| !Arc::ptr_eq(last, &newest)) {
            self.0.push(newest);
        }
        self.0.retain(|memtable| Arc::strong_count(memtable) > 1);
    }

    /// Whether there are any but the active one.
    pub(super) fn has_old(&self) -> bool {
        self.0.len() > 1
    }
}

#[cfg(test)]
mod tests {
    use fjall::{Database, KeyspaceCreateOptions};

    use super::*;

    #[test]
    fn a_memtable_is_freed_once_the_store_has_dropped_it() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::builder(&folder).open().unwrap();
        let jobs = database.keyspace("jobs", KeyspaceCreateOptions::default).unwrap();
        let mut memtables = Memtables::default();
        memtables.tend(&jobs.tree);
        assert!(!memtables.has_old());
        let read = jobs.tree.active_memtable();
        let first = Arc::downgrade(&read);
        // fjall drops one when it flushes the next.
        for n in 0..3 {
            jobs.insert("key", n.to_string()).unwrap();
            jobs.rotate_memtable_and_wait().unwrap();
            memtables.tend(&jobs.tree);
        }
        drop(read);
        assert!(first.upgrade().is_some() && memtables.has_old());
        memtables.tend(&jobs.tree);
        assert!(first.upgrade().is_none());
        assert!(memtables.0.len() <= 3, "of four, only what fjall has is left");
    }
}
