//! What a handler over keys says of what it did.
//!
//! A handler that has changed a key says so in one call, when the change is made: which key, which event that is, and how many
//! changes it counts as ([`Op::wrote`]). What goes into the log is the command itself, unless the handler says otherwise
//! ([`Op::instead`]); if nothing was changed, nothing is logged. What follows from changes of the table (`new`, `expired`, the `del` of a value that
//! was emptied, keys that become ready) the slots tell, and no handler does.

use super::attempt::{Audience, Event, Post, concerns_caches};
use super::keyspace::STEP_IS_OVER;
use super::literal::Op;
use super::parked::Park;
use super::tracked::TrackedStep;
use crate::base::clock::Ticks;
use crate::resp::ReplyError;
use crate::store::DbIndex;
use std::any::Any;
use std::time::Duration;

/// How long a step of a command lasts that goes in steps: as long as one of other work in the background.
const STEP: Duration = Duration::from_micros(250);

/// Commands that take long, and let others run in between.
///
/// Such a handler does a step, and returns the error that [`Op::pause`] answers; it is called again with what it has handed over there. Between
/// two steps its unit of work holds its slots, and time stands still for it: nobody sees that there are several, and who needs one
/// of these slots waits. Before its last step it changes nothing that anybody could see; the first time that it pauses it has done
/// nothing yet (it is called anew, as a unit of work that may hold).
impl Op<'_, '_> {
    /// Whether it may be done in steps: what runs within another unit (EXEC) must not.
    pub fn may_pause(&self) -> bool {
        !self.caller.is_nested
    }

    /// What the step before has handed over; None: this is the first.
    pub fn resumed<T: Any>(&mut self) -> Option<T> {
        let state = self.keys.attempt.take_resumed()?.downcast::<T>();
        Some(*state.expect("a handler gets what it has handed over"))
    }

    /// Hands this over to the next step: the error ends this one.
    #[must_use = "it ends the handler"]
    pub fn pause(&mut self, state: impl Any + Send) -> ReplyError {
        self.keys.attempt.pause(Box::new(state));
        STEP_IS_OVER
    }

    /// When a step that begins now is to end.
    pub fn end_of_step(&self) -> Ticks {
        Ticks(self.env.clock.ticks().0 + STEP.as_nanos() as u64)
    }

    /// Whether a step that ends then is over.
    pub fn is_over(&self, end: Ticks) -> bool {
        self.env.clock.ticks() >= end
    }
}

/// Commands that wait for their keys.
///
/// Such a handler looks at those keys that are [within reach](Op::is_within_reach). Where none has anything for it, it returns what
/// [`Op::wait`] answers. It is run again, whole, when one of the keys is ready, and then answers, or says again that it waits.
impl Op<'_, '_> {
    /// Whether this key is to be looked at: when a client is served that has waited, another one of its keys may be in use elsewhere. What
    /// that has for it, it will be offered there.
    pub fn is_within_reach(&self, key: &[u8]) -> bool {
        !self.keys.attempt.is_serving || self.keys.view.peek(self.keys.slot_of(key)).is_some()
    }

    /// Whether it may wait: what runs within another unit (EXEC) answers at once that there is nothing.
    pub fn may_wait(&self) -> bool {
        self.keys.attempt.may_park
    }

    /// There is nothing for it. It waits, or answers that if it may not.
    pub fn wait(&mut self, park: Park) -> Result<(), ReplyError> {
        if !self.may_wait() {
            park.nothing.write(&mut self.reply);
            return Ok(());
        }
        self.keys.attempt.park(park);
        Err(STEP_IS_OVER)
    }
}

impl Op<'_, '_> {
    /// Says that a key was written, which is one change: what event that is. To be called when the change is made.
    #[inline]
    pub fn wrote(&mut self, key: &[u8], event: Event) {
        self.wrote_times(key, event, 1);
    }

    /// The same for what counts as so many changes (`rdb_changes_since_last_save`).
    #[inline]
    pub fn wrote_times(&mut self, key: &[u8], event: Event, changes: u64) {
        self.wrote_in(self.keys.db, key, event, changes);
    }

    /// The same of a key in another db than the client's (MOVE, COPY).
    #[inline]
    pub fn wrote_in(&mut self, db: DbIndex, key: &[u8], event: Event, changes: u64) {
        self.changes += changes;
        if self.keys.attempt.consequences.is_some() || self.env.is_anything_tracked() {
            self.tell(db, key, Some(event));
        }
    }

    /// Says that the write of a key was a further event as well (SET's `expire`).
    #[inline]
    pub fn also(&mut self, key: &[u8], event: Event) {
        self.wrote_times(key, event, 0);
    }

    /// Counts changes that are no event (FLUSHALL, XACK).
    #[inline]
    pub fn changed(&mut self, changes: u64) {
        self.changes += changes;
    }

    /// Says that all keys of a db are gone, or of all dbs, be there any or not: whoever caches keys is told to keep none. For who holds
    /// everything.
    pub fn flushed(&mut self) {
        let slots = self.keys.view.all_slots().into_iter().flatten();
        let tracked: Vec<_> = slots
            .map(|(number, slot)| (number, slot.take_all_tracked()))
            .filter(|(_, keys)| !keys.is_empty())
            .collect();
        if self.env.is_anybody_caching() || !tracked.is_empty() {
            let consequences = self.keys.attempt.consequences.get_or_insert_default();
            for (slot, keys) in tracked {
                consequences.put_down(TrackedStep::Forgotten { slot, keys });
            }
            consequences.put_down(TrackedStep::Flushed);
        }
    }

    /// Has it told now that a key is new, where that comes before the event of another key (RENAME).
    pub fn came(&mut self, key: &[u8]) {
        if self.keys.attempt.consequences.is_some() {
            self.tell(self.keys.db, key, None);
        }
    }

    #[cold]
    fn tell(&mut self, db: DbIndex, key: &[u8], event: Option<Event>) {
        let slot = self.keys.slot_of(key);
        // A slot that was written to is held. (Who flushes has no key.)
        let told = self.keys.view.slot(slot).map_or_else(Vec::new, |slot| slot.take_told());
        self.keys.expirations.add(&told);
        if concerns_caches(&told) {
            self.keys.attempt.consequences.get_or_insert_default();
        }
        if let Some(consequences) = &mut self.keys.attempt.consequences {
            match event {
                Some(event) => consequences.wrote(slot, told, event, db, key),
                None => consequences.take_in(slot, told),
            }
        }
    }

    /// How many changes were counted so far.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Logs this instead of the command itself; may be called several times.
    pub fn instead(&mut self, words: &[&[u8]]) {
        self.instead_in(self.keys.db, words);
    }

    /// The same in another db than the client's.
    pub fn instead_in(&mut self, db: DbIndex, words: &[&[u8]]) {
        self.is_replaced = true;
        if let Some(consequences) = &mut self.keys.attempt.consequences {
            consequences.log_own(db, words);
        }
    }

    /// What this command logs from here on, itself included, is for the file or for the stream alone.
    pub fn logs_for(&mut self, audience: Audience) {
        if let Some(consequences) = &mut self.keys.attempt.consequences {
            consequences.audience = audience;
        }
    }

    /// Logs nothing, whatever was changed.
    pub fn logs_nothing(&mut self) {
        self.is_replaced = true;
    }

    /// Publishes something, when the unit of work has ended.
    pub fn post(&mut self, post: Post) {
        self.keys.attempt.consequences.get_or_insert_default().post(post);
    }

    /// Whether anybody reads what is logged: if not, nothing need be made up for it.
    pub fn is_logged(&self) -> bool {
        let consequences = self.keys.attempt.consequences.as_ref();
        consequences.is_some_and(|consequences| consequences.is_logged)
    }
}
