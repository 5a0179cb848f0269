//! A large sorted set: a dict that owns the elements and finds them by member, and a tree that keeps their order.
//!
//! Invariants:
//! 1. The tree has one place for each element of the dict, and no other.
//! 2. An element leaves the dict only after its place has left the tree, in the same operation. That is what the creation of a
//!    [`Handle`] promises.
//! 3. The score of a place is the score of its element.
//!
//! Only the elements have pasts (`past`), the order has none: a frozen set is read by rank, from the highest as files have it, over the
//! places as they are, and what is taken back goes through `insert` and `remove`. An element stays where it is as long as it lives,
//! in the dict or among what is gone, so invariant 2 holds for a frozen set too: what is gone has no place any more.
//!
//! A value that is being freed ([`SortedTree::free_step`]) gives up the places first and the elements afterwards; nothing else
//! may be done with it then.

use std::ops::Range;

use super::handle::Handle;
use super::range::{LexRange, ScoreRange};
use super::tree::{Place, Tree, image};
use crate::base::hash::HashSeed;
use crate::base::size_class::size_class;
use crate::data::dict::{Dict, Element, ElementRef, Foresight, Spot};
use crate::data::element::{Scored, ScoredRef};
use crate::data::frozen::{Freezable, Head, Part, Sink, Spent, Use};
use crate::data::past::{Cursor, PARTS_COPIED_MAX, Tracked};

/// See the essay above.
pub struct SortedTree {
    order: Tree,
    elements: Tracked<Scored, ByRank>,
}

/// A frozen set is read from the highest rank: down to the place that had this image and member. None: nothing yet.
///
/// An element that comes, or gets another score, may come to lie on either side of that, whether it has been read or not. So all of
/// them are noted as fresh, and remain so.
#[derive(Default)]
struct ByRank {
    lowest: Option<(u64, Box<[u8]>)>,
}

impl Cursor<Scored> for ByRank {
    fn has_passed(&self, _hash: u64, element: ScoredRef<'_>) -> bool {
        let lowest = self.lowest.as_ref();
        lowest.is_some_and(|(lowest, member)| (image(element.score()), element.member()) >= (*lowest, &**member))
    }

    fn is_beyond(&self, _hash: u64) -> bool {
        false
    }
}

impl Freezable for SortedTree {
    fn freezes(&self) -> bool {
        self.elements.len() > PARTS_COPIED_MAX
    }

    fn freeze(&mut self, to: Use) {
        self.elements.freeze(to, ());
    }

    fn is_frozen(&self, to: Use) -> bool {
        self.elements.is_frozen(to)
    }

    fn kept_bytes(&self) -> usize {
        self.elements.kept_bytes()
    }

    fn thaw(&mut self, to: Use) -> Spent {
        self.elements.thaw(to)
    }

    fn roll_back(&mut self, seed: HashSeed) {
        let (fresh, gone, ()) = self.elements.take_undo();
        for note in fresh {
            self.remove(seed, self.elements.noted(note));
        }
        for element in gone {
            self.insert_element(seed, element);
        }
    }

    fn read_slice(&mut self, to: Use, seed: HashSeed, effort: usize, sink: &mut impl Sink) -> bool {
        if let Some((len, ())) = self.elements.begin_read(to) {
            sink.begin(Head::SortedSet { len });
        }
        let order = &self.order;
        let mut visit = |element: ScoredRef<'_>| sink.part(Part::Scored(element.member(), element.score()));
        self.elements
            .read_with(to, effort, &mut visit, |_, fresh, cursor, left, show| {
                let mut rank = match &cursor.lowest {
                    Some((image, member)) => order.rank_of(*image, member),
                    None => order.len(),
                };
                let end = rank.saturating_sub(left);
                let mut lowest = None;
                while rank > end {
                    let (leaf, index) = order.leaf_of(rank - 1);
                    let from = (index + 1).saturating_sub(rank - end);
                    for place in leaf[from..=index].iter().rev() {
                        let element = place.element().get();
                        if fresh.is_empty() || !fresh.contains(&(seed.hash(element.member()), element.address())) {
                            show(element);
                        }
                    }
                    rank -= index + 1 - from;
                    lowest = Some(&leaf[from]);
                }
                if let Some(place) = lowest {
                    cursor.lowest = Some((place.image(), place.element().member().into()));
                }
                rank == 0
            })
    }
}

impl SortedTree {
    /// See [`Dict::foresee`].
    #[inline]
    pub(in crate::data) fn foresee(&self, hash: u64, stage: Foresight) {
        self.elements.foresee(hash, stage);
    }
}

impl SortedTree {
    pub(in crate::data) fn new() -> SortedTree {
        SortedTree {
            order: Tree::new(),
            elements: Tracked::default(),
        }
    }

    /// Brings the elements of a dict in order, in O(n log n) but with few comparisons of members.
    pub(super) fn from_elements(elements: Dict<Scored>) -> SortedTree {
        // SAFETY: the dict comes to lie beside the tree (invariants 1 and 2).
        let mut places: Vec<Place> = elements
            .iter()
            .map(|element| Place::of(unsafe { Handle::of(element) }))
            .collect();
        places.sort_unstable_by(|a, b| a.compare(b.image(), b.element().member()));
        SortedTree {
            order: Tree::from_sorted(&places),
            elements: Tracked::new(elements),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.elements.len()
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        size_class(size_of::<SortedTree>()) + self.order.allocated_bytes() + self.elements.allocated_bytes()
    }

    pub(super) fn find(&self, seed: HashSeed, member: &[u8]) -> Option<Spot> {
        self.elements.find(seed.hash(member), member)
    }

    pub(super) fn score_at(&self, spot: Spot) -> f64 {
        self.elements.get(spot).score()
    }

    /// Adds an element whose member is not there.
    pub(in crate::data) fn insert(&mut self, seed: HashSeed, member: &[u8], score: f64) {
        self.insert_element(seed, Scored::new(score, member));
    }

    fn insert_element(&mut self, seed: HashSeed, element: Scored) {
        // SAFETY: the element goes into the dict (invariants 1 and 2), which moves its word and never its bytes.
        let place = Place::of(unsafe { Handle::of(element.as_ref()) });
        self.elements
            .insert(seed.hash(element.as_ref().member()), element, seed);
        self.order.insert(place);
    }

    /// Gives an element another score.
    pub(super) fn rescore(&mut self, spot: Spot, score: f64) {
        let element = self.elements.get(spot);
        let old = element.score();
        let is_in_place = self.order.rescore(old, score, element.key());
        if !is_in_place {
            self.order.remove(old, element.key());
        }
        // SAFETY: the element stays in the dict and where it is: a score is changed in place.
        let handle = unsafe { Handle::of(element) };
        self.elements.edit(spot, |element| element.set_score(score));
        if !is_in_place {
            self.order.insert(Place::of(handle));
        }
    }

    /// Takes an element out.
    pub(super) fn remove(&mut self, seed: HashSeed, spot: Spot) {
        let element = self.elements.get(spot);
        self.order.remove(element.score(), element.key());
        self.elements.remove(spot, seed, |_| ());
    }

    /// Takes out the elements of these ranks.
    pub(super) fn remove_ranks(&mut self, seed: HashSeed, ranks: Range<usize>) {
        let elements = &mut self.elements;
        self.order.remove_range(ranks, &mut |place| {
            let member = place.element().member();
            let spot = elements
                .find(seed.hash(member), member)
                .expect("each place has its element in the dict");
            elements.remove(spot, seed, |_| ());
        });
    }

    /// Asks for the memory that the next calls of ZPOPMIN or ZPOPMAX will read: those that come in a row otherwise wait for
    /// each element, and then for its place in the dict. Each stage looks a little further ahead than the one after it.
    pub(super) fn foresee_pops(&self, seed: HashSeed, is_highest: bool) {
        const STAGES: [(usize, Option<Foresight>); 3] =
            [(6, None), (4, Some(Foresight::Tags)), (2, Some(Foresight::Words))];
        let len = self.len();
        if len == 0 {
            return;
        }
        // Never beyond the leaf: what is missed at its end is little.
        let (leaf, at) = self.leaf_of(if is_highest { len - 1 } else { 0 });
        for (ahead, stage) in STAGES {
            let index = if is_highest {
                at.checked_sub(ahead)
            } else {
                Some(at + ahead)
            };
            if let Some(place) = index.and_then(|index| leaf.get(index)) {
                match stage {
                    None => place.element().foresee(),
                    Some(stage) => self.elements.foresee(seed.hash(place.element().member()), stage),
                }
            }
        }
    }

    pub(super) fn rank_at(&self, spot: Spot) -> usize {
        let element = self.elements.get(spot);
        self.order.rank(element.score(), element.key())
    }

    pub(super) fn ranks_by_score(&self, range: &ScoreRange) -> Range<usize> {
        let (min, max) = (image(range.min.score), image(range.max.score));
        let start = match range.min.is_exclusive {
            false => self.order.partition_point(|place| place.image() < min),
            true => self.order.partition_point(|place| place.image() <= min),
        };
        let end = match range.max.is_exclusive {
            false => self.order.partition_point(|place| place.image() <= max),
            true => self.order.partition_point(|place| place.image() < max),
        };
        start..end.max(start)
    }

    /// With unequal scores this is some range, as in Redis, where chance decides it; only that nothing is found beyond the
    /// outermost members is the same there.
    pub(super) fn ranks_by_lex(&self, range: &LexRange<'_>) -> Range<usize> {
        let member_at = |rank| {
            let (leaf, index) = self.leaf_of(rank);
            leaf[index].element().member()
        };
        if self.len() == 0 || range.is_above(member_at(0)) || range.is_below(member_at(self.len() - 1)) {
            return 0..0;
        }
        let start = self
            .order
            .partition_point(|place| range.is_below(place.element().member()));
        let end = self
            .order
            .partition_point(|place| !range.is_above(place.element().member()));
        start..end.max(start)
    }

    /// The leaf that holds this rank (which must exist), and where in it.
    #[inline]
    pub(super) fn leaf_of(&self, rank: usize) -> (&[Place], usize) {
        self.order.leaf_of(rank)
    }

    /// Shows elements from a position of SCAN on, see `Dict::scan`.
    pub(super) fn scan(&self, position: u64, count: usize, mut visit: impl FnMut(&[u8], f64)) -> Option<u64> {
        self.elements
            .scan(position, count, |element| visit(element.key(), element.score()))
    }

    pub(super) fn free_step(&mut self, elements_max: usize) -> bool {
        let places = self.order.len();
        if places > 0 {
            self.order.remove_range(0..places.min(elements_max), &mut |_| {});
            return false;
        }
        self.elements.free_step(elements_max)
    }
}

impl Clone for SortedTree {
    fn clone(&self) -> SortedTree {
        SortedTree::from_elements(Dict::clone(&self.elements))
    }
}

impl SortedTree {
    /// Checks the invariants.
    pub(super) fn check(&self, seed: HashSeed) {
        self.order.check();
        assert_eq!(self.order.len(), self.elements.len());
        for rank in 0..self.len() {
            let (leaf, index) = self.leaf_of(rank);
            let element = leaf[index].element();
            let spot = self.find(seed, element.member()).expect("invariant 1");
            assert_eq!(self.score_at(spot).to_bits(), element.score().to_bits());
            assert!(leaf[index].compare(image(element.score()), element.member()) == std::cmp::Ordering::Equal);
            assert_eq!(self.rank_at(spot), rank);
        }
    }
}
