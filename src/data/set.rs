//! Sets: an intset while all members are integers, a listpack while there are few and short ones, then a hash table.
//!
//! | from | to | when a member is added |
//! |---|---|---|
//! | `intset` | `hashtable` | and there are more than `set-max-intset-entries` |
//! | `intset` | `listpack` | that is no integer, and the set fits `set-max-listpack-entries` and `-value` with it; else `hashtable` |
//! | `listpack` | `hashtable` | that does not fit |
//!
//! These are Redis 7.2's rules (documentation of `set-max-listpack-entries`); nothing is converted back. Conversion costs as much
//! as the limits allow, once; everything else costs at most a page of the table, or a packed set's length.
//!
//! A member is looked for with a [`Probe`]: the bytes, the integer that they are, if any, and their hash, found out once for
//! however many sets are asked.
//!
//! Invariants:
//! 1. Members differ: no text stands twice in a listpack.
//! 2. The hashes of the table are by the process's one seed, which every call hands in.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::Encoding;
use super::dict::{Foresight, Spot};
use super::element::Member;
use super::frozen::{Freezable, Head, Part, Sink, Spent, Use};
use super::intset::Intset;
use super::limits::Limits;
use super::listpack::{Item, Listpack};
use super::past::{PARTS_COPIED_MAX, Tracked};
use crate::base::hash::HashSeed;
use crate::base::numbers::parse_i64;
use crate::base::random::Random;

/// Redis never lets an intset have more members, whatever the limit.
const INTSET_ENTRIES_MAX: usize = 1 << 30;

/// A set of strings.
#[derive(Clone)]
pub enum Set {
    /// Integers, in order.
    Ints(Intset),
    /// Few and short members, in the order in which they were added.
    Packed(Listpack),
    /// Any number of members.
    Table(Box<SetTable>),
}

/// A set that is looked at.
#[derive(Clone, Copy)]
pub enum SetRef<'a> {
    /// Integers, in order.
    Ints(&'a Intset),
    /// Few and short members.
    Packed(&'a Listpack),
    /// Any number of members.
    Table(&'a SetTable),
}

/// The members of a big set.
#[derive(Clone, Default)]
pub struct SetTable {
    members: Tracked<Member>,
}

impl SetTable {
    /// See [`Dict::foresee`](super::dict::Dict::foresee).
    #[inline]
    pub(in crate::data) fn foresee(&self, hash: u64, stage: Foresight) {
        self.members.foresee(hash, stage);
    }

    /// Adds a member that is not there.
    pub(super) fn append(&mut self, member: &[u8], seed: HashSeed) {
        self.members.insert(seed.hash(member), Member::new(member), seed);
    }
}

impl Freezable for SetTable {
    fn freezes(&self) -> bool {
        self.members.len() > PARTS_COPIED_MAX
    }

    fn freeze(&mut self, to: Use) {
        self.members.freeze(to, ());
    }

    fn is_frozen(&self, to: Use) -> bool {
        self.members.is_frozen(to)
    }

    fn kept_bytes(&self) -> usize {
        self.members.kept_bytes()
    }

    fn thaw(&mut self, to: Use) -> Spent {
        self.members.thaw(to)
    }

    fn roll_back(&mut self, seed: HashSeed) {
        self.members.roll_back(seed);
    }

    fn read_slice(&mut self, to: Use, seed: HashSeed, effort: usize, sink: &mut impl Sink) -> bool {
        if let Some((len, ())) = self.members.begin_read(to) {
            sink.begin(Head::Set { len });
        }
        self.members
            .read(to, seed, effort, &mut |member| sink.part(Part::Member(member)))
    }
}

/// A member that is looked for.
#[derive(Clone, Copy)]
pub struct Probe<'p> {
    bytes: &'p [u8],
    integer: Option<i64>,
    hash: u64,
}

impl<'p> Probe<'p> {
    /// For these bytes.
    #[inline]
    pub fn new(bytes: &'p [u8], seed: HashSeed) -> Probe<'p> {
        Probe {
            bytes,
            integer: parse_i64(bytes),
            hash: seed.hash(bytes),
        }
    }
}

impl Default for Set {
    /// Without members: of integers, until one comes that is none.
    fn default() -> Set {
        Set::Ints(Intset::new())
    }
}

impl Set {
    /// An empty set, in the encoding for `count` members of which this is the first.
    pub fn for_members(first: &[u8], count: usize, limits: &Limits) -> Set {
        if count <= intset_entries_max(limits) && parse_i64(first).is_some() {
            Set::Ints(Intset::new())
        } else if count <= limits.set_max_listpack_entries {
            Set::Packed(Listpack::new())
        } else {
            Set::Table(Box::default())
        }
    }

    /// To look at it.
    #[inline]
    pub fn as_ref(&self) -> SetRef<'_> {
        match self {
            Set::Ints(ints) => SetRef::Ints(ints),
            Set::Packed(packed) => SetRef::Packed(packed),
            Set::Table(table) => SetRef::Table(table),
        }
    }

    /// How many members it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> Encoding {
        self.as_ref().encoding()
    }

    /// Bytes taken from the allocator.
    pub fn allocated_bytes(&self) -> usize {
        self.as_ref().allocated_bytes()
    }

    /// Converts at once if `added_count` members at most are about to be added, and more than the encoding may have.
    pub fn prepare(&mut self, added_count: usize, limits: &Limits, seed: HashSeed) {
        let is_too_many = match self {
            Set::Ints(_) => added_count > intset_entries_max(limits),
            Set::Packed(_) => added_count > limits.set_max_listpack_entries,
            Set::Table(_) => false,
        };
        if is_too_many {
            self.convert_to_table(seed);
        }
    }

    /// Adds a member; false if it was there.
    pub fn add(&mut self, member: &[u8], limits: &Limits, seed: HashSeed) -> bool {
        self.add_probe(Probe::new(member, seed), limits, seed)
    }

    fn add_probe(&mut self, probe: Probe<'_>, limits: &Limits, seed: HashSeed) -> bool {
        match self {
            Set::Ints(ints) => {
                if let Some(integer) = probe.integer {
                    let is_new = ints.insert(integer);
                    if is_new && ints.len() > intset_entries_max(limits) {
                        self.convert_to_table(seed);
                    }
                    return is_new;
                }
                let longest = [ints.min(), ints.max()];
                let longest = longest.into_iter().flatten().map(|end| Item::Int(end).len());
                let value_bytes = longest.max().unwrap_or(0).max(probe.bytes.len());
                if ints.len() < limits.set_max_listpack_entries && value_bytes <= limits.set_max_listpack_value {
                    let mut packed = Listpack::new();
                    ints.iter().for_each(|integer| packed.push_int(integer));
                    packed.push_back(probe.bytes);
                    *self = Set::Packed(packed);
                    return true;
                }
                self.convert_to_table(seed);
                self.add_probe(probe, limits, seed)
            }
            Set::Packed(packed) => {
                if find(packed, probe.bytes).is_some() {
                    return false;
                }
                if packed.len() < limits.set_max_listpack_entries
                    && probe.bytes.len() <= limits.set_max_listpack_value
                    && packed.fits(Listpack::entry_bytes(probe.bytes))
                {
                    packed.push_back(probe.bytes);
                    return true;
                }
                self.convert_to_table(seed);
                self.add_probe(probe, limits, seed)
            }
            Set::Table(table) => {
                let is_new = table.members.find(probe.hash, probe.bytes).is_none();
                if is_new {
                    table.members.insert(probe.hash, Member::new(probe.bytes), seed);
                }
                is_new
            }
        }
    }

    /// Removes a member; false if there was none.
    pub fn remove(&mut self, member: &[u8], seed: HashSeed) -> bool {
        match self {
            Set::Ints(ints) => parse_i64(member).is_some_and(|integer| ints.remove(integer)),
            Set::Packed(packed) => {
                let place = find(packed, member);
                place.map(|place| packed.delete(place)).is_some()
            }
            Set::Table(table) => {
                let spot = table.members.find(seed.hash(member), member);
                spot.map(|spot| table.members.remove(spot, seed, |_| ())).is_some()
            }
        }
    }

    /// Takes out `count` members (fewer if there are fewer), every choice equally likely, and hands each to `visit`.
    pub fn pop(&mut self, count: usize, random: &mut Random, seed: HashSeed, mut visit: impl FnMut(Item<'_>)) {
        for _ in 0..count.min(self.len()) {
            match self {
                Set::Ints(ints) => {
                    let Some(integer) = ints.random(random) else { return };
                    ints.remove(integer);
                    visit(Item::Int(integer));
                }
                Set::Packed(packed) => {
                    let index = random.below(packed.len());
                    let Some(place) = packed.seek(index as i64) else { return };
                    visit(packed.get(place));
                    packed.delete(place);
                }
                Set::Table(table) => {
                    let Some(spot) = table.members.random(seed, random) else {
                        return;
                    };
                    table.members.remove(spot, seed, |member| visit(Item::Bytes(member)));
                }
            }
        }
    }

    /// Frees about as many members; true when nothing is left. After the first call it can only be freed further or dropped.
    pub fn free_step(&mut self, elements_max: usize) -> bool {
        match self {
            Set::Ints(_) | Set::Packed(_) => {
                *self = Set::Packed(Listpack::new());
                true
            }
            Set::Table(table) => table.members.free_step(elements_max),
        }
    }

    /// Makes it a hash table.
    fn convert_to_table(&mut self, seed: HashSeed) {
        let mut table = Box::<SetTable>::default();
        let mut digits = itoa::Buffer::new();
        self.as_ref().for_each(|item| {
            let bytes = item.as_bytes(&mut digits);
            table.members.insert(seed.hash(bytes), Member::new(bytes), seed);
        });
        *self = Set::Table(table);
    }
}

fn intset_entries_max(limits: &Limits) -> usize {
    limits.set_max_intset_entries.min(INTSET_ENTRIES_MAX)
}

fn find(packed: &Listpack, member: &[u8]) -> Option<super::listpack::Place> {
    packed.find(packed.first()?, member, 0)
}

impl<'a> SetRef<'a> {
    /// How many members it has.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            SetRef::Ints(ints) => ints.len(),
            SetRef::Packed(packed) => packed.len(),
            SetRef::Table(table) => table.members.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(self) -> Encoding {
        match self {
            SetRef::Ints(_) => Encoding::Intset,
            SetRef::Packed(_) => Encoding::Listpack,
            SetRef::Table(_) => Encoding::Hashtable,
        }
    }

    /// Bytes taken from the allocator.
    pub fn allocated_bytes(self) -> usize {
        match self {
            SetRef::Ints(ints) => ints.allocated_bytes(),
            SetRef::Packed(packed) => packed.allocated_bytes(),
            SetRef::Table(table) => {
                crate::base::size_class::allocated(size_of::<SetTable>()) + table.members.allocated_bytes()
            }
        }
    }

    /// Whether it is a member.
    #[inline]
    pub fn contains(self, member: &[u8], seed: HashSeed) -> bool {
        match self {
            SetRef::Ints(ints) => parse_i64(member).is_some_and(|integer| ints.contains(integer)),
            SetRef::Packed(packed) => find(packed, member).is_some(),
            SetRef::Table(table) => table.members.find(seed.hash(member), member).is_some(),
        }
    }

    /// As `contains`, where several sets are asked.
    #[inline]
    pub fn contains_probe(self, probe: Probe<'_>) -> bool {
        match self {
            SetRef::Ints(ints) => probe.integer.is_some_and(|integer| ints.contains(integer)),
            SetRef::Packed(packed) => find(packed, probe.bytes).is_some(),
            SetRef::Table(table) => table.members.find(probe.hash, probe.bytes).is_some(),
        }
    }

    /// Every member, in the order of SSCAN.
    pub fn for_each(self, mut visit: impl FnMut(Item<'a>)) {
        let done = self.try_for_each(|item| {
            visit(item);
            ControlFlow::<()>::Continue(())
        });
        debug_assert!(done.is_continue());
    }

    /// Every member, until `visit` breaks off.
    pub fn try_for_each<B>(self, mut visit: impl FnMut(Item<'a>) -> ControlFlow<B>) -> ControlFlow<B> {
        match self {
            SetRef::Ints(ints) => ints.iter().try_for_each(|integer| visit(Item::Int(integer))),
            SetRef::Packed(packed) => packed.iter().try_for_each(visit),
            SetRef::Table(table) => table.members.iter().try_for_each(|member| visit(Item::Bytes(member))),
        }
    }

    /// About `count` members from a cursor on (0 to begin), and the cursor to go on with; 0 at the end. A packed set gives all.
    pub fn scan(self, cursor: u64, count: usize, mut visit: impl FnMut(Item<'a>)) -> u64 {
        match self {
            SetRef::Ints(_) | SetRef::Packed(_) => {
                self.for_each(visit);
                0
            }
            SetRef::Table(table) => {
                let next = table.members.scan(cursor, count, |member| visit(Item::Bytes(member)));
                next.unwrap_or(0)
            }
        }
    }

    /// A member, each equally likely.
    pub fn random(self, random: &mut Random, seed: HashSeed) -> Option<Item<'a>> {
        match self {
            SetRef::Ints(ints) => ints.random(random).map(Item::Int),
            SetRef::Packed(packed) => {
                let count = packed.len();
                let index = (count > 0).then(|| random.below(count))?;
                packed.seek(index as i64).map(|place| packed.get(place))
            }
            SetRef::Table(table) => {
                let spot = table.members.random(seed, random)?;
                Some(Item::Bytes(table.members.get(spot)))
            }
        }
    }

    /// Up to `count` different members, every choice equally likely (SRANDMEMBER with a positive count).
    pub fn random_distinct(self, count: usize, random: &mut Random, seed: HashSeed) -> Vec<Item<'a>> {
        let len = self.len();
        if let SetRef::Table(table) = self
            && count < len / 3
        {
            let mut seen: HashSet<Spot> = HashSet::with_capacity(count);
            while seen.len() < count {
                seen.extend(table.members.random(seed, random));
            }
            return seen
                .into_iter()
                .map(|spot| Item::Bytes(table.members.get(spot)))
                .collect();
        }
        let mut all = Vec::with_capacity(len);
        self.for_each(|item| all.push(item));
        if count < len {
            // The first places of a shuffle (Fisher and Yates 1938, Durstenfeld 1964).
            for index in 0..count {
                all.swap(index, random.usize_in(index..len));
            }
            all.truncate(count);
        }
        all
    }
}

/// Every member that all of the sets have (SINTER), until `visit` breaks off. None of none.
pub fn intersection<'a, B>(
    sets: &[SetRef<'a>],
    seed: HashSeed,
    mut visit: impl FnMut(Item<'a>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut order = sets.to_vec();
    // The smallest first: only its members can be in all of them, and the next smallest refuses most of the rest.
    order.sort_by_key(|set| set.len());
    let Some((smallest, others)) = order.split_first() else {
        return ControlFlow::Continue(());
    };
    let mut digits = itoa::Buffer::new();
    smallest.try_for_each(|item| {
        let probe = probe_of(&item, &mut digits, others, seed);
        if others.iter().all(|other| other.contains_probe(probe)) {
            return visit(item);
        }
        ControlFlow::Continue(())
    })
}

/// Every member of the first set that no other one has (SDIFF), until `visit` breaks off.
///
/// For each member of the first one the others are asked, the largest first, as most are found there.
pub fn difference<'a, B>(
    first: SetRef<'a>,
    others: &[SetRef<'_>],
    seed: HashSeed,
    mut visit: impl FnMut(Item<'a>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut order = others.to_vec();
    order.sort_by_key(|set| std::cmp::Reverse(set.len()));
    let mut digits = itoa::Buffer::new();
    first.try_for_each(|item| {
        let probe = probe_of(&item, &mut digits, &order, seed);
        if order.iter().any(|other| other.contains_probe(probe)) {
            return ControlFlow::Continue(());
        }
        visit(item)
    })
}

/// Every member that any of the sets has (SUNION), once each: one that a set before has had is left out.
pub fn union<'a, B>(
    sets: &[SetRef<'a>],
    seed: HashSeed,
    mut visit: impl FnMut(Item<'a>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut order = sets.to_vec();
    // The largest first: its members need not be looked for anywhere.
    order.sort_by_key(|set| std::cmp::Reverse(set.len()));
    for (index, set) in order.iter().enumerate() {
        difference(*set, &order[..index], seed, &mut visit)?;
    }
    ControlFlow::Continue(())
}

/// The probe for a member; the hash is worked out only if a table will be asked.
fn probe_of<'p>(item: &Item<'p>, digits: &'p mut itoa::Buffer, others: &[SetRef<'_>], seed: HashSeed) -> Probe<'p> {
    let integer = item.to_i64();
    let bytes = item.as_bytes(digits);
    let needs_hash = others.iter().any(|other| matches!(other, SetRef::Table(_)));
    Probe {
        bytes,
        integer,
        hash: if needs_hash { seed.hash(bytes) } else { 0 },
    }
}

impl Set {
    /// Asserts all invariants, by counting again.
    pub fn check(&self, seed: HashSeed) {
        match self {
            Set::Ints(ints) => assert!(ints.iter().is_sorted_by(|one, two| one < two), "invariant 1"),
            Set::Packed(packed) => {
                let texts: HashSet<Vec<u8>> = packed.iter().map(|item| item.to_vec()).collect();
                assert_eq!(texts.len(), packed.len(), "invariant 1");
            }
            Set::Table(table) => table.members.check(seed),
        }
    }
}

#[cfg(test)]
mod tests;
