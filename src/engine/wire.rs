//! The seam between a shard and its connections, and what a shard remembers from pass to pass.

use crate::base::clock::Ticks;
use crate::resp::ReplyBuf;
use crate::shard::turns::Turn;
use crate::shard::{ConnRef, ShardId};
use std::collections::VecDeque;

/// What became of output that was handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handed {
    /// All of it was taken.
    Taken,
    /// Nothing was taken: an earlier piece is still being written. The client is to be listed when that is done.
    Busy,
    /// Nobody can be reached any more: it was dropped.
    Gone,
}

/// The other side of a shard's clients: the connections, by the clients' indices, and the other shards' bells.
pub trait Wire {
    /// Takes a client's output.
    fn send(&mut self, index: u32, output: &mut ReplyBuf) -> Handed;
    /// Bytes that were taken and are not written yet, as far as the client will be listed when they are.
    fn queued_bytes(&self, index: u32) -> usize;
    /// Bytes of memory that are kept for all that was taken.
    fn held_bytes(&self) -> usize {
        0
    }
    /// Stops reading from the peer, or goes on.
    fn read_on(&mut self, index: u32, reads: bool);
    /// Ends the connection of a client that has just been forgotten: at once, or when what was taken is written.
    fn close(&mut self, index: u32, at_once: bool);
    /// Wakes another shard, which sleeps.
    fn wake(&mut self, shard: ShardId);
}

/// A client that is about to listen to less: first it hears what came before.
pub(super) struct Leaving {
    pub(super) place: ConnRef,
    /// It was said in this pass: what the pass tells has no turn yet.
    pub(super) is_new: bool,
    /// It is to hear what has this turn, or an earlier one.
    pub(super) turn: Option<u64>,
    pub(super) has_heard: bool,
}

/// What a shard remembers from pass to pass.
#[derive(Default)]
pub struct Passes {
    pub(super) began: Ticks,
    pub(super) busy_us_before: u64,
    pub(super) is_busy: bool,
    pub(super) cron_due: Ticks,
    /// The turn of the pass that is being finished.
    pub(super) turn: Option<Turn>,
    /// What master is followed, as of the last pass.
    pub(super) generation: u64,
    /// The durable prefix when clients that wait for it were last looked at.
    pub(super) seen_prefix: u64,
    /// When messages that are held are to be looked at again.
    pub(super) next_look: Option<Ticks>,
    /// Clients that are about to listen to less.
    pub(super) leaving: Vec<Leaving>,
    /// Clients that are to be served when the pass is released.
    pub(super) served: Vec<u32>,
    /// Clients whose output waits, by the time since when; some have been served meanwhile.
    pub(super) corked: VecDeque<(Ticks, u32)>,
}
