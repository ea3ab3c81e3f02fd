//! Locks by batch key: one caller folds into a batch at a time, in order of arrival.

use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::hash::HashMap;
use protocol::flow::Key;
use tokio::sync::OwnedMutexGuard;

/// The keys that are locked or waited for.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>);

/// The lock of one batch key, once it is acquired.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    keys: &'a Keys,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Keys {
    /// Locks all of these keys. They are sorted, so there is no deadlock.
    pub(super) async fn lock(&self, keys: &[Key]) -> Vec<Turn<'_>> {
        let mut turns = Vec::with_capacity(keys.len());
        for key in keys {
            let mutex = self.known().entry(key.clone()).or_default().clone();
            // A caller that gives up while waiting is also cleaned up.
            let mut turn = Turn { keys: self, key: key.clone(), guard: None };
            turn.guard = Some(mutex.lock_owned().await);
            turns.push(turn);
        }
        turns
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut known = self.keys.known();
        self.guard = None;
        if let Entry::Occupied(entry) = known.entry(self.key.clone())
            && Arc::strong_count(entry.get()) == 1
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn keys(names: &[&str]) -> Vec<Key> {
        names.iter().map(|name| Key::new(name).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_key_is_locked_once_at_a_time_and_leaves_nothing() {
        let all = Keys::default();
        let first = all.lock(&keys(&["a", "b"])).await;
        assert!(all.lock(&keys(&["b", "c"])).now_or_never().is_none());
        let other = all.lock(&keys(&["c"])).await;
        let waiting = keys(&["a"]);
        let mut waits = Box::pin(all.lock(&waiting));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(first);
        let second = waits.await;
        assert!(all.lock(&keys(&["a"])).now_or_never().is_none(), "the waiting caller has it");
        drop((second, other));
        assert!(all.known().is_empty(), "{all:?}");
    }
}
