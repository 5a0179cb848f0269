//! What big hashes, sets and sorted sets keep in a [`Dict`](super::dict::Dict): elements of one allocation each, of exactly
//! the size class that their bytes need.
//!
//! ```text
//! Member       | length, unless the word says it | bytes |
//! FieldValue   | expiry u64, optional | length of field | length of value | field | value |
//! Scored       | score f64 | length | member |
//! ```
//!
//! A *length* takes 1 byte up to 253, else a mark and 2 or 8 bytes; it is not aligned. So a field and a value of 16 take 48,
//! with or without an expiry, a score and a member of 16 take 32.
//!
//! An owner is one word: the address of the allocation, for a [`FieldValue`] the flag that there is an expiry, and for a
//! [`Member`] of 8, 16 or 32 bytes which of these it is: it fills its allocation to the last byte, where a length in front
//! would take the next class, twice as much for a member of 16 bytes.
//!
//! Invariants:
//! 1. An element's allocation has size `size_class(total)` and alignment 8, where `total` is computed from its bytes.
//! 2. The word of a `Scored` has no flags; that of a `FieldValue` has [`WORD_FLAG`] exactly if there is an expiry; that of a
//!    `Member` has its [`Fit`] in the bits [`WORD_OWN`].

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::num::NonZeroU64;

use super::dict::{Element, ElementRef, WORD_ADDRESS, WORD_FLAG, WORD_OWN, prefetch};
use crate::base::clock::UnixMs;
use crate::base::size_class::size_class;

const ALIGN: usize = 8;

/// A length's first byte, if it does not fit one: two bytes follow, or eight.
const LENGTH_IN_2: u8 = 254;
const LENGTH_IN_8: u8 = 255;

/// How many bytes a length takes.
#[inline]
fn length_bytes(length: usize) -> usize {
    match length {
        0..=253 => 1,
        254..=0xffff => 3,
        _ => 9,
    }
}

/// Writes a length and returns the place behind it.
///
/// # Safety
/// There is room for `length_bytes(length)` at `to`.
#[inline]
unsafe fn write_length(to: *mut u8, length: usize) -> *mut u8 {
    // SAFETY: as the caller promises.
    unsafe {
        match length_bytes(length) {
            1 => to.write(length as u8),
            3 => {
                to.write(LENGTH_IN_2);
                to.add(1).cast::<u16>().write_unaligned(length as u16);
            }
            _ => {
                to.write(LENGTH_IN_8);
                to.add(1).cast::<u64>().write_unaligned(length as u64);
            }
        }
        to.add(length_bytes(length))
    }
}

/// Reads a length, and returns the place behind it too.
///
/// # Safety
/// `write_length` has written one at `from`.
#[inline]
unsafe fn read_length(from: *const u8) -> (usize, *const u8) {
    // SAFETY: as the caller promises.
    unsafe {
        match from.read() {
            LENGTH_IN_2 => (usize::from(from.add(1).cast::<u16>().read_unaligned()), from.add(3)),
            LENGTH_IN_8 => (from.add(1).cast::<u64>().read_unaligned() as usize, from.add(9)),
            length => (usize::from(length), from.add(1)),
        }
    }
}

fn layout(total: usize) -> Layout {
    Layout::from_size_align(size_class(total), ALIGN).expect("elements are bounded far below isize::MAX")
}

/// An allocation for an element of `total` bytes (not 0), and its address as a word.
fn allocate(total: usize) -> (*mut u8, u64) {
    let layout = layout(total);
    // SAFETY: the size is not zero.
    let base = unsafe { alloc(layout) };
    if base.is_null() {
        handle_alloc_error(layout);
    }
    (base, base.expose_provenance() as u64)
}

#[inline]
fn base_of(word: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut((word & WORD_ADDRESS) as usize)
}

/// A member of a set: its bytes.
pub struct Member {
    word: u64,
}

// SAFETY: it is the only owner of its allocation, which holds bytes.
unsafe impl Send for Member {}

/// How a member lies in its allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// Behind its length.
    Counted,
    /// Without one: it has `4 << n` bytes, n being 1 to 3.
    Exact(u32),
}

impl Fit {
    /// Where [`WORD_OWN`] begins.
    const SHIFT: u32 = WORD_OWN.trailing_zeros();

    #[inline]
    fn of_length(length: usize) -> Fit {
        match length {
            8 | 16 | 32 => Fit::Exact(length.ilog2() - 2),
            _ => Fit::Counted,
        }
    }

    #[inline]
    fn of_word(word: u64) -> Fit {
        match (word & WORD_OWN) >> Fit::SHIFT {
            0 => Fit::Counted,
            n => Fit::Exact(n as u32),
        }
    }

    #[inline]
    fn bits(self) -> u64 {
        match self {
            Fit::Counted => 0,
            Fit::Exact(n) => u64::from(n) << Fit::SHIFT,
        }
    }
}

/// Bytes of a member of this length.
#[inline]
fn member_total(length: usize) -> usize {
    match Fit::of_length(length) {
        Fit::Counted => length_bytes(length) + length,
        Fit::Exact(_) => length,
    }
}

impl Member {
    /// With these bytes.
    pub fn new(bytes: &[u8]) -> Member {
        let (base, address) = allocate(member_total(bytes.len()));
        let fit = Fit::of_length(bytes.len());
        // SAFETY: there is room for the bytes, and for their length if it is counted, in a new allocation.
        unsafe {
            let to = match fit {
                Fit::Counted => write_length(base, bytes.len()),
                Fit::Exact(_) => base,
            };
            to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Member {
            word: address | fit.bits(),
        }
    }

    /// Its bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.as_ref()
    }
}

// SAFETY: the word is all there is, and names the allocation and how the bytes lie in it; they never change.
unsafe impl Element for Member {
    type Ref<'a> = &'a [u8];

    #[inline]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the allocation lives as long as its owner.
        unsafe { Member::ref_from_word(self.word) }
    }

    #[inline]
    fn into_word(self) -> u64 {
        ManuallyDrop::new(self).word
    }

    #[inline]
    unsafe fn from_word(word: u64) -> Member {
        Member { word }
    }

    #[inline]
    unsafe fn ref_from_word<'a>(word: u64) -> &'a [u8] {
        // SAFETY: invariants 1 and 2: the bytes, and their length if it is counted, lie there, for as long as the caller
        // promises.
        unsafe {
            let (length, bytes) = match Fit::of_word(word) {
                Fit::Counted => read_length(base_of(word)),
                Fit::Exact(n) => (4 << n, base_of(word).cast_const()),
            };
            std::slice::from_raw_parts(bytes, length)
        }
    }
}

impl<'a> ElementRef<'a> for &'a [u8] {
    #[inline]
    fn key(self) -> &'a [u8] {
        self
    }

    #[inline]
    fn allocated_bytes(self) -> usize {
        size_class(member_total(self.len()))
    }
}

impl Clone for Member {
    fn clone(&self) -> Member {
        Member::new(self.as_bytes())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let total = member_total(self.as_bytes().len());
        // SAFETY: invariant 1; nothing uses the element after its drop.
        unsafe { dealloc(base_of(self.word), layout(total)) };
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({})", self.as_bytes().escape_ascii())
    }
}

/// A field of a hash with its value, and when it expires.
pub struct FieldValue {
    word: u64,
}

// SAFETY: it is the only owner of its allocation, which holds bytes and a number.
unsafe impl Send for FieldValue {}

/// A field that is looked at.
#[derive(Clone, Copy)]
pub struct FieldRef<'a> {
    word: u64,
    life: PhantomData<&'a FieldValue>,
}

/// Bytes of a field with these lengths.
#[inline]
fn field_total(has_expiry: bool, field_length: usize, value_length: usize) -> usize {
    expiry_bytes(has_expiry) + length_bytes(field_length) + length_bytes(value_length) + field_length + value_length
}

#[inline]
fn expiry_bytes(has_expiry: bool) -> usize {
    if has_expiry { 8 } else { 0 }
}

impl FieldValue {
    /// A field with this value.
    pub fn new(field: &[u8], value: &[u8], expiry: Option<UnixMs>) -> FieldValue {
        let total = field_total(expiry.is_some(), field.len(), value.len());
        let (base, address) = allocate(total);
        // SAFETY: there is room for all parts, in a new allocation.
        unsafe {
            let body = base.add(expiry_bytes(expiry.is_some()));
            let bytes = write_length(write_length(body, field.len()), value.len());
            bytes.copy_from_nonoverlapping(field.as_ptr(), field.len());
            bytes
                .add(field.len())
                .copy_from_nonoverlapping(value.as_ptr(), value.len());
            if let Some(UnixMs(at)) = expiry {
                base.cast::<u64>().write(at);
            }
        }
        FieldValue {
            word: address | if expiry.is_some() { WORD_FLAG } else { 0 },
        }
    }

    /// Replaces the value: in place, if the size class stays the same. The expiry stays.
    pub fn set_value(&mut self, value: &[u8]) {
        let seen = self.as_ref();
        let (field, old) = seen.parts();
        let has_expiry = seen.has_expiry();
        let old_class = size_class(field_total(has_expiry, field.len(), old.len()));
        let new_class = size_class(field_total(has_expiry, field.len(), value.len()));
        if old_class != new_class {
            *self = FieldValue::new(field, value, seen.expiry());
            return;
        }
        let (field_from, field_length) = (field.as_ptr(), field.len());
        // SAFETY: the allocation has room for the new parts, as its class says. The field moves if the value's length takes
        // more or fewer bytes now (`copy_to` allows overlap), before anything is written over it. `value` cannot lie in this
        // element, which is borrowed mutably.
        unsafe {
            let body = base_of(self.word).add(expiry_bytes(has_expiry));
            let field_to = body.add(length_bytes(field_length) + length_bytes(value.len()));
            field_from.copy_to(field_to, field_length);
            write_length(write_length(body, field_length), value.len());
            field_to
                .add(field_length)
                .copy_from_nonoverlapping(value.as_ptr(), value.len());
        }
    }

    /// Sets, changes or removes the expiry.
    pub fn set_expiry(&mut self, expiry: Option<UnixMs>) {
        match expiry {
            // SAFETY: the flag says that the expiry stands at the beginning.
            Some(UnixMs(at)) if self.word & WORD_FLAG != 0 => unsafe { base_of(self.word).cast::<u64>().write(at) },
            None if self.word & WORD_FLAG == 0 => {}
            _ => {
                let (field, value) = self.as_ref().parts();
                *self = FieldValue::new(field, value, expiry);
            }
        }
    }

    /// The field.
    #[inline]
    pub fn field(&self) -> &[u8] {
        self.as_ref().field()
    }
}

// SAFETY: the word is all there is, and names the allocation; the field never changes.
unsafe impl Element for FieldValue {
    type Ref<'a> = FieldRef<'a>;

    #[inline]
    fn as_ref(&self) -> FieldRef<'_> {
        FieldRef {
            word: self.word,
            life: PhantomData,
        }
    }

    #[inline]
    fn into_word(self) -> u64 {
        ManuallyDrop::new(self).word
    }

    #[inline]
    unsafe fn from_word(word: u64) -> FieldValue {
        FieldValue { word }
    }

    #[inline]
    unsafe fn ref_from_word<'a>(word: u64) -> FieldRef<'a> {
        FieldRef {
            word,
            life: PhantomData,
        }
    }
}

impl<'a> FieldRef<'a> {
    /// The field.
    #[inline]
    pub fn field(self) -> &'a [u8] {
        self.parts().0
    }

    /// Its value.
    #[inline]
    pub fn value(self) -> &'a [u8] {
        self.parts().1
    }

    /// Field and value.
    #[inline]
    pub fn parts(self) -> (&'a [u8], &'a [u8]) {
        // SAFETY: invariants 1 and 2: two lengths and as many bytes lie there, for as long as the element is borrowed.
        unsafe {
            let body = base_of(self.word).add(expiry_bytes(self.has_expiry()));
            let (field_length, behind) = read_length(body);
            let (value_length, bytes) = read_length(behind);
            (
                std::slice::from_raw_parts(bytes, field_length),
                std::slice::from_raw_parts(bytes.add(field_length), value_length),
            )
        }
    }

    /// When it expires.
    #[inline]
    pub fn expiry(self) -> Option<UnixMs> {
        // SAFETY: the flag says that the expiry stands at the beginning.
        self.has_expiry()
            .then(|| UnixMs(unsafe { base_of(self.word).cast::<u64>().read() }))
    }

    /// Whether it has an expiry.
    #[inline]
    pub fn has_expiry(self) -> bool {
        self.word & WORD_FLAG != 0
    }
}

impl<'a> ElementRef<'a> for FieldRef<'a> {
    #[inline]
    fn key(self) -> &'a [u8] {
        self.field()
    }

    #[inline]
    fn allocated_bytes(self) -> usize {
        let (field, value) = self.parts();
        size_class(field_total(self.has_expiry(), field.len(), value.len()))
    }
}

impl Clone for FieldValue {
    fn clone(&self) -> FieldValue {
        let (field, value) = self.as_ref().parts();
        FieldValue::new(field, value, self.as_ref().expiry())
    }
}

impl Drop for FieldValue {
    fn drop(&mut self) {
        let (field, value) = self.as_ref().parts();
        let total = field_total(self.as_ref().has_expiry(), field.len(), value.len());
        // SAFETY: invariant 1; nothing uses the element after its drop.
        unsafe { dealloc(base_of(self.word), layout(total)) };
    }
}

impl fmt::Debug for FieldRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (field, value) = self.parts();
        write!(f, "{}: {}", field.escape_ascii(), value.escape_ascii())?;
        self.expiry().map_or(Ok(()), |UnixMs(at)| write!(f, " until {at}"))
    }
}

impl fmt::Debug for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// A member of a sorted set with its score.
pub struct Scored {
    word: u64,
}

// SAFETY: it is the only owner of its allocation, which holds bytes and a number.
unsafe impl Send for Scored {}

/// A scored member that is looked at.
#[derive(Clone, Copy)]
pub struct ScoredRef<'a> {
    /// The word of the [`Scored`]: an address, so that an optional reference takes no more.
    word: NonZeroU64,
    life: PhantomData<&'a Scored>,
}

const SCORE_BYTES: usize = 8;

#[inline]
fn scored_total(length: usize) -> usize {
    SCORE_BYTES + length_bytes(length) + length
}

impl Scored {
    /// A member with this score.
    pub fn new(score: f64, member: &[u8]) -> Scored {
        let (base, word) = allocate(scored_total(member.len()));
        // SAFETY: there is room for all parts, in a new allocation.
        unsafe {
            base.cast::<f64>().write(score);
            write_length(base.add(SCORE_BYTES), member.len()).copy_from_nonoverlapping(member.as_ptr(), member.len());
        }
        Scored { word }
    }

    /// Replaces the score, in place: the allocation stays where it is.
    #[inline]
    pub fn set_score(&mut self, score: f64) {
        // SAFETY: invariant 1: the score stands at the beginning.
        unsafe { base_of(self.word).cast::<f64>().write(score) };
    }
}

// SAFETY: the word is all there is, and names the allocation; the member never changes.
unsafe impl Element for Scored {
    type Ref<'a> = ScoredRef<'a>;

    #[inline]
    fn as_ref(&self) -> ScoredRef<'_> {
        // SAFETY: the word is one of ours, and the borrow keeps the element alive.
        unsafe { Scored::ref_from_word(self.word) }
    }

    #[inline]
    fn into_word(self) -> u64 {
        ManuallyDrop::new(self).word
    }

    #[inline]
    unsafe fn from_word(word: u64) -> Scored {
        Scored { word }
    }

    #[inline]
    unsafe fn ref_from_word<'a>(word: u64) -> ScoredRef<'a> {
        ScoredRef {
            // SAFETY: the address of an allocation is not null.
            word: unsafe { NonZeroU64::new_unchecked(word) },
            life: PhantomData,
        }
    }
}

impl<'a> ScoredRef<'a> {
    /// Asks for its memory, and does not wait for it.
    #[inline]
    pub fn foresee(self) {
        prefetch(base_of(self.word.get()));
    }

    /// The address of its allocation: to be compared, never followed.
    pub fn address(self) -> u64 {
        self.word.get()
    }

    /// The score.
    #[inline]
    pub fn score(self) -> f64 {
        // SAFETY: invariant 1: the score stands at the beginning.
        unsafe { base_of(self.word.get()).cast::<f64>().read() }
    }

    /// The member.
    #[inline]
    pub fn member(self) -> &'a [u8] {
        // SAFETY: invariant 1: length and bytes lie there, for as long as the element is borrowed.
        unsafe {
            let (length, bytes) = read_length(base_of(self.word.get()).add(SCORE_BYTES));
            std::slice::from_raw_parts(bytes, length)
        }
    }
}

impl<'a> ElementRef<'a> for ScoredRef<'a> {
    #[inline]
    fn key(self) -> &'a [u8] {
        self.member()
    }

    #[inline]
    fn allocated_bytes(self) -> usize {
        size_class(scored_total(self.member().len()))
    }
}

impl Clone for Scored {
    fn clone(&self) -> Scored {
        Scored::new(self.as_ref().score(), self.as_ref().member())
    }
}

impl Drop for Scored {
    fn drop(&mut self) {
        let total = scored_total(self.as_ref().member().len());
        // SAFETY: invariant 1; nothing uses the element after its drop.
        unsafe { dealloc(base_of(self.word), layout(total)) };
    }
}

impl fmt::Debug for ScoredRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.score(), self.member().escape_ascii())
    }
}

impl fmt::Debug for Scored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 19] = [
        0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 64, 252, 253, 254, 255, 300, 65_535, 65_536, 100_000,
    ];

    fn text(length: usize, seed: usize) -> Vec<u8> {
        (0..length).map(|n| (n * 7 + seed) as u8).collect()
    }

    #[test]
    fn common_elements_fit_their_classes() {
        let member = |length| Member::new(&vec![b'm'; length]).as_ref().allocated_bytes();
        assert_eq!([7, 8, 15, 16, 31, 32].map(member), [8, 8, 16, 16, 32, 32]);
        assert_eq!([9, 17, 33].map(member), [16, 32, 48]);
        assert_eq!(Scored::new(1.5, &[b'm'; 16]).as_ref().allocated_bytes(), 32);
        for expiry in [None, Some(UnixMs(1))] {
            let field = FieldValue::new(&[b'f'; 16], &[b'v'; 16], expiry);
            assert_eq!(field.as_ref().allocated_bytes(), 48);
        }
    }

    #[test]
    fn members_and_scores_of_all_lengths_come_back() {
        for length in LENGTHS {
            let bytes = text(length, 1);
            let word = Member::new(&bytes).into_word();
            // SAFETY: the word was made just now.
            let member = unsafe { Member::from_word(word) };
            assert_eq!(member.clone().as_bytes(), bytes);
            let mut scored = Scored::new(1.5, &bytes);
            scored.set_score(-0.25);
            let seen = scored.clone();
            assert_eq!((seen.as_ref().score(), seen.as_ref().member()), (-0.25, &bytes[..]));
        }
    }

    #[test]
    fn every_value_replaces_every_other() {
        for field_length in [0, 1, 16, 252, 254, 70_000] {
            let field = text(field_length, 3);
            let mut element = FieldValue::new(&field, b"", None);
            let mut step = 0;
            for first in LENGTHS {
                for second in LENGTHS {
                    for length in [first, second] {
                        step += 1;
                        let value = text(length, step);
                        element.set_value(&value);
                        let expiry = (!step.is_multiple_of(3)).then_some(UnixMs(step as u64));
                        element.set_expiry(expiry);
                        let seen = element.as_ref();
                        assert_eq!((seen.parts(), seen.expiry()), ((&field[..], &value[..]), expiry));
                    }
                }
            }
            let copy = element.clone();
            assert_eq!(copy.as_ref().parts(), element.as_ref().parts());
            assert_eq!(copy.as_ref().expiry(), element.as_ref().expiry());
        }
    }
}
