//! What a command over keys may touch.
//!
//! [`Op`] is all of it: its arguments, its reply, the keyspace as far as its slots are held, the effects it logs, and
//! what its shard knows. The parts are fields, so that a handler can read an entry and write its reply at once.
//!
//! A slot that is not held is not an error of the handler's: [`Keyspace::slot`] notes it and answers an error, the
//! handler returns, what it changed is taken back, and the unit of work runs again when it holds that slot too. The
//! text of that error is never sent.
//!
//! Time stands still within a unit of work: `moment` is read once, so a key cannot expire between two looks at it.

use super::counted::Counted;
use super::effects::Effects;
use super::local::Env;
use super::{Command, Run};
use crate::base::slot::key_slot;
use crate::config::KeyspaceEvents;
use crate::data::ValueType;
use crate::data::access::Moment;
use crate::resp::{Args, Proto, Reply, ReplyError, error};
use crate::shard::{Footprint, SlotMarks, SlotSet, View};
use crate::spec::{InvalidKeys, KeyPosition, key_positions};
use crate::store::{Access, DbIndex, Detached, EntryRef, Slot};

/// Ends a handler that needs a slot which is not held. Never sent: the command is run again.
const SLOT_LACKING: ReplyError = ReplyError::Static("ERR a slot is not held");

/// Who has sent a command, as far as a handler over keys may know.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub db: DbIndex,
    pub proto: Proto,
    /// `CLIENT NO-TOUCH`.
    pub leaves_clocks: bool,
    /// A Unix socket or a loopback address.
    pub is_local: bool,
    /// It runs inside EXEC or a script.
    pub is_nested: bool,
    /// Its reply is dropped (`CLIENT REPLY OFF` and `SKIP`).
    pub is_silent: bool,
}

/// One call of a command over keys.
pub struct Op<'a, 'v> {
    pub args: Args<'a>,
    pub reply: Reply<'a>,
    pub keys: Keyspace<'a, 'v>,
    pub effects: &'a mut Effects,
    pub env: &'a mut Env,
    pub caller: Caller,
    /// The literal that is being run.
    pub command: &'static Command,
}

impl Op<'_, '_> {
    /// Says that something happened to a key that keyspace events tell: one call for each event, in Redis's order, with
    /// Redis's name for it.
    #[inline]
    pub fn event(&mut self, class: KeyspaceEvents, name: &'static str, key: &[u8]) {
        if self.env.settings.notify_keyspace_events.contains(class) {
            let (db, key) = (self.keys.db, key.into());
            self.keys
                .journal
                .seldom_mut()
                .events
                .push(KeyEvent { class, name, db, key });
        }
    }
}

/// The keyspace, as far as the slots of the unit of work are held.
pub struct Keyspace<'a, 'v> {
    pub view: &'a mut View<'v, Slot>,
    pub db: DbIndex,
    pub moment: Moment,
    pub access: Access,
    /// Look-ups that found a key, and that did not (`keyspace_hits`, `keyspace_misses`).
    pub hits: u32,
    pub misses: u32,
    pub journal: &'a mut Journal,
    /// The slot of the first key, which the dispatcher knows already, and the key.
    first: Option<(&'a [u8], u16)>,
}

/// What must be remembered across the commands of one unit of work: which slots were touched, and which are lacking.
#[derive(Default, Debug)]
pub struct Journal {
    /// Slots that the command which runs has looked at (they may have keys that expired on the way).
    pub touched: SlotMarks,
    /// The whole keyspace is needed.
    pub lacks_everything: bool,
    /// Slots in which a list, sorted set or stream has got elements ([`Keyspace::signal_ready`]). Clients that wait for keys live
    /// in the slot with them: whoever ends the unit of work looks there, and nowhere else, for someone to serve.
    pub ready: SlotMarks,
    /// Changes can be taken back: set for a transaction, whose later commands may find out which slots they need after the
    /// earlier ones have changed theirs. A single command looks for all its slots before it changes any.
    pub can_undo: bool,
    seldom: Option<Box<Seldom>>,
}

/// What few units of work have. Apart, because a journal is made for each command.
#[derive(Default, Debug)]
struct Seldom {
    /// Slots that are needed and not held.
    lacking: SlotMarks,
    /// Keyspace events of the unit of work, in their order, for whoever publishes them when it ends ([`Op::event`]). Empty
    /// as long as `notify-keyspace-events` asks for none.
    events: Vec<KeyEvent>,
    undone_from: SlotMarks,
    /// What the commands of a unit that can be taken back have counted so far.
    deferred: Vec<Counted>,
}

/// Something that happened to a key (`notify-keyspace-events`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    pub class: KeyspaceEvents,
    /// Redis's name of it: `lpush`, `del`.
    pub name: &'static str,
    pub db: DbIndex,
    pub key: Box<[u8]>,
}

impl Journal {
    /// Whether the unit of work has to be run again with more slots.
    #[inline]
    pub fn is_lacking(&self) -> bool {
        let lacks_slots = |seldom: &Seldom| !seldom.lacking.is_empty();
        self.lacks_everything || self.seldom.as_deref().is_some_and(lacks_slots)
    }

    /// For what is about to be put into it.
    #[cold]
    fn seldom_mut(&mut self) -> &mut Seldom {
        self.seldom.get_or_insert_default()
    }

    /// The unit of work needs that slot, and does not hold it.
    #[cold]
    fn lack(&mut self, slot: u16) {
        self.seldom_mut().lacking.insert(slot);
    }

    /// Puts aside what a command has counted, until the unit of work has ended.
    pub fn defer(&mut self, counted: Counted) {
        self.seldom_mut().deferred.push(counted);
    }

    /// What was put aside.
    pub fn take_deferred(&mut self) -> Vec<Counted> {
        let seldom = self.seldom.as_deref_mut();
        seldom.map_or_else(Vec::new, |seldom| std::mem::take(&mut seldom.deferred))
    }

    fn take_undone_from(&mut self) -> SlotMarks {
        let seldom = self.seldom.as_deref_mut();
        seldom.map_or_else(SlotMarks::new, |seldom| std::mem::take(&mut seldom.undone_from))
    }

    /// What the unit of work lacks.
    pub fn into_footprint(self) -> Footprint {
        if self.lacks_everything {
            Footprint::Everything
        } else {
            Footprint::Slots(
                self.seldom
                    .map_or_else(SlotSet::new, |seldom| seldom.lacking.into_set()),
            )
        }
    }

    /// Takes back all changes of the unit of work. Hands what is to be freed to `discard`.
    pub fn roll_back(&mut self, view: &mut View<'_, Slot>, mut discard: impl FnMut(Detached)) {
        for slot in self.take_undone_from().iter() {
            let slot = view.slot(slot).expect("a slot with an undo journal is still held");
            slot.rollback();
            if let Some(discarded) = slot.take_discarded() {
                discard(*discarded);
            }
        }
        self.touched = SlotMarks::new();
        self.ready = SlotMarks::new();
        if let Some(seldom) = &mut self.seldom {
            seldom.deferred.clear();
            seldom.events.clear();
        }
    }

    /// Makes all changes final. Hands what is to be freed to `discard`.
    pub fn commit(&mut self, view: &mut View<'_, Slot>, mut discard: impl FnMut(Detached)) {
        for slot in self.take_undone_from().iter() {
            discard(
                view.slot(slot)
                    .expect("a slot with an undo journal is still held")
                    .commit_undo(),
            );
        }
    }
}

impl<'a, 'v> Keyspace<'a, 'v> {
    pub fn new(
        view: &'a mut View<'v, Slot>,
        journal: &'a mut Journal,
        caller: &Caller,
        moment: Moment,
        first: Option<(&'a [u8], u16)>,
    ) -> Keyspace<'a, 'v> {
        let access = if caller.leaves_clocks {
            Access::Peek
        } else {
            Access::Read
        };
        Keyspace {
            view,
            db: caller.db,
            moment,
            access,
            hits: 0,
            misses: 0,
            journal,
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
        held(self.view, self.journal, slot)
    }

    /// Asks for further slots: the error ends the handler, and the unit runs again with them on loan. One of them at least is
    /// not held.
    pub fn need_slots(&mut self, slots: &SlotSet) -> ReplyError {
        slots.iter().for_each(|slot| self.journal.lack(slot));
        SLOT_LACKING
    }

    /// Asks for the whole keyspace: the error ends the handler, and the unit runs again with everything on loan.
    pub fn need_everything(&mut self) -> ReplyError {
        self.journal.lacks_everything = true;
        SLOT_LACKING
    }

    /// Looks a key up for reading: counts as a hit or a miss, and updates the access clock.
    #[inline]
    pub fn read(&mut self, key: &[u8]) -> Result<Option<EntryRef<'_>>, ReplyError> {
        let slot = self.slot_of(key);
        let found = held(self.view, self.journal, slot)?.get(self.db, key, self.moment, self.access);
        *(if found.is_some() {
            &mut self.hits
        } else {
            &mut self.misses
        }) += 1;
        Ok(found)
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

    /// Says that a list, sorted set or stream has got elements which a client may wait for (BLPOP, BZPOPMIN, XREAD BLOCK):
    /// one call where the elements are added, after them.
    #[inline]
    pub fn signal_ready(&mut self, key: &[u8]) {
        let slot = self.slot_of(key);
        self.journal.ready.insert(slot);
    }

    /// Whether there is such a key; no hit, no miss.
    pub fn exists(&mut self, key: &[u8]) -> Result<bool, ReplyError> {
        Ok(self.peek(key)?.is_some())
    }
}

/// The slot of that number, if it is held. Apart from [`Keyspace`], so that a caller can count while it looks at the
/// entry it has found.
#[inline]
fn held<'k>(view: &'k mut View<'_, Slot>, journal: &mut Journal, slot: u16) -> Result<&'k mut Slot, ReplyError> {
    let Some(found) = view.slot(slot) else {
        journal.lack(slot);
        return Err(SLOT_LACKING);
    };
    journal.touched.insert(slot);
    if journal.can_undo {
        keep_for_undo(found, journal, slot);
    }
    Ok(found)
}

/// What is changed from here on can be taken back.
#[cold]
fn keep_for_undo(content: &mut Slot, journal: &mut Journal, slot: u16) {
    if journal.seldom_mut().undone_from.insert(slot) {
        content.begin_undo();
    }
}

/// The entry, if it is of that type.
#[inline]
fn only(entry: Option<EntryRef<'_>>, wanted: ValueType) -> Result<Option<EntryRef<'_>>, ReplyError> {
    match entry {
        Some(found) if found.type_of() != wanted => Err(error::WRONG_TYPE),
        found => Ok(found),
    }
}

/// The slots of a call's keys. Keys that cannot be found (a count that is no number) are left out: the handler will
/// refuse the call for the same reason.
pub fn key_slots(command: &Command, args: Args) -> SlotSet {
    let mut slots = SlotMarks::new();
    // An error leaves the slots found so far, which is all that a call that will be refused needs.
    let _ = each_key(command, args, |position| {
        slots.insert(key_slot(&args[position.index]));
    });
    slots.into_set()
}

/// Calls `found` with each key of a call that can be told from its arguments: by the key specs, and by the literal's own function.
pub fn each_key(command: &Command, args: Args, mut found: impl FnMut(KeyPosition)) -> Result<(), InvalidKeys> {
    key_positions(command.keys, args.len(), |index| args.at(index), &mut found)?;
    if let Run::Reaching(further, _) = command.run {
        further(args).into_iter().for_each(found);
    }
    Ok(())
}

/// The argument that is the only key of a call, when the literal says that there is exactly one at a fixed place.
#[inline]
pub fn single_key(command: &Command) -> Option<usize> {
    use crate::spec::{Begin, Find};
    match command.keys {
        [spec] => match (spec.begin, spec.find, command.run) {
            (Begin::Index(index), Find::Range { last: 0, .. }, Run::Keys(_)) => Some(index),
            _ => None,
        },
        _ => None,
    }
}
