//! The array of places of one shard, and what is handed over when a slot, or all of them, go on loan.
//!
//! A place has the content of a slot that is here, or is empty: the content is on loan, or on the shard that owns the slot. Which of
//! the two is not written here. *Which* shard owns a slot is in the shard's own map of owners: the whole array leaves the shard
//! when a unit of work borrows everything, and routing must go on meanwhile. And to whom a slot is lent is in the home's list of
//! loans, which is short. So a place is one word; and an array has places from the first slot of its shard to the last one only,
//! since the shares of the shards are contiguous: all shards together have one array's worth.
//!
//! Invariants: (1) a slot's content exists in exactly one place array or one [`Loan`] of the whole process;
//! (2) a place of a slot that the shard owns is empty exactly as long as the loan is out; (3) an array that travels
//! as a whole has no place that is lent.

use super::{Footprint, SlotSet, Ticket};

/// The places of one shard, one for each of its slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Places<S> {
    /// The slot of the first place.
    first: u16,
    contents: Box<[Option<Box<S>>]>,
}

impl<S> Places<S> {
    /// `content` makes the content of each slot that is at home here, and answers `None` for the others.
    pub(super) fn new(slot_count: u16, mut content: impl FnMut(u16) -> Option<Box<S>>) -> Self {
        let mut first = 0;
        let mut contents: Vec<Option<Box<S>>> = Vec::new();
        for slot in 0..slot_count {
            let Some(content) = content(slot) else { continue };
            if contents.is_empty() {
                first = slot;
            }
            contents.resize_with(usize::from(slot - first), || None);
            contents.push(Some(content));
        }
        Places {
            first,
            contents: contents.into_boxed_slice(),
        }
    }

    /// Where the slot's place is; beyond the end if it has none.
    #[inline]
    fn at(&self, slot: u16) -> usize {
        usize::from(slot.wrapping_sub(self.first))
    }

    /// The content of the slot if it is at home and not lent.
    #[inline]
    pub fn home(&self, slot: u16) -> Option<&S> {
        self.contents.get(self.at(slot))?.as_deref()
    }

    /// The content of the slot if it is at home and not lent.
    #[inline]
    pub fn home_mut(&mut self, slot: u16) -> Option<&mut S> {
        let at = self.at(slot);
        self.contents.get_mut(at)?.as_deref_mut()
    }

    /// All slots that are at home and not lent, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &S)> {
        let places = (self.first..).zip(&self.contents);
        places.filter_map(|(slot, content)| Some((slot, content.as_deref()?)))
    }

    /// All slots that are at home and not lent, in ascending order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u16, &mut S)> {
        let places = (self.first..).zip(&mut self.contents);
        places.filter_map(|(slot, content)| Some((slot, content.as_deref_mut()?)))
    }

    /// Whether every slot of the set is at home and not lent.
    #[inline]
    pub(super) fn all_home(&self, slots: &[u16]) -> bool {
        slots.iter().all(|&slot| self.home(slot).is_some())
    }

    /// Takes these slots out of their places for `ticket`.
    pub(super) fn lend(&mut self, slots: &SlotSet, ticket: Ticket) -> Vec<(u16, Box<S>)> {
        let take = |slot: u16| {
            let at = self.at(slot);
            let content = self.contents.get_mut(at).and_then(Option::take);
            let content =
                content.unwrap_or_else(|| panic!("slot {slot} is not in its place and cannot go to {ticket:?}"));
            (slot, content)
        };
        slots.iter().map(take).collect()
    }

    /// Puts a slot back that was on loan.
    pub(super) fn put_back(&mut self, slot: u16, content: Box<S>) {
        let at = self.at(slot);
        let place = &mut self.contents[at];
        assert!(place.is_none(), "slot {slot} came back a second time");
        *place = Some(content);
    }
}

/// What moves from a home to the unit of work that borrows, and back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Loan<S> {
    /// Some slots, in ascending order.
    Slots(Vec<(u16, Box<S>)>),
    /// All places of the home in one piece: what a unit of work borrows that wants everything.
    Whole(Box<Places<S>>),
}

impl<S> Loan<S> {
    pub(super) fn get(&self, slot: u16) -> Option<&S> {
        match self {
            Loan::Slots(slots) => slots
                .binary_search_by_key(&slot, |entry| entry.0)
                .ok()
                .map(|at| &*slots[at].1),
            Loan::Whole(places) => places.home(slot),
        }
    }

    pub(super) fn get_mut(&mut self, slot: u16) -> Option<&mut S> {
        match self {
            Loan::Slots(slots) => slots
                .binary_search_by_key(&slot, |entry| entry.0)
                .ok()
                .map(|at| &mut *slots[at].1),
            Loan::Whole(places) => places.home_mut(slot),
        }
    }

    pub(super) fn contains(&self, slot: u16) -> bool {
        self.get(slot).is_some()
    }

    /// The content on loan, in the order of the slots.
    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = (u16, &S)> + '_> {
        match self {
            Loan::Slots(slots) => Box::new(slots.iter().map(|(slot, content)| (*slot, &**content))),
            Loan::Whole(places) => Box::new(places.iter()),
        }
    }

    /// The slots on loan, in ascending order.
    pub fn slots(&self) -> Box<dyn Iterator<Item = u16> + '_> {
        match self {
            Loan::Slots(slots) => Box::new(slots.iter().map(|entry| entry.0)),
            Loan::Whole(places) => Box::new(places.iter().map(|(slot, _)| slot)),
        }
    }

    /// Whether this is exactly what was asked for.
    pub(super) fn answers(&self, want: &Footprint) -> bool {
        match (self, want) {
            (Loan::Slots(slots), Footprint::Slots(want)) => slots.iter().map(|entry| entry.0).eq(want.iter()),
            (Loan::Whole(_), Footprint::Everything) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_places_for_its_own_slots_only() {
        let mut places = Places::new(16384, |slot| (4096..8192).contains(&slot).then(|| Box::new(slot)));
        assert_eq!(size_of_val(&*places.contents), 4096 * size_of::<usize>());
        for slot in 0..16384 {
            let expected = (4096..8192).contains(&slot).then_some(slot);
            assert_eq!(places.home(slot).copied(), expected);
            assert_eq!(places.home_mut(slot).copied(), expected);
        }
        assert!(places.iter().map(|(slot, _)| slot).eq(4096..8192));
        assert!(places.all_home(&[4096, 8191]) && !places.all_home(&[8191, 8192]));
        let lent: SlotSet = [5000, 8191].into_iter().collect();
        let content = places.lend(&lent, Ticket(1));
        assert_eq!(
            (places.home(5000), places.home(8191), places.home(5001)),
            (None, None, Some(&5001))
        );
        assert_eq!(places.iter_mut().count(), 4094);
        content
            .into_iter()
            .for_each(|(slot, content)| places.put_back(slot, content));
        assert!(places.iter().all(|(slot, content)| slot == *content) && places.iter().count() == 4096);
        assert_eq!(
            Places::<u16>::new(16384, |_| None).home(0),
            None,
            "a shard may have none"
        );
    }

    #[test]
    fn a_loan_answers_what_was_asked_for_and_nothing_else() {
        let slots = |slots: &[u16]| Loan::Slots(slots.iter().map(|slot| (*slot, Box::new(*slot))).collect());
        let want = |slots: &[u16]| Footprint::Slots(slots.into());
        let whole = Loan::Whole(Box::new(Places::new(4, |slot| Some(Box::new(slot)))));
        assert!(slots(&[1, 3]).answers(&want(&[1, 3])));
        for other in [&[1][..], &[1, 2], &[1, 2, 3]] {
            assert!(!slots(&[1, 3]).answers(&want(other)), "{other:?}");
        }
        assert!(whole.answers(&Footprint::Everything));
        assert!(!whole.answers(&want(&[0, 1, 2, 3])));
        assert!(!slots(&[0, 1, 2, 3]).answers(&Footprint::Everything));
    }
}
