//! Active expiry: entries whose time is over go even if nobody asks for them.
//!
//! Each table knows a bound before which nothing expires, so a slot with nothing due costs one comparison. When the bound
//! has passed, a walk over the table finds the entries that have an expiry by a bit in the words of the pages, looks at
//! those only, deletes what is over and finds the next bound. The walk stops when its budget is spent and goes on at the
//! same hash the next time, whatever the table did in between; what is set behind its back is remembered by the table.
//!
//! Fields of hashes expire in the same walk: an entry whose hash has fields with an expiry carries the bit as well, and the
//! table's bound is before theirs. The walk takes the fields that are over out of the hash, as many as its budget
//! allows, and stays on that page until the hash has no more. Until then nobody sees such a field, since whoever looks at
//! a hash says what time it is; only the active expiry takes it out, so that its end is logged once.

use super::slot::{DbIndex, Slot};
use super::told::Happening;
use crate::base::clock::UnixMs;

/// What `expire_step` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireStep {
    /// Entries and fields that it looked at: what the budget is counted in.
    pub examined_count: usize,
    /// Entries and fields that it deleted; they are in `take_told`.
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
            .filter(|(_, table)| now.0 > table.expiry_walk().bound)
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

    /// No key of this slot and no field of a hash in it expires before this; None if none ever does.
    pub fn next_expiry(&self) -> Option<UnixMs> {
        let bounds = self.tables().filter(|(_, table)| table.has_volatile());
        bounds.map(|(_, table)| UnixMs(table.expiry_walk().bound)).min()
    }

    fn expire_walk(&mut self, db: DbIndex, now: UnixMs, budget: usize, step: &mut ExpireStep) {
        let mut over: Vec<Box<[u8]>> = Vec::new();
        let mut hashes: Vec<Box<[u8]>> = Vec::new();
        loop {
            if step.examined_count >= budget {
                step.is_unfinished = true;
                return;
            }
            let table = self.table_mut(db);
            let mut walk = table.expiry_walk();
            if walk.position == 0 {
                walk.earliest_seen = u64::MAX;
            }
            let view = table.page_view(walk.position);
            for entry in view.flagged() {
                step.examined_count += 1;
                match entry.expiry() {
                    Some(expiry) if now > expiry => {
                        over.push(entry.key().into());
                        continue;
                    }
                    Some(UnixMs(expiry)) => walk.earliest_seen = walk.earliest_seen.min(expiry),
                    None => {}
                }
                match entry.field_expiry() {
                    Some(expiry) if now > expiry => hashes.push(entry.key().into()),
                    Some(UnixMs(expiry)) => walk.earliest_seen = walk.earliest_seen.min(expiry),
                    None => {}
                }
            }
            let (position, bound) = (walk.position, walk.bound);
            walk.position = view.next_hash.unwrap_or(0);
            if walk.position == 0 {
                walk.bound = walk.earliest_seen;
            }
            table.set_expiry_walk(walk);
            step.expired_count += over.len();
            for key in over.drain(..) {
                let table = self.table(db);
                let spot = table.and_then(|table| table.find(self.common.seed.hash(&key), &key));
                self.expire(db, spot.expect("it was found a moment ago"), key);
            }
            for key in hashes.drain(..) {
                if !self.expire_fields(db, key, now, budget, step) {
                    // There is such a hash, hence the table: the walk goes on at this page, as if it had not been there.
                    let table = self.table_mut(db);
                    let mut walk = table.expiry_walk();
                    walk.position = position;
                    walk.bound = walk.bound.min(bound);
                    table.set_expiry_walk(walk);
                    step.is_unfinished = true;
                    return;
                }
            }
            // The bound has passed as long as the walk is under way, and is none when nothing expires any more. A walk that took
            // several steps may have passed an entry which is over by now: then it begins again.
            if self.table(db).is_none_or(|table| now.0 <= table.expiry_walk().bound) {
                return;
            }
        }
    }

    /// Takes out fields of a hash whose time is over; false if the budget ended before they did.
    fn expire_fields(
        &mut self,
        db: DbIndex,
        key: Box<[u8]>,
        now: UnixMs,
        budget: usize,
        step: &mut ExpireStep,
    ) -> bool {
        let left = budget.saturating_sub(step.examined_count);
        if left == 0 && step.expired_count > 0 {
            return false;
        }
        // A step that has done nothing so far does something: looking at the page must not use its budget up each time.
        let left = left.max(1);
        let (seed, hash) = (self.common.seed, self.common.seed.hash(&key));
        let spot = self.table(db).and_then(|table| table.find(hash, &key));
        let spot = spot.expect("it was found a moment ago");
        self.keep_for_undo(db, hash, &key);
        let (fields, is_finished, is_void) = self.table_mut(db).edit(spot, |entry| {
            entry.edit_object(|object| {
                let fields = object.expire_fields(now, left, seed);
                let is_finished = object.as_ref().next_expiry().is_none_or(|bound| now <= bound);
                (fields, is_finished, object.is_void())
            })
        });
        step.examined_count += if is_finished { fields.len() } else { left };
        step.expired_count += fields.len();
        self.count_frozen(db, &key);
        if is_void {
            self.drop_void(db, spot);
        } else if !fields.is_empty() {
            self.touch_watches(db, &key);
        }
        if !fields.is_empty() {
            self.note(db, key.clone(), Happening::FieldsExpired(fields));
        }
        if is_void {
            self.tell(db, &key, Happening::Emptied);
        }
        is_finished
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
            (expired, slot.len(DB), slot.take_told().len()),
            (10_000, 10_000, 10_000)
        );
        assert!(steps <= 51, "{steps}");
        assert_eq!(slot.next_expiry(), None);
        slot.check();
    }

    #[test]
    fn fields_go_in_steps_and_take_their_hash_with_them() {
        use crate::data::Limits;
        use crate::data::hash::{FieldExpiry, Hash};
        use crate::store::Edited;
        for field_count in [10u64, 2000] {
            let mut slot = filled(100);
            let at = Moment::lru(UnixMs(0));
            for n in 0..5u8 {
                let done = slot.edit_or_create(DB, &[n], at, |hash: &mut Hash| {
                    for field in 0..field_count {
                        let name = field.to_be_bytes();
                        let limits = Limits::default();
                        hash.set(&name, b"v", FieldExpiry::Clear, at.now, &limits, HashSeed([1, 2]));
                        hash.set_expiry(&name, Some(UnixMs(500 + field % 2)), at.now, HashSeed([1, 2]));
                    }
                    Edited::Changed(())
                });
                assert!(done.is_ok());
            }
            slot.check();
            assert_eq!(slot.next_expiry(), Some(UnixMs(500)));
            assert_eq!(slot.expire_step(UnixMs(500), 100), ExpireStep::default());
            let expire = |slot: &mut Slot, now: u64| {
                let mut gone = 0;
                loop {
                    let step = slot.expire_step(UnixMs(now), 60);
                    gone += step.expired_count as u64;
                    slot.check();
                    if !step.is_unfinished {
                        return gone;
                    }
                }
            };
            assert_eq!(expire(&mut slot, 501), 5 * field_count / 2);
            assert_eq!((slot.len(DB), slot.next_expiry()), (105, Some(UnixMs(501))));
            assert_eq!(expire(&mut slot, 502), 5 * field_count / 2);
            assert_eq!((slot.len(DB), slot.next_expiry()), (100, Some(UnixMs(1000))));
            let expired = slot.take_told();
            assert_eq!(
                expired
                    .iter()
                    .map(|told| match &told.what {
                        Happening::FieldsExpired(fields) => fields.len() as u64,
                        _ => 0,
                    })
                    .sum::<u64>(),
                5 * field_count
            );
            assert_eq!(slot.expires(DB), 50, "fields are no keys with an expiry");
        }
    }

    #[test]
    fn what_is_set_behind_the_walk_is_not_lost() {
        let mut slot = filled(20_000);
        assert!(slot.expire_step(UnixMs(1_001), 2000).is_unfinished);
        for n in 0..20_000u32 {
            slot.set_expiry(
                DB,
                &n.to_be_bytes(),
                Some(UnixMs(5_000 + u64::from(n))),
                Moment::lru(UnixMs(1_001)),
            );
        }
        while slot.expire_step(UnixMs(4_000), 2000).is_unfinished {}
        assert_eq!(
            slot.next_expiry(),
            Some(UnixMs(5_001)),
            "key 0 went, the next one is known"
        );
    }
}
