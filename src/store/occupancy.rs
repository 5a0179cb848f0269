//! Which slots may have keys, for those who do not hold them: one word for each slot of the node.
//!
//! SCAN goes through all slots, and most of those that it has to pass over may have nothing: a small data set, or a db that
//! few keys are in. To find that out by borrowing each of them would cost more than the whole answer. So whoever puts the
//! first key of a db into a slot says so here, and a slot of which nothing is said need not be asked.
//!
//! ```text
//!   63            62   ...   1    0
//!  +-------------+----+-----+----+----+
//!  | any of the  | db | ... | db | db |     one word of a slot
//!  | dbs from 63 | 62 |     |  1 |  0 |
//!  +-------------+----+-----+----+----+
//! ```
//!
//! It is a hint that errs on one side only. A bit is set before the unit of work ends that has put a key there; it is *not* taken away
//! when the last key goes, since that unit may put another one there at once (RENAME over a key), or be rolled back, and somebody who
//! looks in between must not miss a key that was there before and is there afterwards. It is taken away by SCAN, when it holds the slot,
//! as a unit of its own, and finds nothing ([`Occupancy::settle`]): each bit costs one look in vain, which the key has paid for that had
//! set it. While the last key's removal may be unwritten (it is of the pass that runs), it stays: nobody may see what a log does not
//! have.
//!
//! Invariants: (1) only who holds a slot writes its word; (2) a db that has keys has its bit, except within the unit of work
//! that puts the first one there.

use super::slot::{DbIndex, Slot};
use std::sync::atomic::{AtomicU64, Ordering};

/// The words of all slots of a node. It is shared by all who hold slots.
#[derive(Debug)]
pub struct Occupancy(Box<[AtomicU64]>);

/// Dbs that have a bit of their own.
const OWN_BITS: u32 = 63;

impl Occupancy {
    /// Of that many slots, all empty.
    pub fn new(slot_count: usize) -> Occupancy {
        Occupancy((0..slot_count).map(|_| AtomicU64::new(0)).collect())
    }

    /// The first slot from `from` on that may have keys in a db.
    pub fn next_occupied(&self, db: DbIndex, from: u16) -> Option<u16> {
        let bit = bit(db);
        let words = self.0.get(usize::from(from)..)?;
        let ahead = words.iter().position(|word| word.load(Ordering::Acquire) & bit != 0)?;
        Some(from + ahead as u16)
    }

    /// A key has come into a db of a slot; the caller holds it (invariant 1).
    pub(super) fn note(&self, slot: u16, db: DbIndex) {
        let word = &self.0[usize::from(slot)];
        let before = word.load(Ordering::Relaxed);
        let after = before | bit(db);
        if after != before {
            word.store(after, Ordering::Release);
        }
    }

    /// Forgets what is no longer true of a slot. The caller holds it and is a unit of work that changes nothing.
    pub fn settle(&self, slot: &Slot) {
        let now = slot.dbs().fold(0, |bits, db| bits | bit(db));
        self.0[usize::from(slot.index())].store(now, Ordering::Release);
    }
}

fn bit(db: DbIndex) -> u64 {
    1 << db.0.min(OWN_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::data::access::Moment;
    use crate::store::{Expiry, HashSeed, SlotCommon};
    use std::sync::Arc;

    const AT: Moment = Moment::lru(UnixMs(1));

    fn slot_of_ten(index: u16) -> (Slot, Arc<Occupancy>) {
        let occupancy = Arc::new(Occupancy::new(10));
        {
            let common = Arc::new(SlotCommon {
                seed: HashSeed([1, 2]),
                occupancy: Some(occupancy.clone()),
                attention: Arc::default(),
                cut: Arc::default(),
            });
            (Slot::sharing(index, common), occupancy)
        }
    }

    #[test]
    fn a_key_is_noted_whatever_brings_it() {
        let (mut slot, occupancy) = slot_of_ten(7);
        let found = |db| occupancy.next_occupied(DbIndex(db), 0);
        assert_eq!(found(0), None);
        slot.set_int(DbIndex(0), b"k", 1, Expiry::Clear, AT);
        assert_eq!((found(0), found(1)), (Some(7), None));
        assert_eq!(occupancy.next_occupied(DbIndex(0), 7), Some(7));
        assert_eq!(occupancy.next_occupied(DbIndex(0), 8), None);
        assert_eq!(occupancy.next_occupied(DbIndex(0), 10), None);
        slot.swap_dbs(DbIndex(0), DbIndex(5), AT);
        assert_eq!(found(5), Some(7));
        slot.begin_undo();
        drop(slot.clear_all());
        occupancy.settle(&slot);
        assert_eq!(found(5), None);
        slot.rollback();
        assert_eq!(found(5), Some(7), "what was there is there again");
        slot.set_int(DbIndex(64), b"k", 1, Expiry::Clear, AT);
        assert_eq!((found(63), found(70)), (Some(7), Some(7)), "they share one bit");
    }

    #[test]
    fn a_key_that_goes_is_forgotten_only_when_the_slot_is_settled() {
        let (mut slot, occupancy) = slot_of_ten(3);
        for db in [0, 2] {
            slot.set_int(DbIndex(db), b"k", 1, Expiry::Clear, AT);
        }
        assert!(slot.remove(DbIndex(0), b"k", AT));
        assert_eq!(occupancy.next_occupied(DbIndex(0), 0), Some(3));
        occupancy.settle(&slot);
        assert_eq!(occupancy.next_occupied(DbIndex(0), 0), None);
        assert_eq!(occupancy.next_occupied(DbIndex(2), 0), Some(3));
    }
}
