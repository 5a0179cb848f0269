//! One entry: key, value, expiry and access clock in one allocation.
//!
//! ```text
//!  0        4         6           8                  16 or 24 ...
//! +--------+---------+-----------+----------+------------+---------+-----------+--------------+
//! | clock  | key_len | value_len | expiry   | long key's | payload | key bytes | inline value |
//! | flags  |   u16   |    u16    | u64, opt | length,opt |   opt   |           |              |
//! +--------+---------+-----------+----------+------------+---------+-----------+--------------+
//! ```
//!
//! * `clock` is the upper 24 bits of the first word, `flags` the lower 8: two bits of representation, and whether there
//!   is an expiry, a long key length, whether a string counts as `raw`, and on which side of a snapshot's cut the entry stands.
//! * The payload is what a representation other than inline needs: 8 bytes for an integer, a [`LongString`] for a
//!   long string, and for a value that is not a string the word of an [`Object`], whose kind stands in `value_len`.
//! * 16 bytes of key and 64 of value take 88 bytes, which is jemalloc's class of 96; with an expiry they take the same.
//!
//! OBJECT ENCODING is a property that clients see (`embstr` up to 44 bytes when SET, `raw` after APPEND) and has nothing
//! to do with where the bytes lie: the flag `RAW` carries it.
//!
//! Invariants:
//! 1. An entry's allocation has size `size_class(shape.total())` and alignment 8, where `shape` is computed from its header.
//! 2. `key_len` is `u16::MAX` exactly when `LONG_KEY` is set; then the true length stands in its own word.
//! 3. `value_len` is the length of the inline value, the kind of an object, and 0 in any other representation.
//! 4. An address needs 48 bits: the table keeps 16 bits of the hash above it, and a flag in the low three bits: the entry expires, or a field of
//!    its hash does.
//! 5. A `LongString` or an object's word lies in the payload exactly when the representation says so; whoever changes the
//!    representation drops it first.
//!
//! This file is the only one of the store with much `unsafe` in it.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::value::{INLINE_BYTES_MAX, NewValue, ValueRef};
use crate::base::clock::UnixMs;
use crate::base::size_class::{allocated, size_class};
use crate::data::dict::{Element, ElementRef, WORD_ADDRESS, WORD_FLAG};
use crate::data::frozen::{Lent, LentRef};
use crate::data::string::{LongString, StringEdit, StringForm};
use crate::data::{Encoding, Object, ObjectRef, ValueType};

const HEADER_BYTES: usize = 8;
const ALIGN: usize = 8;

const REPRESENTATION: u8 = 0b11;
const INLINE: u8 = 0;
const INT: u8 = 1;
const LARGE: u8 = 2;
const OBJECT: u8 = 3;
const HAS_EXPIRY: u8 = 1 << 2;
const RAW: u8 = 1 << 3;
const LONG_KEY: u8 = 1 << 4;
/// On which side of the last cut it stands (`cut`): no part of the entry's meaning.
const SIDE: u8 = 1 << 5;

/// An entry outside of any table: key, value, expiry and access clock. Dropping it frees it.
pub struct OwnedEntry {
    header: NonNull<Header>,
}

// SAFETY: the entry is the only owner of its allocation, and everything in it (bytes, integers, `Bytes`, `Object`) is `Send`.
unsafe impl Send for OwnedEntry {}

#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    clock_and_flags: u32,
    key_len: u16,
    value_len: u16,
}

/// Where the parts of an entry lie.
#[derive(Clone, Copy)]
struct Shape {
    flags: u8,
    key_len: usize,
    /// Invariant 3.
    value_len: usize,
}

impl Shape {
    fn of(key_len: usize, value: &NewValue<'_>, has_expiry: bool) -> Shape {
        let (mut flags, value_len) = match value {
            NewValue::Int(_) => (INT, 0),
            NewValue::Inline { bytes, is_raw: false } => (INLINE, bytes.len()),
            NewValue::Inline { bytes, is_raw: true } => (INLINE | RAW, bytes.len()),
            NewValue::Large(_) => (LARGE | RAW, 0),
            NewValue::Object(object) => (OBJECT, usize::from(object.kind())),
        };
        flags |= if has_expiry { HAS_EXPIRY } else { 0 };
        flags |= if key_len >= usize::from(u16::MAX) { LONG_KEY } else { 0 };
        Shape {
            flags,
            key_len,
            value_len,
        }
    }

    #[inline]
    fn representation(self) -> u8 {
        self.flags & REPRESENTATION
    }

    /// Where the optional words after the expiry begin: what an added or removed expiry moves.
    #[inline]
    fn body_at(self) -> usize {
        HEADER_BYTES + if self.flags & HAS_EXPIRY != 0 { 8 } else { 0 }
    }

    #[inline]
    fn payload_at(self) -> usize {
        self.body_at() + if self.flags & LONG_KEY != 0 { 8 } else { 0 }
    }

    #[inline]
    fn key_at(self) -> usize {
        self.payload_at()
            + match self.representation() {
                INLINE => 0,
                INT => size_of::<i64>(),
                LARGE => size_of::<LongString>(),
                _ => size_of::<NonNull<u8>>(),
            }
    }

    #[inline]
    fn value_at(self) -> usize {
        self.key_at() + self.key_len
    }

    #[inline]
    fn total(self) -> usize {
        self.value_at() + self.inline_len()
    }

    #[inline]
    fn inline_len(self) -> usize {
        if self.representation() == INLINE {
            self.value_len
        } else {
            0
        }
    }

    #[inline]
    fn class(self) -> usize {
        size_class(self.total())
    }

    fn layout(self) -> Layout {
        Layout::from_size_align(self.class(), ALIGN).expect("keys and inline values are bounded far below isize::MAX")
    }

    fn header(self, clock: u32) -> Header {
        Header {
            clock_and_flags: clock << 8 | u32::from(self.flags),
            key_len: if self.flags & LONG_KEY != 0 {
                u16::MAX
            } else {
                self.key_len as u16
            },
            value_len: self.value_len as u16,
        }
    }
}

impl OwnedEntry {
    /// A string value under `key`.
    pub fn string(key: &[u8], value: &[u8], form: StringForm, expiry: Option<UnixMs>, clock: u32) -> OwnedEntry {
        OwnedEntry::build(key, NewValue::string(value, form), expiry, clock)
    }

    /// An integer value under `key`.
    pub fn int(key: &[u8], value: i64, expiry: Option<UnixMs>, clock: u32) -> OwnedEntry {
        OwnedEntry::build(key, NewValue::Int(value), expiry, clock)
    }

    /// A value of any other type under `key`. Asserts that it may be stored: one without elements may not.
    pub fn object(key: &[u8], object: Object, expiry: Option<UnixMs>, clock: u32) -> OwnedEntry {
        assert!(!object.is_void(), "a value without elements is no value");
        OwnedEntry::build(key, NewValue::Object(object), expiry, clock)
    }

    /// To look at it.
    #[inline]
    pub fn as_ref(&self) -> EntryRef<'_> {
        EntryRef {
            header: self.header,
            life: PhantomData,
        }
    }

    /// Sets, changes or removes the expiry.
    pub fn set_expiry(&mut self, expiry: Option<UnixMs>) {
        let old = self.shape();
        let flags = if expiry.is_some() {
            old.flags | HAS_EXPIRY
        } else {
            old.flags & !HAS_EXPIRY
        };
        if flags != old.flags {
            let new = Shape { flags, ..old };
            let clock = self.as_ref().access_clock();
            let body_bytes = old.total() - old.body_at();
            self.reshape(old, new, |from, to| {
                // SAFETY: `from` has the old shape and `to` room for the new one; the body (long key length, payload,
                // key, value) is the same bytes in both, and `copy` allows overlap. The payload is moved, not copied:
                // the old place is forgotten.
                unsafe {
                    from.add(old.body_at()).copy_to(to.add(new.body_at()), body_bytes);
                    to.cast::<Header>().write(new.header(clock));
                }
            });
        }
        self.write_expiry(expiry);
    }

    /// Sets the 24 access bits.
    #[inline]
    pub fn set_access_clock(&mut self, clock: u32) {
        // SAFETY: invariant 1: the header is there, and `&mut self` means that nobody looks at it.
        unsafe {
            let word = &mut (*self.header.as_ptr()).clock_and_flags;
            *word = clock << 8 | (*word & 0xff);
        }
    }

    /// Puts it on one side of the last cut.
    #[inline]
    pub(super) fn set_side(&mut self, side: u8) {
        // SAFETY: invariant 1: the header is there, and `&mut self` means that nobody looks at it. No other invariant knows this flag.
        unsafe {
            let word = &mut (*self.header.as_ptr()).clock_and_flags;
            *word = *word & !u32::from(SIDE) | if side != 0 { u32::from(SIDE) } else { 0 };
        }
    }

    /// The same value, expiry and clock under another key.
    pub fn with_key(self, key: &[u8]) -> OwnedEntry {
        if self.as_ref().key() == key {
            return self;
        }
        let old = ManuallyDrop::new(self);
        let seen = old.as_ref();
        let value = match seen.value() {
            ValueRef::Int(integer) => NewValue::Int(integer),
            ValueRef::Inline(bytes) => NewValue::Inline {
                bytes,
                is_raw: seen.is_raw(),
            },
            // SAFETY: the representation is LARGE; the payload is moved out and `old` is never dropped as a whole.
            ValueRef::Shared(_) => unsafe { NewValue::Large(old.large_ptr().read()) },
            // SAFETY: as above: moved out, and `old` is never dropped as a whole.
            ValueRef::Object(_) => NewValue::Object(unsafe { old.read_object() }),
        };
        let new = OwnedEntry::build(key, value, seen.expiry(), seen.access_clock());
        // SAFETY: invariant 1, and the payload has been moved out.
        unsafe { dealloc(old.base(), old.shape().layout()) };
        new
    }

    /// Appends to the string, which is `raw` from then on; returns its length.
    pub(super) fn append(&mut self, tail: &[u8]) -> usize {
        let len = self.grow_raw(tail.len());
        let at = len - tail.len();
        match self.representation() {
            // Growing already wrote zeros; the entry's own bytes are small enough for that not to matter.
            INLINE => self.inline_mut()[at..].copy_from_slice(tail),
            _ => self.large_mut().append(tail),
        }
        len
    }

    /// Makes the string `raw` and at least `len_min` long, with zero bytes, and lets `edit` change its bytes.
    pub(super) fn edit_bytes<R>(&mut self, len_min: usize, edit: impl FnOnce(&mut StringEdit<'_>) -> R) -> R {
        let len = self.as_ref().value().string_len();
        self.grow_raw(len_min.saturating_sub(len));
        match self.representation() {
            INLINE => edit(&mut StringEdit::of_short(self.inline_mut())),
            _ => self.large_mut().edit(len_min, edit),
        }
    }

    /// Lets `edit` change the object in its place, even into one of another kind. Asserts that there is one.
    pub(super) fn edit_object<R>(&mut self, edit: impl FnOnce(&mut Object) -> R) -> R {
        /// Puts the object back whatever happens in `edit`: what it has freed must not be freed again.
        struct PutBack<'e> {
            entry: &'e mut OwnedEntry,
            object: ManuallyDrop<Object>,
        }
        impl Drop for PutBack<'_> {
            fn drop(&mut self) {
                // SAFETY: it is not used again.
                let object = unsafe { ManuallyDrop::take(&mut self.object) };
                let kind = object.kind();
                // SAFETY: the shape of an entry does not depend on the kind of its object; the old word has been read.
                unsafe {
                    (*self.entry.header.as_ptr()).value_len = u16::from(kind);
                    self.entry.object_ptr().write(object.into_word());
                }
            }
        }
        // SAFETY: the word is overwritten before anybody can use it again.
        let object = ManuallyDrop::new(unsafe { self.read_object() });
        let mut borrowed = PutBack { entry: self, object };
        edit(&mut borrowed.object)
    }

    /// Lends its value to be frozen, or read as it was. Asserts that it is of a kind that may be ([`EntryRef::lent`]).
    pub(super) fn lend<R>(&mut self, lend: impl FnOnce(&mut Lent<'_>) -> R) -> R {
        match self.representation() {
            LARGE => lend(&mut Lent::String(self.large_mut())),
            _ => self.edit_object(|object| lend(&mut Lent::Object(object))),
        }
    }

    pub(super) fn build(key: &[u8], value: NewValue<'_>, expiry: Option<UnixMs>, clock: u32) -> OwnedEntry {
        let shape = Shape::of(key.len(), &value, expiry.is_some());
        let base = allocate(shape);
        // SAFETY: `base` has room for the shape; the key lies elsewhere, as the allocation is new.
        unsafe {
            base.add(shape.key_at())
                .copy_from_nonoverlapping(key.as_ptr(), key.len());
            write_parts(base, shape, value, expiry, clock);
            OwnedEntry {
                header: NonNull::new_unchecked(base.cast()),
            }
        }
    }

    /// Overwrites value and expiry.
    pub(super) fn store(&mut self, value: NewValue<'_>, expiry: Option<UnixMs>) {
        let old = self.shape();
        let mut new = Shape::of(old.key_len, &value, expiry.is_some());
        new.flags |= old.flags & SIDE;
        let clock = self.as_ref().access_clock();
        // SAFETY: the old payload is not used again: the parts of the new shape are written over it.
        unsafe { self.drop_payload() };
        self.reshape(old, new, |from, to| {
            // SAFETY: `from` has the old shape, `to` room for the new one; `copy` allows overlap. The value cannot lie
            // in this entry, which is borrowed mutably.
            unsafe {
                from.add(old.key_at()).copy_to(to.add(new.key_at()), old.key_len);
                write_parts(to, new, value, expiry, clock);
            }
        });
    }

    /// Makes the string `raw`, with room for `extra_bytes` more: an inline string is lengthened by as many zeros, a
    /// large one is only prepared. Returns the length to come.
    fn grow_raw(&mut self, extra_bytes: usize) -> usize {
        let old = self.shape();
        assert!(old.representation() != OBJECT, "only a string grows by bytes");
        let mut digits = itoa::Buffer::new();
        let value = self.as_ref().value();
        let len = value.string_len() + extra_bytes;
        let expiry = self.as_ref().expiry();
        if old.representation() == INLINE && len <= INLINE_BYTES_MAX {
            let new = Shape {
                flags: old.flags | RAW,
                value_len: len,
                ..old
            };
            let clock = self.as_ref().access_clock();
            self.reshape(old, new, |from, to| {
                // SAFETY: only the end of the value moves, so every part keeps its offset; the places are the same or
                // two allocations.
                unsafe {
                    if from != to {
                        from.copy_to_nonoverlapping(to, old.total());
                    }
                    to.add(old.total()).write_bytes(0, extra_bytes);
                    to.cast::<Header>().write(new.header(clock));
                }
            });
        } else if old.representation() != LARGE {
            let bytes = value.as_bytes(&mut digits);
            if len <= INLINE_BYTES_MAX {
                // Only an integer comes here: it becomes its digits.
                let mut text = bytes.to_vec();
                text.resize(len, 0);
                self.store(
                    NewValue::Inline {
                        bytes: &text,
                        is_raw: true,
                    },
                    expiry,
                );
            } else {
                self.store(NewValue::Large(LongString::with_capacity(len, bytes)), expiry);
            }
        }
        len
    }

    /// Brings the entry from one shape to another, in place if the size class is the same; `fill` gets the place that
    /// has the old shape and the place that gets the new one (they may be the same place).
    fn reshape(&mut self, old: Shape, new: Shape, fill: impl FnOnce(*mut u8, *mut u8)) {
        let from = self.base();
        if old.class() == new.class() {
            fill(from, from);
        } else {
            let to = allocate(new);
            fill(from, to);
            // SAFETY: invariant 1 for the old shape; `fill` has moved everything out of it.
            unsafe {
                dealloc(from, old.layout());
                self.header = NonNull::new_unchecked(to.cast());
            }
        }
    }

    fn write_expiry(&mut self, expiry: Option<UnixMs>) {
        if let Some(UnixMs(at)) = expiry {
            debug_assert!(self.shape().flags & HAS_EXPIRY != 0);
            // SAFETY: the shape has room for an expiry right after the header.
            unsafe { self.base().add(HEADER_BYTES).cast::<u64>().write(at) };
        }
    }

    #[inline]
    fn base(&self) -> *mut u8 {
        self.header.as_ptr().cast()
    }

    #[inline]
    fn shape(&self) -> Shape {
        self.as_ref().shape()
    }

    #[inline]
    fn representation(&self) -> u8 {
        self.shape().representation()
    }

    fn inline_mut(&mut self) -> &mut [u8] {
        let shape = self.shape();
        // SAFETY: the inline value is `value_len` initialised bytes at `value_at`, borrowed as long as the entry.
        unsafe { std::slice::from_raw_parts_mut(self.base().add(shape.value_at()), shape.value_len) }
    }

    fn large_ptr(&self) -> *mut LongString {
        let shape = self.shape();
        assert!(shape.representation() == LARGE, "only a large string has this payload");
        // SAFETY: the payload lies within the allocation, at a multiple of 8.
        unsafe { self.base().add(shape.payload_at()).cast() }
    }

    fn large_mut(&mut self) -> &mut LongString {
        // SAFETY: invariant 5: the payload is there, and is borrowed as long as the entry.
        unsafe { &mut *self.large_ptr() }
    }

    fn object_ptr(&self) -> *mut NonNull<u8> {
        let shape = self.shape();
        assert!(shape.representation() == OBJECT, "only an object has this payload");
        // SAFETY: the payload lies within the allocation, at a multiple of 8.
        unsafe { self.base().add(shape.payload_at()).cast() }
    }

    /// # Safety
    /// The payload must be overwritten or the entry forgotten afterwards.
    unsafe fn read_object(&self) -> Object {
        // SAFETY: invariant 5; kind and word are those of one object, and not used again, as the caller promises.
        unsafe { Object::from_word(self.shape().value_len as u8, self.object_ptr().read()) }
    }

    /// # Safety
    /// The payload must be overwritten or the entry forgotten afterwards.
    unsafe fn drop_payload(&mut self) {
        match self.representation() {
            // SAFETY: invariant 5; not used again, as the caller promises.
            LARGE => unsafe { self.large_ptr().drop_in_place() },
            // SAFETY: the same.
            OBJECT => drop(unsafe { self.read_object() }),
            _ => {}
        }
    }
}

impl Clone for OwnedEntry {
    fn clone(&self) -> OwnedEntry {
        self.as_ref().to_owned()
    }
}

impl Drop for OwnedEntry {
    fn drop(&mut self) {
        let layout = self.shape().layout();
        // SAFETY: invariants 1 and 5; nothing uses the entry after its drop.
        unsafe {
            self.drop_payload();
            dealloc(self.base(), layout);
        }
    }
}

impl fmt::Debug for OwnedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// An entry that is looked at.
#[derive(Clone, Copy)]
pub struct EntryRef<'a> {
    header: NonNull<Header>,
    life: PhantomData<&'a OwnedEntry>,
}

impl<'a> EntryRef<'a> {
    /// The key.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        let shape = self.shape();
        // SAFETY: invariant 1: `key_len` initialised bytes lie there for as long as the entry is borrowed.
        unsafe { std::slice::from_raw_parts(self.base().add(shape.key_at()), shape.key_len) }
    }

    /// The value.
    #[inline]
    pub fn value(self) -> ValueRef<'a> {
        let shape = self.shape();
        // SAFETY: invariants 1 and 5: the part that the representation names lies there, initialised, for as long as
        // the entry is borrowed; payloads lie at multiples of 8.
        unsafe {
            let payload = self.base().add(shape.payload_at());
            match shape.representation() {
                INLINE => ValueRef::Inline(std::slice::from_raw_parts(
                    self.base().add(shape.value_at()),
                    shape.value_len,
                )),
                INT => ValueRef::Int(payload.cast::<i64>().read()),
                LARGE => ValueRef::Shared((*payload.cast::<LongString>()).bytes()),
                _ => ValueRef::Object(ObjectRef::from_word(shape.value_len as u8, &*payload.cast())),
            }
        }
    }

    /// On which side of the last cut it stands.
    #[inline]
    pub(super) fn side(self) -> u8 {
        u8::from(self.shape().flags & SIDE != 0)
    }

    /// What TYPE answers.
    #[inline]
    pub fn type_of(self) -> ValueType {
        self.object().map_or(ValueType::String, ObjectRef::type_of)
    }

    /// The value, if it is not a string.
    #[inline]
    pub fn object(self) -> Option<ObjectRef<'a>> {
        match self.value() {
            ValueRef::Object(object) => Some(object),
            _ => None,
        }
    }

    /// What a frozen value is known by as long as it is frozen; 0 for what cannot be.
    pub(super) fn value_address(self) -> usize {
        let shape = self.shape();
        // SAFETY: invariants 1 and 5: the representation says what the payload is, which lies at a multiple of 8.
        unsafe {
            let payload = self.base().add(shape.payload_at());
            match shape.representation() {
                LARGE => (*payload.cast::<LongString>()).address(),
                OBJECT => payload.cast::<usize>().read(),
                _ => 0,
            }
        }
    }

    /// The value, if it is of a kind that can be frozen where it is large enough.
    #[inline]
    pub(super) fn lent(self) -> Option<LentRef<'a>> {
        let shape = self.shape();
        // SAFETY: invariants 1 and 5: the representation says what the payload is, which lies at a multiple of 8, for as long as the
        // entry is borrowed.
        unsafe {
            let payload = self.base().add(shape.payload_at());
            match shape.representation() {
                LARGE => Some(LentRef::String(&*payload.cast())),
                OBJECT => Some(LentRef::Object(ObjectRef::from_word(
                    shape.value_len as u8,
                    &*payload.cast(),
                ))),
                _ => None,
            }
        }
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(self) -> Encoding {
        if let Some(object) = self.object() {
            return object.encoding();
        }
        match self.shape().representation() {
            INT => Encoding::Int,
            _ if self.is_raw() => Encoding::Raw,
            _ => Encoding::Embstr,
        }
    }

    /// When it expires.
    #[inline]
    pub fn expiry(self) -> Option<UnixMs> {
        if !self.has_expiry() {
            return None;
        }
        // SAFETY: the flag says that the expiry stands right after the header.
        Some(UnixMs(unsafe { self.base().add(HEADER_BYTES).cast::<u64>().read() }))
    }

    /// No field of its value expires before this; None if it is no hash, or none ever does.
    #[inline]
    pub fn field_expiry(self) -> Option<UnixMs> {
        if self.read_header().clock_and_flags as u8 & REPRESENTATION != OBJECT {
            return None;
        }
        self.object()?.next_expiry()
    }

    /// Whether its time is over. At the very millisecond it still lives, as in Redis.
    #[inline]
    pub fn is_expired(self, now: UnixMs) -> bool {
        self.expiry().is_some_and(|expiry| now > expiry)
    }

    /// The 24 access bits; `data::access` reads them.
    #[inline]
    pub fn access_clock(self) -> u32 {
        self.read_header().clock_and_flags >> 8
    }

    /// Bytes taken from the allocator for this entry.
    pub fn allocated_bytes(self) -> usize {
        let shape = self.shape();
        let outside = match shape.representation() {
            // SAFETY: invariant 5.
            LARGE => allocated(unsafe { (*self.base().add(shape.payload_at()).cast::<LongString>()).capacity() }),
            OBJECT => self.object().map_or(0, ObjectRef::allocated_bytes),
            _ => 0,
        };
        shape.class() + outside
    }

    /// A copy with the same key, value, expiry and clock. Long strings are shared, not copied; objects are copied.
    pub fn to_owned(self) -> OwnedEntry {
        let is_raw = self.is_raw();
        let value = match self.value() {
            ValueRef::Int(integer) => NewValue::Int(integer),
            ValueRef::Inline(bytes) => NewValue::Inline { bytes, is_raw },
            ValueRef::Shared(bytes) => NewValue::Large(LongString::adopt(bytes.clone())),
            ValueRef::Object(object) => NewValue::Object(object.to_owned()),
        };
        OwnedEntry::build(self.key(), value, self.expiry(), self.access_clock())
    }

    #[inline]
    pub(super) fn has_expiry(self) -> bool {
        self.read_header().clock_and_flags as u8 & HAS_EXPIRY != 0
    }

    fn is_raw(self) -> bool {
        self.read_header().clock_and_flags as u8 & RAW != 0
    }

    #[inline]
    fn read_header(self) -> Header {
        // SAFETY: invariant 1: every entry begins with its header.
        unsafe { self.header.as_ptr().read() }
    }

    #[inline]
    fn base(self) -> *const u8 {
        self.header.as_ptr().cast_const().cast()
    }

    #[inline]
    fn shape(self) -> Shape {
        let header = self.read_header();
        let mut shape = Shape {
            flags: header.clock_and_flags as u8,
            key_len: usize::from(header.key_len),
            value_len: usize::from(header.value_len),
        };
        if shape.flags & LONG_KEY != 0 {
            // SAFETY: invariant 2: the length stands at the beginning of the body.
            shape.key_len = unsafe { self.base().add(shape.body_at()).cast::<u64>().read() } as usize;
        }
        shape
    }
}

impl fmt::Debug for EntryRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key().escape_ascii().to_string())
            .field("value", &self.value())
            .field("encoding", &self.encoding())
            .field("expiry", &self.expiry())
            .finish()
    }
}

// SAFETY: the word is the address of the allocation, and the flag that something of it expires, which only an edit in the
// table changes; the key never changes.
unsafe impl Element for OwnedEntry {
    type Ref<'a> = EntryRef<'a>;

    #[inline]
    fn as_ref(&self) -> EntryRef<'_> {
        self.as_ref()
    }

    #[inline]
    fn into_word(self) -> u64 {
        let has_expiry = self.as_ref().has_expiry() || self.as_ref().field_expiry().is_some();
        let address = ManuallyDrop::new(self).header.as_ptr().expose_provenance() as u64;
        address | if has_expiry { WORD_FLAG } else { 0 }
    }

    #[inline]
    unsafe fn from_word(word: u64) -> OwnedEntry {
        OwnedEntry {
            header: header_of(word),
        }
    }

    #[inline]
    unsafe fn ref_from_word<'a>(word: u64) -> EntryRef<'a> {
        EntryRef {
            header: header_of(word),
            life: PhantomData,
        }
    }
}

impl<'a> ElementRef<'a> for EntryRef<'a> {
    #[inline]
    fn key(self) -> &'a [u8] {
        self.key()
    }

    #[inline]
    fn allocated_bytes(self) -> usize {
        self.allocated_bytes()
    }
}

/// The header that a word of `OwnedEntry` names.
#[inline]
fn header_of(word: u64) -> NonNull<Header> {
    let header = std::ptr::with_exposed_provenance_mut((word & WORD_ADDRESS) as usize);
    // SAFETY: the address of an allocation is not null.
    unsafe { NonNull::new_unchecked(header) }
}

fn allocate(shape: Shape) -> *mut u8 {
    let layout = shape.layout();
    // SAFETY: the size is at least that of the header, so not zero.
    let base = unsafe { alloc(layout) };
    if base.is_null() {
        handle_alloc_error(layout);
    }
    base
}

/// Writes all parts but the key.
///
/// # Safety
/// `base` has room for `shape`, which is the shape of `value` with this `expiry`; no payload that is still owned lies there.
unsafe fn write_parts(base: *mut u8, shape: Shape, value: NewValue<'_>, expiry: Option<UnixMs>, clock: u32) {
    // SAFETY: every offset is one of the shape; words lie at multiples of 8, as the allocation does.
    unsafe {
        base.cast::<Header>().write(shape.header(clock));
        if let Some(UnixMs(at)) = expiry {
            base.add(HEADER_BYTES).cast::<u64>().write(at);
        }
        if shape.flags & LONG_KEY != 0 {
            base.add(shape.body_at()).cast::<u64>().write(shape.key_len as u64);
        }
        let payload = base.add(shape.payload_at());
        match value {
            NewValue::Int(integer) => payload.cast::<i64>().write(integer),
            NewValue::Inline { bytes, .. } => {
                base.add(shape.value_at())
                    .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
            NewValue::Large(large) => payload.cast::<LongString>().write(large),
            NewValue::Object(object) => payload.cast::<NonNull<u8>>().write(object.into_word()),
        }
    }
}

#[cfg(test)]
mod tests;
