//! The value of an entry as one that is frozen, or freed in steps: whether it is an object or a long string is no matter here.

use super::entry::{EntryRef, OwnedEntry};
use crate::data::frozen::{Lent, LentRef, Use};

impl EntryRef<'_> {
    /// Whether its value is so large that it is frozen instead of copied.
    #[inline]
    pub fn freezes(self) -> bool {
        self.lent().is_some_and(LentRef::freezes)
    }

    /// Whether its value is frozen for this use.
    #[inline]
    pub(super) fn is_frozen(self, to: Use) -> bool {
        self.lent().is_some_and(|value| value.is_frozen(to))
    }

    /// Whether what overwrites it must take it out of its table: it takes long to free, or is frozen rather than copied, or has a past.
    /// (What would be frozen in its place and then be written over would be lost with its past.)
    #[inline]
    pub(super) fn must_leave(self) -> bool {
        let must_leave = |value: LentRef<'_>| {
            let is_heavy = matches!(value, LentRef::Object(object) if object.is_heavy());
            is_heavy || value.freezes() || value.is_frozen(Use::Undo) || value.is_frozen(Use::Snapshot)
        };
        self.lent().is_some_and(must_leave)
    }
}

impl OwnedEntry {
    /// Freezes its value, which must be one that freezes.
    pub(super) fn freeze(&mut self, to: Use) {
        self.lend(|value| value.freeze(to));
    }

    /// About how many allocations there are to free.
    pub(super) fn free_effort(&self) -> usize {
        1 + match self.as_ref().lent() {
            None => 0,
            Some(LentRef::Object(object)) => object.free_effort(),
            Some(LentRef::String(string)) => string.kept_count(),
        }
    }

    /// Whether freeing it takes so long that it must be done in steps.
    pub(super) fn is_heavy(&self) -> bool {
        match self.as_ref().lent() {
            None => false,
            Some(LentRef::Object(object)) => object.is_heavy(),
            Some(LentRef::String(string)) => string.kept_count() > KEPT_MAX,
        }
    }

    /// Frees up to so many elements of its value; true when there is nothing left but what is freed at once.
    pub(super) fn free_step(&mut self, elements_max: usize) -> bool {
        if self.as_ref().lent().is_none() {
            return true;
        }
        self.lend(|value| match value {
            Lent::Object(object) => object.free_step(elements_max),
            Lent::String(string) => string.free_step(elements_max),
        })
    }
}

/// Pieces of a string's past that are freed at once.
const KEPT_MAX: usize = 64;
