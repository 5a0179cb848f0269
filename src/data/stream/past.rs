//! The past of a stream: see `data::past` for what a past is.
//!
//! Whatever a stream consists of lies in an order, that of IDs or that of names, and is read in it: blocks, groups, and in each group its
//! pending entries and its consumers. What is the same for all of them is [`PastRuns`]: parts that are known by their keys. Beside its
//! blocks the past has the numbers as they were; the groups have pasts of their own ([`groups`]).
//!
//! Invariants of a [`PastRuns`]: 1. `fresh` names living parts that are not passed; 2. a living part that is neither fresh nor passed is
//! as it was; 3. no gone part has been passed; 4. the parts read, those gone, and those of invariant 2 are together as many as there were at
//! the freeze, which is asserted at the end.

pub(super) mod groups;

use std::collections::{BTreeMap, BTreeSet};

use super::blocks::Block;
use super::entries::Numbers;
use super::id::StreamId;
use super::runs::Runs;
use crate::data::past::{NOTE_BYTES, Remains};

/// See the essay above. `K` is a part's key, `G` what is kept of one that is gone.
pub(super) struct PastRuns<K, G> {
    fresh: BTreeSet<K>,
    gone: BTreeMap<K, G>,
    /// The last one that was passed.
    last: Option<K>,
    /// Parts at the freeze.
    len: usize,
    written: usize,
}

/// What a past shows next.
pub(super) enum Next<G, T> {
    /// A part that is kept, and is not as it was any more.
    Gone(G),
    /// A living one.
    Living(T),
    /// A living one that was passed over.
    Nothing,
}

impl<K: Ord + Clone, G> PastRuns<K, G> {
    pub(super) fn new(len: usize) -> PastRuns<K, G> {
        PastRuns {
            fresh: BTreeSet::new(),
            gone: BTreeMap::new(),
            last: None,
            len,
            written: 0,
        }
    }

    /// Parts at the freeze.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn has_passed(&self, key: &K) -> bool {
        self.last.as_ref().is_some_and(|last| key <= last)
    }

    /// Whether the living part of this key is what it was, and has not been passed.
    pub(super) fn needs(&self, key: &K) -> bool {
        !self.fresh.contains(key) && !self.has_passed(key)
    }

    /// A part has come.
    pub(super) fn note(&mut self, key: K) {
        if !self.has_passed(&key) {
            self.fresh.insert(key);
        }
    }

    /// A part is about to change in its place: whether what it is must be kept.
    pub(super) fn changes(&mut self, key: &K) -> bool {
        !self.has_passed(key) && self.fresh.insert(key.clone())
    }

    /// A part has gone: whether it must be kept. If not, it is struck off.
    pub(super) fn wants(&mut self, key: &K) -> bool {
        !self.fresh.remove(key) && !self.has_passed(key)
    }

    pub(super) fn keep(&mut self, key: K, part: G) {
        let other = self.gone.insert(key, part);
        debug_assert!(other.is_none(), "invariant 2: there was one part of this key");
    }

    /// A part is back that had gone, and is as it was.
    pub(super) fn take_back(&mut self, key: &K) -> Option<G> {
        self.gone.remove(key)
    }

    pub(super) fn gone(&self) -> impl Iterator<Item = &G> {
        self.gone.values()
    }

    /// What is to be shown next; `after` answers the first living part behind a key. None: there are no more.
    pub(super) fn next<T>(&mut self, after: impl FnOnce(Option<&K>) -> Option<(K, T)>) -> Option<Next<G, T>> {
        let living = after(self.last.as_ref());
        let gone = self.gone.first_entry();
        let next = match (living, gone) {
            (None, None) => {
                assert_eq!(self.written, self.len, "a past has lost parts of its stream");
                return None;
            }
            (Some((key, part)), gone) if gone.as_ref().is_none_or(|gone| key < *gone.key()) => {
                let is_fresh = self.fresh.contains(&key);
                self.last = Some(key);
                match is_fresh {
                    true => Next::Nothing,
                    false => Next::Living(part),
                }
            }
            (_, Some(gone)) => {
                let (key, part) = gone.remove_entry();
                self.last = Some(key);
                Next::Gone(part)
            }
            (Some(_), None) => unreachable!("without a gone part the living one comes first"),
        };
        self.written += usize::from(!matches!(next, Next::Nothing));
        while let Some(first) = self.fresh.first()
            && self.has_passed(first)
        {
            self.fresh.pop_first();
        }
        Some(next)
    }

    /// The keys of those that have come or changed, and those that have gone or were something else.
    pub(super) fn into_changes(self) -> (BTreeSet<K>, BTreeMap<K, G>) {
        (self.fresh, self.gone)
    }

    /// What the notes take, and what is gone, as far as it has no allocations of its own.
    pub(super) fn notes_bytes(&self) -> usize {
        (self.fresh.len() + self.gone.len()) * NOTE_BYTES + self.gone.len() * size_of::<G>()
    }

    fn left(&self) -> usize {
        self.fresh.len() + self.gone.len()
    }

    /// Frees about `count` parts and notes, fewer by those that it takes off; true when nothing is left.
    fn free_step(&mut self, count: &mut usize) -> bool {
        while *count > 0 && (self.gone.pop_first().is_some() || self.fresh.pop_first().is_some()) {
            *count -= 1;
        }
        self.left() == 0
    }
}

/// The past of the blocks, known by their master IDs.
pub(super) struct PastBlocks {
    blocks: PastRuns<StreamId, Block>,
    gone_bytes: usize,
    has_begun: bool,
    has_ended: bool,
    pub(super) numbers: Numbers,
}

impl PastBlocks {
    pub(super) fn new(len: usize, numbers: Numbers) -> PastBlocks {
        PastBlocks {
            blocks: PastRuns::new(len),
            gone_bytes: 0,
            has_begun: false,
            has_ended: false,
            numbers,
        }
    }

    /// Blocks at the freeze, the first time that this is asked.
    pub(super) fn begin_read(&mut self) -> Option<usize> {
        (!std::mem::replace(&mut self.has_begun, true)).then_some(self.blocks.len())
    }

    /// What was known beside the blocks, the first time that this is asked: when they have been read.
    pub(super) fn end_read(&mut self) -> Option<Numbers> {
        (!std::mem::replace(&mut self.has_ended, true)).then_some(self.numbers)
    }

    /// A block has come.
    pub(super) fn note(&mut self, id: StreamId) {
        self.blocks.note(id);
    }

    /// A block is about to change.
    pub(super) fn change(&mut self, block: &Block) {
        if self.blocks.changes(&block.id()) {
            self.keep(block.clone());
        }
    }

    /// Whether it needs a block that has gone. One that it does not need is struck off.
    pub(super) fn wants(&mut self, block: &Block) -> bool {
        self.blocks.wants(&block.id())
    }

    pub(super) fn keep(&mut self, block: Block) {
        self.gone_bytes += block.listpack().allocated_bytes();
        self.blocks.keep(block.id(), block);
    }

    pub(super) fn kept_bytes(&self) -> usize {
        self.gone_bytes + self.blocks.notes_bytes()
    }

    /// Shows the next block as it was, or passes one over, and answers what was shown in bytes; None: there are no more.
    pub(super) fn read_next(&mut self, living: &Runs<Block>, visit: impl FnOnce(&Block)) -> Option<usize> {
        let next = self
            .blocks
            .next(|last| living.after(last).map(|block| (block.id(), block)));
        Some(match next? {
            Next::Nothing => 0,
            Next::Living(block) => {
                visit(block);
                block.listpack().bytes()
            }
            Next::Gone(block) => {
                self.gone_bytes -= block.listpack().allocated_bytes();
                visit(&block);
                block.listpack().bytes()
            }
        })
    }

    /// The blocks that have come, by their IDs, and those that have gone.
    pub(super) fn into_changes(self) -> (BTreeSet<StreamId>, BTreeMap<StreamId, Block>) {
        self.blocks.into_changes()
    }
}

impl Remains for PastBlocks {
    fn left(&self) -> usize {
        self.blocks.left()
    }

    fn free_step(&mut self, mut count: usize) -> bool {
        self.blocks.free_step(&mut count)
    }
}
