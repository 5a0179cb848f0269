//! What a slot tells of itself: keys that have come, grown, gone, or whose time was over.
//!
//! What must follow a change of a key beyond the change itself (a DEL in the log, an event, a client that waits and can be served) is
//! nobody's duty in the handlers: the few functions that change the table tell it here, and whoever ran the command takes
//! the list ([`Slot::take_told`](super::Slot::take_told)) and draws the consequences.
//!
//! That a time was over is told always, since the log must have it, and so is the change of a key that somebody may have cached
//! ([`track`](super::track)). The rest is told only while somebody in the process pays attention ([`Attention`]): who wants events, or waits
//! for keys. An undo takes back what was told since it began.

use super::slot::{DbIndex, Slot};
use super::track::Tracker;
use crate::data::ValueType;
use crate::data::dict::Spot;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Something that happened to a key, or to a whole db.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The db.
    pub db: DbIndex,
    /// The key; empty where a whole db is meant.
    pub key: Box<[u8]>,
    /// What it was.
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It has another value now, or none; these have read it, and may have kept what it was. Told only of keys that somebody has read,
    /// or while somebody wants to hear of all.
    Changed(Vec<Tracker>),
    /// Its time was over, so it was deleted.
    Expired,
    /// The time of these fields was over, so the hash has lost them. (A hash that has lost its last one is `Emptied` behind it.)
    FieldsExpired(Vec<Box<[u8]>>),
    /// A key came where none was.
    Created(ValueType),
    /// Its value has lost its last element, so the key is gone.
    Emptied,
    /// It was removed, and may have been put elsewhere.
    Removed,
    /// Another value has taken the place of this one, which was no string.
    Overwritten,
    /// A stream has got entries.
    Grown,
    /// A stream has lost a consumer group.
    GroupGone,
    /// All keys of the db are gone.
    Flushed,
    /// The db has changed places with this one.
    Swapped(DbIndex),
}

/// How many in the process want to be told more than that keys have expired, and how many keys are awaited ([`wait`](super::wait)).
///
/// Who waits is entered while its slot is held, and who changes a key holds the slot later: so it sees the count as it was left or higher,
/// and none of this needs an order of its own.
#[derive(Debug, Default)]
pub struct Attention {
    /// Those who want to be told, and the keys that somebody waits for.
    paid: AtomicUsize,
    awaited: AtomicUsize,
    minded: AtomicUsize,
    reaching: AtomicUsize,
    /// Those who want to hear of all changes.
    broadcast: AtomicUsize,
    /// Keys that somebody may have cached, and how many have each, in all.
    tracked_keys: AtomicUsize,
    tracked_items: AtomicUsize,
    last_number: AtomicU64,
}

impl Attention {
    /// One more.
    pub fn begin(&self) {
        self.paid.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn end(&self) {
        self.paid.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether there is anybody.
    #[inline]
    pub fn is_paid(&self) -> bool {
        self.paid.load(Ordering::Relaxed) > 0
    }

    /// How many keys somebody waits for.
    pub fn awaited_keys(&self) -> usize {
        self.awaited.load(Ordering::Relaxed)
    }

    /// How many of them have somebody who is to know when they are gone.
    pub fn minded_keys(&self) -> usize {
        self.minded.load(Ordering::Relaxed)
    }

    /// Whether anybody waits who makes another key when it is served.
    #[inline]
    pub fn is_anybody_reaching(&self) -> bool {
        self.reaching.load(Ordering::Relaxed) > 0
    }

    /// Somebody wants to hear of the changes of all keys, or of many.
    pub fn begin_broadcast(&self) {
        self.broadcast.fetch_add(1, Ordering::Relaxed);
    }

    /// It does so no more.
    pub fn end_broadcast(&self) {
        self.broadcast.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether there is anybody who does.
    #[inline]
    pub fn is_broadcast(&self) -> bool {
        self.broadcast.load(Ordering::Relaxed) > 0
    }

    /// How many keys somebody may have cached.
    #[inline]
    pub fn tracked_keys(&self) -> usize {
        self.tracked_keys.load(Ordering::Relaxed)
    }

    /// How many have each of them, in all.
    pub fn tracked_items(&self) -> usize {
        self.tracked_items.load(Ordering::Relaxed)
    }

    pub(super) fn count_tracked(&self, keys: usize, items: usize) {
        self.tracked_keys.fetch_add(keys, Ordering::Relaxed);
        self.tracked_items.fetch_add(items, Ordering::Relaxed);
    }

    pub(super) fn uncount_tracked(&self, keys: usize, items: usize) {
        self.tracked_keys.fetch_sub(keys, Ordering::Relaxed);
        self.tracked_items.fetch_sub(items, Ordering::Relaxed);
    }

    pub(super) fn begin_key(&self) {
        self.awaited.fetch_add(1, Ordering::Relaxed);
        self.begin();
    }

    pub(super) fn end_key(&self) {
        self.awaited.fetch_sub(1, Ordering::Relaxed);
        self.end();
    }

    pub(super) fn begin_minding(&self) {
        self.minded.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_minding(&self) {
        self.minded.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn begin_reaching(&self) {
        self.reaching.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_reaching(&self) {
        self.reaching.fetch_sub(1, Ordering::Relaxed);
    }

    /// A number for somebody who begins to wait: higher than all before.
    pub(super) fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Slot {
    /// What has happened since the last call, in its order. (While an undo is open, what it would take back is among it: whoever takes
    /// it then keeps it until the undo has ended.)
    #[inline]
    pub fn take_told(&mut self) -> Vec<Told> {
        let Some(rare) = self.rare_if_any() else {
            return Vec::new();
        };
        let told = std::mem::take(&mut rare.told);
        self.drop_if_not_rare();
        told
    }

    /// Tells it, if anybody in the process pays attention.
    #[inline]
    pub(super) fn tell(&mut self, db: DbIndex, key: &[u8], what: Happening) {
        if self.common.attention.is_paid() {
            self.note(db, key.into(), what);
        }
    }

    /// Tells that another value is about to take the place of the one here, if that is not a string.
    #[inline]
    pub(super) fn tell_overwritten(&mut self, db: DbIndex, spot: Spot, key: &[u8]) {
        if self.common.attention.is_paid() && self.table(db).is_some_and(|table| table.entry(spot).object().is_some()) {
            self.note(db, key.into(), Happening::Overwritten);
        }
    }

    /// Tells it in any case.
    #[cold]
    pub(super) fn note(&mut self, db: DbIndex, key: Box<[u8]>, what: Happening) {
        self.rare_mut().told.push(Told { db, key, what });
    }
}
