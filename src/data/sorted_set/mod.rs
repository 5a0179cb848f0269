//! The sorted set: members with scores, in the order of score and then member.
//!
//! | encoding | as OBJECT ENCODING names it | what |
//! |---|---|---|
//! | `Packed` | `listpack` | Redis's listpack of member, score pairs (`packed`) |
//! | `Tree` | `skiplist` | a dict of elements and a counting B+ tree over them (`large`, `tree`) |
//!
//! A packed set becomes a tree when a member is added that is too long, or one too many; never the other way round. Both
//! answer the same questions, by rank: a range by score or member is first turned into a range of ranks
//! ([`SortedSetRef::ranks_by_score`], [`SortedSetRef::ranks_by_lex`], [`resolve_ranks`]), then [`limit`] cuts it, and then it is
//! counted, read in either direction ([`SortedSetRef::range`]), or cut out ([`SortedSet::remove_ranks`]).
//!
//! Scores are doubles without NaN: whoever calls refuses it before, and [`AddOutcome::NotANumber`] reports one that came out of an
//! addition. 0 and -0 are equal scores.
//!
//! The seed that several methods take is the process's [`HashSeed`]; it must be the same for all the life of a set.

mod collect;
mod handle;
mod iter;
mod large;
mod packed;
mod range;
#[cfg(test)]
mod tests;
mod tree;

use std::ops::Range;

pub use collect::{Accumulator, Aggregate, weighted};
pub use iter::{Elements, ScoredMember};
pub use large::SortedTree;
pub use range::{LexBound, LexRange, ScoreBound, ScoreRange, limit, resolve_ranks, resolve_ranks_reversed};

use super::listpack::Listpack;
use super::{Encoding, Limits};
use crate::base::hash::HashSeed;
use crate::base::random::Random;

/// See the essay above.
#[derive(Clone)]
pub enum SortedSet {
    /// A small one.
    Packed(Listpack),
    /// A large one.
    Tree(Box<SortedTree>),
}

/// A sorted set for reading.
#[derive(Clone, Copy)]
pub enum SortedSetRef<'a> {
    /// A small one.
    Packed(&'a Listpack),
    /// A large one.
    Tree(&'a SortedTree),
}

/// The options of ZADD that decide about one element. The default is a plain ZADD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddOptions {
    /// NX: elements that exist are left alone.
    pub only_new: bool,
    /// XX: none is added.
    pub only_existing: bool,
    /// GT: an element that exists must come to a higher score.
    pub only_greater: bool,
    /// LT: an element that exists must come to a lower score.
    pub only_less: bool,
    /// INCR: the score is added to the one there is.
    pub increment: bool,
}

/// What ZADD did with one element; with the score that it has now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AddOutcome {
    /// It is new.
    Added(f64),
    /// It had another score.
    Updated(f64),
    /// It had this score.
    Same(f64),
    /// NX, XX, GT or LT did not allow it (with INCR the reply is nil).
    Refused,
    /// The sum is not a number (inf and -inf); nothing was changed.
    NotANumber,
}

impl AddOptions {
    /// The score that the element is to have, or why nothing is to be done.
    fn resolve(&self, current: Option<f64>, score: f64) -> Result<f64, AddOutcome> {
        let Some(current) = current else {
            return if self.only_existing {
                Err(AddOutcome::Refused)
            } else {
                Ok(score)
            };
        };
        if self.only_new {
            return Err(AddOutcome::Refused);
        }
        let score = if self.increment { current + score } else { score };
        if score.is_nan() {
            return Err(AddOutcome::NotANumber);
        }
        if (self.only_less && score >= current) || (self.only_greater && score <= current) {
            return Err(AddOutcome::Refused);
        }
        if score == current {
            return Err(AddOutcome::Same(score));
        }
        Ok(score)
    }
}

impl SortedSet {
    /// An empty one.
    pub fn new() -> SortedSet {
        SortedSet::Packed(Listpack::new())
    }

    /// Takes over a listpack from a file or a DUMP payload; None if it is not a sorted set in order.
    pub fn from_listpack(pack: Listpack) -> Option<SortedSet> {
        packed::is_sorted_set(&pack).then_some(SortedSet::Packed(pack))
    }

    /// For reading.
    #[inline]
    pub fn as_ref(&self) -> SortedSetRef<'_> {
        match self {
            SortedSet::Packed(pack) => SortedSetRef::Packed(pack),
            SortedSet::Tree(tree) => SortedSetRef::Tree(tree),
        }
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// Whether there are none; the key goes then.
    pub fn is_empty(&self) -> bool {
        self.as_ref().is_empty()
    }

    /// What OBJECT ENCODING names.
    pub fn encoding(&self) -> Encoding {
        self.as_ref().encoding()
    }

    /// Bytes taken from the allocator.
    pub fn allocated_bytes(&self) -> usize {
        self.as_ref().allocated_bytes()
    }

    /// Makes it a large one at once if so many elements are about to be added, and a small one may not have as many.
    pub fn prepare(&mut self, added_count: usize, limits: &Limits, seed: HashSeed) {
        if added_count > limits.zset_max_listpack_entries {
            self.make_tree(seed);
        }
    }

    /// Makes it a large one, whatever it has.
    pub fn make_large(&mut self, seed: HashSeed) {
        self.make_tree(seed);
    }

    /// Adds an element or changes its score, as ZADD and ZINCRBY do. The score must not be NaN.
    pub fn add(
        &mut self,
        seed: HashSeed,
        member: &[u8],
        score: f64,
        options: AddOptions,
        limits: &Limits,
    ) -> AddOutcome {
        debug_assert!(!score.is_nan());
        if let SortedSet::Packed(pack) = self {
            let found = packed::find(pack, member).map(|pair| (pair.place, pair.score));
            let score = match options.resolve(found.map(|(_, score)| score), score) {
                Ok(score) => score,
                Err(outcome) => return outcome,
            };
            if let Some((place, _)) = found {
                packed::rescore(pack, place, member, score);
                return AddOutcome::Updated(score);
            }
            if pack.len() / 2 < limits.zset_max_listpack_entries
                && member.len() <= limits.zset_max_listpack_value
                && pack.fits(member.len())
            {
                packed::insert(pack, member, score);
                return AddOutcome::Added(score);
            }
            self.make_tree(seed).insert(seed, member, score);
            return AddOutcome::Added(score);
        }
        let tree = self.make_tree(seed);
        let found = tree.find(seed, member);
        match options.resolve(found.map(|spot| tree.score_at(spot)), score) {
            Err(outcome) => outcome,
            Ok(score) => match found {
                Some(spot) => {
                    tree.rescore(spot, score);
                    AddOutcome::Updated(score)
                }
                None => {
                    tree.insert(seed, member, score);
                    AddOutcome::Added(score)
                }
            },
        }
    }

    /// Takes a member out (ZREM); the score that it had.
    pub fn remove(&mut self, seed: HashSeed, member: &[u8]) -> Option<f64> {
        match self {
            SortedSet::Packed(pack) => {
                let pair = packed::find(pack, member)?;
                let (place, score) = (pair.place, pair.score);
                packed::remove(pack, place);
                Some(score)
            }
            SortedSet::Tree(tree) => {
                let spot = tree.find(seed, member)?;
                let score = tree.score_at(spot);
                tree.remove(seed, spot);
                Some(score)
            }
        }
    }

    /// Takes out the elements of these ranks (ZREMRANGEBY*, ZPOP* after they were read); how many there were.
    pub fn remove_ranks(&mut self, seed: HashSeed, ranks: Range<usize>) -> usize {
        let len = self.len();
        let ranks = ranks.start.min(len)..ranks.end.min(len);
        let count = ranks.len();
        if count > 0 {
            match self {
                SortedSet::Packed(pack) => packed::remove_ranks(pack, ranks),
                SortedSet::Tree(tree) => tree.remove_ranks(seed, ranks),
            }
        }
        count
    }

    /// Takes out up to `count` of the lowest elements or, if `is_highest`, of the highest ones, and shows each, the outermost
    /// first (ZPOPMIN, ZPOPMAX, ZMPOP); how many there were.
    pub fn pop(
        &mut self,
        seed: HashSeed,
        count: usize,
        is_highest: bool,
        mut visit: impl FnMut(ScoredMember<'_>),
    ) -> usize {
        let len = self.len();
        let count = count.min(len);
        let ranks = if is_highest { len - count..len } else { 0..count };
        let elements = self.as_ref().range(ranks.clone());
        if is_highest {
            elements.rev().for_each(&mut visit);
        } else {
            elements.for_each(&mut visit);
        }
        let count = self.remove_ranks(seed, ranks);
        if let SortedSet::Tree(tree) = self {
            tree.foresee_pops(seed, is_highest);
        }
        count
    }

    /// Frees up to so many elements; whether nothing is left. Nothing else may be done with the set once this has begun.
    pub fn free_step(&mut self, elements_max: usize) -> bool {
        match self {
            SortedSet::Packed(pack) => {
                *pack = Listpack::new();
                true
            }
            SortedSet::Tree(tree) => tree.free_step(elements_max),
        }
    }

    /// Asserts all invariants of a tree, by going through it. (A listpack is checked where it comes in.)
    pub fn check(&self, seed: HashSeed) {
        if let SortedSet::Tree(tree) = self {
            tree.check(seed);
        }
    }

    /// Makes a large one of a packed one.
    fn make_tree(&mut self, seed: HashSeed) -> &mut SortedTree {
        if let SortedSet::Packed(pack) = self {
            let mut tree = SortedTree::new();
            for pair in packed::pairs(pack) {
                tree.insert(seed, pair.member.as_bytes(&mut itoa::Buffer::new()), pair.score);
            }
            *self = SortedSet::Tree(Box::new(tree));
        }
        match self {
            SortedSet::Tree(tree) => tree,
            SortedSet::Packed(_) => unreachable!("it was converted above"),
        }
    }
}

impl Default for SortedSet {
    fn default() -> SortedSet {
        SortedSet::new()
    }
}

impl<'a> SortedSetRef<'a> {
    /// How many elements there are (ZCARD).
    pub fn len(self) -> usize {
        match self {
            SortedSetRef::Packed(pack) => pack.len() / 2,
            SortedSetRef::Tree(tree) => tree.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// What OBJECT ENCODING names.
    pub fn encoding(self) -> Encoding {
        match self {
            SortedSetRef::Packed(_) => Encoding::Listpack,
            SortedSetRef::Tree(_) => Encoding::Skiplist,
        }
    }

    /// Bytes taken from the allocator.
    pub fn allocated_bytes(self) -> usize {
        match self {
            SortedSetRef::Packed(pack) => pack.allocated_bytes(),
            SortedSetRef::Tree(tree) => tree.allocated_bytes(),
        }
    }

    /// The score of a member (ZSCORE, ZMSCORE, and the test of ZINTER and ZDIFF).
    pub fn score(self, seed: HashSeed, member: &[u8]) -> Option<f64> {
        match self {
            SortedSetRef::Packed(pack) => packed::find(pack, member).map(|pair| pair.score),
            SortedSetRef::Tree(tree) => tree.find(seed, member).map(|spot| tree.score_at(spot)),
        }
    }

    /// How many elements come before a member, and its score (ZRANK WITHSCORE). ZREVRANK is `len() - 1 - rank`.
    pub fn rank(self, seed: HashSeed, member: &[u8]) -> Option<(usize, f64)> {
        match self {
            SortedSetRef::Packed(pack) => packed::rank(pack, member),
            SortedSetRef::Tree(tree) => {
                let spot = tree.find(seed, member)?;
                Some((tree.rank_at(spot), tree.score_at(spot)))
            }
        }
    }

    /// The ranks of the elements whose scores lie in the range (ZCOUNT is the length of this).
    pub fn ranks_by_score(self, range: &ScoreRange) -> Range<usize> {
        match self {
            SortedSetRef::Packed(pack) => packed::ranks_by_score(pack, range),
            SortedSetRef::Tree(tree) => tree.ranks_by_score(range),
        }
    }

    /// The ranks of the elements whose members lie in the range (ZLEXCOUNT is the length of this). Meant for equal scores; with
    /// others, a packed set finds what Redis finds when it reads in this direction.
    pub fn ranks_by_lex(self, range: &LexRange<'_>, is_reversed: bool) -> Range<usize> {
        match self {
            SortedSetRef::Packed(pack) => packed::ranks_by_lex(pack, range, is_reversed),
            SortedSetRef::Tree(tree) => tree.ranks_by_lex(range),
        }
    }

    /// The elements of these ranks, to be read from either end.
    pub fn range(self, ranks: Range<usize>) -> Elements<'a> {
        let len = self.len();
        Elements::new(self, ranks.start.min(len)..ranks.end.min(len))
    }

    /// All elements in order.
    pub fn iter(self) -> Elements<'a> {
        self.range(0..self.len())
    }

    /// The element of this rank.
    pub fn get(self, rank: usize) -> Option<ScoredMember<'a>> {
        self.range(rank..rank.saturating_add(1)).next()
    }

    /// Any element, each equally likely.
    pub fn random(self, random: &mut Random) -> Option<ScoredMember<'a>> {
        let len = self.len();
        if len == 0 {
            return None;
        }
        self.get(random.below(len))
    }

    /// `count` different elements, or all there are, in order of rank, each choice equally likely (ZRANDMEMBER with a positive
    /// count). It takes O(count log len).
    pub fn sample(self, count: usize, random: &mut Random, mut visit: impl FnMut(ScoredMember<'a>)) {
        let len = self.len();
        if count >= len {
            return self.iter().for_each(visit);
        }
        // Floyd's way: as many draws as elements, whatever the ratio (Bentley and Floyd, 1987).
        let mut chosen = std::collections::BTreeSet::new();
        for bound in len - count..len {
            let rank = random.below(bound + 1);
            if !chosen.insert(rank) {
                chosen.insert(bound);
            }
        }
        match self {
            SortedSetRef::Packed(pack) => {
                for (rank, pair) in packed::pairs(pack).enumerate() {
                    if chosen.contains(&rank) {
                        visit(ScoredMember::from(pair));
                    }
                }
            }
            SortedSetRef::Tree(_) => chosen.into_iter().filter_map(|rank| self.get(rank)).for_each(visit),
        }
    }

    /// Shows elements from a position of ZSCAN on (0 at first), about `count` of them; the position to go on at, None at the end.
    /// A packed set is shown as a whole.
    pub fn scan(self, position: u64, count: usize, mut visit: impl FnMut(&[u8], f64)) -> Option<u64> {
        match self {
            SortedSetRef::Packed(pack) => {
                for pair in packed::pairs(pack) {
                    visit(pair.member.as_bytes(&mut itoa::Buffer::new()), pair.score);
                }
                None
            }
            SortedSetRef::Tree(tree) => tree.scan(position, count, visit),
        }
    }
}
