//! Reading a hash, whatever its encoding.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::{HashRef, expiry_at, expiry_of, find, is_over};
use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;
use crate::base::random::Random;
use crate::base::size_class::allocated;
use crate::data::Encoding;
use crate::data::dict::Spot;
use crate::data::element::FieldRef;
use crate::data::listpack::Item;

/// How often a table is drawn from in vain (fields whose time is over) before its fields are collected instead.
const DRAWS_MAX: usize = 100;

impl<'a> HashRef<'a> {
    /// How many fields it has; those whose time is over are counted until they are taken out.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            HashRef::Packed(packed) => packed.len() / 2,
            HashRef::PackedTtl(packed) => packed.triples.len() / 3,
            HashRef::Table(table) => table.fields.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// How many fields `for_each` will visit. Counts them one by one if one may be over.
    pub fn live_len(self, now: UnixMs) -> usize {
        if self.next_expiry().is_none_or(|bound| now <= bound) {
            return self.len();
        }
        let mut count = 0;
        self.for_each(now, |_, _| count += 1);
        count
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(self) -> Encoding {
        match self {
            HashRef::Packed(_) => Encoding::Listpack,
            HashRef::PackedTtl(_) => Encoding::ListpackEx,
            HashRef::Table(_) => Encoding::Hashtable,
        }
    }

    /// Bytes taken from the allocator.
    pub fn allocated_bytes(self) -> usize {
        match self {
            HashRef::Packed(packed) => packed.allocated_bytes(),
            HashRef::PackedTtl(packed) => allocated(size_of_val(packed)) + packed.triples.allocated_bytes(),
            HashRef::Table(table) => allocated(size_of_val(table)) + table.fields.allocated_bytes(),
        }
    }

    /// The value of a field.
    #[inline]
    pub fn get(self, field: &[u8], now: UnixMs, seed: HashSeed) -> Option<Item<'a>> {
        match self {
            HashRef::Packed(packed) => {
                let place = find(packed, field, 1)?;
                packed.next(place).map(|value| packed.get(value))
            }
            HashRef::PackedTtl(packed) => {
                let place = find(&packed.triples, field, 2)?;
                if is_over(expiry_at(&packed.triples, place), now) {
                    return None;
                }
                packed.triples.next(place).map(|value| packed.triples.get(value))
            }
            HashRef::Table(table) => {
                let element = table.fields.lookup(seed.hash(field), field)?;
                (!is_over(element.expiry(), now)).then(|| Item::Bytes(element.value()))
            }
        }
    }

    /// Whether there is such a field.
    pub fn contains(self, field: &[u8], now: UnixMs, seed: HashSeed) -> bool {
        self.get(field, now, seed).is_some()
    }

    /// When a field expires (the inner None: never); None if there is no such field.
    pub fn expiry(self, field: &[u8], now: UnixMs, seed: HashSeed) -> Option<Option<UnixMs>> {
        let expiry = match self {
            HashRef::Packed(packed) => find(packed, field, 1).map(|_| None),
            HashRef::PackedTtl(packed) => {
                find(&packed.triples, field, 2).map(|place| expiry_at(&packed.triples, place))
            }
            HashRef::Table(table) => {
                let element = table.fields.lookup(seed.hash(field), field);
                element.map(FieldRef::expiry)
            }
        };
        expiry.filter(|expiry| !is_over(*expiry, now))
    }

    /// No field expires before this; None if none ever does. A bound: the field that had it may be gone.
    pub fn next_expiry(self) -> Option<UnixMs> {
        let bound = match self {
            HashRef::Packed(_) => u64::MAX,
            HashRef::PackedTtl(packed) => packed.bound,
            HashRef::Table(table) => table.expiries.bound,
        };
        (bound != u64::MAX).then_some(UnixMs(bound))
    }

    /// Every field with its value, in the order of HSCAN.
    pub fn for_each(self, now: UnixMs, mut visit: impl FnMut(Item<'a>, Item<'a>)) {
        self.for_each_with_expiry(|field, value, expiry| {
            if !is_over(expiry, now) {
                visit(field, value);
            }
        });
    }

    /// The same with expiries, and with those whose time is over: for files, copies and digests.
    pub fn for_each_with_expiry(self, mut visit: impl FnMut(Item<'a>, Item<'a>, Option<UnixMs>)) {
        match self {
            HashRef::Packed(packed) => {
                let mut items = packed.iter();
                while let (Some(field), Some(value)) = (items.next(), items.next()) {
                    visit(field, value, None);
                }
            }
            HashRef::PackedTtl(packed) => {
                let mut items = packed.triples.iter();
                while let (Some(field), Some(value), Some(expiry)) = (items.next(), items.next(), items.next()) {
                    visit(field, value, expiry_of(expiry));
                }
            }
            HashRef::Table(table) => {
                let done = table.fields.iter().try_for_each(|element| {
                    let (field, value) = element.parts();
                    visit(Item::Bytes(field), Item::Bytes(value), element.expiry());
                    ControlFlow::<()>::Continue(())
                });
                debug_assert!(done.is_continue());
            }
        }
    }

    /// About `count` fields from a cursor on (0 to begin), and the cursor to go on with; 0 at the end. A packed hash gives all.
    pub fn scan(self, cursor: u64, count: usize, now: UnixMs, mut visit: impl FnMut(Item<'a>, Item<'a>)) -> u64 {
        let HashRef::Table(table) = self else {
            self.for_each(now, visit);
            return 0;
        };
        let next = table.fields.scan(cursor, count, |element| {
            if !is_over(element.expiry(), now) {
                let (field, value) = element.parts();
                visit(Item::Bytes(field), Item::Bytes(value));
            }
        });
        next.unwrap_or(0)
    }

    /// A field with its value, each equally likely; None if all are over.
    pub fn random(self, now: UnixMs, random: &mut Random, seed: HashSeed) -> Option<(Item<'a>, Item<'a>)> {
        if let HashRef::Table(table) = self {
            for _ in 0..DRAWS_MAX {
                let element = table.fields.get(table.fields.random(seed, random)?);
                if !is_over(element.expiry(), now) {
                    return Some(pair(element));
                }
            }
        }
        if let HashRef::Packed(packed) = self {
            let count = packed.len() / 2;
            let index = (count > 0).then(|| 2 * random.below(count))?;
            let field = packed.seek(index as i64)?;
            return packed.next(field).map(|value| (packed.get(field), packed.get(value)));
        }
        let all = self.collect(now);
        (!all.is_empty()).then(|| all[random.below(all.len())])
    }

    /// `count` fields with their values, the same ones more than once perhaps (HRANDFIELD with a negative count); none if all
    /// are over. `visit` may end it.
    pub fn random_repeated(
        self,
        count: usize,
        now: UnixMs,
        random: &mut Random,
        seed: HashSeed,
        mut visit: impl FnMut(Item<'a>, Item<'a>) -> ControlFlow<()>,
    ) {
        if let HashRef::Table(_) = self {
            for _ in 0..count {
                let Some((field, value)) = self.random(now, random, seed) else {
                    return;
                };
                if visit(field, value).is_break() {
                    return;
                }
            }
            return;
        }
        let all = self.collect(now);
        if !all.is_empty() {
            for _ in 0..count {
                let (field, value) = all[random.below(all.len())];
                if visit(field, value).is_break() {
                    return;
                }
            }
        }
    }

    /// Up to `count` different fields with their values, every choice equally likely (HRANDFIELD with a positive count).
    pub fn random_distinct(
        self,
        count: usize,
        now: UnixMs,
        random: &mut Random,
        seed: HashSeed,
    ) -> Vec<(Item<'a>, Item<'a>)> {
        if let HashRef::Table(table) = self
            && count < table.fields.len() / 3
            && self.next_expiry().is_none_or(|bound| now <= bound)
        {
            let mut seen: HashSet<Spot> = HashSet::with_capacity(count);
            while seen.len() < count {
                seen.extend(table.fields.random(seed, random));
            }
            return seen.into_iter().map(|spot| pair(table.fields.get(spot))).collect();
        }
        let mut all = self.collect(now);
        if count < all.len() {
            // The first places of a shuffle (Fisher and Yates 1938, Durstenfeld 1964).
            for index in 0..count {
                let other = random.usize_in(index..all.len());
                all.swap(index, other);
            }
            all.truncate(count);
        }
        all
    }

    fn collect(self, now: UnixMs) -> Vec<(Item<'a>, Item<'a>)> {
        let mut all = Vec::with_capacity(self.len());
        self.for_each(now, |field, value| all.push((field, value)));
        all
    }
}

fn pair(element: FieldRef<'_>) -> (Item<'_>, Item<'_>) {
    let (field, value) = element.parts();
    (Item::Bytes(field), Item::Bytes(value))
}
