//! One value with the byte that says what it is.
//!
//! The byte is the RDB format's: it names a type and the layout in which it was written, and there are more layouts than types, since
//! every version of Redis that changed a layout took a new number. Written is the layout of the RDB version asked for, read are all.
//!
//! A further type joins with a number here, a variant of [`Value`], and an arm in each of the two functions.

use super::rdb::{Damage, RdbError, RdbReader, RdbWriter};
use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;
use crate::data::list::{List, ListRef};
use crate::data::listpack::Listpack;
use crate::data::string::StringForm;
use crate::data::{Limits, Object, ObjectRef, TypedValue};
use crate::store::{EntryRef, OwnedEntry, ValueRef};
use std::borrow::Cow;

/// A string.
const TYPE_STRING: u8 = 0;
/// A list: nodes that are listpacks, or single elements.
const TYPE_LIST_QUICKLIST_2: u8 = 18;

/// A node of a list: one element, a listpack.
const NODE_PLAIN: u64 = 1;
const NODE_PACKED: u64 = 2;

/// What a value is made by, apart from its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    pub limits: &'a Limits,
    pub seed: HashSeed,
}

/// A value that was read and belongs to no key yet.
#[derive(Debug)]
pub enum Value<'a> {
    String(Cow<'a, [u8]>),
    Object(Object),
}

impl<'a> Value<'a> {
    /// Reads a type byte and the value behind it.
    pub fn read(reader: &mut RdbReader<'a>, _: Making<'_>) -> Result<Value<'a>, RdbError> {
        let start = reader.offset();
        let value = match reader.byte()? {
            TYPE_STRING => return Ok(Value::String(reader.string()?)),
            TYPE_LIST_QUICKLIST_2 => read_nodes(reader)?.into_object(),
            other => {
                return Err(RdbError {
                    offset: start,
                    what: Damage::Type(other),
                });
            }
        };
        if value.is_void() {
            return Err(RdbError {
                offset: start,
                what: Damage::Empty,
            });
        }
        Ok(Value::Object(value))
    }

    /// As an entry for the store.
    pub fn into_entry(self, key: &[u8], expiry: Option<UnixMs>, access_clock: u32) -> OwnedEntry {
        match self {
            Value::String(text) => OwnedEntry::string(key, &text, StringForm::Detect, expiry, access_clock),
            Value::Object(object) => OwnedEntry::object(key, object, expiry, access_clock),
        }
    }
}

fn read_nodes(reader: &mut RdbReader<'_>) -> Result<List, RdbError> {
    let mut list = List::new();
    for _ in 0..reader.length()? {
        let start = reader.offset();
        let damage = |what| RdbError { offset: start, what };
        match reader.length()? {
            NODE_PLAIN => list.push_back(&reader.string()?),
            NODE_PACKED => {
                let bytes = reader.string()?;
                let pack = Listpack::from_bytes(&bytes).map_err(|inner| damage(Damage::Packed(inner)))?;
                let mut digits = itoa::Buffer::new();
                pack.iter().for_each(|item| list.push_back(item.as_bytes(&mut digits)));
            }
            other => return Err(damage(Damage::Node(other))),
        }
    }
    Ok(list)
}

/// Writes an entry's value with its type byte; key and expiry are not part of it.
pub fn write(writer: &mut RdbWriter<'_>, entry: EntryRef<'_>) {
    match entry.value() {
        ValueRef::Int(number) => {
            writer.byte(TYPE_STRING);
            writer.integer_string(number);
        }
        ValueRef::Inline(text) => {
            writer.byte(TYPE_STRING);
            writer.string(text);
        }
        ValueRef::Shared(text) => {
            writer.byte(TYPE_STRING);
            writer.string(text);
        }
        ValueRef::Object(object) => write_object(writer, object),
    }
}

fn write_object(writer: &mut RdbWriter<'_>, object: ObjectRef<'_>) {
    match object {
        ObjectRef::List(ListRef::Packed(pack)) => {
            writer.byte(TYPE_LIST_QUICKLIST_2);
            writer.length(1);
            writer.length(NODE_PACKED);
            writer.string(pack.as_bytes());
        }
    }
}
