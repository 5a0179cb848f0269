//! Active expiry: keys whose time is over go, though nobody looks at them.
//!
//! Active expiry has no list of keys to watch. Each slot knows a time before which none of its keys expires, so what
//! is due is found by a look at each slot (a *scan*), and the earliest of these times says when the next scan is due at
//! the latest. A key may get an expiry at any moment, without this file being told; so a shard whose keys change scans
//! from time to time in any case. A scan touches a line of memory for each slot and is therefore timed: the next one
//! comes after a hundred times as long, which keeps scans below one per cent of a core. A shard whose keys did not
//! change has nothing to find but what slots bring home that were lent, and scans once a second.
//!
//! Invariants:
//! 1. a slot that is on loan is left alone: whoever has it sees what is expired; it is come back to as soon as something has happened on the
//!    shard, and so is a scan that met a keyspace which was lent as a whole. Else commands over everything, one behind the other, would keep
//!    expiry from its slots for good;
//! 2. a step takes one slot's page beyond its time at most, but for the scan itself.

use super::attempt::Attempt;
use super::env::{Ended, Observation};
use super::ground::Ground;
use super::serve::end_unit;
use crate::base::clock::{Ms, Ticks, UnixMs};
use crate::shard::ConnRef;
use crate::store::DbIndex;

/// Elements freed, and entries looked at by expiry, between two looks at the clock.
const ENTRIES_BETWEEN_CLOCKS: usize = 256;
/// A scan of all slots takes at most one part in this many of the time.
const SCAN_PART: u64 = 100;
/// The time between two scans when nothing tells that one is needed.
const SCAN_EVERY: Ms = Ms(1000);
/// Each round counts that much in the moving average of `expired_stale_perc`, as in Redis.
const STALE_WEIGHT: f64 = 0.05;

/// Whether a slot has more that is due.
#[derive(PartialEq, Eq)]
struct Unfinished(bool);

/// How far active expiry has got.
#[derive(Default)]
pub struct Expiry {
    /// Slots with something due, in the order in which they are worked on from the end.
    due: Vec<u16>,
    /// Those of them that were on loan when it was their turn.
    lent: Vec<u16>,
    /// The keyspace was on loan as a whole when a scan was due, and when that was looked at last.
    is_scan_owed: bool,
    is_scan_stuck: bool,
    /// The earliest time at which a key expires in a slot that is not due.
    next_due: Option<UnixMs>,
    scanned_at: UnixMs,
    /// How long the last scan took.
    scan_cost: Ms,
    /// The changes to the keyspace that the last scan knew.
    changes_seen: u64,
    /// What is left of this round's time, in nanoseconds.
    budget_ns: u64,
    /// Of this round: entries looked at, entries deleted, time taken.
    examined: usize,
    expired: usize,
    spent_ns: u64,
}

impl Expiry {
    /// Whether a step may find something to do.
    pub(super) fn has_work(&self) -> bool {
        !self.due.is_empty() || self.is_scan_owed && !self.is_scan_stuck
    }

    /// Something has happened: slots may be back.
    pub(super) fn look_again(&mut self) {
        self.due.append(&mut self.lent);
        self.is_scan_stuck = false;
    }

    /// Looks for slots in which something is due, if it is time for that.
    pub(super) fn find_due_slots(&mut self, on: &mut Ground<'_>) {
        let now = on.env.now;
        let changes = on.env.stats.counts.changes;
        let expiry = self;
        if !on.env.may_expire_actively() || !expiry.due.is_empty() || !expiry.lent.is_empty() {
            return;
        }
        let pause = if changes == expiry.changes_seen {
            SCAN_EVERY
        } else {
            Ms(expiry.scan_cost.0 * SCAN_PART).min(SCAN_EVERY)
        };
        let is_due = expiry.next_due.is_some_and(|due| due < now);
        if !is_due && now.since(expiry.scanned_at) < pause {
            return;
        }
        let places = on.core.places();
        expiry.is_scan_owed = places.is_none();
        expiry.is_scan_stuck = expiry.is_scan_owed;
        let Some(places) = places else { return };
        let began = on.env.clock.ticks();
        let mut next_due: Option<UnixMs> = None;
        for (index, slot) in places.iter() {
            match slot.next_expiry() {
                Some(bound) if bound < now => expiry.due.push(index),
                Some(bound) => next_due = Some(next_due.map_or(bound, |earlier| earlier.min(bound))),
                None => {}
            }
        }
        expiry.next_due = next_due;
        expiry.scanned_at = now;
        expiry.changes_seen = changes;
        expiry.scan_cost = Ms(on.env.clock.ticks().ns_since(began).div_ceil(1_000_000));
    }

    /// Deletes expired keys of the slots that are due, until `deadline`. True: there is more to do at once.
    pub(super) fn expire_some(&mut self, on: &mut Ground<'_>, began: Ticks, deadline: Ticks) -> bool {
        if !on.env.may_expire_actively() {
            // What is due is found again when keys may go again.
            self.due.clear();
            self.lent.clear();
            self.is_scan_owed = false;
            return false;
        }
        if self.is_scan_owed {
            self.find_due_slots(on);
        }
        let now = on.env.now;
        let deadline = deadline.min(Ticks(began.0.saturating_add(self.budget_ns)));
        let mut clock = began;
        while clock < deadline
            && let Some(&index) = self.due.last()
        {
            let step = self.expire_in(on, index, now);
            if step != Some(Unfinished(true)) {
                self.due.pop();
            }
            if step.is_none() {
                self.lent.push(index);
            }
            clock = on.env.clock.ticks();
        }
        let expiry = self;
        let spent_ns = clock.ns_since(began);
        expiry.spent_ns += spent_ns;
        expiry.budget_ns = expiry.budget_ns.saturating_sub(spent_ns);
        !expiry.due.is_empty() && expiry.budget_ns > 0
    }

    /// One step in one slot; None: it is on loan.
    fn expire_in(&mut self, on: &mut Ground<'_>, index: u16, now: UnixMs) -> Option<Unfinished> {
        let nobody = ConnRef::background(on.env.shard);
        let mut view = on.core.try_view(&[index], nobody)?;
        let env = &mut *on.env;
        let mut attempt = Attempt::default();
        env.arm(&mut attempt);
        let slot = attempt.held(&mut view, index).expect("the view was given this slot");
        let step = slot.expire_step(now, ENTRIES_BETWEEN_CLOCKS);
        let expired = attempt.collect(&mut view, |detached| env.garbage.absorb(detached));
        expired.count(&mut env.stats);
        let ended = Ended {
            origin: nobody,
            command: 0,
            db: DbIndex(0),
            what: Observation::Expired,
        };
        end_unit(env, &mut attempt, &mut view, ended);
        let expiry = self;
        expiry.examined += step.examined_count;
        expiry.expired += step.expired_count;
        Some(Unfinished(step.is_unfinished))
    }

    /// Counts what expiry has done since the last round, and gives it time for the next one.
    pub(super) fn end_round(&mut self, on: &mut Ground<'_>, period: Ms) {
        let expiry = self;
        let stats = &mut on.env.stats;
        let stale_percent = if expiry.examined > 0 {
            100.0 * expiry.expired as f64 / expiry.examined as f64
        } else {
            0.0
        };
        stats.expired_stale_percent = stale_percent * STALE_WEIGHT + stats.expired_stale_percent * (1.0 - STALE_WEIGHT);
        stats.counts.active_expire_us += expiry.spent_ns / 1000;
        stats
            .latency
            .note("expire-cycle", expiry.spent_ns / 1_000_000, on.env.now);
        if !expiry.due.is_empty() && expiry.budget_ns == 0 {
            stats.counts.expire_time_cap_reached += 1;
        }
        let effort = u64::from(on.env.settings.active_expire_effort.clamp(1, 10)) - 1;
        // Redis's share of the time: a quarter, and two per cent more for each step of effort.
        expiry.budget_ns = period.0.max(1) * 1_000_000 * (25 + 2 * effort) / 100;
        (expiry.examined, expiry.expired, expiry.spent_ns) = (0, 0, 0);
    }
}
