//! SCAN, and keys drawn at random.
//!
//! How a cursor keeps SCAN's promise while the table grows and shrinks is told in `data::dict`; here expired entries are kept
//! out of sight.

use super::entry::EntryRef;
use super::slot::{DbIndex, Slot};
use crate::base::random::Random;
use crate::data::access::Moment;

pub use crate::data::dict::POSITION_BITS;

/// So often is drawn again when what was drawn is over and has to stay.
const KEPT_DRAWS_MAX: usize = 32;

impl Slot {
    /// Visits about `count` live entries of a db from position `from` on (0 to begin) and returns where to go on, which is
    /// below `1 << POSITION_BITS`; None at the end. Entries whose time is over are deleted on the way, where they may be.
    pub fn scan(
        &mut self,
        db: DbIndex,
        from: u64,
        count: usize,
        at: Moment,
        mut visit: impl FnMut(EntryRef<'_>),
    ) -> Option<u64> {
        let table = self.table(db)?;
        let mut expired: Vec<Box<[u8]>> = Vec::new();
        let next = table.scan(from, count, |entry| {
            if entry.is_expired(at.now) {
                expired.push(entry.key().into());
            } else {
                visit(entry);
            }
        });
        for key in expired {
            self.find_live(db, self.common.seed.hash(&key), &key, at);
        }
        next
    }

    /// A live entry of a db, each equally likely; None if there is none. What is drawn and found to be over is
    /// deleted. Where it has to stay, and little else is drawn, the first live entry is as good as any.
    pub fn random_key(&mut self, db: DbIndex, random: &mut Random, at: Moment) -> Option<EntryRef<'_>> {
        let mut kept_count = 0;
        while kept_count < KEPT_DRAWS_MAX {
            let table = self.table(db)?;
            let spot = table.random(self.common.seed, random)?;
            let entry = table.entry(spot);
            if !entry.is_expired(at.now) {
                return Some(self.table(db)?.entry(spot));
            }
            if at.keeps_stale {
                kept_count += 1;
            } else {
                self.expire(db, spot, entry.key().into());
            }
        }
        let mut live = self.table(db)?.pages().flat_map(|view| view.elements());
        live.find(|entry| !entry.is_expired(at.now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::store::{Expiry, HashSeed};
    use std::collections::HashMap;

    const DB: DbIndex = DbIndex(0);
    const AT: Moment = Moment::lru(UnixMs(0));

    fn filled(count: u32) -> Slot {
        let mut slot = Slot::new(0, HashSeed([1, 2]));
        for n in 0..count {
            slot.set_int(DB, &n.to_be_bytes(), 0, Expiry::Clear, AT);
        }
        slot
    }

    #[test]
    fn an_undisturbed_scan_meets_everything_once_in_steps_of_its_count() {
        for count in [0, 1, 100, 141, 142, 5_000, 60_000] {
            let mut slot = filled(count);
            for step in [1, 10, 1000] {
                let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
                let (mut calls, mut next) = (0, Some(0));
                while let Some(from) = next {
                    calls += 1;
                    next = slot.scan(DB, from, step, AT, |entry| {
                        *seen.entry(entry.key().to_vec()).or_default() += 1;
                    });
                }
                assert_eq!(seen.len(), count as usize);
                assert!(seen.values().all(|times| *times == 1));
                assert!(
                    calls <= count as usize / step + 2,
                    "{calls} calls for {count} by {step}"
                );
            }
        }
    }

    #[test]
    fn a_cursor_beyond_the_end_ends() {
        let mut slot = filled(10);
        for from in [1 << POSITION_BITS, u64::MAX] {
            assert_eq!(slot.scan(DB, from, 10, AT, |_| panic!("there is nothing")), None);
        }
        assert_eq!(slot.scan(DbIndex(4), 0, 10, AT, |_| panic!("there is nothing")), None);
    }

    #[test]
    fn every_key_is_drawn_about_equally_often() {
        let mut slot = filled(1000);
        let mut random = Random::with_seed(3);
        let mut drawn: HashMap<Vec<u8>, u32> = HashMap::new();
        for _ in 0..100_000 {
            let entry = slot.random_key(DB, &mut random, AT).expect("there are keys");
            *drawn.entry(entry.key().to_vec()).or_default() += 1;
        }
        assert_eq!(drawn.len(), 1000);
        let (least, most) = (drawn.values().min(), drawn.values().max());
        assert!(least > Some(&30) && most < Some(&300), "{least:?} to {most:?} of 100");
    }
}
