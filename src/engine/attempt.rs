//! An attempt at a unit of work: how far it reached, and all that follows from it, kept until the unit has ended.
//!
//! A unit may find out as it runs that it lacks a slot; then everything is taken back, and it runs again. Nothing of the first attempt
//! may be seen: so whatever a command leads to besides its changes (effects for the log, keyspace events, keys that became ready or went
//! away, what it counts in the statistics) is put down here first. [`Attempt::roll_back`] drops it with the changes, and the end of the
//! unit ([`Env::end_unit`](super::Env::end_unit), the only one) hands it on. The second attempt draws the same random numbers, so that a
//! command which goes by chance comes to an end. It does not get the same time: while it collected slots others may have used these at a
//! later one, and on no slot does time go back. Since nothing of the first attempt is seen, the unit is one that began later.
//!
//! Of what follows a handler says three things itself ([`Op`](super::Op)): that it wrote a key, which event that is, and what stands in
//! the log, if not the command itself. The rest the slots tell ([`Told`]), where their tables change: that a time
//! was over, that a key is new or has lost its last element, that a stream grew. From that come `expired`, `new` and `del` among the
//! events, the DELs of expired keys in the log, and the [`Signal`]s for clients that wait for keys.
//!
//! Most commands lead to nothing that anybody wants to know: then there are no [`Consequences`], and all this is one branch.
//!
//! Invariants: (1) the effects of expired keys stand before those of the command that met them; (2) events stand in Redis's order,
//! in which a key's `new` comes before, and the `del` of an emptied value after, the event of the write; (3) signals stand in
//! the order in which they first came, each once.

use super::counted::{Counted, Expirations};
use super::parked::Park;
use super::tracked::{TrackedStep, take_back};
use crate::config::KeyspaceEvents;
use crate::data::ValueType;
use crate::pubsub;
use crate::resp::Args;
use crate::shard::{Footprint, SlotMarks, SlotSet, View};
use crate::store::{DbIndex, Detached, Happening, MovedBack, Slot, Told};
use bytes::Bytes;
use std::any::Any;
use std::collections::HashSet;

/// See the essay above.
#[derive(Default, Debug)]
pub struct Attempt {
    /// Slots that the command which runs has looked at (they may have something to tell).
    pub touched: SlotMarks,
    /// The whole keyspace is needed.
    pub lacks_everything: bool,
    /// Changes can be taken back: set for a transaction, whose later commands may find out which slots they need after the
    /// earlier ones have changed theirs. A single command looks for all its slots before it changes any.
    pub can_undo: bool,
    /// The command may wait for its keys.
    pub(super) may_park: bool,
    /// Somebody who has waited is served: of its keys only those count that are held.
    pub(super) is_serving: bool,
    seldom: Option<Box<Seldom>>,
    /// None: nobody wants to know.
    pub consequences: Option<Box<Consequences>>,
}

/// What few attempts have. Apart, because there is an attempt for each command.
#[derive(Default, Debug)]
struct Seldom {
    /// Slots that are needed and not held.
    lacking: SlotMarks,
    undone_from: SlotMarks,
    /// What the step before has left to this one.
    resumed: Option<Paused>,
    /// What this step leaves to the next one.
    paused: Option<Paused>,
    /// The command waits for this.
    parked: Option<Box<Park>>,
}

/// What a command that goes in steps keeps between two of them.
#[derive(Debug)]
pub struct Paused {
    state: Box<dyn Any + Send>,
    /// What its steps have taken so far.
    spent_us: u64,
}

/// What follows from a unit of work.
#[derive(Default, Debug)]
pub struct Consequences {
    /// Effects are to be logged.
    pub is_logged: bool,
    /// The classes of events that are wanted.
    pub classes: KeyspaceEvents,
    /// Effects of the unit, in their order.
    pub effects: EffectBuffer,
    /// What the command that runs logs instead of itself, in full.
    own: EffectBuffer,
    /// Who gets what the command that runs logs.
    pub(super) audience: Audience,
    pub events: Vec<KeyEvent>,
    /// What its commands have published, each behind so many of the events.
    pub posts: Vec<(usize, Post)>,
    /// What those who watch all commands are shown of those that have run.
    pub(super) shown: Vec<Shown>,
    /// What it has done to what clients cache, each step behind so many of the events.
    pub(super) tracked: Vec<(usize, TrackedStep)>,
    /// The command that runs goes into the log though it changes nothing.
    is_told_to_replicas: bool,
    pub signals: Vec<Signal>,
    /// What its commands count, as far as that waits for the end.
    pub counted: Vec<Counted>,
    /// Keys that have lost their last element since the write that is still to be told.
    emptied: Vec<(DbIndex, Box<[u8]>)>,
    /// It is to be known which slots the unit has looked at.
    pub(super) notes_seen: bool,
    pub(super) seen: SlotMarks,
    /// It may have looked at any.
    pub(super) has_seen_all: bool,
    /// It may have changed any.
    pub(super) has_held_all: bool,
}

/// A command as those see it who watch all of them.
#[derive(Debug)]
pub(super) struct Shown {
    pub db: DbIndex,
    /// A script has called it.
    pub is_script: bool,
    pub arguments: String,
}

/// What a keyspace event is about: its class, and Redis's name of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What `notify-keyspace-events` asks for it by.
    pub class: KeyspaceEvents,
    /// `lpush`, `del`.
    pub name: &'static str,
}

/// Something that happened to a key (`notify-keyspace-events`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    pub event: Event,
    pub db: DbIndex,
    pub key: Box<[u8]>,
}

/// Something that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// Whether it was to a channel or to a shard channel.
    pub kind: pubsub::Kind,
    pub channel: Bytes,
    pub payload: Bytes,
}

/// What clients that wait for keys are to be told when the unit has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// A list, sorted set or stream came to be where none was, a stream grew, a group went.
    Ready(DbIndex, Box<[u8]>),
    /// The key was deleted, is over, or has another value now.
    Gone(DbIndex, Box<[u8]>),
    /// All keys of the db are gone.
    Flushed(DbIndex),
    /// These dbs have changed places.
    Swapped(DbIndex, DbIndex),
}

impl Signal {
    /// The key that it is about; None: whole dbs.
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Signal::Ready(_, key) | Signal::Gone(_, key) => Some(key),
            Signal::Flushed(_) | Signal::Swapped(..) => None,
        }
    }
}

macro_rules! classes {
    ($($function:ident $class:ident $what:literal;)+) => {
        impl Event {
            $(
                #[doc = concat!("An event of ", $what, ".")]
                pub const fn $function(name: &'static str) -> Event {
                    Event { class: KeyspaceEvents::$class, name }
                }
            )+
        }
    };
}

classes! {
    generic GENERIC "keys of any type";
    string STRING "strings";
    list LIST "lists";
    set SET "sets";
    hash HASH "hashes";
    sorted_set SORTED_SET "sorted sets";
    stream STREAM "streams";
}

const NEW: Event = Event {
    class: KeyspaceEvents::NEW,
    name: "new",
};
const MISS: Event = Event {
    class: KeyspaceEvents::KEY_MISS,
    name: "keymiss",
};
const EXPIRED: Event = Event {
    class: KeyspaceEvents::EXPIRED,
    name: "expired",
};
/// A key was evicted.
pub(super) const EVICTED: Event = Event {
    class: KeyspaceEvents::EVICTED,
    name: "evicted",
};
const FIELDS_EXPIRED: Event = Event::hash("hexpired");
const DELETED: Event = Event::generic("del");

impl Attempt {
    /// Whether the unit of work has to be run again: with more slots, or for its next step.
    #[inline]
    pub fn is_lacking(&self) -> bool {
        let has_more = |seldom: &Seldom| !seldom.lacking.is_empty() || seldom.paused.is_some();
        self.lacks_everything || self.seldom.as_deref().is_some_and(has_more)
    }

    /// What runs is the next step of what has left this.
    pub(super) fn resume(&mut self, paused: Paused) {
        self.seldom_mut().resumed = Some(paused);
    }

    /// What the step before has left.
    pub(super) fn take_resumed(&mut self) -> Option<Box<dyn Any + Send>> {
        let seldom = self.seldom.as_deref_mut()?;
        let resumed = seldom.resumed.as_mut()?;
        Some(std::mem::replace(&mut resumed.state, Box::new(())))
    }

    /// The command is to be run again, with its slots held until then, and gets this.
    #[cold]
    pub(super) fn pause(&mut self, state: Box<dyn Any + Send>) {
        self.seldom_mut().paused = Some(Paused { state, spent_us: 0 });
    }

    /// The command has found nothing, and is to wait.
    #[cold]
    pub(super) fn park(&mut self, park: Park) {
        self.seldom_mut().parked = Some(Box::new(park));
    }

    #[inline]
    pub(super) fn is_parked(&self) -> bool {
        self.seldom.as_deref().is_some_and(|seldom| seldom.parked.is_some())
    }

    /// What the command waits for.
    pub(super) fn take_parked(&mut self) -> Option<Box<Park>> {
        self.seldom.as_deref_mut()?.parked.take()
    }

    /// What the steps before this one have taken.
    #[inline]
    pub(super) fn spent_us(&self) -> u64 {
        let resumed = self.seldom.as_deref().and_then(|seldom| seldom.resumed.as_ref());
        resumed.map_or(0, |resumed| resumed.spent_us)
    }

    /// What is kept for the next step, if there is to be one; this one has taken so long.
    pub(super) fn take_paused(&mut self, elapsed_us: u64) -> Option<Paused> {
        let spent_us = self.spent_us() + elapsed_us;
        let paused = self.seldom.as_deref_mut()?.paused.take()?;
        Some(Paused { spent_us, ..paused })
    }

    /// For what is about to be put into it.
    #[cold]
    fn seldom_mut(&mut self) -> &mut Seldom {
        self.seldom.get_or_insert_default()
    }

    /// The unit of work needs that slot, and does not hold it.
    #[cold]
    pub(super) fn lack(&mut self, slot: u16) {
        self.seldom_mut().lacking.insert(slot);
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

    /// The slot of that number, if it is held; the first look at a slot opens its undo, if there is to be one.
    #[inline]
    pub(super) fn held<'k>(&mut self, view: &'k mut View<'_, Slot>, slot: u16) -> Option<&'k mut Slot> {
        let Some(found) = view.slot(slot) else {
            self.lack(slot);
            return None;
        };
        self.touched.insert(slot);
        if self.can_undo {
            self.keep_for_undo(found, slot);
        }
        Some(found)
    }

    /// What is changed from here on can be taken back.
    #[cold]
    fn keep_for_undo(&mut self, content: &mut Slot, slot: u16) {
        if self.seldom_mut().undone_from.insert(slot) {
            content.begin_undo();
        }
    }

    /// Takes back all changes of the unit of work, and forgets what would have followed. Hands what is to be freed to `discard`.
    pub fn roll_back(&mut self, view: &mut View<'_, Slot>, mut discard: impl FnMut(Detached)) {
        let undone = self.take_undone_from();
        let mut moved = MovedBack::default();
        for slot in undone.iter() {
            held(view, slot).roll_back_into(&mut moved);
        }
        for slot in undone.iter() {
            let slot = held(view, slot);
            if !moved.is_empty() {
                slot.fill_from(&mut moved);
            }
            if let Some(discarded) = slot.take_discarded() {
                discard(*discarded);
            }
        }
        discard(moved.into_detached());
        self.touched = SlotMarks::new();
        if let Some(consequences) = self.consequences.take() {
            take_back(consequences.tracked.into_iter().map(|(_, step)| step), view);
        }
    }

    /// Makes all changes final. Hands what is to be freed to `discard`.
    pub(super) fn commit(&mut self, view: &mut View<'_, Slot>, mut discard: impl FnMut(Detached)) {
        if self.seldom.is_none() {
            return;
        }
        for slot in self.take_undone_from().iter() {
            discard(held(view, slot).commit_undo());
        }
    }

    /// Keeps what a command of a unit that can be taken back counts, until it cannot.
    pub(super) fn put_aside(&mut self, counted: Counted) {
        self.consequences.get_or_insert_default().counted.push(counted);
    }

    /// Takes in what the slots have told that the command has looked at; the next command of the unit looks at its own only. What
    /// takes long to free goes to `discard`.
    #[inline]
    pub(super) fn collect(&mut self, view: &mut View<'_, Slot>, mut discard: impl FnMut(Detached)) -> Expirations {
        let mut expirations = Expirations::default();
        let consequences = &mut self.consequences;
        self.touched.for_each(|slot| {
            if let Some(found) = view.slot(slot)
                && found.has_leavings()
            {
                take_leavings(found, consequences, &mut expirations, &mut discard);
            }
        });
        let touched = std::mem::take(&mut self.touched);
        if let Some(consequences) = &mut self.consequences {
            consequences.tell_emptied();
            if consequences.notes_seen {
                touched.for_each(|slot| {
                    consequences.seen.insert(slot);
                });
            }
        }
        expirations
    }
}

/// A slot in which something can be taken back.
fn held<'k>(view: &'k mut View<'_, Slot>, slot: u16) -> &'k mut Slot {
    view.slot(slot).expect("a slot with an undo journal is still held")
}

/// Takes what a slot has told, and what of it is to be freed.
#[cold]
fn take_leavings(
    slot: &mut Slot,
    consequences: &mut Option<Box<Consequences>>,
    expirations: &mut Expirations,
    discard: &mut impl FnMut(Detached),
) {
    if let Some(discarded) = slot.take_discarded() {
        discard(*discarded);
    }
    let told = slot.take_told();
    expirations.add(&told);
    if concerns_caches(&told) {
        consequences.get_or_insert_default();
    }
    if let Some(consequences) = consequences {
        consequences.take_in(slot.index(), told);
    }
}

/// Whether something of it concerns those who cache keys, whatever else is wanted: only the slot of a key knows them.
pub(super) fn concerns_caches(told: &[Told]) -> bool {
    told.iter().any(|told| matches!(told.what, Happening::Changed(_)))
}

impl Consequences {
    /// Is as new, with its buffers as far as they are small.
    pub(super) fn clear(&mut self) {
        self.effects.clear();
        self.own.clear();
        self.audience = Audience::Both;
        self.events.clear();
        self.posts.clear();
        self.shown.clear();
        self.tracked.clear();
        self.is_told_to_replicas = false;
        self.signals.clear();
        self.counted.clear();
        self.emptied.clear();
        self.seen = SlotMarks::new();
        (self.has_seen_all, self.has_held_all) = (false, false);
        self.events.shrink_to(KEPT_MAX);
        self.signals.shrink_to(KEPT_MAX);
        self.tracked.shrink_to(KEPT_MAX);
        self.counted.shrink_to(KEPT_MAX);
    }

    /// Puts down an event, if its class is wanted.
    pub(super) fn tell(&mut self, event: Event, db: DbIndex, key: &[u8]) {
        if self.classes.contains(event.class) {
            let key = key.into();
            self.events.push(KeyEvent { event, db, key });
        }
    }

    /// Whether it is an event that a look-up for reading finds nothing.
    pub(super) fn wants_misses(&self) -> bool {
        self.classes.contains(MISS.class)
    }

    /// A look-up for reading has found nothing.
    pub(super) fn tell_miss(&mut self, db: DbIndex, key: &[u8]) {
        self.tell(MISS, db, key);
    }

    /// A key was written: what its slot has told so far comes before the event, and the end of an emptied value behind it.
    pub(super) fn wrote(&mut self, slot: u16, told: Vec<Told>, event: Event, db: DbIndex, key: &[u8]) {
        self.take_in(slot, told);
        self.tell(event, db, key);
        if let Some(at) = self
            .emptied
            .iter()
            .position(|(of, emptied)| *of == db && **emptied == *key)
        {
            self.emptied.remove(at);
            self.tell(DELETED, db, key);
        }
    }

    /// Puts down what has followed from what the slot of that number has told.
    pub(super) fn take_in(&mut self, slot: u16, told: Vec<Told>) {
        for Told { db, key, what } in told {
            match what {
                Happening::Changed(trackers) => {
                    let is_over = false;
                    self.put_down(TrackedStep::Changed {
                        slot,
                        key,
                        trackers,
                        is_over,
                    });
                }
                Happening::Expired => {
                    self.log(db, &[b"DEL", &key]);
                    self.tell(EXPIRED, db, &key);
                    self.note_over(&key);
                    self.signals.push(Signal::Gone(db, key));
                }
                Happening::FieldsExpired(fields) => {
                    for field in &fields {
                        self.log(db, &[b"HDEL", &key, field]);
                    }
                    self.tell(FIELDS_EXPIRED, db, &key);
                }
                Happening::Created(kind) => {
                    self.tell(NEW, db, &key);
                    if matches!(kind, ValueType::List | ValueType::SortedSet | ValueType::Stream) {
                        self.signals.push(Signal::Ready(db, key));
                    }
                }
                Happening::Grown | Happening::GroupGone => self.signals.push(Signal::Ready(db, key)),
                Happening::Emptied => {
                    self.signals.push(Signal::Gone(db, key.clone()));
                    self.emptied.push((db, key));
                }
                Happening::Removed | Happening::Overwritten => self.signals.push(Signal::Gone(db, key)),
                Happening::Flushed => self.signals.push(Signal::Flushed(db)),
                Happening::Swapped(other) => self.signals.push(Signal::Swapped(db, other)),
            }
        }
    }

    /// Puts down a step of what concerns clients that cache keys.
    pub(super) fn put_down(&mut self, step: TrackedStep) {
        self.tracked.push((self.events.len(), step));
    }

    /// The change of this key, if it was told just now, was the end of its time: it comes behind the event.
    fn note_over(&mut self, ended: &[u8]) {
        let events = self.events.len();
        if let Some((behind, TrackedStep::Changed { key, is_over, .. })) = self.tracked.last_mut()
            && **key == *ended
        {
            (*behind, *is_over) = (events, true);
        }
    }

    /// Values that were emptied by what is no write of their key (fields of a hash that expired).
    fn tell_emptied(&mut self) {
        for (db, key) in std::mem::take(&mut self.emptied) {
            self.tell(DELETED, db, &key);
        }
    }

    /// Logs an effect that comes before those of the command.
    pub(super) fn log(&mut self, db: DbIndex, words: &[&[u8]]) {
        if self.is_logged {
            self.effects.push(db, Audience::Both, words);
        }
    }

    /// Notes what the command that runs logs instead of itself.
    pub(super) fn log_own(&mut self, db: DbIndex, words: &[&[u8]]) {
        if self.is_logged {
            self.own.push(db, self.audience, words);
        }
    }

    /// Puts down what was published. Replicas get the command, and no file does.
    pub(super) fn post(&mut self, post: Post) {
        self.posts.push((self.events.len(), post));
        self.audience = Audience::Stream;
        self.is_told_to_replicas = true;
    }

    /// Puts down what is shown of a command, if it is not hidden.
    #[cold]
    pub(super) fn show(&mut self, db: DbIndex, is_script: bool, arguments: Option<String>) {
        self.shown.extend(arguments.map(|arguments| Shown {
            db,
            is_script,
            arguments,
        }));
    }

    /// Whether something of it goes into the file.
    pub(super) fn has_effects_for_file(&self) -> bool {
        self.effects.iter().any(|effect| effect.audience != Audience::Stream)
    }

    /// The command has ended: what it logs joins the effects of the unit, if it has changed anything.
    pub(super) fn end_command(&mut self, db: DbIndex, args: Args, has_changed: bool, is_replaced: bool) {
        let is_told_to_replicas = std::mem::take(&mut self.is_told_to_replicas);
        if (has_changed || is_told_to_replicas) && self.is_logged {
            if is_replaced {
                self.effects.append(&self.own);
            } else {
                self.effects.push_args(db, self.audience, args);
            }
        }
        self.own.clear();
        self.audience = Audience::Both;
    }

    /// Keeps what is so whatever becomes of the command: keys whose time was over are gone.
    pub(super) fn keep_expiries(&mut self) {
        self.own.clear();
        self.posts.clear();
        self.shown.clear();
        self.counted.clear();
        self.events
            .retain(|told| told.event == EXPIRED || told.event == FIELDS_EXPIRED);
    }

    /// Each signal once, in the order in which it first came.
    pub(super) fn settle_signals(&mut self) {
        if self.signals.len() > 1 {
            let mut seen = HashSet::with_capacity(self.signals.len());
            self.signals.retain(|signal| seen.insert(signal.clone()));
        }
    }
}

/// So many of anything room is kept for; what a larger unit needed is given back.
const KEPT_MAX: usize = 64;
/// The same for bytes.
pub(super) const KEPT_BYTES_MAX: usize = 4 * 1024;

/// Commands as RESP-encoded bytes one behind another, each with its db and its audience.
#[derive(Default, Debug, Clone)]
pub struct EffectBuffer {
    bytes: Vec<u8>,
    /// Where each one ends.
    ends: Vec<(usize, DbIndex, Audience)>,
}

/// Who gets an effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// The file and the stream.
    #[default]
    Both,
    /// Only the file.
    File,
    /// Only the stream.
    Stream,
}

/// One of the commands that stand in the log for a unit.
#[derive(Clone, Copy, Debug)]
pub struct LoggedEffect<'a> {
    pub db: DbIndex,
    pub audience: Audience,
    /// As RESP.
    pub command: &'a [u8],
}

impl EffectBuffer {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = LoggedEffect<'_>> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|&(end, ..)| end));
        self.ends
            .iter()
            .zip(starts)
            .map(|(&(end, db, audience), start)| LoggedEffect {
                db,
                audience,
                command: &self.bytes[start..end],
            })
    }

    /// Drops all but the first `count`.
    pub(super) fn truncate(&mut self, count: usize) {
        self.ends.truncate(count);
        self.bytes.truncate(self.ends.last().map_or(0, |&(end, ..)| end));
    }

    pub(super) fn push(&mut self, db: DbIndex, audience: Audience, words: &[&[u8]]) {
        encode_command(&mut self.bytes, words);
        self.ends.push((self.bytes.len(), db, audience));
    }

    fn push_args(&mut self, db: DbIndex, audience: Audience, args: Args) {
        args.encode_resp(&mut self.bytes);
        self.ends.push((self.bytes.len(), db, audience));
    }

    fn append(&mut self, other: &EffectBuffer) {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        let ends = other.ends.iter();
        self.ends
            .extend(ends.map(|&(end, db, audience)| (offset + end, db, audience)));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.ends.clear();
        self.ends.shrink_to(KEPT_MAX);
    }
}

/// Appends a command as a RESP array of bulk strings.
pub(super) fn encode_command(bytes: &mut Vec<u8>, words: &[&[u8]]) {
    let head = |bytes: &mut Vec<u8>, mark: u8, number: usize| {
        bytes.push(mark);
        bytes.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        bytes.extend_from_slice(b"\r\n");
    };
    head(bytes, b'*', words.len());
    for word in words {
        head(bytes, b'$', word.len());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    const DB: DbIndex = DbIndex(0);
    const PUSHED: Event = Event::list("rpop");

    fn told(key: &str, what: Happening) -> Told {
        let key = key.as_bytes().into();
        Told { db: DB, key, what }
    }

    fn all() -> Consequences {
        Consequences {
            is_logged: true,
            classes: KeyspaceEvents::ALL.union(NEW.class).union(MISS.class),
            ..Consequences::default()
        }
    }

    /// The end of a command that would be logged as `SET k`.
    fn end(consequences: &mut Consequences, has_changed: bool, is_replaced: bool) {
        let args = OwnedArgs::from_slices(&["SET", "k"]);
        consequences.end_command(DB, args.as_args(), has_changed, is_replaced);
    }

    /// Names and keys of the events, in their order.
    fn events(consequences: &Consequences) -> String {
        let texts = consequences.events.iter();
        let texts = texts.map(|told| format!("{} {}", told.event.name, String::from_utf8_lossy(&told.key)));
        texts.collect::<Vec<_>>().join(", ")
    }

    fn effects(consequences: &Consequences) -> String {
        let texts = consequences.effects.iter();
        let texts = texts.map(|effect| format!("{}: {}", effect.db.0, effect.command.escape_ascii()));
        texts.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn an_emptied_value_ends_behind_the_write_of_its_own_key() {
        let mut consequences = all();
        consequences.take_in(0, vec![told("a", Happening::Emptied), told("b", Happening::Emptied)]);
        consequences.wrote(0, vec![told("c", Happening::Emptied)], PUSHED, DB, b"b");
        consequences.wrote(0, vec![], PUSHED, DbIndex(1), b"a");
        assert_eq!(events(&consequences), "rpop b, del b, rpop a");
        consequences.tell_emptied();
        assert_eq!(events(&consequences), "rpop b, del b, rpop a, del a, del c");
        consequences.tell_emptied();
        assert_eq!(consequences.events.len(), 5);
    }

    #[test]
    fn events_are_told_to_those_who_want_their_class() {
        let mut consequences = all();
        assert!(consequences.wants_misses());
        consequences.tell_miss(DB, b"a");
        consequences.take_in(0, vec![told("a", Happening::Created(ValueType::List))]);
        assert_eq!(events(&consequences), "keymiss a, new a");
        let mut lists = Consequences {
            classes: PUSHED.class,
            ..Consequences::default()
        };
        assert!(!lists.wants_misses());
        lists.tell(PUSHED, DB, b"a");
        lists.tell(DELETED, DB, b"a");
        assert_eq!(events(&lists), "rpop a");
    }

    #[test]
    fn of_a_command_that_runs_again_only_what_was_over_is_kept() {
        let mut consequences = all();
        let fields = [b"f".as_slice().into(), b"g".as_slice().into()].into();
        consequences.take_in(
            0,
            vec![
                told("a", Happening::Created(ValueType::String)),
                told("b", Happening::Expired),
                told("c", Happening::FieldsExpired(fields)),
            ],
        );
        consequences.tell(PUSHED, DB, b"d");
        consequences.log_own(DB, &[b"NEVER"]);
        consequences.keep_expiries();
        end(&mut consequences, true, true);
        assert_eq!(events(&consequences), "expired b, hexpired c");
        assert_eq!(
            effects(&consequences),
            "0: *2\\r\\n$3\\r\\nDEL\\r\\n$1\\r\\nb\\r\\n, \
             0: *3\\r\\n$4\\r\\nHDEL\\r\\n$1\\r\\nc\\r\\n$1\\r\\nf\\r\\n, \
             0: *3\\r\\n$4\\r\\nHDEL\\r\\n$1\\r\\nc\\r\\n$1\\r\\ng\\r\\n"
        );
    }

    #[test]
    fn a_change_is_told_before_its_event_and_an_end_behind_it() {
        let mut consequences = all();
        consequences.wrote(3, vec![told("a", Happening::Changed(Vec::new()))], PUSHED, DB, b"a");
        let ends = ["b", "c"].map(|key| [told(key, Happening::Changed(Vec::new())), told(key, Happening::Expired)]);
        consequences.take_in(3, ends.concat());
        consequences.take_in(3, vec![told("d", Happening::Changed(Vec::new()))]);
        let steps = consequences.tracked.iter();
        let steps: Vec<String> = steps
            .map(|(behind, step)| match step {
                TrackedStep::Changed { key, is_over, slot, .. } => {
                    format!("{behind} {} {is_over} {slot}", String::from_utf8_lossy(key))
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(events(&consequences), "rpop a, expired b, expired c");
        assert_eq!(steps, ["0 a false 3", "2 b true 3", "3 c true 3", "3 d false 3"]);
        consequences.keep_expiries();
        assert_eq!(
            consequences.tracked.len(),
            4,
            "who was taken out of a slot is told in any case"
        );
    }

    #[test]
    fn each_signal_is_given_once() {
        let gone = |key: &str| Signal::Gone(DB, key.as_bytes().into());
        let ready = |key: &str| Signal::Ready(DB, key.as_bytes().into());
        let mut consequences = all();
        consequences.take_in(
            0,
            vec![
                told("a", Happening::Removed),
                told("b", Happening::Created(ValueType::Stream)),
                told("c", Happening::Created(ValueType::Hash)),
                told("a", Happening::Overwritten),
                told("b", Happening::Grown),
                told("", Happening::Flushed),
                told("", Happening::Swapped(DbIndex(2))),
                told("a", Happening::Created(ValueType::SortedSet)),
                told("d", Happening::GroupGone),
            ],
        );
        consequences.settle_signals();
        let expected = [
            gone("a"),
            ready("b"),
            Signal::Flushed(DB),
            Signal::Swapped(DB, DbIndex(2)),
            ready("a"),
            ready("d"),
        ];
        assert_eq!(consequences.signals, expected);
    }

    #[test]
    fn effects_stand_one_behind_another_and_are_cleared() {
        let mut consequences = all();
        consequences.log(DB, &[b"FIRST"]);
        consequences.log_own(DbIndex(1), &[b"OWN"]);
        end(&mut consequences, false, true);
        assert_eq!(consequences.effects.len(), 1, "nothing has changed");
        consequences.log_own(DbIndex(1), &[b"OWN"]);
        consequences.log_own(DbIndex(2), &[b"SECOND"]);
        end(&mut consequences, true, true);
        assert_eq!(
            effects(&consequences),
            "0: *1\\r\\n$5\\r\\nFIRST\\r\\n, 1: *1\\r\\n$3\\r\\nOWN\\r\\n, 2: *1\\r\\n$6\\r\\nSECOND\\r\\n"
        );
        consequences.effects.clear();
        consequences.log_own(DB, &[b"NEVER"]);
        end(&mut consequences, true, false);
        assert_eq!(effects(&consequences), "0: *2\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nk\\r\\n");
        assert!(!consequences.effects.is_empty());
        consequences.clear();
        assert!(consequences.effects.is_empty() && consequences.effects.iter().next().is_none());
        consequences.is_logged = false;
        consequences.log(DB, &[b"NEVER"]);
        consequences.log_own(DB, &[b"NEVER"]);
        end(&mut consequences, true, true);
        assert!(consequences.effects.is_empty() && consequences.own.is_empty());
    }
}
