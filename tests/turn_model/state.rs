//! What the model of turns consists of: shards, links, slots, units and clients, as small numbers in place.
//!
//! Millions of these are copied and hashed, in the dev profile; hence arrays of bytes instead of a structure for each thing.

use std::fmt::{Debug, Formatter};
use std::hash::{Hash, Hasher};

pub const SHARDS: usize = 3;
pub const SLOTS: usize = 3;
pub const UNITS: usize = 5;
pub const CLIENTS: usize = 4;
/// No bound is shown; nobody has it, nobody has written it.
pub const NONE: u8 = u8::MAX;
/// Client 0 has nothing of this slot.
pub const UNCACHED: u8 = NONE - 1;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A unit, to the shard that runs it; in a client's output: a reply that has not come.
    #[default]
    Job,
    /// To the home of a slot.
    Ask,
    /// To the shard of the client; in a client's output: a reply that has come.
    Reply,
    Message,
    Invalidation,
    Grant,
    Return,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frame {
    pub kind: Kind,
    pub unit: u8,
    pub slot: u8,
}

impl Frame {
    pub fn new(kind: Kind, unit: usize, slot: usize) -> Self {
        let (unit, slot) = (unit as u8, slot as u8);
        Frame { kind, unit, slot }
    }

    pub fn moves_a_slot(self) -> bool {
        matches!(self.kind, Kind::Grant | Kind::Return)
    }
}

/// A frame that is not in a ring yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Staged {
    pub frame: Frame,
    /// Of its pass; 0: none.
    pub turn: u8,
    /// 0 is the pass that is under way; the older the pass, the greater.
    pub age: u8,
}

/// A short list, in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Row<T, const N: usize> {
    length: u8,
    items: [T; N],
}

impl<T: Copy + Default, const N: usize> Row<T, N> {
    pub fn len(&self) -> usize {
        self.length as usize
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn as_slice(&self) -> &[T] {
        &self.items[..self.length as usize]
    }

    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.items[..self.length as usize]
    }

    pub fn insert(&mut self, at: usize, item: T) {
        self.items.copy_within(at..self.length as usize, at + 1);
        self.items[at] = item;
        self.length += 1;
    }

    pub fn push(&mut self, item: T) {
        self.insert(self.length as usize, item);
    }

    pub fn remove(&mut self, at: usize) -> T {
        let item = self.as_slice()[at];
        self.items.copy_within(at + 1..self.length as usize, at);
        self.length -= 1;
        item
    }
}

impl<T: Copy + Default, const N: usize> Default for Row<T, N> {
    fn default() -> Self {
        let items = [T::default(); N];
        Row { length: 0, items }
    }
}

impl<T: Copy + Default + Hash, const N: usize> Hash for Row<T, N> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.as_slice().hash(hasher);
    }
}

impl<T: Copy + Default + Debug, const N: usize> Debug for Row<T, N> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        self.as_slice().fmt(formatter)
    }
}

/// Arrays are by shard, by slot, by unit (and then by slot: [`effect`]) or by client; of two shards the first is the one that
/// sends. A mask has a bit for each unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The newest turn, the log number that is taken next, and a bit for each number that is written.
    pub counter: u8,
    pub next_number: u8,
    pub written: u16,

    /// Of each shard: how far its pass is (0: none is under way), and the bounds that it shows.
    pub stage: [u8; SHARDS],
    pub turn_bound: [u8; SHARDS],
    pub number_bound: [u8; SHARDS],
    /// Of its pass: the turn and number that were read, later those that were taken; what it logs (a bit for each [`effect`]);
    /// a mask of the units that want its turn.
    pub turn: [u8; SHARDS],
    pub number: [u8; SHARDS],
    pub effects: [u32; SHARDS],
    pub unstamped: [u8; SHARDS],

    /// Of each part of the log: a bit for each number on disk, and for each that the sync under way puts there; the marks: the bound of what
    /// is not durable, and of what the sync does not cover; how far its syncer is, and what that has read.
    pub on_disk: [u16; SHARDS],
    pub covered: [u16; SHARDS],
    pub oldest: [u8; SHARDS],
    pub newer: [u8; SHARDS],
    pub sync_stage: [u8; SHARDS],
    pub sync_read: [u8; SHARDS],
    /// All numbers up to this one are said to be durable.
    pub prefix: u8,
    /// Of each unit, the number that its reply waits for: `NONE` while that is its pass's, which has none yet. Of each slot, that of
    /// its last change.
    pub need: [u8; UNITS],
    pub slot_number: [u8; SLOTS],
    /// Of each shard: units whose need is that of the pass under way.
    pub needing: [u8; SHARDS],

    pub ring: [[Row<Frame, 6>; SHARDS]; SHARDS],
    pub staged: [[Row<Staged, 6>; SHARDS]; SHARDS],
    pub link_bound: [[u8; SHARDS]; SHARDS],

    /// Of the listener: up to which turn its look lets messages pass, those that it holds, how many of them had come before the
    /// look, and whether what a look reads may have changed since the last look began.
    pub limit: u8,
    pub held: Row<Frame, 6>,
    pub old_count: u8,
    pub is_stirred: bool,
    /// Messages up to this turn are from before the subscription.
    pub subscribed_at: u8,

    /// Of each slot: the unit that has it, those that wait for it, its last writer, and all its writers.
    pub holder: [u8; SLOTS],
    pub queue: [Row<u8, UNITS>; SLOTS],
    pub value: [u8; SLOTS],
    pub writers: [Row<u8, UNITS>; SLOTS],
    /// A bit for each slot that is tracked for client 0, and the writer of what that has cached of each.
    pub tracked: u8,
    pub cached: [u8; SLOTS],

    /// Of each unit: how many of its slots it has, all that it depends on (a mask), its turn; the writers of what it found.
    pub slot_count: [u8; UNITS],
    pub depends: [u8; UNITS],
    pub unit_turn: [u8; UNITS],
    pub saw: [u8; UNITS * SLOTS],
    /// The turn and the number of the chunk that has this unit's change of this slot; 0: none has it yet.
    pub effect_turn: [u8; UNITS * SLOTS],
    pub effect_number: [u8; UNITS * SLOTS],

    /// Of each client: how many of its units it has sent, and what its connection has for it.
    pub sent_count: [u8; CLIENTS],
    pub output: [Row<Frame, 6>; CLIENTS],
    /// The messages that client 0 was told, the turn of the last, and whether one came out of order, before a cause, or twice.
    pub told: u8,
    pub told_turn: u8,
    pub is_disordered: bool,
    /// What any client was shown, and what any client or another shard was.
    pub known: u8,
    pub seen: u8,
}

/// The place of a unit's change of a slot in [`State::effect_turn`] and its like.
pub fn effect(unit: usize, slot: usize) -> usize {
    unit * SLOTS + slot
}

pub fn bit(unit: usize) -> u8 {
    1 << unit
}

pub fn units_of(mask: u8) -> impl Iterator<Item = usize> {
    (0..UNITS).filter(move |unit| mask & bit(*unit) != 0)
}
