//! The past of a long string: see `data::past` for what a past is.
//!
//! The parts are pieces of 4 KiB, known by their numbers, and are read in the order of these. A piece that has changed is fresh, and
//! what it was is gone and kept: so the numbers of the gone ones are all that must be noted. What lies behind the end that the
//! string had is nobody's concern.
//!
//! Invariants: 1. a piece that is neither kept nor read is as it was; 2. no piece is kept that has been read; 3. the string is shorter than
//! it was only by pieces that are kept or read.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::data::past::{NOTE_BYTES, PART_BYTES, Remains};

/// A page of memory, and a class of the allocator: copying one takes a fraction of a microsecond.
const PIECE_BYTES: usize = 4096;

/// See the essay above.
pub(super) struct PastBytes {
    /// Bytes at the freeze.
    len: usize,
    gone: BTreeMap<usize, Box<[u8]>>,
    gone_bytes: usize,
    /// The piece that is read next.
    next: usize,
    has_begun: bool,
}

impl PastBytes {
    pub(super) fn new(len: usize) -> PastBytes {
        PastBytes {
            len,
            gone: BTreeMap::new(),
            gone_bytes: 0,
            next: 0,
            has_begun: false,
        }
    }

    /// Bytes at the freeze.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The same, the first time that this is asked.
    pub(super) fn begin_read(&mut self) -> Option<usize> {
        (!std::mem::replace(&mut self.has_begun, true)).then_some(self.len)
    }

    /// Where a piece lies in the string that there was.
    fn range(&self, piece: usize) -> Range<usize> {
        piece * PIECE_BYTES..self.len.min((piece + 1) * PIECE_BYTES)
    }

    /// This range is about to be written, or cut off: keeps the pieces that lie there.
    #[cold]
    pub(super) fn keep(&mut self, range: Range<usize>, living: &[u8]) {
        let end = range.end.min(self.len);
        if range.start >= end {
            return;
        }
        for piece in self.next.max(range.start / PIECE_BYTES)..end.div_ceil(PIECE_BYTES) {
            let place = self.range(piece);
            let bytes = &mut self.gone_bytes;
            self.gone.entry(piece).or_insert_with(|| {
                *bytes += place.len();
                living[place].into()
            });
        }
    }

    pub(super) fn kept_count(&self) -> usize {
        self.gone.len()
    }

    pub(super) fn kept_bytes(&self) -> usize {
        self.gone_bytes + self.gone.len() * NOTE_BYTES
    }

    /// Shows the next pieces, about `effort` parts of them; true after the last.
    pub(super) fn read(&mut self, living: &[u8], effort: usize, mut visit: impl FnMut(&[u8])) -> bool {
        let mut left = effort;
        loop {
            let range = self.range(self.next);
            if range.start >= self.len {
                return true;
            }
            if left == 0 {
                return false;
            }
            match self.gone.remove(&self.next) {
                Some(was) => {
                    self.gone_bytes -= was.len();
                    visit(&was);
                }
                None => visit(&living[range]),
            }
            self.next += 1;
            left = left.saturating_sub(PIECE_BYTES / PART_BYTES);
        }
    }

    /// The pieces that have changed, as they were, and where they lie.
    pub(super) fn into_gone(self) -> Vec<(Range<usize>, Box<[u8]>)> {
        let place = |piece: usize, was: &[u8]| piece * PIECE_BYTES..piece * PIECE_BYTES + was.len();
        let gone = self.gone.into_iter();
        gone.map(|(piece, was)| (place(piece, &was), was)).collect()
    }
}

impl Remains for PastBytes {
    fn left(&self) -> usize {
        self.gone.len()
    }

    fn free_step(&mut self, count: usize) -> bool {
        for _ in 0..count {
            self.gone.pop_first();
        }
        self.gone.is_empty()
    }
}
