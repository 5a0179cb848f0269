//! A long string: reference-counted bytes with a buffer of their own, which can be frozen.
//!
//! It is [`Bytes`], so that a reply can be sent from it, and a copy made of it, without its bytes being copied. Changing it in place is
//! possible while nobody else holds them; else they are copied first. What a frozen one was must therefore not be kept as a second
//! `Bytes`: the next change would copy all of it. It keeps the pieces that change ([`super::past`]), and learns of them as they are
//! asked for: a change gets a [`StringEdit`], which lends the bytes to be read, and for writing only the range that is named.
//!
//! Nothing that is done in place makes it shorter, except taking back that it has become longer.

use std::ops::{Deref, Range};

use bytes::{Bytes, BytesMut};

use super::past::PastBytes;
use crate::base::hash::HashSeed;
use crate::data::frozen::{Freezable, Head, Part, Sink, Spent, Use};
use crate::data::past::Pasts;

/// One with more bytes is frozen, one with fewer is copied when it changes: that takes some 20 µs (measured in November 2026).
const BYTES_COPIED_MAX: usize = 256 * 1024;

/// See the essay above. A clone shares the bytes, and is not frozen.
#[derive(Clone)]
pub struct LongString {
    bytes: Bytes,
    /// Bytes of its buffer; `Bytes` does not tell. For one that is shared it is only its own length: who counts the rest
    /// is not known.
    capacity: usize,
    pasts: Pasts<PastBytes>,
}

impl LongString {
    pub fn adopt(bytes: Bytes) -> LongString {
        LongString {
            capacity: bytes.len(),
            bytes,
            pasts: Pasts::default(),
        }
    }

    /// Begins with `bytes`, with room for `capacity`.
    pub fn with_capacity(capacity: usize, bytes: &[u8]) -> LongString {
        let mut buffer = BytesMut::with_capacity(capacity);
        buffer.extend_from_slice(bytes);
        LongString {
            capacity: buffer.capacity(),
            bytes: buffer.freeze(),
            pasts: Pasts::default(),
        }
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Bytes of its buffer, as far as that is known.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Appends; the cost is amortised, as the buffer doubles. What it was does not change by that.
    pub fn append(&mut self, tail: &[u8]) {
        self.with_buffer(|buffer, _| buffer.extend_from_slice(tail));
    }

    /// Makes it at least `len_min` long, with zeros, and lends it to `edit`.
    pub fn edit<R>(&mut self, len_min: usize, edit: impl FnOnce(&mut StringEdit<'_>) -> R) -> R {
        self.with_buffer(|buffer, pasts| {
            if buffer.len() < len_min {
                buffer.resize(len_min, 0);
            }
            edit(&mut StringEdit {
                bytes: buffer,
                pasts: Some(pasts),
            })
        })
    }

    /// Gives the buffer to `edit`, the same one if nobody else holds it.
    #[inline]
    fn with_buffer<R>(&mut self, edit: impl FnOnce(&mut BytesMut, &mut Pasts<PastBytes>) -> R) -> R {
        let mut buffer = std::mem::take(&mut self.bytes)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let result = edit(&mut buffer, &mut self.pasts);
        self.capacity = buffer.capacity();
        self.bytes = buffer.freeze();
        result
    }

    /// What tells it from others while it is frozen; 0 for one that is not.
    pub fn address(&self) -> usize {
        self.pasts.address()
    }

    /// Pieces of what it was that are kept.
    pub fn kept_count(&self) -> usize {
        self.pasts.iter().map(PastBytes::kept_count).sum()
    }

    /// Frees about `count` of them, as part of freeing it; true when nothing is left.
    pub fn free_step(&mut self, count: usize) -> bool {
        self.pasts.free_step(count)
    }
}

impl Freezable for LongString {
    fn freezes(&self) -> bool {
        self.bytes.len() > BYTES_COPIED_MAX
    }

    fn freeze(&mut self, to: Use) {
        self.pasts.begin(to, PastBytes::new(self.bytes.len()));
    }

    fn is_frozen(&self, to: Use) -> bool {
        self.pasts.get(to).is_some()
    }

    fn kept_bytes(&self) -> usize {
        self.pasts.iter().map(PastBytes::kept_bytes).sum()
    }

    fn thaw(&mut self, to: Use) -> Spent {
        self.pasts.end(to).map(Spent::of).unwrap_or_default()
    }

    fn roll_back(&mut self, _seed: HashSeed) {
        let past = self.pasts.end(Use::Undo).expect(crate::data::past::NOT_FROZEN);
        let len = past.len();
        let gone = past.into_gone();
        if !gone.is_empty() {
            self.edit(0, |bytes| {
                for (range, was) in gone {
                    bytes.write(range).copy_from_slice(&was);
                }
            });
        }
        if self.bytes.len() > len {
            for past in self.pasts.iter_mut() {
                past.keep(len..self.bytes.len(), &self.bytes);
            }
            self.bytes.truncate(len);
        }
    }

    fn read_slice(&mut self, to: Use, _seed: HashSeed, effort: usize, sink: &mut impl Sink) -> bool {
        let Some(past) = self.pasts.get_mut(to) else {
            let len = self.bytes.len();
            sink.begin(Head::String { len });
            sink.part(Part::Bytes(&self.bytes));
            return true;
        };
        if let Some(len) = past.begin_read() {
            sink.begin(Head::String { len });
        }
        past.read(&self.bytes, effort, |bytes| sink.part(Part::Bytes(bytes)))
    }
}

/// A string that is being changed in place: its bytes to be read, and what is named to be written.
pub struct StringEdit<'e> {
    bytes: &'e mut [u8],
    /// None: it is not one that can be frozen.
    pasts: Option<&'e mut Pasts<PastBytes>>,
}

impl<'e> StringEdit<'e> {
    /// Of a string that is not long.
    pub fn of_short(bytes: &'e mut [u8]) -> StringEdit<'e> {
        StringEdit { bytes, pasts: None }
    }

    /// A range of it, to be written. Panics if it has no such range.
    #[inline]
    pub fn write(&mut self, range: Range<usize>) -> &mut [u8] {
        if let Some(pasts) = &mut self.pasts
            && pasts.is_any()
        {
            pasts.iter_mut().for_each(|past| past.keep(range.clone(), self.bytes));
        }
        &mut self.bytes[range]
    }

    /// All of it, to be written.
    pub fn write_all(&mut self) -> &mut [u8] {
        self.write(0..self.bytes.len())
    }
}

impl Deref for StringEdit<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}
