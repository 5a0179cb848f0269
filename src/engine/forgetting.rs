//! Forgetting who has read what: beyond the limit, and of clients that have gone.
//!
//! Where more keys are tracked than `tracking-table-max-keys` allows, keys that chance chooses are taken for changed: those who have read them are
//! told, and read them again when they need them. Redis counts keys only, so that many clients with many keys each grow it without bound; here
//! the clients of all keys together ([`ITEMS_OF_A_KEY`] for each key that is allowed) are limited as well. Each shard takes from its own slots,
//! a few in each pass, until the process is below the limit again.
//!
//! What a client has read that has gone is of no use to anybody. It is swept out of all slots: when clients have gone since the last sweep
//! began, each shard goes over its slots once more, some in each step.
//!
//! Invariants: (1) a slot that is on loan is left alone, and looked at later; (2) while nobody caches, a pass pays one look at a counter.

use super::ground::Ground;
use super::tracked::{Invalidated, place_of};
use crate::base::clock::{Ms, UnixMs};
use crate::base::slot::SLOT_COUNT;
use crate::config::Settings;
use crate::shard::ConnRef;
use crate::store::Attention;

/// How many clients there may be for each key that may be tracked. An item takes a tenth of what a key does.
const ITEMS_OF_A_KEY: u64 = 10;
/// Keys that are forgotten in one pass: Redis's effort.
const KEYS_AT_ONCE: usize = 100;
/// Slots that are swept in one pass.
const SLOTS_AT_ONCE: usize = 512;
/// How often slots are looked at for keys to forget, and a sweep begins.
const LOOK_EVERY: Ms = Ms(100);

/// How far it has got.
#[derive(Default)]
pub struct Forgetting {
    /// Slots that had tracked keys when they were looked at last.
    candidates: Vec<u16>,
    looked_at: UnixMs,
    /// How many clients had gone when it was looked last, and how many sweeps are to follow from that.
    gone: u64,
    sweeps_due: usize,
    /// Slots that are still to be swept, and those among them that were on loan.
    unswept: Vec<u16>,
    on_loan: Vec<u16>,
    swept_at: UnixMs,
}

/// How often is swept when a client has gone: what it had under way then may still run.
const SWEEPS: usize = 2;

/// Whether more is tracked than may be.
fn is_over_limit(attention: &Attention, settings: &Settings) -> bool {
    let keys_max = settings.tracking_table_max_keys;
    let is_over = |count: usize, max: u64| count as u64 > max;
    keys_max > 0
        && (is_over(attention.tracked_keys(), keys_max)
            || is_over(attention.tracked_items(), keys_max.saturating_mul(ITEMS_OF_A_KEY)))
}

impl Forgetting {
    /// To be called in each pass. True: there is more to do at once.
    #[inline]
    pub(super) fn step(&mut self, on: &mut Ground<'_>) -> bool {
        on.node.attention.tracked_keys() > 0 && self.step_in_full(on)
    }

    #[cold]
    fn step_in_full(&mut self, on: &mut Ground<'_>) -> bool {
        self.sweep(on);
        if is_over_limit(&on.node.attention, &on.env.settings) {
            self.forget_some(on);
        }
        !self.unswept.is_empty()
    }

    /// Has keys forgotten that chance chooses.
    fn forget_some(&mut self, on: &mut Ground<'_>) {
        let nobody = ConnRef::background(on.env.shard);
        for _ in 0..KEYS_AT_ONCE {
            if !is_over_limit(&on.node.attention, &on.env.settings) {
                return;
            }
            if self.candidates.is_empty() && !self.find_candidates(on) {
                return;
            }
            let at = on.env.random.below(self.candidates.len());
            let chosen = self.candidates[at];
            let random = on.env.random.next_u64();
            let view = on.core.try_view(&[chosen], nobody);
            let found = view.and_then(|mut view| view.slot(chosen)?.take_any_tracked(random));
            let Some((key, trackers)) = found else {
                self.candidates.swap_remove(at);
                continue;
            };
            on.env.invalidate(Invalidated::Key {
                key: key.into_vec().into(),
                trackers,
                is_over: true,
                is_broadcast: false,
            });
        }
    }

    /// Looks which slots have tracked keys, if it was not done just now.
    fn find_candidates(&mut self, on: &Ground<'_>) -> bool {
        if self.looked_at != UnixMs::EPOCH && on.env.now.since(self.looked_at) < LOOK_EVERY {
            return false;
        }
        self.looked_at = on.env.now;
        let slots = on.core.places().into_iter().flat_map(|places| places.iter());
        let tracked = slots.filter(|(_, slot)| slot.tracked_count() > 0);
        self.candidates.extend(tracked.map(|(index, _)| index));
        !self.candidates.is_empty()
    }

    /// Sweeps some slots, if clients have gone.
    fn sweep(&mut self, on: &mut Ground<'_>) {
        let gone = on.node.hearers.gone_count();
        if gone != self.gone {
            (self.gone, self.sweeps_due) = (gone, SWEEPS);
        }
        if self.unswept.is_empty() && !self.begin_round(on) {
            return;
        }
        let nobody = ConnRef::background(on.env.shard);
        let directory = &on.node.hearers.directory;
        let next = self.unswept.split_off(self.unswept.len().saturating_sub(SLOTS_AT_ONCE));
        for index in next {
            // One that has moved away is its new home's.
            if on.core.owner(index) != on.env.shard {
                continue;
            }
            match on.core.try_view(&[index], nobody) {
                None => self.on_loan.push(index),
                Some(mut view) => {
                    if let Some(slot) = view.slot(index).filter(|slot| slot.tracked_count() > 0) {
                        slot.retain_trackers(|tracker| directory.caches(place_of(tracker)));
                    }
                }
            }
        }
    }

    /// Begins a sweep that is due, or looks again at what was on loan, if it was not done just now.
    fn begin_round(&mut self, on: &Ground<'_>) -> bool {
        let is_due = self.sweeps_due > 0 || !self.on_loan.is_empty();
        if !is_due || on.env.now.since(self.swept_at) < LOOK_EVERY {
            return false;
        }
        self.swept_at = on.env.now;
        self.unswept = std::mem::take(&mut self.on_loan);
        if self.unswept.is_empty() {
            self.sweeps_due -= 1;
            let all = 0..SLOT_COUNT as u16;
            self.unswept = all.filter(|slot| on.core.owner(*slot) == on.env.shard).collect();
        }
        true
    }
}
