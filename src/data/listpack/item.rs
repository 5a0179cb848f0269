//! One element as it is read from packed bytes.

use std::fmt;

use crate::base::numbers::{i64_text_bytes, parse_i64};

/// An element: a string of bytes, kept as an integer where its text is one in canonical form. Two items are equal when
/// their texts are.
#[derive(Clone, Copy)]
pub enum Item<'a> {
    /// The decimal text of this integer.
    Int(i64),
    /// These bytes.
    Bytes(&'a [u8]),
}

impl<'a> Item<'a> {
    /// The element with this text: an integer if the text is one in canonical form.
    #[inline]
    pub fn of(text: &'a [u8]) -> Item<'a> {
        match parse_i64(text) {
            Some(integer) => Item::Int(integer),
            None => Item::Bytes(text),
        }
    }

    /// The text; `buffer` is where an integer is printed.
    #[inline]
    pub fn as_bytes<'b>(&self, buffer: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match *self {
            Item::Int(integer) => buffer.format(integer).as_bytes(),
            Item::Bytes(bytes) => bytes,
        }
    }

    /// A copy of the text.
    pub fn to_vec(&self) -> Vec<u8> {
        self.as_bytes(&mut itoa::Buffer::new()).to_vec()
    }

    /// Bytes of the text.
    #[inline]
    pub fn len(&self) -> usize {
        match *self {
            Item::Int(integer) => i64_text_bytes(integer),
            Item::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether the text is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        matches!(self, Item::Bytes([]))
    }

    /// Whether this is the text.
    #[inline]
    pub fn eq_bytes(&self, text: &[u8]) -> bool {
        match *self {
            Item::Int(integer) => parse_i64(text) == Some(integer),
            Item::Bytes(bytes) => bytes == text,
        }
    }

    /// The integer that the text is in canonical form, if it is.
    #[inline]
    pub fn to_i64(&self) -> Option<i64> {
        match *self {
            Item::Int(integer) => Some(integer),
            Item::Bytes(bytes) => parse_i64(bytes),
        }
    }
}

impl PartialEq for Item<'_> {
    fn eq(&self, other: &Item<'_>) -> bool {
        match (*self, *other) {
            (Item::Int(one), Item::Int(two)) => one == two,
            (Item::Bytes(one), Item::Bytes(two)) => one == two,
            // A foreign writer may have kept an integer as text.
            (Item::Int(integer), Item::Bytes(text)) | (Item::Bytes(text), Item::Int(integer)) => {
                parse_i64(text) == Some(integer)
            }
        }
    }
}

impl Eq for Item<'_> {}

impl fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Int(integer) => write!(f, "{integer}"),
            Item::Bytes(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
        }
    }
}
