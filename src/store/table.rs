//! The table of one db of one slot: a [`Dict`] of entries, and the books that expiry needs.
//!
//! Most tables have nothing that expires, and each of 16384 slots has a table: so the books are a box that is there only while
//! they have an entry.
//!
//! Invariants:
//! 1. `volatile_count` and `expiry_sum_ms` count the entries that have an expiry.
//! 2. No entry of the table, and no field of a hash in it, has an expiry before the bound of the walk.
//! 3. `field_volatile_count` counts the entries that have fields with an expiry.
//! 4. There are books exactly while one of the two counts is not zero.

use super::entry::{EntryRef, OwnedEntry};
use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;
use crate::base::random::Random;
use crate::base::size_class::allocated;
use crate::data::dict::{Dict, Foresight, PageView, Spot};
use crate::data::{Object, TypedValue, ValueType};
use std::ops::ControlFlow;

/// What a table itself holds of each key: a pointer, and the bits of its hash beside it.
pub const TABLE_BYTES_EACH: usize = 10;

/// The entries of a table that nobody uses any more, to be freed one page after another.
pub(super) type Remains = Dict<OwnedEntry>;

/// See the essay above.
pub(super) struct Table {
    dict: Dict<OwnedEntry>,
    books: Option<Box<Books>>,
}

/// What is known of the entries that expire, or have fields that do.
#[derive(Default)]
struct Books {
    volatile_count: usize,
    field_volatile_count: usize,
    expiry_sum_ms: u128,
    walk: ExpiryWalk,
}

/// How far active expiry has come (`expire`).
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpiryWalk {
    /// Invariant 2. `u64::MAX` when nothing expires.
    pub(super) bound: u64,
    /// The hash at which the walk over the table goes on; 0 when none is under way.
    pub(super) position: u64,
    /// The earliest expiry that the walk has seen and that was set behind its back since it began.
    pub(super) earliest_seen: u64,
}

impl Default for ExpiryWalk {
    /// Nothing expires, and no walk is under way.
    fn default() -> ExpiryWalk {
        ExpiryWalk {
            bound: u64::MAX,
            position: 0,
            earliest_seen: u64::MAX,
        }
    }
}

impl ExpiryWalk {
    /// Something expires at this time that the walk may have passed already.
    fn note(&mut self, at: u64) {
        self.bound = self.bound.min(at);
        self.earliest_seen = self.earliest_seen.min(at);
    }
}

/// What of an entry expires, and when.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Due {
    entry: Option<UnixMs>,
    /// No field of its hash expires before this.
    fields: Option<UnixMs>,
}

impl Due {
    const NONE: Due = Due {
        entry: None,
        fields: None,
    };

    fn of_fields(next: Option<UnixMs>) -> Due {
        Due {
            fields: next,
            ..Due::NONE
        }
    }

    #[inline]
    fn of(entry: EntryRef<'_>) -> Due {
        Due {
            entry: entry.expiry(),
            fields: entry.field_expiry(),
        }
    }
}

/// How a table is filled (DEBUG HTSTATS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    pub elements: usize,
    /// Elements with an expiry.
    pub volatile: usize,
    pub pages: usize,
    /// Elements of the fullest page.
    pub page_elements_max: usize,
    /// Bytes of entries, pages and nodes.
    pub bytes: usize,
}

impl TableStats {
    /// Counts another table in.
    pub fn add(&mut self, other: TableStats) {
        self.elements += other.elements;
        self.volatile += other.volatile;
        self.pages += other.pages;
        self.page_elements_max = self.page_elements_max.max(other.page_elements_max);
        self.bytes += other.bytes;
    }
}

impl Table {
    /// Bytes of the books for each of the entries that they are kept for.
    pub(super) fn expiry_bytes_each(&self) -> usize {
        self.books.as_deref().map_or(0, |books| {
            let count = books.volatile_count + books.field_volatile_count;
            allocated(size_of::<Books>()) / count.max(1)
        })
    }

    /// How it is filled; takes a look at each page.
    pub(super) fn stats(&self) -> TableStats {
        let mut stats = TableStats {
            elements: self.len(),
            volatile: self.volatile_count(),
            bytes: self.allocated_bytes(),
            ..TableStats::default()
        };
        for view in self.pages() {
            stats.pages += 1;
            stats.page_elements_max = stats.page_elements_max.max(view.len());
        }
        stats
    }

    pub(super) fn new() -> Table {
        Table {
            dict: Dict::new(),
            books: None,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.dict.len()
    }

    pub(super) fn volatile_count(&self) -> usize {
        self.books.as_ref().map_or(0, |books| books.volatile_count)
    }

    /// Whether anything in it ever expires: an entry or a field of one.
    #[inline]
    pub(super) fn has_volatile(&self) -> bool {
        self.books.is_some()
    }

    pub(super) fn expiry_sum_ms(&self) -> u128 {
        self.books.as_ref().map_or(0, |books| books.expiry_sum_ms)
    }

    /// How far active expiry has come.
    #[inline]
    pub(super) fn expiry_walk(&self) -> ExpiryWalk {
        self.books.as_ref().map_or_else(ExpiryWalk::default, |books| books.walk)
    }

    /// Keeps how far active expiry has come, as long as anything expires.
    pub(super) fn set_expiry_walk(&mut self, walk: ExpiryWalk) {
        if let Some(books) = &mut self.books {
            books.walk = walk;
        }
    }

    /// Bytes taken from the allocator for entries, pages, nodes and books.
    pub(super) fn allocated_bytes(&self) -> usize {
        let books = self.books.as_ref().map_or(0, |_| allocated(size_of::<Books>()));
        self.dict.allocated_bytes() + books
    }

    #[inline]
    pub(super) fn foresee(&self, hash: u64, stage: Foresight) {
        self.dict.foresee(hash, stage);
    }

    /// See [`Dict::guess`].
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> Option<EntryRef<'_>> {
        self.dict.guess(hash)
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<Spot> {
        self.dict.find(hash, key)
    }

    #[inline]
    pub(super) fn entry(&self, spot: Spot) -> EntryRef<'_> {
        self.dict.get(spot)
    }

    /// Sets the access clock, which changes nothing that the table counts.
    #[inline]
    pub(super) fn set_access_clock(&mut self, spot: Spot, clock: u32) {
        // SAFETY: the clock lies in the header of the entry: neither its place nor its flags change.
        unsafe { self.dict.touch(spot, |entry| entry.set_access_clock(clock)) };
    }

    /// Puts an entry on one side of the last cut, which changes nothing that the table counts.
    pub(super) fn set_side(&mut self, spot: Spot, side: u8) {
        // SAFETY: the side lies in the header of the entry: neither its place nor the flags of its word change.
        unsafe { self.dict.touch(spot, |entry| entry.set_side(side)) };
    }

    /// Lends the entries of the page that `hash` belongs to, as far as they are on the other side, to `pass`, and puts them on this one,
    /// until `pass` has had enough. Answers where the next page begins.
    pub(super) fn pass_page(
        &mut self,
        hash: u64,
        side: u8,
        mut pass: impl FnMut(EntryRef<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<(), Option<u64>> {
        let touch = |entry: &mut OwnedEntry| {
            if entry.as_ref().side() == side {
                return ControlFlow::Continue(());
            }
            let passed = pass(entry.as_ref());
            entry.set_side(side);
            passed
        };
        // SAFETY: as in `set_side`.
        unsafe { self.dict.touch_page(hash, touch) }
    }

    /// Lets `edit` change value and expiry of an entry, and keeps the books.
    pub(super) fn edit<R>(&mut self, spot: Spot, edit: impl FnOnce(&mut OwnedEntry) -> R) -> R {
        let (mut before, mut after) = (Due::NONE, Due::NONE);
        let result = self.dict.edit(spot, |entry| {
            before = Due::of(entry.as_ref());
            let result = edit(entry);
            after = Due::of(entry.as_ref());
            result
        });
        if before != after {
            self.enter(after);
            self.strike(before);
        }
        result
    }

    /// Lets `edit` change an object in its place, of a type that the caller has compared, and keeps the books. Whether the key
    /// must go now comes back beside the result.
    ///
    /// This is `edit` for the common case, a good tenth of an LPUSH cheaper: of an entry that is edited by type neither key
    /// nor expiry can change, so only the value is looked at, and what of it is counted is known by its type.
    #[inline]
    pub(super) fn edit_value<T: TypedValue, R>(&mut self, spot: Spot, edit: impl FnOnce(&mut T) -> R) -> (R, bool) {
        let change = |object: &mut Object| {
            let value = T::of_mut(object).expect("the type has been compared");
            let before = value.gauge();
            let result = edit(value);
            let after = value.gauge();
            ([before.allocated_bytes, after.allocated_bytes], (result, after.is_void))
        };
        if !matches!(T::TYPE, ValueType::Hash) {
            // SAFETY: an entry stays where it is when its object changes; its word has a flag for an expiry of its own, which
            // stays, and for fields that expire, which only a hash has.
            return unsafe { self.dict.touch_sized(spot, |entry| entry.edit_object(change)) };
        }
        let (mut before, mut after) = (None, None);
        let answer = self.dict.edit_sized(spot, |entry| {
            entry.edit_object(|object| {
                before = object.as_ref().next_expiry();
                let answer = change(object);
                after = object.as_ref().next_expiry();
                answer
            })
        });
        if before != after {
            self.enter(Due::of_fields(after));
            self.strike(Due::of_fields(before));
        }
        answer
    }

    /// Adds an entry whose key is not in the table.
    pub(super) fn insert(&mut self, hash: u64, entry: OwnedEntry, seed: HashSeed) -> Spot {
        self.enter(Due::of(entry.as_ref()));
        self.dict.insert(hash, entry, seed)
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, spot: Spot, seed: HashSeed) -> OwnedEntry {
        let entry = self.dict.remove(spot, seed);
        self.strike(Due::of(entry.as_ref()));
        entry
    }

    /// The page that a hash belongs to, with its place among the others.
    pub(super) fn page_view(&self, hash: u64) -> PageView<'_, OwnedEntry> {
        self.dict.page_view(hash)
    }

    /// All pages in the order of their hashes.
    pub(super) fn pages(&self) -> impl Iterator<Item = PageView<'_, OwnedEntry>> {
        self.dict.pages()
    }

    /// Visits about `count` entries from a position on; returns where to go on.
    pub(super) fn scan<'t>(&'t self, from: u64, count: usize, visit: impl FnMut(EntryRef<'t>)) -> Option<u64> {
        self.dict.scan(from, count, visit)
    }

    /// An entry, each equally likely.
    pub(super) fn random(&self, seed: HashSeed, random: &mut Random) -> Option<Spot> {
        self.dict.random(seed, random)
    }

    /// Gives up the table.
    pub(super) fn into_remains(self) -> Remains {
        self.dict
    }

    #[inline]
    fn enter(&mut self, due: Due) {
        if due != Due::NONE {
            self.books.get_or_insert_default().enter(due);
        }
    }

    /// (What takes the place of an entry is entered before that one is struck: so the books stay, and with them the walk.)
    #[inline]
    fn strike(&mut self, due: Due) {
        if due == Due::NONE {
            return;
        }
        let books = self.books.as_mut().expect("invariant 4: what expires is in the books");
        books.strike(due);
        if books.is_empty() {
            self.books = None;
        }
    }

    /// Asserts all invariants, by counting again.
    pub(super) fn check(&self, seed: HashSeed) {
        self.dict.check(seed);
        let bound = self.expiry_walk().bound;
        let (mut volatile_count, mut expiry_sum_ms, mut field_volatile_count) = (0, 0, 0);
        for view in self.dict.pages() {
            assert_eq!(
                view.flagged().count(),
                view.elements().filter(|entry| Due::of(*entry) != Due::NONE).count()
            );
            for UnixMs(at) in view.flagged().filter_map(EntryRef::expiry) {
                volatile_count += 1;
                expiry_sum_ms += u128::from(at);
                assert!(bound <= at, "invariant 2");
            }
            for UnixMs(at) in view.flagged().filter_map(EntryRef::field_expiry) {
                field_volatile_count += 1;
                assert!(bound <= at, "invariant 2");
            }
        }
        let books = self.books.as_deref();
        let known = books.map(|books| (books.volatile_count, books.expiry_sum_ms));
        assert_eq!(
            known.unwrap_or_default(),
            (volatile_count, expiry_sum_ms),
            "invariant 1"
        );
        let known = books.map_or(0, |books| books.field_volatile_count);
        assert_eq!(known, field_volatile_count, "invariant 3");
        assert!(!books.is_some_and(Books::is_empty), "invariant 4");
    }
}

impl Books {
    fn enter(&mut self, due: Due) {
        if let Some(UnixMs(at)) = due.entry {
            self.volatile_count += 1;
            self.expiry_sum_ms += u128::from(at);
            self.walk.note(at);
        }
        if let Some(UnixMs(at)) = due.fields {
            self.field_volatile_count += 1;
            self.walk.note(at);
        }
    }

    fn strike(&mut self, due: Due) {
        if let Some(UnixMs(at)) = due.entry {
            self.volatile_count -= 1;
            self.expiry_sum_ms -= u128::from(at);
        }
        if due.fields.is_some() {
            self.field_volatile_count -= 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.volatile_count + self.field_volatile_count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_small() {
        // 16384 slots have one each.
        assert_eq!(size_of::<Table>(), 40);
    }
}
