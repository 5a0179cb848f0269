//! One entry of a listpack: encoding, data, and the length for walking backwards.
//!
//! ```text
//! 0xxxxxxx                                    integer, 0 to 127
//! 10LLLLLL <bytes>                            string of up to 63 bytes
//! 110xxxxx xxxxxxxx                           integer of 13 bits, signed, high bits first
//! 1110LLLL LLLLLLLL <bytes>                   string of up to 4095 bytes, high bits first
//! 11110000 <u32 LE> <bytes>                   string
//! 11110001 11110010 11110011 11110100         integers of 16, 24, 32, 64 bits, LE, signed
//! 11111111                                    the end of the listpack, no entry
//! ```
//!
//! Behind it stands how many bytes that was, seven bits a byte, the low ones last, every byte but the first with its high
//! bit set: so it can be read backwards. Redis takes one byte for it more than needed when the length is 16383, 2097151
//! or 268435455, and walking forwards depends on it: [`backward_bytes`].

use super::item::Item;
use crate::data::damaged::{Damaged, Fault};

/// What ends a listpack.
pub(super) const END: u8 = 0xff;

const STRING_6: u8 = 0x80;
const INT_13: u8 = 0xc0;
const STRING_12: u8 = 0xe0;
const STRING_32: u8 = 0xf0;
const INT_16: u8 = 0xf1;
const INT_24: u8 = 0xf2;
const INT_32: u8 = 0xf3;
const INT_64: u8 = 0xf4;

const STRING_6_BYTES_MAX: usize = 0x3f;
const STRING_12_BYTES_MAX: usize = 0xfff;
/// Integers of 13 bits, signed.
const INT_13_RANGE: std::ops::RangeInclusive<i64> = -4096..=4095;
const INT_24_RANGE: std::ops::RangeInclusive<i64> = -(1 << 23)..=(1 << 23) - 1;

/// For each first byte, the bytes of the whole entry with its backward length (which is one byte for all of these), or 0
/// where the first byte does not say: longer strings, the end mark, bytes that mean nothing.
static WHOLE_BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut first = 0;
    while first < 256 {
        table[first] = match first as u8 {
            0..STRING_6 => 2,
            string @ STRING_6..INT_13 => (string & 0x3f) + 2,
            INT_13..STRING_12 => 3,
            INT_16 => 4,
            INT_24 => 5,
            INT_32 => 6,
            INT_64 => 10,
            _ => 0,
        };
        first += 1;
    }
    table
};

/// Bytes that the backward length of an entry of `bytes` takes, as Redis counts them.
#[inline(always)]
pub(super) fn backward_bytes(bytes: usize) -> usize {
    match bytes {
        0..=127 => 1,
        ..16_383 => 2,
        ..2_097_151 => 3,
        ..268_435_455 => 4,
        _ => 5,
    }
}

/// Bytes of the whole entry at `at`, with its backward length. The listpack is sound and `at` is an entry of it.
#[inline(always)]
pub(super) fn whole_bytes(listpack: &[u8], at: usize) -> usize {
    match WHOLE_BYTES[usize::from(listpack[at])] {
        0 => long_string_whole_bytes(listpack, at),
        bytes => usize::from(bytes),
    }
}

#[inline(never)]
fn long_string_whole_bytes(listpack: &[u8], at: usize) -> usize {
    let (head, len) = long_string(listpack, at);
    head + len + backward_bytes(head + len)
}

/// Where the bytes of a string with a head of 2 or 5 bytes begin, and how many they are.
#[inline(always)]
fn long_string(listpack: &[u8], at: usize) -> (usize, usize) {
    if listpack[at] < STRING_32 {
        (
            2,
            usize::from(u16::from_be_bytes([listpack[at] & 0x0f, listpack[at + 1]])),
        )
    } else {
        (5, u32::from_le_bytes(fixed(listpack, at + 1)) as usize)
    }
}

/// The element at `at` and the bytes of its whole entry. The listpack is sound and `at` is an entry of it.
#[inline(always)]
pub(super) fn decode(listpack: &[u8], at: usize) -> (Item<'_>, usize) {
    let first = listpack[at];
    if first & 0xc0 == STRING_6 {
        let len = usize::from(first & 0x3f);
        return (Item::Bytes(&listpack[at + 1..at + 1 + len]), len + 2);
    }
    if first < STRING_6 {
        return (Item::Int(i64::from(first)), 2);
    }
    decode_long(listpack, at)
}

#[inline]
fn decode_long(listpack: &[u8], at: usize) -> (Item<'_>, usize) {
    match listpack[at] {
        first @ INT_13..STRING_12 => {
            // The sign is the highest of 13 bits: shifted to the top of 16 and back.
            let bits = u16::from_be_bytes([first & 0x1f, listpack[at + 1]]);
            (Item::Int(i64::from((bits << 3) as i16 >> 3)), 3)
        }
        STRING_12..=STRING_32 => {
            let (head, len) = long_string(listpack, at);
            let bytes = &listpack[at + head..at + head + len];
            (Item::Bytes(bytes), head + len + backward_bytes(head + len))
        }
        INT_16 => (Item::Int(i64::from(i16::from_le_bytes(fixed(listpack, at + 1)))), 4),
        INT_24 => {
            let [low, middle, high] = fixed(listpack, at + 1);
            (Item::Int(i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8)), 5)
        }
        INT_32 => (Item::Int(i64::from(i32::from_le_bytes(fixed(listpack, at + 1)))), 6),
        // The only one left in a sound listpack.
        _ => (Item::Int(i64::from_le_bytes(fixed(listpack, at + 1))), 10),
    }
}

#[inline(always)]
fn fixed<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..]
        .first_chunk()
        .expect("an entry of a sound listpack lies within it")
}

/// Where the entry that ends before `end` begins. The listpack is sound and `end` is the end of an entry of it.
#[inline(always)]
pub(super) fn before(listpack: &[u8], end: usize) -> usize {
    let last = listpack[end - 1];
    if last < 0x80 {
        return end - 1 - usize::from(last);
    }
    before_long(listpack, end)
}

#[inline(never)]
fn before_long(listpack: &[u8], end: usize) -> usize {
    let mut at = end - 1;
    let mut bytes = 0;
    let mut shift = 0;
    loop {
        let byte = listpack[at];
        bytes |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return at - bytes;
        }
        at -= 1;
        shift += 7;
    }
}

/// An entry about to be written: head, bytes, backward length.
pub(super) struct NewEntry<'a> {
    head: [u8; 9],
    head_bytes: u8,
    backward: [u8; 5],
    backward_bytes: u8,
    bytes: &'a [u8],
}

impl<'a> NewEntry<'a> {
    /// In the shortest encoding; a text that is an integer in canonical form becomes one. Panics if the text is longer
    /// than a listpack can hold.
    #[inline]
    pub(super) fn of(item: Item<'a>) -> NewEntry<'a> {
        let item = match item {
            Item::Bytes(text) => Item::of(text),
            int => int,
        };
        let mut head = [0; 9];
        let (head_bytes, bytes): (usize, &[u8]) = match item {
            Item::Int(integer) => (int_head(&mut head, integer), &[]),
            Item::Bytes(bytes) => (string_head(&mut head, bytes.len()), bytes),
        };
        let entry_bytes = head_bytes + bytes.len();
        let mut backward = [0; 5];
        let backward_bytes = write_backward(&mut backward, entry_bytes);
        NewEntry {
            head,
            head_bytes: head_bytes as u8,
            backward,
            backward_bytes: backward_bytes as u8,
            bytes,
        }
    }

    /// Its parts, in order.
    #[inline]
    pub(super) fn pieces(&self) -> [&[u8]; 3] {
        [
            &self.head[..usize::from(self.head_bytes)],
            self.bytes,
            &self.backward[..usize::from(self.backward_bytes)],
        ]
    }

    /// How many bytes that is.
    #[inline]
    pub(super) fn whole_bytes(&self) -> usize {
        usize::from(self.head_bytes) + self.bytes.len() + usize::from(self.backward_bytes)
    }
}

fn int_head(head: &mut [u8; 9], integer: i64) -> usize {
    if let Ok(small @ 0..STRING_6) = u8::try_from(integer) {
        head[0] = small;
        1
    } else if INT_13_RANGE.contains(&integer) {
        let bits = (integer as u16 & 0x1fff).to_be_bytes();
        head[..2].copy_from_slice(&[INT_13 | bits[0], bits[1]]);
        2
    } else if let Ok(integer) = i16::try_from(integer) {
        head[0] = INT_16;
        head[1..3].copy_from_slice(&integer.to_le_bytes());
        3
    } else if INT_24_RANGE.contains(&integer) {
        head[0] = INT_24;
        head[1..4].copy_from_slice(&integer.to_le_bytes()[..3]);
        4
    } else if let Ok(integer) = i32::try_from(integer) {
        head[0] = INT_32;
        head[1..5].copy_from_slice(&integer.to_le_bytes());
        5
    } else {
        head[0] = INT_64;
        head[1..].copy_from_slice(&integer.to_le_bytes());
        9
    }
}

fn string_head(head: &mut [u8; 9], len: usize) -> usize {
    if len <= STRING_6_BYTES_MAX {
        head[0] = STRING_6 | len as u8;
        1
    } else if len <= STRING_12_BYTES_MAX {
        let len = (len as u16).to_be_bytes();
        head[..2].copy_from_slice(&[STRING_12 | len[0], len[1]]);
        2
    } else {
        let len = u32::try_from(len).expect("callers ask Listpack::fits first");
        head[0] = STRING_32;
        head[1..5].copy_from_slice(&len.to_le_bytes());
        5
    }
}

/// Writes the backward length of an entry of `bytes`; returns how many bytes it took.
#[inline]
fn write_backward(out: &mut [u8; 5], bytes: usize) -> usize {
    let count = backward_bytes(bytes);
    for (index, byte) in out[..count].iter_mut().enumerate() {
        let bits = (bytes >> (7 * (count - 1 - index))) as u8 & 0x7f;
        *byte = if index == 0 { bits } else { bits | 0x80 };
    }
    count
}

/// Checks the entry at `at` of a listpack whose end mark is at `end`; returns where the next one begins.
pub(super) fn check(listpack: &[u8], at: usize, end: usize) -> Result<usize, Damaged> {
    let left = end - at;
    let cut_short = |wanted: usize| {
        Damaged::at(
            at,
            Fault::CutShort {
                wanted: wanted as u64,
                left,
            },
        )
    };
    let first = listpack[at];
    let (head, len) = match first {
        0..STRING_6 => (1, 0),
        STRING_6..INT_13 => (1, usize::from(first & 0x3f)),
        INT_13..STRING_12 => (2, 0),
        STRING_12..STRING_32 if left < 2 => return Err(cut_short(2)),
        STRING_32 if left < 5 => return Err(cut_short(5)),
        STRING_12..=STRING_32 => long_string(listpack, at),
        INT_16 => (3, 0),
        INT_24 => (4, 0),
        INT_32 => (5, 0),
        INT_64 => (9, 0),
        END => return Err(Damaged::at(at, Fault::EarlyEnd)),
        other => return Err(Damaged::at(at, Fault::Encoding(other))),
    };
    let entry_bytes = head + len;
    let mut backward = [0; 5];
    let count = write_backward(&mut backward, entry_bytes);
    if left < entry_bytes + count {
        return Err(cut_short(entry_bytes + count));
    }
    let backward_at = at + entry_bytes;
    if listpack[backward_at..backward_at + count] != backward[..count] {
        return Err(Damaged::at(backward_at, Fault::BackwardLength(entry_bytes)));
    }
    Ok(backward_at + count)
}
