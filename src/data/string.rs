//! Strings: which encoding they get, and which bytes a range names.
//!
//! Long ones have a type of their own ([`LongString`]), since they are shared and can be frozen.
//!
//! A string that is an integer in canonical form (`base::numbers::parse_i64`) is one: it is stored as eight bytes, and
//! printing them gives the same string again.

mod long;
mod past;
#[cfg(test)]
mod tests;

pub use long::{LongString, StringEdit};

use std::ops::Range;

/// The longest string that SET keeps as `embstr` (Redis's OBJ_ENCODING_EMBSTR_SIZE_LIMIT: what fits a 64-byte
/// allocation there; clients only see the name).
pub const EMBSTR_BYTES_MAX: usize = 44;

/// The longest string, unless `proto-max-bulk-len` says otherwise: 512 MiB.
pub const STRING_BYTES_MAX: usize = 512 * 1024 * 1024;

/// What a string becomes when it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringForm {
    /// As SET stores: an integer if it is one in canonical form, else by length.
    Detect,
    /// As INCRBYFLOAT stores: never an integer, `embstr` or `raw` by length.
    Text,
    /// As APPEND, SETRANGE and SETBIT leave it: `raw`, however short.
    Raw,
}

/// The bytes that GETRANGE names in a string of `len` bytes: both ends included, negative ones counted from the end, what
/// lies outside cut off. An end before the beginning of the string is its first byte, as in Redis (`GETRANGE k 0 -100`
/// answers one byte), unless both ends are negative and the wrong way round.
pub fn get_range(len: usize, start: i64, end: i64) -> Range<usize> {
    if len == 0 || (start < 0 && end < 0 && start > end) {
        return 0..0;
    }
    let from = absolute(len, start);
    let to = absolute(len, end).min(len - 1);
    if from > to { 0..0 } else { from..to + 1 }
}

/// Whether a string would be longer than `bytes_max` after a write of `len` bytes at `offset` (APPEND, SETRANGE).
pub fn exceeds_limit(offset: u64, len: u64, bytes_max: u64) -> bool {
    offset.checked_add(len).is_none_or(|end| end > bytes_max)
}

/// An index from the front; negative ones count from the end and stop at the front.
fn absolute(len: usize, index: i64) -> usize {
    let magnitude = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
    if index < 0 {
        len.saturating_sub(magnitude)
    } else {
        magnitude
    }
}
