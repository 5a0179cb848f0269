//! Which slots a unit of work touches: a sorted set of slot numbers, or everything.
//!
//! Nearly every command touches one slot, and nearly all others fewer than five, so a [`SlotSet`] holds up to
//! four numbers inline and allocates only beyond that. It is a sorted array and not a bitmap of 16384 bits
//! because it is built, compared and walked once for each command, and two kilobytes would be touched each time.
//!
//! A command may name hundreds of thousands of keys, whose slots come in any order. Put into a sorted array one by one they
//! cost a move of half the array for each new slot, and a search for each old one; so what meets slots one by one,
//! without a bound on how many, notes them as [`SlotMarks`], which become a bitmap when they are many.
//!
//! Invariants: (1) the numbers are strictly ascending; (2) a set of at most [`INLINE_MAX`] numbers is inline,
//! so equal sets have equal representations; (3) marks are a bitmap only when they are more than [`LISTED_MAX`].

use crate::base::slot::SLOT_COUNT;

/// How many slot numbers fit in a [`SlotSet`] without an allocation.
const INLINE_MAX: usize = 4;

/// More [`SlotMarks`] than this are a bitmap: from here on the two kilobytes cost less than moving the array's numbers.
const LISTED_MAX: usize = 64;

const WORD_COUNT: usize = SLOT_COUNT.div_ceil(u64::BITS as usize);

/// A sorted set of slot numbers without duplicates.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SlotSet(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    /// Unused numbers are zero, so that derived equality holds.
    Inline {
        count: u8,
        slots: [u16; INLINE_MAX],
    },
    Heap(Vec<u16>),
}

impl SlotSet {
    /// The empty set.
    pub const fn new() -> Self {
        SlotSet(Repr::Inline {
            count: 0,
            slots: [0; INLINE_MAX],
        })
    }

    /// The set of one slot.
    pub const fn one(slot: u16) -> Self {
        SlotSet(Repr::Inline {
            count: 1,
            slots: [slot, 0, 0, 0],
        })
    }

    /// The slots in ascending order.
    #[inline]
    pub fn as_slice(&self) -> &[u16] {
        match &self.0 {
            Repr::Inline { count, slots } => &slots[..*count as usize],
            Repr::Heap(slots) => slots,
        }
    }

    /// How many slots the set holds.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether the set holds no slot.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slots in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u16> + '_ {
        self.as_slice().iter().copied()
    }

    /// Whether the set holds this slot.
    pub fn contains(&self, slot: u16) -> bool {
        match &self.0 {
            Repr::Inline { count, slots } => slots[..*count as usize].contains(&slot),
            Repr::Heap(slots) => slots.binary_search(&slot).is_ok(),
        }
    }

    /// Adds a slot; answers whether it is new.
    #[inline]
    pub fn insert(&mut self, slot: u16) -> bool {
        // Nearly every set has one slot, which is often added again.
        match &mut self.0 {
            Repr::Inline {
                count: count @ 0,
                slots,
            } => {
                *count = 1;
                slots[0] = slot;
                true
            }
            Repr::Inline { count: 1, slots } if slots[0] == slot => false,
            _ => self.insert_among(slot),
        }
    }

    fn insert_among(&mut self, slot: u16) -> bool {
        // Most sets are made in ascending order.
        let at = match self.as_slice().last() {
            Some(&last) if last >= slot => match self.as_slice().binary_search(&slot) {
                Ok(_) => return false,
                Err(at) => at,
            },
            _ => self.len(),
        };
        match &mut self.0 {
            Repr::Inline { count, slots } if (*count as usize) < INLINE_MAX => {
                slots.copy_within(at..*count as usize, at + 1);
                slots[at] = slot;
                *count += 1;
            }
            Repr::Inline { slots, .. } => {
                let mut heap = Vec::with_capacity(4 * INLINE_MAX);
                heap.extend_from_slice(slots);
                heap.insert(at, slot);
                self.0 = Repr::Heap(heap);
            }
            Repr::Heap(slots) => slots.insert(at, slot),
        }
        true
    }

    /// Adds all slots of another set; answers whether any was new.
    pub fn merge(&mut self, other: &SlotSet) -> bool {
        if other.len() <= INLINE_MAX {
            let before = self.len();
            other.iter().for_each(|slot| {
                self.insert(slot);
            });
            return self.len() > before;
        }
        let merged: SlotSet = self.iter().chain(other.iter()).collect();
        let grew = merged.len() > self.len();
        *self = merged;
        grew
    }

    /// Whether the two sets have a slot in common.
    pub fn intersects(&self, other: &SlotSet) -> bool {
        let (mut left, mut right) = (self.as_slice(), other.as_slice());
        while let ([l, left_rest @ ..], [r, right_rest @ ..]) = (left, right) {
            match l.cmp(r) {
                std::cmp::Ordering::Less => left = left_rest,
                std::cmp::Ordering::Greater => right = right_rest,
                std::cmp::Ordering::Equal => return true,
            }
        }
        false
    }
}

impl Default for SlotSet {
    fn default() -> Self {
        SlotSet::new()
    }
}

impl FromIterator<u16> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        slots.into_iter().collect::<SlotMarks>().into_set()
    }
}

impl From<&[u16]> for SlotSet {
    fn from(slots: &[u16]) -> Self {
        slots.iter().copied().collect()
    }
}

impl std::fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Slots that are noted one by one, as often and in whatever order they are met: constant time for each, however many.
#[derive(Clone, Debug)]
pub enum SlotMarks {
    /// At most [`LISTED_MAX`].
    Few(SlotSet),
    /// A bit for each slot.
    Many(Box<[u64; WORD_COUNT]>),
}

impl SlotMarks {
    /// No slot.
    pub const fn new() -> Self {
        SlotMarks::Few(SlotSet::new())
    }

    /// Notes a slot; answers whether it is new.
    #[inline]
    pub fn insert(&mut self, slot: u16) -> bool {
        match self {
            SlotMarks::Few(set) if set.len() < LISTED_MAX => set.insert(slot),
            _ => self.insert_among_many(slot),
        }
    }

    fn insert_among_many(&mut self, slot: u16) -> bool {
        if let SlotMarks::Few(set) = self {
            if set.contains(slot) {
                return false;
            }
            let mut words = Box::new([0; WORD_COUNT]);
            for slot in set.iter() {
                let (word, bit) = place_of(slot);
                words[word] |= bit;
            }
            *self = SlotMarks::Many(words);
        }
        let SlotMarks::Many(words) = self else {
            unreachable!("few have just been made many")
        };
        let (word, bit) = place_of(slot);
        let is_new = words[word] & bit == 0;
        words[word] |= bit;
        is_new
    }

    /// Whether the slot is noted.
    pub fn contains(&self, slot: u16) -> bool {
        match self {
            SlotMarks::Few(set) => set.contains(slot),
            SlotMarks::Many(words) => {
                let (word, bit) = place_of(slot);
                words[word] & bit != 0
            }
        }
    }

    /// Whether no slot is noted.
    pub fn is_empty(&self) -> bool {
        matches!(self, SlotMarks::Few(set) if set.is_empty())
    }

    /// Visits the slots in ascending order: as [`SlotMarks::iter`], and next to nothing for one slot.
    #[inline]
    pub fn for_each(&self, visit: impl FnMut(u16)) {
        match self {
            SlotMarks::Few(set) => set.as_slice().iter().copied().for_each(visit),
            SlotMarks::Many(_) => self.iter().for_each(visit),
        }
    }

    /// The slots in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let (few, many) = match self {
            SlotMarks::Few(set) => (set.as_slice(), &[][..]),
            SlotMarks::Many(words) => (&[][..], &words[..]),
        };
        few.iter()
            .copied()
            .chain(many.iter().enumerate().flat_map(|(index, &word)| {
                let mut left = word;
                std::iter::from_fn(move || {
                    let bit = left.trailing_zeros();
                    left &= left.wrapping_sub(1);
                    (bit < u64::BITS).then(|| (index as u32 * u64::BITS + bit) as u16)
                })
            }))
    }

    /// The slots as a set.
    pub fn into_set(self) -> SlotSet {
        match self {
            SlotMarks::Few(set) => set,
            SlotMarks::Many(ref words) => {
                let mut heap = Vec::with_capacity(words.iter().map(|word| word.count_ones() as usize).sum());
                heap.extend(self.iter());
                SlotSet(Repr::Heap(heap))
            }
        }
    }
}

/// The word of a slot's bit, and the bit.
fn place_of(slot: u16) -> (usize, u64) {
    let slot = usize::from(slot);
    (slot / u64::BITS as usize, 1 << (slot % u64::BITS as usize))
}

impl Default for SlotMarks {
    fn default() -> Self {
        SlotMarks::new()
    }
}

impl FromIterator<u16> for SlotMarks {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        let mut marks = SlotMarks::new();
        for slot in slots {
            marks.insert(slot);
        }
        marks
    }
}

/// What a unit of work touches, as far as it is known before it runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Footprint {
    /// The slots of its keys.
    Slots(SlotSet),
    /// Every slot of every shard.
    Everything,
}

impl Footprint {
    /// The footprint of one slot.
    pub const fn one(slot: u16) -> Self {
        Footprint::Slots(SlotSet::one(slot))
    }

    /// Whether the slot is part of it.
    pub fn contains(&self, slot: u16) -> bool {
        match self {
            Footprint::Slots(slots) => slots.contains(slot),
            Footprint::Everything => true,
        }
    }

    /// Whether two units with these footprints may touch the same slot. `Everything` meets even the empty set:
    /// whoever holds everything excludes all other work.
    pub fn conflicts(&self, other: &Footprint) -> bool {
        match (self, other) {
            (Footprint::Slots(one), Footprint::Slots(two)) => one.intersects(two),
            _ => true,
        }
    }

    /// Takes in what another footprint has; answers whether this one grew.
    pub fn merge(&mut self, other: &Footprint) -> bool {
        match (&mut *self, other) {
            (Footprint::Everything, _) => false,
            (Footprint::Slots(_), Footprint::Everything) => {
                *self = Footprint::Everything;
                true
            }
            (Footprint::Slots(mine), Footprint::Slots(more)) => mine.merge(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_as_an_ordered_set(
            first in prop::collection::vec(0u16..24, 0..12),
            second in prop::collection::vec(0u16..24, 0..12),
        ) {
            let (mut set, other): (SlotSet, SlotSet) =
                (first.iter().copied().collect(), second.iter().copied().collect());
            let (mut model, model_other): (BTreeSet<u16>, BTreeSet<u16>) =
                (first.iter().copied().collect(), second.iter().copied().collect());
            prop_assert_eq!(set.as_slice(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.intersects(&other), !model.is_disjoint(&model_other));
            for slot in 0..24 {
                prop_assert_eq!(set.contains(slot), model.contains(&slot));
            }
            let mut one_by_one = SlotSet::new();
            for &slot in &first {
                one_by_one.insert(slot);
            }
            prop_assert_eq!(&one_by_one, &set);
            let grew = set.merge(&other);
            let before = model.len();
            model.extend(&model_other);
            prop_assert_eq!(grew, model.len() > before);
            prop_assert_eq!(set.as_slice(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set, model.into_iter().collect::<SlotSet>());
        }
    }

    proptest! {
        #[test]
        fn marks_are_the_same_set_few_or_many(
            slots in prop::collection::vec(0u16..SLOT_COUNT as u16, 0..3 * LISTED_MAX),
            dense in prop::collection::vec(100u16..170, 0..200),
        ) {
            let mut marks = SlotMarks::new();
            let mut model = BTreeSet::new();
            for &slot in slots.iter().chain(&dense) {
                prop_assert_eq!(marks.insert(slot), model.insert(slot));
                prop_assert_eq!(marks.is_empty(), false);
            }
            prop_assert_eq!(matches!(marks, SlotMarks::Many(_)), model.len() > LISTED_MAX);
            prop_assert!(marks.iter().eq(model.iter().copied()));
            let mut visited = Vec::new();
            marks.for_each(|slot| visited.push(slot));
            prop_assert!(visited.iter().eq(model.iter()));
            let set = marks.into_set();
            prop_assert_eq!(set.as_slice(), model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn everything_conflicts_with_all_and_swallows_all() {
        let mut footprint = Footprint::one(3);
        assert!(!footprint.conflicts(&Footprint::one(4)));
        assert!(footprint.conflicts(&Footprint::Everything));
        assert!(footprint.merge(&Footprint::Everything));
        assert!(!footprint.merge(&Footprint::one(9)));
        assert!(footprint.contains(16383));
    }
}
