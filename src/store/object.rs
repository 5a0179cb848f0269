//! Values that are not strings, in their slot: reaching them by type, changing them in place, creating and ending them.
//!
//! A change happens where the value lies, in a function that is lent it (`edit`). Around that function this file does what must
//! not be forgotten: the type is compared before anything is touched; an open undo keeps the entry as it was, as a copy or by freezing
//! the value; the table's books are kept by what the value takes before and after; a key whose last element has gone is
//! deleted. Whether anything was changed only the function knows, and it must say so ([`Edited`]): a client that watches the key
//! sees no change when an element was added that was there already.

use super::entry::OwnedEntry;
use super::slot::{DbIndex, Expiry, Slot};
use super::told::Happening;
use super::value::NewValue;
use crate::base::hash::HashSeed;
use crate::data::access::Moment;
use crate::data::dict::Spot;
use crate::data::{Object, ObjectRef, TypedValue};

/// A key holds a value of another type than the one asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

/// What a function answers that was lent a value to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited<R> {
    /// The value has changed, as far as anybody can see.
    Changed(R),
    /// It is as it was.
    Same(R),
}

impl<R> Edited<R> {
    /// One or the other.
    pub fn when(has_changed: bool, result: R) -> Edited<R> {
        if has_changed {
            Edited::Changed(result)
        } else {
            Edited::Same(result)
        }
    }

    pub(super) fn into_parts(self) -> (bool, R) {
        match self {
            Edited::Changed(result) => (true, result),
            Edited::Same(result) => (false, result),
        }
    }
}

impl Slot {
    /// Stores an object over a value of any type; asserts that it has elements.
    pub fn set_object(&mut self, db: DbIndex, key: &[u8], object: Object, expiry: Expiry, at: Moment) {
        assert!(!object.is_void(), "a value without elements is no value");
        self.store(db, key, NewValue::Object(object), expiry, at);
    }

    /// Lets `edit` change a value in place; None: there is no such key. Counts as an access. A key whose value has lost its last
    /// element is deleted.
    pub fn edit<T: TypedValue, R>(
        &mut self,
        db: DbIndex,
        key: &[u8],
        at: Moment,
        edit: impl FnOnce(&mut T) -> Edited<R>,
    ) -> Result<Option<R>, WrongType> {
        match self.find_typed::<T>(db, key, at)? {
            Some(spot) => Ok(Some(self.edit_at(db, spot, key, at, edit))),
            None => Ok(None),
        }
    }

    /// As [`Slot::edit`], with an empty value where there is no such key; that is stored if it then has elements.
    pub fn edit_or_create<T: TypedValue, R>(
        &mut self,
        db: DbIndex,
        key: &[u8],
        at: Moment,
        edit: impl FnOnce(&mut T) -> Edited<R>,
    ) -> Result<R, WrongType> {
        if let Some(spot) = self.find_typed::<T>(db, key, at)? {
            return Ok(self.edit_at(db, spot, key, at, edit));
        }
        let mut value = T::empty();
        let (has_changed, result) = edit(&mut value).into_parts();
        let object = value.into_object();
        if has_changed && !object.is_void() {
            let hash = self.common.seed.hash(key);
            self.make_way(db, hash, key, at);
            self.note_change(db, hash, key);
            self.insert(db, hash, OwnedEntry::object(key, object, None, at.new_clock()));
            self.tell(db, key, Happening::Created(T::TYPE));
        }
        Ok(result)
    }

    /// As [`Slot::edit`], whatever type of object it is; None also for a string.
    pub fn edit_object<R>(
        &mut self,
        db: DbIndex,
        key: &[u8],
        at: Moment,
        edit: impl FnOnce(&mut Object) -> Edited<R>,
    ) -> Option<R> {
        let spot = self.find_live(db, self.common.seed.hash(key), key, at)?;
        self.table(db)?.entry(spot).object()?;
        Some(self.edit_object_at(db, spot, key, at, edit))
    }

    /// Lends the object under a key to who reads it in slices (`data::copying`): what it is must stay. None: there is no such key, or
    /// it holds a string.
    pub fn lend_object<R>(
        &mut self,
        db: DbIndex,
        key: &[u8],
        lend: impl FnOnce(&mut Object, HashSeed) -> R,
    ) -> Option<R> {
        let seed = self.common.seed;
        let table = self.table(db)?;
        let spot = table.find(seed.hash(key), key)?;
        table.entry(spot).object()?;
        let lent = |entry: &mut OwnedEntry| entry.edit_object(|object| lend(object, seed));
        Some(self.table_mut(db).edit(spot, lent))
    }

    fn find_typed<T: TypedValue>(&mut self, db: DbIndex, key: &[u8], at: Moment) -> Result<Option<Spot>, WrongType> {
        let Some(spot) = self.find_live(db, self.common.seed.hash(key), key, at) else {
            return Ok(None);
        };
        let found = self.table(db).map(|table| table.entry(spot).type_of());
        if found == Some(T::TYPE) {
            Ok(Some(spot))
        } else {
            Err(WrongType)
        }
    }

    fn edit_at<T: TypedValue, R>(
        &mut self,
        db: DbIndex,
        spot: Spot,
        key: &[u8],
        at: Moment,
        edit: impl FnOnce(&mut T) -> Edited<R>,
    ) -> R {
        self.keep_for_undo(db, spot.hash(), key);
        self.touch(db, spot, at);
        let before = self.awaited_state(db, spot);
        let (edited, is_void) = self.table_mut(db).edit_value(spot, edit);
        let result = self.settle_edit(db, spot, key, edited, is_void);
        if let Some((added, group_count)) = before
            && let Some((new_added, new_group_count)) = self.awaited_state(db, spot)
        {
            if new_added > added {
                self.tell(db, key, Happening::Grown);
            }
            if new_group_count < group_count {
                self.tell(db, key, Happening::GroupGone);
            }
        }
        result
    }

    /// What clients that wait for a stream look at: how many entries were ever added (an XADD may drop as many as it adds, and XSETID
    /// sets the last ID), and how many groups it has. None: it is no stream, or nobody pays attention. (A stream is never void,
    /// so a change leaves it in its place.)
    #[inline]
    fn awaited_state(&self, db: DbIndex, spot: Spot) -> Option<(u64, usize)> {
        if !self.common.attention.is_paid() {
            return None;
        }
        match self.table(db)?.entry(spot).object()? {
            ObjectRef::Stream(stream) => Some((stream.entries.added(), stream.groups.len())),
            _ => None,
        }
    }

    fn edit_object_at<R>(
        &mut self,
        db: DbIndex,
        spot: Spot,
        key: &[u8],
        at: Moment,
        edit: impl FnOnce(&mut Object) -> Edited<R>,
    ) -> R {
        self.keep_for_undo(db, spot.hash(), key);
        self.touch(db, spot, at);
        let (edited, is_void) = self.table_mut(db).edit(spot, |entry| {
            entry.edit_object(|object| {
                let edited = edit(object);
                (edited, object.is_void())
            })
        });
        self.settle_edit(db, spot, key, edited, is_void)
    }

    /// Takes out a value that has lost its last element. The undo keeps it as it was, or has done so; what else is left of it is nothing
    /// that takes time to free.
    pub(super) fn drop_void(&mut self, db: DbIndex, spot: Spot) {
        let entry = self.cut(db, spot);
        if let Some(entry) = self.keep_gone(db, entry) {
            self.free(entry);
        }
    }

    /// What an edit leads to.
    #[inline]
    fn settle_edit<R>(&mut self, db: DbIndex, spot: Spot, key: &[u8], edited: Edited<R>, is_void: bool) -> R {
        let (has_changed, result) = edited.into_parts();
        self.count_frozen(db, key);
        if is_void {
            self.drop_void(db, spot);
            self.tell(db, key, Happening::Emptied);
        } else if has_changed {
            self.touch_watches(db, key);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::data::Limits;
    use crate::data::ValueType;
    use crate::data::list::{End, List};
    use crate::data::string::StringForm;
    use crate::store::{Access, HashSeed};

    const DB: DbIndex = DbIndex(0);
    const AT: Moment = Moment::lru(UnixMs(1));

    fn slot() -> Slot {
        Slot::new(0, HashSeed([1, 2]))
    }

    fn append(list: &mut List, text: &[u8]) {
        list.push(End::Back, text, &Limits::default());
    }

    fn pop(list: &mut List) -> Edited<bool> {
        let popped = list.pop(End::Back, &Limits::default(), |_| ());
        Edited::when(popped.is_some(), popped.is_some())
    }

    fn push(slot: &mut Slot, key: &[u8], count: usize) {
        let pushed = slot.edit_or_create(DB, key, AT, |list: &mut List| {
            (0..count).for_each(|number| append(list, format!("element {number}").as_bytes()));
            Edited::Changed(list.as_ref().len())
        });
        assert!(pushed.is_ok());
    }

    fn len(slot: &Slot, key: &[u8]) -> Option<usize> {
        let entry = slot.peek(DB, key, AT.now)?;
        Some(entry.object()?.len())
    }

    #[test]
    fn a_value_is_created_changed_and_ends_with_its_last_element() {
        let mut slot = slot();
        assert_eq!(
            slot.edit(DB, b"k", AT, |_: &mut List| Edited::Changed(())),
            Ok(None),
            "nothing there"
        );
        let nothing = slot.edit_or_create(DB, b"k", AT, |_: &mut List| Edited::Same(7));
        assert_eq!((nothing, slot.key_count()), (Ok(7), 0), "an empty value is not stored");
        push(&mut slot, b"k", 3);
        slot.check();
        assert_eq!(len(&slot, b"k"), Some(3));
        assert!(slot.set_expiry(DB, b"k", Some(UnixMs(9)), AT));
        push(&mut slot, b"k", 50);
        slot.check();
        let entry = slot.get(DB, b"k", AT, Access::Read).unwrap();
        assert_eq!((entry.type_of(), entry.expiry()), (ValueType::List, Some(UnixMs(9))));
        while slot.edit(DB, b"k", AT, pop) == Ok(Some(true)) {
            slot.check();
        }
        assert_eq!((slot.key_count(), slot.used_bytes(), slot.expires(DB)), (0, 0, 0));
    }

    #[test]
    fn a_string_is_no_list_and_each_may_take_the_place_of_the_other() {
        let mut slot = slot();
        slot.set_string(DB, b"k", b"text", StringForm::Detect, Expiry::Clear, AT);
        let refused = slot.edit_or_create(DB, b"k", AT, |_: &mut List| Edited::Changed(()));
        assert_eq!(refused, Err(WrongType));
        assert!(slot.edit_object(DB, b"k", AT, |_| Edited::Changed(())).is_none());
        let mut list = List::new();
        append(&mut list, b"a");
        slot.set_object(DB, b"k", list.into_object(), Expiry::At(UnixMs(5)), AT);
        slot.check();
        assert_eq!(len(&slot, b"k"), Some(1));
        let copy = slot.peek(DB, b"k", AT.now).unwrap().to_owned();
        slot.put(DB, b"longer name", copy, AT);
        push(&mut slot, b"longer name", 1);
        assert_eq!(
            (len(&slot, b"k"), len(&slot, b"longer name")),
            (Some(1), Some(2)),
            "a copy is a copy"
        );
        slot.set_string(DB, b"k", &[b'x'; 20_000], StringForm::Raw, Expiry::Keep, AT);
        slot.check();
        assert_eq!(slot.peek(DB, b"k", AT.now).unwrap().expiry(), Some(UnixMs(5)));
    }

    #[test]
    fn watchers_see_changes_and_only_changes() {
        let mut slot = slot();
        push(&mut slot, b"k", 1);
        let token = slot.watch(DB, b"k", AT);
        assert_eq!(slot.edit(DB, b"k", AT, |_: &mut List| Edited::Same(())), Ok(Some(())));
        assert!(slot.is_unchanged(&token, AT));
        push(&mut slot, b"k", 1);
        assert!(!slot.is_unchanged(&token, AT));
        slot.unwatch(token);
    }

    #[test]
    fn an_undo_brings_back_what_was_changed_in_place() {
        let mut slot = slot();
        push(&mut slot, b"changed", 3);
        push(&mut slot, b"emptied", 1);
        slot.begin_undo();
        push(&mut slot, b"changed", 3);
        push(&mut slot, b"new", 3);
        assert_eq!(slot.edit(DB, b"emptied", AT, pop), Ok(Some(true)));
        assert_eq!(len(&slot, b"emptied"), None);
        slot.rollback();
        slot.check();
        let lens = [&b"changed"[..], b"emptied", b"new"].map(|key| len(&slot, key));
        assert_eq!(lens, [Some(3), Some(1), None]);
    }
}
