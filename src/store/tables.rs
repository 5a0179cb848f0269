//! The tables of a slot, by the number of their db.
//!
//! Db 0 lies in the slot itself, since it is nearly always the only one; the others lie beside it, and are there while they have keys.

use super::entry::OwnedEntry;
use super::slot::{DbIndex, Slot};
use super::table::Table;
use crate::data::dict::Spot;

pub(super) fn find_table(others: &[(DbIndex, Table)], db: DbIndex) -> Option<&Table> {
    let at = others.binary_search_by_key(&db, |(db, _)| *db).ok()?;
    Some(&others[at].1)
}

impl Slot {
    #[inline]
    pub(super) fn table(&self, db: DbIndex) -> Option<&Table> {
        if db.0 == 0 {
            Some(&self.main)
        } else {
            find_table(&self.rare()?.others, db)
        }
    }

    /// The table of a db that has keys, or will have some in a moment.
    #[inline]
    pub(super) fn table_mut(&mut self, db: DbIndex) -> &mut Table {
        if db.0 == 0 {
            &mut self.main
        } else {
            let rare = self.rare_mut();
            let at = rare.place_of(db).unwrap_or_else(|at| {
                rare.others.reserve_exact(1);
                rare.others.insert(at, (db, Table::new()));
                at
            });
            &mut rare.others[at].1
        }
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = (DbIndex, &Table)> {
        let main = (self.main.len() > 0).then_some((DbIndex(0), &self.main));
        let others = self.rare().map_or(&[][..], |rare| &rare.others);
        let others = others.iter().map(|(db, table)| (*db, table));
        main.into_iter().chain(others)
    }

    pub(super) fn insert(&mut self, db: DbIndex, hash: u64, mut entry: OwnedEntry) -> Spot {
        entry.set_side(self.side);
        let seed = self.common.seed;
        let table = self.table_mut(db);
        let is_first = table.len() == 0;
        let spot = table.insert(hash, entry, seed);
        if is_first {
            self.note_occupied(db);
        }
        spot
    }

    /// What must follow when a db that had no keys has some.
    fn note_occupied(&self, db: DbIndex) {
        if let Some(occupancy) = &self.common.occupancy {
            occupancy.note(self.index(), db);
        }
    }

    /// Takes a table away, if it has keys.
    pub(super) fn take_table(&mut self, db: DbIndex) -> Option<Table> {
        if db.0 != 0 {
            let rare = self.rare.as_mut()?;
            let at = rare.place_of(db).ok()?;
            let (_, table) = rare.others.remove(at);
            rare.others.shrink_to_fit();
            self.drop_if_not_rare();
            return Some(table);
        }
        (self.main.len() > 0).then(|| std::mem::replace(&mut self.main, Table::new()))
    }

    /// Puts a table in the place of whatever is there.
    pub(super) fn put_table(&mut self, db: DbIndex, table: Table) {
        let has_keys = table.len() > 0;
        *self.table_mut(db) = table;
        self.drop_if_empty(db);
        if has_keys {
            self.note_occupied(db);
        }
    }

    pub(super) fn exchange_tables(&mut self, a: DbIndex, b: DbIndex) {
        let (of_a, of_b) = (self.take_table(a), self.take_table(b));
        if let Some(table) = of_a {
            self.put_table(b, table);
        }
        if let Some(table) = of_b {
            self.put_table(a, table);
        }
        self.note_moved_tables(a, b);
    }

    /// Keeps invariant 1.
    pub(super) fn drop_if_empty(&mut self, db: DbIndex) {
        if db.0 != 0 && self.table(db).is_some_and(|table| table.len() == 0) {
            self.take_table(db);
        }
    }
}
