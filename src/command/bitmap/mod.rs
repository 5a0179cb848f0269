//! The bitmap family: commands that take a string for a row of bits.
//!
//! The bits themselves are [`crate::data::bitmap`]'s. What is kept here is what clients and replicas can see: the order in
//! which arguments are refused, which commands count hits and misses, and that a command that changed nothing is not
//! logged. SETBIT that writes the bit which was there already, and BITFIELD none of whose operations changed anything, are
//! no changes to watchers either; but the string is `raw` after them, as in Redis, which makes it writable first. Every effect is the
//! command itself.
//!
//! [`bits`] has the commands over bits and whole strings, [`field`] those over integers that lie among the bits.

mod bits;
mod field;
#[cfg(test)]
mod tests;

use crate::base::numbers::parse_i64;
use crate::engine::Command;
use crate::resp::{ReplyError, error};
use crate::spec::{Flags, KeyFlags};

pub const COMMANDS: &[Command] = &[
    bits::BITCOUNT,
    field::BITFIELD,
    field::BITFIELD_RO,
    bits::BITOP,
    bits::BITPOS,
    bits::GETBIT,
    bits::SETBIT,
];

const READ: KeyFlags = KeyFlags::RO.union(KeyFlags::ACCESS);
const CHANGE: KeyFlags = KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::UPDATE);
const WRITE: Flags = Flags::WRITE.union(Flags::DENYOOM);

/// The number of a bit, in a string of at most `bytes_max`.
fn bit_offset(text: &[u8], bytes_max: u64) -> Result<u64, ReplyError> {
    parse_i64(text)
        .and_then(|offset| u64::try_from(offset).ok())
        .filter(|offset| offset / 8 < bytes_max)
        .ok_or(error::BIT_OFFSET_INVALID)
}
