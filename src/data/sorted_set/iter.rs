//! Reading a range of ranks, from either end.

use std::iter::FusedIterator;
use std::ops::Range;
use std::slice;

use super::SortedSetRef;
use super::large::SortedTree;
use super::packed::{self, Pair};
use super::tree;
use crate::data::listpack::{Item, Listpack, Place};

/// An element as it is read.
#[derive(Clone, Copy)]
pub struct ScoredMember<'a> {
    /// The member.
    pub member: Item<'a>,
    /// Its score.
    pub score: f64,
}

impl<'a> From<Pair<'a>> for ScoredMember<'a> {
    fn from(pair: Pair<'a>) -> ScoredMember<'a> {
        ScoredMember {
            member: pair.member,
            score: pair.score,
        }
    }
}

/// The elements of a range of ranks in order; `rev()` reads them from the end. Reaching either end of the range costs O(log n),
/// each step after that O(1).
pub struct Elements<'a> {
    ranks: Range<usize>,
    source: Source<'a>,
}

enum Source<'a> {
    Packed {
        pack: &'a Listpack,
        /// Where the next member from the front is, once it was looked for; the same from the back.
        front: Option<Place>,
        back: Option<Place>,
    },
    Tree {
        tree: &'a SortedTree,
        /// What is left of the leaf that `ranks.start` lies in, and of the one before `ranks.end`. They may overlap.
        front: slice::Iter<'a, tree::Place>,
        back: slice::Iter<'a, tree::Place>,
    },
}

impl<'a> Elements<'a> {
    /// The ranks must exist.
    pub(super) fn new(set: SortedSetRef<'a>, ranks: Range<usize>) -> Elements<'a> {
        let source = match set {
            SortedSetRef::Packed(pack) => Source::Packed {
                pack,
                front: None,
                back: None,
            },
            SortedSetRef::Tree(tree) => Source::Tree {
                tree,
                front: [].iter(),
                back: [].iter(),
            },
        };
        Elements { ranks, source }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = ScoredMember<'a>;

    fn next(&mut self) -> Option<ScoredMember<'a>> {
        if self.ranks.is_empty() {
            return None;
        }
        let rank = self.ranks.start;
        self.ranks.start += 1;
        match &mut self.source {
            Source::Packed { pack, front, .. } => {
                let place = front.or_else(|| packed::member_at(pack, rank))?;
                *front = packed::next_member(pack, place);
                Some(packed::pair_at(pack, place).into())
            }
            Source::Tree { tree, front, .. } => {
                let place = match front.next() {
                    Some(place) => place,
                    None => {
                        let (leaf, index) = tree.leaf_of(rank);
                        *front = leaf[index..].iter();
                        front.next()?
                    }
                };
                Some(read(place))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.ranks.len(), Some(self.ranks.len()))
    }
}

impl<'a> DoubleEndedIterator for Elements<'a> {
    fn next_back(&mut self) -> Option<ScoredMember<'a>> {
        if self.ranks.is_empty() {
            return None;
        }
        self.ranks.end -= 1;
        let rank = self.ranks.end;
        match &mut self.source {
            Source::Packed { pack, back, .. } => {
                let place = back.or_else(|| packed::member_at(pack, rank))?;
                *back = packed::previous_member(pack, place);
                Some(packed::pair_at(pack, place).into())
            }
            Source::Tree { tree, back, .. } => {
                let place = match back.next_back() {
                    Some(place) => place,
                    None => {
                        let (leaf, index) = tree.leaf_of(rank);
                        *back = leaf[..=index].iter();
                        back.next_back()?
                    }
                };
                Some(read(place))
            }
        }
    }
}

impl ExactSizeIterator for Elements<'_> {}
impl FusedIterator for Elements<'_> {}

fn read(place: &tree::Place) -> ScoredMember<'_> {
    let element = place.element();
    ScoredMember {
        member: Item::Bytes(element.member()),
        score: element.score(),
    }
}
