//! A handle: the one word by which the order of a sorted set refers to an element that the dict owns.
//!
//! The only `unsafe` of the sorted set is here and where handles are made (`large`).

use crate::data::dict::ElementRef;
use crate::data::element::ScoredRef;

/// A reference to an element, without a lifetime.
#[derive(Clone, Copy)]
pub(super) struct Handle(ScoredRef<'static>);

// A place of the tree is 16 bytes, and None takes nothing.
const _: () = assert!(size_of::<Option<Handle>>() == 8);

// SAFETY: a handle is used only together with the dict that owns its element (see `of`), and the dict is `Send`.
unsafe impl Send for Handle {}

impl Handle {
    /// A handle of this element.
    ///
    /// # Safety
    /// Nobody may call a method of the handle, or of a copy, once the element has been freed. It holds if the dict that owns the
    /// element and the tree that has the handle lie in one `SortedTree`, and the handle leaves the tree in the same operation
    /// as the element leaves the dict, before anything else is looked up. While a method is called the element must not be
    /// borrowed for a change.
    pub(super) unsafe fn of(element: ScoredRef<'_>) -> Handle {
        // SAFETY: only the lifetime changes, and the caller sees to it that this is not noticed.
        Handle(unsafe { std::mem::transmute::<ScoredRef<'_>, ScoredRef<'static>>(element) })
    }

    /// The element itself, for as long as the handle may be used.
    pub(super) fn get(&self) -> ScoredRef<'_> {
        self.0
    }

    /// See [`ScoredRef::foresee`].
    #[inline]
    pub(super) fn foresee(&self) {
        self.0.foresee();
    }

    #[inline]
    pub(super) fn score(&self) -> f64 {
        self.0.score()
    }

    #[inline]
    pub(super) fn member(&self) -> &[u8] {
        self.0.key()
    }
}
