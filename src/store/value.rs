//! A value on its way into an entry, and as it is seen in one.
//!
//! Long strings lie outside of their entry, in reference-counted `Bytes`: a reply can be sent from them while the key is
//! already being overwritten (`data::string::LongString`).

use bytes::Bytes;

use crate::base::numbers::{i64_text_bytes, parse_i64};
use crate::data::string::{EMBSTR_BYTES_MAX, LongString, StringForm};
use crate::data::{Object, ObjectRef};

/// Strings beyond this lie outside of their entry. Copying this much into a reply takes about as long as the extra
/// allocation, the reference count and the extra segment of a send do.
pub const INLINE_BYTES_MAX: usize = 8 * 1024;

/// A value as it lies in its entry.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// A string that is an integer.
    Int(i64),
    /// A string.
    Inline(&'a [u8]),
    /// A long string, which can be sent by reference: clone the `Bytes`.
    Shared(&'a Bytes),
    /// A value of any other type.
    Object(ObjectRef<'a>),
}

/// What asks for the bytes of a string has looked at the type.
const NOT_A_STRING: &str = "the caller knows that the value is a string";

impl<'a> ValueRef<'a> {
    /// The string's bytes; an integer is written into `digits`. Asserts that it is a string.
    #[inline]
    pub fn as_bytes<'b>(self, digits: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            ValueRef::Int(integer) => digits.format(integer).as_bytes(),
            ValueRef::Inline(bytes) => bytes,
            ValueRef::Shared(bytes) => bytes,
            ValueRef::Object(_) => panic!("{NOT_A_STRING}"),
        }
    }

    /// Length of the string in bytes (STRLEN). Asserts that it is a string.
    pub fn string_len(self) -> usize {
        match self {
            ValueRef::Int(integer) => i64_text_bytes(integer),
            ValueRef::Inline(bytes) => bytes.len(),
            ValueRef::Shared(bytes) => bytes.len(),
            ValueRef::Object(_) => panic!("{NOT_A_STRING}"),
        }
    }
}

/// A value on its way into an entry.
pub(super) enum NewValue<'v> {
    Int(i64),
    /// A string of at most `INLINE_BYTES_MAX`.
    Inline {
        bytes: &'v [u8],
        is_raw: bool,
    },
    /// A longer one, which is always `raw`.
    Large(LongString),
    /// Any other type.
    Object(Object),
}

impl<'v> NewValue<'v> {
    /// A string is encoded as `form` says; a long one is copied into a buffer of its own.
    pub(super) fn string(bytes: &'v [u8], form: StringForm) -> NewValue<'v> {
        if bytes.len() > INLINE_BYTES_MAX {
            return NewValue::Large(LongString::adopt(Bytes::copy_from_slice(bytes)));
        }
        if form == StringForm::Detect
            && let Some(integer) = parse_i64(bytes)
        {
            return NewValue::Int(integer);
        }
        NewValue::Inline {
            bytes,
            is_raw: form == StringForm::Raw || bytes.len() > EMBSTR_BYTES_MAX,
        }
    }
}
