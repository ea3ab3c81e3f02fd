//! Memory holds the head, disk holds the tail: the front of an ordered run whose rest stays in the store.

use std::collections::VecDeque;

/// The cost of keeping an item in memory.
pub(in crate::engine) trait Weigh {
    /// The approximate weight in bytes.
    fn weight(&self) -> usize;
}

/// The front of a run that is ordered by `K`.
///
/// Everything before the horizon is in memory, everything from the horizon on only in the store. Without a horizon, all
/// of it is in memory.
#[derive(Debug)]
pub(in crate::engine) struct Window<K, V> {
    items: VecDeque<(K, V)>,
    horizon: Option<K>,
    weight: usize,
    limits: Limits,
}

/// How much a window keeps.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Limits {
    pub items: usize,
    pub bytes: usize,
}

impl<K: Ord + Copy, V: Weigh> Window<K, V> {
    /// Makes a window whose run begins at `horizon` in the store, or is empty.
    pub(in crate::engine) const fn new(limits: Limits, horizon: Option<K>) -> Self {
        Self { items: VecDeque::new(), horizon, weight: 0, limits }
    }

    pub(in crate::engine) const fn weight(&self) -> usize {
        self.weight
    }

    /// The point from which on the run is only in the store.
    pub(in crate::engine) const fn horizon(&self) -> Option<K> {
        self.horizon
    }

    /// Whether neither memory nor the store has an item of the run.
    pub(in crate::engine) fn is_exhausted(&self) -> bool {
        self.items.is_empty() && self.horizon.is_none()
    }

    /// Whether so little is left in memory that more should be read.
    pub(in crate::engine) fn is_low(&self) -> bool {
        self.horizon.is_some()
            && self.items.len() < self.limits.items / 2
            && self.weight < self.limits.bytes / 2
    }

    pub(in crate::engine) fn front(&self) -> Option<&(K, V)> {
        self.items.front()
    }

    pub(in crate::engine) fn pop_front(&mut self) -> Option<(K, V)> {
        let (key, value) = self.items.pop_front()?;
        self.weight -= value.weight();
        Some((key, value))
    }

    /// Adds an item that is also in the store. It stays there alone if it is behind the horizon, or if the window is
    /// full.
    pub(in crate::engine) fn insert(&mut self, key: K, value: V) {
        if self.horizon.is_some_and(|horizon| key >= horizon) {
            return;
        }
        self.weight += value.weight();
        if self.items.back().is_none_or(|(last, _)| *last < key) {
            self.items.push_back((key, value));
        } else {
            let at = self.items.partition_point(|(k, _)| *k < key);
            self.items.insert(at, (key, value));
        }
        self.trim();
    }

    /// Adds an item while memory is short: it stays in the store.
    pub(in crate::engine) fn leave_in_store(&mut self, key: K) {
        if self.horizon.is_none_or(|horizon| key < horizon) {
            while self.items.back().is_some_and(|(last, _)| *last > key) {
                self.drop_last();
            }
            self.horizon = Some(key);
        }
    }

    /// Takes in what was read from the horizon on; `next` is where the rest begins.
    pub(in crate::engine) fn refill(&mut self, items: impl Iterator<Item = (K, V)>, next: Option<K>) {
        self.horizon = None;
        for (key, value) in items {
            self.weight += value.weight();
            self.items.push_back((key, value));
        }
        self.horizon = next;
    }

    pub(in crate::engine) fn remove(&mut self, key: K) -> Option<V> {
        let at = self.items.binary_search_by(|(k, _)| k.cmp(&key)).ok()?;
        let (_, value) = self.items.remove(at)?;
        self.weight -= value.weight();
        Some(value)
    }

    fn trim(&mut self) {
        while self.items.len() > self.limits.items || self.weight > self.limits.bytes {
            self.drop_last();
        }
    }

    fn drop_last(&mut self) {
        if let Some((key, value)) = self.items.pop_back() {
            self.weight -= value.weight();
            self.horizon = Some(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for u32 {
        fn weight(&self) -> usize {
            *self as usize
        }
    }

    fn keys(window: &Window<u32, u32>) -> Vec<u32> {
        window.items.iter().map(|(k, _)| *k).collect()
    }

    const LIMITS: Limits = Limits { items: 4, bytes: 100 };

    #[test]
    fn keeps_the_smallest_items_in_order() {
        let mut window = Window::new(LIMITS, None);
        for key in [5, 1, 4, 2, 3, 9] {
            window.insert(key, 1);
        }
        assert_eq!((keys(&window), window.horizon()), (vec![1, 2, 3, 4], Some(5)));
        assert_eq!(window.pop_front(), Some((1, 1)));
        window.insert(7, 1);
        assert_eq!((keys(&window), window.horizon()), (vec![2, 3, 4], Some(5)));
        window.refill([(5, 1), (7, 1)].into_iter(), Some(9));
        assert_eq!((keys(&window), window.horizon()), (vec![2, 3, 4, 5, 7], Some(9)));
        assert_eq!(window.remove(4), Some(1));
        window.refill([(9, 1)].into_iter(), None);
        assert_eq!((keys(&window), window.weight(), window.horizon()), (vec![2, 3, 5, 7, 9], 5, None));
    }

    #[test]
    fn weight_is_limited_and_one_item_may_exceed_it() {
        let mut window = Window::new(LIMITS, None);
        window.insert(1, 60);
        window.insert(2, 60);
        assert_eq!((keys(&window), window.horizon(), window.weight()), (vec![1], Some(2), 60));
        window.leave_in_store(0);
        assert_eq!((keys(&window), window.horizon(), window.weight()), (vec![], Some(0), 0));
        assert!(window.is_low() && !window.is_exhausted());
    }
}
