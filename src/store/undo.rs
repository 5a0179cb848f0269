//! Undo: everything that one unit of work has changed in a slot can be taken back.
//!
//! A script may find, half way, that it needs a slot it does not hold; what it has done so far is rolled back and it
//! runs again. While an undo is open, the *first* change of each key keeps the entry as it was; a rollback puts these
//! entries back. That is a journal of states, not of operations: no command needs an inverse, and a key that changes a
//! thousand times is kept once.
//!
//! Values are changed in place. A small one is copied for the undo; a large one is frozen (`data::frozen`) and
//! stays where it is, so that keeping it costs nothing and taking it back what was changed, whatever its size. When it leaves its
//! place for good (it is deleted, overwritten, or lost its last element), it is made what it was then and there, and kept as an entry
//! like any other. When it goes on living under another name (RENAME, MOVE), its successor is a copy.
//!
//! FLUSHDB and SWAPDB change all keys at once and are kept as what they are: a table put aside, two dbs exchanged. Each of
//! them begins a new *layer* of kept entries, because the same name may mean another entry after it; a rollback takes the
//! layers back from the youngest to the oldest.
//!
//! Restored exactly: values, expiries, access clocks of changed keys, counts, watch versions, and what the
//! slot has told (an expiry that happened in between is taken back with the rest and will be noticed again).

#[cfg(test)]
mod tests;

use hashbrown::HashMap;

use super::detached::Detached;
use super::entry::{EntryRef, OwnedEntry};
use super::slot::{DbIndex, Slot};
use super::table::Table;
use super::watch::{DbKey, DbKeyRef, OldVersions};
use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;
use crate::data::frozen::{Spent, Use};

/// What an open undo keeps.
#[derive(Default)]
pub(super) struct Undo {
    layer: Layer,
    below: Vec<(Layer, Upheaval)>,
    old_versions: OldVersions,
    told_count: usize,
}

/// Entries as they were before their first change in this layer.
type Layer = HashMap<DbKey, Kept>;

/// An entry as it was.
pub(super) enum Kept {
    /// There was none.
    Nothing,
    /// This one.
    Entry(OwnedEntry),
    /// The one that is there, with the value that it was frozen as. (In a layer above the one in which it was frozen, that is older
    /// than the layer; but a rollback takes back both.)
    InPlace { expiry: Option<UnixMs>, access_clock: u32 },
}

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
        let mut tables = Vec::new();
        let mut gone: Vec<OwnedEntry> = Vec::new();
        // What was frozen and is still there, by where it was in each layer: whatever has moved since then is followed.
        let mut frozen: Vec<DbKey> = Vec::new();
        let mut end_layer = |layer: Layer, frozen: &mut Vec<DbKey>| {
            for (place, kept) in layer {
                match kept {
                    Kept::Nothing => {}
                    Kept::Entry(entry) => gone.push(entry),
                    Kept::InPlace { .. } => frozen.push(place),
                }
            }
        };
        for (layer, upheaval) in undo.below {
            end_layer(layer, &mut frozen);
            match upheaval {
                Upheaval::Cleared { db, db_then, table } => {
                    tables.push((db_then, table));
                    frozen.retain(|place| place.db != db);
                }
                Upheaval::Swapped(a, b) => {
                    for place in &mut frozen {
                        place.db = match place.db {
                            db if db == a => b,
                            db if db == b => a,
                            db => db,
                        };
                    }
                }
            }
        }
        end_layer(undo.layer, &mut frozen);
        for DbKey { db, key } in frozen {
            if let Some(spent) = self.thaw_undo(db, &key) {
                detached.push_spent(spent);
                self.count_frozen(db, &key);
            }
        }
        for entry in gone {
            if let Some(entry) = self.keep_frozen(entry) {
                detached.push(entry);
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
            if let Kept::InPlace { expiry, access_clock } = old {
                let spot = self.table(db).and_then(|table| table.find(hash, &key));
                let spot = spot.expect("a frozen value that leaves its place is kept as an entry");
                self.table_mut(db)
                    .edit(spot, |entry| entry.roll_back(expiry, access_clock, seed));
                self.count_frozen(db, &key);
                continue;
            }
            if let Some(spot) = self.table(db).and_then(|table| table.find(hash, &key)) {
                let changed = self.table_mut(db).remove(spot, seed);
                self.drop_if_empty(db);
                self.free(changed);
            }
            if let Kept::Entry(entry) = old {
                self.insert(db, hash, entry);
            }
        }
    }

    /// Keeps the entry of a key as it is, if nothing is kept of it in this layer: it is about to change in its place.
    #[cold]
    pub(super) fn keep_in_place(&mut self, undo: &mut Undo, db: DbIndex, hash: u64, key: &[u8]) {
        if undo.has(db, key) {
            return;
        }
        let kept = match self.table(db).and_then(|table| table.find(hash, key)) {
            None => Kept::Nothing,
            Some(spot) => {
                let table = self.table_mut(db);
                let entry = table.entry(spot);
                let is_frozen = entry.is_frozen(Use::Undo);
                if is_frozen || entry.freezes() {
                    let kept = Kept::in_place(entry);
                    if !is_frozen {
                        table.edit(spot, |entry| entry.freeze(Use::Undo));
                    }
                    kept
                } else {
                    Kept::Entry(entry.to_owned())
                }
            }
        };
        undo.keep(db, key, || kept);
    }

    /// Keeps an entry that has left its table for good, unless one is kept that was there before it. What is to be freed comes back.
    #[must_use = "it may take long to free"]
    pub(super) fn keep_gone(&mut self, db: DbIndex, mut entry: OwnedEntry) -> Option<OwnedEntry> {
        let seed = self.common.seed;
        let Some(undo) = self.open_undo() else {
            return Some(entry);
        };
        if !undo.keeps_gone(db, entry.as_ref()) {
            return Some(entry);
        }
        let key: Box<[u8]> = entry.as_ref().key().into();
        if entry.as_ref().is_frozen(Use::Undo) {
            let (expiry, access_clock) = match undo.layer.remove(&DbKeyRef { db, key: &key }) {
                Some(Kept::InPlace { expiry, access_clock }) => (expiry, access_clock),
                None => (entry.as_ref().expiry(), entry.as_ref().access_clock()),
                Some(_) => unreachable!("what was kept otherwise was not frozen, and what came in its place is not"),
            };
            entry.roll_back(expiry, access_clock, seed);
        }
        undo.keep(db, &key, || Kept::Entry(entry));
        None
    }

    fn thaw_undo(&mut self, db: DbIndex, key: &[u8]) -> Option<Spent> {
        let hash = self.common.seed.hash(key);
        let spot = self.table(db)?.find(hash, key)?;
        let table = self.table_mut(db);
        // Nothing that a table counts changes.
        table
            .entry(spot)
            .is_frozen(Use::Undo)
            .then(|| table.edit(spot, |entry| entry.lend(|value| value.thaw(Use::Undo))))
    }
}

impl Kept {
    fn in_place(entry: EntryRef<'_>) -> Kept {
        Kept::InPlace {
            expiry: entry.expiry(),
            access_clock: entry.access_clock(),
        }
    }
}

impl Undo {
    /// Whether an entry that leaves its table is kept, or what it was.
    pub(super) fn keeps_gone(&self, db: DbIndex, entry: EntryRef<'_>) -> bool {
        entry.is_frozen(Use::Undo) || !self.has(db, entry.key())
    }

    fn has(&self, db: DbIndex, key: &[u8]) -> bool {
        self.layer.contains_key(&DbKeyRef { db, key })
    }

    /// Keeps the entry of a key as it is before its first change; `old` is asked only then.
    pub(super) fn keep(&mut self, db: DbIndex, key: &[u8], old: impl FnOnce() -> Kept) {
        if !self.has(db, key) {
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

impl OwnedEntry {
    /// Takes back what has changed since its value was frozen for an undo, unless that has been done already; expiry and clock are put
    /// back in any case.
    fn roll_back(&mut self, expiry: Option<UnixMs>, access_clock: u32, seed: HashSeed) {
        if self.as_ref().is_frozen(Use::Undo) {
            self.lend(|value| value.roll_back(seed));
        }
        if self.as_ref().expiry() != expiry {
            self.set_expiry(expiry);
        }
        self.set_access_clock(access_clock);
    }
}
