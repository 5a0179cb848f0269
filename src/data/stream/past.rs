//! The past of a stream: see `data::past` for what a past is.
//!
//! The parts are blocks, known by their master IDs, and are read in the order of these. Beside them the past has the numbers and the groups
//! as they were: the groups as a copy, which takes as long as there are consumers and entries pending for them, however long the
//! stream is. They are shown at the end, all at once.
//!
//! Invariants: 1. `fresh` names living blocks that are not passed; 2. a living block that is neither fresh nor passed is as it was;
//! 3. no gone block has been passed.

use std::collections::{BTreeMap, BTreeSet};

use super::blocks::Block;
use super::entries::Numbers;
use super::groups::Groups;
use super::id::StreamId;
use super::runs::Runs;
use crate::data::past::{NOTE_BYTES, Remains};

/// See the essay above.
pub(super) struct PastBlocks {
    fresh: BTreeSet<StreamId>,
    gone: BTreeMap<StreamId, Block>,
    gone_bytes: usize,
    /// The last block that was read.
    last: Option<StreamId>,
    /// Blocks at the freeze.
    len: usize,
    written: usize,
    has_begun: bool,
    pub(super) numbers: Numbers,
    pub(super) groups: Groups,
}

impl PastBlocks {
    pub(super) fn new(len: usize, numbers: Numbers, groups: Groups) -> PastBlocks {
        PastBlocks {
            fresh: BTreeSet::new(),
            gone: BTreeMap::new(),
            gone_bytes: 0,
            last: None,
            len,
            written: 0,
            has_begun: false,
            numbers,
            groups,
        }
    }

    /// Blocks at the freeze, the first time that this is asked.
    pub(super) fn begin_read(&mut self) -> Option<usize> {
        (!std::mem::replace(&mut self.has_begun, true)).then_some(self.len)
    }

    fn has_passed(&self, id: StreamId) -> bool {
        self.last.is_some_and(|last| id <= last)
    }

    /// A block has come.
    pub(super) fn note(&mut self, id: StreamId) {
        if !self.has_passed(id) {
            self.fresh.insert(id);
        }
    }

    /// A block is about to change.
    pub(super) fn change(&mut self, block: &Block) {
        if !self.has_passed(block.id()) && self.fresh.insert(block.id()) {
            self.keep(block.clone());
        }
    }

    /// Whether it needs a block that has gone. One that it does not need is struck off.
    pub(super) fn wants(&mut self, block: &Block) -> bool {
        !self.fresh.remove(&block.id()) && !self.has_passed(block.id())
    }

    pub(super) fn keep(&mut self, block: Block) {
        self.gone_bytes += block.listpack().allocated_bytes();
        let other = self.gone.insert(block.id(), block);
        debug_assert!(other.is_none(), "invariant 2: there was one block of this ID");
    }

    pub(super) fn kept_bytes(&self) -> usize {
        let notes = self.fresh.len() + 2 * self.gone.len();
        self.gone_bytes + notes * NOTE_BYTES + self.groups.allocated_bytes()
    }

    /// Shows the next block as it was, and answers what it has in bytes; None: there are no more.
    pub(super) fn read_next(&mut self, living: &Runs<Block>, visit: impl FnOnce(&Block)) -> Option<usize> {
        let mut spot = match self.last {
            None => living.begin(),
            Some(last) => match living.find(&last) {
                Some(spot) => living.next(spot),
                None => living.lower_bound(&last),
            },
        };
        while let Some(block) = living.get(spot)
            && self.fresh.contains(&block.id())
        {
            spot = living.next(spot);
        }
        let next = living.get(spot);
        let gone = self.gone.first_entry();
        let bytes = match (next, gone) {
            (None, None) => {
                assert_eq!(self.written, self.len, "a past has lost blocks of its stream");
                return None;
            }
            (next, Some(gone)) if next.is_none_or(|next| *gone.key() < next.id()) => {
                let block = gone.remove();
                self.gone_bytes -= block.listpack().allocated_bytes();
                self.last = Some(block.id());
                visit(&block);
                block.listpack().bytes()
            }
            (Some(block), _) => {
                self.last = Some(block.id());
                visit(block);
                block.listpack().bytes()
            }
            (None, Some(_)) => unreachable!("without a living block the gone one comes first"),
        };
        self.written += 1;
        while let Some(first) = self.fresh.first()
            && self.has_passed(*first)
        {
            self.fresh.pop_first();
        }
        Some(bytes)
    }

    /// The blocks that have come, by their IDs, and those that have gone.
    pub(super) fn into_changes(self) -> (BTreeSet<StreamId>, BTreeMap<StreamId, Block>) {
        (self.fresh, self.gone)
    }
}

impl Remains for PastBlocks {
    fn left(&self) -> usize {
        self.fresh.len() + self.gone.len() + self.groups.effort()
    }

    fn free_step(&mut self, count: usize) -> bool {
        for _ in 0..count {
            if self.gone.pop_first().is_none() && self.fresh.pop_first().is_none() {
                return self.groups.free_step(count);
            }
        }
        self.gone.is_empty() && self.fresh.is_empty() && self.groups.is_empty()
    }
}
