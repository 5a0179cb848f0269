//! Client-side caching: what a unit of work has read for clients that cache, and which keys of theirs it has changed.
//!
//! The promise: no client keeps a value that is older than the last invalidation which it was sent. It is kept in three steps.
//!
//! 1. *Registration.* When a command that only reads has run, its client is entered with the keys of the call, in their slots
//!    ([`store::Tracker`](Tracker)), before anything else can run on them. So who has read a value and who changes it next meet in the slot,
//!    wherever that travels.
//! 2. *Telling.* The slot itself tells of each change of such a key, with those who have read it, and forgets them
//!    ([`Happening::Changed`](crate::store::Happening)). Whatever changes a key is told in this way, the end of its time and eviction included.
//!    Here it is kept in order with what else the unit has done, until the unit has ended; then it becomes a message of the pass
//!    ([`listening`](super::listening)), and is delivered in the order of turns ([`invalidation`](super::invalidation)).
//! 3. *Order.* The reply to the read left the shard on which it ran before the slot did, and before anybody could change the key elsewhere; the
//!    change took its turn after that. The shard of the client delivers a message only when all its links were drained after that turn was
//!    known to be over, so it has the reply by then, and puts the message behind it. That holds while shards hold what they send until a
//!    pass is released, which they do while anybody listens; whoever enters the first tracker in the middle of a pass says so
//!    ([`Env::holds`](super::Env)).
//!
//! A unit that can be taken back has done nothing until it has ended: its steps stand here in their order, and taking them back, the last one
//! first, leaves the slots with the trackers that they had ([`take_back`]).
//!
//! Whoever changes a key is answered when all who are told have it in their output, as in Redis (the unit has a receipt, as that of a publisher).
//! Not so who changes it again, before anybody has read it again, or who sees the change in what he reads: what was told of it may still be on its
//! way, for some microseconds. In Redis nobody can be between the two.
//!
//! Where nobody caches, all this is one branch for each command that reads, and none for one that writes.

use crate::shard::{ConnRef, ShardId, View};
use crate::store::{Slot, TrackedKey, Tracker};
use bytes::Bytes;

/// Something that a unit has done to what clients cache.
#[derive(Clone, Debug)]
pub enum TrackedStep {
    /// This key of that slot has changed, and these had read it.
    Changed {
        slot: u16,
        key: Box<[u8]>,
        trackers: Vec<Tracker>,
        /// Its time was over, which is nobody's doing.
        is_over: bool,
    },
    /// All keys of a db are gone, so nobody keeps any key any more. These of that slot were tracked.
    Forgotten { slot: u16, keys: Vec<TrackedKey> },
    /// The same as a whole: everybody is told.
    Flushed,
    /// This one reads the key, and did not before. Kept only while it can be taken back.
    Begun {
        slot: u16,
        key: Box<[u8]>,
        tracker: Tracker,
    },
}

/// What clients that cache keys are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation {
    pub what: Invalidated,
    /// Who has done it.
    pub by: Option<ConnRef>,
}

/// What it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalidated {
    Key {
        key: Bytes,
        /// Those who have read it.
        trackers: Vec<Tracker>,
        /// Its time was over, which is nobody's doing.
        is_over: bool,
        /// Somebody wants to hear of it because of how it begins.
        is_broadcast: bool,
    },
    /// Every key.
    All,
}

impl TrackedStep {
    /// What is told of it; nothing of what concerns nobody. `is_broadcast`: whether somebody wants to hear of a key because of how it begins.
    pub(super) fn into_told(self, is_broadcast: impl FnOnce(&[u8]) -> bool) -> Option<Invalidated> {
        match self {
            TrackedStep::Changed {
                key, trackers, is_over, ..
            } => {
                let is_broadcast = is_broadcast(&key);
                (is_broadcast || !trackers.is_empty()).then(|| Invalidated::Key {
                    key: key.into_vec().into(),
                    trackers,
                    is_over,
                    is_broadcast,
                })
            }
            TrackedStep::Flushed => Some(Invalidated::All),
            TrackedStep::Forgotten { .. } | TrackedStep::Begun { .. } => None,
        }
    }
}

/// Takes steps back, the last one first: the slots, which are held still, have the trackers again that they had.
pub(super) fn take_back(steps: impl DoubleEndedIterator<Item = TrackedStep>, view: &mut View<'_, Slot>) {
    for step in steps.rev() {
        match step {
            TrackedStep::Changed {
                slot, key, trackers, ..
            } => {
                if let Some(slot) = view.slot(slot) {
                    slot.put_trackers_back(&key, trackers);
                }
            }
            TrackedStep::Forgotten { slot, keys } => {
                if let Some(slot) = view.slot(slot) {
                    keys.into_iter()
                        .for_each(|(key, trackers)| slot.put_trackers_back(&key, trackers));
                }
            }
            TrackedStep::Begun { slot, key, tracker } => {
                if let Some(slot) = view.slot(slot) {
                    slot.untrack(&key, tracker);
                }
            }
            TrackedStep::Flushed => {}
        }
    }
}

/// A connection as slots name it.
pub(super) fn tracker_of(place: ConnRef) -> Tracker {
    Tracker {
        index: place.index,
        generation: place.generation,
        shard: place.shard.0,
    }
}

/// The connection that slots name so.
pub(super) fn place_of(tracker: Tracker) -> ConnRef {
    ConnRef {
        shard: ShardId(tracker.shard),
        index: tracker.index,
        generation: tracker.generation,
    }
}
