//! The words that shards use among themselves: who asks, what is to be done, and what they tell each other.
//!
//! A shard knows nothing of commands. What it runs is a [`Work`]: a value that can be moved to another thread
//! and, once all slots it needs are in one place, is run there from start to end over a [`View`] of them.

use super::{Footprint, Loan, ShardId, View};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is atomic: one command, one EXEC, one script or function call.
pub trait Work<S> {
    /// What a unit of work may use besides its slots: the same value for all units that run on one shard. The shard
    /// only hands it through.
    type Env;

    /// Runs over the slots in `view`, and must not wait. It may be called again after [`Verdict::Lacks`].
    fn run(&mut self, view: &mut View<'_, S>, env: &mut Self::Env) -> Verdict;
}

/// How a run of a unit of work ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is finished: its slots go home, and it goes back to where it came from.
    Done,
    /// It waits for something that needs no slots (never for another unit of work), and keeps what it holds
    /// until [`Shard::continue_held`](super::Shard::continue_held) brings it to an end.
    Hold,
    /// It needs these slots as well. It has undone what it changed; what it logged is dropped, and it is run again
    /// from the start when it holds all. The footprint must name something that the unit did not hold.
    Lacks(Footprint),
}

/// One unit of work on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unit<W> {
    pub work: W,
    /// What it needs before it can run.
    pub footprint: Footprint,
    /// The connection it came from; there it is handed back as finished.
    pub origin: ConnRef,
    /// Its age among units that want slots of several shards. `None`: it takes one when it needs one. A unit that
    /// is tried again in its old place (a blocked client) brings the ticket of its first try, which must not be in
    /// use by another unit at that time.
    pub ticket: Option<Ticket>,
}

/// A connection as other shards know it. Commands of one connection keep their order on each shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnRef {
    pub shard: ShardId,
    pub index: u32,
    /// Tells a connection from a later one that has the same index.
    pub generation: u32,
}

impl ConnRef {
    /// The origin of work that no client sent (expiry, eviction): such work keeps no order among itself.
    pub const fn background(shard: ShardId) -> Self {
        ConnRef {
            shard,
            index: u32::MAX,
            generation: 0,
        }
    }

    /// Whether units of this origin run in the order in which they were submitted.
    #[inline]
    pub fn keeps_order(&self) -> bool {
        self.index != u32::MAX
    }
}

/// The age of a unit of work: a lower ticket is older, and older wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Where tickets come from: one counter for the process. Only work that needs slots of several shards, or has to
/// wait for several slots, touches it.
#[derive(Clone, Debug, Default)]
pub struct TicketSource(Arc<AtomicU64>);

impl TicketSource {
    /// A source whose first ticket is 0.
    pub fn new() -> Self {
        TicketSource::default()
    }

    /// The next ticket. Tickets only need to differ: what orders units of work is who holds the slots, so no
    /// stronger memory ordering is needed.
    pub fn take(&self) -> Ticket {
        Ticket(self.0.fetch_add(1, Ordering::Relaxed))
    }

    /// How many tickets have been taken.
    pub fn taken_count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where a unit of work is to be submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// All its slots are at home on this shard.
    Here,
    /// All its slots are at home on that shard.
    Home(ShardId),
    /// Its slots are on several shards, most of them on this one (which may be the asking shard itself).
    Coordinate(ShardId),
}

/// What shards tell each other. The sender is known from the link it comes by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message<S, W> {
    /// A unit of work to run, or to coordinate, at the receiver.
    Submit(Unit<W>),
    /// The sender coordinates a unit of work and wants these slots of the receiver (`Everything`: all it has).
    Ask { ticket: Ticket, want: Footprint },
    /// Here is what was asked for.
    Grant { ticket: Ticket, loan: Loan<S> },
    /// An older unit of work wants some of it: give it back if you have not run yet.
    Recall { ticket: Ticket },
    /// A loan comes home. `again`: it was recalled; the unit has not run and asks for the same again.
    Return { ticket: Ticket, loan: Loan<S>, again: bool },
    /// A unit of work of one of the receiver's connections has been run.
    Finished { origin: ConnRef, work: W },
}

/// What a step of a shard wants done outside.
#[derive(Debug)]
pub struct Outbox<S, W> {
    /// To be put on the links, in this order.
    pub messages: Vec<(ShardId, Message<S, W>)>,
    /// Units of work of this shard's own connections (or background) that have been run.
    pub finished: Vec<(ConnRef, W)>,
    /// Units of work that now hold their slots on this shard and wait for `continue_held`.
    pub held: Vec<(Ticket, ConnRef)>,
}

impl<S, W> Outbox<S, W> {
    /// An empty outbox.
    pub fn new() -> Self {
        Outbox {
            messages: Vec::new(),
            finished: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Puts down a message for a shard.
    pub fn send(&mut self, to: ShardId, message: Message<S, W>) {
        self.messages.push((to, message));
    }

    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.finished.is_empty() && self.held.is_empty()
    }
}

impl<S, W> Default for Outbox<S, W> {
    fn default() -> Self {
        Outbox::new()
    }
}
