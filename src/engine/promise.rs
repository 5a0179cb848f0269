//! What replies wait for under `appendfsync always` (rule 5 of [`turns`](crate::shard::turns)).
//!
//! A reply leaves the process when all that it shows would survive a crash of the machine: what its command wrote, what that had seen, and
//! what its connection had been shown before. Each unit of work finds out, as it ends, which log number that is ([`Need`]):
//!
//! * one that has written waits for the number of its pass, which is not known before the pass ends;
//! * one that has not waits for the last changes of the slots that it looked at: a reader of quiet slots waits for nothing;
//! * what may look at any slot (KEYS, SCAN, SORT BY), or asks shards, waits for all that is numbered.
//!
//! ```text
//!  unit ends --> need --> client (here: at once; elsewhere: with the reply) --> held at the end of the pass --> sent when durable
//!                  '--> slots that it has changed --> their numbers, when the pass has taken its own
//! ```
//!
//! Frames, slots and the loop wait for no disk. Only what is about to leave through a socket is looked at, once for each client and pass.
//!
//! Invariant: the slots that a pass has changed have their numbers before the pass lets them go.

use super::attempt::Consequences;
use crate::shard::durable::{Durable, Need};
use crate::shard::{ShardId, SlotMarks};

/// A shard's part of it.
#[derive(Default)]
pub struct Promises {
    /// Replies wait for the disk.
    holds: bool,
    /// The slots that this pass has changed.
    changed: SlotMarks,
    changed_all: bool,
    /// Something of this pass is logged, whatever slots it concerns.
    has_own: bool,
    /// Of the unit that has ended last.
    unit: Need,
}

impl Promises {
    /// Goes by what holds from now on. What this shard has changed before concerns every slot.
    #[inline]
    pub(super) fn follow(&mut self, durable: &Durable, shard: ShardId) {
        let holds = durable.holds();
        if holds != self.holds {
            self.holds = holds;
            durable.note_change_of_all(durable.last_number(shard));
        }
    }

    /// Whether replies wait for the disk.
    #[inline]
    pub fn hold(&self) -> bool {
        self.holds
    }

    /// A unit has ended with this.
    pub(super) fn end_unit(&mut self, consequences: Option<&Consequences>, durable: &Durable) {
        let Some(consequences) = consequences else {
            self.unit = Need::NONE;
            return;
        };
        if consequences.has_effects_for_file() {
            self.has_own = true;
            self.changed_all |= consequences.has_held_all;
            consequences.seen.for_each(|slot| {
                self.changed.insert(slot);
            });
            self.unit = Need::OWN;
        } else if consequences.has_seen_all {
            self.unit = self.of_everything(durable);
        } else {
            let mut need = Need::NONE;
            consequences.seen.for_each(|slot| {
                let is_own = self.changed_all || self.changed.contains(slot);
                need = need.and(if is_own {
                    Need::OWN
                } else {
                    Need::of(durable.number_of(slot))
                });
            });
            self.unit = need;
        }
    }

    /// What the unit that has ended last waits for.
    #[inline]
    pub(super) fn of_unit(&mut self) -> Need {
        std::mem::take(&mut self.unit)
    }

    /// That is what the last unit waits for: those that have ended since were only its consequences.
    pub(super) fn put_unit_back(&mut self, need: Need) {
        self.unit = need;
    }

    /// What waits for all that has been numbered, and for what this pass is about to number.
    pub(super) fn of_everything(&self, durable: &Durable) -> Need {
        match self.has_own {
            true => Need::OWN,
            false => Need::of(durable.last_of_all()),
        }
    }

    /// The pass has taken its number.
    pub(super) fn number(&mut self, number: u64, durable: &Durable) {
        if !std::mem::take(&mut self.has_own) {
            return;
        }
        if std::mem::take(&mut self.changed_all) {
            durable.note_change_of_all(number);
        }
        std::mem::take(&mut self.changed).for_each(|slot| durable.note_change(slot, number));
    }
}

#[cfg(test)]
mod tests;
