//! One value with the byte that says what it is.
//!
//! The byte is the RDB format's: it names a type and the layout in which it was written, and there are more layouts than types, since
//! every version of Redis that changed a layout took a new number. Written is the layout of the RDB version asked for, read are all.
//!
//! A further type joins with a number here, a variant of [`Value`], and an arm in each of the two functions.

use super::rdb::{Damage, RdbError, RdbReader, RdbWriter};
use crate::base::clock::UnixMs;
use crate::data::string::StringForm;
use crate::store::{EntryRef, OwnedEntry, ValueRef};
use std::borrow::Cow;

/// A string.
const TYPE_STRING: u8 = 0;

/// A value that was read and belongs to no key yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    String(Cow<'a, [u8]>),
}

impl<'a> Value<'a> {
    /// Reads a type byte and the value behind it.
    pub fn read(reader: &mut RdbReader<'a>) -> Result<Value<'a>, RdbError> {
        let start = reader.offset();
        match reader.byte()? {
            TYPE_STRING => Ok(Value::String(reader.string()?)),
            other => Err(RdbError {
                offset: start,
                what: Damage::Type(other),
            }),
        }
    }

    /// As an entry for the store.
    pub fn into_entry(self, key: &[u8], expiry: Option<UnixMs>, access_clock: u32) -> OwnedEntry {
        match self {
            Value::String(text) => OwnedEntry::string(key, &text, StringForm::Detect, expiry, access_clock),
        }
    }
}

/// Writes an entry's value with its type byte; key and expiry are not part of it.
pub fn write(writer: &mut RdbWriter<'_>, entry: EntryRef<'_>) {
    writer.byte(TYPE_STRING);
    match entry.value() {
        ValueRef::Int(number) => writer.integer_string(number),
        ValueRef::Inline(text) => writer.string(text),
        ValueRef::Shared(text) => writer.string(text),
    }
}
