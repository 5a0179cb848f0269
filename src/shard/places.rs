//! The array of places of one shard, and what is handed over when a slot, or all of them, go on loan.
//!
//! A place says where the content of a slot is: here ([`Place::Home`]), on loan to a unit of work
//! ([`Place::Lent`]), or on the shard that owns it ([`Place::Elsewhere`]). *Which* shard owns a slot is not
//! written here but in the shard's own map of owners: the whole array leaves the shard when a unit of work
//! borrows everything, and routing must go on meanwhile.
//!
//! Invariants: (1) a slot's content exists in exactly one place array or one [`Loan`] of the whole process;
//! (2) a place is `Lent(ticket)` exactly as long as the loan of that ticket is out; (3) an array that travels
//! as a whole has no place that is lent.

use super::{Footprint, SlotSet, Ticket};

/// Where the content of one slot is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place<S> {
    Home(Box<S>),
    /// Out with the unit of work of this ticket.
    Lent(Ticket),
    Elsewhere,
}

/// The places of one shard, one for each slot of the node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Places<S>(Box<[Place<S>]>);

impl<S> Places<S> {
    /// `content` makes the content of each slot that is at home here, and answers `None` for the others.
    pub(super) fn new(slot_count: u16, mut content: impl FnMut(u16) -> Option<Box<S>>) -> Self {
        Places(
            (0..slot_count)
                .map(|slot| content(slot).map_or(Place::Elsewhere, Place::Home))
                .collect(),
        )
    }

    /// The content of the slot if it is at home and not lent.
    #[inline]
    pub fn home(&self, slot: u16) -> Option<&S> {
        match self.0.get(slot as usize) {
            Some(Place::Home(content)) => Some(content),
            _ => None,
        }
    }

    /// The content of the slot if it is at home and not lent.
    #[inline]
    pub fn home_mut(&mut self, slot: u16) -> Option<&mut S> {
        match self.0.get_mut(slot as usize) {
            Some(Place::Home(content)) => Some(content),
            _ => None,
        }
    }

    /// All slots that are at home and not lent, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &S)> {
        self.0.iter().enumerate().filter_map(|(slot, place)| match place {
            Place::Home(content) => Some((slot as u16, &**content)),
            _ => None,
        })
    }

    /// All slots that are at home and not lent, in ascending order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u16, &mut S)> {
        self.0.iter_mut().enumerate().filter_map(|(slot, place)| match place {
            Place::Home(content) => Some((slot as u16, &mut **content)),
            _ => None,
        })
    }

    /// To whom the slot is lent, if it is.
    pub(super) fn lent_to(&self, slot: u16) -> Option<Ticket> {
        match self.0[slot as usize] {
            Place::Lent(ticket) => Some(ticket),
            _ => None,
        }
    }

    /// Whether every slot of the set is at home and not lent.
    #[inline]
    pub(super) fn all_home(&self, slots: &[u16]) -> bool {
        slots
            .iter()
            .all(|&slot| matches!(self.0.get(slot as usize), Some(Place::Home(_))))
    }

    /// Takes these slots out of their places, which become lent to `ticket`.
    pub(super) fn lend(&mut self, slots: &SlotSet, ticket: Ticket) -> Vec<(u16, Box<S>)> {
        let take = |slot: u16| match std::mem::replace(&mut self.0[slot as usize], Place::Lent(ticket)) {
            Place::Home(content) => (slot, content),
            Place::Lent(other) => {
                panic!("slot {slot} is lent to {other:?} already and cannot go to {ticket:?}")
            }
            Place::Elsewhere => {
                panic!("slot {slot} is not at home here and cannot go to {ticket:?}")
            }
        };
        slots.iter().map(take).collect()
    }

    /// Puts a slot back that `ticket` had on loan.
    pub(super) fn put_back(&mut self, slot: u16, content: Box<S>, ticket: Ticket) {
        let place = &mut self.0[slot as usize];
        let lent_to = match place {
            Place::Lent(to) => Some(*to),
            _ => None,
        };
        assert_eq!(
            lent_to,
            Some(ticket),
            "slot {slot} came back from {ticket:?}, to which it was not lent"
        );
        *place = Place::Home(content);
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

    pub(super) fn iter_mut(&mut self) -> Box<dyn Iterator<Item = (u16, &mut S)> + '_> {
        match self {
            Loan::Slots(slots) => Box::new(slots.iter_mut().map(|(slot, content)| (*slot, &mut **content))),
            Loan::Whole(places) => Box::new(places.iter_mut()),
        }
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
