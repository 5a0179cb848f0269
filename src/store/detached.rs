//! What was taken out of slots and is still to be freed, in steps.
//!
//! Freeing a value of ten million elements takes a second. Whatever removes or overwrites such a value only takes it out of its
//! table; it becomes part of a [`Detached`], and somebody frees a few hundred elements of that at a time between other work. What is
//! small is freed at once where it is removed, for less than the detour costs.

use super::entry::OwnedEntry;
use super::table::{Remains, Table};

/// What was taken out of slots, to be freed in steps. Dropping it frees all at once.
#[derive(Default)]
pub struct Detached {
    tables: Vec<Remains>,
    entries: Vec<OwnedEntry>,
}

impl Detached {
    /// Frees about `count` elements, an entry counting as one more; true when nothing is left.
    pub fn free_step(&mut self, count: usize) -> bool {
        let mut left = count;
        while left > 0 {
            if let Some(entry) = self.entries.last_mut() {
                if entry.is_heavy() {
                    // What is not heavy any more goes with its entry in the next round, or is nothing.
                    if entry.free_step(left) {
                        self.entries.pop();
                    }
                    break;
                }
                self.entries.pop();
                left -= 1;
            } else if let Some(table) = self.tables.last_mut() {
                match table.take_page() {
                    Some(page) => {
                        let entries = &mut self.entries;
                        page.into_entries(|entry| {
                            if entry.is_heavy() {
                                entries.push(entry);
                            } else {
                                left = left.saturating_sub(entry.free_effort());
                            }
                        });
                    }
                    None => {
                        self.tables.pop();
                    }
                }
            } else {
                break;
            }
        }
        self.is_empty()
    }

    /// How many entries are left.
    pub fn entry_count(&self) -> usize {
        self.tables.iter().map(Remains::len).sum::<usize>() + self.entries.len()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.entries.is_empty()
    }

    /// Adds what another one holds.
    pub fn absorb(&mut self, mut other: Detached) {
        self.tables.append(&mut other.tables);
        self.entries.append(&mut other.entries);
    }

    /// Adds one entry.
    pub fn push(&mut self, entry: OwnedEntry) {
        self.entries.push(entry);
    }

    pub(super) fn push_table(&mut self, table: Table) {
        self.tables.push(table.into_remains());
    }
}
