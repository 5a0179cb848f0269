//! The keyspace as a command sees it: the slots that its unit of work holds, at one time, in one db.
//!
//! A slot that is not held is not an error of the handler's: [`Keyspace::slot`] notes it and answers an error, the
//! handler returns, what it changed is taken back, and the unit of work runs again when it holds that slot too. The
//! text of that error is never sent.
//!
//! Time stands still within a unit of work: `moment` is read once, so a key cannot expire between two looks at it. Values are
//! reached by their type in `typed`.

use super::attempt::{Attempt, Consequences};
use super::counted::Expirations;
use crate::base::slot::key_slot;
use crate::data::ValueType;
use crate::data::access::Moment;
use crate::resp::{ReplyError, error};
use crate::shard::{SlotSet, View};
use crate::store::{Access, DbIndex, EntryRef, Slot};

/// Ends a handler that needs a slot which is not held. Never sent: the command is run again.
const SLOT_LACKING: ReplyError = ReplyError::Static("ERR a slot is not held");

/// Ends a handler that goes on in another step. Never sent, either.
pub(super) const STEP_IS_OVER: ReplyError = ReplyError::Static("ERR a step is over");

/// The keyspace, as far as the slots of the unit of work are held.
pub struct Keyspace<'a, 'v> {
    pub view: &'a mut View<'v, Slot>,
    pub db: DbIndex,
    pub moment: Moment,
    pub access: Access,
    /// Look-ups that found a key, and that did not (`keyspace_hits`, `keyspace_misses`).
    pub hits: u32,
    pub misses: u32,
    pub attempt: &'a mut Attempt,
    /// What was found to be over and has been taken from its slot.
    pub(super) expirations: Expirations,
    /// The slot of the first key, which the dispatcher knows already, and the key.
    first: Option<(&'a [u8], u16)>,
}

impl<'a, 'v> Keyspace<'a, 'v> {
    pub fn new(
        view: &'a mut View<'v, Slot>,
        attempt: &'a mut Attempt,
        leaves_clocks: bool,
        db: DbIndex,
        moment: Moment,
        first: Option<(&'a [u8], u16)>,
    ) -> Keyspace<'a, 'v> {
        let access = if leaves_clocks { Access::Peek } else { Access::Read };
        Keyspace {
            view,
            db,
            moment,
            access,
            hits: 0,
            misses: 0,
            attempt,
            expirations: Expirations::default(),
            first,
        }
    }

    /// The number of the slot that `key` belongs to.
    #[inline]
    pub fn slot_of(&self, key: &[u8]) -> u16 {
        match self.first {
            Some((first, slot)) if std::ptr::eq(first, key) => slot,
            _ => key_slot(key),
        }
    }

    /// The slot of `key`.
    #[inline]
    pub fn slot(&mut self, key: &[u8]) -> Result<&mut Slot, ReplyError> {
        self.numbered(self.slot_of(key))
    }

    /// The slot of that number.
    #[inline]
    pub fn numbered(&mut self, slot: u16) -> Result<&mut Slot, ReplyError> {
        held(self.view, self.attempt, slot)
    }

    /// Asks for further slots: the error ends the handler, and the unit runs again with them on loan. One of them at least is
    /// not held.
    pub fn need_slots(&mut self, slots: &SlotSet) -> ReplyError {
        slots.iter().for_each(|slot| self.attempt.lack(slot));
        SLOT_LACKING
    }

    /// Asks for the whole keyspace: the error ends the handler, and the unit runs again with everything on loan.
    pub fn need_everything(&mut self) -> ReplyError {
        self.attempt.lacks_everything = true;
        SLOT_LACKING
    }

    /// Looks a key up for reading: counts as a hit or a miss, and updates the access clock.
    #[inline]
    pub fn read(&mut self, key: &[u8]) -> Result<Option<EntryRef<'_>>, ReplyError> {
        let slot = self.slot_of(key);
        let consequences = self.attempt.consequences.as_deref();
        if consequences.is_some_and(Consequences::wants_misses) && self.tell_miss(slot, key)? {
            self.misses += 1;
            return Ok(None);
        }
        let found = held(self.view, self.attempt, slot)?.get(self.db, key, self.moment, self.access);
        if found.is_some() {
            self.hits += 1;
        } else {
            self.misses += 1;
        }
        Ok(found)
    }

    /// Tells that there is no such key, if so; that its time was over comes first.
    #[cold]
    fn tell_miss(&mut self, number: u16, key: &[u8]) -> Result<bool, ReplyError> {
        let slot = held(self.view, self.attempt, number)?;
        if slot.get(self.db, key, self.moment, Access::Peek).is_some() {
            return Ok(false);
        }
        let told = slot.take_told();
        self.expirations.add(&told);
        if let Some(consequences) = &mut self.attempt.consequences {
            consequences.take_in(number, told);
            consequences.tell_miss(self.db, key);
        }
        Ok(true)
    }

    /// Looks a key up before changing it: no hit, no miss, no change of the access clock (the change itself is an
    /// access).
    #[inline]
    pub fn peek(&mut self, key: &[u8]) -> Result<Option<EntryRef<'_>>, ReplyError> {
        let (db, moment) = (self.db, self.moment);
        Ok(self.slot(key)?.get(db, key, moment, Access::Peek))
    }

    /// Looks a key up that is left alone if it exists (SETNX): no hit, no miss, but an access.
    #[inline]
    pub fn visit(&mut self, key: &[u8]) -> Result<Option<EntryRef<'_>>, ReplyError> {
        let (db, moment, access) = (self.db, self.moment, self.access);
        Ok(self.slot(key)?.get(db, key, moment, access))
    }

    /// As [`Keyspace::read`], for a string: any other type is WRONGTYPE.
    #[inline]
    pub fn read_string(&mut self, key: &[u8]) -> Result<Option<EntryRef<'_>>, ReplyError> {
        only(self.read(key)?, ValueType::String)
    }

    /// As [`Keyspace::peek`], for a string: any other type is WRONGTYPE.
    #[inline]
    pub fn peek_string(&mut self, key: &[u8]) -> Result<Option<EntryRef<'_>>, ReplyError> {
        only(self.peek(key)?, ValueType::String)
    }

    /// Whether there is such a key; no hit, no miss.
    pub fn exists(&mut self, key: &[u8]) -> Result<bool, ReplyError> {
        Ok(self.peek(key)?.is_some())
    }
}

/// The slot of that number, if it is held. Apart from [`Keyspace`], so that a caller can count while it looks at the
/// entry it has found.
#[inline]
fn held<'k>(view: &'k mut View<'_, Slot>, attempt: &mut Attempt, slot: u16) -> Result<&'k mut Slot, ReplyError> {
    attempt.held(view, slot).ok_or(SLOT_LACKING)
}

/// The entry, if it is of that type.
#[inline]
fn only(entry: Option<EntryRef<'_>>, wanted: ValueType) -> Result<Option<EntryRef<'_>>, ReplyError> {
    match entry {
        Some(found) if found.type_of() != wanted => Err(error::WRONG_TYPE),
        found => Ok(found),
    }
}
