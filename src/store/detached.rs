//! What was taken out of slots and is still to be freed, in steps.
//!
//! Freeing a value of ten million elements takes a second. Whatever removes or overwrites such a value only takes it out of its
//! table; it becomes part of a [`Detached`], and somebody frees a few hundred elements of that at a time between other work. What is
//! small is freed at once where it is removed, for less than the detour costs.

use super::entry::OwnedEntry;
use super::table::{Remains, Table};
use crate::data::frozen::Spent;

/// What was taken out of slots, to be freed in steps. Dropping it frees all at once.
#[derive(Default)]
pub struct Detached {
    tables: Vec<Remains>,
    entries: Vec<OwnedEntry>,
    /// Of these a part is freed already: nothing may be asked of them.
    begun: Vec<OwnedEntry>,
    /// What is left of the pasts of values.
    spent: Vec<Spent>,
}

impl Detached {
    /// Frees about `count` elements, an entry counting as one more; true when nothing is left.
    pub fn free_step(&mut self, count: usize) -> bool {
        let mut left = count;
        while left > 0 {
            if let Some(entry) = self.begun.last_mut() {
                if entry.free_step(left) {
                    self.begun.pop();
                }
                break;
            }
            if let Some(entry) = self.entries.pop() {
                if entry.is_heavy() {
                    self.begun.push(entry);
                } else {
                    left = left.saturating_sub(entry.free_effort());
                }
            } else if let Some(table) = self.tables.last_mut() {
                let entries = &mut self.entries;
                let has_had_more = table.take_page(|entry| {
                    if entry.is_heavy() {
                        entries.push(entry);
                    } else {
                        left = left.saturating_sub(entry.free_effort());
                    }
                });
                if !has_had_more {
                    self.tables.pop();
                }
            } else if let Some(spent) = self.spent.last_mut() {
                if spent.free_step(left) {
                    self.spent.pop();
                }
                break;
            } else {
                break;
            }
        }
        self.is_empty()
    }

    /// How many entries are left.
    pub fn entry_count(&self) -> usize {
        self.tables.iter().map(Remains::len).sum::<usize>() + self.entries.len() + self.begun.len()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.entries.is_empty() && self.begun.is_empty() && self.spent.is_empty()
    }

    /// Adds what another one holds.
    pub fn absorb(&mut self, mut other: Detached) {
        self.tables.append(&mut other.tables);
        self.entries.append(&mut other.entries);
        self.begun.append(&mut other.begun);
        self.spent.append(&mut other.spent);
    }

    /// Adds one entry.
    pub fn push(&mut self, entry: OwnedEntry) {
        self.entries.push(entry);
    }

    pub(super) fn push_spent(&mut self, spent: Spent) {
        if !spent.is_empty() {
            self.spent.push(spent);
        }
    }

    pub(super) fn push_table(&mut self, table: Table) {
        self.tables.push(table.into_remains());
    }
}
