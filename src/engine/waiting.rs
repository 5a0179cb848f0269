//! What the units of a shard leave to be done for those who wait for keys, and what whoever ends a wait has to hand out.
//!
//! A unit that makes a key ready serves those who wait for it before it lets go of the slot (`serve`). What it cannot do itself lies here
//! until its client is back in its place: answers to be handed out, places in queues of slots that it does not hold, keys that are to be
//! looked at again by a unit of their own.

use super::attempt::Signal;
use crate::resp::ReplyBuf;
use crate::shard::durable::Need;
use crate::shard::{ConnRef, ShardId};
use crate::stats::SlowEntry;
use crate::store::DbIndex;

/// What the units of a shard leave to be done for those who wait.
#[derive(Default)]
pub(super) struct Waiting {
    /// What has happened to keys since it was looked last who waits for them.
    pub(super) ready: Vec<Signal>,
    /// The same, where those who wait could not be served at once: the slot was not held any more, or clients are paused.
    pub(super) put_off: Vec<Signal>,
    /// Clients whose wait has ended.
    pub(super) answers: Vec<Served>,
    /// Places in the queues of keys that nobody waits in any more.
    pub(super) stale: Vec<Place>,
}

/// How a wait ends that nobody has served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unserved {
    /// With nothing, as when its time is over.
    WithNothing,
    /// With an error.
    WithError,
    /// Its connection has ended.
    Abandoned,
}

/// A place in the queue of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub slot: u16,
    pub db: DbIndex,
    pub key: Box<[u8]>,
    pub number: u64,
}

/// What a client gets whose wait has ended.
pub struct Served {
    /// The connection.
    pub place: ConnRef,
    /// Of the wait.
    pub number: u64,
    pub reply: ReplyBuf,
    /// What the reply waits for, its own pass's number being that of `ran_on`.
    pub need: Need,
    pub ran_on: ShardId,
    pub slow_entries: Vec<SlowEntry>,
}

impl Waiting {
    /// Whether there is anything to be done when the unit has ended and its client is back in its place.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.answers.is_empty() && self.stale.is_empty()
    }
}
