//! Undo: everything that one unit of work has changed in a slot can be taken back.
//!
//! A script may find, half way, that it needs a slot it does not hold; what it has done so far is rolled back and it
//! runs again. While an undo is open, the *first* change of each key keeps the entry as it was; a rollback puts these
//! entries back. That is a journal of states, not of operations: no command needs an inverse, and a key that changes a
//! thousand times is kept once. For a value that is not a string that is a deep copy, since it is changed in place.
//!
//! FLUSHDB and SWAPDB change all keys at once and are kept as what they are: a table put aside, two dbs exchanged. Each of
//! them begins a new *layer* of kept entries, because the same name may mean another entry after it; a rollback takes the
//! layers back from the youngest to the oldest.
//!
//! Restored exactly: values, expiries, access clocks of changed keys, counts, watch versions, and what the
//! slot has told (an expiry that happened in between is taken back with the rest and will be noticed again).

use hashbrown::HashMap;

use super::detached::Detached;
use super::entry::OwnedEntry;
use super::slot::{DbIndex, Slot};
use super::table::Table;
use super::watch::{DbKey, DbKeyRef, OldVersions};

/// What an open undo keeps.
#[derive(Default)]
pub(super) struct Undo {
    layer: Layer,
    below: Vec<(Layer, Upheaval)>,
    old_versions: OldVersions,
    told_count: usize,
}

/// Entries as they were before their first change in this layer; None: there was none.
type Layer = HashMap<DbKey, Option<OwnedEntry>>;

/// A change of whole dbs.
enum Upheaval {
    Cleared {
        db: DbIndex,
        db_then: DbIndex,
        table: Table,
    },
    Swapped(DbIndex, DbIndex),
}

impl Slot {
    /// From here on every change can be taken back. There is one undo at a time.
    pub fn begin_undo(&mut self) {
        let rare = self.rare_mut();
        assert!(rare.undo.is_none(), "an undo is open already");
        rare.undo = Some(Box::new(Undo {
            told_count: rare.told.len(),
            ..Undo::default()
        }));
    }

    /// Whether an undo is open.
    pub fn is_undo_open(&self) -> bool {
        self.rare().is_some_and(|rare| rare.undo.is_some())
    }

    /// Takes back all changes since `begin_undo`.
    pub fn rollback(&mut self) {
        let mut undo = self.take_undo();
        self.restore_layer(undo.layer);
        while let Some((layer, upheaval)) = undo.below.pop() {
            match upheaval {
                Upheaval::Cleared { db, table, .. } => self.put_table(db, table),
                Upheaval::Swapped(a, b) => self.exchange_tables(a, b),
            }
            self.restore_layer(layer);
        }
        let rare = self.rare_mut();
        if let Some(watches) = &mut rare.watches {
            watches.restore(undo.old_versions);
        }
        rare.told.truncate(undo.told_count);
        self.drop_if_not_rare();
    }

    /// Makes the changes since `begin_undo` final.
    #[must_use = "may be large: free it in steps"]
    pub fn commit_undo(&mut self) -> Detached {
        let undo = self.take_undo();
        self.drop_if_not_rare();
        let mut detached = Detached::default();
        let mut free_layer = |layer: Layer| {
            for entry in layer.into_values().flatten() {
                detached.push(entry);
            }
        };
        let mut tables = Vec::new();
        free_layer(undo.layer);
        for (layer, upheaval) in undo.below {
            free_layer(layer);
            if let Upheaval::Cleared { db_then, table, .. } = upheaval {
                tables.push((db_then, table));
            }
        }
        for (db_then, table) in tables {
            if let Some(table) = self.capture_table(db_then, table) {
                detached.push_table(table);
            }
        }
        detached
    }

    fn take_undo(&mut self) -> Box<Undo> {
        self.rare_mut().undo.take().expect("begin_undo comes first")
    }

    fn restore_layer(&mut self, layer: Layer) {
        for (DbKey { db, key }, old) in layer {
            let hash = self.common.seed.hash(&key);
            let seed = self.common.seed;
            if let Some(spot) = self.table(db).and_then(|table| table.find(hash, &key)) {
                let changed = self.table_mut(db).remove(spot, seed);
                self.drop_if_empty(db);
                self.free(changed);
            }
            if let Some(entry) = old {
                self.insert(db, hash, entry);
            }
        }
    }
}

impl Undo {
    /// Keeps the entry of a key as it is before its first change; `old` is asked only then.
    pub(super) fn keep(&mut self, db: DbIndex, key: &[u8], old: impl FnOnce() -> Option<OwnedEntry>) {
        if !self.layer.contains_key(&DbKeyRef { db, key }) {
            self.layer.insert(DbKey { db, key: key.into() }, old());
        }
    }

    /// `db_then` is the number that the db had at the last snapshot's cut.
    pub(super) fn keep_cleared(&mut self, db: DbIndex, db_then: DbIndex, table: Table) {
        let cleared = Upheaval::Cleared { db, db_then, table };
        self.below.push((std::mem::take(&mut self.layer), cleared));
    }

    pub(super) fn keep_swap(&mut self, a: DbIndex, b: DbIndex) {
        self.below
            .push((std::mem::take(&mut self.layer), Upheaval::Swapped(a, b)));
    }

    pub(super) fn versions(&mut self) -> &mut OldVersions {
        &mut self.old_versions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::data::access::Moment;
    use crate::data::string::StringForm;
    use crate::store::{Access, Expiry, HashSeed};

    const AT: Moment = Moment::lru(UnixMs(100));

    fn slot() -> Slot {
        let mut slot = Slot::new(0, HashSeed([1, 2]));
        for n in 0..500u32 {
            let expiry = if n % 3 == 0 {
                Expiry::At(UnixMs(1000 + u64::from(n)))
            } else {
                Expiry::Clear
            };
            slot.set_string(DbIndex(n % 3), &n.to_be_bytes(), b"v", StringForm::Detect, expiry, AT);
        }
        slot
    }

    fn picture(slot: &Slot) -> Vec<(DbIndex, String)> {
        let mut entries = Vec::new();
        for db in slot.dbs() {
            slot.for_each(db, UnixMs(0), |entry| entries.push((db, format!("{entry:?}"))));
        }
        entries.sort();
        entries
    }

    #[test]
    fn a_cleared_and_exchanged_world_comes_back() {
        let mut slot = slot();
        let before = (picture(&slot), slot.expires(DbIndex(0)), slot.expiry_sum_ms(DbIndex(0)));
        slot.begin_undo();
        slot.set_int(DbIndex(0), b"new", 1, Expiry::Clear, AT);
        assert!(slot.remove(DbIndex(0), &0u32.to_be_bytes(), AT));
        slot.swap_dbs(DbIndex(0), DbIndex(1), AT);
        slot.append(DbIndex(1), &3u32.to_be_bytes(), b"tail", AT);
        assert!(
            slot.clear_db(DbIndex(1)).is_empty(),
            "what an undo needs is not given away"
        );
        slot.append(DbIndex(1), &3u32.to_be_bytes(), b"again", AT);
        slot.swap_dbs(DbIndex(1), DbIndex(9), AT);
        drop(slot.clear_all());
        slot.set_int(DbIndex(2), b"last", 1, Expiry::Clear, AT);
        slot.rollback();
        slot.check();
        assert_eq!(
            (picture(&slot), slot.expires(DbIndex(0)), slot.expiry_sum_ms(DbIndex(0))),
            before
        );
    }

    #[test]
    fn what_a_commit_frees_is_handed_out() {
        let mut slot = slot();
        slot.begin_undo();
        drop(slot.clear_all());
        slot.set_int(DbIndex(0), b"new", 1, Expiry::Clear, AT);
        let mut detached = slot.commit_undo();
        assert!(!detached.is_empty());
        let mut steps = 0;
        while !detached.free_step(10) {
            steps += 1;
        }
        assert!(steps > 3, "the tables were there, page by page");
        assert_eq!(slot.key_count(), 1);
    }

    #[test]
    fn an_expiry_within_an_undo_is_taken_back() {
        let mut slot = slot();
        let late = Moment::lru(UnixMs(10_000));
        assert!(slot.get(DbIndex(0), &0u32.to_be_bytes(), late, Access::Read).is_none());
        slot.begin_undo();
        assert!(slot.get(DbIndex(0), &3u32.to_be_bytes(), late, Access::Read).is_none());
        slot.rollback();
        assert_eq!(slot.take_told().len(), 1, "the one from before");
        assert!(slot.get(DbIndex(0), &3u32.to_be_bytes(), late, Access::Read).is_none());
        assert_eq!(slot.take_told().len(), 1, "noticed again");
    }
}
