//! The set family: single members ([`members`]), members by chance ([`random`]), and what several sets have in common or apart
//! ([`algebra`]).
//!
//! How a set is laid out, and how members are looked for in several sets at once, is `data::set`'s matter. Sets have no order:
//! replies come as the members lie.
//!
//! | command | its effect |
//! |---|---|
//! | SPOP | `SREM` of what was taken, or `DEL` (`UNLINK` with `lazyfree-lazy-server-del`) when a count takes all |
//!
//! Invariant: all keys of a call are looked at before any is changed.

mod algebra;
mod members;
mod random;
#[cfg(test)]
mod tests;

use crate::engine::Command;
use crate::spec::KeyFlags;

pub const COMMANDS: &[Command] = &[
    members::SADD,
    members::SCARD,
    algebra::SDIFF,
    algebra::SDIFFSTORE,
    algebra::SINTER,
    algebra::SINTERCARD,
    algebra::SINTERSTORE,
    members::SISMEMBER,
    members::SMEMBERS,
    members::SMISMEMBER,
    members::SMOVE,
    random::SPOP,
    random::SRANDMEMBER,
    members::SREM,
    members::SSCAN,
    algebra::SUNION,
    algebra::SUNIONSTORE,
];

const READ: KeyFlags = KeyFlags::RO.union(KeyFlags::ACCESS);
const TAKE: KeyFlags = KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::DELETE);
const INSERT: KeyFlags = KeyFlags::RW.union(KeyFlags::INSERT);
