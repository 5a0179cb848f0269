//! SCAN, and keys drawn at random.
//!
//! A cursor is a *position*: the top 38 bits of a hash, so that slot and position together fit the 53 bits which every
//! client language keeps exactly. A call visits all entries from a position up to another one, in the order of their
//! hashes, and entries of equal position always together. Where the pages begin and end plays no part in it: an entry
//! that is there all the time is met when the cursor passes its position, whatever the table has done in between.
//!
//! Within a page the order comes from the 16 hash bits of the words. A page at level 0 tells 2^16 positions apart, and the
//! cursor can only stop between these; a deeper page tells more. When a table has become shallower between two calls, a
//! cursor may point between positions that the page no longer tells apart: then entries may be met twice, which SCAN may.

use super::entry::EntryRef;
use super::slot::{DbIndex, Slot};
use super::table::PageView;
use crate::base::clock::UnixMs;
use crate::base::random::Random;

/// Bits of a position.
pub const POSITION_BITS: u32 = 38;

const POSITION_SHIFT: u32 = 64 - POSITION_BITS;

impl Slot {
    /// Visits about `count` live entries of a db from position `from` on (0 to begin) and returns where to go on, which is
    /// below `1 << POSITION_BITS`; None at the end. Entries whose time is over are deleted on the way.
    pub fn scan(
        &mut self,
        db: DbIndex,
        from: u64,
        count: usize,
        now: UnixMs,
        mut visit: impl FnMut(EntryRef<'_>),
    ) -> Option<u64> {
        let table = self.table(db)?;
        let mut expired: Vec<Box<[u8]>> = Vec::new();
        let mut left = count.max(1);
        let mut next = Some(from).filter(|position| *position < 1 << POSITION_BITS);
        while let Some(position) = next
            && left > 0
        {
            let view = table.page_view(position << POSITION_SHIFT);
            next = view.visit_from(position, &mut left, |entry| {
                if entry.is_expired(now) {
                    expired.push(entry.key().into());
                } else {
                    visit(entry);
                }
            });
        }
        for key in expired {
            self.find_live(db, self.seed.hash(&key), &key, now);
        }
        next
    }

    /// A live entry of a db, each about equally likely; None if there is none. What is drawn and found to be over is
    /// deleted.
    pub fn random_key(&mut self, db: DbIndex, random: &mut Random, now: UnixMs) -> Option<EntryRef<'_>> {
        while let Some(table) = self.table(db)
            && table.len() > 0
        {
            // A page is drawn as often as hashes belong to it, and that is how many entries it is expected to have.
            let mut view = table.page_view(random.next_u64());
            while view.page.len() == 0 {
                view = table.page_view(view.next_hash.unwrap_or(0));
            }
            let key: Box<[u8]> = view.page.entry(random.below(view.page.len())).key().into();
            if let Some(spot) = self.find_live(db, self.seed.hash(&key), &key, now) {
                return Some(self.table(db)?.entry(spot));
            }
        }
        None
    }
}

impl<'t> PageView<'t> {
    /// Visits entries from `position` on until `left` of them have been seen, or the page ends; returns where to go on.
    fn visit_from(self, position: u64, left: &mut usize, mut visit: impl FnMut(EntryRef<'t>)) -> Option<u64> {
        // Page borders finer than a position (a table of more than 2^38 pages) do not happen: `table::LEVEL_MAX`.
        let end = self.next_hash.map(|hash| hash >> POSITION_SHIFT);
        let page = self.page;
        if page.len() <= *left && position <= self.first_hash >> POSITION_SHIFT {
            *left -= page.len();
            page.entries().for_each(visit);
            return end;
        }
        // Each position that this page tells apart, with how many positions of a cursor it stands for.
        let known_bits = (8 * self.level + 16).min(POSITION_BITS);
        let width = 1 << (POSITION_BITS - known_bits);
        let above = self.first_hash & !(u64::MAX >> (8 * self.level));
        let mut order: Vec<(u64, usize)> = (0..page.len())
            .map(|index| {
                let hash = above | u64::from(page.hash_bits(index)) << (48 - 8 * self.level);
                (hash >> POSITION_SHIFT, index)
            })
            .filter(|(start, _)| start + width > position)
            .collect();
        order.sort_unstable();
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            if *left == 0 {
                return Some(group[0].0);
            }
            *left = left.saturating_sub(group.len());
            group.iter().for_each(|(_, index)| visit(page.entry(*index)));
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::access::Moment;
    use crate::store::{Expiry, HashSeed};
    use std::collections::HashMap;

    const DB: DbIndex = DbIndex(0);

    fn filled(count: u32) -> Slot {
        let mut slot = Slot::new(0, HashSeed([1, 2]));
        for n in 0..count {
            slot.set_int(DB, &n.to_be_bytes(), 0, Expiry::Clear, Moment::lru(UnixMs(0)));
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
                    next = slot.scan(DB, from, step, UnixMs(0), |entry| {
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
            assert_eq!(slot.scan(DB, from, 10, UnixMs(0), |_| panic!("there is nothing")), None);
        }
        assert_eq!(
            slot.scan(DbIndex(4), 0, 10, UnixMs(0), |_| panic!("there is nothing")),
            None
        );
    }

    #[test]
    fn every_key_is_drawn_about_equally_often() {
        let mut slot = filled(1000);
        let mut random = Random::with_seed(3);
        let mut drawn: HashMap<Vec<u8>, u32> = HashMap::new();
        for _ in 0..100_000 {
            let entry = slot.random_key(DB, &mut random, UnixMs(0)).expect("there are keys");
            *drawn.entry(entry.key().to_vec()).or_default() += 1;
        }
        assert_eq!(drawn.len(), 1000);
        let (least, most) = (drawn.values().min(), drawn.values().max());
        assert!(least > Some(&30) && most < Some(&300), "{least:?} to {most:?} of 100");
    }
}
