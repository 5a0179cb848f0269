//! The entries of a stream: blocks in order of their IDs, and the five facts that outlive the entries themselves.
//!
//! | kept | what for |
//! |---|---|
//! | `last_id` | the next ID must be greater, also when the entry is gone |
//! | `first_id` | the first entry that is there; `0-0` if there is none |
//! | `max_deleted_id` | the greatest ID that XDEL took away: behind it there are no gaps |
//! | `added` | entries ever added; with the above it tells how many a group has still to read |
//! | `len` | entries that are there |
//!
//! Appending goes to the last block, or begins one when that is full; trimming drops blocks at the front; everything else finds
//! its block by binary search and walks through it.
//!
//! Invariants: 1. `len` is the sum of the blocks' live entries; 2. `pack_bytes` is the sum of the allocations of their listpacks; 3. each
//! block's entries lie between its master ID and the next block's; 4. `first_id` is the first live entry's; no ID is above `last_id`.

use super::blocks::{Block, Entry};
use super::id::{NewId, StreamId};
use super::past::PastBlocks;
use super::runs::{Runs, Spot};
use super::trim::Trim;
use crate::base::clock::UnixMs;
use crate::data::Limits;
use crate::data::listpack::Listpack;
use crate::data::past::{NOT_FROZEN, PART_BYTES, Pasts, Use};

/// No block and no entry may be larger (Redis's STREAM_LISTPACK_MAX_SIZE).
const BLOCK_BYTES_MAX: usize = 1 << 30;

/// Why an entry cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The last possible ID is taken.
    Exhausted,
    /// The last sequence number of that millisecond is taken, and no other millisecond was allowed (`ms-*`).
    SeqExhausted,
    /// The ID is not greater than the last one.
    IdTooSmall,
    /// Its fields do not fit a block.
    TooLarge,
}

/// Why a block from outside cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadBlock;

/// What is known of a stream beside its blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    pub len: u64,
    pub first_id: StreamId,
    pub last_id: StreamId,
    pub max_deleted_id: StreamId,
    pub added: u64,
}

/// The entries of a stream.
#[derive(Clone, Default)]
pub struct Entries {
    blocks: Runs<Block>,
    pack_bytes: usize,
    pasts: Pasts<PastBlocks>,
    numbers: Numbers,
}

impl Entries {
    /// Entries that are there.
    pub fn len(&self) -> u64 {
        self.numbers.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.numbers.len == 0
    }

    /// The ID of the first entry; `0-0` if there is none.
    pub fn first_id(&self) -> StreamId {
        self.numbers.first_id
    }

    /// The greatest ID there ever was, or what XSETID said.
    pub fn last_id(&self) -> StreamId {
        self.numbers.last_id
    }

    /// The greatest ID that XDEL took away; `0-0` if it took none.
    pub fn max_deleted_id(&self) -> StreamId {
        self.numbers.max_deleted_id
    }

    /// Entries ever added.
    pub fn added(&self) -> u64 {
        self.numbers.added
    }

    /// The blocks, in order.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> + Clone {
        self.blocks.iter()
    }

    /// How many blocks there are.
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// What all allocations take.
    pub fn allocated_bytes(&self) -> usize {
        self.blocks.allocated_bytes() + self.pack_bytes
    }

    /// The ID that a new entry gets.
    pub fn new_id(&self, wanted: NewId, now: UnixMs) -> Result<StreamId, AppendError> {
        if self.numbers.last_id == StreamId::MAX {
            return Err(AppendError::Exhausted);
        }
        let id = match wanted {
            NewId::Exact(id) => id,
            NewId::Auto if now.0 > self.numbers.last_id.ms => StreamId::new(now.0, 0),
            // The clock stands still, or went backwards.
            NewId::Auto => self.numbers.last_id.next().ok_or(AppendError::Exhausted)?,
            NewId::AutoSeq(ms) if ms == self.numbers.last_id.ms => {
                let seq = self
                    .numbers
                    .last_id
                    .seq
                    .checked_add(1)
                    .ok_or(AppendError::SeqExhausted)?;
                StreamId::new(ms, seq)
            }
            NewId::AutoSeq(ms) => StreamId::new(ms, 0),
        };
        if id <= self.numbers.last_id {
            return Err(AppendError::IdTooSmall);
        }
        Ok(id)
    }

    /// Adds an entry; `words` are names and values in turn. Nothing is changed on an error.
    pub fn append<'w>(
        &mut self,
        id: StreamId,
        words: impl ExactSizeIterator<Item = &'w [u8]> + Clone,
        limits: &Limits,
    ) -> Result<(), AppendError> {
        if id <= self.numbers.last_id {
            return Err(AppendError::IdTooSmall);
        }
        let word_bytes: usize = words.clone().map(<[u8]>::len).sum();
        if word_bytes > BLOCK_BYTES_MAX {
            return Err(AppendError::TooLarge);
        }
        let bytes_max = match limits.stream_node_max_bytes {
            0 => BLOCK_BYTES_MAX,
            bytes => bytes.min(BLOCK_BYTES_MAX),
        };
        let slots_max = match limits.stream_node_max_entries {
            0 => u64::MAX,
            slots => slots as u64,
        };
        match self.blocks.last_mut() {
            Some(block) if block.listpack().bytes() + word_bytes < bytes_max && block.slots() < slots_max => {
                self.pasts.iter_mut().for_each(|past| past.change(block));
                self.pack_bytes -= block.listpack().allocated_bytes();
                block.append(id, words);
                self.pack_bytes += block.listpack().allocated_bytes();
            }
            _ => self.push_block(Block::begin(id, words)),
        }
        self.numbers.len += 1;
        self.numbers.added += 1;
        self.numbers.last_id = id;
        if self.numbers.len == 1 {
            self.numbers.first_id = id;
        }
        Ok(())
    }

    /// Adds a block behind the others, whatever is known beside the blocks.
    pub(super) fn push_block(&mut self, block: Block) {
        self.pack_bytes += block.listpack().allocated_bytes();
        self.pasts.iter_mut().for_each(|past| past.note(block.id()));
        if self.blocks.insert(block).is_err() {
            unreachable!("the caller has seen that its ID is that of no other");
        }
    }

    /// Adds a block from outside (RDB, RESTORE) behind the others. `last_id`, `added` and `max_deleted_id` stay: see [`Entries::restore`].
    pub fn append_block(&mut self, id: StreamId, pack: Listpack) -> Result<(), BadBlock> {
        if self.blocks.last().is_some_and(|last| last.last_live_id() >= id) {
            return Err(BadBlock);
        }
        if let Some(block) = Block::from_listpack(id, pack).ok_or(BadBlock)? {
            self.numbers.len += block.live();
            self.push_block(block);
        }
        Ok(())
    }

    /// Sets what a file says of the stream beside its blocks. An error if it contradicts them.
    pub fn restore(&mut self, last_id: StreamId, max_deleted_id: StreamId, added: u64) -> Result<(), BadBlock> {
        if self.blocks.last().is_some_and(|block| block.last_live_id() > last_id) {
            return Err(BadBlock);
        }
        (self.numbers.last_id, self.numbers.max_deleted_id, self.numbers.added) =
            (last_id, max_deleted_id, added.max(self.numbers.len));
        self.find_first();
        Ok(())
    }

    /// Sets `last_id` (XSETID), and the others where they are given. The caller has checked that they fit.
    pub fn set_id(&mut self, last_id: StreamId, added: Option<u64>, max_deleted_id: Option<StreamId>) {
        self.numbers.last_id = last_id;
        self.numbers.added = added.unwrap_or(self.numbers.added);
        self.numbers.max_deleted_id = max_deleted_id.unwrap_or(self.numbers.max_deleted_id);
    }

    /// Whether an entry is there.
    pub fn contains(&self, id: StreamId) -> bool {
        self.get(id).is_some()
    }

    /// The entry with that ID.
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.range(id, id).next()
    }

    /// The first entry.
    pub fn first(&self) -> Option<Entry<'_>> {
        self.range(StreamId::MIN, StreamId::MAX).next()
    }

    /// The last entry.
    pub fn last(&self) -> Option<Entry<'_>> {
        self.range_rev(StreamId::MAX, StreamId::MIN).next()
    }

    /// The entries from `from` to `to`, both included, in order.
    pub fn range(&self, from: StreamId, to: StreamId) -> impl Iterator<Item = Entry<'_>> {
        // Most readers wait for what comes next: that is not there yet.
        let begin = if from > self.numbers.last_id || from > to {
            self.blocks.end()
        } else {
            self.blocks.floor(&from)
        };
        self.blocks
            .iter_from(begin)
            .flat_map(Block::live_entries)
            .skip_while(move |entry| entry.id < from)
            .take_while(move |entry| entry.id <= to)
    }

    /// The entries from `from` down to `to`, both included, the greatest ID first.
    pub fn range_rev(&self, from: StreamId, to: StreamId) -> impl Iterator<Item = Entry<'_>> {
        let end = match self.blocks.floor(&from) {
            _ if from < to => self.blocks.begin(),
            spot => self.blocks.next(spot),
        };
        self.blocks
            .iter_back_from(end)
            .flat_map(Block::live_entries_rev)
            .skip_while(move |entry| entry.id > from)
            .take_while(move |entry| entry.id >= to)
    }

    /// Deletes an entry (XDEL); false if it is not there.
    pub fn delete(&mut self, id: StreamId) -> bool {
        if id > self.numbers.last_id || id < self.numbers.first_id || self.is_empty() {
            return false;
        }
        let spot = self.blocks.floor(&id);
        let is_last = self
            .blocks
            .get(spot)
            .is_some_and(|block| block.live() == 1 && block.live_entries().next().is_some_and(|entry| entry.id == id));
        if is_last {
            self.drop_block(spot);
        } else {
            let Some(block) = self.blocks.get_mut(spot) else {
                return false;
            };
            self.pasts.iter_mut().for_each(|past| past.change(block));
            let before = block.listpack().allocated_bytes();
            if !block.delete(id) {
                return false;
            }
            self.pack_bytes = self.pack_bytes - before + block.listpack().allocated_bytes();
            self.numbers.len -= 1;
        }
        if id == self.numbers.first_id {
            self.find_first();
        }
        self.numbers.max_deleted_id = self.numbers.max_deleted_id.max(id);
        true
    }

    /// Drops entries at the front, as `trim` says. Answers how many.
    pub fn trim(&mut self, trim: &Trim) -> u64 {
        let mut dropped = 0;
        while let Some(block) = self.blocks.first() {
            let live = block.live();
            if trim.is_satisfied(self.numbers.len) || trim.limit.is_some_and(|limit| dropped + live > limit) {
                break;
            }
            if trim.covers(self.numbers.len, live, block.last_slot_id()) {
                self.drop_block(self.blocks.begin());
                dropped += live;
                continue;
            }
            if !trim.is_approximate {
                dropped += self.trim_first_block(trim);
            }
            break;
        }
        if dropped > 0 {
            self.find_first();
        }
        dropped
    }

    fn trim_first_block(&mut self, trim: &Trim) -> u64 {
        let spot = self.blocks.begin();
        let len = self.numbers.len;
        let Some(block) = self.blocks.get_mut(spot) else {
            return 0;
        };
        self.pasts.iter_mut().for_each(|past| past.change(block));
        let live = block.live();
        let before = block.listpack().allocated_bytes();
        let dropped = block.delete_front(|id, deleted| trim.takes(len - deleted, id));
        self.pack_bytes = self.pack_bytes - before + block.listpack().allocated_bytes();
        self.numbers.len -= dropped;
        if dropped == live {
            // All that is left are entries that XDEL took, the last of them behind the bound.
            self.remove_block(spot);
        }
        dropped
    }

    fn drop_block(&mut self, spot: Spot) {
        self.numbers.len -= self.remove_block(spot);
    }

    /// Answers how many live entries went with it.
    fn remove_block(&mut self, spot: Spot) -> u64 {
        let block = self.blocks.remove(spot);
        self.pack_bytes -= block.listpack().allocated_bytes();
        let live = block.live();
        let mut wanting = None;
        for past in self.pasts.iter_mut() {
            if past.wants(&block)
                && let Some(other) = wanting.replace(past)
            {
                other.keep(block.clone());
            }
        }
        if let Some(past) = wanting {
            past.keep(block);
        }
        live
    }

    fn find_first(&mut self) {
        self.numbers.first_id = self.first().map_or(StreamId::MIN, |entry| entry.id);
    }

    /// Whether entries are missing between `from` and the end, as far as it is known: XDEL took one there.
    pub fn has_gaps_from(&self, from: StreamId) -> bool {
        self.numbers.len > 0 && !self.numbers.max_deleted_id.is_zero() && from <= self.numbers.max_deleted_id
    }

    /// How many entries had been added when `id` was, itself included, if that can be known: it can at the ends of the stream, unless
    /// XDEL made gaps.
    pub fn count_up_to(&self, id: StreamId) -> Option<u64> {
        if self.numbers.added == 0 {
            return Some(0);
        }
        if self.numbers.len == 0 && id <= self.numbers.last_id {
            return Some(self.numbers.added);
        }
        if !id.is_zero() && id < self.numbers.max_deleted_id {
            return None;
        }
        if id >= self.numbers.last_id {
            return (id == self.numbers.last_id).then_some(self.numbers.added);
        }
        let has_no_gaps = self.numbers.max_deleted_id.is_zero() || self.numbers.max_deleted_id < self.numbers.first_id;
        let before_first = self
            .numbers
            .added
            .checked_sub(self.numbers.len)
            .filter(|_| has_no_gaps)?;
        if id > self.numbers.first_id {
            return None;
        }
        Some(before_first + u64::from(id == self.numbers.first_id))
    }

    /// Frees about `count` entries or blocks; true when nothing is left.
    pub fn free_step(&mut self, count: usize) -> bool {
        self.pasts.free_step(count) && self.blocks.free_step(count)
    }

    /// Bytes of the blocks' listpacks.
    pub(super) fn pack_bytes(&self) -> usize {
        self.pack_bytes
    }

    /// What is known beside the blocks.
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// Puts down what is known beside the blocks, which are those of another stream.
    pub(super) fn set_numbers(&mut self, numbers: Numbers) {
        self.numbers = numbers;
    }

    pub(super) fn pasts(&self) -> &Pasts<PastBlocks> {
        &self.pasts
    }

    pub(super) fn pasts_mut(&mut self) -> &mut Pasts<PastBlocks> {
        &mut self.pasts
    }

    pub(super) fn freeze(&mut self, to: Use) {
        self.pasts.begin(to, PastBlocks::new(self.blocks.len(), self.numbers));
    }

    /// Makes the entries what they were when they were frozen for an undo.
    pub(super) fn roll_back(&mut self) {
        let past = self.pasts.end(Use::Undo).expect(NOT_FROZEN);
        let numbers = past.numbers;
        let (fresh, gone) = past.into_changes();
        for id in fresh {
            let spot = self.blocks.find(&id).expect("a past names living blocks only");
            self.remove_block(spot);
        }
        gone.into_values().for_each(|block| self.push_block(block));
        self.numbers = numbers;
    }

    /// Shows blocks as they were, for about so much effort, which it takes off; true after the last.
    pub(super) fn read(&mut self, to: Use, effort: &mut usize, mut visit: impl FnMut(&Block)) -> bool {
        let past = self.pasts.get_mut(to).expect(NOT_FROZEN);
        while *effort > 0 {
            let Some(bytes) = past.read_next(&self.blocks, &mut visit) else {
                return true;
            };
            *effort = effort.saturating_sub(1 + bytes / PART_BYTES);
        }
        false
    }

    /// Checks the invariants.
    pub(super) fn check(&self) {
        self.blocks.check();
        self.blocks().for_each(Block::check);
        assert_eq!(self.numbers.len, self.blocks().map(Block::live).sum::<u64>());
        let bytes = self.blocks().map(|block| block.listpack().allocated_bytes());
        assert_eq!(self.pack_bytes, bytes.sum::<usize>());
        assert_eq!(
            self.numbers.first_id,
            self.first().map_or(StreamId::MIN, |entry| entry.id)
        );
        assert!(self.last().is_none_or(|entry| entry.id <= self.numbers.last_id));
        let next = self.blocks().skip(1).map(Block::id);
        assert!(self.blocks().zip(next).all(|(block, next)| block.last_live_id() < next));
    }
}
