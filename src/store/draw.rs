//! Keys drawn at random for eviction.
//!
//! A page is drawn by a random hash and an entry of the page at random: an entry of a page that has fewer is drawn more often,
//! which does not matter for eviction, as it compares several and takes the worst. What matters is that a draw costs the
//! same whatever the slot holds, and that an entry without expiry is never drawn where only others may go.

use super::entry::EntryRef;
use super::slot::{DbIndex, Slot};
use super::table::Table;
use crate::base::random::Random;

impl Slot {
    /// How many keys it has, in all dbs; of those with an expiry only if `only_volatile`.
    pub fn draw_count(&self, only_volatile: bool) -> usize {
        self.tables().map(|(_, table)| weight(table, only_volatile)).sum()
    }

    /// One of these keys; None if there is none.
    pub fn draw(&self, only_volatile: bool, random: &mut Random) -> Option<(DbIndex, EntryRef<'_>)> {
        let count = self.draw_count(only_volatile);
        if count == 0 {
            return None;
        }
        let mut left = random.below(count);
        for (db, table) in self.tables() {
            let here = weight(table, only_volatile);
            if left < here {
                return Some((db, draw_from(table, only_volatile, random)));
            }
            left -= here;
        }
        unreachable!("the counts of the tables add up to the count of the slot");
    }
}

fn weight(table: &Table, only_volatile: bool) -> usize {
    if only_volatile {
        table.volatile_count()
    } else {
        table.len()
    }
}

/// An entry of a table that has one.
fn draw_from<'t>(table: &'t Table, only_volatile: bool, random: &mut Random) -> EntryRef<'t> {
    let mut position = random.next_u64();
    loop {
        // A page without one is passed over: the next one, and from the end to the beginning.
        let view = table.page_view(position);
        position = view.next_hash.unwrap_or(0);
        if only_volatile {
            let count = view.flagged().count();
            if count > 0
                && let Some(entry) = view.flagged().nth(random.below(count))
            {
                return entry;
            }
        } else if !view.is_empty()
            && let Some(entry) = view.elements().nth(random.below(view.len()))
        {
            return entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::data::access::Moment;
    use crate::store::{Expiry, HashSeed};
    use std::collections::BTreeSet;

    #[test]
    fn every_key_is_drawn_and_no_other() {
        let mut slot = Slot::new(0, HashSeed([1, 2]));
        let mut random = Random::with_seed(3);
        assert!(slot.draw(false, &mut random).is_none());
        for n in 0..500u32 {
            let expiry = if n % 10 == 0 {
                Expiry::At(UnixMs(99))
            } else {
                Expiry::Clear
            };
            let db = DbIndex(n % 2);
            slot.set_int(db, &n.to_be_bytes(), 0, expiry, Moment::lru(UnixMs(0)));
        }
        assert_eq!((slot.draw_count(false), slot.draw_count(true)), (500, 50));
        let mut drawn = BTreeSet::new();
        for _ in 0..20_000 {
            let (_, entry) = slot.draw(false, &mut random).unwrap();
            drawn.insert(entry.key().to_vec());
            let (db, entry) = slot.draw(true, &mut random).unwrap();
            assert!(entry.has_expiry());
            assert_eq!(db, DbIndex(0), "every tenth key is in db 0");
        }
        assert_eq!(drawn.len(), 500);
    }
}
