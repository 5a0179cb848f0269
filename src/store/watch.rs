//! WATCH: has this key changed since?
//!
//! A version is kept only for keys that somebody watches, so that nobody else pays for it: neither bytes in an entry nor
//! a lookup in a write. The number is drawn from a counter, so that a version once seen never comes back by chance.
//!
//! What counts as a change is what makes EXEC fail in Redis: every write to the key; its expiry, if it was alive at
//! WATCH; FLUSHDB, FLUSHALL and SWAPDB where they touch a key that exists. A key whose time was already over at WATCH is
//! deleted at that moment, so that its end is not a change and its return is one; so is one that SWAPDB would bring in the
//! place of a watched key that is not there. Where
//! it has to stay (`Moment::keeps_stale`), the token knows that it was over, and its end later is not a change either.

use std::hash::Hash;

use hashbrown::{Equivalent, HashMap};

use super::slot::{DbIndex, Slot};
use crate::data::access::Moment;

/// What a client that watches a key keeps, and gives back with `unwatch`.
#[derive(Debug)]
pub struct WatchToken {
    watched: DbKey,
    version: u64,
    /// The key was there, and over.
    was_stale: bool,
}

impl WatchToken {
    /// The db of the key.
    pub fn db(&self) -> DbIndex {
        self.watched.db
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.watched.key
    }
}

impl Slot {
    /// Begins to watch a key, which need not exist.
    pub fn watch(&mut self, db: DbIndex, key: &[u8], at: Moment) -> WatchToken {
        let is_live = self.find_live(db, self.common.seed.hash(key), key, at).is_some();
        let was_stale = !is_live && self.is_there(db, key);
        let version = self.rare_mut().watches.get_or_insert_default().add(db, key);
        WatchToken {
            watched: DbKey { db, key: key.into() },
            version,
            was_stale,
        }
    }

    /// Whether the key is as it was when the token was made.
    pub fn is_unchanged(&mut self, token: &WatchToken, at: Moment) -> bool {
        let hash = self.common.seed.hash(token.key());
        let is_live = self.find_live(token.db(), hash, token.key(), at).is_some();
        let is_stale = !is_live && self.is_there(token.db(), token.key());
        let watches = self.rare().and_then(|rare| rare.watches.as_ref());
        let watched = watches
            .and_then(|watches| watches.keys.get(&token.watched))
            .expect("a key is watched as long as a token for it exists");
        if token.was_stale {
            let only_ended = watched.ended == Some((token.version, watched.version));
            watched.version == token.version || only_ended
        } else {
            watched.version == token.version && !is_stale
        }
    }

    /// Whether there is such a key, over or not.
    fn is_there(&self, db: DbIndex, key: &[u8]) -> bool {
        self.table(db)
            .is_some_and(|table| table.find(self.common.seed.hash(key), key).is_some())
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, token: WatchToken) {
        let rare = self.rare_mut();
        let watches = rare
            .watches
            .as_mut()
            .expect("a key is watched as long as a token for it exists");
        watches.release(&token.watched);
        if watches.keys.is_empty() {
            rare.watches = None;
            self.drop_if_not_rare();
        }
    }

    /// How many keys of this slot are watched.
    pub fn watched_count(&self) -> usize {
        let watches = self.rare().and_then(|rare| rare.watches.as_ref());
        watches.map_or(0, |watches| watches.keys.len())
    }
}

/// The watched keys of a slot.
#[derive(Default)]
pub(super) struct Watches {
    keys: HashMap<DbKey, Watched>,
    last_version: u64,
}

struct Watched {
    version: u64,
    token_count: usize,
    /// When the key was deleted last because its time was over: the versions before that and after.
    ended: Option<(u64, u64)>,
}

/// Versions that an open undo has to restore.
pub(super) type OldVersions = HashMap<DbKey, u64>;

impl Watches {
    fn add(&mut self, db: DbIndex, key: &[u8]) -> u64 {
        let watched = self.keys.entry(DbKey { db, key: key.into() }).or_insert_with(|| {
            self.last_version += 1;
            Watched {
                version: self.last_version,
                token_count: 0,
                ended: None,
            }
        });
        watched.token_count += 1;
        watched.version
    }

    fn release(&mut self, key: &DbKey) {
        let watched = self
            .keys
            .get_mut(key)
            .expect("a key is watched as long as a token for it exists");
        watched.token_count -= 1;
        if watched.token_count == 0 {
            self.keys.remove(key);
        }
    }

    /// The key changes.
    pub(super) fn touch(&mut self, db: DbIndex, key: &[u8], old_versions: Option<&mut OldVersions>) {
        let name = DbKeyRef { db, key };
        if let Some(watched) = self.keys.get_mut(&name) {
            if let Some(old_versions) = old_versions
                && !old_versions.contains_key(&name)
            {
                old_versions.insert(DbKey { db, key: key.into() }, watched.version);
            }
            self.last_version += 1;
            watched.version = self.last_version;
        }
    }

    /// The keys that are watched in one of these dbs.
    pub(super) fn keys_in(&self, dbs: &[DbIndex]) -> Vec<Box<[u8]>> {
        let names = self.keys.keys().filter(|name| dbs.contains(&name.db));
        names.map(|name| name.key.clone()).collect()
    }

    /// The version of a key, if it is watched.
    pub(super) fn version(&self, db: DbIndex, key: &[u8]) -> Option<u64> {
        Some(self.keys.get(&DbKeyRef { db, key })?.version)
    }

    /// The change that the key has just seen, from that version on, was the end of its time.
    pub(super) fn note_expired(&mut self, db: DbIndex, key: &[u8], before: u64) {
        if let Some(watched) = self.keys.get_mut(&DbKeyRef { db, key }) {
            watched.ended = Some((before, watched.version));
        }
    }

    /// All watched keys change for which `is_touched` holds.
    pub(super) fn touch_where(
        &mut self,
        mut old_versions: Option<&mut OldVersions>,
        is_touched: impl Fn(DbIndex, &[u8]) -> bool,
    ) {
        for (name, watched) in &mut self.keys {
            if is_touched(name.db, &name.key) {
                if let Some(old_versions) = &mut old_versions {
                    old_versions.entry(name.clone()).or_insert(watched.version);
                }
                self.last_version += 1;
                watched.version = self.last_version;
            }
        }
    }

    /// Puts versions back that changes had replaced which are taken back now.
    pub(super) fn restore(&mut self, old_versions: OldVersions) {
        for (name, version) in old_versions {
            if let Some(watched) = self.keys.get_mut(&name) {
                watched.version = version;
            }
        }
    }
}

/// A key in a db, as the key of a map.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DbKey {
    pub(super) db: DbIndex,
    pub(super) key: Box<[u8]>,
}

/// The same, borrowed. Both must hash alike: the same fields in the same order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DbKeyRef<'k> {
    pub(super) db: DbIndex,
    pub(super) key: &'k [u8],
}

impl Equivalent<DbKey> for DbKeyRef<'_> {
    fn equivalent(&self, other: &DbKey) -> bool {
        self.db == other.db && *self.key == *other.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::data::string::StringForm;
    use crate::store::{Access, Expiry, HashSeed};

    const DB: DbIndex = DbIndex(0);
    const KEY: &[u8] = b"k";

    fn at(ms: u64) -> Moment {
        Moment::lru(UnixMs(ms))
    }

    fn set(slot: &mut Slot, db: DbIndex, expiry: Expiry, ms: u64) {
        slot.set_string(db, KEY, b"v", StringForm::Detect, expiry, at(ms));
    }

    #[test]
    fn a_key_that_is_over_and_kept_ends_without_a_change_and_one_that_was_alive_with_one() {
        let keeping = |ms| at(ms).keeping_stale();
        let mut slot = Slot::new(0, HashSeed([1, 2]));
        set(&mut slot, DB, Expiry::At(UnixMs(50)), 1);
        let alive = slot.watch(DB, KEY, at(40));
        let stale = slot.watch(DB, KEY, keeping(60));
        assert!(!slot.is_unchanged(&alive, keeping(60)), "its time has ended");
        assert!(slot.is_unchanged(&stale, keeping(60)));
        assert!(slot.get(DB, KEY, at(70), Access::Read).is_none());
        assert_eq!(slot.len(DB), 0);
        assert!(!slot.is_unchanged(&alive, at(70)));
        assert!(slot.is_unchanged(&stale, at(70)), "gone before, gone now");
        set(&mut slot, DB, Expiry::Clear, 80);
        assert!(!slot.is_unchanged(&stale, at(80)), "its return is a change");
        slot.unwatch(alive);
        slot.unwatch(stale);
    }

    /// Whether a watch of `KEY` in `DB` at 100 ms survives `between`, as seen at `end_ms`.
    fn survives(before: impl FnOnce(&mut Slot), between: impl FnOnce(&mut Slot), end_ms: u64) -> bool {
        let mut slot = Slot::new(0, HashSeed([1, 2]));
        before(&mut slot);
        let token = slot.watch(DB, KEY, at(100));
        between(&mut slot);
        let is_unchanged = slot.is_unchanged(&token, at(end_ms));
        slot.unwatch(token);
        assert_eq!(slot.watched_count(), 0);
        is_unchanged
    }

    #[test]
    fn what_fails_exec_in_redis_is_a_change() {
        let nothing = |_: &mut Slot| {};
        let present = |slot: &mut Slot| set(slot, DB, Expiry::Clear, 1);
        let brief = |slot: &mut Slot| set(slot, DB, Expiry::At(UnixMs(150)), 1);
        let over = |slot: &mut Slot| set(slot, DB, Expiry::At(UnixMs(50)), 1);
        assert!(survives(present, nothing, 200));
        assert!(
            survives(
                present,
                |slot| {
                    slot.get(DB, KEY, at(101), Access::Read);
                },
                200
            ),
            "reading is no change"
        );
        assert!(
            !survives(present, |slot| set(slot, DB, Expiry::Clear, 101), 200),
            "the same value again"
        );
        assert!(!survives(
            present,
            |slot| {
                slot.remove(DB, KEY, Moment::lru(UnixMs(101)));
            },
            200
        ));
        assert!(!survives(
            present,
            |slot| {
                slot.set_expiry(DB, KEY, None, Moment::lru(UnixMs(101)));
            },
            200
        ));
        assert!(
            !survives(nothing, |slot| set(slot, DB, Expiry::Clear, 101), 200),
            "created"
        );
        assert!(
            survives(present, |slot| set(slot, DbIndex(1), Expiry::Clear, 101), 200),
            "another db"
        );
        // Expiry.
        assert!(survives(brief, nothing, 150));
        assert!(!survives(brief, nothing, 151), "it was alive at WATCH");
        assert!(!survives(
            brief,
            |slot| {
                slot.expire_step(UnixMs(160), 9);
            },
            200
        ));
        assert!(survives(over, nothing, 200), "it was over at WATCH");
        assert!(survives(
            over,
            |slot| {
                slot.expire_step(UnixMs(160), 9);
            },
            200
        ));
        assert!(
            !survives(over, |slot| set(slot, DB, Expiry::Clear, 101), 200),
            "it came back"
        );
        // Whole dbs.
        let swap = |slot: &mut Slot, other: u32| {
            slot.swap_dbs(DB, DbIndex(other), at(160));
        };
        assert!(!survives(present, |slot| drop(slot.clear_db(DB)), 200));
        assert!(!survives(present, |slot| drop(slot.clear_all()), 200));
        assert!(survives(present, |slot| drop(slot.clear_db(DbIndex(1))), 200));
        assert!(
            survives(nothing, |slot| drop(slot.clear_db(DB)), 200),
            "nothing was there"
        );
        assert!(!survives(present, |slot| swap(slot, 3), 200));
        assert!(!survives(
            |slot| set(slot, DbIndex(3), Expiry::Clear, 1),
            |slot| swap(slot, 3),
            200
        ));
        assert!(survives(nothing, |slot| swap(slot, 3), 200), "in neither db");
        let other_over = |slot: &mut Slot| set(slot, DbIndex(3), Expiry::At(UnixMs(50)), 1);
        assert!(survives(other_over, |slot| swap(slot, 3), 200), "missing, then over");
        assert!(
            survives(
                |slot| {
                    over(slot);
                    other_over(slot);
                },
                |slot| swap(slot, 3),
                200
            ),
            "over before and after"
        );
        assert!(survives(over, |slot| swap(slot, 3), 200), "over, then missing");
        assert!(!survives(brief, |slot| swap(slot, 3), 200), "it was alive at WATCH");
        let other_brief = |slot: &mut Slot| set(slot, DbIndex(3), Expiry::At(UnixMs(170)), 1);
        assert!(
            !survives(other_brief, |slot| swap(slot, 3), 200),
            "it came while it lived"
        );
        assert!(survives(
            present,
            |slot| {
                slot.swap_dbs(DbIndex(2), DbIndex(3), at(101));
            },
            200
        ));
    }

    #[test]
    fn a_rollback_is_no_change_and_a_commit_is() {
        let change_within_undo = |slot: &mut Slot| {
            slot.begin_undo();
            set(slot, DB, Expiry::Clear, 101);
            drop(slot.clear_all());
        };
        let present = |slot: &mut Slot| set(slot, DB, Expiry::Clear, 1);
        assert!(survives(
            present,
            |slot| (change_within_undo(slot), slot.rollback()).1,
            200
        ));
        assert!(!survives(
            present,
            |slot| drop((change_within_undo(slot), slot.commit_undo())),
            200
        ));
    }

    #[test]
    fn a_second_watch_sees_only_what_comes_after_it() {
        let mut slot = Slot::new(0, HashSeed([1, 2]));
        let first = slot.watch(DB, KEY, Moment::lru(UnixMs(1)));
        set(&mut slot, DB, Expiry::Clear, 1);
        let second = slot.watch(DB, KEY, Moment::lru(UnixMs(1)));
        assert!(!slot.is_unchanged(&first, Moment::lru(UnixMs(1))));
        assert!(slot.is_unchanged(&second, Moment::lru(UnixMs(1))));
        slot.unwatch(first);
        assert!(slot.is_unchanged(&second, Moment::lru(UnixMs(1))));
        slot.unwatch(second);
    }
}
