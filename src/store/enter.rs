//! Keys that come from a file: they are entered, not written.
//!
//! Nothing follows from it: nobody has watched such a key, no effect is logged, no event is told.

use super::entry::OwnedEntry;
use super::slot::{DbIndex, Slot};

impl Slot {
    /// Enters a key that a file brings; hands it back, and does nothing, if the key is there.
    /// `hash` is [`Slot::hash`] of its key.
    pub fn enter(&mut self, db: DbIndex, hash: u64, entry: OwnedEntry) -> Result<(), OwnedEntry> {
        let key = entry.as_ref().key();
        if self.table(db).is_some_and(|table| table.find(hash, key).is_some()) {
            return Err(entry);
        }
        if self.concerns_cut() {
            self.meet_cut();
        }
        self.insert(db, hash, entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::base::hash::HashSeed;
    use crate::data::access::Moment;
    use crate::data::string::StringForm;

    #[test]
    fn a_key_is_entered_once_and_nobody_is_told() {
        let mut slot = Slot::new(0, HashSeed([3, 4]));
        let entry = |value: &[u8]| OwnedEntry::string(b"key", value, StringForm::Detect, Some(UnixMs(90)), 7);
        let hash = slot.hash(b"key");
        slot.enter(DbIndex(2), hash, entry(b"first")).expect("it is new");
        let back = slot.enter(DbIndex(2), hash, entry(b"second")).expect_err("it is there");
        assert_eq!(back.as_ref().key(), b"key");
        slot.enter(DbIndex(0), hash, entry(b"elsewhere"))
            .expect("another db is another key");
        assert!(slot.take_told().is_empty());
        slot.check();
        let now = UnixMs(1);
        let found = slot.peek(DbIndex(2), b"key", now).expect("it was entered");
        let mut digits = itoa::Buffer::new();
        assert_eq!(
            (found.value().as_bytes(&mut digits), found.expiry()),
            (&b"first"[..], Some(UnixMs(90)))
        );
        assert_eq!(
            (found.access_clock(), slot.len(DbIndex(0)), slot.expires(DbIndex(2))),
            (7, 1, 1)
        );
        assert!(
            slot.get(DbIndex(2), b"key", Moment::lru(UnixMs(91)), crate::store::Access::Peek)
                .is_none()
        );
    }
}
