//! One hash slot: all that is stored under the keys of this slot, in every db.
//!
//! Whatever changes a key goes through the few functions of this file, so that what must follow a change cannot be
//! forgotten: the versions that WATCH compares, the old entry that an undo needs, the counts and the memory account of the
//! table, the bound of the next expiry. There is no way to get at a table or an entry for writing from outside.
//!
//! Expiry is seen by nobody: every lookup is given the time, and an entry whose time is over is deleted then and there
//! and told (`take_told`), so that the caller can log the deletion and count it. While nothing may expire
//! (`Moment::keeps_stale`) it stays, as invisible as before, until a new value takes its place. What was removed or
//! overwritten and takes long to free is handed out in the same way (`take_discarded`).
//!
//! A shard has thousands of slots whether they have keys or not, so what few slots have lies in a box of its own ([`Rare`]).
//!
//! Invariants:
//! 1. `others` has no db 0, and no db without keys.
//! 2. A [`Spot`] is used only until the table changes next.
//! 3. `note_change` (or `cut`, which removes) comes before every change that a client asked for, and does not itself
//!    change a table. (`edit` in `object` does it in two parts, as it learns afterwards whether there was a change.)
//! 4. Before an entry is inserted, `make_way` has removed one of that key that may be hidden.
//! 5. Nothing here frees a value that takes long to free: that goes to `discarded`.
//! 6. Between two calls there is a `rare` only while something is in it.

use bytes::Bytes;

use super::cut::{Cut, SlotCut};
use super::detached::Detached;
use super::entry::{EntryRef, OwnedEntry};
use super::object::Edited;
use super::occupancy::Occupancy;
use super::table::{Table, TableStats};
use super::tables::find_table;
use super::told::{Attention, Happening, Told};
use super::track::Tracked;
use super::undo::Undo;
use super::value::{INLINE_BYTES_MAX, NewValue};
use super::wait::Waiters;
use super::watch::{OldVersions, Watches};
use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;
use crate::base::size_class::allocated;
use crate::data::access::Moment;
use crate::data::dict::Spot;
use crate::data::dict::{Foresight, prefetch};
use crate::data::string::{LongString, StringEdit, StringForm};
use crate::data::{ObjectRef, ValueType};
use std::sync::Arc;

/// Number of a database (SELECT).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DbIndex(pub u32);

/// Whether looking at an entry counts as using it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It does: the access clock is updated.
    Read,
    /// It does not (OBJECT, TTL, TYPE, a client with NO-TOUCH).
    Peek,
}

/// What becomes of the expiry when a value is overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// What was there stays (KEEPTTL, INCR); a new key gets none.
    Keep,
    /// None from now on.
    Clear,
    /// This one from now on.
    At(UnixMs),
}

/// One hash slot with all its dbs.
pub struct Slot {
    /// Db 0, which is nearly always the only one.
    pub(super) main: Table,
    pub(super) rare: Option<Box<Rare>>,
    pub(super) common: Arc<SlotCommon>,
    /// State of the small generator that the LFU counters draw from.
    random: u32,
    index: u16,
    /// The side of the last cut that this slot has met (`cut`).
    pub(super) side: u8,
    /// Whether it may have entries of the other side.
    pub(super) is_unsaved: bool,
}

/// What few slots have, or none for long.
#[derive(Default)]
pub(super) struct Rare {
    /// In ascending order, exactly as long as it must be: a node of a BTreeMap takes 1.5 KB if it has a single db.
    pub(super) others: Vec<(DbIndex, Table)>,
    pub(super) watches: Option<Box<Watches>>,
    pub(super) waiters: Option<Box<Waiters>>,
    pub(super) tracked: Option<Box<Tracked>>,
    pub(super) undo: Option<Box<Undo>>,
    pub(super) told: Vec<Told>,
    pub(super) cut: Option<Box<SlotCut>>,
    /// Invariant 5.
    discarded: Option<Box<Detached>>,
}

/// What all slots of a shard have in common. Apart from them, so that a slot is one line of the cache.
#[derive(Debug)]
pub struct SlotCommon {
    /// The secret of the process.
    pub seed: HashSeed,
    /// Where it is said that keys have come. None: nobody asks.
    pub occupancy: Option<Arc<Occupancy>>,
    /// Who wants to be told more than that keys have expired.
    pub attention: Arc<Attention>,
    /// The moment of the last snapshot.
    pub cut: Arc<Cut>,
}

impl Slot {
    /// An empty slot that shares nothing with others. `index` is its number among the 16384, `seed` the secret of the process.
    pub fn new(index: u16, seed: HashSeed) -> Slot {
        let common = SlotCommon {
            seed,
            occupancy: None,
            attention: Arc::default(),
            cut: Arc::default(),
        };
        Slot::sharing(index, Arc::new(common))
    }

    /// An empty slot, one of many.
    pub fn sharing(index: u16, common: Arc<SlotCommon>) -> Slot {
        Slot {
            main: Table::new(),
            rare: None,
            random: (common.seed.hash(&index.to_le_bytes()) as u32) | 1,
            side: common.cut.side(),
            is_unsaved: false,
            common,
            index,
        }
    }

    /// Its number among the 16384.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Asks for the memory of the slot itself, to be called before it is looked at.
    #[inline]
    pub fn foresee(&self) {
        for line in 0..size_of::<Slot>().div_ceil(64) {
            prefetch(std::ptr::from_ref(self).cast::<u8>().wrapping_add(line * 64));
        }
    }

    /// Asks for the memory that a lookup in this db will read (`Dict::foresee`), for the key whose hash is [`Slot::hash`].
    #[inline]
    pub fn foresee_key(&self, db: DbIndex, hash: u64, stage: Foresight) {
        if let Some(table) = self.table(db) {
            table.foresee(hash, stage);
        }
    }

    /// The value that is not a string under a key of this hash, or of one much like it: for foresight, which may be wrong.
    #[inline]
    pub fn guess_object(&self, db: DbIndex, hash: u64) -> Option<ObjectRef<'_>> {
        self.table(db)?.guess(hash)?.object()
    }

    /// The hash of a key.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.common.seed.hash(key)
    }

    /// The entry of a key. One whose time is over is deleted and not returned.
    #[inline]
    pub fn get(&mut self, db: DbIndex, key: &[u8], at: Moment, access: Access) -> Option<EntryRef<'_>> {
        let spot = self.find_live(db, self.common.seed.hash(key), key, at)?;
        if access == Access::Read {
            self.touch(db, spot, at);
        }
        Some(self.table(db)?.entry(spot))
    }

    /// As `get` with `Peek`, for when several entries are needed at once: one whose time is over is hidden, not deleted.
    #[inline]
    pub fn peek(&self, db: DbIndex, key: &[u8], now: UnixMs) -> Option<EntryRef<'_>> {
        let table = self.table(db)?;
        let entry = table.entry(table.find(self.common.seed.hash(key), key)?);
        (!entry.is_expired(now)).then_some(entry)
    }

    /// Stores a string, over a value of any type.
    pub fn set_string(&mut self, db: DbIndex, key: &[u8], value: &[u8], form: StringForm, expiry: Expiry, at: Moment) {
        self.store(db, key, NewValue::string(value, form), expiry, at);
    }

    /// As `set_string`, with a value that is already in a buffer of its own: a long one is kept as it is, not copied.
    pub fn set_shared(&mut self, db: DbIndex, key: &[u8], value: Bytes, form: StringForm, expiry: Expiry, at: Moment) {
        let value = if value.len() > INLINE_BYTES_MAX {
            NewValue::Large(LongString::adopt(value))
        } else {
            NewValue::string(&value, form)
        };
        self.store(db, key, value, expiry, at);
    }

    /// Stores an integer, over a value of any type.
    pub fn set_int(&mut self, db: DbIndex, key: &[u8], value: i64, expiry: Expiry, at: Moment) {
        self.store(db, key, NewValue::Int(value), expiry, at);
    }

    /// Stores the integer that `next` makes of the entry (None: there is none), and keeps its expiry; one search for both
    /// (INCR). An error of `next` changes nothing.
    pub fn change_int<E>(
        &mut self,
        db: DbIndex,
        key: &[u8],
        at: Moment,
        next: impl FnOnce(Option<EntryRef<'_>>) -> Result<i64, E>,
    ) -> Result<i64, E> {
        let hash = self.common.seed.hash(key);
        let Some(spot) = self.find_live(db, hash, key, at) else {
            let value = next(None)?;
            self.make_way(db, hash, key, at);
            self.note_change(db, hash, key);
            self.insert(
                db,
                hash,
                OwnedEntry::build(key, NewValue::Int(value), None, at.new_clock()),
            );
            self.tell(db, key, Happening::Created(ValueType::String));
            return Ok(value);
        };
        let value = next(self.table(db).map(|table| table.entry(spot)))?;
        self.change(db, spot, key, at, |entry| {
            let expiry = entry.as_ref().expiry();
            entry.store(NewValue::Int(value), expiry);
        });
        Ok(value)
    }

    /// Appends to a string and returns its new length; a missing key is created as SET would. The caller has checked type
    /// and length. The cost is that of `tail`, not of the string, if nobody holds the string's bytes.
    pub fn append(&mut self, db: DbIndex, key: &[u8], tail: &[u8], at: Moment) -> usize {
        match self.find_live(db, self.common.seed.hash(key), key, at) {
            Some(spot) => self.change(db, spot, key, at, |entry| entry.append(tail)),
            None => {
                self.store(db, key, NewValue::string(tail, StringForm::Detect), Expiry::Clear, at);
                tail.len()
            }
        }
    }

    /// Writes into a string in place (SETRANGE, SETBIT, BITFIELD): it is made at least `len_min` long with zero bytes, is
    /// `raw` from then on, and `edit` gets its bytes and says whether the value is another one now, as watchers see it. A
    /// missing key is created, even with no bytes. The caller has checked type and length. What a frozen string keeps is what
    /// `edit` asks for to be written.
    pub fn edit_string<R>(
        &mut self,
        db: DbIndex,
        key: &[u8],
        len_min: usize,
        at: Moment,
        edit: impl FnOnce(&mut StringEdit<'_>) -> Edited<R>,
    ) -> R {
        let hash = self.common.seed.hash(key);
        let spot = match self.find_live(db, hash, key, at) {
            Some(spot) => {
                self.keep_for_undo(db, hash, key);
                spot
            }
            None => {
                let empty = OwnedEntry::string(key, b"", StringForm::Raw, None, at.new_clock());
                self.make_way(db, hash, key, at);
                self.note_change(db, hash, key);
                let spot = self.insert(db, hash, empty);
                self.tell(db, key, Happening::Created(ValueType::String));
                spot
            }
        };
        self.touch(db, spot, at);
        let (has_changed, result) = self
            .table_mut(db)
            .edit(spot, |entry| entry.edit_bytes(len_min, edit))
            .into_parts();
        self.count_frozen(db, key);
        if has_changed {
            self.touch_watches(db, key);
        }
        result
    }

    /// `edit_string` that writes `part` at `offset`; returns the new length.
    pub fn set_range(&mut self, db: DbIndex, key: &[u8], offset: usize, part: &[u8], at: Moment) -> usize {
        self.edit_string(db, key, offset + part.len(), at, |bytes| {
            bytes.write(offset..offset + part.len()).copy_from_slice(part);
            Edited::Changed(bytes.len())
        })
    }

    /// Deletes a key; false if there was none.
    pub fn remove(&mut self, db: DbIndex, key: &[u8], at: Moment) -> bool {
        match self.find_live(db, self.common.seed.hash(key), key, at) {
            Some(spot) => {
                self.discard(db, spot);
                self.tell(db, key, Happening::Removed);
                true
            }
            None => false,
        }
    }

    /// Deletes a key and hands its entry out: for UNLINK of a long string. (RENAME and MOVE: [`Slot::take_for`].)
    pub fn take(&mut self, db: DbIndex, key: &[u8], at: Moment) -> Option<OwnedEntry> {
        let entry = self.take_whole(db, key, at, |_, _| false)?;
        Some(self.part_from_cut(entry))
    }

    /// The same with what it is at a snapshot's cut. `may_move`: whether the value itself may live on elsewhere, given the entry in its
    /// place.
    pub(super) fn take_whole(
        &mut self,
        db: DbIndex,
        key: &[u8],
        at: Moment,
        may_move: impl FnOnce(&Slot, EntryRef<'_>) -> bool,
    ) -> Option<OwnedEntry> {
        let spot = self.find_live(db, self.common.seed.hash(key), key, at)?;
        self.note_going(db, spot.hash(), key);
        let moves = self.is_undo_open() && may_move(self, self.table(db)?.entry(spot));
        let mut entry = self.cut(db, spot);
        if moves && self.keep_hole(db, &mut entry) {
            self.tell(db, key, Happening::Removed);
            return Some(entry);
        }
        if self.open_undo().is_some_and(|undo| undo.keeps_gone(db, entry.as_ref())) {
            // What lives on is a copy of what is small, or of what must stay here for a snapshot.
            let copy = entry.clone();
            let kept = self.keep_gone(db, std::mem::replace(&mut entry, copy));
            debug_assert!(kept.is_none(), "it was asked just now");
        }
        self.tell(db, key, Happening::Removed);
        Some(entry)
    }

    /// Stores value, expiry and access clock of `entry` under `key`. What is there goes first, so it is told that the key has come
    /// in any case.
    pub fn put(&mut self, db: DbIndex, key: &[u8], entry: OwnedEntry, at: Moment) {
        let hash = self.common.seed.hash(key);
        let entry = entry.with_key(key);
        let kind = entry.as_ref().type_of();
        match self.find_live(db, hash, key, at) {
            Some(spot) => {
                self.tell_overwritten(db, spot, key);
                if self.heavy_at(db, spot).is_some() {
                    self.discard(db, spot);
                    self.insert(db, hash, entry);
                } else {
                    self.note_change(db, hash, key);
                    let side = self.side;
                    self.table_mut(db).edit(spot, |place| {
                        *place = entry;
                        place.set_side(side);
                    });
                }
            }
            None => {
                self.make_way(db, hash, key, at);
                self.note_change(db, hash, key);
                self.insert(db, hash, entry);
            }
        }
        self.tell(db, key, Happening::Created(kind));
    }

    /// The entry, if what overwrites it must take it out instead.
    #[inline]
    fn heavy_at(&self, db: DbIndex, spot: Spot) -> Option<EntryRef<'_>> {
        let entry = self.table(db)?.entry(spot);
        entry.must_leave().then_some(entry)
    }

    /// Sets, changes or removes the expiry; false if there is no such key.
    pub fn set_expiry(&mut self, db: DbIndex, key: &[u8], expiry: Option<UnixMs>, at: Moment) -> bool {
        let hash = self.common.seed.hash(key);
        let Some(spot) = self.find_live(db, hash, key, at) else {
            return false;
        };
        self.note_change(db, hash, key);
        self.table_mut(db).edit(spot, |entry| entry.set_expiry(expiry));
        true
    }

    /// Sets the access clock of a key (RESTORE IDLETIME and FREQ); no change as watchers see it. False if there is none.
    pub fn set_access_clock(&mut self, db: DbIndex, key: &[u8], clock: u32, at: Moment) -> bool {
        let Some(spot) = self.find_live(db, self.common.seed.hash(key), key, at) else {
            return false;
        };
        self.table_mut(db).set_access_clock(spot, clock);
        true
    }

    /// Keys in a db. Those whose time is over count until they are noticed, as in DBSIZE.
    pub fn len(&self, db: DbIndex) -> usize {
        self.table(db).map_or(0, Table::len)
    }

    /// Keys in all dbs.
    pub fn key_count(&self) -> usize {
        self.tables().map(|(_, table)| table.len()).sum()
    }

    /// Whether there is no key in any db.
    pub fn is_empty(&self) -> bool {
        self.key_count() == 0
    }

    /// Keys with an expiry in a db.
    pub fn expires(&self, db: DbIndex) -> usize {
        self.table(db).map_or(0, Table::volatile_count)
    }

    /// Sum of all expiries in a db, each in Unix milliseconds: with `expires` the caller forms averages over slots.
    pub fn expiry_sum_ms(&self, db: DbIndex) -> u128 {
        self.table(db).map_or(0, Table::expiry_sum_ms)
    }

    /// Dbs that have keys, in ascending order.
    pub fn dbs(&self) -> impl Iterator<Item = DbIndex> + '_ {
        self.tables().map(|(db, _)| db)
    }

    /// Bytes taken from the allocator for entries and tables.
    pub fn used_bytes(&self) -> usize {
        let others = self.rare().filter(|rare| !rare.others.is_empty()).map_or(0, |rare| {
            allocated(size_of::<Rare>()) + allocated(rare.others.capacity() * size_of::<(DbIndex, Table)>())
        });
        self.tables().map(|(_, table)| table.allocated_bytes()).sum::<usize>() + others
    }

    /// What the books of expiry take of a db, in bytes for each of the keys that they are kept for.
    pub fn expiry_bytes_each(&self, db: DbIndex) -> usize {
        self.table(db).map_or(0, Table::expiry_bytes_each)
    }

    /// How the table of a db is filled.
    pub fn table_stats(&self, db: DbIndex) -> TableStats {
        self.table(db).map(Table::stats).unwrap_or_default()
    }

    /// Every live entry of a db, in the order of SCAN. What is expired is hidden.
    pub fn for_each<'a>(&'a self, db: DbIndex, now: UnixMs, visit: impl FnMut(EntryRef<'a>)) {
        if let Some(table) = self.table(db) {
            table
                .pages()
                .flat_map(|view| view.elements())
                .filter(|entry| !entry.is_expired(now))
                .for_each(visit);
        }
    }

    /// Deletes all keys of a db.
    #[must_use = "may be large: free it in steps"]
    pub fn clear_db(&mut self, db: DbIndex) -> Detached {
        let mut detached = Detached::default();
        if self.concerns_cut() {
            self.meet_cut();
        }
        let db_then = self.db_then(db);
        let Some(table) = self.take_table(db) else {
            return detached;
        };
        let seed = self.common.seed;
        if let Some((watches, old_versions)) = self.watchers() {
            watches.touch_where(old_versions, |other, key| {
                other == db && table.find(seed.hash(key), key).is_some()
            });
        }
        match self.open_undo() {
            Some(undo) => undo.keep_cleared(db, db_then, table),
            None => {
                if let Some(table) = self.capture_table(db_then, table) {
                    detached.push_table(table);
                }
            }
        }
        self.tell(db, b"", Happening::Flushed);
        detached
    }

    /// Deletes all keys of all dbs.
    #[must_use = "may be large: free it in steps"]
    pub fn clear_all(&mut self) -> Detached {
        let mut all = Detached::default();
        for db in self.dbs().collect::<Vec<_>>() {
            all.absorb(self.clear_db(db));
        }
        all
    }

    /// Exchanges two dbs. The keys that exist in either of them count as changed in both. One that is watched in either and is over is
    /// deleted first: as at WATCH, its coming and its end are no changes.
    pub fn swap_dbs(&mut self, a: DbIndex, b: DbIndex, at: Moment) {
        if a == b {
            return;
        }
        let watches = self.rare().and_then(|rare| rare.watches.as_ref());
        let watched = watches.map_or_else(Vec::new, |watches| watches.keys_in(&[a, b]));
        for key in watched {
            let hash = self.common.seed.hash(&key);
            self.find_live(a, hash, &key, at);
            self.find_live(b, hash, &key, at);
        }
        if let Some(rare) = self.rare.as_deref_mut() {
            let Rare {
                others, watches, undo, ..
            } = rare;
            let exists = |db, key: &[u8]| {
                let table = match db {
                    DbIndex(0) => Some(&self.main),
                    _ => find_table(others, db),
                };
                table.is_some_and(|table| table.find(self.common.seed.hash(key), key).is_some())
            };
            if let Some(watches) = watches {
                watches.touch_where(undo.as_deref_mut().map(Undo::versions), |db, key| {
                    (db == a || db == b) && (exists(a, key) || exists(b, key))
                });
            }
        }
        self.exchange_tables(a, b);
        if let Some(undo) = self.open_undo() {
            undo.keep_swap(a, b);
        }
        self.tell(a, b"", Happening::Swapped(b));
    }

    /// Whether anything has happened since [`Slot::take_told`] was called last.
    pub fn has_told(&self) -> bool {
        self.rare().is_some_and(|rare| !rare.told.is_empty())
    }

    /// Whether there may be something for [`Slot::take_told`] or [`Slot::take_discarded`].
    #[inline]
    pub fn has_leavings(&self) -> bool {
        self.rare.is_some()
    }

    /// What was removed or overwritten since the last call and takes long to free.
    #[inline]
    pub fn take_discarded(&mut self) -> Option<Box<Detached>> {
        let discarded = self.rare.as_mut()?.discarded.take();
        self.drop_if_not_rare();
        discarded
    }

    pub(super) fn store(&mut self, db: DbIndex, key: &[u8], value: NewValue<'_>, expiry: Expiry, at: Moment) {
        let hash = self.common.seed.hash(key);
        match self.find_live(db, hash, key, at) {
            Some(spot) => {
                let resolve = |old: EntryRef<'_>| match expiry {
                    Expiry::Keep => old.expiry(),
                    Expiry::Clear => None,
                    Expiry::At(time) => Some(time),
                };
                let heavy = self.heavy_at(db, spot).map(|old| (resolve(old), old.access_clock()));
                self.tell_overwritten(db, spot, key);
                if let Some((expiry, old_clock)) = heavy {
                    let clock = at.touched_clock(old_clock, self.next_random());
                    self.discard(db, spot);
                    self.insert(db, hash, OwnedEntry::build(key, value, expiry, clock));
                    return;
                }
                self.change(db, spot, key, at, |entry| {
                    let expiry = resolve(entry.as_ref());
                    entry.store(value, expiry);
                });
            }
            None => {
                let expiry = match expiry {
                    Expiry::At(time) => Some(time),
                    Expiry::Keep | Expiry::Clear => None,
                };
                self.make_way(db, hash, key, at);
                self.note_change(db, hash, key);
                let entry = OwnedEntry::build(key, value, expiry, at.new_clock());
                let kind = entry.as_ref().type_of();
                self.insert(db, hash, entry);
                self.tell(db, key, Happening::Created(kind));
            }
        }
    }

    /// A change of a value by a client: it counts as an access too.
    fn change<R>(
        &mut self,
        db: DbIndex,
        spot: Spot,
        key: &[u8],
        at: Moment,
        edit: impl FnOnce(&mut OwnedEntry) -> R,
    ) -> R {
        self.note_change(db, spot.hash(), key);
        self.touch(db, spot, at);
        self.table_mut(db).edit(spot, edit)
    }

    /// Where a key is; if its time is over, it is deleted first, or stays hidden.
    #[inline]
    pub(super) fn find_live(&mut self, db: DbIndex, hash: u64, key: &[u8], at: Moment) -> Option<Spot> {
        let table = self.table(db)?;
        let spot = table.find(hash, key)?;
        if table.entry(spot).is_expired(at.now) {
            if !at.keeps_stale {
                self.expire(db, spot, key.into());
            }
            return None;
        }
        Some(spot)
    }

    /// Makes room for an entry of a key that `find_live` has not found: one that is over and was kept goes now. It is
    /// reported, since whoever reads the log still has it.
    #[inline]
    pub(super) fn make_way(&mut self, db: DbIndex, hash: u64, key: &[u8], at: Moment) {
        if at.keeps_stale
            && let Some(spot) = self.table(db).and_then(|table| table.find(hash, key))
        {
            self.expire(db, spot, key.into());
        }
    }

    /// Deletes an entry because its time is over.
    #[cold]
    pub(super) fn expire(&mut self, db: DbIndex, spot: Spot, key: Box<[u8]>) {
        let watches = self.rare().and_then(|rare| rare.watches.as_ref());
        let watched = watches.and_then(|watches| watches.version(db, &key));
        self.discard(db, spot);
        if let Some(before) = watched
            && let Some(watches) = &mut self.rare_mut().watches
        {
            watches.note_expired(db, &key, before);
        }
        self.note(db, key, Happening::Expired);
    }

    /// Deletes an entry; an undo keeps it.
    fn discard(&mut self, db: DbIndex, spot: Spot) {
        if self.concerns_cut() {
            // Before the slot looks empty.
            self.meet_cut();
            if self.is_undo_open() {
                self.capture_at(db, spot);
            }
        }
        let entry = self.cut(db, spot);
        let mut entry = self.keep_gone(db, entry);
        if self.concerns_cut() {
            entry = entry.and_then(|entry| self.capture_gone(db, entry));
        }
        if let Some(entry) = entry {
            self.free(entry);
        }
    }

    /// Hands out what is to be freed with the next [`Slot::take_discarded`].
    pub(super) fn discard_later(&mut self, detached: Detached) {
        self.rare_mut().discarded.get_or_insert_default().absorb(detached);
    }

    /// Frees an entry that is no longer in a table: at once, or later if that takes long.
    #[inline]
    pub(super) fn free(&mut self, entry: OwnedEntry) {
        let Some(entry) = self.keep_frozen(entry) else { return };
        if entry.is_heavy() {
            self.rare_mut().discarded.get_or_insert_default().push(entry);
        }
    }

    /// What must happen before an entry leaves its table and goes on living elsewhere.
    #[inline]
    pub(super) fn note_going(&mut self, db: DbIndex, hash: u64, key: &[u8]) {
        if self.concerns_cut() {
            self.capture(db, hash, key);
        }
    }

    /// Takes an entry out of its table, as a change that watchers see. The caller keeps it for the undo and the snapshot.
    pub(super) fn cut(&mut self, db: DbIndex, spot: Spot) -> OwnedEntry {
        let seed = self.common.seed;
        let entry = self.table_mut(db).remove(spot, seed);
        self.drop_if_empty(db);
        self.touch_watches(db, entry.as_ref().key());
        entry
    }

    /// What must happen before a key is created or changed (invariant 3).
    #[inline]
    pub(super) fn note_change(&mut self, db: DbIndex, hash: u64, key: &[u8]) {
        if self.rare.is_some() || self.concerns_cut() || self.common.attention.is_broadcast() {
            self.keep_for_undo(db, hash, key);
            self.touch_watches(db, key);
        }
    }

    /// An open undo keeps the entry of this key as it is now, and so does a snapshot that has not saved it yet.
    #[inline]
    pub(super) fn keep_for_undo(&mut self, db: DbIndex, hash: u64, key: &[u8]) {
        if self.concerns_cut() {
            self.capture(db, hash, key);
        }
        let Some(mut undo) = self.rare.as_mut().and_then(|rare| rare.undo.take()) else {
            return;
        };
        self.keep_in_place(&mut undo, db, hash, key);
        self.rare_mut().undo = Some(undo);
    }

    /// Watchers see a change of this key, and those who may have cached it.
    #[inline]
    pub(super) fn touch_watches(&mut self, db: DbIndex, key: &[u8]) {
        if let Some((watches, old_versions)) = self.watchers() {
            watches.touch(db, key, old_versions);
        }
        self.tell_trackers(db, key);
    }

    #[inline]
    pub(super) fn touch(&mut self, db: DbIndex, spot: Spot, at: Moment) {
        let random = self.next_random();
        let table = self.table_mut(db);
        let old = table.entry(spot).access_clock();
        let new = at.touched_clock(old, random);
        // Mostly it is the same second: then the line of the entry stays clean.
        if new != old {
            table.set_access_clock(spot, new);
        }
    }

    /// Xorshift (Marsaglia 2003): the counters need no better.
    #[inline]
    fn next_random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }
}

/// What few slots have.
impl Slot {
    #[inline]
    pub(super) fn rare(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    /// What there is of it, to take something out.
    pub(super) fn rare_if_any(&mut self) -> Option<&mut Rare> {
        self.rare.as_deref_mut()
    }

    /// For what is about to be put into it.
    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Keeps invariant 5. To be called when something has been taken out.
    pub(super) fn drop_if_not_rare(&mut self) {
        if self.rare.as_ref().is_some_and(|rare| rare.is_empty()) {
            self.rare = None;
        }
    }

    pub(super) fn open_undo(&mut self) -> Option<&mut Undo> {
        self.rare.as_mut()?.undo.as_deref_mut()
    }

    /// The watched keys, and where an open undo wants their versions.
    fn watchers(&mut self) -> Option<(&mut Watches, Option<&mut OldVersions>)> {
        let Rare { watches, undo, .. } = &mut **self.rare.as_mut()?;
        Some((watches.as_deref_mut()?, undo.as_deref_mut().map(Undo::versions)))
    }
}

impl Rare {
    fn is_empty(&self) -> bool {
        let Rare {
            others,
            watches,
            waiters,
            tracked,
            undo,
            told,
            cut,
            discarded,
        } = self;
        let is_observed = watches.is_some() || waiters.is_some() || tracked.is_some();
        let has_table_or_books = !others.is_empty() || is_observed || undo.is_some() || cut.is_some();
        !has_table_or_books && told.is_empty() && discarded.is_none()
    }

    /// Where in `others` a db is, or would be.
    pub(super) fn place_of(&self, db: DbIndex) -> Result<usize, usize> {
        self.others.binary_search_by_key(&db, |(db, _)| *db)
    }
}

/// For tests, simulations, and whoever suspects a bug.
impl Slot {
    /// Counts everything again and asserts that all invariants hold, in time proportional to the number of keys.
    pub fn check(&self) {
        for (db, table) in self.tables() {
            assert!(table.len() > 0, "{db:?} has no keys: invariant 1");
            table.check(self.common.seed);
            let is_here = |entry: EntryRef<'_>| self.is_unsaved || entry.side() == self.side;
            assert!(
                table.pages().all(|view| view.elements().all(is_here)),
                "invariant 1 of `cut`"
            );
        }
        if let Some(rare) = self.rare() {
            let others = &rare.others;
            let has_main = others.first().is_some_and(|(db, _)| *db == DbIndex(0));
            assert!(!has_main && others.is_sorted_by_key(|(db, _)| *db), "invariant 1");
            assert!(!rare.is_empty(), "invariant 5");
        }
        if self.main.len() == 0 {
            assert_eq!(self.main.allocated_bytes(), 0, "an empty table has no pages");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Moment = Moment::lru(UnixMs(100));

    #[test]
    fn a_slot_is_small() {
        // A process has 16384 of them, with keys or without.
        assert_eq!(allocated(size_of::<Slot>()), 64);
    }

    /// Whatever few slots have is there as long as it is needed, and then costs nothing again.
    #[test]
    fn what_is_rare_comes_and_goes() {
        let (main, other) = (DbIndex(0), DbIndex(7));
        let mut slot = Slot::new(0, HashSeed([1, 2]));
        let late = Moment::lru(UnixMs(5000));
        slot.set_int(other, b"key", 1, Expiry::At(UnixMs(1000)), AT);
        slot.set_int(main, b"key", 1, Expiry::Clear, AT);
        slot.check();
        let token = slot.watch(main, b"key", AT);
        slot.begin_undo();
        slot.set_int(main, b"key", 2, Expiry::Clear, AT);
        slot.check();
        slot.rollback();
        assert!(slot.is_unchanged(&token, AT), "an undo restores versions");
        slot.swap_dbs(main, other, AT);
        assert!(!slot.is_unchanged(&token, AT));
        assert!(!slot.remove(main, b"key", late), "its time was over");
        let over = Told {
            db: main,
            key: (*b"key").into(),
            what: Happening::Expired,
        };
        assert_eq!(slot.take_told(), [over]);
        assert!(slot.remove(other, b"key", late));
        slot.check();
        assert!(slot.rare.is_some(), "a key is watched still");
        slot.unwatch(token);
        slot.begin_undo();
        assert!(slot.commit_undo().is_empty());
        slot.check();
        assert!(slot.rare.is_none());
        assert_eq!(slot.used_bytes(), 0);
    }
}
