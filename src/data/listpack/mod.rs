//! Redis's listpack: a sequence of strings in one piece of memory, its bytes exactly as RDB files and DUMP payloads have
//! them (format: antirez/listpack, `listpack.md`), so that both are a copy of [`Listpack::as_bytes`].
//!
//! ```text
//!  0           4         6
//! +-----------+---------+---------+-----+---------+------+
//! | total u32 | count   | entry   | ... | entry   | 0xFF |      integers of the header are little endian
//! +-----------+---------+---------+-----+---------+------+
//! ```
//!
//! An entry (`entry`) can be walked over in both directions. A `count` of 65535 means "at least so many, count yourself".
//! The whole is a `Block`: one pointer, no capacity, growth by the allocator's size classes.
//!
//! Positions are [`Place`]s, offsets of entries. A change makes the places behind it meaningless; using one all the same
//! gives a wrong element or a panic, never a read outside of the listpack.
//!
//! Invariants:
//! 1. The bytes are a sound listpack: `from_bytes` checks all of it, and every change keeps it so.
//! 2. The count is 65535 exactly when there are at least 65535 elements.

mod entry;
mod item;
#[cfg(test)]
mod tests;

use std::fmt;
use std::iter::FusedIterator;
use std::ptr::NonNull;

pub use item::Item;

use super::block::{Block, Format};
use super::damaged::{Damaged, Fault};
use entry::{END, NewEntry};

const HEADER_BYTES: usize = 6;
/// The header, and the end mark.
const EMPTY: [u8; HEADER_BYTES + 1] = [7, 0, 0, 0, 0, 0, END];
const COUNT_UNKNOWN: usize = 0xffff;
/// No listpack grows beyond 1 GiB (Redis's LISTPACK_MAX_SAFETY_LIMIT).
const BYTES_MAX: usize = 1 << 30;

/// A listpack: one thin pointer.
#[derive(Clone)]
#[repr(transparent)]
pub struct Listpack(Block<ListpackFormat>);

struct ListpackFormat;

impl Format for ListpackFormat {
    const HEADER_BYTES: usize = 4;

    #[inline(always)]
    fn total(header: &[u8]) -> usize {
        u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize
    }

    #[inline(always)]
    fn set_total(header: &mut [u8], total: usize) {
        let total = u32::try_from(total).expect("callers ask Listpack::fits before a listpack grows beyond 4 GiB");
        header.copy_from_slice(&total.to_le_bytes());
    }
}

/// An entry of a listpack: its offset, which means something until the next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u32);

impl Place {
    #[inline(always)]
    fn new(at: usize) -> Place {
        Place(at as u32)
    }

    /// Bytes from the listpack's beginning.
    #[inline(always)]
    pub fn offset(self) -> usize {
        self.0 as usize
    }
}

impl Listpack {
    /// An empty one.
    pub fn new() -> Listpack {
        Listpack(Block::new(&EMPTY))
    }

    /// A copy of bytes that claim to be a listpack, if they are a sound one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Listpack, Damaged> {
        let count = check(bytes)?;
        let mut listpack = Listpack(Block::new(bytes));
        listpack.set_count(count);
        Ok(listpack)
    }

    /// A copy of bytes that are known to be a sound listpack: they came from `as_bytes`.
    pub(super) fn of_sound_bytes(bytes: &[u8]) -> Listpack {
        Listpack(Block::new(bytes))
    }

    /// The one pointer, given away: back with [`Listpack::from_raw`].
    pub fn into_raw(self) -> NonNull<u8> {
        self.0.into_raw()
    }

    /// Back from the pointer.
    ///
    /// # Safety
    /// `start` came from [`Listpack::into_raw`], and from here on nobody else uses it.
    pub unsafe fn from_raw(start: NonNull<u8>) -> Listpack {
        // SAFETY: the caller's promise.
        Listpack(unsafe { Block::from_raw(start) })
    }

    /// All of its bytes, header and end mark included.
    #[inline(always)]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// How many bytes that is.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Bytes that the allocator gave.
    #[inline]
    pub fn allocated_bytes(&self) -> usize {
        self.0.allocated_bytes()
    }

    /// Elements. Walks over all of them if there are 65535 or more.
    #[inline]
    pub fn len(&self) -> usize {
        match self.known_count() {
            COUNT_UNKNOWN => self.counted(),
            count => count,
        }
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.known_count() == 0
    }

    /// Whether it may grow by so many bytes and stay within 1 GiB.
    #[inline]
    pub fn fits(&self, added_bytes: usize) -> bool {
        self.bytes().saturating_add(added_bytes) <= BYTES_MAX
    }

    /// The bytes that an element with this text takes.
    pub fn entry_bytes(text: &[u8]) -> usize {
        NewEntry::of(Item::Bytes(text)).whole_bytes()
    }

    /// The first entry.
    #[inline]
    pub fn first(&self) -> Option<Place> {
        self.place_at(HEADER_BYTES)
    }

    /// The last entry.
    #[inline]
    pub fn last(&self) -> Option<Place> {
        (!self.is_empty()).then(|| Place::new(entry::before(self.as_bytes(), self.end())))
    }

    /// The entry behind this one.
    #[inline]
    pub fn next(&self, place: Place) -> Option<Place> {
        self.place_at(self.behind(place))
    }

    /// The entry before this one.
    #[inline]
    pub fn previous(&self, place: Place) -> Option<Place> {
        (place.offset() > HEADER_BYTES).then(|| Place::new(entry::before(self.as_bytes(), place.offset())))
    }

    /// The entry with this index; negative ones count from the end. Walks from the nearer end.
    pub fn seek(&self, index: i64) -> Option<Place> {
        let magnitude = usize::try_from(index.unsigned_abs()).ok()?;
        let (mut forward, mut backward) = if index >= 0 {
            (Some(magnitude), None)
        } else {
            (None, Some(magnitude))
        };
        let count = self.known_count();
        if count != COUNT_UNKNOWN {
            // Exactly one of them is known so far; the other follows, and an index outside has none.
            let from_front = forward
                .or_else(|| count.checked_sub(magnitude))
                .filter(|&at| at < count)?;
            if from_front <= count / 2 {
                (forward, backward) = (Some(from_front), None);
            } else {
                (forward, backward) = (None, Some(count - from_front));
            }
        }
        let bytes = self.as_bytes();
        if let Some(steps) = forward {
            let mut at = HEADER_BYTES;
            for _ in 0..steps {
                if bytes[at] == END {
                    return None;
                }
                at += entry::whole_bytes(bytes, at);
            }
            return self.place_at(at);
        }
        let mut at = self.end();
        for _ in 0..backward? {
            if at <= HEADER_BYTES {
                return None;
            }
            at = entry::before(bytes, at);
        }
        Some(Place::new(at))
    }

    /// The element there. Panics if the place is not of this listpack.
    #[inline]
    pub fn get(&self, place: Place) -> Item<'_> {
        entry::decode(self.as_bytes(), place.offset()).0
    }

    /// The elements in order; from the end with `next_back`.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        self.iter_between(HEADER_BYTES, self.end())
    }

    /// The elements from the last to the first.
    #[inline]
    pub fn iter_rev(&self) -> std::iter::Rev<Iter<'_>> {
        self.iter().rev()
    }

    /// The elements from this one on.
    #[inline]
    pub fn iter_from(&self, place: Place) -> Iter<'_> {
        self.iter_between(place.offset(), self.end())
    }

    /// The elements up to this one, it included: with `rev` they go from it to the first.
    #[inline]
    pub fn iter_to(&self, place: Place) -> Iter<'_> {
        self.iter_between(HEADER_BYTES, self.behind(place))
    }

    /// The elements in order, each with its place.
    #[inline]
    pub fn iter_places(&self) -> Places<'_> {
        Places(self.iter())
    }

    /// The first entry with this text, from `start` on, looking at every `skip + 1`-th only: with 1, at the fields of a
    /// hash and not at their values.
    pub fn find(&self, start: Place, needle: &[u8], skip: usize) -> Option<Place> {
        let bytes = self.as_bytes();
        let integer = Item::of(needle).to_i64();
        let mut at = start.offset();
        while bytes[at] != END {
            let (item, whole) = entry::decode(bytes, at);
            let is_found = match item {
                Item::Bytes(text) => text == needle,
                Item::Int(found) => integer == Some(found),
            };
            if is_found {
                return Some(Place::new(at));
            }
            at += whole;
            for _ in 0..skip {
                if bytes[at] == END {
                    return None;
                }
                at += entry::whole_bytes(bytes, at);
            }
        }
        None
    }

    /// Appends an element.
    #[inline]
    pub fn push_back(&mut self, text: &[u8]) {
        self.insert_at(self.end(), Item::Bytes(text));
    }

    /// Puts an element before all others.
    #[inline]
    pub fn push_front(&mut self, text: &[u8]) {
        self.insert_at(HEADER_BYTES, Item::Bytes(text));
    }

    /// Appends an integer.
    #[inline]
    pub fn push_int(&mut self, integer: i64) {
        self.insert_at(self.end(), Item::Int(integer));
    }

    /// Appends an element of another listpack or intset.
    #[inline]
    pub fn push_item(&mut self, item: Item<'_>) {
        self.insert_at(self.end(), item);
    }

    /// Puts an element before this one; answers where it is.
    pub fn insert_before(&mut self, place: Place, text: &[u8]) -> Place {
        self.insert_at(place.offset(), Item::Bytes(text))
    }

    /// Puts an element behind this one; answers where it is.
    pub fn insert_after(&mut self, place: Place, text: &[u8]) -> Place {
        self.insert_at(self.behind(place), Item::Bytes(text))
    }

    /// Puts this element in place of the one there, which stays where it is.
    pub fn replace(&mut self, place: Place, text: &[u8]) -> Place {
        self.replace_item(place, Item::Bytes(text))
    }

    /// Puts an integer in place of the element there.
    pub fn replace_int(&mut self, place: Place, integer: i64) -> Place {
        self.replace_item(place, Item::Int(integer))
    }

    /// Puts an element of another listpack or intset in place of the one there.
    pub fn replace_item(&mut self, place: Place, item: Item<'_>) -> Place {
        let removed = self.behind(place) - place.offset();
        self.0.splice(place.offset(), removed, NewEntry::of(item).pieces());
        place
    }

    /// Removes the element there; answers where the next one is now.
    pub fn delete(&mut self, place: Place) -> Option<Place> {
        self.remove_bytes(place.offset(), self.behind(place), 1)
    }

    /// Removes up to `count` elements from `start` on; answers where the next one is now.
    pub fn delete_range(&mut self, start: Place, count: usize) -> Option<Place> {
        let bytes = self.as_bytes();
        let mut to = start.offset();
        let mut removed = 0;
        while removed < count && bytes[to] != END {
            to += entry::whole_bytes(bytes, to);
            removed += 1;
        }
        self.remove_bytes(start.offset(), to, removed)
    }

    /// Removes the elements that `keep` does not want to keep, in one pass; answers how many those were.
    pub fn retain(&mut self, mut keep: impl FnMut(Item<'_>) -> bool) -> usize {
        let bytes = self.as_bytes();
        let mut kept: Option<Vec<u8>> = None;
        let (mut at, mut run, mut left, mut removed) = (HEADER_BYTES, HEADER_BYTES, 0, 0);
        while bytes[at] != END {
            let (item, whole) = entry::decode(bytes, at);
            if keep(item) {
                left += 1;
            } else {
                // What lies between two removed elements is copied as one run.
                kept.get_or_insert_with(|| Vec::with_capacity(bytes.len()))
                    .extend_from_slice(&bytes[run..at]);
                run = at + whole;
                removed += 1;
            }
            at += whole;
        }
        let Some(mut kept) = kept else { return 0 };
        kept.extend_from_slice(&bytes[run..at]);
        self.0.splice(HEADER_BYTES, self.end() - HEADER_BYTES, [&kept]);
        self.set_count(left);
        removed
    }

    /// Cuts the listpack in two: this element and all behind it go to the new one.
    pub fn split_off(&mut self, place: Place) -> Listpack {
        let count = self.len();
        let at = place.offset();
        let tail = Iter {
            bytes: self.as_bytes(),
            front: at,
            back: self.end(),
        }
        .count();
        let total = HEADER_BYTES + self.bytes() - at;
        let mut header = [0; HEADER_BYTES];
        ListpackFormat::set_total(&mut header[..ListpackFormat::HEADER_BYTES], total);
        let mut split = Listpack(Block::of_pieces([&header, &self.as_bytes()[at..]]));
        split.set_count(tail);
        self.0.splice(at, self.end() - at, [&[]]);
        self.set_count(count.saturating_sub(tail));
        split
    }

    /// Appends all elements of another one. The sum must fit ([`Listpack::fits`]).
    pub fn append(&mut self, other: &Listpack) {
        let count = self.len() + other.len();
        self.0
            .splice(self.end(), 0, [&other.as_bytes()[HEADER_BYTES..other.end()]]);
        self.set_count(count);
    }

    /// Puts all elements of another one before those of this one. The sum must fit ([`Listpack::fits`]).
    pub fn prepend(&mut self, other: &Listpack) {
        let count = self.len() + other.len();
        self.0
            .splice(HEADER_BYTES, 0, [&other.as_bytes()[HEADER_BYTES..other.end()]]);
        self.set_count(count);
    }

    /// Where the end mark is.
    #[inline(always)]
    fn end(&self) -> usize {
        self.bytes() - 1
    }

    #[inline]
    fn place_at(&self, at: usize) -> Option<Place> {
        (self.as_bytes()[at] != END).then(|| Place::new(at))
    }

    /// Where the entry there ends.
    #[inline]
    fn behind(&self, place: Place) -> usize {
        place.offset() + entry::whole_bytes(self.as_bytes(), place.offset())
    }

    #[inline]
    fn iter_between(&self, front: usize, back: usize) -> Iter<'_> {
        Iter {
            bytes: self.as_bytes(),
            front,
            back,
        }
    }

    fn counted(&self) -> usize {
        let bytes = self.as_bytes();
        let (mut at, mut count) = (HEADER_BYTES, 0);
        while bytes[at] != END {
            at += entry::whole_bytes(bytes, at);
            count += 1;
        }
        count
    }

    #[inline]
    fn known_count(&self) -> usize {
        let bytes = self.as_bytes();
        usize::from(u16::from_le_bytes([bytes[4], bytes[5]]))
    }

    #[inline]
    fn set_count(&mut self, count: usize) {
        self.0.body_mut()[..2].copy_from_slice(&(count.min(COUNT_UNKNOWN) as u16).to_le_bytes());
    }

    fn insert_at(&mut self, at: usize, item: Item<'_>) -> Place {
        self.0.splice(at, 0, NewEntry::of(item).pieces());
        // At 65534 it becomes unknown, and stays so.
        self.set_count(self.known_count() + 1);
        Place::new(at)
    }

    fn remove_bytes(&mut self, from: usize, to: usize, count: usize) -> Option<Place> {
        self.0.splice(from, to - from, [&[]]);
        let left = match self.known_count() {
            // As many as before or fewer: only counting tells which.
            COUNT_UNKNOWN => self.counted(),
            known => known.saturating_sub(count),
        };
        self.set_count(left);
        self.place_at(from)
    }
}

impl Default for Listpack {
    fn default() -> Listpack {
        Listpack::new()
    }
}

impl PartialEq for Listpack {
    fn eq(&self, other: &Listpack) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Listpack {}

impl fmt::Debug for Listpack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Listpack {
    type Item = Item<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Elements of a listpack in order, or backwards.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    /// The first entry not yet given.
    front: usize,
    /// The end of the last entry not yet given.
    back: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        if self.front >= self.back {
            return None;
        }
        let (item, whole) = entry::decode(self.bytes, self.front);
        self.front += whole;
        Some(item)
    }

    #[inline]
    fn nth(&mut self, skipped: usize) -> Option<Item<'a>> {
        for _ in 0..skipped {
            if self.front >= self.back {
                return None;
            }
            self.front += entry::whole_bytes(self.bytes, self.front);
        }
        self.next()
    }
}

impl<'a> DoubleEndedIterator for Iter<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<Item<'a>> {
        if self.front >= self.back {
            return None;
        }
        self.back = entry::before(self.bytes, self.back);
        Some(entry::decode(self.bytes, self.back).0)
    }

    #[inline]
    fn nth_back(&mut self, skipped: usize) -> Option<Item<'a>> {
        for _ in 0..skipped {
            if self.front >= self.back {
                return None;
            }
            self.back = entry::before(self.bytes, self.back);
        }
        self.next_back()
    }
}

impl FusedIterator for Iter<'_> {}

/// Elements of a listpack with their places, in order or backwards.
#[derive(Clone, Debug)]
pub struct Places<'a>(Iter<'a>);

impl<'a> Iterator for Places<'a> {
    type Item = (Place, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<(Place, Item<'a>)> {
        let place = Place::new(self.0.front);
        self.0.next().map(|item| (place, item))
    }
}

impl<'a> DoubleEndedIterator for Places<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<(Place, Item<'a>)> {
        let item = self.0.next_back()?;
        Some((Place::new(self.0.back), item))
    }
}

impl FusedIterator for Places<'_> {}

/// Checks that the bytes are a sound listpack; answers how many elements it has.
fn check(bytes: &[u8]) -> Result<usize, Damaged> {
    if bytes.len() < EMPTY.len() {
        return Err(Damaged::at(0, Fault::TooShort(bytes.len())));
    }
    let total = ListpackFormat::total(bytes);
    if total != bytes.len() {
        return Err(Damaged::at(
            0,
            Fault::Total {
                announced: total as u64,
                found: bytes.len(),
            },
        ));
    }
    let end = total - 1;
    if bytes[end] != END {
        return Err(Damaged::at(end, Fault::NoEnd));
    }
    let (mut at, mut count) = (HEADER_BYTES, 0);
    while at < end {
        at = entry::check(bytes, at, end)?;
        count += 1;
    }
    let announced = u16::from_le_bytes([bytes[4], bytes[5]]);
    if usize::from(announced) != COUNT_UNKNOWN && usize::from(announced) != count {
        return Err(Damaged::at(
            4,
            Fault::Count {
                announced: announced.into(),
                found: count,
            },
        ));
    }
    Ok(count)
}
