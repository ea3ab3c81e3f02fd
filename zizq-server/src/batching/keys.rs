//! Who folds into which batch: one at a time, in the order they came.

use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::hash::HashMap;
use protocol::flow::Key;
use tokio::sync::OwnedMutexGuard;

/// Keys that somebody has, or waits for.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>);

/// The right to fold into the batch of a key, once it has come.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    keys: &'a Keys,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Keys {
    /// Waits for all of these. They are sorted, so that no two callers wait for each other.
    pub(super) async fn lock(&self, keys: &[Key]) -> Vec<Turn<'_>> {
        let mut turns = Vec::with_capacity(keys.len());
        for key in keys {
            let mutex = self.known().entry(key.clone()).or_default().clone();
            // Whoever gives up while waiting leaves no trace either.
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
    async fn one_at_a_time_and_nothing_is_left() {
        let all = Keys::default();
        let first = all.lock(&keys(&["a", "b"])).await;
        assert!(all.lock(&keys(&["b", "c"])).now_or_never().is_none());
        let other = all.lock(&keys(&["c"])).await;
        let waiting = keys(&["a"]);
        let mut waits = Box::pin(all.lock(&waiting));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(first);
        let second = waits.await;
        assert!(all.lock(&keys(&["a"])).now_or_never().is_none(), "the one who waited has it");
        drop((second, other));
        assert!(all.known().is_empty(), "{all:?}");
    }
}
