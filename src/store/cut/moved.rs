//! Large values that go on living under another name, or in another db (RENAME, MOVE), while what they were is still to be saved.
//!
//! The value moves, with its past, and so does the word of what it was at the cut: whoever is the home of the slot in which it lives
//! then saves it, under the name and the db that it had. Nothing is copied, however large it is.
//!
//! For that the home of the new slot must not be done with its part of the snapshot. It is not ([`Destination`]) if it is the home of the old
//! slot as well, where something captured waits; or if the walk through the new slot is still to be done. Else what was stays in
//! the old slot and a copy lives on. (So it is in any case where an undo is open, which keeps the value itself.)
//!
//! If it has been read in part, then by the home, which has written that part: so it moves within slots of the same home only, is the first to
//! be read where it comes to, and the old slot says where that is ([`Slot::take_forward`]).
//!
//! Invariant: the mark of the old slot stays set until its home has looked at it. A home that sees the mark gone has seen that of the
//! new slot before, in whatever order it looks at them.

use super::{Frozen, FrozenPlace};
use crate::data::access::Moment;
use crate::data::frozen::Use;
use crate::store::entry::OwnedEntry;
use crate::store::slot::{DbIndex, Slot};
use std::sync::Arc;

/// What must be known of a slot before a value is taken out of another one that is to come here.
#[derive(Clone, Copy, Debug)]
pub struct Destination {
    index: u16,
    /// Where what the slots of its home have in common lies.
    home: usize,
    is_unsaved: bool,
}

/// An entry on its way to another slot, or another place in the same one.
#[must_use = "what a snapshot has not saved of it would be lost"]
pub struct Taken {
    entry: OwnedEntry,
    frozen: Option<Box<Frozen>>,
}

impl Slot {
    /// As the place to which a value is to be moved.
    pub fn as_destination(&mut self) -> Destination {
        if self.concerns_cut() {
            self.meet_cut();
        }
        Destination {
            index: self.index(),
            home: self.home_address(),
            is_unsaved: self.is_unsaved,
        }
    }

    /// Deletes a key and hands its entry out, to be put into that slot.
    pub fn take_for(&mut self, db: DbIndex, key: &[u8], to: Destination, at: Moment) -> Option<Taken> {
        let entry = self.take_whole(db, key, at)?;
        let is_frozen = entry.as_ref().is_frozen(Use::Snapshot);
        let frozen = is_frozen.then(|| self.let_go(&entry, to)).flatten();
        let entry = match frozen {
            Some(_) => entry,
            None => self.part_from_cut(entry),
        };
        Some(Taken { entry, frozen })
    }

    /// Stores it under a key, as [`Slot::put`] does.
    pub fn put_taken(&mut self, db: DbIndex, key: &[u8], taken: Taken, at: Moment) {
        let Taken { entry, frozen } = taken;
        self.put(db, key, entry, at);
        let Some(mut frozen) = frozen else { return };
        frozen.key_now = (*frozen.entry.key != *key).then(|| key.into());
        frozen.place = FrozenPlace::Table(db);
        let cut = self.cut_mut();
        let at = if frozen.is_begun { 0 } else { cut.frozen.len() };
        cut.frozen.insert(at, *frozen);
        self.common.cut.captured_slots.set(self.index());
    }

    /// Takes where the value is now that was being read here and has moved on, if it has.
    pub fn take_forward(&mut self) -> Option<u16> {
        let forward = self.rare_if_any()?.cut.as_mut()?.forward.take();
        self.drop_cut_if_empty();
        forward
    }

    /// Gives up the word of a value, if that may live in the slot to which it goes.
    fn let_go(&mut self, entry: &OwnedEntry, to: Destination) -> Option<Box<Frozen>> {
        let is_same_home = to.home == self.home_address();
        let index = self.index();
        let cut = self.rare_if_any()?.cut.as_mut()?;
        let address = entry.as_ref().value_address();
        let place = cut.frozen.iter().position(|frozen| frozen.address == address)?;
        let is_begun = cut.frozen[place].is_begun;
        if !is_same_home && (is_begun || !to.is_unsaved) {
            return None;
        }
        let frozen = cut.frozen.remove(place);
        if is_begun && to.index != index {
            cut.forward = Some(to.index);
        }
        Some(Box::new(frozen))
    }

    fn home_address(&self) -> usize {
        Arc::as_ptr(&self.common).addr()
    }
}
