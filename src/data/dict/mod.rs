//! A hash table of packed pages: the keyspace of a slot, and the big hashes, sets and sorted sets in it.
//!
//! ```text
//! Dict<E>                     tree of pages over the bits of the hash        tree
//!  +- Page                    packed tags and words, 141 elements at most    page
//!  |   +- E: Element          one allocation each, behind one word           (the user of the dict)
//!  +- scan, random            positions in the order of the hashes           walk
//! ```
//!
//! An element costs its own allocation and some ten bytes. A table grows and shrinks a page at a time, so no operation on
//! one element costs more than a page, however large the table is. SCAN's promise is kept by the order of the hashes.
//!
//! An element is kept as a *word*: what [`Element::into_word`] makes, 48 bits of address and flags, with 16 bits of the hash
//! above it. The lowest of the three flag bits says the same of every type, "has an expiry", and lets a walk find those
//! elements without looking at the others.
//!
//! The hash is a parameter and not state: the secret belongs to the process (`base::hash`), and who looks for one key in
//! several tables hashes it once.

mod page;
mod tree;
mod walk;

pub use page::prefetch;
pub use tree::{Dict, Foresight, PageView, Spot};
pub use walk::{POSITION_BITS, POSITION_SHIFT};

/// The bits of a word that belong to the element: its address and the flags.
pub const WORD_ELEMENT: u64 = 0x0000_ffff_ffff_ffff;

/// The bits of a word that are the address of an element.
pub const WORD_ADDRESS: u64 = WORD_ELEMENT & !0b111;

/// The flag of a word that a walk can look for: the element has an expiry.
pub const WORD_FLAG: u64 = 1;

/// The bits of a word in which an element may keep what it likes, beside the flag.
pub const WORD_OWN: u64 = 0b110;

/// What a [`Dict`] keeps: an owner of one allocation (or more) that can be written as one word.
///
/// # Safety
/// `into_word` gives up the element and `from_word` gets it back, whole; until then `ref_from_word` may look at it. The key
/// of an element stays the same while it is in a dict. A clone of a reference does not outlive what it borrows from.
pub unsafe trait Element: Sized + Send {
    /// How an element is looked at.
    type Ref<'a>: ElementRef<'a>
    where
        Self: 'a;

    /// To look at it.
    fn as_ref(&self) -> Self::Ref<'_>;

    /// As a word: address and flags, nothing outside of [`WORD_ELEMENT`].
    fn into_word(self) -> u64;

    /// Back from a word.
    ///
    /// # Safety
    /// `word` came from `into_word`, and from here on nobody else uses it.
    unsafe fn from_word(word: u64) -> Self;

    /// A look at the element behind a word.
    ///
    /// # Safety
    /// `word` came from `into_word`, and the element lives and does not change for `'a`.
    unsafe fn ref_from_word<'a>(word: u64) -> Self::Ref<'a>
    where
        Self: 'a;
}

/// An element of a [`Dict`] that is looked at.
pub trait ElementRef<'a>: Copy {
    /// The bytes by which it is found.
    fn key(self) -> &'a [u8];

    /// Bytes taken from the allocator for it.
    fn allocated_bytes(self) -> usize;
}
