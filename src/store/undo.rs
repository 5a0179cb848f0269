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
//! like any other. When it goes on living under another name, perhaps in another slot (RENAME, MOVE), it moves with its past, and a *hole* is all
//! that is kept of it; what leaves its place for good after that is *loose*. So a rollback goes over the slots of a unit of work twice
//! ([`MovedBack`]): first each takes back its layers, and gives up what is there from elsewhere; then the holes are filled.
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

use super::cut::Taken;
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
    /// Values from elsewhere that have left their place for good.
    loose: Vec<OwnedEntry>,
    /// A value has come from elsewhere that is frozen for an undo.
    has_come: bool,
}

/// Entries as they were before their first change in this layer.
type Layer = HashMap<DbKey, Kept>;

/// An entry as it was.
pub(super) enum Kept {
    /// There was none.
    Nothing,
    /// This one.
    Entry(OwnedEntry),
    /// The one that is there, with the value that it was frozen as.
    InPlace(Mark),
    /// The one that is there. It was frozen before this layer began, and an older one says what becomes of its value.
    InPlaceBefore(Mark),
    /// One whose value is somewhere else now.
    Hole(Hole),
}

/// What an entry was beside its value.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    expiry: Option<UnixMs>,
    access_clock: u32,
}

/// An entry whose value has moved on.
#[derive(Clone, Copy)]
pub(super) struct Hole {
    /// Of the value, which is frozen for the undo.
    address: usize,
    mark: Mark,
}

/// What has moved between the slots of a unit of work that is being taken back. It is complete when all of them have taken back their
/// changes ([`Slot::roll_back_into`]), and then they are filled, one by one ([`Slot::fill_from`]).
#[derive(Default)]
pub struct MovedBack {
    /// By the addresses of the values.
    values: HashMap<usize, Taken>,
    holes: Vec<(u16, DbKey, Hole)>,
    /// The slots that have given up a value.
    given: Vec<(u16, usize)>,
}

impl MovedBack {
    /// Whether nothing has moved, and no slot has to be filled.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.holes.is_empty()
    }

    /// What has come into being since and has moved: nobody wants it.
    #[must_use = "may be large: free it in steps"]
    pub fn into_detached(self) -> Detached {
        let mut detached = Detached::default();
        self.values
            .into_values()
            .for_each(|taken| detached.push(taken.into_entry()));
        detached
    }
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

    /// Takes back all changes since `begin_undo`, of a unit of work that had no other slots.
    pub fn rollback(&mut self) {
        let mut moved = MovedBack::default();
        self.roll_back_into(&mut moved);
        self.fill_from(&mut moved);
        let discarded = moved.into_detached();
        if !discarded.is_empty() {
            self.discard_later(discarded);
        }
    }

    /// Takes back all changes since `begin_undo`, but for values that have moved: what has come from elsewhere is given up, and
    /// [`Slot::fill_from`] follows when all slots of the unit have done so.
    pub fn roll_back_into(&mut self, moved: &mut MovedBack) {
        let mut undo = self.take_undo();
        for entry in undo.loose {
            self.give_up(entry, moved);
        }
        let mut holes = HashMap::new();
        self.restore_layer(undo.layer, &mut holes, moved);
        while let Some((layer, upheaval)) = undo.below.pop() {
            match upheaval {
                Upheaval::Cleared { db, table, .. } => {
                    debug_assert!(
                        holes.keys().all(|place: &DbKey| place.db != db),
                        "nothing was there that could leave a hole"
                    );
                    self.put_table(db, table);
                }
                Upheaval::Swapped(a, b) => {
                    self.exchange_tables(a, b);
                    let exchanged = holes.into_iter().map(|(mut place, hole)| {
                        place.exchange(a, b);
                        (place, hole)
                    });
                    holes = exchanged.collect();
                }
            }
            self.restore_layer(layer, &mut holes, moved);
        }
        let index = self.index();
        moved
            .holes
            .extend(holes.into_iter().map(|(place, hole)| (index, place, hole)));
        let rare = self.rare_mut();
        if let Some(watches) = &mut rare.watches {
            watches.restore(undo.old_versions);
        }
        let told_since = rare.told.split_off(undo.told_count.min(rare.told.len()));
        self.drop_if_not_rare();
        self.take_told_back(told_since);
    }

    /// Puts the values back that have moved away from here.
    pub fn fill_from(&mut self, moved: &mut MovedBack) {
        let (index, seed) = (self.index(), self.common.seed);
        let MovedBack { values, holes, given } = moved;
        for (_, address) in given.iter().filter(|(slot, _)| *slot == index) {
            let to = holes.iter().find(|(_, _, hole)| hole.address == *address);
            if let Some((to, ..)) = to.filter(|(to, ..)| *to != index) {
                self.set_forward(*to);
            }
        }
        for (_, DbKey { db, key }, hole) in holes.iter().filter(|(slot, ..)| *slot == index) {
            let taken = values.remove(&hole.address);
            let taken = taken.expect("a value that has moved is given up by the slot that has it");
            let (entry, word) = taken.into_parts();
            let mut entry = entry.with_key(key);
            entry.roll_back(hole.mark, seed);
            self.insert(*db, seed.hash(key), entry);
            if let Some(word) = word {
                self.put_word(*db, key, *word);
            }
            self.count_frozen(*db, key);
        }
    }

    /// Gives up an entry that is in no table any more: its value may belong elsewhere.
    fn give_up(&mut self, entry: OwnedEntry, moved: &mut MovedBack) {
        if !entry.as_ref().is_frozen(Use::Undo) {
            return self.free(entry);
        }
        let address = entry.as_ref().value_address();
        let taken = self.with_word(entry);
        if taken.is_begun() {
            moved.given.push((self.index(), address));
        }
        moved.values.insert(address, taken);
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
        let has_come = undo.has_come;
        let mut end_layer = |layer: Layer, frozen: &mut Vec<DbKey>| {
            for (place, kept) in layer {
                match kept {
                    Kept::Entry(entry) => gone.push(entry),
                    Kept::InPlace(_) => {
                        frozen.push(place);
                        continue;
                    }
                    Kept::Nothing | Kept::InPlaceBefore(_) | Kept::Hole(_) => {}
                }
                // What has come from elsewhere stands where something was kept.
                if has_come {
                    frozen.push(place);
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
                    frozen.iter_mut().for_each(|place| place.exchange(a, b));
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
        for mut entry in gone.into_iter().chain(undo.loose) {
            if entry.as_ref().is_frozen(Use::Undo) {
                detached.push_spent(entry.lend(|value| value.thaw(Use::Undo)));
            }
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

    fn restore_layer(&mut self, layer: Layer, holes: &mut HashMap<DbKey, Hole>, moved: &mut MovedBack) {
        for (place, old) in layer {
            let DbKey { db, key } = &place;
            let (db, seed) = (*db, self.common.seed);
            let hash = seed.hash(key);
            let spot = self.table(db).and_then(|table| table.find(hash, key));
            if let Kept::InPlace(mark) | Kept::InPlaceBefore(mark) = old {
                // It has moved in a younger layer.
                if let Some(hole) = holes.get_mut(&place) {
                    hole.mark = mark;
                    continue;
                }
                let spot = spot.expect("a frozen value that leaves its place is kept as an entry, or leaves a hole");
                self.table_mut(db).edit(spot, |entry| match old {
                    Kept::InPlace(_) => entry.roll_back(mark, seed),
                    _ => entry.set_mark(mark),
                });
                self.count_frozen(db, key);
                continue;
            }
            holes.remove(&place);
            if let Some(spot) = spot {
                let changed = self.table_mut(db).remove(spot, seed);
                self.drop_if_empty(db);
                self.give_up(changed, moved);
            }
            match old {
                Kept::Entry(entry) => drop(self.insert(db, hash, entry)),
                Kept::Hole(hole) => drop(holes.insert(place, hole)),
                _ => {}
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
                if is_frozen {
                    Kept::InPlaceBefore(Mark::of(entry))
                } else if entry.freezes() {
                    let mark = Mark::of(entry);
                    table.edit(spot, |entry| entry.freeze(Use::Undo));
                    Kept::InPlace(mark)
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
            match undo.layer.get(&DbKeyRef { db, key: &key }) {
                Some(Kept::InPlace(mark)) => {
                    entry.roll_back(*mark, seed);
                    undo.layer.remove(&DbKeyRef { db, key: &key });
                }
                // What becomes of its value an older layer says.
                Some(Kept::InPlaceBefore(mark)) => {
                    entry.set_mark(*mark);
                    undo.layer.remove(&DbKeyRef { db, key: &key });
                }
                None => {}
                Some(Kept::Nothing | Kept::Entry(_) | Kept::Hole(_)) => {
                    undo.loose.push(entry);
                    return None;
                }
            }
        }
        undo.keep(db, &key, || Kept::Entry(entry));
        None
    }

    /// Keeps what must be known of an entry that has left its table and goes on living elsewhere, with its value: that is frozen for
    /// the undo, if what it is now may be needed. False: it is no value that is frozen, and is to be kept in another way.
    pub(super) fn keep_hole(&mut self, db: DbIndex, entry: &mut OwnedEntry) -> bool {
        let Some(undo) = self.open_undo() else { return true };
        let key: Box<[u8]> = entry.as_ref().key().into();
        let mut mark = Mark::of(entry.as_ref());
        match undo.layer.get(&DbKeyRef { db, key: &key }) {
            None if !entry.as_ref().is_frozen(Use::Undo) => {
                if !entry.as_ref().freezes() {
                    return false;
                }
                entry.freeze(Use::Undo);
            }
            None => {}
            Some(Kept::InPlace(was) | Kept::InPlaceBefore(was)) => mark = *was,
            // It has come into being here, or from elsewhere.
            Some(Kept::Nothing | Kept::Entry(_) | Kept::Hole(_)) => return true,
        }
        let address = entry.as_ref().value_address();
        undo.layer.insert(DbKey { db, key }, Kept::Hole(Hole { address, mark }));
        true
    }

    /// A value has come from elsewhere: if it is frozen for the undo, that must be thawed here.
    pub(super) fn note_come(&mut self, entry: &OwnedEntry) {
        if entry.as_ref().is_frozen(Use::Undo) {
            let undo = self.open_undo();
            undo.expect("all slots of a unit of work have an undo, or none")
                .has_come = true;
        }
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

impl Mark {
    fn of(entry: EntryRef<'_>) -> Mark {
        Mark {
            expiry: entry.expiry(),
            access_clock: entry.access_clock(),
        }
    }
}

impl DbKey {
    /// Two dbs have been exchanged.
    fn exchange(&mut self, a: DbIndex, b: DbIndex) {
        self.db = match self.db {
            db if db == a => b,
            db if db == b => a,
            db => db,
        };
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
    fn roll_back(&mut self, mark: Mark, seed: HashSeed) {
        if self.as_ref().is_frozen(Use::Undo) {
            self.lend(|value| value.roll_back(seed));
        }
        self.set_mark(mark);
    }

    fn set_mark(&mut self, Mark { expiry, access_clock }: Mark) {
        if self.as_ref().expiry() != expiry {
            self.set_expiry(expiry);
        }
        self.set_access_clock(access_clock);
    }
}
