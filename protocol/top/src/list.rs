//! The state of a table: the row with the cursor, marked rows, filter and order.

use std::collections::BTreeSet;

#[derive(Debug, Default, Clone)]
pub(super) struct List {
    /// The row with the cursor. It stays on it, wherever that moves.
    pub(super) selected: Option<String>,
    /// Where it was last, for when it is gone.
    at: usize,
    /// The first row that is visible.
    pub(super) top: usize,
    pub(super) marked: BTreeSet<String>,
    /// All that match are meant, also those that are not in the table.
    pub(super) all: bool,
    pub(super) filter: String,
    pub(super) order: usize,
    /// The other way round than usual.
    pub(super) reverse: bool,
    /// How many rows more than usual are asked for.
    pub(super) more: usize,
    /// Only what this worker has, or this stream if its worker has no name.
    pub(super) worker: Option<String>,
}

impl List {
    pub(super) const fn new() -> Self {
        Self {
            selected: None,
            at: 0,
            top: 0,
            marked: BTreeSet::new(),
            all: false,
            filter: String::new(),
            order: 0,
            reverse: false,
            more: 0,
            worker: None,
        }
    }

    /// Where the cursor is among these rows.
    pub(super) fn position<'a>(&self, mut ids: impl Iterator<Item = &'a str> + Clone) -> Option<usize> {
        let rows = ids.clone().count();
        let found = self.selected.as_ref().and_then(|selected| ids.position(|id| id == selected));
        found.or_else(|| rows.checked_sub(1).map(|last| self.at.min(last)))
    }

    /// Puts the cursor on a row.
    pub(super) fn select<'a>(&mut self, mut ids: impl Iterator<Item = &'a str> + Clone, at: usize) {
        let last = ids.clone().count().saturating_sub(1);
        self.at = at.min(last);
        self.selected = ids.nth(self.at).map(str::to_owned);
    }

    /// Settles what is visible, with so many lines for rows. Returns where the cursor is.
    pub(super) fn settle<'a>(
        &mut self,
        ids: impl Iterator<Item = &'a str> + Clone,
        height: usize,
    ) -> Option<usize> {
        let at = self.position(ids.clone())?;
        let rows = ids.clone().count();
        if self.selected.is_some() {
            self.select(ids, at);
        }
        self.top = self.top.min(at).max((at + 1).saturating_sub(height)).min(rows.saturating_sub(height));
        Some(at)
    }

    pub(super) fn mark(&mut self, id: &str) {
        self.all = false;
        if !self.marked.remove(id) {
            self.marked.insert(id.to_owned());
        }
    }

    /// Marks nothing any longer. Returns whether anything was marked.
    pub(super) fn unmark(&mut self) -> bool {
        let was_marked = self.all || !self.marked.is_empty();
        self.all = false;
        self.marked.clear();
        was_marked
    }

    /// Begins anew with another filter.
    pub(super) fn filter(&mut self, text: &str) {
        self.unmark();
        self.filter = text.trim().to_owned();
        (self.top, self.at, self.selected, self.more, self.worker) = (0, 0, None, 0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_stays_on_its_row() {
        let mut list = List::default();
        let settle = |list: &mut List, ids: &[&str]| list.settle(ids.iter().copied(), 2);
        assert_eq!(settle(&mut list, &["a", "b", "c"]), Some(0));
        assert_eq!(
            settle(&mut list, &["new", "a", "b", "c"]),
            Some(0),
            "until it is moved it stays at the top"
        );
        list.select(["a", "b", "c"].into_iter(), 2);
        assert_eq!((settle(&mut list, &["a", "b", "c"]), list.top), (Some(2), 1));
        assert_eq!(settle(&mut list, &["new", "a", "b", "c"]), Some(3), "it moves with its row");
        assert_eq!(settle(&mut list, &["a", "b"]), Some(1), "where its row is gone, it is near");
        assert_eq!(settle(&mut list, &[]), None);
    }
}
