//! The ID of an entry: a time in milliseconds and a sequence number, and all the forms in which commands write one.
//!
//! | form | where | who reads it |
//! |---|---|---|
//! | `ms-seq`, `ms` | everywhere; what `ms` alone means is the caller's to say | [`StreamId::parse`] |
//! | `-`, `+` | ends of a range | [`StreamId::parse_edge`] |
//! | `(ms-seq` | ends of a range, exclusive | [`StreamId::parse_start`], [`StreamId::parse_end`] |
//! | `ms-*`, `*` | XADD | [`NewId::parse`] |
//!
//! `$` and `>` mean something only to the commands that take them. The formats are described in Redis's documentation
//! (Streams, "Entry IDs"). What is not documented is how forgiving the numbers are: what is not a canonical integer is read as C's
//! `strtoull` reads it, so leading zeros, spaces and a sign go through.

use crate::base::numbers::{as_c_text, parse_i64, parse_u64};
use std::fmt;

/// The ID of an entry. Ordered by time, then by sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

/// The longest text of an ID.
pub const ID_TEXT_BYTES_MAX: usize = 41;

/// A text of more bytes is no ID (Redis's buffer has 128).
const GIVEN_TEXT_BYTES_MAX: usize = 127;

impl StreamId {
    /// `0-0`: before every entry; no entry has it.
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    /// The last possible ID.
    pub const MAX: StreamId = StreamId {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    /// `ms-seq`.
    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// Whether it is `0-0`.
    pub fn is_zero(self) -> bool {
        self == StreamId::MIN
    }

    /// The next greater ID, if there is one.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => Some(StreamId::new(self.ms.checked_add(1)?, 0)),
        }
    }

    /// The next smaller ID, if there is one.
    pub fn previous(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => Some(StreamId::new(self.ms.checked_sub(1)?, u64::MAX)),
        }
    }

    /// Reads `ms-seq`, or `ms` alone with the sequence number `missing_seq`.
    pub fn parse(text: &[u8], missing_seq: u64) -> Option<StreamId> {
        let (ms, seq) = split(text)?;
        Some(StreamId {
            ms: parse_part(ms)?,
            seq: match seq {
                Some(seq) => parse_part(seq)?,
                None => missing_seq,
            },
        })
    }

    /// As [`StreamId::parse`]; `-` is the smallest ID and `+` the greatest.
    pub fn parse_edge(text: &[u8], missing_seq: u64) -> Option<StreamId> {
        match text {
            b"-" => Some(StreamId::MIN),
            b"+" => Some(StreamId::MAX),
            text => StreamId::parse(text, missing_seq),
        }
    }

    /// The first ID of the range that begins with `text`.
    pub fn parse_start(text: &[u8]) -> Result<StreamId, BoundError> {
        match exclusive(text) {
            Some(text) => {
                let id = StreamId::parse(text, 0).ok_or(BoundError::Syntax)?;
                id.next().ok_or(BoundError::Empty)
            }
            None => StreamId::parse_edge(text, 0).ok_or(BoundError::Syntax),
        }
    }

    /// The last ID of the range that ends with `text`.
    pub fn parse_end(text: &[u8]) -> Result<StreamId, BoundError> {
        match exclusive(text) {
            Some(text) => {
                let id = StreamId::parse(text, u64::MAX).ok_or(BoundError::Syntax)?;
                id.previous().ok_or(BoundError::Empty)
            }
            None => StreamId::parse_edge(text, u64::MAX).ok_or(BoundError::Syntax),
        }
    }

    /// Its text, without an allocation.
    pub fn text(self) -> IdText {
        let mut digits = itoa::Buffer::new();
        let mut text = IdText {
            bytes: [0; ID_TEXT_BYTES_MAX],
            len: 0,
        };
        text.append(digits.format(self.ms).as_bytes());
        text.append(b"-");
        text.append(digits.format(self.seq).as_bytes());
        text
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// The text of an ID.
#[derive(Clone, Copy)]
pub struct IdText {
    bytes: [u8; ID_TEXT_BYTES_MAX],
    len: usize,
}

impl IdText {
    fn append(&mut self, part: &[u8]) {
        self.bytes[self.len..][..part.len()].copy_from_slice(part);
        self.len += part.len();
    }
}

impl std::ops::Deref for IdText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Why the end of a range cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundError {
    /// It is no ID.
    Syntax,
    /// It excludes the last (or first) ID there is.
    Empty,
}

/// What XADD is told about the ID of the new entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// `*`
    Auto,
    /// `ms-*`
    AutoSeq(u64),
    /// `ms-seq`, or `ms` for `ms-0`.
    Exact(StreamId),
}

impl NewId {
    /// Reads what XADD takes for an ID.
    pub fn parse(text: &[u8]) -> Option<NewId> {
        if text == b"*" {
            return Some(NewId::Auto);
        }
        match split(text)? {
            (ms, Some(b"*")) => Some(NewId::AutoSeq(parse_part(ms)?)),
            _ => StreamId::parse(text, 0).map(NewId::Exact),
        }
    }
}

/// What stands behind `(`.
fn exclusive(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"(").filter(|rest| !rest.is_empty())
}

/// The part before the first `-` and what follows it. A text ends at a NUL, as a C string does.
fn split(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    if text.len() > GIVEN_TEXT_BYTES_MAX {
        return None;
    }
    let text = as_c_text(text);
    Some(match memchr::memchr(b'-', text) {
        Some(dash) => (&text[..dash], Some(&text[dash + 1..])),
        None => (text, None),
    })
}

/// One of the two numbers.
fn parse_part(text: &[u8]) -> Option<u64> {
    if let Some(value) = parse_u64(text) {
        return Some(value);
    }
    if parse_i64(text).is_some() {
        return None;
    }
    let spaces = text.iter().take_while(|byte| matches!(byte, b' ' | 9..=13)).count();
    let (is_negative, digits) = match &text[spaces..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(if is_negative { value.wrapping_neg() } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_read() {
        let id = |ms, seq| Some(StreamId::new(ms, seq));
        assert_eq!(StreamId::parse(b"5-3", 9), id(5, 3));
        assert_eq!(StreamId::parse(b"5", 9), id(5, 9));
        assert_eq!(
            StreamId::parse(b"18446744073709551615-18446744073709551615", 0),
            Some(StreamId::MAX)
        );
        assert_eq!(StreamId::parse(b"005- 07", 9), id(5, 7), "as strtoull");
        assert_eq!(StreamId::parse(b"+5-1\0x", 9), id(5, 1));
        assert_eq!(StreamId::parse(b"1--05", 9), id(1, 5u64.wrapping_neg()));
        for bad in [
            "",
            "-",
            "+",
            "-1",
            "1-",
            "1--5",
            "a",
            "1-a",
            "18446744073709551616",
            "1 ",
            "1-1-1",
            "*",
            "1-*",
        ] {
            assert_eq!(StreamId::parse(bad.as_bytes(), 0), None, "{bad}");
        }
        assert_eq!(StreamId::parse(&[b'0'; 128], 0), None);
        assert_eq!(StreamId::parse_edge(b"-", 9), Some(StreamId::MIN));
        assert_eq!(StreamId::parse_edge(b"+", 9), Some(StreamId::MAX));
        assert_eq!(NewId::parse(b"*"), Some(NewId::Auto));
        assert_eq!(NewId::parse(b"7-*"), Some(NewId::AutoSeq(7)));
        assert_eq!(NewId::parse(b"7"), Some(NewId::Exact(StreamId::new(7, 0))));
        assert_eq!(NewId::parse(b"-"), None);
        assert_eq!(NewId::parse(b"-*"), None);
        assert_eq!(NewId::parse(b"**"), None);
    }

    #[test]
    fn ends_of_ranges() {
        assert_eq!(StreamId::parse_start(b"5"), Ok(StreamId::new(5, 0)));
        assert_eq!(StreamId::parse_end(b"5"), Ok(StreamId::new(5, u64::MAX)));
        assert_eq!(StreamId::parse_start(b"(5"), Ok(StreamId::new(5, 1)));
        assert_eq!(StreamId::parse_end(b"(5-0"), Ok(StreamId::new(4, u64::MAX)));
        assert_eq!(StreamId::parse_end(b"(0-0"), Err(BoundError::Empty));
        assert_eq!(StreamId::parse_end(b"(-"), Err(BoundError::Syntax));
        assert_eq!(StreamId::parse_start(b"("), Err(BoundError::Syntax));
        assert_eq!(StreamId::parse_start(b"(+"), Err(BoundError::Syntax));
        let last = b"(18446744073709551615-18446744073709551615";
        assert_eq!(StreamId::parse_start(last), Err(BoundError::Empty));
        assert_eq!(
            StreamId::parse_start(b"(1-18446744073709551615"),
            Ok(StreamId::new(2, 0))
        );
    }

    #[test]
    fn texts_are_read_back() {
        for id in [StreamId::MIN, StreamId::MAX, StreamId::new(1_700_000_000_000, 42)] {
            assert_eq!(StreamId::parse(&id.text(), 0), Some(id));
            assert_eq!(&*id.text(), id.to_string().as_bytes());
        }
    }
}
