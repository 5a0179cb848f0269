//! A sorted set in the making: what ZUNION, ZINTER, ZDIFF, their STORE forms and the reading of an RDB file gather into.
//!
//! While it grows there is only a dict; the order is made once at the end. Redis
//! does the same, and like it the result is packed if it is small enough in the end.

use super::large::SortedTree;
use super::{SortedSet, packed};
use crate::base::hash::HashSeed;
use crate::data::Limits;
use crate::data::dict::{Dict, Element, ElementRef};
use crate::data::element::Scored;
use crate::data::listpack::Listpack;

/// AGGREGATE: what becomes of the scores of one member in several sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// They are added; infinities of both signs give 0.
    Sum,
    /// The lowest one.
    Min,
    /// The highest one.
    Max,
}

impl Aggregate {
    /// Both scores become one.
    #[inline]
    pub fn combine(self, score: f64, other: f64) -> f64 {
        match self {
            Aggregate::Sum => zero_if_nan(score + other),
            Aggregate::Min if other < score => other,
            Aggregate::Max if other > score => other,
            Aggregate::Min | Aggregate::Max => score,
        }
    }
}

/// A score times the WEIGHT of its set; an infinity without weight is 0.
#[inline]
pub fn weighted(score: f64, weight: f64) -> f64 {
    zero_if_nan(score * weight)
}

fn zero_if_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// See the essay above.
pub struct Accumulator {
    elements: Dict<Scored>,
    member_bytes_max: usize,
    member_bytes: usize,
}

impl Default for Accumulator {
    fn default() -> Accumulator {
        Accumulator::new()
    }
}

impl Accumulator {
    /// Nothing yet.
    pub fn new() -> Accumulator {
        Accumulator {
            elements: Dict::new(),
            member_bytes_max: 0,
            member_bytes: 0,
        }
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a member; false, and no change, if it is there already.
    pub fn insert(&mut self, seed: HashSeed, member: &[u8], score: f64) -> bool {
        let hash = seed.hash(member);
        let is_new = self.elements.find(hash, member).is_none();
        if is_new {
            self.insert_new(seed, hash, member, score);
        }
        is_new
    }

    /// Adds a member, or combines the score with the one that it has.
    pub fn combine(&mut self, seed: HashSeed, member: &[u8], score: f64, aggregate: Aggregate) {
        let hash = seed.hash(member);
        match self.elements.find(hash, member) {
            Some(spot) => self.elements.edit(spot, |element| {
                let combined = aggregate.combine(element.as_ref().score(), score);
                element.set_score(combined);
            }),
            None => self.insert_new(seed, hash, member, score),
        }
    }

    /// Takes a member out; whether it was there.
    pub fn remove(&mut self, seed: HashSeed, member: &[u8]) -> bool {
        let Some(spot) = self.elements.find(seed.hash(member), member) else {
            return false;
        };
        self.elements.remove(spot, seed);
        self.member_bytes -= member.len();
        true
    }

    /// The sorted set of all that was gathered.
    pub fn into_sorted_set(self, limits: &Limits) -> SortedSet {
        let is_small = self.len() <= limits.zset_max_listpack_entries
            && self.member_bytes_max <= limits.zset_max_listpack_value
            && Listpack::new().fits(self.member_bytes);
        if !is_small {
            return SortedSet::Tree(Box::new(SortedTree::from_elements(self.elements)));
        }
        let mut elements: Vec<_> = self.elements.iter().collect();
        elements.sort_unstable_by(|a, b| packed::order(a.score(), a.key(), b.score(), b.key()));
        let mut pack = Listpack::new();
        for element in elements {
            pack.push_back(element.key());
            pack.push_back(&packed::score_text(element.score()));
        }
        SortedSet::Packed(pack)
    }

    fn insert_new(&mut self, seed: HashSeed, hash: u64, member: &[u8], score: f64) {
        self.member_bytes_max = self.member_bytes_max.max(member.len());
        self.member_bytes += member.len();
        self.elements.insert(hash, Scored::new(score, member), seed);
    }
}
