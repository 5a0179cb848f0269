//! What is not in use any more and takes long to free: it goes in small steps, in the background.

use crate::store::{Detached, OwnedEntry};
use std::collections::VecDeque;

/// Elements that are freed without a detour.
const FREED_AT_ONCE: usize = 64;

/// Values and tables that wait to be freed.
#[derive(Default)]
pub struct Garbage {
    tables: VecDeque<Detached>,
}

impl Garbage {
    pub fn absorb(&mut self, detached: Detached) {
        if !detached.is_empty() {
            self.tables.push_back(detached);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Frees an entry: at once, unless that takes long.
    pub fn push(&mut self, entry: OwnedEntry) {
        let mut detached = Detached::default();
        detached.push(entry);
        if !detached.free_step(FREED_AT_ONCE) {
            self.tables.push_back(detached);
        }
    }

    /// How many keys wait (`lazyfree_pending_objects`).
    pub fn pending_count(&self) -> usize {
        self.tables.iter().map(Detached::entry_count).sum()
    }

    /// Frees about `count` elements. Returns how many entries have gone by it.
    pub fn free_step(&mut self, count: usize) -> usize {
        let Some(table) = self.tables.front_mut() else { return 0 };
        let before = table.entry_count();
        let is_gone = table.free_step(count);
        let freed = before - table.entry_count();
        if is_gone {
            self.tables.pop_front();
        }
        freed
    }
}
