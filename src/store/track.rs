//! Who may have cached keys of a slot (client-side caching).
//!
//! A client that tracks what it reads is entered with each key, in the slot of the key, while its unit of work holds the slot: so whoever
//! changes the key later finds it there, however the slot has travelled in between, and there is no moment at which the one has read and the
//! other would not know. A key is tracked by its name: whoever changes it in any db means all who have read it in any.
//!
//! The first change takes the trackers out, and tells them with the change ([`Happening::Changed`]): who has been told is not told again before
//! it has read the key again. What an open undo would take back of that it puts back, as long as it has not been taken from the slot; what has
//! been taken is put back by who took it ([`Slot::put_trackers_back`]).
//!
//! While somebody wants to hear of all keys, or of those that begin with something, every change is told, with trackers or without.
//!
//! What a tracker is this layer does not know. How many keys are tracked, and by how many, is counted for the process
//! ([`Attention`](super::Attention)).
//!
//! Invariants: (1) there is an entry for a key exactly while it has trackers, each of which stands there once, in ascending order;
//! (2) the counts of the process are the sums over all slots.

use super::slot::{DbIndex, Slot};
use super::told::{Happening, Told};
use hashbrown::HashMap;

/// A client that has read a key: its connection, as whoever enters it names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tracker {
    pub index: u32,
    pub generation: u32,
    pub shard: u16,
}

/// A tracked key, and those who track it.
pub type TrackedKey = (Box<[u8]>, Vec<Tracker>);

/// The tracked keys of a slot.
#[derive(Default)]
pub(super) struct Tracked(HashMap<Box<[u8]>, Vec<Tracker>>);

/// Of so many keys one is drawn: their order is by their hashes, and chance enough.
const DRAWN_FROM: usize = 16;

impl Slot {
    /// Somebody has read this key, and may keep what it has read. False: it stands there already.
    pub fn track(&mut self, key: &[u8], tracker: Tracker) -> bool {
        let tracked = self.rare_mut().tracked.get_or_insert_default();
        let is_new_key = match tracked.0.get_mut(key) {
            None => {
                tracked.0.insert(key.into(), vec![tracker]);
                true
            }
            Some(trackers) => {
                let Err(at) = trackers.binary_search(&tracker) else {
                    return false;
                };
                trackers.insert(at, tracker);
                false
            }
        };
        self.common.attention.count_tracked(usize::from(is_new_key), 1);
        true
    }

    /// It does not count any more that somebody has read this key.
    pub fn untrack(&mut self, key: &[u8], tracker: Tracker) {
        let mut trackers = self.take_trackers(key);
        trackers.retain(|other| *other != tracker);
        self.put_trackers_back(key, trackers);
    }

    /// Takes out those who track a key.
    pub fn take_trackers(&mut self, key: &[u8]) -> Vec<Tracker> {
        let tracked = self.rare_if_any().and_then(|rare| rare.tracked.as_deref_mut());
        let Some(trackers) = tracked.and_then(|tracked| tracked.0.remove(key)) else {
            return Vec::new();
        };
        self.common.attention.uncount_tracked(1, trackers.len());
        self.drop_if_not_tracked();
        trackers
    }

    /// Puts back who was taken out; who has come in the meantime stays.
    pub fn put_trackers_back(&mut self, key: &[u8], trackers: Vec<Tracker>) {
        for tracker in trackers {
            self.track(key, tracker);
        }
    }

    /// Takes out all tracked keys.
    pub fn take_all_tracked(&mut self) -> Vec<TrackedKey> {
        let tracked = self.rare_if_any().and_then(|rare| rare.tracked.take());
        let Some(tracked) = tracked else { return Vec::new() };
        let items = tracked.0.values().map(Vec::len).sum();
        self.common.attention.uncount_tracked(tracked.0.len(), items);
        self.drop_if_not_rare();
        tracked.0.into_iter().collect()
    }

    /// Takes out a key that `random` chooses.
    pub fn take_any_tracked(&mut self, random: u64) -> Option<TrackedKey> {
        let keys = &self.rare()?.tracked.as_deref()?.0;
        let at = random as usize % keys.len().min(DRAWN_FROM);
        let key = keys.keys().nth(at)?.clone();
        let trackers = self.take_trackers(&key);
        Some((key, trackers))
    }

    /// Forgets those trackers that are not to be kept.
    pub fn retain_trackers(&mut self, is_kept: impl Fn(Tracker) -> bool) {
        let tracked = self.rare_if_any().and_then(|rare| rare.tracked.as_deref_mut());
        let Some(tracked) = tracked else { return };
        let (mut keys, mut items) = (0, 0);
        tracked.0.retain(|_, trackers| {
            let before = trackers.len();
            trackers.retain(|tracker| is_kept(*tracker));
            items += before - trackers.len();
            keys += usize::from(trackers.is_empty());
            !trackers.is_empty()
        });
        self.common.attention.uncount_tracked(keys, items);
        self.drop_if_not_tracked();
    }

    /// How many keys are tracked.
    pub fn tracked_count(&self) -> usize {
        let tracked = self.rare().and_then(|rare| rare.tracked.as_deref());
        tracked.map_or(0, |tracked| tracked.0.len())
    }

    fn drop_if_not_tracked(&mut self) {
        if let Some(rare) = self.rare_if_any()
            && rare.tracked.as_deref().is_some_and(|tracked| tracked.0.is_empty())
        {
            rare.tracked = None;
            self.drop_if_not_rare();
        }
    }

    /// Those who have cached this key are told of a change, and those who want to hear of all.
    #[inline]
    pub(super) fn tell_trackers(&mut self, db: DbIndex, key: &[u8]) {
        let is_any_tracked = self.rare().is_some_and(|rare| rare.tracked.is_some());
        if is_any_tracked || self.common.attention.is_broadcast() {
            self.note_changed(db, key);
        }
    }

    #[cold]
    fn note_changed(&mut self, db: DbIndex, key: &[u8]) {
        let trackers = self.take_trackers(key);
        if !trackers.is_empty() || self.common.attention.is_broadcast() {
            self.note(db, key.into(), Happening::Changed(trackers));
        }
    }

    /// What has been told is taken back: who has been taken out for it stands there again.
    pub(super) fn take_told_back(&mut self, told: Vec<Told>) {
        for Told { key, what, .. } in told {
            if let Happening::Changed(trackers) = what {
                self.put_trackers_back(&key, trackers);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::base::hash::HashSeed;
    use crate::data::access::Moment;
    use crate::store::{Attention, Expiry};
    use std::sync::Arc;

    const DB: DbIndex = DbIndex(0);
    const OTHER: DbIndex = DbIndex(3);
    const AT: Moment = Moment::lru(UnixMs(100));
    const LATE: Moment = Moment::lru(UnixMs(5000));

    fn tracker(index: u32) -> Tracker {
        Tracker {
            index,
            generation: 0,
            shard: 1,
        }
    }

    fn slot() -> (Slot, Arc<Attention>) {
        let slot = Slot::new(0, HashSeed([1, 2]));
        let attention = slot.common.attention.clone();
        (slot, attention)
    }

    fn counts(attention: &Attention) -> (usize, usize) {
        (attention.tracked_keys(), attention.tracked_items())
    }

    /// Who is told of changes, in their order.
    fn told(slot: &mut Slot) -> Vec<(String, Vec<u32>)> {
        let told = slot.take_told().into_iter();
        told.filter_map(|Told { key, what, .. }| match what {
            Happening::Changed(trackers) => Some((
                String::from_utf8_lossy(&key).into_owned(),
                trackers.iter().map(|tracker| tracker.index).collect(),
            )),
            _ => None,
        })
        .collect()
    }

    fn change(slot: &mut Slot, db: DbIndex, key: &str) {
        slot.set_int(db, key.as_bytes(), 1, Expiry::Clear, AT);
    }

    #[test]
    fn a_change_in_any_db_is_told_once_to_those_who_have_read_the_key() {
        let (mut slot, attention) = slot();
        assert!(slot.track(b"k", tracker(2)) && slot.track(b"k", tracker(1)) && !slot.track(b"k", tracker(2)));
        assert!(slot.track(b"other", tracker(2)));
        assert_eq!(counts(&attention), (2, 3));
        change(&mut slot, OTHER, "k");
        change(&mut slot, DB, "k");
        change(&mut slot, DB, "nobody's");
        assert_eq!(told(&mut slot), [("k".to_owned(), vec![1, 2])]);
        assert_eq!(counts(&attention), (1, 1));
        slot.check();
        assert!(slot.remove(DB, b"k", AT), "of which nobody hears");
        assert!(slot.track(b"k", tracker(7)));
        change(&mut slot, DB, "k");
        assert!(slot.track(b"k", tracker(8)));
        assert!(slot.remove(DB, b"k", AT));
        assert_eq!(told(&mut slot), [("k".to_owned(), vec![7]), ("k".to_owned(), vec![8])]);
        slot.untrack(b"other", tracker(3));
        slot.untrack(b"other", tracker(2));
        assert_eq!(counts(&attention), (0, 0));
        assert!(slot.remove(DB, b"nobody's", AT) && slot.remove(OTHER, b"k", AT));
        slot.check();
        assert!(slot.rare().is_none(), "it costs nothing any more");
    }

    #[test]
    fn an_end_is_a_change_and_so_is_a_new_expiry() {
        let (mut slot, _) = slot();
        for key in ["over", "kept"] {
            slot.set_int(DB, key.as_bytes(), 1, Expiry::At(UnixMs(1000)), AT);
            assert!(slot.track(key.as_bytes(), tracker(1)));
        }
        assert!(slot.set_expiry(DB, b"kept", None, AT));
        assert!(!slot.remove(DB, b"over", LATE));
        assert_eq!(
            told(&mut slot),
            [("kept".to_owned(), vec![1]), ("over".to_owned(), vec![1])]
        );
    }

    #[test]
    fn who_wants_all_hears_of_keys_without_trackers() {
        let (mut slot, attention) = slot();
        change(&mut slot, DB, "before");
        attention.begin_broadcast();
        change(&mut slot, DB, "a");
        assert!(slot.track(b"b", tracker(1)));
        change(&mut slot, DB, "b");
        attention.end_broadcast();
        change(&mut slot, DB, "after");
        assert_eq!(told(&mut slot), [("a".to_owned(), vec![]), ("b".to_owned(), vec![1])]);
    }

    #[test]
    fn what_is_taken_back_was_no_change() {
        let (mut slot, attention) = slot();
        assert!(slot.track(b"k", tracker(1)));
        slot.begin_undo();
        change(&mut slot, DB, "k");
        assert_eq!(counts(&attention), (0, 0));
        slot.rollback();
        assert_eq!(counts(&attention), (1, 1));
        assert_eq!(told(&mut slot), []);
        change(&mut slot, DB, "k");
        assert_eq!(told(&mut slot), [("k".to_owned(), vec![1])]);
    }

    #[test]
    fn what_is_forgotten_is_not_counted() {
        let (mut slot, attention) = slot();
        for (key, who) in [("a", 1), ("a", 2), ("b", 1), ("c", 3)] {
            assert!(slot.track(key.as_bytes(), tracker(who)));
        }
        slot.retain_trackers(|tracker| tracker.index != 1);
        assert_eq!((slot.tracked_count(), counts(&attention)), (2, (2, 2)));
        let (key, trackers) = slot.take_any_tracked(u64::MAX).expect("there are two");
        assert!(*key == *b"a" && trackers == [tracker(2)] || *key == *b"c" && trackers == [tracker(3)]);
        assert_eq!(slot.take_all_tracked().len(), 1);
        assert!(slot.take_any_tracked(0).is_none() && slot.take_all_tracked().is_empty());
        assert_eq!(counts(&attention), (0, 0));
        assert!(slot.rare().is_none());
    }
}
