//! The set family: single members ([`members`]), members by chance ([`random`]), and what several sets have in common or apart
//! ([`algebra`]).
//!
//! How a set is laid out, and how members are looked for in several sets at once, is `data::set`'s matter. Sets have no order:
//! replies come as the members lie.
//!
//! | command | its effect |
//! |---|---|
//! | SPOP | `SREM` of what was taken, or `DEL` (`UNLINK` with `lazyfree-lazy-server-del`) when a count takes all |
//! | SMOVE between two shards | `SREM` from the source, `SADD` to the target unless it had the member |
//! | SINTERSTORE, SUNIONSTORE, SDIFFSTORE over several shards | `DEL` of the target and `SADD` of the result |
//!
//! Invariant: all keys of a call are looked at before any is changed.

mod algebra;
mod members;
mod random;
#[cfg(test)]
mod tests;

use crate::engine::{Command, Event, Op};
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

/// Members that one logged SADD or SREM names at most, so that no effect grows without bound. The number is Redis 7.2's, for SPOP.
const LOGGED_MEMBERS_MAX: usize = 1024;

/// Logs these members behind these words, as many effects as it takes.
fn log_members<M: AsRef<[u8]>>(op: &mut Op, verb: &[u8], key: &[u8], members: &[M]) {
    for some in members.chunks(LOGGED_MEMBERS_MAX) {
        let mut words = Vec::with_capacity(some.len() + 2);
        words.extend([verb, key]);
        words.extend(some.iter().map(AsRef::as_ref));
        op.instead(&words);
    }
}

/// Tells that members are gone, and perhaps the last one.
fn tell_removal(op: &mut Op, event: &'static str, key: &[u8]) {
    op.also(key, Event::set(event));
}
