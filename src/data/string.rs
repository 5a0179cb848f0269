//! Strings: which encoding they get, and which bytes a range names.
//!
//! A string that is an integer in canonical form (`base::numbers::parse_i64`) is one: it is stored as eight bytes, and
//! printing them gives the same string again.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clamped_as_in_redis() {
        let text = b"This is a string";
        let slice = |start, end| std::str::from_utf8(&text[get_range(text.len(), start, end)]).unwrap();
        assert_eq!(slice(0, 3), "This");
        assert_eq!(slice(-3, -1), "ing");
        assert_eq!(slice(0, -1), "This is a string");
        assert_eq!(slice(10, 100), "string");
        assert_eq!(slice(5, 3), "");
        assert_eq!(slice(16, 20), "");
        assert_eq!(slice(-100, 3), "This");
        assert_eq!(slice(0, -100), "T");
        assert_eq!(slice(-1, -3), "");
        assert_eq!(slice(-100, -200), "");
        assert_eq!(slice(-200, -100), "T");
        assert_eq!(slice(i64::MIN, i64::MAX), "This is a string");
        assert_eq!(get_range(0, 0, -1), 0..0);
    }

    #[test]
    fn limit_counts_the_whole_string() {
        assert!(!exceeds_limit(10, 2, 12));
        assert!(exceeds_limit(10, 3, 12));
        assert!(exceeds_limit(u64::MAX, 1, u64::MAX));
    }
}
