//! Lists: the order of their elements is all that they have. A small list is one listpack.

use super::Encoding;
use super::listpack::{Item, Listpack};

/// A list.
#[derive(Clone)]
pub enum List {
    /// One listpack.
    Packed(Listpack),
}

/// A list, to look at.
#[derive(Clone, Copy)]
pub enum ListRef<'a> {
    /// One listpack.
    Packed(&'a Listpack),
}

impl List {
    /// An empty list.
    pub fn new() -> List {
        List::Packed(Listpack::new())
    }

    /// To look at it.
    pub fn as_ref(&self) -> ListRef<'_> {
        match self {
            List::Packed(pack) => ListRef::Packed(pack),
        }
    }

    /// Adds an element at the end.
    pub fn push_back(&mut self, element: &[u8]) {
        match self {
            List::Packed(pack) => pack.push_back(element),
        }
    }

    /// Takes the last element away.
    pub fn pop_back(&mut self) -> Option<Vec<u8>> {
        match self {
            List::Packed(pack) => {
                let last = pack.last()?;
                let element = pack.get(last).to_vec();
                pack.delete(last);
                Some(element)
            }
        }
    }

    /// Frees up to so many elements; true when nothing is left.
    pub fn free_step(&mut self, _: usize) -> bool {
        *self = List::new();
        true
    }
}

impl Default for List {
    fn default() -> List {
        List::new()
    }
}

impl<'a> ListRef<'a> {
    /// The elements, front to back.
    pub fn iter(self) -> impl Iterator<Item = Item<'a>> {
        match self {
            ListRef::Packed(pack) => pack.iter(),
        }
    }

    /// How many elements there are.
    pub fn len(self) -> usize {
        match self {
            ListRef::Packed(pack) => pack.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// As OBJECT ENCODING names it.
    pub fn encoding(self) -> Encoding {
        match self {
            ListRef::Packed(_) => Encoding::Listpack,
        }
    }

    /// Bytes taken from the allocator.
    pub fn allocated_bytes(self) -> usize {
        match self {
            ListRef::Packed(pack) => pack.allocated_bytes(),
        }
    }
}
