//! A page of a dict: up to [`PAGE_ENTRIES_MAX`] entries, unordered and packed, in one allocation.
//!
//! ```text
//!  cell 0    cells 1..          (slack)   last `capacity` cells
//! +--------+-------------------+-------+---------------------------------------+
//! | len    | one tag byte for  | zero  | one word for each entry:              |
//! | words  | each entry        |       | hash bits 16 | address 45 | flags 3   |
//! +--------+-------------------+-------+---------------------------------------+
//! ```
//!
//! A lookup compares the tag with all tags of the page, sixteen at a time, then the hash bits of the words whose tags are
//! equal, and only then looks at an entry: the wrong one is looked at once in some ten thousand lookups. There is no probe
//! sequence, hence no tombstone and no load factor: an entry is appended, and the last one takes the place of one that
//! goes. A page may be filled to the last place, and grows from size class to size class of the allocator, and at last to
//! twice its size, a copy of at most 1 KiB. So 9 bytes for each entry, and slack.
//!
//! Why the last step is so large: hashes are even, so the pages of a table grow together, and those few that are behind
//! the others would keep alive the allocator's slabs of every class on the way. Measured with a million entries, 122 in a
//! page: 5.3 of 15.8 bytes for each entry were such holes.
//!
//! A page knows bits of the hash: the *tag* is its lowest byte, the 16 *hash bits* begin at bit `8 * level` from the top,
//! where `level` is how deep in the table's tree the page hangs. A split or merge within a level, and the order that SCAN
//! needs, come from the words alone.
//!
//! Invariants:
//! 1. The last `capacity` cells up to `len` are words of live entries that this page owns; no other page has them.
//! 2. Byte `i` of the tag cells and word `i` belong together, for `i < len`.
//! 3. An empty page may have no cells at all.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use super::{Element, ElementRef, WORD_ADDRESS, WORD_ELEMENT, WORD_FLAG};
use crate::base::hash::HashSeed;
use crate::base::size_class::{allocated, size_class};

/// What fits 1280 bytes: a slot has about 122 keys when 2 million keys lie in 16384 slots, so that most slots are one page.
/// Searching more tags costs little (sixteen an instruction), and fewer pages have less slack.
pub(super) const PAGE_ENTRIES_MAX: usize = capacity(PAGE_CELLS_MAX);

const CELL_BYTES: usize = 8;
/// Cells of a cache line.
const LINE_CELLS: usize = 64 / CELL_BYTES;
const PAGE_CELLS_MAX: usize = 1280 / CELL_BYTES;
/// 32 bytes, two entries.
const PAGE_CELLS_MIN: usize = 4;
/// The largest page but one, half as large as the largest.
const PAGE_CELLS_GROWN: usize = PAGE_CELLS_MAX / 2;
const TAGS_AT: usize = 1;

/// Entries that fit a page of this many cells: each takes a cell and an eighth, after the header.
const fn capacity(cell_count: usize) -> usize {
    cell_count.saturating_sub(TAGS_AT) * 8 / 9
}

/// Cells of the smallest size class for this many entries.
fn cells_for(entry_count: usize) -> usize {
    if entry_count == 0 {
        return 0;
    }
    let cell_count = TAGS_AT + entry_count + entry_count.div_ceil(8);
    if (PAGE_CELLS_GROWN + 1..=PAGE_CELLS_MAX).contains(&cell_count) {
        return PAGE_CELLS_MAX;
    }
    (size_class(cell_count * CELL_BYTES) / CELL_BYTES).max(PAGE_CELLS_MIN)
}

/// The lowest byte of the hash.
#[inline]
pub(super) fn tag_of(hash: u64) -> u8 {
    hash as u8
}

/// The 16 bits of the hash that a word keeps in a page of this level.
#[inline]
pub(super) fn hash_bits_of(hash: u64, level: u32) -> u16 {
    (hash << (8 * level) >> 48) as u16
}

/// See the essay above.
pub(super) struct Page<E: Element> {
    cells: Box<[u64]>,
    owns: PhantomData<E>,
}

impl<E: Element> Page<E> {
    pub(super) fn empty() -> Page<E> {
        Page::of_cells(Box::default())
    }

    fn of_cells(cells: Box<[u64]>) -> Page<E> {
        Page {
            cells,
            owns: PhantomData,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.cells.first().map_or(0, |header| (header & 0xffff_ffff) as usize)
    }

    /// Whether it has all the entries that a page should have. (It can take more, where a split does not help.)
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len() >= PAGE_ENTRIES_MAX
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        allocated(self.cells.len() * CELL_BYTES)
    }

    /// Where the entry with this key is.
    #[inline]
    pub(super) fn find(&self, hash: u64, level: u32, key: &[u8]) -> Option<usize> {
        let header = *self.cells.first()?;
        let len = (header & 0xffff_ffff) as usize;
        let words = &self.cells[(header >> 32) as usize..];
        let tag = tag_of(hash);
        let hash_bits = hash_bits_of(hash, level);
        // Two cells are read at a time; behind the tags there are always words, so the second one exists.
        for (chunk_index, chunk) in self.cells[TAGS_AT..].chunks_exact(2).take(len.div_ceil(16)).enumerate() {
            let mut equal = equal_bytes(chunk[0], chunk[1], tag);
            while equal != 0 {
                let index = chunk_index * 16 + equal.trailing_zeros() as usize;
                if index >= len {
                    return None;
                }
                let word = words[index];
                // SAFETY: invariant 1; the page is borrowed.
                if word_hash_bits(word) == hash_bits && unsafe { E::ref_from_word(word & WORD_ELEMENT) }.key() == key {
                    return Some(index);
                }
                equal &= equal - 1;
            }
        }
        None
    }

    /// Asks for the memory that a lookup will read first: the header and the tags.
    #[inline]
    pub(super) fn foresee_tags(&self) {
        let words_at = TAGS_AT + PAGE_ENTRIES_MAX.div_ceil(8);
        for cell in self.cells.iter().take(words_at).step_by(LINE_CELLS) {
            prefetch(cell);
        }
    }

    /// Asks for the words that a lookup will read; the tags should be at hand.
    #[inline]
    pub(super) fn foresee_words(&self, hash: u64) {
        self.with_tag(hash, |word| prefetch(word));
    }

    /// An entry with the same tag and hash bits.
    #[inline]
    pub(super) fn guess(&self, hash: u64, level: u32) -> Option<E::Ref<'_>> {
        let hash_bits = hash_bits_of(hash, level);
        let mut found = None;
        self.with_tag(hash, |word| {
            if word_hash_bits(*word) == hash_bits {
                found = Some(*word);
            }
        });
        // SAFETY: invariant 1; the page is borrowed.
        found.map(|word| unsafe { E::ref_from_word(word & WORD_ELEMENT) })
    }

    /// Asks for the elements that a lookup will look at; the words should be at hand.
    #[inline]
    pub(super) fn foresee_elements(&self, hash: u64, level: u32) {
        let hash_bits = hash_bits_of(hash, level);
        self.with_tag(hash, |word| {
            if word_hash_bits(*word) == hash_bits {
                let address = (*word & WORD_ADDRESS) as usize;
                prefetch(std::ptr::without_provenance::<u8>(address));
            }
        });
    }

    /// The words whose tags are those of the hash.
    #[inline]
    fn with_tag(&self, hash: u64, mut visit: impl FnMut(&u64)) {
        let len = self.len();
        if len == 0 {
            return;
        }
        let words = self.words();
        for (chunk_index, chunk) in self.cells[TAGS_AT..].chunks_exact(2).take(len.div_ceil(16)).enumerate() {
            let mut equal = equal_bytes(chunk[0], chunk[1], tag_of(hash));
            while equal != 0 {
                if let Some(word) = words.get(chunk_index * 16 + equal.trailing_zeros() as usize) {
                    visit(word);
                }
                equal &= equal - 1;
            }
        }
    }

    #[inline]
    pub(super) fn entry(&self, index: usize) -> E::Ref<'_> {
        // SAFETY: invariant 1; the page is borrowed.
        unsafe { E::ref_from_word(self.words()[index] & WORD_ELEMENT) }
    }

    /// The address of an entry.
    #[inline]
    pub(super) fn address(&self, index: usize) -> u64 {
        self.words()[index] & WORD_ADDRESS
    }

    /// Where the entry with this address is, if it is here. The address is only compared.
    pub(super) fn find_address(&self, address: u64) -> Option<usize> {
        self.words().iter().position(|word| word & WORD_ADDRESS == address)
    }

    /// The hash bits of an entry, without looking at the entry.
    #[inline]
    pub(super) fn hash_bits(&self, index: usize) -> u16 {
        word_hash_bits(self.words()[index])
    }

    /// The entries that have the flag (an expiry), found without looking at any other.
    pub(super) fn flagged(&self) -> impl Iterator<Item = E::Ref<'_>> {
        let words = self.words().iter().filter(|word| **word & WORD_FLAG != 0);
        // SAFETY: invariant 1; the page is borrowed.
        words.map(|word| unsafe { E::ref_from_word(*word & WORD_ELEMENT) })
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = E::Ref<'_>> {
        let words = self.words().iter();
        // SAFETY: invariant 1; the page is borrowed.
        words.map(|word| unsafe { E::ref_from_word(*word & WORD_ELEMENT) })
    }

    /// All entries with their addresses.
    pub(super) fn addressed(&self) -> impl Iterator<Item = (u64, E::Ref<'_>)> {
        let addresses = self.words().iter().map(|word| word & WORD_ADDRESS);
        addresses.zip(self.entries())
    }

    /// Lets `edit` change an entry in place. Its key must stay what it is.
    #[inline]
    pub(super) fn edit<R>(&mut self, index: usize, edit: impl FnOnce(&mut E) -> R) -> R {
        /// Puts the entry back whatever happens in `edit`: a page with a dangling word would be freed twice.
        struct PutBack<'p, E: Element> {
            word: &'p mut u64,
            entry: Option<E>,
        }
        impl<E: Element> Drop for PutBack<'_, E> {
            fn drop(&mut self) {
                if let Some(entry) = self.entry.take() {
                    *self.word = word_of(entry, word_hash_bits(*self.word));
                }
            }
        }
        let word = &mut self.words_mut()[index];
        // SAFETY: invariant 1; the word is overwritten before anybody can use it again.
        let entry = unsafe { E::from_word(*word & WORD_ELEMENT) };
        let mut borrowed = PutBack {
            word,
            entry: Some(entry),
        };
        edit(borrowed.entry.as_mut().expect("it is taken only in drop"))
    }

    /// As `edit`, for a change that moves nothing and leaves the flags as they are: cheaper, the word is not written.
    #[inline]
    pub(super) fn touch<R>(&mut self, index: usize, touch: impl FnOnce(&mut E) -> R) -> R {
        let word = self.words()[index] & WORD_ELEMENT;
        // SAFETY: invariant 1; the entry is not dropped, and whoever promises not to move it keeps the word true.
        let mut entry = ManuallyDrop::new(unsafe { E::from_word(word) });
        touch(&mut entry)
    }

    /// Adds an entry whose key is not there yet.
    pub(super) fn push(&mut self, hash: u64, level: u32, entry: E) {
        self.push_word(word_of(entry, hash_bits_of(hash, level)), tag_of(hash));
    }

    /// Takes an entry out; the last one takes its place.
    pub(super) fn swap_remove(&mut self, index: usize) -> E {
        let last = self.len() - 1;
        let words = self.words_mut();
        let word = words[index];
        words[index] = words[last];
        let tag = self.tag(last);
        self.set_tag(index, tag);
        self.set_tag(last, 0);
        self.set_len(last);
        // A fifth of slack stays, so that a page at a limit does not go back and forth.
        if last == 0 || cells_for(last + last / 4 + 2) < self.cells.len() {
            self.resize(cells_for(last));
        }
        // SAFETY: invariant 1, and the word is no longer in the page.
        unsafe { E::from_word(word & WORD_ELEMENT) }
    }

    /// Hands out all entries.
    pub(super) fn into_entries(self, mut take: impl FnMut(E)) {
        // SAFETY: invariant 1; the word is in no page any more.
        self.move_words(|word, _| take(unsafe { E::from_word(word & WORD_ELEMENT) }));
    }

    /// Divides the page by one of the hash bits of the words (0 is the topmost): what has a zero there, what has a one.
    pub(super) fn split(self, bit: u32) -> [Page<E>; 2] {
        let has_one = |word: u64| word << bit >> 63 != 0;
        let one_count = self.words().iter().filter(|word| has_one(**word)).count();
        let mut halves = [
            Page::with_cells(cells_for(self.len() - one_count)),
            Page::with_cells(cells_for(one_count)),
        ];
        self.move_words(|word, tag| halves[usize::from(has_one(word))].push_word(word, tag));
        halves
    }

    /// Takes over the entries of another page of the same level.
    pub(super) fn absorb(&mut self, other: Page<E>) {
        let together = cells_for(self.len() + other.len());
        if together > self.cells.len() {
            self.resize(together);
        }
        other.move_words(|word, tag| self.push_word(word, tag));
    }

    /// Takes other bits of the hash into the words, because the page moves to this level.
    pub(super) fn change_level(&mut self, level: u32, seed: HashSeed) {
        for index in 0..self.len() {
            let hash_bits = hash_bits_of(seed.hash(self.entry(index).key()), level);
            let word = &mut self.words_mut()[index];
            *word = *word << 16 >> 16 | u64::from(hash_bits) << 48;
        }
    }

    fn with_cells(cell_count: usize) -> Page<E> {
        let mut cells = vec![0; cell_count].into_boxed_slice();
        if let Some(header) = cells.first_mut() {
            *header = ((cell_count - capacity(cell_count)) as u64) << 32;
        }
        Page::of_cells(cells)
    }

    fn push_word(&mut self, word: u64, tag: u8) {
        let len = self.len();
        if len == capacity(self.cells.len()) {
            self.resize(cells_for(len + 1));
        }
        self.set_len(len + 1);
        self.words_mut()[len] = word;
        self.set_tag(len, tag);
    }

    /// Moves to an allocation of another size, which must be large enough.
    fn resize(&mut self, cell_count: usize) {
        let mut other = Page::with_cells(cell_count);
        let len = self.len();
        if len > 0 {
            other.set_len(len);
            other.words_mut().copy_from_slice(self.words());
            let tag_cells = TAGS_AT..TAGS_AT + len.div_ceil(8);
            other.cells[tag_cells.clone()].copy_from_slice(&self.cells[tag_cells]);
            // The entries belong to the other page now.
            self.set_len(0);
        }
        *self = other;
    }

    /// Hands out all the words; the page no longer owns their entries.
    fn move_words(mut self, mut take: impl FnMut(u64, u8)) {
        let len = self.len();
        if len > 0 {
            self.set_len(0);
            let words_at = self.words_at();
            for index in 0..len {
                take(self.cells[words_at + index], self.tag(index));
            }
        }
    }

    fn words_at(&self) -> usize {
        self.cells.first().map_or(0, |header| (header >> 32) as usize)
    }

    #[inline]
    fn words(&self) -> &[u64] {
        let from = self.words_at();
        &self.cells[from..from + self.len()]
    }

    #[inline]
    fn words_mut(&mut self) -> &mut [u64] {
        let (from, len) = (self.words_at(), self.len());
        &mut self.cells[from..from + len]
    }

    fn set_len(&mut self, len: usize) {
        self.cells[0] = self.cells[0] >> 32 << 32 | len as u64;
    }

    fn tag(&self, index: usize) -> u8 {
        (self.cells[TAGS_AT + index / 8] >> (index % 8 * 8)) as u8
    }

    fn set_tag(&mut self, index: usize, tag: u8) {
        let cell = &mut self.cells[TAGS_AT + index / 8];
        let shift = index % 8 * 8;
        *cell = *cell & !(0xff << shift) | u64::from(tag) << shift;
    }
}

impl<E: Element> Drop for Page<E> {
    fn drop(&mut self) {
        for word in self.words() {
            // SAFETY: invariant 1; the page ends here.
            drop(unsafe { E::from_word(*word & WORD_ELEMENT) });
        }
    }
}

impl<E: Element + Clone> Clone for Page<E> {
    fn clone(&self) -> Page<E> {
        let mut copy = Page::with_cells(self.cells.len());
        for (index, word) in self.words().iter().enumerate() {
            // SAFETY: invariant 1; the entry stays this page's and is not dropped.
            let entry = ManuallyDrop::new(unsafe { E::from_word(*word & WORD_ELEMENT) });
            copy.push_word(word_of(E::clone(&entry), word_hash_bits(*word)), self.tag(index));
        }
        copy
    }
}

/// The word of an entry, with these bits of its hash.
#[inline]
fn word_of<E: Element>(entry: E, hash_bits: u16) -> u64 {
    let word = entry.into_word();
    assert!(
        word & !WORD_ELEMENT == 0,
        "an address of more than 48 bits cannot be kept in a dict"
    );
    u64::from(hash_bits) << 48 | word
}

/// The bits of the hash in a word.
#[inline]
fn word_hash_bits(word: u64) -> u16 {
    (word >> 48) as u16
}

/// Asks the processor for the cache line at `place`, whatever is there, and does not wait for it.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn prefetch<T>(place: *const T) {
    // SAFETY: a prefetch of any address reads nothing and faults never.
    unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast()) }
}

/// Elsewhere the processor is left to find out by itself.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub fn prefetch<T>(_place: *const T) {}

/// Which of the sixteen bytes of two cells (the low byte of `low` first) are equal to `tag`: one bit each.
#[cfg(target_arch = "x86_64")]
#[inline]
fn equal_bytes(low: u64, high: u64, tag: u8) -> u32 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    // SAFETY: SSE2 belongs to every x86-64.
    unsafe {
        let bytes = _mm_set_epi64x(high.cast_signed(), low.cast_signed());
        _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(tag.cast_signed()))) as u32
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn equal_bytes(low: u64, high: u64, tag: u8) -> u32 {
    equal_bytes_of_cell(low, tag) | equal_bytes_of_cell(high, tag) << 8
}

/// The same for eight bytes without vector instructions: a byte of the difference is zero where they are equal.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_bytes_of_cell(cell: u64, tag: u8) -> u32 {
    const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    const ONES: u64 = 0x0101_0101_0101_0101;
    let difference = cell ^ (ONES * u64::from(tag));
    // The top bit of each byte that is zero, exactly: no carry passes from byte to byte.
    let zero_bytes = !(((difference & LOW_BITS) + LOW_BITS) | difference | LOW_BITS);
    // The eight top bits are gathered into one byte.
    ((zero_bytes >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::data::element::FieldValue;

    const SEED: HashSeed = HashSeed([7, 9]);

    fn key(n: usize) -> Vec<u8> {
        format!("key:{n}").into_bytes()
    }

    fn filled(count: usize, level: u32) -> Page<FieldValue> {
        let mut page = Page::empty();
        for n in 0..count {
            let entry = FieldValue::new(&key(n), b"value", None);
            page.push(SEED.hash(&key(n)), level, entry);
        }
        page
    }

    fn find(page: &Page<FieldValue>, n: usize, level: u32) -> Option<usize> {
        page.find(SEED.hash(&key(n)), level, &key(n))
    }

    #[test]
    fn both_ways_of_comparing_bytes_agree() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..10_000 {
            // Few different bytes, so that there are many equal ones, and the neighbours of zero among them.
            let byte = |random: &mut fastrand::Rng| [0, 1, 0x7f, 0x80, 0x81, 0xff][random.usize(..6)];
            let bytes: [u8; 16] = std::array::from_fn(|_| byte(&mut random));
            let tag = byte(&mut random);
            let low = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            let high = u64::from_le_bytes(bytes[8..].try_into().unwrap());
            let expected = (0..16).filter(|i| bytes[*i] == tag).fold(0, |mask, i| mask | 1 << i);
            assert_eq!(equal_bytes(low, high, tag), expected);
            assert_eq!(
                equal_bytes_of_cell(low, tag) | equal_bytes_of_cell(high, tag) << 8,
                expected
            );
        }
    }

    #[test]
    fn capacities_follow_the_size_classes() {
        assert_eq!(PAGE_ENTRIES_MAX, 141);
        for count in 1..400 {
            let cells = cells_for(count);
            assert!(capacity(cells) >= count);
            assert_eq!(size_class(cells * 8), cells * 8);
            // Tags are read two cells at a time, which must not lead beyond the page.
            assert!(TAGS_AT + 2 * count.div_ceil(16) <= cells, "{count}");
        }
    }

    #[test]
    fn grows_shrinks_and_finds() {
        let mut page = filled(300, 0);
        for n in 0..300 {
            assert_eq!(find(&page, n, 0), Some(n));
        }
        assert_eq!(find(&page, 300, 0), None);
        for n in 0..300 {
            let index = find(&page, n, 0).unwrap();
            assert_eq!(page.swap_remove(index).as_ref().field(), key(n));
            assert_eq!(find(&page, n, 0), None);
            assert_eq!(page.len(), 299 - n);
            // The largest page is kept until its entries fill three quarters of one half as large.
            assert!(page.allocated_bytes() <= 48 + 24 * page.len());
            if n % 37 == 0 {
                assert!((n + 1..300).all(|other| find(&page, other, 0).is_some()));
            }
        }
        assert_eq!(page.allocated_bytes(), 0);
        assert_eq!(find(&page, 0, 0), None);
    }

    #[test]
    fn splits_by_a_bit_and_comes_together_again() {
        for level in [0, 1] {
            for bit in [0, 1, 7, 15] {
                let [zeros, mut ones] = filled(141, level).split(bit);
                for n in 0..141 {
                    let is_one = SEED.hash(&key(n)) << (8 * level + bit) >> 63 == 1;
                    assert_eq!(find(&zeros, n, level).is_some(), !is_one);
                    assert_eq!(find(&ones, n, level).is_some(), is_one);
                }
                ones.absorb(zeros);
                assert!((0..141).all(|n| find(&ones, n, level).is_some()));
            }
        }
    }

    #[test]
    fn changes_its_level() {
        let mut page = filled(141, 0);
        page.change_level(3, SEED);
        assert!((0..141).all(|n| find(&page, n, 3) == Some(n)));
        assert!((0..141).all(|n| page.hash_bits(n) == hash_bits_of(SEED.hash(&key(n)), 3)));
    }

    #[test]
    fn a_panic_during_an_edit_leaves_the_page_whole() {
        let mut page = filled(3, 0);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            page.edit(1, |entry| {
                entry.set_value(&[b'x'; 1005]);
                panic!("on purpose");
            })
        }));
        assert!(result.is_err());
        assert_eq!(page.entry(1).value().len(), 1005);
    }

    #[test]
    fn knows_which_entries_expire() {
        let mut page = filled(20, 0);
        page.edit(4, |entry| entry.set_expiry(Some(UnixMs(5))));
        page.edit(17, |entry| entry.set_expiry(Some(UnixMs(6))));
        let flagged = |page: &Page<FieldValue>| page.flagged().map(|entry| entry.expiry()).collect::<Vec<_>>();
        assert_eq!(flagged(&page), [Some(UnixMs(5)), Some(UnixMs(6))]);
        assert_eq!(flagged(&page.clone()), flagged(&page));
        page.edit(4, |entry| entry.set_expiry(None));
        assert_eq!(flagged(&page), [Some(UnixMs(6))]);
    }
}
