//! Large values that go on living under another name, or in another db (RENAME, MOVE), while what they were is still to be saved.
//!
//! The value moves, with its past, and so does the word of what it was at the cut: whoever is the home of the slot in which it lives
//! then saves it, under the name and the db that it had. Nothing is copied, however large it is.
//!
//! For that the home of the new slot must not be done with its part of the snapshot. It is not ([`Destination`]) if it is the home of the old
//! slot as well, where something captured waits; or if the walk through the new slot is still to be done. Else what was stays in
//! the old slot and a copy lives on; whoever moves it learns of that before ([`Slot::must_stay`]), and may make the copy in slices.
//!
//! If it has been read in part, then by the home, which has written that part: so it moves within slots of the same home only, is the first to
//! be read where it comes to, and the old slot says where that is ([`Slot::take_forward`]). That may be said of several slots in turn, and
//! be left over where the value has come back: so it is forgotten where such a value arrives, and by whoever begins to read there.
//!
//! An undo takes such a move back as it was made: the word goes back with the value. The home of the old slot cannot be done by then, since it
//! has not had that slot.
//!
//! Invariant: the mark of the old slot stays set until its home has looked at it. A home that sees the mark gone has seen that of the
//! new slot before, in whatever order it looks at them.

use super::{Frozen, FrozenPlace};
use crate::data::Object;
use crate::data::access::Moment;
use crate::data::frozen::Use;
use crate::store::entry::{EntryRef, OwnedEntry};
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

impl Taken {
    pub(in crate::store) fn into_parts(self) -> (OwnedEntry, Option<Box<Frozen>>) {
        (self.entry, self.frozen)
    }

    /// Whether what it was has been read in part.
    pub(in crate::store) fn is_begun(&self) -> bool {
        self.frozen.as_ref().is_some_and(|frozen| frozen.is_begun)
    }

    /// Without the word of what it was, if there is none.
    pub(in crate::store) fn into_entry(self) -> OwnedEntry {
        debug_assert!(self.frozen.is_none(), "what a snapshot wants has a place");
        self.entry
    }
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

    /// Whether the value of a key has to stay here for the snapshot, however large it is, while a copy lives on in that slot.
    pub fn must_stay(&mut self, db: DbIndex, key: &[u8], to: Destination, at: Moment) -> bool {
        let Some(spot) = self.find_live(db, self.hash(key), key, at) else {
            return false;
        };
        self.note_going(db, spot.hash(), key);
        let entry = self.table(db).map(|table| table.entry(spot));
        entry.is_some_and(|entry| entry.is_frozen(Use::Snapshot) && !self.may_let_go(entry, to))
    }

    /// Deletes a key and hands its entry out, to be put into that slot. `copy` is one of its value, if that must stay here and the copy has
    /// been made before; else it is made now.
    pub fn take_for(
        &mut self,
        db: DbIndex,
        key: &[u8],
        to: Destination,
        copy: Option<Object>,
        at: Moment,
    ) -> Option<Taken> {
        let may_move = |from: &Slot, entry: EntryRef<'_>| !entry.is_frozen(Use::Snapshot) || from.may_let_go(entry, to);
        let entry = self.take_whole(db, key, at, may_move)?;
        let is_frozen = entry.as_ref().is_frozen(Use::Snapshot);
        let frozen = is_frozen.then(|| self.let_go(&entry, to)).flatten();
        let entry = match (&frozen, copy) {
            (None, Some(copy)) if is_frozen => {
                let seen = entry.as_ref();
                let copy = OwnedEntry::object(key, copy, seen.expiry(), seen.access_clock());
                self.keep_frozen(entry).unwrap_or(copy)
            }
            (None, _) => self.part_from_cut(entry),
            (Some(_), _) => entry,
        };
        Some(Taken { entry, frozen })
    }

    /// Stores it under a key, as [`Slot::put`] does.
    pub fn put_taken(&mut self, db: DbIndex, key: &[u8], taken: Taken, at: Moment) {
        let Taken { entry, frozen } = taken;
        self.note_come(&entry);
        self.put(db, key, entry, at);
        if let Some(frozen) = frozen {
            self.put_word(db, key, *frozen);
        }
    }

    /// Takes in the word of a value that is in this place now.
    pub(in crate::store) fn put_word(&mut self, db: DbIndex, key: &[u8], mut frozen: Frozen) {
        frozen.key_now = (*frozen.entry.key != *key).then(|| key.into());
        frozen.place = FrozenPlace::Table(db);
        let cut = self.cut_mut();
        let mut at = cut.frozen.len();
        if frozen.is_begun {
            at = 0;
            // It is here now, wherever one went that was read here before.
            cut.forward = None;
        }
        cut.frozen.insert(at, frozen);
        self.common.cut.captured_slots.set(self.index());
    }

    /// An entry that is in no table any more, with the word of what it was, if there is one.
    pub(in crate::store) fn with_word(&mut self, entry: OwnedEntry) -> Taken {
        let address = entry.as_ref().value_address();
        let frozen = match entry.as_ref().is_frozen(Use::Snapshot) {
            true => self.take_word(address, None),
            false => None,
        };
        Taken { entry, frozen }
    }

    /// The value that was being read here has gone to that slot.
    pub(in crate::store) fn set_forward(&mut self, to: u16) {
        self.cut_mut().forward = Some(to);
    }

    /// Takes where the value is now that was being read here and has moved on, if it has.
    pub fn take_forward(&mut self) -> Option<u16> {
        let forward = self.rare_if_any()?.cut.as_mut()?.forward.take();
        self.drop_cut_if_empty();
        forward
    }

    /// Gives up the word of a value, if that may live in the slot to which it goes.
    fn let_go(&mut self, entry: &OwnedEntry, to: Destination) -> Option<Box<Frozen>> {
        if !self.may_let_go(entry.as_ref(), to) {
            return None;
        }
        let forward = (to.index != self.index()).then_some(to.index);
        self.take_word(entry.as_ref().value_address(), forward)
    }

    /// Whether a value that is frozen for the snapshot may live in the slot to which it is to go.
    fn may_let_go(&self, entry: EntryRef<'_>, to: Destination) -> bool {
        let cut = self.rare().and_then(|rare| rare.cut.as_ref());
        let address = entry.value_address();
        let word = cut.and_then(|cut| cut.frozen.iter().find(|frozen| frozen.address == address));
        word.is_some_and(|word| to.home == self.home_address() || (!word.is_begun && to.is_unsaved))
    }

    /// Takes the word of a value that goes; whoever has begun to read it learns to which slot, if to another one.
    fn take_word(&mut self, address: usize, forward: Option<u16>) -> Option<Box<Frozen>> {
        let cut = self.rare_if_any()?.cut.as_mut()?;
        let place = cut.frozen.iter().position(|frozen| frozen.address == address)?;
        let frozen = cut.frozen.remove(place);
        if frozen.is_begun && forward.is_some() {
            cut.forward = forward;
        }
        Some(Box::new(frozen))
    }

    fn home_address(&self) -> usize {
        Arc::as_ptr(&self.common).addr()
    }
}
