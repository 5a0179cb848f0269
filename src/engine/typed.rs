//! The keyspace by type: what the families of lists, hashes, sets, sorted sets and streams reach their values by.
//!
//! | call | for |
//! |---|---|
//! | `keys.read_hash(key)?` | reading: counts a hit or a miss, and an access |
//! | `keys.peek_hash(key)?` | looking before a change: neither |
//! | `keys.edit_hash(key, \|hash\| ..)?` | changing what is there; None if nothing is |
//! | `keys.edit_or_create_hash(key, \|hash\| ..)?` | changing what is there, or an empty value that is then stored |
//! | `keys.replace(key, value)?` | storing over anything (SINTERSTORE); a value without elements deletes the key |
//!
//! and so for each type. Any other type under the key is WRONGTYPE. What is read are references into the stored value
//! (`HashRef`), to write a reply from; what is changed is lent to a function, which answers [`Edited`]: whether there was any
//! change, and its result. Thresholds come from `op.env.limits`, the hash's secret from `op.env.seed`, chance from
//! `op.env.random`: fields beside `op.keys` and `op.reply`, so all of them can be used within that function.
//!
//! What is left to the handler: to say that it wrote ([`Op::wrote`](super::Op::wrote)).

use super::keyspace::Keyspace;
use crate::data::hash::Hash;
use crate::data::list::List;
use crate::data::object::TypedValue;
use crate::data::set::Set;
use crate::data::sorted_set::SortedSet;
use crate::data::stream::Stream;
use crate::resp::{ReplyError, error};
use crate::store::{EntryRef, Expiry};

pub use crate::store::Edited;

impl Keyspace<'_, '_> {
    /// Looks a value up for reading: counts as a hit or a miss, and as an access.
    #[inline]
    pub fn read_as<T: TypedValue>(&mut self, key: &[u8]) -> Result<Option<T::Ref<'_>>, ReplyError> {
        only::<T>(self.read(key)?)
    }

    /// Looks a value up before changing something: no hit, no miss, no access.
    #[inline]
    pub fn peek_as<T: TypedValue>(&mut self, key: &[u8]) -> Result<Option<T::Ref<'_>>, ReplyError> {
        only::<T>(self.peek(key)?)
    }

    /// Lets `edit` change a value; None: there is no such key. The key is deleted when its value has no elements afterwards.
    #[inline]
    pub fn edit<T: TypedValue, R>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut T) -> Edited<R>,
    ) -> Result<Option<R>, ReplyError> {
        let (db, moment) = (self.db, self.moment);
        let edited = self.slot(key)?.edit(db, key, moment, edit);
        edited.map_err(|_| error::WRONG_TYPE)
    }

    /// As [`Keyspace::edit`]; where there is no such key `edit` gets an empty value, which is stored if it has elements then.
    #[inline]
    pub fn edit_or_create<T: TypedValue, R>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut T) -> Edited<R>,
    ) -> Result<R, ReplyError> {
        let (db, moment) = (self.db, self.moment);
        let edited = self.slot(key)?.edit_or_create(db, key, moment, edit);
        edited.map_err(|_| error::WRONG_TYPE)
    }

    /// Stores a value over whatever is there, with no expiry; one without elements deletes the key instead. Whether anything
    /// was changed: false only if there was nothing and there is nothing.
    pub fn replace<T: TypedValue>(&mut self, key: &[u8], value: T) -> Result<bool, ReplyError> {
        let (db, moment) = (self.db, self.moment);
        let slot = self.slot(key)?;
        let object = value.into_object();
        if object.is_void() {
            return Ok(slot.remove(db, key, moment));
        }
        slot.set_object(db, key, object, Expiry::Clear, moment);
        Ok(true)
    }
}

/// The calls by the name of the type.
macro_rules! by_name {
    ($($type:ident: $read:ident $peek:ident $edit:ident $edit_or_create:ident;)+) => {
        impl Keyspace<'_, '_> {
            $(
                /// [`Keyspace::read_as`] of this type.
                #[inline]
                pub fn $read(&mut self, key: &[u8]) -> Result<Option<<$type as TypedValue>::Ref<'_>>, ReplyError> {
                    self.read_as::<$type>(key)
                }

                /// [`Keyspace::peek_as`] of this type.
                #[inline]
                pub fn $peek(&mut self, key: &[u8]) -> Result<Option<<$type as TypedValue>::Ref<'_>>, ReplyError> {
                    self.peek_as::<$type>(key)
                }

                /// [`Keyspace::edit`] of this type.
                #[inline]
                pub fn $edit<R>(
                    &mut self,
                    key: &[u8],
                    edit: impl FnOnce(&mut $type) -> Edited<R>,
                ) -> Result<Option<R>, ReplyError> {
                    self.edit(key, edit)
                }

                /// [`Keyspace::edit_or_create`] of this type.
                #[inline]
                pub fn $edit_or_create<R>(
                    &mut self,
                    key: &[u8],
                    edit: impl FnOnce(&mut $type) -> Edited<R>,
                ) -> Result<R, ReplyError> {
                    self.edit_or_create(key, edit)
                }
            )+
        }
    };
}

by_name! {
    List: read_list peek_list edit_list edit_or_create_list;
    Hash: read_hash peek_hash edit_hash edit_or_create_hash;
    Set: read_set peek_set edit_set edit_or_create_set;
    SortedSet: read_sorted_set peek_sorted_set edit_sorted_set edit_or_create_sorted_set;
    Stream: read_stream peek_stream edit_stream edit_or_create_stream;
}

/// The value, if it is of that type.
#[inline]
fn only<T: TypedValue>(entry: Option<EntryRef<'_>>) -> Result<Option<T::Ref<'_>>, ReplyError> {
    match entry {
        None => Ok(None),
        Some(entry) => entry.object().and_then(T::of).map(Some).ok_or(error::WRONG_TYPE),
    }
}
