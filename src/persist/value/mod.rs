//! One value with the byte that says what it is.
//!
//! The byte is the RDB format's: it names a type and the layout in which it was written, and there are more layouts than types, since
//! every version of Redis that changed a layout took a new number. Written is the layout of the RDB version asked for, read are all:
//!
//! | type | written | also read |
//! |---|---|---|
//! | string | 0 | |
//! | list | 18: nodes of listpacks, long elements by themselves | 1: elements; 10: a ziplist; 14: nodes of ziplists |
//! | stream | 21, below version 11: 19 | 15 |
//!
//! | module | what |
//! |---|---|
//! | [`list`], [`stream`] | the layouts of each type |
//! | [`old`] | ziplists and zipmaps, which Redis wrote before version 7 |
//!
//! What is packed in Redis's way is copied as it is, once it has been checked from end to end; everything else is built up element
//! by element, as commands would. Either way a value that comes out is as sound as one that a client has made, and is kept as
//! the thresholds of the configuration say.
//!
//! A further type joins with its numbers here, and an arm in [`Value::read`] and [`write_object`].

mod list;
mod old;
mod stream;

use super::rdb::{Damage, RdbError, RdbReader, RdbWriter};
use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;
use crate::data::string::StringForm;
use crate::data::{Limits, Object, ObjectRef, TypedValue};
use crate::store::{EntryRef, OwnedEntry, ValueRef};
use std::borrow::Cow;

const STRING: u8 = 0;
const LIST: u8 = 1;
const LIST_ZIPLIST: u8 = 10;
const LIST_QUICKLIST: u8 = 14;
const STREAM_LISTPACKS: u8 = 15;
const LIST_QUICKLIST_2: u8 = 18;
const STREAM_LISTPACKS_2: u8 = 19;
const STREAM_LISTPACKS_3: u8 = 21;

/// The first RDB version that has streams with the times at which consumers were active: Redis 7.2's.
const WITH_ACTIVE_TIMES: u16 = 11;

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
    pub fn read(reader: &mut RdbReader<'a>, making: Making<'_>) -> Result<Value<'a>, RdbError> {
        let start = reader.offset();
        let object = match reader.byte()? {
            STRING => return Ok(Value::String(reader.string()?)),
            LIST => list::read_elements(reader, making)?.into_object(),
            LIST_ZIPLIST => list::read_ziplist(reader, making)?.into_object(),
            LIST_QUICKLIST => list::read_ziplist_nodes(reader, making)?.into_object(),
            LIST_QUICKLIST_2 => list::read_nodes(reader, making)?.into_object(),
            STREAM_LISTPACKS => stream::read(reader, 1)?.into_object(),
            STREAM_LISTPACKS_2 => stream::read(reader, 2)?.into_object(),
            STREAM_LISTPACKS_3 => stream::read(reader, 3)?.into_object(),
            other => return Err(Damage::Type(other).at(start)),
        };
        if object.is_void() {
            return Err(Damage::Empty.at(start));
        }
        Ok(Value::Object(object))
    }

    /// As an entry for the store.
    pub fn into_entry(self, key: &[u8], expiry: Option<UnixMs>, access_clock: u32) -> OwnedEntry {
        match self {
            Value::String(text) => OwnedEntry::string(key, &text, StringForm::Detect, expiry, access_clock),
            Value::Object(object) => OwnedEntry::object(key, object, expiry, access_clock),
        }
    }
}

/// Writes an entry's value with its type byte, as that RDB version has it; key and expiry are not part of it.
pub fn write(writer: &mut RdbWriter<'_>, entry: EntryRef<'_>, rdb_version: u16) {
    match entry.value() {
        ValueRef::Object(object) => return write_object(writer, object, rdb_version),
        ValueRef::Int(number) => {
            writer.byte(STRING);
            writer.integer_string(number);
        }
        ValueRef::Inline(text) => {
            writer.byte(STRING);
            writer.string(text);
        }
        ValueRef::Shared(text) => {
            writer.byte(STRING);
            writer.string(text);
        }
    }
}

fn write_object(writer: &mut RdbWriter<'_>, object: ObjectRef<'_>, rdb_version: u16) {
    match object {
        ObjectRef::List(value) => list::write(writer, value),
        ObjectRef::Stream(value) => stream::write(writer, value, rdb_version),
    }
}
