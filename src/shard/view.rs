//! All that a running unit of work may touch: the slots it has.
//!
//! There are two cases, and a unit of work does not see the difference. Where all its slots are at home, the view
//! is the shard's own array of places: a look-up in it, nothing is moved. Where slots are on loan, they are found
//! among the loans the unit holds. In both cases a slot beyond the footprint is lent a hand if it happens to be
//! at home here: nobody else can touch it while the unit runs, so there is no need to lack it. Such slots are
//! noted, because a unit that then holds must keep them as well.
//!
//! Invariant: a view never shows a slot that another unit of work holds (it would have to hold the Box).

use super::gather::Part;
use super::{Footprint, Loan, Places, ShardId, SlotSet};
use std::cell::RefCell;

/// The slots that a unit of work can touch while it runs.
pub struct View<'a, S> {
    pub(super) shard: ShardId,
    pub(super) owners: &'a [ShardId],
    /// The places of the shard on which it runs; `None` while they are lent as a whole.
    pub(super) places: Option<&'a mut Places<S>>,
    /// What the unit holds on loan.
    pub(super) parts: &'a mut [Part<S>],
    /// Where to note slots that are touched beyond the footprint.
    pub(super) extras: Option<Extras<'a>>,
}

pub(super) struct Extras<'a> {
    pub(super) footprint: &'a Footprint,
    pub(super) touched: &'a RefCell<SlotSet>,
}

impl<S> View<'_, S> {
    /// The content of a slot, to change; `None`: the unit lacks it.
    #[inline]
    pub fn slot(&mut self, slot: u16) -> Option<&mut S> {
        if !self.parts.is_empty()
            && let Some(at) = self.part_with(slot)
        {
            return self.parts[at].loan.as_mut()?.get_mut(slot);
        }
        let content = self.places.as_deref_mut()?.home_mut(slot)?;
        if let Some(extras) = &self.extras {
            extras.note(slot);
        }
        Some(content)
    }

    /// The content of a slot, to read; `None`: the unit lacks it. Several can be read side by side.
    #[inline]
    pub fn peek(&self, slot: u16) -> Option<&S> {
        if !self.parts.is_empty()
            && let Some(at) = self.part_with(slot)
        {
            return self.parts[at].loan.as_ref()?.get(slot);
        }
        let content = self.places.as_deref()?.home(slot)?;
        if let Some(extras) = &self.extras {
            extras.note(slot);
        }
        Some(content)
    }

    /// All slots of all shards in ascending order, if the unit has everything on loan.
    pub fn all_slots(&mut self) -> Option<impl Iterator<Item = (u16, &mut S)>> {
        self.has_everything().then(|| {
            self.parts.iter_mut().flat_map(|part| match &mut part.loan {
                Some(Loan::Whole(places)) => places.iter_mut(),
                _ => unreachable!("who has everything holds whole arrays"),
            })
        })
    }

    /// Whether the unit has everything on loan.
    pub fn has_everything(&self) -> bool {
        self.parts
            .first()
            .is_some_and(|part| matches!(part.loan, Some(Loan::Whole(_))))
    }

    /// Whether the unit has slots of other shards, or has all of its own shard at once.
    pub fn has_loans(&self) -> bool {
        !self.parts.is_empty()
    }

    /// The home of a slot.
    pub fn owner(&self, slot: u16) -> ShardId {
        self.owners[slot as usize]
    }

    /// The shard on which the unit runs.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The part that has this slot on loan. Parts stand in the order of their homes.
    fn part_with(&self, slot: u16) -> Option<usize> {
        let home = *self.owners.get(slot as usize)?;
        let at = self.parts.binary_search_by_key(&home, |part| part.home).ok()?;
        self.parts[at].loan.as_ref()?.contains(slot).then_some(at)
    }
}

impl Extras<'_> {
    fn note(&self, slot: u16) {
        if !self.footprint.contains(slot) {
            self.touched.borrow_mut().insert(slot);
        }
    }
}
