//! A heap block behind one thin pointer: what [`super::listpack`] and [`super::intset`] stand on.
//!
//! How long the block is stands in its own first bytes (the format's header), so an owner is eight bytes, and an empty or small
//! value costs one allocation. There is no capacity either: the allocation is the allocator's size class of the length
//! (`base::size_class`), so a change within the class happens in place and `allocated_bytes` is exact without asking
//! anybody.
//!
//! Invariants:
//! 1. The allocation has size `size_class(len)` and alignment [`ALIGN`], where `len` is what `F::total` reads from the
//!    first `F::HEADER_BYTES` bytes.
//! 2. The first `len` bytes are initialised, and `len >= F::HEADER_BYTES`.
//! 3. Nobody outside this file writes the bytes that `F::total` reads.
//!
//! The `unsafe` of packed values is all in here; the formats above are plain slices.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::base::size_class::size_class;

/// The low three bits of an address are free for whoever keeps it in a word.
const ALIGN: usize = 8;

/// A format whose header says how long the whole is.
pub(super) trait Format {
    /// How many bytes at the beginning decide the length, at most eight.
    const HEADER_BYTES: usize;
    /// Reads the length of the whole from the first `HEADER_BYTES` bytes.
    fn total(header: &[u8]) -> usize;
    /// Writes it there; what `total` reads afterwards must be `total`.
    fn set_total(header: &mut [u8], total: usize);
}

/// A block in format `F`.
#[repr(transparent)]
pub(super) struct Block<F: Format> {
    start: NonNull<u8>,
    format: PhantomData<F>,
}

// SAFETY: a block is the only owner of its bytes and has no interior mutability.
unsafe impl<F: Format> Send for Block<F> {}
// SAFETY: as above.
unsafe impl<F: Format> Sync for Block<F> {}

impl<F: Format> Block<F> {
    /// A block with these bytes. Panics if the header in them does not announce their number: it has been checked by
    /// whoever calls.
    pub(super) fn new(bytes: &[u8]) -> Block<F> {
        Block::of_pieces([bytes])
    }

    /// A block with these bytes, one piece behind the other; the first has the whole header. Panics as `new` does.
    pub(super) fn of_pieces<const N: usize>(pieces: [&[u8]; N]) -> Block<F> {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        assert!(
            F::total(&pieces[0][..F::HEADER_BYTES]) == total,
            "a packed value's header announces its bytes"
        );
        let layout = layout(total);
        // SAFETY: the layout's size is not 0, as a header is not empty.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        // SAFETY: the allocation has room for `total` bytes.
        unsafe { write_pieces(start.as_ptr(), pieces) };
        Block {
            start,
            format: PhantomData,
        }
    }

    /// Bytes in use.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        // SAFETY: invariant 2.
        F::total(unsafe { std::slice::from_raw_parts(self.start.as_ptr(), F::HEADER_BYTES) })
    }

    /// Bytes that the allocator gave.
    #[inline]
    pub(super) fn allocated_bytes(&self) -> usize {
        size_class(self.len())
    }

    /// All bytes.
    #[inline(always)]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: invariant 2.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len()) }
    }

    /// The bytes behind those that decide the length.
    #[inline]
    pub(super) fn body_mut(&mut self) -> &mut [u8] {
        let body_bytes = self.len() - F::HEADER_BYTES;
        // SAFETY: invariant 2; `&mut self` means that nobody else looks.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(F::HEADER_BYTES), body_bytes) }
    }

    /// Puts the pieces in place of `removed` bytes at `at`, and sets the header's length. Panics if the range is not in
    /// the body.
    pub(super) fn splice<const N: usize>(&mut self, at: usize, removed: usize, pieces: [&[u8]; N]) {
        let inserted: usize = pieces.iter().map(|piece| piece.len()).sum();
        let old = self.len();
        assert!(
            at >= F::HEADER_BYTES && at <= old && removed <= old - at,
            "a change lies within a packed value"
        );
        let new = old - removed + inserted;
        let tail = old - at - removed;
        let (old_layout, new_layout) = (layout(old), layout(new));
        if new_layout.size() > old_layout.size() {
            self.reallocate(old_layout, new_layout);
        }
        let start = self.start.as_ptr();
        // SAFETY: the allocation has at least max(old, new) bytes here: it has just been made larger, or not yet smaller.
        // The tail's source lies in the old length, its destination in the new one; `copy_to` allows overlap. The pieces
        // are borrowed from elsewhere, as `&mut self` is exclusive.
        unsafe {
            start.add(at + removed).copy_to(start.add(at + inserted), tail);
            write_pieces(start.add(at), pieces);
            F::set_total(std::slice::from_raw_parts_mut(start, F::HEADER_BYTES), new);
        }
        if new_layout.size() < old_layout.size() {
            self.reallocate(old_layout, new_layout);
        }
        debug_assert_eq!(self.len(), new);
    }

    /// Moves the block to an allocation of another size; what fits both stays.
    #[cold]
    fn reallocate(&mut self, old: Layout, new: Layout) {
        // SAFETY: invariant 1: `old` is the allocation's layout, and the new size is not 0.
        let Some(start) = NonNull::new(unsafe { realloc(self.start.as_ptr(), old, new.size()) }) else {
            handle_alloc_error(new)
        };
        self.start = start;
    }
}

impl<F: Format> Block<F> {
    /// The one pointer, given away.
    pub(super) fn into_raw(self) -> NonNull<u8> {
        std::mem::ManuallyDrop::new(self).start
    }

    /// Back from the pointer.
    ///
    /// # Safety
    /// `start` came from `into_raw` of a block of the same format, and from here on nobody else uses it.
    pub(super) unsafe fn from_raw(start: NonNull<u8>) -> Block<F> {
        Block {
            start,
            format: PhantomData,
        }
    }
}

impl<F: Format> Clone for Block<F> {
    fn clone(&self) -> Block<F> {
        Block::new(self.bytes())
    }
}

impl<F: Format> Drop for Block<F> {
    fn drop(&mut self) {
        let layout = layout(self.len());
        // SAFETY: invariant 1, and nobody uses it from here on.
        unsafe { dealloc(self.start.as_ptr(), layout) };
    }
}

#[inline]
fn layout(len: usize) -> Layout {
    Layout::from_size_align(size_class(len), ALIGN).expect("a packed value is far below isize::MAX bytes")
}

/// Writes the pieces one behind the other.
///
/// # Safety
/// `to` has room for all of them, and none of them lies there.
#[inline(always)]
unsafe fn write_pieces<const N: usize>(mut to: *mut u8, pieces: [&[u8]; N]) {
    for piece in pieces {
        // SAFETY: the caller's promise.
        unsafe {
            to.copy_from_nonoverlapping(piece.as_ptr(), piece.len());
            to = to.add(piece.len());
        }
    }
}
