//! The moment of a snapshot, as the slots know it: what is of it and still has to be saved, and what has changed since.
//!
//! A snapshot is all keys as they were at one moment, the *cut*, while clients go on changing them. Nobody stops for it and nothing is
//! shared: each entry has a bit, its *side*. The cut turns the side of the process round, and that is all it does. From then on, an entry
//! on the old side is as it was at the cut and is to be saved; one on the new side is saved already, or has come or changed since.
//!
//! * The **walk** ([`Slot::save_some`]), which the home of the slot goes in small steps, lends each entry of the old side to whoever writes
//!   it, and puts it on the new side.
//! * A **change** of an entry of the old side, by whoever holds the slot, first *captures* it: the entry as it was is put aside in the
//!   slot, comes home with it, and is saved from there ([`Slot::take_captured`]).
//! * What comes anew is on the new side and is nobody's concern.
//! * A **large value** is neither lent nor copied at once: whichever comes first, the walk or a change, *freezes* it (`data::frozen`), and
//!   that is its capture. It lives on in its place, and is read as it was in slices ([`Slot::read_frozen`]). When it leaves its place for
//!   good, it is put aside as it is; when it goes on living under another name, the word of what it was goes with it (`moved`).
//!
//! A slot learns of the cut when it is changed or walked next ([`Slot::meet_cut`]): whoever makes the cut holds all slots, and need not touch
//! them. A table that is cleared as a whole is captured as a whole; dbs that are exchanged are remembered, since an entry is saved under the
//! number that its db had.
//!
//! Invariants:
//! 1. While no walk is to be done in a slot that has met the cut, all its entries have the slot's side.
//! 2. Before an entry of the old side changes or leaves, it is captured, unless the snapshot has been given up ([`Cut::is_open`]).
//! 3. What was put aside by an undo has no say: it is put on the slot's side when it comes back, having been captured before its change.
//! 4. What is frozen for the snapshot is named in the slot in which it is (`frozen`), by what the entry was at the cut and by where it is: in the
//!    table under the key that it has now, or put aside. It is thawed, and its name struck off, before it is freed.
//! 5. `captured_bytes` is what the entries captured and not yet written take, and what frozen values keep of their past, over all slots and shards.
//!
//! A cut that is given up leaves entries of both sides: the walk goes on through the slots that are left, without saving anything, before
//! the next cut can be made.

mod moved;
#[cfg(test)]
mod tests;

pub use moved::{Destination, Taken};

use super::detached::Detached;
use super::entry::{EntryRef, OwnedEntry};
use super::slot::{DbIndex, Slot};
use super::table::{Remains, Table};
use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;
use crate::data::dict::Spot;
use crate::data::frozen::{Lent, LentRef, Spent, Use};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

const SLOTS: usize = 16384;
const WORDS: usize = SLOTS / 64;

/// What all shards know of the last cut.
#[derive(Debug)]
pub struct Cut {
    slot_count: u16,
    side: AtomicU8,
    is_open: AtomicBool,
    captured_bytes: Arc<AtomicUsize>,
    /// Something of the cut could not be found where it should be: the snapshot must fail.
    has_lost: AtomicBool,
    /// Slots in which something captured waits to be saved.
    captured_slots: Marks,
    /// Slots that have not been walked to their end.
    unsaved_slots: Marks,
}

/// A bit for each slot, read by everybody and written by whoever holds the slot.
#[derive(Debug)]
struct Marks(Box<[AtomicU64; WORDS]>);

impl Marks {
    fn new() -> Marks {
        Marks(Box::new([const { AtomicU64::new(0) }; WORDS]))
    }

    fn set(&self, slot: u16) {
        self.0[usize::from(slot) / 64].fetch_or(1 << (slot % 64), Ordering::Release);
    }

    fn clear(&self, slot: u16) {
        self.0[usize::from(slot) / 64].fetch_and(!(1 << (slot % 64)), Ordering::Release);
    }

    fn has(&self, slot: u16) -> bool {
        self.0[usize::from(slot) / 64].load(Ordering::Acquire) >> (slot % 64) & 1 != 0
    }

    /// The first one from `from` on.
    fn next(&self, from: u16) -> Option<u16> {
        let mut mask = u64::MAX << (from % 64);
        for (at, word) in self.0.iter().enumerate().skip(usize::from(from) / 64) {
            let word = word.load(Ordering::Acquire) & mask;
            if word != 0 {
                return Some((at * 64) as u16 + word.trailing_zeros() as u16);
            }
            mask = u64::MAX;
        }
        None
    }
}

impl Default for Cut {
    /// Of all slots that there are.
    fn default() -> Cut {
        Cut::new(SLOTS as u16, Arc::default())
    }
}

impl Cut {
    /// Of so many slots. In `captured_bytes` it is counted what is captured.
    pub fn new(slot_count: u16, captured_bytes: Arc<AtomicUsize>) -> Cut {
        Cut {
            slot_count,
            side: AtomicU8::new(0),
            is_open: AtomicBool::new(false),
            captured_bytes,
            has_lost: AtomicBool::new(false),
            captured_slots: Marks::new(),
            unsaved_slots: Marks::new(),
        }
    }
}

impl Cut {
    /// Makes the cut. Whoever calls this holds all slots of the node, each of which has been walked to its end since the last one.
    pub fn open(&self) {
        debug_assert_eq!(self.unsaved_slots.next(0), None, "the last cut has been settled");
        for slot in 0..self.slot_count {
            self.unsaved_slots.set(slot);
        }
        self.side.fetch_xor(1, Ordering::Relaxed);
        self.is_open.store(true, Ordering::Release);
    }

    pub fn slot_count(&self) -> u16 {
        self.slot_count
    }

    /// Nothing more is captured: all of it has been saved, or nobody wants it any more.
    pub fn close(&self) {
        self.is_open.store(false, Ordering::Release);
    }

    /// Whether what changes has to be captured.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Whether something of the cut could not be found; asked once.
    pub fn take_lost(&self) -> bool {
        self.has_lost.load(Ordering::Acquire) && self.has_lost.swap(false, Ordering::AcqRel)
    }

    /// Bytes of what is captured and not written yet.
    pub fn captured_bytes(&self) -> usize {
        self.captured_bytes.load(Ordering::Relaxed)
    }

    /// Whether a change of a key in this slot may have to be captured.
    pub fn is_unsaved(&self, slot: u16) -> bool {
        self.unsaved_slots.has(slot)
    }

    /// The first slot from `from` on in which something captured waits.
    pub fn next_captured(&self, from: u16) -> Option<u16> {
        self.captured_slots.next(from)
    }

    #[inline]
    pub(super) fn side(&self) -> u8 {
        self.side.load(Ordering::Relaxed)
    }
}

/// Elements of a value that the walk lends whole: saving them takes some hundred microseconds. Larger ones are frozen.
const ELEMENTS_LENT_MAX: usize = 1024;

/// A value that is frozen for the snapshot: what its entry was at the cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenEntry {
    /// The number that its db had then.
    pub db: DbIndex,
    pub key: Box<[u8]>,
    pub expiry: Option<UnixMs>,
    pub access_clock: u32,
}

/// Such a value, and where it is.
pub(super) struct Frozen {
    entry: FrozenEntry,
    /// Of the value, which does not change by anything that is done with it.
    address: usize,
    place: FrozenPlace,
    /// The key that it has now, if that is another one.
    key_now: Option<Box<[u8]>>,
    /// Some of it has been read.
    is_begun: bool,
    /// What of it is counted in [`Cut::captured_bytes`].
    counted_bytes: usize,
}

impl Frozen {
    fn key_now(&self) -> &[u8] {
        self.key_now.as_ref().unwrap_or(&self.entry.key)
    }
}

enum FrozenPlace {
    /// In the table of this db, as it is numbered now, or with an undo that may put it back there.
    Table(DbIndex),
    Aside(OwnedEntry),
}

/// What a slot remembers of a cut.
#[derive(Default)]
pub(super) struct SlotCut {
    captured: Captured,
    frozen: Vec<Frozen>,
    /// The slot to which the value has moved that was being read here.
    forward: Option<u16>,
    /// Dbs whose number at the cut was another one: the number now, and then.
    moved: Vec<(DbIndex, DbIndex)>,
    /// Where the walk goes on.
    walk: Option<(DbIndex, u64)>,
}

/// Entries as they were at the cut, with the db that they were in. Those that were captured one by one count in [`Cut::captured_bytes`];
/// tables and what comes out of them do not, as they are no more than there was before.
#[derive(Default)]
pub struct Captured {
    entries: VecDeque<(DbIndex, OwnedEntry)>,
    tables: Vec<CapturedTable>,
    /// Out of a table.
    opened: VecDeque<(DbIndex, OwnedEntry)>,
}

/// A table that was captured whole.
struct CapturedTable {
    db_then: DbIndex,
    /// The side of what is of the cut: there are entries of the other one, too.
    old_side: u8,
    remains: Remains,
}

impl Captured {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.tables.is_empty() && self.opened.is_empty()
    }

    /// Takes an entry out, which counts no longer.
    pub fn next(&mut self, cut: &Cut) -> Option<(DbIndex, OwnedEntry)> {
        if let Some((db, entry)) = self.entries.pop_front() {
            let bytes = entry.as_ref().allocated_bytes();
            cut.captured_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Some((db, entry));
        }
        while self.opened.is_empty() && self.open_page() {}
        self.opened.pop_front()
    }

    /// Makes entries of a page of a table. False: there are no tables.
    fn open_page(&mut self) -> bool {
        let Captured { tables, opened, .. } = self;
        let Some(CapturedTable {
            db_then,
            old_side,
            remains,
        }) = tables.last_mut()
        else {
            return false;
        };
        let has_had_more = remains.take_page(|entry| {
            if entry.as_ref().side() == *old_side {
                opened.push_back((*db_then, entry));
            }
        });
        if !has_had_more {
            tables.pop();
        }
        true
    }

    /// Adds what another one holds.
    pub fn absorb(&mut self, mut other: Captured) {
        self.entries.append(&mut other.entries);
        self.tables.append(&mut other.tables);
        self.opened.append(&mut other.opened);
    }
}

impl OwnedEntry {
    /// Whether its value is too large to be saved in one go.
    pub fn is_sliced(&self) -> bool {
        self.as_ref().is_sliced()
    }

    /// Lends its value to `read`, which answers whether it has read it to its end, as [`Slot::read_frozen`] does for one in a slot.
    pub fn read_captured(&mut self, read: impl FnOnce(&mut Lent<'_>) -> bool) -> bool {
        self.lend(|value| {
            if !value.as_ref().is_frozen(Use::Snapshot) {
                value.freeze(Use::Snapshot);
            }
            let is_read = read(value);
            if is_read {
                // It has not changed since, so there is nothing to be freed.
                drop(value.thaw(Use::Snapshot));
            }
            is_read
        })
    }
}

impl EntryRef<'_> {
    fn is_sliced(self) -> bool {
        match self.lent() {
            None => false,
            Some(LentRef::Object(object)) => {
                // A stream may have more that is pending than entries.
                let elements = object.len().max(object.free_effort());
                elements > ELEMENTS_LENT_MAX && object.freezes()
            }
            Some(string) => string.freezes(),
        }
    }
}

impl SlotCut {
    fn is_empty(&self) -> bool {
        let SlotCut {
            captured,
            frozen,
            forward,
            moved,
            walk,
        } = self;
        captured.is_empty() && frozen.is_empty() && forward.is_none() && moved.is_empty() && walk.is_none()
    }

    /// The number that a db had at the cut.
    fn db_then(&self, db: DbIndex) -> DbIndex {
        let moved = self.moved.iter().find(|(now, _)| *now == db);
        moved.map_or(db, |(_, then)| *then)
    }
}

impl Slot {
    /// Whether a change in this slot may concern the snapshot. To be asked before each: two compared bytes in the usual case.
    #[inline]
    pub(super) fn concerns_cut(&self) -> bool {
        self.is_unsaved || self.side != self.common.cut.side()
    }

    /// Learns of a cut that was made since this slot was looked at last.
    pub fn meet_cut(&mut self) {
        let side = self.common.cut.side();
        if self.side != side {
            debug_assert!(!self.is_unsaved, "a cut is made when the last one is settled");
            self.side = side;
            self.is_unsaved = self.key_count() > 0;
            if !self.is_unsaved {
                self.common.cut.unsaved_slots.clear(self.index());
            }
        }
    }

    /// Keeps the entry of a key as it was at the cut, if it is to be saved still: it is about to change or to go.
    #[cold]
    pub(super) fn capture(&mut self, db: DbIndex, hash: u64, key: &[u8]) {
        if !self.must_capture() {
            return;
        }
        if let Some(spot) = self.table(db).and_then(|table| table.find(hash, key)) {
            self.capture_at(db, spot);
        }
    }

    /// The same for the entry in a place, in a slot that has met the cut.
    pub(super) fn capture_at(&mut self, db: DbIndex, spot: Spot) {
        let side = self.side;
        let entry = self.table_mut(db).entry(spot);
        if entry.side() == side || !self.must_capture_now() {
            return;
        }
        let entry = self.table_mut(db).entry(spot);
        if entry.freezes() {
            self.table_mut(db).set_side(spot, side);
            self.freeze_at(db, spot);
            return;
        }
        let copy = entry.to_owned();
        self.table_mut(db).set_side(spot, side);
        self.put_aside(self.db_then(db), copy);
    }

    /// Freezes the value in a place, which is of the cut.
    fn freeze_at(&mut self, db: DbIndex, spot: Spot) {
        let table = self.table_mut(db);
        let seen = table.entry(spot);
        let entry = FrozenEntry {
            db,
            key: seen.key().into(),
            expiry: seen.expiry(),
            access_clock: seen.access_clock(),
        };
        table.edit(spot, |entry| {
            entry.lend(|value| {
                if value.as_ref().is_frozen(Use::Snapshot) {
                    // Of an earlier snapshot that had lost it.
                    drop(value.thaw(Use::Snapshot));
                }
                value.freeze(Use::Snapshot);
            });
        });
        let address = table.entry(spot).value_address();
        let cut = self.cut_mut();
        cut.frozen.push(Frozen {
            entry: FrozenEntry {
                db: cut.db_then(db),
                ..entry
            },
            address,
            place: FrozenPlace::Table(db),
            key_now: None,
            is_begun: false,
            counted_bytes: 0,
        });
        self.common.cut.captured_slots.set(self.index());
    }

    /// Counts what the frozen value in a place keeps since it has changed.
    #[inline]
    pub(super) fn count_frozen(&mut self, db: DbIndex, key: &[u8]) {
        if self.rare().is_some_and(|rare| rare.cut.is_some()) {
            self.count_frozen_anew(db, key);
        }
    }

    #[cold]
    fn count_frozen_anew(&mut self, db: DbIndex, key: &[u8]) {
        let hash = self.common.seed.hash(key);
        let table = self.table(db);
        let entry = table.and_then(|table| Some(table.entry(table.find(hash, key)?)));
        let Some(entry) = entry.filter(|entry| entry.is_frozen(Use::Snapshot)) else {
            return;
        };
        let kept_bytes = entry.lent().map_or(0, LentRef::kept_bytes);
        let address = entry.value_address();
        let counter = self.common.cut.captured_bytes.clone();
        if let Some(frozen) = self
            .cut_mut()
            .frozen
            .iter_mut()
            .find(|frozen| frozen.address == address)
        {
            counter.fetch_add(kept_bytes, Ordering::Relaxed);
            counter.fetch_sub(frozen.counted_bytes, Ordering::Relaxed);
            frozen.counted_bytes = kept_bytes;
        }
    }

    /// An entry goes on living elsewhere, without what it was: what is of the cut stays here, and a copy lives on.
    pub(super) fn part_from_cut(&mut self, entry: OwnedEntry) -> OwnedEntry {
        if !entry.as_ref().is_frozen(Use::Snapshot) {
            return entry;
        }
        let copy = entry.clone();
        self.put_frozen_aside(entry).unwrap_or(copy)
    }

    /// Puts an entry aside whose value is frozen for the snapshot, and which has left its place for good; any other comes back.
    #[inline]
    pub(super) fn keep_frozen(&mut self, entry: OwnedEntry) -> Option<OwnedEntry> {
        if !entry.as_ref().is_frozen(Use::Snapshot) {
            return Some(entry);
        }
        self.put_frozen_aside(entry)
    }

    /// Answers the entry if it has no name here, which breaks invariant 4: the snapshot fails, and nothing else.
    #[cold]
    fn put_frozen_aside(&mut self, mut entry: OwnedEntry) -> Option<OwnedEntry> {
        let address = entry.as_ref().value_address();
        let named = self.cut_mut().frozen.iter_mut();
        let frozen = named.into_iter().find(|frozen| frozen.address == address);
        if let Some(frozen) = frozen {
            frozen.place = FrozenPlace::Aside(entry);
            return None;
        }
        self.common.cut.has_lost.store(true, Ordering::Release);
        drop(entry.lend(|value| value.thaw(Use::Snapshot)));
        Some(entry)
    }

    /// The same for an entry that has left its table and is not needed any more; None: it was kept.
    #[cold]
    pub(super) fn capture_gone(&mut self, db: DbIndex, entry: OwnedEntry) -> Option<OwnedEntry> {
        if !self.must_capture() || entry.as_ref().side() == self.side {
            return Some(entry);
        }
        self.put_aside(self.db_then(db), entry);
        None
    }

    /// The same for a table that has left its place, of a slot that has met the cut; None: it was kept.
    pub(super) fn capture_table(&mut self, db_then: DbIndex, table: Table) -> Option<Table> {
        let (side, seed) = (self.side, self.common.seed);
        let mut table = table;
        if let Some(cut) = self.rare_if_any().and_then(|rare| rare.cut.as_mut()) {
            for frozen in &mut cut.frozen {
                let key = frozen.key_now();
                let spot = table.find(seed.hash(key), key);
                if let Some(spot) = spot.filter(|spot| table.entry(*spot).value_address() == frozen.address) {
                    frozen.place = FrozenPlace::Aside(table.remove(spot, seed));
                }
            }
        }
        if !self.must_capture_now() {
            return Some(table);
        }
        let cut = self.cut_mut();
        cut.captured.tables.push(CapturedTable {
            db_then,
            old_side: side ^ 1,
            remains: table.into_remains(),
        });
        self.common.cut.captured_slots.set(self.index());
        None
    }

    fn must_capture(&mut self) -> bool {
        self.meet_cut();
        self.must_capture_now()
    }

    fn must_capture_now(&self) -> bool {
        self.is_unsaved && self.common.cut.is_open()
    }

    /// The number that a db had at the cut.
    pub(super) fn db_then(&self, db: DbIndex) -> DbIndex {
        let cut = self.rare().and_then(|rare| rare.cut.as_ref());
        cut.map_or(db, |cut| cut.db_then(db))
    }

    fn put_aside(&mut self, db_then: DbIndex, entry: OwnedEntry) {
        let bytes = entry.as_ref().allocated_bytes();
        let cut = self.cut_mut();
        cut.captured.entries.push_back((db_then, entry));
        self.common.cut.captured_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.common.cut.captured_slots.set(self.index());
    }

    fn cut_mut(&mut self) -> &mut SlotCut {
        self.rare_mut().cut.get_or_insert_default()
    }

    /// Two dbs have been exchanged, or a table has been put somewhere.
    pub(super) fn note_moved_tables(&mut self, a: DbIndex, b: DbIndex) {
        if self.concerns_cut() {
            self.meet_cut();
        }
        let is_unsaved = self.is_unsaved;
        if is_unsaved {
            self.cut_mut();
        }
        let Some(cut) = self.rare_if_any().and_then(|rare| rare.cut.as_mut()) else {
            return;
        };
        for frozen in &mut cut.frozen {
            if let FrozenPlace::Table(db) = &mut frozen.place {
                *db = match *db {
                    db if db == a => b,
                    db if db == b => a,
                    db => db,
                };
            }
        }
        if is_unsaved {
            let (then_a, then_b) = (cut.db_then(a), cut.db_then(b));
            cut.moved.retain(|(now, _)| *now != a && *now != b);
            let moved = [(a, then_b), (b, then_a)];
            cut.moved.extend(moved.into_iter().filter(|(now, then)| now != then));
            cut.walk = None;
        }
    }

    /// What has been captured in this slot.
    pub fn take_captured(&mut self) -> Captured {
        let taken = match self.rare_if_any().and_then(|rare| rare.cut.as_mut()) {
            Some(cut) => std::mem::take(&mut cut.captured),
            None => Captured::default(),
        };
        self.drop_cut_if_empty();
        self.mark_captured();
        taken
    }

    /// Says whether anything is to be done here.
    fn mark_captured(&self) {
        let cut = self.rare().and_then(|rare| rare.cut.as_ref());
        if cut.is_none_or(|cut| cut.captured.is_empty() && cut.frozen.is_empty()) {
            self.common.cut.captured_slots.clear(self.index());
        }
    }

    /// What was frozen first and has not been read to its end.
    pub fn first_frozen(&self) -> Option<&FrozenEntry> {
        let cut = self.rare().and_then(|rare| rare.cut.as_ref())?;
        cut.frozen.first().map(|frozen| &frozen.entry)
    }

    /// Lends that value to `read`, which answers whether it has read it to its end: then it is thawed. What is to be freed comes back.
    pub fn read_frozen(&mut self, read: impl FnOnce(&mut Lent<'_>, HashSeed) -> bool) -> (bool, Detached) {
        let seed = self.common.seed;
        let mut detached = Detached::default();
        let Some(mut cut) = self.rare_if_any().and_then(|rare| rare.cut.take()) else {
            return (true, detached);
        };
        let Some(frozen) = cut.frozen.first_mut() else {
            self.rare_mut().cut = Some(cut);
            return (true, detached);
        };
        frozen.is_begun = true;
        let lend = |value: &mut Lent<'_>| {
            let is_read = read(value, seed);
            let kept_bytes = if is_read { 0 } else { value.as_ref().kept_bytes() };
            (is_read, kept_bytes, is_read.then(|| value.thaw(Use::Snapshot)))
        };
        let (is_read, kept_bytes, spent) = match &mut frozen.place {
            FrozenPlace::Aside(entry) => entry.lend(lend),
            FrozenPlace::Table(db) => {
                let (db, key) = (*db, frozen.key_now.as_ref().unwrap_or(&frozen.entry.key));
                let table = self.table(db);
                let spot = table.and_then(|table| {
                    let spot = table.find(seed.hash(key), key)?;
                    (table.entry(spot).value_address() == frozen.address).then_some(spot)
                });
                match spot {
                    Some(spot) => self.table_mut(db).edit(spot, |entry| entry.lend(lend)),
                    // Invariant 4 is broken: better no snapshot than one that lacks something.
                    None => {
                        self.common.cut.has_lost.store(true, Ordering::Release);
                        (true, 0, Some(Spent::default()))
                    }
                }
            }
        };
        let counter = &self.common.cut.captured_bytes;
        counter.fetch_add(kept_bytes, Ordering::Relaxed);
        counter.fetch_sub(frozen.counted_bytes, Ordering::Relaxed);
        frozen.counted_bytes = kept_bytes;
        if let Some(spent) = spent {
            detached.push_spent(spent);
            if let FrozenPlace::Aside(entry) = cut.frozen.remove(0).place {
                detached.push(entry);
            }
        }
        self.rare_mut().cut = Some(cut);
        self.drop_cut_if_empty();
        self.mark_captured();
        (is_read, detached)
    }

    /// Lends the entries that are of the cut and still to be saved, with the number that their db had, to `save`, which says when it has
    /// had enough; that one is saved, too. True: nothing is left in this slot, what was captured excepted.
    pub fn save_some(&mut self, mut save: impl FnMut(DbIndex, EntryRef<'_>) -> ControlFlow<()>) -> bool {
        self.meet_cut();
        if !self.is_unsaved {
            return true;
        }
        let side = self.side;
        let walk = self.rare().and_then(|rare| rare.cut.as_ref()?.walk);
        let mut next = walk.or_else(|| Some((self.dbs().next()?, 0)));
        while let Some((db, hash)) = next {
            if self.table(db).is_some_and(|table| table.len() > 0) {
                let then = self.db_then(db);
                let mut large: Vec<Box<[u8]>> = Vec::new();
                let went = self.table_mut(db).pass_page(hash, side, |entry| {
                    if entry.is_sliced() {
                        large.push(entry.key().into());
                        return ControlFlow::Continue(());
                    }
                    save(then, entry)
                });
                if self.common.cut.is_open() {
                    for key in large {
                        let spot = self
                            .table(db)
                            .and_then(|table| table.find(self.common.seed.hash(&key), &key));
                        self.freeze_at(db, spot.expect("it was passed a moment ago"));
                    }
                }
                match went {
                    ControlFlow::Break(()) => {
                        self.cut_mut().walk = Some((db, hash));
                        return false;
                    }
                    ControlFlow::Continue(Some(hash)) => {
                        next = Some((db, hash));
                        continue;
                    }
                    ControlFlow::Continue(None) => {}
                }
            }
            let after = self.dbs().find(|other| *other > db);
            next = after.map(|db| (db, 0));
        }
        self.is_unsaved = false;
        self.common.cut.unsaved_slots.clear(self.index());
        if let Some(cut) = self.rare_if_any().and_then(|rare| rare.cut.as_mut()) {
            cut.walk = None;
            cut.moved.clear();
        }
        self.drop_cut_if_empty();
        true
    }

    fn drop_cut_if_empty(&mut self) {
        if let Some(rare) = self.rare_if_any()
            && rare.cut.as_ref().is_some_and(|cut| cut.is_empty())
        {
            rare.cut = None;
        }
        self.drop_if_not_rare();
    }
}
