//! Active expiry: entries whose time is over go even if nobody asks for them.
//!
//! Each table knows a bound before which nothing expires, so a slot with nothing due costs one comparison. When the bound
//! has passed, a walk over the table finds the entries that have an expiry by a bit in the words of the pages, looks at
//! those only, deletes what is over and finds the next bound. The walk stops when its budget is spent and goes on at the
//! same hash the next time, whatever the table did in between; what is set behind its back is remembered by the table.

use super::slot::{DbIndex, Slot};
use crate::base::clock::UnixMs;

/// What `expire_step` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireStep {
    /// Entries that it looked at: what the budget is counted in.
    pub examined_count: usize,
    /// Entries that it deleted; their keys are in `take_expired`.
    pub expired_count: usize,
    /// The budget was spent before all was done: call again.
    pub is_unfinished: bool,
}

impl Slot {
    /// Deletes entries whose time is over, in all dbs, looking at about `budget` entries (a page more at most).
    pub fn expire_step(&mut self, now: UnixMs, budget: usize) -> ExpireStep {
        let mut step = ExpireStep::default();
        if self.next_expiry().is_none_or(|bound| now <= bound) {
            return step;
        }
        let due: Vec<DbIndex> = self
            .tables()
            .filter(|(_, table)| now.0 > table.expiry_walk.bound)
            .map(|(db, _)| db)
            .collect();
        for db in due {
            self.expire_walk(db, now, budget, &mut step);
            if step.is_unfinished {
                break;
            }
        }
        step
    }

    /// No key of this slot expires before this; None if none ever does.
    pub fn next_expiry(&self) -> Option<UnixMs> {
        let bounds = self.tables().filter(|(_, table)| table.volatile_count() > 0);
        bounds.map(|(_, table)| UnixMs(table.expiry_walk.bound)).min()
    }

    fn expire_walk(&mut self, db: DbIndex, now: UnixMs, budget: usize, step: &mut ExpireStep) {
        let mut over: Vec<Box<[u8]>> = Vec::new();
        loop {
            if step.examined_count >= budget {
                step.is_unfinished = true;
                return;
            }
            let table = self.table_mut(db);
            let mut walk = table.expiry_walk;
            if walk.position == 0 {
                walk.earliest_seen = u64::MAX;
            }
            let view = table.page_view(walk.position);
            for entry in view.flagged() {
                step.examined_count += 1;
                match entry.expiry() {
                    Some(expiry) if now > expiry => over.push(entry.key().into()),
                    Some(UnixMs(expiry)) => walk.earliest_seen = walk.earliest_seen.min(expiry),
                    None => {}
                }
            }
            walk.position = view.next_hash.unwrap_or(0);
            if walk.position == 0 {
                walk.bound = walk.earliest_seen;
            }
            table.expiry_walk = walk;
            step.expired_count += over.len();
            for key in over.drain(..) {
                let table = self.table(db);
                let spot = table.and_then(|table| table.find(self.seed.hash(&key), &key));
                self.expire(db, spot.expect("it was found a moment ago"), key);
            }
            // A walk that took several steps may have passed an entry which is over by now: then it begins again.
            if walk.position == 0 && now.0 <= walk.bound {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::access::Moment;
    use crate::store::{Expiry, HashSeed};

    const DB: DbIndex = DbIndex(0);

    fn filled(count: u32) -> Slot {
        let mut slot = Slot::new(0, HashSeed([1, 2]));
        for n in 0..count {
            let expiry = if n % 2 == 0 {
                Expiry::At(UnixMs(1000 + u64::from(n)))
            } else {
                Expiry::Clear
            };
            slot.set_int(DB, &n.to_be_bytes(), 0, expiry, Moment::lru(UnixMs(0)));
        }
        slot
    }

    #[test]
    fn nothing_is_looked_at_before_something_is_due() {
        let mut slot = filled(1000);
        assert_eq!(slot.next_expiry(), Some(UnixMs(1000)));
        assert_eq!(slot.expire_step(UnixMs(1000), 100), ExpireStep::default());
        let step = slot.expire_step(UnixMs(1001), 10_000);
        assert_eq!(
            step,
            ExpireStep {
                examined_count: 500,
                expired_count: 1,
                is_unfinished: false
            }
        );
        assert_eq!(slot.next_expiry(), Some(UnixMs(1002)), "the walk found the next bound");
        assert_eq!(
            filled(2).expire_step(UnixMs(u64::MAX), 10).examined_count,
            1,
            "the others are not looked at"
        );
    }

    #[test]
    fn a_budget_is_kept_and_the_walk_goes_on() {
        let mut slot = filled(20_000);
        let (mut steps, mut expired) = (0, 0);
        loop {
            let step = slot.expire_step(UnixMs(50_000), 200);
            assert!(step.examined_count < 200 + 141);
            steps += 1;
            expired += step.expired_count;
            if !step.is_unfinished {
                break;
            }
        }
        assert_eq!(
            (expired, slot.len(DB), slot.take_expired().len()),
            (10_000, 10_000, 10_000)
        );
        assert!(steps <= 51, "{steps}");
        assert_eq!(slot.next_expiry(), None);
        slot.check();
    }

    #[test]
    fn what_is_set_behind_the_walk_is_not_lost() {
        let mut slot = filled(20_000);
        assert!(slot.expire_step(UnixMs(1_001), 2000).is_unfinished);
        for n in 0..20_000u32 {
            slot.set_expiry(DB, &n.to_be_bytes(), Some(UnixMs(5_000 + u64::from(n))), UnixMs(1_001));
        }
        while slot.expire_step(UnixMs(4_000), 2000).is_unfinished {}
        assert_eq!(
            slot.next_expiry(),
            Some(UnixMs(5_001)),
            "key 0 went, the next one is known"
        );
    }
}
