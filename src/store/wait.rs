//! Who waits for the keys of a slot.
//!
//! A client that waits for keys (BLPOP, XREAD BLOCK) is entered with each of them, in the slot of the key, and travels with it: so whoever
//! makes a key ready finds in its hands who waits for it. What a waiter is this layer does not know: `who` is whoever entered it.
//!
//! The waiters of a key stand in the order of their numbers, which only grow: who enters while it holds the slot stands behind all that
//! are there. Waits are ended by number, so it costs little wherever in the queue they stand.
//!
//! How many keys are awaited, and in which way, is counted for the process ([`Attention`](super::Attention)): slots tell what happens to
//! their keys only while somebody may want to know.
//!
//! Invariant: there is an entry for a key exactly while somebody waits for it.

use super::slot::{DbIndex, Slot};
use super::told::Attention;
use super::watch::{DbKey, DbKeyRef};
use crate::data::ValueType;
use hashbrown::HashMap;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Somebody who waits for a key.
#[derive(Clone)]
pub struct Waiter {
    /// What it can be served from.
    pub kind: ValueType,
    /// It is to know as well when there is no such key any more, or one of another kind.
    pub minds_absence: bool,
    /// When it is served, it makes another key.
    pub reaches_further: bool,
    pub who: Arc<dyn Any + Send + Sync>,
}

/// The keys of a slot that are awaited.
#[derive(Default)]
pub(super) struct Waiters(HashMap<DbKey, Queue>);

/// Who waits for one key.
#[derive(Default)]
struct Queue {
    by_number: BTreeMap<u64, Waiter>,
    /// How many of them mind its absence.
    minding_count: usize,
}

impl Slot {
    /// Somebody waits for this key from now on, behind all who do; its number there, which is above all earlier ones of any slot.
    pub fn begin_wait(&mut self, db: DbIndex, key: &[u8], waiter: Waiter) -> u64 {
        let common = self.common.clone();
        let number = common.attention.next_number();
        self.wait_at(db, key, number, waiter, &common.attention);
        number
    }

    /// A number of the same kind, for a wait as a whole.
    pub fn number_wait(&self) -> u64 {
        self.common.attention.next_number()
    }

    /// Somebody waits again in the place that it has had before.
    pub fn resume_wait(&mut self, db: DbIndex, key: &[u8], number: u64, waiter: Waiter) {
        let common = self.common.clone();
        self.wait_at(db, key, number, waiter, &common.attention);
    }

    fn wait_at(&mut self, db: DbIndex, key: &[u8], number: u64, waiter: Waiter, attention: &Attention) {
        let waiters = self.rare_mut().waiters.get_or_insert_default();
        let queue = waiters.0.entry(DbKey { db, key: key.into() }).or_default();
        if queue.by_number.is_empty() {
            attention.begin_key();
        }
        if waiter.minds_absence {
            queue.minding_count += 1;
            if queue.minding_count == 1 {
                attention.begin_minding();
            }
        }
        if waiter.reaches_further {
            attention.begin_reaching();
        }
        let previous = queue.by_number.insert(number, waiter);
        assert!(previous.is_none(), "two waiters have the number {number}");
    }

    /// Nobody waits under this number any more. False: nobody did.
    pub fn end_wait(&mut self, db: DbIndex, key: &[u8], number: u64) -> bool {
        let common = self.common.clone();
        let Some(waiters) = self.rare_if_any().and_then(|rare| rare.waiters.as_deref_mut()) else {
            return false;
        };
        let name = DbKeyRef { db, key };
        let Some(queue) = waiters.0.get_mut(&name) else {
            return false;
        };
        let Some(waiter) = queue.by_number.remove(&number) else {
            return false;
        };
        if waiter.reaches_further {
            common.attention.end_reaching();
        }
        if waiter.minds_absence {
            queue.minding_count -= 1;
            if queue.minding_count == 0 {
                common.attention.end_minding();
            }
        }
        if queue.by_number.is_empty() {
            waiters.0.remove(&name);
            common.attention.end_key();
        }
        if waiters.0.is_empty()
            && let Some(rare) = self.rare_if_any()
        {
            rare.waiters = None;
            self.drop_if_not_rare();
        }
        true
    }

    /// Whether anybody waits for any key of this slot.
    #[inline]
    pub fn has_waiters(&self) -> bool {
        self.waiters().is_some()
    }

    /// The number of the last one who waits for this key.
    pub fn newest_waiter(&self, db: DbIndex, key: &[u8]) -> Option<u64> {
        let queue = self.queue(db, key)?;
        queue.by_number.last_key_value().map(|(number, _)| *number)
    }

    /// Whether anybody is to know that this key is gone.
    pub fn is_minded(&self, db: DbIndex, key: &[u8]) -> bool {
        self.queue(db, key).is_some_and(|queue| queue.minding_count > 0)
    }

    /// The first behind `after`, up to `last`, who is to be woken when there is a value of that kind, or none.
    pub fn next_waiter(
        &self,
        db: DbIndex,
        key: &[u8],
        after: u64,
        last: u64,
        kind: Option<ValueType>,
    ) -> Option<(u64, &Waiter)> {
        let queue = self.queue(db, key)?;
        if after >= last || kind.is_none() && queue.minding_count == 0 {
            return None;
        }
        let mut behind = queue.by_number.range(after + 1..=last);
        let found = behind.find(|(_, waiter)| waiter.minds_absence || kind == Some(waiter.kind));
        found.map(|(number, waiter)| (*number, waiter))
    }

    /// Those who wait for this key in any db, and make another one when they are served.
    pub fn reaching_waiters(&self, key: &[u8]) -> impl Iterator<Item = &Waiter> {
        let queues = self.waiters().into_iter().flat_map(|waiters| &waiters.0);
        let queues = queues.filter(move |(name, _)| *name.key == *key);
        let waiters = queues.flat_map(|(_, queue)| queue.by_number.values());
        waiters.filter(|waiter| waiter.reaches_further)
    }

    /// The keys of one of these dbs that are awaited, in the order in which somebody began to wait for them.
    pub fn awaited_keys(&self, dbs: &[DbIndex]) -> Vec<(DbIndex, Box<[u8]>)> {
        let queues = self.waiters().into_iter().flat_map(|waiters| &waiters.0);
        let queues = queues.filter(|(name, _)| dbs.contains(&name.db));
        let mut keys: Vec<_> = queues
            .map(|(name, queue)| (queue.by_number.keys().next(), name))
            .collect();
        keys.sort_unstable_by_key(|(first, _)| *first);
        keys.into_iter().map(|(_, name)| (name.db, name.key.clone())).collect()
    }

    /// How many keys are awaited.
    pub fn awaited_count(&self) -> usize {
        self.waiters().map_or(0, |waiters| waiters.0.len())
    }

    fn waiters(&self) -> Option<&Waiters> {
        self.rare()?.waiters.as_deref()
    }

    fn queue(&self, db: DbIndex, key: &[u8]) -> Option<&Queue> {
        self.waiters()?.0.get(&DbKeyRef { db, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::HashSeed;

    const DB: DbIndex = DbIndex(0);

    fn waiter(kind: ValueType, minds_absence: bool) -> Waiter {
        Waiter {
            kind,
            minds_absence,
            reaches_further: false,
            who: Arc::new(()),
        }
    }

    #[test]
    fn the_oldest_who_can_use_it_is_found_first() {
        let mut slot = Slot::new(0, HashSeed([1, 2]));
        let numbers = [
            (ValueType::SortedSet, false),
            (ValueType::List, false),
            (ValueType::Stream, true),
            (ValueType::List, false),
        ]
        .map(|(kind, minds)| slot.begin_wait(DB, b"k", waiter(kind, minds)));
        assert!(numbers.is_sorted());
        let last = slot.newest_waiter(DB, b"k").unwrap();
        assert_eq!(last, numbers[3]);
        let found = |slot: &Slot, kind: Option<ValueType>| {
            let mut after = 0;
            let mut found = Vec::new();
            while let Some((number, _)) = slot.next_waiter(DB, b"k", after, last, kind) {
                found.push(number);
                after = number;
            }
            found
        };
        assert_eq!(found(&slot, Some(ValueType::List)), numbers[1..]);
        assert_eq!(found(&slot, Some(ValueType::SortedSet)), [numbers[0], numbers[2]]);
        assert_eq!(found(&slot, None), [numbers[2]]);
        assert!(slot.is_minded(DB, b"k"));
        assert!(slot.end_wait(DB, b"k", numbers[2]) && !slot.end_wait(DB, b"k", numbers[2]));
        assert!(!slot.is_minded(DB, b"k"));
        assert_eq!(found(&slot, None), []);
        slot.resume_wait(DB, b"k", numbers[2], waiter(ValueType::Stream, true));
        assert_eq!(found(&slot, None), [numbers[2]]);
    }

    #[test]
    fn a_slot_costs_nothing_again_when_nobody_waits() {
        let mut slot = Slot::new(0, HashSeed([1, 2]));
        let attention = slot.common.attention.clone();
        let keys = [(DB, b"b"), (DB, b"a"), (DbIndex(3), b"a")];
        let numbers = keys.map(|(db, key)| slot.begin_wait(db, key, waiter(ValueType::Stream, true)));
        let second = slot.begin_wait(DB, b"a", waiter(ValueType::List, false));
        assert!(attention.is_paid());
        assert_eq!((attention.awaited_keys(), attention.minded_keys()), (3, 3));
        let named = slot.awaited_keys(&[DB]);
        assert_eq!(named, [(DB, b"b".as_slice().into()), (DB, b"a".as_slice().into())]);
        for ((db, key), number) in keys.into_iter().zip(numbers) {
            assert!(slot.end_wait(db, key, number));
        }
        assert_eq!((attention.awaited_keys(), attention.minded_keys()), (1, 0));
        assert!(slot.has_waiters() && slot.end_wait(DB, b"a", second));
        assert!(!slot.has_waiters() && !attention.is_paid());
        slot.check();
        assert!(slot.rare().is_none());
    }
}
