//! Streams: an append-only log of entries with increasing IDs, and the groups that read it.
//!
//! | part | what |
//! |---|---|
//! | [`id`] | IDs and all the forms in which commands write them |
//! | [`blocks`] | a block of entries: Redis's listpack of a stream, byte for byte |
//! | [`entries`] | the log: blocks in order; adding, reading, deleting, trimming |
//! | [`trim`] | what a trim drops |
//! | [`groups`] | consumer groups, their consumers, what is pending |
//! | `past` | what a frozen stream keeps |
//! | [`runs`] | the ordered sequence in which all of these are kept |
//!
//! Redis keeps the blocks, groups, consumers and pending entries in radix trees. What clients see of that is the order (by
//! ID, by name) and two counts in XINFO STREAM; [`runs`] gives the order with fewer bytes and in fewer places.
//!
//! The log and the groups are two fields, so that a reader can hand out entries of the one and write into the other. They meet in two
//! places: a group's count of what it has read needs the log's counters, and claiming looks whether an entry is still there.
//! Deleting an entry leaves it pending, as in Redis: its consumer finds that out when it asks again.
//!
//! A stream without entries is not deleted: it has an ID to remember.

pub mod blocks;
pub mod entries;
pub mod groups;
pub mod id;
mod past;
pub mod runs;
#[cfg(test)]
mod tests;
pub mod trim;

pub use blocks::{Block, Entry, Fields};
pub use entries::{AppendError, BadBlock, Entries, Numbers};
pub use groups::{Claim, Claimed, Consumer, ConsumerHead, ConsumerNumber, Group, GroupHead, Groups, Pending};
pub use id::{BoundError, IdText, NewId, StreamId};
pub use trim::{Trim, TrimBound};

use super::Encoding;
use super::frozen::{Freezable, Head, Part, Sink, Spent, Use};
use super::past::{BYTES_COPIED_MAX, NOT_FROZEN, PARTS_COPIED_MAX};
use crate::base::hash::HashSeed;
use crate::base::size_class::allocated;
use groups::SpentStream;
use past::PastBlocks;

/// A stream. [`Clone`] copies all of it.
#[derive(Clone, Default)]
pub struct Stream {
    /// The log.
    pub entries: Entries,
    /// Who reads it.
    pub groups: Groups,
}

impl Stream {
    /// An empty stream without groups.
    pub fn new() -> Stream {
        Stream::default()
    }

    /// Entries that are there.
    pub fn len(&self) -> usize {
        self.entries.len() as usize
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> Encoding {
        Encoding::Stream
    }

    /// Adds a block of another stream behind the others; [`Stream::append_numbers`] follows.
    pub(super) fn append_block(&mut self, block: &Block) {
        self.entries.push_block(block.clone());
    }

    /// Adds what is known of another stream beside its blocks; its groups follow.
    pub(super) fn append_numbers(&mut self, numbers: &Numbers) {
        self.entries.set_numbers(*numbers);
    }

    /// What its allocations take, its own box among them.
    pub fn allocated_bytes(&self) -> usize {
        allocated(size_of::<Stream>()) + self.entries.allocated_bytes() + self.groups.allocated_bytes()
    }

    /// Frees about `count` entries, blocks or pending entries; true when nothing is left.
    pub fn free_step(&mut self, count: usize) -> bool {
        self.groups.free_step(count) && self.entries.free_step(count)
    }

    /// Asserts all invariants.
    pub fn check(&self) {
        self.entries.check();
        self.groups.check();
    }
}

impl Freezable for Stream {
    fn freezes(&self) -> bool {
        self.entries.block_count() > PARTS_COPIED_MAX
            || self.entries.pack_bytes() > BYTES_COPIED_MAX
            || self.groups.takes_more_than(PARTS_COPIED_MAX)
    }

    fn freeze(&mut self, to: Use) {
        self.entries.freeze(to);
        self.groups.freeze(to);
    }

    fn is_frozen(&self, to: Use) -> bool {
        self.entries.pasts().get(to).is_some()
    }

    fn kept_bytes(&self) -> usize {
        let blocks: usize = self.entries.pasts().iter().map(PastBlocks::kept_bytes).sum();
        blocks + self.groups.kept_bytes()
    }

    fn thaw(&mut self, to: Use) -> Spent {
        let (blocks, groups) = (self.entries.pasts_mut().end(to), self.groups.thaw(to));
        match (blocks, groups) {
            (Some(blocks), Some(groups)) => SpentStream { blocks, groups }.into_spent(),
            _ => Spent::default(),
        }
    }

    fn roll_back(&mut self, _seed: HashSeed) {
        self.entries.roll_back();
        self.groups.roll_back();
    }

    fn read_slice(&mut self, to: Use, _seed: HashSeed, effort: usize, sink: &mut impl Sink) -> bool {
        let past = self.entries.pasts_mut().get_mut(to).expect(NOT_FROZEN);
        if let Some(block_count) = past.begin_read() {
            sink.begin(Head::Stream { block_count });
        }
        let mut left = effort;
        if !self.entries.read(to, &mut left, |block| sink.part(Part::Block(block))) {
            return false;
        }
        let past = self.entries.pasts_mut().get_mut(to).expect(NOT_FROZEN);
        if let Some(numbers) = past.end_read() {
            sink.part(Part::Numbers(&numbers, self.groups.frozen_count(to)));
        }
        self.groups.read(to, &mut left, sink)
    }
}
