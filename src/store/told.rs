//! What a slot tells of itself: keys that have come, grown, gone, or whose time was over.
//!
//! What must follow a change of a key beyond the change itself (a DEL in the log, an event, a client that waits and can be served) is
//! nobody's duty in the handlers: the few functions that change the table tell it here, and whoever ran the command takes
//! the list ([`Slot::take_told`](super::Slot::take_told)) and draws the consequences.
//!
//! That a time was over is told always, since the log must have it. The rest is told only while somebody in the process pays
//! attention ([`Attention`]): who wants events, or waits for keys. An undo takes back what was told since it began.

use super::slot::{DbIndex, Slot};
use crate::data::ValueType;
use crate::data::dict::Spot;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// How many in the process want to be told more than that keys have expired.
#[derive(Debug, Default)]
pub struct Attention(AtomicUsize);

impl Attention {
    /// One more.
    pub fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn end(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether there is anybody.
    #[inline]
    pub fn is_paid(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
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
